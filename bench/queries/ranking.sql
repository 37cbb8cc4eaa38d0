-- The best three units of each technology in each month, by load factor.
SELECT technology, month, rank, unit, load_factor
FROM (SELECT technology, month, unit, load_factor,
             row_number() OVER (PARTITION BY technology, month ORDER BY load_factor DESC, unit) AS rank
      FROM (SELECT u.technology, date_trunc('month', m.ts) AS month, u.unit, avg(m.power_kw / u.pmax_kw) AS load_factor
            FROM bench.measurements m JOIN bench.units u ON u.series_id = m.series_id GROUP BY 1, 2, 3) AS factors) AS ranked
WHERE rank <= 3 ORDER BY technology, month, rank

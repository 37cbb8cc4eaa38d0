-- Energy at the price of its half hour: revenue by month and technology.
SELECT date_trunc('month', m.ts) AS month, u.technology AS technology, sum(m.energy_kwh * p.price_eur_mwh) / 1000 AS revenue_eur
FROM bench.measurements m
JOIN bench.units u ON u.series_id = m.series_id
JOIN bench.prices p ON p.zone = u.zone AND p.ts = time_bucket(INTERVAL '30 minutes', m.ts)
GROUP BY 1, 2 ORDER BY 1, 2

--| severity = "warn"
--| tolerance = 0.001
--| text = "the portfolio's billed energy of a day is not what the system operator counts in the perimeter"
SELECT t.perimeter, t.day, d.wh / 1000 AS billed_kwh, t.wh / 1000 AS counted_kwh
FROM (SELECT prm AS perimeter, CAST(CAST(starts_at AT TIME ZONE 'Europe/Paris' AS date) AS text) AS day,
             sum(energy_wh) AS wh
      FROM billing.meters_now WHERE source = 'TSO' AND starts_at >= '{from}' AND starts_at < '{to}' GROUP BY 1, 2) AS t
LEFT JOIN (SELECT c.perimeter, d.day, sum(d.energy_wh) AS wh
           FROM billing.days AS d
           JOIN (SELECT DISTINCT contract_id, perimeter FROM billing.contracts_now) AS c ON c.contract_id = d.contract_id
           WHERE d.period = '{period}' GROUP BY c.perimeter, d.day) AS d ON d.perimeter = t.perimeter AND d.day = t.day
WHERE abs(coalesce(d.wh, 0) - t.wh) > {tolerance} * t.wh
ORDER BY t.perimeter, t.day

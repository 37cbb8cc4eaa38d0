--| severity = "warn"
--| text = "a plant injected while it was ordered to stand still at negative prices"
--| hint = "the energy was sold at a negative price: who bears it is in the contract"
SELECT o.order_id, o.contract_id, o.starts_at, o.ends_at, sum(e.energy_wh) / 1000 AS kwh,
       round(sum(e.energy_wh * p.price) / 1000000, 2) AS eur
FROM (SELECT DISTINCT ON (order_id) * FROM billing.events
      WHERE starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}' AND known_at <= now()
      ORDER BY order_id, known_at DESC, recorded_at DESC, file_version DESC, file_sha256,
         file_row) AS o
JOIN billing.energies_now AS e ON e.prm = o.prm AND e.starts_at >= o.starts_at AND e.starts_at < o.ends_at
JOIN billing.prices_now AS p ON p.series = 'DAY_AHEAD_FR' AND p.starts_at = e.starts_at
GROUP BY o.order_id, o.contract_id, o.starts_at, o.ends_at
HAVING sum(e.energy_wh) > 0
ORDER BY o.starts_at, o.contract_id

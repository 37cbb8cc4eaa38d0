--| severity = "warn"
--| tolerance = 0.3
--| text = "what a contract's energy earned on the market is far from the technology's reference price"
SELECT b.contract_id, round(b.eur / b.mwh, 2) AS captured_eur_mwh, m.price AS m0_eur_mwh
FROM (SELECT contract_id, prm, sum(amount) AS eur, sum(quantity) / 1000000.0 AS mwh FROM billing.bills
      WHERE period = '{period}' AND rule = 'spot' GROUP BY contract_id, prm) AS b
JOIN (SELECT DISTINCT contract_id, technology FROM billing.contracts_now) AS c ON c.contract_id = b.contract_id
JOIN billing.prices_now AS m ON m.series = 'M0_' || upper(c.technology) AND m.starts_at = '{from}'
WHERE b.mwh > 0 AND abs(b.eur / b.mwh - m.price) > {tolerance} * abs(m.price)
ORDER BY b.contract_id

--| severity = "warn"
--| text = "the operator revised energies after they were billed: an adjustment is proposed"
--| hint = "run function:billing-extract for the month again, or keep it for the yearly settlement"
SELECT b.contract_id, b.prm, count(*) AS steps, sum(m.energy_wh - r.energy_wh) / 1000 AS difference_kwh,
       round(sum(m.energy_wh - r.energy_wh) * b.eur / nullif(b.wh, 0), 2) AS proposed_eur
FROM (SELECT contract_id, prm, max(recorded_at) AS billed_at, sum(amount) AS eur,
             sum(quantity) FILTER (WHERE rule IN ('spot', 'm0', 'ppa', 'oa', 'cr')) AS wh
      FROM billing.bills WHERE period = '{period}' GROUP BY contract_id, prm) AS b
JOIN billing.meters_now AS m ON m.prm = b.prm AND m.source = 'DSO_CORRECTED' AND m.recorded_at > b.billed_at
JOIN billing.meters_now AS r ON r.prm = m.prm AND r.source = 'DSO_RAW' AND r.starts_at = m.starts_at
WHERE m.starts_at >= '{from}' AND m.starts_at < '{to}' AND m.energy_wh <> r.energy_wh
GROUP BY b.contract_id, b.prm, b.eur, b.wh
ORDER BY b.contract_id

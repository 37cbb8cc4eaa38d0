--| severity = "block"
--| holds = "producer"
--| text = "a contract lacks a parameter that its kind needs, ends before it begins, or overlaps its next version"
--| hint = "a version that was entered by mistake is withdrawn by one that ends on the day on which it begins"
SELECT c.producer_id, c.contract_id, c.prm, c.valid_from, c.valid_to, c.kind,
       CASE WHEN c.valid_to < c.valid_from THEN 'ends before it begins'
            WHEN o.contract_id IS NOT NULL THEN 'overlaps the version from ' || CAST(o.valid_from AS text)
            WHEN c.kind IN ('SPOT_PASSTHROUGH', 'M0_MINUS_FEE') AND c.fee_eur_mwh IS NULL THEN 'fee_eur_mwh is missing'
            WHEN c.kind IN ('FIXED_PPA', 'OA', 'CR') AND c.price_eur_mwh IS NULL THEN 'price_eur_mwh is missing'
            WHEN c.kind = 'CR' AND c.management_premium_eur_mwh IS NULL THEN 'management_premium_eur_mwh is missing'
            WHEN c.vat = 'standard' AND c.vat_rate_pct IS NULL THEN 'vat_rate_pct is missing'
            ELSE 'fee_vat_rate_pct is missing' END AS what
FROM billing.contracts_now AS c
LEFT JOIN billing.contracts_now AS o
  ON o.contract_id = c.contract_id AND o.prm = c.prm AND o.valid_from > c.valid_from
  AND (o.valid_to IS NULL OR o.valid_to > o.valid_from)
  AND (c.valid_to IS NULL OR o.valid_from < c.valid_to)
WHERE c.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND (c.valid_to IS NULL OR c.valid_to < c.valid_from
       OR c.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
  AND (c.valid_to < c.valid_from OR o.contract_id IS NOT NULL
       OR (c.kind IN ('SPOT_PASSTHROUGH', 'M0_MINUS_FEE') AND c.fee_eur_mwh IS NULL)
       OR (c.kind IN ('FIXED_PPA', 'OA', 'CR') AND c.price_eur_mwh IS NULL)
       OR (c.kind = 'CR' AND c.management_premium_eur_mwh IS NULL)
       OR (c.vat = 'standard' AND c.vat_rate_pct IS NULL) OR (c.fee_vat = 'standard' AND c.fee_vat_rate_pct IS NULL))
ORDER BY c.contract_id, c.valid_from

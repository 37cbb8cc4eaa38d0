--| severity = "block"
--| holds = "producer"
--| text = "a line's amount is not its quantity times its price, its VAT is wrong, or its sign"
SELECT producer_id, contract_id, prm, valid_from, rule, quantity, price, amount, vat, vat_rate_pct, vat_amount
FROM billing.bills
WHERE period = '{period}'
  AND ((unit = 'Wh' AND price IS NOT NULL AND abs(amount - quantity * price / 1000000) > 0.005)
       OR abs(vat_amount - amount * vat_rate_pct / 100) > 0.005
       OR (vat IN ('reverse_charge', 'none', 'exempt') AND vat_amount <> 0)
       OR (rule IN ('fee', 'fee_power') AND amount * price < 0 AND quantity > 0) OR (rule = 'cr_capacity' AND amount > 0)
       OR (rule IN ('oa', 'guarantee_of_origin', 'cr_negative_premium') AND amount < 0))
ORDER BY contract_id, prm, valid_from, rule

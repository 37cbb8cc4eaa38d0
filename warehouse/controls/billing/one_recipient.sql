--| severity = "block"
--| holds = "producer"
--| text = "a producer's billed contracts are of several companies or accounts: a document has one recipient"
--| hint = "correct the contracts, or give the other company a producer_id of its own; where it is waived, the version that began last is printed"
SELECT producer_id, what, min(value || ' (' || contract_id || ')') AS one, max(value || ' (' || contract_id || ')') AS another
FROM (SELECT DISTINCT b.producer_id, b.contract_id, w.what,
             CASE w.what WHEN 'name' THEN b.producer
                         WHEN 'SIREN' THEN substr(c.siret, 1, 9)
                         WHEN 'VAT number' THEN upper(replace(c.vat_number, ' ', ''))
                         ELSE upper(replace(c.iban, ' ', '')) END AS value
      FROM billing.bills AS b
      JOIN billing.contracts_now AS c
        ON c.contract_id = b.contract_id AND c.prm = b.prm AND CAST(c.valid_from AS text) = b.valid_from
      CROSS JOIN (VALUES ('name'), ('SIREN'), ('VAT number'), ('IBAN')) AS w (what)
      WHERE b.period = '{period}') AS i
WHERE value <> ''
GROUP BY producer_id, what
HAVING count(DISTINCT value) > 1
ORDER BY producer_id, what

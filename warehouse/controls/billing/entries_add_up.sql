--| severity = "block"
--| text = "entries and reversals of a bill don't add up to the lines in force"
SELECT e.document, e.amount AS entries, b.amount AS in_force
FROM (SELECT document, sum(amount) AS amount, sum(vat_amount) AS vat_amount FROM billing.lines
      WHERE period = '{period}' GROUP BY document) AS e
LEFT JOIN (SELECT document, sum(amount) AS amount, sum(vat_amount) AS vat_amount FROM billing.bills
           WHERE period = '{period}' GROUP BY document) AS b ON b.document = e.document
WHERE e.amount <> coalesce(b.amount, 0) OR e.vat_amount <> coalesce(b.vat_amount, 0)
ORDER BY e.document

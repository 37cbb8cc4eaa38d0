--| severity = "block"
--| holds = "producer"
--| text = "an IBAN of a contract is none: its shape or its check digits are wrong"
--| hint = "ask the producer for it, and enter the contract's version again with a later known_at"
-- ISO 13616: the first four characters are put at the end, letters become 10 to 35, and the number leaves 1 when it is divided
-- by 97. It has up to 68 digits, so that it is divided in two parts.
SELECT c.producer_id, c.contract_id, c.prm, c.valid_from, c.iban,
       CASE WHEN NOT regexp_like(i.iban, '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$') THEN 'its shape'
            WHEN i.iban LIKE 'FR%' AND length(i.iban) <> 27 THEN 'a French one has 27 characters'
            ELSE 'its check digits' END AS what
FROM (SELECT iban, length(digits) AS length,
             CAST(CAST(CAST(substr(digits, 1, 34) AS decimal(38, 0)) % 97 AS text) || substr(digits, 35) AS decimal(38, 0)) % 97 AS rest
      FROM (SELECT iban, string_agg(CASE WHEN sign BETWEEN '0' AND '9' THEN sign ELSE CAST(ascii(sign) - 55 AS text) END, ''
                                    ORDER BY at) AS digits
            FROM (SELECT iban, n AS at, substr(substr(iban, 5) || substr(iban, 1, 4), CAST(n AS int), 1) AS sign
                  FROM (SELECT DISTINCT upper(replace(iban, ' ', '')) AS iban FROM billing.contracts_now
                        WHERE iban IS NOT NULL) AS v
                  JOIN generate_series(1, 34) AS t (n) ON n <= length(iban)
                  WHERE regexp_like(iban, '^[A-Z0-9]{5,34}$')) AS s
            GROUP BY iban) AS d) AS r
RIGHT JOIN (SELECT DISTINCT upper(replace(iban, ' ', '')) AS iban FROM billing.contracts_now WHERE iban IS NOT NULL) AS i
  ON i.iban = r.iban
JOIN billing.contracts_now AS c ON upper(replace(c.iban, ' ', '')) = i.iban
WHERE c.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND (c.valid_to IS NULL OR c.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
  AND i.iban <> ''
  AND (r.rest IS NULL OR r.rest <> 1 OR NOT regexp_like(i.iban, '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$')
       OR (i.iban LIKE 'FR%' AND length(i.iban) <> 27))
ORDER BY c.contract_id, c.prm, c.valid_from

--| severity = "block"
--| holds = "producer"
--| text = "a contract's version or a rank arrived after the one that counts, and says that it was known before it: it does not count"
--| hint = "enter the one that is right again, with a known_at after both"
SELECT o.producer_id, 'contract' AS what, o.contract_id || ' ' || o.prm || ' from ' || CAST(o.valid_from AS text) AS key,
       n.known_at AS counts_since, o.known_at, o.file_name
FROM (SELECT DISTINCT ON (contract_id, prm, valid_from) contract_id, prm, valid_from, valid_to, known_at, recorded_at
      FROM billing.contracts WHERE known_at <= now()
      ORDER BY contract_id, prm, valid_from, known_at DESC, recorded_at DESC) AS n
JOIN billing.contracts AS o
  ON o.contract_id = n.contract_id AND o.prm = n.prm AND o.valid_from = n.valid_from
  AND o.known_at < n.known_at AND o.recorded_at > n.recorded_at
WHERE n.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND (n.valid_to IS NULL OR o.valid_to IS NULL
       OR greatest(n.valid_to, o.valid_to) > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
UNION ALL
SELECT NULL, 'rank', o.kind || ' ' || o.source || ' from ' || CAST(o.valid_from AS text), n.known_at, o.known_at, o.file_name
FROM (SELECT DISTINCT ON (kind, source, valid_from) kind, source, valid_from, valid_to, known_at, recorded_at
      FROM billing.precedence WHERE known_at <= now()
      ORDER BY kind, source, valid_from, known_at DESC, recorded_at DESC) AS n
JOIN billing.precedence AS o
  ON o.kind = n.kind AND o.source = n.source AND o.valid_from = n.valid_from
  AND o.known_at < n.known_at AND o.recorded_at > n.recorded_at
WHERE n.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND (n.valid_to IS NULL OR o.valid_to IS NULL
       OR greatest(n.valid_to, o.valid_to) > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
ORDER BY 2, 3

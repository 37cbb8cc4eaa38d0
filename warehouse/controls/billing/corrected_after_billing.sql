--| severity = "block"
--| text = "a file of the month came after its lines were made"
--| hint = "run function:billing-extract for the month again: what changes becomes a reversal and a new line"
-- Lines that a newer file does not change have no newer entry, so the instant of the last billing is compared.
SELECT d.contract_id, d.file_name, d.file_version, max(d.recorded_at) AS came_at,
       max(coalesce(r.as_of, l.recorded_at)) AS billed_as_of
FROM billing.declared_now AS d
JOIN (SELECT contract_id, max(recorded_at) AS recorded_at FROM billing.lines WHERE period = '{period}'
      GROUP BY contract_id) AS l ON l.contract_id = d.contract_id
CROSS JOIN (SELECT max(CAST(regexp_replace(figures, '^.*"as_of":"([^"]*)".*$', '\1') AS timestamptz)) AS as_of
            FROM system.runs
            WHERE id IN (SELECT regexp_replace(figures, '^.*"answer_of":"([^"]*)".*$', '\1') FROM system.runs
                         WHERE job = 'load:lines' AND state = 'succeeded' AND "for" = '{period}')) AS r
WHERE d.month = '{period}' AND d.recorded_at > coalesce(r.as_of, l.recorded_at)
GROUP BY d.contract_id, d.file_name, d.file_version
ORDER BY d.contract_id

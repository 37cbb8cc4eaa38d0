--| severity = "block"
--| text = "a file of the month came after its lines were made"
--| mend = "run function:billing-extract for the month again: what changes becomes a reversal and a new line"
SELECT d.contract_id, d.file_name, d.file_version, max(d.recorded_at) AS came_at, max(l.recorded_at) AS billed_at
FROM billing.declared_now AS d
JOIN (SELECT contract_id, max(recorded_at) AS recorded_at FROM billing.lines WHERE period = '{period}'
      GROUP BY contract_id) AS l ON l.contract_id = d.contract_id
WHERE d.month = '{period}' AND d.recorded_at > l.recorded_at
GROUP BY d.contract_id, d.file_name, d.file_version
ORDER BY d.contract_id

--| severity = "block"
--| text = "the days and the lines of the month are of different answers"
--| hint = "run load:days and load:lines for the month"
SELECT l.answer AS lines_of, d.answer AS days_of
FROM (SELECT regexp_replace(figures, '^.*"answer_of":"([^"]*)".*$', '\1') AS answer FROM system.runs
      WHERE job = 'load:lines' AND state = 'succeeded' AND "for" = '{period}' ORDER BY started_at DESC LIMIT 1) AS l
LEFT JOIN (SELECT regexp_replace(figures, '^.*"answer_of":"([^"]*)".*$', '\1') AS answer FROM system.runs
           WHERE job = 'load:days' AND state = 'succeeded' AND "for" = '{period}' ORDER BY started_at DESC LIMIT 1) AS d
  ON true
WHERE d.answer IS NULL OR d.answer <> l.answer

--| severity = "block"
--| text = "two runs of the same code on the same event gave different answers"
--| hint = "the algorithm asks for something that is not in its event: the time, chance, the machine"
SELECT inputs, count(*) AS runs, count(DISTINCT result) AS answers
FROM (SELECT inputs, regexp_replace(figures, '^.*"output":"([0-9a-f]*)".*$', '\1') AS result
      FROM system.runs
      WHERE job = 'function:billing-extract' AND state = 'succeeded' AND "for" = '{period}') AS r
GROUP BY inputs
HAVING count(DISTINCT result) > 1

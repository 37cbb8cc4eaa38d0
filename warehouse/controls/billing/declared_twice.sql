--| severity = "block"
--| text = "two files of different names declare the same metering point and month"
--| hint = "the later one is billed: ask which is right, and have it sent under its own name"
SELECT prm, month, count(DISTINCT file_name) AS files, min(file_name) AS one, max(file_name) AS another
FROM billing.declared
WHERE month = '{period}'
GROUP BY prm, month
HAVING count(DISTINCT file_name) > 1
ORDER BY prm

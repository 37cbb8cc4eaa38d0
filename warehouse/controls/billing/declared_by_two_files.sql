--| severity = "warn"
--| text = "two files of different names declare the same metering point and month"
--| hint = "the one that arrived last is billed: ask which is right"
SELECT producer_id, prm, month, count(DISTINCT file_name) AS files, min(file_name) AS one, max(file_name) AS another
FROM billing.declared
WHERE month = '{period}'
GROUP BY producer_id, prm, month
HAVING count(DISTINCT file_name) > 1
ORDER BY prm

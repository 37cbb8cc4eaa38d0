--| severity = "block"
--| text = "day-ahead prices are missing, or of the wrong step"
--| mend = "hourly until delivery of 2025-10-01, quarter-hourly since: transfer the prices again"
SELECT count(*) AS prices, CAST(sum(CASE step WHEN 'PT15M' THEN 900 WHEN 'PT30M' THEN 1800 ELSE 3600 END) AS bigint)
         AS seconds,
       CAST(extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}') AS bigint) AS expected
FROM platform.market_prices
WHERE zone = 'FR' AND delivery_start >= '{from}' AND delivery_start < '{to}'
HAVING coalesce(sum(CASE step WHEN 'PT15M' THEN 900 WHEN 'PT30M' THEN 1800 ELSE 3600 END), 0)
       <> extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}')

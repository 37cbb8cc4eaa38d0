--| description = "Prices by series: of each delivery the one that was known last"

-- A month and a year may begin at the same instant as a step.
SELECT DISTINCT ON (series, starts_at, CASE WHEN step LIKE 'P1%' THEN step ELSE '' END)
       series, starts_at, step, price, known_at
FROM billing.prices
WHERE known_at <= now()
ORDER BY series, starts_at, CASE WHEN step LIKE 'P1%' THEN step ELSE '' END, known_at DESC, recorded_at DESC,
         file_version DESC, file_sha256, file_row

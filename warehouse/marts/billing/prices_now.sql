--| description = "Prices by series: of each delivery the one that was known last"

SELECT DISTINCT ON (series, starts_at) series, starts_at, step, price, known_at
FROM billing.prices
ORDER BY series, starts_at, known_at DESC, recorded_at DESC, file_version DESC, file_sha256,
         file_row

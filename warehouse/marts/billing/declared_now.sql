--| description = "What is declared of each step of a metering point: of several producers the file that arrived last"

-- A file has each step of a point once, so that steps are compared only where files have the same time.
SELECT * FROM billing.declared_by_producer WHERE NOT contested
UNION ALL
SELECT * FROM (SELECT DISTINCT ON (prm, starts_at) *
               FROM billing.declared_by_producer WHERE contested
               ORDER BY prm, starts_at, arrived_at DESC, file_version DESC, file_sha256) AS c

--| description = "What is declared of each step of a metering point: of several producers the file that arrived last"

SELECT DISTINCT ON (prm, starts_at) *
FROM billing.declared_by_producer
ORDER BY prm, starts_at, arrived_at DESC, file_version DESC, file_sha256

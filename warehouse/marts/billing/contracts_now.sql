--| description = "Contracts, a row for each version of one, as known last"

SELECT DISTINCT ON (contract_id, valid_from) *
FROM billing.contracts
ORDER BY contract_id, valid_from, known_at DESC, recorded_at DESC, file_version DESC, file_sha256,
         file_row

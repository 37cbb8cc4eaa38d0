--| description = "Contracts, a row for each version of one and each metering point, as known last"

-- A version that ends on the day on which it begins is withdrawn: it was entered by mistake. A row that becomes known later
-- does not count before: the function does not see it either.
SELECT * FROM (
  SELECT DISTINCT ON (contract_id, prm, valid_from) *
  FROM billing.contracts
  WHERE known_at <= now()
  ORDER BY contract_id, prm, valid_from, known_at DESC, recorded_at DESC, file_version DESC, file_sha256, file_row
) AS c
WHERE valid_to IS NULL OR valid_to <> valid_from

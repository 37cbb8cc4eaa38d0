--| description = "The file that counts of each metering point's month and producer: the one that arrived last"

-- A few rows a file: what concerns all steps of a file is decided here, so that its steps need not be compared.
SELECT prm, month, producer_id, file_name, file_version, file_sha256, arrived_at, first, last
FROM (SELECT f.*, coalesce(a.arrived_at, f.recorded_at) AS arrived_at,
             row_number() OVER (PARTITION BY f.prm, f.month, f.producer_id
                                ORDER BY coalesce(a.arrived_at, f.recorded_at) DESC, f.file_version DESC, f.file_sha256,
                                         f.file_name) AS place
      FROM (SELECT prm, month, producer_id, file_name, file_version, file_sha256, max(recorded_at) AS recorded_at,
                   min(starts_at) AS first, max(starts_at) AS last
            FROM billing.declared
            GROUP BY prm, month, producer_id, file_name, file_version, file_sha256) AS f
      LEFT JOIN billing.arrived AS a ON a.sha256 = f.file_sha256 AND a.file_name = f.file_name) AS n
WHERE place = 1

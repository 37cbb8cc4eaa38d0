--| description = "What producers declared: of each metering point's month the file that came last"

SELECT contract AS contract_id, producer_id, site AS site_id, prm, month, starts_at, step_s, energy_wh, aux_wh,
       availability_pct, event_code, source, status, comment, file_name, file_version, file_row, recorded_at
FROM (SELECT *, dense_rank() OVER (PARTITION BY prm, month ORDER BY recorded_at DESC, file_version DESC, file_sha256)
             AS newest
      FROM billing.declared) AS d
WHERE newest = 1

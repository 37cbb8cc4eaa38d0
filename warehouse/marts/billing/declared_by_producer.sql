--| description = "What each producer declared: of each metering point's month the producer's file that arrived last"

SELECT contract AS contract_id, producer_id, site AS site_id, prm, month, starts_at, step_s, energy_wh, aux_wh,
       availability_pct, event_code, source, status, comment, file_name, file_version, file_sha256, file_row, recorded_at,
       arrived_at
FROM (SELECT d.*, coalesce(a.arrived_at, d.recorded_at) AS arrived_at,
             dense_rank() OVER (PARTITION BY d.prm, d.month, d.producer_id
                                ORDER BY coalesce(a.arrived_at, d.recorded_at) DESC, d.file_version DESC, d.file_sha256) AS newest
      FROM billing.declared AS d LEFT JOIN billing.arrived AS a ON a.sha256 = d.file_sha256 AND a.file_name = d.file_name) AS r
WHERE newest = 1

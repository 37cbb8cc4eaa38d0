--| description = "What each producer declared: of each metering point's month the producer's file that arrived last"

SELECT d.contract AS contract_id, d.producer_id, d.site AS site_id, d.prm, d.month, d.starts_at, d.step_s, d.energy_wh, d.aux_wh,
       d.availability_pct, d.event_code, d.source, d.status, d.comment, d.file_name, d.file_version, d.file_sha256, d.file_row,
       d.recorded_at, f.arrived_at
FROM billing.declared AS d
JOIN billing.declared_files AS f
  ON f.prm = d.prm AND f.month = d.month AND f.producer_id = d.producer_id
  AND f.file_name = d.file_name AND f.file_version = d.file_version AND f.file_sha256 = d.file_sha256

--| description = "Energies by metering point and source: of each step the value that was known last"

SELECT DISTINCT ON (prm, source, starts_at)
       prm, source, starts_at, step_s, energy_wh, withdrawal_wh, quality, known_at, recorded_at
FROM billing.meters
WHERE known_at <= now()
ORDER BY prm, source, starts_at, known_at DESC, recorded_at DESC, file_version DESC, file_sha256,
         file_row

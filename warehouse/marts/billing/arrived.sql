--| description = "Contents of files by their hash, and when each arrived last, under whatever name"

SELECT sha256, max(listed_at) AS arrived_at
FROM ingest.files
WHERE verdict IN ('accepted', 'duplicate')
GROUP BY sha256

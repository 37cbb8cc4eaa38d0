--| description = "Files with their contents, and when each content arrived last: under its own name, or as a duplicate of it"

-- Where a layout takes values from the file's name, the same bytes under another name are other rows: only a duplicate, which
-- names what it is one of, says the same again.
SELECT f.name AS file_name, f.sha256, max(a.listed_at) AS arrived_at
FROM (SELECT DISTINCT name, sha256 FROM ingest.files WHERE verdict = 'accepted') f
JOIN ingest.files a ON a.sha256 = f.sha256
WHERE (a.verdict = 'accepted' AND a.name = f.name)
   OR (a.verdict = 'duplicate' AND strpos(a.reason, f.name) > 0)
GROUP BY f.name, f.sha256

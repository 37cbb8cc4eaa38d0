--| severity = "block"
--| text = "A forecast is below zero, has crossing quantiles, is above three times the greatest flow that was measured, or of a station without flows."
SELECT p.site, p.issued_at, p.at, p.mean, p.q10, p.q50, p.q90 FROM forecast.predictions p
LEFT JOIN (SELECT station, max(flow_ls) AS flow_max FROM forecast.flows GROUP BY station) m ON m.station = p.site
WHERE p.issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '25 hours' AND p.issued_at <= TIMESTAMPTZ '{as_of}'
    AND (m.station IS NULL OR p.mean < 0 OR p.q10 > p.q50 OR p.q50 > p.q90 OR p.mean > 3 * m.flow_max)

--| severity = "block"
--| text = "A station with flows has no forecast of the last morning."
--| hint = "wattlake run prediction:hydro; wattlake endpoint logs hydro shows what the model printed"
SELECT DISTINCT f.station FROM forecast.flows f
WHERE NOT EXISTS (SELECT 1 FROM forecast.predictions p
    WHERE p.prediction = 'hydro' AND p.site = f.station AND p.issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '25 hours' AND p.issued_at <= TIMESTAMPTZ '{as_of}')

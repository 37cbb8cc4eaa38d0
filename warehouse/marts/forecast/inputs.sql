--| description = "What forecasts are made from: each value, once for each time that it became known"
SELECT station AS site, 'flow' AS series, starts_at AS at, known_at, flow_ls AS value FROM forecast.flows
UNION ALL
SELECT station, 'rain', starts_at, known_at, rain_mm FROM forecast.weather
UNION ALL
SELECT station, 'temperature', starts_at, known_at, temperature_c FROM forecast.weather
UNION ALL
SELECT station, 'pet', starts_at, known_at, evaporation_mm FROM forecast.weather

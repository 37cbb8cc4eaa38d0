--| severity = "warn"
--| tolerance = 0.02
--| text = "A newer version beats the champion on the issue times that both were tested on, and is clearly worse nowhere."
--| hint = "wattlake model compare MODEL champion VERSION; forecast.versions has it by site and horizon; wattlake model promote MODEL VERSION"
SELECT model, version, champion, min(forecasts) AS forecasts, avg(skill) AS skill, min(skill) AS least_skill
FROM forecast.versions WHERE version > champion
GROUP BY model, version, champion
HAVING min(forecasts) >= 100 AND avg(skill) > {tolerance} AND min(skill) > -{tolerance}

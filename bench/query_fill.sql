-- The tables of `cargo x bench query` and `cargo x bench load`: a year of a portfolio of wind, solar and
-- hydro units in 10-minute steps, prices, forecasts as known at their issue time. Every value follows from the row's
-- numbers: the same on every machine. psql -v series=N -v steps=N -f query_fill.sql
SET client_encoding = 'UTF8';
SET timezone = 'UTC';
CREATE SCHEMA bench;

-- A number in [0, 1) that looks drawn by chance.
CREATE FUNCTION bench.chance(row_number bigint, salt bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT (hashint8extended(row_number, salt) & 1048575)::double precision / 1048576';

CREATE TABLE bench.units (
    series_id integer PRIMARY KEY,
    unit text NOT NULL,
    site text NOT NULL,
    technology text NOT NULL,
    zone text NOT NULL,
    pmax_kw double precision NOT NULL
);
INSERT INTO bench.units
SELECT id,
       'Unit ' || id,
       'Site ' || (id / 3),
       (ARRAY['wind', 'wind', 'solar', 'solar', 'solar', 'hydro'])[1 + id % 6],
       (ARRAY['FR', 'DE', 'BE', 'ES'])[1 + (id / 3) % 4],
       round((500 + 4500 * bench.chance(id, 21))::numeric, 1)::double precision
FROM generate_series(1, :series) AS id;

-- In the order in which a platform writes them: all series of a step, then the next step. One in 400 is
-- missing, and each series once misses two days.
CREATE TABLE bench.measurements (
    series_id integer NOT NULL,
    ts timestamptz NOT NULL,
    power_kw double precision,
    energy_kwh numeric(12,3) NOT NULL,
    quality text NOT NULL,
    revision smallint NOT NULL,
    received_at timestamptz NOT NULL
);
INSERT INTO bench.measurements
SELECT series_id,
       ts,
       CASE WHEN chance > 0.998 THEN NULL ELSE power_kw END,
       (power_kw / 6)::numeric(12,3),
       CASE WHEN chance < 0.96 THEN 'measured' WHEN chance < 0.99 THEN 'corrected' ELSE 'estimated' END,
       (CASE WHEN chance >= 0.96 AND chance < 0.99 THEN 2 ELSE 1 END)::smallint,
       ts + interval '10 minutes' + chance * interval '90 seconds'
FROM (
    SELECT unit.series_id,
           timestamptz '2025-01-01 00:00:00+00' + step * interval '10 minutes' AS ts,
           step,
           bench.chance(step * 100003 + unit.series_id, 2) AS chance,
           round((unit.pmax_kw * CASE unit.technology
               WHEN 'solar' THEN greatest(0, -cos(step * pi() / 72)) * (0.4 + 0.6 * bench.chance(step / 6, unit.series_id))
               WHEN 'wind' THEN (1 + sin(step * pi() / 300 + unit.series_id)) / 2 * (0.7 + 0.3 * bench.chance(step / 3, unit.series_id))
               ELSE 0.55 + 0.4 * sin(step * pi() / 26280) END)::numeric, 1)::double precision AS power_kw
    FROM generate_series(0::bigint, :steps - 1) AS step, bench.units AS unit
    ORDER BY step, series_id
) AS made
WHERE chance > 0.0025 AND (step + series_id * 211) % 52560 >= 288;

-- A price each half hour in each zone, for the whole year.
CREATE TABLE bench.prices (
    zone text NOT NULL,
    ts timestamptz NOT NULL,
    price_eur_mwh numeric(10,2) NOT NULL,
    PRIMARY KEY (zone, ts)
);
INSERT INTO bench.prices
SELECT zone,
       timestamptz '2025-01-01 00:00:00+00' + half * interval '30 minutes',
       round((70 + 45 * sin(half * pi() / 24) + 60 * (bench.chance(half, ascii(zone)) - 0.5))::numeric, 2)
FROM generate_series(0, 17519) AS half, unnest(ARRAY['FR', 'DE', 'BE', 'ES']) AS zone;

-- Forecasts of 20 series: each half hour was forecast four times, 48, 24, 6 and 1 hour before.
CREATE TABLE bench.forecasts (
    series_id integer NOT NULL,
    valid_at timestamptz NOT NULL,
    known_at timestamptz NOT NULL,
    power_kw double precision NOT NULL
);
INSERT INTO bench.forecasts
SELECT unit.series_id,
       valid_at,
       valid_at - ahead * interval '1 hour',
       round((unit.pmax_kw * bench.chance(half * 31 + ahead, unit.series_id))::numeric, 1)::double precision
FROM generate_series(0, 17519) AS half,
     bench.units AS unit,
     unnest(ARRAY[48, 24, 6, 1]) AS ahead,
     LATERAL (SELECT timestamptz '2025-01-01 00:00:00+00' + half * interval '30 minutes' AS valid_at) AS at
WHERE unit.series_id <= 20
ORDER BY valid_at - ahead * interval '1 hour', series_id;

-- Whoever reads first must not pay for hint bits.
VACUUM (FREEZE, ANALYZE) bench.units;
VACUUM (FREEZE, ANALYZE) bench.measurements;
VACUUM (FREEZE, ANALYZE) bench.prices;
VACUUM (FREEZE, ANALYZE) bench.forecasts;

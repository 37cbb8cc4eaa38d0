-- The two tables of `cargo x bench copy`. Every value follows from the row's number: the same on every
-- machine. psql -v rows_long=N -v rows_wide=N -f fill.sql
SET client_encoding = 'UTF8';
SET timezone = 'UTC';
CREATE SCHEMA bench;

-- A number in [0, 1) that looks drawn by chance.
CREATE FUNCTION bench.chance(row_number bigint, salt bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT (hashint8extended(row_number, salt) & 1048575)::double precision / 1048576';

-- Narrow and long, as a platform's series are: 20,000 metering points, one value each 10 minutes,
-- in the order in which they arrive.
CREATE TABLE bench.measures (
    id bigint NOT NULL,
    metering_point_id integer NOT NULL,
    starts_at timestamptz NOT NULL,
    power_kw double precision,
    energy_kwh numeric(12,3) NOT NULL,
    quality smallint NOT NULL,
    received_at timestamptz NOT NULL
);
INSERT INTO bench.measures
SELECT id,
       point,
       starts_at,
       CASE WHEN quality = 3 THEN NULL ELSE power_kw END,
       (power_kw / 6)::numeric(12,3),
       quality,
       starts_at + interval '10 minutes' + bench.chance(id, 3) * interval '90 seconds'
FROM (
    SELECT id,
           (1000 + id % 20000)::integer AS point,
           timestamptz '2025-01-01 00:00:00+00' + (id / 20000) * interval '10 minutes' AS starts_at,
           round((bench.chance(id % 20000, 1) * 2500 * (0.6 + 0.4 * bench.chance(id, 2)))::numeric, 1)::double precision
               AS power_kw,
           (CASE WHEN bench.chance(id, 4) < 0.97 THEN 1 WHEN bench.chance(id, 5) < 0.7 THEN 2 ELSE 3 END)::smallint
               AS quality
    FROM generate_series(0, :rows_long - 1) AS id
) AS series;
ALTER TABLE bench.measures ADD PRIMARY KEY (id);

-- Wide, of every kind of column that all contenders can read.
CREATE TABLE bench.wide (
    id bigint NOT NULL,
    contract_id uuid NOT NULL,
    producer text NOT NULL,
    site text NOT NULL,
    technology text NOT NULL,
    country text NOT NULL,
    revision integer NOT NULL,
    is_active boolean NOT NULL,
    valid_from date NOT NULL,
    valid_to date,
    issued_at timestamptz NOT NULL,
    power_max_kw double precision NOT NULL,
    price_eur_per_mwh numeric(12,5) NOT NULL,
    volume_kwh numeric(18,6),
    attributes jsonb NOT NULL,
    note text
);
INSERT INTO bench.wide
SELECT id,
       md5(id::text)::uuid,
       'Producer ' || (id % 1500),
       'Site ' || (id % 40000) || ' ' || (ARRAY['Nord', 'Süd', 'Est', 'Ouest'])[1 + id % 4],
       (ARRAY['wind', 'solar', 'hydro', 'battery', 'flexibility'])[1 + id % 5],
       (ARRAY['FR', 'DE', 'BE', 'ES', 'IT', 'PT', 'NL'])[1 + id % 7],
       (id % 9)::integer,
       bench.chance(id, 11) < 0.9,
       date '2015-01-01' + (id % 4000)::integer,
       CASE WHEN id % 3 > 0 THEN date '2027-01-01' + (id % 2000)::integer END,
       timestamptz '2024-01-01 00:00:00+00' + id * interval '37 seconds',
       round((bench.chance(id, 12) * 20000)::numeric, 2)::double precision,
       round((bench.chance(id, 13) * 180)::numeric, 5),
       CASE WHEN id % 10 > 0 THEN round((bench.chance(id, 14) * 5000000)::numeric, 6) END,
       jsonb_build_object('step_minutes', 10 + id % 3 * 10, 'perimeter', 'P' || id % 60, 'share', bench.chance(id, 15)),
       CASE WHEN id % 4 = 0 THEN repeat('remark ' || id % 997 || '; ', 1 + (id % 6)::integer) END
FROM generate_series(0, :rows_wide - 1) AS id;
ALTER TABLE bench.wide ADD PRIMARY KEY (id);

-- Whoever reads first must not pay for hint bits.
VACUUM (FREEZE, ANALYZE) bench.measures;
VACUUM (FREEZE, ANALYZE) bench.wide;

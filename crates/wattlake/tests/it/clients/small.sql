-- A small platform with columns of many types, whose values follow rules: the tables that every client
-- of this folder reads. The same on PostgreSQL and, once it is transferred, in the lake.
create schema platform;
create table platform.sites (
    id integer primary key,
    name text not null,
    kind varchar(20),
    power_kw numeric(12,3),
    opened_on date,
    active boolean not null,
    updated_at timestamptz not null);
insert into platform.sites values
    (1, 'Éoliennes du Nord', 'wind', 12000.500, '2019-03-31', true, '2026-01-01 00:00+00'),
    (2, 'Toits de l''école', 'solar', 250.000, '2022-10-30', true, '2026-01-02 00:00+00'),
    (3, 'Barrage', 'hydro', null, null, false, '2026-01-03 00:00+00');

-- 1000 steps of 10 minutes at each of 3 sites, over the night when clocks go forward in Paris.
create table platform.readings (
    site_id integer not null,
    at timestamptz not null,
    local_at timestamp not null,
    power_kw double precision,
    energy_kwh numeric(18,6),
    quality smallint,
    step_s bigint,
    factor real,
    valid boolean,
    note text,
    tags text[],
    steps integer[],
    raw bytea,
    updated_at timestamptz not null,
    primary key (site_id, at));
insert into platform.readings
    select s, t, t at time zone 'Europe/Paris', s * 100 + n * 0.5, s * 16.666667 + n, n % 3, 600, 0.5, n % 2 = 0,
        case when n % 10 = 0 then null else 'note ' || n end, array['a', null, 'é"' || n], array[n, null, -n],
        decode('00ff' || lpad(to_hex(n), 4, '0'), 'hex'), '2026-03-30 00:00+00'::timestamptz + n * interval '1 second'
    from generate_series(1, 3) s, generate_series(0, 999) n,
        lateral (select '2026-03-28 22:00+00'::timestamptz + n * interval '10 minutes' as t) at;

//! Other programs as clients of the SQL server.
//!
//! A program that can be run here has a script of a few checks. For a program that can't, or that
//! does more than a script can start, the statements are recorded that it sends when it connects and
//! lists tables. Scripts and recordings are run against PostgreSQL first, which shows that they are
//! right, and then against `wattlake serve` over the same tables.
//!
//! The servers are shared, so that no client may change anything.

mod platform;
mod programs;
mod recording;
mod replay;

/// Replays a recording against both servers.
#[track_caller]
fn assert_replays(recording: &str) {
    let recording = recording::parse(recording);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (server, url) in platform::servers() {
        let failures = runtime.block_on(replay::replay(&url, &recording));
        let count = recording.len();
        assert!(failures.is_empty(), "{} of {count} fail on {server}:\n\n{}", failures.len(), failures.join("\n"));
    }
}

macro_rules! recorded {
    ($($test:ident $file:literal;)*) => {
        $(
            #[test]
            fn $test() {
                assert_replays(include_str!(concat!("recorded/", $file, ".sql")));
            }
        )*
    };
}

recorded! {
    asyncpg_asks_about_types "asyncpg";
    connectorx_copies_partitions "connectorx";
    dbeaver_shows_the_tables "dbeaver";
    duckdb_attaches "duckdb";
    grafana_builds_queries "grafana";
    metabase_syncs "metabase";
    npgsql_and_power_bi_load_types "npgsql";
    odbc_lists_tables_and_columns "odbc";
    pgadmin_opens_the_tree "pgadmin";
    pgjdbc_asks_for_metadata "jdbc";
    psql_describes_objects "psql";
    rpostgres_lists_and_reads "rpostgres";
    rpostgresql_lists_and_reads "rpostgresql";
    sqlalchemy_inspects "sqlalchemy";
}

//! Programs that nobody here wrote, over PostgreSQL's protocol.
//!
//! Where the program can be run, it is: a script of a few checks, by a URL. Where it can't be run
//! here, or where there is more to it than a script reaches, what it sends when it connects and
//! shows what there is has been recorded. Both go to PostgreSQL first, which shows that the script
//! or the recording is right, and then to `wattlake serve` over the same tables.
//!
//! The servers are shared: no client changes anything.

mod platform;
mod programs;
mod recording;
mod replay;

/// Plays a recording to both servers.
#[track_caller]
fn answered(recording: &str) {
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
                answered(include_str!(concat!("recorded/", $file, ".sql")));
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
    psql_describes_what_there_is "psql";
    rpostgres_lists_and_reads "rpostgres";
    rpostgresql_lists_and_reads "rpostgresql";
    sqlalchemy_inspects "sqlalchemy";
}

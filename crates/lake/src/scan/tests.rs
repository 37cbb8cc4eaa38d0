//! Compares results with those of delta-rs's own provider, which is slow with hidden rows, and correct.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::Rng;

use crate::tests::{TestLake, schema};
use crate::{AsOf, Table};

async fn context(fixture: &mut TestLake, table: &Table) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(fixture.random.random_range(1..5));
    let options = config.options_mut();
    options.optimizer.repartition_file_min_size = 1;
    options.execution.parquet.pushdown_filters = fixture.random.random_bool(0.5);
    let context = SessionContext::new_with_config(config);
    context.register_table("ours", table.provider().await.unwrap()).unwrap();
    context.register_table("oracle", table.delta.table_provider().await.unwrap()).unwrap();
    context
}

async fn rows(context: &SessionContext, sql: &str) -> Vec<String> {
    let frame = context.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batches = frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let text = pretty_format_batches(&batches).unwrap().to_string();
    // The first line has the columns' names.
    let mut lines: Vec<String> = text.lines().filter(|line| line.starts_with('|')).skip(1).map(squeezed).collect();
    lines.sort();
    lines
}

/// Without the padding, which depends on the other rows.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn condition(fixture: &mut TestLake, rows: i64) -> String {
    let random = &mut fixture.random;
    let id = random.random_range(-10..rows + 10);
    let kinds = [
        format!("id = {id}"),
        format!("id < {id}"),
        format!("id between {id} and {}", id + random.random_range(0..rows)),
        format!("id in ({id}, {}, {})", id / 2, id + 7),
        format!("ts >= timestamp '2020-01-01T00:00:00Z' + interval '{} minutes'", id * 3),
        "value is null".to_owned(),
        format!("value > {}.5", random.random_range(-50..50)),
        "flag is null".to_owned(),
        "flag".to_owned(),
        format!("note = 'note {}'", random.random_range(0..45)),
        "note like 'note 1%'".to_owned(),
        "note is not null".to_owned(),
        format!("power > 0.{}", random.random_range(0..9)),
        format!("series <> {}", random.random_range(0..6)),
    ];
    let mut pick = || kinds[random.random_range(0..kinds.len())].clone();
    match (pick(), pick(), pick()) {
        (one, ..) if one.len() % 3 == 0 => one,
        (one, two, _) if two.len() % 2 == 0 => format!("{one} and {two}"),
        (one, two, three) => format!("({one} or {two}) and not ({three})"),
    }
}

async fn compare(fixture: &mut TestLake, table: &Table, rows_in_all: i64, more: &str) {
    let context = context(fixture, table).await;
    let mut queries = vec![
        "select count(*), count(value), count(note), min(id), max(id), min(ts), max(ts) from TABLE".to_owned(),
        "select min(value), max(value), min(note), max(note), count(flag), bool_and(flag) from TABLE".to_owned(),
        format!("select * from TABLE order by id limit {}", fixture.random.random_range(0..30)),
        format!("select id, ts from TABLE order by ts desc, id desc limit {}", fixture.random.random_range(1..30)),
        format!("select count(*) from (select 1 from TABLE limit {})", fixture.random.random_range(0..rows_in_all)),
        "select distinct series from TABLE".to_owned(),
    ];
    for _ in 0..6 {
        let condition = condition(fixture, rows_in_all);
        queries.push(format!("select * from TABLE where {condition}"));
        queries.push(format!("select count(*), sum(value), max(ts){more} from TABLE where {condition}"));
    }
    for query in queries {
        let [ours, oracle] = ["ours", "oracle"].map(|name| query.replace("TABLE", name));
        assert_eq!(rows(&context, &ours).await, rows(&context, &oracle).await, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_what_delta_rs_reads() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut fixture = TestLake::new(seed).await;
        let first = schema(&[]);
        fixture.create(&first).await;
        let (mut from, mut versions) = (0, Vec::new());
        for _ in 0..fixture.random.random_range(1..5) {
            let (rows, group) = (fixture.random.random_range(1..3_000), fixture.random.random_range(50..1_500));
            fixture.append(&first, from, rows, group).await;
            from += rows as i64;
            if fixture.random.random_bool(0.6) {
                let share = [0.001, 0.05, 0.5][fixture.random.random_range(0..3)];
                fixture.hide(share).await;
            }
            versions.push(fixture.table().await.version());
        }
        let table = fixture.table().await;
        compare(&mut fixture, &table, from, "").await;
        let wider = schema(&["added"]);
        let files = fixture.files(&wider, from, 500, 200).await;
        table.commit("run-1", "append").schema(Arc::clone(&wider)).files(files).write().await.unwrap();
        fixture.hide(0.1).await;
        let table = fixture.table().await;
        compare(&mut fixture, &table, from + 500, ", count(added)").await;
        let before = table.at(AsOf::Version(versions[0])).await.unwrap();
        compare(&mut fixture, &before, from, "").await;
    }
}

#[tokio::test]
async fn counts_and_bounds_are_known_without_reading() {
    let mut fixture = TestLake::new(1).await;
    fixture.create(&schema(&[])).await;
    fixture.append(&schema(&[]), 0, 100, 50).await;
    let plan = async |table: &Table, sql: &str| {
        let context = SessionContext::new();
        context.register_table("t", table.provider().await.unwrap()).unwrap();
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
    };
    let table = fixture.table().await;
    let known = plan(&table, "select count(*), min(id), max(ts) from t").await;
    assert!(!known.contains("DataSourceExec"), "{known}");
    fixture.hide(0.2).await;
    let table = fixture.table().await;
    let counted = plan(&table, "select count(*) from t").await;
    assert!(!counted.contains("DataSourceExec"), "{counted}");
    // The greatest value may be of a hidden row.
    let read = plan(&table, "select max(ts) from t").await;
    assert!(read.contains("DataSourceExec"), "{read}");
    let pruned = plan(&table, "select * from t where id > 1000").await;
    assert!(pruned.contains("EmptyExec"), "{pruned}");
}

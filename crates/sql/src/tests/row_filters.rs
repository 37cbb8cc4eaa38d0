//! Random queries of a role with a row filter answer as over a table that has only the rows that meet the filter, errors
//! included. `WATTLAKE_QUERIES` is the number of queries for each filter, `WATTLAKE_SEED` the first seed.

use std::sync::Arc;

use arrow::array::{StringArray, TimestampMicrosecondArray};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::marts::Views;
use crate::roles::{ColumnFilter, Role};

const QUERIES: u64 = 40;
const SEED: u64 = 1;

/// Conditions that a role's rows meet. Values are zero or NULL, and texts no numbers, in rows that the first three hide.
const FILTERS: [&str; 5] =
    ["v > 0", "s <> 'x'", "v > 0 AND s <> 'x'", "id % 3 = 0 OR v IS NULL", "s LIKE '1%' AND v < 5"];

/// Conditions of queries: some fail on hidden rows.
const CONDITIONS: [&str; 12] = [
    "id > 40",
    "v = 3",
    "v IS NULL",
    "s = '12'",
    "s LIKE '%2'",
    "NOT v > 3",
    "12 / v > 2",
    "CAST(s AS integer) > 11",
    "v BETWEEN 1 AND 4",
    "v IN (1, 2, NULL)",
    "id = (SELECT max(id) FROM t)",
    "EXISTS (SELECT 1 FROM d WHERE d.k = t.v)",
];

/// What queries return, and how they group and order it.
const FORMS: [&str; 8] = [
    "SELECT count(*), sum(v), min(s) FROM t WHERE {}",
    "SELECT id, v, s FROM t WHERE {} ORDER BY id",
    "SELECT s, count(*) FROM t WHERE {} GROUP BY s ORDER BY s",
    "SELECT id, 60 / v FROM t WHERE {} ORDER BY id LIMIT 5",
    "SELECT t.id, d.name FROM t JOIN d ON d.k = t.v WHERE {} ORDER BY 1, 2",
    "SELECT d.name, count(t.id) FROM d LEFT JOIN t ON t.v = d.k AND {} GROUP BY 1 ORDER BY 1",
    "SELECT id FROM t WHERE {} UNION SELECT k FROM d ORDER BY 1",
    "SELECT count(*) FROM d WHERE k IN (SELECT v FROM t WHERE {})",
];

async fn test_lake() -> TestLake {
    let test_lake = TestLake::new().await;
    for file in 0..3_i64 {
        let ids: Vec<i64> = (file * 40..file * 40 + 40).collect();
        let values = ids.iter().map(|id| (id % 7 != 6).then_some(id % 7 - 1)).collect::<Int64Array>();
        let texts = ids.iter().map(|id| if id % 5 == 0 { "x".to_owned() } else { (10 + id % 4).to_string() });
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef),
            ("v", Arc::new(values) as ArrayRef),
            ("s", Arc::new(texts.map(Some).collect::<StringArray>()) as ArrayRef),
        ]);
        match file {
            0 => test_lake.replace("public", "t", &rows.unwrap()).await,
            _ => test_lake.append("public", "t", &rows.unwrap()).await,
        }
    }
    let rows = RecordBatch::try_from_iter([
        ("k", Arc::new(Int64Array::from(vec![0, 1, 2, 9])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["zero", "one", "two", "nine"])) as ArrayRef),
    ]);
    test_lake.replace("public", "d", &rows.unwrap()).await;
    test_lake
}

/// The result as CSV, or nothing where the query fails in planning or in its run.
async fn answer(session: &Session, sql: &str) -> Option<String> {
    let stream = session.run(sql).await.ok()?;
    let mut out = Vec::new();
    output::write(stream, Format::Csv, &mut out, 1000).await.ok()?;
    Some(String::from_utf8(out).unwrap())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_a_filter_reads_a_table_of_its_rows() {
    let test_lake = test_lake().await;
    let view = |filter: Option<&str>| -> Arc<Views> {
        let filter = filter.map_or_else(String::new, |filter| format!(" WHERE {filter}"));
        Arc::new([(TableName::new("marts", "w"), format!("SELECT * FROM public.t{filter}"))].into())
    };
    let (count, seed) = (number("WATTLAKE_QUERIES").unwrap_or(QUERIES), number("WATTLAKE_SEED").unwrap_or(SEED));
    let mut failed = 0;
    for (at, filter) in FILTERS.iter().enumerate() {
        let plain = test_lake.session();
        let visible: Vec<RecordBatch> =
            plain.run(&format!("SELECT * FROM t WHERE {filter}")).await.unwrap().try_collect().await.unwrap();
        let visible = arrow::compute::concat_batches(&visible[0].schema(), &visible).unwrap();
        test_lake.replace("public", &format!("visible{at}"), &visible).await;
        let role = |table: &str| {
            let filters = [(table.to_owned(), (*filter).to_owned())].into();
            Arc::new(Role { name: "r".to_owned(), filters, ..Role::default() })
        };
        // The filter is on the table, on a view of it, or on the table below a view.
        let sessions = [
            ("t", test_lake.session().with_role(role("public.t"))),
            ("w", test_lake.session().with_views(view(None)).with_role(role("marts.w"))),
            ("w", test_lake.session().with_views(view(None)).with_role(role("public.t"))),
        ];
        for query in 0..count {
            let seed = seed + query + 1000 * at as u64;
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut condition = (*CONDITIONS.choose(&mut random).unwrap()).to_owned();
            for _ in 0..random.random_range(0..3) {
                let operator = ["AND", "OR"].choose(&mut random).unwrap();
                condition = format!("({condition}) {operator} {}", CONDITIONS.choose(&mut random).unwrap());
            }
            let sql = FORMS.choose(&mut random).unwrap().replace("{}", &format!("({condition})"));
            let of = |table: &str| {
                sql.replace("FROM t", &format!("FROM {table} t"))
                    .replace("LEFT JOIN t", &format!("LEFT JOIN {table} t"))
            };
            let expected = answer(&plain, &of(&format!("visible{at}"))).await;
            failed += u64::from(expected.is_none());
            for (number, (table, session)) in sessions.iter().enumerate() {
                let found = answer(session, &of(table)).await;
                assert_eq!(found, expected, "WATTLAKE_SEED={seed}, way {number}, filter {filter}: {}", of(table));
            }
        }
    }
    assert!(failed > 0 && failed < count * 2, "{failed} queries failed");
}

/// Rows with a text, and an instant that is known from the first or the second second of 1970.
fn instants(column: &str, timestamp: &str) -> RecordBatch {
    let at = TimestampMicrosecondArray::from(vec![1_000_000, 2_000_000]).with_timezone("UTC");
    RecordBatch::try_from_iter([
        (column, Arc::new(StringArray::from(vec!["early", "late"])) as ArrayRef),
        (timestamp, Arc::new(at) as ArrayRef),
    ])
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_filtered_by_their_columns() {
    let test_lake = test_lake().await;
    test_lake.replace("public", "marked", &instants("mark", "at")).await;
    test_lake.replace("public", "named", &instants("mark", "at")).await;
    test_lake.replace("public", "other", &instants("other", "at")).await;
    test_lake.replace("public", "text", &instants("at", "mark")).await;
    let column_filters = vec![ColumnFilter {
        column: "mark".to_owned(),
        timestamp: "at".to_owned(),
        condition: "at <= TIMESTAMPTZ '1970-01-01 00:00:01Z'".to_owned(),
    }];
    let filters = [("public.named".to_owned(), "mark = 'late'".to_owned())].into();
    let role = Role { name: "r".to_owned(), filters, column_filters, system: false, ..Role::default() };
    let views: Views = [
        (TableName::new("marts", "renamed"), "SELECT mark AS m, at AS t FROM public.marked".to_owned()),
        (TableName::new("marts", "moved"), "SELECT mark, at + interval '1 hour' AS at FROM public.marked".to_owned()),
        (TableName::new("marts", "runs"), "SELECT run_id FROM system.runs".to_owned()),
    ]
    .into();
    let session = test_lake.session().with_views(Arc::new(views)).with_role(Arc::new(role));
    let texts = async |sql: &str| -> String {
        let answer = answer(&session, sql).await.expect(sql);
        answer.lines().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(texts("SELECT mark FROM public.marked").await, "early");
    assert_eq!(texts("SELECT mark FROM public.named").await, "late");
    assert_eq!(texts("SELECT other FROM public.other ORDER BY 1").await, "early late");
    assert_eq!(texts("SELECT at FROM public.text ORDER BY 1").await, "early late");
    assert_eq!(texts("SELECT m FROM marts.renamed").await, "early");
    assert_eq!(texts("SELECT mark FROM marts.moved").await, "early");
    for query in ["SELECT * FROM system.runs", "SELECT * FROM marts.runs"] {
        let error = session.run(query).await.err().unwrap();
        let text = format!("{error:?}");
        assert!(text.contains("rows of system tables can't be filtered"), "{query}: {text}");
    }
}

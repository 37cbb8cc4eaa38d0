use arrow::compute::concat_batches;
use datafusion::execution::SendableRecordBatchStream;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::error::Kind;
use crate::output::RowCounts;

const ALL_KINDS: &str = "SELECT * FROM (VALUES \
    (1, timestamptz '2026-01-01 00:00:00.5', 'a,\"b\"', decode('00ff', 'hex'), [timestamp '2026-01-01 06:00']), \
    (20, NULL, '', NULL, NULL)) t(n, at, \"text\", bin, list) ORDER BY n";

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_aligned() {
    let session = TestLake::new().await.session();
    let expected = "\x20 n | at                       | text  | bin    | list\n\
                    ----+--------------------------+-------+--------+-----------------------\n\
                    \x20 1 | 2026-01-01 00:00:00.5+00 | a,\"b\" | \\x00ff | [2026-01-01 06:00:00]\n\
                    \x2020 | NULL                     |       | NULL   | NULL\n";
    assert_eq!(written(&session, ALL_KINDS, Format::Table).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_show_the_first_rows_and_count_all() {
    let session = TestLake::new().await.session();
    let stream = session.run("SELECT value FROM generate_series(1, 20000) ORDER BY value").await.unwrap();
    let mut out = Vec::new();
    let written = output::write(stream, Format::Table, &mut out, 3).await.unwrap();
    assert_eq!(written, RowCounts { rows: 20000, rows_shown: 3 });
    assert_eq!(String::from_utf8(out).unwrap(), " value\n-------\n     1\n     2\n     3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_distinguishes_null_from_an_empty_text() {
    let session = TestLake::new().await.session();
    let expected = "n,at,text,bin,list\n\
                    1,2026-01-01 00:00:00.5+00,\"a,\"\"b\"\"\",\\x00ff,[2026-01-01 06:00:00]\n\
                    20,,\"\",,\n";
    assert_eq!(written(&session, ALL_KINDS, Format::Csv).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_array_with_exact_decimals() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    let big =
        "SELECT id, ts, value, note, 12345678901234567890.123456789 AS exact FROM measures WHERE id > 1 ORDER BY id";
    let text = written(&session, big, Format::Json).await;
    let expected = "[\n\
        {\"id\":2,\"ts\":\"2020-01-02T06:00:00Z\",\"value\":1.100,\"note\":\"2020-01-02 06:00\",\"exact\":12345678901234567890.123456789},\n\
        {\"id\":3,\"ts\":\"2020-01-02T12:00:00Z\",\"value\":1.100,\"note\":null,\"exact\":12345678901234567890.123456789}\n]\n";
    assert_eq!(text, expected);
    let none = written(&session, "SELECT id FROM measures WHERE id > 99", Format::Json).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&none).unwrap(), serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_is_read_back_unchanged() {
    let test_lake = TestLake::with_measures().await;
    let session = test_lake.session();
    for (sql, count) in [("SELECT * FROM measures ORDER BY id", 3), ("SELECT * FROM measures WHERE id > 99", 0)] {
        let stream = session.run(sql).await.unwrap();
        let schema = stream.schema();
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        let expected = concat_batches(&schema, &batches).unwrap();
        let file = bytes::Bytes::from(bytes(&session, sql, Format::Parquet).await);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(concat_batches(&schema, &read).unwrap(), expected);
        assert_eq!(expected.num_rows(), count);
    }
}

/// A pipe whose reader has closed it.
struct ClosedPipe;

impl std::io::Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_a_setup_error() {
    let session = TestLake::new().await.session();
    for format in [Format::Table, Format::Csv, Format::Json, Format::Parquet] {
        let stream: SendableRecordBatchStream = session.run("SELECT 1").await.unwrap();
        let error = output::write(stream, format, &mut ClosedPipe, 10).await.unwrap_err();
        assert_eq!(error.kind, Kind::FixSetup, "{format:?}: {}", chain(&error));
    }
}

//! The shards of a stream: several workers, and shards that are split and merged.

use serde_json::json;

use super::{MEASURE, Running, TABLES, assert_equal, catch_up, wait_until, warehouse_of};
use crate::streaming::assert_same_rows;
use crate::world::{Nats, Python, Source, python};

#[test]
fn changes_go_through_kinesis_whose_shards_are_split_and_merged() {
    const RESHARD: &str = "
import json, sys, time, boto3
given = json.load(sys.stdin)
kinesis = boto3.client('kinesis', endpoint_url=given['url'], region_name='eu-west-3',
                       aws_access_key_id='test', aws_secret_access_key='test')
shards = [s for s in kinesis.list_shards(StreamName='platform')['Shards'] if 'EndingSequenceNumber' not in s['SequenceNumberRange']]
if given['how'] == 'split':
    low, high = (int(shards[0]['HashKeyRange'][k]) for k in ('StartingHashKey', 'EndingHashKey'))
    kinesis.split_shard(StreamName='platform', ShardToSplit=shards[0]['ShardId'], NewStartingHashKey=str((low + high) // 2))
else:
    shards.sort(key=lambda s: int(s['HashKeyRange']['StartingHashKey']))
    kinesis.merge_shards(StreamName='platform', ShardToMerge=shards[0]['ShardId'], AdjacentShardToMerge=shards[1]['ShardId'])
print(json.dumps(len(kinesis.list_shards(StreamName='platform')['Shards'])))
";
    let (source, (_moto, url)) = (Source::empty(), Python::s3());
    source.execute(TABLES);
    let stream = format!("kinesis://platform?region=eu-west-3&endpoint={url}");
    let warehouse = warehouse_of(&source, &stream, "shards = 2\nexclude = ['public.keyless']", "")
        .with_env("AWS_ACCESS_KEY_ID", "test")
        .with_env("AWS_SECRET_ACCESS_KEY", "test");
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, [MEASURE, MEASURE], "the rows");
    assert_eq!(python(RESHARD, &json!({"url": url, "how": "split"})), json!(4));
    source.execute("update measure set site = site + 1; delete from measure where id < 50");
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, [MEASURE, MEASURE], "after the split");
    source.execute("update measure set site = site + 1 where id % 3 = 0");
    assert_eq!(python(RESHARD, &json!({"url": url, "how": "merge"})), json!(5));
    source.execute("update measure set note = 'merged' where id % 2 = 0; truncate measure; insert into measure (id, site, at) select n, 1, now() from generate_series(1, 100) n");
    catch_up(&warehouse);
    assert_same_rows(&source, &warehouse, [MEASURE, MEASURE], "after the merge");
}

#[test]
fn workers_share_the_shards_and_take_those_of_one_that_is_killed() {
    let (source, nats) = (Source::empty(), Nats::start());
    source.execute(TABLES);
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "", "commit_interval = '1s'");
    let _publisher = Running::start(&warehouse, &["transfer", "run", "out"], None);
    let first = Running::start(&warehouse, &["transfer", "run", "t"], None);
    let _second = Running::start(&warehouse, &["transfer", "worker", "t"], None);
    let shards_of = |count: usize| {
        let folder = warehouse.path().join("lake/_objects/records/streams/t.shards");
        let read = |entry: std::fs::DirEntry| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(entry.path()).unwrap_or_default()).unwrap_or_default()
        };
        let Ok(entries) = std::fs::read_dir(&folder) else { return false };
        let workers: std::collections::BTreeSet<String> =
            entries.flatten().map(|entry| read(entry)["worker"].as_str().unwrap_or_default().to_owned()).collect();
        workers.len() == count && !workers.contains("")
    };
    wait_until("two workers share the shards", || shards_of(2));
    let shown =
        "select count(*) as shards, count(distinct worker) as workers from system.transfers where mode = 'shard'";
    wait_until("the status has the shards of both", || {
        let status = &warehouse.sql(shown)[0];
        (status["shards"].as_u64(), status["workers"].as_u64()) == (Some(4), Some(2))
    });
    source.execute("update measure set site = site + 1");
    source.execute("update measure set kwh = site where id % 2 = 0; delete from keyless where a = 1");
    // What concerns all rows waits for both workers.
    source.execute("truncate keyless; insert into keyless values (1, 'after')");
    let is_there = |n: u64| {
        warehouse
            .run(&["sql", "--format", "json", "select count(*) as n from keyless where b = 'after'"])
            .out
            .contains(&format!("\"n\":{n}"))
    };
    wait_until("the table is truncated", || is_there(1));
    drop(first);
    source.execute("update measure set note = 'after the kill'; insert into keyless values (2, 'after')");
    wait_until("the other worker takes over", || is_there(2));
    wait_until("one worker has all shards", || shards_of(1));
    let noted = |note: &str| {
        warehouse.sql(&format!("select count(*) as n from measure where note = '{note}'"))[0]["n"].as_u64()
    };
    wait_until("all rows are changed", || noted("after the kill") == Some(500));
    assert_equal(&source, &warehouse, "after the kill");
}

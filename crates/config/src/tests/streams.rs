//! Transfers that publish into streams, and those that read them.

use super::*;

fn problems_of(transfer: &str) -> Vec<String> {
    let dir = folder(&[
        ("wattlake.toml", BASE),
        ("functions/migrate/function.toml", "handler = 'migrate'\n"),
        ("functions/migrate/bootstrap", "#!/bin/sh\n"),
        ("transfers/t.toml", transfer),
    ]);
    let problems = Warehouse::load(dir.path(), &env).err().unwrap_or_default();
    problems.iter().map(Problem::to_string).collect()
}

fn assert_one(transfer: &str, expected: &str) {
    let found = problems_of(transfer);
    assert!(matches!(&found[..], [one] if one.contains(expected)), "{transfer}: {found:?}");
}

#[test]
fn keys_that_a_role_does_not_use_are_reported() {
    let publishes = "source = 'platform'\nmode = 'changes'\nstream = 'nats://127.0.0.1:4222/p'\n";
    let reads = "mode = 'changes'\nstream = 'nats://127.0.0.1:4222/p'\n";
    let calls = "mode = 'changes'\nstream = 'kinesis://p?region=eu-west-3'\nfunction = 'migrate'\n";
    for valid in [publishes, reads, calls] {
        assert!(problems_of(valid).is_empty(), "{valid}: {:?}", problems_of(valid));
    }
    for key in ["target = 'lake'", "deletes = 'keep'", "streams = 2", "start = 'new'", "left_out = 'unchanged'"] {
        assert_one(&format!("{publishes}{key}\n"), &format!("{:?}", key.split(' ').next().unwrap()));
    }
    for key in ["views = true", "streams = 2", "lock_timeout = '1s'", "overlap = '1min'", "shards = 2", "bisect = true"]
    {
        assert_one(&format!("{reads}{key}\n"), &format!("{:?}", key.split(' ').next().unwrap()));
    }
    assert_one(&format!("{reads}[messages]\nbefore_image = 'all'\n"), "\"before_image\" can't be used");
    assert_one(&format!("{calls}into = 'lake'\n"), "\"into\" is for tables");
}

#[test]
fn the_function_of_a_stream_must_be_there() {
    let stream = "mode = 'changes'\nstream = 'kinesis://p?region=eu-west-3'\n";
    assert_one(&format!("{stream}function = 'migrat'\n"), "there is no function \"migrat\"");
    assert!(problems_of(&format!("{stream}function = 'migrate:live'\n")).is_empty());
}

//! Triggers, rules, hooks, upkeep.

use super::*;
use schedule::{Catchup, RelativePeriod, Trigger};

const SCHEDULED: &str = r#"
source = "platform"
mode = "incremental"
[[triggers]]
cron = "15 2 * * *"
timezone = "Europe/Paris"
catchup = "all"
for = "yesterday"
[[triggers]]
after = "transfer:first"
[[triggers]]
on = "file.*"
where = { source = "meters*" }
[run]
retries = 5
backoff = "10s"
backoff_max = "5min"
timeout = "2h"
concurrency = "platform-db"
"#;

#[test]
fn triggers_and_rules_are_read() {
    let dir = folder(&[
        (
            "wattlake.toml",
            &format!(
                "{BASE}upkeep.triggers = []\nupkeep.versions = '7d'\n[hooks.page]\non = ['failure']\nwebhook = 'https://x/${{SECRET}}'\n"
            ),
        ),
        ("transfers/first.toml", "source = 'platform'\nmode = 'initial'\n"),
        ("transfers/second.toml", SCHEDULED),
        ("marts/daily.sql", "--| kind = 'table'\nSELECT 1 AS day FROM platform.readings"),
        ("marts/alone.sql", "--| kind = 'table'\n--| triggers = []\nSELECT 1 AS day FROM platform.readings"),
        ("marts/shown.sql", "SELECT 1 AS day"),
    ]);
    let warehouse = Warehouse::load(dir.path(), &env).unwrap();
    let jobs = warehouse.jobs();
    let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
    assert_eq!(names, ["mart:alone", "mart:daily", "transfer:first", "transfer:second", "upkeep:lake"]);
    let rules = jobs["transfer:second"].rules();
    let [Trigger::Cron(timed), Trigger::After(after), Trigger::On(pattern)] = &rules.triggers[..] else {
        panic!("{rules:?}");
    };
    assert_eq!((timed.spec.as_str(), timed.cron.zone().name()), ("15 2 * * *", "Europe/Paris"));
    assert_eq!((timed.catchup, timed.period), (Catchup::All, Some(RelativePeriod::Yesterday)));
    assert_eq!(timed.period.unwrap().of("2026-03-01T00:30:00+01:00").unwrap().to_string(), "2026-02-28");
    assert_eq!(after.job, "transfer:first");
    assert!(pattern.matches("file.stored", &json!({"source": "meters-1"})));
    assert_eq!((rules.retries, rules.timeout), (5, Some(Duration::from_secs(7200))));
    assert_eq!(rules.backoff.delay(9), Duration::from_secs(300));
    assert_eq!(rules.concurrency.as_deref(), Some("platform-db"));
    let after: Vec<_> = jobs["mart:daily"].rules().triggers.iter().collect();
    assert!(
        matches!(&after[..], [Trigger::After(a), Trigger::After(b)] if a.job == "transfer:first" && b.job == "transfer:second")
    );
    assert!(jobs["mart:alone"].rules().triggers.is_empty() && jobs["upkeep:lake"].rules().triggers.is_empty());
    assert_eq!(warehouse.upkeep.versions, Duration::from_secs(7 * 86_400));
    let hook = &warehouse.hooks["page"];
    assert!(hook.rules.on_failure && !hook.rules.on_recovery && !hook.rules.on_finding);
    assert!(!format!("{hook:?}").contains(SECRET), "a webhook is a secret");
}

#[test]
fn upkeep_runs_at_night_by_default() {
    let dir = folder(&[("wattlake.toml", &format!("{BASE}serve.timezone = 'Europe/Paris'\n"))]);
    let warehouse = Warehouse::load(dir.path(), &env).unwrap();
    let [Trigger::Cron(timed)] = &warehouse.upkeep.rules.triggers[..] else { panic!("{:?}", warehouse.upkeep) };
    assert_eq!((timed.spec.as_str(), timed.cron.zone().name()), ("30 3 * * *", "Europe/Paris"));
}

#[test]
fn problems_of_triggers_and_hooks_have_their_place() {
    let cases = [
        ("triggers = [{ cron = '61 2 * * *' }]", "transfers/x.toml:3:22: read cron pattern \"61 2 * * *\""),
        ("triggers = [{ cron = '0 0 30 2 *' }]", "no day ever matches it"),
        ("triggers = [{ cron = '0 2 * * *', timezone = 'Paris' }]", "transfers/x.toml:3:46: read time zone \"Paris\""),
        (
            "triggers = [{ cron = '0 2 * * *', after = 'transfer:x' }]",
            "a trigger can't have both \"cron\" and \"after\"",
        ),
        ("triggers = [{ after = 'upkeep:lake', catchup = 'all' }]", "\"catchup\" can't be used with \"after\""),
        ("triggers = [{ timezone = 'Europe/Paris' }]", "has neither \"cron\" nor \"after\" nor \"on\""),
        (
            "triggers = [{ after = 'transfer:y' }]",
            "transfers/x.toml:3:23: there is no job \"transfer:y\"; nearest job: \"transfer:x\"",
        ),
        ("triggers = [{ after = 'transfer:x' }]", "these triggers form a cycle: transfer:x, then transfer:x"),
        ("triggers = [{ crom = '0 2 * * *' }]", "unknown key \"crom\"; nearest known key: \"cron\""),
        ("run.timeout = '2 hours'", "\"2 hours\" is not a duration"),
        ("run.retries = 1000", "\"retries\": expected 0 to 100"),
    ];
    for (lines, expected) in cases {
        let problems = problems_with(lines);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{lines}: {problems:?}");
    }
    let cases = [
        ("[hooks.a]\ncommand = ['x']\nwebhook = 'https://x'\n", "a hook can't have both a command and a webhook"),
        ("[hooks.a]\non = ['failure']\n", "has neither \"command\" nor \"webhook\""),
        ("[hooks.a]\nwebhook = '${SECRET}'\n", "the webhook is not an HTTP URL"),
        ("[upkeep]\nversions = 'long'\n", "\"long\" is not a duration"),
    ];
    for (lines, expected) in cases {
        let problems = warehouse_problems(&format!("{BASE}{lines}"));
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{lines}: {problems:?}");
        assert!(!problems.concat().contains(SECRET), "{problems:?}");
    }
}

//! Scheduled jobs from outside: triggers in the files, a server, and the ledger afterwards. Servers
//! and runs are killed at bad moments: each run still happens once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Source, Warehouse, processes_in};

const TABLE: &str = "create table a (id int primary key); insert into a select generate_series(1, 1000)";
const INITIAL: &str = "mode = 'initial'\n";
const NO_PORTS: &str = "[serve]\nsql = 'off'\nhttp = 'off'\nshutdown_grace = '1s'\n";

const PATIENCE: Duration = Duration::from_secs(300);

struct Scheduled {
    source: Source,
    warehouse: Warehouse,
    server: Option<Child>,
}

impl Scheduled {
    /// With a transfer `t` of table `a`; `more` goes to the end of wattlake.toml.
    fn new(transfer: &str, more: &str) -> Scheduled {
        let source = Source::empty();
        source.execute(TABLE);
        let warehouse = Warehouse::of(&source, transfer);
        let toml = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
        warehouse.write("wattlake.toml", &format!("{toml}{NO_PORTS}{more}"));
        Scheduled { source, warehouse, server: None }
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.warehouse.path().join("serve.log"));
        let mut command = self.warehouse.command(&["serve"]);
        let readies = self.log().matches(" ready ").count();
        self.server = Some(command.stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap());
        self.until("the server is ready", |it| it.log().matches(" ready ").count() > readies);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.warehouse.path().join("serve.log")).unwrap_or_default()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Scheduled) -> bool) {
        // Long enough for any machine: only a test that has failed gets here.
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            let queue = self.warehouse.ok(&["queue"]).out;
            assert!(Instant::now() < deadline, "not so: {what}\n{queue}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server by SIGTERM, as systemd does. Returns the exit code.
    fn stop(&mut self) -> Option<i32> {
        let mut server = self.server.take().unwrap();
        assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
        server.wait().unwrap().code()
    }

    fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn runs(&self, job: &str) -> Vec<Value> {
        self.warehouse.json(&["runs", job, "--json", "--limit", "1000"])
    }

    fn states(&self, job: &str) -> Vec<String> {
        self.runs(job).iter().map(|run| text(&run["state"])).collect()
    }

    fn queue(&self) -> Vec<Value> {
        self.warehouse.json(&["queue", "--json", "--limit", "1000"])
    }

    fn events(&self, name: &str) -> Vec<Value> {
        self.warehouse.json(&["events", name, "--json", "--limit", "1000"])
    }

    fn emit(&self, event: &[&str]) {
        self.warehouse.ok(&[&["emit"], event].concat());
    }

    /// Locks the table, so that the transfer waits until `commit`.
    fn lock(&self) {
        self.source.execute("begin; lock table a");
    }

    fn wait_for_the_lock(&self) {
        self.until("the run waits for the lock", |it| {
            it.source.value("select count(*) from pg_locks where not granted and relation = 'a'::regclass") != "0"
        });
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

const ON_GO: &str = "[[triggers]]\non = 'test.go'\n";

#[test]
fn cron_after_and_event_triggers_start_jobs() {
    let every_second = "mode = 'incremental'\n[[triggers]]\ncron = '* * * * * *'\nfor = 'this-month'\n";
    let mut it = Scheduled::new(every_second, "");
    it.warehouse.write("marts/counted.sql", "--| kind = 'table'\nSELECT count(*) AS n FROM public.a");
    let on_event = "source = 'source'\nmode = 'initial'\ninto = 'other'\n\
        [[triggers]]\non = 'file.*'\nwhere = { source = 'meters*', 'file.kind' = 'csv' }\n";
    it.warehouse.write("transfers/other.toml", on_event);
    let next = it.warehouse.json(&["schedules", "--next", "2", "--json"]);
    assert_eq!(next.len(), 5, "{next:?}");
    assert_eq!(next[3]["next"].as_array().map(Vec::len), Some(2), "{next:?}");

    it.start();
    it.until("the cron's runs and the mart's are there", |it| {
        it.states("transfer:t").len() > 2 && it.states("mart:counted").contains(&"succeeded".to_owned())
    });
    it.emit(&["file.arrived", "source=meters-7", r#"file={"kind":"csv"}"#]);
    it.emit(&["file.arrived", "source=prices", r#"file={"kind":"csv"}"#]);
    it.emit(&["file.arrived", "source=meters-8"]);
    it.until("the event's run is there", |it| it.states("transfer:other") == ["succeeded"]);
    assert_eq!(it.stop(), Some(0), "{}", it.log());

    let run = &it.runs("transfer:t")[1];
    assert_eq!((run["cause"].as_str(), run["state"].as_str()), (Some("cron * * * * * *"), Some("succeeded")));
    assert_eq!(text(&run["for"]).len(), "2026-11".len(), "{run}");
    assert!(text(&run["inputs"]["transfers/t.toml"]).starts_with("sha256:"), "{run}");
    assert!(it.runs("mart:counted").iter().any(|run| run["cause"] == "after transfer:t"));
    let other = &it.runs("transfer:other")[0];
    assert_eq!(other["detail"]["event"]["fields"]["source"], "meters-7");
    let queued = it.warehouse.sql("select job, state from system.queue where cause = 'event file.arrived'");
    assert_eq!(queued.len(), 1);
    assert!(it.warehouse.number("select count(*) n from system.schedules where next_at is not null") >= 2);
    let log = it.warehouse.ok(&["logs", "other"]);
    log.has("begins: event file.arrived, attempt 1").has("public.a: initial");
    assert!(it.warehouse.number("select count(*) n from system.logs where line like '%begins%'") > 2);
}

/// A proxy to the source that can be opened and closed, as a database that is away for a while.
struct Proxy {
    port: u16,
    open: mpsc::Sender<()>,
}

impl Proxy {
    fn closed(source: &Source) -> Proxy {
        let url = source.url();
        let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mine = held.local_addr().unwrap().port();
        drop(held);
        let (open, opened) = mpsc::channel();
        std::thread::spawn(move || {
            if opened.recv().is_err() {
                return;
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, mine)).unwrap();
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
                for (mut from, mut to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))]
                    .map(|(from, to)| (from.unwrap(), to.unwrap()))
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Proxy { port: mine, open }
    }
}

/// Serves HTTP on a listener, and passes on the JSON bodies that are posted to it.
fn posted(hook: TcpListener) -> mpsc::Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in hook.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                let header = line.to_lowercase();
                length = header.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            if sender.send(serde_json::from_slice::<Value>(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn failed_runs_are_retried_and_hooks_are_called() {
    let hook = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gone = refused.local_addr().unwrap().port();
    drop(refused);
    let hooks = format!(
        "[hooks.told]\ncommand = ['sh', '-c', 'cat >> told.txt']\n\
         [hooks.hangs]\non = ['failure']\ncommand = ['sleep', '1000']\n\
         [hooks.web]\nwebhook = 'http://127.0.0.1:{}/told?key=secret'\n\
         [hooks.gone]\njobs = ['transfer:*']\nwebhook = 'http://127.0.0.1:{gone}/?key=secret'\n\
         [hooks.others]\njobs = ['mart:*']\ncommand = ['sh', '-c', 'touch wrong']\n",
        hook.local_addr().unwrap().port()
    );
    let rules = format!("{INITIAL}{ON_GO}[run]\nretries = 1\nbackoff = '1s'\n");
    let mut it = Scheduled::new(&rules, &hooks);
    let proxy = Proxy::closed(&it.source);
    let toml = std::fs::read_to_string(it.warehouse.path().join("wattlake.toml")).unwrap();
    let url = it.source.url();
    let away = format!("{}:{}/{}", url.rsplit_once(':').unwrap().0, proxy.port, url.rsplit_once('/').unwrap().1);
    it.warehouse.write("wattlake.toml", &toml.replace(&url, &away));
    it.warehouse.write("run.sh", "");
    let posts = posted(hook);

    it.start();
    it.emit(&["test.go"]);
    let told = posts.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not told:\n{}", it.log()));
    assert_eq!((told["event"].as_str(), told["job"].as_str()), (Some("job.failed"), Some("transfer:t")));
    assert!(text(&told["error"]).contains("connect to PostgreSQL"), "{told}");
    let runs = it.runs("transfer:t");
    let attempts: Vec<_> = runs.iter().map(|run| run["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [2, 1], "one retry: {runs:?}");

    proxy.open.send(()).unwrap();
    it.emit(&["test.go"]);
    let told = posts.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not told:\n{}", it.log()));
    assert_eq!(told["event"], "job.recovered");
    it.emit(&["test.go"]);
    it.until("three entries have ended", |it| {
        it.queue().iter().filter(|e| e["job"] == "transfer:t" && e["state"] == "succeeded").count() == 2
    });
    it.until("the command was told twice", |it| {
        it.queue().iter().filter(|e| e["job"] == "hook:told" && e["state"] == "succeeded").count() == 2
    });
    assert_eq!(std::fs::read_to_string(it.warehouse.path().join("told.txt")).unwrap().lines().count(), 2);
    assert_eq!(it.events("job.recovered").len(), 1, "a success after a success is no recovery");
    let hanging = it.queue().into_iter().find(|entry| entry["job"] == "hook:hangs").unwrap();
    // On a slow machine it may have come to its own limit by now, but after the others.
    let told = it.queue().into_iter().filter(|e| e["job"] == "hook:told").map(|e| text(&e["ended_at"])).min().unwrap();
    let waited = hanging["ended_at"].as_str().is_some_and(|ended| ended <= told.as_str());
    assert!(hanging["state"] != "succeeded" && !waited, "nothing waited for it: {hanging}");
    let failed = it.queue().into_iter().find(|entry| entry["job"] == "hook:gone").unwrap();
    assert!(!failed["error"].to_string().contains("secret"), "{failed}");
    assert!(!it.log().contains("secret"));
    assert!(!it.warehouse.path().join("wrong").exists());
    it.stop();
}

#[test]
fn a_run_ends_with_its_time() {
    let with = |timeout: &str| format!("{INITIAL}{ON_GO}[run]\ntimeout = '{timeout}'\nretries = 0\n");
    let mut it = Scheduled::new(&with("1s"), "");
    it.lock();
    it.start();
    it.emit(&["test.go"]);
    it.until("it has failed", |it| it.states("transfer:t") == ["failed"]);
    assert!(text(&it.runs("transfer:t")[0]["error"]).contains("stopped after 1s, its time limit"));
    it.source.execute("commit");
    it.stop();
    it.warehouse.write("transfers/t.toml", &format!("source = 'source'\n{}", with("10min")));
    let said = it.warehouse.run(&["run", "t", "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    it.warehouse.write("transfers/t.toml", &format!("source = 'source'\n{}", with("1s")));
    it.lock();
    assert_eq!(it.warehouse.run(&["run", "t"]).code, 5, "by hand it has its limit too, and may pass");
    it.source.execute("commit");
}

#[test]
fn a_hook_ends_with_a_server_that_is_killed() {
    let command = "[hooks.hangs]\non = ['failure']\ncommand = ['sh', '-c', 'sleep 1000 & touch begun; wait']\n";
    let rules = format!("{INITIAL}{ON_GO}[run]\ntimeout = '1s'\nretries = 0\n");
    let mut it = Scheduled::new(&rules, command);
    it.lock();
    it.start();
    it.emit(&["test.go"]);
    it.until("the hook runs", |it| it.warehouse.path().join("begun").exists());
    it.kill();
    it.until("it has ended", |it| processes_in(it.warehouse.path()).is_empty());
}

#[test]
fn a_cancelled_run_stays_cancelled() {
    let mut it = Scheduled::new(&format!("{INITIAL}{ON_GO}[run]\nbackoff = '1s'\n"), "");
    it.lock();
    it.start();
    it.emit(&["test.go"]);
    it.emit(&["test.go"]);
    it.wait_for_the_lock();
    it.until("both events have an entry", |it| it.queue().len() == 2);
    it.warehouse.ok(&["cancel", "transfer:t"]).has("is being stopped").has("removed from the queue");
    it.until("it is cancelled", |it| it.states("transfer:t") == ["cancelled"]);
    it.until("both entries are", |it| it.queue().iter().all(|entry| entry["state"] == "cancelled"));
    assert!(it.events("job.failed").is_empty(), "whoever cancels it knows");
    it.source.execute("commit");
    it.warehouse.run(&["cancel", "transfer:t"]).has("transfer:t has no waiting or running entry");
    it.warehouse.run(&["cancel", "77"]).has("there is no entry 77");
    it.warehouse.run(&["cancel", "nobody"]).has("is neither a run, nor a number in the queue, nor a job");
}

#[test]
fn after_downtime_each_slot_that_is_asked_for_runs_once() {
    let mut it = Scheduled::new(
        "mode = 'incremental'\n[[triggers]]\ncron = '* * * * * *'\ncatchup = 'all'\nfor = 'this-hour'\n",
        "",
    );
    it.start();
    it.until("it runs", |it| it.states("transfer:t").len() > 1);
    it.stop();
    std::thread::sleep(Duration::from_secs(4));
    it.start();
    std::thread::sleep(Duration::from_secs(2));
    it.kill();
    std::thread::sleep(Duration::from_secs(2));
    let seconds = |slot: &str| chrono::DateTime::parse_from_rfc3339(slot).unwrap().timestamp();
    let back = chrono::Utc::now().timestamp();
    it.start();
    it.until("what it missed has its entries", |it| {
        let queue = it.queue();
        queue.len() > 9 && queue.iter().any(|entry| seconds(&text(&entry["detail"]["slot"])) > back)
    });
    // A slow machine takes longer for a run than a second: without a pause it would never catch up.
    it.warehouse.ok(&["pause", "t"]);
    it.until("it has caught up", |it| it.queue().iter().all(|entry| entry["state"] == "succeeded"));
    it.stop();
    let mut slots: Vec<String> = it.queue().iter().map(|entry| text(&entry["detail"]["slot"])).collect();
    slots.sort();
    let steps: Vec<i64> = slots.windows(2).map(|pair| seconds(&pair[1]) - seconds(&pair[0])).collect();
    assert!(steps.iter().all(|step| *step == 1), "none is missing, none is there twice: {slots:?}");
    let succeeded = it.queue().iter().filter(|entry| entry["state"] == "succeeded").count();
    let runs = it.states("transfer:t").iter().filter(|state| *state == "succeeded").count();
    assert_eq!(runs, succeeded, "a run for each");
}

#[test]
fn a_server_that_is_killed_leaves_its_runs_to_end() {
    let mut it = Scheduled::new(&format!("{INITIAL}{ON_GO}"), "");
    it.lock();
    it.start();
    it.emit(&["test.go"]);
    it.wait_for_the_lock();
    it.kill();
    it.start();
    it.until("it knows the run", |it| it.log().contains("still running: an earlier server started it"));
    it.source.execute("commit");
    it.until("the entry has ended", |it| it.queue()[0]["state"] == "succeeded");
    assert_eq!(it.states("transfer:t"), ["succeeded"], "once");

    // Stopped with the grace period: the run is interrupted, and the next server runs it again.
    it.lock();
    it.emit(&["test.go"]);
    it.wait_for_the_lock();
    assert_eq!(it.stop(), Some(0), "{}", it.log());
    assert_eq!(it.states("transfer:t"), ["cancelled", "succeeded"]);
    assert_eq!(it.queue()[0]["state"], "waiting");
    it.source.execute("commit");
    it.start();
    it.until("the entry has ended", |it| it.queue()[0]["state"] == "succeeded");
    assert_eq!(it.states("transfer:t"), ["succeeded", "cancelled", "succeeded"]);
}

#[test]
fn a_run_that_is_killed_is_retried() {
    let mut it = Scheduled::new(&format!("{INITIAL}{ON_GO}[run]\nbackoff = '1s'\n"), "");
    it.lock();
    it.start();
    it.emit(&["test.go"]);
    it.wait_for_the_lock();
    let pid = it.runs("transfer:t")[0]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    it.until("it is noticed", |it| it.states("transfer:t").contains(&"crashed".to_owned()));
    it.source.execute("commit");
    it.until("the entry has ended", |it| it.queue()[0]["state"] == "succeeded");
    assert_eq!(it.states("transfer:t"), ["succeeded", "crashed"]);
    assert_eq!(it.warehouse.count("public.a"), 1000);
}

#[test]
fn jobs_with_the_same_key_run_one_after_the_other() {
    let mut it = Scheduled::new(&format!("{INITIAL}{ON_GO}[run]\nconcurrency = 'db'\n"), "");
    let other = format!("source = 'source'\n{INITIAL}into = 'other'\n{ON_GO}[run]\nconcurrency = 'db'\n");
    it.warehouse.write("transfers/other.toml", &other);
    it.lock();
    it.start();
    it.emit(&["test.go"]);
    it.wait_for_the_lock();
    it.until("both have an entry", |it| it.queue().len() == 2);
    // Time enough for the other one to begin, if it did; a slow machine only proves less.
    std::thread::sleep(Duration::from_millis(600));
    let states: Vec<String> = it.queue().iter().map(|entry| text(&entry["state"])).collect();
    assert!(states.contains(&"waiting".to_owned()) && states.contains(&"running".to_owned()), "{states:?}");
    it.source.execute("commit");
    it.until("both have run", |it| it.queue().iter().all(|entry| entry["state"] == "succeeded"));
    let overlap = "select count(*) n from system.runs x join system.runs y
        on x.id < y.id and x.started_at < y.ended_at and y.started_at < x.ended_at";
    assert_eq!(it.warehouse.number(overlap), 0);
}

#[test]
fn a_pause_lets_triggers_pass() {
    let mut it = Scheduled::new(&format!("{INITIAL}{ON_GO}"), "");
    it.warehouse.ok(&["pause", "t"]).has("paused 1 trigger of transfer:t");
    it.start();
    it.emit(&["test.go"]);
    std::thread::sleep(Duration::from_millis(800));
    assert!(it.queue().is_empty(), "{:?}", it.queue());
    it.warehouse.ok(&["resume", "transfer:t#1"]).has("resumed 1 trigger");
    it.emit(&["test.go"]);
    it.until("it runs", |it| it.states("transfer:t") == ["succeeded"]);
    it.warehouse.run(&["pause", "upkeep:rake"]).has("the warehouse has no job").has("nearest job: \"upkeep:lake\"");
    it.warehouse.ok(&["resume", "t"]).has("resumed 0 triggers of transfer:t; 1 trigger not paused");
}

#[test]
fn a_chain_without_an_end_is_broken() {
    // Each end of it is an event that starts it again; no check can see that in a pattern.
    let mut it = Scheduled::new("mode = 'incremental'\n[[triggers]]\non = '*.finished'\n", "");
    it.start();
    it.warehouse.ok(&["run", "t"]);
    it.until("the chain is broken", |it| !it.events("chain.broken").is_empty());
    assert_eq!(it.states("transfer:t").len(), 21);
    assert!(it.log().contains("the chain of jobs and events is too long"));
}

#[test]
fn the_chain_of_a_snapshot_runs_by_its_events() {
    let mut it = Scheduled::new(&format!("{INITIAL}via = 'basebackup'\n"), "");
    let after = format!(
        "source = 'source'\n{INITIAL}into = 'other'\n[[triggers]]\non = 'database.available'\nwhere = {{ via = 'basebackup' }}\n"
    );
    it.warehouse.write("transfers/other.toml", &after);
    it.start();
    it.warehouse.ok(&["run", "transfer:t"]);
    it.until("the one that waited for it has run", |it| it.states("transfer:other") == ["succeeded"]);
    assert_eq!(it.runs("transfer:other")[0]["cause"], "event database.available");
}

#[test]
fn periods_one_after_the_other_by_hand_or_by_the_server() {
    let mut it = Scheduled::new(INITIAL, "");
    it.warehouse.ok(&["run", "t", "--for", "2026-01..2026-03"]).has("for 2026-02 (2 of 3)");
    let periods =
        |it: &Scheduled| -> Vec<String> { it.runs("transfer:t").iter().map(|run| text(&run["for"])).collect() };
    assert_eq!(periods(&it), ["2026-03", "2026-02", "2026-01"]);
    let said = it.warehouse.run(&["run", "t", "--for", "2026-13"]);
    said.has("read the period \"2026-13\"");
    assert_eq!(said.code, 3);
    let said = it.warehouse.ok(&["run", "t", "--for", "2026-04..2026-05", "--detach"]);
    said.has("queued transfer:t for 2026-05").has("no server runs");
    it.start();
    it.until("they have run", |it| it.queue().iter().all(|entry| entry["state"] == "succeeded"));
    assert_eq!(periods(&it)[..2], ["2026-05", "2026-04"], "in their order");
    it.warehouse.ok(&["run", "upkeep:lake"]).has("1 table:");
    it.warehouse.run(&["run", "nothing"]).has("jobs: \"transfer:t\", \"upkeep:lake\"");
}

#[test]
fn a_schedule_that_can_not_be_read_stops_the_server_before_it_starts() {
    let it = Scheduled::new(&format!("{INITIAL}[[triggers]]\ncron = '99 2 * * *'\n"), "");
    for command in ["check", "serve"] {
        let said = it.warehouse.run(&[command]);
        assert_eq!(said.code, 4, "{said:?}");
        said.has("transfers/t.toml:4:8: read cron pattern \"99 2 * * *\"").has("\"15 2 * * *\" is at 02:15");
    }
}

//! `wattlake serve` from outside: psql and HTTP; an error of one client does not affect the others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Source, Warehouse};

const DATA: &str = "
    create table readings (id int primary key, site int not null, at timestamptz not null, kw numeric(10,2));
    insert into readings select n, n % 10, timestamptz '2026-03-28 23:00Z' + n * interval '1 hour', n / 4.0
    from generate_series(1, 5000) n;
    create table secrets (id int primary key, what text);
    insert into secrets values (1, 'of another');
";
const ROLES: &str = "
    [roles.unset]
    password = '${NOT_SET}'
    [roles.analyst]
    password = 'right'
    system = true
    [roles.site_three]
    password = 'three'
    tables = ['public.readings']
    filters = { 'public.readings' = 'site = 3' }
";

struct TestServer {
    warehouse: Warehouse,
    child: Child,
    sql: u16,
    http: u16,
}

impl TestServer {
    fn new(more: &str) -> TestServer {
        let source = Source::empty();
        source.execute(DATA);
        let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
        // Both listeners are open at the same time, so that the ports differ.
        let free = [(), ()].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [sql, http] = free.map(|listener| listener.local_addr().unwrap().port());
        let toml = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
        let serve = format!("[serve]\nsql = '127.0.0.1:{sql}'\nhttp = '127.0.0.1:{http}'\n{more}");
        warehouse.write("wattlake.toml", &format!("{toml}{serve}{ROLES}"));
        warehouse.ok(&["transfer", "run", "t"]);
        let child = start(&warehouse);
        let served = TestServer { warehouse, child, sql, http };
        served.wait();
        served
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)).is_err() {
            assert!(Instant::now() < deadline, "it does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.warehouse.path().join("serve.log")).unwrap()
    }

    fn psql(&self, login: &str, commands: &[&str]) -> Output {
        let mut psql = Command::new("psql");
        psql.arg(format!("postgresql://{login}@127.0.0.1:{}/wattlake", self.sql)).args([
            "-X",
            "-A",
            "-t",
            "-v",
            "VERBOSITY=verbose",
        ]);
        for command in commands {
            psql.args(["-c", command]);
        }
        psql.stdin(Stdio::null()).output().unwrap()
    }

    fn query(&self, login: &str, query: &str) -> String {
        let output = self.psql(login, &[query]);
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn refused(&self, login: &str, query: &str) -> String {
        let output = self.psql(login, &[query]);
        assert!(!output.status.success(), "{query} was answered: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Status and body.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(warehouse: &Warehouse) -> Child {
    let log = std::fs::File::create(warehouse.path().join("serve.log")).unwrap();
    warehouse.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

const ANALYST: &str = "analyst:right";

#[test]
fn psql_queries_the_lake() {
    let served = TestServer::new("timezone = 'Europe/Paris'\n");
    assert_eq!(served.query(ANALYST, "select count(*), max(kw) from readings"), "5000|1250.00");
    assert_eq!(served.query(ANALYST, "select at from readings where id = 2"), "2026-03-29 03:00:00+02");
    let days = "select date_trunc('day', at), count(*) from readings group by 1 order by 1 limit 1";
    assert_eq!(served.query(ANALYST, days), "2026-03-29 00:00:00+01|22");
    assert_eq!(served.query(ANALYST, "select count(*) from readings for version as of 0"), "5000");
    assert_eq!(
        served.query(ANALYST, "copy (select id, kw from readings order by id limit 2) to stdout csv header"),
        "id,kw\n1,0.25\n2,0.50"
    );
    assert!(served.query(ANALYST, "\\d readings").contains("kw|numeric"));
    assert_eq!(served.query(ANALYST, "select state from system.runs"), "succeeded");
}

#[test]
fn a_role_sees_its_tables_and_its_rows() {
    let served = TestServer::new("");
    let role = "site_three:three";
    assert_eq!(served.query(role, "select distinct site from readings"), "3");
    assert_eq!(served.query(role, "select count(*) from (select * from readings where id > 0) r"), "500");
    assert_eq!(served.query(role, "select count(*) from readings for version as of 0"), "500");
    assert!(served.refused(role, "select * from secrets").contains("42501"));
    assert!(served.refused(role, "select * from system.runs").contains("42501"));
    assert!(!served.query(role, "\\dt *.*").contains("secrets"));
    assert_eq!(
        served.query(role, "select table_name from information_schema.tables where table_schema = 'public'"),
        "readings"
    );
    assert!(served.refused("site_three:four", "select 1").contains("password authentication failed"));
    assert!(served.refused("nobody:right", "select 1").contains("password authentication failed"));
    // A role that lacks its password is refused alone, and the log says why.
    assert!(served.refused("unset:any", "select 1").contains("password authentication failed"));
    let unset = "role unset can't be used and is left out: wattlake.toml:";
    assert!(served.log().contains(unset) && served.log().contains("NOT_SET is not set"), "{}", served.log());
}

#[test]
fn errors_affect_one_session_only() {
    let served = TestServer::new("query_memory_max = '60MB'\n");
    assert!(served.refused(ANALYST, "select nothing from readings").contains("42703"));
    assert!(served.refused(ANALYST, "selekt 1").contains("42601"));
    assert!(served.refused(ANALYST, "insert into readings values (1)").contains("25006"));
    let much = "select length(string_agg(md5(n::text), '')) from generate_series(1, 20000000) t(n)";
    assert!(served.refused(ANALYST, much).contains("53200"), "more memory than allowed");
    let long =
        "select count(*) from generate_series(1, 300000) a(x), generate_series(1, 300000) b(y) where x * y % 7 = 1";
    let output = served.psql(ANALYST, &["set statement_timeout = '100ms'", long]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("57014"));
    // A join that gives no rows is stopped between two of its steps, which takes a moment.
    let deadline = Instant::now() + Duration::from_secs(180);
    while !served.psql(ANALYST, &["select count(*) from readings"]).status.success() {
        assert!(Instant::now() < deadline, "the server does not go on:\n{}", served.log());
    }
    assert_eq!(served.query(ANALYST, "select count(*) from readings"), "5000", "the server goes on");
    assert_eq!(served.get("/health/ready").0, 200);
    // A server of its own, since on a slow machine the others would take longer than that too.
    let served = TestServer::new("query_time_max = '3s'\n");
    let began = Instant::now();
    assert!(served.refused(ANALYST, long).contains("57014"), "longer than allowed");
    assert!(began.elapsed() < Duration::from_secs(300), "what is allowed where nothing is said is twice as much");
}

#[test]
fn health_metrics_and_state_by_http() {
    let served = TestServer::new("");
    served.query(ANALYST, "select 1");
    let (status, ready) = served.get("/health/ready");
    assert_eq!((status, ready.contains("\"status\":\"ok\"")), (200, true), "{ready}");
    let (_, metrics) = served.get("/metrics");
    assert!(metrics.ends_with("# EOF\n"));
    for line in [
        "wattlake_runs{job=\"transfer:t\",state=\"succeeded\"} 1",
        "wattlake_table_rows{table=\"public.readings\"} 5000",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let runs: serde_json::Value = serde_json::from_str(&served.get("/api/runs").1).unwrap();
    let id = runs["runs"][0]["id"].as_str().unwrap();
    let run: serde_json::Value = serde_json::from_str(&served.get(&format!("/api/runs/{id}")).1).unwrap();
    assert_eq!((run["run"]["job"].as_str(), run["tables"].as_array().unwrap().len()), (Some("transfer:t"), 2));
    let tables: serde_json::Value = serde_json::from_str(&served.get("/api/tables").1).unwrap();
    assert_eq!(tables["tables"][0]["rows"], 5000);
    assert_eq!(served.get("/api/runs/none").0, 404);
    assert_eq!(served.get("/api/runs?limit=many").0, 400);
    assert_eq!(served.get("/elsewhere").0, 404);
}

#[test]
fn one_server_a_warehouse_and_a_clean_end() {
    let mut served = TestServer::new("");
    let second = served.warehouse.run(&["serve"]);
    assert_eq!(second.code, 5, "{second:?}");
    second.has("another `wattlake serve` is running");
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = served.child.wait().unwrap();
    assert!(ended.success(), "{ended:?}: {}", served.log());
    assert!(served.log().contains("stopped"), "{}", served.log());
}

#[test]
fn an_address_in_use_stops_the_server_before_anything_runs() {
    let source = Source::empty();
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let toml = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
    warehouse.write("wattlake.toml", &format!("{toml}[serve]\nsql = '127.0.0.1:0'\nhttp = '{at}'\n{ROLES}"));
    let said = warehouse.run(&["serve"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&format!("listen on {at}: choose another address with serve.http"));
    assert!(!said.err.contains("panicked") && !said.err.contains("is served"), "{said:?}");
}

#[test]
fn a_server_that_would_be_open_to_all_is_refused() {
    let source = Source::empty();
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    let toml = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
    warehouse.write("wattlake.toml", &format!("{toml}[serve]\nsql = '0.0.0.0:5433'\nmemory_max = '4 gigs'\ntls_cert = 'none.pem'\ntimezone = 'Europe/Pari'\n"));
    let said = warehouse.run(&["serve"]);
    assert_eq!(said.code, 4, "{said:?}");
    for text in [
        "0.0.0.0:5433 can be reached from the network",
        "\"4 gigs\" is not an amount of memory",
        "there is no file \"none.pem\"",
        "Europe/Pari",
    ] {
        said.has(text);
    }
}

#[test]
fn tls_is_offered_verified_and_may_be_required() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-keyout"]).arg(&key).arg("-out").arg(&cert);
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
    let served = TestServer::new(&format!(
        "tls_cert = '{}'\ntls_key = '{}'\ntls_required = true\n",
        cert.display(),
        key.display()
    ));
    let ask = |options: &str| {
        let url = format!("host=localhost port={} user=analyst password=right dbname=wattlake {options}", served.sql);
        Command::new("psql").args([&url, "-XAtc", "select count(*) from readings"]).output().unwrap()
    };
    for options in ["sslmode=require".to_owned(), format!("sslmode=verify-full sslrootcert={}", cert.display())] {
        let output = ask(&options);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "5000\n", "{options}: {output:?}");
    }
    let refused = String::from_utf8(ask("sslmode=disable").stderr).unwrap();
    assert!(refused.contains("TLS") || refused.contains("SSL"), "it says why: {refused}");
    assert!(served.psql(ANALYST, &["select 1"]).status.success(), "psql prefers it by itself");
}

//! The small platform of `small.sql`, on PostgreSQL and served from the lake. Clients connect as
//! the role `reader`, by its password.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::world::{Source, Warehouse};

const ROLE: &str = "
    create role reader login password 'right';
    grant usage on schema platform to reader;
    grant select on all tables in schema platform to reader;
";

/// The name and the URL of each server, PostgreSQL first. Each is started once, when it is first used.
pub fn servers() -> impl Iterator<Item = (&'static str, String)> {
    let servers: [(_, fn() -> String); 2] =
        [("PostgreSQL", || source().url_as("reader:right")), ("Wattlake", || served().to_owned())];
    servers.into_iter().map(|(name, url)| (name, url()))
}

fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let source = Source::empty();
        source.execute(include_str!("small.sql"));
        source.execute(ROLE);
        source
    })
}

fn served() -> &'static str {
    static SERVED: OnceLock<String> = OnceLock::new();
    SERVED.get_or_init(|| {
        let (send, served) = mpsc::channel();
        // The server ends with the thread that started it, so the thread lives as long as the process.
        std::thread::spawn(move || {
            let _warehouse = serve(&send);
            loop {
                std::thread::park();
            }
        });
        served.recv().expect("the lake is not served: see above")
    })
}

fn serve(served: &mpsc::Sender<String>) -> Warehouse {
    let warehouse = Warehouse::of(source(), "mode = 'initial'\n");
    // Both listeners are open at the same time, so that the ports differ.
    let free = [(), ()].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [sql, http] = free.map(|listener| listener.local_addr().unwrap().port());
    let connections = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
    let serve = format!("[serve]\nsql = '127.0.0.1:{sql}'\nhttp = '127.0.0.1:{http}'\n");
    let role = "[roles.reader]\npassword = 'right'\ntables = ['platform.*']\n";
    warehouse.write("wattlake.toml", &format!("{connections}{serve}{role}"));
    warehouse.ok(&["transfer", "run", "t"]);
    start(&warehouse, sql);
    served.send(format!("postgresql://reader:right@127.0.0.1:{sql}/wattlake")).unwrap();
    warehouse
}

/// Starts the server and waits until it listens.
#[expect(clippy::zombie_processes, reason = "it serves all tests of this process, and is killed with it")]
fn start(warehouse: &Warehouse, port: u16) {
    let serve = warehouse.command(&["serve"]);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let log = warehouse.path().join("serve.log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut server = command.spawn().unwrap();
    let log_text = || std::fs::read_to_string(&log).unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(server.try_wait().unwrap().is_none(), "`wattlake serve` ended:\n{}", log_text());
        assert!(Instant::now() < deadline, "`wattlake serve` does not listen:\n{}", log_text());
        std::thread::sleep(Duration::from_millis(50));
    }
}

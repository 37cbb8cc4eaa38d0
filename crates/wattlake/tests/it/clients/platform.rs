//! The small platform of `small.sql`, on PostgreSQL and served from the lake.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::world::{Source, Warehouse};

/// Where clients connect to: as the role `locked`, the one that must give its password.
pub struct Platform {
    pub postgres: String,
    pub wattlake: String,
}

const WAREHOUSE: &str = "
[roles.locked]
password = 'right'
tables = ['platform.*']
";

/// Made once: none of its clients changes it.
pub fn platform() -> &'static Platform {
    static PLATFORM: OnceLock<Platform> = OnceLock::new();
    PLATFORM.get_or_init(|| {
        let (send, served) = mpsc::channel();
        // The server ends with the thread that started it: one that lives as long as the process.
        std::thread::spawn(move || {
            let (platform, _kept) = served_platform();
            send.send(platform).unwrap();
            loop {
                std::thread::park();
            }
        });
        served.recv().expect("the platform is not served: see above")
    })
}

fn served_platform() -> (Platform, (Source, Warehouse)) {
    let source = Source::empty();
    source.execute(include_str!("small.sql"));
    source.execute(
        "do $$ begin create role locked login password 'right'; exception when duplicate_object then null; end $$;
        grant usage on schema platform to locked;
        grant select on all tables in schema platform to locked;",
    );
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    let port = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let [sql, http] = [(), ()].map(port);
    let settings = std::fs::read_to_string(warehouse.path().join("wattlake.toml")).unwrap();
    let serve = format!("[serve]\nsql = '127.0.0.1:{sql}'\nhttp = '127.0.0.1:{http}'\n");
    warehouse.write("wattlake.toml", &format!("{settings}\n{serve}{WAREHOUSE}"));
    warehouse.ok(&["transfer", "run", "t"]);
    serve_from(&warehouse, sql);
    let postgres = source.url_as("locked:right");
    let wattlake = format!("postgresql://locked:right@127.0.0.1:{sql}/wattlake");
    (Platform { postgres, wattlake }, (source, warehouse))
}

/// Starts the server and waits until it listens.
fn serve_from(warehouse: &Warehouse, port: u16) {
    let served = warehouse.command(&["serve"]);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(served.get_program()).args(served.get_args());
    for (name, value) in served.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let log = std::fs::File::create(warehouse.path().join("serve.log")).unwrap();
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let said = || std::fs::read_to_string(warehouse.path().join("serve.log")).unwrap();
        assert!(server.try_wait().unwrap().is_none(), "`wattlake serve` ended:\n{}", said());
        assert!(Instant::now() < deadline, "`wattlake serve` does not listen:\n{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

//! The first process of the sandbox: builds what the function sees, starts its bootstrap, reports
//! how it ended. When this process ends, the kernel ends everything else in here.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, wait};

use super::outside::host;
use super::socket::{Told, read_line, send_open, write_line};
use super::{Spec, bars, loopback, root};

type Failed = (String, io::Error);

/// Standard input is the socket to the host; standard output and error are the function's own.
pub fn inside() -> ExitCode {
    let Ok(mut socket) = host() else { return ExitCode::FAILURE };
    let bootstrap = match start(&mut socket) {
        Ok(bootstrap) => bootstrap,
        Err((step, error)) => {
            let _ = write_line(&mut socket, &Told::Failed { step, error: error.to_string() });
            return ExitCode::FAILURE;
        }
    };
    if let Ok(to_watch) = socket.try_clone() {
        std::thread::spawn(move || end_with_host(to_watch));
    }
    let ended = reap(bootstrap);
    let _ = write_line(&mut socket, &ended);
    ExitCode::SUCCESS
}

fn start(socket: &mut UnixStream) -> Result<Pid, Failed> {
    let step = |name: &str| {
        let name = name.to_owned();
        move |error: io::Error| (name, error)
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| step("tie its life to the host's")(e.into()))?;
    let spec: Spec = read_line(socket).map_err(step("read what the sandbox is made of"))?;
    let named = rustix::system::sethostname(b"function");
    named.map_err(|e| step("name the sandbox")(e.into()))?;
    loopback::up().map_err(step("bring its loopback up"))?;
    let mut handed = listen(&spec.ports).map_err(step("listen on its loopback"))?;
    root::build(&spec)?;
    if spec.results_mb.is_some() {
        handed.push(File::open(Path::new("/").join(root::RESULTS)).map_err(step("open /results"))?.into());
    }
    bars::limits(spec.limits).map_err(step("set its limits"))?;
    bars::close().map_err(step("take its capabilities"))?;
    let program = spec.programs.iter().find(|program| root::is_program(program)).ok_or_else(|| {
        let looked: Vec<String> = spec.programs.iter().map(|p| p.display().to_string()).collect();
        let what = format!("none of {} is there and executable", looked.join(", "));
        step("find its bootstrap")(io::Error::new(io::ErrorKind::NotFound, what))
    })?;
    send_open(socket, &handed).map_err(step("hand over its sockets"))?;
    drop(handed);
    let mut command = Command::new(program);
    command.env_clear().envs(&spec.environment).current_dir("/var/task").stdin(Stdio::null()).process_group(0);
    if let Some(user) = spec.user {
        command.uid(user).gid(user);
    }
    let name = format!("start {}", program.display());
    let child = command.spawn().map_err(step(&name))?;
    write_line(socket, &Told::Ready).map_err(step("tell the host"))?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| step(&name)(io::Error::other("it has no process id")))
}

fn listen(ports: &[u16]) -> io::Result<Vec<OwnedFd>> {
    let listening = ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map(OwnedFd::from));
    listening.collect()
}

/// The host says nothing more: when the socket ends, the host has.
fn end_with_host(mut socket: UnixStream) {
    let mut byte = [0];
    loop {
        match socket.read(&mut byte) {
            Ok(0) => std::process::exit(1),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => std::process::exit(1),
            _ => {}
        }
    }
}

/// Waits for the bootstrap, and on the way for every orphan: they are the first process's children.
fn reap(bootstrap: Pid) -> Told {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == bootstrap => {
                return Told::Exited { code: status.exit_status(), signal: status.terminating_signal() };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Told::Exited { code: None, signal: None },
        }
    }
}

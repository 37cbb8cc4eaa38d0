//! The first process of the sandbox: builds what the function sees, starts its bootstrap, reports
//! how it ended. When this process ends, the kernel ends everything else in here.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior, set_parent_process_death_signal, wait,
};

use super::outside::host;
use super::socket::{Order, Told, receive, send};
use super::{Ahead, Spec, bars, loopback, memory, root};

type Failed = (String, io::Error);

/// Standard input is the socket to the host.
pub fn inside() -> ExitCode {
    let Ok(socket) = host() else { return ExitCode::FAILURE };
    let (bootstrap, memory_mb) = match start(&socket) {
        Ok(started) => started,
        Err((step, error)) => {
            let _ = send(&socket, &Told::Failed { step, error: error.to_string() }, &[]);
            return ExitCode::FAILURE;
        }
    };
    if let Ok(to_watch) = socket.try_clone() {
        std::thread::spawn(move || end_with_host(to_watch));
    }
    if let (Some(megabytes), Ok(to_tell)) = (memory_mb, socket.try_clone()) {
        std::thread::spawn(move || {
            memory::watch(megabytes);
            let _ = send(&to_tell, &Told::OutOfMemory, &[]);
            // All others end with the first process.
            std::process::exit(1);
        });
    }
    let ended = reap(bootstrap);
    let _ = send(&socket, &ended, &[]);
    ExitCode::SUCCESS
}

/// The bootstrap, and the bound on its memory where nobody else keeps it.
fn start(socket: &UnixStream) -> Result<(Pid, Option<u64>), Failed> {
    let step = |name: &str| {
        let name = name.to_owned();
        move |error: io::Error| (name, error)
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| step("tie its life to the host's")(e.into()))?;
    let (ahead, _) = receive::<Ahead>(socket).map_err(step("read what the sandbox stands on"))?;
    let named = rustix::system::sethostname(b"function");
    named.map_err(|e| step("name the sandbox")(e.into()))?;
    loopback::up().map_err(step("bring its loopback up"))?;
    root::prepare(&ahead)?;
    let bars = bars::Bars::new().map_err(step("make its bars"))?;
    // A spare waits here until there is a function for it.
    let (order, output) = receive::<Order<Spec>>(socket).map_err(step("read what the sandbox is made of"))?;
    let Order { spec, watches_memory } = order;
    let memory_mb = watches_memory.then_some(spec.limits.memory_mb);
    print_to(output).map_err(step("take its output"))?;
    let mut handed = listen(&spec.ports).map_err(step("listen on its loopback"))?;
    root::complete(&ahead, &spec)?;
    if spec.results_mb.is_some() {
        handed.push(File::open(Path::new("/").join(root::RESULTS)).map_err(step("open /results"))?.into());
    }
    bars::limits(spec.limits).map_err(step("set its limits"))?;
    bars.close().map_err(step("take its capabilities"))?;
    // Where the function has the same user, it still reads and writes nothing of this process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| step("close its first process")(e.into()))?;
    let program = spec.programs.iter().find(|program| root::is_program(program)).ok_or_else(|| {
        let looked: Vec<String> = spec.programs.iter().map(|p| p.display().to_string()).collect();
        let what = format!("none of {} is there and executable", looked.join(", "));
        step("find its bootstrap")(io::Error::new(io::ErrorKind::NotFound, what))
    })?;
    if let Some(megabytes) = memory_mb {
        memory::bound(megabytes).map_err(|e| step("bound its memory")(e.into()))?;
    }
    let bootstrap = spawn(program, &spec).map_err(step(&format!("start {}", program.display())))?;
    let open: Vec<_> = handed.iter().map(AsFd::as_fd).collect();
    send(socket, &Told::Ready, &open).map_err(step("tell the host"))?;
    Ok((bootstrap, memory_mb))
}

/// From now on this process and all that it starts print to where the function prints.
fn print_to(output: Vec<OwnedFd>) -> io::Result<()> {
    let output = output.first().ok_or_else(|| io::Error::other("there is none"))?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(output)?;
    Ok(())
}

fn spawn(program: &Path, spec: &Spec) -> io::Result<Pid> {
    let mut command = Command::new(program);
    command.env_clear().envs(&spec.environment).current_dir("/var/task").stdin(Stdio::null()).process_group(0);
    if let Some(user) = spec.user {
        command.uid(user).gid(user);
    }
    let child = command.spawn()?;
    let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    process.ok_or_else(|| io::Error::other("it has no process id"))
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

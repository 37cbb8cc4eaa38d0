//! The first process of the sandbox. It builds the function's root, starts its bootstrap and reports how the
//! bootstrap ended. When this process ends, the kernel ends all other processes of the sandbox.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process_group, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};

use super::outside::host;
use super::socket::{PAUSE, RESUME, StartRequest, StatusMessage, TERMINATE, receive, send};
use super::{RootSpec, Spec, confinement, connections, loopback, memory, root, write_access};

/// The step that failed, and why.
type Failed = (String, io::Error);

/// Runs the first process to its end. Its standard input is the socket to the host.
pub fn inside() -> ExitCode {
    let Ok(socket) = host() else { return ExitCode::FAILURE };
    let (bootstrap, memory_mb) = match start(&socket) {
        Ok(started) => started,
        Err((step, error)) => {
            let _ = send(&socket, &StatusMessage::Failed { step, error: error.to_string() }, &[]);
            return ExitCode::FAILURE;
        }
    };
    if let Ok(to_watch) = socket.try_clone() {
        std::thread::spawn(move || end_with_host(to_watch));
    }
    if let Ok(to_tell) = socket.try_clone() {
        std::thread::spawn(move || {
            memory::watch(memory_mb);
            let _ = send(&to_tell, &StatusMessage::OutOfMemory, &[]);
            // All processes of the sandbox end with this one.
            std::process::exit(1);
        });
    }
    let ended = reap(bootstrap);
    let _ = send(&socket, &ended, &[]);
    ExitCode::SUCCESS
}

/// Prepares the sandbox and starts the bootstrap. Gives the bootstrap's process id, and its memory limit in megabytes.
fn start(socket: &UnixStream) -> Result<(Pid, u64), Failed> {
    let step = |name: &str| {
        let name = name.to_owned();
        move |error: io::Error| (name, error)
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| step("make it end with its parent")(e.into()))?;
    let (root_spec, _) = receive::<RootSpec>(socket).map_err(step("read the description of its root"))?;
    let renamed = rustix::system::sethostname(b"function");
    renamed.map_err(|e| step("set its host name")(e.into()))?;
    loopback::up().map_err(step("bring up its loopback interface"))?;
    root::prepare(&root_spec)?;
    let confinement = confinement::Confinement::prepare().map_err(step("compile its system call filters"))?;
    // A spare sandbox waits here until it gets a function.
    let (order, received) =
        receive::<StartRequest<Spec>>(socket).map_err(step("read the description of its function"))?;
    let StartRequest { spec, has_group } = order;
    let mut received = received.into_iter();
    print_to(received.next()).map_err(step("redirect its output"))?;
    let mut handed = listen(&spec.ports).map_err(step("listen on its loopback interface"))?;
    root::complete(&root_spec, &spec)?;
    if spec.results_mb.is_some() {
        handed.push(File::open(Path::new("/").join(root::RESULTS)).map_err(step("open /results"))?.into());
    }
    confinement::set_limits(spec.limits).map_err(step("set its limits"))?;
    let restricted = write_access::restrict(&spec.mounts).map_err(io::Error::other);
    restricted.map_err(step("restrict where it may write"))?;
    confinement.apply().map_err(step("drop its capabilities"))?;
    // Otherwise a function with the same user could read and write this process's memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| step("protect its first process")(e.into()))?;
    let program = spec.programs.iter().find(|program| root::is_program(program)).ok_or_else(|| {
        let looked: Vec<String> = spec.programs.iter().map(|p| p.display().to_string()).collect();
        let what = format!("none of {} exists and is executable", looked.join(", "));
        step("find its bootstrap")(io::Error::new(io::ErrorKind::NotFound, what))
    })?;
    if !has_group {
        memory::bound(spec.limits.memory_mb).map_err(|e| step("limit its memory")(e.into()))?;
    }
    let bootstrap = spawn(program, &spec).map_err(step(&format!("start {}", program.display())))?;
    if let Some(connections) = received.next() {
        std::thread::spawn(move || connections::serve(connections));
    }
    let open: Vec<_> = handed.iter().map(AsFd::as_fd).collect();
    send(socket, &StatusMessage::Ready, &open).map_err(step("report to the host"))?;
    Ok((bootstrap, spec.limits.memory_mb))
}

/// Redirects the output of this process, and so of all that it starts, to the function's output.
fn print_to(output: Option<OwnedFd>) -> io::Result<()> {
    let output = output.ok_or_else(|| io::Error::other("the host sent no output file"))?;
    rustix::stdio::dup2_stdout(&output)?;
    rustix::stdio::dup2_stderr(&output)?;
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
    process.ok_or_else(|| io::Error::other("the started process has no process id"))
}

fn listen(ports: &[u16]) -> io::Result<Vec<OwnedFd>> {
    let listening = ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map(OwnedFd::from));
    listening.collect()
}

/// Ends this process when the socket to the host is closed. Until then the host sends on it when the program is to pause
/// and to go on.
fn end_with_host(mut socket: UnixStream) {
    let mut byte = [0];
    loop {
        match socket.read(&mut byte) {
            Ok(0) => std::process::exit(1),
            Ok(_) if byte == [PAUSE] => signal_all(Signal::STOP),
            Ok(_) if byte == [RESUME] => signal_all(Signal::CONT),
            Ok(_) if byte == [TERMINATE] => signal_all(Signal::TERM),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => std::process::exit(1),
            _ => {}
        }
    }
}

/// Sends a signal to all other processes of the sandbox at once: kill(2) with -1.
fn signal_all(signal: Signal) {
    // Where there is none, there is nothing to stop.
    let _ = kill_process_group(Pid::INIT, signal);
}

/// Waits for the bootstrap. Also reaps every orphan until then: orphans become children of the first process.
fn reap(bootstrap: Pid) -> StatusMessage {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == bootstrap => {
                return StatusMessage::Exited { code: status.exit_status(), signal: status.terminating_signal() };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return StatusMessage::Exited { code: None, signal: None },
        }
    }
}

//! The host's child process: leaves the host's namespaces and starts the first process of the new ones.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{getegid, geteuid};

use super::INSIDE;
use super::socket::{StatusMessage, send};

/// Runs the host's child to its end. Its standard input is the socket to the host. With `in_user_namespace` it
/// needs no privilege.
pub fn outside(in_user_namespace: bool) -> ExitCode {
    match leave(in_user_namespace) {
        Ok(code) => code,
        Err((step, error)) => {
            if let Ok(socket) = host() {
                let _ = send(&socket, &StatusMessage::Failed { step: step.to_owned(), error: error.to_string() }, &[]);
            }
            ExitCode::FAILURE
        }
    }
}

/// The socket to the host, which is this process's standard input.
pub(super) fn host() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Closes inherited files. Those that the host itself inherited, and never closed, would be open in the function.
fn close_others() -> io::Result<()> {
    let names = fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    for number in names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok()).filter(|number| *number > 2) {
        // The descriptor that listed the folder is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

fn leave(in_user_namespace: bool) -> Result<ExitCode, (&'static str, io::Error)> {
    let step = |name: &'static str| move |error: io::Error| (name, error);
    close_others().map_err(step("close the host's open files"))?;
    // PR_SET_PDEATHSIG can't tie this process to the host: the signal is sent when the thread that started it
    // ends, which may be a thread of a pool. The socket ends with the host: then this read fails, and later the
    // first process inside notices.
    // The byte says that this process is in its control group now: what it starts is in it too.
    let mut go = [0];
    host().and_then(|mut socket| socket.read_exact(&mut go)).map_err(step("wait for the host"))?;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    if in_user_namespace {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|e| step("make its namespaces")(e.into()))?;
    if in_user_namespace {
        fs::write("/proc/self/setgroups", "deny").map_err(step("map its user"))?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1")).map_err(step("map its user"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1")).map_err(step("map its group"))?;
    }
    let mut first = Command::new("/proc/self/exe").arg(INSIDE).spawn().map_err(step("start its first process"))?;
    let ended = first.wait().map_err(step("wait for its first process"))?;
    Ok(ExitCode::from(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

//! One socket between the host and the sandbox's first process: lines of JSON, and open files
//! beside them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The runtime's socket, the lake's SQL, its objects, the folder of the results.
pub(super) const OPEN_MAX: usize = 4;
const LINE_BYTES_MAX: usize = 256 * 1024;

/// What the first process tells the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The root stands, the sockets are yours, the bootstrap starts now.
    Ready,
    /// What could not be done, before the bootstrap started.
    Failed { step: String, error: String },
    /// How the bootstrap ended.
    Exited { code: Option<i32>, signal: Option<i32> },
}

pub(super) fn write_line(socket: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Byte by byte: what follows the line may carry sockets, which a buffer would swallow.
pub(super) fn read_line<T: DeserializeOwned>(socket: &mut UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        socket.read_exact(&mut byte)?;
        match byte[0] {
            b'\n' => return Ok(serde_json::from_slice(&line)?),
            _ if line.len() == LINE_BYTES_MAX => return Err(io::Error::other("a line is too long")),
            byte => line.push(byte),
        }
    }
}

pub(super) fn send_open(socket: &UnixStream, open: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<_> = open.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OPEN_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many open files"));
    }
    sendmsg(socket, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

pub(super) fn receive_open(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OPEN_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(open) => Some(open),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

//! Messages between the host and a sandbox's processes: JSON over a Unix socket, with open files attached.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The sockets of the Runtime API, the lake's SQL and its objects, and the results folder.
const OPEN_MAX: usize = 4;
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A message begins with its length. The open files are attached to its first byte.
const LENGTH_BYTES: usize = 4;

/// What the host sends to a sandbox whose program runs: that all of its processes stop, and that they go on.
pub(super) const PAUSE: u8 = b'p';
pub(super) const RESUME: u8 = b'r';
/// And that they get SIGTERM.
pub(super) const TERMINATE: u8 = b't';

/// What a sandbox's processes report to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StatusMessage {
    /// The program has been started. The listening sockets and the results folder are attached.
    Ready,
    /// A step failed before the program was started.
    Failed { step: String, error: String },
    /// The program ended.
    Exited { code: Option<i32>, signal: Option<i32> },
    /// The sandbox was ended because it used too much memory. Sent only where no control group limits it.
    OutOfMemory,
}

/// The host's request to start the program of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartRequest<Spec> {
    /// What to start.
    pub spec: Spec,
    /// A control group limits the memory, too.
    pub has_group: bool,
}

/// Sends a message, with `open` files attached.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize, open: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OPEN_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !open.is_empty() && !control.push(SendAncillaryMessage::ScmRights(open)) {
        return Err(io::Error::other("too many open files"));
    }
    let parts = [IoSlice::new(&length), IoSlice::new(&body)];
    // In one call, so that the messages of two threads do not mix. Only the rest of a long message follows.
    let sent = sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    socket.write_all(length.get(sent..).unwrap_or_default())?;
    socket.write_all(body.get(sent.saturating_sub(LENGTH_BYTES)..).unwrap_or_default())
}

/// Waits for a message and gives it with its attached files. [`io::ErrorKind::UnexpectedEof`] where the other end
/// is closed.
pub(super) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; LENGTH_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OPEN_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?.bytes,
        }
    };
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(open) => Some(open),
        _ => None,
    });
    let open = rights.flatten().collect();
    socket.read_exact(&mut length[received..])?;
    let length = u32::from_ne_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message has more than {MESSAGE_BYTES_MAX} bytes")));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, open))
}

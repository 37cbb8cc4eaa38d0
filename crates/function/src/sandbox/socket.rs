//! One socket between the host and the sandbox's first process: messages in JSON, with open files
//! beside them.

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

/// The runtime's socket, the lake's SQL, its objects, the folder of the results.
const OPEN_MAX: usize = 4;
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A message begins with its length, and its open files come with the first byte of that.
const LENGTH_BYTES: usize = 4;

/// What the first process tells the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The root stands, the bootstrap has been started, what comes with this is yours.
    Ready,
    /// What could not be done, before the bootstrap started.
    Failed { step: String, error: String },
    /// How the bootstrap ended.
    Exited { code: Option<i32>, signal: Option<i32> },
    /// It was ended for what it held; only where no control group does that.
    OutOfMemory,
}

/// What the host says of the function.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order<Spec> {
    pub spec: Spec,
    /// There is no control group.
    pub watches_memory: bool,
}

pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize, open: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(OPEN_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !open.is_empty() && !control.push(SendAncillaryMessage::ScmRights(open)) {
        return Err(io::Error::other("too many open files"));
    }
    let parts = [IoSlice::new(&length), IoSlice::new(&body)];
    // At once, lest two threads' messages mix; a long one goes on alone.
    let sent = sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    socket.write_all(length.get(sent..).unwrap_or_default())?;
    socket.write_all(body.get(sent.saturating_sub(LENGTH_BYTES)..).unwrap_or_default())
}

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
        return Err(io::Error::other("a message is too long"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, open))
}

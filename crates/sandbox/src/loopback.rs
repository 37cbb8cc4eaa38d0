//! Brings up the loopback interface of a new network namespace, which is down at first, by a netlink message.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 0x5;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
/// The loopback interface is the first one of every namespace.
const LOOPBACK: i32 = 1;

/// Brings the loopback interface of this network namespace up.
pub(super) fn up() -> io::Result<()> {
    // NETLINK_ROUTE is protocol 0, the default.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // struct nlmsghdr { len, type, flags, seq, pid }, struct ifinfomsg { family, pad, type, index,
    // flags, change }: rtnetlink(7)
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend_from_slice(&[0, 0, 0, 0]);
    message.extend_from_slice(&LOOPBACK.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 256];
    let (read, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let code = match answer.get(..read) {
        Some(answer) if read >= 20 && answer[4..6] == NLMSG_ERROR.to_ne_bytes() => {
            i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]])
        }
        _ => return Err(io::Error::other("netlink gave no answer")),
    };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

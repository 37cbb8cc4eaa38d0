//! Restrictions on a sandboxed program beyond its namespaces: it has no capabilities and can gain none, it may make the
//! system calls of a list, and files and processes are limited.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, clear_ambient_capability_set, remove_capability_from_bounding_set, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Limits;
use super::syscalls::allowed;

/// System call numbers of x86_64 and aarch64, from <asm/unistd.h>. No runtime for functions needs the refused ones.
#[cfg(target_arch = "x86_64")]
mod syscalls {
    /// System calls that no program of a sandbox may make, by their numbers on this architecture.
    pub const REFUSED: &[i64] = &[
        101, // ptrace
        155, // pivot_root
        161, // chroot
        163, // acct
        165, // mount
        166, // umount2
        167, 168, // swapon, swapoff
        169, // reboot
        175, 176, 313, // init_module, delete_module, finit_module
        179, // quotactl
        246, 320, // kexec_load, kexec_file_load
        248, 249, 250, // add_key, request_key, keyctl
        272, // unshare
        298, // perf_event_open
        303, 304, // name_to_handle_at, open_by_handle_at
        308, // setns
        310, 311, // process_vm_readv, process_vm_writev
        321, // bpf
        323, // userfaultfd
        425, 426, 427, // io_uring_setup, io_uring_enter, io_uring_register
        428, 429, 430, 431, 432, 433, // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
        442, // mount_setattr
    ];
    /// The number of `clone`, whose flags are inspected.
    pub const CLONE: i64 = 56;
    /// The number of `clone3`, whose flags a filter can't read.
    pub const CLONE3: i64 = 435;
    /// The numbers of `socket` and `socketpair`, whose family is inspected.
    pub const SOCKET: [i64; 2] = [41, 53];
}
#[cfg(target_arch = "aarch64")]
mod syscalls {
    /// System calls that no program of a sandbox may make, by their numbers on this architecture.
    pub const REFUSED: &[i64] = &[
        117, 41, 51, 89, 40, 39, 224, 225, 142, 105, 106, 273, 60, 104, 294, 217, 218, 219, 97, 241, 264, 265, 268,
        270, 271, 280, 282, 425, 426, 427, 428, 429, 430, 431, 432, 442,
    ];
    /// The number of `clone`, whose flags are inspected.
    pub const CLONE: i64 = 220;
    /// The number of `clone3`, whose flags a filter can't read.
    pub const CLONE3: i64 = 435;
    /// The numbers of `socket` and `socketpair`, whose family is inspected.
    pub const SOCKET: [i64; 2] = [198, 199];
}

/// The families of sockets that a program may open: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. Others reach the hypervisor
/// or parts of the kernel that have no network namespace: socket(2).
const SOCKET_FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: sched.h
const NEW_NAMESPACES: u64 = 0x7e02_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// Sets the process's resource limits: open files, processes, and no core dumps.
pub(super) fn set_limits(limits: Limits) -> io::Result<()> {
    // To raise a limit above the host's own takes a capability, which a host in a container may not have.
    let within = |resource, n: u64| getrlimit(resource).maximum.map_or(n, |most| n.min(most));
    let bound = |n: u64| Rlimit { current: Some(n), maximum: Some(n) };
    setrlimit(Resource::Nofile, bound(within(Resource::Nofile, limits.open_files)))?;
    setrlimit(Resource::Nproc, bound(within(Resource::Nproc, limits.processes)))?;
    setrlimit(Resource::Core, bound(0))?;
    Ok(())
}

/// System call filters, compiled while the sandbox waits for its function and applied when its root is complete.
pub(super) struct Confinement([BpfProgram; 3]);

impl Confinement {
    /// Compiles the filters; nothing is restricted yet.
    pub fn prepare() -> io::Result<Confinement> {
        filters().map(Confinement).map_err(io::Error::other)
    }

    /// Drops all capabilities and installs the filters. Call it last: afterwards this process can't mount,
    /// become root or enter other namespaces.
    pub fn apply(&self) -> io::Result<()> {
        drop_capabilities()?;
        set_no_new_privs(true)?;
        self.0.iter().try_for_each(|filter| seccompiler::apply_filter(filter).map_err(io::Error::other))
    }
}

fn drop_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // INVAL: this kernel does not know the capability.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(clear_ambient_capability_set()?)
}

fn filters() -> Result<[BpfProgram; 3], seccompiler::Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = syscalls::REFUSED.iter().map(|call| (*call, vec![])).collect();
    // clone is refused with any of the flags. One rule for each: a mask is compared with a single value.
    let rules = (0..64).map(|bit| 1u64 << bit).filter(|bit| bit & NEW_NAMESPACES != 0).map(|bit| {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?;
        SeccompRule::new(vec![condition])
    });
    refused.insert(syscalls::CLONE, rules.collect::<Result<_, _>>()?);
    let is_other = SOCKET_FAMILIES
        .map(|family| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for call in syscalls::SOCKET {
        refused.insert(call, vec![SeccompRule::new(is_other.clone())?]);
    }
    let refused = SeccompFilter::new(refused, SeccompAction::Allow, SeccompAction::Errno(EPERM), arch)?.try_into()?;
    // The flags of clone3 are behind a pointer, which no filter can follow. On ENOSYS programs fall back to clone.
    let unknown = BTreeMap::from([(syscalls::CLONE3, vec![])]);
    let unknown = SeccompFilter::new(unknown, SeccompAction::Allow, SeccompAction::Errno(ENOSYS), arch)?.try_into()?;
    // A system call that is not on the list is one that the kernel does not have: programs then do without it.
    let listed = allowed().map(|call| (call, vec![])).collect();
    let listed = SeccompFilter::new(listed, SeccompAction::Errno(ENOSYS), SeccompAction::Allow, arch)?.try_into()?;
    // Of several filters that refuse a call, the error of the last one counts.
    Ok([listed, unknown, refused])
}

//! Builds the root that a function sees: this machine's programs, read-only, the function's code at `/var/task`,
//! its layers at `/opt`, a `/tmp` of its own with a limited size, and nothing else of the host.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::{RootSpec, Spec, base_programs};

/// Programs, libraries and certificates: what an image for AWS Lambda contains.
const HOST_FOLDERS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl/certs", "/etc/alternatives", "/etc/R"];
const HOST_FILES: [&str; 4] = ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime", "/etc/ssl/openssl.cnf"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// The size of `/dev/shm`, where the memory is not less: Docker's default.
const SHARED_MB: u64 = 64;
/// The folder for results, in the root.
pub(super) const RESULTS: &str = "results";
const READ_ONLY: MountFlags = MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV);

/// The step that failed, and why.
type Failed = (String, io::Error);

fn step(name: &str) -> impl FnOnce(io::Error) -> Failed {
    let name = name.to_owned();
    move |error| (name, error)
}

/// Builds the part of the root that is the same for all functions.
pub(super) fn prepare(root_spec: &RootSpec) -> Result<(), Failed> {
    let root = root_spec.mount_at.as_path();
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|e| step("detach from the host's mounts")(e.into()))?;
    tmpfs(root, 16, 0o755).map_err(step("mount the sandbox's root"))?;
    match &root_spec.base {
        Some(base) => image(base, root).map_err(step("mount the base image"))?,
        None => host(root).and_then(|()| base_programs::link(root)).map_err(step("mount this machine's programs"))?,
    }
    fs::create_dir_all(root.join("var/runtime")).map_err(step("make /var/runtime"))?;
    devices(root).map_err(step("make /dev"))?;
    processes(root).map_err(step("mount /proc"))
}

/// Adds the function's own part to the root, then makes it this process's root.
pub(super) fn complete(root_spec: &RootSpec, spec: &Spec) -> Result<(), Failed> {
    let root = root_spec.mount_at.as_path();
    etc(root, spec.user).map_err(step("write /etc"))?;
    unchanging_folder(&spec.task, &root.join("var/task")).map_err(step("mount the function at /var/task"))?;
    let at: Vec<PathBuf> = spec.mounts.iter().map(|mount| under(root, &mount.at)).collect();
    // A mount below /opt needs its folder there before the layers are mounted, which are read-only.
    at.iter().try_for_each(fs::create_dir_all).map_err(step("make the folders of its mounts"))?;
    if let Some(opt) = &spec.opt {
        unchanging_folder(opt, &root.join("opt")).map_err(step("mount its layers at /opt"))?;
    }
    for (mount, at) in spec.mounts.iter().zip(&at) {
        let mounted = match mount.is_writable {
            true => bind_folder_with(&mount.from, at, READ_ONLY.difference(MountFlags::RDONLY)),
            false => unchanging_folder(&mount.from, at),
        };
        mounted.map_err(step(&format!("mount {}", mount.at.display())))?;
    }
    if let Some(inputs) = &spec.inputs {
        bind_folder(inputs, &root.join("inputs")).map_err(step("mount /inputs"))?;
    }
    let own = [("tmp", spec.limits.tmp_mb), ("dev/shm", spec.limits.memory_mb.min(SHARED_MB))];
    for (folder, megabytes) in own.into_iter().chain(spec.results_mb.map(|megabytes| (RESULTS, megabytes))) {
        let path = root.join(folder);
        let made = fs::create_dir_all(&path).and_then(|()| tmpfs(&path, megabytes, 0o1777));
        made.map_err(step(&format!("make /{folder}")))?;
    }
    enter(root).map_err(step("enter the root"))
}

fn tmpfs(at: &Path, megabytes: u64, mode: u32) -> io::Result<()> {
    // As many inodes as the folder has pages: empty files can't use up the host's memory.
    let options = format!("size={megabytes}m,mode={mode:o},nr_inodes={}", megabytes.max(16) * 256);
    let options = CString::new(options)?;
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

/// Mounts the host's folders. Where `/bin` is a link on the host, it is a link here.
fn host(root: &Path) -> io::Result<()> {
    for folder in HOST_FOLDERS.map(Path::new) {
        let Ok(kind) = folder.symlink_metadata() else { continue };
        let inner = under(root, folder);
        if kind.is_symlink() {
            symlink(fs::read_link(folder)?, &inner)?;
        } else {
            bind_folder(folder, &inner)?;
        }
    }
    for file in HOST_FILES.map(Path::new).into_iter().filter(|file| file.exists()) {
        bind_file(file, &under(root, file), READ_ONLY)?;
    }
    shell(root)
}

/// Makes `sh` bash, as on Amazon Linux: published bootstraps begin with `#!/bin/sh` and use `set -o pipefail`,
/// which Debian's dash does not know.
fn shell(root: &Path) -> io::Result<()> {
    let (Ok(bash), Ok(sh)) = (fs::canonicalize("/bin/bash"), fs::canonicalize("/bin/sh")) else { return Ok(()) };
    if bash == sh {
        return Ok(());
    }
    let at = under(root, &sh);
    mount_bind(&bash, &at)?;
    remount(&at, READ_ONLY)
}

/// Mounts the folders of an unpacked image.
fn image(base: &Path, root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name();
        // The sandbox has these folders itself.
        if ["dev", "proc", "sys", "tmp", "var", "opt", "etc"].iter().any(|own| name == *own) {
            continue;
        }
        let inner = root.join(&name);
        match entry.file_type()? {
            kind if kind.is_symlink() => symlink(fs::read_link(entry.path())?, &inner)?,
            kind if kind.is_dir() => bind_folder(&entry.path(), &inner)?,
            _ => {}
        }
    }
    let etc = base.join("etc");
    if etc.is_dir() {
        for name in ["ssl/certs", "pki", "alternatives", "ld.so.conf.d"].into_iter().filter(|n| etc.join(n).is_dir()) {
            bind_folder(&etc.join(name), &root.join("etc").join(name))?;
        }
        let cache = etc.join("ld.so.cache");
        if cache.is_file() {
            bind_file(&cache, &root.join("etc/ld.so.cache"), READ_ONLY)?;
        }
    }
    Ok(())
}

fn etc(root: &Path, user: Option<u32>) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc)?;
    let user = user.unwrap_or(0);
    let home = "/tmp:/bin/sh";
    let users = format!("root:x:0:0:root:{home}\nfunction:x:{user}:{user}:function:{home}\n");
    fs::write(etc.join("passwd"), if user == 0 { format!("root:x:0:0:root:{home}\n") } else { users })?;
    fs::write(etc.join("group"), format!("root:x:0:\nfunction:x:{}:\n", user.max(1)))?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n")?;
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")
}

fn devices(root: &Path) -> io::Result<()> {
    let dev = root.join("dev");
    fs::create_dir_all(&dev)?;
    for name in DEVICES {
        bind_file(&Path::new("/dev").join(name), &dev.join(name), MountFlags::NOSUID)?;
    }
    for (name, to) in [("fd", "self/fd"), ("stdin", "self/fd/0"), ("stdout", "self/fd/1"), ("stderr", "self/fd/2")] {
        symlink(Path::new("/proc").join(to), dev.join(name))?;
    }
    Ok(())
}

/// Mounts a `/proc` that shows the sandbox's own processes. In a user namespace inside a container whose own
/// `/proc` is masked the kernel may refuse it: then the sandbox has none.
fn processes(root: &Path) -> io::Result<()> {
    let proc = root.join("proc");
    fs::create_dir_all(&proc)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("proc", &proc, "proc", flags, None::<&std::ffi::CStr>) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn enter(root: &Path) -> io::Result<()> {
    chdir(root)?;
    // This puts the old root on top of the new one, from where it is unmounted: pivot_root(2), "pivot_root(".", ".")".
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    mount_remount("/", MountFlags::BIND | READ_ONLY, "")?;
    chdir("/var/task")?;
    Ok(())
}

fn bind_folder(from: &Path, to: &Path) -> io::Result<()> {
    bind_folder_with(from, to, READ_ONLY)
}

fn bind_folder_with(from: &Path, to: &Path, flags: MountFlags) -> io::Result<()> {
    fs::create_dir_all(to)?;
    mount_bind(from, to)?;
    remount(to, flags)
}

/// Mounts a folder whose files do not change, read-only, beside what `to` has already. The mount is an overlay: a bind mount
/// would show the folder's path on the host in `/proc/self/mountinfo`.
fn unchanging_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    match overlay(from, to) {
        Ok(()) => Ok(()),
        // Not every kernel lets a user namespace mount overlays, nor every file system.
        Err(_) if fs::read_dir(to)?.next().is_some() => bind_entries(from, to),
        Err(_) => bind_folder(from, to),
    }
}

fn overlay(from: &Path, to: &Path) -> io::Result<()> {
    let open = |path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // An overlay without a writable folder has at least two.
    let (upper, lower) = (open(from)?, open(to)?);
    let folders = format!("lowerdir=/proc/self/fd/{}:/proc/self/fd/{}", upper.as_raw_fd(), lower.as_raw_fd());
    let folders = CString::new(folders)?;
    mount("function", to, "overlay", READ_ONLY, folders.as_c_str())?;
    Ok(())
}

/// Mounts what is in a folder, so that other folders can be mounted beside it.
fn bind_entries(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
        let inner = to.join(entry.file_name());
        match kind {
            kind if kind.is_symlink() => symlink(fs::read_link(entry.path())?, &inner)?,
            kind if kind.is_dir() => bind_folder(&entry.path(), &inner)?,
            _ => bind_file(&entry.path(), &inner, READ_ONLY)?,
        }
    }
    Ok(())
}

fn bind_file(from: &Path, to: &Path, flags: MountFlags) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(to)?.set_permissions(fs::Permissions::from_mode(0o644))?;
    mount_bind(from, to)?;
    remount(to, flags)
}

/// Remounts a bind mount with `flags`, which a bind mount ignores at first. In a user namespace the flags of the
/// host's mount are locked and have to be named too.
fn remount(at: &Path, flags: MountFlags) -> io::Result<()> {
    let bind = MountFlags::BIND | flags;
    if mount_remount(at, bind, "").is_ok() {
        return Ok(());
    }
    let state = rustix::fs::statvfs(at)?;
    let mut locked = MountFlags::empty();
    for (has, flag) in [
        (rustix::fs::StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (rustix::fs::StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (rustix::fs::StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (rustix::fs::StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if state.f_flag.contains(has) {
            locked |= flag;
        }
    }
    mount_remount(at, bind | locked, "")?;
    Ok(())
}

fn under(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// Whether `path` is a file that this process may execute. Called after the root has been entered.
pub(super) fn is_program(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS).is_ok() && path.is_file()
}

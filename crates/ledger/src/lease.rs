//! Leases: locks on files beside the database, which the kernel releases when their process ends,
//! also by a crash. The files are never removed: another process may have the removed file open, and
//! then two processes could each lock a file of the same name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::error::ErrorContext;

/// [`Lease::is_held`] locks the file for an instant, and a run that begins at that moment must not be refused.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_PERIOD: Duration = Duration::from_millis(20);

/// A lease that this process holds.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Held as long as it is open.
    file: File,
}

impl Lease {
    /// Takes the lease of `name` in `folder`. None where another process, or another part of this one, holds it.
    pub fn take(folder: &Path, name: &str) -> Result<Option<Self>> {
        let file = open(folder, name)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS_MAX => {
                    thread::sleep(ATTEMPT_PERIOD);
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error).during(format!("take the lease of {name}"));
                }
            }
        }
        Ok(Some(Self { file }))
    }

    /// Writes who holds the lease into its file, for messages to those who are refused.
    pub fn write_holder(&self, holder: &str) -> Result<()> {
        const WRITE: &str = "write the holder of a lease";
        self.file.set_len(0).during(WRITE)?;
        (&self.file).write_all(holder.as_bytes()).during(WRITE)
    }

    /// The text that the last holder has written; None where there is none. It is current only while the lease is held.
    pub fn holder(folder: &Path, name: &str) -> Option<String> {
        fs::read_to_string(folder.join(file_name(name))).ok().filter(|holder| !holder.is_empty())
    }

    /// Whether any process holds the lease. It locks the file in shared mode, so that two callers do not take each
    /// other for holders.
    pub fn is_held(folder: &Path, name: &str) -> Result<bool> {
        match open(folder, name)?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).during(format!("look up the lease of {name}")),
        }
    }
}

fn open(folder: &Path, name: &str) -> Result<File> {
    let path = folder.join(file_name(name));
    let doing = || format!("open lease {}", path.display());
    fs::create_dir_all(folder).during(doing())?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).during(doing())
}

/// A name without characters that mean something in a path: "transfer:platform" gives "transfer%3Aplatform.lock".
fn file_name(name: &str) -> PathBuf {
    let mut file = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => file.push(byte as char),
            _ => file.push_str(&format!("%{byte:02X}")),
        }
    }
    PathBuf::from(file + ".lock")
}

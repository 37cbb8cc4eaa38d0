//! One living run a job: a lock on a file beside the database, which the kernel drops with the
//! process, however it ends. The file itself stays: removing it would let two hold "the" lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::error::During;

/// `is_held` holds the lock for an instant; a run that begins just then must not be refused.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_PERIOD: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Lease {
    /// Held as long as it is open.
    file: File,
}

impl Lease {
    /// None where a living run has it.
    pub fn take(folder: &Path, job: &str) -> Result<Option<Self>> {
        let file = open(folder, job)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS_MAX => {
                    thread::sleep(ATTEMPT_PERIOD);
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error).during(format!("take the lease of {job}"));
                }
            }
        }
        Ok(Some(Self { file }))
    }

    /// Leaves word of who holds it, for those who are refused.
    pub fn sign(&self, holder: &str) -> Result<()> {
        const SIGN: &str = "sign a lease";
        self.file.set_len(0).during(SIGN)?;
        (&self.file).write_all(holder.as_bytes()).during(SIGN)
    }

    /// What the last holder left. Of use only while the lease is held; None where it left nothing.
    pub fn holder(folder: &Path, job: &str) -> Option<String> {
        fs::read_to_string(folder.join(file_name(job))).ok().filter(|holder| !holder.is_empty())
    }

    /// Shared, so that those who ask do not see one another as holders.
    pub fn is_held(folder: &Path, job: &str) -> Result<bool> {
        match open(folder, job)?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).during(format!("ask for the lease of {job}")),
        }
    }
}

fn open(folder: &Path, job: &str) -> Result<File> {
    let path = folder.join(file_name(job));
    let doing = || format!("open lease {}", path.display());
    fs::create_dir_all(folder).during(doing())?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).during(doing())
}

/// "transfer:platform" -> "transfer%3Aplatform.lock": a job's name is no path.
fn file_name(job: &str) -> PathBuf {
    let mut name = String::with_capacity(job.len() + 8);
    for byte in job.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte as char),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    PathBuf::from(name + ".lock")
}

//! Takes a base backup of a running server into a private folder by PostgreSQL's pg_basebackup. This module never puts
//! a password on a command line, and never writes outside the private folder.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use supervisor::Termination;

use crate::account::{Account, LAUNCHER};
use crate::cancellation::Cancellation;
use crate::error::{Error, ErrorContext, Kind};
use crate::folder::Folder;
use crate::{Binaries, Result};

mod source;
pub(crate) use source::Source;

const ERROR_LINES_MAX: usize = 8;
const BACKUP: &str = "take a base backup";

/// Copies the whole cluster of `source_url` into `dir`/data, with the log that makes the copy consistent. `progress` is
/// called about once a second with the bytes copied so far and the server's estimate of the total.
///
/// `source_url` is a connection string of libpq, a URL or keywords and values. Its role needs REPLICATION and the
/// privilege to connect to the database, where the source's version and tablespaces are read first. The source needs
/// two free `max_wal_senders`. For root, the user `postgres` connects, which matters for `peer` authentication and for
/// files that the URL names.
///
/// Where this process ends during the copy, the connections to the source end within seconds. The folder is left for
/// [`sweep`](crate::sweep), also after an error.
///
/// # Errors
/// Where the versions differ, the folder is not empty, or pg_basebackup fails. Errors of [`Kind::Retry`] are transient.
pub fn base_backup(
    bin: &Binaries,
    source_url: &str,
    dir: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    base_backup_until(&Cancellation::default(), bin, source_url, dir, progress)
}

/// As [`base_backup`]. A cancellation ends it with an error of [`Kind::Retry`].
pub fn base_backup_until(
    cancellation: &Cancellation,
    bin: &Binaries,
    source_url: &str,
    dir: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    cancellation.check(BACKUP)?;
    let account = Account::current()?;
    let source = Source::parse(source_url)?;
    let folder = Folder::create(dir, &account)?;
    let info = read_source_info(cancellation, bin, &account, &folder, &source)?;
    check_version(bin, info.major)?;

    let mut command = account.command(&bin.path("pg_basebackup"), &folder.path);
    command.arg("-D").arg(folder.data()).args(["-X", "stream", "-c", "fast", "-P", "-w"]);
    for (number, location) in info.tablespaces.iter().enumerate() {
        let new = folder.join("tablespaces").join(number.to_string());
        command.arg("-T").arg(format!("{}={}", escaped(location), escaped(&new.to_string_lossy())));
    }
    source.apply(&mut command);
    run_backup(cancellation, &account, &mut command, progress)
}

struct SourceInfo {
    /// The major version, such as 15.
    major: u32,
    /// The folders of the source's tablespaces, without the two standard ones.
    tablespaces: Vec<String>,
}

fn read_source_info(
    cancellation: &Cancellation,
    bin: &Binaries,
    account: &Account,
    folder: &Folder,
    source: &Source,
) -> Result<SourceInfo> {
    const READ: &str = "read the source's version and tablespaces";
    let mut command = account.command(&bin.path("psql"), &folder.path);
    command.args(["-X", "-A", "-t", "-w", "-q", "-v", "ON_ERROR_STOP=1"]);
    command.args(["-c", "select current_setting('server_version_num')::int / 10000"]);
    command.args(["-c", "select l from (select pg_tablespace_location(oid) l from pg_tablespace) t where l <> ''"]);
    source.apply(&mut command);
    let output = account.run_until(cancellation, &mut command, READ).map_err(with_retry_kind)?;
    let mut lines = output.lines();
    let major = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| Error::setup(format!("read the source's version: unexpected answer {output:?}")))?;
    Ok(SourceInfo { major, tablespaces: lines.map(str::to_owned).collect() })
}

fn check_version(bin: &Binaries, source: u32) -> Result<()> {
    let ours = bin.major_version()?;
    if ours == source {
        return Ok(());
    }
    Err(Error::setup(format!(
        "copy the source: it is PostgreSQL {source}, and the programs in {} are of version {ours}; a version can't \
         read the data files of another one: install PostgreSQL {source} on this machine",
        bin.dir.display()
    )))
}

/// Runs pg_basebackup, which receives the log by a second process with a connection of its own.
fn run_backup(
    cancellation: &Cancellation,
    account: &Account,
    command: &mut Command,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let doing = || "run pg_basebackup".to_owned();
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = account.start(command, Termination::TOOL).during(|| format!("{}: start {LAUNCHER}", doing()))?;
    cancellation.attach(&program.group);
    let mut error_lines = VecDeque::new();
    if let Some(stderr) = program.child.stderr.take() {
        let mut reader = BufReader::new(stderr);
        while let Some(line) = next_line(&mut reader).during(doing)? {
            if let Some((done, total)) = parse_progress(&line) {
                progress(done, total);
            } else if !line.trim().is_empty() {
                if error_lines.len() == ERROR_LINES_MAX {
                    error_lines.pop_front();
                }
                error_lines.push_back(line);
            }
        }
    }
    let status = program.child.wait().during(doing)?;
    cancellation.check(BACKUP)?;
    if status.success() {
        return Ok(());
    }
    let stderr = Vec::from(error_lines).join("\n");
    Err(with_retry_kind(Error::setup(format!("copy the source by pg_basebackup: {status}: {stderr}"))))
}

/// Makes transient errors of the kind [`Kind::Retry`]; others (roles, pg_hba.conf, disk) don't change.
fn with_retry_kind(mut error: Error) -> Error {
    const TRANSIENT: [&str; 9] = [
        "Connection refused",
        "timeout expired",
        "Connection timed out",
        "server closed the connection unexpectedly",
        "could not receive data",
        "the database system is starting up",
        "the database system is shutting down",
        "too many clients already",
        // The source has removed a segment of its log during the copy, because it writes much.
        "has already been removed",
    ];
    if TRANSIENT.iter().any(|text| error.context.contains(text)) {
        error.kind = Kind::Retry;
    }
    error
}

/// Reads a line that ends with a line feed or with a carriage return, which pg_basebackup writes after its progress.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            let rest = (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned());
            return Ok(rest);
        }
        let end = buffer.iter().position(|&b| b == b'\n' || b == b'\r');
        line.extend_from_slice(&buffer[..end.unwrap_or(buffer.len())]);
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

/// The bytes copied and the total by a line such as "  123/4567 kB (2%), 0/1 tablespace", or "  123 kB, ..." where the
/// total is not known. `None` for other lines.
pub(crate) fn parse_progress(line: &str) -> Option<(u64, Option<u64>)> {
    let (figures, _) = line.trim_start().split_once(" kB")?;
    let kilobytes = |text: &str| Some(text.trim().parse::<u64>().ok()? * 1024);
    match figures.split_once('/') {
        Some((done, total)) => Some((kilobytes(done)?, Some(kilobytes(total)?))),
        None => Some((kilobytes(figures)?, None)),
    }
}

/// Escapes the equals sign, which separates the two sides of a tablespace mapping.
fn escaped(location: &str) -> String {
    location.replace('=', "\\=")
}

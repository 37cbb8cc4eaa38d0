//! A base backup of a running server into a private folder, by PostgreSQL's own pg_basebackup.
//! It never puts a password on a command line, and never writes outside the private folder.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use supervisor::Ending;

use crate::account::{Account, LAUNCHER};
use crate::cancellation::Cancellation;
use crate::error::{During, Error, Kind};
use crate::folder::Folder;
use crate::{Binaries, Result};

mod source;
pub(crate) use source::Source;

const LAST_WORDS_LINES_MAX: usize = 8;
const BACKUP: &str = "take a base backup";

/// Copies the whole cluster behind `source_url` into `dir`/data, with the log that makes it
/// consistent. `progress` gets the bytes copied so far and the server's estimate of the total,
/// about once a second.
///
/// The url (or keyword/value string) is libpq's; its role needs REPLICATION, and the right to
/// connect to the database it names: the source's version and tablespaces are asked there first.
/// The source needs two free `max_wal_senders`. For root, the connection is made by the user
/// `postgres`, which matters to `peer` authentication and to files the url names.
///
/// Where this process ends before, the connections to the source end too, within seconds. The
/// folder stays, for [`sweep`](crate::sweep), also after an error.
pub fn base_backup(
    bin: &Binaries,
    source_url: &str,
    dir: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    base_backup_until(&Cancellation::default(), bin, source_url, dir, progress)
}

/// As [`base_backup`], until it is cancelled.
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
    let about = ask_source(cancellation, bin, &account, &folder, &source)?;
    check_version(bin, about.major)?;

    let mut command = account.command(&bin.path("pg_basebackup"), &folder.path);
    command.arg("-D").arg(folder.data()).args(["-X", "stream", "-c", "fast", "-P", "-w"]);
    for (number, location) in about.tablespaces.iter().enumerate() {
        let new = folder.join("tablespaces").join(number.to_string());
        command.arg("-T").arg(format!("{}={}", escaped(location), escaped(&new.to_string_lossy())));
    }
    source.apply(&mut command);
    run_backup(cancellation, &account, &mut command, progress)
}

struct About {
    major: u32,
    /// Where they are on the source, the two standard ones left out.
    tablespaces: Vec<String>,
}

fn ask_source(
    cancellation: &Cancellation,
    bin: &Binaries,
    account: &Account,
    folder: &Folder,
    source: &Source,
) -> Result<About> {
    const ASK: &str = "ask the source its version and tablespaces";
    let mut command = account.command(&bin.path("psql"), &folder.path);
    command.args(["-X", "-A", "-t", "-w", "-q", "-v", "ON_ERROR_STOP=1"]);
    command.args(["-c", "select current_setting('server_version_num')::int / 10000"]);
    command.args(["-c", "select l from (select pg_tablespace_location(oid) l from pg_tablespace) t where l <> ''"]);
    source.apply(&mut command);
    let said = account.run_until(cancellation, &mut command, ASK).map_err(sorted)?;
    let mut lines = said.lines();
    let major = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| Error::setup(format!("ask the source its version: it said {said:?}")))?;
    Ok(About { major, tablespaces: lines.map(str::to_owned).collect() })
}

fn check_version(bin: &Binaries, source: u32) -> Result<()> {
    let ours = bin.major_version()?;
    if ours == source {
        return Ok(());
    }
    Err(Error::setup(format!(
        "copy the source: it is PostgreSQL {source}, the programs in {} are {ours}, and data files \
         are read by their own version only; install PostgreSQL {source} here",
        bin.dir.display()
    )))
}

/// pg_basebackup receives the log by a second process, which holds a connection of its own.
fn run_backup(
    cancellation: &Cancellation,
    account: &Account,
    command: &mut Command,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let doing = || "run pg_basebackup".to_owned();
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = account.start(command, Ending::TOOL).during(|| format!("{}: start {LAUNCHER}", doing()))?;
    cancellation.reaches(&program.group);
    let mut last_words = VecDeque::new();
    if let Some(stderr) = program.child.stderr.take() {
        let mut reader = BufReader::new(stderr);
        while let Some(line) = next_line(&mut reader).during(doing)? {
            if let Some((done, total)) = parse_progress(&line) {
                progress(done, total);
            } else if !line.trim().is_empty() {
                if last_words.len() == LAST_WORDS_LINES_MAX {
                    last_words.pop_front();
                }
                last_words.push_back(line);
            }
        }
    }
    let status = program.child.wait().during(doing)?;
    cancellation.check(BACKUP)?;
    if status.success() {
        return Ok(());
    }
    let said = Vec::from(last_words).join("\n");
    Err(sorted(Error::setup(format!("copy the source by pg_basebackup: {status}: {said}"))))
}

/// What passes by itself is worth another attempt; all else (roles, pg_hba.conf, disk) is not.
fn sorted(mut error: Error) -> Error {
    const PASSING: [&str; 9] = [
        "Connection refused",
        "timeout expired",
        "Connection timed out",
        "server closed the connection unexpectedly",
        "could not receive data",
        "the database system is starting up",
        "the database system is shutting down",
        "too many clients already",
        // The log went round while the copy was made: a busy platform.
        "has already been removed",
    ];
    if PASSING.iter().any(|text| error.context.contains(text)) {
        error.kind = Kind::Retry;
    }
    error
}

/// Up to a line feed or a carriage return, whichever the tool ends its progress with.
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

/// From "  123/4567 kB (2%), 0/1 tablespace", or "  123 kB, ..." where the total is unknown.
pub(crate) fn parse_progress(line: &str) -> Option<(u64, Option<u64>)> {
    let (figures, _) = line.trim_start().split_once(" kB")?;
    let kilobytes = |text: &str| Some(text.trim().parse::<u64>().ok()? * 1024);
    match figures.split_once('/') {
        Some((done, total)) => Some((kilobytes(done)?, Some(kilobytes(total)?))),
        None => Some((kilobytes(figures)?, None)),
    }
}

/// An equals sign separates the two sides of a tablespace mapping.
fn escaped(location: &str) -> String {
    location.replace('=', "\\=")
}

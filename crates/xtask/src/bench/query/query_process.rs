//! A program that runs queries one after the other: psql connected to a server, or DuckDB in a script. Both read
//! queries from their standard input.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::project::command_text;

/// The line that ends an answer; no row of a result equals it.
const END: &str = "--end-of-answer--";

/// A running program; it is killed when this is dropped.
pub struct QueryProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: PathBuf,
    /// The process whose memory is measured: behind a client, the server.
    pid: u32,
}

/// The result of one query.
pub struct Answer {
    pub seconds: f64,
    /// The peak of the working process's memory during this query.
    pub peak_mib: f64,
    /// Lines of CSV, the header first.
    pub lines: Vec<String>,
}

impl QueryProcess {
    /// Starts the program. `worker` is the process that does the work, where it is another one. The standard error is
    /// written to the file `errors`.
    pub fn start(command: &mut Command, worker: Option<u32>, errors: PathBuf) -> Result<Self> {
        let error_file = fs::File::create(&errors).with_context(|| format!("write {}", errors.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(error_file)
            .spawn()
            .with_context(|| format!("start {}", command_text(command)))?;
        let input = child.stdin.take().context("write to a program that answers")?;
        let output = child.stdout.take().context("read from a program that answers")?;
        let pid = worker.unwrap_or(child.id());
        Ok(Self { child, input, output: BufReader::new(output), errors, pid })
    }

    /// Runs a query and waits for its rows.
    pub fn ask(&mut self, sql: &str) -> Result<Answer> {
        // Resets the peak. Where the kernel can't, the peak is that of all queries so far.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.pid), "5");
        let start = Instant::now();
        let sent = write!(self.input, "{sql};\n\\echo {END}\n").and_then(|()| self.input.flush());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).context("read an answer")?;
            if sent.is_err() || read == 0 {
                let errors = fs::read_to_string(&self.errors).unwrap_or_default();
                bail!("it ended during a query: {}", errors.trim());
            }
            let line = line.trim_end_matches('\n');
            if line == END {
                break;
            }
            lines.push(line.to_owned());
        }
        Ok(Answer { seconds: start.elapsed().as_secs_f64(), peak_mib: peak_mib(self.pid)?, lines })
    }
}

impl Drop for QueryProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peak of a process's resident memory since the last reset, in MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("find the peak of memory in {path}"))? / 1024.0)
}

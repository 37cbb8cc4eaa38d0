//! A program that answers queries, one after the other, for as long as it lives: psql connected to
//! a server, or DuckDB in a script. Both are asked the same way, through their standard input.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::project::shown;

/// Ends an answer; no value of a result looks like it.
const END: &str = "--end-of-answer--";

pub struct Asked {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    said: PathBuf,
    /// Whose memory counts: the server behind a client.
    pid: u32,
}

pub struct Answer {
    pub seconds: f64,
    /// Of the process that did the work; only while this answer was made.
    pub peak_mib: f64,
    /// CSV, its header first.
    pub lines: Vec<String>,
}

impl Asked {
    /// `worker` is the process that does the work, where it is not this one. What the program writes
    /// to its standard error goes to `said`.
    pub fn start(command: &mut Command, worker: Option<u32>, said: PathBuf) -> Result<Self> {
        let errors = fs::File::create(&said).with_context(|| format!("write {}", said.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", shown(command)))?;
        let input = child.stdin.take().context("write to a program that answers")?;
        let output = child.stdout.take().context("read from a program that answers")?;
        let pid = worker.unwrap_or(child.id());
        Ok(Self { child, input, output: BufReader::new(output), said, pid })
    }

    pub fn ask(&mut self, sql: &str) -> Result<Answer> {
        // The kernel begins a new peak. Where it can't, the peak is that of all queries so far.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.pid), "5");
        let start = Instant::now();
        let asked = write!(self.input, "{sql};\n\\echo {END}\n").and_then(|()| self.input.flush());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).context("read an answer")?;
            if asked.is_err() || read == 0 {
                let said = fs::read_to_string(&self.said).unwrap_or_default();
                bail!("it ended instead of answering: {}", said.trim());
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

impl Drop for Asked {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most that was resident since the last reset.
pub fn peak_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("find the peak of memory in {path}"))? / 1024.0)
}

//! The list of exceptions: `RULE PATH[:NAME] LIMIT`, one a line, `#` begins a comment.

use anyhow::{Context, Result, bail};

/// A finding that is allowed, and its exact measure.
#[derive(Debug, PartialEq, Eq)]
pub struct Exception {
    pub rule: String,
    pub place: String,
    pub limit: usize,
}

/// The exceptions of the file, one a line: rule, place, limit.
pub fn parse(text: &str) -> Result<Vec<Exception>> {
    let mut all: Vec<Exception> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        let exception = match words[..] {
            [] => continue,
            [rule, place, limit] => Exception {
                rule: rule.to_owned(),
                place: place.to_owned(),
                limit: limit.parse().with_context(|| format!("exception in line {}: its limit", at + 1))?,
            },
            _ => bail!("exception in line {}: it must be RULE PATH[:NAME] LIMIT", at + 1),
        };
        if all.iter().any(|e| e.rule == exception.rule && e.place == exception.place) {
            bail!("exception in line {}: listed twice", at + 1);
        }
        all.push(exception);
    }
    Ok(all)
}

//! The style of the house as a check: where a size or a name has no check, it decays within months.
//!
//! Reads the files that git tracks or would track, builds nothing, changes nothing. What is there
//! for a good reason stands in `tidy-exceptions.txt`, a list that may only shrink.

mod exceptions;
mod rust;

mod circles;
mod documented;
mod edges;
mod glossary;
mod links;
mod modules;
mod text;

#[cfg(test)]
mod tests;

use std::fs;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use exceptions::Exception;

const EXCEPTIONS: &str = "crates/xtask/tidy-exceptions.txt";

/// One file of the project, by its path from the root.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Something at `place` ("path" or "path:name") that measures more than its rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static str,
    pub place: String,
    /// First line it was seen at; 0 where it is about the whole file.
    pub line: usize,
    /// Lines for the rules of size; how often it was seen for all others.
    pub measure: usize,
    pub says: String,
}

impl File {
    /// True for Rust code.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// True for documentation in Markdown.
    pub fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// The folder's name under `crates/`.
    pub fn crate_name(&self) -> Option<&str> {
        Some(self.path.strip_prefix("crates/")?.split_once('/')?.0)
    }

    /// Code that only tests, examples or benchmarks run.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || ["/tests/", "/examples/", "/benches/"].iter().any(|folder| self.path.contains(folder))
    }

    /// Something seen once, at a line.
    pub fn finding(&self, rule: &'static str, line: usize, says: impl Into<String>) -> Finding {
        Finding { rule, place: self.path.clone(), line, measure: 1, says: says.into() }
    }
}

/// Checks all files of the project; prints a line for each finding that no exception allows.
pub fn run(project: &Project) -> Result<()> {
    let mut files = Vec::new();
    for path in project.files()? {
        let bytes = fs::read(project.root.join(&path)).with_context(|| format!("read {path}"))?;
        // What is not text has its place (links may lead there), but nothing to check; neither has a licence's wording.
        let is_licence = path.rsplit('/').next().is_some_and(|name| name.starts_with("LICENSE"));
        let text = if is_licence { String::new() } else { String::from_utf8(bytes).unwrap_or_default() };
        files.push(File { path, text });
    }
    let listed = files.iter().find(|f| f.path == EXCEPTIONS).map_or("", |f| &f.text);
    let wrong = verdict(check(&files), &exceptions::parse(listed)?);
    for line in &wrong {
        eprintln!("{line}");
    }
    match wrong.len() {
        0 => {
            eprintln!("tidy: {} files", files.len());
            Ok(())
        }
        count => bail!("tidy: {count} findings"),
    }
}

fn check(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        if file.is_rust() {
            rust::check(file, &mut found);
        }
        text::check(file, &mut found);
    }
    edges::check(files, &mut found);
    circles::check(files, &mut found);
    modules::check(files, &mut found);
    links::check(files, &mut found);
    glossary::check(files, &mut found);
    documented::check(files, &mut found);
    found
}

/// What no exception allows, one line each.
fn verdict(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut needed = vec![false; exceptions.len()];
    for finding in gathered(findings) {
        let Finding { rule, place, line, measure, says } = &finding;
        let listed = exceptions.iter().position(|e| e.rule == *rule && e.place == *place);
        let allowed = listed.map(|at| {
            needed[at] = true;
            exceptions[at].limit
        });
        if allowed == Some(*measure) {
            continue;
        }
        let path = place.split(':').next().unwrap_or(place);
        let at = if *line > 0 { format!("{path}:{line}") } else { path.to_owned() };
        wrong.push(match allowed {
            None => format!("{at}: {rule}: {says}"),
            Some(limit) if limit < *measure => {
                format!("{at}: {rule}: {says}: {measure}, its exception allows {limit}")
            }
            Some(limit) => format!("{EXCEPTIONS}: {rule} {place}: lower its limit from {limit} to {measure}"),
        });
    }
    for (exception, _) in exceptions.iter().zip(needed).filter(|(_, needed)| !needed) {
        wrong.push(format!("{EXCEPTIONS}: {} {}: no longer needed, remove the line", exception.rule, exception.place));
    }
    wrong
}

/// One finding a rule and place: the longest of a size, the number of all others.
fn gathered(findings: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for finding in findings {
        match all.iter_mut().find(|f| f.rule == finding.rule && f.place == finding.place) {
            Some(seen) if finding.rule.ends_with("-lines") => {
                if seen.measure < finding.measure {
                    *seen = finding;
                }
            }
            Some(seen) => {
                seen.measure += finding.measure;
                if !seen.says.contains(&finding.says) {
                    seen.says = format!("{}; line {}: {}", seen.says, finding.line, finding.says);
                }
            }
            None => all.push(finding),
        }
    }
    all
}

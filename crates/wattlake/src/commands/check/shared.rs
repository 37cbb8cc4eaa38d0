//! Findings that many tables share, told once with their number and the line that settles all of them.

use transfer::preflight::{Finding, Severity, Shared};

/// Of so many the names are told.
const NAMES: usize = 5;

/// The findings as people read them, each group in the place of its first. `file` is the transfer's.
pub fn together(findings: &[Finding], file: &str) -> Vec<Finding> {
    let group = |finding: &Finding| finding.shared.map(|shared| (finding.severity, shared));
    let mut told = Vec::new();
    for (at, finding) in findings.iter().enumerate() {
        let members: Vec<&Finding> = findings.iter().filter(|other| group(other) == group(finding)).collect();
        match group(finding) {
            Some((severity, shared)) if members.len() > 1 => {
                if findings[..at].iter().all(|before| group(before) != group(finding)) {
                    told.push(one(severity, shared, &members, file));
                }
            }
            _ => told.push(finding.clone()),
        }
    }
    told
}

fn one(severity: Severity, shared: Shared, members: &[&Finding], file: &str) -> Finding {
    let names: Vec<&str> = members.iter().take(NAMES).map(|finding| finding.subject.as_str()).collect();
    let more = members.len() - names.len();
    let names = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
    let (what, hint) = match shared {
        Shared::NoCursor => (
            "they have no cursor that shows what is new",
            format!(
                "on_no_cursor = \"reload\" at the top of {file} reads them whole each time; \
                 cursor = \"...\" under [tables.\"SCHEMA.TABLE\"] carries one incrementally"
            ),
        ),
        Shared::Reloaded => (
            "without a cursor they are read whole each time, and rows purged at the source leave them",
            format!("cursor = \"...\" under [tables.\"SCHEMA.TABLE\"] of {file} carries one incrementally"),
        ),
        Shared::NoKey => (
            "they have no key: rows can't be told apart, so validate compares counts and sums only",
            format!("key = [...] under [tables.\"SCHEMA.TABLE\"] of {file}, where some columns identify a row"),
        ),
    };
    Finding {
        severity,
        subject: format!("{} tables", members.len()),
        what: format!("{what}: {names}"),
        hint: Some(hint),
        shared: Some(shared),
    }
}

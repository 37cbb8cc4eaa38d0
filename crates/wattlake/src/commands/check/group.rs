//! Groups findings that many tables share into one, with their number and a hint that applies to all of them.

use transfer::preflight::{CommonFinding, Finding, Severity};

/// The most tables that a group names; of the others it gives the number.
const NAMES: usize = 5;

/// The findings for people to read, each group at the place of its first finding. `file` is the transfer's file.
pub fn group_findings(findings: &[Finding], file: &str) -> Vec<Finding> {
    let group = |finding: &Finding| finding.common.map(|shared| (finding.severity, shared));
    let mut shown = Vec::new();
    for (at, finding) in findings.iter().enumerate() {
        let members: Vec<&Finding> = findings.iter().filter(|other| group(other) == group(finding)).collect();
        match group(finding) {
            Some((severity, shared)) if members.len() > 1 => {
                if findings[..at].iter().all(|before| group(before) != group(finding)) {
                    shown.push(group_finding(severity, shared, &members, file));
                }
            }
            _ => shown.push(finding.clone()),
        }
    }
    shown
}

fn group_finding(severity: Severity, shared: CommonFinding, members: &[&Finding], file: &str) -> Finding {
    let names: Vec<&str> = members.iter().take(NAMES).map(|finding| finding.subject.as_str()).collect();
    let more = members.len() - names.len();
    let names = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
    let (what, hint) = match shared {
        CommonFinding::NoCursor => (
            "no cursor shows which rows are new",
            format!(
                "on_no_cursor = \"reload\" at the top of {file} reads them whole each time; \
                 cursor = \"...\" under [tables.\"SCHEMA.TABLE\"] transfers one table incrementally"
            ),
        ),
        CommonFinding::Reloaded => (
            "without a cursor they are read whole each time, and rows purged at the source are lost",
            format!("cursor = \"...\" under [tables.\"SCHEMA.TABLE\"] of {file} transfers one table incrementally"),
        ),
        CommonFinding::NoKey => (
            "they have no key: validate can compare counts and sums only",
            format!("key = [...] under [tables.\"SCHEMA.TABLE\"] of {file}, where some columns identify a row"),
        ),
    };
    Finding {
        severity,
        subject: format!("{} tables", members.len()),
        what: format!("{what}: {names}"),
        hint: Some(hint),
        common: Some(shared),
    }
}

//! Every text file: no tabs, no trailing spaces, no path of one's own machine.

use super::{File, Finding};

/// Written by tools, or where a tab is the format.
const FREE: [&str; 5] = [".lock", ".tsv", ".patch", ".diff", ".snap"];

/// In two pieces, or this file would be its own finding.
const HOMES: [&str; 2] = [concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Adds what is wrong in one text file.
pub fn check(file: &File, found: &mut Vec<Finding>) {
    let free = FREE.iter().any(|end| file.path.ends_with(end));
    for (at, line) in file.text.lines().enumerate() {
        let number = at + 1;
        if !free && line.contains('\t') {
            found.push(file.finding("tab", number, "a tab character"));
        }
        if !free && line.ends_with([' ', '\r']) {
            found.push(file.finding("trailing-space", number, "space at the end of the line"));
        }
        if HOMES.iter().any(|home| names_home(line, home)) {
            found.push(file.finding("home-path", number, "a path of one's own machine"));
        }
    }
}

/// True where the path begins there: not inside a longer path or an address.
fn names_home(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-})*".contains(c))
    })
}

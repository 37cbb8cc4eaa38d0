//! Markdown: every relative link leads to a file of the project, and every anchor to a heading.

use std::collections::BTreeMap;

use super::modules::normal;
use super::{File, Finding};

/// Adds links that lead nowhere.
pub fn check(files: &[File], found: &mut Vec<Finding>) {
    let anchors: BTreeMap<&str, Vec<String>> =
        files.iter().filter(|f| f.is_markdown()).map(|f| (f.path.as_str(), headings(&f.text))).collect();
    for file in files.iter().filter(|f| f.is_markdown()) {
        for (line, link) in links(&file.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (to, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if to.is_empty() { file.path.clone() } else { beside(&file.path, to) };
            if !exists(files, &target) {
                found.push(file.finding("link", line, format!("`{link}` leads nowhere")));
            } else if !anchor.is_empty()
                && anchors.get(target.as_str()).is_some_and(|known| !known.iter().any(|a| a == anchor))
            {
                found.push(file.finding("link", line, format!("`{link}`: no such heading there")));
            }
        }
    }
}

fn beside(path: &str, to: &str) -> String {
    match to.strip_prefix('/') {
        Some(from_root) => normal(from_root),
        None => normal(&format!("{}/{to}", path.rsplit_once('/').map_or("", |(folder, _)| folder))),
    }
}

fn exists(files: &[File], target: &str) -> bool {
    let folder = format!("{target}/");
    target.is_empty() || files.iter().any(|f| f.path == target || f.path.starts_with(&folder))
}

/// Lines that are prose, with their numbers; what is between fences or backquotes is blanked.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let start = line.trim_start();
        match fence {
            Some(mark) => {
                if start.starts_with(mark) {
                    fence = None;
                }
                None
            }
            None => {
                fence = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
                fence.is_none().then(|| (at + 1, without_code(line)))
            }
        }
    })
}

fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    // An unpaired backquote is only a backquote: its last part is prose.
    let paired = if parts.len() % 2 == 1 { parts.len() } else { parts.len() - 1 };
    parts.iter().enumerate().filter(|(at, _)| at % 2 == 0 || *at >= paired).map(|(_, part)| *part).collect()
}

fn links(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (number, line) in prose(text) {
        for (open, close) in [("](", ')'), ("href=\"", '"'), ("src=\"", '"')] {
            for (at, _) in line.match_indices(open) {
                let rest = &line[at + open.len()..];
                // A title may follow the address.
                let link = rest.split(close).next().unwrap_or(rest).split_whitespace().next().unwrap_or("");
                all.push((number, link.trim_matches(['<', '>']).to_owned()));
            }
        }
        if let Some((label, link)) = line.trim_start().split_once("]: ")
            && label.starts_with('[')
            && !label.starts_with("[^")
        {
            all.push((number, link.split_whitespace().next().unwrap_or("").to_owned()));
        }
    }
    all
}

/// Anchors of the headings, as GitHub makes them; the second "Errors" is `errors-1`.
fn headings(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let slug: String =
            kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-");
        let times = seen.entry(slug.clone()).or_default();
        all.push(if *times == 0 { slug } else { format!("{slug}-{times}") });
        *times += 1;
    }
    all
}

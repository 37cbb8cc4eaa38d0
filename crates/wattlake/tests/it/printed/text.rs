//! Finds the commands of pages: fenced blocks, the commands in them, and commands within sentences.

use std::fs;
use std::path::Path;

/// A fenced block of a page.
pub struct Block {
    /// `docs/lake.md:73`, of its first line.
    pub place: String,
    /// The word after the opening fence, or empty.
    pub language: String,
    /// The lines of the block.
    pub text: String,
}

/// The text of a file of the repository, by its path from the root.
pub fn page(name: &str) -> String {
    fs::read_to_string(Path::new("../..").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names of README.md and every page of docs/.
pub fn pages() -> Vec<String> {
    let names = fs::read_dir("../../docs").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// The fenced blocks of a page.
pub fn blocks(name: &str) -> Vec<Block> {
    let text = page(name);
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                let place = format!("{name}:{}", at + 2);
                open = Some(Block { place, language: language.to_owned(), text: String::new() });
            }
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{name}: a block does not end");
    blocks
}

impl Block {
    /// The file whose content the block is, which its first lines name: `# functions/price/price.py`.
    pub fn file(&self) -> Option<&str> {
        let names = self.text.lines().take(2).filter_map(|line| line.strip_prefix("# "));
        let is_file = |name: &&str| ["functions/", "layers/"].iter().any(|folder| name.starts_with(folder));
        names.filter(|name| !name.contains(' ')).find(is_file)
    }

    /// The commands of the block: every line of a `sh` block, and lines that begin with `$ ` or `wattlake ` in others.
    /// A command continues after a backslash and within quotes.
    pub fn commands(&self) -> Vec<String> {
        let (mut commands, mut lines) = (Vec::new(), self.text.lines());
        while let Some(line) = lines.next() {
            let first = match self.language.as_str() {
                "sh" => Some(line).filter(|line| !line.trim().is_empty() && !line.starts_with('#')),
                _ => line.strip_prefix("$ ").or(Some(line).filter(|line| line.starts_with("wattlake "))),
            };
            let Some(first) = first else { continue };
            let mut command = first.to_owned();
            // A comment may have an apostrophe.
            let is_open = |command: &str| {
                let code: Vec<&str> = command.lines().filter_map(|line| line.split(" #").next()).collect();
                code.concat().matches('\'').count() % 2 == 1
            };
            while command.ends_with('\\') || is_open(&command) {
                let next = lines.next().unwrap_or_else(|| panic!("{}: {command} does not end", self.place));
                command = format!("{command}\n{next}");
            }
            commands.push(command);
        }
        commands
    }
}

/// Commands of `wattlake` between backticks in sentences and tables, each on one line.
pub fn within_sentences(name: &str) -> Vec<String> {
    let text = page(name);
    let mut is_code = false;
    // The sentences of docs/command-line.md are in blocks.
    let is_sentence = |line: &&str| {
        is_code ^= line.starts_with("```");
        !is_code || name == "docs/command-line.md"
    };
    let text = text.lines().filter(is_sentence).filter(|line| !line.starts_with("```"));
    let text = text.map(str::trim).collect::<Vec<_>>().join(" ");
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter(|span| span.starts_with("wattlake ")).map(str::to_owned).collect()
}

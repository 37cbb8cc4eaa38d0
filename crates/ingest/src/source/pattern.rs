//! Patterns of file names, such as `releves/*.csv`, and the folder that has to be listed for each.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::ErrorContext;
use crate::{Kind, Result};

/// A pattern of names with `/` between folders: `*` and `?` within a folder, `**` across folders, `[ab]`, `{a,b}`.
/// A file name that begins with a dot matches only a pattern whose last part does: uploads often have such names until
/// they are complete.
#[derive(Debug, Clone)]
pub struct Pattern {
    matcher: GlobMatcher,
    folder: String,
    depth_max: usize,
    matches_hidden: bool,
}

/// How deep `**` searches: deeper than any tree of deliveries, and a bound for loops of links.
const DEPTH_MAX: usize = 32;

impl Pattern {
    /// Parses a pattern, relative to the source; a leading `./` or `/` is ignored.
    ///
    /// # Errors
    /// `FixInput` where the text is not a pattern.
    pub fn parse(text: &str) -> Result<Pattern> {
        let text = text.trim_start_matches("./").trim_start_matches('/');
        let matcher = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .during(Kind::FixInput, format!("read the pattern {text:?}"))?
            .compile_matcher();
        let parts: Vec<&str> = text.split('/').collect();
        let plain =
            parts[..parts.len() - 1].iter().take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).count();
        let depth_max = if text.contains("**") { DEPTH_MAX } else { parts.len() - plain };
        let matches_hidden = parts.last().is_some_and(|last| last.starts_with('.'));
        Ok(Pattern { matcher, folder: parts[..plain].join("/"), depth_max, matches_hidden })
    }

    /// Whether the pattern matches a name relative to the source.
    pub fn matches(&self, name: &str) -> bool {
        let last = name.rsplit('/').next().unwrap_or(name);
        (self.matches_hidden || !last.starts_with('.')) && self.matcher.is_match(name)
    }

    /// The folder that contains every match; empty for the source's own.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// How many levels of [`Pattern::folder`] have to be listed; 1 means the files in it.
    pub fn depth_max(&self) -> usize {
        self.depth_max
    }
}

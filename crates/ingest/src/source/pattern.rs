//! Which names of a source are meant: `releves/*.csv`, with the folder that is worth listing.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::During;
use crate::{Kind, Result};

/// A pattern over a name with `/` between its folders: `*` and `?` within a folder, `**` across, `[ab]`, `{a,b}`.
/// A name that begins with a dot is met only by a pattern that writes the dot: uploads are often hidden until whole.
#[derive(Debug, Clone)]
pub struct Pattern {
    matcher: GlobMatcher,
    folder: String,
    depth_max: usize,
    means_hidden: bool,
}

/// Deeper than any tree of deliveries; a loop of links ends here at the latest.
const DEPTH_MAX: usize = 32;

impl Pattern {
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
        let means_hidden = parts.last().is_some_and(|last| last.starts_with('.'));
        Ok(Pattern { matcher, folder: parts[..plain].join("/"), depth_max, means_hidden })
    }

    pub fn matches(&self, name: &str) -> bool {
        let last = name.rsplit('/').next().unwrap_or(name);
        (self.means_hidden || !last.starts_with('.')) && self.matcher.is_match(name)
    }

    /// All that it can match lies below this folder; empty for the source's own.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// How many levels below [`Pattern::folder`] are worth a look; 1 for the files in it.
    pub fn depth_max(&self) -> usize {
        self.depth_max
    }
}

//! What was probably meant by a name that is not known.

/// The known name within a third of its letters by edits, whatever their case; the nearest, where several are.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let letters = word.chars().count().max(candidate.chars().count());
            *distance <= (letters / 3).max(1)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint in one line: `nearest known key: "source"`, or all known names where none is near; `None` where there are none.
pub fn suggestion(noun: &str, word: &str, known: &[&str]) -> Option<String> {
    if known.is_empty() {
        return None;
    }
    Some(match nearest(word, known.iter().copied()) {
        Some(near) => format!("nearest {noun}: {near:?}"),
        None => format!("{noun}s: {}", quoted_list(known.iter().copied())),
    })
}

/// `"a", "b", "c"`.
pub fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{nearest, suggestion};

    #[test]
    fn a_third_of_the_letters_may_differ() {
        assert_eq!(nearest("sorce", ["source", "target"]), Some("source"));
        assert_eq!(nearest("Cursor", ["cursor", "curse"]), Some("cursor"));
        assert_eq!(nearest("mode", ["source", "target"]), None);
    }

    #[test]
    fn a_suggestion_falls_back_to_all_names() {
        assert_eq!(suggestion("known key", "tarjet", &["source", "target"]).unwrap(), "nearest known key: \"target\"");
        assert_eq!(suggestion("known key", "x", &["source", "target"]).unwrap(), "known keys: \"source\", \"target\"");
        assert_eq!(suggestion("known key", "x", &[]), None);
    }
}

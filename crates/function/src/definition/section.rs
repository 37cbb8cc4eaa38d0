//! Reads a table of a TOML file key by key. A value of the wrong form is reported with its position and a hint.
//! Keys that were never read are reported as unknown.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use base::{Problems, nearest, parse_duration};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A table of which keys are being read.
pub(super) struct Section<'t> {
    name: String,
    span: Range<usize>,
    table: DeTable<'t>,
    /// The keys that were read, present or not.
    known: Vec<&'static str>,
}

/// Keys with their texts.
type Texts = Vec<(Spanned<String>, Spanned<String>)>;

impl<'t> Section<'t> {
    /// A table; `name` is for messages.
    pub fn new(name: &str, span: Range<usize>, table: DeTable<'t>) -> Section<'t> {
        Section { name: name.to_owned(), span, table, known: Vec::new() }
    }

    /// Where the table is in the file, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// A text that is not empty.
    pub fn text(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Spanned<String>> {
        let (span, value) = self.take(key)?;
        filled_text(key, span, value, report)
    }

    /// A text that is not empty and must be there; `what` is the hint where it is missing.
    pub fn required_text(
        &mut self,
        key: &'static str,
        what: &str,
        report: &mut Problems<'_>,
    ) -> Option<Spanned<String>> {
        // A misspelt key is reported as unknown only: one mistake is one problem.
        let nearly = self.table.keys().any(|there| nearest(there.get_ref(), [key]).is_some());
        if !nearly {
            report.add(self.span(), format!("{} has no {key:?}", self.name), what.to_owned());
        }
        self.text(key, report)
    }

    /// An array of texts; empty where the key is missing.
    pub fn texts(&mut self, key: &'static str, report: &mut Problems<'_>) -> Vec<Spanned<String>> {
        let Some((_, items)) = self.array(key, report) else { return Vec::new() };
        let items = items.into_iter().map(|item| (item.span(), item.into_inner()));
        items.filter_map(|(span, value)| filled_text(key, span, value, report)).collect()
    }

    /// An integer in a range.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u64>, report: &mut Problems<'_>) -> Option<u64> {
        self.spanned_number(key, range, report).map(Spanned::into_inner)
    }

    /// An integer in a range, with its position.
    pub fn spanned_number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        report: &mut Problems<'_>,
    ) -> Option<Spanned<u64>> {
        let (span, value) = self.take(key)?;
        let DeValue::Integer(number) = &value else {
            report.add(span, expected(key, "an integer", &value), None);
            return None;
        };
        let read = i128::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| u64::try_from(n).ok());
        let Some(read) = read.filter(|read| range.contains(read)) else {
            let (least, most) = (range.start(), range.end());
            report.add(span, format!("{key:?}: expected {least} to {most}, found {}", number.as_str()), None);
            return None;
        };
        Some(Spanned::new(span, read))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<bool> {
        let (span, value) = self.take(key)?;
        if let DeValue::Boolean(flag) = value {
            return Some(flag);
        }
        report.add(span, expected(key, "true or false", &value), None);
        None
    }

    /// A duration in a range.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        report: &mut Problems<'_>,
    ) -> Option<Duration> {
        let written = self.text(key, report)?;
        duration(key, &written, &range, report)
    }

    /// An array of at most `count_max` durations, each in a range.
    pub fn durations(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        count_max: usize,
        report: &mut Problems<'_>,
    ) -> Option<Spanned<Vec<Duration>>> {
        let (span, items) = self.array(key, report)?;
        if items.len() > count_max {
            report.add(span.clone(), format!("{key:?}: expected at most {count_max} durations"), None);
        }
        let mut all = Vec::new();
        for item in items {
            let written = text(key, item.span(), item.into_inner(), report)?;
            all.push(duration(key, &written, &range, report)?);
        }
        Some(Spanned::new(span, all))
    }

    /// A table inside this one.
    pub fn section(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Section<'t>> {
        match self.take(key)? {
            (span, DeValue::Table(table)) => Some(Section::new(&format!("{key:?}"), span, table)),
            (span, value) => {
                report.add(span, expected(key, "a table", &value), None);
                None
            }
        }
    }

    /// All keys of the table with their texts, which may be empty.
    pub fn into_texts(self, report: &mut Problems<'_>) -> Texts {
        let mut all = Vec::new();
        for (key, value) in self.table {
            let name = Spanned::new(key.span(), key.get_ref().to_string());
            if let Some(value) = text(name.get_ref(), value.span(), value.into_inner(), report) {
                all.push((name, value));
            }
        }
        all
    }

    /// Reports the keys that were not read as unknown. True where there are none.
    pub fn finish(self, report: &mut Problems<'_>) -> bool {
        for key in self.table.keys() {
            let word = key.get_ref();
            let hint = nearest(word, self.known.iter().copied()).map_or_else(
                || format!("known keys: {}", self.known.join(", ")),
                |near| format!("nearest known key: {near:?}"),
            );
            report.add(key.span(), format!("unknown key {:?}", &**word), hint);
        }
        self.table.is_empty()
    }

    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, DeValue<'t>)> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        Some((value.span(), value.into_inner()))
    }

    fn array(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<(Range<usize>, DeArray<'t>)> {
        match self.take(key)? {
            (span, DeValue::Array(items)) => Some((span, items)),
            (span, value) => {
                report.add(span, expected(key, "an array", &value), None);
                None
            }
        }
    }
}

fn filled_text(
    key: &str,
    span: Range<usize>,
    value: DeValue<'_>,
    report: &mut Problems<'_>,
) -> Option<Spanned<String>> {
    let text = text(key, span, value, report)?;
    if text.get_ref().is_empty() {
        report.add(text.span(), format!("{key:?} is empty"), None);
        return None;
    }
    Some(text)
}

fn text(key: &str, span: Range<usize>, value: DeValue<'_>, report: &mut Problems<'_>) -> Option<Spanned<String>> {
    match value {
        DeValue::String(text) => Some(Spanned::new(span, text.into_owned())),
        value => {
            let simple = !matches!(value, DeValue::Array(_) | DeValue::Table(_));
            let hint = simple.then(|| "put the value in quotes".to_owned());
            report.add(span, expected(key, "a string", &value), hint);
            None
        }
    }
}

/// Reads a duration and checks its range.
fn duration(
    key: &str,
    written: &Spanned<String>,
    range: &RangeInclusive<Duration>,
    report: &mut Problems<'_>,
) -> Option<Duration> {
    let text = written.get_ref().as_str();
    let Some(read) = parse_duration(text) else {
        let hint = "write a whole number and ms, s, min, h or d: \"90s\"".to_owned();
        report.add(written.span(), format!("{key:?}: {text:?} is not a duration"), hint);
        return None;
    };
    if range.contains(&read) {
        return Some(read);
    }
    let bounds = format!("{} to {} seconds", range.start().as_secs(), range.end().as_secs());
    report.add(written.span(), format!("{key:?}: expected {bounds}, found {text:?}"), None);
    None
}

fn expected(key: &str, what: &str, found: &DeValue<'_>) -> String {
    let form = found.type_str();
    let article = if form.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{key:?}: expected {what}, found {article} {form}")
}

//! A table of a TOML file, read key by key: what has the wrong form is reported with its place and
//! its hint, and what nobody asked for is an unknown key.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Problem;

pub(super) struct Report<'a> {
    text: &'a str,
    found: Vec<(usize, Problem)>,
}

impl<'a> Report<'a> {
    pub fn new(text: &'a str) -> Report<'a> {
        Report { text, found: Vec::new() }
    }

    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, hint: impl Into<Option<String>>) {
        let mut end = span.start.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        self.found.push((span.start, Problem { line, column, what: what.into(), hint: hint.into() }));
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }
}

pub(super) struct Section<'t> {
    name: String,
    span: Range<usize>,
    table: DeTable<'t>,
    known: Vec<&'static str>,
}

type Texts = Vec<(Spanned<String>, Spanned<String>)>;

impl<'t> Section<'t> {
    pub fn new(name: &str, span: Range<usize>, table: DeTable<'t>) -> Section<'t> {
        Section { name: name.to_owned(), span, table, known: Vec::new() }
    }

    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub fn text(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<Spanned<String>> {
        let (span, value) = self.take(key)?;
        filled_text(key, span, value, report)
    }

    pub fn required_text(&mut self, key: &'static str, what: &str, report: &mut Report<'_>) -> Option<Spanned<String>> {
        // A key that is nearly the missing one is reported as unknown: one mistake, one problem.
        let nearly = self.table.keys().any(|there| nearest(there.get_ref(), &[key]).is_some());
        if !nearly {
            report.add(self.span(), format!("{} has no {key:?}", self.name), what.to_owned());
        }
        self.text(key, report)
    }

    pub fn texts(&mut self, key: &'static str, report: &mut Report<'_>) -> Vec<Spanned<String>> {
        let Some((_, items)) = self.array(key, report) else { return Vec::new() };
        let items = items.into_iter().map(|item| (item.span(), item.into_inner()));
        items.filter_map(|(span, value)| filled_text(key, span, value, report)).collect()
    }

    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u64>, report: &mut Report<'_>) -> Option<u64> {
        self.spanned_number(key, range, report).map(Spanned::into_inner)
    }

    pub fn spanned_number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        report: &mut Report<'_>,
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

    pub fn flag(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<bool> {
        let (span, value) = self.take(key)?;
        if let DeValue::Boolean(flag) = value {
            return Some(flag);
        }
        report.add(span, expected(key, "true or false", &value), None);
        None
    }

    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Duration> {
        let written = self.text(key, report)?;
        duration(key, &written, &range, report)
    }

    pub fn durations(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        count_max: usize,
        report: &mut Report<'_>,
    ) -> Option<Spanned<Vec<Duration>>> {
        let (span, items) = self.array(key, report)?;
        if items.len() > count_max {
            report.add(span.clone(), format!("{key:?}: at most {count_max}"), None);
        }
        let mut all = Vec::new();
        for item in items {
            let written = text(key, item.span(), item.into_inner(), report)?;
            all.push(duration(key, &written, &range, report)?);
        }
        Some(Spanned::new(span, all))
    }

    pub fn section(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<Section<'t>> {
        match self.take(key)? {
            (span, DeValue::Table(table)) => Some(Section::new(&format!("{key:?}"), span, table)),
            (span, value) => {
                report.add(span, expected(key, "a table", &value), None);
                None
            }
        }
    }

    /// All of it, as a table of texts with whatever keys; they may be empty.
    pub fn into_texts(self, report: &mut Report<'_>) -> Texts {
        let mut all = Vec::new();
        for (key, value) in self.table {
            let name = Spanned::new(key.span(), key.get_ref().to_string());
            if let Some(value) = text(name.get_ref(), value.span(), value.into_inner(), report) {
                all.push((name, value));
            }
        }
        all
    }

    /// What is left has been asked for by nobody. True where nothing is.
    pub fn finish(self, report: &mut Report<'_>) -> bool {
        for key in self.table.keys() {
            let word = key.get_ref();
            let hint = nearest(word, &self.known).map_or_else(
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

    fn array(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<(Range<usize>, DeArray<'t>)> {
        match self.take(key)? {
            (span, DeValue::Array(items)) => Some((span, items)),
            (span, value) => {
                report.add(span, expected(key, "an array", &value), None);
                None
            }
        }
    }
}

fn filled_text(key: &str, span: Range<usize>, value: DeValue<'_>, report: &mut Report<'_>) -> Option<Spanned<String>> {
    let text = text(key, span, value, report)?;
    if text.get_ref().is_empty() {
        report.add(text.span(), format!("{key:?} is empty"), None);
        return None;
    }
    Some(text)
}

fn text(key: &str, span: Range<usize>, value: DeValue<'_>, report: &mut Report<'_>) -> Option<Spanned<String>> {
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

/// A whole number and its unit.
fn duration(
    key: &str,
    written: &Spanned<String>,
    range: &RangeInclusive<Duration>,
    report: &mut Report<'_>,
) -> Option<Duration> {
    let text = written.get_ref().as_str();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit_ms = match text[digits..].trim_start() {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let read = text[..digits].parse::<u64>().ok().zip(unit_ms).and_then(|(number, unit)| number.checked_mul(unit));
    let Some(read) = read.map(Duration::from_millis) else {
        let hint = "a whole number and ms, s, min, h or d: \"90s\"".to_owned();
        report.add(written.span(), format!("{key:?}: {text:?} is no duration"), hint);
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

/// The known word within a third of the letters, where there is one.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate));
    let letters = |candidate: &str| word.chars().count().max(candidate.chars().count());
    let near = distances.filter(|(distance, candidate)| *distance <= (letters(candidate) / 3).max(1));
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

//! Where the value of a column comes from, if it is not simply a field's text: parsed from `source`, `extract`,
//! `time_header`, `stamp`, `step`, `end_if`, `power_over` and `round` of a column.

use std::time::Duration;

use base::Problems;
use regex::Regex;
use toml::Spanned;

use super::lookup::{column_index, regular_expression};
use super::section::Section;
use super::{Column, Step, Type};
use crate::read::duration_seconds;

/// Where the texts of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextSource {
    /// In a field of each row.
    Field,
    /// In the file's name at its source, the same for all rows.
    FileName,
    /// In a line before the header, the same for all rows.
    Preamble,
}

/// Which end of its step a time of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stamp {
    /// The beginning, as in the rows that are read.
    Start,
    /// The end: the step is subtracted. `24:00` is the end of a day.
    End {
        /// How long the step is.
        step: Step,
        /// The index of a column of booleans: only where it is true, the time is an end.
        only_if: Option<usize>,
    },
}

/// The keys of a column that say where its value comes from.
pub struct OriginKeys {
    /// `source`
    pub source: TextSource,
    /// `extract`
    pub extract: Option<Regex>,
    /// `time_header`
    pub time_headers: Vec<String>,
    /// `round`
    pub round: bool,
    steps: StepKeys,
}

/// The keys that may name another column, which is known only when all columns are parsed.
pub struct StepKeys {
    is_end: bool,
    step: Option<Spanned<String>>,
    end_if: Option<Spanned<String>>,
    power_over: Option<Spanned<String>>,
}

impl OriginKeys {
    /// Takes the keys from the section of a column of this type.
    pub fn take(section: &mut Section<'_>, kind: Option<&Type>, report: &mut Problems<'_>) -> OriginKeys {
        let sources =
            [("field", TextSource::Field), ("file-name", TextSource::FileName), ("preamble", TextSource::Preamble)];
        let source = section.word("source", &sources, report).unwrap_or(TextSource::Field);
        let extract = section.text("extract", report);
        let pattern = extract.as_ref().and_then(|text| regular_expression("extract", text, report));
        if let (Some(text), Some(pattern)) = (&extract, &pattern)
            && pattern.captures_len() != 2
        {
            let hint =
                "put brackets around the part that is the value: '_(\\d{14})_'; brackets of other parts are (?:...)"
                    .to_owned();
            report.add(text.span(), "\"extract\" does not have one group", hint);
        }
        if source != TextSource::Field && extract.is_none() {
            let hint = "write what part of the text is the value: extract = '_(\\d{14})_'".to_owned();
            report.add(section.span(), format!("[{}] has a \"source\" without \"extract\"", section.name()), hint);
        }
        let time_headers = section.texts("time_header", report);
        let is_end = section.word("stamp", &[("start", false), ("end", true)], report);
        let (step, power_over) = (section.text("step", report), section.text("power_over", report));
        let end_if = section.text("end_if", report);
        let is_time = kind.is_none_or(|kind| matches!(kind, Type::Timestamp { .. }));
        let is_number = kind.is_none_or(Type::is_number);
        let mut only = |given: bool, key: &str, is_right: bool, kinds: &str| {
            if given && !is_right {
                report.add(section.span(), format!("{key:?} of [{}] is for {kinds}", section.name()), None);
            }
        };
        only(time_headers.is_some(), "time_header", is_time, "columns of timestamps");
        only(is_end.is_some(), "stamp", is_time, "columns of timestamps");
        only(power_over.is_some(), "power_over", is_number, "columns of numbers");
        let round = section.flag("round", report);
        if round.is_some() && !is_number {
            report.add(section.span(), format!("\"round\" of [{}] is for columns of numbers", section.name()), None);
        }
        let is_end = is_end.unwrap_or(false);
        if let Some(end_if) = end_if.as_ref().filter(|_| !is_end) {
            report.add(end_if.span(), "\"end_if\" needs stamp = \"end\"", None);
        }
        if is_end != step.is_some() {
            let hint = "write how long a step is: step = \"PT15M\", or the name of a column of durations".to_owned();
            let what = format!("[{}]: stamp = \"end\" and \"step\" need each other", section.name());
            report.add(section.span(), what, hint);
        }
        let trimmed = |texts: Vec<Spanned<String>>| texts.into_iter().map(|text| text.into_inner().trim().to_owned());
        OriginKeys {
            source,
            extract: pattern,
            time_headers: time_headers.map(|texts| trimmed(texts).collect()).unwrap_or_default(),
            round: round.unwrap_or(false),
            steps: StepKeys { is_end, step, end_if, power_over },
        }
    }

    /// The keys that are resolved by [`StepKeys::resolve`].
    pub fn into_steps(self) -> StepKeys {
        self.steps
    }
}

impl StepKeys {
    /// Sets what the keys say in the column with this index.
    pub fn resolve(self, columns: &mut [Column], at: usize, report: &mut Problems<'_>) {
        if let Some(step) = self.step.filter(|_| self.is_end).and_then(|step| step_of(&step, columns, report)) {
            let only_if = self.end_if.and_then(|name| {
                let found = column_index(columns, &name, report)?;
                if !matches!(columns[found].kind, Type::Boolean { .. }) {
                    report.add(name.span(), format!("{:?} is not a boolean", name.get_ref()), None);
                }
                Some(found)
            });
            columns[at].stamp = Stamp::End { step, only_if };
        }
        columns[at].power_over = self.power_over.and_then(|step| step_of(&step, columns, report));
    }
}

impl super::Layout {
    /// The values that a file has by its name, in the order of the columns that have theirs there. Of two files with the
    /// same bytes, those whose values differ are not the same.
    pub fn values_of_name(&self, name: &str) -> Vec<Option<String>> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let by_name = self.columns.iter().filter(|column| column.source == TextSource::FileName);
        by_name.map(|column| column.extracted(file)).collect()
    }
}

impl Column {
    /// The different values that `extract` finds in a text.
    pub(crate) fn all_extracted(&self, text: &str) -> Vec<String> {
        let found = self.extract.iter().flat_map(|extract| extract.captures_iter(text));
        let mut all: Vec<String> = found.filter_map(|one| Some(one.get(1)?.as_str().to_owned())).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The part of a text that is the value; `None` where `extract` does not match.
    pub(crate) fn extracted(&self, text: &str) -> Option<String> {
        Some(self.extract.as_ref()?.captures(text)?.get(1)?.as_str().to_owned())
    }
}

/// A step: a duration, or the name of a column of durations.
pub fn step_of(step: &Spanned<String>, columns: &[Column], report: &mut Problems<'_>) -> Option<Step> {
    if let Some(seconds) = duration_seconds(step.get_ref()) {
        let seconds = u64::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds));
        if seconds.is_none() {
            report.add(step.span(), "a step: expected PT1S to PT24H", None);
        }
        return seconds.map(|seconds| Step::Fixed(Duration::from_secs(seconds)));
    }
    let at = column_index(columns, step, report)?;
    if columns[at].kind != Type::Duration {
        report.add(step.span(), format!("{:?} is not a duration", step.get_ref()), None);
    }
    Some(Step::Column(at))
}

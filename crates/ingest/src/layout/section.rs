//! Reads a table of a TOML file key by key. A value of another type is reported at its place, and so is
//! every key that was not read, with the nearest known one.

use std::ops::Range;

use base::{Problems, nearest, quoted_list};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::number::Number;

/// A table of a TOML file that is being read; [`finish`](Section::finish) reports the keys that were not.
pub struct Section<'a> {
    name: String,
    span: Range<usize>,
    table: DeTable<'a>,
    known_keys: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// `name` is the table's dotted name, empty for the root; `span` is its place in the text.
    pub fn new(name: impl Into<String>, span: Range<usize>, table: DeTable<'a>) -> Section<'a> {
        Section { name: name.into(), span, table, known_keys: Vec::new() }
    }

    /// The dotted name of the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The place of the table in the text.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known_keys.push(key);
        self.table.remove(key)
    }

    fn wrong(&self, key: &str, expected: &str, value: &Spanned<DeValue<'_>>, report: &mut Problems<'_>) {
        let found = value.get_ref().type_str();
        report.add(value.span(), format!("{key:?}: expected {expected}, found a value of type {found}"), None);
    }

    /// Reads a string.
    pub fn text(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Spanned<String>> {
        let value = self.take(key)?;
        let span = value.span();
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(span, text.to_string())),
            _ => {
                self.wrong(key, "a text in quotes", &value, report);
                None
            }
        }
    }

    /// Reads a string that must be one of some words, and returns what the word means.
    pub fn word<T: Clone>(&mut self, key: &'static str, words: &[(&str, T)], report: &mut Problems<'_>) -> Option<T> {
        let text = self.text(key, report)?;
        let found = words.iter().find(|(word, _)| word == text.get_ref()).map(|(_, means)| means.clone());
        if found.is_none() {
            let all = || words.iter().map(|(word, _)| *word);
            let near = nearest(text.get_ref(), all()).map(|near| format!("nearest: {near:?}"));
            let what = format!("unknown {key} {:?}: expected one of {}", text.get_ref(), quoted_list(all()));
            report.add(text.span(), what, near);
        }
        found
    }

    /// Reads a string of one character.
    pub fn character(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Spanned<char>> {
        let text = self.text(key, report)?;
        let mut chars = text.get_ref().chars();
        match (chars.next(), chars.next()) {
            (Some(character), None) => Some(Spanned::new(text.span(), character)),
            _ => {
                report.add(text.span(), format!("{key:?}: expected one character"), None);
                None
            }
        }
    }

    /// Reads a boolean.
    pub fn flag(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong(key, "true or false", &value, report);
                None
            }
        }
    }

    /// Reads a whole number within bounds.
    pub fn whole(
        &mut self,
        key: &'static str,
        least: u64,
        most: u64,
        report: &mut Problems<'_>,
    ) -> Option<Spanned<u64>> {
        let number = self.number(key, report)?;
        let whole = number.get_ref().at_scale(0).and_then(|whole| u64::try_from(whole).ok());
        match whole.filter(|whole| (least..=most).contains(whole)) {
            Some(whole) => Some(Spanned::new(number.span(), whole)),
            None => {
                let what = format!("{key:?}: expected a whole number from {least} to {most}");
                report.add(number.span(), what, None);
                None
            }
        }
    }

    /// Reads a number exactly. It may also be in quotes, for digits that TOML's floats would not keep.
    pub fn number(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Spanned<Number>> {
        let value = self.take(key)?;
        let written = match value.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().to_owned(),
            DeValue::Float(float) => float.as_str().to_owned(),
            DeValue::String(text) => text.to_string(),
            _ => {
                self.wrong(key, "a number", &value, report);
                return None;
            }
        };
        match Number::parse_plain(&written.replace('_', "")) {
            Ok(number) => Some(Spanned::new(value.span(), number)),
            Err(_) => {
                report.add(value.span(), format!("{key:?}: {written:?} is not a number"), None);
                None
            }
        }
    }

    /// Reads a list of strings, or one string as a list of one.
    pub fn texts(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Vec<Spanned<String>>> {
        let value = self.take(key)?;
        let span = value.span();
        let items = match value.get_ref() {
            DeValue::String(text) => return Some(vec![Spanned::new(span, text.to_string())]),
            DeValue::Array(items) => items,
            _ => {
                self.wrong(key, "a list of texts", &value, report);
                return None;
            }
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Spanned::new(item.span(), text.to_string())),
                _ => self.wrong(key, "a text in quotes", item, report),
            }
        }
        Some(texts)
    }

    /// Reads a table.
    pub fn section(&mut self, key: &'static str, report: &mut Problems<'_>) -> Option<Section<'a>> {
        let value = self.take(key)?;
        self.as_section(key, value, report)
    }

    /// Reads an array of tables, written as `[[key]]`.
    pub fn sections(&mut self, key: &'static str, report: &mut Problems<'_>) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        if !matches!(value.get_ref(), DeValue::Array(_)) {
            self.wrong(key, &format!("tables as [[{key}]]"), &value, report);
            return Vec::new();
        }
        let DeValue::Array(items) = value.into_inner() else { return Vec::new() };
        items.into_iter().filter_map(|item| self.as_section(key, item, report)).collect()
    }

    /// Reads all remaining keys as tables, in the order of the text.
    pub fn remaining_sections(&mut self, report: &mut Problems<'_>) -> Vec<(Spanned<String>, Section<'a>)> {
        let mut all: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        all.sort_by_key(|(key, _)| key.span().start);
        all.into_iter()
            .filter_map(|(key, value)| {
                let name = key.get_ref().to_string();
                let section = self.as_section(&name, value, report)?;
                Some((Spanned::new(key.span(), name), section))
            })
            .collect()
    }

    fn as_section(&self, key: &str, value: Spanned<DeValue<'a>>, report: &mut Problems<'_>) -> Option<Section<'a>> {
        let span = value.span();
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            self.wrong(key, "a table", &value, report);
            return None;
        }
        let DeValue::Table(table) = value.into_inner() else { return None };
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Some(Section::new(name, span, table))
    }

    /// Reports the keys that were not read.
    pub fn finish(self, report: &mut Problems<'_>) {
        let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
        for (key, _) in &self.table {
            let word = key.get_ref();
            let hint = match nearest(word, self.known_keys.iter().copied()) {
                Some(near) => format!("nearest known key: {near:?}"),
                None => format!("known keys: {}", quoted_list(self.known_keys.iter().copied())),
            };
            report.add(key.span(), format!("unknown key {word:?}{place}"), hint);
        }
    }
}

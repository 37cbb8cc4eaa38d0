//! Applies the rules to a table and its columns.

use std::collections::BTreeSet;

use super::action::{Action, ActionKind, Target};
use super::data_type::{Family, Sql, cast};
use super::expression::Scope;
use super::pattern::Pattern;
use super::problem::{Problem, RuleError};
use super::quoting::{ident, literal};
use super::rules::TransformationRule;
use super::source_table::{Column, Table};
use super::{MappedColumn, MappedTable, Selection, filter};

/// The names, expressions and filter of a selected table, or all problems of the rules with it.
pub(super) fn plan(
    rules: &[TransformationRule],
    table: &Table<'_>,
    columns: &[Column<'_>],
    selection: &Selection,
) -> Result<MappedTable, Vec<Problem>> {
    let rules: Vec<_> = rules.iter().filter(|r| r.locator.table_matches(table)).collect();
    let of = |target| rules.iter().copied().filter(|r| r.target == target).collect::<Vec<_>>();
    let mut mapper = TableMapper { table, columns, rules: &rules, problems: Vec::new() };
    let mut planned = Vec::new();
    for column in columns {
        planned.extend(mapper.column(column));
    }
    mapper.add_columns(&mut planned);
    mapper.check_named_columns();
    let names: Vec<_> = planned.iter().map(|p| p.column.name.as_str()).collect();
    mapper.check_duplicates(&names);
    let primary_key = mapper.primary_key(&planned);
    let filter = filter::predicate(&selection.filters, columns, &mut mapper.problems);
    let plan = MappedTable {
        schema: mapper.renamed(table.schema, &of(Target::Schema)),
        table: mapper.renamed(table.name, &of(Target::Table)),
        columns: planned.into_iter().map(|p| p.column).collect(),
        primary_key,
        filter,
        load_order: selection.load_order,
    };
    if mapper.problems.is_empty() && plan.columns.is_empty() {
        let what = format!("no column of {}.{} is left to copy", table.schema, table.name);
        mapper.problems.push(Problem::new(None, what, None));
    }
    if mapper.problems.is_empty() { Ok(plan) } else { Err(mapper.problems) }
}

/// The first rule of each kind: they come in the order of their rule-ids, so it is the one that applies.
fn first_of_kind<'a>(rules: impl Iterator<Item = &'a TransformationRule>) -> Vec<&'a TransformationRule> {
    let mut seen = BTreeSet::new();
    rules.filter(|rule| seen.insert(rule.action.kind())).collect()
}

struct TableMapper<'a> {
    table: &'a Table<'a>,
    columns: &'a [Column<'a>],
    /// The rules that match the table.
    rules: &'a [&'a TransformationRule],
    problems: Vec<Problem>,
}

struct DraftColumn {
    column: MappedColumn,
    /// The source's column that it is made from; `None` for an added one.
    from: Option<String>,
    /// It has a digits mask, which makes different values equal.
    merges_values: bool,
}

impl TableMapper<'_> {
    fn fault(&mut self, rule: &TransformationRule, fault: RuleError) {
        self.problems.push(fault.of(&rule.label));
    }

    /// The name after the rules of a schema, a table or a column, which come in the order of their ids.
    fn renamed(&mut self, name: &str, rules: &[&TransformationRule]) -> String {
        let mut new = name.to_owned();
        let is_rename = |rule: &&&TransformationRule| rule.action.kind() == ActionKind::Rename;
        let renames = rules.iter().filter(is_rename).take(1);
        let others = rules.iter().filter(|rule| !is_rename(rule));
        let mut seen = BTreeSet::new();
        for rule in renames.chain(others) {
            // Where the name lacks a rule's prefix, the next rule of the kind applies.
            let Some(changed) = rule.action.rename(&new) else {
                continue;
            };
            if !seen.insert(rule.action.kind()) {
                continue;
            }
            new = changed;
            if new.is_empty() {
                self.fault(rule, RuleError::new(format!("makes the name \"{name}\" empty")));
                return name.to_owned();
            }
        }
        new
    }

    fn column(&mut self, column: &Column<'_>) -> Option<DraftColumn> {
        let on_columns = self.rules.iter().copied().filter(|rule| rule.target == Target::Column);
        let on_this = on_columns.clone().filter(|rule| rule.locator.column_matches(column));
        let matching: Vec<_> = on_this.filter(|rule| !rule.action.adds_column()).collect();
        let rules = first_of_kind(matching.iter().copied());
        let is_include = |rule: &TransformationRule| matches!(rule.action, Action::IncludeColumn);
        let only_included = on_columns.clone().any(is_include);
        let kept = match rules.iter().find(|rule| rule.action.kind() == ActionKind::IncludeColumn) {
            Some(rule) => is_include(rule),
            None => !only_included,
        };
        if !kept {
            return None;
        }
        let mut sql = Sql::new(ident(column.name), Family::of(column.type_name));
        let (mut declared, mut merges_values) = (None, false);
        for rule in &rules {
            let changed = match &rule.action {
                Action::ChangeType(data_type) => {
                    declared = Some(data_type.sql.clone());
                    data_type.convert(sql.clone())
                }
                action @ (Action::MaskDigits(_) | Action::MaskHash) => {
                    declared.get_or_insert_with(|| "text".to_owned());
                    merges_values |= matches!(action, Action::MaskDigits(_));
                    mask(action, sql.clone())
                }
                _ => continue,
            };
            match changed {
                Ok(changed) => sql = changed,
                Err(fault) => self.fault(rule, fault.within(&column.name)),
            }
        }
        let is_unchanged = sql.text == ident(column.name);
        let planned = MappedColumn {
            name: self.renamed(column.name, &matching),
            source: is_unchanged.then(|| column.name.to_owned()),
            expression: sql.text,
            cast: declared,
        };
        Some(DraftColumn { column: planned, from: Some(column.name.to_owned()), merges_values })
    }

    fn add_columns(&mut self, planned: &mut Vec<DraftColumn>) {
        let mut seen = BTreeSet::new();
        for rule in self.rules {
            let Action::AddColumn { name, expression, data_type } = &rule.action else {
                continue;
            };
            if !seen.insert(name.as_str()) {
                continue;
            }
            let located = rule.locator.column.as_ref().and_then(Pattern::exact_name);
            let named = located.filter(|name| self.columns.iter().any(|c| c.name == *name));
            let scope = Scope {
                schema: self.table.schema,
                table: self.table.name,
                column: named.as_deref(),
                columns: Some(self.columns),
            };
            let value = match expression {
                Some(expression) => expression.compile(scope),
                None => Ok(Sql::new("NULL", Family::Null)),
            };
            let converted = value.and_then(|sql| match data_type {
                Some(data_type) => data_type.convert(sql),
                None if matches!(sql.family, Family::Null | Family::Literal) => {
                    Ok(Sql::new(cast(&sql.text, "text"), Family::Text))
                }
                None => Ok(sql),
            });
            let sql = match converted {
                Ok(sql) => sql,
                Err(fault) => {
                    self.fault(rule, fault);
                    continue;
                }
            };
            if let Some(taken) = planned.iter().find(|p| p.column.name.to_lowercase() == name.to_lowercase()) {
                let what = format!("adds \"{name}\", which the table already has as \"{}\"", taken.column.name);
                self.fault(rule, RuleError::new(what).hint("give the new column another name"));
                continue;
            }
            let column_only = expression.as_ref().and_then(|e| e.single_column());
            let column = MappedColumn {
                name: name.clone(),
                source: column_only.filter(|name| sql.text == ident(name)).map(str::to_owned),
                expression: sql.text,
                cast: data_type.as_ref().map(|t| t.sql.clone()),
            };
            planned.push(DraftColumn { column, from: None, merges_values: false });
        }
    }

    /// Adds a problem for each rule that names a column which the table does not have: values must not stay unmasked
    /// because of a misspelt name.
    fn check_named_columns(&mut self) {
        for rule in self.rules {
            let Some(pattern) = &rule.locator.column else {
                continue;
            };
            let exact = rule.locator.names_one_table() && pattern.names_one();
            if exact && !self.columns.iter().any(|column| pattern.matches(column.name)) {
                let what = format!("\"{}\" is not a column of the table", pattern.text);
                let hint = "names are case-sensitive, and are those of the source";
                self.fault(rule, RuleError::new(what).hint(hint));
            }
        }
    }

    fn check_duplicates(&mut self, names: &[&str]) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(*name) {
                let (schema, table) = (self.table.schema, self.table.name);
                let what = format!("two columns of {schema}.{table} would become \"{name}\"");
                let hint = "rename one of them by a rule of its own".to_owned();
                self.problems.push(Problem::new(None, what, Some(hint)));
            }
        }
    }

    /// The key as columns of the target. A rule may name them by their names in the source or in the target.
    fn primary_key(&mut self, planned: &[DraftColumn]) -> Option<Vec<String>> {
        let is_key = |rule: &&&TransformationRule| matches!(rule.action, Action::PrimaryKey(_));
        let rule = *self.rules.iter().find(is_key)?;
        let Action::PrimaryKey(names) = &rule.action else {
            return None;
        };
        let mut key: Vec<String> = Vec::new();
        for name in names {
            let by_source = planned.iter().find(|p| p.from.as_ref() == Some(name));
            let draft = by_source.or_else(|| planned.iter().find(|p| p.column.name == *name));
            let fault = match draft {
                None => format!("\"{name}\" of the key is not a column of the target"),
                Some(draft) if draft.merges_values => {
                    format!("\"{name}\" of the key is masked by digits, so that different rows would have equal keys")
                }
                Some(draft) if key.contains(&draft.column.name) => {
                    format!("\"{name}\" occurs twice in the key")
                }
                Some(draft) => {
                    key.push(draft.column.name.clone());
                    continue;
                }
            };
            self.fault(rule, RuleError::new(fault));
        }
        Some(key)
    }
}

fn mask(action: &Action, sql: Sql) -> Result<Sql, RuleError> {
    if sql.family != Family::Text {
        return Err(RuleError::new(format!("a mask needs a text, not {}", sql.family.description()))
            .hint("add a change-data-type to string with a lower rule-id"));
    }
    let text = cast(&sql.text, "text");
    let text = match action {
        Action::MaskDigits(c) => {
            // In a replacement text, a backslash begins a reference to a group.
            let with = if *c == '\\' { "\\\\".to_owned() } else { c.to_string() };
            format!("regexp_replace({text}, '[0-9]', {}, 'g')", literal(&with))
        }
        _ => format!("upper(encode(sha256(convert_to({text}, 'UTF8')), 'hex'))"),
    };
    Ok(Sql::new(text, Family::Text))
}

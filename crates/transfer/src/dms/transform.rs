//! From the rules and a table's columns to what is read and what it becomes.

use std::collections::BTreeSet;

use super::action::{Action, Kind, Target};
use super::data_type::{Family, Sql, cast};
use super::expression::Scope;
use super::pattern::Pattern;
use super::rules::Transform;
use super::{Column, Fault, Planned, PlannedColumn, Problem, Selection, Table, filter, ident, literal};

pub(super) fn plan(
    rules: &[Transform],
    table: &Table<'_>,
    columns: &[Column<'_>],
    selection: &Selection,
) -> Result<Planned, Vec<Problem>> {
    let rules: Vec<_> = rules.iter().filter(|r| r.locator.table_matches(table)).collect();
    let of = |target| rules.iter().copied().filter(|r| r.target == target).collect::<Vec<_>>();
    let mut work = Work { table, columns, rules: &rules, problems: Vec::new() };
    let mut planned = Vec::new();
    for column in columns {
        planned.extend(work.column(column));
    }
    work.added(&mut planned);
    work.missed();
    let names: Vec<_> = planned.iter().map(|p| p.column.name.as_str()).collect();
    work.duplicates(&names);
    let primary_key = work.primary_key(&planned);
    let filter = filter::predicate(&selection.filters, columns, &mut work.problems);
    let plan = Planned {
        schema: work.renamed(table.schema, &of(Target::Schema)),
        table: work.renamed(table.name, &of(Target::Table)),
        columns: planned.into_iter().map(|p| p.column).collect(),
        primary_key,
        filter,
        load_order: selection.load_order,
    };
    if work.problems.is_empty() && plan.columns.is_empty() {
        let what = format!("no column of {}.{} is left", table.schema, table.name);
        work.problems.push(Problem::new(None, what, None));
    }
    if work.problems.is_empty() { Ok(plan) } else { Err(work.problems) }
}

/// Rules come by rule-id, so the first of a kind is the one that stands.
fn first_of_kind<'a>(rules: impl Iterator<Item = &'a Transform>) -> Vec<&'a Transform> {
    let mut seen = BTreeSet::new();
    rules.filter(|rule| seen.insert(rule.action.kind())).collect()
}

struct Work<'a> {
    table: &'a Table<'a>,
    columns: &'a [Column<'a>],
    /// Those that match the table.
    rules: &'a [&'a Transform],
    problems: Vec<Problem>,
}

struct Draft {
    column: PlannedColumn,
    from: Option<String>,
    /// A digits mask makes different values equal.
    merges_values: bool,
}

impl Work<'_> {
    fn fault(&mut self, rule: &Transform, fault: Fault) {
        self.problems.push(fault.of(&rule.label));
    }

    /// Rules of a schema, a table or a column, in the order of their ids.
    fn renamed(&mut self, name: &str, rules: &[&Transform]) -> String {
        let mut new = name.to_owned();
        let is_rename = |rule: &&&Transform| rule.action.kind() == Kind::Rename;
        let renames = rules.iter().filter(is_rename).take(1);
        let others = rules.iter().filter(|rule| !is_rename(rule));
        let mut seen = BTreeSet::new();
        for rule in renames.chain(others) {
            // One that finds no prefix to take away leaves the name to the next of its kind.
            let Some(changed) = rule.action.rename(&new) else {
                continue;
            };
            if !seen.insert(rule.action.kind()) {
                continue;
            }
            new = changed;
            if new.is_empty() {
                self.fault(rule, Fault::new(format!("leaves nothing of the name \"{name}\"")));
                return name.to_owned();
            }
        }
        new
    }

    fn column(&mut self, column: &Column<'_>) -> Option<Draft> {
        let on_columns = self.rules.iter().copied().filter(|rule| rule.target == Target::Column);
        let on_this = on_columns.clone().filter(|rule| rule.locator.column_matches(column));
        let matching: Vec<_> = on_this.filter(|rule| !rule.action.adds_column()).collect();
        let rules = first_of_kind(matching.iter().copied());
        let is_include = |rule: &Transform| matches!(rule.action, Action::IncludeColumn);
        let only_included = on_columns.clone().any(is_include);
        let kept = match rules.iter().find(|rule| rule.action.kind() == Kind::Keep) {
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
                    masked(action, sql.clone())
                }
                _ => continue,
            };
            match changed {
                Ok(changed) => sql = changed,
                Err(fault) => self.fault(rule, fault.within(&column.name)),
            }
        }
        let untouched = sql.text == ident(column.name);
        let planned = PlannedColumn {
            name: self.renamed(column.name, &matching),
            source: untouched.then(|| column.name.to_owned()),
            expression: sql.text,
            cast: declared,
        };
        Some(Draft { column: planned, from: Some(column.name.to_owned()), merges_values })
    }

    fn added(&mut self, planned: &mut Vec<Draft>) {
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
                let what = format!("adds \"{name}\", which is there as \"{}\"", taken.column.name);
                self.fault(rule, Fault::new(what).hint("give the new column another name"));
                continue;
            }
            let alone = expression.as_ref().and_then(|e| e.column_alone());
            let column = PlannedColumn {
                name: name.clone(),
                source: alone.filter(|name| sql.text == ident(name)).map(str::to_owned),
                expression: sql.text,
                cast: data_type.as_ref().map(|t| t.sql.clone()),
            };
            planned.push(Draft { column, from: None, merges_values: false });
        }
    }

    /// A rule that names one column of one table, which is not there: a misspelt mask must not
    /// let the values through.
    fn missed(&mut self) {
        for rule in self.rules {
            let Some(pattern) = &rule.locator.column else {
                continue;
            };
            let exact = rule.locator.names_one_table() && pattern.names_one();
            if exact && !self.columns.iter().any(|column| pattern.matches(column.name)) {
                let what = format!("\"{}\" is not a column of the table", pattern.text);
                let hint = "names are compared by case, and are those of the source";
                self.fault(rule, Fault::new(what).hint(hint));
            }
        }
    }

    fn duplicates(&mut self, names: &[&str]) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(*name) {
                let (schema, table) = (self.table.schema, self.table.name);
                let what = format!("two columns of {schema}.{table} become \"{name}\"");
                let hint = "rename one of them by a rule of its own".to_owned();
                self.problems.push(Problem::new(None, what, Some(hint)));
            }
        }
    }

    /// The key's columns may be given by their source names or by those of the target.
    fn primary_key(&mut self, planned: &[Draft]) -> Option<Vec<String>> {
        let is_key = |rule: &&&Transform| matches!(rule.action, Action::PrimaryKey(_));
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
                    format!("\"{name}\" of the key is masked, so that keys would coincide")
                }
                Some(draft) if key.contains(&draft.column.name) => {
                    format!("\"{name}\" stands twice in the key")
                }
                Some(draft) => {
                    key.push(draft.column.name.clone());
                    continue;
                }
            };
            self.fault(rule, Fault::new(fault));
        }
        Some(key)
    }
}

fn masked(action: &Action, sql: Sql) -> Result<Sql, Fault> {
    if sql.family != Family::Text {
        return Err(Fault::new(format!("a mask takes a text, not {}", sql.family.word()))
            .hint("change-data-type to string, by a rule with a lower rule-id"));
    }
    let text = cast(&sql.text, "text");
    let text = match action {
        Action::MaskDigits(c) => {
            // In a replacement a backslash begins a reference.
            let with = if *c == '\\' { "\\\\".to_owned() } else { c.to_string() };
            format!("regexp_replace({text}, '[0-9]', {}, 'g')", literal(&with))
        }
        _ => format!("upper(encode(sha256(convert_to({text}, 'UTF8')), 'hex'))"),
    };
    Ok(Sql::new(text, Family::Text))
}

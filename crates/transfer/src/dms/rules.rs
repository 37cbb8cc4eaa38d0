//! Reads the rules of a mapping from JSON: selection, transformation and table-settings, in the order of their ids.

use serde_json::Value;

use super::action::{self, Action, Target};
use super::data_type;
use super::filter::Filter;
use super::json::{Object, RuleProblems};
use super::pattern::Pattern;
use super::problem::{Problem, RuleError};
use super::source_table::{Column, Table, TableKind};

/// The rules of a mapping, each list in the order of the rule-ids.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) selections: Vec<SelectionRule>,
    pub(super) transforms: Vec<TransformationRule>,
    pub(super) settings: Vec<TableSettingsRule>,
}

/// A rule of the type `selection`.
#[derive(Debug)]
pub(super) struct SelectionRule {
    pub(super) id: u64,
    /// The rule's name in messages.
    pub(super) label: String,
    action: SelectionAction,
    /// `None` stands for both tables and views.
    kind: Option<TableKind>,
    pub(super) load_order: Option<i64>,
    pub(super) filters: Vec<Filter>,
    pub(super) parallel: bool,
}

#[derive(Debug)]
enum SelectionAction {
    Include(Locator),
    Exclude(Locator),
    Explicit { schema: String, table: String },
}

/// A rule of the type `transformation`.
#[derive(Debug)]
pub(super) struct TransformationRule {
    pub(super) id: u64,
    pub(super) label: String,
    pub(super) target: Target,
    pub(super) action: Action,
    pub(super) locator: Locator,
}

impl TransformationRule {
    /// Whether the rule changes existing columns, so that it has no effect without one.
    pub(super) fn needs_column(&self) -> bool {
        self.target == Target::Column && !matches!(self.action, Action::AddColumn { .. })
    }
}

/// A rule of the type `table-settings`.
#[derive(Debug)]
pub(super) struct TableSettingsRule {
    pub(super) id: u64,
    pub(super) label: String,
    pub(super) locator: Locator,
    pub(super) parallel: Option<bool>,
}

/// The `object-locator` of a rule: patterns for names of the source.
#[derive(Debug)]
pub(super) struct Locator {
    pub(super) schema: Pattern,
    pub(super) table: Option<Pattern>,
    pub(super) column: Option<Pattern>,
    data_type: Option<String>,
}

impl Locator {
    fn read(object: &Object<'_>, report: &mut RuleProblems) -> Option<Locator> {
        let mut pattern = |key| {
            let text = object.text(key, report);
            text.and_then(|text| report.accept(Pattern::parse(text)))
        };
        let (table, column) = (pattern("table-name"), pattern("column-name"));
        let schema = object.required("schema-name", report)?;
        let schema = report.accept(Pattern::parse(schema))?;
        let data_type = object.text("data-type", report).map(str::to_owned);
        if let Some(name) = data_type.as_ref().filter(|name| !data_type::is_known(name)) {
            report.add_error(data_type::unknown(name));
        }
        Some(Locator { schema, table, column, data_type })
    }

    /// Whether the patterns for schema and table match.
    pub(super) fn table_matches(&self, table: &Table<'_>) -> bool {
        let names_match = |pattern: &Pattern| pattern.matches(table.name);
        self.schema.matches(table.schema) && self.table.as_ref().is_none_or(names_match)
    }

    /// Whether the pattern and the data type for columns match.
    pub(super) fn column_matches(&self, column: &Column<'_>) -> bool {
        self.column.as_ref().is_none_or(|pattern| pattern.matches(column.name))
            && self.data_type.as_ref().is_none_or(|t| data_type::is_carried_as(column.type_name, t))
    }

    /// The one of `names` that the pattern for columns matches where case is ignored.
    pub(super) fn column_of_another_case<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        let pattern = self.column.as_ref()?.lowercase();
        names.iter().copied().find(|name| pattern.matches(&name.to_lowercase()))
    }

    /// Whether the locator names a single table, without wildcards.
    pub(super) fn names_one_table(&self) -> bool {
        self.schema.names_one() && self.table.as_ref().is_some_and(Pattern::names_one)
    }

    fn needs_table(&self, report: &mut RuleProblems) {
        if self.table.is_none() {
            report.add("the object-locator needs a table-name");
        }
    }
}

impl SelectionRule {
    /// Whether the rule-action is `exclude`.
    pub(super) fn excludes(&self) -> bool {
        matches!(self.action, SelectionAction::Exclude(_))
    }

    /// Whether the rule names a single table, without wildcards.
    pub(super) fn names_one_table(&self) -> bool {
        match &self.action {
            SelectionAction::Include(locator) | SelectionAction::Exclude(locator) => locator.names_one_table(),
            SelectionAction::Explicit { .. } => true,
        }
    }

    /// Whether the rule is about this table.
    pub(super) fn selects(&self, table: &Table<'_>) -> bool {
        self.kind.is_none_or(|kind| kind == table.kind)
            && match &self.action {
                SelectionAction::Include(locator) | SelectionAction::Exclude(locator) => locator.table_matches(table),
                SelectionAction::Explicit { schema, table: name } => schema == table.schema && name == table.name,
            }
    }
}

impl Rules {
    /// Reads the rules, with all problems at once.
    pub(super) fn read(json: &Value) -> Result<Rules, Vec<Problem>> {
        let problem = |what: &str| vec![Problem::new(None, what, None)];
        let root = json.as_object().ok_or_else(|| problem("the mapping must be an object"))?;
        let listed = root.get("rules").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| problem("the mapping needs a list \"rules\""))?;
        let mut problems: Vec<_> = root
            .keys()
            .filter(|key| *key != "rules")
            .map(|key| Problem::new(None, format!("the mapping has no key \"{key}\", only \"rules\""), None))
            .collect();
        let mut rules = Rules::default();
        let mut seen = std::collections::BTreeMap::new();
        for (place, value) in listed.iter().enumerate() {
            let label = format!("rule {} of the list", place + 1);
            let mut report = RuleProblems { label, problems: Vec::new() };
            if let Some(id) = rules.read_rule(value, &mut report)
                && let Some(first) = seen.insert(id, report.label.clone())
            {
                report.add_error(
                    RuleError::new(format!("has the same rule-id as {first}")).hint("give every rule its own number"),
                );
            }
            problems.append(&mut report.problems);
        }
        rules.sort();
        rules.check_selection(&mut problems);
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    fn sort(&mut self) {
        self.selections.sort_by_key(|rule| rule.id);
        self.transforms.sort_by_key(|rule| rule.id);
        self.settings.sort_by_key(|rule| rule.id);
    }

    fn check_selection(&self, problems: &mut Vec<Problem>) {
        if problems.is_empty() && self.selections.iter().all(SelectionRule::excludes) {
            let what = "no selection rule includes anything";
            let hint = "add a selection rule with the rule-action \"include\"";
            problems.push(Problem::new(None, what, Some(hint.to_owned())));
        }
        for rule in &self.selections {
            let SelectionAction::Explicit { schema, table } = &rule.action else {
                continue;
            };
            let excludes = |other: &&SelectionRule| {
                let exact = |pattern: &Pattern, name: &str| pattern.exact_name().is_some_and(|exact| exact == name);
                matches!(&other.action, SelectionAction::Exclude(l)
                    if exact(&l.schema, schema) && l.table.as_ref().is_some_and(|t| exact(t, table)))
            };
            if let Some(other) = self.selections.iter().find(excludes) {
                let what = format!("selects the table that {} excludes", other.label);
                problems.push(Problem::new(Some(&rule.label), what, None));
            }
        }
    }

    fn read_rule(&mut self, value: &Value, report: &mut RuleProblems) -> Option<u64> {
        let rule = Object::of("rule", value, report)?;
        let id = identity(&rule, report);
        // Also without an id the rule is read, to find its other problems.
        let number = id.unwrap_or(0);
        match rule.required("rule-type", report) {
            Some("selection") => self.selections.extend(selection(number, &rule, report)),
            Some("transformation") => self.transforms.extend(transformation(number, &rule, report)),
            Some("table-settings") => self.settings.extend(settings(number, &rule, report)),
            Some(other) => report.add_error(
                RuleError::new(format!("rule-type \"{other}\" is not supported"))
                    .hint("use selection, transformation or table-settings"),
            ),
            None => {}
        }
        id
    }

    /// The rules that select a table; none where the mapping does not select it.
    pub(super) fn rules_selecting(&self, table: &Table<'_>) -> Vec<&SelectionRule> {
        let matching: Vec<_> = self.selections.iter().filter(|rule| rule.selects(table)).collect();
        let excluded = matching.iter().any(|rule| rule.excludes());
        let has_effect = |rule: &&SelectionRule| match rule.action {
            SelectionAction::Include(_) => !excluded,
            SelectionAction::Exclude(_) => false,
            SelectionAction::Explicit { .. } => true,
        };
        matching.into_iter().filter(has_effect).collect()
    }
}

fn identity(rule: &Object<'_>, report: &mut RuleProblems) -> Option<u64> {
    let before = report.problems.len();
    let id = rule.number("rule-id", report);
    let name = rule.text("rule-name", report);
    let number = id.and_then(|id| u64::try_from(id).ok());
    if let Some(id) = number {
        report.label = match name {
            Some(name) => format!("rule-id {id} (\"{name}\")"),
            None => format!("rule-id {id}"),
        };
    } else if report.problems.len() == before {
        report.add("needs a rule-id, a number that no other rule has");
    }
    number
}

const SELECTION_KEYS: [&str; 8] =
    ["rule-type", "rule-id", "rule-name", "object-locator", "rule-action", "load-order", "filters", "parallel-load"];

fn selection(id: u64, rule: &Object<'_>, report: &mut RuleProblems) -> Option<SelectionRule> {
    // The console of DMS writes this setting of its own into every selection rule.
    let known = [&SELECTION_KEYS[..], &["isAutoSegmentationChecked"]].concat();
    rule.only(&known, report);
    let filters: Vec<_> =
        rule.array("filters", report).iter().filter_map(|filter| Filter::read(filter, report)).collect();
    let load_order = rule.number("load-order", report);
    let parallel = parallel_load(rule, report).unwrap_or(false);
    let action = rule.required("rule-action", report);
    let object = locator_object(rule, &["schema-name", "table-name", "table-type"], report)?;
    let kind = match object.text("table-type", report) {
        // An explicit rule selects its object, whatever its kind.
        None if action == Some("explicit") => None,
        None | Some("table") => Some(TableKind::Table),
        Some("view") => Some(TableKind::View),
        Some("all") => None,
        Some(other) => {
            report.add(format!("table-type \"{other}\" is not one of table, view, all"));
            None
        }
    };
    let locator = Locator::read(&object, report)?;
    locator.needs_table(report);
    if action? != "include" && !filters.is_empty() {
        report.add_error(
            RuleError::new("only a rule with the rule-action \"include\" may have filters")
                .hint("change the rule-action to include, or remove the filters"),
        );
    }
    let action = selection_action(action?, locator, report)?;
    Some(SelectionRule { id, label: report.label.clone(), action, kind, load_order, filters, parallel })
}

fn selection_action(action: &str, locator: Locator, report: &mut RuleProblems) -> Option<SelectionAction> {
    match action {
        "include" => Some(SelectionAction::Include(locator)),
        "exclude" => Some(SelectionAction::Exclude(locator)),
        "explicit" => {
            let table = locator.table?.exact_name();
            let (Some(schema), Some(table)) = (locator.schema.exact_name(), table) else {
                report.add_error(
                    RuleError::new("an explicit rule must name one table, without wildcards")
                        .hint("write the whole names, or change the rule-action to include"),
                );
                return None;
            };
            Some(SelectionAction::Explicit { schema, table })
        }
        other => {
            let what = format!("rule-action \"{other}\" is unknown");
            report.add_error(RuleError::new(what).hint("use include, exclude or explicit"));
            None
        }
    }
}

fn transformation(id: u64, rule: &Object<'_>, report: &mut RuleProblems) -> Option<TransformationRule> {
    let target = rule.required("rule-target", report);
    let target = target.and_then(|t| report.accept(Target::parse(t)));
    let action = action::read(rule, target, report);
    let keys: &[&str] = match target {
        Some(Target::Schema) => &["schema-name"],
        Some(Target::Table) => &["schema-name", "table-name"],
        _ => &["schema-name", "table-name", "column-name", "data-type"],
    };
    let locator = locator_object(rule, keys, report).and_then(|o| Locator::read(&o, report))?;
    let (target, action) = (target?, action?);
    if target != Target::Schema {
        locator.needs_table(report);
    }
    if target == Target::Column && locator.column.is_none() && !action.adds_column() {
        report.add("the object-locator needs a column-name");
    }
    let is_open = |pattern: &Pattern| !pattern.names_one();
    let open = is_open(&locator.schema) || locator.table.as_ref().is_some_and(is_open);
    if open && matches!(action, Action::PrimaryKey(_)) {
        report.add_error(
            RuleError::new("define-primary-key takes no wildcards in schema-name and table-name")
                .hint("write one rule for each table"),
        );
    }
    Some(TransformationRule { id, label: report.label.clone(), target, action, locator })
}

fn settings(id: u64, rule: &Object<'_>, report: &mut RuleProblems) -> Option<TableSettingsRule> {
    let known = ["rule-type", "rule-id", "rule-name", "object-locator", "parallel-load"];
    rule.only(&[&known[..], &["lob-settings", "isAutoSegmentationChecked"]].concat(), report);
    lob_settings(rule, report);
    let parallel = parallel_load(rule, report);
    let object = locator_object(rule, &["schema-name", "table-name"], report)?;
    let locator = Locator::read(&object, report)?;
    locator.needs_table(report);
    Some(TableSettingsRule { id, label: report.label.clone(), locator, parallel })
}

fn locator_object<'a>(rule: &Object<'a>, keys: &[&str], report: &mut RuleProblems) -> Option<Object<'a>> {
    let object = rule.object("object-locator", report);
    match &object {
        Some(object) => object.only(keys, report),
        None if rule.get("object-locator").is_none() => report.add("needs an object-locator"),
        None => {}
    }
    object
}

/// Whether the table is read in parallel. The ranges of the rule are not used: a table is read by ranges of pages, so
/// that no row falls between boundaries.
fn parallel_load(rule: &Object<'_>, report: &mut RuleProblems) -> Option<bool> {
    let load = rule.object("parallel-load", report)?;
    let known = ["type", "columns", "boundaries", "partitions", "subpartitions"];
    load.only(&[&known[..], &["number-of-partitions"]].concat(), report);
    match load.required("type", report)? {
        "none" => Some(false),
        "ranges" => {
            let columns = load.array("columns", report).len();
            let boundaries = load.array("boundaries", report);
            let fits = |row: &Value| row.as_array().is_some_and(|row| row.len() == columns);
            if columns == 0 || boundaries.is_empty() || !boundaries.iter().all(fits) {
                report.add("parallel-load by ranges needs columns, and boundaries of that width");
            }
            Some(true)
        }
        "partitions-auto" | "partitions-list" | "subpartitions-auto" => Some(true),
        other => {
            report.add(format!("parallel-load type \"{other}\" is unknown"));
            None
        }
    }
}

/// Checks `lob-settings` and ignores them, since values are always copied whole.
fn lob_settings(rule: &Object<'_>, report: &mut RuleProblems) {
    let Some(lob) = rule.object("lob-settings", report) else {
        return;
    };
    lob.only(&["mode", "bulk-max-size"], report);
    lob.number("bulk-max-size", report);
    if let Some(mode) = lob.text("mode", report)
        && !matches!(mode, "limited" | "unlimited" | "none")
    {
        report.add(format!("lob-settings mode \"{mode}\" is not one of limited, unlimited, none"));
    }
}

//! The action of a transformation rule, read from its `rule-action` and that action's keys.

use serde_json::Value;

use super::data_type::DataType;
use super::expression::Expression;
use super::json::{Object, RuleProblems};
use super::problem::RuleError;

/// The `rule-target` of a transformation rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Schema,
    Table,
    Column,
}

/// The action of a transformation rule with its arguments.
#[derive(Debug)]
pub(super) enum Action {
    Rename(String),
    Lowercase,
    Uppercase,
    AddPrefix(String),
    RemovePrefix(String),
    ReplacePrefix { old: String, new: String },
    AddSuffix(String),
    RemoveSuffix(String),
    ReplaceSuffix { old: String, new: String },
    IncludeColumn,
    RemoveColumn,
    AddColumn { name: String, expression: Option<Expression>, data_type: Option<DataType> },
    PrimaryKey(Vec<String>),
    ChangeType(DataType),
    MaskDigits(char),
    MaskHash,
}

/// The kinds of actions. Of two rules of one kind on one object, the one with the lower rule-id applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ActionKind {
    Rename,
    Case,
    AddPrefix,
    /// `remove-prefix` and `replace-prefix`.
    RemovePrefix,
    AddSuffix,
    /// `remove-suffix` and `replace-suffix`.
    RemoveSuffix,
    /// `include-column` and `remove-column`.
    IncludeColumn,
    AddColumn,
    PrimaryKey,
    ChangeType,
    Mask,
}

impl Target {
    /// Reads a `rule-target`.
    pub(super) fn parse(text: &str) -> Result<Target, RuleError> {
        match text {
            "schema" => Ok(Target::Schema),
            "table" => Ok(Target::Table),
            "column" => Ok(Target::Column),
            "table-tablespace" | "index-tablespace" => {
                Err(RuleError::new(format!("rule-target \"{text}\" is for Oracle sources only")))
            }
            other => {
                Err(RuleError::new(format!("rule-target \"{other}\" is unknown")).hint("use schema, table or column"))
            }
        }
    }
}

impl Action {
    /// The kind, by which rules on one object compete.
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Action::Rename(_) => ActionKind::Rename,
            Action::Lowercase | Action::Uppercase => ActionKind::Case,
            Action::AddPrefix(_) => ActionKind::AddPrefix,
            Action::RemovePrefix(_) | Action::ReplacePrefix { .. } => ActionKind::RemovePrefix,
            Action::AddSuffix(_) => ActionKind::AddSuffix,
            Action::RemoveSuffix(_) | Action::ReplaceSuffix { .. } => ActionKind::RemoveSuffix,
            Action::IncludeColumn | Action::RemoveColumn => ActionKind::IncludeColumn,
            Action::AddColumn { .. } => ActionKind::AddColumn,
            Action::PrimaryKey(_) => ActionKind::PrimaryKey,
            Action::ChangeType(_) => ActionKind::ChangeType,
            Action::MaskDigits(_) | Action::MaskHash => ActionKind::Mask,
        }
    }

    /// Whether it is `add-column`.
    pub(super) fn adds_column(&self) -> bool {
        matches!(self, Action::AddColumn { .. })
    }

    /// The new name; `None` where the action does not change names, or the name lacks its prefix or suffix.
    pub(super) fn rename(&self, name: &str) -> Option<String> {
        Some(match self {
            Action::Rename(new) => new.clone(),
            Action::Lowercase => name.to_lowercase(),
            Action::Uppercase => name.to_uppercase(),
            Action::AddPrefix(prefix) => format!("{prefix}{name}"),
            Action::AddSuffix(suffix) => format!("{name}{suffix}"),
            Action::RemovePrefix(old) => name.strip_prefix(old.as_str())?.to_owned(),
            Action::RemoveSuffix(old) => name.strip_suffix(old.as_str())?.to_owned(),
            Action::ReplacePrefix { old, new } => {
                format!("{new}{}", name.strip_prefix(old.as_str())?)
            }
            Action::ReplaceSuffix { old, new } => {
                format!("{}{new}", name.strip_suffix(old.as_str())?)
            }
            _ => return None,
        })
    }
}

const RULE_KEYS: [&str; 6] = ["rule-type", "rule-id", "rule-name", "rule-target", "object-locator", "rule-action"];

/// The targets of an action, and its keys; `None` where the action is unknown.
fn targets_and_keys(action: &str) -> Option<(&'static [Target], &'static [&'static str])> {
    const NAMED: &[Target] = &[Target::Schema, Target::Table, Target::Column];
    const COLUMN: &[Target] = &[Target::Column];
    Some(match action {
        "rename" => (NAMED, &["value", "old-value", "expression"]),
        "convert-lowercase" | "convert-uppercase" => (NAMED, &[]),
        "add-prefix" | "remove-prefix" | "add-suffix" | "remove-suffix" => (NAMED, &["value"]),
        "replace-prefix" | "replace-suffix" => (NAMED, &["value", "old-value"]),
        "remove-column" | "include-column" => (COLUMN, &[]),
        "add-column" => (COLUMN, &["value", "expression", "data-type"]),
        "define-primary-key" => (&[Target::Table], &["primary-key-def"]),
        "change-data-type" => (COLUMN, &["data-type"]),
        "data-masking-digits-mask" => (COLUMN, &["value"]),
        "data-masking-hash-mask" | "data-masking-digits-randomize" => (COLUMN, &[]),
        "add-before-image-columns" => (COLUMN, &["before-image-def"]),
        _ => return None,
    })
}

/// Reads the action of a rule, with its problems.
pub(super) fn read(rule: &Object<'_>, target: Option<Target>, report: &mut RuleProblems) -> Option<Action> {
    let name = rule.required("rule-action", report)?;
    let Some((targets, keys)) = targets_and_keys(name) else {
        report.add(format!("rule-action \"{name}\" is unknown for a transformation"));
        return None;
    };
    rule.only(&[&RULE_KEYS[..], keys].concat(), report);
    if target.is_some_and(|target| !targets.contains(&target)) {
        let at = targets.iter().map(|t| format!("{t:?}").to_lowercase()).collect::<Vec<_>>();
        report.add(format!("{name} needs the rule-target {}", at.join(" or ")));
    }
    let value = |report: &mut RuleProblems| rule.required("value", report).map(str::to_owned);
    let old = |report: &mut RuleProblems| rule.required("old-value", report).map(str::to_owned);
    Some(match name {
        "rename" => Action::Rename(new_name(rule, report)?),
        "convert-lowercase" => Action::Lowercase,
        "convert-uppercase" => Action::Uppercase,
        "add-prefix" => Action::AddPrefix(value(report)?),
        "add-suffix" => Action::AddSuffix(value(report)?),
        "remove-prefix" => Action::RemovePrefix(value(report)?),
        "remove-suffix" => Action::RemoveSuffix(value(report)?),
        // An empty new value removes the prefix or suffix.
        "replace-prefix" | "replace-suffix" => {
            let (old, new) = (old(report)?, rule.text("value", report).unwrap_or("").to_owned());
            match name {
                "replace-prefix" => Action::ReplacePrefix { old, new },
                _ => Action::ReplaceSuffix { old, new },
            }
        }
        "remove-column" => Action::RemoveColumn,
        "include-column" => Action::IncludeColumn,
        "add-column" => add_column(rule, report)?,
        "define-primary-key" => Action::PrimaryKey(primary_key(rule, report)?),
        "change-data-type" => Action::ChangeType(data_type(rule, report)?),
        "data-masking-digits-mask" => Action::MaskDigits(mask(&value(report)?, report)?),
        "data-masking-hash-mask" => Action::MaskHash,
        refused => {
            report.add_error(refusal(refused));
            return None;
        }
    })
}

fn refusal(action: &str) -> RuleError {
    if action == "add-before-image-columns" {
        return RuleError::new("add-before-image-columns is for changes, which are not supported yet");
    }
    RuleError::new(format!("{action} makes other digits in every run, so that copies could not be compared"))
        .hint("use data-masking-digits-mask, or data-masking-hash-mask where different values must stay different")
}

fn new_name(rule: &Object<'_>, report: &mut RuleProblems) -> Option<String> {
    if rule.text("expression", report).is_some() {
        let what = "rename by an expression is not supported";
        report.add_error(RuleError::new(what).hint("write the new name as value"));
        return None;
    }
    if rule.text("old-value", report).is_some() {
        report.add("rename has no old-value: the object-locator names what is renamed");
    }
    rule.required("value", report).map(str::to_owned)
}

fn data_type(rule: &Object<'_>, report: &mut RuleProblems) -> Option<DataType> {
    match rule.object("data-type", report) {
        Some(object) => DataType::read(&object, report),
        None => {
            if rule.get("data-type").is_none() {
                report.add("needs a data-type");
            }
            None
        }
    }
}

fn add_column(rule: &Object<'_>, report: &mut RuleProblems) -> Option<Action> {
    let name = rule.required("value", report).map(str::to_owned);
    let text = rule.text("expression", report);
    let expression = text.map(|text| report.accept(Expression::parse(text)));
    let data_type = rule.get("data-type").map(|_| data_type(rule, report));
    if text.is_none() && data_type.is_none() {
        report.add("add-column needs an expression, or a data-type for a column of NULLs");
    }
    // For an expression or a type that could not be read, a problem was added already.
    let expression = expression.map_or(Some(None), |e| e.map(Some))?;
    let data_type = data_type.map_or(Some(None), |t| t.map(Some))?;
    Some(Action::AddColumn { name: name?, expression, data_type })
}

fn primary_key(rule: &Object<'_>, report: &mut RuleProblems) -> Option<Vec<String>> {
    let Some(key) = rule.object("primary-key-def", report) else {
        report.add("define-primary-key needs a primary-key-def");
        return None;
    };
    key.only(&["name", "origin", "columns"], report);
    match key.text("origin", report) {
        None | Some("primary-key") => {}
        Some("unique-index") => report.add_error(
            RuleError::new("a unique-index may contain NULLs, so it does not identify rows")
                .hint("remove origin, to define a primary key"),
        ),
        Some(other) => report.add(format!("origin \"{other}\" is unknown")),
    }
    let listed = key.array("columns", report);
    let columns: Vec<_> = listed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if columns.is_empty() || columns.len() < listed.len() {
        report.add("primary-key-def needs columns, a list of names");
        return None;
    }
    Some(columns)
}

fn mask(value: &str, report: &mut RuleProblems) -> Option<char> {
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii_graphic() => Some(c),
        _ => {
            report.add("the value of a digits mask must be one printable ASCII character");
            None
        }
    }
}

//! What a transformation rule does, read from its `rule-action` and the keys that it takes.

use serde_json::Value;

use super::Fault;
use super::data_type::DataType;
use super::expression::Expression;
use super::json::{Object, Report};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Schema,
    Table,
    Column,
}

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

/// Of two rules of one kind on one object, the one with the lower rule-id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Rename,
    Case,
    AddPrefix,
    CutPrefix,
    AddSuffix,
    CutSuffix,
    Keep,
    Add,
    PrimaryKey,
    Type,
    Mask,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Target, Fault> {
        match text {
            "schema" => Ok(Target::Schema),
            "table" => Ok(Target::Table),
            "column" => Ok(Target::Column),
            "table-tablespace" | "index-tablespace" => {
                Err(Fault::new(format!("rule-target \"{text}\" is for Oracle only")))
            }
            other => Err(Fault::new(format!("rule-target \"{other}\" is unknown")).hint("use schema, table or column")),
        }
    }
}

impl Action {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Action::Rename(_) => Kind::Rename,
            Action::Lowercase | Action::Uppercase => Kind::Case,
            Action::AddPrefix(_) => Kind::AddPrefix,
            Action::RemovePrefix(_) | Action::ReplacePrefix { .. } => Kind::CutPrefix,
            Action::AddSuffix(_) => Kind::AddSuffix,
            Action::RemoveSuffix(_) | Action::ReplaceSuffix { .. } => Kind::CutSuffix,
            Action::IncludeColumn | Action::RemoveColumn => Kind::Keep,
            Action::AddColumn { .. } => Kind::Add,
            Action::PrimaryKey(_) => Kind::PrimaryKey,
            Action::ChangeType(_) => Kind::Type,
            Action::MaskDigits(_) | Action::MaskHash => Kind::Mask,
        }
    }

    pub(super) fn adds_column(&self) -> bool {
        matches!(self, Action::AddColumn { .. })
    }

    /// What a name becomes; nothing where the action is not about names, or finds no prefix or
    /// suffix of its own in this one.
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

/// For each action: the targets that it goes with, and the keys that it takes.
fn shape(action: &str) -> Option<(&'static [Target], &'static [&'static str])> {
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

pub(super) fn read(rule: &Object<'_>, target: Option<Target>, report: &mut Report) -> Option<Action> {
    let name = rule.required("rule-action", report)?;
    let Some((targets, keys)) = shape(name) else {
        report.says(format!("rule-action \"{name}\" is unknown for a transformation"));
        return None;
    };
    rule.only(&[&RULE_KEYS[..], keys].concat(), report);
    if target.is_some_and(|target| !targets.contains(&target)) {
        let at = targets.iter().map(|t| format!("{t:?}").to_lowercase()).collect::<Vec<_>>();
        report.says(format!("{name} goes with the rule-target {}", at.join(" or ")));
    }
    let value = |report: &mut Report| rule.required("value", report).map(str::to_owned);
    let old = |report: &mut Report| rule.required("old-value", report).map(str::to_owned);
    Some(match name {
        "rename" => Action::Rename(new_name(rule, report)?),
        "convert-lowercase" => Action::Lowercase,
        "convert-uppercase" => Action::Uppercase,
        "add-prefix" => Action::AddPrefix(value(report)?),
        "add-suffix" => Action::AddSuffix(value(report)?),
        "remove-prefix" => Action::RemovePrefix(value(report)?),
        "remove-suffix" => Action::RemoveSuffix(value(report)?),
        // An empty new value is a removal.
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
            report.fault(refusal(refused));
            return None;
        }
    })
}

fn refusal(action: &str) -> Fault {
    if action == "add-before-image-columns" {
        return Fault::new("add-before-image-columns belongs to changes and is not built yet");
    }
    Fault::new(format!("{action} gives every run other digits, so that no copy could be compared"))
        .hint("use data-masking-digits-mask, or data-masking-hash-mask where values must stay apart")
}

fn new_name(rule: &Object<'_>, report: &mut Report) -> Option<String> {
    if rule.text("expression", report).is_some() {
        let what = "rename by an expression is not supported";
        report.fault(Fault::new(what).hint("write the new name as value"));
        return None;
    }
    if rule.text("old-value", report).is_some() {
        report.says("rename takes no old-value: the object-locator says what is renamed");
    }
    rule.required("value", report).map(str::to_owned)
}

fn data_type(rule: &Object<'_>, report: &mut Report) -> Option<DataType> {
    match rule.object("data-type", report) {
        Some(object) => DataType::read(&object, report),
        None => {
            if rule.get("data-type").is_none() {
                report.says("needs a data-type");
            }
            None
        }
    }
}

fn add_column(rule: &Object<'_>, report: &mut Report) -> Option<Action> {
    let name = rule.required("value", report).map(str::to_owned);
    let text = rule.text("expression", report);
    let expression = text.map(|text| report.take(Expression::parse(text)));
    let data_type = rule.get("data-type").map(|_| data_type(rule, report));
    if text.is_none() && data_type.is_none() {
        report.says("add-column needs an expression, or a data-type for a column of NULLs");
    }
    // An expression or a type that was given and could not be read is a problem already.
    let expression = expression.map_or(Some(None), |e| e.map(Some))?;
    let data_type = data_type.map_or(Some(None), |t| t.map(Some))?;
    Some(Action::AddColumn { name: name?, expression, data_type })
}

fn primary_key(rule: &Object<'_>, report: &mut Report) -> Option<Vec<String>> {
    let Some(key) = rule.object("primary-key-def", report) else {
        report.says("define-primary-key needs a primary-key-def");
        return None;
    };
    key.only(&["name", "origin", "columns"], report);
    match key.text("origin", report) {
        None | Some("primary-key") => {}
        Some("unique-index") => report.fault(
            Fault::new("a unique-index may hold NULLs, so it can't tell rows apart")
                .hint("leave origin out, to define a primary key"),
        ),
        Some(other) => report.says(format!("origin \"{other}\" is unknown")),
    }
    let listed = key.array("columns", report);
    let columns: Vec<_> = listed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if columns.is_empty() || columns.len() < listed.len() {
        report.says("primary-key-def needs columns, a list of names");
        return None;
    }
    Some(columns)
}

fn mask(value: &str, report: &mut Report) -> Option<char> {
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii_graphic() => Some(c),
        _ => {
            report.says("the value of a digits mask is one printable ASCII character");
            None
        }
    }
}

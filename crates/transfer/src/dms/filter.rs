//! The source filters of a selection rule, as a SQL predicate. Values are quoted literals, so that PostgreSQL reads
//! them as the column's own type and can use an index on the column.

use serde_json::Value;

use super::json::{Object, RuleProblems};
use super::problem::{Problem, RuleError};
use super::quoting::{ident, literal};
use super::source_table::Column;

/// One entry of `filters`: a column, and conditions of which a row must fulfil one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    rule: String,
    column: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Compare(&'static str, String),
    Between { negated: bool, low: String, high: String },
    Null { negated: bool },
}

const OPERATORS: &str = "lte, ste, gte, eq, noteq, between, notbetween, null, notnull";

impl Filter {
    pub(super) fn read(value: &Value, report: &mut RuleProblems) -> Option<Filter> {
        let filter = Object::of("filter", value, report)?;
        filter.only(&["filter-type", "column-name", "filter-conditions"], report);
        if filter.required("filter-type", report).is_some_and(|t| t != "source") {
            report.add("filter-type must be \"source\"");
        }
        let column = filter.required("column-name", report);
        let listed = filter.array("filter-conditions", report);
        let conditions: Vec<_> = listed.iter().filter_map(|c| condition(c, report)).collect();
        if listed.is_empty() {
            report.add("a filter needs filter-conditions");
        }
        if conditions.iter().filter(|c| c.is_negative()).count() > 1 {
            report.add_error(
                RuleError::new("a filter with two negative conditions accepts every row")
                    .hint("put each negative condition into a filter of its own"),
            );
        }
        let rule = report.label.clone();
        column.map(|column| Filter { rule, column: column.to_owned(), conditions })
    }

    fn sql(&self, columns: &[Column<'_>]) -> Result<String, Problem> {
        let Some(column) = columns.iter().find(|c| c.name == self.column) else {
            let what = format!("filters by \"{}\", which is not a column of the table", self.column);
            let names: Vec<_> = columns.iter().map(|c| c.name).collect();
            let hint = format!("its columns are {}", names.join(", "));
            return Err(RuleError::new(what).hint(hint).of(&self.rule));
        };
        let compares = self.conditions.iter().any(|c| !matches!(c, Condition::Null { .. }));
        if compares && matches!(column.type_name, "json" | "xml" | "point" | "polygon") {
            let what = format!("\"{}\" has the type {}, which can't be compared", column.name, column.type_name);
            return Err(RuleError::new(what).of(&self.rule));
        }
        let name = ident(column.name);
        let conditions: Vec<_> = self.conditions.iter().map(|c| c.sql(&name)).collect();
        Ok(match &conditions[..] {
            [one] => one.clone(),
            many => format!("({})", many.join(" OR ")),
        })
    }
}

impl Condition {
    fn is_negative(&self) -> bool {
        matches!(
            self,
            Condition::Compare("<>", _) | Condition::Between { negated: true, .. } | Condition::Null { negated: true }
        )
    }

    fn sql(&self, column: &str) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Condition::Compare(operator, value) => {
                format!("{column} {operator} {}", literal(value))
            }
            Condition::Between { negated, low, high } => {
                let (low, high) = (literal(low), literal(high));
                format!("({column} {}BETWEEN {low} AND {high})", not(negated))
            }
            Condition::Null { negated } => format!("{column} IS {}NULL", not(negated)),
        }
    }
}

fn condition(value: &Value, report: &mut RuleProblems) -> Option<Condition> {
    let condition = Object::of("filter condition", value, report)?;
    let operator = condition.required("filter-operator", report)?;
    let compare = match operator {
        "lte" | "ste" => "<=",
        "gte" => ">=",
        "eq" => "=",
        "noteq" => "<>",
        "between" | "notbetween" => {
            condition.only(&["filter-operator", "start-value", "end-value"], report);
            let low = scalar(&condition, "start-value", report);
            let high = scalar(&condition, "end-value", report);
            return Some(Condition::Between { negated: operator == "notbetween", low: low?, high: high? });
        }
        "null" | "notnull" => {
            condition.only(&["filter-operator"], report);
            return Some(Condition::Null { negated: operator == "notnull" });
        }
        other => {
            let what = format!("filter-operator \"{other}\" is unknown");
            report.add_error(RuleError::new(what).hint(format!("use one of {OPERATORS}")));
            return None;
        }
    };
    condition.only(&["filter-operator", "value"], report);
    scalar(&condition, "value", report).map(|value| Condition::Compare(compare, value))
}

/// The value of a condition: a text, also an empty one, a number or a boolean.
fn scalar(condition: &Object<'_>, key: &str, report: &mut RuleProblems) -> Option<String> {
    match condition.get(key) {
        Some(Value::String(text)) if !text.contains('\0') => Some(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        Some(_) => {
            report.add(format!("{key} must be a text or a number"));
            None
        }
        None => {
            report.add(format!("the filter condition needs a {key}"));
            None
        }
    }
}

/// All filters of a table as one predicate; `None` where there are none. Rules that filter the table differently are a
/// problem.
pub(super) fn predicate(filters: &[Filter], columns: &[Column<'_>], problems: &mut Vec<Problem>) -> Option<String> {
    let mut chosen: Option<(&str, Vec<String>)> = None;
    for filters in filters.chunk_by(|a, b| a.rule == b.rule) {
        let rule = filters[0].rule.as_str();
        let mut terms = Vec::new();
        for filter in filters {
            match filter.sql(columns) {
                Ok(term) => terms.push(term),
                Err(problem) => problems.push(problem),
            }
        }
        match &chosen {
            None => chosen = Some((rule, terms)),
            Some((_, same)) if *same == terms => {}
            Some((first, _)) => problems.push(
                RuleError::new(format!("filters the table differently from {first}"))
                    .hint("put all filters of the table into one rule")
                    .of(rule),
            ),
        }
    }
    chosen.map(|(_, terms)| terms.join(" AND ")).filter(|sql| !sql.is_empty())
}

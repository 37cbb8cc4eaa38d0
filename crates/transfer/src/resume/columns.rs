//! A comparison of a table's columns with those with which the target's rows were transferred.

use std::collections::BTreeMap;

use crate::checkpoint::{Origin, OriginColumn};
use crate::error::{Error, Result};
use crate::plan::TablePlan;

/// The relations of the table that were truncated or rewritten since the last run, by OID. None where a column's type
/// has changed, which rewrites the relations; an added column seldom does.
pub fn rewritten_relations(plan: &TablePlan, origin: &Origin) -> Vec<u32> {
    let known: BTreeMap<i16, &str> = origin.columns.iter().map(|c| (c.number, c.type_name.as_str())).collect();
    let columns = plan.columns.iter().filter_map(|column| column.source.as_ref());
    if columns.into_iter().any(|column| known.get(&column.number).is_some_and(|was| *was != column.type_name)) {
        return Vec::new();
    }
    let leaves = plan.source.leaves.iter();
    leaves
        // One that was detached is read whole, and what was written into it meanwhile is no reason to refuse it.
        .filter(|leaf| origin.file_node(leaf.oid).is_some_and(|node| node != 0 && node != leaf.file_node))
        .map(|leaf| leaf.oid)
        .collect()
}

/// Gives the columns of the plan that were renamed at the source their earlier names, which they have in the target.
/// Columns are recognized by their numbers in PostgreSQL's catalogue.
///
/// # Errors
/// Where another column of the source has the name now that a renamed column has in the target.
pub fn keep_names(plan: &mut TablePlan, origin: &Origin) -> Result<()> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for column in &plan.columns {
        let Some(source) = &column.source else { continue };
        let was = origin.columns.iter().find(|was| was.number == source.number && origin.table == plan.source.oid);
        // Renamed at the source, now or before. Otherwise the mapping gives it another name, which it gets.
        let is_renamed = |was: &OriginColumn| was.planned == column.name || was.name != source.name;
        if let Some(was) = was.filter(|was| is_renamed(was) && was.target != column.name) {
            names.insert(column.name.clone(), was.target.clone());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    for column in &plan.columns {
        if !names.contains_key(&column.name)
            && let Some((now, _)) = names.iter().find(|(_, was)| **was == column.name)
        {
            let context = format!(
                "carry {}: column {:?} was renamed to {now:?}, and another column is called {:?} now",
                plan.source.display(),
                column.name,
                column.name
            );
            return Err(Error::input(context)
                .state("columns-changed")
                .hint("give the new column another name with a table mapping, or replace the target's rows"));
        }
    }
    let keep = |name: &mut String| {
        if let Some(was) = names.get(name) {
            name.clone_from(was);
        }
    };
    for column in &mut plan.columns {
        let planned = column.name.clone();
        keep(&mut column.name);
        if let Some(source) = column.source.as_mut().filter(|_| planned != column.name) {
            source.planned_name = Some(planned);
        }
    }
    plan.key.iter_mut().for_each(keep);
    plan.cursor.iter_mut().flat_map(|cursor| &mut cursor.columns).for_each(|column| keep(&mut column.name));
    Ok(())
}

/// Whether equal values of the two types have the same form in the target. Types that have different types in the
/// target are compared elsewhere, by the target's columns.
pub(super) fn has_same_form(was: &str, now: &str) -> bool {
    let base = |name: &str| {
        let name = name.trim_end_matches("[]");
        name.split_once('(').map_or(name, |(base, rest)| if rest.ends_with(')') { base } else { name }).to_owned()
    };
    let (was_base, now_base) = (base(was), base(now));
    // Values are padded to the length.
    let is_padded = |base: &str| matches!(base, "character" | "bit");
    if was == now || was_base == now_base {
        return was == now || !is_padded(&now_base);
    }
    // A value of a user's type is carried as its text, such as an enum's label.
    let is_text = |base: &str| matches!(base, "text" | "character varying" | "name") || base.contains('.');
    let is_number =
        |base: &str| matches!(base, "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision");
    (is_text(&was_base) && is_text(&now_base))
        || (is_number(&was_base) && (is_number(&now_base) || is_text(&now_base)))
        // Types that are not carried as text: their types in the target are compared.
        || ![&was_base, &now_base].iter().any(|base| is_text(base) || is_carried_as_text(base))
}

/// Types that are carried as the text that PostgreSQL shows.
fn is_carried_as_text(base: &str) -> bool {
    matches!(
        base,
        "character" | "bit" | "bit varying" | "interval" | "json" | "jsonb" | "time with time zone" | "xml" | "money"
    )
}

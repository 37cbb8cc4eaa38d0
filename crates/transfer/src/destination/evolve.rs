//! The effect of changed columns of the source on a table of the lake: new columns are added, dropped ones
//! are kept, a wider type is applied to the table, and any other change of a type is refused.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::plan::TablePlan;

/// How the schema of a table in the lake changes.
#[derive(Debug, PartialEq)]
pub enum Evolution {
    /// Not at all.
    Same,
    /// By further columns, to this schema.
    Add(SchemaRef),
    /// By wider types of columns, to this schema: the table's files must be rewritten.
    Rewrite(SchemaRef),
}

/// Compares the schema of the lake's table, `present`, with the source's, and decides how it changes. `replace` is the
/// command, for the hint, that replaces the table.
///
/// # Errors
/// Where a column's type has changed to one that can't hold all values of the earlier type.
pub fn evolve(table: &str, present: &Schema, source: &Schema, replace: &str) -> Result<Evolution> {
    let mut fields = present.fields().to_vec();
    let (mut adds, mut rewrites) = (false, false);
    for field in source.fields() {
        let Some(index) = fields.iter().position(|f| f.name() == field.name()) else {
            adds = true;
            fields.push(Arc::clone(field));
            continue;
        };
        let (was, is) = (fields[index].data_type(), field.data_type());
        if was == is {
            continue;
        }
        if !lake::widens(was, is) {
            let context = format!("carry {table}: column {:?} was {was} and is {is} now", field.name());
            return Err(Error::input(context).hint(format!(
                "change the column back, or replace the table: {replace} (rows purged at the source are lost from \
                 the table; its \
                 earlier versions keep them)"
            )));
        }
        rewrites = true;
        fields[index] = Arc::new(fields[index].as_ref().clone().with_data_type(is.clone()));
    }
    let schema = || Arc::new(Schema::new(fields.clone()));
    Ok(match (rewrites, adds) {
        (true, _) => Evolution::Rewrite(schema()),
        (false, true) => Evolution::Add(schema()),
        (false, false) => Evolution::Same,
    })
}

/// The schema of a plan's columns in the lake; all columns may be NULL.
pub fn schema_of(plan: &TablePlan) -> SchemaRef {
    let fields: Vec<Field> = plan.columns.iter().map(|c| Field::new(&c.name, c.kind.arrow(), true)).collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests;

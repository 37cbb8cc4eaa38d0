//! What a changed source means for a table that is there already: columns that came are added,
//! those that went stay, wider types are taken over, and a narrower one is refused.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::{Error, Result};

#[derive(Debug, PartialEq)]
pub enum Evolution {
    Same,
    /// The same columns and more.
    Add(SchemaRef),
    /// Columns have wider types now: what is there must be written again.
    Rewrite(SchemaRef),
}

/// `replace` is the command that reads the table anew.
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
                "change the column back, or read the table anew: {replace} (rows purged at the source leave the table; its \
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

#[cfg(test)]
mod tests;

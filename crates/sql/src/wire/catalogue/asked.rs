//! Which statements ask the catalogue, and how they are made to find it.

use std::ops::ControlFlow;

use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Statement, VisitMut, VisitorMut, visit_relations};

use super::empty;
use super::PG_CATALOG;
use crate::view::INFORMATION_SCHEMA;

/// Tables of `pg_catalog` that are not the library's.
const OURS: [&str; 3] = ["pg_user", "pg_shadow", "pg_stat_activity"];

fn is_known(name: &str) -> bool {
    let name = name.to_lowercase();
    let name = name.as_str();
    PG_CATALOG_TABLES.contains(&name) || OURS.contains(&name) || empty::PG.iter().any(|(known, _)| *known == name)
}

fn part(part: &ObjectNamePart) -> &str {
    part.as_ident().map_or("", |ident| ident.value.as_str())
}

pub(crate) fn is_asked(statement: &Statement) -> bool {
    let found = visit_relations(statement, |name: &ObjectName| {
        let asked = match &name.0[..] {
            [table] => is_known(part(table)),
            [.., schema, _] => {
                let schema = part(schema);
                schema.eq_ignore_ascii_case(PG_CATALOG) || schema.eq_ignore_ascii_case(INFORMATION_SCHEMA)
            }
            [] => false,
        };
        if asked { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

/// `pg_catalog` is searched first, whatever the path.
pub(crate) fn rewritten(mut statement: Statement) -> Statement {
    struct Qualify;
    impl VisitorMut for Qualify {
        type Break = ();

        fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
            if let [only] = &name.0[..]
                && is_known(part(only))
            {
                let table = Ident::new(part(only).to_lowercase());
                name.0 = vec![ObjectNamePart::Identifier(Ident::new(PG_CATALOG)), ObjectNamePart::Identifier(table)];
            }
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Qualify);
    statement
}

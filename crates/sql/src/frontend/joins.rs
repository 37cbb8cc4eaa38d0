//! RIGHT and FULL joins with USING or NATURAL. In `l FULL JOIN r USING (k)`, `k` is the value of the side that has a
//! row, and `l.k` the left side's, which may be NULL; DataFusion takes both for the left side's. So columns that are
//! named with their table are marked here; `semantics` gives the others the value of the side that has one.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    TableWithJoins, VisitMut, VisitorMut,
};

use super::fragment::parsed;

/// The mark: a function that returns its argument.
pub(crate) const ONE_SIDE: &str = "column_of_one_side";

/// The pass `one_sides`.
pub(super) fn mark_sides(statement: &mut Statement) {
    let _ = statement.visit(&mut NaturalJoins);
    let _ = statement.visit(&mut Queries);
    // After the marks, so that columns that are qualified here are not marked.
    let _ = statement.visit(&mut Names);
}

/// Rewrites NATURAL to USING, where aliases list the columns of both sides.
struct NaturalJoins;

impl VisitorMut for NaturalJoins {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(named_join);
        ControlFlow::Continue(())
    }
}

/// Qualifies the columns of USING in WHERE, where they would be ambiguous to DataFusion.
struct Names;

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let Some(condition) = &mut select.selection else { return ControlFlow::Continue(()) };
        for from in &mut select.from {
            let (Some(left), Some(join)) = (alias_of(&from.relation), from.joins.first_mut()) else { continue };
            if let Some(JoinConstraint::Using(columns)) = constraint_of(&mut join.join_operator) {
                let columns = columns.iter().filter_map(|name| name.0.last()?.as_ident().cloned()).collect();
                let _ = condition.visit(&mut Qualify { left, columns, depth: 0 });
            }
        }
        ControlFlow::Continue(())
    }
}

struct Qualify {
    left: Ident,
    columns: Vec<Ident>,
    depth: u32,
}

impl VisitorMut for Qualify {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && self.depth == 0
            && self.columns.iter().any(|column| column.value == name.value)
        {
            *expr = Expr::CompoundIdentifier(vec![self.left.clone(), name.clone()]);
        }
        ControlFlow::Continue(())
    }
}

fn alias_of(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, alias: None, args: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

fn named_columns(factor: &TableFactor) -> Option<Vec<Ident>> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. }
            if !alias.columns.is_empty() =>
        {
            Some(alias.columns.iter().map(|column| column.name.clone()).collect())
        }
        _ => None,
    }
}

fn named_join(from: &mut TableWithJoins) {
    let [join] = &mut from.joins[..] else { return };
    let (Some(left), Some(right)) = (named_columns(&from.relation), named_columns(&join.relation)) else { return };
    let both: Vec<ObjectName> = left
        .into_iter()
        .filter(|column| right.iter().any(|other| other.value == column.value))
        .map(|column| ObjectName::from(vec![column]))
        .collect();
    let Some(constraint) = constraint_of(&mut join.join_operator) else { return };
    if *constraint == JoinConstraint::Natural && !both.is_empty() {
        *constraint = JoinConstraint::Using(both);
    }
}

struct Queries;

impl VisitorMut for Queries {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && select.from.iter().any(joins_by_name)
        {
            let _ = query.visit(&mut Sides);
        }
        ControlFlow::Continue(())
    }
}

fn joins_by_name(from: &TableWithJoins) -> bool {
    from.joins.iter().any(|join| {
        let constraint = match &join.join_operator {
            JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint) => constraint,
            _ => return false,
        };
        matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
    })
}

struct Sides;

impl VisitorMut for Sides {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Expr::CompoundIdentifier(names) = &*expr
                && let Some(name) = names.last()
            {
                let alias = Ident { value: name.value.clone(), quote_style: name.quote_style, span: name.span };
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(_) = expr
            && let Some(marked) = parsed(&format!("{ONE_SIDE}({expr})"))
        {
            *expr = marked;
        }
        ControlFlow::Continue(())
    }
}

//! `ASOF JOIN t ON a.key = t.key AND a.ts >= t.ts` joins each row to the row of `t` that is nearest in time.
//! `ASOF LEFT JOIN` keeps rows without a match, and so does Snowflake's form with `MATCH_CONDITION`.
//!
//! The parser knows only Snowflake's form, so joins are marked here in tokens and in syntax trees, and planned. The
//! operator is in `exec`: it has the right side in memory and streams the left one.

pub(crate) mod exec;
pub(crate) mod node;
mod probe;

use std::ops::ControlFlow;

use datafusion::common::{DFSchema, plan_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, Extension, JoinType, LogicalPlan, Operator};
use sqlparser::ast::{self, Join, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, VisitMut, VisitorMut};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use node::AsofJoin;

const FORM: &str = "an ASOF JOIN takes equalities of keys and one comparison of times: \
                    ASOF JOIN prices AS p ON m.zone = p.zone AND m.ts >= p.ts";

/// Replaces `ASOF [LEFT] JOIN` by `GLOBAL [LEFT] JOIN`, which the parser accepts and which has no other meaning here.
/// Joins with a MATCH_CONDITION are not changed: the parser knows them.
pub fn mark_tokens(tokens: &mut [TokenWithSpan]) {
    let words: Vec<(usize, Keyword)> = tokens
        .iter()
        .enumerate()
        .filter_map(|(at, token)| match &token.token {
            Token::Whitespace(_) => None,
            Token::Word(word) => Some((at, word.keyword)),
            _ => Some((at, Keyword::NoKeyword)),
        })
        .collect();
    for (n, (at, keyword)) in words.iter().enumerate() {
        let after: Vec<_> = words[n + 1..].iter().take(3).map(|(_, keyword)| *keyword).collect();
        let joins = matches!(
            after[..],
            [Keyword::JOIN, ..]
                | [Keyword::LEFT | Keyword::INNER, Keyword::JOIN, ..]
                | [Keyword::LEFT, Keyword::OUTER, Keyword::JOIN]
        );
        if *keyword == Keyword::ASOF && joins && !has_match_condition(&words[n + 1..]) {
            tokens[*at].token = Token::make_keyword("GLOBAL");
        }
    }
}

/// Whether MATCH_CONDITION comes before the join's ON.
fn has_match_condition(words: &[(usize, Keyword)]) -> bool {
    let next =
        words.iter().find(|(_, keyword)| matches!(keyword, Keyword::MATCH_CONDITION | Keyword::ON | Keyword::ASOF));
    next.is_some_and(|(_, keyword)| *keyword == Keyword::MATCH_CONDITION)
}

/// Puts each marked join of a statement into parentheses, so that [`AsofPlanner`] gets it as a relation.
pub fn bracket_joins(statement: &mut ast::Statement) {
    let _ = VisitMut::visit(statement, &mut Brackets);
}

struct Brackets;

impl VisitorMut for Brackets {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(bracketed);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor
            && !matches!(&table_with_joins.joins[..], [only] if only.global)
        {
            bracketed(table_with_joins);
        }
        ControlFlow::Continue(())
    }
}

fn bracketed(from: &mut TableWithJoins) {
    for join in &mut from.joins {
        if let JoinOperator::AsOf { match_condition, constraint } = &join.join_operator {
            let condition = match constraint {
                JoinConstraint::On(on) => ast::Expr::BinaryOp {
                    left: Box::new(on.clone()),
                    op: ast::BinaryOperator::And,
                    right: Box::new(match_condition.clone()),
                },
                _ => match_condition.clone(),
            };
            join.join_operator = JoinOperator::Left(JoinConstraint::On(condition));
            join.global = true;
        }
    }
    if !from.joins.iter().any(|join| join.global) {
        return;
    }
    let mut before = Vec::new();
    for join in std::mem::take(&mut from.joins) {
        let marked = join.global;
        if marked && !before.is_empty() {
            nest(&mut from.relation, std::mem::take(&mut before));
        }
        if marked { nest(&mut from.relation, vec![join]) } else { before.push(join) }
    }
    from.joins = before;
}

fn nest(relation: &mut TableFactor, joins: Vec<Join>) {
    let inner = TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins { relation: placeholder(), joins }),
        alias: None,
    };
    let outer = std::mem::replace(relation, inner);
    if let TableFactor::NestedJoin { table_with_joins, .. } = relation {
        table_with_joins.relation = outer;
    }
}

fn placeholder() -> TableFactor {
    let nothing = TableWithJoins {
        relation: TableFactor::UNNEST {
            alias: None,
            array_exprs: Vec::new(),
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        },
        joins: Vec::new(),
    };
    TableFactor::NestedJoin { table_with_joins: Box::new(nothing), alias: None }
}

/// Plans marked joins that are in parentheses.
#[derive(Debug)]
pub struct AsofPlanner;

impl RelationPlanner for AsofPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::NestedJoin { table_with_joins, alias } if matches!(&table_with_joins.joins[..], [only] if only.global) =>
            {
                let TableWithJoins { relation, joins } = *table_with_joins;
                let plan = planned(relation, joins, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn planned(left: TableFactor, joins: Vec<Join>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let join = joins.into_iter().next().ok_or_else(|| plan_datafusion_err!("{FORM}"))?;
    let (kind, condition) = match join.join_operator {
        JoinOperator::Inner(JoinConstraint::On(on)) | JoinOperator::Join(JoinConstraint::On(on)) => {
            (JoinType::Inner, on)
        }
        JoinOperator::Left(JoinConstraint::On(on)) | JoinOperator::LeftOuter(JoinConstraint::On(on)) => {
            (JoinType::Left, on)
        }
        _ => return plan_err!("{FORM}"),
    };
    let left = context.plan(left)?;
    let right = context.plan(join.relation)?;
    let schema = left.schema().join(right.schema())?;
    let condition = context.sql_to_expr(condition, &schema)?;
    let mut on = Vec::new();
    let mut matching = None;
    for term in split_conjunction_owned(condition) {
        let term = sided(term, left.schema(), right.schema())?;
        match term.op {
            Operator::Eq => on.push(Expr::BinaryExpr(term)),
            _ if matching.is_none() => matching = Some(Expr::BinaryExpr(term)),
            _ => return plan_err!("{FORM}; this one has two comparisons"),
        }
    }
    let Some(matching) = matching else {
        return plan_err!("{FORM}; this one has no comparison");
    };
    let node = AsofJoin::new(left, right, on, matching, kind)?;
    Ok(LogicalPlan::Extension(Extension { node: std::sync::Arc::new(node) }))
}

/// The comparison with the expression over the left table on its left; an error where it does not compare both tables.
pub(crate) fn sided(term: Expr, left: &DFSchema, right: &DFSchema) -> Result<BinaryExpr> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = term.unalias_nested().data else {
        return plan_err!("{FORM}");
    };
    let of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
    };
    let known = matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq);
    if known && of(&a, left) && of(&b, right) {
        Ok(BinaryExpr { left: a, op, right: b })
    } else if let Some(swapped) = op.swap().filter(|_| known && of(&a, right) && of(&b, left)) {
        Ok(BinaryExpr { left: b, op: swapped, right: a })
    } else {
        plan_err!("{FORM}; not {a} {op} {b}")
    }
}

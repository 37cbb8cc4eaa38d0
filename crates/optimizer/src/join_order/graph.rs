//! The join graph: relations that are joined with each other, and the conditions of their joins.

use std::sync::Arc;

use datafusion::common::{Column, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator, binary_expr,
};

use super::estimate::Estimate;

/// The most relations that are reordered: the search examines all orders.
const RELATIONS_MAX: usize = 10;
/// The fewest relations that are reordered.
const RELATIONS_MIN: usize = 3;

/// A set of relations, one bit each, in the order in which the query names them.
pub(super) type Set = u32;

/// Inner joins of several relations.
pub(super) struct Graph {
    /// The relations, in the order in which the query names them.
    pub(super) relations: Vec<(LogicalPlan, Estimate)>,
    /// Classes of values that the joins equate.
    pub(super) classes: Vec<Vec<Member>>,
    /// Conditions that are not equalities of two relations, with the relations that they use.
    pub(super) conditions: Vec<(Set, Expr)>,
    /// The order that the query has.
    pub(super) query_order: Tree,
}

/// A value of a relation that is equal to those of the other members of its class.
pub(super) struct Member {
    /// The number of the relation in [`Graph::relations`].
    pub(super) relation: usize,
    /// The estimated number of distinct values.
    pub(super) distinct: f64,
    value: Expr,
}

/// An order of joins.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    /// A relation, by its number in [`Graph::relations`].
    Relation(usize),
    Join(Box<Tree>, Box<Tree>),
}

/// The plan's join, if it may be reordered with others: an inner join in which NULL equals nothing.
pub(super) fn inner_join(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join) => Some(join).filter(|join| {
            join.join_type == JoinType::Inner
                && join.null_equality == NullEquality::NullEqualsNothing
                && !join.null_aware
        }),
        _ => None,
    }
}

impl Graph {
    /// The join graph of a plan; `None` where there are too few or too many relations, or a relation has no estimate.
    pub(super) fn of(plan: &LogicalPlan) -> Option<Graph> {
        inner_join(plan)?;
        let (mut plans, mut conditions) = (Vec::new(), Vec::new());
        let query_order = flatten(plan, &mut plans, &mut conditions);
        if !(RELATIONS_MIN..=RELATIONS_MAX).contains(&plans.len()) || conditions.iter().any(Expr::is_volatile) {
            return None;
        }
        let relations =
            plans.into_iter().map(|plan| Some((plan.clone(), Estimate::of(plan)?))).collect::<Option<_>>()?;
        let mut graph = Graph { relations, classes: Vec::new(), conditions: Vec::new(), query_order };
        for condition in conditions {
            graph.add(condition)?;
        }
        Some(graph)
    }

    fn add(&mut self, condition: Expr) -> Option<()> {
        if let Expr::BinaryExpr(equality) = &condition
            && equality.op == Operator::Eq
        {
            let (one, other) = (self.set_of(&equality.left)?, self.set_of(&equality.right)?);
            if one.count_ones() == 1 && other.count_ones() == 1 && one != other {
                let one = self.member(one, &equality.left);
                let other = self.member(other, &equality.right);
                return self.add_equal(one, other);
            }
        }
        let set = self.set_of(&condition)?;
        (set != 0).then(|| self.conditions.push((set, condition)))
    }

    fn member(&self, of: Set, value: &Expr) -> Member {
        let relation = of.trailing_zeros() as usize;
        Member { relation, distinct: self.relations[relation].1.distinct(value), value: value.clone() }
    }

    fn add_equal(&mut self, one: Member, other: Member) -> Option<()> {
        if self.type_of(&one)? != self.type_of(&other)? {
            return None;
        }
        let mut merged = vec![one, other];
        let mut others = Vec::new();
        for class in self.classes.drain(..) {
            if class.iter().any(|member| merged.iter().any(|new| new.value == member.value)) {
                merged.extend(class);
            } else {
                others.push(class);
            }
        }
        let mut distinct: Vec<Member> = Vec::new();
        for member in merged {
            if !distinct.iter().any(|known| known.value == member.value) {
                distinct.push(member);
            }
        }
        others.push(distinct);
        self.classes = others;
        Some(())
    }

    fn type_of(&self, member: &Member) -> Option<datafusion::arrow::datatypes::DataType> {
        member.value.get_type(self.relations[member.relation].0.schema()).ok()
    }

    /// The relations whose columns an expression uses; `None` where a column is of none of them, as in a correlated
    /// query.
    fn set_of(&self, expr: &Expr) -> Option<Set> {
        let mut set = 0;
        for column in expr.column_refs() {
            let has_it = |plan: &LogicalPlan| plan.schema().iter().any(|field| Column::from(field) == *column);
            let at = self.relations.iter().position(|(plan, _)| has_it(plan))?;
            set |= 1 << at;
        }
        Some(set)
    }

    /// The plan that joins the relations in the order of `tree`, with all conditions.
    pub(super) fn joined(&self, tree: &Tree) -> Result<LogicalPlan> {
        Ok(match tree {
            Tree::Relation(at) => {
                let plan = self.relations[*at].0.clone();
                match self.conditions_of(|set| set == 1 << at) {
                    Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?),
                    None => plan,
                }
            }
            Tree::Join(left, right) => {
                let (one, other) = (left.set(), right.set());
                let is_new = |set: Set| set & !(one | other) == 0 && set & one != 0 && set & other != 0;
                LogicalPlan::Join(Join::try_new(
                    Arc::new(self.joined(left)?),
                    Arc::new(self.joined(right)?),
                    self.classes.iter().filter_map(|class| pair(class, one, other)).collect(),
                    self.conditions_of(is_new),
                    JoinType::Inner,
                    JoinConstraint::On,
                    NullEquality::NullEqualsNothing,
                    false,
                )?)
            }
        })
    }

    fn conditions_of(&self, is_wanted: impl Fn(Set) -> bool) -> Option<Expr> {
        conjunction(self.conditions.iter().filter(|(set, _)| is_wanted(*set)).map(|(_, condition)| condition.clone()))
    }
}

impl Tree {
    /// The relations in the tree.
    pub(super) fn set(&self) -> Set {
        match self {
            Tree::Relation(at) => 1 << at,
            Tree::Join(left, right) => left.set() | right.set(),
        }
    }
}

fn flatten<'a>(plan: &'a LogicalPlan, relations: &mut Vec<&'a LogicalPlan>, conditions: &mut Vec<Expr>) -> Tree {
    let Some(join) = inner_join(plan) else {
        relations.push(plan);
        return Tree::Relation(relations.len() - 1);
    };
    let left = flatten(&join.left, relations, conditions);
    let right = flatten(&join.right, relations, conditions);
    conditions.extend(join.on.iter().map(|(one, other)| binary_expr(one.clone(), Operator::Eq, other.clone())));
    conditions.extend(join.filter.iter().flat_map(split_conjunction).cloned());
    Tree::Join(Box::new(left), Box::new(right))
}

fn pair(class: &[Member], one: Set, other: Set) -> Option<(Expr, Expr)> {
    let of = |set: Set| class.iter().find(|member| set & (1 << member.relation) != 0);
    Some((of(one)?.value.clone(), of(other)?.value.clone()))
}

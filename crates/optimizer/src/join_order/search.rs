//! Finds the cheapest order of joins, by dynamic programming over sets of relations (Selinger's method, with bushy
//! trees). The cost of an order is the number of rows that all its joins return and hash.

use super::graph::{Graph, Member, Set, Tree};

/// The share of rows that meet a condition over several relations.
const CONDITION: f64 = 0.3;

/// The result of the search.
pub(super) struct CheapestOrder {
    /// The order.
    pub(super) tree: Tree,
    /// Its cost, in rows.
    pub(super) cost: f64,
}

/// The cheapest join found for a set of relations.
#[derive(Clone, Copy)]
struct JoinCandidate {
    set: Set,
    rows: f64,
    cost: f64,
    /// The relations on its left side; empty for a single relation.
    left: Set,
}

/// The cheapest order of all; `None` where the relations are not all connected by equalities.
pub(super) fn cheapest(graph: &Graph) -> Option<CheapestOrder> {
    let all: Set = (1 << graph.relations.len()) - 1;
    let mut best: Vec<Option<JoinCandidate>> = vec![None; all as usize + 1];
    for set in 1..=all {
        best[set as usize] = match set.count_ones() {
            1 => Some(relation(graph, set.trailing_zeros() as usize)),
            _ => splits(set)
                .filter_map(|left| join(graph, best[left as usize]?, best[(set & !left) as usize]?))
                .min_by(|one, other| one.cost.total_cmp(&other.cost)),
        };
    }
    Some(CheapestOrder { tree: tree(&best, all)?, cost: best[all as usize]?.cost })
}

/// The cost of a given order.
pub(super) fn cost(graph: &Graph, tree: &Tree) -> Option<f64> {
    fn of(graph: &Graph, tree: &Tree) -> JoinCandidate {
        match tree {
            Tree::Relation(at) => relation(graph, *at),
            Tree::Join(left, right) => {
                let (left, right) = (of(graph, left), of(graph, right));
                let rows = left.rows * right.rows * share(graph, left.set, right.set).unwrap_or(1.0);
                joined(left, right, rows)
            }
        }
    }
    Some(of(graph, tree).cost)
}

/// Each way to split a set in two, once.
fn splits(set: Set) -> impl Iterator<Item = Set> {
    let lowest = set & set.wrapping_neg();
    let others = set & !lowest;
    let next = move |part: &Set| (*part != 0).then(|| (part - 1) & others);
    std::iter::successors(Some(others), next).map(move |part| part | lowest).filter(move |part| *part != set)
}

fn relation(graph: &Graph, at: usize) -> JoinCandidate {
    let set = 1 << at;
    let conditions = graph.conditions.iter().filter(|(of, _)| *of == set);
    let estimate = &graph.relations[at].1;
    let share: f64 = conditions.map(|(_, condition)| estimate.share(condition)).product();
    JoinCandidate { set, rows: (estimate.rows * share).max(1.0), cost: 0.0, left: 0 }
}

fn join(graph: &Graph, left: JoinCandidate, right: JoinCandidate) -> Option<JoinCandidate> {
    let rows = left.rows * right.rows * share(graph, left.set, right.set)?;
    // DataFusion hashes the left side.
    Some(if left.rows <= right.rows { joined(left, right, rows) } else { joined(right, left, rows) })
}

fn joined(left: JoinCandidate, right: JoinCandidate, rows: f64) -> JoinCandidate {
    let rows = rows.max(1.0);
    let cost = left.cost + right.cost + rows + left.rows.min(right.rows);
    JoinCandidate { set: left.set | right.set, rows, cost, left: left.set }
}

/// The share of all pairs of rows that are joined; `None` where no equality connects the sides.
fn share(graph: &Graph, left: Set, right: Set) -> Option<f64> {
    let mut ties = 0;
    let (mut pairs, mut rows_left, mut rows_right) = (1.0_f64, 1.0_f64, 1.0_f64);
    for class in &graph.classes {
        let Some((one, other)) = fewest(class, left).zip(fewest(class, right)) else { continue };
        ties += 1;
        pairs *= one.distinct.max(other.distinct);
        rows_left = rows_left.max(graph.relations[one.relation].1.rows_total);
        rows_right = rows_right.max(graph.relations[other.relation].1.rows_total);
    }
    // A key of several columns has at most as many values as there are rows.
    let pairs = if ties > 1 { pairs.min(rows_left.min(rows_right)) } else { pairs };
    let is_new = |set: Set| set & !(left | right) == 0 && set & left != 0 && set & right != 0;
    let conditions = graph.conditions.iter().filter(|(set, _)| is_new(*set)).count();
    (ties > 0).then(|| CONDITION.powi(i32::try_from(conditions).unwrap_or(i32::MAX)) / pairs)
}

fn fewest(class: &[Member], of: Set) -> Option<&Member> {
    let members = class.iter().filter(|member| of & (1 << member.relation) != 0);
    members.min_by(|one, other| one.distinct.total_cmp(&other.distinct))
}

fn tree(best: &[Option<JoinCandidate>], set: Set) -> Option<Tree> {
    let joined = best[set as usize]?;
    Some(match joined.left {
        0 => Tree::Relation(set.trailing_zeros() as usize),
        left => Tree::Join(Box::new(tree(best, left)?), Box::new(tree(best, set & !left)?)),
    })
}

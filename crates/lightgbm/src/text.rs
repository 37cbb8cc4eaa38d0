//! Reads a model's text: a head of `key=value` lines, a block of such lines for each tree, and what follows
//! `end of trees`.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use base::{Error, Result};

use super::columns::Category;
use super::tree::{Child, Leaves, LinearLeaf, Missing, Split, Test, Tree};
use super::{Columns, Model, Objective};

const END: &str = "end of trees";
const PANDAS: &str = "pandas_categorical:";
/// More outputs, or columns, than any model has: a file that claims them is damaged.
const COUNT_MAX: usize = 10_000_000;

/// The bits of `decision_type`.
const IS_CATEGORICAL: u8 = 1;
const IS_DEFAULT_LEFT: u8 = 2;
const MISSING_SHIFT: u8 = 2;
const MISSING_MASK: u8 = 3;

/// The lines of the head, or of one tree, by their keys.
struct Block<'a> {
    name: String,
    lines: HashMap<&'a str, &'a str>,
}

pub(crate) fn parse(text: &str) -> Result<Model> {
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some("tree") {
        return Err(Error::input("it is no model of LightGBM: its first line is not \"tree\"")
            .hint("write it with Booster.save_model(\"model.txt\")"));
    }
    let mut blocks = vec![Block { name: "the head".to_owned(), lines: HashMap::new() }];
    let mut is_whole = false;
    for line in lines.by_ref() {
        if line == END {
            is_whole = true;
            break;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if key == "Tree" {
            blocks.push(Block { name: format!("tree {value}"), lines: HashMap::new() });
        } else if let Some(block) = blocks.last_mut() {
            block.lines.insert(key, value);
        }
    }
    if !is_whole {
        return Err(Error::input(format!("the file is cut off: it has no line {END:?}")));
    }
    let pandas = lines.find_map(|line| line.strip_prefix(PANDAS)).unwrap_or("null");
    let mut blocks = blocks.into_iter();
    let head = blocks.next().ok_or_else(|| Error::bug("a model has a head"))?;
    model(&head, blocks, pandas)
}

fn model<'a>(head: &Block<'a>, trees: impl Iterator<Item = Block<'a>>, pandas: &str) -> Result<Model> {
    let version = head.text("version")?;
    if !["v2", "v3", "v4"].contains(&version) {
        return Err(Error::input(format!("the version of its format is {version:?}: v2, v3 and v4 are known")));
    }
    let trees_per_iteration: usize = match head.lines.contains_key("num_tree_per_iteration") {
        true => head.number("num_tree_per_iteration")?,
        false => head.number("num_class")?,
    };
    let last_column: usize = head.number("max_feature_idx")?;
    if trees_per_iteration == 0 || trees_per_iteration > COUNT_MAX || last_column >= COUNT_MAX {
        return Err(Error::input("num_tree_per_iteration and max_feature_idx are not those of a model"));
    }
    let names: Vec<String> = head.text("feature_names")?.split_ascii_whitespace().map(str::to_owned).collect();
    if names.len() != last_column + 1 {
        let what = format!("it names {} columns, and has {} by max_feature_idx", names.len(), last_column + 1);
        return Err(Error::input(what));
    }
    let categories = categories(head.lines.get("feature_infos").copied().unwrap_or_default(), names.len(), pandas)?;
    let objective = Objective::parse(head.lines.get("objective").copied().unwrap_or_default())?;
    let trees = trees.map(|block| tree(&block, names.len())).collect::<Result<Vec<_>>>()?;
    let expected = head.lines.get("tree_sizes").map(|sizes| sizes.split_ascii_whitespace().count());
    if expected.is_some_and(|expected| expected != trees.len()) || trees.len() % trees_per_iteration != 0 {
        let expected = expected.unwrap_or_default();
        return Err(Error::input(format!("it has {} trees, expected {expected}: a part is missing", trees.len())));
    }
    let is_averaged = head.lines.contains_key("average_output");
    Ok(Model { columns: Columns::new(names, categories), objective, trees_per_iteration, is_averaged, trees })
}

/// Pandas' categories, by column. The model lists them without the names of their columns, in the order of the categorical
/// columns, which `feature_infos` shows as `0:1:2` in place of `[0:2]`. A column that LightGBM has not used is `none`,
/// whatever it is.
fn categories(infos: &str, columns: usize, pandas: &str) -> Result<Vec<Option<Vec<Category>>>> {
    let lists: Option<Vec<Vec<Category>>> = serde_json::from_str(pandas)
        .map_err(|error| Error::input(format!("its line {PANDAS:?} can't be read")).because(error))?;
    let mut all = vec![None; columns];
    let lists = lists.unwrap_or_default();
    let infos: Vec<&str> = infos.split_ascii_whitespace().collect();
    let places = |is_category: fn(&str) -> bool| -> Vec<usize> {
        (0..columns).filter(|at| infos.get(*at).is_some_and(|info| is_category(info))).collect()
    };
    let sure = places(|info| !info.starts_with('[') && info != "none");
    let possible = places(|info| !info.starts_with('['));
    let places = match lists.len() {
        // The categories of other data than pandas' are numbers.
        0 => Vec::new(),
        count if count == sure.len() => sure,
        count if count == possible.len() => possible,
        count => {
            let what = format!("it has {count} lists of categories, for {} columns", sure.len());
            let hint = "train it without constant or unused columns: they hide which column a list is for";
            return Err(Error::input(what).hint(hint));
        }
    };
    for (at, list) in places.into_iter().zip(lists) {
        all[at] = Some(list);
    }
    Ok(all)
}

fn tree(block: &Block<'_>, columns: usize) -> Result<Tree> {
    let read = || -> Result<Tree> {
        let leaf_count: usize = block.number("num_leaves")?;
        let leaf_values: Vec<f64> = block.numbers("leaf_value", leaf_count)?;
        let is_linear = block.lines.get("is_linear").is_some_and(|written| *written == "1");
        let leaves = if is_linear { linear_leaves(block, leaf_values)? } else { Leaves::Constant(leaf_values) };
        let (splits, sets) = if leaf_count > 1 { splits(block, leaf_count - 1)? } else { Default::default() };
        Tree::new(splits, leaves, sets, columns)
    };
    read().map_err(|error| error.within(format!("read {}", block.name)))
}

fn splits(block: &Block<'_>, count: usize) -> Result<(Vec<Split>, Vec<u32>)> {
    let columns: Vec<u32> = block.numbers("split_feature", count)?;
    let thresholds: Vec<f64> = block.numbers("threshold", count)?;
    let kinds: Vec<u8> = block.numbers("decision_type", count)?;
    let lefts: Vec<i32> = block.numbers("left_child", count)?;
    let rights: Vec<i32> = block.numbers("right_child", count)?;
    let sets_count: usize = match block.lines.contains_key("num_cat") {
        true => block.number("num_cat")?,
        false => 0,
    };
    let (bounds, sets): (Vec<u32>, Vec<u32>) = match sets_count {
        0 => Default::default(),
        count if count < COUNT_MAX => {
            let bounds: Vec<u32> = block.numbers("cat_boundaries", count + 1)?;
            let words = bounds.last().copied().unwrap_or_default() as usize;
            (bounds, block.numbers("cat_threshold", words)?)
        }
        count => return Err(Error::input(format!("num_cat={count} is not that of a tree"))),
    };
    let test = |at: usize| -> Result<Test> {
        let (kind, threshold) = (kinds[at], thresholds[at]);
        if kind & IS_CATEGORICAL == 0 {
            let missing = match (kind >> MISSING_SHIFT) & MISSING_MASK {
                0 => Missing::None,
                1 => Missing::Zero,
                2 => Missing::Nan,
                _ => return Err(Error::input(format!("decision_type {kind} of split {at} is unknown"))),
            };
            return Ok(Test::Number { threshold, missing, default_left: kind & IS_DEFAULT_LEFT != 0 });
        }
        let place = threshold as usize;
        match (bounds.get(place), bounds.get(place.saturating_add(1))) {
            (Some(&from), Some(&to)) if from <= to && to as usize <= sets.len() => Ok(Test::Category { from, to }),
            _ => Err(Error::input(format!("split {at} has no set of categories: threshold is {threshold}"))),
        }
    };
    let split = |at: usize| -> Result<Split> {
        Ok(Split { column: columns[at], left: child(lefts[at]), right: child(rights[at]), test: test(at)? })
    };
    Ok(((0..count).map(split).collect::<Result<_>>()?, sets))
}

/// Leaves are written as the complement of their number.
fn child(written: i32) -> Child {
    match u32::try_from(written) {
        Ok(split) => Child::Split(split),
        Err(_) => Child::Leaf((!written) as u32),
    }
}

/// The numbers of all leaves stand in one line; `num_features` says how many each has.
fn linear_leaves(block: &Block<'_>, otherwise: Vec<f64>) -> Result<Leaves> {
    let constants: Vec<f64> = block.numbers("leaf_const", otherwise.len())?;
    let counts: Vec<usize> = block.numbers("num_features", otherwise.len())?;
    let total = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count));
    let total = total.ok_or_else(|| Error::input("num_features is not that of a tree"))?;
    let columns: Vec<u32> = block.numbers("leaf_features", total)?;
    let coefficients: Vec<f64> = block.numbers("leaf_coeff", total)?;
    let mut terms = columns.into_iter().zip(coefficients);
    let leaf = |((constant, otherwise), count): ((f64, f64), usize)| LinearLeaf {
        constant,
        terms: terms.by_ref().take(count).collect(),
        otherwise,
    };
    Ok(Leaves::Linear(constants.into_iter().zip(otherwise).zip(counts).map(leaf).collect()))
}

impl<'a> Block<'a> {
    fn text(&self, key: &str) -> Result<&'a str> {
        let missing = || Error::input(format!("{} has no line {:?}", self.name, format!("{key}=")));
        self.lines.get(key).copied().ok_or_else(missing)
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T> {
        let written = self.text(key)?;
        written.parse().map_err(|_| Error::input(format!("{}: {key}={written} is not a valid number", self.name)))
    }

    /// The `expected` numbers of a line.
    fn numbers<T: FromStr<Err: Display>>(&self, key: &str, expected: usize) -> Result<Vec<T>> {
        let written = match (expected, self.lines.get(key)) {
            (0, None) => "",
            _ => self.text(key)?,
        };
        let mut numbers = Vec::new();
        for word in written.split_ascii_whitespace() {
            let number = word.parse().map_err(|error| Error::input(format!("{key}: {word:?}: {error}")))?;
            numbers.push(number);
        }
        if numbers.len() != expected {
            return Err(Error::input(format!("{key} has {} numbers, expected {expected}", numbers.len())));
        }
        Ok(numbers)
    }
}

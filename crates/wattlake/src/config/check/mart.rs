//! `marts/NAME.sql` and `marts/SCHEMA/NAME.sql`: the lines at the top that begin with `--|` are
//! TOML, the rest is one SELECT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::super::mart::{SCHEMA, ordered};
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Which};
use super::super::{Mart, MartKind, shape};
use super::files::{self, entries, read_text, whole_file};
use super::{job, texts};

const FOLDER: &str = "marts";
/// Schemas that are somebody else's.
const TAKEN: [&str; 3] = ["system", "information_schema", "pg_catalog"];

pub fn load(root: &Path, zone: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, Mart> {
    let found = sources(root).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    let read: Vec<Mart> = found.iter().filter_map(|(schema, file)| read(root, schema, file, zone, problems)).collect();
    let mut marts: BTreeMap<String, Mart> = read.into_iter().map(|mart| (mart.name.clone(), mart)).collect();
    let all = marts.clone();
    for mart in marts.values_mut() {
        let below = all.values().filter(|other| mart.reads.iter().any(|read| other.is_named(read)));
        mart.stands_on = below.map(|other| other.name.clone()).collect();
    }
    if let Err(round) = ordered(&marts) {
        let file = round.first().and_then(|name| marts.get(name)).map_or(Path::new(FOLDER), |mart| &mart.file);
        let file = file.strip_prefix(root).unwrap_or(file);
        let what = format!("the mart stands on itself: {}", round.join(" -> "));
        problems.push(whole_file(file, what, Some("take one of these out of the other's query".to_owned())));
    }
    marts
}

/// With the schema of each, in order of names.
fn sources(root: &Path) -> Result<Vec<(String, PathBuf)>, Problem> {
    let mut found = Vec::new();
    for (name, is_folder) in entries(root, Path::new(FOLDER))? {
        if is_folder {
            let folder = Path::new(FOLDER).join(&name);
            for (file, is_folder) in entries(root, &folder)? {
                if !is_folder && is_sql(&file) {
                    found.push((name.clone(), folder.join(file)));
                }
            }
        } else if is_sql(&name) {
            found.push((SCHEMA.to_owned(), Path::new(FOLDER).join(name)));
        }
    }
    found.sort();
    Ok(found)
}

fn is_sql(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "sql")
}

fn read(root: &Path, schema: &str, file: &Path, zone: &str, problems: &mut Vec<Problem>) -> Option<Mart> {
    let text = read_text(root, file).map_err(|problem| problems.push(problem)).ok()?;
    let head = files::head(&text);
    let mut report = Report::new(file, &head);
    let mart = check(root, schema, file, &text, zone, &mut report);
    problems.extend(report.finish());
    mart
}

fn check(root: &Path, schema: &str, file: &Path, text: &str, zone: &str, report: &mut Report<'_>) -> Option<Mart> {
    let table = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    check_name("mart", &table, report);
    if schema != SCHEMA {
        check_name("schema", schema, report);
    }
    if TAKEN.contains(&schema) {
        report.add(0..0, format!("the schema {schema:?} is not for marts"), "name its folder otherwise".to_owned());
    }
    let body = files::body(text, report);
    let tree = shape::tree(report)?;
    let raw: raw::Mart = shape::read(Which::Mart, tree, report)?;
    let kind = raw.kind.get().map_or(MartKind::View, |kind| match kind {
        raw::MartKind::View => MartKind::View,
        raw::MartKind::Table => MartKind::Table,
    });
    if kind == MartKind::View {
        for (key, span) in [("since", raw.since.span()), ("order", raw.order.span()), ("triggers", raw.triggers.span())]
        {
            if let Some(span) = span {
                let hint = format!("add kind = \"table\", or take {key:?} out");
                report.add(span, format!("{key:?} means nothing to a view"), hint);
            }
        }
    }
    let reads = match sql::references(text) {
        Ok(reads) => reads,
        Err(error) => {
            report.add(body..body, crate::report::chain(&error), None);
            Vec::new()
        }
    };
    let order = raw.order.get().into_iter().flatten().map(Spanned::get_ref).cloned().collect();
    Some(Mart {
        name: Mart::name_of(schema, &table),
        file: root.join(file),
        schema: schema.to_owned(),
        table,
        kind,
        description: raw.description.get().cloned(),
        since: raw.since.get().cloned(),
        order,
        sql: text.to_owned(),
        reads,
        stands_on: Default::default(),
        follows_inputs: raw.triggers.get().is_none(),
        rules: job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report),
    })
}

/// One that SQL takes without quotes.
fn check_name(noun: &str, name: &str, report: &mut Report<'_>) {
    if !texts::is_plain(name) {
        let hint = "use a-z, 0-9 and _ only, and no digit first, so that SQL takes it without quotes".to_owned();
        report.add(0..0, format!("a {noun} can't be called {name:?}"), hint);
    }
}

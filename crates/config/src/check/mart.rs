//! Reads `marts/NAME.sql` and `marts/SCHEMA/NAME.sql`: the lines at the top that begin with `--|` are TOML, the rest
//! is one SELECT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::super::Problem;
use super::super::mart::{DEFAULT_SCHEMA, in_dependency_order};
use super::super::problem::FileProblems;
use super::super::raw::{self, FileKind};
use super::super::{Mart, MartKind, schema_check};
use super::files::{self, entries, read_text, whole_file};
use super::{job, texts};

const FOLDER: &str = "marts";
/// Schemas of system tables, which can't have marts.
const RESERVED_SCHEMAS: [&str; 3] = ["system", "information_schema", "pg_catalog"];

/// Reads all marts, by name, with the marts that each depends on.
pub fn load(root: &Path, zone: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, Mart> {
    let found = sources(root).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    let read: Vec<Mart> = found.iter().filter_map(|(schema, file)| read(root, schema, file, zone, problems)).collect();
    let mut marts: BTreeMap<String, Mart> = read.into_iter().map(|mart| (mart.name.clone(), mart)).collect();
    let all = marts.clone();
    for mart in marts.values_mut() {
        let inputs = all.values().filter(|other| mart.reads.iter().any(|read| other.may_be_named_by(read)));
        mart.depends_on = inputs.map(|other| other.name.clone()).collect();
    }
    if let Err(cycle) = in_dependency_order(&marts) {
        let file = cycle.first().and_then(|name| marts.get(name)).map_or(Path::new(FOLDER), |mart| &mart.file);
        let file = file.strip_prefix(root).unwrap_or(file);
        let what = format!("the mart depends on itself: {}", cycle.join(" -> "));
        problems.push(whole_file(file, what, Some("remove one of these from the other's query".to_owned())));
    }
    marts
}

/// The SQL files with the schema of each, sorted.
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
            found.push((DEFAULT_SCHEMA.to_owned(), Path::new(FOLDER).join(name)));
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
    let mut report = FileProblems::new(file, &head);
    let mart = check(root, schema, file, &text, zone, &mut report);
    problems.extend(report.finish());
    mart
}

fn check(
    root: &Path,
    schema: &str,
    file: &Path,
    text: &str,
    zone: &str,
    report: &mut FileProblems<'_>,
) -> Option<Mart> {
    let table = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    check_name("mart", &table, report);
    if schema != DEFAULT_SCHEMA {
        check_name("schema", schema, report);
    }
    if RESERVED_SCHEMAS.contains(&schema) {
        report.add(0..0, format!("the schema {schema:?} is reserved"), "rename the folder".to_owned());
    }
    let body = files::body(text, report);
    let tree = schema_check::tree(report)?;
    let raw: raw::Mart = schema_check::read(FileKind::Mart, tree, report)?;
    let kind = raw.kind.get().map_or(MartKind::View, |kind| match kind {
        raw::MartKind::View => MartKind::View,
        raw::MartKind::Table => MartKind::Table,
    });
    if kind == MartKind::View {
        for (key, span) in [("since", raw.since.span()), ("order", raw.order.span()), ("triggers", raw.triggers.span())]
        {
            if let Some(span) = span {
                let hint = format!("add kind = \"table\", or remove {key:?}");
                report.add(span, format!("{key:?} is not for views"), hint);
            }
        }
    }
    let reads = match sql::references(text) {
        Ok(reads) => reads,
        Err(error) => {
            report.add(body..body, base::chain(&error), None);
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
        depends_on: Default::default(),
        follows_inputs: raw.triggers.get().is_none(),
        rules: job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report),
    })
}

/// Checks that SQL accepts the name without quotes.
fn check_name(noun: &str, name: &str, report: &mut FileProblems<'_>) {
    if !texts::is_plain(name) {
        let hint = "use a-z, 0-9 and _ only, and no digit first, so that SQL needs no quotes".to_owned();
        report.add(0..0, format!("{name:?} is not a valid name for a {noun}"), hint);
    }
}

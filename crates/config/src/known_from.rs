//! From when the rows of tables were known, for queries that must not see what came later.

use std::collections::{BTreeMap, BTreeSet};

use ingest::layout::Type;
use sql::Reference;

use super::flow::LoadSource;
use super::{ChannelSource, Load, Mart, MartKind, Problem, Warehouse};

const KNOWN_AT: &str = "known_at";

impl Warehouse {
    /// By `schema.table`, the column with the instant from which a row was known: of tables that collects, predictions and
    /// trainings write, and of those that loads fill from files with a column `known_at`.
    fn known_from(&self) -> BTreeMap<String, &'static str> {
        let name = |schema: &str, table: &str| format!("{schema}.{table}");
        let collects = self.collects.values().map(|one| (name(&one.schema, &one.table), KNOWN_AT));
        let predictions = self.predictions.values().map(|one| (name(&one.schema, &one.table), "issued_at"));
        let trainings = self.trainings.values().flat_map(|one| &one.tables);
        let trainings = trainings.map(|one| (name(&one.schema, &one.table), "recorded_at"));
        let loads = self.loads.values().filter(|load| self.has_known_at(load));
        let loads = loads.map(|one| (name(&one.schema, &one.table), KNOWN_AT));
        loads.chain(trainings).chain(predictions).chain(collects).collect()
    }

    fn has_known_at(&self, load: &Load) -> bool {
        let LoadSource::Ingest(ingest) = &load.from else { return false };
        let is_it =
            |column: &ingest::layout::Column| column.name == KNOWN_AT && matches!(column.kind, Type::Timestamp { .. });
        self.ingests.get(ingest).is_some_and(|ingest| ingest.layout.columns.iter().any(is_it))
    }

    /// The problems of trainings and predictions that read marts which are kept as tables and are made from such tables:
    /// their rows have no instant from which they were known.
    pub(super) fn check_known_from(&self, problems: &mut Vec<Problem>) {
        let known = self.known_from();
        let trainings = self.trainings.values().flat_map(|training| {
            let queries = training.channels.values().filter_map(|source| match source {
                ChannelSource::Query { sql, .. } => Some(sql),
                ChannelSource::Data(_) => None,
            });
            queries.map(|sql| (&training.file, sql))
        });
        let predictions = self.predictions.values().map(|prediction| (&prediction.file, &prediction.input));
        for (file, query) in trainings.chain(predictions) {
            let filled = super::placeholders::fill(query, &|word| super::placeholders::sample(word).to_owned());
            let Ok(reads) = sql::references(&filled) else { continue };
            if let Some(mart) = self.kept_mart(&reads, &known, false, &mut BTreeSet::new()) {
                let file = file.strip_prefix(&self.root).unwrap_or(file).to_owned();
                let what = format!(
                    "the query reads the mart {}, which is kept as a table and does not tell what was known when",
                    mart.name
                );
                let hint = Some(format!("make it a view: kind = \"view\" in {}", mart.file.display()));
                problems.push(Problem { file, line: 1, column: 1, what, hint });
            }
        }
    }

    /// The first mart that is kept as a table on the way from a query to a table of `known`.
    fn kept_mart<'a>(
        &'a self,
        reads: &[Reference],
        known: &BTreeMap<String, &'static str>,
        is_within_kept: bool,
        seen: &mut BTreeSet<String>,
    ) -> Option<&'a Mart> {
        for mart in self.marts.values().filter(|mart| reads.iter().any(|read| mart.may_be_named_by(read))) {
            if !seen.insert(mart.name.clone()) {
                continue;
            }
            let is_kept = is_within_kept || mart.kind == MartKind::Table;
            let reads_known = mart.reads.iter().any(|read| {
                known.keys().any(|name| match &read.schema {
                    Some(schema) => *name == format!("{schema}.{}", read.table),
                    None => name.split('.').next_back() == Some(read.table.as_str()),
                })
            });
            if is_kept && reads_known {
                return Some(mart);
            }
            if let Some(found) = self.kept_mart(&mart.reads, known, is_kept, seen) {
                return Some(if mart.kind == MartKind::Table { mart } else { found });
            }
        }
        None
    }
}

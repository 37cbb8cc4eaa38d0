//! Checks files again whose verdict is by another layout than today's. Quarantined ones may be accepted now. Accepted ones
//! may have other rows now, such as with another factor: they become another version, which loads load like any other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

use anyhow::{Context, Result};
use arrow::row::{RowConverter, SortField};
use ingest::layout::Layout;
use ingest::objects::Hash;
use ingest::read::{self, Fault, Verdict};
use sha2::{Digest, Sha256};

use super::{ArrivalRow, FileVerdict, IngestReport, IngestRun, current, newest_versions, record, tables};

const REASON: &str = "read again, since its layout has changed";

impl IngestRun<'_> {
    /// Checks files of the past again. Returns what was recorded of them. `layout` is the text of today's layout, which is
    /// stored, so that a later run knows what it meant.
    pub(super) async fn recheck(
        &self,
        past: &[ArrivalRow],
        layout: Vec<u8>,
        report: &mut IngestReport,
    ) -> Result<Vec<ArrivalRow>> {
        self.objects.put(futures::stream::iter([Ok(layout.into())])).await.context("store the layout")?;
        let mut versions = newest_versions(past.iter());
        let current = current(past);
        let counts = newest_versions(current.iter().copied().filter(|row| row.verdict == FileVerdict::Accepted));
        let mut former: HashMap<Hash, Option<Layout>> = HashMap::new();
        let mut pending = Vec::new();
        for arrived in current.into_iter().filter(|arrived| arrived.layout != self.layout) {
            match arrived.verdict {
                FileVerdict::Quarantined => {
                    let mut arrived = ArrivalRow { reason: None, ..arrived.clone() };
                    let faults = self.check_object(&mut arrived).await?;
                    record(self.run, &(arrived.clone(), faults.clone()), report)?;
                    pending.push((arrived, faults));
                }
                // Of the versions of a file, the last one counts.
                FileVerdict::Accepted if counts.get(&arrived.name) == Some(&arrived.version) => {
                    let layout = self.former(&mut former, arrived.layout).await?;
                    if layout.is_some_and(|layout| means_the_same(layout, &self.ingest.layout)) {
                        continue;
                    }
                    let newest = versions.entry(arrived.name.clone()).or_default();
                    let (again, faults) = self.read_again(arrived, layout, newest).await?;
                    if again.version != arrived.version || again.verdict != FileVerdict::Accepted {
                        record(self.run, &(again.clone(), faults.clone()), report)?;
                    }
                    pending.push((again, faults));
                }
                FileVerdict::Duplicate if self.is_by_name(arrived, past, &pending) => {
                    let mut arrived = ArrivalRow { reason: None, verdict: FileVerdict::Accepted, ..arrived.clone() };
                    let faults = self.check_object(&mut arrived).await?;
                    record(self.run, &(arrived.clone(), faults.clone()), report)?;
                    pending.push((arrived, faults));
                }
                _ => {}
            }
        }
        let recorded = pending.iter().map(|(arrived, _)| arrived.clone()).collect();
        tables::append(self.lake, self.run, pending).await?;
        Ok(recorded)
    }

    /// Whether a duplicate has rows of its own by today's layout, which takes values from the names of files. Of several with
    /// the same values, the first one has them: `pending` are those before it.
    fn is_by_name(&self, arrived: &ArrivalRow, past: &[ArrivalRow], pending: &[(ArrivalRow, Vec<Fault>)]) -> bool {
        let layout = &self.ingest.layout;
        let values = layout.values_of_name(&arrived.name);
        let with_rows =
            past.iter().filter(|other| !matches!(other.verdict, FileVerdict::Duplicate | FileVerdict::Same));
        let mut same_bytes = with_rows
            .chain(pending.iter().map(|(other, _)| other))
            .filter(|other| other.sha256 == arrived.sha256 && other.name != arrived.name);
        !values.is_empty() && same_bytes.all(|other| layout.values_of_name(&other.name) != values)
    }

    /// Checks an accepted file by today's layout. Where it has other rows than by the former one, it becomes the version
    /// after `newest`; otherwise its row says only that today's layout accepts it too.
    async fn read_again(
        &self,
        arrived: &ArrivalRow,
        former: Option<&Layout>,
        newest: &mut u64,
    ) -> Result<(ArrivalRow, Vec<Fault>)> {
        let mut again = arrived.clone();
        let faults = self.check_object(&mut again).await?;
        if again.verdict != FileVerdict::Accepted {
            return Ok((again, faults));
        }
        let is_same = match former {
            Some(former) => {
                self.rows_hash(arrived, former).await? == self.rows_hash(arrived, &self.ingest.layout).await?
            }
            None => false,
        };
        if !is_same {
            *newest += 1;
            again.version = *newest;
            again.reason = Some(REASON.to_owned());
        }
        Ok((again, faults))
    }

    /// The layout with this hash; `None` where it was not stored.
    async fn former<'f>(&self, known: &'f mut HashMap<Hash, Option<Layout>>, hash: Hash) -> Result<Option<&'f Layout>> {
        if let Entry::Vacant(free) = known.entry(hash) {
            let text = match self.objects.get(&hash).await {
                Ok(mut file) => Some(io::read_to_string(&mut file).context("read a former layout")?),
                Err(_) => None,
            };
            free.insert(text.and_then(|text| Layout::parse(&text).ok()));
        }
        Ok(known.get(&hash).and_then(Option::as_ref))
    }

    /// The hash of the rows that a file has by a layout; `None` where it is quarantined.
    async fn rows_hash(&self, arrived: &ArrivalRow, layout: &Layout) -> Result<Option<Vec<u8>>> {
        let object = self.objects.get(&arrived.sha256).await?;
        let (layout, name) = (layout.clone(), arrived.name.clone());
        let read = tokio::task::spawn_blocking(move || -> Result<_> {
            let schema = layout.schema();
            let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
            let converter = RowConverter::new(fields)?;
            let mut hash = Sha256::new_with_prefix(format!("{schema:?}"));
            let report = read::read(object, &name, &layout, &mut |rows| {
                let encoded = converter.convert_columns(rows.batch.columns());
                let encoded =
                    encoded.map_err(|error| ingest::Error::new(ingest::Kind::Bug, "encode rows").because(error))?;
                for row in &encoded {
                    hash.update(row.data().len().to_le_bytes());
                    hash.update(row.data());
                }
                Ok(())
            })?;
            Ok((report.verdict == Verdict::Accept).then(|| hash.finalize().to_vec()))
        });
        read.await.context("read a file")?.with_context(|| format!("read {}", arrived.name))
    }
}

/// Whether two layouts read every file alike: their texts may have other comments.
fn means_the_same(one: &Layout, other: &Layout) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

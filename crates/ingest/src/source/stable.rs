//! Skips files that are still being written: their size and time must not change for a while.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta, Utc};

use super::{ListedFile, Listing, SkipReason, SkippedFile, Source};
use crate::Result;

/// Lists the files of a source that did not change for the time `still`. Where every file was last
/// modified longer ago than that, one listing is enough; otherwise the source is listed twice, `still` apart.
///
/// # Errors
/// An error of [`Source::list`].
pub async fn list_stable(source: &dyn Source, date: NaiveDate, still: Duration) -> Result<Listing> {
    let first = source.list(date).await?;
    let old_enough = Utc::now() - TimeDelta::from_std(still).unwrap_or(TimeDelta::MAX);
    if still.is_zero() || first.files.iter().all(|file| file.modified.is_some_and(|at| at <= old_enough)) {
        return Ok(first);
    }
    tokio::time::sleep(still).await;
    Ok(retain_stable(&first.files, source.list(date).await?))
}

/// Of the listing `now`, the files that are equal to those of `before`; the others become skipped.
pub(super) fn retain_stable(before: &[ListedFile], now: Listing) -> Listing {
    let Listing { files, mut skipped } = now;
    let is_still = |file: &ListedFile| {
        let at = before.binary_search_by(|seen| seen.name.cmp(&file.name));
        at.is_ok_and(|at| before[at] == *file)
    };
    let (files, growing): (Vec<ListedFile>, Vec<ListedFile>) = files.into_iter().partition(is_still);
    skipped.extend(growing.into_iter().map(|file| SkippedFile { name: file.name, reason: SkipReason::Growing }));
    Listing { files, skipped }
}

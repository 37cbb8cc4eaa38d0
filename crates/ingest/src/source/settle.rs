//! A file that is still being written is left for next time: its size and time must stand still.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta, Utc};

use super::{Left, Listed, Listing, Source, Why};
use crate::Result;

/// What a source lists and has stood still for `still`. Where all files are older than that by their
/// own times there is nothing to wait for; else they are listed twice, `still` apart.
///
/// # Errors
/// Those of [`Source::list`].
pub async fn settled(source: &dyn Source, date: NaiveDate, still: Duration) -> Result<Listing> {
    let first = source.list(date).await?;
    let old_enough = Utc::now() - TimeDelta::from_std(still).unwrap_or(TimeDelta::MAX);
    if still.is_zero() || first.files.iter().all(|file| file.modified.is_some_and(|at| at <= old_enough)) {
        return Ok(first);
    }
    tokio::time::sleep(still).await;
    Ok(stood_still(&first.files, source.list(date).await?))
}

/// Of `now`, what is as it was.
pub(super) fn stood_still(before: &[Listed], now: Listing) -> Listing {
    let Listing { files, mut left } = now;
    let is_still = |file: &Listed| {
        let at = before.binary_search_by(|seen| seen.name.cmp(&file.name));
        at.is_ok_and(|at| before[at] == *file)
    };
    let (files, growing): (Vec<Listed>, Vec<Listed>) = files.into_iter().partition(is_still);
    left.extend(growing.into_iter().map(|file| Left { name: file.name, why: Why::Growing }));
    Listing { files, left }
}

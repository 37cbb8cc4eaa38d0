//! What has changed in a collect since its earlier runs: its table, its key, and what it asks for.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::answers::ItemState;
use super::{ASKED_TO, CollectRun, NEWEST};

impl CollectRun<'_> {
    /// Takes note of changes of the configuration, before anything is asked for.
    ///
    /// # Errors
    /// The values that the table has would be there a second time.
    pub(super) async fn note_changes(&mut self) -> Result<()> {
        self.forget_other_table().await?;
        self.check_key().await?;
        self.check_parts().await
    }

    /// Forgets when items were asked for that went into another table, or into one that is gone: all that the partner
    /// has is history again.
    async fn forget_other_table(&mut self) -> Result<()> {
        let target = self.target().to_string();
        let is_other = self.state.table.as_ref().is_some_and(|table| *table != target);
        let is_gone = self.lake.table(&self.target()).await?.is_none();
        let before = self.state.clone();
        if is_other || is_gone {
            let was_accepted = |state: &ItemState| state.asked_at.is_some() || state.asked_to.is_some();
            let accepted = before.items.iter().filter(|(_, state)| was_accepted(state));
            for (name, state) in accepted {
                if self.position(ASKED_TO, name).await?.is_none() {
                    let quarantined_answers = state.quarantined_answers.clone();
                    let state = ItemState { quarantined_answers, ..ItemState::default() };
                    self.state.items.insert(name.clone(), state);
                }
            }
        }
        self.state.table = Some(target);
        if self.state != before {
            self.state.write(&self.lake, &self.collect.name).await?;
        }
        Ok(())
    }

    /// Refuses a key with a column that the values of this collect do not have.
    async fn check_key(&self) -> Result<()> {
        let Some(table) = self.lake.table(&self.target()).await? else { return Ok(()) };
        let there = table.schema()?;
        let Some(missing) = self.columns.key.iter().find(|name| there.field_with_name(name).is_err()) else {
            return Ok(());
        };
        for name in self.state.items.keys() {
            if self.position(NEWEST, name).await?.is_some() {
                let what =
                    format!("the layout's key has a column {missing:?}, which the values in {} lack", self.target());
                bail!(self.twice(what));
            }
        }
        Ok(())
    }

    /// Refuses items with other parts than those of the values that are there.
    async fn check_parts(&self) -> Result<()> {
        let parts: BTreeSet<&str> =
            self.collect.items.iter().flat_map(|item| item.keys()).map(String::as_str).collect();
        for name in self.state.items.keys().filter(|name| parts_of(name) != parts) {
            if self.position(NEWEST, name).await?.is_some() && !self.has_collected().await? {
                let shown = |parts: &BTreeSet<&str>| match parts.is_empty() {
                    true => "nothing".to_owned(),
                    false => base::quoted_list(parts.iter().copied()),
                };
                let (now, then) = (shown(&parts), shown(&parts_of(name)));
                let what =
                    format!("[each] has {now}, and had {then} when the values in {} were collected", self.target());
                bail!(self.twice(what));
            }
        }
        Ok(())
    }

    /// Whether the table has values of one of the items.
    async fn has_collected(&self) -> Result<bool> {
        for item in &self.collect.items {
            if self.position(NEWEST, &config::Collect::item_name(item)).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn twice(&self, what: String) -> base::Error {
        let error = base::Error::setup(format!("{what}: they would be there a second time"));
        error.hint("collect into another `table`; it gets all values from `since` on")
    }
}

/// The names of the parts of an item, by its name: `station` of `station=V1`.
fn parts_of(name: &str) -> BTreeSet<&str> {
    name.split(',').filter_map(|part| part.split_once('=')).map(|(part, _)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::parts_of;

    #[test]
    fn an_items_name_has_its_parts() {
        assert_eq!(parts_of("station=V1,unit=2").into_iter().collect::<Vec<_>>(), ["station", "unit"]);
        assert!(parts_of("").is_empty());
    }
}

//! Whether an object store refuses to write in the place of an object that exists. Commits depend on it: without, two
//! writers would lose each other's versions.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::error::{Context, Error, Kind, Result};
use crate::location::Lake;

impl Lake {
    /// Checks that the store honours conditional writes, by writing one object twice and removing it. Nothing is done for
    /// a folder.
    ///
    /// # Errors
    /// [`Kind::FixSetup`] where the store overwrites the object, or the lake can't be written; [`Kind::Retry`] where it
    /// does not answer.
    pub async fn check_store(&self) -> Result<()> {
        if self.url().scheme() == "file" {
            return Ok(());
        }
        const CONTEXT: &str = "check that the lake's store honours If-None-Match";
        let (store, path) = (self.objects(), Path::from(format!("probe-{}", Uuid::new_v4())));
        let write = || store.put_opts(&path, "probe".into(), PutOptions::from(PutMode::Create));
        write().await.context(CONTEXT)?;
        let second = write().await;
        store.delete(&path).await.context(CONTEXT)?;
        match second {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(error).context(CONTEXT),
            Ok(_) => {
                let what = format!("{CONTEXT}: it overwrites objects that exist, so that writers would lose commits");
                Err(Error::new(Kind::FixSetup, what).hint("use a store, or a version of it, with conditional writes"))
            }
        }
    }
}

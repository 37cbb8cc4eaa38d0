//! An object store, of another owner's or of ours: S3 and its kin, Google, Azure, or a folder by its URL.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::{FILES_MAX, Listed, Listing, Opened, Pattern, Source, Template, changed};
use crate::error::During;
use crate::{Error, Kind, Result};

pub struct Store {
    store: Arc<dyn ObjectStore>,
    patterns: Vec<Template>,
}

impl Store {
    /// `url` with its prefix, such as `s3://deliveries/meters`; `options` go to the object store as they are.
    ///
    /// # Errors
    /// `FixSetup` where the URL or an option is not understood.
    pub fn open(url: &str, options: &HashMap<String, String>, patterns: Vec<Template>) -> Result<Store> {
        let context = format!("open the store {url}");
        let url = url::Url::parse(url).during(Kind::FixSetup, context.clone())?;
        let (store, prefix) = object_store::parse_url_opts(&url, options).during(Kind::FixSetup, context)?;
        Ok(Store::new(Arc::new(PrefixStore::new(store, prefix)), patterns))
    }

    pub fn new(store: Arc<dyn ObjectStore>, patterns: Vec<Template>) -> Store {
        Store { store, patterns }
    }

    async fn list_one(&self, pattern: &Pattern, listing: &mut Listing) -> Result<()> {
        let folder = Path::parse(pattern.folder()).during(Kind::FixInput, "list the store")?;
        let prefix = (!pattern.folder().is_empty()).then_some(&folder);
        let mut objects = self.store.list(prefix);
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| failed("list the store", error))?;
            if pattern.matches(object.location.as_ref()) {
                listing.files.push(described(&object));
            }
            if listing.files.len() > FILES_MAX {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Store {
    async fn list(&self, date: NaiveDate) -> Result<Listing> {
        let mut listing = Listing::default();
        for pattern in &self.patterns {
            self.list_one(&Pattern::parse(&pattern.fill(date))?, &mut listing).await?;
        }
        listing.finish()
    }

    async fn open(&self, file: &Listed, from: u64) -> Result<Opened> {
        let context = format!("read {}", file.name);
        let location = Path::parse(&file.name).during(Kind::FixInput, context.clone())?;
        // A range of nothing is an error of its own to most stores.
        if from > 0 && file.size == Some(from) {
            return Ok(Opened { from, bytes: futures::stream::empty().boxed() });
        }
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, if_match: file.etag.clone(), ..GetOptions::default() };
        let got = self.store.get_opts(&location, options).await.map_err(|error| match error {
            object_store::Error::Precondition { .. } => changed(&file.name),
            error => failed(&context, error),
        })?;
        if !described(&got.meta).is_like(file) {
            return Err(changed(&file.name));
        }
        let bytes = got.into_stream().map_err(move |error| failed(&context, error));
        Ok(Opened { from, bytes: bytes.boxed() })
    }
}

fn described(object: &ObjectMeta) -> Listed {
    Listed {
        name: object.location.to_string(),
        size: Some(object.size),
        modified: Some(object.last_modified),
        etag: object.e_tag.clone(),
    }
}

/// What a store's error lets its reader do.
pub(crate) fn failed(context: &str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let kind = match &error {
        E::NotFound { .. } | E::InvalidPath { .. } => Kind::FixInput,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::UnknownConfigurationKey { .. } => Kind::FixSetup,
        E::NotSupported { .. } | E::NotImplemented { .. } => Kind::FixSetup,
        _ => Kind::Retry,
    };
    Error::new(kind, context).because(error)
}

//! An object store as a source: S3 and compatible stores, Google Cloud Storage, Azure, or a folder by its URL.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::{FILES_MAX, ListedFile, Listing, OpenedFile, Pattern, Source, Template, file_changed};
use crate::error::ErrorContext;
use crate::{Error, Kind, Result};

/// An object store, from a prefix.
pub struct Store {
    store: Arc<dyn ObjectStore>,
    patterns: Vec<Template>,
}

impl Store {
    /// `url` includes the prefix, such as `s3://deliveries/meters`; `options` are passed to the store unchanged.
    ///
    /// # Errors
    /// `FixSetup` where the URL or an option is not valid.
    pub fn open(url: &str, options: &HashMap<String, String>, patterns: Vec<Template>) -> Result<Store> {
        let context = format!("open the store {url}");
        let url = url::Url::parse(url).during(Kind::FixSetup, context.clone())?;
        let (store, prefix) = object_store::parse_url_opts(&url, options).during(Kind::FixSetup, context)?;
        Ok(Store::new(Arc::new(PrefixStore::new(store, prefix)), patterns))
    }

    /// Of a store that is open, the objects that match any of the patterns.
    pub fn new(store: Arc<dyn ObjectStore>, patterns: Vec<Template>) -> Store {
        Store { store, patterns }
    }

    async fn list_one(&self, pattern: &Pattern, listing: &mut Listing) -> Result<()> {
        let folder = Path::parse(pattern.folder()).during(Kind::FixInput, "list the store")?;
        let prefix = (!pattern.folder().is_empty()).then_some(&folder);
        let mut objects = self.store.list(prefix);
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| store_error("list the store", error))?;
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

    async fn open(&self, file: &ListedFile, from: u64) -> Result<OpenedFile> {
        let context = format!("read {}", file.name);
        let location = Path::parse(&file.name).during(Kind::FixInput, context.clone())?;
        // Most stores refuse an empty range.
        if from > 0 && file.size == Some(from) {
            return Ok(OpenedFile { from, bytes: futures::stream::empty().boxed() });
        }
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, if_match: file.etag.clone(), ..GetOptions::default() };
        let got = self.store.get_opts(&location, options).await.map_err(|error| match error {
            object_store::Error::Precondition { .. } => file_changed(&file.name),
            error => store_error(&context, error),
        })?;
        if !described(&got.meta).is_like(file) {
            return Err(file_changed(&file.name));
        }
        let bytes = got.into_stream().map_err(move |error| store_error(&context, error));
        Ok(OpenedFile { from, bytes: bytes.boxed() })
    }
}

fn described(object: &ObjectMeta) -> ListedFile {
    ListedFile {
        name: object.location.to_string(),
        size: Some(object.size),
        modified: Some(object.last_modified),
        etag: object.e_tag.clone(),
    }
}

/// An error of an object store with what the caller can do about it.
pub(crate) fn store_error(context: &str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let kind = match &error {
        E::NotFound { .. } | E::InvalidPath { .. } => Kind::FixInput,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::UnknownConfigurationKey { .. } => Kind::FixSetup,
        E::NotSupported { .. } | E::NotImplemented { .. } => Kind::FixSetup,
        _ => Kind::Retry,
    };
    Error::new(kind, context).because(error)
}

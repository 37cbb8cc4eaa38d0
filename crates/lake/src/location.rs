//! A lake: a folder or a prefix of an object store, with one folder per schema and, in it, one per table.
//! Every store that object_store opens by URL can be used; commits need its conditional puts.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Once};

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake::logstore::{
    ObjectStoreFactory, ObjectStoreRef, StorageConfig, logstore_factories, object_store_factories,
};
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::error::{Context, Error, Kind, Result};
use crate::scan::FileCache;
use crate::table_cache::TableCache;
use crate::table_name::{OBJECTS, TableName, decode};

/// A lake, opened. Clones share what they know of its tables and files.
#[derive(Clone)]
pub struct Lake {
    url: Url,
    options: Arc<HashMap<String, String>>,
    store: Arc<dyn ObjectStore>,
    /// Shared by all clones and tables, so that a process that opens its lake once has one cache.
    file_cache: FileCache,
    table_cache: TableCache,
}

impl Lake {
    /// Opens a lake. `location` is a URL, or a folder, which is created where it does not exist; `options` are passed
    /// to the object store unchanged.
    ///
    /// # Errors
    /// `FixSetup` where the folder, the URL or an option is not valid.
    pub async fn open(location: &str, options: HashMap<String, String>) -> Result<Lake> {
        register_stores();
        let url = match Url::parse(location) {
            Ok(url) if url.scheme().len() > 1 => url,
            _ => folder_url(location).await?,
        };
        let url = if url.path().ends_with('/') {
            url
        } else {
            let mut slashed = url.clone();
            slashed.set_path(&format!("{}/", url.path()));
            slashed
        };
        let (store, prefix) =
            object_store::parse_url_opts(&url, options.iter()).context(format!("open the lake at {url}"))?;
        let store = Arc::new(PrefixStore::new(store, prefix));
        Ok(Lake {
            url,
            options: Arc::new(options),
            store,
            file_cache: FileCache::default(),
            table_cache: TableCache::default(),
        })
    }

    /// The URL, which ends with a slash.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The folder, where the lake is in one.
    pub fn folder(&self) -> Option<PathBuf> {
        self.url.to_file_path().ok()
    }

    /// The object store, rooted at the lake.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// An object store for files that belong to no table, rooted at a folder that no schema can have.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.store), Path::from(OBJECTS)))
    }

    /// The URL of a table's folder, whether the table exists or not.
    pub fn table_url(&self, name: &TableName) -> Result<Url> {
        self.url
            .join(&format!("{}/", name.folder()))
            .map_err(|e| Error::new(Kind::FixInput, format!("name the folder of {name}")).because(e))
    }

    /// The object store, rooted at a table's folder.
    pub(crate) fn table_store(&self, name: &TableName) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.store), Path::from(name.folder())))
    }

    /// A table's folder, relative to the lake.
    pub(crate) fn table_path(&self, name: &TableName) -> Path {
        Path::from(name.folder())
    }

    /// The cache of data files.
    pub(crate) fn file_cache(&self) -> &FileCache {
        &self.file_cache
    }

    /// The cache of opened tables.
    pub(crate) fn table_cache(&self) -> &TableCache {
        &self.table_cache
    }

    /// Registers the lake's store with a query's runtime, under a URL of its own: two lakes in one bucket may have
    /// different credentials.
    pub(crate) fn register(&self, runtime: &RuntimeEnv) -> datafusion::error::Result<ObjectStoreUrl> {
        let mut hasher = DefaultHasher::new();
        self.url.hash(&mut hasher);
        let mut options: Vec<_> = self.options.iter().collect();
        options.sort();
        options.hash(&mut hasher);
        let root = ObjectStoreUrl::parse(format!("lake://{:016x}", hasher.finish()))?;
        if runtime.object_store(&root).is_err() {
            runtime.register_object_store(root.as_ref(), Arc::clone(&self.store));
        }
        Ok(root)
    }

    /// The options of the object store.
    pub(crate) fn options(&self) -> HashMap<String, String> {
        (*self.options).clone()
    }

    /// All tables, sorted by name.
    pub async fn tables(&self) -> Result<Vec<TableName>> {
        let mut names = Vec::new();
        for name in self.folders().await? {
            if self.is_table(&Path::from(name.folder())).await? {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// All folders of tables, including those without a commit yet.
    pub(crate) async fn folders(&self) -> Result<Vec<TableName>> {
        let mut names = Vec::new();
        let schemas = self.store.list_with_delimiter(None).await.context("list the lake's schemas")?;
        for schema in schemas.common_prefixes.into_iter().filter(|schema| schema.as_ref() != OBJECTS) {
            let tables = self.store.list_with_delimiter(Some(&schema)).await.context(format!("list {schema}"))?;
            for table in tables.common_prefixes {
                if let (Some(schema), Some(table)) = (schema.filename(), table.filename()) {
                    names.push(TableName::new(decode(schema), decode(table)));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether a folder has a Delta log with any entry.
    pub(crate) async fn is_table(&self, folder: &Path) -> Result<bool> {
        let log = folder.clone().join("_delta_log");
        let mut entries = self.store.list(Some(&log));
        match entries.next().await {
            None => Ok(false),
            Some(entry) => entry.map(|_| true).context(format!("list {log}")),
        }
    }
}

async fn folder_url(location: &str) -> Result<Url> {
    tokio::fs::create_dir_all(location)
        .await
        .map_err(|e| Error::new(Kind::FixSetup, format!("create the lake's folder {location}")).because(e))?;
    let folder = tokio::fs::canonicalize(location)
        .await
        .map_err(|e| Error::new(Kind::FixSetup, format!("open the lake's folder {location}")).because(e))?;
    Url::from_directory_path(&folder)
        .map_err(|()| Error::new(Kind::FixSetup, format!("make a URL of {}", folder.display())))
}

/// Opens object stores for delta-rs, which by itself only knows local folders. Commits use conditional puts, so that
/// no lock table is needed.
#[derive(Debug)]
struct Stores;

impl ObjectStoreFactory for Stores {
    fn parse_url_opts(&self, url: &Url, config: &StorageConfig) -> deltalake::DeltaResult<(ObjectStoreRef, Path)> {
        let (store, path) = object_store::parse_url_opts(url, config.raw.iter())?;
        Ok((Arc::new(store), path))
    }
}

fn register_stores() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let local =
            Url::parse("file://").ok().and_then(|url| logstore_factories().get(&url).map(|f| f.value().clone()));
        for scheme in ["s3", "s3a", "gs", "az", "adl", "abfs", "abfss", "azure"] {
            let Ok(url) = Url::parse(&format!("{scheme}://")) else { continue };
            object_store_factories().insert(url.clone(), Arc::new(Stores));
            if let Some(factory) = &local {
                logstore_factories().insert(url, Arc::clone(factory));
            }
        }
    });
}

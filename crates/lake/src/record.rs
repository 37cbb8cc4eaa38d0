//! Small records beside the tables, such as the state of a stream.

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{Context, Error, Kind, Result};
use crate::location::Lake;

/// The folder of the records, among the files that belong to no table.
const RECORDS: &str = "records";

impl Lake {
    /// The record with this name, such as `streams/platform.json`; `None` where there is none.
    pub async fn record(&self, name: &str) -> Result<Option<Bytes>> {
        let context = || format!("read the record {name} of the lake");
        match self.objects().get(&Path::from(format!("{RECORDS}/{name}"))).await {
            Ok(object) => object.bytes().await.map(Some).context(context()),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).context(context()),
        }
    }

    /// Writes a record, in place of an earlier one. In a folder, it is on the disk then.
    pub async fn write_record(&self, name: &str, text: Bytes) -> Result<()> {
        let context = || format!("write the record {name} of the lake");
        let path = Path::from(format!("{RECORDS}/{name}"));
        self.objects().put(&path, text.into()).await.context(context())?;
        let Some(file) = self.folder().map(|folder| folder.join(crate::table_name::OBJECTS).join(path.as_ref())) else {
            return Ok(());
        };
        let synced = async { tokio::fs::File::open(&file).await?.sync_all().await };
        synced.await.map_err(|e| Error::new(Kind::Retry, context()).because(e))
    }

    /// The records whose names begin with a folder's, such as `streams/platform.shards`: the rest of their names, and
    /// when they were written by the store's clock, in microseconds since 1970.
    pub async fn records(&self, folder: &str) -> Result<Vec<(String, i64)>> {
        let prefix = Path::from(format!("{RECORDS}/{folder}"));
        let mut listing = self.objects().list(Some(&prefix));
        let mut records = Vec::new();
        while let Some(object) = listing.next().await {
            let object = object.context(format!("list the records {folder} of the lake"))?;
            let name = object.location.as_ref().strip_prefix(prefix.as_ref()).map(|name| name.trim_start_matches('/'));
            records.extend(name.map(|name| (name.to_owned(), object.last_modified.timestamp_micros())));
        }
        records.sort();
        Ok(records)
    }

    /// Removes a record, where there is one.
    pub async fn remove_record(&self, name: &str) -> Result<()> {
        match self.objects().delete(&Path::from(format!("{RECORDS}/{name}"))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).context(format!("remove the record {name} of the lake")),
        }
    }
}

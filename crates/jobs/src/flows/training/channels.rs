//! The channels of a training job: their files are placed in the job's folder, and hashed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use config::ChannelSource;
use function::store::Digest;
use model::Resources;
use model::training::Channel;
use serde_json::{Value, json};
use sql::output::{self, Format};
use walkdir::WalkDir;

use crate::flows::as_known;
use crate::flows::moment::{AS_OF, Moment};
use crate::warehouse::Warehouse;

/// A channel whose files are in place, and what they are.
pub struct PlacedChannel {
    pub channel: Channel,
    pub lineage: Value,
}

/// Where a channel's files come from, for a description of the job.
pub fn described(source: &ChannelSource, moment: &Moment) -> Value {
    match source {
        ChannelSource::Query { sql, .. } => json!({"Query": {"Sql": sql, "AsOf": moment.as_of()}}),
        ChannelSource::Data(url) => json!({"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": url}}),
    }
}

/// Places the files of all channels in the folder of a job.
pub async fn place(
    warehouse: &Warehouse,
    resources: &Resources,
    sources: &BTreeMap<String, ChannelSource>,
    moment: &Moment,
    work: &Path,
) -> Result<Vec<PlacedChannel>> {
    let mut placed = Vec::new();
    for (name, source) in sources {
        let folder = work.join("channels").join(name);
        make(&folder)?;
        let doing = || format!("prepare the channel {name}");
        let (content_type, lineage) = match source {
            ChannelSource::Query { sql, is_csv } => {
                let sql = moment.fill(sql, &|_| None)?;
                let (file, format, kind) = match is_csv {
                    true => ("data.csv", Format::Csv, "text/csv"),
                    false => ("data.parquet", Format::Parquet, "application/x-parquet"),
                };
                let path = folder.join(file);
                let rows = write_rows(warehouse, moment, &sql, format, &path).await.with_context(doing)?;
                let hash = Digest::of_file(&path).with_context(doing)?.to_string();
                (Some(kind.to_owned()), json!({"query": sql, AS_OF: moment.as_of(), "rows": rows, "sha256": hash}))
            }
            ChannelSource::Data(url) => {
                let from = file_of(resources, url)?;
                place_files(&from, &folder).with_context(doing)?;
                (None, json!({"url": url, "sha256": hash_of(&folder).with_context(doing)?}))
            }
        };
        let channel = Channel { name: name.clone(), folder, content_type };
        placed.push(PlacedChannel { channel, lineage });
    }
    Ok(placed)
}

/// Places the script of a job: a folder, or the files of an archive. Returns its folder and the hash of its files.
pub fn place_code(resources: &Resources, url: &str, work: &Path) -> Result<(PathBuf, String)> {
    let from = file_of(resources, url)?;
    let folder = work.join("script");
    make(&folder)?;
    match from.is_file() {
        true => model::unpack_file(&from, &folder)?,
        false => place_files(&from, &folder).context("prepare the script")?,
    }
    let hash = hash_of(&folder)?;
    Ok((folder, hash))
}

/// The file or folder of a URL: of the warehouse's files, of `[models.data]`, or a stored artifact.
fn file_of(resources: &Resources, url: &str) -> Result<PathBuf> {
    match resources.artifacts.hash_of_url(url) {
        Some(hash) => Ok(resources.artifacts.path(&hash)),
        None => Ok(resources.catalog.data(url)?),
    }
}

async fn write_rows(warehouse: &Warehouse, moment: &Moment, sql: &str, format: Format, path: &Path) -> Result<u64> {
    let lake = warehouse.lake().await?;
    let session = as_known::session(warehouse, &lake, moment.as_of)?;
    let stream = session.run(sql).await?;
    let mut file = BufWriter::new(File::create_new(path).with_context(|| format!("create {}", path.display()))?);
    let written = output::write(stream, format, &mut file, u64::MAX).await?;
    file.flush().with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    Ok(written.rows)
}

/// Makes a folder that the job's user can read, whatever the umask.
fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).context("make a channel's folder readable")
}

/// Copies a file, or all files of a folder. Links are not followed: they could lead to any file of this machine.
fn place_files(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        return place_file(from, &to.join(from.file_name().unwrap_or_default()));
    }
    for entry in WalkDir::new(from) {
        let entry = entry?;
        let at = to.join(entry.path().strip_prefix(from)?);
        let kind = entry.file_type();
        if entry.depth() == 0 || kind.is_dir() {
            make(&at)?;
        } else if kind.is_file() {
            place_file(entry.path(), &at)?;
        } else {
            let what = format!("{} is a link or a device: only files and folders are read", entry.path().display());
            bail!(base::Error::input(what));
        }
    }
    Ok(())
}

/// Copies a file. A hard link would cost nothing, and would be changed by who changes the file while the job runs.
fn place_file(from: &Path, to: &Path) -> Result<()> {
    let mut read = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let mut written = File::create_new(to).with_context(|| format!("create {}", to.display()))?;
    std::io::copy(&mut read, &mut written).with_context(|| format!("copy {}", from.display()))?;
    let executable = read.metadata()?.permissions().mode() & 0o100 != 0;
    let mode = if executable { 0o755 } else { 0o644 };
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// One hash of the names and the contents of all files.
fn hash_of(folder: &Path) -> Result<String> {
    let mut all = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
            all.push(json!([name, Digest::of_file(entry.path())?.to_string()]));
        }
    }
    Ok(Digest::of(&Value::Array(all).to_string()).to_string())
}

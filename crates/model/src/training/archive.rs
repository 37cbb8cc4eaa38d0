//! Packs a folder as `model.tar.gz`, so that equal files make equal bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base::{Error, ErrorContext, Kind, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use walkdir::WalkDir;

use super::folders::open_beneath;

/// Packs the files of a folder, which a program has written that has ended. Links are not followed: they are refused.
pub(super) fn pack(folder: &Path, to: &Path) -> Result<Option<()>> {
    const PACK: &str = "pack the model of a training job";
    let file = File::create(to).during(Kind::FixSetup, PACK)?;
    let opened = File::open(folder).during(Kind::FixSetup, PACK)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut is_empty = true;
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.during(Kind::FixSetup, PACK)?;
        let name = entry.path().strip_prefix(folder).during(Kind::Bug, PACK)?;
        let kind = entry.file_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            let what = format!("{PACK}: /opt/ml/model/{} is a link or a device, not a file", name.display());
            return Err(Error::input(what));
        }
        let refused = |error| Error::input(format!("{PACK}: read /opt/ml/model/{}", name.display())).because(error);
        let content = open_beneath(&opened, name).map_err(refused)?;
        let bytes = content.metadata().during(Kind::FixSetup, PACK)?.len();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, content.take(bytes)).during(Kind::FixSetup, PACK)?;
        is_empty = false;
    }
    let packed = archive.into_inner().and_then(GzEncoder::finish).during(Kind::FixSetup, PACK)?;
    packed.sync_all().during(Kind::FixSetup, PACK)?;
    Ok((!is_empty).then_some(()))
}

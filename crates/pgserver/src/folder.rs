//! The private folder of one server: made, recognised, and told apart from anybody else's.
//! It never takes over or removes a folder that does not carry our mark.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Result;
use crate::account::Account;
use crate::error::{During, Error};

const MARK: &str = "private-server";
const MARK_TEXT: &str = "The folder of a private PostgreSQL server of wattlake. It may be removed with all it holds once that server has stopped.\n";
const SOCKET_NOTE: &str = "socket-folder";
const SHORT_ROOT: &str = "/tmp";
const SHORT_PREFIX: &str = "wattlake-pg-";
/// The kernel takes 107 bytes; the socket's own name is up to "/.s.PGSQL.65535.lock", 20 bytes.
const SOCKET_FOLDER_BYTES_MAX: usize = 86;

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub path: PathBuf,
}

impl Folder {
    /// A new private folder, or an empty or own one made ready; it must hold no server yet.
    pub fn create(dir: &Path, account: &Account) -> Result<Self> {
        let doing = || format!("make private folder {}", dir.display());
        let path = std::path::absolute(dir).during(doing)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).during(doing)?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => refuse_foreign(&path)?,
            made => made.during(doing)?,
        }
        let path = path.canonicalize().during(doing)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).during(doing)?;
        account.own_folder(&path)?;
        account.fresh_file(&path.join(MARK), MARK_TEXT)?;
        account.check_reach(&path)?;
        let folder = Self { path };
        if folder.data().exists() {
            return Err(Error::input(format!("{}: it already holds a server; start it, or sweep it first", doing())));
        }
        Ok(folder)
    }

    /// A folder that `create` made; None where there is nothing, or nothing of ours.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        match dir.canonicalize() {
            Ok(path) if is_marked(&path) => Ok(Some(Self { path })),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).during(|| format!("look into {}", dir.display())),
        }
    }

    /// A folder that holds a server's data.
    pub fn open(dir: &Path) -> Result<Self> {
        match Self::find(dir)? {
            Some(folder) if folder.data().join("PG_VERSION").is_file() => Ok(folder),
            _ => Err(Error::input(format!(
                "open {}: no private server there; init it or restore a base backup first",
                dir.display()
            ))),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder itself, or a short one under /tmp, noted down so that `sweep` finds it again.
    pub fn socket_folder(&self, account: &Account) -> Result<PathBuf> {
        if self.path.as_os_str().as_bytes().len() <= SOCKET_FOLDER_BYTES_MAX {
            return Ok(self.path.clone());
        }
        if let Some(short) = self.short_socket_folder() {
            return Ok(short);
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = format!("{SHORT_PREFIX}{}-{nanos:x}", std::process::id());
        let short = Path::new(SHORT_ROOT).join(name);
        // Fails where the name exists: nobody can have prepared the folder for us.
        DirBuilder::new().mode(0o700).create(&short).during(|| format!("make socket folder {}", short.display()))?;
        account.own_folder(&short)?;
        account.fresh_file(&self.join(SOCKET_NOTE), &short.to_string_lossy())?;
        Ok(short)
    }

    /// Removes the private folder and its short socket folder, if any.
    pub fn remove(&self) -> Result<()> {
        if let Some(short) = self.short_socket_folder() {
            remove_all(&short)?;
        }
        remove_all(&self.path)
    }

    /// The short socket folder noted down, believed only if it is one of ours and still there.
    fn short_socket_folder(&self) -> Option<PathBuf> {
        let noted = fs::read_to_string(self.join(SOCKET_NOTE)).ok()?;
        let path = PathBuf::from(noted);
        let ours =
            path.parent() == Some(Path::new(SHORT_ROOT)) && path.file_name()?.to_str()?.starts_with(SHORT_PREFIX);
        let meta = fs::symlink_metadata(&path).ok()?;
        let owner = fs::symlink_metadata(&self.path).ok()?.uid();
        (ours && meta.is_dir() && meta.uid() == owner).then_some(path)
    }
}

fn is_marked(path: &Path) -> bool {
    fs::symlink_metadata(path.join(MARK)).is_ok_and(|meta| meta.is_file())
}

fn refuse_foreign(path: &Path) -> Result<()> {
    let doing = || format!("make private folder {}", path.display());
    if is_marked(path) {
        return Ok(());
    }
    let is_folder = fs::symlink_metadata(path).during(doing)?.is_dir();
    if is_folder && fs::read_dir(path).during(doing)?.next().is_none() {
        return Ok(());
    }
    Err(Error::input(format!("{}: it exists, and is neither empty nor a private server's folder", doing())))
}

/// A process that is just ending may still add a file while we remove: a few attempts.
fn remove_all(path: &Path) -> Result<()> {
    for _ in 0..20 {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => return Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(e) => return Err(e).during(|| format!("remove {}", path.display())),
        }
    }
    fs::remove_dir_all(path).during(|| format!("remove {}", path.display()))
}

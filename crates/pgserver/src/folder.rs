//! The private folder of one server, which a file marks. This module never uses or removes a folder without that mark.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Result;
use crate::account::Account;
use crate::error::{Error, ErrorContext};

const MARK: &str = "private-server";
const MARK_TEXT: &str = "The folder of a private PostgreSQL server of wattlake. It may be removed with its content once that server has stopped.\n";
const SOCKET_NOTE: &str = "socket-folder";
const SHORT_ROOT: &str = "/tmp";
const SHORT_PREFIX: &str = "wattlake-pg-";
/// The kernel allows 107 bytes; the socket's name is up to "/.s.PGSQL.65535.lock", 20 bytes.
const SOCKET_FOLDER_BYTES_MAX: usize = 86;

/// A marked folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Its absolute path, without links.
    pub path: PathBuf,
}

impl Folder {
    /// Creates a private folder, or marks an empty one. It must not contain a server.
    ///
    /// # Errors
    /// Where the folder has other content or a server, or the account can't enter it.
    pub fn create(dir: &Path, account: &Account) -> Result<Self> {
        let doing = || format!("create private folder {}", dir.display());
        let path = std::path::absolute(dir).during(doing)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).during(doing)?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => refuse_foreign(&path)?,
            created => created.during(doing)?,
        }
        let path = path.canonicalize().during(doing)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).during(doing)?;
        account.give_to_account(&path)?;
        account.create_file(&path.join(MARK), MARK_TEXT)?;
        account.check_access(&path)?;
        let folder = Self { path };
        if folder.data().exists() {
            return Err(Error::input(format!(
                "{}: it already contains a server; start that one, or remove it first",
                doing()
            )));
        }
        Ok(folder)
    }

    /// The folder `dir` where it is marked; `None` where it does not exist or has no mark.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        match dir.canonicalize() {
            Ok(path) if is_marked(&path) => Ok(Some(Self { path })),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).during(|| format!("open {}", dir.display())),
        }
    }

    /// The folder `dir` where it is marked and contains a server's data.
    pub fn open(dir: &Path) -> Result<Self> {
        match Self::find(dir)? {
            Some(folder) if folder.data().join("PG_VERSION").is_file() => Ok(folder),
            _ => Err(Error::input(format!(
                "open {}: it contains no private server; create one or restore a base backup first",
                dir.display()
            ))),
        }
    }

    /// The folder with PostgreSQL's data.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The path of a file in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder for the server's socket: this one or, where its path is too long, a short one under /tmp, whose path
    /// is written into this folder so that `sweep` finds it.
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
        // Fails where the name exists, so another user can't have created the folder beforehand.
        DirBuilder::new().mode(0o700).create(&short).during(|| format!("create socket folder {}", short.display()))?;
        account.give_to_account(&short)?;
        account.create_file(&self.join(SOCKET_NOTE), &short.to_string_lossy())?;
        Ok(short)
    }

    /// Removes the private folder and its short socket folder, where it has one.
    pub fn remove(&self) -> Result<()> {
        if let Some(short) = self.short_socket_folder() {
            remove_all(&short)?;
        }
        remove_all(&self.path)
    }

    /// The short socket folder of the note, where it exists, has a name of this crate, and has the same owner.
    fn short_socket_folder(&self) -> Option<PathBuf> {
        let note = fs::read_to_string(self.join(SOCKET_NOTE)).ok()?;
        let path = PathBuf::from(note);
        let has_our_name =
            path.parent() == Some(Path::new(SHORT_ROOT)) && path.file_name()?.to_str()?.starts_with(SHORT_PREFIX);
        let meta = fs::symlink_metadata(&path).ok()?;
        let owner = fs::symlink_metadata(&self.path).ok()?.uid();
        (has_our_name && meta.is_dir() && meta.uid() == owner).then_some(path)
    }
}

fn is_marked(path: &Path) -> bool {
    fs::symlink_metadata(path.join(MARK)).is_ok_and(|meta| meta.is_file())
}

fn refuse_foreign(path: &Path) -> Result<()> {
    let doing = || format!("create private folder {}", path.display());
    if is_marked(path) {
        return Ok(());
    }
    let is_folder = fs::symlink_metadata(path).during(doing)?.is_dir();
    if is_folder && fs::read_dir(path).during(doing)?.next().is_none() {
        return Ok(());
    }
    Err(Error::input(format!("{}: it exists, and it is neither empty nor the folder of a private server", doing())))
}

/// Removes a folder, with several attempts: a process that is ending may create a file at the same time.
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

//! Good zips, and malicious ones.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// Name, mode with its kind, content.
type Entry<'a> = (&'a str, u32, &'a str);

fn zip_of(folder: &Path, name: &str, entries: &[Entry<'_>]) -> PathBuf {
    let path = folder.join(name);
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    for (name, mode, text) in entries {
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        if mode & 0o170_000 == 0o120_000 {
            zip.add_symlink(*name, *text, options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
    }
    zip.finish().unwrap();
    path
}

fn world() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn refused(entries: &[Entry<'_>]) -> String {
    let (folder, store) = world();
    let zip = zip_of(folder.path(), "bad.zip", entries);
    let error = store.put(&zip).unwrap_err();
    assert_eq!(error.kind, Kind::FixInput);
    assert_eq!(fs::read_dir(folder.path().join("store/trees")).unwrap().count(), 0, "nothing of it stays");
    assert_eq!(fs::read_dir(folder.path().join("store/new")).unwrap().count(), 0, "nothing of it stays");
    error.to_string()
}

#[test]
fn a_zip_is_unpacked_once_with_plain_modes() {
    let (folder, store) = world();
    let entries =
        [("bootstrap", 0o104_755, "#!/bin/sh"), ("lib/data.csv", 0o100_600, "a;b"), ("run", 0o120_777, "bootstrap")];
    let zip = zip_of(folder.path(), "f.zip", &entries);
    let digest = store.put(&zip).unwrap();
    let tree = store.tree(digest).unwrap();
    assert_eq!(fs::metadata(tree.join("bootstrap")).unwrap().permissions().mode() & 0o7777, 0o755, "no setuid");
    assert_eq!(fs::metadata(tree.join("lib/data.csv")).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_link(tree.join("run")).unwrap(), Path::new("bootstrap"));
    assert_eq!(store.put(&zip).unwrap(), digest, "the same bytes are one zip");
    assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
}

#[test]
fn later_layers_replace_earlier_ones_and_share_their_bytes() {
    let (folder, store) = world();
    let file = 0o100_644;
    let first = store
        .put(&zip_of(folder.path(), "1.zip", &[("a", file, "1"), ("d/x", file, "1"), ("was", file, "f")]))
        .unwrap();
    let second = store
        .put(&zip_of(folder.path(), "2.zip", &[("a", file, "2"), ("d/y", file, "2"), ("was/in", file, "d")]))
        .unwrap();
    let merged = store.layers(&[first, second]).unwrap().unwrap();
    let read = |name: &str| fs::read_to_string(merged.join(name)).unwrap();
    assert_eq!([read("a"), read("d/x"), read("d/y"), read("was/in")], ["2", "1", "2", "d"]);
    let other = store.layers(&[second, first]).unwrap().unwrap();
    assert_eq!(fs::read_to_string(other.join("a")).unwrap(), "1", "the order counts");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(merged.join("a")), inode(store.tree(second).unwrap().join("a")));
    assert_eq!(store.layers(&[]).unwrap(), None);
}

#[test]
fn names_and_links_that_leave_the_folder_are_refused() {
    let (file, link) = (0o100_644, 0o120_777);
    for (entries, says) in [
        (&[("../out", file, "x")][..], "leaves its folder"),
        (&[("a/../../out", file, "x")], "leaves its folder"),
        (&[("a", link, "../../etc")], "which leaves its folder"),
        (&[("a", link, "/etc/passwd")], "which leaves its folder"),
        (&[("a", link, "/opt/../etc/passwd")], "which leaves its folder"),
        (&[("d/a", link, "../../x")], "which leaves its folder"),
    ] {
        let error = refused(entries);
        assert!(error.contains(says), "{entries:?}: {error}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let (folder, store) = world();
    let entries = [("a", 0o120_777, "/opt"), ("a/x", 0o100_644, "through")];
    let zip = zip_of(folder.path(), "bad.zip", &entries);
    let error = store.put(&zip).unwrap_err();
    assert!(error.to_string().contains("\"a\""), "{error}");
    assert!(!Path::new("/opt/x").exists());
}

#[test]
fn a_file_that_is_not_a_zip_is_refused() {
    let (folder, store) = world();
    let path = folder.path().join("f.zip");
    fs::write(&path, "not a zip").unwrap();
    let error = store.put(&path).unwrap_err();
    assert!(error.to_string().contains("f.zip: it is not a zip"), "{error}");
}

#[test]
fn random_zips_are_unpacked_or_refused() {
    let (folder, store) = world();
    let entries =
        [("bootstrap", 0o100_755, "#!/bin/sh"), ("lib/data.csv", 0o100_644, "a;b"), ("run", 0o120_777, "bootstrap")];
    let valid = fs::read(zip_of(folder.path(), "good.zip", &entries)).unwrap();
    let path = folder.path().join("changed.zip");
    testkit::read_changed_bytes(&[&valid], |bytes| {
        fs::write(&path, bytes).unwrap();
        match store.put(&path) {
            Ok(digest) => assert!(store.tree(digest).is_ok()),
            Err(error) => assert_eq!(error.kind, Kind::FixInput, "{}", error.chain()),
        }
    });
    assert_eq!(fs::read_dir(folder.path().join("store/new")).unwrap().count(), 0, "nothing of them stays");
}

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        // The builder itself refuses names like `..`.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_link_name("/etc/passwd").expect("a link");
        }
        header.set_cksum();
        builder.append(&header, *content).expect("an entry");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("an archive")
}

fn put(bytes: &[u8]) -> (tempfile::TempDir, Result<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.tar.gz");
    fs::write(&file, bytes).expect("write the archive");
    let store = ArtifactStore::open(&folder.path().join("store")).expect("a store");
    let stored = store.put(&file).map(|hash| store.path(&hash));
    assert_eq!(fs::read_dir(folder.path().join("store/new")).expect("a folder").count(), 0);
    (folder, stored)
}

#[test]
fn an_archive_is_unpacked_once() {
    let file = tar::EntryType::Regular;
    let folder = tar::EntryType::Directory;
    let bytes = archive(&[("./code/", folder, b""), ("./code/inference.py", file, b"1"), ("model.txt", file, b"tree")]);
    let (_folder, stored) = put(&bytes);
    let stored = stored.expect("stored");
    assert_eq!(fs::read(stored.join("code/inference.py")).expect("a file"), b"1");
    assert_eq!(fs::read(stored.join("model.txt")).expect("a file"), b"tree");
    let (_folder, stored) = put(b"tree\n");
    assert_eq!(fs::read(stored.expect("stored").join("model.tar.gz")).expect("a file"), b"tree\n");
}

#[test]
fn hostile_archives_are_refused() {
    let file = tar::EntryType::Regular;
    let refused = |bytes: &[u8]| put(bytes).1.expect_err("refused").chain();
    assert!(refused(&archive(&[("../model.txt", file, b"1")])).contains("outside of the archive"));
    assert!(refused(&archive(&[("/etc/model.txt", file, b"1")])).contains("outside of the archive"));
    assert!(refused(&archive(&[("a", tar::EntryType::Symlink, b"")])).contains("link or a device"));
    assert!(refused(&archive(&[("a", tar::EntryType::Link, b"")])).contains("link or a device"));
    assert!(refused(&archive(&[("a", tar::EntryType::Fifo, b"")])).contains("link or a device"));
    assert!(refused(&archive(&[("a", file, b"1"), ("a", file, b"2")])).contains("can't be unpacked"));
    let whole = archive(&[("model.txt", file, &[7; 100_000])]);
    refused(&whole[..whole.len() / 2]);
    refused(&[0x1f, 0x8b, 8, 0]);
}

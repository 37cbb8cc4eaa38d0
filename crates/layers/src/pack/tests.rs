//! Tests with small layers.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::{Layer, LayerDescription, Manifest, PackedPart, UNPACKED_BYTES_MAX};
use crate::error::Kind;

fn about(below: Vec<Manifest>) -> LayerDescription {
    let package = PackedPart { name: "stats".into(), version: Some("4.2.2".into()), at: "R/stats".into() };
    LayerDescription { kind: "r-packages", version: "4.2.2".into(), packages: vec![package], libraries: vec![], below }
}

fn machine(folder: &TempDir) -> std::path::PathBuf {
    let from = folder.path().join("stats");
    fs::create_dir_all(from.join("help")).unwrap();
    fs::write(from.join("DESCRIPTION"), "Package: stats\n").unwrap();
    fs::write(from.join("help/x"), "left out").unwrap();
    fs::write(from.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    let _ = symlink("DESCRIPTION", from.join("link"));
    from
}

fn layer(from: &Path) -> Layer {
    let mut layer = Layer::default();
    layer.bytes("bootstrap", "text", true);
    layer.folder("R/stats", from, |path| !path.starts_with("help")).unwrap();
    layer
}

#[test]
fn the_same_files_give_the_same_bytes_whenever_they_were_written() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let packed = [&one, &two].map(|folder| {
        let from = machine(folder);
        let zip = folder.path().join("layer.zip");
        let packed = layer(&from).write(&zip, about(vec![])).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
        (packed, fs::read(&zip).unwrap())
    });
    assert!(packed[0].1 == packed[1].1);
    assert_eq!(packed[0].0.sha256, packed[1].0.sha256);
    fs::write(two.path().join("stats/DESCRIPTION"), "Package: other\n").unwrap();
    let other = layer(&two.path().join("stats")).write(&two.path().join("layer.zip"), about(vec![])).unwrap();
    assert_ne!(packed[0].0.sha256, other.sha256);
    assert_ne!(packed[0].0.manifest.packages[0].sha256, other.manifest.packages[0].sha256);
}

#[test]
fn names_modes_and_links_of_a_zip() {
    let folder = TempDir::new().unwrap();
    let zip = folder.path().join("layer.zip");
    let packed = layer(&machine(&folder)).write(&zip, about(vec![])).unwrap();
    let mut archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        entries.push((entry.name().unwrap().into_owned(), entry.unix_mode().unwrap() & 0o7777, text.len()));
    }
    let modes: Vec<(&str, u32)> = entries.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
    let expected = [
        ("R/stats/DESCRIPTION", 0o644),
        ("R/stats/link", 0o644),
        ("R/stats/run", 0o755),
        ("bootstrap", 0o755),
        ("layer.json", 0o644),
    ];
    assert_eq!(modes, expected);
    assert_eq!(entries[0].2, entries[1].2, "a link is packed as the file that it leads to");
    assert_eq!((packed.files, packed.manifest.clone()), (5, Manifest::of(&zip).unwrap()));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but the zip stays behind: {left:?}");
}

#[test]
fn what_is_too_large_or_has_too_many_layers_below_is_refused() {
    let folder = TempDir::new().unwrap();
    let zip = folder.path().join("layer.zip");
    let mut below = layer(&machine(&folder)).write(&zip, about(vec![])).unwrap().manifest;
    fs::remove_file(&zip).unwrap();
    below.unpacked_bytes = UNPACKED_BYTES_MAX - 10;
    let error = layer(&machine(&folder)).write(&zip, about(vec![below.clone()])).unwrap_err();
    assert_eq!(error.kind, Kind::FixInput);
    assert!(error.to_string().contains("10 GB"), "{error}");
    below.unpacked_bytes = 0;
    let error = layer(&machine(&folder)).write(&zip, about(vec![below; 5])).unwrap_err();
    assert!(error.to_string().contains("accepts 5"), "{error}");
    assert!(!zip.exists());
}

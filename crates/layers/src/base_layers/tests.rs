//! Manifests of layers that were packed elsewhere.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{BaseLayers, Language};
use crate::error::Kind;

fn layer(folder: &TempDir, kind: &str, version: &str, architecture: &str) -> PathBuf {
    let path = folder.path().join(format!("{kind}-{version}-{architecture}.zip"));
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    zip.start_file("layer.json", zip::write::SimpleFileOptions::default()).unwrap();
    let manifest = serde_json::json!({
        "kind": kind, "version": version, "architecture": architecture, "unpacked_bytes": 1, "libraries": [],
        "packages": [{"name": "stats", "version": "1", "sha256": "x"}],
    });
    zip.write_all(manifest.to_string().as_bytes()).unwrap();
    zip.finish().unwrap();
    path
}

#[test]
fn a_layer_of_another_series_or_machine_is_refused() {
    let folder = TempDir::new().unwrap();
    let here = std::env::consts::ARCH;
    let language = Language { name: "R", kind: "r", version: "4.2.2" };
    let below = BaseLayers::read(&language, &[layer(&folder, "r", "4.2.0", here)]).unwrap();
    assert!(below.packages.contains("stats"));
    let refusal = below.check_new(&["stats".into()], "R").unwrap_err().to_string();
    assert!(refusal.contains("a layer below contains it already"), "{refusal}");
    for (kind, version, architecture, says) in [
        ("r", "4.3.1", here, "on a layer of R 4.3.1"),
        ("r", "4.2.2", "m68k", "m68k"),
        ("r-packages", "4.2.2", here, "name R's own layer first"),
    ] {
        let error = BaseLayers::read(&language, &[layer(&folder, kind, version, architecture)]).err().unwrap();
        assert_eq!(error.kind, Kind::FixInput);
        assert!(error.to_string().contains(says), "{error}");
    }
}

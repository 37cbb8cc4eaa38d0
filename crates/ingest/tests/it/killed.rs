//! A process that is killed while it stores files: an object with its final name is always complete.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use ingest::objects::{Hash, Objects};
use object_store::local::LocalFileSystem;

use crate::server::bytes_of;

const FOLDER: &str = "WATTLAKE_TEST_KILLED_IN";
/// One object that stays in memory, one that is spooled.
const SIZES: [usize; 2] = [1 << 20, 12 << 20];

fn objects(folder: &std::path::Path) -> Objects {
    Objects::new(Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap()), folder.join("spool"))
}

fn bytes(size: usize, round: u8) -> Vec<u8> {
    let mut bytes = bytes_of(size);
    bytes[0] = round;
    bytes
}

/// Runs in its own process until that is killed; does nothing where the folder is not set.
#[tokio::test]
async fn stores_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let objects = objects(folder.as_ref());
    for round in 0..=255 {
        for size in SIZES {
            let bytes = bytes(size, round);
            let pieces =
                bytes.chunks(64 << 10).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
            objects.put(futures::stream::iter(pieces).boxed()).await.unwrap();
        }
    }
}

fn has_one(folder: &std::path::Path) -> bool {
    // Files appear and disappear meanwhile.
    let mut entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    entries.any(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<Hash>().is_ok()))
}

#[tokio::test]
async fn an_object_with_its_final_name_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    for pause in [150, 230, 310, 390, 470] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::stores_until_it_is_killed"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        // On a slow machine the last child is killed only when it has stored something.
        let began = Instant::now();
        while pause == 470 && !has_one(folder.path()) {
            assert!(began.elapsed() < Duration::from_secs(180), "none was stored in time");
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let files = walkdir::WalkDir::new(folder.path()).into_iter().map(Result::unwrap);
    let mut whole = 0;
    for entry in files.filter(|entry| entry.file_type().is_file()) {
        let name = entry.file_name().to_str().unwrap();
        assert!(!entry.path().starts_with(folder.path().join("spool")), "left in the spool: {name}");
        if let Ok(hash) = name.parse::<Hash>() {
            assert_eq!(Hash::of(&std::fs::read(entry.path()).unwrap()), hash);
            whole += 1;
        }
    }
    assert!(whole > 0, "none was stored");
    // Stored again, all of it can be read.
    let objects = objects(folder.path());
    for size in SIZES {
        let bytes = bytes(size, 0);
        let piece = Ok(bytes::Bytes::copy_from_slice(&bytes));
        let object = objects.put(futures::stream::iter([piece]).boxed()).await.unwrap();
        objects.get(&object.sha256).await.unwrap();
    }
}

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use super::{Hash, IN_MEMORY_BYTES_MAX, Objects, PIECE_BYTES};
use crate::{Error, Kind, Result};

fn objects(folder: &Path) -> Objects {
    let store = folder.join("store");
    std::fs::create_dir_all(&store).unwrap();
    Objects::new(Arc::new(LocalFileSystem::new_with_prefix(store).unwrap()), folder.join("spool"))
}

fn pieces(bytes: &[u8]) -> impl futures::Stream<Item = Result<Bytes>> + Unpin {
    let pieces: Vec<_> = bytes.chunks(300_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

fn files_in(folder: &Path) -> Vec<String> {
    let all = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    all.map(|entry| entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
}

fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn one_object_for_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let objects = objects(folder.path());
    for length in [0, 1, PIECE_BYTES, IN_MEMORY_BYTES_MAX + 1, 40 << 20] {
        let bytes = bytes_of(length);
        let object = objects.put(pieces(&bytes)).await.unwrap();
        assert_eq!((object.sha256, object.bytes), (Hash::of(&bytes), length as u64));
        assert_eq!(objects.put(pieces(&bytes)).await.unwrap(), object, "again");
        assert_eq!(objects.size(&object.sha256).await.unwrap(), Some(length as u64));
        let mut back = Vec::new();
        objects.get(&object.sha256).await.unwrap().read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }
    let stored = files_in(&folder.path().join("store"));
    assert_eq!(stored.len(), 5, "{stored:?}");
    let empty = Hash::of(b"");
    assert!(stored.contains(&Objects::path(&empty)) && Objects::path(&empty).starts_with("sha256/e3/e3b0c442"));
    assert_eq!(files_in(&folder.path().join("spool")), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_stream_leaves_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let objects = objects(folder.path());
    let half = bytes_of(IN_MEMORY_BYTES_MAX + 1);
    let broken = stream::iter([Ok(Bytes::from(half.clone())), Err(Error::new(Kind::Retry, "read a file"))]);
    assert_eq!(objects.put(broken).await.unwrap_err().kind, Kind::Retry);
    assert_eq!(files_in(folder.path()), Vec::<String>::new());
    assert_eq!(objects.size(&Hash::of(&half)).await.unwrap(), None);
    let error = objects.get(&Hash::of(&half)).await.unwrap_err();
    assert_eq!(error.kind, Kind::FixInput);
}

#[tokio::test]
async fn bytes_that_changed_are_refused_and_can_be_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let objects = objects(folder.path());
    let object = objects.put(pieces(b"prm;energie")).await.unwrap();
    let path = folder.path().join("store").join(Objects::path(&object.sha256));
    std::fs::write(&path, b"prm;energiE").unwrap();
    let error = objects.get(&object.sha256).await.unwrap_err();
    assert_eq!(error.kind, Kind::FixSetup);
    assert!(error.to_string().contains("restore it from a copy, or fetch it again"), "{error}");
    // A truncated object is recognized by its size, and the next fetch replaces it.
    std::fs::write(&path, b"prm").unwrap();
    objects.put(pieces(b"prm;energie")).await.unwrap();
    objects.get(&object.sha256).await.unwrap();
}

#[tokio::test]
async fn many_at_once_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::new(Arc::new(InMemory::new()), folder.path());
    let bytes = bytes_of(100_000);
    let all = futures::future::join_all((0..20).map(|_| objects.put(pieces(&bytes)))).await;
    assert!(all.into_iter().all(|object| object.unwrap().sha256 == Hash::of(&bytes)));
}

#[test]
fn hashes_as_texts() {
    let hash = Hash::of(b"abc");
    assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
    for text in ["", "ba78", &"z".repeat(64)] {
        assert_eq!(text.parse::<Hash>().unwrap_err().kind, Kind::FixInput, "{text}");
    }
}

//! S3, by moto's server: as a source, and as the store of the objects.

use std::collections::HashMap;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use ingest::Kind;
use ingest::fetch::{fetch, list};
use ingest::objects::{Hash, Objects};
use ingest::source::{ListedFile, Source, Store};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::server::{DATE, QUICK, Server, bytes_of, free_port, python, templates};

fn server() -> Server {
    let port = free_port();
    let mut command = Command::new(python().with_file_name("moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    Server::start(port, &mut command)
}

fn options(server: &Server) -> HashMap<String, String> {
    let all = [
        ("aws_endpoint", server.url()),
        ("aws_allow_http", "true".to_owned()),
        ("aws_region", "us-east-1".to_owned()),
        ("aws_access_key_id", "key".to_owned()),
        ("aws_secret_access_key", "secret".to_owned()),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn bucket(server: &Server) -> Box<dyn ObjectStore> {
    let script = "import sys, boto3; boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', \
                  aws_access_key_id='key', aws_secret_access_key='secret').create_bucket(Bucket='deliveries')";
    let made = Command::new(python()).args(["-c", script, &server.url()]).status().unwrap();
    assert!(made.success());
    object_store::parse_url_opts(&"s3://deliveries".parse().unwrap(), options(server)).unwrap().0
}

#[tokio::test]
async fn files_of_a_bucket_become_objects_in_another_prefix() {
    let server = server();
    let bucket = bucket(&server);
    let large = bytes_of(20 << 20);
    for (name, bytes) in
        [("in/2026-09/été.csv", b"prm".as_slice()), ("in/2026-09/b.bin", &large), ("in/2026-10/c.csv", b"c")]
    {
        bucket.put(&Path::parse(name).unwrap(), PutPayload::from(bytes.to_vec())).await.unwrap();
    }
    let source = Store::open("s3://deliveries/in", &options(&server), templates(&["{date:%Y-%m}/*"])).unwrap();
    let listing = list(&source, DATE, Duration::ZERO, &QUICK).await.unwrap();
    let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["2026-09/b.bin", "2026-09/été.csv"]);

    let spool = tempfile::tempdir().unwrap();
    let store = object_store::prefix::PrefixStore::new(bucket, "lake/objects");
    let objects = Objects::new(std::sync::Arc::new(store), spool.path());
    for _ in 0..2 {
        let object = fetch(&source, &listing.files[0], &objects, &QUICK).await.unwrap();
        assert_eq!((object.sha256, object.bytes), (Hash::of(&large), 20 << 20));
        let small = fetch(&source, &listing.files[1], &objects, &QUICK).await.unwrap();
        assert_eq!(small.sha256, Hash::of(b"prm"));
    }
    let mut back = Vec::new();
    objects.get(&Hash::of(&large)).await.unwrap().read_to_end(&mut back).unwrap();
    assert!(back == large);
    assert_eq!(objects.size(&Hash::of(b"prm")).await.unwrap(), Some(3));
    assert_eq!(objects.size(&Hash::of(b"other")).await.unwrap(), None);
}

#[tokio::test]
async fn a_changed_object_is_refused() {
    let server = server();
    let bucket = bucket(&server);
    let put = async |text: &str| bucket.put(&Path::from("a.csv"), PutPayload::from(text.to_owned())).await.unwrap();
    put("first").await;
    let source = Store::open("s3://deliveries", &options(&server), templates(&["*.csv"])).unwrap();
    let file = source.list(DATE).await.unwrap().files.remove(0);
    let part: Vec<_> = futures::TryStreamExt::try_collect(source.open(&file, 3).await.unwrap().bytes).await.unwrap();
    assert_eq!(part.concat(), b"st");
    put("other").await;
    let Err(error) = source.open(&file, 0).await else { panic!() };
    assert_eq!(
        (error.kind, error.to_string().contains("it changed since it was listed")),
        (Kind::Retry, true),
        "{error}"
    );
    let missing = ListedFile { name: "b.csv".to_owned(), etag: None, ..file };
    let Err(error) = source.open(&missing, 0).await else { panic!() };
    assert_eq!(error.kind, Kind::FixInput);
    assert_eq!(Store::open("s4://x", &HashMap::new(), Vec::new()).err().unwrap().kind, Kind::FixSetup);
}

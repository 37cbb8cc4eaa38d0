//! Where credentials are found.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use super::{AwsEnvironment, CredentialsProvider};

fn provider(variables: &[(&str, &str)]) -> CredentialsProvider {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    CredentialsProvider::new(AwsEnvironment::of(|name| variables.get(name).map(|value| (*value).to_owned())))
}

fn folder(name: &str, credentials: &str, config: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("wattlake-{name}-{}", std::process::id()));
    std::fs::create_dir_all(folder.join(".aws")).unwrap();
    std::fs::write(folder.join(".aws/credentials"), credentials).unwrap();
    std::fs::write(folder.join(".aws/config"), config).unwrap();
    folder
}

#[tokio::test]
async fn variables_go_before_the_default_profile_and_a_named_profile_before_them() {
    let home = folder(
        "profiles",
        "[default]\naws_access_key_id = D\naws_secret_access_key = d\n[other]\naws_access_key_id=O\naws_secret_access_key=o=\n",
        "[default]\nregion = eu-west-1\n[profile other]\nregion = eu-west-3\n  nested = x\n",
    );
    let home_text = home.to_str().unwrap();
    let keys = [("HOME", home_text), ("AWS_ACCESS_KEY_ID", "V"), ("AWS_SECRET_ACCESS_KEY", "v")];
    let id = async |provider: &CredentialsProvider| provider.credentials().await.unwrap().access_key_id;
    assert_eq!(id(&provider(&keys)).await, "V");
    assert_eq!(id(&provider(&keys[..1])).await, "D");
    assert_eq!(provider(&keys[..1]).region().as_deref(), Some("eu-west-1"));
    let named = provider(&keys).with_profile(Some("other"));
    assert_eq!((id(&named).await.as_str(), named.region().as_deref()), ("O", Some("eu-west-3")));
    let by_variable = provider(&[("HOME", home_text), ("AWS_PROFILE", "other"), ("AWS_REGION", "us-east-1")]);
    assert_eq!((id(&by_variable).await.as_str(), by_variable.region().as_deref()), ("O", Some("us-east-1")));
    let missing = provider(&keys).with_profile(Some("missing")).credentials().await.unwrap_err();
    assert!(missing.context.contains("the profile \"missing\" has no keys"), "{}", missing.context);
    std::fs::remove_dir_all(home).unwrap();
}

#[tokio::test]
async fn a_program_prints_credentials_and_what_is_not_implemented_says_so() {
    let printed = r#"{"Version":1,"AccessKeyId":"P","SecretAccessKey":"p","SessionToken":"t","Expiration":"2999-01-01T00:00:00Z"}"#;
    let home = folder(
        "programs",
        "",
        &format!("[default]\ncredential_process = echo '{printed}'\n[profile role]\nrole_arn = a\n"),
    );
    let found = provider(&[("HOME", home.to_str().unwrap())]).credentials().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.session_token.as_deref()), ("P", Some("t")));
    let role = provider(&[("HOME", home.to_str().unwrap()), ("AWS_PROFILE", "role")]).credentials().await.unwrap_err();
    assert!(role.context.contains("role_arn, which is not implemented"), "{}", role.context);
    std::fs::remove_dir_all(home).unwrap();
}

/// A server that gives these answers, one a connection, and returns the requests.
fn server(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let serve = |body: &'static str| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = connection.read(&mut request).unwrap();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            connection.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).to_lowercase()
        };
        answers.into_iter().map(serve).collect()
    });
    (address, serving)
}

#[tokio::test]
async fn a_container_and_a_machine_give_credentials_that_expire() {
    let keys = r#"{"AccessKeyId":"C","SecretAccessKey":"c","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#;
    let (address, serving) = server(vec![keys]);
    let of_container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{address}/role")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret".to_owned()),
    ];
    let of_container: Vec<(&str, &str)> = of_container.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let container = provider(&of_container);
    assert_eq!(container.credentials().await.unwrap().session_token.as_deref(), Some("t"));
    // They are kept: the server has no second answer.
    assert_eq!(container.credentials().await.unwrap().access_key_id, "C");
    let requests = serving.join().unwrap();
    assert!(requests[0].contains("authorization: secret"), "{requests:?}");
    let (address, serving) = server(vec!["the-token", "the-role\n", keys]);
    let machine = provider(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address)]);
    assert_eq!(machine.credentials().await.unwrap().access_key_id, "C");
    let requests = serving.join().unwrap();
    assert!(requests[2].contains("security-credentials/the-role"), "{requests:?}");
    assert!(requests[2].contains("x-aws-ec2-metadata-token: the-token"), "{requests:?}");
}

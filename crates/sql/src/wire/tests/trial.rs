#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn trial() {
    let mut settings = super::settings(super::Bounds::default());
    settings.logins.push(super::login("reader", crate::Role { tables: vec!["platform.*".to_owned()], ..Default::default() }));
    let url = std::env::var("TRIAL_LAKE").unwrap();
    let lake = lake::Lake::open(&url, Default::default()).await.unwrap();
    let server = super::Server::new(lake, std::sync::Arc::new(super::Runs), settings).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5999").await.unwrap();
    server.serve(listener, Default::default()).await.unwrap();
}

use super::{fixture, one_value, refused, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_name_are_refused_alike() {
    let fixture = fixture().await;
    for (user, password) in [("analyst", "wrong"), ("nobody", "right"), ("analyst", "Right")] {
        let error = fixture.connect(user, password).await.err().unwrap();
        let refusal = error.as_db_error().unwrap();
        assert_eq!(refusal.code().code(), "28P01");
        assert_eq!(refusal.message(), format!("password authentication failed for user \"{user}\""));
    }
    assert!(fixture.connect("analyst", "right").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_sees_only_its_tables() {
    let fixture = fixture().await;
    let client = fixture.client("guest").await;
    assert_eq!(one_value(&client, "SELECT count(*) FROM platform.measures").await, "3");
    for sql in [
        "SELECT * FROM platform.sites",
        "SELECT * FROM sites",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM platform.sites)",
        "WITH s AS (SELECT * FROM platform.sites) SELECT * FROM s",
        "SELECT * FROM platform.\"sites@v0\"",
        "SELECT * FROM system.runs",
        "EXPLAIN SELECT * FROM platform.sites",
        "COPY platform.sites TO STDOUT",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM platform.sites",
    ] {
        let (code, message, hint) = refused(&client, sql).await;
        assert_eq!(code, "42501", "{sql}: {message}");
        assert!(message.starts_with("permission denied for table "), "{sql}: {message}");
        assert!(hint.unwrap().contains("roles.guest"));
    }
    let listed =
        rows(&client, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'platform'").await;
    assert_eq!(listed, [[Some("measures".to_owned())]]);
    let listed = "SELECT relname FROM pg_class WHERE relname IN ('sites', 'measures', 'runs')";
    assert_eq!(rows(&client, listed).await, [[Some("measures".to_owned())]]);
    assert_eq!(one_value(&client, "SELECT count(*) FROM pg_roles WHERE rolname = 'analyst'").await, "0");
    let analyst = fixture.client("analyst").await;
    assert_eq!(one_value(&analyst, "SELECT count(*) FROM system.runs").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_holds_wherever_the_table_is_named() {
    let fixture = fixture().await;
    let client = fixture.client("producer").await;
    for sql in [
        "SELECT count(*) FROM platform.sites",
        "SELECT count(*) FROM sites",
        "SELECT count(name) FROM platform.sites",
        "WITH s AS (SELECT * FROM platform.sites) SELECT count(*) FROM s",
        "SELECT count(*) FROM (SELECT name FROM platform.sites) s",
        "SELECT (SELECT count(*) FROM platform.sites)",
        "SELECT count(*) FROM platform.sites a JOIN platform.sites b ON a.id = b.id",
        "SELECT max(id) FROM platform.sites",
        "SELECT count(*) FROM platform.\"sites@v0\"",
        "SELECT count(*) FROM platform.sites FOR VERSION AS OF 0",
        "SELECT count(*) FROM platform.sites WHERE id = 3 OR true",
        "SELECT count(*) FROM (SELECT * FROM platform.sites LIMIT 10) s",
    ] {
        assert_eq!(one_value(&client, sql).await, "2", "{sql}");
    }
    assert_eq!(one_value(&client, "SELECT count(*) FROM platform.sites WHERE id = 3").await, "0");
    assert_eq!(one_value(&client, "SELECT sum(id) FROM platform.sites LIMIT 1").await, "3");
    // Would divide by zero on the hidden row, and so tell that it is there.
    assert_eq!(one_value(&client, "SELECT count(*) FROM platform.sites WHERE 1 / (id - 3) <= 0").await, "2");
    assert_eq!(one_value(&client, "SELECT sum(1 / (id - 3)) FROM platform.sites").await, "-1");
    for sql in ["EXPLAIN SELECT * FROM platform.sites", "EXPLAIN ANALYZE SELECT * FROM platform.sites"] {
        let (_, message, _) = refused(&client, sql).await;
        assert!(message.contains("explain the query"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_checked_before_serving() {
    let fixture = fixture().await;
    for filter in ["no_such = 1", "id +", "id", "id in (SELECT 1)"] {
        let mut settings = super::settings(super::Bounds::default());
        settings.logins[1].role.filters.insert("platform.sites".to_owned(), filter.to_owned());
        let server =
            super::Server::new(fixture.test_lake.lake.clone(), std::sync::Arc::new(super::Runs), settings).unwrap();
        let error = server.check().await.unwrap_err();
        assert!(error.context.contains(filter), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_an_unknown_table_is_refused_before_serving() {
    let fixture = fixture().await;
    for table in ["platform.site", "platform.*", "Platform.sites", "platform.SITES", "platform.later"] {
        let mut settings = super::settings(super::Bounds::default());
        settings.logins[1].role.filters.insert(table.to_owned(), "id = 1".to_owned());
        let server =
            super::Server::new(fixture.test_lake.lake.clone(), std::sync::Arc::new(super::Runs), settings).unwrap();
        let error = server.check().await.unwrap_err();
        assert!(error.context.contains(table) && error.context.contains("does not exist"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_are_those_of_the_role() {
    let fixture = fixture().await;
    let client = fixture.client("guest").await;
    for (asked, expected) in [
        ("has_table_privilege('platform.sites', 'SELECT')", "f"),
        ("has_table_privilege('platform.measures', 'SELECT')", "t"),
        ("has_table_privilege('guest', 'platform.measures', 'SELECT')", "t"),
        ("has_table_privilege('platform.measures', 'INSERT')", "f"),
        ("has_table_privilege('system.runs', 'SELECT')", "f"),
        ("has_any_column_privilege('platform.sites', 'SELECT')", "f"),
        ("has_table_privilege('pg_catalog.pg_class', 'SELECT')", "t"),
    ] {
        assert_eq!(one_value(&client, &format!("SELECT {asked}")).await, expected, "{asked}");
    }
}

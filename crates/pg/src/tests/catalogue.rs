use super::{fixture, one_value, rows};

#[tokio::test(flavor = "multi_thread")]
async fn psql_describes_the_lake() {
    let fixture = fixture().await;
    let listed = fixture.psql("analyst", &["\\dt *.*"]).await;
    assert!(listed.contains("platform|sites|table|"), "{listed}");
    let described = fixture.psql("analyst", &["\\d platform.sites"]).await;
    assert!(described.contains("id|integer") && described.contains("name|text"), "{described}");
    let described = fixture.psql("analyst", &["\\d platform.measures"]).await;
    assert!(described.contains("|timestamp with time zone|") && described.contains("|numeric("), "{described}");
    assert!(fixture.psql("analyst", &["\\dn"]).await.contains("platform|"));
    assert!(fixture.psql("analyst", &["\\l"]).await.contains("wattlake|"));
    assert!(fixture.psql("analyst", &["\\du"]).await.contains("analyst|"));
    fixture.psql("analyst", &["\\df"]).await;
    fixture.psql("analyst", &["\\dv system.*"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_have_the_names_of_their_types() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    let columns = rows(
        &client,
        "SELECT column_name, data_type, udt_name, is_nullable FROM information_schema.columns \
         WHERE table_name = 'sites' ORDER BY ordinal_position",
    )
    .await;
    let column = |texts: [&str; 4]| texts.map(|text| Some(text.to_owned())).to_vec();
    assert_eq!(columns[0][..3], column(["id", "integer", "int4", ""])[..3]);
    assert_eq!(columns[1][..3], column(["name", "text", "text", ""])[..3]);
    let sql = "SELECT c.oid::regclass::text IS NOT NULL FROM pg_catalog.pg_class c WHERE c.relname = 'sites'";
    assert_eq!(one_value(&client, sql).await, "t");
    let oid = one_value(&client, "SELECT oid FROM pg_class WHERE relname = 'sites'").await;
    assert_eq!(one_value(&client, "SELECT oid FROM pg_class WHERE relname = 'sites'").await, oid);
    let shown = "SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class c ON a.attrelid = c.oid \
                 WHERE c.relname = 'measures' AND a.attname = 'value'";
    assert!(one_value(&client, shown).await.starts_with("numeric("));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_types_and_quoted_elements() {
    let fixture = fixture().await;
    let client = fixture.client("analyst").await;
    for (sql, expected) in [
        ("SELECT typreceive::text FROM pg_type WHERE typname = 'int4'", "int4recv"),
        ("SELECT typreceive FROM pg_catalog.pg_type AS t WHERE t.typname = 'bool'", "boolrecv"),
        (
            "SELECT count(*) > 20 FROM pg_type \
             WHERE (typreceive != 0 OR typsend != 0) AND typreceive::TEXT != 'array_recv'",
            "t",
        ),
        ("SELECT 'int4'::regtype::text", "integer"),
        ("SELECT count(*) > 0 FROM pg_class WHERE relkind = ANY ('{\"r\",\"v\"}')", "t"),
        ("SELECT count(*) > 0 FROM pg_class WHERE relkind <> ALL ('{\"x\"}')", "t"),
    ] {
        assert_eq!(one_value(&client, sql).await, expected, "{sql}");
    }
}

//! What `wattlake init` writes.

use super::*;

#[test]
fn a_new_warehouse_loads() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new");
    let written = init(&root, ExampleFlows::default()).unwrap();
    assert_eq!(written.len(), 5);
    assert!(written.iter().all(|path| path.is_file()));
    let with_password = |name: &str| (name == "PLATFORM_PASSWORD").then(|| SECRET.to_owned());
    let warehouse = Warehouse::load(&root, &with_password).unwrap();
    assert_eq!(warehouse.transfers["platform"].mode, Mode::Incremental);
    let without = Warehouse::load(&root, &|_| None).unwrap();
    assert!(without.connections["platform"].url().unwrap_err().to_string().contains("PLATFORM_PASSWORD is not set"));

    let header = |name: &str| fs::read_to_string(root.join(name)).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(header("wattlake.toml"), "#:schema schema/wattlake.schema.json");
    assert_eq!(header("transfers/platform.toml"), "#:schema ../schema/transfer.schema.json");
    for (name, which) in [("wattlake", FileKind::Warehouse), ("transfer", FileKind::Transfer)] {
        let text = fs::read_to_string(root.join(format!("schema/{name}.schema.json"))).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json_schema(which));
    }
}

/// The commented keys must be valid once they are uncommented.
#[test]
fn the_commented_lines_of_a_new_warehouse_load() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), ExampleFlows::default()).unwrap();
    let uncomment = |name: &str, skip: &[&str]| {
        let path = dir.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        let is_code =
            |code: &str| code.starts_with('[') || code.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let lines = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(code) if is_code(code) && !skip.iter().any(|word| code.starts_with(word)) => code,
            _ => line,
        });
        fs::write(path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    };
    uncomment("wattlake.toml", &["url =", "[connections.platform]"]);
    uncomment("transfers/platform.toml", &["mapping"]);
    let warehouse = Warehouse::load(dir.path(), &|_| Some("x".to_owned())).unwrap();
    assert_eq!(warehouse.lake.unwrap().options().len(), 3);
    assert!(warehouse.postgres_bin_dir.unwrap().is_some());
    let transfer = &warehouse.transfers["platform"];
    assert_eq!(transfer.tables["public.measurements"].columns["price"], ColumnAs::Decimal(38, 9));
    assert_eq!((transfer.include.len(), transfer.exclude.len()), (1, 1));
}

#[test]
fn no_file_is_overwritten() {
    let dir = folder(&[("wattlake.toml", "mine"), (".gitignore", "mine")]);
    let error = init(dir.path(), ExampleFlows::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let path = |name: &str| dir.path().join(name);
    let expected =
        format!("these files exist already: {}, {}", path("wattlake.toml").display(), path(".gitignore").display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(fs::read_to_string(path("wattlake.toml")).unwrap(), "mine");
    assert!(!path("schema").exists() && !path("transfers").exists());
}

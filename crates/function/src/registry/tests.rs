//! Deployments from folders and zips, over a real ledger and a real store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

struct World {
    folder: TempDir,
    registry: Registry,
}

fn world() -> World {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&folder.path().join("state/ledger.db")).unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    World { registry: Registry::new(ledger, store), folder }
}

impl World {
    fn source(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        for (file, text) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn deploy(&self, folder: &Path) -> Result<DeploymentResult> {
        let text = fs::read_to_string(folder.join(definition::FILE)).unwrap();
        self.registry.deploy(&Definition::read("bill", folder, &text).unwrap())
    }
}

#[test]
fn the_same_folder_is_the_same_version_wherever_it_lies() {
    let world = world();
    let files = [("function.toml", "handler = \"h\""), ("bootstrap", "#!/bin/sh\n"), ("lib/b", "b"), ("lib/a", "a")];
    let (first, second) = (world.source("one", &files), world.source("two", &files));
    fs::set_permissions(second.join("lib/a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(second.join(".git")).unwrap();
    let deployed = world.deploy(&first).unwrap();
    assert_eq!((deployed.version, deployed.new), (1, true));
    let again = world.deploy(&second).unwrap();
    assert_eq!((again.version, again.new, again.code), (1, false, deployed.code));
    let tree = world.registry.store().tree(deployed.code).unwrap();
    assert!(tree.join("lib/a").exists() && !tree.join("function.toml").exists());
    assert_eq!(deployed.sizes.unpacked_bytes, 12);

    fs::write(second.join("lib/a"), "changed").unwrap();
    assert_eq!(world.deploy(&second).unwrap().version, 2);
    assert_eq!(world.deploy(&first).unwrap().version, 1, "the first content is version 1 again");
}

#[test]
fn settings_make_a_version_and_policy_does_not() {
    let world = world();
    let folder = world.source("one", &[("function.toml", "handler = \"h\""), ("bootstrap", "")]);
    world.deploy(&folder).unwrap();
    let revision = world.registry.find("bill", LATEST).unwrap().unwrap().revision;
    fs::write(folder.join("function.toml"), "handler = \"h\"\nconcurrency = 3").unwrap();
    assert_eq!(world.deploy(&folder).unwrap().version, 1);
    let found = world.registry.find("bill", LATEST).unwrap().unwrap();
    assert_eq!(found.policy.concurrency, Some(3));
    assert!(found.revision > revision, "so that hosts that run it notice the change");
    fs::write(folder.join("function.toml"), "handler = \"h\"\nmemory_mb = 256").unwrap();
    assert_eq!(world.deploy(&folder).unwrap().version, 2);
    assert_eq!(world.registry.find("bill", "1").unwrap().unwrap().settings.memory_mb, 128);
    assert_eq!(world.registry.versions("bill").unwrap().len(), 2);
    assert_eq!(world.registry.list().unwrap()[0].shown, "$LATEST");
}

#[test]
fn layers_are_named_by_name_version_or_path() {
    let world = world();
    let one = world.source("layer1", &[("bootstrap", "1")]);
    let two = world.source("layer2", &[("bootstrap", "2")]);
    let toml = "handler = \"h\"\nlayers = [\"r\", \"r:1\", \"./own\"]";
    let folder = world.source("f", &[("function.toml", toml), ("a.R", ""), ("own/x", "x")]);
    let error = world.deploy(&folder).unwrap_err();
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (Kind::FixInput, "find layer r: it is not published; publish it first")
    );
    assert_eq!(world.registry.publish_layer("r", &one).unwrap().version, 1);
    let newest = world.registry.publish_layer("r", &two).unwrap();
    assert_eq!(world.registry.publish_layer("r", &one).unwrap().version, 1, "the same content");
    let deployed = world.deploy(&folder).unwrap();
    assert_eq!(deployed.layers.len(), 3);
    assert_eq!(deployed.layers[0].to_string(), newest.code);
    let merged = world.registry.store().layers(&deployed.layers).unwrap().unwrap();
    assert_eq!(fs::read_to_string(merged.join("bootstrap")).unwrap(), "1", "later over earlier");
    assert!(merged.join("x").exists());
    assert!(world.registry.delete_layer("r", 2).unwrap());
    assert_eq!(world.registry.find("bill", "1").unwrap().unwrap().layers, deployed.layers, "it keeps them");
}

#[test]
fn aliases_stand_for_versions_and_names_are_checked() {
    let world = world();
    let folder = world.source("one", &[("function.toml", "handler = \"h\""), ("bootstrap", "")]);
    world.deploy(&folder).unwrap();
    world.registry.point_alias("bill", "prod", 1).unwrap();
    assert_eq!(world.registry.find("bill", "prod").unwrap().unwrap().shown, "1");
    assert_eq!(world.registry.aliases("bill").unwrap().len(), 1);
    for bad in ["", "7", "a b", "$LATEST"] {
        assert_eq!(world.registry.point_alias("bill", bad, 1).unwrap_err().kind, Kind::FixInput, "{bad}");
    }
    assert_eq!(world.registry.publish_layer("a/b", &folder).unwrap_err().kind, Kind::FixInput);
    assert!(world.registry.delete("bill").unwrap());
    assert_eq!(world.registry.find("bill", "prod").unwrap(), None);
}

#[test]
fn what_can_not_be_packed_is_named() {
    let world = world();
    let folder = world.source("one", &[("function.toml", "handler = \"h\"\ncode = \"src\"")]);
    let error = world.deploy(&folder).unwrap_err();
    assert!(error.to_string().ends_with("one/src"), "{error}");
    fs::create_dir(folder.join("src")).unwrap();
    assert!(world.deploy(&folder).unwrap_err().to_string().ends_with("src: the folder is empty"));
    std::os::unix::fs::symlink("../../etc", folder.join("src/link")).unwrap();
    let error = world.deploy(&folder).unwrap_err();
    assert!(error.to_string().contains("\"link\" is a link to \"../../etc\", which leaves its folder"), "{error}");
    assert!(world.registry.list().unwrap().is_empty(), "nothing was deployed");
    assert_eq!(fs::read_dir(world.folder.path().join("store/new")).unwrap().count(), 0, "and nothing left");
}

#[test]
fn code_that_is_not_deployed_any_more_is_removed() {
    let world = world();
    let source = world.source("one", &[("function.toml", "handler = \"h\""), ("bootstrap", "#!/bin/sh\n")]);
    let first = world.deploy(&source).unwrap();
    fs::write(source.join("model"), "x".repeat(10_000)).unwrap();
    let second = world.deploy(&source).unwrap();
    assert_eq!(world.registry.remove_unused(false, || Ok(Vec::new())).unwrap(), 0);
    let store = world.registry.store().clone();
    assert!(world.registry.delete_version("bill", first.version).unwrap());
    assert!(world.registry.remove_unused(false, || Ok(Vec::new())).unwrap() > 0);
    assert!(!store.zip(first.code).exists() && store.zip(second.code).exists());
    // A host may still run it: it is moved away, and stays for a while.
    assert!(world.registry.delete("bill").unwrap());
    assert_eq!(world.registry.remove_unused(true, || Ok(Vec::new())).unwrap(), 0);
    assert!(!store.zip(second.code).exists());
    assert!(world.registry.remove_unused(false, || Ok(Vec::new())).unwrap() > 10_000);
    // What is deployed again is stored again.
    assert_eq!(world.deploy(&source).unwrap().code, second.code);
    assert!(store.tree(second.code).unwrap().join("model").exists());
}

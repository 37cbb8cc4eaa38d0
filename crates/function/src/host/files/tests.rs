use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct World {
    folder: TempDir,
    instance_files: InstanceFiles,
}

fn world() -> World {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("results")).unwrap();
    let inputs = Inputs::make(folder.path().join("inputs")).unwrap();
    let results = OwnedFd::from(File::open(folder.path().join("results")).unwrap());
    World { instance_files: InstanceFiles::new(inputs, results, 1), folder }
}

impl World {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn input(&self, name: &str, path: PathBuf) -> EventFiles {
        EventFiles { inputs: vec![Input { name: name.into(), path }], results: None }
    }

    fn refused(&self) -> String {
        match self.instance_files.collect_results(&self.at("out")) {
            Err(ResultsError::Function(says)) => says,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn inputs_are_laid_and_go_with_their_event() {
    let world = world();
    world.file("lake/a/x.csv", "1");
    world.file("lake/y.csv", "2");
    symlink(world.at("lake/y.csv"), world.at("lake/a/link.csv")).unwrap();
    world.instance_files.place_inputs(&world.input("2026-09/meters", world.at("lake"))).unwrap();
    let read = |name: &str| fs::read_to_string(world.at("inputs/2026-09/meters").join(name)).unwrap();
    assert_eq!((read("a/x.csv"), read("y.csv"), read("a/link.csv")), ("1".into(), "2".into(), "2".into()));
    world.instance_files.place_inputs(&world.input("y.csv", world.at("lake/y.csv"))).unwrap();
    assert_eq!(fs::read_dir(world.at("inputs")).unwrap().count(), 1, "only this event's");
    assert_eq!(fs::read_to_string(world.at("lake/y.csv")).unwrap(), "2");
}

#[test]
fn an_input_that_only_its_owner_reads_is_copied() {
    let world = world();
    let path = world.file("secret.csv", "1");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    world.instance_files.place_inputs(&world.input("x.csv", path.clone())).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!((mode(&world.at("inputs/x.csv")), mode(&path)), (0o444, 0o600));
}

#[test]
fn bad_inputs_are_refused() {
    let world = world();
    let path = world.file("x.csv", "1");
    for name in ["../x.csv", "/x.csv", "", "a/../../x"] {
        let error = world.instance_files.place_inputs(&world.input(name, path.clone())).unwrap_err();
        assert!(error.kind == Kind::FixInput && error.to_string().contains("below /inputs"), "{name}: {error}");
    }
    let error = world.instance_files.place_inputs(&world.input("x.csv", world.at("none.csv"))).unwrap_err();
    assert!(error.kind == Kind::FixInput && error.chain().contains("none.csv"), "{}", error.chain());
    let files = EventFiles { inputs: vec![], results: Some(world.folder.path().into()) };
    assert!(world.instance_files.place_inputs(&files).unwrap_err().to_string().contains("it exists already"));
}

#[test]
fn results_are_taken_whole() {
    let world = world();
    world.file("results/bill.csv", "1;2");
    world.file("results/lines/a.csv", "3");
    world.file(".out.new/left", "by a kill");
    let produced = world.instance_files.collect_results(&world.at("out")).unwrap();
    let named: Vec<_> = produced.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    assert_eq!(named, [("bill.csv", 3), ("lines/a.csv", 1)]);
    assert_eq!(fs::read_to_string(world.at("out/lines/a.csv")).unwrap(), "3");
    assert!(!world.at("out/left").exists() && !world.at(".out.new").exists());
    world.instance_files.clear().unwrap();
    assert_eq!(fs::read_dir(world.at("results")).unwrap().count(), 0);
}

#[test]
fn what_leads_elsewhere_or_is_too_much_is_refused() {
    let world = world();
    let secret = world.file("secret", "of the host");
    symlink(&secret, world.at("results/link")).unwrap();
    assert_eq!(world.refused(), "/results/link: neither a file nor a folder");
    fs::remove_file(world.at("results/link")).unwrap();
    let holes = File::create(world.at("results/holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    assert_eq!(world.refused(), "/results/holes: the results are larger than [files] results_mb");
    assert!(!world.at("out").exists() && !world.at(".out.new").exists());
    world.instance_files.clear().unwrap();
    let deep = (0..40).fold(world.at("results"), |path, _| path.join("d"));
    fs::create_dir_all(deep).unwrap();
    assert!(world.refused().ends_with("folders are nested deeper than 32"));
    world.instance_files.clear().unwrap();
    assert_eq!(fs::read_to_string(secret).unwrap(), "of the host");
}

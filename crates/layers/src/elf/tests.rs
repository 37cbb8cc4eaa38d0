//! Tests with this machine's own programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{Elf, Finder, with_loader, without_runpath};

#[test]
fn a_shells_libraries_and_theirs() {
    let found = Finder::new(&[]).closure(&["/bin/bash".into()], &BTreeSet::new()).unwrap();
    assert!(found.contains_key("libc.so.6"), "{found:?}");
    assert!(found.keys().any(|name| name.starts_with("ld-linux")), "the C library needs its loader: {found:?}");
    assert!(found.values().all(|path| path.is_file()));
    let provided = BTreeSet::from(["libc.so.6".to_owned()]);
    let fewer = Finder::new(&[]).closure(&["/bin/bash".into()], &provided).unwrap();
    assert!(!fewer.contains_key("libc.so.6") && !fewer.contains_key("ld-linux-x86-64.so.2"), "{fewer:?}");
}

#[test]
fn a_script_is_not_an_elf_file() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    assert!(Elf::read(&script).unwrap().is_none());
}

#[test]
fn a_missing_library_is_named_with_who_needs_it() {
    let finder = Finder { folders: vec![] };
    let error = finder.closure(&["/bin/bash".into()], &BTreeSet::new()).unwrap_err();
    assert!(error.to_string().contains("which /bin/bash needs"), "{error}");
}

#[test]
fn a_program_with_another_loader_runs_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = folder.path().join("libraries");
    fs::create_dir(&libraries).unwrap();
    let mut loader = String::new();
    for (name, path) in Finder::new(&[]).closure(&["/bin/bash".into()], &BTreeSet::new()).unwrap() {
        let to = libraries.join(&name);
        fs::copy(path, &to).unwrap();
        if name.starts_with("ld-linux") {
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
            loader = to.display().to_string();
        }
    }
    let program = folder.path().join("bash");
    fs::write(&program, with_loader(Path::new("/bin/bash"), &loader, &libraries.display().to_string()).unwrap())
        .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = Command::new(&program)
        .args(["-c", "while read -r line; do echo \"$line\"; done < /proc/self/maps; echo $((6 * 7))"])
        .env("LD_LIBRARY_PATH", "/lib64:/usr/lib64")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && text.ends_with("42\n"), "{text}{}", String::from_utf8_lossy(&ran.stderr));
    let strangers: Vec<&str> = text.lines().filter(|line| line.contains(".so") && line.contains(" /usr/lib")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn a_librarys_own_folders_do_not_hide_the_layers() {
    let folder = tempfile::TempDir::new().unwrap();
    let (built, libraries) = (folder.path().join("built"), folder.path().join("libraries"));
    fs::create_dir(&built).unwrap();
    fs::create_dir(&libraries).unwrap();
    let cc = |source: &str, arguments: &[&str]| {
        fs::write(built.join("source.c"), source).unwrap();
        let ran = Command::new("cc").arg("source.c").args(arguments).current_dir(&built).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    let of_its_own = format!("-Wl,--enable-new-dtags,-rpath,{}", built.display());
    cc("int inner(void) { return 42; }", &["-shared", "-fPIC", "-o", "libinner.so"]);
    let outer = "int inner(void); int outer(void) { return inner(); }";
    cc(outer, &["-shared", "-fPIC", "-o", "libouter.so", "-L.", "-linner", &of_its_own]);
    let main = "int outer(void); int main(void) { return outer(); }";
    cc(main, &["-o", "main", "-L.", "-louter", &of_its_own, "-Wl,-rpath-link,."]);
    let mut loader = String::new();
    for (name, path) in Finder::new(&[]).closure(&[built.join("main")], &BTreeSet::new()).unwrap() {
        let to = libraries.join(&name);
        match without_runpath(&path).unwrap() {
            Some(bytes) => fs::write(&to, bytes).unwrap(),
            None => assert!(fs::copy(&path, &to).is_ok() && name != "libouter.so"),
        }
        if name.starts_with("ld-linux") {
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
            loader = to.display().to_string();
        }
    }
    let program = folder.path().join("program");
    fs::write(&program, with_loader(&built.join("main"), &loader, &libraries.display().to_string()).unwrap()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(&built).unwrap();
    assert_eq!(Command::new(&program).status().unwrap().code(), Some(42));
}

#[test]
fn libraries_are_found_by_the_rpath_of_what_has_loaded_them() {
    let folder = tempfile::TempDir::new().unwrap();
    let (package, libraries) = (folder.path().join("wheel"), folder.path().join("wheel.libs"));
    fs::create_dir(&package).unwrap();
    fs::create_dir(&libraries).unwrap();
    let cc = |source: &str, arguments: &[&str]| {
        fs::write(folder.path().join("source.c"), source).unwrap();
        let ran =
            Command::new("cc").args(["-shared", "-fPIC", "source.c"]).args(arguments).current_dir(&folder).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    cc("int inner(void) { return 42; }", &["-o", "wheel.libs/libinner-1.so"]);
    let outer = "int inner(void); int outer(void) { return inner(); }";
    cc(outer, &["-o", "wheel.libs/libouter-1.so", "-Lwheel.libs", "-linner-1"]);
    let module = "int outer(void); int answer(void) { return outer(); }";
    for (tags, is_found) in [("--disable-new-dtags", true), ("--enable-new-dtags", false)] {
        let path = format!("-Wl,{tags},-rpath,$ORIGIN/../wheel.libs");
        let link = ["-Lwheel.libs", "-louter-1", "-Wl,-rpath-link,wheel.libs"];
        cc(module, &[["-o", "wheel/_module.so", &path].as_slice(), &link].concat());
        let found = Finder::new(&[]).closure(&[package.join("_module.so")], &BTreeSet::new());
        // A DT_RUNPATH counts for the file alone, a DT_RPATH also for what it loads.
        assert_eq!(found.is_ok(), is_found, "{tags}");
        assert!(found.is_err() || found.unwrap().contains_key("libinner-1.so"));
    }
}

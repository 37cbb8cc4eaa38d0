use super::*;

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// "rule place" of everything found.
fn found(files: &[File]) -> Vec<String> {
    gathered(check(files)).iter().map(|f| format!("{} {}", f.rule, f.place)).collect()
}

/// A root that declares the module, so that only what a test is about is found.
fn in_crate(name: &str, text: &str) -> Vec<File> {
    vec![file(&format!("crates/{name}/src/lib.rs"), text)]
}

fn function(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
}

#[test]
fn a_function_may_have_70_lines_and_not_71() {
    assert_eq!(found(&in_crate("lake", &function(70))), Vec::<String>::new());
    assert_eq!(found(&in_crate("lake", &function(71))), ["function-lines crates/lake/src/lib.rs:long"]);
}

#[test]
fn a_method_is_named_by_its_type() {
    let text = format!("impl<T> a::Table<T> {{\n{}}}\n", function(90));
    let findings = check(&in_crate("lake", &text));
    assert_eq!(findings[0].place, "crates/lake/src/lib.rs:Table::long");
    assert_eq!((findings[0].measure, findings[0].line), (90, 2));
}

#[test]
fn a_file_may_have_500_lines_and_tests_800() {
    let lines = |count: usize| "//! x\n".repeat(count);
    assert!(found(&in_crate("lake", &lines(500))).is_empty());
    assert_eq!(found(&in_crate("lake", &lines(501))), ["file-lines crates/lake/src/lib.rs"]);
    let with_tests =
        |count| vec![file("crates/lake/src/lib.rs", "mod tests;\n"), file("crates/lake/src/tests.rs", &lines(count))];
    assert!(found(&with_tests(800)).is_empty());
    assert_eq!(found(&with_tests(801)), ["file-lines crates/lake/src/tests.rs"]);
}

#[test]
fn empty_names_are_found_in_paths_and_inside_files() {
    let files = [file("crates/lake/src/lib.rs", "mod utils;\n"), file("crates/lake/src/utils.rs", "")];
    assert_eq!(found(&files), ["module-name crates/lake/src/utils.rs"]);
    assert_eq!(found(&in_crate("lake", "mod helper {}\n")), ["module-name crates/lake/src/lib.rs"]);
    assert!(found(&in_crate("lake", "mod commonplace {}\n")).is_empty());
}

#[test]
fn engines_are_named_by_their_owners_only() {
    let text = "use deltalake::DeltaTable;\n";
    assert!(found(&in_crate("lake", text)).is_empty());
    assert_eq!(found(&in_crate("transfer", text)), ["owned-name crates/transfer/src/lib.rs"]);
    assert_eq!(found(&in_crate("lake", "fn f() { log!(pgwire::X); }\n")), ["owned-name crates/lake/src/lib.rs"]);
    assert!(found(&in_crate("transfer", "//! deltalake\nconst D: &str = \"deltalake\"; // deltalake\n")).is_empty());
}

#[test]
fn only_the_doors_print_and_read_the_environment() {
    for text in [
        "fn f() { println!(\"x\"); }\n",
        "fn f() { format!(\"{:?}\", std::env::var(\"X\")); }\n",
        "use std::env::{self, temp_dir};\n",
        "fn f() { env::args(); }\n",
    ] {
        assert_eq!(found(&in_crate("lake", text)), ["door crates/lake/src/lib.rs"], "{text}");
        assert!(found(&in_crate("wattlake", text)).is_empty(), "{text}");
        assert!(found(&[file("crates/lake/tests/x.rs", text)]).is_empty(), "{text}");
    }
    let computes =
        "fn f() { std::env::split_paths(p); }\n// println!()\nconst X: &str = env!(\"CARGO_PKG_VERSION\");\n";
    assert!(found(&in_crate("lake", computes)).is_empty());
}

#[test]
fn unfinished_work_is_found_in_tests_too() {
    let text = "fn f() { if todo != x { todo!(\"y\") } }\n";
    assert_eq!(found(&in_crate("xtask", text)), ["unfinished crates/xtask/src/lib.rs"]);
    assert_eq!(
        found(&[file("crates/lake/tests/x.rs", "fn f() { dbg!(1); }\n")]),
        ["unfinished crates/lake/tests/x.rs"]
    );
}

#[test]
fn a_file_that_nothing_declares_is_found() {
    let files = [
        file(
            "crates/sql/Cargo.toml",
            "[package]\nautotests = false\n[[test]]\nname = \"all\"\npath = \"tests/all.rs\"\n",
        ),
        file("crates/sql/src/lib.rs", "mod a;\nmod c { mod d; }\n#[path = \"odd/name.rs\"]\nmod e;\n"),
        file("crates/sql/src/a.rs", "mod b;\n"),
        file("crates/sql/src/a/b.rs", ""),
        file("crates/sql/src/c/d.rs", ""),
        file("crates/sql/src/odd/name.rs", ""),
        file("crates/sql/src/left.rs", ""),
        file("crates/sql/tests/all.rs", "mod one;\n"),
        file("crates/sql/tests/one.rs", ""),
        file("crates/sql/tests/two.rs", ""),
    ];
    assert_eq!(found(&files), ["forgotten crates/sql/src/left.rs", "forgotten crates/sql/tests/two.rs"]);
    assert!(found(&[file("crates/lake/tests/by_itself.rs", "")]).is_empty());
}

#[test]
fn edges_run_one_way() {
    let manifest = |name: &str, text: &str| vec![file(&format!("crates/{name}/Cargo.toml"), text)];
    assert!(found(&manifest("transfer", "[dependencies]\nlake.workspace = true\n")).is_empty());
    assert!(found(&manifest("lake", "[dev-dependencies]\npgserver.workspace = true\n")).is_empty());
    for (name, text) in [
        ("lake", "[dependencies]\ntransfer.workspace = true\n"),
        ("lake", "[dependencies]\nstore = { package = \"ledger\", path = \"../ledger\" }\n"),
        ("lake", "[dev-dependencies]\nsql.workspace = true\n"),
        ("ledger", "[target.'cfg(unix)'.dependencies]\nlake.workspace = true\n"),
        ("transfer", "[dependencies]\nclap.workspace = true\n"),
        ("sql", "[dependencies]\ndeltalake.workspace = true\n"),
        ("unheard", "[dependencies]\n"),
    ] {
        assert_eq!(found(&manifest(name, text)), [format!("edge crates/{name}/Cargo.toml")], "{text}");
    }
}

#[test]
fn text_has_no_tabs_no_trailing_spaces_and_no_homes() {
    let homes = [concat!("cd /ro", "ot/x"), concat!("path = \"/ho", "me/me/x\"")];
    for text in ["a\tb", "a ", homes[0], homes[1]] {
        assert_eq!(found(&[file("notes.txt", text)]).len(), 1, "{text}");
    }
    let fine = [concat!("see https://example.org/ho", "me/x"), concat!("$WORK/ro", "ot"), "a b"];
    for text in fine {
        assert!(found(&[file("notes.txt", text)]).is_empty(), "{text}");
    }
    assert!(found(&[file("data.tsv", "a\tb")]).is_empty());
}

#[test]
fn links_lead_somewhere() {
    let page = |text: &str| {
        let other = file("docs/other page.md", "# Errors & kinds\n\n## Errors\n## Errors\n```\n# code\n```\n");
        found(&[file("docs/a.md", text), other, file("docs/b.md", "# Errors & kinds\n## Errors\n## Errors\n")])
    };
    let fine = "[1](b.md) [2](../docs/b.md#errors--kinds) [3](b.md#errors-1) [4](/docs) [5](https://x.org/y.md) `[6](no)`\n\
                [l]: b.md\n```\n[7](no.md)\n```\n# Here\n[8](#here)\n";
    assert_eq!(page(fine), Vec::<String>::new());
    for text in ["[x](no.md)", "[x](b.md#no)", "[x](#no)", "<img src=\"no.png\">", "[l]: no.md", "[x](b.md#errors-2)"] {
        assert_eq!(page(text), ["link docs/a.md"], "{text}");
    }
}

#[test]
fn an_exception_may_only_shrink() {
    let findings = || check(&in_crate("lake", &function(80)));
    let verdict = |list: &str| verdict(findings(), &exceptions::parse(list).unwrap());
    let place = "function-lines crates/lake/src/lib.rs:long";
    assert_eq!(verdict(""), ["crates/lake/src/lib.rs:1: function-lines: long: 80 lines, more than 70"]);
    assert_eq!(verdict(&format!("{place} 80 # why")), Vec::<String>::new());
    assert!(verdict(&format!("{place} 79"))[0].ends_with("its exception allows 79"));
    assert!(verdict(&format!("{place} 81"))[0].ends_with("lower its limit from 81 to 80"));
    assert!(verdict(&format!("{place} 80\ntab notes.txt 1"))[0].ends_with("no longer needed, remove the line"));
}

#[test]
fn counted_rules_count_every_place() {
    let findings = gathered(check(&[file("notes.txt", "a\tb\nc\td\n")]));
    assert_eq!((findings.len(), findings[0].measure, findings[0].line), (1, 2, 1));
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    assert!(exceptions::parse("tab notes.txt").is_err());
    assert!(exceptions::parse("tab notes.txt many").is_err());
    assert!(exceptions::parse("tab notes.txt 1\ntab notes.txt 2").is_err());
}

#[test]
fn what_cannot_be_parsed_is_told() {
    assert!(found(&in_crate("lake", "fn f( {\n")).contains(&"parse crates/lake/src/lib.rs".to_owned()));
}

#[test]
fn words_that_the_glossary_replaces_are_found_in_prose_and_names() {
    let glossary = file(
        "docs/glossary.md",
        "| term | meaning | in place of |\n|---|---|---|\n| hint | x | `mend`, `set aside` |\n",
    );
    let with = |text: &str| vec![glossary_copy(&glossary), file("docs/lake.md", text)];
    assert_eq!(found(&with("The Mend of it.\n")), ["glossary docs/lake.md"]);
    assert_eq!(found(&with("Call `set_aside`.\n")), ["glossary docs/lake.md"]);
    assert!(found(&with("Amend it; the control `files_set_aside`.\n")).is_empty());
}

fn glossary_copy(file: &File) -> File {
    File { path: file.path.clone(), text: file.text.clone() }
}

#[test]
fn nineteen_of_twenty_public_items_are_documented() {
    let lines =
        |documented: usize, bare: usize| "/// x\npub fn f() {}\n".repeat(documented) + &"pub fn f() {}\n".repeat(bare);
    assert!(found(&in_crate("lake", &lines(19, 1))).is_empty());
    assert_eq!(found(&in_crate("lake", &lines(18, 1))), ["documented crates/lake"]);
    let others = "fn f() {}\npub(crate) struct A;\nimpl Display for A { fn fmt() {} }\n#[cfg(test)]\nmod tests { pub fn f() {} }\n";
    assert!(found(&in_crate("lake", others)).is_empty());
}

#[test]
fn files_that_import_from_each_other_are_found() {
    let (a, b) = ("crates/lake/src/commit.rs", "crates/lake/src/pack/mod.rs");
    let both = [file(a, "use crate::pack::{self, Pack};\n"), file(b, "use super::commit::Commit;\n")];
    let circles = |files: &[File]| {
        let mut found = Vec::new();
        super::circles::check(files, &mut found);
        found.into_iter().map(|finding| finding.place).collect::<Vec<_>>()
    };
    assert_eq!(circles(&both), [a]);
    for visibility in ["pub", "pub(crate)", "pub(super)", "pub(in crate::commit)"] {
        let export = format!("{visibility} use crate::pack::Pack;\n");
        let exported = [file(a, &export), file(b, "use super::commit::Commit;\n")];
        assert!(circles(&exported).is_empty(), "an export is no import: {visibility}");
    }
    let child = [
        file("crates/lake/src/pack/mod.rs", "use sort::Order;\n"),
        file("crates/lake/src/pack/sort.rs", "use super::Pack;\n"),
    ];
    assert_eq!(circles(&child), ["crates/lake/src/pack/mod.rs"]);
}

//! docs/command-line.md contains the help of all commands.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

use super::Arguments;

const BEGIN: &str = "<!-- help: begin -->";
const END: &str = "<!-- help: end -->";

fn help() -> String {
    let mut text = String::new();
    let mut root = Arguments::command().term_width(100).disable_help_subcommand(true);
    root.build();
    add(&mut root, "wattlake", &mut text);
    text
}

fn add(command: &mut clap::Command, name: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for inner in names {
        if let Some(subcommand) = command.find_subcommand_mut(&inner) {
            add(subcommand, &format!("{name} {inner}"), text);
        }
    }
}

#[test]
fn the_reference_is_the_help() {
    let path = Path::new("../../docs/command-line.md");
    let page = std::fs::read_to_string(path).expect("read docs/command-line.md");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a begin mark");
    let (current, after) = rest.split_once(END).expect("the page has an end mark");
    let help = help();
    if std::env::var_os("WATTLAKE_UPDATE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}\n{help}\n{END}{after}")).expect("write docs/command-line.md");
        return;
    }
    // Not assert_eq, which would print both long texts.
    assert!(current.trim() == help.trim(), "docs/command-line.md is out of date: run this test with WATTLAKE_UPDATE=1");
}

#[test]
fn the_system_tables_are_documented() {
    const MARK: &str = "<!-- tables: generated -->\n";
    let path = Path::new("../../docs/system-tables.md");
    let page = std::fs::read_to_string(path).expect("read docs/system-tables.md");
    let (before, current) = page.split_once(MARK).expect("the page has its mark");
    let tables = jobs::system::reference();
    if std::env::var_os("WATTLAKE_UPDATE").is_some() {
        std::fs::write(path, format!("{before}{MARK}{tables}")).expect("write docs/system-tables.md");
        return;
    }
    assert!(current == tables, "docs/system-tables.md is out of date: run this test with WATTLAKE_UPDATE=1");
}

#[test]
fn arguments_are_sound() {
    Arguments::command().debug_assert();
}

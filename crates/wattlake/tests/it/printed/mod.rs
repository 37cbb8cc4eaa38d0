//! Every command that the pages, the help, `init` and `demo` print is run as it is printed: by an ordinary user, with an
//! empty environment and what the text tells to export.

mod ground;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::billing::example::copy;
use crate::world::{EXAMPLE, Source};
use ground::{Ground, connection};
use text::{Block, blocks, page, pages, within_sentences};

/// Blocks that can't be run here, by their first line, and why.
const NOT_RUN: [(&str, &str); 2] = [
    ("aws lambda invoke", "needs the AWS command line; the tests of functions run it where it is installed"),
    ("import duckdb", "INSTALL delta downloads an extension; readers.rs reads with the packaged one"),
];

const ROLE: &str = "[roles.analyst]\npassword = \"${ANALYST_PASSWORD}\"\n";

/// Pages whose blocks are run by a test of their own.
const OWN_TEST: [&str; 3] = ["README.md", "docs/billing.md", "docs/functions.md"];

/// A platform that the role `wattlake` may read by its password.
fn platform() -> Source {
    let source = Source::platform();
    source.execute(
        "do $$ begin create role wattlake login password 'right';
         exception when duplicate_object or unique_violation then null; end $$;
         grant usage on schema platform to wattlake; grant select on all tables in schema platform to wattlake",
    );
    source
}

fn is_run(block: &Block) -> bool {
    NOT_RUN.iter().all(|(first, _)| !block.text.starts_with(first))
}

fn of_language<'a>(blocks: &'a [Block], language: &str) -> Vec<&'a Block> {
    blocks.iter().filter(|block| block.language == language).collect()
}

#[test]
fn readme_works_as_printed() {
    let text = page("README.md");
    assert!(text.lines().count() <= 100, "README.md has {} lines", text.lines().count());
    let (source, mut ground) = (platform(), Ground::new(false));
    ground.set("PLATFORM_PASSWORD", "right");
    ground.set("ANALYST_PASSWORD", "p@ss word");
    let blocks = blocks("README.md");
    let [start, carry, serve] = of_language(&blocks, "sh")[..] else { panic!("other blocks than are known here") };
    let said = ground.play(start);

    let written = fs::read_to_string(ground.warehouse().join("wattlake.toml")).unwrap();
    let (before, rest) = written.split_once("[connections.platform]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let (head, serving) = after.split_once("[serve]\n").unwrap();
    let edited = [before, &connection(&source), "\n", head, &ground.serve_section(), serving].concat();
    ground.write("warehouse/wattlake.toml", &edited);
    ground.write("warehouse/transfers/platform.toml", &of_language(&blocks, "toml")[0].text);

    // What init told, then what the page goes on with.
    let hints: String =
        said[0].err.lines().filter_map(|line| line.strip_prefix("  ")).map(|l| format!("{l}\n")).collect();
    assert!(hints.contains("export ") && hints.contains(" check"), "{}", said[0].err);
    ground.play(&Block { place: "init".to_owned(), language: "sh".to_owned(), text: hints });
    ground.play(carry);
    assert!(text.contains("`[roles.analyst]`") && text.contains("`password = \"${ANALYST_PASSWORD}\"`"));
    ground.write("warehouse/wattlake.toml", &(edited + ROLE));
    ground.play(serve);
    of_language(&blocks, "python").iter().for_each(|block| ground.python(block));
}

#[test]
fn pages_work_as_printed() {
    let (source, mut ground) = (platform(), Ground::new(true));
    let toml = prepare(&ground, &source);
    ground.set("ANALYST_PASSWORD", "right");
    for command in ["transfer run platform", "mart refresh --all"] {
        let said = ground.run(&format!("wattlake -C warehouse {command}"));
        assert_eq!(said.code, 0, "{command}: {}", said.text());
    }
    source.live_a_day(0);
    assert_eq!(ground.run("wattlake -C warehouse transfer run platform").code, 0);
    for name in pages().iter().filter(|name| !OWN_TEST.contains(&name.as_str())) {
        ground.begin_page();
        // Where the page tells to write it: `check` asks for its password.
        let role = if page(name).contains("[roles.analyst]") { ROLE } else { "" };
        ground.write("warehouse/wattlake.toml", &format!("{toml}{role}"));
        ground.set("NAME", if name == "docs/marts.md" { "daily_production" } else { "platform" });
        let is_transfer = name == "docs/transfer.md";
        ground.set("SCHEMA", if is_transfer { "platform" } else { "SCHEMA" });
        ground.set("TABLE", if is_transfer { "forecasts" } else { "TABLE" });
        for block in blocks(name).iter().filter(|block| is_run(block)) {
            match block.language.as_str() {
                "python" => ground.python(block),
                _ => drop(ground.play(block)),
            }
        }
    }
}

#[test]
fn functions_and_billing_work_as_printed() {
    let mut ground = Ground::new(true);
    prepare(&ground, &Source::empty());
    ground.write("warehouse/functions/echo/function.toml", "handler = 'echo'\ntimeout = '20s'\n");
    ground.write("warehouse/functions/echo/bootstrap", ECHO);
    ground.write("warehouse/functions/echo/job.toml", "parameters.zone = 'Europe/Paris'\n");
    let bootstrap = ground.warehouse().join("functions/echo/bootstrap");
    fs::set_permissions(bootstrap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    ground.set("NAME", "echo");
    for block in blocks("docs/functions.md").iter().filter(|block| is_run(block)) {
        ground.play(block);
    }
    bring_in(&ground);
    ground.begin_page();
    for block in blocks("docs/billing.md") {
        for command in block.commands() {
            let said =
                ground.play(&Block { place: block.place.clone(), language: "sh".to_owned(), text: command.clone() });
            if command.contains("control waive ") {
                ground.set("ID", said[0].out.trim());
            }
        }
    }
}

/// Answers each event with itself.
const ECHO: &str = r#"#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  event=$(curl -sS -D /tmp/head "$api/invocation/next")
  id=$(tr -d '\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  echo "an event"
  printf '%s' "$event" > /tmp/answer
  curl -sS -o /dev/null -X POST --data-binary @/tmp/answer "$api/invocation/$id/response"
done
"#;

/// The example as `warehouse`, over a platform; returns its `wattlake.toml`.
fn prepare(ground: &Ground, source: &Source) -> String {
    copy(Path::new(EXAMPLE), &ground.warehouse());
    fs::create_dir_all(ground.warehouse().join("schema")).unwrap();
    let text = page("warehouse/wattlake.toml").replace("${PLATFORM_URL}", &source.url());
    let (before, after) = text.split_once("[serve]\n").unwrap();
    let text = [before, &ground.serve_section(), after].concat();
    ground.write("warehouse/wattlake.toml", &text);
    text
}

/// The files of a month that is billed, each in its last state; the producers' are left to the page.
fn bring_in(ground: &Ground) {
    let until: DateTime<Utc> = "2026-04-08T00:00:00Z".parse().unwrap();
    for file in platform::billing::files(42, until).unwrap() {
        let path = ground.warehouse().join("inbox").join(&file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &file.bytes).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(file.available_at.into()).unwrap();
    }
    ground.give_to_user();
    for name in ["contracts", "precedence", "prices", "meters", "orders"] {
        for job in [format!("ingest:{name}"), format!("load:{name}")] {
            let said = ground.run(&format!("wattlake run {job}"));
            assert_eq!(said.code, 0, "{job}: {}", said.text());
        }
    }
    for job in ["ingest:production-workbook", "load:declared-workbook"] {
        let said = ground.run(&format!("wattlake run {job}"));
        assert_eq!(said.code, 0, "{job}: {}", said.text());
    }
}

#[test]
fn what_the_demo_prints_works_from_another_folder() {
    let ground = Ground::new(false);
    // As ./demo starts it: by its path.
    let said = ground.run(&format!("cd \"$HOME\" && {} demo --tiny shown", ground.program()));
    assert_eq!(said.code, 0, "{}", said.text());
    let (_, hints) = said.out.split_once("The lake stays in").unwrap_or_else(|| panic!("{}", said.out));
    let lines: Vec<&str> = hints.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let (commands, python): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.contains(" -C "));
    assert_eq!((commands.len(), python.len()), (3, 4), "{hints}");
    for command in commands {
        let said = ground.run(&format!("cd / && {command}"));
        assert_eq!(said.code, 0, "{command}: {}", said.text());
    }
    let text = python.join("\n");
    ground.python(&Block { place: "demo".to_owned(), language: "python".to_owned(), text });
}

#[test]
fn what_is_listed_as_not_run_is_still_printed() {
    let texts: Vec<Block> = pages().iter().flat_map(|name| blocks(name)).collect();
    for (first, why) in NOT_RUN {
        assert!(texts.iter().any(|block| block.text.starts_with(first)), "{first} ({why}) is printed no more");
    }
}

/// Within sentences there are placeholders and parts of commands: the command and its options must be there.
#[test]
fn commands_within_sentences_are_there() {
    let reference = page("docs/command-line.md");
    let help = |words: &[&str]| -> Option<String> {
        let (_, rest) = reference.split_once(&format!("\n## wattlake {}\n", words.join(" ")))?;
        Some(rest.split("\n## ").next().unwrap().to_owned())
    };
    let mut unknown = BTreeSet::new();
    for name in pages() {
        for span in within_sentences(&name) {
            let words: Vec<&str> = span.split_whitespace().skip(1).collect();
            let words = if words[0] == "-C" { &words[2..] } else { &words[..] };
            let depth = (1..=words.len()).rev().find(|depth| help(&words[..*depth]).is_some());
            let text = depth.and_then(|depth| help(&words[..depth])).unwrap_or_default();
            let is_group = text.contains("\nCommands:\n") && depth.is_some_and(|depth| words.len() > depth);
            let options = words.iter().filter(|word| word.starts_with("--"));
            if text.is_empty() || is_group || options.into_iter().any(|option| !text.contains(option)) {
                unknown.insert(format!("{name}: {span}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

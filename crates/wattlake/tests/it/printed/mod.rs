//! Runs every command that the pages, the help, `init` and `demo` print, exactly as printed: as an ordinary user, with
//! an environment that has only what the text exports.

mod environment;
mod forecast;
mod models;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::billing::example::copy;
use crate::world::{EXAMPLE, Nats, Source};
use environment::{PageEnvironment, connection};
use text::{Block, blocks, page, pages, within_sentences};

/// Blocks that can't be run here, by their first line, and why.
const NOT_RUN: [(&str, &str); 2] = [
    ("aws lambda invoke", "needs the AWS command line; the tests of functions run it where it is installed"),
    ("import duckdb", "INSTALL delta downloads an extension; readers.rs reads with the packaged one"),
];

const ROLE: &str = "[roles.analyst]\npassword = \"${ANALYST_PASSWORD}\"\n";

/// Pages whose blocks are run by a test of their own.
const OWN_TEST: [&str; 8] = [
    "README.md",
    "docs/billing.md",
    "docs/changes.md",
    "docs/forecast.md",
    "docs/functions.md",
    "docs/layouts.md",
    "docs/models.md",
    "docs/streams.md",
];

/// The example platform with a role `wattlake` that may read it, with a password.
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
    let (source, mut environment) = (platform(), PageEnvironment::new(false));
    environment.set("PLATFORM_PASSWORD", "right");
    environment.set("ANALYST_PASSWORD", "p@ss word");
    let blocks = blocks("README.md");
    let [start, transfer, serve] = of_language(&blocks, "sh")[..] else {
        panic!("README.md has other blocks than this test expects")
    };
    let said = environment.run_block(start);

    let written = fs::read_to_string(environment.warehouse().join("wattlake.toml")).unwrap();
    let (before, rest) = written.split_once("[connections.platform]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let (head, serving) = after.split_once("[serve]\n").unwrap();
    let edited = [before, &connection(&source), "\n", head, &environment.serve_section(), serving].concat();
    environment.write("warehouse/wattlake.toml", &edited);
    environment.write("warehouse/transfers/platform.toml", &of_language(&blocks, "toml")[0].text);

    // The commands that init printed, then the following ones of the page.
    let hints: String =
        said[0].err.lines().filter_map(|line| line.strip_prefix("  ")).map(|l| format!("{l}\n")).collect();
    assert!(hints.contains("export ") && hints.contains(" check"), "{}", said[0].err);
    environment.run_block(&Block { place: "init".to_owned(), language: "sh".to_owned(), text: hints });
    environment.run_block(transfer);
    assert!(text.contains("`[roles.analyst]`") && text.contains("`password = \"${ANALYST_PASSWORD}\"`"));
    environment.write("warehouse/wattlake.toml", &(edited + ROLE));
    environment.run_block(serve);
    of_language(&blocks, "python").iter().for_each(|block| environment.python(block));
}

#[test]
fn pages_work_as_printed() {
    let (source, mut environment) = (platform(), PageEnvironment::new(true));
    let toml = prepare(&environment, &source);
    environment.set("ANALYST_PASSWORD", "right");
    for command in ["transfer run platform", "mart refresh --all"] {
        let said = environment.run(&format!("wattlake -C warehouse {command}"));
        assert_eq!(said.code, 0, "{command}: {}", said.text());
    }
    source.simulate_day(0);
    assert_eq!(environment.run("wattlake -C warehouse transfer run platform").code, 0);
    for name in pages().iter().filter(|name| !OWN_TEST.contains(&name.as_str())) {
        environment.start_page();
        // Only where the page has the role: `check` requires its password.
        let role = if page(name).contains("[roles.analyst]") { ROLE } else { "" };
        environment.write("warehouse/wattlake.toml", &format!("{toml}{role}"));
        environment.set("NAME", if name == "docs/marts.md" { "daily_production" } else { "platform" });
        let is_transfer = name == "docs/transfer.md";
        environment.set("SCHEMA", if is_transfer { "platform" } else { "SCHEMA" });
        environment.set("TABLE", if is_transfer { "forecasts" } else { "TABLE" });
        for block in blocks(name).iter().filter(|block| is_run(block)) {
            match block.language.as_str() {
                "python" => environment.python(block),
                _ => drop(environment.run_block(block)),
            }
        }
    }
}

#[test]
fn changes_work_as_printed() {
    let (source, mut environment) = (Source::empty(), PageEnvironment::new(true));
    source.execute("create table meter (id int primary key, kw float8); insert into meter values (1, 2.5)");
    let toml = prepare(&environment, &source);
    // As the tables' owner, which may publish them.
    let toml = toml.replace(&connection(&source), &format!("[connections.platform]\nurl = '{}'\n", source.url()));
    environment.write("warehouse/wattlake.toml", &toml);
    let blocks = blocks("docs/changes.md");
    fs::remove_file(environment.warehouse().join("transfers/platform.toml")).unwrap();
    environment.write("warehouse/transfers/live.toml", &of_language(&blocks, "toml")[0].text);
    let [commands] = of_language(&blocks, "sh")[..] else { panic!("the page has other blocks than this test expects") };
    let said = environment.run_block(commands);
    assert!(said[2].has("public.meter").text().contains("streaming"), "{}", said[2].text());
    said[4].has("public.meter  ok");
    said[5].has("dropped the slot wattlake_live and the publication wattlake_live");
}

#[test]
fn streams_work_as_printed() {
    let (source, mut environment, nats) = (Source::empty(), PageEnvironment::new(true), Nats::start());
    source.execute("create table meter (id int primary key, kw float8); insert into meter values (1, 2.5)");
    let toml = prepare(&environment, &source);
    let toml = toml.replace(&connection(&source), &format!("[connections.platform]\nurl = '{}'\n", source.url()));
    environment.write("warehouse/wattlake.toml", &toml);
    fs::remove_file(environment.warehouse().join("transfers/platform.toml")).unwrap();
    let blocks = blocks("docs/streams.md");
    let here = |text: &str| text.replace("nats://127.0.0.1:4222/platform", &nats.stream("platform"));
    let files = of_language(&blocks, "toml");
    environment.write("warehouse/transfers/publish.toml", &here(&files[0].text));
    environment.write("warehouse/transfers/warehouse.toml", &here(&files[1].text));
    let [commands, quarantine] = of_language(&blocks, "sh")[..] else { panic!("the page has other blocks than these") };
    let said = environment.run_block(commands);
    said[2].has("public.meter").has("streaming");
    environment.run_block(quarantine)[1].has("0 messages");
    environment.start_page();
}

#[test]
fn functions_and_billing_work_as_printed() {
    let mut environment = PageEnvironment::new(true);
    prepare(&environment, &Source::empty());
    environment.write("warehouse/functions/echo/function.toml", "handler = 'echo'\ntimeout = '20s'\n");
    environment.write("warehouse/functions/echo/bootstrap", ECHO);
    environment.write("warehouse/functions/echo/job.toml", "parameters.zone = 'Europe/Paris'\n");
    let bootstrap = environment.warehouse().join("functions/echo/bootstrap");
    fs::set_permissions(bootstrap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    environment.set("NAME", "echo");
    let page = blocks("docs/functions.md");
    let is_command = |block: &&Block| is_run(block) && block.file().is_none() && !is_from_nothing(block);
    for block in page.iter().filter(is_command) {
        environment.run_block(block);
    }
    load_example_files(&environment);
    environment.start_page();
    for block in blocks("docs/layouts.md").iter().filter(|block| is_run(block)) {
        environment.run_block(block);
    }
    environment.start_page();
    for block in blocks("docs/billing.md") {
        for command in block.commands() {
            let said = environment.run_block(&Block {
                place: block.place.clone(),
                language: "sh".to_owned(),
                text: command.clone(),
            });
            if command.contains("control waive ") {
                environment.set("ID", said[0].out.trim());
            }
        }
    }
}

/// The functions of docs/functions.md that begin with nothing, by words of their commands.
const FROM_NOTHING: [(&str, &str); 4] =
    [("price", r#"{"eur": 1.5}"#), ("parity", r#"{"parity":"odd"}"#), ("count", r#"{"bytes": 5}"#), ("native", "")];

fn is_from_nothing(block: &Block) -> bool {
    FROM_NOTHING.iter().any(|(name, _)| block.text.contains(&format!("function deploy {name}\n")))
}

#[test]
fn functions_from_nothing_to_an_answer_work_as_printed() {
    let mut environment = PageEnvironment::new(true);
    let init = environment.run("wattlake init warehouse");
    assert_eq!(init.code, 0, "{}", init.text());
    let built = Path::new(env!("CARGO_BIN_EXE_wattlake")).parent().unwrap().join("examples/native");
    let program = environment.outside().join("native");
    fs::copy(built, &program).unwrap();
    environment.give_to_user();
    environment.set("PROGRAM", &program.display().to_string());
    let page = blocks("docs/functions.md");
    for block in &page {
        if let Some(file) = block.file() {
            environment.write(&format!("warehouse/{file}"), &block.text);
        }
    }
    // pip comes in a package of its own on some systems, and an ordinary user may not reach its index.
    let download = "python3 -m pip download --quiet --no-deps --dest downloaded awslambdaric holidays";
    let has_packages = environment.run(download).code == 0;
    for (name, answer) in FROM_NOTHING.iter().filter(|(name, _)| *name != "price" || has_packages) {
        let commands = page.iter().find(|block| block.text.contains(&format!("function deploy {name}\n"))).unwrap();
        assert!(commands.commands().len() < 5, "{name}");
        let said = environment.run_block(commands);
        assert!(said.last().unwrap().out.contains(answer), "{name}: {}", said.last().unwrap().text());
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

/// Copies the example to `warehouse` with the platform as its source; returns its `wattlake.toml`.
fn prepare(environment: &PageEnvironment, source: &Source) -> String {
    copy(Path::new(EXAMPLE), &environment.warehouse());
    fs::create_dir_all(environment.warehouse().join("schema")).unwrap();
    let text = page("warehouse/wattlake.toml").replace("${PLATFORM_URL}", &source.url());
    let (before, after) = text.split_once("[serve]\n").unwrap();
    let text = [before, &environment.serve_section(), after].concat();
    environment.write("warehouse/wattlake.toml", &text);
    text
}

/// Loads the files of a month, each in its last version. The page itself loads those of producers.
fn load_example_files(environment: &PageEnvironment) {
    let until: DateTime<Utc> = "2026-04-08T00:00:00Z".parse().unwrap();
    for file in platform::billing::files(42, until).unwrap() {
        let path = environment.warehouse().join("inbox").join(&file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &file.bytes).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(file.available_at.into()).unwrap();
    }
    environment.give_to_user();
    for name in ["contracts", "precedence", "prices", "meters", "orders"] {
        for job in [format!("ingest:{name}"), format!("load:{name}")] {
            let said = environment.run(&format!("wattlake run {job}"));
            assert_eq!(said.code, 0, "{job}: {}", said.text());
        }
    }
    for job in ["ingest:production-workbook", "load:declared-workbook"] {
        let said = environment.run(&format!("wattlake run {job}"));
        assert_eq!(said.code, 0, "{job}: {}", said.text());
    }
}

#[test]
fn commands_that_the_demo_prints_work_from_another_folder() {
    let environment = PageEnvironment::new(false);
    // By its path, as ./demo runs it.
    let said = environment.run(&format!("cd \"$HOME\" && {} demo --tiny shown", environment.program()));
    assert_eq!(said.code, 0, "{}", said.text());
    let (_, hints) = said.out.split_once("The lake stays in").unwrap_or_else(|| panic!("{}", said.out));
    let lines: Vec<&str> = hints.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let (commands, python): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.contains(" -C "));
    assert_eq!((commands.len(), python.len()), (3, 4), "{hints}");
    for command in commands {
        let said = environment.run(&format!("cd / && {command}"));
        assert_eq!(said.code, 0, "{command}: {}", said.text());
    }
    let text = python.join("\n");
    environment.python(&Block { place: "demo".to_owned(), language: "python".to_owned(), text });
}

#[test]
fn blocks_that_are_not_run_exist() {
    let texts: Vec<Block> = pages().iter().flat_map(|name| blocks(name)).collect();
    for (first, why) in NOT_RUN {
        assert!(texts.iter().any(|block| block.text.starts_with(first)), "{first} ({why}) is no longer in a page");
    }
}

/// Commands within sentences may have placeholders or be incomplete: the command and its options must exist.
#[test]
fn commands_within_sentences_exist() {
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

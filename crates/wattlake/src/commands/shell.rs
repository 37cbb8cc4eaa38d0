//! The interactive session: history, completion, queries over several lines. Ctrl-C stops a query.

use std::time::Instant;

use anyhow::Result;
use base::text;
use jobs::warehouse::{STATE, Warehouse};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper, Highlighter, Hinter};
use sql::Session;

use super::query_output::{FormatName, print_with};

const HELP: &str = "\
A query ends with ; and may go over several lines.
  \\d               tables           \\d TABLE   columns of a table
  \\v TABLE         its versions     \\timing    show how long queries take
  \\format NAME     table, csv, json
  \\?               this help        \\q         quit (or Ctrl-D)
An earlier state of a table: \"measures@v3\", \"measures@2026-01-31T00:00:00Z\"";

#[derive(Helper, Highlighter, Hinter)]
/// Completes words, and waits for the `;` of a query.
struct ShellHelper {
    words: Vec<String>,
}

impl Completer for ShellHelper {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let start = line[..at].rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).map_or(0, |i| i + 1);
        let prefix = line[start..at].to_lowercase();
        if prefix.is_empty() {
            return Ok((at, Vec::new()));
        }
        let found = self.words.iter().filter(|word| word.to_lowercase().starts_with(&prefix)).cloned().collect();
        Ok((start, found))
    }
}

impl Validator for ShellHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input().trim();
        let is_complete = input.is_empty() || input.starts_with('\\') || input.ends_with(';');
        Ok(if is_complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Reads and runs input until the user leaves. A failed query is printed and does not end the session.
pub async fn run(session: Session, format: FormatName, max_rows: u64, warehouse: &Warehouse) -> Result<()> {
    let mut editor: Editor<ShellHelper, FileHistory> = Editor::new()?;
    editor.set_helper(Some(ShellHelper { words: session.completions().await? }));
    let history = warehouse.config.root.join(STATE).join("sql-history");
    // The file does not exist before the first session.
    let _ = editor.load_history(&history);
    println!("wattlake {}; \\? for help", env!("CARGO_PKG_VERSION"));
    let (mut format, mut timing) = (format, false);
    loop {
        let line = tokio::task::block_in_place(|| editor.readline("wattlake> "));
        let input = match line {
            Ok(input) => input,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        let _ = editor.add_history_entry(input.trim());
        let query = match parse_input(input.trim()) {
            Input::Nothing => continue,
            Input::Quit => break,
            Input::Help => {
                println!("{HELP}");
                continue;
            }
            Input::Timing => {
                timing = !timing;
                println!("timing is {}", if timing { "on" } else { "off" });
                continue;
            }
            Input::Format(name) => {
                match <FormatName as clap::ValueEnum>::from_str(name, true) {
                    Ok(FormatName::Parquet) | Err(_) => println!("choose table, csv or json"),
                    Ok(chosen) => format = chosen,
                }
                continue;
            }
            Input::Query(query) => query,
        };
        let started = Instant::now();
        let answer = tokio::select! {
            answer = print_with(&session, &query, format.format(), max_rows) => answer,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("the query was stopped")),
        };
        match answer {
            Err(error) => eprintln!("{}", base::chain(error.as_ref())),
            Ok(()) if timing => println!("{}", text::seconds(started.elapsed().as_secs_f64())),
            Ok(()) => {}
        }
    }
    let _ = editor.save_history(&history);
    Ok(())
}

enum Input<'a> {
    Nothing,
    Quit,
    Help,
    Timing,
    Format(&'a str),
    Query(String),
}

/// Parses a line: a command that begins with `\`, or a query.
fn parse_input(input: &str) -> Input<'_> {
    let name = |rest: &str| rest.trim().trim_matches('"').replace('\'', "''");
    let (schema_filter, table) = match input.split_once(' ') {
        Some((_, rest)) => match name(rest).rsplit_once('.') {
            Some((schema, table)) => (format!("table_schema = '{schema}' AND "), table.to_owned()),
            None => (String::new(), name(rest)),
        },
        None => (String::new(), String::new()),
    };
    match input.split_whitespace().next().unwrap_or_default() {
        "" => Input::Nothing,
        "\\q" | "exit" | "quit" | "exit;" | "quit;" => Input::Quit,
        "\\?" | "help" | "help;" => Input::Help,
        "\\timing" => Input::Timing,
        "\\format" => Input::Format(input.split_whitespace().nth(1).unwrap_or_default()),
        "\\d" if table.is_empty() => {
            Input::Query("SELECT schema, \"table\", \"rows\", files, bytes FROM system.tables ORDER BY 1, 2".into())
        }
        "\\d" => Input::Query(format!(
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE {schema_filter}table_name = '{table}' ORDER BY ordinal_position"
        )),
        "\\v" => Input::Query(format!("SELECT * FROM system.versions WHERE \"table\" = '{table}' ORDER BY version")),
        word if word.starts_with('\\') => Input::Help,
        _ => Input::Query(input.to_owned()),
    }
}

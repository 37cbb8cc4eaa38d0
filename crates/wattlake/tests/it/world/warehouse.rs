//! A warehouse for one test, and the binary run on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::server::folder;
use super::source::Source;

/// The repository's example warehouse, which users start from. Relative to the crate's folder, in which
/// tests run: an absolute path would be that of the checkout in which this program was built.
pub const EXAMPLE: &str = "../../warehouse";

/// A temporary warehouse, and the environment of its commands.
pub struct Warehouse {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// The exit code and the output of a command; -1 where a signal ended it.
#[derive(Debug)]
pub struct CommandResult {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Warehouse {
    /// A warehouse of these files, by their paths.
    pub fn new(files: &[(&str, &str)]) -> Warehouse {
        let dir = tempfile::Builder::new()
            .prefix("warehouse-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(folder());
        let warehouse = Warehouse { dir: dir.unwrap(), env: Vec::new() };
        files.iter().for_each(|(name, text)| warehouse.write(name, text));
        warehouse
    }

    /// The example's transfer of a platform.
    pub fn example(source: &Source) -> Warehouse {
        let warehouse = Warehouse::new(&[]);
        for name in ["wattlake.toml", "transfers/platform.toml"] {
            warehouse.write(name, &fs::read_to_string(Path::new(EXAMPLE).join(name)).unwrap());
        }
        warehouse.with_env("PLATFORM_URL", &source.url())
    }

    /// One transfer `t` of the source into a lake in a folder.
    pub fn of(source: &Source, transfer: &str) -> Warehouse {
        let toml = format!("lake.url = 'lake'\nconnections.source.url = '{}'\n", source.url());
        Warehouse::new(&[("wattlake.toml", &toml), ("transfers/t.toml", &format!("source = 'source'\n{transfer}"))])
    }

    /// Adds a variable to the environment of all commands.
    pub fn with_env(mut self, name: &str, value: &str) -> Warehouse {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The warehouse's folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A table's folder in the lake.
    pub fn table(&self, name: &str) -> PathBuf {
        self.path().join("lake").join(name.replace('.', "/"))
    }

    /// Writes a file, by its path in the warehouse.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The binary with these arguments, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wattlake"));
        command.args(arguments).stdin(Stdio::null()).env("WATTLAKE_WAREHOUSE", self.path());
        command.env_remove("WATTLAKE_LOG").env("NO_COLOR", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary, whatever its exit code.
    pub fn run(&self, arguments: &[&str]) -> CommandResult {
        CommandResult::of(self.command(arguments).output().unwrap())
    }

    /// Runs the binary; panics where it does not succeed.
    pub fn ok(&self, arguments: &[&str]) -> CommandResult {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}\n{}{}", said.out, said.err);
        said
    }

    /// The JSON objects that a command prints, one a line.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        self.ok(arguments).objects()
    }

    /// The rows of a query on the lake, as JSON objects.
    pub fn sql(&self, query: &str) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["sql", "--format", "json", query]).out).unwrap()
    }

    /// The column `n` of a query's first row.
    pub fn number(&self, query: &str) -> u64 {
        let rows = self.sql(query);
        rows[0]["n"].as_u64().unwrap_or_else(|| panic!("{query}: {rows:?}"))
    }

    /// How many rows a table of the lake has.
    pub fn count(&self, table: &str) -> u64 {
        self.number(&format!("select count(*) as n from {table}"))
    }
}

impl CommandResult {
    /// The result of a process that has ended.
    pub fn of(output: Output) -> CommandResult {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        CommandResult { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// Standard output as JSON objects, one a line.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// Standard output and standard error.
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Panics where the output does not contain the words.
    #[track_caller]
    pub fn has(&self, words: &str) -> &CommandResult {
        assert!(self.text().contains(words), "{words:?} is not in:\n{}", self.text());
        self
    }
}

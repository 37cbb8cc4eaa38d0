//! Where the commands of pages run: as an ordinary user with an empty environment, in a folder that has `warehouse`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::text::Block;
use crate::world::{CommandResult, Source, Warehouse, interpreter};

/// Where ./demo and ./test build, from the home folder.
const BUILD: &str = ".cache/wattlake/target/debug";

/// Runs the commands of a page as its reader would. A server that it started is killed when it is dropped.
pub struct PageEnvironment {
    outer: Warehouse,
    /// What a reader writes in place of `...` and of words in capitals, by the word.
    values: BTreeMap<String, String>,
    /// The ports in place of 5433, for SQL, and 8435, for models, which another server may use.
    sql_port: u16,
    models_port: u16,
    is_on_path: bool,
    /// The `export` commands of the page so far.
    exports: String,
    server: Option<Child>,
    /// Whether a server runs until the page's end, and not until the end of the block that starts it.
    keeps_server: bool,
}

impl PageEnvironment {
    /// With the program in the build folder; `is_on_path` adds that folder to the PATH.
    pub fn new(is_on_path: bool) -> PageEnvironment {
        let outer = Warehouse::new(&[]);
        let built = outer.path().join("home").join(BUILD);
        fs::create_dir_all(&built).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_wattlake"));
        if fs::hard_link(program, built.join("wattlake")).is_err() {
            fs::copy(program, built.join("wattlake")).unwrap();
        }
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (sql, models) = (free(), free());
        let [sql_port, models_port] = [sql, models].map(|listener| listener.local_addr().unwrap().port());
        let environment = PageEnvironment {
            outer,
            values: BTreeMap::new(),
            sql_port,
            models_port,
            is_on_path,
            exports: String::new(),
            server: None,
            keeps_server: false,
        };
        environment.give_to_user();
        environment
    }

    /// The folder around the warehouse.
    pub fn outside(&self) -> &Path {
        self.outer.path()
    }

    /// The warehouse's folder.
    pub fn warehouse(&self) -> PathBuf {
        self.outer.path().join("warehouse")
    }

    /// The path of the built program.
    pub fn program(&self) -> String {
        self.outer.path().join("home").join(BUILD).join("wattlake").display().to_string()
    }

    /// Sets what a reader writes in place of a word.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// A `[serve]` section with free ports in place of the default ones.
    pub fn serve_section(&self) -> String {
        let (sql, models) = (self.sql_port, self.models_port);
        format!(
            "[serve]\nsql = '127.0.0.1:{sql}'\nhttp = '127.0.0.1:0'\nfunctions = '127.0.0.1:0'\n\
             models = '127.0.0.1:{models}'\n"
        )
    }

    /// Writes a file, as a path from the outer folder.
    pub fn write(&self, name: &str, text: &str) {
        self.outer.write(name, text);
        self.give_to_user();
    }

    /// Makes the user that commands run as the owner of all files.
    pub fn give_to_user(&self) {
        if !user().is_empty() {
            // The program is a link to the one that was built, whose owner would change, too.
            let program = self.program();
            let mut all = Command::new("find");
            all.arg(self.outer.path()).args(["-path", program.as_str(), "-prune", "-o"]);
            let done = all.args(["-exec", "chown", "-h", "65534:65534", "{}", "+"]).status().unwrap();
            assert!(done.success());
        }
    }

    /// Forgets exported variables: each page has a terminal of its own.
    pub fn start_page(&mut self) {
        self.exports.clear();
    }

    /// Runs the commands of a block in order and returns their results. A server runs until the block's end.
    pub fn run_block(&mut self, block: &Block) -> Vec<CommandResult> {
        let mut said = Vec::new();
        for command in block.commands() {
            let command = self.filled(&command);
            if let Some(assignment) = command.strip_prefix("export ") {
                let (name, value) = assignment.split_once('=').unwrap();
                let own_value = value.starts_with("...").then(|| &self.values[name]);
                let export = own_value.map_or(format!("{command}\n"), |value| format!("export {name}='{value}'\n"));
                self.exports += &export;
            } else if command.contains(" serve") && command.starts_with("wattlake") {
                self.serve(&command);
            } else {
                let ended = self.run(&command);
                assert_eq!(ended.code, 0, "{}: {command}\n{}", block.place, ended.text());
                said.push(ended);
            }
        }
        if !self.keeps_server {
            self.stop_server();
        }
        said
    }

    /// Starts a server that runs until this is dropped.
    pub fn keep_server(&mut self) {
        self.keeps_server = true;
        self.serve("wattlake -C warehouse serve");
    }

    /// Runs one command with the page's exports.
    pub fn run(&self, command: &str) -> CommandResult {
        CommandResult::of(self.shell(&self.exports, command).output().unwrap())
    }

    /// Runs a block of Python in the folder that the page's other commands run in.
    pub fn python(&self, block: &Block) {
        let folder = self.folder(block.text.contains("\"warehouse/"));
        let mut program = Command::new(interpreter());
        program.args(["-c", &self.with_ports(&block.text)]).current_dir(folder);
        // Where no keys are set, boto3 needs some all the same.
        let output = program.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "a").output().unwrap();
        assert!(output.status.success(), "{}:\n{}", block.place, String::from_utf8_lossy(&output.stderr));
    }

    fn with_ports(&self, text: &str) -> String {
        text.replace("5433", &self.sql_port.to_string()).replace("8435", &self.models_port.to_string())
    }

    fn filled(&self, command: &str) -> String {
        let command = self.with_ports(command);
        let is_word = |c: char| c.is_ascii_uppercase();
        let mut filled = String::new();
        for piece in command.split_inclusive(|c: char| !is_word(c)) {
            let word = piece.trim_end_matches(|c: char| !is_word(c));
            let alone = filled.chars().last().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '$'))
                && !piece[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '=');
            match self.values.get(word).filter(|_| alone) {
                Some(value) => filled += &format!("{value}{}", &piece[word.len()..]),
                None => filled += piece,
            }
        }
        filled
    }

    /// The folder to run in: the warehouse, or the one around it for commands that name the warehouse.
    fn folder(&self, is_outside: bool) -> PathBuf {
        let inside = self.warehouse();
        if is_outside || !inside.is_dir() { self.outside().to_owned() } else { inside }
    }

    fn shell(&self, exports: &str, command: &str) -> Command {
        let folder = self.folder(command.contains("-C ") || command.starts_with("wattlake init"));
        let mut words: Vec<&str> = user().to_vec();
        words.extend(["bash", "-c"]);
        let mut shell = Command::new(words[0]);
        shell.args(&words[1..]).arg(format!("{exports}{command}")).current_dir(folder).stdin(Stdio::null());
        let home = self.outside().join("home");
        let path = match self.is_on_path {
            true => format!("{}:/usr/local/bin:/usr/bin:/bin", home.join(BUILD).display()),
            false => "/usr/local/bin:/usr/bin:/bin".to_owned(),
        };
        shell.env_clear().env("PATH", path).env("HOME", home);
        if command.starts_with("psql") {
            // What a reader types when psql asks for it.
            shell.env("PGPASSWORD", &self.values["ANALYST_PASSWORD"]);
        }
        shell
    }

    fn serve(&mut self, command: &str) {
        let log = self.outside().join("serve.log");
        // `exec`, so that the signal reaches the server and not the shell.
        let mut shell = self.shell(&format!("{}exec ", self.exports), command);
        let server = shell.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        self.server = Some(server);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&log).unwrap().contains("ready") {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            let is_late = Instant::now() > deadline;
            assert!(ended.is_none() && !is_late, "{command}: {ended:?}\n{}", fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn stop_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            Command::new("kill").arg(server.id().to_string()).status().unwrap();
            assert!(server.wait().unwrap().success(), "a stopped server exits with 0");
        }
    }
}

impl Drop for PageEnvironment {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The words before a command that run it as an ordinary user. None where the tests run as one, or where ordinary
/// users may not create the namespaces that functions run in.
fn user() -> &'static [&'static str] {
    static USER: OnceLock<Vec<&str>> = OnceLock::new();
    USER.get_or_init(|| {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        let probe = Command::new(nobody[0]).args(&nobody[1..]).args(["unshare", "--user", "true"]).output();
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        match is_root && probe.is_ok_and(|ended| ended.status.success()) {
            true => nobody.to_vec(),
            false => Vec::new(),
        }
    })
}

/// The connection to write in place of the one in the template.
pub fn connection(source: &Source) -> String {
    let url = url::Url::parse(&source.url()).unwrap();
    let (port, database) = (url.port().unwrap(), url.path().trim_start_matches('/'));
    format!(
        "[connections.platform]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"wattlake\"\n\
         password = \"${{PLATFORM_PASSWORD}}\"\ndatabase = \"{database}\"\n"
    )
}

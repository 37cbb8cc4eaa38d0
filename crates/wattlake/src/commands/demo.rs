mod billing;
mod example;
mod forecast;
mod live;
mod scenario;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use base::text;
use clap::Args;
use jobs::warehouse::STATE;
use pgserver::{Binaries, Options, Server};

use crate::report;

/// Demonstrate transfer, billing and forecasts on a generated platform of an aggregator
///
/// Starts a private PostgreSQL, fills it with 5.4 million rows of producers, sites, measurements,
/// forecasts and prices, transfers them into a lake, simulates a day at the source (new rows, late
/// corrections, a purge), transfers what is new, validates it, refreshes marts, follows the write-ahead
/// log for a while, packs the lake, bills six months of producers' files with an algorithm in R, forecasts the
/// flows of two rivers with a model in Python, and runs a few queries.
/// The server is removed at the end; the lake stays in DIR.
#[derive(Debug, Args)]
pub struct Demo {
    /// The warehouse's folder; a lake of an earlier demo in it is replaced
    #[arg(default_value = "wattlake-demo")]
    dir: PathBuf,
    /// Generate a small platform: 20 thousand rows
    #[arg(long)]
    tiny: bool,
}

/// The file in the state folder that marks the lake as a demo's, which the next demo may replace. It lists the files
/// that the demo wrote, as [`example::write`] returns them.
const MARK: &str = "demo";

impl Demo {
    /// Runs the demo in its folder and stops its server, also after a failure.
    pub async fn run(self) -> Result<ExitCode> {
        let dir = clear(&self.dir)?;
        let scale = if self.tiny { platform::Scale::tiny() } else { platform::Scale::demo() };
        let started = Instant::now();
        let source = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || Source::start(&dir)
        })
        .await??;
        eprintln!("started a private PostgreSQL ({})", text::seconds(started.elapsed().as_secs_f64()));
        let outcome = scenario::run(&dir, &source.url(), &scale).await;
        tokio::task::spawn_blocking(move || source.stop()).await??;
        outcome?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the example warehouse into the folder, without a lake: an earlier demo's is removed.
fn clear(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let (lake, state) = (dir.join("lake"), dir.join(STATE));
    if (lake.exists() || state.exists()) && !state.join(MARK).exists() {
        let what = format!("{} holds a lake that no demo made", dir.display());
        return Err(report::input(what, "name another folder"));
    }
    let earlier_files = std::fs::read_to_string(state.join(MARK)).unwrap_or_default();
    for folder in [&lake, &state, &dir.join("inbox"), &dir.join("outbox")] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    std::fs::create_dir_all(&state)?;
    std::fs::write(state.join(MARK), example::write(&dir, &earlier_files)?)?;
    Ok(dir)
}

/// The server of the generated platform, in the warehouse's folder where PostgreSQL's user may enter it.
struct Source {
    server: Server,
    folder: PathBuf,
}

impl Source {
    fn start(dir: &Path) -> Result<Source> {
        let binaries = Binaries::find(None)?;
        let own = dir.join(STATE).join("platform");
        let folder = match pgserver::init(&binaries, &own) {
            Ok(()) => own,
            Err(error) if error.kind == pgserver::Kind::FixSetup => {
                // Run as root, PostgreSQL runs as another user, which may not enter a private home folder.
                let elsewhere = std::env::temp_dir().join(format!("wattlake-demo-{}", std::process::id()));
                pgserver::init(&binaries, &elsewhere)?;
                elsewhere
            }
            Err(error) => return Err(error.into()),
        };
        let settings = [
            ("shared_buffers", "512MB"),
            ("max_wal_size", "4GB"),
            ("synchronous_commit", "off"),
            ("wal_level", "logical"),
        ];
        let options = Options {
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Options::default()
        };
        let server = pgserver::start(&binaries, &folder, &options)?;
        Ok(Source { server, folder })
    }

    fn url(&self) -> String {
        self.server.tcp_url("postgres")
    }

    fn stop(self) -> Result<()> {
        self.server.stop()?;
        std::fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))
    }
}

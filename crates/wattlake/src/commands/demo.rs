mod billing;
mod example;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use pgserver::{Binaries, Options, Server};

use crate::text;
use crate::warehouse::STATE;

/// Play transfer and billing on an aggregator's platform that is made up for it
///
/// Starts a private PostgreSQL, fills it with 5.4 million rows of producers, sites, measurements,
/// forecasts and prices, carries them into a lake, lets a day pass at the source (new rows, late
/// corrections, a purge), carries what is new, proves it, keeps marts fresh, packs the lake, bills six
/// months of producers' files with an algorithm in R, and asks the lake a few questions.
/// The server is gone at the end; the lake stays in DIR, to be looked at.
#[derive(Debug, Args)]
pub struct Demo {
    /// The warehouse's folder; a lake of an earlier demo in it is replaced
    #[arg(default_value = "wattlake-demo")]
    dir: PathBuf,
    /// A small platform: 20 thousand rows
    #[arg(long)]
    tiny: bool,
}

/// Says that the folder's lake is a demo's, and may be replaced by the next; and which files it wrote.
const MARK: &str = "demo";

impl Demo {
    pub async fn run(self) -> Result<ExitCode> {
        let dir = clear(&self.dir)?;
        let scale = if self.tiny { platform::Scale::tiny() } else { platform::Scale::demo() };
        let started = Instant::now();
        let source = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || Source::start(&dir)
        })
        .await??;
        eprintln!("a private PostgreSQL is up ({})", text::seconds(started.elapsed().as_secs_f64()));
        let told = story::play(&dir, &source.url(), &scale).await;
        tokio::task::spawn_blocking(move || source.stop()).await??;
        told?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the folder a warehouse without a lake.
fn clear(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let (lake, state) = (dir.join("lake"), dir.join(STATE));
    if (lake.exists() || state.exists()) && !state.join(MARK).exists() {
        bail!("{} holds a lake that no demo made; give another folder", dir.display());
    }
    let before = std::fs::read_to_string(state.join(MARK)).unwrap_or_default();
    for folder in [&lake, &state, &dir.join("inbox"), &dir.join("outbox")] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    std::fs::create_dir_all(&state)?;
    std::fs::write(state.join(MARK), example::write(&dir, &before)?)?;
    Ok(dir)
}

/// The made-up platform's server, in the warehouse's own folder where its user can reach it.
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
                // A home folder that only its owner may enter: PostgreSQL's own user can't.
                let elsewhere = std::env::temp_dir().join(format!("wattlake-demo-{}", std::process::id()));
                pgserver::init(&binaries, &elsewhere)?;
                elsewhere
            }
            Err(error) => return Err(error.into()),
        };
        let settings = [("shared_buffers", "512MB"), ("max_wal_size", "4GB"), ("synchronous_commit", "off")];
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

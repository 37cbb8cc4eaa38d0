mod billing;
mod files;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use pgserver::{Binaries, Options, Server};

use crate::text;
use crate::warehouse::STATE;

/// Play the whole transfer on an aggregator's platform that is made up for it
///
/// Starts a private PostgreSQL, fills it with 5.4 million rows of producers, sites, measurements,
/// forecasts and prices, carries them into a lake, lets a day pass at the source (new rows, late
/// corrections, a purge), carries what is new, proves it, keeps marts fresh, packs the lake, and
/// asks it a few questions.
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

/// Says that the folder's lake is a demo's, and may be replaced by the next.
const MARK: &str = "demo";

/// The example's own.
const FILES: &[(&str, &str)] = &[
    ("controls/billing.toml", include_str!("../../../../warehouse/controls/billing.toml")),
    (
        "controls/billing/contract_in_force.sql",
        include_str!("../../../../warehouse/controls/billing/contract_in_force.sql"),
    ),
    (
        "controls/billing/corrected_after_billing.sql",
        include_str!("../../../../warehouse/controls/billing/corrected_after_billing.sql"),
    ),
    ("controls/billing/credit_notes.sql", include_str!("../../../../warehouse/controls/billing/credit_notes.sql")),
    (
        "controls/billing/declared_against_metered.sql",
        include_str!("../../../../warehouse/controls/billing/declared_against_metered.sql"),
    ),
    ("controls/billing/declared_twice.sql", include_str!("../../../../warehouse/controls/billing/declared_twice.sql")),
    (
        "controls/billing/estimated_share.sql",
        include_str!("../../../../warehouse/controls/billing/estimated_share.sql"),
    ),
    (
        "controls/billing/everyone_is_billed.sql",
        include_str!("../../../../warehouse/controls/billing/everyone_is_billed.sql"),
    ),
    (
        "controls/billing/files_set_aside.sql",
        include_str!("../../../../warehouse/controls/billing/files_set_aside.sql"),
    ),
    ("controls/billing/lines_add_up.sql", include_str!("../../../../warehouse/controls/billing/lines_add_up.sql")),
    (
        "controls/billing/prices_complete.sql",
        include_str!("../../../../warehouse/controls/billing/prices_complete.sql"),
    ),
    ("controls/billing/solar_at_night.sql", include_str!("../../../../warehouse/controls/billing/solar_at_night.sql")),
    ("controls/billing/steps_complete.sql", include_str!("../../../../warehouse/controls/billing/steps_complete.sql")),
    ("controls/billing/within_pmax.sql", include_str!("../../../../warehouse/controls/billing/within_pmax.sql")),
    ("functions/billing-extract/billing.R", include_str!("../../../../warehouse/functions/billing-extract/billing.R")),
    (
        "functions/billing-extract/function.toml",
        include_str!("../../../../warehouse/functions/billing-extract/function.toml"),
    ),
    ("functions/billing-extract/job.toml", include_str!("../../../../warehouse/functions/billing-extract/job.toml")),
    ("functions/billing-extract/money.R", include_str!("../../../../warehouse/functions/billing-extract/money.R")),
    ("functions/billing-extract/rules.R", include_str!("../../../../warehouse/functions/billing-extract/rules.R")),
    ("ingests/production.toml", include_str!("../../../../warehouse/ingests/production.toml")),
    ("layers/r-data-table.toml", include_str!("../../../../warehouse/layers/r-data-table.toml")),
    ("layers/r-jsonlite.toml", include_str!("../../../../warehouse/layers/r-jsonlite.toml")),
    ("layers/r.toml", include_str!("../../../../warehouse/layers/r.toml")),
    ("layouts/lines.toml", include_str!("../../../../warehouse/layouts/lines.toml")),
    ("layouts/production.toml", include_str!("../../../../warehouse/layouts/production.toml")),
    ("loads/declared.toml", include_str!("../../../../warehouse/loads/declared.toml")),
    ("loads/lines.toml", include_str!("../../../../warehouse/loads/lines.toml")),
    ("marts/daily_production.sql", include_str!("../../../../warehouse/marts/daily_production.sql")),
    ("marts/latest.sql", include_str!("../../../../warehouse/marts/latest.sql")),
    ("marts/monthly_completeness.sql", include_str!("../../../../warehouse/marts/monthly_completeness.sql")),
    ("marts/revenue.sql", include_str!("../../../../warehouse/marts/revenue.sql")),
    ("transfers/platform.toml", include_str!("../../../../warehouse/transfers/platform.toml")),
    ("wattlake.toml", include_str!("../../../../warehouse/wattlake.toml")),
];

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
    for folder in [&lake, &state, &dir.join("inbox")] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    std::fs::create_dir_all(&state)?;
    std::fs::write(state.join(MARK), "")?;
    for (name, content) in FILES {
        let path = dir.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        if !path.exists() {
            std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
    }
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

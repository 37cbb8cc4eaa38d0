//! `bench copy`: every contender copies the same two tables, for several rounds.
//! Contenders take turns in each round, so that a slow phase of the machine affects all of them.

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::contenders::{Contender, CopyBench};
use super::fill::{self, Rows};
use super::measure::Run;
use super::programs::{Profile, Programs, Selection};
use super::report;
use super::servers::Servers;
use crate::project::Project;

/// The options of `bench copy`.
#[derive(Args)]
pub struct Options {
    /// Rows of bench.measures (7 columns)
    #[arg(long, default_value_t = 10_000_000)]
    rows_long: u64,
    /// Rows of bench.wide (16 columns)
    #[arg(long, default_value_t = 1_000_000)]
    rows_wide: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Run 200,000 and 20,000 rows and one round to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// The profile of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// Only these contenders
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contender>,
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let rows = match options.quick {
        true => Rows { long: 200_000, wide: 20_000 },
        false => Rows { long: options.rows_long, wide: options.rows_wide },
    };
    let rounds = if options.quick { 1 } else { options.rounds };
    ensure!(rounds > 0 && rows.long > 0 && rows.wide > 0, "rows and rounds must be above zero");
    let contenders: Vec<Contender> = Contender::value_variants()
        .iter()
        .copied()
        .filter(|c| options.only.is_empty() || options.only.contains(c))
        .collect();

    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let selection = Selection {
        pgcopydb: contenders.contains(&Contender::Pgcopydb),
        wattlake: contenders.iter().any(|c| c.is_wattlake()).then_some(options.profile),
    };
    let programs = Programs::prepare(project, &work, &selection)?;
    let servers = Servers::start(&work)?;
    eprintln!("bench copy: fill {} + {} rows", rows.long, rows.wide);
    fill::fill(&programs, &servers, rows)?;

    let bench = CopyBench { programs: &programs, servers: &servers, out: work.join("out"), rows };
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for contender in &contenders {
            for run in contender.run(&bench, round)? {
                eprintln!("{}", run.line());
                runs.push(run);
            }
        }
    }
    let result = result(project, options.profile, rows, &programs, &servers, &runs)?;
    let folder = match options.quick {
        true => work.join("quick"),
        false => report::results_folder(project, &result)?,
    };
    report::write(&folder, &result, &runs)?;
    servers.stop()
}

/// What the numbers can only be judged with.
fn result(
    project: &Project,
    profile: Profile,
    rows: Rows,
    programs: &Programs,
    servers: &Servers,
    runs: &[Run],
) -> Result<Value> {
    Ok(json!({
        "benchmark": "copy",
        "date": report::today(project)?,
        "commit": report::commit(project)?,
        "profile": profile.name(),
        "machine": report::machine()?,
        "versions": programs.versions(servers)?,
        "server_settings": servers.settings(),
        "tables": rows.json(programs, servers)?,
        "runs": runs.iter().map(Run::json).collect::<Vec<_>>(),
    }))
}

//! How far each schedule has come. A slot becomes an entry of the queue in the same transaction
//! that moves the schedule past it: none is lost, none comes twice.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use serde::Serialize;

use crate::queue::{Entry, put};
use crate::{Ledger, Result, instant};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduleRow {
    /// "transfer:platform#1": the job and the place of the trigger among its own.
    pub name: String,
    pub job: String,
    pub spec: String,
    pub zone: String,
    /// Every slot up to here has become an entry, or was passed over by the catch-up rule.
    #[serde(serialize_with = "instant::serialize")]
    pub seen_to: DateTime<Utc>,
    /// The newest slot that became an entry, in local time.
    pub last_slot: Option<String>,
    #[serde(serialize_with = "instant::serialize_option")]
    pub next_at: Option<DateTime<Utc>>,
    pub paused: bool,
}

const COLUMNS: &str = "name, job, spec, zone, seen_to, last_slot, next_at, paused";

/// A schedule as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub job: String,
    pub spec: String,
    pub zone: String,
}

impl Ledger {
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>> {
        self.list(
            "list the schedules",
            &format!("select {COLUMNS} from schedules order by name"),
            [],
            ScheduleRow::read,
        )
    }

    pub fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>> {
        let sql = format!("select {COLUMNS} from schedules where name = ?");
        Ok(self.list("look up a schedule", &sql, [name], ScheduleRow::read)?.into_iter().next())
    }

    /// Makes the ledger's schedules those of the configuration. A new one, and one whose pattern
    /// or zone has changed, begins now: it has no past to catch up with.
    pub fn keep_schedules(&self, kept: &[Kept], now: DateTime<Utc>) -> Result<()> {
        self.write("keep the schedules", |tx| {
            for schedule in kept {
                tx.prepare_cached(
                    "insert into schedules (name, job, spec, zone, seen_to) values (?1, ?2, ?3, ?4, ?5)
                     on conflict (name) do update set
                        job = ?2, spec = ?3, zone = ?4, seen_to = ?5, last_slot = null, next_at = null
                     where job <> ?2 or spec <> ?3 or zone <> ?4",
                )?
                .execute((
                    &schedule.name,
                    &schedule.job,
                    &schedule.spec,
                    &schedule.zone,
                    instant::to_text(now),
                ))?;
            }
            let names: Vec<&str> = kept.iter().map(|schedule| schedule.name.as_str()).collect();
            let names = serde_json::Value::from(names).to_string();
            tx.execute("delete from schedules where name not in (select value from json_each(?))", [names]).map(drop)
        })
    }

    /// Queues the slots up to `seen_to`; entries that are there already are not put again.
    /// Returns how many were new.
    pub fn fire(
        &self,
        name: &str,
        seen_to: DateTime<Utc>,
        next_at: Option<DateTime<Utc>>,
        last_slot: Option<&str>,
        entries: &[Entry],
    ) -> Result<usize> {
        self.write(&format!("fire schedule {name}"), |tx| {
            let mut new = 0;
            for entry in entries {
                new += usize::from(put(tx, entry)?.is_some());
            }
            let sql =
                "update schedules set seen_to = ?, next_at = ?, last_slot = coalesce(?, last_slot) where name = ?";
            tx.execute(sql, (instant::to_text(seen_to), next_at.map(instant::to_text), last_slot, name))?;
            Ok(new)
        })
    }

    /// Pauses or resumes all schedules of a job, or one by its own name; returns how many that
    /// are. What comes due in a pause is passed over.
    pub fn pause(&self, job_or_name: &str, paused: bool) -> Result<usize> {
        self.write("pause a job", |tx| {
            tx.execute("update schedules set paused = ?1 where job = ?2 or name = ?2", (paused, job_or_name))
        })
    }
}

impl ScheduleRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let next_at: Option<String> = row.get(6)?;
        Ok(ScheduleRow {
            name: row.get(0)?,
            job: row.get(1)?,
            spec: row.get(2)?,
            zone: row.get(3)?,
            seen_to: instant::from_text(4, &row.get::<_, String>(4)?)?,
            last_slot: row.get(5)?,
            next_at: next_at.map(|at| instant::from_text(6, &at)).transpose()?,
            paused: row.get(7)?,
        })
    }
}

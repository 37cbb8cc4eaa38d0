//! Schedules, and up to which instant the slots of each have been queued. A slot is queued in the
//! transaction that moves the schedule past it, so that no slot is lost or queued twice.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use serde::Serialize;

use crate::queue::{QueueEntry, put};
use crate::{Ledger, Result, instant};

/// A trigger of a job, by cron or by event, and up to which instant the slots of a cron trigger have been queued.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduleRow {
    /// Such as "transfer:platform#1": the job, and the number of the trigger among the job's.
    pub name: String,
    /// The job that the schedule starts.
    pub job: String,
    /// The cron pattern, or the text of the event trigger.
    pub spec: String,
    /// The name of the time zone, such as "Europe/Paris"; empty for an event trigger.
    pub zone: String,
    /// All slots up to this instant have been queued, or were skipped by the catch-up rule or in a pause.
    #[serde(serialize_with = "instant::serialize")]
    pub seen_to: DateTime<Utc>,
    /// The newest slot that was queued, in local time.
    pub last_slot: Option<String>,
    /// The next slot.
    #[serde(serialize_with = "instant::serialize_option")]
    pub next_at: Option<DateTime<Utc>>,
    /// Whether a user has paused the schedule.
    pub paused: bool,
}

const COLUMNS: &str = "name, job, spec, zone, seen_to, last_slot, next_at, paused";

/// A trigger of a job, by cron or by event, as the configuration defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleDefinition {
    /// Such as "transfer:platform#1": the job, and the number of the trigger among the job's.
    pub name: String,
    /// The job that the schedule starts.
    pub job: String,
    /// The cron pattern, or the text of the event trigger.
    pub spec: String,
    /// The name of the time zone, such as "Europe/Paris"; empty for an event trigger.
    pub zone: String,
}

impl Ledger {
    /// Lists the schedules by name.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>> {
        self.list(
            "list the schedules",
            &format!("select {COLUMNS} from schedules order by name"),
            [],
            ScheduleRow::read,
        )
    }

    /// Looks up a schedule by its name.
    pub fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>> {
        let sql = format!("select {COLUMNS} from schedules where name = ?");
        Ok(self.list("look up a schedule", &sql, [name], ScheduleRow::read)?.into_iter().next())
    }

    /// Replaces the ledger's schedules by those of the configuration. A new schedule, and one whose pattern, zone or
    /// job has changed, begins at `now`: its earlier slots are not queued. The others are unchanged.
    pub fn set_schedules(&self, definitions: &[ScheduleDefinition], now: DateTime<Utc>) -> Result<()> {
        self.write("set the schedules", |tx| {
            for schedule in definitions {
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
            let names: Vec<&str> = definitions.iter().map(|schedule| schedule.name.as_str()).collect();
            let names = serde_json::Value::from(names).to_string();
            tx.execute("delete from schedules where name not in (select value from json_each(?))", [names]).map(drop)
        })
    }

    /// Queues the entries of a schedule's slots up to `seen_to`, and moves the schedule there, in one transaction.
    /// Entries whose key exists are not queued again. Returns the number of new entries.
    pub fn queue_slots(
        &self,
        name: &str,
        seen_to: DateTime<Utc>,
        next_at: Option<DateTime<Utc>>,
        last_slot: Option<&str>,
        entries: &[QueueEntry],
    ) -> Result<usize> {
        self.write(&format!("queue the slots of schedule {name}"), |tx| {
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

    /// Pauses or resumes all schedules of a job, or one schedule by its name. Returns the number of schedules. Slots
    /// that come due during a pause are skipped.
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

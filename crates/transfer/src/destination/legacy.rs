//! Positions that versions before the checkpoints have written: three numbers by the transfer's name. They are read,
//! but no longer written.

use tokio_postgres::Client;

use crate::checkpoint::Position;
use crate::cursor::{CursorKind, CursorValue};
use crate::error::{Context, Result};
use crate::plan::TablePlan;

/// The number that means: no transaction that had not ended.
const NO_XID: i64 = -1;

/// The position of a table of the lake, from the numbers that Delta Lake stores by application.
pub async fn lake_position(table: &lake::Table, transfer: &str, plan: &TablePlan) -> Result<Option<Position>> {
    let read =
        async |part: &str| table.position(&format!("wattlake/{transfer}/{part}")).await.context("read the position");
    let (Some(high), Some(low)) = (read("high").await?, read("low").await?) else { return Ok(None) };
    let xid = read("xid").await?.filter(|xid| *xid != NO_XID);
    Ok(position_of_numbers(high, low, xid, plan))
}

/// The position of a table in PostgreSQL, from the target's table `wattlake.positions`.
pub async fn postgres_position(client: &Client, transfer: &str, plan: &TablePlan) -> Result<Option<Position>> {
    let table = client.query_one("SELECT to_regclass('wattlake.positions') IS NOT NULL", &[]).await;
    if !table.context("look for positions")?.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql =
        "SELECT high, low, xid FROM wattlake.positions WHERE transfer = $1 AND source_table = $2 AND high IS NOT NULL";
    let row = client.query_opt(sql, &[&transfer, &plan.source.display()]).await.context("read the position")?;
    Ok(row.and_then(|row| position_of_numbers(row.get(0), row.get(1), row.get(2), plan)))
}

/// The position of integers, or of microseconds since 1970; the least integer means before all rows. `None` where the
/// cursor is of another kind now: the table is read again, and its rows are kept.
fn position_of_numbers(high: i64, low: i64, xid: Option<i64>, plan: &TablePlan) -> Option<Position> {
    let [column] = plan.cursor.as_ref()?.columns.as_slice() else { return None };
    let place = |number: i64| -> Option<Option<CursorValue>> {
        if number == i64::MIN {
            return Some(None);
        }
        let text = match column.kind {
            CursorKind::Integer => number.to_string(),
            CursorKind::Instant { .. } => match chrono::DateTime::from_timestamp_micros(number) {
                // PostgreSQL writes earlier years differently.
                Some(at) if number > crate::decode::INFINITE_MICROS[0] => {
                    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
                }
                _ => "-infinity".to_owned(),
            },
            _ => return None,
        };
        Some(Some(CursorValue(vec![text])))
    };
    let top = (column.kind == CursorKind::Integer).then_some(high);
    Some(Position { high: place(high)?, low: place(low)?, xid, top, ..Position::default() })
}

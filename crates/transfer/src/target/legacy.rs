//! Positions as builds before the checkpoint left them: three numbers of a transfer's name. They are read, and written
//! no more.

use tokio_postgres::Client;

use crate::checkpoint::Position;
use crate::cursor::{CursorKind, Place};
use crate::error::{Context, Result};
use crate::plan::TablePlan;

/// Stands for "no unended writer".
const NO_XID: i64 = -1;

/// Of a lake's table: the numbers that it keeps for an application.
pub async fn position(table: &lake::Table, transfer: &str, plan: &TablePlan) -> Result<Option<Position>> {
    let read =
        async |part: &str| table.position(&format!("wattlake/{transfer}/{part}")).await.context("read the position");
    let (Some(high), Some(low)) = (read("high").await?, read("low").await?) else { return Ok(None) };
    let xid = read("xid").await?.filter(|xid| *xid != NO_XID);
    Ok(of_numbers(high, low, xid, plan))
}

/// Of a PostgreSQL target: a row of its table of positions.
pub async fn of_transfer(client: &Client, transfer: &str, plan: &TablePlan) -> Result<Option<Position>> {
    let table = client.query_one("SELECT to_regclass('wattlake.positions') IS NOT NULL", &[]).await;
    if !table.context("look for positions")?.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql =
        "SELECT high, low, xid FROM wattlake.positions WHERE transfer = $1 AND source_table = $2 AND high IS NOT NULL";
    let row = client.query_opt(sql, &[&transfer, &plan.source.display()]).await.context("read the position")?;
    Ok(row.and_then(|row| of_numbers(row.get(0), row.get(1), row.get(2), plan)))
}

/// Integers, or microseconds since 1970; the least is the beginning. `None` where the cursor is of another kind now:
/// the table is read again, beside what it has.
pub fn of_numbers(high: i64, low: i64, xid: Option<i64>, plan: &TablePlan) -> Option<Position> {
    let [column] = plan.cursor.as_ref()?.columns.as_slice() else { return None };
    let place = |number: i64| -> Option<Option<Place>> {
        if number == i64::MIN {
            return Some(None);
        }
        let text = match column.kind {
            CursorKind::Integer => number.to_string(),
            CursorKind::Instant { .. } => match chrono::DateTime::from_timestamp_micros(number) {
                // PostgreSQL writes earlier years in another way.
                Some(at) if number > crate::decode::INFINITE_MICROS[0] => {
                    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
                }
                _ => "-infinity".to_owned(),
            },
            _ => return None,
        };
        Some(Some(Place(vec![text])))
    };
    let top = (column.kind == CursorKind::Integer).then_some(high);
    Some(Position { high: place(high)?, low: place(low)?, xid, top, ..Position::default() })
}

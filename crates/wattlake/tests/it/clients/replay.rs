//! Plays a recording to a server, by both of the protocol's ways, and tells what went wrong.

use std::error::Error;

use futures::{TryStreamExt, pin_mut};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::recording::Statement;

type Failed = Box<dyn Error + Sync + Send>;

/// Whatever the statement takes it for, sent as text, as many drivers do.
#[derive(Debug)]
struct Text(String);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// What did not go as recorded, one text for each statement.
pub async fn replay(url: &str, recording: &[Statement]) -> Vec<String> {
    let config: Config = url.parse().unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut failures = Vec::new();
    for statement in recording {
        if let Err(error) = played(&client, statement).await {
            failures.push(format!("{}: {}\n{}", statement.when, told(error.as_ref()), statement.sql));
            // Nothing else is answered in a transaction that has failed.
            let _ = client.batch_execute("rollback").await;
        }
    }
    failures
}

fn told(error: &(dyn Error + 'static)) -> String {
    let server = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::as_db_error);
    server.map_or_else(|| error.to_string(), |error| format!("{} ({})", error.message(), error.code().code()))
}

async fn played(client: &Client, statement: &Statement) -> Result<(), Failed> {
    let sql = numbered(client, &statement.sql).await?;
    let mut with = Vec::new();
    for value in &statement.with {
        with.push(numbered(client, value).await?);
    }
    if sql.trim_start().to_uppercase().starts_with("COPY") {
        let stream = client.copy_out(&sql).await?;
        pin_mut!(stream);
        while stream.try_next().await?.is_some() {}
        return Ok(());
    }
    let rows = simple(client, &inlined(&sql, &with)).await?;
    for wanted in &statement.rows {
        let there = rows.iter().any(|row| wanted.iter().all(|cell| row.contains(cell)));
        if !there {
            return Err(format!("no row has {wanted:?} among {rows:?}").into());
        }
    }
    if statement.only_simple {
        return Ok(());
    }
    let prepared = client.prepare(&sql).await?;
    let stream = client.query_raw(&prepared, with.into_iter().map(Text)).await?;
    let extended = stream.try_collect::<Vec<_>>().await?;
    if extended.len() != rows.len() {
        return Err(
            format!("{} rows by the simple protocol, {} by the extended one", rows.len(), extended.len()).into()
        );
    }
    Ok(())
}

async fn simple(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).unwrap_or("").to_owned()).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// Parameters written into the statement, the last first: `$12` begins with `$1`.
fn inlined(sql: &str, with: &[String]) -> String {
    let numbered = with.iter().enumerate().rev();
    numbered.fold(sql.to_owned(), |sql, (at, value)| {
        sql.replace(&format!("${}", at + 1), &format!("'{}'", value.replace('\'', "''")))
    })
}

/// The server's own numbers for `{schema}` and `{schema.table}`, which clients have asked for before.
async fn numbered(client: &Client, text: &str) -> Result<String, Failed> {
    const SCHEMA: &str = "select oid from pg_catalog.pg_namespace where nspname = 'platform'";
    let mut text = text.to_owned();
    for name in ["platform", "platform.sites", "platform.readings"] {
        let written = format!("{{{name}}}");
        if !text.contains(&written) {
            continue;
        }
        let query = match name.split_once('.') {
            None => SCHEMA.to_owned(),
            Some((_, table)) => {
                format!("select oid from pg_catalog.pg_class where relname = '{table}' and relnamespace = ({SCHEMA})")
            }
        };
        let rows = simple(client, &query).await?;
        let [row] = &rows[..] else { return Err(format!("{name} is there {} times", rows.len()).into()) };
        text = text.replace(&written, &row[0]);
    }
    Ok(text)
}

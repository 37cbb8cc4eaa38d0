//! Replays a recording against a server, by the simple and by the extended protocol, and reports the
//! differences.

use std::error::Error;

use futures::{TryStreamExt, pin_mut};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::recording::Statement;

type BoxError = Box<dyn Error + Sync + Send>;

/// A parameter of any type, sent in the text format, as many drivers do.
#[derive(Debug)]
struct Text(String);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
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

/// Replays all statements. Returns a text for each one that failed.
pub async fn replay(url: &str, recording: &[Statement]) -> Vec<String> {
    let config: Config = url.parse().unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut failures = Vec::new();
    for statement in recording {
        if let Err(error) = replay_one(&client, statement).await {
            failures.push(format!("{}: {}\n{}", statement.when, error_text(error.as_ref()), statement.sql));
            // Nothing else is answered in a transaction that has failed.
            let _ = client.batch_execute("rollback").await;
        }
    }
    failures
}

fn error_text(error: &(dyn Error + 'static)) -> String {
    let server = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::as_db_error);
    server.map_or_else(|| error.to_string(), |error| format!("{} ({})", error.message(), error.code().code()))
}

async fn replay_one(client: &Client, statement: &Statement) -> Result<(), BoxError> {
    let sql = with_oids(client, &statement.sql).await?;
    let mut with = Vec::new();
    for value in &statement.with {
        with.push(with_oids(client, value).await?);
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

/// The statement with its parameters as literals. The last one is replaced first: `$12` starts with `$1`.
fn inlined(sql: &str, with: &[String]) -> String {
    let numbered = with.iter().enumerate().rev();
    numbered.fold(sql.to_owned(), |sql, (at, value)| {
        sql.replace(&format!("${}", at + 1), &format!("'{}'", value.replace('\'', "''")))
    })
}

/// Replaces `{schema}` and `{schema.table}` by the OIDs on this server, which a client has queried before.
async fn with_oids(client: &Client, text: &str) -> Result<String, BoxError> {
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
        let [row] = &rows[..] else { return Err(format!("{name} is found {} times", rows.len()).into()) };
        text = text.replace(&written, &row[0]);
    }
    Ok(text)
}

//! Detects connection poolers. A transfer can't use a pooler that assigns a session of the server for one transaction
//! at a time: settings would affect other clients, and an open snapshot would take sessions away from them.

use super::Endpoint;
use super::wire::Wire;
use crate::error::{Error, Result};

/// How often two connections are compared: a pooler may assign other sessions each time.
const ROUNDS: usize = 5;

/// Checks that each connection has a session of the server for itself.
///
/// # Errors
/// Where a pooler assigns sessions per transaction or per statement, and where a connection fails.
pub async fn refuse_shared_sessions(endpoint: &Endpoint) -> Result<()> {
    let own = endpoint.clone();
    let shares = tokio::task::spawn_blocking(move || shares_sessions(&own)).await;
    if shares.map_err(|e| Error::bug("compare the sessions of two connections").because(e))?? {
        let context = format!(
            "use the connection to {}: a pooler assigns sessions per transaction or per statement",
            endpoint.display()
        );
        return Err(Error::setup(context)
            .hint("connect to PostgreSQL itself, or to a pool with pool_mode = session for the transfer's user"));
    }
    Ok(())
}

fn shares_sessions(endpoint: &Endpoint) -> Result<bool> {
    let mut first = Wire::connect_bare(endpoint)?;
    let process = backend(&mut first)?;
    if Some(first.process_id().to_string()) == process {
        return Ok(false);
    }
    // A pooler is between this process and the server. It must give this session to no other connection.
    let mut second = Wire::connect_bare(endpoint)?;
    for _ in 0..ROUNDS {
        if let Err(error) = second.batch("BEGIN") {
            // A pooler that assigns a session per statement refuses transactions.
            return if error.to_string().contains("transaction blocks not allowed") { Ok(true) } else { Err(error) };
        }
        let shares = backend(&mut second)? == process || backend(&mut first)? != process;
        second.batch("ROLLBACK")?;
        if shares || backend(&mut first)? != process {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The process that serves a connection, as the server reports it.
fn backend(wire: &mut Wire) -> Result<Option<String>> {
    Ok(wire.rows("SELECT pg_backend_pid()")?.into_iter().flatten().next().flatten())
}

//! Connection poolers. One that lends a server's session for a transaction at a time can't serve a transfer: settings
//! would reach other clients, and a snapshot that is kept open takes sessions away from them.

use super::Endpoint;
use super::wire::Wire;
use crate::error::{Error, Result};

/// How often two connections are compared: a pool may lend other sessions each time.
const ROUNDS: usize = 5;

/// # Errors
/// Where two connections share one session of the server.
pub async fn refuse_shared_sessions(endpoint: &Endpoint) -> Result<()> {
    let own = endpoint.clone();
    let shares = tokio::task::spawn_blocking(move || shares_sessions(&own)).await;
    if shares.map_err(|e| Error::bug("ask for the server's sessions").because(e))?? {
        let context = format!(
            "use the connection to {}: a pooler lends sessions for a transaction at a time, or for a statement",
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
    // Something is between us and the server. While this session is ours, no other connection has it.
    let mut second = Wire::connect_bare(endpoint)?;
    for _ in 0..ROUNDS {
        if let Err(error) = second.batch("BEGIN") {
            // One that lends a session for a statement at a time refuses transactions.
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

/// The process that serves a connection, by the server itself.
fn backend(wire: &mut Wire) -> Result<Option<String>> {
    Ok(wire.rows("SELECT pg_backend_pid()")?.into_iter().flatten().next().flatten())
}

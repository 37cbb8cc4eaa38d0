//! Statements that are sent without waiting for the results of those before them.

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::{READ_BYTES, Wire};
use crate::error::{Context, Error, Result};
use crate::postgres::parameter::Parameter;
use crate::postgres::server_error::server_error;

/// The statement of a pipeline that has failed.
pub struct PipelineError {
    /// Its index among the executed ones.
    pub index: usize,
    /// The server's error.
    pub error: Error,
}

impl Wire {
    /// Adds the preparation of a statement to the pipeline.
    pub fn pipeline_prepare(&mut self, name: &str, sql: &str) -> Result<()> {
        frontend::parse(name, sql, [], &mut self.out).context("write a statement")
    }

    /// Adds an execution of a prepared statement to the pipeline.
    pub fn pipeline_execute(&mut self, name: &str, parameters: &[Parameter<'_>]) -> Result<()> {
        let formats = parameters.iter().map(|parameter| i16::from(parameter.is_binary));
        let write = |parameter: &Parameter<'_>, out: &mut BytesMut| Ok(parameter.write(out));
        let bound = frontend::bind("", name, formats, parameters.iter(), write, [], &mut self.out);
        bound.map_err(|_| Error::bug("write the parameters of a statement"))?;
        frontend::execute("", 0, &mut self.out).context("write a statement")?;
        if self.out.len() >= READ_BYTES { self.flush() } else { Ok(()) }
    }

    /// Ends the pipeline, and waits for its results: the numbers of rows that the statements have changed.
    ///
    /// # Errors
    /// Where the connection fails. The error of a statement is the inner one; those after it are not executed.
    pub fn pipeline_finish(&mut self) -> Result<Result<Vec<u64>, PipelineError>> {
        frontend::sync(&mut self.out);
        self.flush()?;
        let (mut counts, mut failed) = (Vec::new(), None);
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'C' => {
                    let text = String::from_utf8_lossy(&self.buffer[at..end]);
                    let count = text.trim_end_matches('\0').rsplit(' ').next().and_then(|n| n.parse().ok());
                    counts.push(count.unwrap_or_default());
                }
                b'E' => {
                    failed = Some(PipelineError { index: counts.len(), error: server_error(&self.buffer[at..end]) });
                }
                b'Z' => return Ok(failed.map_or(Ok(counts), Err)),
                _ => {}
            }
        }
    }
}

//! The streaming of the log on a connection for replication.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;

use super::{Wire, closed};
use crate::error::{Context, Error, Result};
use crate::postgres::server_error::server_error;

impl Wire {
    /// Starts a streaming of the log, in which both sides send CopyData messages: [`Wire::poll`] receives them, and
    /// [`Wire::send_data`] sends them.
    pub(in crate::postgres) fn copy_both(&mut self, command: &str) -> Result<()> {
        self.query(command)?;
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'W' => return Ok(()),
                b'E' => return Err(server_error(&self.buffer[at..end])),
                _ => {}
            }
        }
    }

    /// Limits how long [`Wire::poll`] waits for the next bytes.
    pub(in crate::postgres) fn set_read_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.socket.set_read_timeout(timeout).context("set up the socket")
    }

    /// The body of the next CopyData message; `None` where none arrived within the read timeout.
    ///
    /// # Errors
    /// Where the server ended the streaming, with its error.
    pub(in crate::postgres) fn poll(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let Some((tag, at, end)) = self.poll_message()? else { return Ok(None) };
            match tag {
                b'd' => return Ok(Some(&self.buffer[at..end])),
                b'E' => return Err(server_error(&self.buffer[at..end])),
                b'c' | b'C' | b'Z' => {
                    return Err(Error::retry("read the log: the server ended the streaming, since it shuts down"));
                }
                _ => {}
            }
        }
    }

    /// Whether [`Wire::poll`] has a message without reading from the socket.
    pub(in crate::postgres) fn has_message(&self) -> bool {
        let available = &self.buffer[self.start..self.end];
        matches!(available, [_, a, b, c, d, ..] if available.len() > u32::from_be_bytes([*a, *b, *c, *d]) as usize)
    }

    /// Sends one CopyData message.
    pub(in crate::postgres) fn send_data(&mut self, body: &[u8]) -> Result<()> {
        let data = frontend::CopyData::new(body).context("write to PostgreSQL")?;
        data.write(&mut self.out);
        self.flush()
    }

    /// Ends a streaming of the log and the session, and waits a moment until the server has ended it, too: the slot is
    /// free then. What the server still sends is dropped.
    pub(in crate::postgres) fn end_streaming(&mut self, wait: Duration) -> Result<()> {
        frontend::copy_done(&mut self.out);
        frontend::terminate(&mut self.out);
        self.flush()?;
        let started = Instant::now();
        while started.elapsed() < wait {
            match self.socket.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// As [`Wire::message`]; `None` where its bytes do not arrive within the read timeout. Those that have arrived stay
    /// in the buffer.
    fn poll_message(&mut self) -> Result<Option<(u8, usize, usize)>> {
        loop {
            let available = &self.buffer[self.start..self.end];
            let wanted = match available {
                [_, a, b, c, d, ..] => 1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
                _ => 5,
            };
            if available.len() >= wanted.max(5) {
                return self.message().map(Some);
            }
            self.make_room(wanted);
            match self.socket.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(closed()),
                Ok(read) => self.end += read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from PostgreSQL"),
            }
        }
    }
}

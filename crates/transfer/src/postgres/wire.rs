//! A blocking connection for the rows of tables, which passes COPY's bytes to the decoder from the receive buffer,
//! without a copy.
//!
//! tokio-postgres allocates a reference-counted message for each row and reads 8 KiB at a time; with ten million rows
//! that is a large part of the whole cost. This connection implements only what a transfer needs of the protocol:
//! start-up, authentication, simple queries, COPY OUT and COPY IN.

pub mod pipeline;
mod streaming;

use bytes::BytesMut;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;

use super::endpoint::Endpoint;
use super::parameter::Parameter;
use super::server_error::server_error;
use super::socket::Socket;
use crate::error::{Context, Error, Result};

/// The size of a read: large enough for what the kernel has buffered, small enough for the processor's cache.
const READ_BYTES: usize = 256 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionMode {
    /// Statements.
    Normal,
    /// Statements and the commands of the replication protocol, on the endpoint's database.
    Replication,
}

/// A blocking connection to PostgreSQL, for one thread at a time.
pub struct Wire {
    socket: Socket,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    out: BytesMut,
    process_id: i32,
    /// The database has the encoding SQL_ASCII, which is none: the server can't convert its texts.
    has_bytes: bool,
}

impl Wire {
    /// A connection with the settings of every session.
    ///
    /// # Errors
    /// Where the server can't be reached, or refuses the user.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let mut wire = Wire::connect_bare(endpoint)?;
        wire.batch(&endpoint.session())?;
        if wire.has_bytes {
            // Texts are sent without a conversion; the decoder checks row by row whether they are UTF-8.
            wire.batch("SET client_encoding = 'SQL_ASCII'")?;
        }
        Ok(wire)
    }

    /// A connection without any setting.
    pub(super) fn connect_bare(endpoint: &Endpoint) -> Result<Self> {
        Wire::open(endpoint, SessionMode::Normal)
    }

    /// A connection that accepts the commands of the replication protocol, without any setting.
    pub(super) fn connect_replication(endpoint: &Endpoint) -> Result<Self> {
        Wire::open(endpoint, SessionMode::Replication)
    }

    fn open(endpoint: &Endpoint, mode: SessionMode) -> Result<Self> {
        let what = || format!("connect to PostgreSQL at {}", endpoint.display());
        let socket = Socket::open(endpoint).map_err(|e| e.within(what()))?;
        let mut wire = Wire {
            socket,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            out: BytesMut::new(),
            process_id: 0,
            has_bytes: false,
        };
        wire.start_up(endpoint, mode).map_err(|e| e.within(what()))?;
        Ok(wire)
    }

    /// The server process that serves this connection.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Whether the database has no encoding, so that texts may be any bytes.
    pub fn has_bytes(&self) -> bool {
        self.has_bytes
    }

    /// Executes statements and ignores their results.
    pub fn batch(&mut self, sql: &str) -> Result<()> {
        self.query(sql)?;
        self.until_ready()
    }

    /// Executes a `COPY ... TO STDOUT` and passes the bytes of each message to `rows`. Returns the number of bytes.
    /// After an error of `rows` the connection can't be used any more.
    pub fn copy_out(&mut self, sql: &str, mut rows: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        self.query(sql)?;
        let mut received = 0u64;
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'd' => {
                    received += (end - at) as u64;
                    rows(&self.buffer[at..end])?;
                }
                b'Z' => return Ok(received),
                b'E' => return Err(server_error(&self.buffer[at..end])),
                _ => {}
            }
        }
    }

    /// Starts a `COPY ... FROM STDIN`. [`Wire::copy_data`] sends its rows, and [`Wire::copy_done`] ends it.
    pub fn copy_in(&mut self, sql: &str) -> Result<()> {
        self.query(sql)?;
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'G' => return Ok(()),
                b'E' => {
                    let error = server_error(&self.buffer[at..end]);
                    self.until_ready()?;
                    return Err(error);
                }
                _ => {}
            }
        }
    }

    /// Adds rows to the running COPY. They are sent in large messages.
    pub fn copy_data(&mut self, rows: &[u8]) -> Result<()> {
        if self.out.is_empty() {
            self.out.extend_from_slice(&[b'd', 0, 0, 0, 0]);
        }
        self.out.extend_from_slice(rows);
        if self.out.len() >= READ_BYTES { self.send_rows() } else { Ok(()) }
    }

    fn send_rows(&mut self) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.out.len() - 1).map_err(|e| Error::bug("send rows").because(e))?;
        self.out[1..5].copy_from_slice(&length.to_be_bytes());
        self.flush()
    }

    /// Ends a `COPY ... FROM STDIN`. Returns the number of rows, or the server's error about them.
    pub fn copy_done(&mut self) -> Result<u64> {
        self.send_rows()?;
        frontend::copy_done(&mut self.out);
        self.flush()?;
        self.completed()
    }

    /// Executes one statement. Returns the number of rows that it changed.
    pub fn execute(&mut self, sql: &str) -> Result<u64> {
        self.query(sql)?;
        self.completed()
    }

    /// Executes one statement. Returns its rows as texts, where `None` is NULL.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.query(sql)?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'Z' => return failed.map_or(Ok(rows), Err),
                b'E' => failed = Some(server_error(&self.buffer[at..end])),
                b'D' => rows.push(texts(&self.buffer[at..end])),
                _ => {}
            }
        }
    }

    /// Executes a statement with parameters, and passes the body of each DataRow to `row`, with values in their binary
    /// format.
    ///
    /// # Errors
    /// After an error the connection can't be used any more.
    pub(crate) fn query_binary(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut row: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let formats = parameters.iter().map(|parameter| i16::from(parameter.is_binary));
        frontend::parse("", sql, [], &mut self.out).context("write a statement")?;
        let write = |parameter: &Parameter<'_>, out: &mut BytesMut| Ok(parameter.write(out));
        let bound = frontend::bind("", "", formats, parameters.iter(), write, [1i16], &mut self.out);
        bound.map_err(|_| Error::bug("write the parameters of a statement"))?;
        frontend::execute("", 0, &mut self.out).context("write a statement")?;
        frontend::sync(&mut self.out);
        self.flush()?;
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'D' => row(&self.buffer[at..end])?,
                b'E' => return Err(server_error(&self.buffer[at..end])),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Waits for the end of a statement and returns the number of its tag, such as "COPY 42" or "INSERT 0 42".
    fn completed(&mut self) -> Result<u64> {
        let mut outcome = Ok(0);
        loop {
            let (tag, at, end) = self.message()?;
            match tag {
                b'Z' => return outcome,
                b'E' => outcome = Err(server_error(&self.buffer[at..end])),
                b'C' if outcome.is_ok() => {
                    let text = String::from_utf8_lossy(&self.buffer[at..end]);
                    let rows = text.trim_end_matches('\0').rsplit(' ').next().and_then(|n| n.parse().ok());
                    outcome = Ok(rows.unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    fn query(&mut self, sql: &str) -> Result<()> {
        frontend::query(sql, &mut self.out).context("write a query")?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.socket.write(&self.out).context("write to PostgreSQL")?;
        self.out.clear();
        Ok(())
    }

    fn until_ready(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        loop {
            // Where the server sent an error before it closed the connection, that error is returned.
            let (tag, at, end) = match self.message() {
                Ok(message) => message,
                Err(closed) => return outcome.and(Err(closed)),
            };
            match tag {
                b'Z' => return outcome,
                b'E' => outcome = Err(server_error(&self.buffer[at..end])),
                _ => {}
            }
        }
    }

    /// Reads the next message. Returns its tag, and where its body begins and ends in the buffer.
    #[inline]
    fn message(&mut self) -> Result<(u8, usize, usize)> {
        self.fill(5)?;
        let head = &self.buffer[self.start..self.start + 5];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let tag = head[0];
        if length < 4 {
            return Err(Error::bug(format!("read a message of length {length} from PostgreSQL")));
        }
        self.fill(1 + length)?;
        let at = self.start + 5;
        self.start += 1 + length;
        Ok((tag, at, self.start))
    }

    /// Makes sure that `wanted` bytes are in the buffer from `start` on.
    #[inline]
    fn fill(&mut self, wanted: usize) -> Result<()> {
        if self.end - self.start >= wanted { Ok(()) } else { self.read_more(wanted) }
    }

    #[cold]
    fn read_more(&mut self, wanted: usize) -> Result<()> {
        self.make_room(wanted);
        while self.end < wanted {
            let read = self.socket.read(&mut self.buffer[self.end..]).context("read from PostgreSQL")?;
            if read == 0 {
                return Err(closed());
            }
            self.end += read;
        }
        Ok(())
    }

    /// Moves the bytes that were not used yet to the buffer's start, and gives it room for `wanted` bytes.
    fn make_room(&mut self, wanted: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted.next_multiple_of(READ_BYTES), 0);
        } else if self.buffer.len() > 4 * READ_BYTES && wanted < READ_BYTES {
            // One row of 50 MB must not take 50 MB until the end of the table.
            self.buffer.truncate(READ_BYTES.max(self.end));
            self.buffer.shrink_to_fit();
        }
    }

    fn start_up(&mut self, endpoint: &Endpoint, mode: SessionMode) -> Result<()> {
        let config = &endpoint.config;
        let user = config.get_user().unwrap_or("postgres");
        let mut parameters = vec![("user", user), ("client_encoding", "UTF8")];
        if let Some(name) = config.get_dbname() {
            parameters.push(("database", name));
        }
        if mode == SessionMode::Replication {
            parameters.push(("replication", "database"));
        }
        if let Some(name) = config.get_application_name() {
            parameters.push(("application_name", name));
        }
        if let Some(options) = config.get_options() {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, &mut self.out).context("write the start-up message")?;
        self.flush()?;
        let password = config.get_password().unwrap_or_default();
        let mut scram = None;
        loop {
            let (tag, at, end) = self.message()?;
            let body = self.buffer[at..end].to_vec();
            match tag {
                b'R' => self.authenticate(&body, user, password, &mut scram)?,
                b'S' if body.starts_with(b"server_encoding\0SQL_ASCII\0") => self.has_bytes = true,
                b'K' if body.len() >= 4 => self.process_id = i32_at(&body, 0),
                b'Z' => return Ok(()),
                b'E' => return Err(server_error(&body)),
                _ => {}
            }
        }
    }

    fn authenticate(
        &mut self,
        body: &[u8],
        user: &str,
        password: &[u8],
        scram: &mut Option<sasl::ScramSha256>,
    ) -> Result<()> {
        let needs_password = || {
            if password.is_empty() {
                return Err(Error::setup("authenticate: the server requires a password, and none is configured"));
            }
            Ok(())
        };
        match i32_at(body, 0) {
            0 => return Ok(()),
            12 => {
                let client = scram.as_mut().ok_or_else(|| Error::bug("authenticate: SCRAM out of order"))?;
                return client.finish(&body[4..]).context("authenticate: check the server's proof");
            }
            3 => {
                needs_password()?;
                frontend::password_message(password, &mut self.out).context("authenticate")?;
            }
            5 => {
                needs_password()?;
                let salt = body.get(4..8).and_then(|s| s.try_into().ok()).unwrap_or_default();
                let hash = md5_hash(user.as_bytes(), password, salt);
                frontend::password_message(hash.as_bytes(), &mut self.out).context("authenticate")?;
            }
            10 => {
                needs_password()?;
                let client = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
                frontend::sasl_initial_response(sasl::SCRAM_SHA_256, client.message(), &mut self.out)
                    .context("authenticate")?;
                *scram = Some(client);
            }
            11 => {
                let client = scram.as_mut().ok_or_else(|| Error::bug("authenticate: SCRAM out of order"))?;
                client.update(&body[4..]).context("authenticate")?;
                frontend::sasl_response(client.message(), &mut self.out).context("authenticate")?;
            }
            other => {
                return Err(Error::setup(format!("authenticate: the server requires the unsupported method {other}"))
                    .hint("use scram-sha-256, md5, password or trust in pg_hba.conf"));
            }
        }
        self.flush()
    }
}

fn closed() -> Error {
    Error::retry("read from PostgreSQL: the server closed the connection")
}

/// The fields of a DataRow in text form.
fn texts(body: &[u8]) -> Vec<Option<String>> {
    let (mut fields, mut at) = (Vec::new(), 2);
    while at + 4 <= body.len() {
        let length = usize::try_from(i32_at(body, at)).ok();
        at += 4;
        fields.push(length.map(|length| {
            let value = body.get(at..at + length).unwrap_or_default();
            at += length;
            String::from_utf8_lossy(value).into_owned()
        }));
    }
    fields
}

fn i32_at(body: &[u8], at: usize) -> i32 {
    body.get(at..at + 4).map_or(-1, |b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

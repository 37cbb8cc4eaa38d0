//! What a runtime sends as its response: whole, or piece by piece, and what it says behind the last
//! piece where it failed half-way.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html> has that as trailers, which
//! Node's runtime sends. Rust's announces them and then writes them into the body's end, where they
//! would pass for the response.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use super::Failure;
use super::runtime::{ERROR_TYPE, failure};

const ERROR_BODY: &str = "lambda-runtime-function-error-body";
const MARK: &[u8] = b"Lambda-Runtime-Function-Error-Type: ";
/// An error is no longer; what is behind the mark is part of the response then.
const TAIL_BYTES_MAX: usize = 512 * 1024;

pub(super) enum Cut {
    TooLong,
    Broken,
}

pub(super) struct Read {
    pub bytes: Bytes,
    /// It failed after what it had sent.
    pub failure: Option<Failure>,
}

/// With `pieces`, the response goes there and none of it is returned.
pub(super) async fn read(
    mut body: Incoming,
    headers: &HeaderMap,
    most: usize,
    pieces: Option<&mpsc::Sender<Bytes>>,
) -> Result<Read, Cut> {
    let names = headers.get_all("trailer").iter().filter_map(|value| value.to_str().ok());
    let announced = names.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case(ERROR_TYPE));
    let mut tail = Tail { announced, held: BytesMut::new() };
    let mut given = Given { bytes: BytesMut::new(), pieces };
    let (mut trailers, mut bytes) = (HeaderMap::new(), 0);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Cut::Broken)?.into_data() {
            Ok(data) if bytes + data.len() > most => return Err(Cut::TooLong),
            Ok(data) => {
                bytes += data.len();
                given.give(tail.hold(data)).await;
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let said = text(ERROR_TYPE).map(|kind| said(&kind, &text(ERROR_BODY).unwrap_or_default()));
    let failure = said.or_else(|| tail.said());
    if failure.is_none() {
        given.give(tail.held.freeze()).await;
    }
    Ok(Read { bytes: given.bytes.freeze(), failure })
}

struct Given<'a> {
    bytes: BytesMut,
    pieces: Option<&'a mpsc::Sender<Bytes>>,
}

impl Given<'_> {
    async fn give(&mut self, data: Bytes) {
        match self.pieces {
            _ if data.is_empty() => {}
            // A caller who is gone is no reason to stop the function.
            Some(pieces) => drop(pieces.send(data).await),
            None => self.bytes.extend_from_slice(&data),
        }
    }
}

/// Holds back what may be the word of a failure, until something follows it.
struct Tail {
    announced: bool,
    held: BytesMut,
}

impl Tail {
    fn hold(&mut self, data: Bytes) -> Bytes {
        if !self.announced {
            return data;
        }
        self.held.extend_from_slice(&data);
        let held = &self.held[..];
        // The last one: what is before it can't be the end.
        let marked = held.windows(MARK.len()).rposition(|window| window == MARK);
        let begun = || (1..MARK.len()).rev().find(|len| held.ends_with(&MARK[..*len])).map(|len| held.len() - len);
        let from = marked.filter(|at| held.len() - at <= TAIL_BYTES_MAX).or_else(begun).unwrap_or(held.len());
        self.held.split_to(from).freeze()
    }

    fn said(&self) -> Option<Failure> {
        let text = std::str::from_utf8(&self.held).ok()?;
        let mut lines = text.strip_suffix("\r\n")?.split("\r\n");
        let field = |line: &str, name: &str| {
            let (named, value) = line.split_once(": ")?;
            named.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        let kind = field(lines.next()?, ERROR_TYPE)?;
        let body = field(lines.next()?, ERROR_BODY)?;
        lines.next().is_none().then(|| said(&kind, &body))
    }
}

/// The body in base64 is what the documentation asks for; some runtimes send it as it is.
fn said(error_type: &str, body: &str) -> Failure {
    let decoded = STANDARD.decode(body).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.unwrap_or_else(|| body.to_owned());
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) if value.is_object() => Failure { error_type: error_type.to_owned(), body: text.into() },
        _ => failure(error_type, &text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(pieces: &[&str]) -> (String, Option<Failure>) {
        let mut tail = Tail { announced: true, held: BytesMut::new() };
        let given: Vec<u8> = pieces.iter().flat_map(|piece| tail.hold(piece.to_string().into())).collect();
        let failure = tail.said();
        let left = if failure.is_none() { String::from_utf8(tail.held.to_vec()).unwrap() } else { String::new() };
        (String::from_utf8(given).unwrap() + &left, failure)
    }

    #[test]
    fn a_failure_behind_the_last_piece_is_found_however_it_is_cut() {
        let word = "Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\n\
            Lambda-Runtime-Function-Error-Body: YnJva2Vu\r\n";
        let all = format!("one, Lambda-Runtime, two{word}");
        for cut in 0..all.len() {
            let (given, failure) = held(&[&all[..cut], &all[cut..]]);
            let failure = failure.expect("a failure");
            assert_eq!(
                (given.as_str(), failure.error_type.as_str()),
                ("one, Lambda-Runtime, two", "Runtime.StreamError")
            );
            assert_eq!(failure.body, r#"{"errorType":"Runtime.StreamError","errorMessage":"broken"}"#);
        }
    }

    #[test]
    fn what_only_looks_like_one_is_part_of_the_response() {
        for all in [
            vec!["Lambda-Runtime-Function-Error-Type: x\r\n", "and more"],
            vec!["Lambda-Runtime-Function-Error-Type: x\r\n"],
            vec!["ends with Lambda-Runtime-Func"],
        ] {
            assert_eq!(held(&all), (all.concat(), None));
        }
    }

    #[test]
    fn an_errors_body_is_decoded_where_it_is_encoded() {
        assert_eq!(said("Function.X", &STANDARD.encode(r#"{"errorMessage":"é"}"#)).body, r#"{"errorMessage":"é"}"#);
        assert_eq!(said("Function.X", r#"{"errorMessage":"x"}"#).body, r#"{"errorMessage":"x"}"#);
        assert_eq!(said("Function.X", "").body, r#"{"errorType":"Function.X","errorMessage":""}"#);
    }
}

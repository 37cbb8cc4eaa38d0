//! Reads the response of a runtime, whole or piece by piece, and the failure that follows the last piece where
//! the runtime failed in the middle of a response.
//!
//! According to <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html> the failure is sent in
//! trailers. Node's runtime does so. Rust's runtime announces the trailers but writes them at the end of the body,
//! where they would be taken for a part of the response.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use super::Failure;

/// Header with an error's type.
pub(super) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
/// How a failure at the end of a body begins.
const FAILURE_START: &[u8] = b"Lambda-Runtime-Function-Error-Type: ";
/// The largest failure at the end of a body. Anything longer is part of the response.
const TAIL_BYTES_MAX: usize = 512 * 1024;

/// Why a response can't be read.
pub(super) enum BodyError {
    /// It is larger than allowed.
    TooLong,
    /// The connection ended before the body did.
    Interrupted,
}

/// A response that was read to its end.
pub(super) struct ResponseBody {
    /// The body; empty where it was sent in pieces.
    pub bytes: Bytes,
    /// The failure that followed the body.
    pub failure: Option<Failure>,
}

/// Reads a response of at most `most` bytes. With `pieces`, the body is sent there and not returned.
pub(super) async fn read_response(
    mut body: Incoming,
    headers: &HeaderMap,
    most: usize,
    pieces: Option<&mpsc::Sender<Bytes>>,
) -> Result<ResponseBody, BodyError> {
    let names = headers.get_all("trailer").iter().filter_map(|value| value.to_str().ok());
    let announced = names.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case(ERROR_TYPE));
    let mut tail = Tail { announced, held: BytesMut::new() };
    let mut sink = ResponseSink { bytes: BytesMut::new(), pieces };
    let (mut trailers, mut bytes) = (HeaderMap::new(), 0);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| BodyError::Interrupted)?.into_data() {
            Ok(data) if bytes + data.len() > most => return Err(BodyError::TooLong),
            Ok(data) => {
                bytes += data.len();
                sink.write(tail.hold(data)).await;
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let reported = text(ERROR_TYPE).map(|kind| parse_failure(&kind, &text(ERROR_BODY).unwrap_or_default()));
    let failure = reported.or_else(|| tail.failure());
    if failure.is_none() {
        sink.write(tail.held.freeze()).await;
    }
    Ok(ResponseBody { bytes: sink.bytes.freeze(), failure })
}

/// Where the body goes.
struct ResponseSink<'a> {
    bytes: BytesMut,
    pieces: Option<&'a mpsc::Sender<Bytes>>,
}

impl ResponseSink<'_> {
    async fn write(&mut self, data: Bytes) {
        match self.pieces {
            _ if data.is_empty() => {}
            // The function goes on even where the caller no longer reads.
            Some(pieces) => drop(pieces.send(data).await),
            None => self.bytes.extend_from_slice(&data),
        }
    }
}

/// Holds back the end of a body, which may be a failure, until more of the body follows.
struct Tail {
    /// Whether the headers announce a failure's trailers.
    announced: bool,
    held: BytesMut,
}

impl Tail {
    /// Adds data and gives what is certainly part of the response.
    fn hold(&mut self, data: Bytes) -> Bytes {
        if !self.announced {
            return data;
        }
        self.held.extend_from_slice(&data);
        let held = &self.held[..];
        // The last start counts: an earlier one can't belong to the end.
        let marked = held.windows(FAILURE_START.len()).rposition(|window| window == FAILURE_START);
        let begun = || {
            (1..FAILURE_START.len())
                .rev()
                .find(|len| held.ends_with(&FAILURE_START[..*len]))
                .map(|len| held.len() - len)
        };
        let from = marked.filter(|at| held.len() - at <= TAIL_BYTES_MAX).or_else(begun).unwrap_or(held.len());
        self.held.split_to(from).freeze()
    }

    /// The failure that is held back, if it is one.
    fn failure(&self) -> Option<Failure> {
        let text = std::str::from_utf8(&self.held).ok()?;
        let mut lines = text.strip_suffix("\r\n")?.split("\r\n");
        let field = |line: &str, name: &str| {
            let (named, value) = line.split_once(": ")?;
            named.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        let kind = field(lines.next()?, ERROR_TYPE)?;
        let body = field(lines.next()?, ERROR_BODY)?;
        lines.next().is_none().then(|| parse_failure(&kind, &body))
    }
}

/// A failure from its type and body. AWS documents a body in base64; some runtimes send plain JSON or text.
fn parse_failure(error_type: &str, body: &str) -> Failure {
    let decoded = STANDARD.decode(body).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.unwrap_or_else(|| body.to_owned());
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) if value.is_object() => Failure { error_type: error_type.to_owned(), body: text.into() },
        _ => Failure::with_message(error_type, &text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(pieces: &[&str]) -> (String, Option<Failure>) {
        let mut tail = Tail { announced: true, held: BytesMut::new() };
        let released: Vec<u8> = pieces.iter().flat_map(|piece| tail.hold(piece.to_string().into())).collect();
        let failure = tail.failure();
        let left = if failure.is_none() { String::from_utf8(tail.held.to_vec()).unwrap() } else { String::new() };
        (String::from_utf8(released).unwrap() + &left, failure)
    }

    #[test]
    fn a_failure_after_the_last_piece_is_found_however_it_is_split() {
        let ending = "Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\n\
            Lambda-Runtime-Function-Error-Body: YnJva2Vu\r\n";
        let all = format!("one, Lambda-Runtime, two{ending}");
        for cut in 0..all.len() {
            let (response, failure) = held(&[&all[..cut], &all[cut..]]);
            let failure = failure.expect("a failure");
            assert_eq!(
                (response.as_str(), failure.error_type.as_str()),
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
        assert_eq!(
            parse_failure("Function.X", &STANDARD.encode(r#"{"errorMessage":"é"}"#)).body,
            r#"{"errorMessage":"é"}"#
        );
        assert_eq!(parse_failure("Function.X", r#"{"errorMessage":"x"}"#).body, r#"{"errorMessage":"x"}"#);
        assert_eq!(parse_failure("Function.X", "").body, r#"{"errorType":"Function.X","errorMessage":""}"#);
    }
}

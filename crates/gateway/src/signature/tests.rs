use chrono::TimeDelta;

use super::*;

/// A request that botocore's `SigV4Auth` has signed, with the key and the time of AWS's own test suite.
const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BODY: &[u8] = b"{\"instances\": [[1, 2]]}";
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-3/sagemaker/aws4_request, \
SignedHeaders=content-type;host;x-amz-date, \
Signature=42f363f0525fdcd808d7913a30d59f7c1d52a5c1d799ef514af72c191de9a615";

fn head(path: &str, content_type: &str, authorization: &str) -> Parts {
    let request = Request::post(path)
        .header("host", "127.0.0.1:8435")
        .header("content-type", content_type)
        .header("x-amz-date", "20150830T123600Z")
        .header("authorization", authorization);
    request.body(()).expect("a request").into_parts().0
}

fn verified(head: &Parts, body: &[u8], after: TimeDelta, secret: &str) -> Result<String, &'static str> {
    let secret = Secret(secret.to_owned());
    let now = DateTime::parse_from_rfc3339("2015-08-30T12:36:00Z").expect("a time").to_utc() + after;
    let find = |id: &str| (id == KEY).then_some(&secret);
    verify(head, &Bytes::copy_from_slice(body), now, find).map_err(|denied| denied.error_type)
}

const PATH: &str = "/endpoints/hydro/invocations";
const JSON: &str = "application/json";

#[test]
fn a_signature_covers_path_headers_body_and_time() {
    let signed = head(PATH, JSON, AUTHORIZATION);
    let now = TimeDelta::zero();
    assert_eq!(verified(&signed, BODY, now, SECRET), Ok(KEY.to_owned()));
    assert_eq!(verified(&signed, BODY, TimeDelta::minutes(14), SECRET), Ok(KEY.to_owned()));
    let wrong = Err("InvalidSignatureException");
    assert_eq!(verified(&signed, b"{\"instances\": [[1, 3]]}", now, SECRET), wrong);
    assert_eq!(verified(&head("/endpoints/wind/invocations", JSON, AUTHORIZATION), BODY, now, SECRET), wrong);
    assert_eq!(verified(&head(PATH, "text/csv", AUTHORIZATION), BODY, now, SECRET), wrong);
    assert_eq!(verified(&signed, BODY, now, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEZ"), wrong);
    assert_eq!(verified(&signed, BODY, TimeDelta::minutes(16), SECRET), wrong);
    assert_eq!(verified(&signed, BODY, TimeDelta::minutes(-16), SECRET), wrong);
}

#[test]
fn a_request_without_a_valid_credential_is_refused() {
    let by = |authorization: &str| verified(&head(PATH, JSON, authorization), BODY, TimeDelta::zero(), SECRET);
    assert_eq!(by(&AUTHORIZATION.replace("AKIDEXAMPLE", "AKIDOTHER")), Err("UnrecognizedClientException"));
    assert_eq!(by(&AUTHORIZATION.replace("/aws4_request", "")), Err("IncompleteSignatureException"));
    assert_eq!(by(&AUTHORIZATION.replace("20150830/eu", "20150831/eu")), Err("InvalidSignatureException"));
    assert_eq!(by(&AUTHORIZATION.replace("content-type;host;", "content-type;")), Err("InvalidSignatureException"));
    assert_eq!(by("Basic abc"), Err("IncompleteSignatureException"));
    assert_eq!(by("AWS4-HMAC-SHA256 Signature=1"), Err("MissingAuthenticationTokenException"));
    let mut unsigned = head(PATH, JSON, "");
    unsigned.headers.remove("authorization");
    assert_eq!(verified(&unsigned, BODY, TimeDelta::zero(), SECRET), Err("MissingAuthenticationTokenException"));
}

#[test]
fn a_path_is_signed_as_it_is_sent() {
    // As botocore signs them: the path encoded again, the query once.
    for (path, signature) in [
        (
            "/2015-03-31/functions/bill%3Aprod/invocations",
            "ae4211a2b244ff5f18faf73677aab29dd8f82d5f675d9457acb5ef303c9b1b2e",
        ),
        (
            "/2015-03-31/functions/bill%3Aprod/invocations?Qualifier=a%2Fb",
            "9f0b794741cf1507e5457e31c5745a24df8ece620df67456c9cc4ed0d074639a",
        ),
    ] {
        let (begin, _) = AUTHORIZATION.split_once("Signature=").expect("a signature");
        let signed = format!("{begin}Signature={signature}");
        assert_eq!(verified(&head(path, JSON, &signed), BODY, TimeDelta::zero(), SECRET), Ok(KEY.to_owned()), "{path}");
        let other = path.replace("%3A", "%2F");
        let refused = verified(&head(&other, JSON, &signed), BODY, TimeDelta::zero(), SECRET);
        assert_eq!(refused, Err("InvalidSignatureException"), "{other}");
    }
}

#[test]
fn what_changes_the_meaning_of_a_request_must_be_signed() {
    for name in ["x-amzn-sagemaker-target-variant", "x-amz-invocation-type"] {
        let mut changed = head(PATH, JSON, AUTHORIZATION);
        changed.headers.insert(name, hyper::header::HeaderValue::from_static("a"));
        let refused = verified(&changed, BODY, TimeDelta::zero(), SECRET);
        assert!(refused.is_err(), "{name}");
    }
}

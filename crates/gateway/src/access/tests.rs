use super::*;
use crate::Permissions;

#[test]
fn only_addresses_and_localhost_are_this_machine() {
    for own in [
        "127.0.0.1:8080",
        "127.0.0.1",
        "[::1]:8080",
        "[::1]",
        "localhost",
        "LOCALHOST.:80",
        "a.localhost:1",
        "10.0.0.7:9",
    ] {
        assert!(is_own_host(own), "{own}");
    }
    for other in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io:1", "", "x:y"] {
        assert!(!is_own_host(other), "{other}");
    }
}

fn head(headers: &[(&str, &str)]) -> Parts {
    let mut request = hyper::Request::post("/endpoints/hydro/invocations");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

const FIRST: &str = "the token of dispatch";
const SECOND: &str = "the token of the office";

fn control() -> AccessControl {
    let permissions = Permissions::new(&["endpoint:hydro*".to_owned()], &[]).expect("patterns");
    let key = |id: &str, token: &str| {
        Key::new(id.to_owned(), None, Some(token.to_owned()), permissions.clone()).expect("a key")
    };
    AccessControl::new(vec![key("dispatch", FIRST), key("office", SECOND)]).expect("keys")
}

#[test]
fn a_token_names_its_key_and_a_key_its_permissions() {
    let control = control();
    let now = Utc::now();
    let by = |value: &str| control.authenticate(&head(&[("authorization", value)]), &Bytes::new(), now);
    let caller = by(&format!("Bearer {SECOND}")).expect("a caller");
    assert_eq!(caller.name(), "office");
    assert_eq!(caller.check(Action::Invoke, "endpoint:hydro-arc"), Ok(()));
    assert_eq!(caller.check(Action::Describe, "endpoint:wind"), Ok(()));
    let denied = caller.check(Action::Invoke, "endpoint:wind").expect_err("no permission");
    assert_eq!(denied.error_type, "AccessDeniedException");
    assert!(caller.check(Action::Change, "endpoint:hydro").is_err());
    let lower = format!("bearer {FIRST}");
    for wrong in ["Bearer three", "Bearer ", &lower, "Basic b25l"] {
        assert!(by(wrong).is_err(), "{wrong}");
    }
    assert!(control.authenticate(&head(&[]), &Bytes::new(), now).is_err());
}

#[test]
fn without_keys_only_web_pages_are_refused() {
    let open = AccessControl::default();
    let now = Utc::now();
    let by = |headers: &[(&str, &str)]| open.authenticate(&head(headers), &Bytes::new(), now);
    assert_eq!(by(&[("host", "localhost:1")]).expect("a caller").check(Action::Change, "model:a"), Ok(()));
    assert!(by(&[("host", "evil.example")]).is_err());
    assert!(by(&[("origin", "http://evil.example")]).is_err());
}

#[test]
fn keys_differ_in_their_ids_and_tokens() {
    let key = |id: &str, token: &str| {
        Key::new(id.to_owned(), None, Some(token.to_owned()), Permissions::default()).expect("a key")
    };
    assert!(AccessControl::new(vec![key("a", FIRST), key("a", SECOND)]).is_err());
    let same = AccessControl::new(vec![key("a", FIRST), key("b", FIRST)]).expect_err("one token");
    assert!(!same.chain().contains(FIRST), "{same:?}");
    assert!(!format!("{:?}", key("a", FIRST)).contains(FIRST));
    let none = AccessControl::new(Vec::new()).expect("no keys");
    assert!(none.needs_key());
    assert!(none.authenticate(&head(&[("host", "localhost:1")]), &Bytes::new(), Utc::now()).is_err());
    for (secret, token) in [(Some("short"), None), (None, Some("short"))] {
        let made = Key::new("a".into(), secret.map(str::to_owned), token.map(str::to_owned), Permissions::default());
        assert!(made.is_err());
    }
}

#[test]
fn a_pattern_that_matches_nothing_is_refused() {
    for pattern in ["*", "endpoint:hydro*", "function:*", "*:hydro", "training-job:a"] {
        assert!(Permissions::check(pattern).is_ok(), "{pattern}");
    }
    for pattern in ["hydro", "endpoint", "endpoints:hydro", "function:[", ""] {
        assert!(Permissions::check(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_body_is_read_only_for_a_known_key() {
    let control = control();
    let bearer = |token: &str| control.check_head(&head(&[("authorization", &format!("Bearer {token}"))]));
    assert!(bearer(FIRST).is_ok());
    assert!(bearer("the token of nobody").is_err());
    assert!(control.check_head(&head(&[])).is_err());
    // A key without a secret can't have signed.
    let signed = "AWS4-HMAC-SHA256 Credential=dispatch/20150830/eu-west-3/sagemaker/aws4_request, Signature=1";
    assert!(control.check_head(&head(&[("authorization", signed)])).is_err());
    assert!(AccessControl::default().check_head(&head(&[])).is_ok());
    assert!(AccessControl::default().check_head(&head(&[("origin", "https://example.org")])).is_err());
}

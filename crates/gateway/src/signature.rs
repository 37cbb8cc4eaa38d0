//! AWS Signature Version 4, verified: the request was sent by someone who knows the key's secret, for this path, with
//! these headers and this body, at most fifteen minutes ago.
//!
//! A request that is sent again within this time is accepted again, as on AWS: two equal requests of one second have the
//! same signature, so one that is sent again can't be told from one that is meant twice.

use std::future::ready;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use futures::FutureExt as _;
use hyper::Request;
use hyper::http::request::Parts;
use scratchstack_aws_principal::{Principal, User};
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, KSigningKey, SignatureError, SignatureOptions,
    VecSignedHeaderRequirements, service_for_signing_key_fn, sigv4_validate_request,
};

use super::denied::AccessDenied;
use super::keys::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The account of everything here, as in the ARNs.
const ACCOUNT: &str = "000000000000";

/// What a signature is for: the credential scope.
struct Scope {
    key: String,
    date: NaiveDate,
    region: String,
    service: String,
}

/// The id of the key that a request claims to be signed with.
pub(crate) fn claimed_key(head: &Parts) -> Result<String, AccessDenied> {
    Ok(scope(head)?.key)
}

/// Verifies a request's signature, and returns the id of the key that has signed it. The region and the service are those
/// that the caller has signed for: there is one of each here.
pub(crate) fn verify<'a>(
    head: &Parts,
    body: &Bytes,
    now: DateTime<Utc>,
    secret_of: impl Fn(&str) -> Option<&'a Secret>,
) -> Result<String, AccessDenied> {
    let scope = scope(head)?;
    let signing_key = secret_of(&scope.key).and_then(|secret| signing_key(secret, &scope));
    // As AWS: what changes the meaning of a request can't be added to it.
    let must_be_signed =
        VecSignedHeaderRequirements::new::<str, str, str>(&[], &["content-type"], &["x-amz-", "x-amzn-sagemaker-"]);
    let get_key = move |_: GetSigningKeyRequest| ready(key_response(signing_key));
    let mut keys = service_for_signing_key_fn(get_key);
    let verifying = sigv4_validate_request(
        signed_request(head, body)?,
        &scope.region,
        &scope.service,
        &mut keys,
        now,
        &must_be_signed,
        SignatureOptions::default(),
    );
    // Nothing in it waits: the key is there.
    match verifying.now_or_never() {
        Some(Ok(_)) => Ok(scope.key),
        Some(Err(error)) => Err(denied(error.downcast_ref(), &error.to_string())),
        None => Err(AccessDenied::new("InternalFailure", "the signature was not verified")),
    }
}

fn key_response(key: Option<KSigningKey>) -> Result<GetSigningKeyResponse, Box<dyn std::error::Error + Send + Sync>> {
    let key = key.ok_or_else(|| SignatureError::InvalidClientTokenId("the access key is unknown".into()))?;
    let user = User::new("aws", ACCOUNT, "/", "key")?;
    Ok(GetSigningKeyResponse::builder().principal(Principal::from(vec![user.into()])).signing_key(key).build()?)
}

/// Reads the credential of the header `Authorization`. Signed URLs are not supported.
fn scope(head: &Parts) -> Result<Scope, AccessDenied> {
    let incomplete = |message: &str| AccessDenied::new("IncompleteSignatureException", message);
    let header = head.headers.get("authorization").map(|value| value.to_str().unwrap_or_default());
    let credential = match header {
        Some(header) => header
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| incomplete("the request must be signed with AWS4-HMAC-SHA256, or have a bearer token"))?
            .split([',', ' '])
            .find_map(|part| part.strip_prefix("Credential="))
            .map(str::to_owned),
        None => None,
    };
    let Some(credential) = credential else {
        let message = "the request has no signature and no token: sign it with an access key of [serve.keys]";
        return Err(AccessDenied::new("MissingAuthenticationTokenException", message));
    };
    let parts: Vec<&str> = credential.split('/').collect();
    let [key, date, region, service, "aws4_request"] = parts[..] else {
        return Err(incomplete("the credential must be KEY/DATE/REGION/SERVICE/aws4_request"));
    };
    let date = NaiveDate::parse_from_str(date, "%Y%m%d").map_err(|_| incomplete("the credential's date is none"))?;
    Ok(Scope { key: key.to_owned(), date, region: region.to_owned(), service: service.to_owned() })
}

fn signing_key(secret: &Secret, scope: &Scope) -> Option<KSigningKey> {
    let secret: KSecretKey = secret.reveal().parse().ok()?;
    Some(secret.to_ksigning(scope.date, &scope.region, &scope.service))
}

/// The request that was signed. All services but S3 sign the path as it is sent, encoded again; the library decodes and
/// encodes it once.
fn signed_request(head: &Parts, body: &Bytes) -> Result<Request<Bytes>, AccessDenied> {
    let mut request = Request::new(body.clone());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = match head.uri.path().contains('%') {
        false => head.uri.clone(),
        true => {
            let path = head.uri.path().replace('%', "%25");
            let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let encoded = format!("{path}{query}").parse();
            encoded.map_err(|_| AccessDenied::new("InvalidSignatureException", "the path is too long"))?
        }
    };
    *request.headers_mut() = head.headers.clone();
    Ok(request)
}

/// AWS's name of the error in its JSON APIs.
fn denied(error: Option<&SignatureError>, text: &str) -> AccessDenied {
    let (error_type, message) = match error {
        Some(SignatureError::InvalidClientTokenId(message)) => ("UnrecognizedClientException", message.clone()),
        Some(SignatureError::MissingAuthenticationToken(message)) => {
            ("MissingAuthenticationTokenException", message.clone())
        }
        Some(SignatureError::IncompleteSignature(message)) => ("IncompleteSignatureException", message.clone()),
        Some(SignatureError::SignatureDoesNotMatch(Some(message))) => ("InvalidSignatureException", message.clone()),
        Some(SignatureError::ExpiredToken(message)) => ("ExpiredTokenException", message.clone()),
        _ => ("InvalidSignatureException", text.to_owned()),
    };
    AccessDenied::new(error_type, message)
}

#[cfg(test)]
mod tests;

//! Names of resources in AWS's form.

/// The account of everything here.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The region of everything here.
pub(crate) const REGION: &str = "local";

/// The ARN of a resource: `arn:aws:sagemaker:local:000000000000:endpoint/hydro`.
pub(crate) fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{}", name.to_ascii_lowercase())
}

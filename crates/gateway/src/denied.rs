//! The refusal of a request.

/// The error of a request that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessDenied {
    /// AWS's name for it, such as `AccessDeniedException` or `InvalidSignatureException`.
    pub error_type: &'static str,
    /// Shown to the caller.
    pub message: String,
}

impl AccessDenied {
    pub(crate) fn new(error_type: &'static str, message: impl Into<String>) -> AccessDenied {
        AccessDenied { error_type, message: message.into() }
    }
}

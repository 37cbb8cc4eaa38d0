//! What the listeners of AWS's HTTP APIs have in common: connections with their limits and TLS, the reading of bodies,
//! and who may call what. An API itself is a [`Service`]; it asks its [`AccessControl`] about each request.

mod access;
mod body;
mod denied;
mod keys;
mod listener;
mod requests;
mod signature;

pub use access::{AccessControl, Action, Caller, is_own_host};
pub use body::{BodyError, read_body};
pub use denied::AccessDenied;
pub use keys::{Key, Permissions};
pub use listener::{Binding, Body, Service, serve};
pub use requests::{RequestLog, RequestNote, RequestRow};

//! What a value is: sizes, durations, days, names, digests, secrets, and the place where each was written.
//!
//! The leaf of the house. Text becomes one of these once, at the door; nothing in here reads a
//! clock, a file or an environment variable.

pub mod blob;
pub mod bytes;
pub mod date;
pub mod digest;
pub mod glob;
pub mod name;
pub mod recipient;
pub mod secret;
pub mod server;
pub mod source;
pub mod span;
pub mod url;

pub use blob::Blob;
pub use bytes::Bytes;
pub use date::Date;
pub use digest::Digest;
pub use glob::Glob;
pub use name::{Name, ResourceId, ResourceKind};
pub use recipient::Recipient;
pub use secret::Secret;
pub use server::{Family, ServerVersion};
pub use source::{Located, Place, Sources};
pub use span::Span;
pub use url::urlencoded;

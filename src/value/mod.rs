//! What a value is: sizes, durations, names, digests, secrets, and the place where each was written.
//!
//! The leaf of the house. Text becomes one of these once, at the door; nothing in here reads a
//! clock, a file or an environment variable.

pub mod bytes;
pub mod digest;
pub mod name;
pub mod secret;
pub mod server;
pub mod source;
pub mod span;

pub use bytes::Bytes;
pub use digest::Digest;
pub use name::{Name, ResourceId, ResourceKind};
pub use secret::Secret;
pub use server::{Family, ServerVersion};
pub use source::{Located, Place, Sources};
pub use span::Span;

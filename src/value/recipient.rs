//! Whom a backup is encrypted to: the public half of an age key, `age1…`.

use serde::Serialize;
use std::fmt;

/// Read and found right; a typing error in one would lock its owner out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize)]
#[serde(transparent)]
pub struct Recipient(String);

impl Recipient {
    /// `None` when it is not an X25519 recipient of age; its own checksum tells.
    pub fn parse(text: &str) -> Option<Recipient> {
        let recipient: age::x25519::Recipient = text.parse().ok()?;
        Some(Recipient(recipient.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! A SHA-256 of something of ours, as text that `sha256sum` can check.

use serde::Serialize;
use sha2::Digest as _;
use std::fmt;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_hash(sha2::Sha256::digest(bytes).as_slice())
    }

    /// From the 32 bytes of a SHA-256 that was computed while streaming.
    pub fn from_hash(hash: &[u8]) -> Digest {
        Digest(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve characters: enough for people to tell two apart.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

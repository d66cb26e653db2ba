//! What an RDB file from anywhere turned out to be.

use crate::backup::Counts;
use serde::Serialize;

/// What there is to say of one file.
#[derive(Debug, Serialize)]
pub struct Inspected {
    pub file: String,
    pub state: Standing,
    /// Why it was not read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(flatten)]
    pub counts: Option<Counts>,
    /// Bytes of the RDB, its checksum included.
    pub bytes: u64,
    /// What follows it in the file and is no part of it.
    pub bytes_behind: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Read to its end, every value opened, its checksum right.
    Verified,
    /// The same, and its writer left the checksum out.
    Unverified,
    Damaged,
    /// Of a kind that is not known, or it could not be read.
    Unread,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Verified => "verified",
            Standing::Unverified => "unverified",
            Standing::Damaged => "damaged",
            Standing::Unread => "unread",
        }
    }
}

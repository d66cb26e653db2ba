//! An RDB, the file in which Redis and Valkey keep a dataset: read whole, written again.
//!
//! Bytes go in; [`Frames`] cuts them into [`Batch`]es of records, [`Entry::read`] shows what a key holds, the same for
//! every encoding, and [`walk`] does both to the end and leaves a [`Summary`]: who wrote the file, how many keys of which
//! type each database holds, and whether the checksum is right. Every length, string and value is followed and every
//! packed form opened, so a summary means that the file is an RDB all the way through. An RDB holds no length per value: a
//! type that is not known here cannot be stepped over, and reading stops at it.
//!
//! Memory is one batch, or the largest value; it grows with what arrives, never with a number found in the input. What is
//! deliberately absent: files, sockets and clocks.

mod cut;
mod decode;
mod frame;
mod layout;
mod lzf;
mod pack;
mod packed;
mod walk;
mod write;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;

/// From number 22 on the two families give the same numbers to different things.
pub use crate::value::Family;
pub use decode::{Element, Entry, Room, StreamCounters, StreamFacts, StreamId};
pub use frame::{Batch, Frames, Record};
pub use layout::Type;
pub use walk::{Tally, walk};
pub use write::{Form, Made, Target, WriteError, Writer, dump, dump_with};

/// How much of a key an error repeats, in bytes.
pub const KEY_SHOWN: usize = 64;

/// What a complete walk has learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub family: Family,
    /// The format's version as the header tells it. It says what may follow, not which server wrote the file.
    pub version: u32,
    /// The server's own version, from `redis-ver` or `valkey-ver`.
    pub server_version: Option<String>,
    /// Which of the two it was: Valkey 8 writes the format of Redis.
    pub server_family: Option<Family>,
    pub replication_id: Option<String>,
    pub replication_offset: Option<i64>,
    /// Bytes of memory the server used when it wrote the file.
    pub used_memory: Option<u64>,
    /// Seconds since 1970 by the server's clock.
    pub created_unix: Option<i64>,
    pub databases: BTreeMap<u64, Database>,
    /// Function libraries.
    pub functions: u64,
    /// Records that modules keep outside of keys.
    pub module_aux: u64,
    /// Collections without a single element. A server reports and drops them while loading, so no database counts them.
    pub empty_keys: u64,
    pub checksum: Checksum,
    /// Length of the RDB, checksum included. A file that is longer has something behind its end.
    pub bytes: u64,
}

impl Summary {
    /// Nothing learned yet but what the header says.
    pub(crate) fn new(family: Family, version: u32) -> Summary {
        Summary {
            family,
            version,
            server_version: None,
            server_family: None,
            replication_id: None,
            replication_offset: None,
            used_memory: None,
            created_unix: None,
            databases: BTreeMap::new(),
            functions: 0,
            module_aux: 0,
            empty_keys: 0,
            checksum: Checksum::Absent,
            bytes: 0,
        }
    }

    /// Takes in an auxiliary field of the file.
    fn learn(&mut self, name: &[u8], text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        match name {
            b"redis-ver" | b"valkey-ver" => {
                self.server_version = Some(text.into_owned());
                self.server_family = Some(if name == b"valkey-ver" { Family::Valkey } else { Family::Redis });
            }
            b"repl-id" => self.replication_id = Some(text.into_owned()),
            b"repl-offset" => self.replication_offset = text.parse().ok(),
            b"used-mem" => self.used_memory = text.parse().ok(),
            b"ctime" => self.created_unix = text.parse().ok(),
            _ => {}
        }
    }

    /// `valkey 8.1.1`, where the file says who wrote it.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        Some(format!("{} {}", self.server_family?, self.server_version.as_ref()?))
    }

    /// Keys of all databases, which is what the `DBSIZE` of each add up to on the server that wrote the file.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.databases.values().map(|database| database.keys).sum()
    }
}

/// What one database holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    pub keys: u64,
    /// Keys with an expiry, those included whose time has passed.
    pub expires: u64,
    /// Keys by the name that `TYPE` answers; `module` for types that a module defines.
    pub by_type: BTreeMap<&'static str, u64>,
    /// What the file announces ahead of the keys. A hint for sizing tables: 7.x counts it at the fork and it is exact,
    /// other writers need not be.
    pub declared_keys: Option<u64>,
    pub declared_expires: Option<u64>,
}

/// What the end of the file says about the bytes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The CRC-64 stored in the file is the one of its bytes.
    Verified(u64),
    /// The writer left it out (`rdbchecksum no`, or a version before 5). Nothing vouches for the bytes.
    Absent,
}

/// Why a walk stopped, and where.
#[derive(Debug)]
pub struct RdbError {
    /// Byte offset of what could not be taken in; for a missing rest, the offset at which the input ends.
    pub offset: u64,
    pub kind: RdbErrorKind,
    /// The first [`KEY_SHOWN`] bytes of the key whose value was being walked.
    pub key: Option<Vec<u8>>,
}

/// What can be wrong with an RDB, told apart as far as a caller may care.
#[derive(Debug)]
pub enum RdbErrorKind {
    /// The source failed; nothing is known about the RDB itself.
    Io(io::Error),
    /// The input ends before the RDB does.
    Truncated,
    /// The first bytes are not those of an RDB.
    NotAnRdb,
    /// An RDB of a version that no release of this family has.
    UnknownVersion(Family, u32),
    /// A value type that is not known for this family and version.
    UnknownType(u8),
    /// A record other than a key that is not known, or not supported, for this family and version.
    UnknownOpcode(u8),
    /// A value type that only Redis Enterprise writes.
    EnterpriseType(u8),
    /// A number that only release candidates wrote, in a form that no release reads.
    PreRelease(u8),
    /// A length in a form that does not exist, or beyond any file.
    Length,
    /// The bytes contradict the format.
    Malformed(&'static str),
    /// More databases than memory is set aside for.
    TooManyDatabases(usize),
    /// The stored checksum is not that of the bytes.
    Checksum { stored: u64, computed: u64 },
}

/// What the walk's own functions return. A walk returns millions of small results, and they stay in registers while the
/// error beside them is no larger than a pointer.
type Walked<T> = Result<T, Box<RdbError>>;

impl RdbError {
    /// Whether it is of a kind that this reader does not know, which says nothing about whether it is whole.
    pub fn is_unknown(&self) -> bool {
        use RdbErrorKind::{EnterpriseType, PreRelease, UnknownOpcode, UnknownType, UnknownVersion};
        let kind = &self.kind;
        matches!(kind, UnknownVersion(..) | UnknownType(_) | UnknownOpcode(_) | EnterpriseType(_) | PreRelease(_))
    }

    /// Whether the bytes are wrong: neither of a newer kind, nor only not to be had. A source tells that what it has is
    /// not what was stored by [`io::ErrorKind::InvalidData`].
    pub fn is_damage(&self) -> bool {
        match &self.kind {
            RdbErrorKind::Io(cause) => cause.kind() == io::ErrorKind::InvalidData,
            _ => !self.is_unknown(),
        }
    }

    #[cold]
    fn malformed(offset: u64, what: &'static str) -> Box<RdbError> {
        Box::new(RdbError { offset, kind: RdbErrorKind::Malformed(what), key: None })
    }

    /// The same, in a part that begins at `offset`.
    #[cold]
    fn beyond(mut self: Box<Self>, offset: u64) -> Box<Self> {
        self.offset = self.offset.saturating_add(offset);
        self
    }
}

#[cold]
fn fail<T>(offset: u64, kind: RdbErrorKind) -> Walked<T> {
    Err(Box::new(RdbError { offset, kind, key: None }))
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.offset;
        match &self.kind {
            RdbErrorKind::Io(_) => write!(f, "could not read the RDB beyond byte {at}"),
            RdbErrorKind::Truncated => write!(f, "the RDB breaks off at byte {at}"),
            RdbErrorKind::NotAnRdb => {
                write!(f, "not an RDB: it begins with neither `REDIS` and four digits nor `VALKEY` and three")
            }
            RdbErrorKind::UnknownVersion(family, version) => {
                write!(f, "unknown {family} RDB version {version} at byte {at}")
            }
            RdbErrorKind::UnknownType(number) => write!(f, "unknown value type {number} at byte {at}"),
            RdbErrorKind::UnknownOpcode(number) => write!(f, "unknown record {number} at byte {at}"),
            RdbErrorKind::EnterpriseType(number) => {
                write!(f, "value type {number} at byte {at}, which only Redis Enterprise writes")
            }
            RdbErrorKind::PreRelease(number) => {
                write!(f, "number {number} at byte {at}, which only release candidates wrote")
            }
            RdbErrorKind::Length => write!(f, "impossible length at byte {at}"),
            RdbErrorKind::Malformed(what) => write!(f, "{what} at byte {at}"),
            RdbErrorKind::TooManyDatabases(limit) => write!(f, "more than {limit} databases at byte {at}"),
            RdbErrorKind::Checksum { stored, computed } => {
                write!(f, "wrong checksum at byte {at}: {stored:016x} is stored, {computed:016x} is right")
            }
        }?;
        match &self.key {
            Some(key) if key.len() < KEY_SHOWN => write!(f, " (key `{}`)", key.escape_ascii()),
            Some(key) => write!(f, " (key beginning `{}`)", key.escape_ascii()),
            None => Ok(()),
        }
    }
}

impl Error for RdbError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            RdbErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A string by its bytes as written, such as those of [`Record::Function`]. `room` holds it where it lay compressed.
pub fn text<'r, 'w: 'r>(written: &'w [u8], room: &'r mut Vec<u8>) -> Option<&'r [u8]> {
    cut::Cut::new(written).text().ok()?.show(room)
}

/// The name of a function library, which the first line of its source says: `#!lua name=mylib`.
pub fn library_name(source: &[u8]) -> Option<&[u8]> {
    let line = source.split(|byte| *byte == b'\n').next()?;
    let words = line.strip_prefix(b"#!")?.split(u8::is_ascii_whitespace);
    words.filter_map(|word| word.strip_prefix(b"name=")).next()
}

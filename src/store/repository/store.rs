//! What a repository needs of the place where its objects lie, and nothing more.

use jiff::Timestamp;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};

/// Somewhere to keep objects under keys such as `shop/production/cache-20261123T051200Z-0c1d2e/manifest.json`.
///
/// Blocking: never called from a task. Errors are `io::Error`, whose kind says what to do: `NotFound`,
/// `PermissionDenied`, `StorageFull`, `TimedOut`, `InvalidData` for what is there and is not right.
pub trait Store: fmt::Debug + Send + Sync {
    /// What people call the place of a key: a path, or an address without credentials.
    fn place(&self, key: &str) -> String;

    /// Whole and durable when this returns well; otherwise the old object, or none.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()>;

    /// The same, and false where there is one already.
    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<bool>;

    /// A whole object; one that is larger than the limit is refused without being read.
    fn get(&self, key: &str, limit: u64) -> io::Result<Vec<u8>>;

    /// Everything below a prefix that ends where a name ends, sorted by key.
    fn list(&self, prefix: &str) -> io::Result<Vec<Object>>;

    /// What is not there is deleted already.
    fn delete(&self, key: &str) -> io::Result<()>;

    fn delete_below(&self, prefix: &str) -> io::Result<()> {
        for object in self.list(prefix)? {
            self.delete(&object.key)?;
        }
        Ok(())
    }

    /// Bytes that may still be written; `None` where nobody can say.
    fn free(&self) -> io::Result<Option<u64>>;

    /// Whether putting waits for a network: then several are put at once, and whoever produces them is not kept waiting.
    fn is_far(&self) -> bool;

    /// Takes a folder that nobody has, for as long as the claim lives.
    fn claim(&self, folder: &str) -> io::Result<Claim>;

    /// Whether a writer that lives holds the folder; `None` where only time can tell.
    fn is_held(&self, folder: &str) -> io::Result<Option<bool>>;
}

/// An object as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
    /// By the store's own clock.
    pub modified: Timestamp,
}

/// The right to write into a folder. It ends when this is dropped, or the process dies.
#[derive(Debug, Default)]
pub struct Claim {
    lock: Option<File>,
}

impl Claim {
    pub fn held(lock: File) -> Claim {
        Claim { lock: Some(lock) }
    }

    /// Whether there is a lock file to take away at the end.
    pub fn has_file(&self) -> bool {
        self.lock.is_some()
    }
}

pub fn too_large(bytes: u64, limit: u64) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it has {bytes} bytes, and at most {limit} are expected"))
}

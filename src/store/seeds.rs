//! What copies begin with and took work to make, kept below the user's cache folder for the next ones. Only what is masked goes there.
//! And by what a file that they begin with is known again.

use super::files;
use crate::value::Digest;
use sha2::Digest as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What nobody has used for so long is removed.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder of one user.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// Below `XDG_CACHE_HOME`, or `.cache` of the home folder; `None` for somebody who has neither.
    pub fn of_user() -> Option<Shelf> {
        let cache = super::variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(super::variable("HOME")?).join(".cache")))?;
        Some(Shelf { folder: cache.join("lockstep/seeds") }).filter(|_| cache.is_absolute())
    }

    /// The seed of this name, which is used from now on.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.path(name);
        File::options().write(true).open(&path).ok()?.set_modified(now()).ok()?;
        Some(path)
    }

    /// Writes a seed, in the place of one of its name, whole or not at all; and removes those that nobody uses.
    ///
    /// # Errors
    /// The disk, and whatever `write` says.
    pub fn put(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<PathBuf> {
        files::create_private_folder(&self.folder)?;
        for entry in fs::read_dir(&self.folder)?.filter_map(Result::ok) {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            if changed.is_ok_and(|changed| now().duration_since(changed).is_ok_and(|age| age > KEPT)) {
                // Another run may have removed it.
                let _ = fs::remove_file(entry.path());
            }
        }
        let path = self.path(name);
        files::stream_whole(&path, true, write)?;
        Ok(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.rdb"))
    }
}

fn now() -> SystemTime {
    SystemTime::from(super::now())
}

/// The digest of the first so many bytes of a file.
pub fn digest(path: &Path, bytes: u64) -> io::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    io::copy(&mut File::open(path)?.take(bytes), &mut hasher)?;
    Ok(Digest::from_hash(&hasher.finalize()))
}

/// What changes whenever somebody writes to a file or puts another one in its place: its number, its length, and when that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u64, u64, (i64, i64));

impl Stamp {
    pub fn of(path: &Path) -> io::Result<Stamp> {
        let found = path.metadata()?;
        Ok(Stamp(found.ino(), found.len(), (found.ctime(), found.ctime_nsec())))
    }
}

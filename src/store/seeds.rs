//! What copies begin with and took work to make, kept below the user's cache folder for the next ones. Only what is masked goes there.

use super::files;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
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

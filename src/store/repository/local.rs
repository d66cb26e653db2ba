//! A folder as a store: every object a file that is whole or not there.

use crate::store::files;
use crate::store::repository::store::{Claim, Object, Store, too_large};
use jiff::Timestamp;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Locked by a writer for as long as it lives: what is locked is somebody's work, what is not is a leftover.
pub const LOCK: &str = "draft.lock";
/// Stack, environment and backup lie above each other; nothing of ours lies deeper.
const DEPTH: usize = 4;

#[derive(Debug)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    pub fn new(root: impl Into<PathBuf>) -> Local {
        Local { root: root.into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// A rename is on disk only when every folder above it is.
    fn sync_above(&self, path: &Path) -> io::Result<()> {
        for folder in path.ancestors().skip(1) {
            files::sync_folder(folder)?;
            if folder == self.root {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, key: &str, bytes: &[u8], replace: bool) -> io::Result<bool> {
        let path = self.path(key);
        if let Some(folder) = path.parent() {
            files::create_private_folder(folder)?;
        }
        files::write_whole(&path, bytes, replace)
    }

    fn walk(&self, key: &str, depth: usize, found: &mut Vec<Object>) -> io::Result<()> {
        let entries = match fs::read_dir(self.path(key)) {
            Ok(entries) => entries,
            // Gone between being seen and being opened, or never there.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if key.is_empty() { name } else { format!("{key}/{name}") };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Of the entry itself, so a link is neither and leads nowhere.
            if metadata.is_dir() && depth > 0 {
                self.walk(&below, depth - 1, found)?;
            } else if metadata.is_file() {
                let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
                let modified = modified.unwrap_or(Timestamp::UNIX_EPOCH);
                found.push(Object { key: below, bytes: metadata.len(), modified });
            }
        }
        Ok(())
    }
}

impl Store for Local {
    fn place(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(key, bytes, true).map(|_| ())
    }

    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        self.write(key, bytes, false)
    }

    fn get(&self, key: &str, limit: u64) -> io::Result<Vec<u8>> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(key))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is not a regular file"));
        }
        if metadata.len() > limit {
            return Err(too_large(metadata.len(), limit));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if read > limit { Err(too_large(read, limit)) } else { Ok(bytes) }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        let mut found = Vec::new();
        self.walk(prefix, DEPTH, &mut found)?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            // On disk before what it vouched for begins to go.
            Ok(()) => files::sync_folder(path.parent().unwrap_or(&self.root)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn delete_below(&self, prefix: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.path(prefix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn free(&self) -> io::Result<Option<u64>> {
        // The folder may still have to be made; it will lie on the disk of the nearest one that is there.
        let there = self.root.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        let stat = rustix::fs::statvfs(there)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn is_far(&self) -> bool {
        false
    }

    fn claim(&self, folder: &str) -> io::Result<Claim> {
        let own = self.path(folder);
        let (Some(above), Some(name)) = (own.parent(), own.file_name()) else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a backup needs a folder of its own"));
        };
        files::create_private_folder(above)?;
        // Under a name that nobody sweeps until its file is locked.
        let hidden = above.join(format!(".{}", name.to_string_lossy()));
        DirBuilder::new().mode(0o700).create(&hidden)?;
        let locked = || -> io::Result<File> {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(hidden.join(LOCK))?;
            file.lock()?;
            if own.exists() {
                return Err(io::Error::new(ErrorKind::AlreadyExists, "a backup of this name is there"));
            }
            fs::rename(&hidden, &own)?;
            self.sync_above(&own)?;
            Ok(file)
        };
        match locked() {
            Ok(file) => Ok(Claim::held(file)),
            Err(error) => {
                // What stays is hidden and empty.
                let _ = fs::remove_dir_all(&hidden);
                Err(error)
            }
        }
    }

    fn is_held(&self, folder: &str) -> io::Result<Option<bool>> {
        match File::open(self.path(folder).join(LOCK)) {
            Ok(file) => Ok(Some(file.try_lock().is_err())),
            // It is there from before the folder has its name until the manifest is written.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }
}

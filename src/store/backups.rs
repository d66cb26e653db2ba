//! Backups on disk: a folder each, the snapshot first and its manifest last.
//!
//! `<folder>/<stack>/<environment>/<id>/{dump.rdb,manifest.json}`. Until the manifest is there, nothing
//! is listed; what a killed writer left behind is told by its lock and given back.

use crate::backup::{COPY, Manifest, SNAPSHOT};
use crate::store::files;
use anyhow::{Context as _, bail};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";
const PARTIAL: &str = "partial";

/// A backup that is being written. Dropped without [`Draft::keep`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
    file: Option<File>,
    kept: bool,
}

/// The folder of one environment's backups.
pub fn folder(root: &Path, backups: &str, stack: &str, environment: &str) -> PathBuf {
    root.join(backups).join(stack).join(environment)
}

/// Starts a backup of this id.
pub fn draft(folder: &Path, id: &str) -> anyhow::Result<Draft> {
    let doing = || format!("could not start a backup in `{}`", folder.display());
    files::create_private_folder(folder).with_context(doing)?;
    sweep(folder);
    // Under a name that nobody sweeps until its file is locked.
    let hidden = folder.join(format!(".{id}"));
    fs::DirBuilder::new().mode(0o700).create(&hidden).with_context(doing)?;
    let mut draft = Draft { folder: hidden, file: None, kept: false };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft.path()).with_context(doing)?;
    // Held for as long as the writer lives: what is locked is somebody's work, what is not is a leftover.
    file.lock().with_context(doing)?;
    let own = folder.join(id);
    fs::rename(&draft.folder, &own).with_context(doing)?;
    draft.folder = own;
    draft.file = Some(file);
    Ok(draft)
}

impl Draft {
    pub fn file(&mut self) -> anyhow::Result<File> {
        let file = self.file.as_ref().context("the backup is already closed")?;
        Ok(file.try_clone()?)
    }

    /// Where it is being written.
    pub fn path(&self) -> PathBuf {
        self.folder.join(PARTIAL)
    }

    /// Flushes the snapshot, gives it its name, and then writes the manifest: from here on it is listed.
    pub fn keep(mut self, manifest: &Manifest) -> anyhow::Result<PathBuf> {
        let doing = || format!("could not keep the backup `{}`", manifest.id);
        let file = self.file.take().context("the backup is already closed")?;
        file.sync_all().with_context(doing)?;
        let size = file.metadata().with_context(doing)?.len();
        if size != manifest.size_bytes {
            bail!("the snapshot is {size} bytes on disk, and {} were received", manifest.size_bytes);
        }
        fs::rename(self.folder.join(PARTIAL), self.folder.join(&manifest.file)).with_context(doing)?;
        let text = serde_json::to_vec_pretty(manifest).with_context(doing)?;
        files::write_atomically(&self.folder.join(MANIFEST), &text, 0o600)?;
        if let Some(above) = self.folder.parent() {
            files::sync_folder(above).with_context(doing)?;
        }
        self.kept = true;
        Ok(self.folder.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: what stays is not listed, and the next backup sweeps it up.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Removes what killed writers left: folders without a manifest whose snapshot nobody holds.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || path.join(MANIFEST).exists() || !path.is_dir() {
            continue;
        }
        let open = [PARTIAL, SNAPSHOT, COPY].iter().find_map(|name| File::open(path.join(name)).ok());
        if open.is_some_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// What a copied volume holds.
#[derive(Debug, Default)]
pub struct Copied {
    /// Each walked to its end and checked.
    pub snapshots: Vec<crate::rdb::Summary>,
    /// Whether there is an append-only file, whole or in parts.
    pub append_only: bool,
}

impl Copied {
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && !self.append_only
    }
}

/// Looks through the files of a copied volume.
pub fn copied(tar: &Path) -> anyhow::Result<Copied> {
    let mut copied = Copied::default();
    let mut archive = tar::Archive::new(File::open(tar)?);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What the server was writing when it ended is no part of its data.
        if name.starts_with("temp-") || !entry.header().entry_type().is_file() {
            continue;
        }
        copied.append_only = copied.append_only || name.contains(".aof");
        if name.ends_with(".rdb") {
            let walked = crate::rdb::walk(entry);
            copied.snapshots.push(walked.with_context(|| format!("`{}` in the volume is not whole", path.display()))?);
        }
    }
    Ok(copied)
}

/// A backup as it lies there.
#[derive(Debug)]
pub struct Listed {
    pub manifest: Manifest,
    pub folder: PathBuf,
    /// What is wrong with it, when something is.
    pub problem: Option<String>,
}

/// All backups of an environment, oldest first.
pub fn list(folder: &Path) -> anyhow::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(listed),
        Err(error) => return Err(error).with_context(|| format!("could not read `{}`", folder.display())),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("could not read `{}`", folder.display()))?.path();
        let Ok(text) = fs::read(path.join(MANIFEST)) else { continue };
        let manifest: Manifest = match serde_json::from_slice(&text) {
            Ok(manifest) => manifest,
            Err(error) => {
                // One that does not read is shown, and hides no other.
                let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let problem = Some(format!("its manifest does not read: {error}"));
                listed.push(Listed { manifest: crate::backup::unreadable(id), folder: path, problem });
                continue;
            }
        };
        let problem = match fs::metadata(path.join(&manifest.file)) {
            _ if manifest.format != 1 => {
                Some(format!("its manifest has format {}, and this binary reads 1", manifest.format))
            }
            Ok(metadata) if metadata.len() == manifest.size_bytes => None,
            Ok(metadata) => Some(format!("{} bytes on disk, {} in the manifest", metadata.len(), manifest.size_bytes)),
            Err(error) => Some(format!("its snapshot cannot be read: {error}")),
        };
        listed.push(Listed { manifest, folder: path, problem });
    }
    listed.sort_by(|a, b| (&a.manifest.taken_at, &a.manifest.id).cmp(&(&b.manifest.taken_at, &b.manifest.id)));
    Ok(listed)
}

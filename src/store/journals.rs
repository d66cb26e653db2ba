//! Journals of restores, beside the backups of the project: what the keys were that were replaced.

use crate::store::{self, files};
use anyhow::Context as _;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Hidden, so that no listing of backups takes it for one.
const FOLDER: &str = "backups/.restores";

/// A new journal, readable by its owner alone, and where it lies.
pub fn create(root: &Path, environment: &str, service: &str) -> anyhow::Result<(File, PathBuf)> {
    let folder = root.join(FOLDER);
    let doing = || format!("could not begin a journal in `{}`", folder.display());
    files::create_private_folder(&folder).with_context(doing)?;
    let at = store::now().strftime("%Y%m%dT%H%M%SZ");
    let suffix = store::random_hex::<3>().with_context(doing)?;
    let path = folder.join(format!("{environment}-{service}-{at}-{suffix}.journal"));
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).with_context(doing)?;
    files::sync_folder(&folder).with_context(doing)?;
    Ok((file, path))
}

pub fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("could not read the journal `{}`", path.display()))
}

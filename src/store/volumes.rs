//! The files of an engine's volumes, where they lie on this machine ([decision 18]).
//!
//! [decision 18]: ../../../docs/decisions/0018-files-where-they-lie.md

use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Nothing that lockstep writes lies deeper.
const DEEPEST: usize = 32;

/// The files of volumes, read where they lie, as the archive that the engine would make of `/v` of a container that mounts each
/// volume under its name, up to so many bytes. An error says no more than that it has to be asked.
pub fn read(volumes: &[(String, PathBuf)], most: u64) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, home) in volumes {
        // Under user namespaces it would say other owners than the engine does: its folders are not root's there.
        let above = home.parent().map(fs::symlink_metadata).transpose()?;
        if above.is_none_or(|above| above.uid() != 0) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        fold(&mut tar, home, &format!("v/{name}"), (most, DEEPEST))?;
    }
    tar.into_inner()
}

fn fold(tar: &mut tar::Builder<Vec<u8>>, folder: &Path, name: &str, (most, deeper): (u64, usize)) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy()));
        let about = fs::symlink_metadata(&path)?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&about);
        if about.is_dir() {
            let deeper = deeper.checked_sub(1).ok_or(io::ErrorKind::Unsupported)?;
            fold(tar, &path, &name, (most, deeper))?;
        } else if about.is_symlink() {
            tar.append_link(&mut header, &name, fs::read_link(&path)?)?;
        } else if about.is_file() {
            // Somebody may put something else there meanwhile: a link to follow, or a pipe to wait for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(open(&path, flags, Mode::empty())?);
            let same = |one: &Metadata, other: &Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
            if !same(&file.metadata()?, &about) || tar.get_ref().len() as u64 + about.size() > most {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let mut content = Vec::new();
            file.take(about.size()).read_to_end(&mut content)?;
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, &name, content.as_slice())?;
        }
    }
    Ok(())
}

//! The files of an engine's volumes, where they lie on this machine ([decision 18]).
//!
//! [decision 18]: ../../../docs/decisions/0018-files-where-they-lie.md

use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Nothing that lockstep writes lies deeper.
const DEEPEST: usize = 32;

/// The files of volumes, read where they lie, as the archive that the engine would make of `/v` of a container that mounts each
/// volume under its name, up to so many bytes. An error says no more than that it has to be asked.
pub fn read(volumes: &[(String, PathBuf)], most: u64) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, home) in volumes {
        of_root(home)?;
        fold(&mut tar, home, &format!("v/{name}"), (most, DEEPEST))?;
    }
    tar.into_inner()
}

/// Unpacks an archive, such as the engine would take at `/` of that container, into volumes that are new: nothing lies in them
/// yet that could lead elsewhere, and nobody works on them. An error says no more than that the engine has to be asked to,
/// which replaces whatever was written until then.
pub fn fill(volumes: &[(String, PathBuf)], tar: &[u8]) -> io::Result<()> {
    for (_, home) in volumes {
        of_root(home)?;
        if !fs::symlink_metadata(home)?.is_dir() || fs::read_dir(home)?.next().is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
    }
    let mut archive = tar::Archive::new(tar);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        // `v/NAME/...` and `d/NAME/...`.
        let mut parts = path.components();
        let (_kind, name) = (parts.next(), parts.next());
        let home = volumes.iter().find(|(of, _)| name == Some(Component::Normal(of.as_ref())));
        let (_, home) = home.ok_or(io::ErrorKind::Unsupported)?;
        if !parts.clone().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        entry.unpack(home.join(parts.as_path()))?;
    }
    Ok(())
}

/// Under user namespaces owners on disk are others than those that the engine tells: the folder above is not root's there.
fn of_root(home: &Path) -> io::Result<()> {
    let above = home.parent().map(fs::symlink_metadata).transpose()?;
    match above {
        Some(above) if above.uid() == 0 => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
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

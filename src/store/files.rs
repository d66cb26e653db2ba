//! Writing a file so that it is the old one or the new one, never half of either.

use anyhow::Context as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Writes to a temporary file beside the target, flushes it to the disk, and renames it into place.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let doing = || format!("could not write `{}`", path.display());
    let mut temporary = tempfile::NamedTempFile::new_in(folder).with_context(doing)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode)).with_context(doing)?;
    temporary.write_all(content).with_context(doing)?;
    temporary.as_file().sync_all().with_context(doing)?;
    temporary.persist(path).with_context(doing)?;
    sync_folder(folder).with_context(doing)
}

/// The same with what went wrong as the system says it; false, and nothing written, where one is there that has to stay.
pub fn write_whole(path: &Path, content: &[u8], replace: bool) -> io::Result<bool> {
    stream_whole(path, replace, |file| file.write_all(content))
}

/// The same for what does not fit into memory.
pub fn stream_whole(path: &Path, replace: bool, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Open to its owner alone from the start, and gone again unless it gets its name.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    let named = match replace {
        true => temporary.persist(path),
        false => temporary.persist_noclobber(path),
    };
    match named {
        Ok(_) => {}
        Err(error) if !replace && error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.error),
    }
    sync_folder(folder)?;
    Ok(true)
}

/// Writes a file that can be made again at any time: in place, and not waited for.
pub fn write_copy(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let doing = || format!("could not write `{}`", path.display());
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).with_context(doing)?;
    file.set_permissions(Permissions::from_mode(mode)).with_context(doing)?;
    file.write_all(content).with_context(doing)
}

/// A rename is on disk only when its folder is.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, open to their owner alone.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts something behind what a file holds, which is made when it is not there.
pub fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(content)
}

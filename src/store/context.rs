//! A folder as the tar of a build context.

use anyhow::{Context as _, bail};
use std::fs;
use std::path::Path;
use tar::{Builder, EntryType, Header};

const MAX_CONTEXT: u64 = 512 << 20;

/// Packs the folder, names in order and times left out, so that the same files give the same layers.
pub fn pack(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut left = MAX_CONTEXT;
    walk(folder, "", &mut tar, &mut left)
        .with_context(|| format!("could not pack the build context `{}`", folder.display()))?;
    Ok(tar.into_inner()?)
}

fn walk(root: &Path, below: &str, tar: &mut Builder<Vec<u8>>, left: &mut u64) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(below))? {
        names.push(entry?.file_name());
    }
    names.sort();
    for name in names {
        let name = name.to_string_lossy();
        let relative = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
        let path = root.join(&relative);
        let metadata = fs::symlink_metadata(&path)?;
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(metadata.permissions().mode() & 0o755);
        header.set_size(0);
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, format!("{relative}/"), std::io::empty())?;
            walk(root, &relative, tar, left)?;
        } else if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, &relative, fs::read_link(&path)?)?;
        } else if metadata.is_file() {
            *left = match left.checked_sub(metadata.len()) {
                Some(left) => left,
                None => bail!("it holds more than {} MB", MAX_CONTEXT >> 20),
            };
            let content = fs::read(&path)?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(u64::try_from(content.len())?);
            tar.append_data(&mut header, &relative, content.as_slice())?;
        }
    }
    Ok(())
}

//! Notes of changes in the project's `changes/`: a draft while a change is not finished, then a file that stays.

use crate::ledger::note::{anchor, draft_name, names, note};
use crate::ledger::{Anchor, Entry};
use crate::store::files;
use anyhow::{Context as _, bail};
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Below the project.
pub const FOLDER: &str = "changes";
/// A note is read by people.
const MAX_NOTE: u64 = 1 << 20;
const MAX_NOTES: usize = 10_000;

/// Writes the note of a change, and answers where it lies below the project.
///
/// A change that is not finished, or not done and not undone, has a draft, which this change alone replaces; the final
/// note replaces nothing and takes the draft away.
pub fn write(root: &Path, entry: &Entry) -> anyhow::Result<PathBuf> {
    let Some(begin) = &entry.begin else { bail!("change {} cannot be read, so there is no note of it", entry.number) };
    let folder = root.join(FOLDER);
    let doing = || format!("could not write a note into `{}`", folder.display());
    fs::create_dir_all(&folder).with_context(doing)?;
    let text = note(entry);
    let draft = draft_name(begin);
    if !entry.end.as_ref().is_some_and(|end| end.outcome.is_final()) {
        put(&folder.join(&draft), &text, true).with_context(doing)?;
        return Ok(Path::new(FOLDER).join(draft));
    }
    for name in names(begin) {
        let path = folder.join(&name);
        let is_there = !put(&path, &text, false).with_context(doing)?;
        // Written before by a run that died before it said so, or somebody else's.
        if !is_there || read(&path).is_ok_and(|there| there == text) {
            match fs::remove_file(folder.join(&draft)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(doing),
                _ => return Ok(Path::new(FOLDER).join(name)),
            }
        }
    }
    Err(anyhow::anyhow!("there is another note of its name")).with_context(doing)
}

/// What the notes of a project say of a ledger's records.
pub fn anchors(root: &Path, stack: &str, environment: &str) -> anyhow::Result<Vec<Anchor>> {
    let mut anchors = Vec::new();
    look(root, |path, text| {
        if path.ends_with(".md") {
            anchors.extend(anchor(&path, &text, stack, environment));
        }
    })?;
    anchors.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(anchors)
}

/// All notes of a project as they lie there, by their path below it.
pub fn texts(root: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    look(root, |path, text| texts.push((path, text)))?;
    Ok(texts)
}

/// Shows each note with its path below the project. One that is no text, or a link, is no note and says nothing of a ledger.
fn look(root: &Path, mut see: impl FnMut(String, String)) -> anyhow::Result<()> {
    let folder = root.join(FOLDER);
    let doing = || format!("could not read the notes in `{}`", folder.display());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(doing),
    };
    for entry in entries.take(MAX_NOTES) {
        let Ok(name) = entry.with_context(doing)?.file_name().into_string() else { continue };
        if let Ok(text) = read(&folder.join(&name)) {
            see(format!("{FOLDER}/{name}"), text);
        }
    }
    Ok(())
}

/// False where one is there already that has to stay. It goes to a repository, so others may read it.
fn put(path: &Path, text: &str, replace: bool) -> io::Result<bool> {
    files::stream_whole(path, replace, |file: &mut File| {
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    })
}

fn read(path: &Path) -> io::Result<String> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_NOTE).read_to_string(&mut text)?;
    Ok(text)
}

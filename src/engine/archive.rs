//! Files of volumes as the tar streams that the engine takes and gives.
//!
//! In a volume, files lie under `r/<revision>/`; the link `current` names the revision in force and is
//! written last, so that a write that breaks off leaves the old files in force. Links beside it give
//! every file its own path: `redis.conf -> current/redis.conf`.

use crate::state::File;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use tar::{Builder, EntryType, Header};

/// The largest archive that is read back.
pub const MAX_TAR: usize = 64 << 20;
const MAX_FILE: u64 = 4 << 20;
const BLOCK: u64 = 512;

/// What to write into one volume.
#[derive(Debug)]
pub enum Write<'a> {
    /// `stale` files of older revisions are emptied: they may hold secrets that were rotated.
    Files { volume: &'a str, files: &'a BTreeMap<String, File>, stale: &'a [String] },
    /// A new volume for data: its folder gets its owner.
    Data { volume: &'a str, owner: (u32, u32) },
}

/// The archive to unpack at `/` of the container that mounts the volumes.
pub fn pack(writes: &[Write<'_>], revision: &str) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for write in writes {
        match write {
            Write::Data { volume, owner } => folder(&mut tar, &format!("d/{volume}"), *owner, 0o700)?,
            Write::Files { volume, files, stale } => {
                let owner = files.values().map(|file| file.owner).find(|owner| owner.0 != 0).unwrap_or((0, 0));
                let root = format!("v/{volume}");
                folder(&mut tar, &root, (0, owner.1), 0o750)?;
                folder(&mut tar, &format!("{root}/r"), (0, owner.1), 0o750)?;
                let home = format!("{root}/r/{revision}");
                folder(&mut tar, &home, (0, owner.1), 0o750)?;
                let mut made = BTreeSet::new();
                for (path, file) in *files {
                    let mut parent = String::new();
                    let parts: Vec<&str> = path.split('/').collect();
                    for part in parts.iter().take(parts.len().saturating_sub(1)) {
                        parent = format!("{parent}/{part}");
                        if made.insert(parent.clone()) {
                            folder(&mut tar, &format!("{home}{parent}"), (0, owner.1), 0o750)?;
                        }
                    }
                    let mut header = header(EntryType::Regular, file.owner, file.mode);
                    header.set_size(u64::try_from(file.content.len()).unwrap_or(u64::MAX));
                    tar.append_data(&mut header, format!("{home}/{path}"), file.content.as_slice())?;
                }
                let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
                for top in tops {
                    link(&mut tar, &format!("{root}/{top}"), &format!("current/{top}"))?;
                }
                link(&mut tar, &format!("{root}/current"), &format!("r/{revision}"))?;
                for path in *stale {
                    let mut header = header(EntryType::Regular, (0, 0), 0o400);
                    tar.append_data(&mut header, format!("{root}/{path}"), io::empty())?;
                }
            }
        }
    }
    tar.into_inner()
}

/// What comes ahead of and behind the content of one large file, so that the archive can be sent while the file is read:
/// its folder and the small files beside it, all of one owner and readable by nobody else.
pub fn around(
    folder_name: &str,
    small: &[(&str, Vec<u8>)],
    (name, size): (&str, u64),
    owner: (u32, u32),
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut tar = beside(folder_name, small, owner)?;
    let mut header = header(EntryType::Regular, owner, 0o600);
    header.set_path(format!("{folder_name}/{name}"))?;
    header.set_size(size);
    header.set_cksum();
    tar.get_mut().extend_from_slice(header.as_bytes());
    let head = std::mem::take(tar.get_mut());
    // Content is filled up to whole blocks, and two empty ones end the archive.
    let filling = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
    Ok((head, vec![0; filling + 2 * BLOCK as usize]))
}

/// The same with a link in the place of the large file.
pub fn linked(
    folder_name: &str,
    small: &[(&str, Vec<u8>)],
    (name, target): (&str, &str),
    owner: (u32, u32),
) -> io::Result<Vec<u8>> {
    let mut tar = beside(folder_name, small, owner)?;
    link(&mut tar, &format!("{folder_name}/{name}"), target)?;
    tar.into_inner()
}

fn beside(folder_name: &str, small: &[(&str, Vec<u8>)], owner: (u32, u32)) -> io::Result<Builder<Vec<u8>>> {
    let mut tar = Builder::new(Vec::new());
    folder(&mut tar, folder_name, owner, 0o700)?;
    for (name, content) in small {
        let mut header = header(EntryType::Regular, owner, 0o400);
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        tar.append_data(&mut header, format!("{folder_name}/{name}"), content.as_slice())?;
    }
    Ok(tar)
}

fn header(kind: EntryType, owner: (u32, u32), mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_uid(owner.0.into());
    header.set_gid(owner.1.into());
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn folder(tar: &mut Builder<Vec<u8>>, path: &str, owner: (u32, u32), mode: u32) -> io::Result<()> {
    let mut header = header(EntryType::Directory, owner, mode);
    tar.append_data(&mut header, format!("{path}/"), io::empty())
}

fn link(tar: &mut Builder<Vec<u8>>, path: &str, target: &str) -> io::Result<()> {
    let mut header = header(EntryType::Symlink, (0, 0), 0o777);
    tar.append_link(&mut header, path, target)
}

/// What lies in one volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lying {
    /// The files in force. One that is in force and is not ours is among them.
    pub files: BTreeMap<String, File>,
    /// Files of revisions that are no longer in force and still hold something, below the volume.
    pub stale: Vec<String>,
    /// When files in force were written, in seconds since 1970; what lockstep writes has no time.
    pub written: BTreeMap<String, u64>,
}

/// What lies in the volumes, by volume, of an archive whose entries begin with `prefix`.
///
/// `prefix` is `v` for the folder of all volumes; for one volume, `volume` names it and the prefix is its folder.
pub fn unpack(tar: &[u8], prefix: &str, volume: Option<&str>) -> io::Result<BTreeMap<String, Lying>> {
    let mut current: BTreeMap<String, String> = BTreeMap::new();
    let mut roots: BTreeMap<String, Vec<(String, File)>> = BTreeMap::new();
    let mut written: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut links: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut revisions: BTreeMap<(String, String), BTreeMap<String, File>> = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let Some(path) = path.trim_end_matches('/').strip_prefix(prefix).and_then(|path| path.strip_prefix('/')) else {
            continue;
        };
        let (volume, rest) = match volume {
            Some(volume) => (volume, path),
            None => match path.split_once('/') {
                Some(parts) => parts,
                None => continue,
            },
        };
        let regular = entry.header().entry_type() == EntryType::Regular;
        if rest == "current" && !regular {
            if let Some(target) = entry.link_name()? {
                let target = target.to_string_lossy();
                current.insert(volume.to_owned(), target.strip_prefix("r/").unwrap_or(&target).to_owned());
            }
            continue;
        }
        if !regular {
            if let Some(target) = entry.link_name()? {
                links.insert((volume.to_owned(), rest.to_owned()), target.to_string_lossy().into_owned());
            }
            continue;
        }
        let owner = (narrow(entry.header().uid()?), narrow(entry.header().gid()?));
        let mode = entry.header().mode()? & 0o7777;
        let time = entry.header().mtime()?;
        if time > 0 {
            written.insert((volume.to_owned(), rest.to_owned()), time);
        }
        let mut content = Vec::new();
        entry.by_ref().take(MAX_FILE).read_to_end(&mut content)?;
        // Whether it may be shown is for the wanted side to say; until then it may not.
        let file = File { content, secret: true, mode, owner };
        match rest.strip_prefix("r/").and_then(|rest| rest.split_once('/')) {
            Some((revision, path)) => {
                let key = (volume.to_owned(), revision.to_owned());
                revisions.entry(key).or_default().insert(path.to_owned(), file);
            }
            None => roots.entry(volume.to_owned()).or_default().push((rest.to_owned(), file)),
        }
    }
    let mut lying: BTreeMap<String, Lying> = BTreeMap::new();
    for ((volume, revision), files) in revisions {
        let of_volume = lying.entry(volume.clone()).or_default();
        if current.get(&volume) == Some(&revision) {
            of_volume.files = files;
        } else {
            let held = files.into_iter().filter(|(_, file)| !file.content.is_empty());
            of_volume.stale.extend(held.map(|(path, _)| format!("r/{revision}/{path}")));
        }
    }
    for (volume, of_volume) in &mut lying {
        for (path, file) in &mut of_volume.files {
            // What the service reads is where our link leads, whatever the revision says.
            let top = path.split('/').next().unwrap_or_default();
            if let Some(target) = links.get(&(volume.clone(), top.to_owned()))
                && *target != format!("current/{top}")
            {
                file.content = format!("a link to {target}").into_bytes();
            }
        }
    }
    for ((volume, path), time) in written {
        let Some(of_volume) = lying.get_mut(&volume) else { continue };
        let path = match path.strip_prefix("r/").and_then(|path| path.split_once('/')) {
            Some((revision, path)) if current.get(&volume).is_some_and(|current| current == revision) => path,
            Some(_) => continue,
            None => path.as_str(),
        };
        of_volume.written.insert(path.to_owned(), time);
    }
    for (volume, files) in roots {
        let of_volume = lying.entry(volume).or_default();
        for (path, file) in files {
            // So is a file in the place of a link. One that is none of ours is there for the service to find, until it is
            // emptied.
            if of_volume.files.contains_key(&path) {
                of_volume.files.insert(path, file);
            } else if !file.content.is_empty() {
                of_volume.stale.push(path.clone());
                of_volume.files.insert(path, file);
            }
        }
    }
    Ok(lying)
}

/// Whether an archive of a folder holds the folder and nothing else.
pub fn is_empty_folder(tar: &[u8]) -> bool {
    let mut archive = tar::Archive::new(tar);
    let Ok(entries) = archive.entries() else { return false };
    let mut seen = 0;
    for entry in entries {
        let Ok(entry) = entry else { return false };
        seen += 1;
        if seen > 1 || entry.header().entry_type() != EntryType::Directory {
            return false;
        }
    }
    seen == 1
}

fn narrow(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

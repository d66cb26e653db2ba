//! What a backup says about itself, what makes one count, and which ones are kept.

pub mod inspected;
pub mod manifest;
pub mod preflight;
pub mod retention;
pub mod server_state;

pub use inspected::{Inspected, Standing};
pub use manifest::{
    COPY, Capture, Chunk, Costs, Counts, Failed, Listed, Manifest, Part, Pin, Proof, ProofKind, SNAPSHOT, STATE, State,
};

pub use server_state::ServerState;

use crate::rdb::Summary;
use crate::state::{Server, Value};
use crate::value::{Family, ServerVersion};
use anyhow::Context as _;
use std::io::Read;

/// What a copied volume holds.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Each walked to its end and checked.
    pub snapshots: Vec<Summary>,
    /// When the newest snapshot was last written, in seconds since 1970.
    pub snapshot_written: Option<u64>,
    /// The same of an append-only file, whole or in parts.
    pub append_only_written: Option<u64>,
    /// Whether anything else lies there: before 7.0 an append-only file may have any name.
    pub others: bool,
}

impl Copied {
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.append_only_written.is_none() && !self.others
    }

    /// The last snapshot written holds the most; what an append-only file adds to it is not counted.
    pub fn newest(&self) -> Summary {
        let newest = self.snapshots.iter().max_by_key(|summary| summary.created_unix);
        newest.cloned().unwrap_or_else(|| Summary::new(Family::Redis, 0))
    }
}

/// Looks through the files of a copied volume.
pub fn copied(tar: impl Read) -> anyhow::Result<Copied> {
    let mut copied = Copied::default();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What the server was writing when it ended is no part of its data.
        if name.starts_with("temp-") || !entry.header().entry_type().is_file() {
            continue;
        }
        let written = Some(entry.header().mtime()?);
        // The base of an append-only file is a snapshot too, and no newer than what follows it.
        if name.contains(".aof") {
            copied.append_only_written = copied.append_only_written.max(written);
        } else if name.ends_with(".rdb") {
            copied.snapshot_written = copied.snapshot_written.max(written);
        } else if entry.size() > 0 {
            copied.others = true;
        }
        if name.ends_with(".rdb") {
            let walked = crate::rdb::walk(entry);
            copied.snapshots.push(walked.with_context(|| format!("`{}` in the volume is not whole", path.display()))?);
        }
    }
    // What follows the last file still has to be there: whoever reads on finds a volume that breaks off.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(copied)
}

/// Whether a server that starts on the volume would find again what lies in it; otherwise why not, and what to do.
pub fn loadable(want: &Server, copied: &Copied) -> Result<(), (String, &'static str)> {
    let keys: u64 = copied.snapshots.iter().map(Summary::keys).sum();
    let appends = want.settings.get("appendonly") == Some(&Value::text("yes"));
    match (appends, copied.append_only_written) {
        // Redis 7 then starts empty, and its next save overwrites the snapshot.
        (true, None) if keys > 0 => {
            return Err((
                format!(
                    "it would start empty: with `appendonly: yes` it reads no snapshot, and {keys} keys lie in one"
                ),
                "apply once with `appendonly: no`, then set it to `yes`: lockstep changes that on the running server",
            ));
        }
        // A server that ends in order writes its snapshot last; an older one lacks what was appended since.
        (false, Some(appended)) if copied.snapshot_written.is_none_or(|saved| saved < appended) => {
            return Err((
                "it would start without what its append-only file holds, which is newer than its snapshot".to_owned(),
                "apply once with `appendonly: yes`, then change it: lockstep changes that on the running server",
            ));
        }
        _ => {}
    }
    let unreadable = want.version().and_then(ServerVersion::parse).and_then(|version| {
        let newer = |snapshot: &&Summary| !version.reads_snapshot(snapshot.family, snapshot.version);
        Some((version, copied.snapshots.iter().find(newer)?))
    });
    match unreadable {
        Some((version, snapshot)) => {
            let wrote = snapshot.server_version.as_deref().unwrap_or("a newer server");
            Err((format!("{version} cannot load the data that {wrote} wrote"), "keep the version that wrote it"))
        }
        None => Ok(()),
    }
}

//! What a backup says about itself, and what was found out about it later.
//!
//! A manifest is written once, last, and never changed: what it lists is what there is. Everything that is learned
//! afterwards (it was verified, drilled, found damaged, pinned) is a small object of its own beside it, so that no
//! later run can spoil what an earlier one wrote.

use crate::event::Event;
use crate::rdb::{Checksum, Summary};
use crate::value::{Digest, Family, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The format that this binary writes and reads. A newer writer raises it; an older reader then lists the backup with
/// that as its problem rather than guess.
pub const FORMAT: u32 = 2;
/// The part that is a snapshot as the server sent it.
pub const SNAPSHOT: &str = "dump.rdb";
/// The part that is a copy of a volume.
pub const COPY: &str = "volume.tar";
/// What an RDB does not hold, as far as it was captured.
pub const STATE: &str = "state.json";
/// No writer cuts larger pieces, and no reader takes larger ones.
pub const MAX_CHUNK: u64 = 64 << 20;

/// `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    pub format: u32,
    pub id: String,
    pub stack: String,
    pub environment: String,
    pub service: String,
    /// RFC 3339, UTC: when the snapshot was complete.
    pub taken_at: String,
    pub reason: String,
    /// Taken because a change was about to begin; retention leaves these alone.
    pub change: bool,
    /// It came as a file, and says nothing of what the server held when it was kept here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    /// How far it was proven when it was written; see [`state`] for how far by now.
    pub state: State,
    /// What belongs to it and could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// `redis 7.0.15`
    pub server: String,
    pub image: String,
    /// Hash of the desired state that the environment was taken under.
    pub revision: String,
    #[serde(flatten)]
    pub counts: Counts,
    pub replication_id: String,
    pub replication_offset: i64,
    pub elapsed_ms: u64,
    /// What taking it cost the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Costs>,
    /// The age recipients, any one of which opens it. Empty: it is not encrypted.
    pub encrypted_to: Vec<String>,
    pub parts: Vec<Part>,
    /// `lockstep 0.1.0`
    pub tool: String,
}

/// What a snapshot holds; two that hold the same are equal here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// `redis 10`: the format of the snapshot.
    pub rdb: String,
    pub crc64: String,
    pub keys: u64,
    pub expires: u64,
    pub databases: BTreeMap<String, u64>,
    pub types: BTreeMap<String, u64>,
    pub functions: u64,
}

impl Counts {
    /// Who wrote the snapshot, and in which version of the format.
    pub fn format(&self) -> Option<(Family, u32)> {
        let (family, version) = self.rdb.split_once(' ')?;
        let family = [Family::Redis, Family::Valkey].into_iter().find(|known| known.to_string() == family)?;
        Some((family, version.parse().ok()?))
    }

    /// One more than the highest database in it.
    pub fn databases_needed(&self) -> u64 {
        let highest = self.databases.keys().filter_map(|number| number.parse::<u64>().ok()).max();
        highest.unwrap_or(0).saturating_add(1)
    }
}

impl From<&Summary> for Counts {
    fn from(summary: &Summary) -> Counts {
        let mut types: BTreeMap<String, u64> = BTreeMap::new();
        for database in summary.databases.values() {
            for (kind, count) in &database.by_type {
                *types.entry((*kind).to_owned()).or_default() += count;
            }
        }
        Counts {
            rdb: format!("{} {}", summary.family, summary.version),
            crc64: match summary.checksum {
                Checksum::Verified(crc) => format!("{crc:016x}"),
                Checksum::Absent => "absent".to_owned(),
            },
            keys: summary.keys(),
            expires: summary.databases.values().map(|database| database.expires).sum(),
            databases: summary.databases.iter().map(|(number, database)| (number.to_string(), database.keys)).collect(),
            types,
            functions: summary.functions,
        }
    }
}

/// What a capture cost the server, as far as it could be learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Costs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork_usec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cow_bytes: Option<u64>,
    /// From the request to the first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
}

/// One stream of bytes of a backup, and the pieces that it is stored in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    pub name: String,
    /// Before compression and encryption.
    pub plain_bytes: u64,
    pub plain_sha256: String,
    /// As they lie in the store.
    pub stored_bytes: u64,
    pub chunks: Vec<Chunk>,
}

/// One object of a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chunk {
    pub name: String,
    pub bytes: u64,
    /// Of the bytes as stored, so that whoever cannot decrypt them can still tell whether they are whole.
    pub sha256: String,
}

/// `dump.rdb.000001`, counted from 1.
pub fn chunk_name(part: &str, number: usize) -> String {
    format!("{part}.{number:06}")
}

/// How far a backup has been proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Something that belongs to it is not what it was, or not there.
    Damaged,
    /// Something that belongs to it could not be read when it was taken.
    Partial,
    /// Whole and walked to its end, but the server wrote no checksum.
    Unverified,
    /// The files of a server that did not run; the snapshots among them walked to their end.
    Copied,
    /// Written, every stored byte read back and hashed.
    #[default]
    Captured,
    /// Read back, decrypted, parsed to its end; checksum right, counts equal.
    Verified,
    /// Restored into a throw-away server.
    Drilled,
}

impl State {
    /// What retention counts on: somebody read it back as what it is.
    pub fn is_proven(self) -> bool {
        matches!(self, State::Verified | State::Drilled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            State::Damaged => "damaged",
            State::Partial => "partial",
            State::Unverified => "unverified",
            State::Copied => "copied",
            State::Captured => "captured",
            State::Verified => "verified",
            State::Drilled => "drilled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found out about a backup after it was written: `proof-<time>-<kind>.json` beside its manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proof {
    pub format: u32,
    pub kind: ProofKind,
    /// RFC 3339, UTC.
    pub at: String,
    /// `lockstep 0.1.0`
    pub tool: String,
    /// SHA-256 of the manifest that was looked at: evidence about another one proves nothing.
    pub manifest_sha256: String,
    /// From the first byte read to the server answering with all keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whatever else is worth keeping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

impl Proof {
    /// What was found out now, by this binary, about the manifest with this hash.
    pub fn of(kind: ProofKind, at: String, manifest_sha256: &str) -> Proof {
        let manifest_sha256 = manifest_sha256.to_owned();
        Proof { format: FORMAT, kind, at, tool: tool(), manifest_sha256, ..Proof::default() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofKind {
    Verified,
    Drilled,
    #[default]
    Failed,
}

impl ProofKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ProofKind::Verified => "verified",
            ProofKind::Drilled => "drilled",
            ProofKind::Failed => "failed",
        }
    }
}

/// Why a backup stays, whatever retention says: `pin.json` beside its manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pin {
    pub at: String,
    pub reason: String,
}

/// The last try to back up a service failed: `failed-<service>.json` beside its backups, until one succeeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failed {
    pub service: String,
    pub at: String,
    pub problem: String,
    pub tool: String,
}

/// A backup as it lies there.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub id: String,
    /// For people: a path, or an address.
    pub place: String,
    /// `None` when it does not read.
    pub manifest: Option<Manifest>,
    /// SHA-256 of the manifest's bytes.
    pub manifest_sha256: String,
    /// Oldest first; only those about this manifest.
    pub proofs: Vec<Proof>,
    pub pin: Option<Pin>,
    pub state: State,
    /// What is wrong with it, when something is.
    pub problem: Option<String>,
    /// All its objects together.
    pub stored_bytes: u64,
}

impl Listed {
    pub fn taken_at(&self) -> &str {
        self.manifest.as_ref().map_or("", |manifest| manifest.taken_at.as_str())
    }
}

/// What is known of a capture besides its bytes.
#[derive(Clone, Debug)]
pub struct Capture {
    pub id: String,
    pub stack: Name,
    pub environment: Name,
    pub service: String,
    pub taken_at: String,
    pub reason: String,
    pub change: bool,
    pub image: String,
    /// `redis 7.0.15`, as the server itself says; empty when it could not be asked.
    pub server: String,
    pub revision: Digest,
}

impl Manifest {
    /// What is said where a change has taken it, and drilled it where that was asked for. Nobody counted the keys of a copied
    /// volume.
    pub fn kept(&self, drilled: bool) -> Event {
        let proven = match state(self, &[]) {
            State::Captured | State::Verified if drilled => State::Drilled,
            state => state,
        };
        Event::Kept {
            service: self.service.clone(),
            id: self.id.clone(),
            keys: self.part(SNAPSHOT).map(|_| self.counts.keys),
            bytes: self.plain_bytes(),
            proven: proven.as_str(),
        }
    }

    /// Of a snapshot, as far as its bytes tell. Which parts it has and how far it is proven is for the writer to add.
    pub fn of(capture: &Capture, summary: &Summary) -> Manifest {
        Manifest {
            format: FORMAT,
            id: capture.id.clone(),
            stack: capture.stack.to_string(),
            environment: capture.environment.to_string(),
            service: capture.service.clone(),
            taken_at: capture.taken_at.clone(),
            reason: capture.reason.clone(),
            change: capture.change,
            state: match summary.checksum {
                Checksum::Verified(_) => State::Captured,
                Checksum::Absent => State::Unverified,
            },
            server: match capture.server.as_str() {
                "" => summary.server().unwrap_or_else(|| "unknown".to_owned()),
                server => server.to_owned(),
            },
            image: capture.image.clone(),
            revision: capture.revision.to_string(),
            counts: Counts::from(summary),
            tool: tool(),
            ..Manifest::default()
        }
    }

    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Bytes of all parts before compression and encryption.
    pub fn plain_bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.plain_bytes))
    }

    pub fn stored_bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.stored_bytes))
    }

    /// Why nothing that it says may be relied on: it is of another format, or of another backup.
    pub fn foreign(&self, whose: [&str; 3]) -> Option<String> {
        if self.format != FORMAT {
            return Some(format!("its manifest has format {}, and this binary reads {FORMAT}", self.format));
        }
        if [self.stack.as_str(), self.environment.as_str(), self.id.as_str()] != whose {
            return Some(format!("its manifest is that of {}/{}/{}", self.stack, self.environment, self.id));
        }
        None
    }

    /// What is wrong with it beside the objects of its folder, by name and size; nothing is read for this.
    pub fn problem(&self, objects: &BTreeMap<&str, u64>) -> Option<String> {
        if self.parts.is_empty() {
            return Some("its manifest names no parts".to_owned());
        }
        for part in &self.parts {
            if !is_plain(&part.name) {
                return Some(format!("`{}` cannot name a part", part.name));
            }
            for (index, chunk) in part.chunks.iter().enumerate() {
                if chunk.name != chunk_name(&part.name, index + 1) || chunk.bytes > MAX_CHUNK {
                    return Some(format!("its manifest lists `{}` where no such piece can be", chunk.name));
                }
                match objects.get(chunk.name.as_str()) {
                    None => return Some(format!("`{}` is missing", chunk.name)),
                    Some(bytes) if *bytes != chunk.bytes => {
                        return Some(format!(
                            "`{}` has {bytes} bytes, and {} in the manifest",
                            chunk.name, chunk.bytes
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        None
    }
}

/// Whether a name can be part of a key in any store and of a path: no slash, nothing hidden, nothing long.
pub fn is_plain(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(known)
}

/// Whether this is how [`Capture::id`] is made: `cache-20261123T051200Z-0c1d2e`. Nothing else is ever removed.
pub fn is_id(name: &str) -> bool {
    let mut parts = name.rsplitn(3, '-');
    let (suffix, time, service) = (parts.next(), parts.next(), parts.next());
    let hex = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let time_like = |text: &str| {
        text.len() == 16
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 => b == b'T',
                15 => b == b'Z',
                _ => b.is_ascii_digit(),
            })
    };
    is_plain(name) && suffix.is_some_and(hex) && time.is_some_and(time_like) && service.is_some_and(|s| !s.is_empty())
}

/// How far a backup is proven by now: what its manifest says, and what was found out since, in order.
///
/// What failed last counts until something succeeds after it. A backup that lacks something, or that no checksum
/// vouches for, does not become whole by being read again.
pub fn state(manifest: &Manifest, proofs: &[Proof]) -> State {
    let written = if manifest.missing.is_empty() { manifest.state } else { State::Partial };
    let failed = proofs.iter().rposition(|proof| proof.kind == ProofKind::Failed);
    let since = proofs.get(failed.map_or(0, |at| at + 1)..).unwrap_or_default();
    let has = |kind| since.iter().any(|proof| proof.kind == kind);
    let (drilled, verified) = (has(ProofKind::Drilled), has(ProofKind::Verified));
    match written {
        _ if failed.is_some() && !drilled && !verified => State::Damaged,
        State::Partial => State::Partial,
        _ if drilled => State::Drilled,
        State::Captured if verified => State::Verified,
        written => written,
    }
}

/// The one backup that is meant by an abbreviation: all of its id, its beginning or its end.
///
/// Otherwise the ids that it could have been, which are none, several, or the ones that read much like it.
pub fn find<'a>(ids: &[&'a str], wanted: &str) -> Result<&'a str, Vec<&'a str>> {
    if let Some(id) = ids.iter().find(|id| **id == wanted) {
        return Ok(id);
    }
    let meant: Vec<&str> = match wanted {
        "" => Vec::new(),
        _ => ids.iter().filter(|id| id.starts_with(wanted) || id.ends_with(wanted)).copied().collect(),
    };
    match meant.as_slice() {
        [one] => Ok(one),
        [] => Err(crate::finding::nearest(wanted, ids.iter().copied()).into_iter().collect()),
        _ => Err(meant),
    }
}

/// `lockstep 0.1.0`
pub fn tool() -> String {
    concat!("lockstep ", env!("CARGO_PKG_VERSION")).to_owned()
}

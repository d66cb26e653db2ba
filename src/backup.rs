//! What a backup says about itself, and what makes one count.

use crate::rdb::{Checksum, Summary};
use crate::value::{Digest, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `manifest.json` beside a snapshot. Written last: a snapshot without one is not a backup.
///
/// Format 1. A newer writer raises the number; an older reader then lists the backup with that as its
/// problem rather than guess.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub id: String,
    pub stack: String,
    pub environment: String,
    pub service: String,
    /// RFC 3339, UTC: when the snapshot was complete.
    pub taken_at: String,
    pub reason: String,
    pub state: Proof,
    /// `redis 7.0.15`
    pub server: String,
    pub image: String,
    /// Hash of the desired state that the environment was taken under.
    pub revision: String,
    pub file: String,
    pub size_bytes: u64,
    pub sha256: String,
    /// `redis 10`: the format of the snapshot.
    pub rdb: String,
    pub crc64: String,
    pub keys: u64,
    pub expires: u64,
    pub databases: BTreeMap<String, u64>,
    pub types: BTreeMap<String, u64>,
    pub functions: u64,
    pub replication_id: String,
    pub replication_offset: i64,
    pub elapsed_ms: u64,
}

/// How far a backup has been proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Whole, walked to its end, its checksum present and right, on disk.
    Verified,
    /// Whole and walked to its end, but the server wrote no checksum.
    Unverified,
    /// The files of a server that did not run, hashed; the snapshots among them walked to their end.
    Copied,
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
    pub image: String,
    /// `redis 7.0.15`, as the server itself says; empty when it could not be asked.
    pub server: String,
    pub revision: Digest,
}

/// The name of a pulled snapshot's file.
pub const SNAPSHOT: &str = "dump.rdb";
/// The name of the copy of a volume.
pub const COPY: &str = "volume.tar";

pub fn manifest(
    capture: &Capture,
    summary: &Summary,
    sha256: &Digest,
    (replication_id, replication_offset): (&str, i64),
    elapsed_ms: u64,
) -> Manifest {
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    for database in summary.databases.values() {
        for (kind, count) in &database.by_type {
            *types.entry((*kind).to_owned()).or_default() += count;
        }
    }
    let (state, crc64) = match summary.checksum {
        Checksum::Verified(crc) => (Proof::Verified, format!("{crc:016x}")),
        Checksum::Absent => (Proof::Unverified, "absent".to_owned()),
    };
    let family = match summary.family {
        crate::rdb::Family::Redis => "redis",
        crate::rdb::Family::Valkey => "valkey",
    };
    Manifest {
        format: 1,
        id: capture.id.clone(),
        stack: capture.stack.to_string(),
        environment: capture.environment.to_string(),
        service: capture.service.clone(),
        taken_at: capture.taken_at.clone(),
        reason: capture.reason.clone(),
        state,
        server: match capture.server.as_str() {
            "" => summary.server_version.clone().unwrap_or_else(|| "unknown".to_owned()),
            server => server.to_owned(),
        },
        image: capture.image.clone(),
        revision: capture.revision.to_string(),
        file: SNAPSHOT.to_owned(),
        size_bytes: summary.bytes,
        sha256: sha256.to_string(),
        rdb: format!("{family} {}", summary.version),
        crc64,
        keys: summary.keys(),
        expires: summary.databases.values().map(|database| database.expires).sum(),
        databases: summary.databases.iter().map(|(number, database)| (number.to_string(), database.keys)).collect(),
        types,
        functions: summary.functions,
        replication_id: replication_id.to_owned(),
        replication_offset,
        elapsed_ms,
    }
}

/// The manifest of a copied volume; `snapshots` are those found among its files.
pub fn copy_manifest(
    capture: &Capture,
    snapshots: &[Summary],
    size_bytes: u64,
    sha256: &Digest,
    elapsed_ms: u64,
) -> Manifest {
    let empty = Summary {
        family: crate::rdb::Family::Redis,
        version: 0,
        server_version: None,
        replication_id: None,
        replication_offset: None,
        used_memory: None,
        created_unix: None,
        databases: BTreeMap::new(),
        functions: 0,
        module_aux: 0,
        empty_keys: 0,
        checksum: Checksum::Absent,
        bytes: size_bytes,
    };
    // The last snapshot written holds the most; what an append-only file adds to it is not counted.
    let newest = snapshots.iter().max_by_key(|summary| summary.created_unix).unwrap_or(&empty);
    Manifest {
        state: Proof::Copied,
        file: COPY.to_owned(),
        size_bytes,
        ..manifest(capture, newest, sha256, ("", 0), elapsed_ms)
    }
}

/// Stands in a list for a backup whose manifest does not read.
pub fn unreadable(id: String) -> Manifest {
    Manifest {
        format: 0,
        id,
        stack: String::new(),
        environment: String::new(),
        service: String::new(),
        taken_at: String::new(),
        reason: String::new(),
        state: Proof::Unverified,
        server: String::new(),
        image: String::new(),
        revision: String::new(),
        file: String::new(),
        size_bytes: 0,
        sha256: String::new(),
        rdb: String::new(),
        crc64: String::new(),
        keys: 0,
        expires: 0,
        databases: BTreeMap::new(),
        types: BTreeMap::new(),
        functions: 0,
        replication_id: String::new(),
        replication_offset: 0,
        elapsed_ms: 0,
    }
}

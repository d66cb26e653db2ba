//! Whether what was restored is there: the server's data is pulled, and the digest of the restored keys compared.
//!
//! The backup is read again, as the restore read it. Keys that expire before the server is known to have made its
//! snapshot are left out on both sides, and so are all keys that were not restored. That takes eight bytes a key.

use super::{Names, RestoreError, Session};
use crate::digest::{Hasher, Key, Keyspace, Lane};
use crate::rdb::{Frames, RdbError, Record, Room};
use crate::redis::pull::{self, PullError};
use crate::restore::{Choice, Way};
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// What a proof has found.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// Keys compared.
    pub keys: u64,
    /// Of these, keys that are on the server.
    pub found: u64,
    /// In what the two sides differ.
    pub differs: Vec<&'static str>,
    /// Keys that expire too soon to be compared.
    pub too_soon: u64,
    /// Whether the counters of streams were not compared: the backup lacks them, or a form without them was used.
    pub without_stream_counters: bool,
}

impl Proof {
    pub fn holds(&self) -> bool {
        self.differs.is_empty() && self.keys == self.found
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds() {
            true => write!(f, "{} keys are there as they were restored", self.keys)?,
            false if self.keys != self.found => write!(f, "{} of {} keys are there", self.found, self.keys)?,
            false => write!(f, "{} keys are there, not as they were restored", self.keys)?,
        }
        if !self.differs.is_empty() {
            write!(f, "; they differ in: {}", self.differs.join(", "))?;
        }
        if self.too_soon > 0 {
            write!(f, "; {} expire too soon to be compared", self.too_soon)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub enum ProveError {
    Backup(RdbError),
    Pull(PullError),
    Server(RestoreError),
    /// More keys were skipped than are remembered.
    TooManySkipped,
    /// The server took longer for its snapshot than was allowed for.
    TookLonger(Duration),
}

impl fmt::Display for ProveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProveError::Backup(error) => write!(f, "could not read the backup again: {error}"),
            ProveError::Pull(error) => write!(f, "could not pull what is there: {error}"),
            ProveError::Server(error) => error.fmt(f),
            ProveError::TooManySkipped => {
                f.write_str("so many keys were skipped that the others cannot be told apart; compare by patterns")
            }
            ProveError::TookLonger(allowed) => {
                write!(f, "the server took longer than {allowed:?} to begin its snapshot; allow more, and prove again")
            }
        }
    }
}

impl Error for ProveError {}

impl Session {
    /// Compares what is on the server with what a restore of this choice, begun at `began_ms`, has put there.
    ///
    /// `allowance` is how long the server may take to begin its snapshot: keys that expire within it are not compared.
    ///
    /// # Errors
    /// What keeps one of the two sides from being read.
    pub fn prove(
        &self,
        backup: impl Read,
        choice: &Choice,
        began_ms: i64,
        skipped: &Names,
        allowance: Duration,
        digest: &Key,
    ) -> Result<Proof, ProveError> {
        if skipped.overflowed {
            return Err(ProveError::TooManySkipped);
        }
        let allowed_ms = i64::try_from(allowance.as_millis()).unwrap_or(i64::MAX);
        let until_ms = self.now_ms().saturating_add(allowed_ms);
        let (expected, restored, way) =
            self.expected(backup, choice, began_ms, until_ms, skipped, digest).map_err(ProveError::Backup)?;
        let restored = Arc::new(restored);
        let filter = move |database: u64, key: &[u8]| restored.has(database, key);
        let hasher = Hasher::new(digest, Some(until_ms)).only(Arc::new(filter));
        let pulled = pull::pull(&self.at, &hasher, &mut io::sink(), &mut |_, _| ()).map_err(ProveError::Pull)?;
        if pulled.summary.created_unix.is_some_and(|seconds| seconds.saturating_mul(1000) >= until_ms) {
            return Err(ProveError::TookLonger(allowance));
        }
        // What the backup does not say of its streams the server has made up.
        let without_stream_counters = way.is_some_and(|way| way.loses_stream_counters()) || !expected.counts();
        let compared = |lane: &Lane| match lane {
            // Other libraries may be there as well.
            Lane::Functions => false,
            Lane::StreamCounters => !without_stream_counters,
            _ => true,
        };
        let differs = expected.differs(&pulled.keyspace).into_iter().filter(compared).map(Lane::name).collect();
        Ok(Proof {
            keys: expected.keys,
            found: pulled.keyspace.keys,
            differs,
            too_soon: expected.expired,
            without_stream_counters,
        })
    }

    fn expected(
        &self,
        backup: impl Read,
        choice: &Choice,
        began_ms: i64,
        until_ms: i64,
        skipped: &Names,
        digest: &Key,
    ) -> Result<(Keyspace, Names, Option<Way>), RdbError> {
        let mut hasher = Hasher::new(digest, Some(until_ms));
        let mut restored = skipped.like();
        let (mut room, mut name, mut way) = (Room::default(), Vec::new(), None);
        let mut frames = Frames::new(backup);
        while let Some(batch) = frames.next_batch()? {
            let summary = frames.summary();
            let created_ms = choice.created_ms.or(summary.created_unix.map(|seconds| seconds.saturating_mul(1000)));
            let created_ms = created_ms.unwrap_or(began_ms);
            let form = *way.get_or_insert_with(|| Way::choose(summary.family, summary.version, self.server));
            let fields_lost = choice.lose_field_expiries && form.loses_field_expiries();
            for record in batch.records() {
                let Record::Key(mut entry) = record? else { continue };
                let key = entry.key(&mut name)?;
                if !choice.has(key) || skipped.has(entry.database, key) {
                    continue;
                }
                let key = key.to_vec();
                entry.expires_at_ms = choice.ttl.apply(entry.expires_at_ms, created_ms, began_ms);
                let field = |expiry| match fields_lost {
                    true => None,
                    false => choice.ttl.apply(expiry, created_ms, began_ms),
                };
                let before = hasher.keyspace.keys;
                hasher.add_with(&entry, field, &mut room)?;
                // What has expired, or is empty, was not restored; another key of its name may be there.
                if hasher.keyspace.keys > before {
                    restored.add(entry.database, &key, usize::MAX);
                }
            }
            frames.recycle(batch);
        }
        restored.sort();
        Ok((hasher.keyspace, restored, way))
    }
}

//! What restoring into a running server means, as far as it can be said without one.
//!
//! [`forecast`] tells from a backup and what a server says of itself what a restore will come to; [`Glob`] chooses
//! keys, [`Ttl`] moves their expiries, [`Way`] chooses the form that the server can load, and a [`journal`] keeps what
//! was there before. The restore itself is `redis::restore`.

pub mod forecast;
pub mod journal;

pub use forecast::{Facts, Forecast, forecast};

use crate::rdb::{Entry, Family, Form, Target, Type};
use crate::value::{Glob, ServerVersion};
use serde::Serialize;

/// What becomes of the expiries in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ttl {
    /// They stay the moments that they are; what has passed since the backup is not restored.
    #[default]
    Keep,
    /// All move by the backup's age, so that every key has the time left that it had then.
    Shift,
    /// Nothing that is restored expires.
    Drop,
}

impl Ttl {
    pub fn parse(text: &str) -> Option<Ttl> {
        match text {
            "keep" => Some(Ttl::Keep),
            "shift" => Some(Ttl::Shift),
            "drop" => Some(Ttl::Drop),
            _ => None,
        }
    }

    /// The expiry that a key or a field of a hash gets. All in milliseconds since 1970.
    ///
    /// A backup from the future, which is one of two clocks being wrong, moves nothing: no expiry ever comes nearer.
    #[must_use]
    pub fn apply(self, expires_at_ms: Option<i64>, created_ms: i64, now_ms: i64) -> Option<i64> {
        match self {
            Ttl::Keep => expires_at_ms,
            Ttl::Shift => expires_at_ms.map(|expiry| expiry.saturating_add(age(created_ms, now_ms))),
            Ttl::Drop => None,
        }
    }
}

fn age(created_ms: i64, now_ms: i64) -> i64 {
    now_ms.saturating_sub(created_ms).max(0)
}

/// What happens to a key that the server has already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// The backup's value takes its place; the journal keeps the old one.
    #[default]
    Replace,
    /// It stays, whatever it holds.
    Skip,
    /// The restore ends there.
    Refuse,
}

/// How values are written so that a server loads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub form: Form,
    /// Who wrote the backup.
    written: Target,
    server: ServerVersion,
}

/// The version that everything but streams and expiring fields is stamped with: every server from 5.0 on takes it.
const PLAIN: u32 = 9;

impl Way {
    /// The values as they are where the server reads the backup's version, or else in plain form.
    #[must_use]
    pub fn choose(family: Family, version: u32, server: ServerVersion) -> Way {
        let form = if server.reads_snapshot(family, version) { Form::AsWritten } else { Form::Plain };
        Way { form, written: Target { family, version }, server }
    }

    /// The form of one value, and the version that its payload is stamped with.
    #[must_use]
    pub fn of(&self, entry: &Entry<'_>, ttl: Ttl) -> (Target, Form) {
        // Expiries of fields lie inside the value, and only the plain form can change them.
        let moves_fields = entry.expires_fields() && ttl != Ttl::Keep;
        if self.form == Form::AsWritten && !moves_fields {
            return (self.written, Form::AsWritten);
        }
        let target = match entry.kind {
            Type::Stream => Target { family: Family::Redis, version: self.server.rdb_version().min(11) },
            Type::Hash if entry.expires_fields() && self.server.expires_fields() => match self.server.family {
                Family::Redis => Target { family: Family::Redis, version: 12 },
                Family::Valkey => Target { family: Family::Valkey, version: 80 },
            },
            _ => Target { family: Family::Redis, version: PLAIN },
        };
        (target, Form::Plain)
    }

    /// Whether the counters that streams have since 7.0 get lost.
    #[must_use]
    pub fn loses_stream_counters(&self) -> bool {
        self.form == Form::Plain && self.server.rdb_version() < 10
    }

    /// Whether what fields of hashes expire by gets lost.
    #[must_use]
    pub fn loses_field_expiries(&self) -> bool {
        self.form == Form::Plain && !self.server.expires_fields()
    }
}

/// Which part of a backup is restored, and how.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// A key is restored when one of these matches it; all keys when there is none.
    pub keys: Vec<Glob>,
    pub ttl: Ttl,
    pub existing: Existing,
    /// When the backup was made, in milliseconds since 1970; what the snapshot says when not given.
    pub created_ms: Option<i64>,
    /// Whether hashes may lose the expiries of their fields on a server that has none. Such a restore is refused
    /// otherwise.
    pub lose_field_expiries: bool,
}

impl Choice {
    /// Whether no keys are named: then what is no key goes along.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.keys.is_empty()
    }

    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        self.keys.is_empty() || self.keys.iter().any(|pattern| pattern.matches(key))
    }
}

//! What a stack does, in numbers: what was captured of it, what two captures say beside each other, which bounds and
//! rules they break, and what was expected of them.
//!
//! Pure: who asks, and when, is `world::probe`. What could not be asked is a problem in words, never a zero.

mod bounds;
mod compare;
pub mod expectation;
pub mod keys;
pub mod shape;
pub mod statistics;
mod watch;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use bounds::{blamed, violations};
pub use compare::{compare, measures};
pub use watch::{Sight, Watched, cooled, line_refused, lived};

/// The most times of one probe that are taken, and the rounds in which they are.
pub const MOST_TIMES: usize = 100;
pub const ROUNDS: usize = 4;

/// What an environment did over a few seconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Capture {
    pub format: u32,
    /// When it began, RFC 3339.
    pub at: String,
    pub probes: BTreeMap<String, Probed>,
    /// By Redis service.
    pub servers: BTreeMap<String, Served>,
    /// What the keys of each Redis are, where there are rules for them.
    pub keys: BTreeMap<String, Counted>,
    /// The containers of all services.
    pub lives: BTreeMap<String, Life>,
}

impl Capture {
    pub const FORMAT: u32 = 1;
}

/// What came of asking for one thing over and over.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Probed {
    /// Microseconds until the whole answer was there, by round; the first of each round are left out.
    pub rounds: Vec<Vec<u32>>,
    /// How many answers had which status.
    pub statuses: BTreeMap<u16, u32>,
    /// What was seen of each header that the spec names; an empty text where it was absent.
    pub headers: BTreeMap<String, BTreeSet<String>>,
    /// SHA-256 of the bodies, a few of them.
    pub bodies: BTreeSet<String>,
    /// Of the last answer.
    pub body_bytes: Option<u64>,
    /// Why there is nothing more.
    pub problem: Option<String>,
}

impl Probed {
    pub fn times(&self) -> statistics::Times {
        let ms = |round: &Vec<u32>| round.iter().map(|micros| f64::from(*micros) / 1000.0).collect();
        statistics::Times::new(&self.rounds.iter().map(ms).collect::<Vec<_>>())
    }
}

/// What a server says of its work, ahead of the probes and after them.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Served {
    /// Another one after a restart, which starts all counters anew.
    pub run: String,
    pub start: Counters,
    pub end: Counters,
    /// Of the entries that the slow log still has, without what was asked.
    pub slowest_us: Option<u64>,
    /// Calls by time for each command since the server started; empty before 7.0.
    pub histograms: BTreeMap<String, Histogram>,
    pub problem: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub uptime_seconds: u64,
    pub hits: u64,
    pub misses: u64,
    pub evicted: u64,
    pub expired: u64,
    pub commands: u64,
    /// Entries that the slow log ever had.
    pub slow: u64,
    pub used_memory: u64,
    pub clients: u64,
    pub keys: u64,
}

/// Upper edges in microseconds, with the number of calls that took at most so long.
pub type Histogram = Vec<(u64, u64)>;

/// What a snapshot says of the keys of one Redis.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// By pattern.
    pub rules: BTreeMap<String, RuleCount>,
    /// Keys that no rule matches.
    pub unruled: u64,
    /// A few prefixes of theirs, with how many have each.
    pub unruled_prefixes: BTreeMap<String, u64>,
    pub problem: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RuleCount {
    pub keys: u64,
    pub with_expiry: u64,
    pub wrong_type: Broken,
    /// No expiry, where the rule wants one.
    pub endless: Broken,
    /// More left to live than the rule gives them.
    pub too_long: Broken,
}

/// Keys that break a rule in one way, with a few of their prefixes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Broken {
    pub keys: u64,
    pub prefixes: BTreeSet<String>,
}

/// What the engine says of a container that lives.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Life {
    pub id: String,
    pub running: bool,
    /// How often the engine started it again by itself.
    pub restarts: u64,
    pub started_at: String,
    pub out_of_memory: bool,
    pub exit_code: i64,
}

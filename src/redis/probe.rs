//! How a server works, as it says itself and as one of its users sees it: counters, slow log, times of commands.

use crate::probe::{Counters, Histogram};
use crate::redis::link::{Link, LinkError, Reply};
use crate::redis::observe::keys;
use crate::redis::pull::Source;
use crate::redis::{Server, ServerError};
use crate::value::Secret;
use ::redis::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Entries of the slow log that are looked at.
const ENTRIES: u32 = 64;
/// Commands whose times are kept.
const COMMANDS: usize = 256;
/// The longest answer that a probe takes.
const LONGEST_ANSWER: u64 = 8 << 20;

/// What no probe may ask for, in the server's own categories.
const REFUSED: [&str; 7] = ["write", "dangerous", "blocking", "pubsub", "scripting", "transaction", "connection"];
/// Of those categories, what changes nothing and answers once.
const ALLOWED: [&str; 5] = ["ping", "echo", "eval_ro", "evalsha_ro", "fcall_ro"];

/// The slow log, without what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlowLog {
    /// Entries that there ever were, as far as the newest tells.
    pub ever: u64,
    pub slowest_us: Option<u64>,
}

impl Server {
    /// Which run of the server it is, and its counters.
    pub async fn counters(&self) -> Result<(String, Counters, SlowLog), ServerError> {
        let mut command = ::redis::cmd("SLOWLOG");
        let (info, entries) = tokio::join!(self.info(), self.ask::<Value>(command.arg("GET").arg(ENTRIES)));
        let (info, slow) = (info?, slow_log(&entries?));
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let counters = Counters {
            uptime_seconds: number("uptime_in_seconds"),
            hits: number("keyspace_hits"),
            misses: number("keyspace_misses"),
            evicted: number("evicted_keys"),
            expired: number("expired_keys"),
            commands: number("total_commands_processed"),
            slow: slow.ever,
            used_memory: number("used_memory"),
            clients: number("connected_clients"),
            keys: keys(&info).values().sum(),
        };
        Ok((info.get("run_id").cloned().unwrap_or_default(), counters, slow))
    }

    /// Keys by database, and for how long the server stood still for its last fork, in microseconds.
    pub async fn burden(&self) -> Result<(BTreeMap<u64, u64>, u64), ServerError> {
        let info = self.info().await?;
        let fork = info.get("latest_fork_usec").and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((keys(&info), fork))
    }

    /// Calls by time for each command since the server started. Servers before 7.0 do not count that: none.
    pub async fn histograms(&self) -> Result<BTreeMap<String, Histogram>, ServerError> {
        if !self.version().await?.speaks(7, 0) {
            return Ok(BTreeMap::new());
        }
        match self.ask::<Value>(::redis::cmd("LATENCY").arg("HISTOGRAM")).await {
            Ok(answer) => Ok(histograms(&answer)),
            Err(ServerError::Refused(_) | ServerError::Denied(_)) => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Why a command may not be a probe, by what this server says of it; nothing when it may.
    pub async fn refuses_as_probe(&self, words: &[String]) -> Result<Option<String>, ServerError> {
        let word = |at: usize| words.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        let (command, with_argument) = (word(0), format!("{}|{}", word(0), word(1)));
        if ALLOWED.contains(&command.as_str()) {
            return Ok(None);
        }
        let categories = self.categories(REFUSED.into_iter().chain(["read", "slow", "fast"])).await?;
        let listed = |category: &str| {
            categories.get(category).is_some_and(|names| names.contains(&command) || names.contains(&with_argument))
        };
        if let Some(category) = REFUSED.into_iter().find(|category| listed(category)) {
            return Ok(Some(format!("`{command}` is in the server's category `{category}`; a probe only reads")));
        }
        let known = categories.keys().any(|category| listed(category));
        Ok((!known).then(|| format!("the server has no command `{command}`")))
    }
}

fn slow_log(answer: &Value) -> SlowLog {
    let Value::Array(entries) = answer else { return SlowLog::default() };
    let field = |entry: &Value, at: usize| match entry {
        Value::Array(fields) => match fields.get(at) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        },
        _ => None,
    };
    let newest = entries.iter().filter_map(|entry| field(entry, 0)).max();
    let slowest_us = entries.iter().filter_map(|entry| field(entry, 2)).max();
    SlowLog { ever: newest.map_or(0, |newest| newest.saturating_add(1)), slowest_us }
}

fn text(value: &Value) -> Option<String> {
    ::redis::from_redis_value_ref::<String>(value).ok()
}

/// `[name, [calls, n, histogram_usec, [edge, calls, ...]], ...]`
fn histograms(answer: &Value) -> BTreeMap<String, Histogram> {
    let Value::Array(items) = answer else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for pair in items.chunks(2).take(COMMANDS) {
        let [name, Value::Array(fields)] = pair else { continue };
        let edges = fields.chunks(2).find_map(|field| match field {
            [key, Value::Array(edges)] if text(key).as_deref() == Some("histogram_usec") => Some(edges),
            _ => None,
        });
        let histogram = edges.into_iter().flat_map(|edges| edges.chunks(2)).filter_map(|edge| match edge {
            [Value::Int(edge), Value::Int(calls)] => Some((u64::try_from(*edge).ok()?, u64::try_from(*calls).ok()?)),
            _ => None,
        });
        found.extend(text(name).map(|name| (name, histogram.collect())));
    }
    found
}

/// One user of a server, who asks the same thing over and over. Blocking on purpose: what is measured is the wait for
/// the answer and nothing that a runtime does meanwhile.
pub struct Asker {
    link: Link,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker")
    }
}

impl Asker {
    /// Connects and signs in; no answer may take longer than `timeout`.
    pub fn connect(address: SocketAddr, user: &str, password: &Secret, timeout: Duration) -> Result<Asker, AskError> {
        Ok(Asker { link: Link::sign_in(&Source::new(address, user, password, timeout)).map_err(AskError)? })
    }

    /// Asks once and says how long the whole answer took, or what the server said against it.
    pub fn ask(&mut self, words: &[String]) -> Result<Result<Duration, String>, AskError> {
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let began = Instant::now();
        let answer = self.link.ask_within(&words, LONGEST_ANSWER).map_err(AskError)?;
        let elapsed = began.elapsed();
        Ok(match answer {
            Reply::Error(_) => Err(answer.shown()),
            _ => Ok(elapsed),
        })
    }
}

/// Why a user could not ask.
#[derive(Debug)]
pub struct AskError(LinkError);

impl AskError {
    /// Whether another password might do.
    pub fn is_credentials(&self) -> bool {
        matches!(self.0, LinkError::Credentials { .. })
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for AskError {}

//! What the keys of a Redis are like, rule by rule, beside those of another environment: not which keys there are, but of
//! which kinds, how large, and how long they live.
//!
//! A shape may be that of a sample, and says so with its error. Names of keys are not kept, prefixes are.

use super::{Level, Verification};
use crate::finding::{Finding, Seen};
use crate::value::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// What keys that no rule matches go by.
pub const UNRULED: &str = "(no rule)";
/// Fewer keys than this say nothing of a habit.
const ENOUGH: u64 = 50;
/// Shares may differ so much beyond what the samples leave open.
const SHARE: f64 = 0.10;
/// Of the encodings, so many keys may be in others.
const ENCODINGS: f64 = 0.20;
/// What is left of a life depends on when a key was written, and so may differ by this factor.
const LIFE: f64 = 3.0;
const MEDIAN_SIZE: f64 = 2.0;
const LARGE_SIZE: f64 = 4.0;
/// A type that so few have is an accident.
const RARE: f64 = 0.05;
/// Of the largest values, so many are kept.
pub const BIGGEST: usize = 5;

/// The keys of one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shape {
    /// As the server says its version.
    pub version: String,
    /// As many as the server has, and as many as were looked at.
    pub keys: u64,
    pub read: u64,
    /// By pattern, and those without a rule.
    pub groups: BTreeMap<String, Group>,
    pub cost: Cost,
}

/// What looking took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    pub milliseconds: u64,
    /// Of the snapshot, read over the network.
    pub bytes: u64,
    /// For how long the server stood still to fork.
    pub fork_microseconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    pub keys: u64,
    pub types: BTreeMap<String, u64>,
    /// As they lie in the snapshot.
    pub encodings: BTreeMap<String, u64>,
    pub with_expiry: u64,
    /// Seconds left to live, of those that expire.
    pub ttl_seconds: Spread,
    /// Of the values, as they lie in the snapshot.
    pub bytes: Spread,
    /// Prefix and bytes of the largest values, the largest first.
    pub biggest: Vec<(String, u64)>,
    /// Prefixes of those that no rule matches.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prefixes: BTreeMap<String, u64>,
}

/// How numbers spread, kept in steps of a fifth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    steps: BTreeMap<u16, u64>,
    pub most: u64,
}

/// Steps to a doubling.
const STEPS: f64 = 4.0;

impl Spread {
    pub fn add(&mut self, number: u64) {
        let step = ((number.max(1) as f64).log2() * STEPS).floor();
        *self.steps.entry(step as u16).or_default() += 1;
        self.most = self.most.max(number);
    }

    pub fn count(&self) -> u64 {
        self.steps.values().sum()
    }

    /// The middle of the step in which that share of all numbers ends.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (step, count) in &self.steps {
            seen += count;
            if seen >= wanted {
                let middle = 2_f64.powf((f64::from(*step) + 0.5) / STEPS);
                return Some(middle.min(self.most as f64));
            }
        }
        None
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, share) in [("p5", 0.05), ("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            map.serialize_entry(name, &self.percentile(share).map(f64::round))?;
        }
        map.serialize_entry("most", &self.most)?;
        // By the power of two that is not reached.
        let mut doublings: BTreeMap<u32, u64> = BTreeMap::new();
        for (step, count) in &self.steps {
            *doublings.entry(u32::from(*step) / 4 + 1).or_default() += count;
        }
        let below: Vec<(f64, u64)> =
            doublings.into_iter().map(|(power, n)| (2_f64.powf(f64::from(power)), n)).collect();
        map.serialize_entry("below", &below)?;
        map.end()
    }
}

impl Shape {
    /// How far a share of all keys may be off, nineteen times in twenty; nothing where all were read.
    pub fn error(&self) -> f64 {
        off(self.read, self.keys)
    }

    fn share(&self, group: &Group) -> f64 {
        part(group.keys, self.read)
    }

    /// How far a share of the keys of a group may be off.
    fn group_error(&self, group: &Group) -> f64 {
        let all = (self.share(group) * self.keys as f64).round();
        off(group.keys, (all as u64).max(group.keys))
    }
}

/// The widest 95% interval of a share, for a sample of so many out of so many.
fn off(sample: u64, all: u64) -> f64 {
    if sample == 0 || sample >= all {
        return if sample == 0 && all > 0 { 1.0 } else { 0.0 };
    }
    let left = (all - sample) as f64 / (all.saturating_sub(1)).max(1) as f64;
    1.96 * (0.25 / sample as f64 * left).sqrt()
}

fn part(some: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.*}%", usize::from(share < 0.1 && share > 0.0), share * 100.0)
}

/// One thing in which two groups are unlike.
struct Unlike {
    aspect: &'static str,
    /// What it is called in a sentence.
    what: &'static str,
    sides: (String, String),
    severe: bool,
}

fn unlike(left: (&Shape, &Group), right: (&Shape, &Group)) -> Vec<Unlike> {
    let mut found = Vec::new();
    let mut put = |aspect, what, sides, severe| found.push(Unlike { aspect, what, sides, severe });
    let ((one, a), (two, b)) = (left, right);
    let (s, t) = (one.share(a), two.share(b));
    if one.read.min(two.read) >= ENOUGH && (s - t).abs() > SHARE + one.error() + two.error() {
        put("share", "their share of all keys", (percent(s), percent(t)), false);
    }
    if a.keys.min(b.keys) < ENOUGH {
        return found;
    }
    let names = |of: &BTreeMap<String, u64>| of.keys().cloned().collect::<Vec<_>>().join(", ");
    let lacks = |of: &Group, other: &Group| {
        of.types.iter().any(|(kind, n)| part(*n, of.keys) >= RARE && !other.types.contains_key(kind))
    };
    if lacks(a, b) || lacks(b, a) {
        put("type", "their type", (names(&a.types), names(&b.types)), true);
    } else if one.version == two.version {
        let kinds: BTreeSet<&String> = a.encodings.keys().chain(b.encodings.keys()).collect();
        let of = |group: &Group, kind: &String| part(group.encodings.get(kind).copied().unwrap_or(0), group.keys);
        let apart: f64 = kinds.iter().map(|kind| (of(a, kind) - of(b, kind)).abs()).sum::<f64>() / 2.0;
        if apart > ENCODINGS + one.group_error(a) + two.group_error(b) {
            put("encoding", "their encoding", (mix(&a.encodings, a.keys), mix(&b.encodings, b.keys)), false);
        }
    }
    let (c, d) = (part(a.with_expiry, a.keys), part(b.with_expiry, b.keys));
    if (c - d).abs() > SHARE + one.group_error(a) + two.group_error(b) {
        put("expiry", "how many of them expire", (percent(c), percent(d)), false);
    }
    if a.with_expiry.min(b.with_expiry) >= ENOUGH
        && let (Some(x), Some(y)) = (a.ttl_seconds.percentile(0.95), b.ttl_seconds.percentile(0.95))
        && x.max(y) > LIFE * x.min(y).max(1.0)
    {
        put("ttl", "the time they have left (p95)", (seconds(x), seconds(y)), false);
    }
    for (share, factor) in [(0.5, MEDIAN_SIZE), (0.95, LARGE_SIZE)] {
        if let (Some(x), Some(y)) = (a.bytes.percentile(share), b.bytes.percentile(share))
            && x.max(y) > factor * x.min(y).max(16.0)
        {
            let what = if share < 0.9 { "the size of their values (p50)" } else { "the size of their values (p95)" };
            put("size", what, (size(x), size(y)), false);
            break;
        }
    }
    found
}

fn mix(of: &BTreeMap<String, u64>, all: u64) -> String {
    of.iter().map(|(name, n)| format!("{name} {}", percent(part(*n, all)))).collect::<Vec<_>>().join(", ")
}

fn seconds(number: f64) -> String {
    match number {
        days if days >= 172_800.0 => format!("{:.0}d", days / 86_400.0),
        hours if hours >= 7_200.0 => format!("{:.0}h", hours / 3_600.0),
        minutes if minutes >= 120.0 => format!("{:.0}m", minutes / 60.0),
        seconds => format!("{seconds:.0}s"),
    }
}

fn size(number: f64) -> String {
    match number.round() as u64 {
        small @ ..1024 => format!("{small}b"),
        kilo @ ..1_048_576 => Bytes(kilo / 1024 * 1024).to_string(),
        mega => Bytes(mega / 1_048_576 * 1_048_576).to_string(),
    }
}

/// The shape of one Redis of one environment, or why it is not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shaped {
    pub environment: String,
    pub service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Verification {
    /// Takes in the shapes of one service, of the reference first, and what they say beside it.
    pub fn shapes(&mut self, shaped: Vec<Shaped>) {
        let Some((reference, others)) = shaped.split_first() else { return };
        for one in &shaped {
            if let Some(why) = &one.unknown {
                let said = format!("the shape of what container/{} holds could not be read: {why}", one.service);
                let subject = format!("container/{} keys", one.service);
                self.findings.push(seen(&one.environment, Finding::error("unknown", said).about(subject)));
            }
        }
        for other in others {
            let (Some(left), Some(right)) = (&reference.shape, &other.shape) else { continue };
            let nothing = Group::default();
            let patterns: BTreeSet<&String> = left.groups.keys().chain(right.groups.keys()).collect();
            for pattern in patterns {
                let of = |shape: &'_ Shape| shape.groups.get(pattern).cloned().unwrap_or_else(|| nothing.clone());
                let (a, b) = (of(left), of(right));
                for Unlike { aspect, what, sides, severe } in unlike((left, &a), (right, &b)) {
                    let (one, two) = (&reference.environment, &other.environment);
                    let said = format!(
                        "of the keys `{pattern}` of container/{}, {what} is {} in {one} and {} in {two}",
                        other.service, sides.0, sides.1
                    );
                    let finding = if severe { Finding::error("shape", said) } else { Finding::warning("shape", said) };
                    let subject = format!("container/{} keys.{pattern}.{aspect}", other.service);
                    let help = "what writes them does it differently there, or has not done so for as long";
                    self.findings.push(seen(two, finding.about(subject).sides(sides.0, sides.1).help(help)));
                }
            }
            self.compared(&other.environment, u64::try_from(right.groups.len()).unwrap_or(u64::MAX));
        }
        self.shapes.extend(shaped);
    }

    fn compared(&mut self, environment: &str, facts: u64) {
        let row = self.matrix.iter_mut().filter(|row| row.environment == environment).flat_map(|row| &mut row.levels);
        for proof in row.chain(&mut self.levels).filter(|proof| proof.level == Level::Process) {
            proof.compared += facts;
        }
    }
}

fn seen(environment: &str, finding: Finding) -> Finding {
    finding.seen(Seen {
        environment: environment.to_owned(),
        level: Level::Process.as_str(),
        source: "a snapshot of the server",
        at: None,
        since: None,
    })
}

/// The heads of [`rows`].
pub const HEADS: [&str; 9] =
    ["keys", "environment", "about", "share", "type", "expire", "left p50 - p95", "bytes p50 - p95", "largest"];

/// All shapes as a table, rule by rule, the environments beneath each other.
pub fn rows(shapes: &[Shaped]) -> Vec<[String; 9]> {
    let known: Vec<(&Shaped, &Shape)> = shapes.iter().filter_map(|of| Some((of, of.shape.as_ref()?))).collect();
    let mut lines: Vec<(&str, &str)> = known
        .iter()
        .flat_map(|(of, shape)| shape.groups.keys().map(|name| (of.service.as_str(), name.as_str())))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let mut rows = Vec::new();
    for (service, pattern) in lines {
        for (of, shape) in known.iter().filter(|(of, _)| of.service == service) {
            let Some(group) = shape.groups.get(pattern) else { continue };
            let about = (shape.share(group) * shape.keys as f64).round() as u64;
            let range =
                |spread: &Spread, word: fn(f64) -> String| match (spread.percentile(0.5), spread.percentile(0.95)) {
                    (Some(low), Some(high)) => format!("{} - {}", word(low), word(high)),
                    _ => "-".to_owned(),
                };
            rows.push([
                format!("{service} {pattern}"),
                of.environment.clone(),
                about.to_string(),
                percent(shape.share(group)),
                group.types.keys().cloned().collect::<Vec<_>>().join(" "),
                percent(part(group.with_expiry, group.keys)),
                range(&group.ttl_seconds, seconds),
                range(&group.bytes, size),
                group
                    .biggest
                    .first()
                    .map(|(prefix, bytes)| format!("{prefix} {}", size(*bytes as f64)))
                    .unwrap_or_default(),
            ]);
        }
    }
    rows
}

/// How much was looked at, how far that may be off, and what it cost, a line for each server.
pub fn costs(shapes: &[Shaped]) -> Vec<String> {
    let line = |of: &Shaped| {
        let shape = of.shape.as_ref()?;
        let Cost { milliseconds, bytes, fork_microseconds } = shape.cost;
        let error = match shape.error() {
            0.0 => "all of them".to_owned(),
            error => format!("shares within {:.1} points", error * 100.0),
        };
        Some(format!(
            "{} of {}: {} of {} keys read, {error}; {} ms, {} of a snapshot, a fork of {:.1} ms",
            of.service,
            of.environment,
            shape.read,
            shape.keys,
            milliseconds,
            size(bytes as f64),
            fork_microseconds as f64 / 1000.0
        ))
    };
    shapes.iter().filter_map(line).collect()
}

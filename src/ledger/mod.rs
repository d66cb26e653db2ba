//! The record of every change: what was begun, how it ended, and the chain that shows whether anybody touched either.
//!
//! A change has two records, `00000007-begin.json` and `00000007-end.json`. Each carries the hash of the record before
//! it and a seal over its own text. A begin without an end is a change that is not finished.

pub mod chain;
pub(crate) mod markdown;
pub mod note;

pub use chain::{Anchor, Broken};

use crate::finding::nearest;
use crate::measure::{Expectation, Measure};
use crate::value::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The format that this binary writes and reads. A later one is listed with that as its problem.
pub const FORMAT: u32 = 1;
/// No record is larger; most of it is the text of the project.
pub const MAX_RECORD: u64 = 32 << 20;
/// No ledger gets there; a name that says so is none of ours.
const MAX_NUMBER: u64 = 1_000_000_000_000;
/// More files than this are counted and not named.
pub const MAX_TOUCHED: usize = 200;

/// The two records of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    #[default]
    Begin,
    End,
}

impl Part {
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Begin => "begin",
            Part::End => "end",
        }
    }
}

/// `00000007-begin.json`
pub fn file_name(number: u64, part: Part) -> String {
    format!("{number:08}-{}.json", part.as_str())
}

/// The number and the part that a name of a record says; `None` for what is no such name.
pub fn parse_file_name(name: &str) -> Option<(u64, Part)> {
    let (digits, rest) = name.split_once('-')?;
    let part = [Part::Begin, Part::End].into_iter().find(|part| rest.strip_suffix(".json") == Some(part.as_str()))?;
    let number = digits.parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number))?;
    (file_name(number, part) == name).then_some((number, part))
}

/// Who did it, as far as the machine knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Who {
    pub user: String,
    pub host: String,
    pub process: u32,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.user.as_str(), self.host.as_str()) {
            ("", "") => f.write_str("nobody knows who"),
            (user, "") => f.write_str(user),
            (user, host) => write!(f, "{user} on {host}"),
        }
    }
}

/// What a change set out to do, written before it did anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Begin {
    pub format: u32,
    pub record: Part,
    /// From 1, without gaps.
    pub number: u64,
    /// SHA-256 of the record before this one, as it lies in the store; empty for the first.
    pub previous: String,
    /// Told apart from every other record, also one of the same moment and content.
    pub nonce: String,
    /// What the head said where it did not agree with the newest record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disputed: Option<Head>,
    /// `2026-11-23-1432-raise-cache-memory`; unique together with the number.
    pub id: String,
    /// RFC 3339, UTC.
    pub at: String,
    pub who: Who,
    /// `apply`, `down`, `refresh`, `restore`, `rollback`.
    pub verb: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub stack: String,
    pub environment: String,
    /// Where the engine listens.
    pub engine: String,
    /// Of the environment as it was; absent where nothing ran, or what ran was no revision of a spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_before: Option<String>,
    pub revision: String,
    pub fingerprint: String,
    /// SHA-256 of the plan.
    pub plan: String,
    /// The plan's steps, a line each.
    pub steps: Vec<String>,
    /// The resources that it makes: what is left of them after a change that did not end is its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub makes: Vec<String>,
    /// The arguments as they were given, the program's name first. No secret is ever an argument.
    pub command: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// What the change takes for granted, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
    /// The data volume of each Redis before the change.
    pub generations: BTreeMap<String, u32>,
    /// The change that this one takes back, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<String>,
    /// `lockstep 0.1.0`
    pub tool: String,
    /// The project as it was meant, so that it can be loaded again.
    pub texts: Texts,
}

/// What `begin.verb` says of a restore into a running server, and of one that is taken back: neither changes what is meant
/// to run.
pub const WARM: &str = "restore --warm";
pub const UNDO: &str = "restore --undo";

impl Begin {
    /// Whether only data changed, and nothing of what the spec means.
    pub fn is_data_alone(&self) -> bool {
        [WARM, UNDO].contains(&self.verb.as_str())
    }
}

/// How a change ended, written after everything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    pub format: u32,
    pub record: Part,
    pub number: u64,
    /// SHA-256 of the begin.
    pub previous: String,
    pub nonce: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disputed: Option<Head>,
    pub stack: String,
    pub environment: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// Who ended it: another process, perhaps on another machine, where the first one died.
    pub by: Who,
    pub outcome: Outcome,
    /// From begin to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    pub backups: Vec<Kept>,
    pub actions: Vec<Performed>,
    /// How long no write was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_paused_ms: Option<u64>,
    /// How long a service did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u64>,
    pub measures: Vec<Measure>,
    pub expectations: Vec<Expectation>,
    /// What the data that came with it went through, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// What was found when it was looked at afterwards, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<String>,
    /// The file that takes back what a restore into a running server did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// What was watched, for how long, and what was seen, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What is left to be done by hand, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hand_steps: Vec<String>,
    /// What runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub generations: BTreeMap<String, u32>,
    pub tool: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it was meant, and seen to be.
    Done,
    /// Taken back; everything is as it was before.
    Undone,
    /// Taken back in part; what is left is to be done by hand.
    UndoIncomplete,
    /// Neither done nor taken back.
    #[default]
    Failed,
    /// Its process ended in the middle.
    Interrupted,
    /// Nothing was touched.
    Refused,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Undone => "undone",
            Outcome::UndoIncomplete => "undo incomplete",
            Outcome::Failed => "failed",
            Outcome::Interrupted => "interrupted",
            Outcome::Refused => "refused",
        }
    }

    /// Whether nothing about it is left to do: then its note is final.
    pub fn is_final(self) -> bool {
        matches!(self, Outcome::Done | Outcome::Undone | Outcome::Refused)
    }
}

/// A backup that the change rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub id: String,
    pub service: String,
    /// How it was proven: `verified`, `drilled`.
    pub proven: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it was taken where it was not the one before the change, such as `writes made since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// One step as it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Performed {
    pub number: u32,
    pub summary: String,
    /// What came of it, or what went wrong.
    pub outcome: String,
    /// From the begin of the change, in milliseconds.
    pub started_ms: u64,
    pub elapsed_ms: u64,
    /// Whether it did not do what it should.
    pub failed: bool,
}

/// What git says of the project's folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Git {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Absent when no branch is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether something differs from the commit.
    pub dirty: bool,
    /// The commit of the last finished change, where git knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    pub touched: Vec<Touched>,
    /// Touched files that are not named.
    pub more: u64,
}

/// A file that differs from what the last change was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Touched {
    /// Below the project.
    pub path: String,
    /// `added`, `changed`, `removed`
    pub how: String,
    pub committed: bool,
}

/// The texts of a project; none of them holds a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Texts {
    pub stack: String,
    /// By environment.
    pub environments: BTreeMap<String, String>,
    /// By name below `templates/`; those that lockstep brings are among them.
    pub templates: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

/// The newest record, kept beside the ledger: what tells that the newest ones were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    pub number: u64,
    pub part: Part,
    pub sha256: String,
}

/// A change as the ledger has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub number: u64,
    /// Absent where its record cannot be read.
    pub begin: Option<Begin>,
    pub end: Option<End>,
    /// SHA-256 of the records as they lie in the store; empty where there is none.
    pub begin_sha256: String,
    pub end_sha256: String,
    /// What keeps a record from being read.
    pub problem: Option<String>,
}

impl Entry {
    /// Empty where the begin cannot be read.
    pub fn id(&self) -> &str {
        self.begin.as_ref().map_or("", |begin| begin.id.as_str())
    }

    /// Whether it was begun and nobody wrote how it ended.
    pub fn is_unfinished(&self) -> bool {
        self.end_sha256.is_empty()
    }

    /// `done`, `undone`, ..., `unfinished`, `unreadable`
    pub fn outcome(&self) -> &'static str {
        match (&self.end, self.is_unfinished()) {
            (Some(end), _) => end.outcome.as_str(),
            (None, true) => "unfinished",
            (None, false) => "unreadable",
        }
    }

    pub fn head(&self) -> Head {
        let (part, sha256) = match self.is_unfinished() {
            true => (Part::Begin, &self.begin_sha256),
            false => (Part::End, &self.end_sha256),
        };
        Head { number: self.number, part, sha256: sha256.clone() }
    }
}

/// The id of a change: `2026-11-23-1432-raise-cache-memory` for one of 2026-11-23T14:32:10Z.
pub fn id(at: &str, reason: &str) -> String {
    let date = at.get(..10).unwrap_or("undated");
    let (hour, minute) = (at.get(11..13).unwrap_or("00"), at.get(14..16).unwrap_or("00"));
    format!("{date}-{hour}{minute}-{}", slug(reason))
}

/// A few words of a reason that can be part of a file's name.
pub fn slug(reason: &str) -> String {
    let mut slug = String::new();
    let words = reason.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        let room = 40usize.saturating_sub(slug.len() + usize::from(!slug.is_empty()));
        if word.len() > room {
            // A word that is cut says more than none.
            if slug.is_empty() {
                slug.push_str(&word.get(..room).unwrap_or(word).to_ascii_lowercase());
            }
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word.to_ascii_lowercase());
    }
    if slug.is_empty() { "change".to_owned() } else { slug }
}

/// The changes of these records, oldest first. One that does not read is among them, and hides no other.
pub fn entries(records: &[chain::Stored]) -> Vec<Entry> {
    let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
    for record in records {
        let Some((number, part)) = parse_file_name(&record.name) else { continue };
        let entry = entries.entry(number).or_insert_with(|| Entry { number, ..Entry::default() });
        let sha256 = record.bytes.as_ref().map_or_else(|_| "unknown".to_owned(), |bytes| Digest::of(bytes).to_string());
        let problem = match part {
            Part::Begin => {
                entry.begin_sha256 = sha256;
                read(record, |begin: &Begin| (begin.format, begin.number, begin.record == part))
                    .map(|begin| entry.begin = Some(begin))
            }
            Part::End => {
                entry.end_sha256 = sha256;
                read(record, |end: &End| (end.format, end.number, end.record == part)).map(|end| entry.end = Some(end))
            }
        };
        if let Err(why) = problem {
            entry.problem = Some(format!("{} {why}", record.name));
        }
    }
    for entry in entries.values_mut().filter(|entry| entry.begin_sha256.is_empty()) {
        entry.problem = Some(format!("{} is missing", file_name(entry.number, Part::Begin)));
    }
    entries.into_values().collect()
}

fn read<T: serde::de::DeserializeOwned>(
    record: &chain::Stored,
    says: impl FnOnce(&T) -> (u32, u64, bool),
) -> Result<T, String> {
    let bytes = record.bytes.as_ref().map_err(|why| format!("cannot be read: {why}"))?;
    let value: T = serde_json::from_slice(bytes).map_err(|error| format!("does not read: {error}"))?;
    let wanted = parse_file_name(&record.name).map(|(number, _)| number);
    match says(&value) {
        (FORMAT, number, true) if Some(number) == wanted => Ok(value),
        (FORMAT, number, _) => Err(format!("holds a record of change {number}")),
        (format, ..) => Err(format!("has format {format}, and this binary reads {FORMAT}")),
    }
}

/// The one change that is meant by a number, an id or the beginning of one.
///
/// Otherwise the ids that it could have been, which are none, several, or the one that reads much like it.
pub fn find<'a>(entries: &'a [Entry], wanted: &str) -> Result<&'a Entry, Vec<&'a str>> {
    let by_number = wanted.parse::<u64>().ok().and_then(|number| entries.iter().find(|entry| entry.number == number));
    if let Some(entry) = by_number {
        return Ok(entry);
    }
    let named = entries.iter().filter(|entry| !entry.id().is_empty());
    let meant: Vec<&Entry> =
        named.clone().filter(|entry| !wanted.is_empty() && entry.id().starts_with(wanted)).collect();
    if let Some(entry) = meant.iter().find(|entry| entry.id() == wanted) {
        return Ok(entry);
    }
    match meant.as_slice() {
        [one] => Ok(one),
        [] => Err(nearest(wanted, named.map(Entry::id)).into_iter().collect()),
        _ => Err(meant.into_iter().map(Entry::id).collect()),
    }
}

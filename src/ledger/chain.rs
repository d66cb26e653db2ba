//! The chain of records: how one is sealed, and what tells that one was edited, removed, swapped or slipped in.
//!
//! The seal of a record finds every careless edit. Who makes a new seal is found by the next record, which holds the
//! hash of the edited one; and who edits or removes the newest is found by an anchor: the head beside the ledger, or
//! the note of the change, which lies with the project.

use crate::ledger::{FORMAT, Head, Part, file_name, parse_file_name};
use crate::value::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What stands between the text of a record and its seal, and behind it.
const BEFORE: &str = ",\n  \"seal\": \"";
const BEHIND: &str = "\"\n}\n";

/// A record as it lies in the store, or why it cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// `00000007-begin.json`
    pub name: String,
    pub bytes: Result<Vec<u8>, String>,
}

/// Somebody outside of the ledger who knows a record by its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// For people: `ledger-head.json`, `changes/2026-11-23-raise-cache-memory.md`.
    pub place: String,
    pub head: Head,
}

/// A place where the ledger is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The change; absent for what is no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// `00000007-begin.json`
    pub record: String,
    /// What is wrong, to be read after the name of the record.
    pub what: String,
}

/// The text of a record with its seal, as it is stored. The value has to be a map with something in it.
pub fn sealed(record: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(record)?;
    text.truncate(text.strip_suffix("\n}").map_or(text.len(), str::len));
    let seal = Digest::of(text.as_bytes());
    text.push_str(BEFORE);
    text.push_str(seal.as_str());
    text.push_str(BEHIND);
    Ok(text.into_bytes())
}

/// Whether every byte is what was sealed.
pub fn is_sealed(bytes: &[u8]) -> bool {
    let whole = || {
        let text = bytes.strip_suffix(BEHIND.as_bytes())?;
        let (text, seal) = text.split_at_checked(text.len().checked_sub(64)?)?;
        let text = text.strip_suffix(BEFORE.as_bytes())?;
        Some(Digest::of(text).as_str().as_bytes() == seal)
    };
    whole().unwrap_or(false)
}

/// What every record says, whatever its format.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    format: u32,
    record: Part,
    number: u64,
    previous: String,
    stack: String,
    environment: String,
    disputed: Option<Head>,
}

/// Where a record stands in the order that they are written in, from 0.
fn position(number: u64, part: Part) -> u64 {
    number.saturating_sub(1).saturating_mul(2).saturating_add(u64::from(part == Part::End))
}

fn at(position: u64) -> (u64, Part) {
    (position / 2 + 1, if position.is_multiple_of(2) { Part::Begin } else { Part::End })
}

/// Every place of a ledger of this stack and environment that is not as it was written.
pub fn verify(stack: &str, environment: &str, records: &[Stored], anchors: &[Anchor]) -> Vec<Broken> {
    let mut check = Check::default();
    let mut found: BTreeMap<u64, &Stored> = BTreeMap::new();
    for record in records {
        match parse_file_name(&record.name) {
            Some((number, part)) => _ = found.insert(position(number, part), record),
            None => check.broken.push(Broken {
                number: None,
                record: record.name.clone(),
                what: "is no record that lockstep writes".to_owned(),
            }),
        }
    }
    let mut expected = 0;
    let mut before: Option<String> = Some(String::new());
    for (position, record) in &found {
        if *position > expected {
            check.missing(expected, position - 1, "");
            before = None;
        }
        let header = check.one(*position, record, stack, environment);
        if let (Some(header), Some(before)) = (&header, &before) {
            check.link(*position, &header.previous, before);
        }
        if let Some(disputed) = header.and_then(|header| header.disputed) {
            let (number, part) = at(*position);
            let what = format!("is not the record that the head named when {} was written", file_name(number, part));
            check.add(self::position(disputed.number, disputed.part), what);
        }
        before = record.bytes.as_ref().ok().map(|bytes| Digest::of(bytes).to_string());
        expected = position + 1;
    }
    for anchor in anchors {
        let Anchor { place, head } = anchor;
        let wanted = position(head.number, head.part);
        match found.get(&wanted) {
            None if wanted >= expected => check.missing(expected, wanted, &format!(", and {place} knows of it")),
            // A gap, and named as one.
            None => {}
            Some(record) => {
                let same = |bytes: &Vec<u8>| Digest::of(bytes).as_str() == head.sha256;
                if record.bytes.as_ref().is_ok_and(|bytes| !same(bytes)) {
                    check.add(wanted, format!("is not the record that {place} knows"));
                }
            }
        }
    }
    check.broken.sort_by(|a, b| (a.number, &a.record).cmp(&(b.number, &b.record)));
    check.broken.dedup();
    check.broken
}

#[derive(Debug, Default)]
struct Check {
    broken: Vec<Broken>,
    /// Each is told once.
    named: BTreeSet<u64>,
}

impl Check {
    fn add(&mut self, position: u64, what: String) {
        if self.named.insert(position) {
            let (number, part) = at(position);
            self.broken.push(Broken { number: Some(number), record: file_name(number, part), what });
        }
    }

    /// From the first to the last position, as one.
    fn missing(&mut self, first: u64, last: u64, known: &str) {
        let (number, part) = at(last);
        let what = match first == last {
            true => format!("is missing{known}"),
            false => format!("is missing, and all up to {}{known}", file_name(number, part)),
        };
        self.add(first, what);
    }

    /// What a record alone tells.
    fn one(&mut self, position: u64, record: &Stored, stack: &str, environment: &str) -> Option<Header> {
        let bytes = match &record.bytes {
            Ok(bytes) => bytes,
            Err(why) => {
                self.add(position, format!("cannot be read: {why}"));
                return None;
            }
        };
        if !is_sealed(bytes) {
            self.add(position, "was edited: its seal does not fit its text".to_owned());
            return None;
        }
        let header: Header = match serde_json::from_slice(bytes) {
            Ok(header) => header,
            Err(error) => {
                self.add(position, format!("does not read: {error}"));
                return None;
            }
        };
        let (number, part) = at(position);
        if (header.number, header.record) != (number, part) {
            let held = file_name(header.number, header.record);
            self.add(position, format!("was put in place of another: it holds {held}"));
            return None;
        }
        if (header.stack.as_str(), header.environment.as_str()) != (stack, environment) {
            let other = format!("{}/{}", header.stack, header.environment);
            self.add(position, format!("was put in place of another: it is of {other}"));
            return None;
        }
        if header.format == 0 || header.format > FORMAT {
            // Its place in the chain is known all the same.
            self.add(position, format!("has format {}, and this binary reads {FORMAT}", header.format));
        }
        Some(header)
    }

    fn link(&mut self, position: u64, previous: &str, before: &str) {
        // What is named already is the reason.
        let blamed = position.checked_sub(1).is_some_and(|before| self.named.contains(&before));
        if previous == before || blamed || self.named.contains(&position) {
            return;
        }
        let (number, part) = at(position);
        match position.checked_sub(1) {
            None => self.add(position, "was put in place of another: something came before it".to_owned()),
            Some(earlier) => {
                let next = file_name(number, part);
                let what = format!("or {next} was replaced after it was written: the second does not follow the first");
                self.add(earlier, what);
            }
        }
    }
}

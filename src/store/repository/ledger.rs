//! The ledger of an environment, beside its backups: `<stack>/<environment>/ledger/00000007-begin.json` and `-end.json`.
//!
//! No record is ever replaced. Whoever creates a begin has its number, and there is no other begin until that change has
//! an end; so of two that start at once one is told of the other. All of this blocks, and what returned well is durable.

use crate::backup::manifest;
use crate::ledger::chain::{self, Stored, sealed};
use crate::ledger::{Anchor, Begin, Broken, End, Entry, FORMAT, Head, MAX_RECORD, Part};
use crate::ledger::{entries, file_name, id, parse_file_name};
use crate::measure::{Sample, Verdict};
use crate::store::repository::Repository;
use crate::store::repository::store::Store;
use crate::store::{self, who};
use crate::value::Digest;
use anyhow::{Context as _, anyhow};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Below the environment. No backup can have this name, since an id ends in a time and a number.
pub(super) const FOLDER: &str = "ledger";
/// Beside the folder, and replaced with every record.
const HEAD: &str = "ledger-head.json";
const MAX_HEAD: u64 = 64 << 10;
/// A head that is further on than this was not written by lockstep.
const MAX_GAP: u64 = 1_000_000;
/// Somebody else's change may begin and end while ours looks.
const TRIES: usize = 5;

/// The changes of one environment.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Arc<dyn Store>,
    /// `shop/production`
    root: String,
    stack: String,
    environment: String,
}

/// A change that was begun and has no end yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub number: u64,
    /// Absent where the record cannot be read; it can be ended all the same.
    pub begin: Option<Begin>,
    /// SHA-256 of the begin as it lies in the store.
    sha256: String,
}

impl Open {
    /// As the ledger shows it, for the draft of its note.
    pub fn entry(&self) -> Entry {
        Entry { number: self.number, begin: self.begin.clone(), begin_sha256: self.sha256.clone(), ..Entry::default() }
    }
}

/// Why a record was not written.
#[derive(Debug)]
pub enum LedgerError {
    /// Another change has no end yet: it is somebody's work, or has to be finished or undone first.
    Unfinished(Box<Open>),
    /// Somebody else has ended the change.
    Ended(Box<End>),
    /// The store did not take it. Nothing of it is there.
    Store(anyhow::Error),
    /// The store did not say whether it took it, and cannot be asked.
    Unknown(anyhow::Error),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Unfinished(open) => match &open.begin {
                Some(begin) => {
                    let Begin { number, verb, who, at, .. } = begin;
                    write!(f, "change {number} ({verb} by {who}, begun at {at}) is not finished")
                }
                None => write!(f, "change {} is not finished, and its record cannot be read", open.number),
            },
            LedgerError::Ended(end) => {
                write!(f, "change {} was ended at {} by {}: {}", end.number, end.at, end.by, end.outcome.as_str())
            }
            LedgerError::Store(error) => write!(f, "the change could not be recorded: {error:#}"),
            LedgerError::Unknown(error) => write!(f, "it is not known whether the change was recorded: {error:#}"),
        }
    }
}

impl std::error::Error for LedgerError {}

/// What came of creating a record.
enum Created {
    Ours,
    /// What lies there instead.
    Theirs(Vec<u8>),
}

impl Repository {
    pub fn ledger(&self) -> Ledger {
        Ledger {
            store: Arc::clone(&self.store),
            root: self.root.clone(),
            stack: self.stack.clone(),
            environment: self.environment.clone(),
        }
    }
}

impl Ledger {
    /// For people.
    pub fn place(&self) -> String {
        self.store.place(&self.folder())
    }

    fn folder(&self) -> String {
        format!("{}/{FOLDER}", self.root)
    }

    fn key(&self, number: u64, part: Part) -> String {
        format!("{}/{}", self.folder(), file_name(number, part))
    }

    /// Records a change before it does anything.
    ///
    /// What only the ledger knows is filled in: number, chain, id, and the time and person where they are left empty.
    pub fn begin(&self, begin: &mut Begin) -> Result<Open, LedgerError> {
        let mut lost = None;
        for _ in 0..TRIES {
            // The head first: a record is there before the head names it, so what this one names is there, or was removed.
            let head = self.head().map_err(LedgerError::Store)?;
            let newest = self.newest().map_err(LedgerError::Store)?;
            if let Some(newest) = newest.as_ref().filter(|newest| newest.part == Part::Begin) {
                let open = self.open(newest.number).map_err(LedgerError::Store)?;
                return Err(LedgerError::Unfinished(Box::new(open)));
            }
            self.fill(begin, head, newest.as_ref()).map_err(LedgerError::Store)?;
            let bytes = text_of(begin).map_err(LedgerError::Store)?;
            match self.create(begin.number, Part::Begin, &bytes)? {
                Created::Ours => {
                    let sha256 = Digest::of(&bytes).to_string();
                    self.put_head(begin.number, Part::Begin, &sha256);
                    return Ok(Open { number: begin.number, begin: Some(begin.clone()), sha256 });
                }
                Created::Theirs(_) => lost = Some(begin.number),
            }
        }
        let number = lost.unwrap_or_default();
        Err(LedgerError::Store(anyhow!("others were quicker {TRIES} times, the last time with change {number}")))
    }

    fn fill(&self, begin: &mut Begin, head: Option<Head>, newest: Option<&Head>) -> anyhow::Result<()> {
        let last = newest.map_or(0, |newest| newest.number);
        // Where the newest records were removed, their numbers are not given again: the gap shows that they were there.
        let ahead = head.as_ref().filter(|head| head.number > last && head.number - last < MAX_GAP);
        let agrees = head.as_ref().is_none_or(|head| ahead.is_some() || follows(head, newest));
        begin.format = FORMAT;
        begin.record = Part::Begin;
        begin.number = ahead.map_or(last, |head| head.number).saturating_add(1);
        begin.disputed = head.filter(|_| !agrees);
        begin.previous = newest.map(|newest| newest.sha256.clone()).unwrap_or_default();
        begin.nonce = store::random_hex::<8>().context("could not draw a number")?;
        begin.stack.clone_from(&self.stack);
        begin.environment.clone_from(&self.environment);
        begin.tool = manifest::tool();
        if begin.at.is_empty() {
            begin.at = now();
        }
        if begin.who.user.is_empty() {
            begin.who = who::who();
        }
        begin.id = id(&begin.at, &begin.reason);
        Ok(())
    }

    /// Records how a change ended; answers with the whole change, for its note.
    pub fn end(&self, open: &Open, end: &mut End) -> Result<Entry, LedgerError> {
        end.format = FORMAT;
        end.record = Part::End;
        end.number = open.number;
        end.previous.clone_from(&open.sha256);
        end.stack.clone_from(&self.stack);
        end.environment.clone_from(&self.environment);
        end.tool = manifest::tool();
        if end.nonce.is_empty() {
            end.nonce = store::random_hex::<8>().map_err(|error| LedgerError::Store(error.into()))?;
        }
        if end.at.is_empty() {
            end.at = now();
        }
        if end.by.user.is_empty() {
            end.by = who::who();
        }
        if end.elapsed_ms.is_none() {
            end.elapsed_ms = open.begin.as_ref().and_then(|begin| between(&begin.at, &end.at));
        }
        let begun = Head { number: open.number, part: Part::Begin, sha256: open.sha256.clone() };
        let head = self.head().map_err(LedgerError::Store)?;
        end.disputed = head.filter(|head| !follows(head, Some(&begun)));
        readable(end);
        let mut bytes = text_of(end).map_err(LedgerError::Store)?;
        if let Created::Theirs(theirs) = self.create(open.number, Part::End, &bytes)? {
            let other: End = serde_json::from_slice(&theirs)
                .unwrap_or_else(|_unreadable| End { number: open.number, ..End::default() });
            if other.nonce != end.nonce {
                return Err(LedgerError::Ended(Box::new(other)));
            }
            // Ours, whose answer did not get through, and said again.
            (bytes, *end) = (theirs, other);
        }
        let sha256 = Digest::of(&bytes).to_string();
        self.put_head(open.number, Part::End, &sha256);
        Ok(Entry { end: Some(end.clone()), end_sha256: sha256, ..open.entry() })
    }

    /// The change that was begun and has no end; there is one at most.
    pub fn unfinished(&self) -> anyhow::Result<Option<Open>> {
        match self.newest()? {
            Some(Head { number, part: Part::Begin, .. }) => self.open(number).map(Some),
            _ => Ok(None),
        }
    }

    fn open(&self, number: u64) -> anyhow::Result<Open> {
        let doing = || format!("could not read change {number} in `{}`", self.place());
        let stored = self.stored(number, Part::Begin).with_context(doing)?;
        let sha256 = match &stored.bytes {
            Ok(bytes) => Digest::of(bytes).to_string(),
            // Without its bytes nothing can follow it.
            Err(why) => return Err(anyhow!("{why}")).with_context(doing),
        };
        let begin = entries(&[stored]).pop().and_then(|entry| entry.begin);
        Ok(Open { number, begin, sha256 })
    }

    /// The changes, oldest first; at most so many of the newest.
    pub fn entries(&self, newest: usize) -> anyhow::Result<Vec<Entry>> {
        let doing = || format!("could not read the ledger in `{}`", self.place());
        let names = self.names().with_context(doing)?;
        let numbers: BTreeSet<u64> = names.iter().filter_map(|name| Some(parse_file_name(name)?.0)).collect();
        let oldest = numbers.into_iter().rev().take(newest).min();
        let mut records = Vec::new();
        for (number, part) in names.iter().filter_map(|name| parse_file_name(name)) {
            if oldest.is_some_and(|oldest| number >= oldest) {
                records.push(self.stored(number, part).with_context(doing)?);
            }
        }
        Ok(entries(&records))
    }

    /// Where the ledger is not what was written, as its own records, its head and these anchors tell.
    pub fn verify(&self, anchors: &[Anchor]) -> anyhow::Result<Vec<Broken>> {
        let doing = || format!("could not read the ledger in `{}`", self.place());
        // Before the records, or a change that begins meanwhile would look as if one were missing.
        let head = self.head_text().with_context(doing)?;
        let mut records = Vec::new();
        for name in self.names().with_context(doing)? {
            records.push(match parse_file_name(&name) {
                Some((number, part)) => self.stored(number, part).with_context(doing)?,
                None => Stored { name, bytes: Ok(Vec::new()) },
            });
        }
        let mut anchors = anchors.to_vec();
        let mut broken = Vec::new();
        let alone = |what: &str| Broken { number: None, record: HEAD.to_owned(), what: what.to_owned() };
        match head {
            Some(text) => match serde_json::from_slice::<Head>(&text) {
                Ok(head) if head.number > 0 && head.sha256.len() == 64 => {
                    anchors.push(Anchor { place: HEAD.to_owned(), head });
                }
                _ => broken.push(alone("does not read")),
            },
            // A writer may have died between its first record and the head.
            None if records.len() > 1 => broken.push(alone("is missing")),
            None => {}
        }
        broken.extend(chain::verify(&self.stack, &self.environment, &records, &anchors));
        Ok(broken)
    }

    /// Names in the folder, in order, without what is just being written.
    fn names(&self) -> io::Result<Vec<String>> {
        let folder = self.folder();
        let objects = self.store.list(&folder)?;
        let names = objects.iter().filter_map(|object| object.key.strip_prefix(&folder)?.strip_prefix('/'));
        Ok(names.filter(|name| !name.starts_with(".tmp")).map(str::to_owned).collect())
    }

    /// The newest record there is.
    fn newest(&self) -> anyhow::Result<Option<Head>> {
        let doing = || format!("could not read the ledger in `{}`", self.place());
        let names = self.names().with_context(doing)?;
        let Some((number, part)) = names.iter().filter_map(|name| parse_file_name(name)).max() else { return Ok(None) };
        let bytes = self.stored(number, part).with_context(doing)?.bytes.map_err(|why| anyhow!("{why}"));
        let sha256 = Digest::of(&bytes.with_context(doing)?).to_string();
        Ok(Some(Head { number, part, sha256 }))
    }

    /// A record that cannot be read is an answer; a store that cannot be asked is not.
    fn stored(&self, number: u64, part: Part) -> io::Result<Stored> {
        let name = file_name(number, part);
        let bytes = match self.store.get(&self.key(number, part), MAX_RECORD) {
            Ok(bytes) => Ok(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::PermissionDenied) => {
                Err(format!("{name}: {error}"))
            }
            Err(error) => return Err(error),
        };
        Ok(Stored { name, bytes })
    }

    /// Creates a record and reads it back: an answer that was lost says nothing, and neither does a store that lies.
    fn create(&self, number: u64, part: Part, bytes: &[u8]) -> Result<Created, LedgerError> {
        let key = self.key(number, part);
        let doing = || format!("could not write `{}`", self.store.place(&key));
        let created = self.store.create(&key, bytes);
        match (created, self.store.get(&key, MAX_RECORD)) {
            (_, Ok(there)) if there == bytes => Ok(Created::Ours),
            (Ok(false) | Err(_), Ok(there)) => Ok(Created::Theirs(there)),
            (Ok(true), Ok(_)) => Err(LedgerError::Unknown(anyhow!("it reads back otherwise").context(doing()))),
            (Err(error), Err(absent)) if absent.kind() == ErrorKind::NotFound => {
                Err(LedgerError::Store(anyhow::Error::new(error).context(doing())))
            }
            (Ok(_), Err(absent)) if absent.kind() == ErrorKind::NotFound => {
                Err(LedgerError::Store(anyhow!("the store took it and does not have it").context(doing())))
            }
            (Err(error), Err(_)) | (Ok(_), Err(error)) => {
                Err(LedgerError::Unknown(anyhow::Error::new(error).context(doing())))
            }
        }
    }

    fn head_key(&self) -> String {
        format!("{}/{HEAD}", self.root)
    }

    fn head_text(&self) -> io::Result<Option<Vec<u8>>> {
        match self.store.get(&self.head_key(), MAX_HEAD) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // Whatever it was, it is no head.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::PermissionDenied) => {
                Ok(Some(Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    fn head(&self) -> anyhow::Result<Option<Head>> {
        let text =
            self.head_text().with_context(|| format!("could not read `{}`", self.store.place(&self.head_key())))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// What it lacks is only found later: the record itself is there, and the next one writes the head again.
    fn put_head(&self, number: u64, part: Part, sha256: &str) {
        let head = Head { number, part, sha256: sha256.to_owned() };
        let _ = serde_json::to_vec_pretty(&head).map(|text| self.store.put(&self.head_key(), &text));
    }
}

/// Whether the head is what it was when the newest record was written, or before it: its writer may have died between.
fn follows(head: &Head, newest: Option<&Head>) -> bool {
    match newest {
        Some(newest) => head == newest || (head.number, head.part) < (newest.number, newest.part),
        None => false,
    }
}

/// The text of a record, within its bound.
fn text_of(record: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
    let bytes = sealed(record).context("the record cannot be written as JSON")?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    match size > MAX_RECORD {
        true => Err(anyhow!("the record has {} MB, and at most {} are kept", size >> 20, MAX_RECORD >> 20)),
        false => Ok(bytes),
    }
}

/// A number that is none cannot be written, and would make the whole record unreadable.
fn readable(end: &mut End) {
    let is_number = |sample: &Sample| [sample.value, sample.low, sample.high].iter().all(|value| value.is_finite());
    for measure in &mut end.measures {
        let (before, after) = (measure.before, measure.after);
        measure.before = before.filter(is_number);
        measure.after = after.filter(is_number);
        if (measure.before, measure.after) != (before, after) {
            measure.verdict = Verdict::Unknown;
        }
    }
}

fn now() -> String {
    store::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Milliseconds from one time to another.
fn between(begin: &str, end: &str) -> Option<u64> {
    let (begin, end): (jiff::Timestamp, jiff::Timestamp) = (begin.parse().ok()?, end.parse().ok()?);
    u64::try_from(end.duration_since(begin).as_millis()).ok()
}

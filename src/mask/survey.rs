//! What a refresh would come to, counted and proven without loading anything.
//!
//! Three read at once: one digests the source, one makes of it what the rules say and digests each key by what became of
//! it, one digests what was made. None knows what the others know; that their digests add up proves that every key of
//! the source went one way, and that nothing else came out.

use crate::digest::{self, Hasher, Key, Keyspace, ReadError};
use crate::mask::Rules;
use crate::mask::canary::{self, Canaries, Sample, Scanned};
use crate::mask::pass::{self, Problem, Way};
use crate::rdb::{Entry, RdbError, Room, Summary};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::thread;

/// Problems that are named.
const NAMED: usize = 20;
/// Masked texts that are shown of each part.
const EXAMPLES: usize = 2;
const EXAMPLE: usize = 60;
const PREFIXES: usize = 1000;
const PIPE: usize = 1 << 20;

/// Why a key is not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    Rule,
    /// Not in the share of its rule.
    Sampled,
    Expired,
    /// A queue or a lock by its name.
    Queue,
    Unmatched,
}

impl Dropped {
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::Rule => "by rule",
            Dropped::Sampled => "not in the share",
            Dropped::Expired => "expired",
            Dropped::Queue => "queues and locks",
            Dropped::Unmatched => "no rule",
        }
    }
}

/// Keys of one rule.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    pub keys: u64,
    pub kept: u64,
    pub masked: u64,
    pub dropped: BTreeMap<Dropped, u64>,
    /// Of the values in the source.
    pub bytes: u64,
    /// Keys that are copied, by type.
    pub types: BTreeMap<&'static str, u64>,
    pub parts: Vec<Texts>,
}

/// Texts of one part.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    pub masked: u64,
    /// Masked before, or empty, or left as they are.
    pub unchanged: u64,
    /// What some of them became.
    pub examples: Vec<String>,
}

/// What the pass has seen so far.
#[derive(Debug)]
pub struct Survey {
    pub rules: Vec<Counted>,
    /// Keys that no rule of the spec decides.
    pub others: Counted,
    /// Of keys that no rule names, those that are dropped included.
    pub unmatched: BTreeMap<Vec<u8>, u64>,
    pub unmatched_keys: u64,
    pub problems: Vec<Problem>,
    pub problem_count: u64,
    pub module_records: u64,
    pub functions: u64,
    /// When the first of what is copied expires, in Unix milliseconds; 0 where fields of hashes do.
    pub first_expiry_ms: Option<i64>,
    pub sample: Sample,
    same: Hasher,
    moved_before: Hasher,
    moved_after: Hasher,
    masked_before: Hasher,
    masked_after: Hasher,
    dropped: Hasher,
    refused: Hasher,
}

impl Survey {
    fn new(rules: &Rules, hasher: &Hasher) -> Survey {
        let of = |rule: &crate::mask::Rule| {
            let parts = match &rule.deed {
                Some(crate::model::refresh::Deed::Copy(copy)) => copy.parts.len(),
                _ => 0,
            };
            Counted { parts: vec![Texts::default(); parts], ..Counted::default() }
        };
        Survey {
            rules: rules.rules.iter().map(of).collect(),
            others: Counted::default(),
            unmatched: BTreeMap::new(),
            unmatched_keys: 0,
            problems: Vec::new(),
            problem_count: 0,
            module_records: 0,
            functions: 0,
            first_expiry_ms: None,
            sample: Sample::default(),
            same: hasher.fresh(),
            moved_before: hasher.fresh(),
            moved_after: hasher.fresh(),
            masked_before: hasher.fresh(),
            masked_after: hasher.fresh(),
            dropped: hasher.fresh(),
            refused: hasher.fresh(),
        }
    }

    fn count(&mut self, rule: Option<usize>, entry: &Entry<'_>) -> &mut Counted {
        let counted = match rule {
            Some(number) => self.rules.get_mut(number),
            None => None,
        };
        let counted = counted.unwrap_or(&mut self.others);
        counted.keys += 1;
        counted.bytes += entry.size() as u64;
        counted
    }

    fn copied(&mut self, rule: usize, entry: &Entry<'_>) -> &mut Counted {
        let counted = self.count(Some(rule), entry);
        *counted.types.entry(entry.kind.name()).or_default() += 1;
        counted
    }

    /// Whether it is a collection without elements, which is no key to a server.
    pub(super) fn is_empty(&self, entry: &Entry<'_>, room: &mut Room) -> Result<bool, RdbError> {
        Ok(entry.read(room, |_| ())? == 0)
    }

    pub(super) fn kept(
        &mut self,
        entry: &Entry<'_>,
        expires_at_ms: Option<i64>,
        field_expiry: impl Fn(Option<i64>) -> Option<i64>,
        rule: usize,
        room: &mut Room,
    ) -> Result<(), RdbError> {
        self.expires(entry, expires_at_ms);
        let moves_fields = entry.expires_fields() && field_expiry(Some(i64::MAX)) != Some(i64::MAX);
        if expires_at_ms == entry.expires_at_ms && !moves_fields && !entry.expires_fields() {
            if self.same.add(entry, room)? > 0 {
                self.copied(rule, entry).kept += 1;
            }
            return Ok(());
        }
        if self.moved_before.add(entry, room)? == 0 {
            return Ok(());
        }
        self.copied(rule, entry).kept += 1;
        let mut moved = *entry;
        moved.expires_at_ms = expires_at_ms;
        self.moved_after.add_with(&moved, field_expiry, room)?;
        Ok(())
    }

    fn expires(&mut self, entry: &Entry<'_>, expires_at_ms: Option<i64>) {
        let fields = entry.expires_fields().then_some(0);
        self.first_expiry_ms = [self.first_expiry_ms, expires_at_ms, fields].into_iter().flatten().min();
    }

    pub(super) fn masked(
        &mut self,
        entry: &Entry<'_>,
        expires_at_ms: Option<i64>,
        rule: usize,
        room: &mut Room,
    ) -> Result<(), RdbError> {
        self.expires(entry, expires_at_ms);
        if self.masked_before.add(entry, room)? > 0 {
            self.copied(rule, entry).masked += 1;
        }
        Ok(())
    }

    pub(super) fn dropped(
        &mut self,
        entry: &Entry<'_>,
        rule: Option<usize>,
        why: Dropped,
        room: &mut Room,
    ) -> Result<(), RdbError> {
        if self.dropped.add(entry, room)? > 0 {
            *self.count(rule, entry).dropped.entry(why).or_default() += 1;
            if why == Dropped::Unmatched {
                self.prefix(entry.key(&mut Vec::new())?);
            }
        }
        Ok(())
    }

    /// What a key becomes is hashed with the one while its texts are noted in the other.
    pub(super) fn masking(&mut self) -> (&mut Hasher, Noted<'_>) {
        (&mut self.masked_after, Noted { rules: &mut self.rules, sample: &mut self.sample })
    }

    pub(super) fn function(&mut self, written: &[u8]) {
        self.functions += 1;
        self.same.add_function(written);
    }

    pub(super) fn refused(&mut self, entry: &Entry<'_>, room: &mut Room) -> Result<(), RdbError> {
        self.refused.add(entry, room).map(drop)
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        if let Problem::Unmatched { key } = &problem {
            self.prefix(key);
        }
        self.problem_count += 1;
        if self.problems.len() < NAMED {
            self.problems.push(problem);
        }
    }

    fn prefix(&mut self, key: &[u8]) {
        self.unmatched_keys += 1;
        let prefix = key.iter().position(|byte| *byte == b':').and_then(|colon| key.get(..=colon)).unwrap_or(key);
        let many = self.unmatched.len() >= PREFIXES;
        match self.unmatched.get_mut(prefix) {
            Some(count) => *count += 1,
            None if many => {}
            None => _ = self.unmatched.insert(prefix.to_vec(), 1),
        }
    }
}

/// Where masked texts are noted.
pub(super) struct Noted<'s> {
    rules: &'s mut [Counted],
    sample: &'s mut Sample,
}

impl Noted<'_> {
    pub fn text(&mut self, (rule, part): (usize, usize), source: &[u8], masked: &[u8], changed: bool) {
        let Some(texts) = self.rules.get_mut(rule).and_then(|counted| counted.parts.get_mut(part)) else { return };
        if !changed {
            texts.unchanged += 1;
            return;
        }
        texts.masked += 1;
        if texts.examples.len() < EXAMPLES {
            let shown = String::from_utf8_lossy(masked).chars().take(EXAMPLE).collect();
            if !texts.examples.contains(&shown) {
                texts.examples.push(shown);
            }
        }
        self.sample.offer(source, (rule, part));
    }
}

/// A survey that came to its end.
#[derive(Debug)]
pub struct Surveyed {
    pub survey: Survey,
    pub source: Summary,
    pub result: Summary,
    /// The digest of what was made.
    pub keyspace: Keyspace,
    source_keyspace: Keyspace,
}

/// An equation of digests, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Equation {
    pub says: String,
    pub holds: bool,
}

impl Surveyed {
    /// Keys that are copied as they are.
    pub fn kept(&self) -> u64 {
        self.survey.same.keyspace.keys + self.survey.moved_before.keyspace.keys
    }

    pub fn masked(&self) -> u64 {
        self.survey.masked_before.keyspace.keys
    }

    pub fn dropped(&self) -> u64 {
        self.survey.dropped.keyspace.keys
    }

    pub fn keys(&self) -> u64 {
        self.source_keyspace.keys
    }

    /// What has to hold of the digests of source, parts and result.
    pub fn algebra(&self) -> Vec<Equation> {
        let of = |hasher: &Hasher| hasher.keyspace.clone();
        let sum = |parts: &[&Hasher]| {
            let mut sum = Keyspace::default();
            for part in parts {
                sum.merge(&of(part));
            }
            sum
        };
        let Survey { same, moved_before, moved_after, masked_before, masked_after, dropped, refused, .. } =
            &self.survey;
        let before = sum(&[same, moved_before, masked_before, dropped, refused]);
        let after = sum(&[same, moved_after, masked_after]);
        let equal = |one: &Keyspace, other: &Keyspace| one == other;
        let counts = |one: &Keyspace, other: &Keyspace| one.keys == other.keys;
        // Names and types are what masking leaves as they are.
        let named = |one: &Keyspace, other: &Keyspace| !one.differs(other).contains(&digest::Lane::Keys);
        let (kept, masked, dropped) = (self.kept(), self.masked(), self.dropped());
        let refused = match refused.keyspace.keys {
            0 => String::new(),
            refused => format!(" + refused {refused}"),
        };
        let equation = |says: String, holds: bool| Equation { says, holds };
        vec![
            equation(
                format!("source {} = kept {kept} + dropped {dropped} + masked {masked}{refused}", self.keys()),
                equal(&self.source_keyspace, &before) && counts(&self.source_keyspace, &before),
            ),
            equation(
                format!("result {} = kept {kept} + masked {masked}", self.keyspace.keys),
                equal(&self.keyspace, &after) && self.keyspace.keys == kept + masked,
            ),
            equation(
                "masked keys have the names and types that they had".to_owned(),
                named(&masked_before.keyspace, &masked_after.keyspace),
            ),
        ]
    }
}

/// Reads a snapshot to its end and tells what the rules make of it. The digests are made with `key`.
///
/// # Errors
/// What keeps it from being read or written whole. What is wrong with keys is in the survey.
pub fn survey(rules: &Rules, way: Way, source: impl Read, key: &Key) -> anyhow::Result<Surveyed> {
    let hasher = Hasher::new(key, None);
    let (to_pass, passing) = io::pipe()?;
    let (to_read, written) = io::pipe()?;
    thread::scope(|scope| {
        let (rules, of) = (&rules, &hasher);
        let pass = scope.spawn(move || {
            let mut survey = Survey::new(rules, of);
            let out = io::BufWriter::with_capacity(PIPE, written);
            let source = io::BufReader::with_capacity(PIPE, to_pass);
            pass::run(rules, way, source, out, Some(&mut survey)).map(|()| survey)
        });
        let result = scope.spawn(move || digest::read(to_read, of, |_| Ok(())));
        let mut passing = io::BufWriter::with_capacity(PIPE, passing);
        let source = digest::read(source, of, |piece| io::Write::write_all(&mut passing, piece));
        drop(passing);
        let (pass, result) = (joined(pass), joined(result));
        let read = |read: Result<digest::Told<_>, ReadError>| match read {
            Ok(told) => Ok((told.summary, told.keyspace)),
            Err(ReadError::Rdb(error)) => Err(anyhow::Error::new(error)),
            Err(ReadError::Tap(error)) => Err(anyhow::Error::new(error)),
        };
        // Damage of the source says why the pass broke off; a pass that broke off, why nobody took what was read.
        let source = match source {
            Err(ReadError::Tap(error)) => {
                pass?;
                return Err(error.into());
            }
            Err(ReadError::Rdb(error)) => return Err(error.into()),
            Ok(told) => (told.summary, told.keyspace),
        };
        let survey = pass?;
        let (result, keyspace) = read(result)?;
        Ok(Surveyed { survey, source: source.0, result, keyspace, source_keyspace: source.1 })
    })
}

/// Makes it once more and looks through what is made, which goes nowhere.
///
/// # Errors
/// What keeps it from being read or written whole.
pub fn look(rules: &Rules, way: Way, source: impl Read + Send, canaries: &Canaries) -> anyhow::Result<Scanned> {
    let (to_read, written) = io::pipe()?;
    thread::scope(|scope| {
        let making =
            scope.spawn(move || pass::run(rules, way, source, io::BufWriter::with_capacity(PIPE, written), None));
        let scanned = canary::scan(rules, canaries, io::BufReader::with_capacity(PIPE, to_read));
        joined(making)?;
        Ok(scanned?)
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

//! Which keys differ between two datasets, of any size, in one pass over each.
//!
//! Each key becomes a short record: its name, and hashes of what it holds. Records are shared out to 256 partitions by
//! the hash of the name, set aside through a [`Spill`] as soon as more wait than a limit allows, and compared partition
//! by partition: a key can only be in the same partition of the other side. Hashes are those of the keyspace digest, so
//! order and encoding make no difference; their key is drawn for one run, so nobody can prepare two values with one hash.
//!
//! What modules keep outside of keys, and how often or when a key was used, is not compared.

use crate::digest::Hasher;
use crate::rdb::{self, Entry, Frames, RdbError, Record, Room, Type};
use crate::value::Blob;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::io::{self, Read};

/// Each is a 256th of a side.
const PARTITIONS: usize = 256;
/// Records of one side that wait in memory before they are set aside.
pub const WAITING: usize = 4 << 20;
/// Records of one side that are held while they are compared. Of a partition that is larger, a share at a time.
pub const HELD: usize = 16 << 20;
/// Prefixes that are counted one by one.
const PREFIXES: usize = 10_000;
/// A prefix that is longer is none that a person has chosen.
const PREFIX_LENGTH: usize = 256;

/// Where records wait that do not fit into memory.
pub trait Spill {
    /// Keeps the bytes, and says where.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64>;
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Why a comparison did not come to its end.
#[derive(Debug)]
pub enum DiffError {
    Rdb(RdbError),
    /// Records could not be set aside, or not be read again.
    Spill(io::Error),
}

impl fmt::Display for DiffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiffError::Rdb(error) => error.fmt(f),
            DiffError::Spill(_) => f.write_str("could not work through the names of keys"),
        }
    }
}

impl Error for DiffError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DiffError::Rdb(error) => error.source(),
            DiffError::Spill(error) => Some(error),
        }
    }
}

impl From<RdbError> for DiffError {
    fn from(error: RdbError) -> DiffError {
        DiffError::Rdb(error)
    }
}

impl From<io::Error> for DiffError {
    fn from(error: io::Error) -> DiffError {
        DiffError::Spill(error)
    }
}

/// In what way a key differs. Each key counts once: where values differ, expiries may as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    OnlyA,
    OnlyB,
    Type,
    Value,
    Expiry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub only_a: u64,
    pub only_b: u64,
    #[serde(rename = "type")]
    pub kind: u64,
    pub value: u64,
    pub expiry: u64,
}

impl Counts {
    fn add(&mut self, class: Class) {
        *match class {
            Class::OnlyA => &mut self.only_a,
            Class::OnlyB => &mut self.only_b,
            Class::Type => &mut self.kind,
            Class::Value => &mut self.value,
            Class::Expiry => &mut self.expiry,
        } += 1;
    }

    #[must_use]
    pub fn plus(self, other: &Counts) -> Counts {
        Counts {
            only_a: self.only_a + other.only_a,
            only_b: self.only_b + other.only_b,
            kind: self.kind + other.kind,
            value: self.value + other.value,
            expiry: self.expiry + other.expiry,
        }
    }

    pub fn total(&self) -> u64 {
        self.only_a + self.only_b + self.kind + self.value + self.expiry
    }
}

/// What a key differs in; the classes in more words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    Type,
    Value,
    /// A stream's groups, their consumers and what is pending with them.
    Groups,
    /// What a stream counts. Where one side's server did not count yet, nothing differs.
    StreamCounters,
    Expiry,
    FieldExpiry,
}

impl Aspect {
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Type => "type",
            Aspect::Value => "value",
            Aspect::Groups => "groups",
            Aspect::StreamCounters => "stream counters",
            Aspect::Expiry => "expiry",
            Aspect::FieldExpiry => "expiry of fields",
        }
    }
}

/// One side of a key that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub expires_at_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub class: Class,
    /// Empty for a key that only one side has.
    pub aspects: Vec<Aspect>,
    pub a: Option<Held>,
    pub b: Option<Held>,
}

/// The beginning of a key's name, in one database. `None`: a name without a `:`.
pub type Prefix = (u64, Option<Vec<u8>>);

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys of each side.
    pub keys: [u64; 2],
    pub differing: Counts,
    /// Most keys first.
    pub prefixes: Vec<(Prefix, Counts)>,
    /// Keys of all prefixes beyond those that are counted one by one.
    pub other: Counts,
    /// By database and name, as many as were asked for.
    pub listed: BTreeMap<(u64, Vec<u8>), Difference>,
    pub functions: Counts,
    /// By name, as many as were asked for.
    pub listed_functions: BTreeMap<Vec<u8>, Class>,
}

impl Report {
    pub fn is_equal(&self) -> bool {
        self.differing.total() + self.functions.total() == 0
    }
}

/// What to make of the differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// A prefix ends with this `:`, counted from 1, or with the last one of a name that has fewer.
    pub depth: usize,
    /// Keys to name.
    pub limit: usize,
    /// See [`HELD`].
    pub held: usize,
}

/// All keys of one side, shared out.
pub struct Side<S> {
    spill: S,
    waiting: Vec<Vec<u8>>,
    waits: usize,
    limit: usize,
    peak: usize,
    /// Where the records of each partition were set aside, and how many bytes they are.
    aside: Vec<Vec<(u64, usize)>>,
    keys: u64,
}

impl<S> fmt::Debug for Side<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("keys", &self.keys).field("peak", &self.peak).finish_non_exhaustive()
    }
}

/// What is remembered of a key, or of a function library, which is a key of no database here.
#[derive(Clone, Copy, Debug)]
struct Seen<'r> {
    hash: u64,
    /// `None`: a function library.
    kind: Option<Type>,
    database: u64,
    name: &'r [u8],
    value: u128,
    expires_at_ms: Option<i64>,
    field_expiry: u128,
    groups: u128,
    counters: u128,
}

impl<S: Spill> Side<S> {
    /// Reads a whole RDB. `waiting` is how many bytes of records may wait in memory, [`WAITING`] as a rule.
    ///
    /// # Errors
    /// What keeps the source from being a complete RDB, and what the spill could not do.
    pub fn read(source: impl Read, mut hasher: Hasher, spill: S, waiting: usize) -> Result<Side<S>, DiffError> {
        let mut side = Side {
            spill,
            waiting: vec![Vec::new(); PARTITIONS],
            waits: 0,
            limit: waiting,
            peak: 0,
            aside: vec![Vec::new(); PARTITIONS],
            keys: 0,
        };
        let mut frames = Frames::new(source);
        let (mut room, mut name) = (Room::default(), Vec::new());
        while let Some(batch) = frames.next_batch()? {
            for record in batch.records() {
                match record? {
                    Record::Key(entry) => side.key(&entry, &mut hasher, &mut room, &mut name)?,
                    Record::Function(written) => side.function(written)?,
                    Record::Announced { .. } | Record::ModuleAux(_) => {}
                }
            }
            frames.recycle(batch);
        }
        Ok(side)
    }

    /// The most bytes that waited in memory at any time.
    pub fn peak(&self) -> usize {
        self.peak
    }

    fn key(
        &mut self,
        entry: &Entry<'_>,
        hasher: &mut Hasher,
        room: &mut Room,
        name: &mut Vec<u8>,
    ) -> Result<(), DiffError> {
        let Some(prints) = hasher.prints(entry, room)? else { return Ok(()) };
        self.keys += 1;
        let seen = Seen {
            hash: prints.key as u64,
            kind: Some(entry.kind),
            database: entry.database,
            name: entry.key(name)?,
            value: prints.value,
            expires_at_ms: entry.expires_at_ms,
            field_expiry: prints.field_expiry,
            groups: prints.groups,
            counters: prints.counters,
        };
        Ok(self.put((prints.key >> 120) as usize, &seen)?)
    }

    fn function(&mut self, written: &[u8]) -> Result<(), DiffError> {
        let mut room = Vec::new();
        let source = rdb::text(written, &mut room).unwrap_or(written);
        let short = |bytes: &[u8]| {
            let hash = Sha256::digest(bytes);
            hash.first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes))
        };
        let name = rdb::library_name(source).unwrap_or_default();
        let seen = Seen {
            hash: short(name) as u64,
            kind: None,
            database: 0,
            name,
            value: short(source),
            expires_at_ms: None,
            field_expiry: 0,
            groups: 0,
            counters: 0,
        };
        Ok(self.put((short(name) >> 120) as usize, &seen)?)
    }

    fn put(&mut self, partition: usize, seen: &Seen<'_>) -> io::Result<()> {
        if let Some(waiting) = self.waiting.get_mut(partition) {
            let before = waiting.len();
            seen.write(waiting);
            self.waits += waiting.len() - before;
        }
        self.peak = self.peak.max(self.waits);
        if self.waits < self.limit {
            return Ok(());
        }
        for (waiting, aside) in self.waiting.iter_mut().zip(&mut self.aside) {
            if !waiting.is_empty() {
                aside.push((self.spill.append(waiting)?, waiting.len()));
                // What a few long names took is given back.
                if waiting.capacity() > 4 * self.limit / PARTITIONS {
                    *waiting = Vec::new();
                }
                waiting.clear();
            }
        }
        self.waits = 0;
        Ok(())
    }

    fn size(&self, partition: usize) -> usize {
        let aside = self.aside.get(partition).into_iter().flatten().map(|(_, length)| length).sum::<usize>();
        aside + self.waiting.get(partition).map_or(0, Vec::len)
    }

    /// Shows the records of a partition, with the bytes that each was read from.
    fn each(&mut self, partition: usize, mut show: impl FnMut(Seen<'_>, &[u8])) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (offset, length) in self.aside.get(partition).into_iter().flatten() {
            bytes.resize(*length, 0);
            self.spill.read_at(*offset, &mut bytes)?;
            each(&bytes, &mut show)?;
        }
        each(self.waiting.get(partition).map_or(&[], Vec::as_slice), &mut show)
    }
}

fn each(mut bytes: &[u8], show: &mut impl FnMut(Seen<'_>, &[u8])) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut rest = bytes;
        let seen = Seen::read(&mut rest).ok_or(io::ErrorKind::InvalidData)?;
        show(seen, bytes.get(..bytes.len() - rest.len()).unwrap_or_default());
        bytes = rest;
    }
    Ok(())
}

const HAS_EXPIRY: u8 = 1;
const HAS_FIELD_EXPIRY: u8 = 2;
const HAS_GROUPS: u8 = 4;
const HAS_COUNTERS: u8 = 8;
const HAS_DATABASE: u8 = 16;
const IS_FUNCTION: u8 = 0xff;

impl<'r> Seen<'r> {
    fn write(&self, to: &mut Vec<u8>) {
        let parts = [(HAS_FIELD_EXPIRY, self.field_expiry), (HAS_GROUPS, self.groups), (HAS_COUNTERS, self.counters)];
        let mut flags = parts.iter().filter(|(_, print)| *print != 0).map(|(flag, _)| flag).sum::<u8>();
        flags |= if self.expires_at_ms.is_some() { HAS_EXPIRY } else { 0 };
        flags |= if self.database != 0 { HAS_DATABASE } else { 0 };
        to.extend_from_slice(&[flags, self.kind.map_or(IS_FUNCTION, |kind| kind as u8)]);
        to.extend_from_slice(&self.hash.to_le_bytes());
        to.extend_from_slice(&self.value.to_le_bytes());
        if let Some(at) = self.expires_at_ms {
            to.extend_from_slice(&at.to_le_bytes());
        }
        for (_, print) in parts.iter().filter(|(_, print)| *print != 0) {
            to.extend_from_slice(&print.to_le_bytes());
        }
        if self.database != 0 {
            to.extend_from_slice(&self.database.to_le_bytes());
        }
        to.extend_from_slice(&(self.name.len() as u64).to_le_bytes());
        to.extend_from_slice(self.name);
    }

    fn read(from: &mut &'r [u8]) -> Option<Seen<'r>> {
        let [flags, kind] = take(from)?;
        let kind = match kind {
            IS_FUNCTION => None,
            kind => Some(Type::ALL.into_iter().find(|known| *known as u8 == kind)?),
        };
        let hash = u64::from_le_bytes(take(from)?);
        let value = u128::from_le_bytes(take(from)?);
        let has = |flag| flags & flag != 0;
        let expires_at_ms = if has(HAS_EXPIRY) { Some(i64::from_le_bytes(take(from)?)) } else { None };
        let mut print = |flag| if has(flag) { take(from).map(u128::from_le_bytes) } else { Some(0) };
        let (field_expiry, groups, counters) = (print(HAS_FIELD_EXPIRY)?, print(HAS_GROUPS)?, print(HAS_COUNTERS)?);
        let database = if has(HAS_DATABASE) { u64::from_le_bytes(take(from)?) } else { 0 };
        let length = usize::try_from(u64::from_le_bytes(take(from)?)).ok()?;
        let (name, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(Seen { hash, kind, database, name, value, expires_at_ms, field_expiry, groups, counters })
    }

    /// Whether both are about the same key.
    fn is(&self, other: &Seen<'_>) -> bool {
        (self.kind.is_none(), self.database, self.name) == (other.kind.is_none(), other.database, other.name)
    }

    fn held(&self) -> Held {
        Held { kind: self.kind.map_or("function", Type::name), expires_at_ms: self.expires_at_ms }
    }

    fn differs(&self, other: &Seen<'_>) -> BTreeSet<Aspect> {
        let counted = self.counters != 0 && other.counters != 0;
        let kinds = self.kind != other.kind;
        // Of two types no more can be compared than when they expire.
        [
            (Aspect::Type, kinds),
            (Aspect::Value, !kinds && self.value != other.value),
            (Aspect::Groups, !kinds && self.groups != other.groups),
            (Aspect::StreamCounters, !kinds && counted && self.counters != other.counters),
            (Aspect::Expiry, self.expires_at_ms != other.expires_at_ms),
            (Aspect::FieldExpiry, !kinds && self.field_expiry != other.field_expiry),
        ]
        .into_iter()
        .filter_map(|(aspect, differs)| differs.then_some(aspect))
        .collect()
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

/// Compares two sides that were read with hashers of the same key.
///
/// # Errors
/// What a spill could not do.
pub fn compare<A: Spill, B: Spill>(mut a: Side<A>, mut b: Side<B>, asked: Asked) -> Result<Report, DiffError> {
    let mut found = Found { report: Report { keys: [a.keys, b.keys], ..Report::default() }, asked, ..Found::default() };
    for partition in 0..PARTITIONS {
        let shares = a.size(partition).div_ceil(asked.held.max(1)).max(1) as u64;
        for share in 0..shares {
            found.partition(&mut a, &mut b, partition, |seen| seen.hash % shares == share)?;
        }
    }
    Ok(found.into_report())
}

struct Found {
    report: Report,
    asked: Asked,
    prefixes: BTreeMap<Prefix, Counts>,
    /// Records of one side, and where each begins, by its hash.
    bytes: Vec<u8>,
    index: Vec<(u64, usize)>,
}

impl Default for Found {
    fn default() -> Found {
        Found {
            report: Report::default(),
            asked: Asked { depth: 1, limit: 0, held: HELD },
            prefixes: BTreeMap::new(),
            bytes: Vec::new(),
            index: Vec::new(),
        }
    }
}

impl Found {
    fn partition<A: Spill, B: Spill>(
        &mut self,
        a: &mut Side<A>,
        b: &mut Side<B>,
        partition: usize,
        is_in_share: impl Fn(&Seen<'_>) -> bool,
    ) -> io::Result<()> {
        let (mut bytes, mut index) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.index));
        bytes.clear();
        index.clear();
        a.each(partition, |seen, raw| {
            if is_in_share(&seen) {
                index.push((seen.hash, bytes.len()));
                bytes.extend_from_slice(raw);
            }
        })?;
        index.sort_unstable();
        let at = |offset: usize| bytes.get(offset..).and_then(|mut rest| Seen::read(&mut rest));
        let mut met = vec![false; index.len()];
        b.each(partition, |theirs, _| {
            if !is_in_share(&theirs) {
                return;
            }
            let from = index.partition_point(|(hash, _)| *hash < theirs.hash);
            let same = index.iter().zip(&mut met).skip(from).take_while(|((hash, _), _)| *hash == theirs.hash);
            for ((_, offset), met) in same {
                if let Some(ours) = at(*offset).filter(|ours| ours.is(&theirs)) {
                    *met = true;
                    self.both(&ours, &theirs);
                    return;
                }
            }
            self.one(Class::OnlyB, &theirs);
        })?;
        for ((_, offset), _) in index.iter().zip(&met).filter(|(_, met)| !**met) {
            if let Some(ours) = at(*offset) {
                self.one(Class::OnlyA, &ours);
            }
        }
        (self.bytes, self.index) = (bytes, index);
        Ok(())
    }

    fn one(&mut self, class: Class, seen: &Seen<'_>) {
        let held = Some(seen.held());
        let (a, b) = if class == Class::OnlyA { (held, None) } else { (None, held) };
        self.note(seen, || Difference { class, aspects: Vec::new(), a, b }, class);
    }

    fn both(&mut self, a: &Seen<'_>, b: &Seen<'_>) {
        let aspects = a.differs(b);
        let class = match aspects.first() {
            None => return,
            Some(Aspect::Type) => Class::Type,
            Some(Aspect::Value | Aspect::Groups | Aspect::StreamCounters) => Class::Value,
            Some(Aspect::Expiry | Aspect::FieldExpiry) => Class::Expiry,
        };
        let (held_a, held_b) = (Some(a.held()), Some(b.held()));
        let difference = || Difference { class, aspects: aspects.iter().copied().collect(), a: held_a, b: held_b };
        self.note(a, difference, class);
    }

    fn note(&mut self, seen: &Seen<'_>, difference: impl FnOnce() -> Difference, class: Class) {
        let limit = self.asked.limit;
        if seen.kind.is_none() {
            self.report.functions.add(class);
            first(&mut self.report.listed_functions, seen.name.to_vec(), limit, || class);
            return;
        }
        self.report.differing.add(class);
        match prefix(seen.name, self.asked.depth) {
            Some(prefix) if prefix.len() > PREFIX_LENGTH => self.report.other.add(class),
            prefix => {
                let prefix = (seen.database, prefix.map(<[u8]>::to_vec));
                if self.prefixes.len() < PREFIXES || self.prefixes.contains_key(&prefix) {
                    self.prefixes.entry(prefix).or_default().add(class);
                } else {
                    self.report.other.add(class);
                }
            }
        }
        first(&mut self.report.listed, (seen.database, seen.name.to_vec()), limit, difference);
    }

    fn into_report(mut self) -> Report {
        let mut prefixes: Vec<_> = self.prefixes.into_iter().collect();
        prefixes.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.total()));
        self.report.prefixes = prefixes;
        self.report
    }
}

/// Keeps what comes first in order, so that the same is shown whatever the order of finding.
fn first<K: Ord, V>(kept: &mut BTreeMap<K, V>, key: K, limit: usize, value: impl FnOnce() -> V) {
    if kept.len() < limit || kept.last_key_value().is_some_and(|(last, _)| key < *last) {
        kept.insert(key, value());
        if kept.len() > limit {
            kept.pop_last();
        }
    }
}

/// A name up to and with its `depth`th `:`, or its last one where there are fewer.
fn prefix(name: &[u8], depth: usize) -> Option<&[u8]> {
    let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b':').take(depth.max(1));
    let (end, _) = ends.last()?;
    name.get(..=end)
}

/// A prefix as people read it.
pub fn shown(prefix: &Option<Vec<u8>>) -> String {
    match prefix {
        Some(prefix) => Blob(prefix).to_string(),
        None => "(no prefix)".to_owned(),
    }
}

//! The keyspace digest: one value that says whether two datasets are the same, whatever wrote them.
//!
//! Every key is hashed with its database, its logical value and its absolute expiry, and the hashes are added up modulo
//! 2^256: the order of keys does not matter, nor the encoding of values; digests of parts can be merged, and parts taken
//! out of a whole. There is a lane for each aspect, and 4096 buckets by key that say where to look.
//!
//! The hash is XXH3 with a secret of the digest's own. It finds accidents: bytes that were lost, changed or made up by
//! a disk, a wire or a program. Against somebody who knows the secret and means to deceive, it proves nothing. Without
//! the secret a sum tells nothing about the data.

use crate::rdb::{Batch, Element, Entry, Frames, RdbError, Record, Room, Summary, Tally, Type};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_secret};

const BUCKETS: usize = 4096;
/// Compressed strings are shown in pieces of at least this; one that is shorter is the whole.
const WHOLE: usize = 256 * 1024;
/// Any odd number makes the place of an item in a list count.
const PLACE: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
/// Bytes that may wait for those that read them.
const WAITING: usize = 8 * 1024 * 1024;
/// More threads than this wait for the one that cuts the batches.
const HASHERS: usize = 4;

/// What a digest is made with. Two digests compare only when they were made with the same one.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    pub fn new(random: [u8; 32]) -> Key {
        Key(random)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn secret(&self, purpose: u8) -> [u8; 192] {
        let mut secret = [0; 192];
        for (number, piece) in (0u8..).zip(secret.chunks_mut(32)) {
            let hash = Sha256::new().chain_update(self.0).chain_update([purpose, number]).finalize();
            piece.copy_from_slice(&hash);
        }
        secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// A sum of hashes modulo 2^256, the lowest word first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, other: Sum) {
        let mut carry = false;
        for (word, more) in self.0.iter_mut().zip(other.0) {
            let (once, over) = word.overflowing_add(more);
            let (twice, again) = once.overflowing_add(u64::from(carry));
            (*word, carry) = (twice, over | again);
        }
    }

    fn subtract(&mut self, other: Sum) {
        let mut borrow = false;
        for (word, less) in self.0.iter_mut().zip(other.0) {
            let (once, under) = word.overflowing_sub(less);
            let (twice, again) = once.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (twice, under | again);
        }
    }
}

/// What two datasets may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Keys,
    Values,
    /// Of keys and of the fields of hashes.
    Expiry,
    /// Consumer groups, their consumers and what is pending with them.
    Streams,
    /// What a stream counts since 7.0: entries ever added, ids deleted, entries read by a group.
    StreamCounters,
    Functions,
}

impl Lane {
    pub const ALL: [Lane; 6] =
        [Lane::Keys, Lane::Values, Lane::Expiry, Lane::Streams, Lane::StreamCounters, Lane::Functions];

    pub fn name(self) -> &'static str {
        match self {
            Lane::Keys => "keys",
            Lane::Values => "values",
            Lane::Expiry => "expiry",
            Lane::Streams => "streams",
            Lane::StreamCounters => "stream counters",
            Lane::Functions => "functions",
        }
    }
}

/// The digest of a set of keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyspace {
    lanes: [Sum; Lane::ALL.len()],
    buckets: Vec<Sum>,
    /// Keys in it.
    pub keys: u64,
    /// Keys left out because their time had passed.
    pub expired: u64,
    /// Streams without what streams count since 7.0, whatever the version of the file that they lie in.
    pub uncounted: u64,
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        let buckets = vec![Sum::default(); BUCKETS];
        Keyspace { lanes: Default::default(), buckets, keys: 0, expired: 0, uncounted: 0 }
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("keys", &self.keys).field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Keyspace {
    fn put(&mut self, lane: Lane, sum: Sum) {
        if let Some(total) = self.lanes.get_mut(lane as usize) {
            total.add(sum);
        }
    }

    fn put_bucket(&mut self, key: u128, sum: Sum) {
        if let Some(total) = usize::try_from(key >> 116).ok().and_then(|bucket| self.buckets.get_mut(bucket)) {
            total.add(sum);
        }
    }

    /// The digest of both.
    pub fn merge(&mut self, other: &Keyspace) {
        self.each(other, Sum::add);
        self.keys += other.keys;
        self.expired += other.expired;
        self.uncounted += other.uncounted;
    }

    /// What is left without a part of it.
    pub fn subtract(&mut self, part: &Keyspace) {
        self.each(part, Sum::subtract);
        self.keys = self.keys.wrapping_sub(part.keys);
        self.expired = self.expired.wrapping_sub(part.expired);
        self.uncounted = self.uncounted.wrapping_sub(part.uncounted);
    }

    fn each(&mut self, other: &Keyspace, apply: impl Fn(&mut Sum, Sum)) {
        let sums = self.lanes.iter_mut().chain(&mut self.buckets);
        for (sum, other) in sums.zip(other.lanes.iter().chain(&other.buckets)) {
            apply(sum, *other);
        }
    }

    /// Whether all its streams count, so that what a server gives back of them has to count the same.
    pub fn counts(&self) -> bool {
        self.uncounted == 0
    }

    /// In what the two differ.
    pub fn differs(&self, other: &Keyspace) -> Vec<Lane> {
        let differs = |lane: &Lane| self.lanes.get(*lane as usize) != other.lanes.get(*lane as usize);
        Lane::ALL.into_iter().filter(differs).collect()
    }

    /// The same by name. What streams count is compared only where both servers count: those before 7.0 do not, and a newer one
    /// makes it up when it loads what they wrote.
    pub fn differs_in(&self, other: &Keyspace, both_count: bool) -> Vec<&'static str> {
        let compared = |lane: &Lane| both_count || *lane != Lane::StreamCounters;
        self.differs(other).into_iter().filter(compared).map(Lane::name).collect()
    }

    /// `values differ, in 1 of 4096 parts`; nothing where they are equal.
    pub fn difference(&self, other: &Keyspace, both_count: bool) -> Option<String> {
        let lanes = self.differs_in(other, both_count);
        let parts = self.unequal_buckets(other);
        (!lanes.is_empty()).then(|| format!("{} differ, in {parts} of 4096 parts", lanes.join(", ")))
    }

    /// The buckets whose keys differ: a fraction of 1/4096 of the keys for each.
    pub fn unequal_buckets(&self, other: &Keyspace) -> usize {
        self.buckets.iter().zip(&other.buckets).filter(|(one, other)| one != other).count()
    }
}

/// Which keys a digest is made of, by database and name.
pub type Filter = Arc<dyn Fn(u64, &[u8]) -> bool + Send + Sync>;

/// Makes hashes of keys and adds them up.
#[derive(Clone)]
pub struct Hasher {
    secrets: Arc<([u8; 192], [u8; 192])>,
    /// Keys and fields whose expiry is not after this are left out.
    alive_after_ms: Option<i64>,
    /// Keys that it does not hold for are left out.
    only: Option<Filter>,
    scratch: Vec<u8>,
    long: Option<Box<Xxh3>>,
    pub keyspace: Keyspace,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

/// The aspects of one value.
#[derive(Default)]
struct Aspects {
    value: u128,
    expiry: u128,
    group: u128,
    consumer: u128,
    streams: u128,
    counters: u128,
    meta: u128,
    elements: u64,
    long: bool,
    uncounted: bool,
}

/// The hashes of one key and of what it holds, by aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prints {
    pub key: u128,
    pub value: u128,
    /// The expiries of a hash's fields; 0 where there are none.
    pub field_expiry: u128,
    /// A stream's groups; 0 where there are none.
    pub groups: u128,
    /// What a stream counts since 7.0; 0 where its writer did not.
    pub counters: u128,
}

/// Keeps apart what is hashed alike.
#[derive(Clone, Copy)]
enum Tag {
    Key = 1,
    Element,
    Field,
    FieldExpiry,
    EntryId,
    Facts,
    Counters,
    Group,
    Pending,
    Consumer,
    Owned,
    Function,
    Wide,
    GivenBack,
    Producer,
    Produced,
    Slot,
    Meta,
}

impl Hasher {
    pub fn new(key: &Key, alive_after_ms: Option<i64>) -> Hasher {
        let secrets = Arc::new((key.secret(1), key.secret(2)));
        Hasher { secrets, alive_after_ms, only: None, scratch: Vec::new(), long: None, keyspace: Keyspace::default() }
    }

    /// Leaves out every key that `only` does not hold for, as if it were not there.
    #[must_use]
    pub fn only(mut self, only: Filter) -> Hasher {
        self.only = Some(only);
        self
    }

    /// A hasher of the same kind that has not seen anything yet.
    pub fn fresh(&self) -> Hasher {
        let Hasher { secrets, alive_after_ms, only, .. } = self;
        Hasher {
            secrets: Arc::clone(secrets),
            alive_after_ms: *alive_after_ms,
            only: only.clone(),
            scratch: Vec::new(),
            long: None,
            keyspace: Keyspace::default(),
        }
    }

    fn is_past(&self, expires_at_ms: Option<i64>) -> bool {
        matches!((expires_at_ms, self.alive_after_ms), (Some(expiry), Some(now)) if expiry <= now)
    }

    /// Adds a key; tells how many elements its value has.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn add(&mut self, entry: &Entry<'_>, room: &mut Room) -> Result<u64, RdbError> {
        self.add_with(entry, |expires_at_ms| expires_at_ms, room)
    }

    /// The same, as if the expiries of the fields of hashes were what `expiry` makes of them.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn add_with(
        &mut self,
        entry: &Entry<'_>,
        expiry: impl Fn(Option<i64>) -> Option<i64>,
        room: &mut Room,
    ) -> Result<u64, RdbError> {
        let mut aspects = Aspects::default();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut past_fields = 0;
        let elements = entry.read(room, |mut element| {
            if let Element::Field { expires_at_ms, .. } = &mut element {
                *expires_at_ms = expiry(*expires_at_ms);
            }
            if let Element::Field { expires_at_ms, .. } = element
                && self.is_past(expires_at_ms)
            {
                past_fields += 1;
                return;
            }
            aspects.take(element, &self.secrets.0, &mut scratch, &mut self.long);
        });
        let elements = elements?;
        if aspects.long
            && let Some(long) = &self.long
        {
            aspects.value = long.digest128();
        }
        aspects.value = aspects.value.wrapping_add(aspects.meta);
        if elements > 0 && self.holds(entry)? {
            if self.is_past(entry.expires_at_ms) || past_fields == elements {
                self.keyspace.expired += 1;
            } else {
                let key = self.key_hash(entry, &mut scratch)?;
                self.settle(entry, key, &aspects);
            }
        }
        self.scratch = scratch;
        Ok(elements)
    }

    /// Adds a key as it will be: with this expiry, and with the elements that `make` shows in place of its own.
    ///
    /// # Errors
    /// What is wrong with the entry, and whatever `make` says.
    pub fn add_made<E: From<RdbError>>(
        &mut self,
        entry: &Entry<'_>,
        make: impl FnOnce(&mut dyn FnMut(Element<'_>)) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut aspects = Aspects::default();
        let (mut scratch, secrets) = (std::mem::take(&mut self.scratch), Arc::clone(&self.secrets));
        make(&mut |element| aspects.take(element, &secrets.0, &mut scratch, &mut self.long))?;
        if aspects.elements > 0 || entry.kind == Type::Stream {
            if aspects.long
                && let Some(long) = &self.long
            {
                aspects.value = long.digest128();
            }
            let key = self.key_hash(entry, &mut scratch)?;
            self.settle(entry, key, &aspects);
        }
        self.scratch = scratch;
        Ok(())
    }

    fn holds(&self, entry: &Entry<'_>) -> Result<bool, RdbError> {
        let Some(only) = &self.only else { return Ok(true) };
        Ok(only(entry.database, entry.key(&mut Vec::new())?))
    }

    /// The hash of a key's name, the same on every side of a comparison.
    ///
    /// # Errors
    /// A compressed name that is not what it announces.
    fn key_hash(&self, entry: &Entry<'_>, scratch: &mut Vec<u8>) -> Result<u128, RdbError> {
        let mut room = Vec::new();
        let key = entry.key(&mut room)?;
        begin(scratch, Tag::Key, entry.database);
        scratch.extend_from_slice(key);
        Ok(xxh3_128_with_secret(scratch, &self.secrets.0))
    }

    fn settle(&mut self, entry: &Entry<'_>, key: u128, aspects: &Aspects) {
        self.keyspace.keys += 1;
        self.keyspace.uncounted += u64::from(aspects.uncounted);
        let kind = entry.kind as u64;
        let mut sums = Sum::default();
        self.lane(Lane::Keys, &mut sums, key, [kind]);
        self.lane(Lane::Values, &mut sums, key, with(aspects.value, [kind, aspects.elements]));
        if entry.expires_at_ms.is_some() || aspects.expiry != 0 {
            let at = entry.expires_at_ms.unwrap_or(-1).cast_unsigned();
            let expires = u64::from(entry.expires_at_ms.is_some());
            self.lane(Lane::Expiry, &mut sums, key, with(aspects.expiry, [expires, at]));
        }
        if aspects.streams != 0 {
            self.lane(Lane::Streams, &mut sums, key, with(aspects.streams, [0, 0]));
        }
        if aspects.counters != 0 {
            self.lane(Lane::StreamCounters, &mut sums, key, with(aspects.counters, [0, 0]));
        }
        self.keyspace.put_bucket(key, sums);
    }

    /// Adds what a key has for a lane to the lane, and to what all lanes have of the key.
    fn lane<const N: usize>(&mut self, lane: Lane, sums: &mut Sum, key: u128, words: [u64; N]) {
        let mut wide = [[0; 8]; 8];
        let tag = u64::from(Tag::Wide as u8) | (lane as u64) << 8;
        let all = [tag, key as u64, (key >> 64) as u64].into_iter().chain(words);
        for (bytes, word) in wide.iter_mut().zip(all) {
            *bytes = word.to_le_bytes();
        }
        let wide = wide.as_flattened().get(..(N + 3) * 8).unwrap_or_default();
        let low = xxh3_128_with_secret(wide, &self.secrets.0);
        // Key and value come in as 128 bits each: the other half only has to be as good as they are.
        let high = xxh3_128_with_secret(&low.to_le_bytes(), &self.secrets.1);
        let sum = Sum([low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64]);
        self.keyspace.put(lane, sum);
        sums.add(sum);
    }

    /// Adds a function library by its bytes as written in the RDB.
    pub fn add_function(&mut self, written: &[u8]) {
        let mut room = Vec::new();
        let source = crate::rdb::text(written, &mut room).unwrap_or(written);
        let mut scratch = std::mem::take(&mut self.scratch);
        begin(&mut scratch, Tag::Function, 0);
        scratch.extend_from_slice(source);
        let hash = xxh3_128_with_secret(&scratch, &self.secrets.0);
        let mut sums = Sum::default();
        self.lane(Lane::Functions, &mut sums, hash, []);
        self.keyspace.put_bucket(hash, sums);
        self.scratch = scratch;
    }

    /// Adds a batch and counts it.
    ///
    /// # Errors
    /// The first thing wrong in it.
    pub fn add_batch(&mut self, batch: &Batch, tally: &mut Tally, room: &mut Room) -> Result<(), RdbError> {
        for record in batch.records() {
            let record = record?;
            if let Record::Function(written) = record {
                self.add_function(written);
            }
            tally.record(&record, |entry| self.add(entry, room))?;
        }
        Ok(())
    }

    /// The hashes of one key, added to nothing; `None` for a collection without elements, which is no key.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn prints(&mut self, entry: &Entry<'_>, room: &mut Room) -> Result<Option<Prints>, RdbError> {
        let mut aspects = Aspects::default();
        let mut scratch = std::mem::take(&mut self.scratch);
        let secret = &self.secrets.0;
        let elements = entry.read(room, |element| aspects.take(element, secret, &mut scratch, &mut self.long))?;
        if elements == 0 {
            return Ok(None);
        }
        if aspects.long
            && let Some(long) = &self.long
        {
            aspects.value = long.digest128();
        }
        // Of a stream the elements count groups as well; how many entries it has is among its values.
        let count = if entry.kind == Type::Stream { 0 } else { aspects.elements };
        begin(&mut scratch, Tag::Wide, count);
        scratch.extend_from_slice(&aspects.value.to_le_bytes());
        let value = xxh3_128_with_secret(&scratch, &self.secrets.0);
        let key = self.key_hash(entry, &mut scratch)?;
        self.scratch = scratch;
        let Aspects { expiry, streams, counters, .. } = aspects;
        Ok(Some(Prints { key, value, field_expiry: expiry, groups: streams, counters }))
    }
}

fn with(hash: u128, [one, two]: [u64; 2]) -> [u64; 4] {
    [hash as u64, (hash >> 64) as u64, one, two]
}

fn begin(scratch: &mut Vec<u8>, tag: Tag, number: u64) {
    scratch.clear();
    scratch.push(tag as u8);
    scratch.extend_from_slice(&number.to_le_bytes());
}

impl Aspects {
    #[inline]
    fn take(&mut self, element: Element<'_>, secret: &[u8; 192], scratch: &mut Vec<u8>, long: &mut Option<Box<Xxh3>>) {
        let hash = |bytes: &[u8]| xxh3_128_with_secret(bytes, secret);
        let mut pair = |tag: Tag, one: &[u8], two: &[u8]| {
            begin(scratch, tag, one.len() as u64);
            scratch.extend_from_slice(one);
            scratch.extend_from_slice(two);
            xxh3_128_with_secret(scratch, secret)
        };
        match element {
            // Of the data itself; what stands around it is counted by its own lane.
            Element::Text(_)
            | Element::Item(_)
            | Element::Member(_)
            | Element::Scored(..)
            | Element::Field { .. }
            | Element::StreamEntry(_)
            | Element::StreamField(..)
            | Element::Slot { .. } => self.elements = self.elements.wrapping_add(1),
            _ => {}
        }
        match element {
            Element::Text(text) if text.len() < WHOLE && !self.long => self.value = hash(text),
            Element::Text(piece) => {
                let long = long.get_or_insert_with(|| Box::new(Xxh3::with_secret(*secret)));
                if !self.long {
                    long.reset();
                }
                (self.long, self.elements) = (true, 1);
                long.update(piece);
            }
            Element::Item(item) => self.value = self.value.wrapping_mul(PLACE).wrapping_add(hash(item)),
            Element::Member(member) => self.value = self.value.wrapping_add(hash(member)),
            Element::Scored(member, score) => {
                let hash = pair(Tag::Element, &score.to_le_bytes(), member);
                self.value = self.value.wrapping_add(hash);
            }
            Element::Field { name, value, expires_at_ms } => {
                self.value = self.value.wrapping_add(pair(Tag::Field, name, value));
                if let Some(expiry) = expires_at_ms {
                    self.expiry = self.expiry.wrapping_add(pair(Tag::FieldExpiry, name, &expiry.to_le_bytes()));
                }
            }
            Element::StreamEntry(id) => {
                let hash = pair(Tag::EntryId, &id.ms.to_le_bytes(), &id.seq.to_le_bytes());
                self.value = self.value.wrapping_mul(PLACE).wrapping_add(hash);
            }
            Element::StreamField(name, value) => {
                let hash = pair(Tag::Field, name, value);
                self.value = self.value.wrapping_mul(PLACE).wrapping_add(hash);
            }
            Element::Stream(facts) => {
                let numbers = [facts.length, facts.last.ms, facts.last.seq].map(u64::to_le_bytes);
                let hash = pair(Tag::Facts, numbers.as_flattened(), &[]);
                self.value = self.value.wrapping_mul(PLACE).wrapping_add(hash);
                self.uncounted = facts.counters.is_none();
                if let Some(counters) = facts.counters {
                    let numbers = [counters.greatest_deleted.ms, counters.greatest_deleted.seq, counters.entries_added];
                    let hash = pair(Tag::Counters, numbers.map(u64::to_le_bytes).as_flattened(), &[]);
                    self.counters = self.counters.wrapping_add(hash);
                }
            }
            Element::Group { name, last, read } => {
                let numbers = [last.ms, last.seq].map(u64::to_le_bytes);
                self.group = pair(Tag::Group, name, numbers.as_flattened());
                self.streams = self.streams.wrapping_add(self.group);
                if let Some(read) = read {
                    self.counters = self.counters.wrapping_add(pair(Tag::Counters, name, &read.to_le_bytes()));
                }
            }
            Element::Pending { id, delivered_ms, deliveries } => {
                let numbers = [id.ms, id.seq, delivered_ms.cast_unsigned(), deliveries].map(u64::to_le_bytes);
                let hash = pair(Tag::Pending, &self.group.to_le_bytes(), numbers.as_flattened());
                self.streams = self.streams.wrapping_add(hash);
            }
            // When a consumer was last seen changes whenever it asks, and says nothing about the data.
            Element::Consumer { name, .. } => {
                self.consumer = pair(Tag::Consumer, &self.group.to_le_bytes(), name);
                self.streams = self.streams.wrapping_add(self.consumer);
            }
            Element::Owned(id) => {
                let numbers = [id.ms, id.seq].map(u64::to_le_bytes);
                let hash = pair(Tag::Owned, &self.consumer.to_le_bytes(), numbers.as_flattened());
                self.streams = self.streams.wrapping_add(hash);
            }
            Element::GivenBack(id) => {
                let numbers = [id.ms, id.seq].map(u64::to_le_bytes);
                let hash = pair(Tag::GivenBack, &self.group.to_le_bytes(), numbers.as_flattened());
                self.streams = self.streams.wrapping_add(hash);
            }
            Element::Producer(name) => {
                self.consumer = pair(Tag::Producer, name, &[]);
                self.streams = self.streams.wrapping_add(self.consumer);
            }
            Element::Produced { own, id } => {
                let ids = [id.ms, id.seq].map(u64::to_le_bytes);
                let one = pair(Tag::EntryId, ids.as_flattened(), own);
                let hash = pair(Tag::Produced, &self.consumer.to_le_bytes(), &one.to_le_bytes());
                self.streams = self.streams.wrapping_add(hash);
            }
            // What a stream has that nobody ever added to under an id of its own: as good as nothing.
            Element::Producers { seconds: 100, most: 100, added: 0, refused: 0 } => {}
            Element::Producers { seconds, most, added, refused } => {
                let numbers = [seconds, most, added, refused].map(u64::to_le_bytes);
                self.counters = self.counters.wrapping_add(pair(Tag::Counters, b"producers", numbers.as_flattened()));
            }
            Element::Slot { index, value } => {
                self.value = self.value.wrapping_add(pair(Tag::Slot, &index.to_le_bytes(), value));
            }
            Element::NextSlot(index) => {
                self.value = self.value.wrapping_add(pair(Tag::Slot, b"next", &index.to_le_bytes()));
            }
            Element::Meta(bytes) => self.meta = pair(Tag::Meta, bytes, &[]),
            Element::Module { bytes, .. } => self.value = hash(bytes),
        }
    }
}

/// Why a dataset was not read to its end.
#[derive(Debug)]
pub enum ReadError {
    Rdb(RdbError),
    /// Whoever was given the bytes could not take them.
    Tap(io::Error),
}

/// What reading a whole RDB has told.
#[derive(Debug)]
pub struct Told<R> {
    pub summary: Summary,
    pub keyspace: Keyspace,
    /// The source as it is behind the RDB, and what was read of it too far.
    pub source: R,
    pub rest: Vec<u8>,
}

/// Reads an RDB to its end: cut into records here, opened and hashed by a few threads, and every byte in order handed
/// to `tap` on one of its own. No part waits for another until 16 MB are under way.
///
/// # Errors
/// Anything that keeps the input from being a complete RDB, and whatever `tap` could not do.
pub fn read<R: Read>(
    source: R,
    hasher: &Hasher,
    tap: impl FnMut(&[u8]) -> io::Result<()> + Send,
) -> Result<Told<R>, ReadError> {
    let mut frames = Frames::new(source);
    let hashers = thread::available_parallelism().map_or(1, usize::from).min(HASHERS);
    let (tally, keyspace) = thread::scope(|scope| {
        let (done, returned) = mpsc::channel();
        let (to_hash, hashed) = mpsc::channel::<Arc<Batch>>();
        let hashed = Arc::new(Mutex::new(hashed));
        let hashing: Vec<_> = (0..hashers)
            .map(|_| {
                let (done, batches, hasher) = (Done(done.clone()), Arc::clone(&hashed), hasher.fresh());
                scope.spawn(move || hash_batches(done, batches, hasher))
            })
            .collect();
        drop(hashed);
        let (to_tap, tapped) = mpsc::channel::<Arc<Batch>>();
        let done = Done(done);
        let tapping = scope.spawn(move || tap_batches(done, tapped, tap));
        let fed = feed(&mut frames, [to_hash, to_tap], &returned);
        // A worker that failed says more than the end of its input.
        let mut tally = Tally::default();
        let mut keyspace = Keyspace::default();
        let mut earliest: Option<RdbError> = fed.err();
        for thread in hashing {
            match joined(thread).and_then(|(part, counted)| {
                keyspace.merge(&part);
                tally.merge(counted)
            }) {
                Err(error) if earliest.as_ref().is_none_or(|known| error.offset < known.offset) => {
                    earliest = Some(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        joined(tapping).map_err(ReadError::Tap)?;
        match earliest {
            Some(error) => Err(ReadError::Rdb(error)),
            None => Ok((tally, keyspace)),
        }
    })?;
    let summary = tally.into_summary(frames.summary());
    let (source, rest) = frames.into_rest();
    Ok(Told { summary, keyspace, source, rest })
}

/// What a worker tells the one that cuts the batches.
#[derive(PartialEq, Eq)]
enum News {
    /// A batch is free.
    Free,
    /// The worker has ended, and all that it held is free.
    Ended,
}

/// Tells of a worker's end however it comes about. Whoever waits for a batch waits for this as well.
struct Done(mpsc::Sender<News>);

impl Done {
    fn free(&self, batch: Arc<Batch>) {
        drop(batch);
        // Nobody waits for it any more when all is read.
        let _ = self.0.send(News::Free);
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        let _ = self.0.send(News::Ended);
    }
}

/// Cuts batches and gives each to everybody, taking back those that all are done with.
fn feed<R: Read>(
    frames: &mut Frames<R>,
    to: [mpsc::Sender<Arc<Batch>>; 2],
    returned: &mpsc::Receiver<News>,
) -> Result<(), RdbError> {
    let mut waiting = 0;
    let mut out: VecDeque<(usize, Arc<Batch>)> = VecDeque::new();
    while let Some(batch) = frames.next_batch()? {
        let batch = Arc::new(batch);
        waiting += batch.size();
        if to.iter().any(|to| to.send(Arc::clone(&batch)).is_err()) {
            // Somebody gave up, and will say why.
            return Ok(());
        }
        out.push_back((batch.size(), batch));
        loop {
            while out.front().is_some_and(|(_, first)| Arc::strong_count(first) == 1) {
                let Some((size, batch)) = out.pop_front() else { break };
                waiting -= size;
                if let Some(batch) = Arc::into_inner(batch) {
                    frames.recycle(batch);
                }
            }
            let news = if waiting > WAITING { returned.recv().ok() } else { returned.try_recv().ok() };
            match news {
                Some(News::Free) => {}
                // Workers end only when they fail while there is more to come.
                Some(News::Ended) => return Ok(()),
                None => break,
            }
        }
    }
    Ok(())
}

// Parameters are dropped from the last to the first: the end is told when no batch is held or waiting any more.
fn hash_batches(
    done: Done,
    batches: Arc<Mutex<mpsc::Receiver<Arc<Batch>>>>,
    mut hasher: Hasher,
) -> Result<(Keyspace, Tally), RdbError> {
    let (mut tally, mut room) = (Tally::default(), Room::default());
    loop {
        let next = match batches.lock() {
            Ok(batches) => batches.recv(),
            Err(_) => break,
        };
        let Ok(batch) = next else { break };
        hasher.add_batch(&batch, &mut tally, &mut room)?;
        done.free(batch);
    }
    Ok((hasher.keyspace, tally))
}

fn tap_batches(
    done: Done,
    batches: mpsc::Receiver<Arc<Batch>>,
    mut tap: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    for batch in batches {
        tap(batch.bytes())?;
        done.free(batch);
    }
    Ok(())
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

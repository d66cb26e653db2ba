//! Finds texts of the source where none of them may be: in what was made of it, read to its end.
//!
//! The texts are those that the spec names, and a sample of those that were masked. A sample proves that masking did what
//! it was told; whether it was told enough, a text shows that is masked at one place and stands unmasked at another.

use crate::mask::{Decided, Rules};
use crate::model::refresh::SHORTEST_CANARY;
use crate::rdb::{self, Element, Frames, RdbError, Record, Room};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read;

/// Texts that are taken from the source.
const SAMPLED: usize = 1024;
/// Of a longer text, its beginning is looked for.
const LONGEST: usize = 512;
/// Finds that are named.
const NAMED: usize = 5;

/// Where a text was masked: the number of the rule, and of the part.
pub type Spot = (usize, usize);

/// Takes a sample of the texts that are masked, all equally likely, however often each comes.
#[derive(Debug, Default)]
pub struct Sample {
    state: RandomState,
    texts: BTreeMap<u64, (Vec<u8>, Spot, u64)>,
    seen: u64,
}

impl Sample {
    pub fn offer(&mut self, text: &[u8], from: Spot) {
        if !is_telling(text) {
            return;
        }
        self.seen += 1;
        let text = text.get(..LONGEST).unwrap_or(text);
        let place = self.state.hash_one(text);
        if let Some((_, _, times)) = self.texts.get_mut(&place) {
            *times += 1;
            return;
        }
        let full = self.texts.len() >= SAMPLED;
        if full && self.texts.last_key_value().is_some_and(|(last, _)| *last < place) {
            return;
        }
        self.texts.insert(place, (text.to_vec(), from, 1));
        if full {
            self.texts.pop_last();
        }
    }

    /// Those that say something of somebody: a text that comes again and again is a word, not a secret.
    fn take(self) -> impl Iterator<Item = (Vec<u8>, Spot)> {
        let most = (self.seen / 1000).max(8);
        self.texts.into_values().filter(move |(_, _, times)| *times <= most).map(|(text, from, _)| (text, from))
    }
}

/// Whether a text is long enough, and of a kind, not to stand somewhere else by chance.
pub fn is_telling(text: &[u8]) -> bool {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    text.len() >= SHORTEST_CANARY && (text.len() >= 16 || text.contains(&b'@') || text.contains(&b' ') || digits >= 6)
}

/// Texts that are looked for.
#[derive(Debug, Default)]
pub struct Canaries {
    texts: Vec<(Vec<u8>, Option<Spot>)>,
    /// By their first bytes.
    windows: HashMap<[u8; SHORTEST_CANARY], Vec<usize>>,
    /// Which windows need not be asked for.
    sieve: Vec<u64>,
    longest: usize,
}

const SIEVE_BITS: u64 = 1 << 16;

impl Canaries {
    pub fn new(sample: Sample, configured: &[String]) -> Canaries {
        let mut canaries = Canaries { sieve: vec![0; (SIEVE_BITS / 64) as usize], ..Canaries::default() };
        let configured = configured.iter().map(|text| (text.as_bytes().to_vec(), None));
        for (text, from) in configured.chain(sample.take().map(|(text, from)| (text, Some(from)))) {
            let Some(window) = window(&text, 0) else { continue };
            let bit = sieved(window);
            if let Some(word) = canaries.sieve.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
            canaries.windows.entry(window).or_default().push(canaries.texts.len());
            canaries.longest = canaries.longest.max(text.len());
            canaries.texts.push((text, from));
        }
        canaries
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Where the first one that stands in it was masked; `None` within for one that the spec names.
    pub fn find(&self, text: &[u8]) -> Option<Option<Spot>> {
        (0..text.len().saturating_sub(SHORTEST_CANARY - 1)).find_map(|at| {
            let window = window(text, at)?;
            let bit = sieved(window);
            if self.sieve.get((bit / 64) as usize)? & 1 << (bit % 64) == 0 {
                return None;
            }
            let rest = text.get(at..)?;
            let fitting = self.windows.get(&window)?.iter().filter_map(|number| self.texts.get(*number));
            fitting.into_iter().find(|(text, _)| rest.starts_with(text)).map(|(_, from)| *from)
        })
    }
}

fn window(text: &[u8], at: usize) -> Option<[u8; SHORTEST_CANARY]> {
    text.get(at..at + SHORTEST_CANARY)?.try_into().ok()
}

fn sieved(window: [u8; SHORTEST_CANARY]) -> u64 {
    u64::from_le_bytes(window).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub place: Where,
    /// Where it was masked, unless the spec names it.
    pub from: Option<Spot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// Of which key is not told: its name would tell the text.
    Name,
    /// Of this key.
    Value(Vec<u8>),
    Function,
}

/// What a dataset holds, and what it should not.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    pub keys: u64,
    /// Keys by rule and type.
    pub rules: BTreeMap<usize, BTreeMap<&'static str, u64>>,
    /// Keys that no rule lets through.
    pub unruled: u64,
    pub found: Vec<Found>,
    /// All of them, those included that are not named.
    pub finds: u64,
}

impl Scanned {
    fn note(&mut self, found: Found) {
        self.finds += 1;
        if self.found.len() < NAMED {
            self.found.push(found);
        }
    }
}

/// Reads a snapshot to its end and looks at every text in it.
///
/// # Errors
/// What keeps it from being read.
pub fn scan(rules: &Rules, canaries: &Canaries, source: impl Read) -> Result<Scanned, RdbError> {
    let mut scanned = Scanned::default();
    let mut frames = Frames::new(source);
    let (mut room, mut name, mut tail) = (Room::default(), Vec::new(), Vec::new());
    while let Some(batch) = frames.next_batch()? {
        for record in batch.records() {
            let entry = match record? {
                Record::Key(entry) => entry,
                Record::Function(written) => {
                    let source = rdb::text(written, &mut name).unwrap_or(written);
                    if let Some(from) = canaries.find(source) {
                        scanned.note(Found { place: Where::Function, from });
                    }
                    continue;
                }
                Record::Announced { .. } | Record::ModuleAux(_) => continue,
            };
            tail.clear();
            let mut found = None;
            let mut look = |text: &[u8]| {
                if found.is_none() {
                    found = canaries.find(text);
                }
            };
            let elements = entry.read(&mut room, |element| match element {
                // A text may lie across two pieces.
                Element::Text(piece) => {
                    tail.extend_from_slice(piece);
                    look(&tail);
                    let kept = tail.len().min(canaries.longest.saturating_sub(1));
                    tail.drain(..tail.len() - kept);
                }
                Element::Item(text) | Element::Member(text) | Element::Scored(text, _) | Element::Producer(text) => {
                    look(text);
                }
                Element::Field { name, value, .. } | Element::StreamField(name, value) => {
                    look(name);
                    look(value);
                }
                Element::Group { name, .. } | Element::Consumer { name, .. } => look(name),
                Element::Produced { own, .. } => look(own),
                Element::Slot { value, .. } => look(value),
                Element::Meta(bytes) | Element::Module { bytes, .. } => look(bytes),
                Element::StreamEntry(_)
                | Element::Stream(_)
                | Element::Pending { .. }
                | Element::Owned(_)
                | Element::GivenBack(_)
                | Element::Producers { .. }
                | Element::NextSlot(_) => {}
            })?;
            if elements == 0 {
                continue;
            }
            scanned.keys += 1;
            let key = entry.key(&mut name)?;
            match rules.decide(key) {
                Decided::Rule(number) => {
                    let types = scanned.rules.entry(number).or_default();
                    *types.entry(entry.kind.name()).or_default() += 1;
                }
                Decided::Queue | Decided::Nobody => scanned.unruled += 1,
            }
            let in_name = canaries.find(key);
            if let Some(from) = in_name.or(found) {
                let place = if in_name.is_some() { Where::Name } else { Where::Value(key.to_vec()) };
                scanned.note(Found { place, from });
            }
        }
        frames.recycle(batch);
    }
    Ok(scanned)
}

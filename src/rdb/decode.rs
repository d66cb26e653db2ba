//! Opens one value and shows what it holds, the same for every encoding.
//!
//! Elements come in the order they lie in; only in lists and streams does the order mean anything. What a server would
//! refuse while loading is an error here.

use super::cut::{Cut, Text};
use super::frame::{NO_TEMPLATE, Templates};
use super::layout::{Layout, Packed, StreamVersion, Type};
use super::packed::{Piece, Pieces};
use super::{RdbError, RdbErrorKind, Walked, fail, frame, lzf};

/// A text longer than this is shown in pieces where it lies compressed.
const LONG: usize = 1024 * 1024;

/// A key with its value, as it lies in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'b> {
    pub database: u64,
    pub kind: Type,
    /// The number of the value's type and encoding.
    pub number: u8,
    pub(super) layout: Layout,
    pub(super) key: Text<'b>,
    /// Milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// Present where the server evicts by the time of the last use, or by how often a key is used.
    pub idle_seconds: Option<u64>,
    pub frequency: Option<u8>,
    /// Whether modules attached something to the key (Redis 8.6).
    pub has_meta: bool,
    /// The record of it, without its number.
    pub(super) meta: &'b [u8],
    pub(super) templates: &'b Templates,
    pub(super) value: &'b [u8],
    /// Where the value begins in the RDB.
    pub offset: u64,
}

/// `<milliseconds>-<sequence>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

/// What a stream knows of itself besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamFacts {
    pub length: u64,
    pub last: StreamId,
    /// Since 7.0.
    pub counters: Option<StreamCounters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamCounters {
    pub first: StreamId,
    pub greatest_deleted: StreamId,
    pub entries_added: u64,
}

/// A part of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Element<'v> {
    /// A string, or the next piece of one that is long.
    Text(&'v [u8]),
    Item(&'v [u8]),
    Member(&'v [u8]),
    /// Never NaN; -0 is shown as 0.
    Scored(&'v [u8], f64),
    /// The expiry is in milliseconds since 1970.
    Field {
        name: &'v [u8],
        value: &'v [u8],
        expires_at_ms: Option<i64>,
    },
    /// The fields of a stream's entry follow it.
    StreamEntry(StreamId),
    StreamField(&'v [u8], &'v [u8]),
    /// Behind the entries, ahead of the groups.
    Stream(StreamFacts),
    /// `read` is `None` where the server does not know, or its version does not count.
    Group {
        name: &'v [u8],
        last: StreamId,
        read: Option<u64>,
    },
    /// Delivered to a consumer of the group and not acknowledged.
    Pending {
        id: StreamId,
        delivered_ms: i64,
        deliveries: u64,
    },
    Consumer {
        name: &'v [u8],
        seen_ms: i64,
        active_ms: Option<i64>,
    },
    /// A pending entry that the consumer before it holds.
    Owned(StreamId),
    /// A pending entry that was given back to the group and that no consumer holds (Redis 8.8).
    GivenBack(StreamId),
    /// Somebody who adds entries under ids of its own, so that none is taken twice (Redis 8.6).
    Producer(&'v [u8]),
    /// An entry that the producer before it has added, and its own id for it.
    Produced {
        own: &'v [u8],
        id: StreamId,
    },
    /// How long and how many of these are remembered, and what was counted of them.
    Producers {
        seconds: u64,
        most: u64,
        added: u64,
        refused: u64,
    },
    /// A value of an array.
    Slot {
        index: u64,
        value: &'v [u8],
    },
    /// Where the next value of an array goes.
    NextSlot(u64),
    /// What modules attached to the key, opaque.
    Meta(&'v [u8]),
    /// Opaque; the id carries the module's name and version.
    Module {
        id: u64,
        bytes: &'v [u8],
    },
}

/// Memory that decoding uses again and again.
#[derive(Debug, Default)]
pub struct Room {
    blob: Vec<u8>,
    one: Vec<u8>,
    two: Vec<u8>,
    pending: Vec<StreamId>,
    owned: Vec<StreamId>,
    last: Vec<u8>,
    value: Vec<u8>,
}

const CANNOT_EXPAND: &str = "compressed string that does not have its announced length";

impl Entry<'_> {
    /// Bytes of the value as it was written.
    #[must_use]
    pub fn size(&self) -> usize {
        self.value.len()
    }

    /// What the value is kept as, by the names that `OBJECT ENCODING` has for it where a snapshot tells.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self.layout {
            Layout::String => match self.value.first() {
                Some(0xc0..=0xc2) => "int",
                Some(0xc3) => "compressed",
                _ => "raw",
            },
            Layout::Items => "linkedlist",
            Layout::Members
            | Layout::Fields
            | Layout::FieldsThenExpiry
            | Layout::ExpiryThenFields { .. }
            | Layout::Templated { packed: false, .. } => "hashtable",
            Layout::TextScores | Layout::BinaryScores => "skiplist",
            Layout::PackedList => "ziplist",
            Layout::PackedSet(packed) | Layout::PackedZset(packed) | Layout::PackedHash(packed) => match packed {
                Packed::Zipmap => "zipmap",
                Packed::Ziplist => "ziplist",
                Packed::Intset => "intset",
                Packed::Listpack => "listpack",
            },
            Layout::PackedHashWithExpiry { .. } | Layout::Templated { packed: true, .. } => "listpack",
            Layout::Ziplists | Layout::Nodes => "quicklist",
            Layout::Stream(_) => "stream",
            Layout::Module => "module",
            Layout::Slots => "array",
        }
    }

    /// Whether it is a hash in a form that gives its fields an expiry of their own.
    #[must_use]
    pub fn expires_fields(&self) -> bool {
        matches!(
            self.layout,
            Layout::FieldsThenExpiry | Layout::ExpiryThenFields { .. } | Layout::PackedHashWithExpiry { .. }
        )
    }

    /// The key's name.
    ///
    /// # Errors
    /// A compressed name that is not what it announces.
    pub fn key<'r>(&'r self, room: &'r mut Vec<u8>) -> Result<&'r [u8], RdbError> {
        let wrong = || *RdbError::malformed(self.offset, CANNOT_EXPAND);
        self.key.show(room).ok_or_else(wrong)
    }

    /// Shows every element, and tells how many there were: a collection of none is no key at all to a server.
    ///
    /// # Errors
    /// What contradicts the format, with its offset and the beginning of the key.
    pub fn read(&self, room: &mut Room, mut show: impl FnMut(Element<'_>)) -> Result<u64, RdbError> {
        self.decode(room, &mut show).map_err(|error| {
            let mut error = error.beyond(self.offset);
            error.key = frame::shown(self.key);
            *error
        })
    }

    fn decode(&self, room: &mut Room, show: &mut impl FnMut(Element<'_>)) -> Walked<u64> {
        let mut cut = Cut::new(self.value);
        if let Text::Packed { .. } = self.key
            && self.key.show(&mut room.one).is_none()
        {
            return cut.fail(0, CANNOT_EXPAND);
        }
        if self.has_meta {
            show(Element::Meta(self.meta));
        }
        let count = match self.layout {
            Layout::String => string(&mut cut, room, show)?,
            Layout::Items => each(&mut cut, |cut| text(cut, &mut room.one).map(|text| show(Element::Item(text))))?,
            Layout::Members => each(&mut cut, |cut| text(cut, &mut room.one).map(|text| show(Element::Member(text))))?,
            Layout::TextScores => each(&mut cut, |cut| {
                let member = text(cut, &mut room.one)?;
                let score = text_score(cut)?;
                show(Element::Scored(member, score));
                Ok(())
            })?,
            Layout::BinaryScores => each(&mut cut, |cut| {
                let member = text(cut, &mut room.one)?;
                let at = cut.at();
                let score = score_of(f64::from_le_bytes(cut.array()?));
                let Some(score) = score else { return cut.fail(at, NOT_A_NUMBER) };
                show(Element::Scored(member, score));
                Ok(())
            })?,
            Layout::Fields => each(&mut cut, |cut| {
                let name = text(cut, &mut room.one)?;
                let value = text(cut, &mut room.two)?;
                show(Element::Field { name, value, expires_at_ms: None });
                Ok(())
            })?,
            Layout::FieldsThenExpiry => each(&mut cut, |cut| {
                let name = text(cut, &mut room.one)?;
                let value = text(cut, &mut room.two)?;
                let expires_at_ms = Some(i64::from_le_bytes(cut.array()?)).filter(|expiry| *expiry != -1);
                show(Element::Field { name, value, expires_at_ms });
                Ok(())
            })?,
            Layout::ExpiryThenFields { smallest_first } => {
                // Expiries count from the smallest of the hash, from 1 on; before the final 7.4 they are whole.
                let smallest = if smallest_first { i64::from_le_bytes(cut.array()?) } else { 1 };
                each(&mut cut, |cut| {
                    let at = cut.at();
                    let expires_at_ms = match cut.length()? {
                        0 => None,
                        after => match i64::try_from(after).ok().and_then(|after| smallest.checked_add(after - 1)) {
                            Some(expiry) => Some(expiry),
                            None => return cut.fail(at, "expiry of a field beyond all time"),
                        },
                    };
                    let name = text(cut, &mut room.one)?;
                    let value = text(cut, &mut room.two)?;
                    show(Element::Field { name, value, expires_at_ms });
                    Ok(())
                })?
            }
            Layout::PackedList => packed(&mut cut, room, Packed::Ziplist, |_, piece, number| {
                show(Element::Item(piece.show(&mut number.0)));
                Ok(())
            })?,
            Layout::PackedSet(form) => packed(&mut cut, room, form, |_, piece, number| {
                show(Element::Member(piece.show(&mut number.0)));
                Ok(())
            })?,
            Layout::PackedZset(form) => packed(&mut cut, room, form, |pieces, piece, number| {
                let score = match pieces.expect()? {
                    Piece::Integer(integer) => Some(integer as f64),
                    Piece::Bytes(bytes) => parse_score(bytes),
                };
                show(Element::Scored(piece.show(&mut number.0), score.ok_or(NOT_A_NUMBER)?));
                Ok(())
            })?,
            Layout::PackedHash(form) => packed(&mut cut, room, form, |pieces, name, number| {
                let value = pieces.expect()?.show(&mut number.1);
                show(Element::Field { name: name.show(&mut number.0), value, expires_at_ms: None });
                Ok(())
            })?,
            Layout::PackedHashWithExpiry { smallest_first } => {
                cut.take(if smallest_first { 8 } else { 0 })?;
                packed(&mut cut, room, Packed::Listpack, |pieces, name, number| {
                    let value = pieces.expect()?.show(&mut number.1);
                    let expiry = pieces.expect()?.integer().ok_or("expiry of a field that is not a number")?;
                    let expires_at_ms = Some(expiry).filter(|expiry| *expiry != 0);
                    show(Element::Field { name: name.show(&mut number.0), value, expires_at_ms });
                    Ok(())
                })?
            }
            Layout::Ziplists => {
                let mut count = 0;
                each(&mut cut, |cut| {
                    count += packed(cut, room, Packed::Ziplist, |_, piece, number| {
                        show(Element::Item(piece.show(&mut number.0)));
                        Ok(())
                    })?;
                    Ok(())
                })?;
                count
            }
            Layout::Nodes => {
                let mut count = 0;
                each(&mut cut, |cut| {
                    count += node(cut, room, show)?;
                    Ok(())
                })?;
                count
            }
            Layout::Stream(version) => stream(&mut cut, version, room, show)?,
            Layout::Module => {
                let id = cut.length()?;
                module(&mut cut, room)?;
                show(Element::Module { id, bytes: self.value });
                1
            }
            Layout::Slots => slots(&mut cut, room, show)?,
            Layout::Templated { own_names, packed } => {
                templated(&mut cut, self.templates, own_names, packed, room, show)?
            }
        };
        if cut.is_empty() { Ok(count) } else { cut.fail(cut.at(), "value with bytes behind its end") }
    }
}

/// A module's fields mean something to the module alone, but a server expands the strings among them.
fn module(cut: &mut Cut<'_>, room: &mut Room) -> Walked<()> {
    loop {
        match cut.length()? {
            0 => return Ok(()),
            1 | 2 => cut.length().map(drop)?,
            3 => cut.take(4).map(drop)?,
            4 => cut.take(8).map(drop)?,
            _ => text(cut, &mut room.one).map(drop)?,
        }
    }
}

/// Numbers in an array are shown as the text that they were set with, or the shortest that reads the same.
fn slots(cut: &mut Cut<'_>, room: &mut Room, show: &mut impl FnMut(Element<'_>)) -> Walked<u64> {
    let count = cut.length()?;
    if cut.length()? == 1 {
        show(Element::NextSlot(cut.length()?));
    }
    for _ in 0..count {
        let at = cut.at();
        let index = cut.length()?;
        if index == u64::MAX {
            return cut.fail(at, "array with an index beyond the last");
        }
        match cut.length()? {
            1 => {
                let mut number = itoa::Buffer::new();
                let value = number.format(i64::from_le_bytes(cut.array()?)).as_bytes();
                show(Element::Slot { index, value });
            }
            2 => {
                let number = f64::from_le_bytes(cut.array()?);
                let size = number.abs();
                let is_plain = size == 0.0 || (1e-5..1e17).contains(&size);
                let value = if is_plain || !number.is_finite() { number.to_string() } else { format!("{number:e}") };
                show(Element::Slot { index, value: value.as_bytes() });
            }
            _ => show(Element::Slot { index, value: text(cut, &mut room.one)? }),
        }
    }
    Ok(count)
}

/// The names of a template, wherever they lie.
enum Names<'n> {
    Texts { cut: Cut<'n>, left: u64 },
    Pieces(Pieces<'n>),
}

fn templated(
    cut: &mut Cut<'_>,
    templates: &Templates,
    own_names: bool,
    packed: bool,
    room: &mut Room,
    show: &mut impl FnMut(Element<'_>),
) -> Walked<u64> {
    let at = cut.at();
    let Room { blob, one, two, last, value, .. } = room;
    let shared = |number: Option<u64>| {
        let template = number.and_then(|number| templates.get(&number)).ok_or(NO_TEMPLATE)?;
        Ok(Names::Texts { cut: Cut::new(&template.names), left: template.count })
    };
    let names = match (own_names, packed) {
        (true, _) => Some(match cut.length()? {
            0 => Pieces::listpack(text(cut, two)?).map(Names::Pieces),
            _ => {
                let left = cut.length()?;
                let names = Names::Texts { cut: *cut, left };
                for _ in 0..left {
                    cut.text()?;
                }
                Ok(names)
            }
        }),
        (false, false) => Some(shared(Some(cut.length()?))),
        (false, true) => None,
    };
    let values_at = cut.at();
    let mut pieces = if packed {
        match Pieces::listpack(text(cut, blob)?) {
            Ok(pieces) => Some(pieces),
            Err(what) => return cut.fail(values_at, what),
        }
    } else {
        None
    };
    // Ahead of packed values comes the number of a template, of which self-contained ones make no use.
    let number = match &mut pieces {
        Some(pieces) => match pieces.expect() {
            Ok(Piece::Integer(number)) => u64::try_from(number).ok(),
            Ok(Piece::Bytes(_)) => return cut.fail(values_at, "packed hash without the number of a template"),
            Err(what) => return cut.fail(values_at, what),
        },
        None => None,
    };
    let mut names = match names.unwrap_or_else(|| shared(number)) {
        Ok(names) => names,
        Err(what) => return cut.fail(at, what),
    };
    let mut numbers = Numbers::default();
    let mut count = 0;
    last.clear();
    loop {
        let name = match &mut names {
            Names::Texts { left: 0, .. } => None,
            Names::Texts { cut: names, left } => {
                *left -= 1;
                Some(text(names, one)?)
            }
            Names::Pieces(names) => match names.next() {
                Ok(piece) => piece.map(|piece| piece.show(&mut numbers.0)),
                Err(what) => return cut.fail(at, what),
            },
        };
        let Some(name) = name else { break };
        if own_names {
            if count > 0 && (last.len(), last.as_slice()) >= (name.len(), name) {
                return cut.fail(at, "hash template with names out of order");
            }
            last.clear();
            last.extend_from_slice(name);
        }
        count += 1;
        let value = match &mut pieces {
            Some(pieces) => match pieces.expect() {
                Ok(piece) => piece.show(&mut numbers.1),
                Err(what) => return cut.fail(values_at, what),
            },
            None => text(cut, value)?,
        };
        show(Element::Field { name, value, expires_at_ms: None });
    }
    match pieces.as_mut().map_or(Ok(None), Pieces::next) {
        Ok(None) => Ok(count),
        Ok(Some(_)) => cut.fail(values_at, "packed hash with more values than names"),
        Err(what) => cut.fail(values_at, what),
    }
}

/// The format can hold such a score, but no command makes one and servers refuse to load it.
const NOT_A_NUMBER: &str = "score that is not a number";

fn score_of(score: f64) -> Option<f64> {
    // Adding 0 makes -0 the 0 that it equals.
    (!score.is_nan()).then_some(score + 0.0)
}

/// Powers of ten, and the largest whole numbers beside them, that a float holds exactly.
const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Of digits with at most one point among them, up to 15: the quotient of two exact floats is the float closest to it.
fn short_score(bytes: &[u8]) -> Option<f64> {
    let (is_negative, digits) = match bytes.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > TENS.len() {
        return None;
    }
    let (mut number, mut behind, mut count) = (0u64, None, 0);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                count += 1;
                behind = behind.map(|behind| behind + 1);
            }
            b'.' if behind.is_none() => behind = Some(0),
            _ => return None,
        }
    }
    if count == 0 || count >= TENS.len() {
        return None;
    }
    let score = number as f64 / TENS.get(behind.unwrap_or(0))?;
    Some(if is_negative { 0.0 - score } else { score })
}

fn parse_score(bytes: &[u8]) -> Option<f64> {
    if let Some(score) = short_score(bytes) {
        return Some(score);
    }
    std::str::from_utf8(bytes).ok()?.parse().ok().and_then(score_of)
}

fn text_score(cut: &mut Cut<'_>) -> Walked<f64> {
    let at = cut.at();
    let score = match cut.byte()? {
        253 => None,
        254 => Some(f64::INFINITY),
        255 => Some(f64::NEG_INFINITY),
        length => parse_score(cut.take(u64::from(length))?),
    };
    match score {
        Some(score) => Ok(score),
        None => cut.fail(at, NOT_A_NUMBER),
    }
}

// A count of items is safe to follow as far as it goes: an item takes a byte at least, so the input ends the loop.
#[inline]
fn each<'a>(cut: &mut Cut<'a>, mut read: impl FnMut(&mut Cut<'a>) -> Walked<()>) -> Walked<u64> {
    let count = cut.length()?;
    for _ in 0..count {
        read(cut)?;
    }
    Ok(count)
}

#[inline]
fn text<'r, 'a: 'r>(cut: &mut Cut<'a>, room: &'r mut Vec<u8>) -> Walked<&'r [u8]> {
    let at = cut.at();
    match cut.text()?.show(room) {
        Some(text) => Ok(text),
        None => cut.fail(at, CANNOT_EXPAND),
    }
}

fn string(cut: &mut Cut<'_>, room: &mut Room, show: &mut impl FnMut(Element<'_>)) -> Walked<u64> {
    let at = cut.at();
    match cut.text()? {
        Text::Packed { bytes, length } if length > LONG => {
            if lzf::pieces(bytes, length, &mut room.one, |piece| show(Element::Text(piece))).is_none() {
                return cut.fail(at, CANNOT_EXPAND);
            }
        }
        text => match text.show(&mut room.one) {
            Some(text) => show(Element::Text(text)),
            None => return cut.fail(at, CANNOT_EXPAND),
        },
    }
    Ok(1)
}

type Numbers = (itoa::Buffer, itoa::Buffer);

/// Opens a packed value and hands each item's first piece on; the rest of an item is taken from what is left.
fn packed(
    cut: &mut Cut<'_>,
    room: &mut Room,
    form: Packed,
    mut item: impl FnMut(&mut Pieces<'_>, Piece<'_>, &mut Numbers) -> Result<(), &'static str>,
) -> Walked<u64> {
    let at = cut.at();
    let blob = match cut.text()? {
        Text::Number(_) => return cut.fail(at, "packed value too short for its header"),
        text => match text.show(&mut room.blob) {
            Some(blob) => blob,
            None => return cut.fail(at, CANNOT_EXPAND),
        },
    };
    let mut count = 0;
    let mut run = || {
        let mut pieces = open(form, blob)?;
        let mut numbers = Numbers::default();
        while let Some(piece) = pieces.next()? {
            item(&mut pieces, piece, &mut numbers)?;
            count += 1;
        }
        // Servers drop empty listpacks and ziplists while loading, and refuse these two (tried on 8.2).
        match form {
            Packed::Zipmap | Packed::Intset if count == 0 => Err("packed value without an element"),
            _ => Ok(()),
        }
    };
    match run() {
        Ok(()) => Ok(count),
        Err(what) => cut.fail(at, what),
    }
}

fn open(form: Packed, blob: &[u8]) -> Result<Pieces<'_>, &'static str> {
    match form {
        Packed::Listpack => Pieces::listpack(blob),
        Packed::Ziplist => Pieces::ziplist(blob),
        Packed::Intset => Pieces::intset(blob),
        Packed::Zipmap => Pieces::zipmap(blob),
    }
}

fn node(cut: &mut Cut<'_>, room: &mut Room, show: &mut impl FnMut(Element<'_>)) -> Walked<u64> {
    let at = cut.at();
    match cut.length()? {
        1 => {
            let item = text(cut, &mut room.one)?;
            show(Element::Item(item));
            Ok(1)
        }
        2 => packed(cut, room, Packed::Listpack, |_, piece, number| {
            show(Element::Item(piece.show(&mut number.0)));
            Ok(())
        }),
        _ => cut.fail(at, "unknown kind of list node"),
    }
}

fn stream(
    cut: &mut Cut<'_>,
    version: StreamVersion,
    room: &mut Room,
    show: &mut impl FnMut(Element<'_>),
) -> Walked<u64> {
    let nodes = each(cut, |cut| stream_node(cut, room, show))?;
    let at = cut.at();
    let length = cut.length()?;
    if length > 0 && nodes == 0 {
        return cut.fail(at, "stream with a length and without entries");
    }
    let mut facts = StreamFacts { length, last: lengths_id(cut)?, counters: None };
    if version >= StreamVersion::Two {
        let (first, greatest_deleted) = (lengths_id(cut)?, lengths_id(cut)?);
        facts.counters = Some(StreamCounters { first, greatest_deleted, entries_added: cut.length()? });
    }
    show(Element::Stream(facts));
    each(cut, |cut| group(cut, version, room, show))?;
    if version >= StreamVersion::Four {
        let (seconds, most) = (cut.length()?, cut.length()?);
        each(cut, |cut| {
            show(Element::Producer(text(cut, &mut room.one)?));
            each(cut, |cut| {
                let own = text(cut, &mut room.one)?;
                show(Element::Produced { own, id: lengths_id(cut)? });
                Ok(())
            })
            .map(drop)
        })?;
        show(Element::Producers { seconds, most, added: cut.length()?, refused: cut.length()? });
    }
    // A stream without entries is a key all the same.
    Ok(1)
}

fn lengths_id(cut: &mut Cut<'_>) -> Walked<StreamId> {
    Ok(StreamId { ms: cut.length()?, seq: cut.length()? })
}

fn raw_id(cut: &mut Cut<'_>) -> Walked<StreamId> {
    Ok(StreamId { ms: u64::from_be_bytes(cut.array()?), seq: u64::from_be_bytes(cut.array()?) })
}

fn stream_node(cut: &mut Cut<'_>, room: &mut Room, show: &mut impl FnMut(Element<'_>)) -> Walked<()> {
    let at = cut.at();
    let mut id = [0; 16];
    let key = text(cut, &mut room.one)?;
    if key.len() != id.len() {
        return cut.fail(at, "stream node without an id of 16 bytes");
    }
    id.copy_from_slice(key);
    let first = raw_id(&mut Cut::new(&id))?;
    let at = cut.at();
    let blob = text(cut, &mut room.blob)?;
    match entries(first, blob, show) {
        Ok(()) => Ok(()),
        Err(what) => cut.fail(at, what),
    }
}

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// The entries of one node: ids count from the node's own, fields may be those of the node's first entry.
fn entries(first: StreamId, blob: &[u8], show: &mut impl FnMut(Element<'_>)) -> Result<(), &'static str> {
    const WRONG: &str = "stream node that contradicts itself";
    let mut pieces = Pieces::listpack(blob)?;
    let count = |pieces: &mut Pieces<'_>| {
        pieces.expect()?.integer().and_then(|number| usize::try_from(number).ok()).ok_or(WRONG)
    };
    let (live, deleted, fields) = (count(&mut pieces)?, count(&mut pieces)?, count(&mut pieces)?);
    let mut numbers = Numbers::default();
    let names = pieces.clone();
    for _ in 0..fields {
        pieces.expect()?;
    }
    if count(&mut pieces)? != 0 {
        return Err(WRONG);
    }
    let (mut live_seen, mut deleted_seen) = (0, 0);
    while let Some(flags) = pieces.next()? {
        let flags = flags.integer().ok_or(WRONG)?;
        let (ms, seq) = (pieces.expect()?.integer().ok_or(WRONG)?, pieces.expect()?.integer().ok_or(WRONG)?);
        // Differences of unsigned numbers, kept as signed ones.
        let id = StreamId { ms: first.ms.wrapping_add_signed(ms), seq: first.seq.wrapping_add_signed(seq) };
        let is_deleted = flags & DELETED != 0;
        if is_deleted {
            deleted_seen += 1;
        } else {
            live_seen += 1;
            show(Element::StreamEntry(id));
        }
        let mut pieces_of_entry = 3;
        if flags & SAME_FIELDS != 0 {
            let mut names = names.clone();
            for _ in 0..fields {
                let (name, value) = (names.expect()?, pieces.expect()?);
                pieces_of_entry += 1;
                if !is_deleted {
                    show(Element::StreamField(name.show(&mut numbers.0), value.show(&mut numbers.1)));
                }
            }
        } else {
            pieces_of_entry += 1;
            for _ in 0..count(&mut pieces)? {
                let (name, value) = (pieces.expect()?, pieces.expect()?);
                pieces_of_entry += 2;
                if !is_deleted {
                    show(Element::StreamField(name.show(&mut numbers.0), value.show(&mut numbers.1)));
                }
            }
        }
        if count(&mut pieces)? != pieces_of_entry {
            return Err(WRONG);
        }
    }
    if (live_seen, deleted_seen) == (live, deleted) { Ok(()) } else { Err(WRONG) }
}

fn group(cut: &mut Cut<'_>, version: StreamVersion, room: &mut Room, show: &mut impl FnMut(Element<'_>)) -> Walked<()> {
    let name = text(cut, &mut room.one)?;
    let last = lengths_id(cut)?;
    // -1, which is the greatest length, where the server does not know.
    let read = if version >= StreamVersion::Two { Some(cut.length()?).filter(|read| *read != u64::MAX) } else { None };
    show(Element::Group { name, last, read });
    room.pending.clear();
    let pending = &mut room.pending;
    each(cut, |cut| {
        let id = raw_id(cut)?;
        let delivered_ms = i64::from_le_bytes(cut.array()?);
        let deliveries = cut.length()?;
        pending.push(id);
        show(Element::Pending { id, delivered_ms, deliveries });
        Ok(())
    })?;
    pending.sort_unstable();
    let at = cut.at();
    if pending.windows(2).any(|two| matches!(two, [one, other] if one == other)) {
        return cut.fail(at, "entry pending twice with a group");
    }
    room.owned.clear();
    let owned = &mut room.owned;
    let mut own = |cut: &mut Cut<'_>| {
        let at = cut.at();
        let id = raw_id(cut)?;
        if pending.binary_search(&id).is_err() {
            return cut.fail(at, "entry pending with a consumer and not with its group");
        }
        owned.push(id);
        Ok(id)
    };
    each(cut, |cut| {
        let name = text(cut, &mut room.two)?;
        let seen_ms = i64::from_le_bytes(cut.array()?);
        let active_ms = if version >= StreamVersion::Three { Some(i64::from_le_bytes(cut.array()?)) } else { None };
        show(Element::Consumer { name, seen_ms, active_ms });
        each(cut, |cut| own(cut).map(|id| show(Element::Owned(id)))).map(drop)
    })?;
    if version >= StreamVersion::Five {
        each(cut, |cut| own(cut).map(|id| show(Element::GivenBack(id))))?;
    }
    owned.sort_unstable();
    if owned == pending {
        Ok(())
    } else {
        fail(cut.at() as u64, RdbErrorKind::Malformed("entry pending with a group and not with one of its consumers"))
    }
}

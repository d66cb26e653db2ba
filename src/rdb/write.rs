//! Writes what was read: as it was, or in the plainest encoding, which older servers and the other family load as well.
//!
//! Plain means: one of the collections of strings that every version since 5.0 has, no packed forms, no compression. A
//! stream keeps its entries as they lie, since no encoding but that one exists, and loses the counters that the target
//! does not know. What cannot be lost without changing the data is [`WriteError::Loses`].

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use crc_fast::{CrcAlgorithm, Digest};

use super::cut::Cut;
use super::decode::{Element, Entry, Room, StreamId};
use super::layout::{self, Layout, StreamVersion, Type};
use super::pack::Nodes;
use super::{Family, RdbError, Walked};

/// Which servers a file or payload is for: those that read this version, and all newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub family: Family,
    pub version: u32,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The bytes as they were read, if the target knows the encoding. Hashes that refer to a template of the file they
    /// came from are written plain.
    AsWritten,
    Plain,
}

/// Why a key could not be written for a target.
#[derive(Debug)]
pub enum WriteError {
    Io(io::Error),
    /// The value itself is wrong.
    Value(RdbError),
    /// Writing it would lose something that cannot be told afterwards.
    Loses {
        key: Vec<u8>,
        what: &'static str,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Io(_) => f.write_str("could not write the RDB"),
            WriteError::Value(error) => error.fmt(f),
            WriteError::Loses { key, what } => write!(f, "the target has no {what} (key `{}`)", key.escape_ascii()),
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WriteError::Io(error) => Some(error),
            WriteError::Value(_) | WriteError::Loses { .. } => None,
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Io(error)
    }
}

impl From<RdbError> for WriteError {
    fn from(error: RdbError) -> WriteError {
        WriteError::Value(error)
    }
}

const AUX: u8 = 250;
const FUNCTION: u8 = 245;
const MODULE_AUX: u8 = 247;
const FREQUENCY: u8 = 249;
const IDLE: u8 = 248;
const KEY_META: u8 = 243;
const RESIZE: u8 = 251;
const EXPIRY_MS: u8 = 252;
const SELECT: u8 = 254;
const END: u8 = 255;

/// Writes an RDB from its header to its checksum.
pub struct Writer<W> {
    out: W,
    crc: Digest,
    target: Target,
    database: Option<u64>,
    scratch: Vec<u8>,
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("target", &self.target).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// # Errors
    /// What `out` could not do, here and below.
    pub fn begin(out: W, target: Target) -> io::Result<Self> {
        let mut writer =
            Self { out, crc: Digest::new(CrcAlgorithm::Crc64Redis), target, database: None, scratch: Vec::new() };
        let magic = match target.family {
            Family::Redis => format!("REDIS{:04}", target.version),
            Family::Valkey => format!("VALKEY{:03}", target.version),
        };
        writer.put(magic.as_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes)
    }

    /// # Errors
    /// What `out` could not do.
    pub fn aux(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut record = vec![AUX];
        put_text(&mut record, name.as_bytes());
        put_text(&mut record, text.as_bytes());
        self.put(&record)
    }

    /// Says how many keys of a database come, for the server to make room at once.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn announce(&mut self, database: u64, keys: u64, expires: u64) -> io::Result<()> {
        let mut record = Vec::new();
        self.select(&mut record, database);
        record.push(RESIZE);
        put_length(&mut record, keys);
        put_length(&mut record, expires);
        self.database = Some(database);
        self.put(&record)
    }

    fn select(&self, record: &mut Vec<u8>, database: u64) {
        if self.database != Some(database) {
            record.push(SELECT);
            put_length(record, database);
        }
    }

    /// A function library by its bytes as they were written.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn function(&mut self, written: &[u8]) -> io::Result<()> {
        self.put(&[FUNCTION])?;
        self.put(written)
    }

    /// What a module keeps outside of keys, by its bytes as they were written.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn module_aux(&mut self, written: &[u8]) -> io::Result<()> {
        self.put(&[MODULE_AUX])?;
        self.put(written)
    }

    /// Writes a function library by its source.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn library(&mut self, source: &[u8]) -> io::Result<()> {
        let mut written = Vec::new();
        put_text(&mut written, source);
        self.function(&written)
    }

    /// Writes a key, with this expiry in place of its own. `false` where it holds nothing, and is left out as every
    /// server would.
    ///
    /// # Errors
    /// What `out` could not do, and what the target has no form for.
    pub fn key(
        &mut self,
        entry: &Entry<'_>,
        expires_at_ms: Option<i64>,
        form: Form,
        room: &mut Room,
    ) -> Result<bool, WriteError> {
        if entry.has_meta
            && ((self.target.family, form) != (Family::Redis, Form::AsWritten) || self.target.version < 13)
        {
            return loses(entry, "place for what modules attach to a key");
        }
        let mut record = std::mem::take(&mut self.scratch);
        let number = self.lead(entry, expires_at_ms, &mut record)?;
        let written = put_value(entry, self.target, form, as_it_is, room, &mut record)?;
        Ok(self.settle(entry, number, written, record)?)
    }

    /// Writes a key whose value `fill` puts together element by element, of the entry's type and in plain form. `false`
    /// where nothing was put in, and it is left out as every server would.
    ///
    /// # Errors
    /// What `out` could not do, what the target has no form for, and whatever `fill` says.
    pub fn made<E: From<WriteError>>(
        &mut self,
        entry: &Entry<'_>,
        expires_at_ms: Option<i64>,
        field_expiry: impl Fn(Option<i64>) -> Option<i64>,
        room: &mut Room,
        fill: impl FnOnce(&mut Made<'_>, &mut Room) -> Result<(), E>,
    ) -> Result<bool, E> {
        if entry.has_meta {
            return loses(entry, "place for what modules attach to a key that is made anew").map_err(E::from);
        }
        let mut record = std::mem::take(&mut self.scratch);
        let number = self.lead(entry, expires_at_ms, &mut record)?;
        let written = made(entry, self.target, field_expiry, room, fill, &mut record)?;
        let written = self.settle(entry, number, written, record).map_err(|error| E::from(error.into()))?;
        Ok(written)
    }

    /// Writes a key that was read nowhere; none whose value is a stream, of a module, or an array.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn own(
        &mut self,
        database: u64,
        key: &[u8],
        kind: Type,
        expires_at_ms: Option<i64>,
        fill: impl FnOnce(&mut Made<'_>),
    ) -> io::Result<bool> {
        let number = match kind {
            Type::String => 0,
            Type::List => 1,
            Type::Set => 2,
            Type::Hash => 4,
            Type::Zset => 5,
            Type::Stream | Type::Module | Type::Array => return Ok(false),
        };
        let (mut record, mut value) = (Vec::new(), Vec::new());
        let mut made =
            Made { out: &mut value, number, smallest: None, count: 0, is_beyond: false, nodes: Nodes::default() };
        fill(&mut made);
        let count = made.count;
        if count == 0 {
            return Ok(false);
        }
        self.select(&mut record, database);
        self.database = Some(database);
        if let Some(expiry) = expires_at_ms {
            record.push(EXPIRY_MS);
            record.extend_from_slice(&expiry.to_le_bytes());
        }
        record.push(number);
        put_text(&mut record, key);
        if number != 0 {
            put_length(&mut record, count);
        }
        self.put(&record)?;
        self.put(&value)?;
        Ok(true)
    }

    /// What comes ahead of a value; where its number goes.
    fn lead(&self, entry: &Entry<'_>, expires_at_ms: Option<i64>, record: &mut Vec<u8>) -> Result<usize, WriteError> {
        record.clear();
        self.select(record, entry.database);
        if let Some(expiry) = expires_at_ms {
            record.push(EXPIRY_MS);
            record.extend_from_slice(&expiry.to_le_bytes());
        }
        if let Some(idle) = entry.idle_seconds {
            record.push(IDLE);
            put_length(record, idle);
        }
        if let Some(frequency) = entry.frequency {
            record.extend_from_slice(&[FREQUENCY, frequency]);
        }
        if entry.has_meta {
            record.push(KEY_META);
            record.extend_from_slice(entry.meta);
        }
        let number = record.len();
        record.push(0);
        let mut name = Vec::new();
        put_text(record, entry.key(&mut name)?);
        Ok(number)
    }

    /// Puts the value's number in and writes the record, if there is one.
    fn settle(&mut self, entry: &Entry<'_>, at: usize, number: Option<u8>, mut record: Vec<u8>) -> io::Result<bool> {
        if let Some(number) = number {
            if let Some(slot) = record.get_mut(at) {
                *slot = number;
            }
            // A key that is not written selects nothing.
            self.database = Some(entry.database);
            self.put(&record)?;
        }
        record.shrink_to(64 * 1024);
        self.scratch = record;
        Ok(number.is_some())
    }

    /// Writes the end and the checksum.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[END])?;
        let crc = self.crc.finalize();
        self.out.write_all(&crc.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The payload that `DUMP` gives and `RESTORE` takes, into `payload`. `false` where the key holds nothing.
///
/// # Errors
/// What the target has no form for.
pub fn dump(
    entry: &Entry<'_>,
    target: Target,
    form: Form,
    room: &mut Room,
    payload: &mut Vec<u8>,
) -> Result<bool, WriteError> {
    dump_with(entry, target, form, as_it_is, room, payload)
}

/// The same, with the expiries that fields have of their own changed by `expiry`. Only the plain form can change them.
///
/// # Errors
/// What the target has no form for.
pub fn dump_with(
    entry: &Entry<'_>,
    target: Target,
    form: Form,
    expiry: impl Fn(Option<i64>) -> Option<i64>,
    room: &mut Room,
    payload: &mut Vec<u8>,
) -> Result<bool, WriteError> {
    if entry.has_meta {
        return loses(entry, "place for what modules attach to a key");
    }
    payload.clear();
    payload.push(0);
    let Some(number) = put_value(entry, target, form, expiry, room, payload)? else { return Ok(false) };
    if let Some(first) = payload.first_mut() {
        *first = number;
    }
    let version = u16::try_from(target.version).unwrap_or(u16::MAX);
    payload.extend_from_slice(&version.to_le_bytes());
    let crc = crc_fast::checksum(CrcAlgorithm::Crc64Redis, payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    Ok(true)
}

fn as_it_is(expires_at_ms: Option<i64>) -> Option<i64> {
    expires_at_ms
}

/// Writes the value and tells its number; `None` where it holds nothing.
fn put_value(
    entry: &Entry<'_>,
    target: Target,
    form: Form,
    expiry: impl Fn(Option<i64>) -> Option<i64>,
    room: &mut Room,
    out: &mut Vec<u8>,
) -> Result<Option<u8>, WriteError> {
    let loses = |what| loses(entry, what);
    let knows = |number| {
        let known = layout::layout(target.family, target.version, number);
        target.version >= layout::since(number) && known.is_ok_and(|(_, layout)| layout == entry.layout)
    };
    let is_templated = matches!(entry.layout, Layout::Templated { .. });
    if form == Form::AsWritten && !is_templated || matches!(entry.kind, Type::Module | Type::Array) {
        if !knows(entry.number) {
            return loses(match entry.kind {
                Type::Module => "values of modules",
                Type::Array => "arrays",
                _ => "such encoding",
            });
        }
        // An empty collection, which every server would leave out, is no better in its own encoding.
        let elements = entry.read(room, |_| ())?;
        if elements > 0 {
            out.extend_from_slice(entry.value);
        }
        return Ok((elements > 0).then_some(entry.number));
    }
    if let Layout::Stream(version) = entry.layout {
        let to = stream_version(entry, version, target, room)?;
        put_stream(entry.value, version, to, None, out).map_err(|error| *error.beyond(entry.offset))?;
        return Ok(Some(stream_number(to)));
    }
    let Some((number, smallest)) = collection(entry, target, &expiry, room)? else { return Ok(None) };
    if let Some(smallest) = smallest.filter(|_| number == 24) {
        out.extend_from_slice(&smallest.to_le_bytes());
    }
    let count_at = out.len();
    let mut text_at = None;
    if entry.kind != Type::String {
        out.extend_from_slice(&[0x80, 0, 0, 0, 0]);
    }
    let mut is_beyond = false;
    let elements = entry.read(room, |element| match element {
        Element::Text(piece) => {
            let at = *text_at.get_or_insert(out.len());
            if at == out.len() && piece.len() < 64 {
                put_text(out, piece);
            } else {
                // How long it will be is known only behind its last piece.
                if at == out.len() {
                    out.extend_from_slice(&[0x81; 9]);
                }
                out.extend_from_slice(piece);
            }
        }
        Element::Item(text) | Element::Member(text) => put_text(out, text),
        Element::Scored(member, score) => {
            put_text(out, member);
            out.extend_from_slice(&score.to_le_bytes());
        }
        Element::Field { name, value, expires_at_ms } => {
            let expires_at_ms = expiry(expires_at_ms);
            if let (24, Some(smallest)) = (number, smallest) {
                // Counted from the smallest, from 1 on; 0 is none.
                let after = expires_at_ms.map_or(Some(0), |expiry| expiry.checked_sub(smallest)?.checked_add(1));
                is_beyond |= after.is_none();
                put_length(out, after.unwrap_or_default().unsigned_abs());
            }
            put_text(out, name);
            put_text(out, value);
            if number == 22 {
                out.extend_from_slice(&expires_at_ms.unwrap_or(-1).to_le_bytes());
            }
        }
        _ => {}
    })?;
    if is_beyond {
        return loses("expiry so far from another of the same hash");
    }
    if let Some(at) = text_at {
        let length = (out.len() - at).saturating_sub(9) as u64;
        if let Some(slot) = out.get_mut(at..).filter(|text| text.first() == Some(&0x81)).and_then(|t| t.get_mut(1..9)) {
            slot.copy_from_slice(&length.to_be_bytes());
        }
        return Ok(Some(number));
    }
    let Ok(count) = u32::try_from(elements) else { return loses("room for so many elements") };
    if let Some(slot) = out.get_mut(count_at + 1..count_at + 5) {
        slot.copy_from_slice(&count.to_be_bytes());
    }
    Ok((elements > 0).then_some(number))
}

/// Which form of a stream the target has that says all that this one says.
fn stream_version(
    entry: &Entry<'_>,
    version: StreamVersion,
    target: Target,
    room: &mut Room,
) -> Result<StreamVersion, WriteError> {
    let most = match target.version {
        ..=8 => return loses(entry, "streams"),
        9 => StreamVersion::One,
        10 => StreamVersion::Two,
        13 if target.family == Family::Redis => StreamVersion::Four,
        14.. if target.family == Family::Redis => StreamVersion::Five,
        _ => StreamVersion::Three,
    };
    let to = version.min(most);
    let (mut given_back, mut produced) = (false, false);
    entry.read(room, |element| match element {
        Element::GivenBack(_) => given_back = true,
        Element::Produced { .. } => produced = true,
        _ => {}
    })?;
    if given_back && to < StreamVersion::Five {
        return loses(entry, "pending entries that no consumer holds");
    }
    if produced && to < StreamVersion::Four {
        return loses(entry, "memory of what producers have sent");
    }
    Ok(to)
}

fn stream_number(version: StreamVersion) -> u8 {
    match version {
        StreamVersion::One => 15,
        StreamVersion::Two => 19,
        StreamVersion::Three => 21,
        StreamVersion::Four => 26,
        StreamVersion::Five => 27,
    }
}

/// The number of a collection in plain form, and the smallest expiry of a hash's fields; `None` for what has no plain form.
fn collection(
    entry: &Entry<'_>,
    target: Target,
    expiry: &impl Fn(Option<i64>) -> Option<i64>,
    room: &mut Room,
) -> Result<Option<(u8, Option<i64>)>, WriteError> {
    // Field expiries come ahead of the fields, so they have to be known first.
    let mut smallest: Option<i64> = None;
    if entry.expires_fields() {
        entry.read(room, |element| {
            if let Element::Field { expires_at_ms, .. } = element
                && let Some(expiry) = expiry(expires_at_ms)
            {
                smallest = Some(smallest.map_or(expiry, |smallest| smallest.min(expiry)));
            }
        })?;
    }
    let number = match (entry.kind, smallest) {
        (Type::String, _) => 0,
        (Type::List, _) => 1,
        (Type::Set, _) => 2,
        (Type::Zset, _) => 5,
        (Type::Hash, None) => 4,
        (Type::Hash, Some(_)) if target.family == Family::Valkey => 22,
        (Type::Hash, Some(_)) if target.version >= 12 => 24,
        (Type::Hash, Some(_)) => return loses(entry, "expiry for the fields of a hash"),
        (Type::Stream | Type::Module | Type::Array, _) => return Ok(None),
    };
    Ok(Some((number, smallest)))
}

/// A value that is put together element by element.
pub struct Made<'w> {
    out: &'w mut Vec<u8>,
    number: u8,
    smallest: Option<i64>,
    count: u64,
    is_beyond: bool,
    nodes: Nodes,
}

impl fmt::Debug for Made<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("number", &self.number).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Made<'_> {
    /// The whole of a string, an item of a list, or a member of a set.
    pub fn text(&mut self, text: &[u8]) {
        put_text(self.out, text);
        self.count += 1;
    }

    pub fn scored(&mut self, member: &[u8], score: f64) {
        put_text(self.out, member);
        self.out.extend_from_slice(&score.to_le_bytes());
        self.count += 1;
    }

    /// A field of a hash, its expiry as it is to be.
    pub fn field(&mut self, name: &[u8], value: &[u8], expires_at_ms: Option<i64>) {
        if let (24, Some(smallest)) = (self.number, self.smallest) {
            // Counted from the smallest, from 1 on; 0 is none.
            let after = expires_at_ms.map_or(Some(0), |expiry| expiry.checked_sub(smallest)?.checked_add(1));
            self.is_beyond |= after.is_none();
            put_length(self.out, after.unwrap_or_default().unsigned_abs());
        }
        put_text(self.out, name);
        put_text(self.out, value);
        if self.number == 22 {
            self.out.extend_from_slice(&expires_at_ms.unwrap_or(-1).to_le_bytes());
        }
        self.count += 1;
    }

    /// An entry of a stream; its fields follow.
    pub fn stream_entry(&mut self, id: StreamId) {
        self.nodes.entry(id);
        self.count += 1;
    }

    pub fn stream_field(&mut self, name: &[u8], value: &[u8]) {
        self.nodes.field(name, value);
    }
}

fn made<E: From<WriteError>>(
    entry: &Entry<'_>,
    target: Target,
    expiry: impl Fn(Option<i64>) -> Option<i64>,
    room: &mut Room,
    fill: impl FnOnce(&mut Made<'_>, &mut Room) -> Result<(), E>,
    out: &mut Vec<u8>,
) -> Result<Option<u8>, E> {
    if let Layout::Stream(version) = entry.layout {
        let to = stream_version(entry, version, target, room)?;
        let mut made = Made {
            out,
            number: stream_number(to),
            smallest: None,
            count: 0,
            is_beyond: false,
            nodes: Nodes::default(),
        };
        fill(&mut made, room)?;
        let (number, nodes) = (made.number, made.nodes);
        let put = put_stream(entry.value, version, to, Some(nodes), out);
        put.map_err(|error| WriteError::Value(*error.beyond(entry.offset)))?;
        return Ok(Some(number));
    }
    let Some((number, smallest)) = collection(entry, target, &expiry, room)? else {
        return loses(entry, "form for such a value that is made anew").map_err(E::from);
    };
    if let Some(smallest) = smallest.filter(|_| number == 24) {
        out.extend_from_slice(&smallest.to_le_bytes());
    }
    let count_at = out.len();
    if number != 0 {
        out.extend_from_slice(&[0x80, 0, 0, 0, 0]);
    }
    let mut made = Made { out, number, smallest, count: 0, is_beyond: false, nodes: Nodes::default() };
    fill(&mut made, room)?;
    let Made { count, is_beyond, .. } = made;
    if is_beyond {
        return loses(entry, "expiry so far from another of the same hash").map_err(E::from);
    }
    if number != 0 {
        let Ok(count) = u32::try_from(count) else { return loses(entry, "room for so many elements").map_err(E::from) };
        if let Some(slot) = out.get_mut(count_at + 1..count_at + 5) {
            slot.copy_from_slice(&count.to_be_bytes());
        }
    }
    Ok((count > 0).then_some(number))
}

#[cold]
fn loses<T>(entry: &Entry<'_>, what: &'static str) -> Result<T, WriteError> {
    let mut name = Vec::new();
    let key = entry.key(&mut name)?.to_vec();
    Err(WriteError::Loses { key, what })
}

/// Copies a stream, leaving out what the older form does not have, with these entries in place of its own.
fn put_stream(
    value: &[u8],
    from: StreamVersion,
    to: StreamVersion,
    nodes: Option<Nodes>,
    out: &mut Vec<u8>,
) -> Walked<()> {
    if from == to && nodes.is_none() {
        out.extend_from_slice(value);
        return Ok(());
    }
    let mut cut = Cut::new(value);
    if let Some(nodes) = nodes {
        nodes.put(out);
        for _ in 0..cut.length()? {
            cut.text()?;
            cut.text()?;
        }
    } else {
        for _ in 0..copy_length(&mut cut, out)? {
            copy(&mut cut, out, |cut| cut.text().map(drop))?;
            copy(&mut cut, out, |cut| cut.text().map(drop))?;
        }
    }
    for _ in 0..3 {
        copy_length(&mut cut, out)?;
    }
    if from >= StreamVersion::Two {
        for _ in 0..5 {
            let length = cut.length()?;
            if to >= StreamVersion::Two {
                put_length(out, length);
            }
        }
    }
    for _ in 0..copy_length(&mut cut, out)? {
        copy(&mut cut, out, |cut| cut.text().map(drop))?;
        copy_length(&mut cut, out)?;
        copy_length(&mut cut, out)?;
        if from >= StreamVersion::Two {
            let read = cut.length()?;
            if to >= StreamVersion::Two {
                put_length(out, read);
            }
        }
        for _ in 0..copy_length(&mut cut, out)? {
            copy(&mut cut, out, |cut| cut.take(24).map(drop))?;
            copy_length(&mut cut, out)?;
        }
        for _ in 0..copy_length(&mut cut, out)? {
            copy(&mut cut, out, |cut| cut.text().map(drop))?;
            copy(&mut cut, out, |cut| cut.take(8).map(drop))?;
            if from >= StreamVersion::Three {
                let active = cut.take(8)?;
                if to >= StreamVersion::Three {
                    out.extend_from_slice(active);
                }
            }
            for _ in 0..copy_length(&mut cut, out)? {
                copy(&mut cut, out, |cut| cut.take(16).map(drop))?;
            }
        }
        // None of these is left out: there are none where the target has no place for them.
        if from >= StreamVersion::Five {
            let given_back = cut.length()?;
            if to >= StreamVersion::Five {
                put_length(out, given_back);
            }
            for _ in 0..given_back {
                copy(&mut cut, out, |cut| cut.take(16).map(drop))?;
            }
        }
    }
    if to >= StreamVersion::Four {
        copy(&mut cut, out, |cut| cut.rest().map(drop))?;
    }
    Ok(())
}

fn copy<'a>(cut: &mut Cut<'a>, out: &mut Vec<u8>, step: impl FnOnce(&mut Cut<'a>) -> Walked<()>) -> Walked<()> {
    let at = cut.at();
    step(cut)?;
    out.extend_from_slice(cut.since(at));
    Ok(())
}

fn copy_length(cut: &mut Cut<'_>, out: &mut Vec<u8>) -> Walked<u64> {
    let length = cut.length()?;
    put_length(out, length);
    Ok(length)
}

pub(super) fn put_length(out: &mut Vec<u8>, length: u64) {
    match length {
        0..=0x3f => out.push(length as u8),
        0x40..=0x3fff => out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        _ => match u32::try_from(length) {
            Ok(length) => {
                out.push(0x80);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&length.to_be_bytes());
            }
        },
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_length(out, text.len() as u64);
    out.extend_from_slice(text);
}

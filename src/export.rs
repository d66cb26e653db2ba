//! A dataset as lines of JSON, one for each key, for scripts that know nothing of RDB.
//!
//! `docs/json-lines.md` describes the form, which scripts rely on: whoever changes it raises [`FORMAT`]. Values are
//! written while they are opened, so memory is that of one value. The last line is written when all before it are, and
//! the source has been read to its end: an output without it is not whole.

use crate::rdb::{self, Element, Entry, Frames, RdbError, Record, Room, StreamId, Type};
use crate::value::blob::base64;
use crate::value::{Blob, Glob};
use serde::Serialize;
use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};

pub const FORMAT: u32 = 1;
/// Memory for a long string that is kept for the next.
const KEPT: usize = 1 << 20;

/// The first line.
#[derive(Clone, Debug, Serialize)]
pub struct Header<'a> {
    pub format: u32,
    pub backup: &'a str,
    pub stack: &'a str,
    pub environment: &'a str,
    pub service: &'a str,
    pub taken_at: &'a str,
    pub server: &'a str,
    /// Which keys are written; `None` for all.
    #[serde(rename = "match")]
    pub pattern: Option<&'a str>,
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    pub keys: u64,
    pub functions: u64,
}

/// Why an export did not come to its end.
#[derive(Debug)]
pub enum ExportError {
    Rdb(RdbError),
    /// The source failed behind the end of the RDB, where it is proven that it was all.
    Source(io::Error),
    Write(io::Error),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Rdb(error) => error.fmt(f),
            ExportError::Source(error) => error.fmt(f),
            ExportError::Write(_) => f.write_str("could not write the lines"),
        }
    }
}

impl Error for ExportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ExportError::Rdb(error) => error.source(),
            ExportError::Source(_) => None,
            ExportError::Write(error) => Some(error),
        }
    }
}

impl From<RdbError> for ExportError {
    fn from(error: RdbError) -> ExportError {
        ExportError::Rdb(error)
    }
}

/// Writes all keys whose names match, and the function libraries where all keys are asked for.
///
/// # Errors
/// What keeps the source from being a complete RDB, and what `out` could not take.
pub fn json_lines(
    source: impl Read,
    header: &Header<'_>,
    pattern: Option<&Glob>,
    out: impl Write,
) -> Result<Written, ExportError> {
    let mut lines = Lines { out, failed: Ok(()), is_first: true };
    let mut written = Written::default();
    let (mut room, mut name, mut text) = (Room::default(), Vec::new(), Vec::new());
    lines.json(header);
    lines.end_line()?;
    let mut frames = Frames::new(source);
    while let Some(batch) = frames.next_batch()? {
        for record in batch.records() {
            match record? {
                Record::Key(entry) => {
                    let key = entry.key(&mut name)?;
                    if pattern.is_none_or(|pattern| pattern.matches(key))
                        && lines.key(&entry, key, &mut room, &mut text)?
                    {
                        lines.end_line()?;
                        written.keys += 1;
                    }
                }
                Record::Function(bytes) if pattern.is_none() => {
                    let mut room = Vec::new();
                    let source = rdb::text(bytes, &mut room).unwrap_or(bytes);
                    lines.json(&Function { function: rdb::library_name(source).map(Blob), source: Blob(source) });
                    lines.end_line()?;
                    written.functions += 1;
                }
                Record::Function(_) | Record::Announced { .. } | Record::ModuleAux(_) => {}
            }
        }
        frames.recycle(batch);
    }
    let (mut source, _) = frames.into_rest();
    io::copy(&mut source, &mut io::sink()).map_err(ExportError::Source)?;
    lines.json(&End { end: written });
    lines.end_line()?;
    lines.out.flush().map_err(ExportError::Write)?;
    Ok(written)
}

#[derive(Serialize)]
struct Function<'a> {
    function: Option<Blob<'a>>,
    source: Blob<'a>,
}

#[derive(Serialize)]
struct End {
    end: Written,
}

/// JSON that is written piece by piece. What could not be written is told at the end of a line, since values are shown
/// to something that cannot fail.
struct Lines<W> {
    out: W,
    failed: io::Result<()>,
    /// Nothing stands yet inside of the bracket that was opened last.
    is_first: bool,
}

impl<W: Write> Lines<W> {
    fn put(&mut self, bytes: &[u8]) {
        if self.failed.is_ok() {
            self.failed = self.out.write_all(bytes);
        }
    }

    fn json(&mut self, value: &impl Serialize) {
        if self.failed.is_ok() {
            self.failed = serde_json::to_writer(&mut self.out, value).map_err(io::Error::from);
        }
    }

    fn end_line(&mut self) -> Result<(), ExportError> {
        self.put(b"\n");
        std::mem::replace(&mut self.failed, Ok(())).map_err(ExportError::Write)
    }

    fn open(&mut self, bracket: &str) {
        self.put(bracket.as_bytes());
        self.is_first = true;
    }

    fn close(&mut self, bracket: &str) {
        self.put(bracket.as_bytes());
        self.is_first = false;
    }

    /// Before each thing inside of a bracket.
    fn next(&mut self) {
        if !self.is_first {
            self.put(b",");
        }
        self.is_first = false;
    }

    fn item(&mut self, value: &impl Serialize) {
        self.next();
        self.json(value);
    }

    /// `false` for a collection without elements, which is no key.
    fn key(&mut self, entry: &Entry<'_>, key: &[u8], room: &mut Room, text: &mut Vec<u8>) -> Result<bool, ExportError> {
        // Told before anything is written: whether there is anything, and which form a hash needs.
        let fields = match entry.kind {
            Type::Hash => Some(Fields::of(entry, room)?),
            _ => None,
        };
        let mut value = Value { at: At::Outside, fields, text };
        value.text.clear();
        let mut begun = false;
        let elements = entry.read(room, |element| {
            if !begun {
                begun = true;
                self.begin(entry, key, &value);
            }
            value.show(self, element);
        })?;
        if elements == 0 {
            return Ok(false);
        }
        value.end(self, entry.kind);
        if let Some(fields) = value.fields.take().filter(|fields| fields.expire) {
            self.expiries(entry, &fields, room)?;
        }
        self.put(b"}");
        if text.capacity() > KEPT {
            *text = Vec::new();
        }
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry<'_>, key: &[u8], value: &Value<'_>) {
        self.put(b"{\"database\":");
        self.json(&entry.database);
        self.put(b",\"key\":");
        self.json(&Blob(key));
        self.put(b",\"type\":");
        self.json(&entry.kind.name());
        self.put(b",\"expires_at_ms\":");
        self.json(&entry.expires_at_ms);
        self.put(b",\"value\":");
        match entry.kind {
            Type::String | Type::Module => {}
            Type::List | Type::Set | Type::Zset | Type::Array => self.open("["),
            Type::Hash => self.open(value.brackets().0),
            Type::Stream => self.open("{\"entries\":["),
        }
    }

    /// The fields of a hash that expire, in the form of its value.
    fn expiries(&mut self, entry: &Entry<'_>, fields: &Fields, room: &mut Room) -> Result<(), ExportError> {
        let (open, close) = if fields.are_names { ("{", "}") } else { ("[", "]") };
        self.put(b",\"fields_expire_at_ms\":");
        self.open(open);
        entry.read(room, |element| {
            if let Element::Field { name, expires_at_ms: Some(at), .. } = element {
                self.next();
                self.pair(fields.are_names, name, &at);
            }
        })?;
        self.close(close);
        Ok(())
    }

    fn pair(&mut self, is_named: bool, name: &[u8], value: &impl Serialize) {
        if is_named {
            self.json(&Blob(name));
            self.put(b":");
            self.json(value);
        } else {
            self.json(&(Blob(name), value));
        }
    }
}

/// What has to be known of a hash ahead of its first field.
struct Fields {
    /// Every name is text and none comes twice: they can be the names of a JSON object.
    are_names: bool,
    expire: bool,
}

impl Fields {
    fn of(entry: &Entry<'_>, room: &mut Room) -> Result<Fields, RdbError> {
        let mut fields = Fields { are_names: true, expire: false };
        // Hashes of the names take less than the names. Two that meet make pairs of what could have been an object.
        let mut met = HashSet::new();
        entry.read(room, |element| {
            if let Element::Field { name, expires_at_ms, .. } = element {
                fields.expire |= expires_at_ms.is_some();
                fields.are_names = fields.are_names
                    && std::str::from_utf8(name).is_ok()
                    && met.insert(xxhash_rust::xxh3::xxh3_64(name));
            }
        })?;
        Ok(fields)
    }
}

/// One value while it is written.
struct Value<'t> {
    at: At,
    fields: Option<Fields>,
    /// A string as far as it was shown: whether it is text is known at its end.
    text: &'t mut Vec<u8>,
}

/// Where in a stream.
#[derive(PartialEq)]
enum At {
    Outside,
    Entry,
    /// In what is pending with a group, ahead of its consumers.
    Group,
    Consumer,
}

impl Value<'_> {
    fn are_names(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.are_names)
    }

    fn brackets(&self) -> (&'static str, &'static str) {
        if self.are_names() { ("{", "}") } else { ("[", "]") }
    }

    fn show<W: Write>(&mut self, lines: &mut Lines<W>, element: Element<'_>) {
        match element {
            Element::Text(piece) => self.text.extend_from_slice(piece),
            Element::Item(item) | Element::Member(item) => lines.item(&Blob(item)),
            Element::Scored(member, score) if score.is_finite() => lines.item(&(Blob(member), score)),
            // JSON has no number for these.
            Element::Scored(member, score) => {
                lines.item(&(Blob(member), if score > 0.0 { "inf" } else { "-inf" }));
            }
            Element::Field { name, value, .. } => {
                lines.next();
                lines.pair(self.are_names(), name, &Blob(value));
            }
            Element::StreamEntry(id) => {
                self.close_entry(lines);
                lines.next();
                lines.put(b"{\"id\":");
                lines.json(&shown(id));
                lines.open(",\"fields\":[");
                self.at = At::Entry;
            }
            Element::StreamField(name, value) => lines.item(&(Blob(name), Blob(value))),
            Element::Stream(facts) => {
                self.close_entry(lines);
                let counters = facts.counters;
                let rest = StreamRest {
                    length: facts.length,
                    last_id: shown(facts.last),
                    first_id: counters.map(|counters| shown(counters.first)),
                    max_deleted_id: counters.map(|counters| shown(counters.greatest_deleted)),
                    entries_added: counters.map(|counters| counters.entries_added),
                };
                lines.put(b"],\"facts\":");
                lines.json(&rest);
                lines.open(",\"groups\":[");
            }
            Element::Group { name, last, read } => {
                self.close_group(lines);
                lines.next();
                lines.put(b"{\"name\":");
                lines.json(&Blob(name));
                lines.put(b",\"last_id\":");
                lines.json(&shown(last));
                lines.put(b",\"entries_read\":");
                lines.json(&read);
                lines.open(",\"pending\":[");
                self.at = At::Group;
            }
            Element::Pending { id, delivered_ms, deliveries } => lines.item(&(shown(id), delivered_ms, deliveries)),
            Element::Consumer { name, seen_ms, active_ms } => {
                match self.at {
                    At::Consumer => lines.close("]}"),
                    _ => lines.open("],\"consumers\":["),
                }
                lines.next();
                lines.put(b"{\"name\":");
                lines.json(&Blob(name));
                lines.put(b",\"seen_ms\":");
                lines.json(&seen_ms);
                lines.put(b",\"active_ms\":");
                lines.json(&active_ms);
                lines.open(",\"pending\":[");
                self.at = At::Consumer;
            }
            Element::Owned(id) => lines.item(&shown(id)),
            Element::Slot { index, value } => lines.item(&(index, Blob(value))),
            // Bookkeeping of the server, and what modules attach: no part of the value as a client sees it.
            Element::GivenBack(_)
            | Element::Producer(_)
            | Element::Produced { .. }
            | Element::Producers { .. }
            | Element::NextSlot(_)
            | Element::Meta(_) => {}
            Element::Module { id, bytes } => {
                let (module, version) = module(id);
                lines.json(&Opaque { module, version, base64: base64(bytes) });
            }
        }
    }

    fn close_entry<W: Write>(&mut self, lines: &mut Lines<W>) {
        if self.at == At::Entry {
            lines.close("]}");
            self.at = At::Outside;
        }
    }

    fn close_group<W: Write>(&mut self, lines: &mut Lines<W>) {
        match self.at {
            At::Group => lines.close("],\"consumers\":[]}"),
            At::Consumer => lines.close("]}]}"),
            At::Outside | At::Entry => {}
        }
        self.at = At::Outside;
    }

    fn end<W: Write>(&mut self, lines: &mut Lines<W>, kind: Type) {
        match kind {
            Type::String => lines.json(&Blob(self.text)),
            Type::Module => {}
            Type::List | Type::Set | Type::Zset | Type::Array => lines.close("]"),
            Type::Hash => lines.close(self.brackets().1),
            Type::Stream => {
                self.close_group(lines);
                lines.close("]}");
            }
        }
    }
}

#[derive(Serialize)]
struct StreamRest {
    length: u64,
    last_id: String,
    first_id: Option<String>,
    max_deleted_id: Option<String>,
    entries_added: Option<u64>,
}

#[derive(Serialize)]
struct Opaque {
    module: String,
    version: u64,
    base64: String,
}

/// As Redis writes it.
fn shown(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

/// The name and the version of its encoding, which a module's id is made of: nine digits of six bits, then ten bits.
fn module(id: u64) -> (String, u64) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |place: u32| DIGITS.get((id >> (10 + 6 * place)) as usize & 63).copied().unwrap_or(b'?');
    ((0..9).rev().map(|place| char::from(digit(place))).collect(), id & 1023)
}

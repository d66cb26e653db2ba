//! Cuts a stream of bytes into records: where each begins and ends, and what came ahead of a key.
//!
//! Works on as much as has arrived and goes on from there when more comes, so a value of any size is walked once. Memory
//! is one batch, or one value where that is larger; it grows with what arrives, never with what a length announces.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};

use super::cut::{Cut, Length, Text};
use super::decode::Entry;
use super::layout::{self, FIRST_OPCODE, Kind, Layout, Step, TEXT, Type};
use super::packed::Pieces;
use super::{Checksum, Family, KEY_SHOWN, RdbError, RdbErrorKind, Summary, Walked, fail};

/// About what one batch holds: it stays in the cache of the core that walks it.
const BATCH: usize = 1024 * 1024;
/// The first read asks for less: a dump may be a few bytes, and a batch is not worth setting aside for it.
const FIRST: usize = 16 * 1024;
/// Records of one batch at most: what is kept of a record is larger than the smallest record.
const MARKS: usize = 16 * 1024;
/// A summary's own texts are short; no writer comes near this.
const AUX_KEPT: usize = 64 * 1024;
const HEADER: usize = 9;
const SLOTS: u64 = 16_384;
/// Newer versions may give old numbers another layout.
const NEWEST_REDIS: u32 = 16;
const NEWEST_VALKEY: u32 = 81;
/// Servers number the templates of hashes from 0 on, one for each set of names in use. librdb has the same limit.
const TEMPLATES: u64 = 1 << 21;
/// Bytes of memory set aside for all of them, and about what each takes besides its names.
const TEMPLATE_BYTES: usize = 64 * 1024 * 1024;
const TEMPLATE_COST: usize = 128;

/// Complete records in the order of the stream, with the bytes they lie in.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Bytes of the records; what lies behind belongs to the next batch.
    used: usize,
    /// Offset of the first byte in the RDB.
    base: u64,
    marks: Vec<Mark>,
    templates: Arc<Templates>,
}

/// The names that many hashes have in common (Redis 8.10), by the number under which they refer to them.
pub(super) type Templates = BTreeMap<u64, Arc<Template>>;

#[derive(Debug)]
pub(super) struct Template {
    pub(super) count: u64,
    /// Strings as they were written.
    pub(super) names: Vec<u8>,
}

/// One record of a batch.
#[derive(Debug)]
enum Mark {
    Key { number: usize, value: usize, end: usize, kind: Type, layout: Layout, database: u64, ahead: Ahead },
    Resize { database: u64, keys: u64, expires: u64 },
    Function { start: usize, end: usize },
    ModuleAux { start: usize, end: usize },
}

/// What came ahead of a key and belongs to it.
#[derive(Debug, Clone, Copy, Default)]
struct Ahead {
    /// Where the first of it begins.
    start: Option<usize>,
    expires_at_ms: Option<i64>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
    /// Where in the batch, counted from `start`, the record with what modules attach begins and ends.
    meta: Option<(usize, usize)>,
}

/// One thing that an RDB holds.
#[derive(Debug)]
pub enum Record<'b> {
    Key(Entry<'b>),
    /// What the file announces of the keys that follow.
    Announced {
        database: u64,
        keys: u64,
        expires: u64,
    },
    /// A function library: a string, its bytes as written.
    Function(&'b [u8]),
    /// What a module keeps outside of keys, as written.
    ModuleAux(&'b [u8]),
}

impl Batch {
    /// The bytes of the RDB from where the batch before ended, header and checksum included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// # Errors
    /// A key that is not a string.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RdbError>> {
        self.marks.iter().map(|mark| self.record(mark).map_err(|error| *error))
    }

    fn record(&self, mark: &Mark) -> Walked<Record<'_>> {
        let cut = |start: usize, end: usize| self.bytes.get(start..end).unwrap_or_default();
        Ok(match mark {
            Mark::Key { number, value, end, kind, layout, database, ahead } => {
                let mut key = Cut::new(cut(number.saturating_add(1), *value));
                let key = key.text().map_err(|error| error.beyond(self.base + *number as u64 + 1))?;
                Record::Key(Entry {
                    database: *database,
                    kind: *kind,
                    number: cut(*number, *end).first().copied().unwrap_or_default(),
                    layout: *layout,
                    key,
                    expires_at_ms: ahead.expires_at_ms,
                    idle_seconds: ahead.idle_seconds,
                    frequency: ahead.frequency,
                    has_meta: ahead.meta.is_some(),
                    meta: ahead.start.zip(ahead.meta).map_or(&[], |(at, (start, end))| cut(at + start, at + end)),
                    templates: &self.templates,
                    value: cut(*value, *end),
                    offset: self.base + *value as u64,
                })
            }
            Mark::Resize { database, keys, expires } => {
                Record::Announced { database: *database, keys: *keys, expires: *expires }
            }
            Mark::Function { start, end } => Record::Function(cut(*start, *end)),
            Mark::ModuleAux { start, end } => Record::ModuleAux(cut(*start, *end)),
        })
    }

    /// Bytes of memory that it holds on to.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>()
    }
}

/// Reads an RDB batch by batch.
pub struct Frames<R> {
    source: R,
    bytes: Vec<u8>,
    /// Bytes that are complete records, or known parts of one; what was read so far ends at `filled`.
    at: usize,
    filled: usize,
    base: u64,
    marks: Vec<Mark>,
    state: State,
    /// Begun and not finished: how often the steps at hand are to be repeated, and where in them the walk is.
    loops: Vec<Loop>,
    ahead: Ahead,
    database: u64,
    crc: Digest,
    summary: Summary,
    templates: Arc<Templates>,
    template_bytes: usize,
    /// Whether there was a record that only versions with a checksum have.
    is_modern: bool,
    spare: Vec<Batch>,
    failed: Option<Box<RdbError>>,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Record,
    /// Inside a record that began at `start`.
    Inside {
        start: usize,
        open: Open,
    },
    Checksum,
    Ended,
}

#[derive(Clone, Copy)]
enum Open {
    Key { number: usize, value: usize, kind: Type, layout: Layout },
    Other(Kind),
}

struct Loop {
    left: u64,
    steps: &'static [Step],
    next: usize,
}

/// What a step came to.
enum Progress {
    Done,
    /// More is needed: at least this many bytes from where the step begins.
    Needs(usize),
}

impl<R> std::fmt::Debug for Frames<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("offset", &(self.base + self.at as u64)).finish_non_exhaustive()
    }
}

impl<R: Read> Frames<R> {
    pub fn new(source: R) -> Self {
        Self {
            source,
            bytes: Vec::new(),
            at: 0,
            filled: 0,
            base: 0,
            marks: Vec::new(),
            state: State::Header,
            loops: Vec::new(),
            ahead: Ahead::default(),
            database: 0,
            crc: Digest::new(CrcAlgorithm::Crc64Redis),
            summary: Summary::new(Family::Redis, 0),
            templates: Arc::default(),
            template_bytes: 0,
            is_modern: false,
            spare: Vec::new(),
            failed: None,
        }
    }

    /// The next records; `None` behind the last. Once the RDB's last byte has arrived the source is not asked for more.
    ///
    /// # Errors
    /// Anything that keeps the input from being a complete RDB of a known version, with its byte offset.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, RdbError> {
        if let Some(error) = self.failed.take() {
            return Err(*error);
        }
        match self.advance() {
            // What lies before it may be wrong as well, and comes first.
            Err(error) if !self.marks.is_empty() => {
                self.failed = Some(error);
                Ok(Some(self.cut_batch()))
            }
            result => result.map_err(|error| *error),
        }
    }

    /// Gives the memory of a batch back for the next.
    pub fn recycle(&mut self, batch: Batch) {
        if batch.bytes.capacity() <= 2 * BATCH && self.spare.len() < 2 {
            self.spare.push(batch);
        }
    }

    /// What header, auxiliary fields and the end have told. Counts are the business of whoever decodes the batches.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The source, and what was read of it beyond the end of the RDB.
    pub fn into_rest(mut self) -> (R, Vec<u8>) {
        self.bytes.truncate(self.filled);
        let rest = self.bytes.split_off(self.at.min(self.bytes.len()));
        (self.source, rest)
    }

    fn advance(&mut self) -> Walked<Option<Batch>> {
        if matches!(self.state, State::Ended) {
            return Ok(None);
        }
        loop {
            let needs = match self.walk()? {
                Progress::Done => return Ok(Some(self.cut_batch())),
                Progress::Needs(count) => count,
            };
            // A value that does not fit goes on in the same bytes; anything else begins the next batch.
            let complete = self.complete();
            if complete > 0 && (self.is_full() || complete >= BATCH / 2 || self.filled - complete + needs > BATCH) {
                return Ok(Some(self.cut_batch()));
            }
            self.read_more(needs)?;
        }
    }

    fn is_full(&self) -> bool {
        self.marks.len() >= MARKS
    }

    /// Bytes that are records to their end.
    fn complete(&self) -> usize {
        let open = match self.state {
            State::Inside { start, .. } => start,
            _ => self.at,
        };
        self.ahead.start.map_or(open, |start| start.min(open))
    }

    fn cut_batch(&mut self) -> Batch {
        let complete = self.complete();
        let Batch { bytes: mut next, marks: mut next_marks, .. } = self.spare.pop().unwrap_or_default();
        next.clear();
        next_marks.clear();
        if let Some(tail) = self.bytes.get(complete..self.filled) {
            next.reserve_exact(BATCH.max(tail.len()));
            next.extend_from_slice(tail);
        }
        let mut bytes = std::mem::replace(&mut self.bytes, next);
        bytes.truncate(self.filled);
        self.crc_of(bytes.get(..complete).unwrap_or_default());
        let marks = std::mem::replace(&mut self.marks, next_marks);
        let batch = Batch { bytes, used: complete, base: self.base, marks, templates: Arc::clone(&self.templates) };
        self.filled = self.bytes.len();
        self.at -= complete;
        self.base += complete as u64;
        if let State::Inside { start, open } = &mut self.state {
            *start -= complete;
            if let Open::Key { number, value, .. } = open {
                *number -= complete;
                *value -= complete;
            }
        }
        if let Some(start) = &mut self.ahead.start {
            *start -= complete;
        }
        batch
    }

    fn crc_of(&mut self, bytes: &[u8]) {
        // The checksum covers everything up to and including the record that ends the file, not itself.
        let covered = if matches!(self.state, State::Ended) && self.has_checksum() {
            bytes.len().saturating_sub(8)
        } else {
            bytes.len()
        };
        self.crc.update(bytes.get(..covered).unwrap_or_default());
    }

    /// Versions before 5 have no place for it. Some tools write what is newer below so old a number, and the checksum
    /// with it; a file with such records and without it has a damaged header.
    fn has_checksum(&self) -> bool {
        self.summary.version >= 5 || self.is_modern
    }

    fn read_more(&mut self, needs: usize) -> Walked<()> {
        // A small file takes little. A long collection asks for little at a time, and gets a quarter more. A length is
        // believed as far as bytes come: twice what has arrived at most.
        let begins = self.base == 0 && self.filled < FIRST;
        let least = if begins { FIRST } else { (self.filled + self.filled / 4).max(BATCH) };
        let wanted = self.at.saturating_add(needs).clamp(least, (self.filled * 2).max(least));
        if self.bytes.len() == self.filled || self.bytes.len() < self.at.saturating_add(needs) {
            self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
            self.bytes.resize(wanted.max(self.bytes.len()), 0);
        }
        loop {
            match self.source.read(self.bytes.get_mut(self.filled..).unwrap_or_default()) {
                Ok(0) => {
                    return fail(self.base + self.filled as u64, RdbErrorKind::Truncated).map_err(|e| self.named(e));
                }
                Ok(count) => {
                    self.filled += count;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return fail(self.base + self.filled as u64, RdbErrorKind::Io(error)),
            }
        }
    }

    /// Walks on as far as the bytes go. `Done` at the end of the RDB.
    fn walk(&mut self) -> Walked<Progress> {
        loop {
            if self.is_full() && self.complete() > 0 {
                return Ok(Progress::Needs(0));
            }
            let progress = match self.state {
                State::Header => self.header()?,
                State::Record => self.begin_record()?,
                State::Inside { .. } => self.steps()?,
                State::Checksum => self.checksum()?,
                State::Ended => return Ok(Progress::Done),
            };
            if let Progress::Needs(count) = progress {
                return Ok(Progress::Needs(count));
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..self.filled).unwrap_or_default()
    }

    fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    fn header(&mut self) -> Walked<Progress> {
        let Some(magic) = self.rest().first_chunk::<HEADER>().copied() else { return Ok(Progress::Needs(HEADER)) };
        let (family, digits) = if let Some(digits) = magic.strip_prefix(b"REDIS") {
            (Family::Redis, digits)
        } else if let Some(digits) = magic.strip_prefix(b"VALKEY") {
            (Family::Valkey, digits)
        } else {
            return fail(0, RdbErrorKind::NotAnRdb);
        };
        let mut version = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return fail(0, RdbErrorKind::NotAnRdb);
            }
            version = version * 10 + u32::from(digit - b'0');
        }
        // Valkey leaves 12 to 79 to others and counts on from 80. What a version has that is not known here shows in a
        // number that is not known; what a version of tomorrow means by a known number, nobody can tell.
        match (family, version) {
            (Family::Redis, 1..=NEWEST_REDIS) | (Family::Valkey, 80..=NEWEST_VALKEY) => {}
            _ => return fail(0, RdbErrorKind::UnknownVersion(family, version)),
        }
        self.summary = Summary::new(family, version);
        self.at += HEADER;
        self.state = State::Record;
        Ok(Progress::Done)
    }

    fn begin_record(&mut self) -> Walked<Progress> {
        let start = self.at;
        let Some(number) = self.rest().first().copied() else { return Ok(Progress::Needs(1)) };
        let (family, version) = (self.summary.family, self.summary.version);
        let (steps, open) = if number < FIRST_OPCODE {
            let key = match text_end(self.bytes.get(start + 1..self.filled).unwrap_or_default()) {
                Ok(End::At(end)) => end,
                Ok(End::Needs(count)) => return Ok(Progress::Needs(count.saturating_add(1))),
                Err(kind) => return fail(self.base + start as u64 + 1, kind),
            };
            let value = start + 1 + key;
            match layout::layout(family, version, number) {
                Ok((kind, layout)) => (layout.steps(), Open::Key { number: start, value, kind, layout }),
                Err(kind) => {
                    let error = fail::<()>(self.base + start as u64, kind);
                    // The key lies between the type and the value, so even the key of an unknown type can be told.
                    let key = shown_key(self.bytes.get(start + 1..value).unwrap_or_default());
                    return error.map(|()| Progress::Done).map_err(|mut error| {
                        error.key = key;
                        error
                    });
                }
            }
        } else {
            match layout::record(family, version, number) {
                Ok((kind, steps)) => (steps, Open::Other(kind)),
                Err(kind) => return fail(self.offset(), kind),
            }
        };
        if let Open::Other(kind) = open
            && self.ahead.start.is_some()
            && !matches!(kind, Kind::Expiry | Kind::ExpiryMs | Kind::Idle | Kind::Frequency | Kind::KeyMeta)
        {
            return fail(self.offset(), RdbErrorKind::Malformed("expiry or idle time without its key"));
        }
        if matches!(number, 5..=8 | 14..=251) {
            self.is_modern = true;
        }
        self.at = match open {
            Open::Key { value, .. } => value,
            Open::Other(_) => start + 1,
        };
        self.state = State::Inside { start, open };
        self.loops.clear();
        self.loops.push(Loop { left: 1, steps, next: 0 });
        Ok(Progress::Done)
    }

    /// Follows the steps of the record at hand.
    fn steps(&mut self) -> Walked<Progress> {
        let bytes = self.bytes.get(..self.filled).unwrap_or_default();
        let mut at = self.at;
        let rest = |at: usize| bytes.get(at..).unwrap_or_default();
        let progress = loop {
            let Some(top) = self.loops.last_mut() else { break Ok(Progress::Done) };
            let Some(step) = top.steps.get(top.next).copied() else {
                top.left -= 1;
                top.next = 0;
                if top.left == 0 {
                    self.loops.pop();
                }
                continue;
            };
            let taken = match step {
                Step::Text => match text_end(rest(at)) {
                    Ok(End::At(end)) => Ok(end),
                    Ok(End::Needs(count)) => Err(count),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
                Step::Bytes(count) => match rest(at).len() >= usize::from(count) {
                    true => Ok(usize::from(count)),
                    false => Err(usize::from(count)),
                },
                Step::Score => match rest(at).first() {
                    None => Err(1),
                    // Not a number, and plus and minus infinity.
                    Some(253..=255) => Ok(1),
                    Some(length) if rest(at).len() > usize::from(*length) => Ok(1 + usize::from(*length)),
                    Some(length) => Err(1 + usize::from(*length)),
                },
                Step::Lengths(count) => match lengths(rest(at), count) {
                    Ok(taken) => taken.ok_or(9 * usize::from(count)),
                    Err((before, kind)) => break fail(self.base + (at + before) as u64, kind),
                },
                Step::Length | Step::Each(_) => match length(rest(at)) {
                    Ok(Some((count, taken))) => {
                        top.next += 1;
                        at += taken;
                        if let Step::Each(steps) = step
                            && count > 0
                        {
                            self.loops.push(Loop { left: count, steps, next: 0 });
                        }
                        continue;
                    }
                    Ok(None) => Err(9),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
                Step::TemplateValues => match length(rest(at)) {
                    Ok(Some((number, taken))) => {
                        let Some(template) = self.templates.get(&number) else {
                            break fail(self.base + at as u64, RdbErrorKind::Malformed(NO_TEMPLATE));
                        };
                        top.next += 1;
                        at += taken;
                        self.loops.push(Loop { left: template.count, steps: TEXT, next: 0 });
                        continue;
                    }
                    Ok(None) => Err(9),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
                Step::OwnNames(then) => match own_names(rest(at)) {
                    Ok(Names::Known { taken, listed, count }) => {
                        top.next += 1;
                        at += taken;
                        let left = if then.is_empty() { count } else { 1 };
                        self.loops.push(Loop { left, steps: if then.is_empty() { TEXT } else { then }, next: 0 });
                        if listed {
                            self.loops.push(Loop { left: count, steps: TEXT, next: 0 });
                        }
                        continue;
                    }
                    Ok(Names::Needs(count)) => Err(count),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
                Step::Slots(steps) => match slots(rest(at)) {
                    Ok(Some((count, taken))) => {
                        top.next += 1;
                        at += taken;
                        self.loops.push(Loop { left: count, steps, next: 0 });
                        continue;
                    }
                    Ok(None) => Err(27),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
                Step::Slot => match slot(rest(at)) {
                    Ok(End::At(taken)) => Ok(taken),
                    Ok(End::Needs(count)) => Err(count),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
                Step::ModuleFields => match module_field(rest(at)) {
                    Ok(Field::End(taken)) => Ok(taken),
                    Ok(Field::Goes(taken)) => {
                        at += taken;
                        continue;
                    }
                    Ok(Field::Needs(count)) => Err(count),
                    Err(kind) => break fail(self.base + at as u64, kind),
                },
            };
            match taken {
                Ok(taken) => {
                    top.next += 1;
                    at += taken;
                }
                Err(needs) => break Ok(Progress::Needs(needs)),
            }
        };
        self.at = at;
        match progress {
            Ok(Progress::Done) => self.end_record().map(|()| Progress::Done),
            Ok(needs) => Ok(needs),
            Err(error) => Err(self.named(error)),
        }
    }

    /// Adds the key at hand to an error.
    #[cold]
    fn named(&self, mut error: Box<RdbError>) -> Box<RdbError> {
        if let State::Inside { open: Open::Key { number, value, .. }, .. } = self.state {
            error.key = shown_key(self.bytes.get(number + 1..value).unwrap_or_default());
        }
        error
    }

    fn end_record(&mut self) -> Walked<()> {
        let State::Inside { start, open } = self.state else { return Ok(()) };
        self.state = State::Record;
        let end = self.at;
        let kind = match open {
            Open::Key { number, value, kind, layout } => {
                let ahead = std::mem::take(&mut self.ahead);
                let database = self.database;
                self.marks.push(Mark::Key { number, value, end, kind, layout, database, ahead });
                return Ok(());
            }
            Open::Other(kind) => kind,
        };
        let bytes = self.bytes.get(start + 1..end).unwrap_or_default();
        let beyond = self.base + start as u64 + 1;
        let mut cut = Cut::new(bytes);
        let attribute = |ahead: &mut Ahead| {
            ahead.start.get_or_insert(start);
        };
        match kind {
            Kind::ExpiryMs => {
                attribute(&mut self.ahead);
                // Servers read -1 as no expiry at all.
                self.ahead.expires_at_ms = Some(i64::from_le_bytes(cut.array()?)).filter(|expiry| *expiry != -1);
            }
            Kind::Expiry => {
                attribute(&mut self.ahead);
                self.ahead.expires_at_ms = Some(i64::from(i32::from_le_bytes(cut.array()?)) * 1000);
            }
            Kind::Idle => {
                attribute(&mut self.ahead);
                self.ahead.idle_seconds = Some(cut.length()?);
            }
            Kind::Frequency => {
                attribute(&mut self.ahead);
                self.ahead.frequency = Some(cut.byte()?);
            }
            Kind::KeyMeta => {
                attribute(&mut self.ahead);
                let begun = self.ahead.start.unwrap_or(start);
                if self.ahead.meta.replace((start + 1 - begun, end - begun)).is_some() {
                    return fail(beyond - 1, RdbErrorKind::Malformed("key with two records of what modules attach"));
                }
            }
            Kind::Select => self.database = cut.length()?,
            Kind::Resize => {
                let (keys, expires) = (cut.length()?, cut.length()?);
                self.marks.push(Mark::Resize { database: self.database, keys, expires });
            }
            Kind::Aux => {
                let mut room = (Vec::new(), Vec::new());
                let (name, text) = (cut.text()?, cut.text()?);
                let wrong = || RdbError::malformed(beyond, "compressed string that is not one");
                self.summary.learn(
                    name.show(&mut room.0).ok_or_else(wrong)?,
                    text.show(&mut room.1).and_then(|text| text.get(..AUX_KEPT.min(text.len()))).ok_or_else(wrong)?,
                );
            }
            Kind::Function => {
                let mut room = Vec::new();
                if cut.text()?.show(&mut room).is_none() {
                    return fail(beyond, RdbErrorKind::Malformed("compressed string that is not one"));
                }
                self.summary.functions += 1;
                self.marks.push(Mark::Function { start: start + 1, end });
            }
            Kind::ModuleAux => {
                cut.length()?;
                let at = cut.at();
                // An unsigned field that tells whether the record belongs before or after the keys.
                if cut.length()? != 2 {
                    return fail(beyond + at as u64, RdbErrorKind::Malformed("module record without its place"));
                }
                self.summary.module_aux += 1;
                self.marks.push(Mark::ModuleAux { start: start + 1, end });
            }
            Kind::SlotInfo => {
                if cut.length()? >= SLOTS {
                    return fail(beyond, RdbErrorKind::Malformed("slot number beyond the last slot"));
                }
            }
            Kind::SlotImport => {}
            Kind::HashTemplate => {
                let (number, count) = (cut.length()?, cut.length()?);
                let names = bytes.get(cut.at()..).unwrap_or_default().to_vec();
                if let Err(what) = self.template(number, Template { count, names }) {
                    return fail(beyond, RdbErrorKind::Malformed(what));
                }
            }
            Kind::End => self.state = State::Checksum,
        }
        Ok(())
    }

    /// Remembers the names that hashes refer to. Servers look names up by bisection, so their order is part of the
    /// format: the shorter first, then byte by byte (librdb 2.3).
    fn template(&mut self, number: u64, template: Template) -> Result<(), &'static str> {
        if number > TEMPLATES {
            return Err("hash template with a number beyond all use");
        }
        if template.count == 0 {
            return Err("hash template without a name");
        }
        const WRONG: &str = "hash template with a name that is none";
        let (mut cut, mut room, mut last) = (Cut::new(&template.names), Vec::new(), None::<Vec<u8>>);
        for _ in 0..template.count {
            let name = cut.text().ok().and_then(|name| name.show(&mut room)).ok_or(WRONG)?;
            if last.as_ref().is_some_and(|last| (last.len(), last.as_slice()) >= (name.len(), name)) {
                return Err("hash template with names out of order");
            }
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(name);
        }
        self.template_bytes += template.names.len() + TEMPLATE_COST;
        if self.template_bytes > TEMPLATE_BYTES {
            return Err("more hash templates than memory is set aside for");
        }
        match Arc::make_mut(&mut self.templates).insert(number, Arc::new(template)) {
            Some(_) => Err("hash template with the number of another"),
            None => Ok(()),
        }
    }

    fn checksum(&mut self) -> Walked<Progress> {
        if self.has_checksum() {
            let Some(stored) = self.rest().first_chunk::<8>().copied() else { return Ok(Progress::Needs(8)) };
            let mut crc = self.crc;
            crc.update(self.bytes.get(..self.at).unwrap_or_default());
            let computed = crc.finalize();
            self.summary.checksum = match u64::from_le_bytes(stored) {
                0 => Checksum::Absent,
                stored if stored == computed => Checksum::Verified(stored),
                stored => return fail(self.offset(), RdbErrorKind::Checksum { stored, computed }),
            };
            self.at += 8;
        }
        self.summary.bytes = self.offset();
        self.state = State::Ended;
        Ok(Progress::Done)
    }
}

enum End {
    At(usize),
    /// So many bytes from the beginning are needed to go on.
    Needs(usize),
}

/// Where a string ends.
#[inline]
fn text_end(bytes: &[u8]) -> Result<End, RdbErrorKind> {
    // Most strings are short and plain.
    if let Some(first) = bytes.first()
        && *first < 0x40
    {
        let end = 1 + usize::from(*first);
        return Ok(if bytes.len() >= end { End::At(end) } else { End::Needs(end) });
    }
    long_text_end(bytes)
}

fn long_text_end(bytes: &[u8]) -> Result<End, RdbErrorKind> {
    let mut cut = Cut::new(bytes);
    let rest = match cut.length_or_special() {
        Ok(Length::Plain(length)) => length,
        Ok(Length::Special(0)) => 1,
        Ok(Length::Special(1)) => 2,
        Ok(Length::Special(2)) => 4,
        Ok(Length::Special(3)) => {
            let lengths = cut.length().and_then(|packed| cut.length().map(|_| packed));
            match lengths {
                Ok(packed) => packed,
                Err(error) if matches!(error.kind, RdbErrorKind::Truncated) => return Ok(End::Needs(1 + 9 + 9)),
                Err(error) => return Err(error.kind),
            }
        }
        Ok(Length::Special(_)) => return Err(RdbErrorKind::Malformed("unknown string encoding")),
        Err(error) if matches!(error.kind, RdbErrorKind::Truncated) => return Ok(End::Needs(9)),
        Err(error) => return Err(error.kind),
    };
    // A sum that does not fit is beyond any file: refused now, not after reading the whole source.
    let end = usize::try_from(rest).ok().and_then(|rest| cut.at().checked_add(rest)).ok_or(RdbErrorKind::Length)?;
    if end > usize::MAX / 2 {
        return Err(RdbErrorKind::Length);
    }
    Ok(if bytes.len() >= end { End::At(end) } else { End::Needs(end) })
}

/// The bytes that so many lengths take; `None` where they are not all there. The error says where the wrong one begins.
fn lengths(bytes: &[u8], count: u8) -> Result<Option<usize>, (usize, RdbErrorKind)> {
    let mut end = 0;
    for _ in 0..count {
        match length(bytes.get(end..).unwrap_or_default()).map_err(|kind| (end, kind))? {
            Some((_, taken)) => end += taken,
            None => return Ok(None),
        }
    }
    Ok(Some(end))
}

/// A length and the bytes it takes; `None` where it is not all there.
#[inline]
fn length(bytes: &[u8]) -> Result<Option<(u64, usize)>, RdbErrorKind> {
    let mut cut = Cut::new(bytes);
    match cut.length() {
        Ok(length) => Ok(Some((length, cut.at()))),
        Err(error) if matches!(error.kind, RdbErrorKind::Truncated) => Ok(None),
        Err(error) => Err(error.kind),
    }
}

enum Field {
    End(usize),
    Goes(usize),
    Needs(usize),
}

fn module_field(bytes: &[u8]) -> Result<Field, RdbErrorKind> {
    let Some((code, taken)) = length(bytes)? else { return Ok(Field::Needs(9)) };
    let rest = bytes.get(taken..).unwrap_or_default();
    let more = match code {
        0 => return Ok(Field::End(taken)),
        1 | 2 => match length(rest)? {
            Some((_, more)) => more,
            None => return Ok(Field::Needs(taken + 9)),
        },
        3 => 4,
        4 => 8,
        5 => match text_end(rest)? {
            End::At(more) => more,
            End::Needs(count) => return Ok(Field::Needs(taken.saturating_add(count))),
        },
        _ => return Err(RdbErrorKind::Malformed("unknown field in a module's value")),
    };
    Ok(if rest.len() >= more { Field::Goes(taken + more) } else { Field::Needs(taken + more) })
}

pub(super) const NO_TEMPLATE: &str = "hash that refers to an unknown template";

enum Names {
    /// Behind `taken` come the names where they are listed one by one; a listpack of them is taken already.
    Known {
        taken: usize,
        listed: bool,
        count: u64,
    },
    Needs(usize),
}

/// The names of a hash that carries its own template: how they are kept, then one listpack, or a count and strings.
fn own_names(bytes: &[u8]) -> Result<Names, RdbErrorKind> {
    let Some((form, taken)) = length(bytes)? else { return Ok(Names::Needs(9)) };
    let rest = bytes.get(taken..).unwrap_or_default();
    let (listed, count, more) = match form {
        0 => match text_end(rest)? {
            End::Needs(count) => return Ok(Names::Needs(taken.saturating_add(count))),
            End::At(more) => {
                let mut room = Vec::new();
                let blob = Cut::new(rest).text().map_err(|error| error.kind)?.show(&mut room);
                let count = blob.ok_or("compressed string that is not one").and_then(|blob| {
                    let mut pieces = Pieces::listpack(blob)?;
                    let mut count = 0;
                    while pieces.next()?.is_some() {
                        count += 1;
                    }
                    Ok(count)
                });
                (false, count.map_err(RdbErrorKind::Malformed)?, more)
            }
        },
        1 => match length(rest)? {
            Some((count, more)) => (true, count, more),
            None => return Ok(Names::Needs(taken + 9)),
        },
        _ => return Err(RdbErrorKind::Malformed("unknown form of the names of a hash")),
    };
    match count {
        0 => Err(RdbErrorKind::Malformed("hash template without a name")),
        _ => Ok(Names::Known { taken: taken + more, listed, count }),
    }
}

/// The head of an array: how many slots are taken, and perhaps where the next value goes. An empty one is none.
fn slots(bytes: &[u8]) -> Result<Option<(u64, usize)>, RdbErrorKind> {
    let Some((count, first)) = length(bytes)? else { return Ok(None) };
    let Some((flag, second)) = length(bytes.get(first..).unwrap_or_default())? else { return Ok(None) };
    let taken = first + second;
    match (count, flag) {
        (1.., 0) => Ok(Some((count, taken))),
        (1.., 1) => {
            let next = length(bytes.get(taken..).unwrap_or_default())?;
            Ok(next.map(|(_, third)| (count, taken + third)))
        }
        _ => Err(RdbErrorKind::Malformed("array with a head that is none")),
    }
}

/// The value of a slot: a tag, then a number of eight bytes or a string.
fn slot(bytes: &[u8]) -> Result<End, RdbErrorKind> {
    let Some((tag, taken)) = length(bytes)? else { return Ok(End::Needs(9)) };
    Ok(match tag {
        1 | 2 if bytes.len() >= taken + 8 => End::At(taken + 8),
        1 | 2 => End::Needs(taken + 8),
        0 | 3 => match text_end(bytes.get(taken..).unwrap_or_default())? {
            End::At(more) => End::At(taken + more),
            End::Needs(count) => End::Needs(taken.saturating_add(count)),
        },
        _ => return Err(RdbErrorKind::Malformed("unknown kind of value in an array")),
    })
}

/// The beginning of a key, for a message.
pub(super) fn shown_key(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = Cut::new(bytes).text().ok()?;
    shown(text)
}

pub(super) fn shown(text: Text<'_>) -> Option<Vec<u8>> {
    let mut room = Vec::new();
    let key = text.show(&mut room)?;
    Some(key.get(..KEY_SHOWN.min(key.len())).unwrap_or_default().to_vec())
}

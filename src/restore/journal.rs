//! What was there before a restore, written down and durable before the restore touches it.
//!
//! A journal is a header and frames, each with its length and checksum. What a batch of keys was before comes first,
//! then the [`Frame::Batch`] that says that commands may have been sent from here on, then a sync. A process may be
//! killed at any byte: a torn end belongs to a batch of which nothing was sent. Undoing takes batches from the newest to
//! the oldest, so that what was there first is what stays; doing it twice changes nothing.
//!
//! A key that was found absent, and that somebody made before it was sent, is left alone where the choice says so. Then a
//! [`Frame::NotOurs`] in a batch of its own says that the older frames of its place mean nothing. Journals from before there
//! were such frames read as they always did; a reader from then takes one for damage, and undoes nothing.
//!
//! Nothing is written behind a write that failed, so a torn frame is the last one. Where the end of a batch lies behind one
//! all the same, the journal was damaged later.
//!
//! A journal holds values of the server in plain bytes. Whoever owns the file keeps others from reading it.

use crc_fast::{CrcAlgorithm, Digest};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};

const MAGIC: &[u8; 8] = b"LSUNDO\x00\x01";
/// Length and checksum.
const HEAD: u64 = 16;
/// Bytes of frames that wait to be written together.
const PENDING: usize = 256 * 1024;
/// Bytes in a frame that closes a batch, and in one that says that it was done.
const BATCH: usize = 25;
const DONE: usize = 9;
/// Bytes that are looked through at once for one of these.
const WINDOW: u64 = 64 * 1024;

/// Which restore a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The server's `run_id` and `master_replid` when the restore began.
    pub run_id: String,
    pub replication_id: String,
    /// What identifies the backup and the choice made from it: the numbers of keys mean something only with the same.
    pub source: Vec<u8>,
    /// The server's clock when the restore began, in milliseconds since 1970: expiries are moved by it.
    pub now_ms: i64,
}

/// What a key was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    Absent,
    /// As `DUMP` gave it.
    Value {
        payload: Vec<u8>,
        expires_at_ms: Option<i64>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Header(Header),
    Key {
        database: u64,
        /// The key's place in the backup.
        ordinal: u64,
        key: Vec<u8>,
        before: Before,
        /// Somebody made the key after it was found absent: the older frame of the same place means nothing.
        supersedes: bool,
    },
    /// Somebody made the key after it was found absent, and it was left alone: no older frame of the same place and key
    /// means anything, and undoing has nothing to do.
    NotOurs {
        ordinal: u64,
        key: Vec<u8>,
    },
    /// A function library, with the code it had before.
    Function {
        name: String,
        before: Option<Vec<u8>>,
    },
    /// The frames since the batch before belong to it. Keys with places from `first` to `last` may be sent from here on.
    Batch {
        number: u64,
        first: u64,
        last: u64,
    },
    /// Every answer to the batch has come.
    Done {
        number: u64,
    },
}

/// A batch as it lies in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Where its first frame begins.
    pub offset: u64,
    pub number: u64,
    pub first: u64,
    pub last: u64,
    pub done: bool,
}

/// What a journal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub header: Header,
    pub batches: Vec<Batch>,
    /// Places whose keys were left to somebody else who made them.
    pub not_ours: BTreeSet<u64>,
    /// Bytes up to which it is whole. To go on with it, cut it off there.
    pub whole: u64,
}

impl Contents {
    /// Whether the key at this place was restored and answered for.
    #[must_use]
    pub fn is_done(&self, ordinal: u64) -> bool {
        self.batches.iter().any(|batch| batch.done && (batch.first..=batch.last).contains(&ordinal))
    }

    /// Whether the key at this place was under way when the restore ended: then what is there may be the restore's own.
    #[must_use]
    pub fn is_begun(&self, ordinal: u64) -> bool {
        !self.not_ours.contains(&ordinal)
            && self.batches.iter().any(|batch| (batch.first..=batch.last).contains(&ordinal))
    }

    /// The finished places, as ranges in order that do not touch.
    #[must_use]
    pub fn done(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<_> =
            self.batches.iter().filter(|batch| batch.done).map(|batch| (batch.first, batch.last)).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, range| {
            let touches = next.0 <= range.1.saturating_add(1);
            if touches {
                range.1 = range.1.max(next.1);
            }
            touches
        });
        ranges
    }
}

#[derive(Debug)]
pub enum JournalError {
    Io(io::Error),
    NotAJournal,
    /// A frame that is not the last has a wrong checksum, or says something impossible.
    Damaged {
        offset: u64,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Io(cause) => write!(f, "could not read or write the journal: {cause}"),
            JournalError::NotAJournal => f.write_str("not a journal of a restore; check the path"),
            JournalError::Damaged { offset } => {
                write!(f, "the journal is damaged at byte {offset}; nothing was undone, restore a backup instead")
            }
        }
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            JournalError::Io(cause) => Some(cause),
            JournalError::NotAJournal | JournalError::Damaged { .. } => None,
        }
    }
}

impl From<io::Error> for JournalError {
    fn from(cause: io::Error) -> JournalError {
        JournalError::Io(cause)
    }
}

/// Writes a journal.
pub struct Journal<W> {
    out: W,
    sync: fn(&mut W) -> io::Result<()>,
    next: u64,
    /// Frames that were not written yet: they go out together.
    pending: Vec<u8>,
    /// Why the first write that failed did. It may have left a torn frame, which has to stay the last.
    failed: Option<(ErrorKind, String)>,
}

impl<W> fmt::Debug for Journal<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<W: Write> Journal<W> {
    /// Begins a journal. `sync` makes what was written survive the machine: `File::sync_data` for a file.
    ///
    /// # Errors
    /// What `out` could not do, here and below.
    pub fn begin(out: W, sync: fn(&mut W) -> io::Result<()>, header: &Header) -> io::Result<Self> {
        let mut journal = Self { out, sync, next: 0, pending: MAGIC.to_vec(), failed: None };
        journal.put(&Frame::Header(header.clone()))?;
        journal.settle()?;
        Ok(journal)
    }

    /// Goes on with a journal, behind its whole part.
    #[must_use]
    pub fn resume(out: W, sync: fn(&mut W) -> io::Result<()>, contents: &Contents) -> Self {
        let next = contents.batches.iter().map(|batch| batch.number + 1).max().unwrap_or_default();
        Self { out, sync, next, pending: Vec::new(), failed: None }
    }

    /// Writes a frame that means nothing before the batch that it belongs to is closed.
    ///
    /// # Errors
    /// What `out` could not do. From then on nothing is written any more, here and below.
    pub fn put(&mut self, frame: &Frame) -> io::Result<()> {
        self.sound()?;
        let head = self.pending.len();
        self.pending.extend_from_slice(&[0; HEAD as usize]);
        let payload = encode(frame, &mut self.pending);
        let body = self.pending.get(head + HEAD as usize..).unwrap_or_default();
        let length = (body.len() + payload.len()) as u64;
        let mut crc = Digest::new(CrcAlgorithm::Crc64Redis);
        crc.update(body);
        crc.update(payload);
        if let Some(slot) = self.pending.get_mut(head..head + HEAD as usize) {
            let (length_slot, crc_slot) = slot.split_at_mut(8);
            length_slot.copy_from_slice(&length.to_le_bytes());
            crc_slot.copy_from_slice(&crc.finalize().to_le_bytes());
        }
        if self.pending.len() + payload.len() < PENDING {
            self.pending.extend_from_slice(payload);
            return Ok(());
        }
        let written = self.write().and_then(|()| self.out.write_all(payload));
        self.noted(written)
    }

    fn write(&mut self) -> io::Result<()> {
        self.out.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn sound(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some((kind, why)) => Err(io::Error::new(*kind, format!("a write before this one failed: {why}"))),
        }
    }

    fn noted(&mut self, written: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &written {
            self.failed = Some((error.kind(), error.to_string()));
        }
        written
    }

    /// Closes a batch. When this has returned its keys may be overwritten.
    ///
    /// # Errors
    /// What `out` could not do; then nothing of the batch may be sent.
    pub fn batch(&mut self, first: u64, last: u64) -> io::Result<u64> {
        let number = self.next;
        self.next += 1;
        self.put(&Frame::Batch { number, first, last })?;
        self.settle()?;
        Ok(number)
    }

    /// Notes that a batch is done. Neither written at once nor synced: without it a resumed restore does the batch again, which does no harm.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn done(&mut self, number: u64) -> io::Result<()> {
        self.put(&Frame::Done { number })
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn settle(&mut self) -> io::Result<()> {
        self.sound()?;
        let settled = self.write().and_then(|()| self.out.flush()).and_then(|()| (self.sync)(&mut self.out));
        self.noted(settled)
    }

    /// What it was written to, with all that was put.
    ///
    /// # Errors
    /// What `out` could not do.
    pub fn finish(mut self) -> io::Result<W> {
        self.settle()?;
        Ok(self.out)
    }
}

const NONE: i64 = i64::MIN;

/// All of a frame but the last part, which is returned: it may be large.
fn encode<'f>(frame: &'f Frame, out: &mut Vec<u8>) -> &'f [u8] {
    let text = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text);
    };
    match frame {
        Frame::Header(header) => {
            out.push(0);
            text(out, header.run_id.as_bytes());
            text(out, header.replication_id.as_bytes());
            out.extend_from_slice(&header.now_ms.to_le_bytes());
            &header.source
        }
        Frame::Key { database, ordinal, key, before, supersedes } => {
            out.push(1);
            out.extend_from_slice(&database.to_le_bytes());
            out.extend_from_slice(&ordinal.to_le_bytes());
            out.push(u8::from(*supersedes));
            text(out, key);
            match before {
                Before::Absent => {
                    out.push(0);
                    &[]
                }
                Before::Value { payload, expires_at_ms } => {
                    out.push(1);
                    out.extend_from_slice(&expires_at_ms.unwrap_or(NONE).to_le_bytes());
                    payload
                }
            }
        }
        Frame::Function { name, before } => {
            out.push(2);
            text(out, name.as_bytes());
            out.push(u8::from(before.is_some()));
            before.as_deref().unwrap_or_default()
        }
        Frame::Batch { number, first, last } => {
            out.push(3);
            out.extend([number, first, last].into_iter().flat_map(|number| number.to_le_bytes()));
            &[]
        }
        Frame::Done { number } => {
            out.push(4);
            out.extend_from_slice(&number.to_le_bytes());
            &[]
        }
        Frame::NotOurs { ordinal, key } => {
            out.push(5);
            out.extend_from_slice(&ordinal.to_le_bytes());
            key
        }
    }
}

fn decode(body: &[u8]) -> Option<Frame> {
    let mut body = Body(body);
    let frame = match body.byte()? {
        0 => Frame::Header(Header {
            run_id: String::from_utf8(body.text()?.to_vec()).ok()?,
            replication_id: String::from_utf8(body.text()?.to_vec()).ok()?,
            now_ms: body.number()?.cast_signed(),
            source: body.rest().to_vec(),
        }),
        1 => Frame::Key {
            database: body.number()?,
            ordinal: body.number()?,
            supersedes: body.byte()? == 1,
            key: body.text()?.to_vec(),
            before: match body.byte()? {
                0 => Before::Absent,
                1 => {
                    let expiry = body.number()?.cast_signed();
                    Before::Value {
                        payload: body.rest().to_vec(),
                        expires_at_ms: Some(expiry).filter(|at| *at != NONE),
                    }
                }
                _ => return None,
            },
        },
        2 => {
            let name = String::from_utf8(body.text()?.to_vec()).ok()?;
            let had = body.byte()? == 1;
            Frame::Function { name, before: had.then(|| body.rest().to_vec()) }
        }
        3 => Frame::Batch { number: body.number()?, first: body.number()?, last: body.number()? },
        4 => Frame::Done { number: body.number()? },
        5 => Frame::NotOurs { ordinal: body.number()?, key: body.rest().to_vec() },
        _ => return None,
    };
    body.0.is_empty().then_some(frame)
}

struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Reads a journal.
#[derive(Debug)]
pub struct Reader<R> {
    source: BufReader<R>,
    at: u64,
}

/// What lies at a place of a journal.
enum Found {
    Frame(Frame),
    /// Neither a frame nor, as far as can be told, the beginning of more than one.
    Torn,
}

impl<R: Read + Seek> Reader<R> {
    /// # Errors
    /// What cannot be read, and what is no journal. Of an empty file, and of one that was torn in its header, nothing is
    /// known and nothing was changed: `None`.
    pub fn open(mut source: R) -> Result<Option<(Self, Contents)>, JournalError> {
        // Read to its end before, it would look empty: as if nothing had been restored.
        source.rewind()?;
        let mut reader = Self { source: BufReader::new(source), at: 0 };
        let mut magic = Vec::new();
        reader.source.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if !MAGIC.starts_with(&magic) {
            return Err(JournalError::NotAJournal);
        }
        reader.at = magic.len() as u64;
        let header = match reader.next()? {
            Found::Frame(Frame::Header(header)) if magic.len() == MAGIC.len() => header,
            Found::Frame(_) => return Err(JournalError::Damaged { offset: reader.at }),
            Found::Torn => {
                reader.ends_here()?;
                return Ok(None);
            }
        };
        let mut contents = Contents { header, batches: Vec::new(), not_ours: BTreeSet::new(), whole: reader.at };
        let mut begin = reader.at;
        // Places, and whether their keys are ours. Like all frames they mean nothing before their batch is closed.
        let mut places = Vec::new();
        loop {
            match reader.next()? {
                Found::Frame(Frame::Key { ordinal, .. }) => {
                    places.push((ordinal, true));
                    continue;
                }
                Found::Frame(Frame::NotOurs { ordinal, .. }) => {
                    places.push((ordinal, false));
                    continue;
                }
                Found::Frame(Frame::Function { .. }) => continue,
                Found::Frame(Frame::Batch { number, first, last }) => {
                    contents.batches.push(Batch { offset: begin, number, first, last, done: false });
                    for (ordinal, ours) in places.drain(..) {
                        match ours {
                            true => contents.not_ours.remove(&ordinal),
                            false => contents.not_ours.insert(ordinal),
                        };
                    }
                }
                Found::Frame(Frame::Done { number }) => {
                    // Batches are done nearly in the order in which they began.
                    match contents.batches.iter_mut().rev().find(|batch| batch.number == number) {
                        Some(batch) => batch.done = true,
                        None => return Err(JournalError::Damaged { offset: reader.at }),
                    }
                }
                Found::Frame(Frame::Header(_)) => return Err(JournalError::Damaged { offset: reader.at }),
                Found::Torn => {
                    reader.ends_here()?;
                    break;
                }
            }
            begin = reader.at;
            contents.whole = reader.at;
        }
        Ok(Some((reader, contents)))
    }

    /// Shows what lies in a batch.
    ///
    /// # Errors
    /// What cannot be read, and what `show` returns.
    pub fn batch<E: From<JournalError>>(
        &mut self,
        batch: Batch,
        mut show: impl FnMut(Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        self.seek(batch.offset)?;
        loop {
            match self.next()? {
                Found::Frame(Frame::Batch { .. }) => return Ok(()),
                Found::Frame(frame) => show(frame)?,
                Found::Torn => return Err(JournalError::Damaged { offset: self.at }.into()),
            }
        }
    }

    /// Looks through all that lies behind a torn frame: where a batch was closed there, it was not torn.
    fn ends_here(&mut self) -> Result<(), JournalError> {
        let offset = self.at;
        self.seek(offset)?;
        let mut window = Vec::new();
        loop {
            let read = self.source.by_ref().take(WINDOW).read_to_end(&mut window)?;
            if (0..window.len()).any(|at| window.get(at..).is_some_and(closes)) {
                return Err(JournalError::Damaged { offset });
            }
            if read == 0 {
                return Ok(());
            }
            // The beginning of one may be there already.
            window.drain(..window.len().saturating_sub(HEAD as usize + BATCH));
        }
    }

    fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
        self.source.seek(SeekFrom::Start(offset))?;
        self.at = offset;
        Ok(())
    }

    /// The frame at hand. Where there is none it stays where it is.
    fn next(&mut self) -> Result<Found, JournalError> {
        let at = self.at;
        match self.frame()? {
            (Some(body), _) => match decode(&body) {
                Some(frame) => Ok(Found::Frame(frame)),
                None => Err(JournalError::Damaged { offset: at }),
            },
            // A wrong frame with a right one behind it was not torn, but damaged later.
            (None, true) if matches!(self.frame()?, (Some(_), _)) => Err(JournalError::Damaged { offset: at }),
            (None, _) => {
                self.at = at;
                Ok(Found::Torn)
            }
        }
    }

    /// The body of a frame whose checksum is right; and whether as many bytes came as the frame announces.
    fn frame(&mut self) -> Result<(Option<Vec<u8>>, bool), JournalError> {
        let mut head = [0; HEAD as usize];
        match self.source.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok((None, false)),
            read => read?,
        }
        let (length, stored) = head.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let (length, stored) = (number(length), number(stored));
        let mut body = Vec::new();
        // Grows with what comes, not with what is announced.
        self.source.by_ref().take(length).read_to_end(&mut body)?;
        let whole = body.len() as u64 == length && length > 0;
        self.at = self.at.saturating_add(HEAD).saturating_add(body.len() as u64);
        let right = whole && crc_fast::checksum(CrcAlgorithm::Crc64Redis, &body) == stored;
        Ok((right.then_some(body), whole))
    }
}

/// Whether these bytes begin with a frame that says that a batch was closed, or done.
fn closes(bytes: &[u8]) -> bool {
    let whole = || {
        let (length, rest) = bytes.split_first_chunk()?;
        let length =
            usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| [BATCH, DONE].contains(length))?;
        let (stored, rest) = rest.split_first_chunk()?;
        let body = rest.get(..length)?;
        let right = crc_fast::checksum(CrcAlgorithm::Crc64Redis, body) == u64::from_le_bytes(*stored);
        decode(body).filter(|_| right)
    };
    matches!(whole(), Some(Frame::Batch { .. } | Frame::Done { .. }))
}

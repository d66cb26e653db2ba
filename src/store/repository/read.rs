//! Reading a part back: every stored byte is hashed before it is used, and everything is bounded.

use crate::backup::{Chunk, Part, manifest};
use crate::store::repository::Identities;
use crate::store::repository::store::Store;
use crate::value::{Digest, Recipient};
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

/// Our own writer needs 2 MB; whoever wants a decoder to take more has not written this.
const MAX_WINDOW_LOG: u32 = 23;
/// Pieces that travel at the same time.
pub(super) const LANES: usize = 4;

/// The plain bytes of a part.
///
/// An error of kind `InvalidData` says that the part is not what its manifest says; `PermissionDenied`, that no identity
/// opens it; any other, that it could not be read and nothing is known. Bytes may be used before the end is reached, and
/// count for something only when it was.
pub struct PartReader {
    plain: Box<dyn Read + Send>,
    part: String,
    hash: sha2::Sha256,
    left: u64,
    expected: String,
    done: bool,
    failed: Option<ErrorKind>,
    unread: Unread,
}

/// Set when a piece could not be fetched: what the decoders then say is not about the bytes.
type Unread = Arc<AtomicBool>;

impl std::fmt::Debug for PartReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartReader").field("part", &self.part).field("left", &self.left).finish_non_exhaustive()
    }
}

/// Names of the pieces that were read back and found whole.
pub(super) type Checked = Arc<Mutex<BTreeSet<String>>>;

pub(super) fn open(
    store: Arc<dyn Store>,
    folder: &str,
    part: &Part,
    encrypted_to: &[String],
    identities: &Identities,
    checked: Option<Checked>,
) -> io::Result<PartReader> {
    let chunks = part.chunks.clone().into_iter();
    let unread = Unread::default();
    let stored = Chunks {
        store,
        folder: folder.to_owned(),
        chunks,
        current: Cursor::default(),
        checked,
        unread: unread.clone(),
    };
    let stored = BufReader::with_capacity(64 << 10, stored);
    let sealed: Box<dyn Read + Send> = match encrypted_to {
        [] => Box::new(stored),
        recipients => {
            let opened = age::Decryptor::new_buffered(stored).and_then(|sealed| sealed.decrypt(identities.keys()));
            Box::new(opened.map_err(|error| match error {
                age::DecryptError::Io(error) if is_of_the_store(&unread, &error) => error,
                error => closed(&error, &part.name, recipients, identities),
            })?)
        }
    };
    let mut plain = zstd::stream::read::Decoder::new(sealed)?.single_frame();
    plain.window_log_max(MAX_WINDOW_LOG)?;
    Ok(PartReader {
        plain: Box::new(Frame { decoder: plain, ended: false }),
        part: part.name.clone(),
        hash: sha2::Sha256::new(),
        left: part.plain_bytes,
        expected: part.plain_sha256.clone(),
        done: false,
        failed: None,
        unread,
    })
}

/// Whether an error was made where pieces are fetched; all others are made of bytes that are not what they should be.
fn is_of_the_store(unread: &Unread, error: &io::Error) -> bool {
    unread.load(Ordering::Relaxed) || error.kind() == ErrorKind::InvalidData
}

fn closed(error: &age::DecryptError, part: &str, recipients: &[String], identities: &Identities) -> io::Error {
    match error {
        age::DecryptError::NoMatchingKeys => {
            let tried: Vec<String> = identities.recipients().iter().map(Recipient::to_string).collect();
            let tried = match tried.as_slice() {
                [] => "there is none here".to_owned(),
                tried => format!("tried were those of {}", tried.join(", ")),
            };
            let to = recipients.join(", ");
            let message = format!("`{part}` is encrypted to {to}, and no identity opens it: {tried}");
            io::Error::new(ErrorKind::PermissionDenied, message)
        }
        error => wrong(format!("`{part}` cannot be decrypted: {error}")),
    }
}

fn wrong(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

impl PartReader {
    /// Of which kind the error was that ended the reading, when one did: whoever read through a parser has only the
    /// parser's word for it.
    pub fn failed(&self) -> Option<ErrorKind> {
        self.failed
    }

    /// Reads what is left, so that the end is checked too.
    pub fn finish(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }

    fn take_in(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        let read = match self.plain.read(buffer) {
            Ok(read) => read,
            Err(error) if is_of_the_store(&self.unread, &error) => return Err(error),
            // What the decoders say of bytes whose hashes are right: somebody wrote a manifest for them.
            Err(error) => return Err(wrong(format!("`{}` does not unpack: {error}", self.part))),
        };
        if read == 0 {
            self.done = true;
            let whole = self.left == 0 && Digest::from_hash(&self.hash.finalize_reset()).as_str() == self.expected;
            return match whole {
                true => Ok(0),
                false => Err(wrong(format!("`{}` unpacks to other bytes than were written", self.part))),
            };
        }
        let taken = u64::try_from(read).unwrap_or(u64::MAX);
        self.left = self
            .left
            .checked_sub(taken)
            .ok_or_else(|| wrong(format!("`{}` unpacks to more bytes than were written", self.part)))?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.take_in(buffer);
        if let Err(error) = &read {
            self.failed = Some(error.kind());
        }
        read
    }
}

/// One compressed frame, and nothing behind it.
struct Frame {
    decoder: zstd::stream::read::Decoder<'static, BufReader<Box<dyn Read + Send>>>,
    ended: bool,
}

impl Read for Frame {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let read = self.decoder.read(buffer)?;
        if read == 0 {
            self.ended = true;
            let behind = self.decoder.get_mut().read(&mut [0; 1])?;
            if behind > 0 {
                return Err(wrong("there is something behind its end".to_owned()));
            }
        }
        Ok(read)
    }
}

/// The pieces one after the other, each held and hashed before a byte of it is handed on.
struct Chunks {
    store: Arc<dyn Store>,
    folder: String,
    chunks: std::vec::IntoIter<Chunk>,
    current: Cursor<Vec<u8>>,
    checked: Option<Checked>,
    unread: Unread,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(chunk) = self.chunks.next() else { return Ok(0) };
            let fetched = fetch(self.store.as_ref(), &self.folder, &chunk);
            self.current = Cursor::new(fetched.inspect_err(|error| {
                let damaged = error.kind() == ErrorKind::InvalidData;
                self.unread.store(!damaged, Ordering::Relaxed);
            })?);
            if let Some(checked) = &self.checked {
                checked.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk.name);
            }
        }
    }
}

/// A piece as it was written, or why not.
pub(super) fn fetch(store: &dyn Store, folder: &str, chunk: &Chunk) -> io::Result<Vec<u8>> {
    let name = &chunk.name;
    if chunk.bytes > manifest::MAX_CHUNK || !manifest::is_plain(name) {
        return Err(wrong(format!("`{name}` with {} bytes is no piece of a backup", chunk.bytes)));
    }
    let bytes = store.get(&format!("{folder}/{name}"), chunk.bytes).map_err(|error| match error.kind() {
        ErrorKind::NotFound => wrong(format!("`{name}` is missing")),
        ErrorKind::InvalidData => wrong(format!("`{name}` is not what was written: {error}")),
        kind => io::Error::new(kind, format!("`{name}` cannot be read: {error}")),
    })?;
    let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if read != chunk.bytes {
        return Err(wrong(format!("`{name}` has {read} bytes, and {} were written", chunk.bytes)));
    }
    if Digest::of(&bytes).as_str() != chunk.sha256 {
        return Err(wrong(format!("`{name}` is not what was written: its hash differs")));
    }
    Ok(bytes)
}

/// Reads pieces back for their hashes alone: several at a time where a network is waited for.
pub(super) fn check(
    store: &dyn Store,
    folder: &str,
    chunks: &[&Chunk],
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let lanes = if store.is_far() { LANES } else { 1 };
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..lanes {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = fetch(store, folder, chunk).map(|_| chunk.bytes);
                    // Whoever has heard of a failure listens no more.
                    if sender.send(checked).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut read: u64 = 0;
        // Dropped on the way out, which ends the lanes after the piece in hand.
        for checked in receiver {
            read = read.saturating_add(checked?);
            progress(read);
        }
        Ok(())
    })
}

//! Writing a backup: parts as streams, cut into objects, and the manifest last.
//!
//! Three threads share the work, so that whoever reads a replication stream is never kept waiting by a disk or a
//! network: the caller's hands over bytes, a second compresses, encrypts, hashes and cuts, and the pieces are stored by
//! others. For a store far away finished pieces wait in files without a name, which nothing has to clean up.

use crate::backup::{Chunk, Manifest, Part, manifest};
use crate::store::repository::read::{self, Checked, LANES, PartReader};
use crate::store::repository::store::{Claim, Store};
use crate::store::repository::{Identities, MANIFEST, Repository, local};
use crate::value::{Digest, Recipient};
use anyhow::{Context as _, bail};
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Size of a piece as stored: small enough to be held in memory and sent again, large enough for a store to be quick.
pub const CHUNK: usize = 8 << 20;
/// The fastest level; the next ones take twice the time for a few percent (see docs/decisions/0007-repository.md).
const LEVEL: i32 = 1;
/// What is handed from thread to thread at once, and how many of these may wait.
const BLOCK: usize = 256 << 10;
const BLOCKS: usize = 16;
/// Pieces that may wait for a network; each is an open file.
const WAITING: usize = 512;

/// A backup that is being written. Dropped without [`Draft::keep`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    repository: Repository,
    id: String,
    service: String,
    folder: String,
    claim: Claim,
    parts: BTreeSet<String>,
    checked: Checked,
    chunk: usize,
    kept: bool,
}

impl Draft {
    pub(super) fn begin(repository: &Repository, id: &str, service: &str) -> anyhow::Result<Draft> {
        if !manifest::is_id(id) || !manifest::is_plain(service) {
            bail!("`{id}` is not a name for a backup of `{service}`");
        }
        let folder = repository.folder(id);
        let doing = || format!("could not start a backup in `{}`", repository.place());
        let claim = repository.store.claim(&folder).with_context(doing)?;
        Ok(Draft {
            repository: repository.clone(),
            id: id.to_owned(),
            service: service.to_owned(),
            folder,
            claim,
            parts: BTreeSet::new(),
            checked: Checked::default(),
            chunk: CHUNK,
            kept: false,
        })
    }

    /// Cuts smaller pieces; for tests, which would otherwise need gigabytes.
    #[must_use]
    pub fn with_chunks_of(mut self, bytes: usize) -> Draft {
        self.chunk = bytes.clamp(1, CHUNK);
        self
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The age recipients that its parts are encrypted to, for the manifest.
    pub fn encrypted_to(&self) -> Vec<String> {
        self.repository.recipients.iter().map(Recipient::to_string).collect()
    }

    /// Begins a part; the name is its own within the backup.
    pub fn part(&mut self, name: &str) -> anyhow::Result<PartWriter> {
        if !manifest::is_plain(name) || name.ends_with(".json") && name != manifest::STATE {
            bail!("`{name}` cannot name a part of a backup");
        }
        if !self.parts.insert(name.to_owned()) {
            bail!("the backup has a part `{name}` already");
        }
        let store = Arc::clone(&self.repository.store);
        let recipients = self.repository.recipients.clone();
        PartWriter::begin(store, self.folder.clone(), name, &recipients, self.chunk)
            .with_context(|| format!("could not begin `{name}`"))
    }

    /// A part as it lies in the store by now. What was read to its end this way is not read again by [`Draft::keep`].
    pub fn read(&self, part: &Part, identities: &Identities) -> io::Result<PartReader> {
        let store = Arc::clone(&self.repository.store);
        let checked = Some(Arc::clone(&self.checked));
        read::open(store, &self.folder, part, &self.encrypted_to(), identities, checked)
    }

    /// Reads every stored byte back that was not yet, and then writes the manifest: from here on it is listed.
    ///
    /// The manifest has to name this backup and these parts; the rest is for the caller to say truthfully.
    pub fn keep(mut self, manifest: &Manifest) -> anyhow::Result<String> {
        let doing = || format!("could not keep the backup `{}`", self.id);
        let named: BTreeSet<String> = manifest.parts.iter().map(|part| part.name.clone()).collect();
        if manifest.id != self.id || manifest.service != self.service || named != self.parts {
            bail!("the manifest of `{}` is not that of what was written", self.id);
        }
        let store = Arc::clone(&self.repository.store);
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let chunks = manifest.parts.iter().flat_map(|part| &part.chunks);
        let unseen: Vec<&Chunk> = chunks.filter(|chunk| !checked.contains(&chunk.name)).collect();
        read::check(store.as_ref(), &self.folder, &unseen, &mut |_| {}).with_context(doing)?;
        let text = serde_json::to_vec_pretty(manifest).with_context(doing)?;
        let key = format!("{}/{MANIFEST}", self.folder);
        let created = store.create(&key, &text);
        // An answer that was lost says nothing; what lies there does, and a store may say yes and keep nothing.
        let there = store.get(&key, u64::try_from(text.len()).unwrap_or(u64::MAX));
        match (created, there) {
            (Ok(true), Ok(there)) if there == text => {}
            (Err(_lost), Ok(there)) if there == text => {}
            (Ok(false), _) => {
                // Somebody else's, listed and whole: nothing of it may be taken away.
                self.kept = true;
                bail!("could not keep the backup `{}`: there is one of this name", self.id);
            }
            (Err(error), _) => return Err(error).with_context(doing),
            (Ok(true), Ok(_)) => bail!("could not keep the backup `{}`: its manifest reads back otherwise", self.id),
            (Ok(true), Err(error)) => return Err(error).with_context(doing),
        }
        self.kept = true;
        if self.claim.has_file() {
            // Left behind it does no harm.
            let _ = store.delete(&format!("{}/{}", self.folder, local::LOCK));
        }
        // The failure that this success ends is told by its time too.
        let _ = self.repository.clear_failed(&self.service);
        Ok(store.place(&self.folder))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: what stays is not listed, and `prune` gives it back. Without being sure that there is no
            // manifest nothing else goes, so that what is listed is whole.
            let store = &self.repository.store;
            if store.delete(&format!("{}/{MANIFEST}", self.folder)).is_ok() {
                let _ = store.delete_below(&self.folder);
            }
        }
    }
}

enum Block {
    Bytes(Vec<u8>),
    End,
}

/// Takes the plain bytes of a part. Dropped without [`PartWriter::finish`], the part is not written to its end.
#[derive(Debug)]
pub struct PartWriter {
    name: String,
    block: Vec<u8>,
    sender: Option<SyncSender<Block>>,
    encoder: Option<JoinHandle<io::Result<Part>>>,
}

impl PartWriter {
    fn begin(
        store: Arc<dyn Store>,
        folder: String,
        name: &str,
        recipients: &[Recipient],
        chunk: usize,
    ) -> anyhow::Result<PartWriter> {
        let mut keys = Vec::new();
        for recipient in recipients {
            let key: Result<age::x25519::Recipient, &str> = recipient.as_str().parse();
            keys.push(key.map_err(anyhow::Error::msg).with_context(|| format!("{recipient} is not a recipient"))?);
        }
        let (sender, receiver) = mpsc::sync_channel(BLOCKS);
        let part = name.to_owned();
        let encoder = thread::Builder::new()
            .name(format!("encode {name}"))
            .spawn(move || encode(&receiver, Cutter::begin(store, folder, part, chunk)?, &keys))?;
        Ok(PartWriter {
            name: name.to_owned(),
            block: Vec::with_capacity(BLOCK),
            sender: Some(sender),
            encoder: Some(encoder),
        })
    }

    /// Everything is written and stored when this returns well, and nothing of it was read back yet.
    pub fn finish(mut self) -> io::Result<Part> {
        self.hand_over()?;
        self.send(Block::End)?;
        self.sender = None;
        self.ended()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.send(Block::Bytes(block))
    }

    fn send(&mut self, block: Block) -> io::Result<()> {
        match self.sender.as_ref().map(|sender| sender.send(block)) {
            Some(Ok(())) => Ok(()),
            // It gave up, and says why when it is asked.
            _ => {
                self.sender = None;
                match self.ended() {
                    Ok(_) => Err(io::Error::other(format!("`{}` was closed", self.name))),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn ended(&mut self) -> io::Result<Part> {
        let closed = || io::Error::other(format!("`{}` was closed", self.name));
        let encoder = self.encoder.take().ok_or_else(closed)?;
        encoder.join().unwrap_or_else(|_panic| Err(io::Error::other(format!("`{}` could not be encoded", self.name))))
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK.saturating_sub(self.block.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.block.extend_from_slice(taken);
        if self.block.len() >= BLOCK {
            self.hand_over()?;
        }
        Ok(taken.len())
    }

    /// Nothing is durable before [`PartWriter::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        self.sender = None;
        // Nothing is stored any more once this is gone, so that whoever clears up clears all.
        if let Some(encoder) = self.encoder.take() {
            let _ = encoder.join();
        }
    }
}

fn encode(receiver: &Receiver<Block>, cutter: Cutter, keys: &[age::x25519::Recipient]) -> io::Result<Part> {
    let sealed = match keys {
        [] => Sealed::Plain(cutter),
        keys => {
            let keys = keys.iter().map(|key| key as &dyn age::Recipient);
            let encryptor = age::Encryptor::with_recipients(keys).map_err(io::Error::other)?;
            Sealed::Age(encryptor.wrap_output(cutter)?)
        }
    };
    let mut packed = zstd::stream::write::Encoder::new(sealed, LEVEL)?;
    packed.include_checksum(true)?;
    let mut hash = sha2::Sha256::new();
    let mut plain_bytes: u64 = 0;
    loop {
        match receiver.recv() {
            Ok(Block::Bytes(block)) => {
                hash.update(&block);
                plain_bytes += u64::try_from(block.len()).unwrap_or(0);
                packed.write_all(&block)?;
            }
            Ok(Block::End) => break,
            Err(_dropped) => return Err(io::Error::other("the part was given up")),
        }
    }
    let cutter = packed.finish()?.finish()?;
    let (name, chunks) = cutter.finish()?;
    Ok(Part {
        name,
        plain_bytes,
        plain_sha256: Digest::from_hash(&hash.finalize()).to_string(),
        stored_bytes: chunks.iter().map(|chunk| chunk.bytes).sum(),
        chunks,
    })
}

enum Sealed {
    Plain(Cutter),
    Age(age::stream::StreamWriter<Cutter>),
}

impl Sealed {
    fn finish(self) -> io::Result<Cutter> {
        match self {
            Sealed::Plain(cutter) => Ok(cutter),
            Sealed::Age(stream) => stream.finish(),
        }
    }
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sealed::Plain(cutter) => cutter.write(bytes),
            Sealed::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts what comes into pieces and hands them to those who store them.
struct Cutter {
    part: String,
    folder: String,
    size: usize,
    piece: Vec<u8>,
    chunks: Vec<Chunk>,
    /// Far away: finished pieces wait in files.
    spools: bool,
    /// Dropped before the lanes are waited for.
    sender: Option<SyncSender<Job>>,
    lanes: Vec<JoinHandle<()>>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

struct Job {
    key: String,
    piece: Piece,
}

enum Piece {
    Held(Vec<u8>),
    Spooled(File),
}

impl Cutter {
    fn begin(store: Arc<dyn Store>, folder: String, part: String, size: usize) -> io::Result<Cutter> {
        let spools = store.is_far();
        // On a near disk one piece may wait while another is written; a far store is hardly ever waited for.
        let (sender, receiver) = mpsc::sync_channel(if spools { WAITING } else { 1 });
        let receiver = Arc::new(Mutex::new(receiver));
        let failed = Arc::new(Mutex::new(None));
        let mut lanes = Vec::new();
        for number in 0..if spools { LANES } else { 1 } {
            let (store, receiver, failed) = (Arc::clone(&store), Arc::clone(&receiver), Arc::clone(&failed));
            let lane = thread::Builder::new().name(format!("store {number}"));
            lanes.push(lane.spawn(move || drain(store.as_ref(), &receiver, &failed))?);
        }
        Ok(Cutter {
            part,
            folder,
            size,
            piece: Vec::new(),
            chunks: Vec::new(),
            spools,
            sender: Some(sender),
            lanes,
            failed,
        })
    }

    fn cut(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let name = manifest::chunk_name(&self.part, self.chunks.len() + 1);
        let key = format!("{}/{name}", self.folder);
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.chunks.push(Chunk { name, bytes, sha256: Digest::of(&piece).to_string() });
        let piece = if self.spools { Piece::Spooled(spool(&piece)?) } else { Piece::Held(piece) };
        let sent = self.sender.as_ref().map(|sender| sender.send(Job { key, piece }));
        self.gave_up()?;
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("nobody stores what was cut")),
        }
    }

    /// Why a piece could not be stored, when one could not.
    fn gave_up(&self) -> io::Result<()> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed.as_ref() {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> io::Result<(String, Vec<Chunk>)> {
        if !self.piece.is_empty() {
            self.cut()?;
        }
        self.wait();
        self.gave_up()?;
        Ok((std::mem::take(&mut self.part), std::mem::take(&mut self.chunks)))
    }

    fn wait(&mut self) {
        self.sender = None;
        for lane in self.lanes.drain(..) {
            if lane.join().is_err() {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| io::Error::other("a piece could not be stored"));
            }
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        // Given up: what waits is not worth storing any more.
        if self.sender.is_some() {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| io::Error::other("the part was given up"));
        }
        self.wait();
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(self.size);
        }
        let room = self.size.saturating_sub(self.piece.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() >= self.size {
            self.cut()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts a piece where it may wait: a file of this process alone, which has no name and goes with it.
fn spool(piece: &[u8]) -> io::Result<File> {
    let written = tempfile::tempfile().and_then(|mut file| {
        file.write_all(piece)?;
        file.rewind()?;
        Ok(file)
    });
    written.map_err(|error| {
        let why = format!("could not set a piece of the backup aside in TMPDIR until the store takes it: {error}");
        io::Error::new(error.kind(), why)
    })
}

/// Stores pieces until there are no more; after a failure the rest is let go.
fn drain(store: &dyn Store, receiver: &Mutex<Receiver<Job>>, failed: &Mutex<Option<io::Error>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if failed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            continue;
        }
        let stored = match job.piece {
            Piece::Held(bytes) => store.put(&job.key, &bytes),
            Piece::Spooled(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).and_then(|_| store.put(&job.key, &bytes))
            }
        };
        if let Err(error) = stored {
            let why = match error.kind() {
                ErrorKind::StorageFull => format!("the disk is full: {error}"),
                _ => error.to_string(),
            };
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| io::Error::new(error.kind(), format!("`{}` was not stored: {why}", job.key)));
        }
    }
}

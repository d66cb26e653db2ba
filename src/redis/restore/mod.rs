//! Restores keys of a backup into a running server, and takes that back.
//!
//! One thread reads the backup and makes payloads; a few send them, each on a connection of its own, and check every
//! answer against its key. Before a batch is sent, what its keys were is in the journal and durable, so that a restore
//! that broke off at any moment can be undone ([`Session::undo`]) or gone on with. [`Session::prove`] pulls the server's
//! data afterwards and compares digests.
//!
//! The user needs `~*` and [`COMMANDS`]. Deliberately absent: anything that empties a database; TLS; clusters, whose keys
//! belong to slots; the time since a replaced key was last used, which only eviction asks for.

mod large;
mod prove;
mod send;
mod undo;
pub mod user;

pub use prove::{Proof, ProveError};
pub use undo::{UndoError, Undone};

use crate::rdb::{self, Entry, Form, Frames, RdbError, Record, Room, Type, WriteError};
use crate::redis::link::{Link, LinkError, Permit, Reply};
use crate::redis::observe;
use crate::redis::pull::Source;
use crate::restore::journal::{Contents, Header, Journal};
use crate::restore::{Choice, Facts, Ttl, Way};
use crate::value::ServerVersion;
use crate::value::bytes::about;
use send::{Counts, Item, Kind, Sender, Shared, Unit};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// What the user that restores has to be allowed, besides every key (`~*`). `PSYNC` and `REPLCONF` are for the proof.
pub const COMMANDS: &[&str] = &[
    "+restore",
    "+dump",
    "+exists",
    "+memory|usage",
    "+pttl",
    "+pexpiretime",
    "+time",
    "+select",
    "+info",
    "+config|get",
    "+module|list",
    "+del",
    "+unlink",
    "+set",
    "+msetnx",
    "+append",
    "+rpush",
    "+sadd",
    "+zadd",
    "+hset",
    "+hpexpireat",
    "+xadd",
    "+xgroup",
    "+xclaim",
    "+xsetid",
    "+pexpireat",
    "+rename",
    "+renamenx",
    "+function",
    "+client|setname",
    "+psync",
    "+replconf",
];
/// A payload beyond this is not sent at once: the server would need it twice, and several of them lie in memory here.
const LARGE: usize = 8 * 1024 * 1024;
/// Skipped keys that are remembered, so that the proof leaves them out: 32 MB.
const SKIPPED: usize = 4_000_000;

/// How a restore goes about it.
#[derive(Debug, Clone)]
pub struct Options {
    pub choice: Choice,
    /// Connections that send.
    pub connections: usize,
    /// Bytes and keys that make a batch: as much is journaled and synced at once, and a sync may take long.
    pub batch_bytes: usize,
    pub batch_keys: usize,
    /// Values beyond this are built up in a key of their own by ordinary commands, then renamed.
    pub large: usize,
    /// Whether function libraries are restored as well, where everything is chosen.
    pub functions: bool,
    /// Ends the restore between two batches when it becomes true.
    pub stop: Option<Arc<AtomicBool>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            choice: Choice::default(),
            connections: 2,
            batch_bytes: 2 * 1024 * 1024,
            batch_keys: 16 * 1024,
            large: LARGE,
            functions: false,
            stop: None,
        }
    }
}

/// What a restore has done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Keys written, those included that took the place of another.
    pub restored: u64,
    pub replaced: u64,
    /// Left alone because they were there.
    pub skipped: u64,
    /// Left out because their time had passed.
    pub expired: u64,
    /// Left out by the choice.
    pub left_out: u64,
    /// Done by the run before that was gone on with.
    pub done_before: u64,
    /// Collections without an element, which no server keeps.
    pub empty: u64,
    /// Of the restored, those that were built up by ordinary commands.
    pub large: u64,
    pub functions: u64,
    /// Of commands, as sent.
    pub bytes: u64,
    pub plain: bool,
    #[serde(skip)]
    pub elapsed: Duration,
    pub seconds: f64,
    #[serde(skip)]
    pub skipped_keys: Names,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys restored", self.restored)?;
        for (count, what) in [
            (self.replaced, "in place of another"),
            (self.skipped, "skipped"),
            (self.expired, "expired"),
            (self.left_out, "left out"),
            (self.done_before, "done before"),
            (self.functions, "function libraries"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write!(f, "; {} in {:.1} s", about(self.bytes), self.seconds)
    }
}

/// A set of names by their hashes: eight bytes a name, made with a secret of the process.
#[derive(Debug, Clone, Default)]
pub struct Names {
    state: RandomState,
    hashes: Vec<u64>,
    /// Whether there was no room for some.
    pub overflowed: bool,
}

impl Names {
    fn like(&self) -> Names {
        Names { state: self.state.clone(), ..Names::default() }
    }

    fn add(&mut self, database: u64, key: &[u8], most: usize) {
        if self.hashes.len() < most {
            self.hashes.push(self.state.hash_one((database, key)));
        } else {
            self.overflowed = true;
        }
    }

    fn sort(&mut self) {
        self.hashes.sort_unstable();
    }

    fn has(&self, database: u64, key: &[u8]) -> bool {
        self.hashes.binary_search(&self.state.hash_one((database, key))).is_ok()
    }
}

/// Why a restore ended early.
#[derive(Debug)]
pub enum RestoreError {
    Link(LinkError),
    /// The server answered a command with an error.
    Refused {
        database: u64,
        /// The key or the library, as far as there is one.
        key: Option<Vec<u8>>,
        answer: String,
    },
    /// A key is there, and the choice says to refuse then.
    Exists {
        database: u64,
        key: Vec<u8>,
    },
    /// What a key holds now is too large for the server to take it back from a journal.
    CannotJournal {
        key: Vec<u8>,
        bytes: u64,
    },
    Source(RdbError),
    /// The target has no form for a value.
    Value(WriteError),
    /// Commands cannot build a large value exactly.
    NotExact {
        key: Vec<u8>,
        what: &'static str,
    },
    Journal(io::Error),
    /// The snapshot does not tell when it was made.
    NoCreationTime,
    /// The journal was begun on another server, or for another restore.
    OtherJournal,
    Stopped,
}

impl From<LinkError> for RestoreError {
    fn from(error: LinkError) -> RestoreError {
        RestoreError::Link(error)
    }
}

impl From<RdbError> for RestoreError {
    fn from(error: RdbError) -> RestoreError {
        RestoreError::Source(error)
    }
}

impl RestoreError {
    pub fn what(&self) -> String {
        match self {
            Self::Link(error) => error.to_string(),
            Self::Refused { database, key: Some(key), answer } => {
                format!("the server refused key `{}` of database {database}: `{answer}`", shown(key))
            }
            Self::Refused { key: None, answer, .. } => format!("the server refused: `{answer}`"),
            Self::Exists { database, key } => format!("key `{}` of database {database} is there already", shown(key)),
            Self::CannotJournal { key, bytes } => {
                format!("what `{}` holds now ({}) is too large to be put back later", shown(key), about(*bytes))
            }
            Self::Source(error) => format!("the backup is damaged or not understood: {error}"),
            Self::Value(error) => error.to_string(),
            Self::NotExact { key, what } => {
                format!("the large key `{}` cannot be restored exactly: {what}", shown(key))
            }
            Self::Journal(cause) => format!("could not write the journal: {cause}"),
            Self::NoCreationTime => {
                "the snapshot does not say when it was made, so expiries cannot be shifted".to_owned()
            }
            Self::OtherJournal => "the journal belongs to another server or to another restore".to_owned(),
            Self::Stopped => "stopped on request".to_owned(),
        }
    }

    /// What a person can do about it. All but the first lines leave a restore that can be undone or gone on with.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Refused { answer, .. } => match answer.split(' ').next().unwrap_or_default() {
                "OOM" => "raise `maxmemory` or choose fewer keys, then go on; or undo",
                "LOADING" => "wait until the server has loaded its data, then go on",
                "READONLY" => "restore into the primary of this replica",
                "MISCONF" => "the server cannot save: see its log and disk, then go on",
                "NOREPLICAS" => "the server wants more replicas (`min-replicas-to-write`), then go on",
                "NOPERM" => "give the user `~*` and the commands that a restore needs with `ACL SETUSER`, then go on",
                "MOVED" | "CLUSTERDOWN" | "CROSSSLOT" => "restore into a server that is not part of a cluster",
                _ if answer.contains("DUMP payload version or checksum") => {
                    "the server does not take values of this version: report the versions of both; undo what was done"
                }
                _ if answer.contains("Bad data format") => "the server cannot load this value; a module may be missing",
                _ if answer.contains("DB index") => "raise `databases` in the server's configuration, or undo",
                _ => "see the server's log; undo, or go on when the cause is gone",
            },
            Self::Exists { .. } => "choose to replace or to skip existing keys; undo takes back what was restored",
            Self::CannotJournal { .. } => "rename or remove that key first, or skip existing keys",
            Self::Source(_) => "undo what was restored, and use another backup",
            Self::Value(_) | Self::NotExact { .. } => "leave this key out, restore cold, or use a newer server",
            Self::Journal(_) => "make room for the journal; what was done before can be undone",
            Self::NoCreationTime => "say when it was made, or use `--ttl keep`",
            Self::OtherJournal => "begin a new journal; nothing was sent",
            Self::Link(_) | Self::Stopped => "undo what was restored, or go on with the same journal",
        }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.help())
    }
}

impl Error for RestoreError {}

/// A key's beginning, for messages.
fn shown(key: &[u8]) -> String {
    key.get(..rdb::KEY_SHOWN.min(key.len())).unwrap_or_default().escape_ascii().to_string()
}

/// A restore that ended early, and what it had done by then.
#[derive(Debug)]
pub struct Broken {
    pub error: RestoreError,
    pub report: Report,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (so far: {})", self.error, self.report)
    }
}

impl Error for Broken {}

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of the backup.
    pub bytes_read: u64,
    /// Keys written so far.
    pub restored: u64,
}

/// A server to restore into.
#[derive(Debug)]
pub struct Session {
    at: Source,
    link: Link,
    pub server: ServerVersion,
    info: BTreeMap<String, String>,
    /// The server's clock when it was asked, in milliseconds since 1970.
    now_ms: i64,
    asked: Instant,
    bulk_limit: u64,
    /// What the user may not ask, by name.
    unknown: Vec<&'static str>,
}

impl Session {
    /// The same, sending something only while it is permitted.
    #[must_use]
    pub fn fenced(mut self, permit: Permit) -> Session {
        self.link.permit = Some(permit);
        self
    }

    /// Connects, and asks the server what it is.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub fn open(at: &Source) -> Result<Session, RestoreError> {
        let mut link = Link::connect(at)?;
        let info = info(&mut link)?;
        let now_ms = time(&mut link)?;
        Session::of(at, link, info, now_ms)
    }

    /// The same to look around alone, as a user that may do nothing but ask: the time that `INFO` tells, or else `here_ms`.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub fn look(at: &Source, here_ms: i64) -> Result<Session, RestoreError> {
        let mut link = Link::connect(at)?;
        let info = info(&mut link)?;
        let told_ms =
            info.get("server_time_usec").and_then(|micros| micros.parse::<i64>().ok()).map(|micros| micros / 1000);
        let mut session = Session::of(at, link, info, told_ms.unwrap_or(here_ms))?;
        session.unknown.extend(told_ms.is_none().then_some("the server's clock"));
        Ok(session)
    }

    fn of(at: &Source, link: Link, info: BTreeMap<String, String>, now_ms: i64) -> Result<Session, RestoreError> {
        let server = ServerVersion::parse(&observe::version(&info)).unwrap_or(ServerVersion::OLDEST);
        let (at, asked, unknown) = (at.clone(), Instant::now(), Vec::new());
        let mut session = Session { at, link, server, info, now_ms, asked, bulk_limit: 0, unknown };
        // Without the right to ask, the default.
        session.bulk_limit =
            session.setting("proto-max-bulk-len")?.and_then(|text| text.parse().ok()).unwrap_or(512 << 20);
        Ok(session)
    }

    fn setting(&mut self, name: &str) -> Result<Option<String>, LinkError> {
        let answer = self.link.ask(&[b"CONFIG", b"GET", name.as_bytes()])?;
        Ok(answer.list().get(1).and_then(Reply::text))
    }

    /// What a forecast wants to know. The limit of the server's container is not the server's to tell.
    ///
    /// # Errors
    /// Whatever keeps the server from answering.
    pub fn facts(&mut self, memory_limit: Option<u64>) -> Result<Facts, RestoreError> {
        let mut unknown = std::mem::take(&mut self.unknown);
        let mut setting = |name: &'static str| -> Result<Option<String>, LinkError> {
            let text = self.setting(name)?;
            if text.is_none() {
                unknown.push(name);
            }
            Ok(text)
        };
        let number = |text: Option<String>, otherwise| text.and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let maxmemory = number(setting("maxmemory")?, 0);
        let databases = number(setting("databases")?, 16);
        let maxmemory_policy = setting("maxmemory-policy")?.unwrap_or_else(|| "noeviction".to_owned());
        let modules = self.link.ask(&[b"MODULE", b"LIST"])?;
        if let Reply::Error(_) = modules {
            unknown.push("modules");
        }
        self.unknown = unknown;
        let modules = modules.list().iter().filter_map(|module| {
            let name = module.list().iter().position(|word| word.text().as_deref() == Some("name"))?;
            module.list().get(name + 1)?.text()
        });
        Ok(Facts {
            server: self.server,
            maxmemory,
            maxmemory_policy,
            used_memory: self.info.get("used_memory").and_then(|text| text.parse().ok()).unwrap_or(0),
            databases,
            modules: modules.collect(),
            memory_limit,
            now_ms: self.now_ms(),
            is_replica: self.field("role") == "slave",
            is_cluster: self.field("cluster_enabled") == "1",
        })
    }

    /// What the facts only assume, because the user may not ask.
    pub fn unknown(&self) -> &[&'static str] {
        &self.unknown
    }

    fn field(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    /// The server's clock by now.
    pub fn now_ms(&self) -> i64 {
        self.now_ms.saturating_add(i64::try_from(self.asked.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// How a journal of a restore into this server begins. `source` identifies the backup and the choice made from it.
    pub fn header(&self, source: &[u8]) -> Header {
        Header {
            run_id: self.field("run_id").to_owned(),
            replication_id: self.field("master_replid").to_owned(),
            source: source.to_vec(),
            now_ms: self.now_ms(),
        }
    }

    /// Whether this is still the server that a journal was begun on. A restart changes the first, becoming a primary
    /// the second.
    pub fn is_the_one_of(&self, header: &Header) -> bool {
        let known =
            |id: &str| !id.is_empty() && [self.field("master_replid"), self.field("master_replid2")].contains(&id);
        self.field("run_id") == header.run_id || known(&header.replication_id)
    }

    /// Restores what the options choose. `began` is the header of the journal, `before` what the journal held when a
    /// broken restore is gone on with.
    ///
    /// The backup is proven only when its end is reached: restore one that was verified.
    ///
    /// # Errors
    /// Whatever kept it from being restored whole, with what was done by then.
    pub fn warm<W: Write + Send>(
        &self,
        backup: impl Read,
        options: &Options,
        journal: &mut Journal<W>,
        began: &Header,
        before: Option<&Contents>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Report, Box<Broken>> {
        let begun = Instant::now();
        if !self.is_the_one_of(began) || before.is_some_and(|before| before.header != *began) {
            return Err(Box::new(Broken { error: RestoreError::OtherJournal, report: Report::default() }));
        }
        let shared = Shared::new(self, options, journal, began, before);
        let result = thread::scope(|scope| {
            let mut senders = Vec::new();
            // One more than send: the reader builds large values itself.
            for _ in 0..=options.connections.max(1) {
                let mut link = Link::connect(&self.at)?;
                link.permit.clone_from(&self.link.permit);
                senders.push(Sender::new(link, &shared));
            }
            let own = senders.pop();
            let (to, units) = mpsc::sync_channel::<Unit>(1);
            let units = Arc::new(Mutex::new(units));
            let threads: Vec<_> = senders
                .into_iter()
                .map(|sender| {
                    let units = Arc::clone(&units);
                    scope.spawn(move || sender.run(&units))
                })
                .collect();
            drop(units);
            let mut feeder = Feeder {
                session: self,
                options,
                began,
                shared: &shared,
                own,
                to,
                unit: Unit::default(),
                ordinal: 0,
                way: None,
                counts: Counts::default(),
                done: before.map(Contents::done).unwrap_or_default(),
            };
            let fed = feeder.feed(backup, progress);
            let Feeder { counts, to, .. } = feeder;
            drop(to);
            shared.add(counts);
            let mut result = fed;
            for thread in threads {
                let sent = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                // What a sender has to say caused what the reader saw.
                if let Err(error) = sent {
                    result = Err(error);
                }
            }
            result
        });
        let mut report = shared.report();
        report.elapsed = begun.elapsed();
        report.seconds = report.elapsed.as_secs_f64();
        let settled = shared.settle();
        match result.and(settled) {
            Ok(()) => Ok(report),
            Err(error) => Err(Box::new(Broken { error, report })),
        }
    }
}

fn info(link: &mut Link) -> Result<BTreeMap<String, String>, RestoreError> {
    let answer = link.ask(&[b"INFO"])?;
    let Some(text) = answer.text().filter(|_| !matches!(answer, Reply::Status(_))) else {
        return Err(refused(0, None, &answer));
    };
    let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn time(link: &mut Link) -> Result<i64, RestoreError> {
    let answer = link.ask(&[b"TIME"])?;
    time_of(&answer).ok_or_else(|| refused(0, None, &answer))
}

fn time_of(answer: &Reply) -> Option<i64> {
    match answer.list() {
        [seconds, micros] => Some(seconds.number()?.checked_mul(1000)?.checked_add(micros.number()? / 1000)?),
        _ => None,
    }
}

fn refused(database: u64, key: Option<&[u8]>, answer: &Reply) -> RestoreError {
    RestoreError::Refused { database, key: key.map(<[u8]>::to_vec), answer: answer.shown() }
}

/// Reads the backup and fills units for the senders.
struct Feeder<'s, W> {
    session: &'s Session,
    options: &'s Options,
    began: &'s Header,
    shared: &'s Shared<'s, W>,
    own: Option<Sender<'s, W>>,
    to: mpsc::SyncSender<Unit>,
    unit: Unit,
    ordinal: u64,
    way: Option<(Way, i64)>,
    counts: Counts,
    done: Vec<(u64, u64)>,
}

impl<W: Write + Send> Feeder<'_, W> {
    fn feed(&mut self, backup: impl Read, progress: &mut dyn FnMut(Progress)) -> Result<(), RestoreError> {
        let mut frames = Frames::new(backup);
        let (mut room, mut payload) = (Room::default(), Vec::new());
        let mut bytes_read = 0;
        while let Some(batch) = frames.next_batch()? {
            if self.way.is_none() {
                self.begin(frames.summary())?;
            }
            for record in batch.records() {
                match record? {
                    Record::Key(entry) => self.key(&entry, &mut room, &mut payload)?,
                    Record::Function(written) => self.function(written)?,
                    Record::Announced { .. } | Record::ModuleAux(_) => {}
                }
                payload.shrink_to(self.options.batch_bytes);
            }
            bytes_read += batch.bytes().len() as u64;
            frames.recycle(batch);
            progress(Progress { bytes_read, restored: self.shared.restored() });
        }
        self.hand_over()
    }

    fn begin(&mut self, summary: &rdb::Summary) -> Result<(), RestoreError> {
        let choice = &self.options.choice;
        let created_ms = choice.created_ms.or(summary.created_unix.map(|seconds| seconds.saturating_mul(1000)));
        if created_ms.is_none() && choice.ttl == Ttl::Shift {
            return Err(RestoreError::NoCreationTime);
        }
        let way = Way::choose(summary.family, summary.version, self.session.server);
        self.counts.plain = way.form == Form::Plain;
        self.way = Some((way, created_ms.unwrap_or(self.began.now_ms)));
        Ok(())
    }

    fn key(&mut self, entry: &Entry<'_>, room: &mut Room, payload: &mut Vec<u8>) -> Result<(), RestoreError> {
        let Some((way, created_ms)) = self.way else { return Ok(()) };
        let ordinal = self.ordinal;
        self.ordinal += 1;
        if self.is_done(ordinal) {
            self.counts.done_before += 1;
            return Ok(());
        }
        let choice = &self.options.choice;
        let mut name = Vec::new();
        let key = entry.key(&mut name)?;
        if !choice.has(key) {
            self.counts.left_out += 1;
            return Ok(());
        }
        let expires_at_ms = choice.ttl.apply(entry.expires_at_ms, created_ms, self.began.now_ms);
        // Sent with a time that has passed, RESTORE says OK, makes nothing, and removes what was there.
        if expires_at_ms.is_some_and(|expiry| expiry <= self.session.now_ms()) {
            self.counts.expired += 1;
            return Ok(());
        }
        let fields_lost = choice.lose_field_expiries && way.loses_field_expiries();
        let field = |expiry| match fields_lost {
            true => None,
            false => choice.ttl.apply(expiry, created_ms, self.began.now_ms),
        };
        let limit = self.options.large.min(usize::try_from(self.session.bulk_limit).unwrap_or(usize::MAX));
        let mut large = entry.size() > limit;
        let mut kind = Kind::Dump;
        if !large || entry.kind == Type::Module {
            let server = self.session.server;
            // Before 6.2 SET cannot be told a moment.
            let settable = expires_at_ms.is_none() || server.speaks(6, 2);
            if entry.kind == Type::String && settable && entry.idle_seconds.is_none() && entry.frequency.is_none() {
                kind = Kind::Text;
                payload.clear();
                entry.read(room, |element| {
                    if let rdb::Element::Text(piece) = element {
                        payload.extend_from_slice(piece);
                    }
                })?;
            } else {
                let (target, form) = way.of(entry, choice.ttl);
                let wrote = rdb::dump_with(entry, target, form, field, room, payload).map_err(RestoreError::Value)?;
                if !wrote {
                    self.counts.empty += 1;
                    return Ok(());
                }
            }
            large = payload.len() > limit;
        }
        let mut alone = false;
        if large && entry.kind != Type::Module {
            // Units hold keys in the order of the backup, which is what lets a broken restore go on.
            self.hand_over()?;
            let Some(own) = &mut self.own else { return Ok(()) };
            match own.large(entry, key, expires_at_ms, &field, ordinal, room) {
                // What commands cannot build goes as a whole, as long as the server takes it.
                Err(RestoreError::NotExact { what, .. }) => {
                    let (target, form) = way.of(entry, choice.ttl);
                    rdb::dump_with(entry, target, form, field, room, payload).map_err(RestoreError::Value)?;
                    if payload.len() as u64 > self.session.bulk_limit {
                        return Err(RestoreError::NotExact { key: key.to_vec(), what });
                    }
                    alone = true;
                }
                result => return result,
            }
        }
        if self.unit.database != entry.database
            || self.unit.items.len() >= self.options.batch_keys
            || self.unit.bytes.len() >= self.options.batch_bytes
        {
            self.hand_over()?;
        }
        let unit = &mut self.unit;
        unit.database = entry.database;
        let at = unit.bytes.len();
        unit.bytes.extend_from_slice(key);
        unit.bytes.extend_from_slice(payload);
        unit.items.push(Item {
            ordinal,
            at,
            key: key.len(),
            payload: payload.len(),
            kind,
            expires_at_ms,
            idle_seconds: entry.idle_seconds,
            frequency: entry.frequency,
        });
        match &mut self.own {
            Some(own) if alone => {
                let found_absent = own.found_absent;
                let sent = own.unit(&std::mem::take(&mut self.unit), found_absent);
                self.shared.add(std::mem::take(&mut own.counts));
                sent
            }
            _ => Ok(()),
        }
    }

    fn is_done(&self, ordinal: u64) -> bool {
        let behind = self.done.partition_point(|(first, _)| *first <= ordinal);
        behind.checked_sub(1).and_then(|index| self.done.get(index)).is_some_and(|(_, last)| ordinal <= *last)
    }

    /// Gives the unit to a sender. Where all have ended, one of them will say why.
    fn hand_over(&mut self) -> Result<(), RestoreError> {
        if self.shared.failed.load(Ordering::Relaxed) {
            return Err(RestoreError::Stopped);
        }
        if self.options.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(RestoreError::Stopped);
        }
        if self.unit.items.is_empty() {
            return Ok(());
        }
        let unit = std::mem::take(&mut self.unit);
        self.to.send(unit).ok().ok_or(RestoreError::Stopped)
    }

    fn function(&mut self, written: &[u8]) -> Result<(), RestoreError> {
        // Whoever names keys names no libraries.
        let wanted = self.options.functions && self.options.choice.is_everything();
        if !wanted || !self.session.server.speaks(7, 0) {
            return Ok(());
        }
        let mut room = Vec::new();
        let code = rdb::text(written, &mut room).unwrap_or(written);
        match &mut self.own {
            Some(own) => own.function(code),
            None => Ok(()),
        }
    }
}

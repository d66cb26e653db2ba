//! Pulls a snapshot out of a running server as a replica would, and proves it on the way.
//!
//! One pass: every byte of the RDB goes to a writer, and every key into the keyspace digest; reading
//! ends where the RDB ends, its checksum checked. With `repl-diskless-sync` the server needs no disk for it, and since 6.2 it
//! keeps no buffer for us. Blocking on purpose: one socket read to the end gains nothing from a runtime, so call it from
//! a thread of its own.
//!
//! Deliberately absent: TLS, files and their sync (the writer's owner knows them), retries, and everything that would
//! weaken the stream, such as the capabilities that drop the checksum or wrap the RDB.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::digest::{self, Hasher, Keyspace, ReadError};
use crate::rdb::{RdbError, RdbErrorKind, Summary};
use crate::value::Secret;

/// Lines are short; the snapshot itself is read past this buffer.
const BUFFER: usize = 16 * 1024;
/// Answers are one short line. Whatever is longer does not speak this protocol.
const LINE: usize = 1024;
const MARKER: usize = 40;
const NAME: &str = "lockstep-backup";

/// Where a snapshot comes from.
#[derive(Clone)]
pub struct Source {
    pub address: SocketAddr,
    /// Empty for a server without users (before 6.0).
    pub user: String,
    /// Sent and never shown. With an empty user and password nobody signs in.
    pub password: String,
    /// How long the server may send nothing at all. While it prepares a snapshot it sends a newline every second, so
    /// this need not cover the preparation.
    pub timeout: Duration,
    /// The server version to claim for this side; `None` asks the server and claims its own where that matters. Valkey
    /// 9.1 sends a replica of an older or unknown version what 7.2 could read, and breaks off at a hash whose fields
    /// expire (tried on 9.1.2; 9.0.0 sends its own format to everybody).
    pub announce_version: Option<String>,
}

impl Source {
    pub fn new(address: SocketAddr, user: &str, password: &Secret, timeout: Duration) -> Source {
        let password = String::from_utf8_lossy(password.reveal()).into_owned();
        Source { address, user: user.to_owned(), password, timeout, announce_version: None }
    }

    /// Connects; nobody has signed in yet.
    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("address", &self.address)
            .field("user", &self.user)
            .field("password", &"(secret)")
            .field("timeout", &self.timeout)
            .field("announce_version", &self.announce_version)
            .finish()
    }
}

/// A snapshot that arrived whole.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its checksum may be absent, where the server has `rdbchecksum no`.
    pub summary: Summary,
    pub keyspace: Keyspace,
    /// The history the snapshot belongs to, and how many bytes of it the snapshot contains.
    pub replication_id: String,
    pub replication_offset: i64,
    pub elapsed: Duration,
    /// Until the first byte of the RDB: connecting, the fork, and `repl-diskless-sync-delay` (5 s unless set).
    pub wait: Duration,
}

/// Pulls one snapshot into `into`, telling `progress` the bytes so far and their total where the server knows it.
///
/// After an error, `into` holds an unproven part that has to be thrown away. It is flushed, not synced.
///
/// # Errors
/// Anything that kept the whole snapshot from arriving and being proven; the message says what to do.
pub fn pull(
    source: &Source,
    hasher: &Hasher,
    into: &mut (impl Write + Send),
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Pulled, PullError> {
    let begun = Instant::now();
    let mut wire = Wire::connect(source)?;
    wire.sign_in(source)?;
    wire.introduce(source)?;
    let (replication_id, replication_offset) = wire.request_snapshot()?;
    let extent = wire.extent()?;

    wire.wait_for_first_byte()?;
    let wait = begun.elapsed();
    let total = match extent {
        Extent::Bytes(total) => Some(total),
        Extent::Until(_) => None,
    };
    let mut transfer = Transfer { wire: &mut wire, progress, bytes: 0, total, failure: None };
    let read = digest::read(&mut transfer, hasher, |piece| into.write_all(piece))
        .map(|told| (told.summary, told.keyspace, told.rest));
    let (summary, keyspace, rest) = transfer.judge(read)?;
    into.flush().map_err(PullError::Write)?;
    if let Extent::Until(marker) = extent {
        wire.expect_marker(&marker, &rest, summary.bytes)?;
    }
    // Closing is the way to leave. A server that knows no `rdb-only` goes on with its command stream until then.
    Ok(Pulled { summary, keyspace, replication_id, replication_offset, elapsed: begun.elapsed(), wait })
}

/// How the end of the RDB is told: by its length (from disk) or by what follows it (straight from the fork).
enum Extent {
    Bytes(u64),
    Until([u8; MARKER]),
}

/// A connection and what was read from it ahead of need.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    timeout: Duration,
    doing: Doing,
}

impl Wire {
    fn connect(source: &Source) -> Result<Self, PullError> {
        let stream = source.connect().map_err(|cause| PullError::Connect { address: source.address, cause })?;
        Ok(Self { stream, buffer: vec![0; BUFFER], start: 0, end: 0, timeout: source.timeout, doing: Doing::SigningIn })
    }

    fn sign_in(&mut self, source: &Source) -> Result<(), PullError> {
        let (user, password) = (source.user.as_str(), source.password.as_str());
        let answer = match (user, password) {
            ("", "") => return Ok(()),
            ("", password) => self.ask(&["AUTH", password])?,
            (user, password) => self.ask(&["AUTH", user, password])?,
        };
        match answer.code() {
            Code::Fine => Ok(()),
            Code::Refusal("WRONGPASS") => Err(PullError::Credentials { user: user.to_owned() }),
            // Before 6.0 a wrong password is an ordinary error. An unknown command repeats its arguments.
            Code::Refusal(_) => Err(PullError::Refused { command: "AUTH", answer: answer.without_arguments() }),
            Code::Other => Err(PullError::Unexpected { doing: self.doing, answer: answer.without_arguments() }),
        }
    }

    /// Says who is asking and for what. `capa eof` is indispensable: without it even a server that is set to send
    /// straight from the fork goes by way of a dump in its data directory, which its next start may load.
    fn introduce(&mut self, source: &Source) -> Result<(), PullError> {
        self.doing = Doing::Introducing;
        // A courtesy to whoever reads CLIENT LIST, hence not worth a permission.
        self.ask(&["CLIENT", "SETNAME", NAME])?;
        let version = match &source.announce_version {
            Some(version) => Some(version.clone()),
            None => self.valkey_version()?,
        };
        self.configure("capa", "eof", Need::Indispensable)?;
        // Since 6.2; on an older one the command stream simply follows and is not read.
        self.configure("rdb-only", "1", Need::Optional)?;
        if let Some(version) = version {
            self.configure("version", &version, Need::Optional)?;
        }
        Ok(())
    }

    fn configure(&mut self, option: &str, value: &str, need: Need) -> Result<(), PullError> {
        let answer = self.ask(&["REPLCONF", option, value])?;
        match (answer.code(), need) {
            (Code::Fine, _) | (Code::Refusal("ERR"), Need::Optional) => Ok(()),
            _ => Err(self.refusal("REPLCONF", &answer)),
        }
    }

    /// The server's own version where it is a Valkey. HELLO is open to every user, whatever its permissions, and an old
    /// server refuses it without harm.
    fn valkey_version(&mut self) -> Result<Option<String>, PullError> {
        let answer = self.ask(&["HELLO"])?;
        let Some(fields) = answer.number_after("*") else { return Ok(None) };
        let (mut server, mut version, mut name) = (None, None, Vec::new());
        // Nested lists are read as if they were flat; the two fields wanted come before the first.
        let mut left = fields;
        let mut read = 0;
        while left > 0 {
            let line = self.line()?;
            left -= 1;
            read += 1;
            if let Some(more) = line.number_after("*") {
                left = left.saturating_add(more);
            }
            let Some(length) = line.number_after("$") else { continue };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > LINE || read > LINE {
                return Err(PullError::Unexpected { doing: self.doing, answer: line.shown() });
            }
            let mut text = vec![0; length];
            self.read_exact(&mut text)?;
            self.read_exact(&mut [0; 2])?;
            match name.as_slice() {
                b"server" if server.is_none() => server = Some(text.clone()),
                b"version" if version.is_none() => version = Some(text.clone()),
                _ => {}
            }
            name = text;
        }
        Ok(version.filter(|_| server.as_deref() == Some(b"valkey")).and_then(|text| String::from_utf8(text).ok()))
    }

    fn request_snapshot(&mut self) -> Result<(String, i64), PullError> {
        self.doing = Doing::Asking;
        self.send(&["PSYNC", "?", "-1"])?;
        let answer = self.patient_line()?;
        if let Some(resync) = answer.0.strip_prefix(b"+FULLRESYNC ") {
            let mut words = resync.split(|byte| *byte == b' ').filter_map(|word| std::str::from_utf8(word).ok());
            if let (Some(id), Some(offset), None) = (words.next(), words.next(), words.next())
                && id.len() == 40
                && id.bytes().all(|byte| byte.is_ascii_hexdigit())
                && let Ok(offset) = offset.parse()
            {
                return Ok((id.to_owned(), offset));
            }
        }
        Err(self.refusal("PSYNC", &answer))
    }

    fn extent(&mut self) -> Result<Extent, PullError> {
        self.doing = Doing::Waiting;
        let answer = self.patient_line()?;
        if let Some(marker) = answer.0.strip_prefix(b"$EOF:") {
            if let Ok(marker) = marker.try_into() {
                return Ok(Extent::Until(marker));
            }
        } else if let Some(length) = answer.number_after("$") {
            return Ok(Extent::Bytes(length));
        } else if let Code::Refusal(_) = answer.code() {
            // The server has agreed to a snapshot by now, so it is the fork or its child that failed.
            return Err(PullError::SnapshotFailed { answer: answer.shown() });
        }
        Err(PullError::Unexpected { doing: self.doing, answer: answer.shown() })
    }

    fn wait_for_first_byte(&mut self) -> Result<(), PullError> {
        self.fill().map_err(|cause| self.failure(cause, 0))?;
        self.doing = Doing::Reading;
        Ok(())
    }

    /// What follows an RDB of unknown length has to be what was announced ahead of it. A server before 7.0.6 may send a
    /// newline behind the marker, which is why nothing more is read.
    fn expect_marker(&mut self, marker: &[u8; MARKER], ahead: &[u8], at: u64) -> Result<(), PullError> {
        let mut found = [0; MARKER];
        let (had, missing) = found.split_at_mut(ahead.len().min(MARKER));
        had.copy_from_slice(ahead.get(..had.len()).unwrap_or_default());
        self.read_exact(missing).map_err(|error| match error {
            PullError::Closed { doing, .. } => PullError::Closed { doing, bytes: at },
            other => other,
        })?;
        if found == *marker { Ok(()) } else { Err(PullError::Marker { at }) }
    }

    fn refusal(&self, command: &'static str, answer: &Line) -> PullError {
        match answer.code() {
            Code::Refusal("NOAUTH") => PullError::SignInNeeded,
            Code::Refusal("NOPERM") => PullError::NotPermitted { command },
            Code::Refusal("LOADING") => PullError::Loading,
            Code::Refusal("MASTERDOWN" | "NOMASTERLINK") => PullError::NoPrimary,
            Code::Refusal(_) => PullError::Refused { command, answer: answer.shown() },
            Code::Fine | Code::Other => PullError::Unexpected { doing: self.doing, answer: answer.shown() },
        }
    }

    fn ask(&mut self, words: &[&str]) -> Result<Line, PullError> {
        self.send(words)?;
        self.line()
    }

    fn send(&mut self, words: &[&str]) -> Result<(), PullError> {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let command = format!("*{}\r\n{}", words.len(), words.collect::<String>());
        self.stream.write_all(command.as_bytes()).map_err(|cause| self.failure(cause, 0))
    }

    /// The next line that is not empty: a server that prepares a snapshot sends newlines to show that it is alive.
    fn patient_line(&mut self) -> Result<Line, PullError> {
        loop {
            let line = self.line()?;
            if !line.0.is_empty() {
                return Ok(line);
            }
        }
    }

    fn line(&mut self) -> Result<Line, PullError> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.read_exact(&mut byte)?;
            match byte {
                [b'\n'] => {
                    line.pop_if(|last| *last == b'\r');
                    return Ok(Line(line));
                }
                _ if line.len() >= LINE => {
                    return Err(PullError::Unexpected { doing: self.doing, answer: Line(line).shown() });
                }
                [byte] => line.push(byte),
            }
        }
    }

    fn read_exact(&mut self, mut wanted: &mut [u8]) -> Result<(), PullError> {
        while !wanted.is_empty() {
            self.fill().map_err(|cause| self.failure(cause, 0))?;
            // Between two slices a read cannot fail; nothing read means that the server has closed.
            let count = self.ahead().read(wanted).unwrap_or_default();
            if count == 0 {
                return Err(PullError::Closed { doing: self.doing, bytes: 0 });
            }
            self.take(count);
            wanted = wanted.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// What was read and not taken yet.
    fn ahead(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads more when nothing is ahead. Nothing is ahead afterwards when the server has closed.
    fn fill(&mut self) -> io::Result<()> {
        if self.start < self.end {
            return Ok(());
        }
        (self.start, self.end) = (0, 0);
        self.end = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        Ok(())
    }

    fn take(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    fn failure(&self, cause: io::Error, bytes: u64) -> PullError {
        let doing = self.doing;
        match cause.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => PullError::Silent { doing, after: self.timeout },
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => PullError::Closed { doing, bytes },
            _ => PullError::Socket { doing, cause },
        }
    }
}

#[derive(Clone, Copy)]
enum Need {
    Indispensable,
    Optional,
}

/// One line of the server's, without its end.
struct Line(Vec<u8>);

enum Code<'l> {
    Fine,
    /// The word that tells refusals apart.
    Refusal(&'l str),
    Other,
}

impl Line {
    fn code(&self) -> Code<'_> {
        match self.0.split_first() {
            Some((b'+', b"OK")) => Code::Fine,
            Some((b'-', text)) => {
                let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
                Code::Refusal(std::str::from_utf8(word).unwrap_or_default())
            }
            _ => Code::Other,
        }
    }

    fn number_after(&self, prefix: &str) -> Option<u64> {
        std::str::from_utf8(self.0.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
    }

    /// For messages: printable, short, and without the sign of a refusal.
    fn shown(&self) -> String {
        let text = String::from_utf8_lossy(self.0.strip_prefix(b"-").unwrap_or(&self.0));
        text.chars().take(200).map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
    }

    /// The same up to the first quote, behind which a server may repeat what it was sent.
    fn without_arguments(&self) -> String {
        let quote = self.0.iter().position(|byte| matches!(byte, b'\'' | b'`' | b'"')).unwrap_or(self.0.len());
        let before = self.0.get(..quote).unwrap_or_default();
        Self(before.trim_ascii_end().to_vec()).shown()
    }
}

/// The snapshot on its way, up to its announced length where there is one.
struct Transfer<'t> {
    wire: &'t mut Wire,
    progress: &'t mut dyn FnMut(u64, Option<u64>),
    bytes: u64,
    total: Option<u64>,
    /// What went wrong with the connection. `Read` has no room for it.
    failure: Option<PullError>,
}

type Taken = (Summary, Keyspace, Vec<u8>);

impl Transfer<'_> {
    /// What kept the snapshot from arriving whole, when something did.
    fn judge(self, read: Result<Taken, ReadError>) -> Result<Taken, PullError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let taken = read.map_err(|error| match error {
            ReadError::Tap(cause) => PullError::Write(cause),
            ReadError::Rdb(error) => match (&error.kind, self.total) {
                (RdbErrorKind::Truncated, Some(total)) if error.offset == total => {
                    PullError::Overrun { announced: total }
                }
                (RdbErrorKind::Truncated, _) => PullError::Closed { doing: Doing::Reading, bytes: error.offset },
                _ => PullError::Snapshot(error),
            },
        })?;
        match self.total {
            Some(announced) if announced != taken.0.bytes => {
                Err(PullError::Leftover { ended: taken.0.bytes, announced })
            }
            total => {
                (self.progress)(taken.0.bytes, total);
                Ok(taken)
            }
        }
    }
}

impl Read for Transfer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.total.map_or(u64::MAX, |total| total.saturating_sub(self.bytes));
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.wire.ahead() {
            [] => match self.wire.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(cause) => {
                    self.failure = Some(self.wire.failure(cause, self.bytes));
                    return Err(io::Error::other("the transfer has failed"));
                }
                Ok(count) => count,
            },
            mut ahead => {
                let count = ahead.read(buffer)?;
                self.wire.take(count);
                count
            }
        };
        // What came last may reach beyond the RDB; what came before it does not, or nobody would ask for more.
        (self.progress)(self.bytes, self.total);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// How far a pull had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    SigningIn,
    Introducing,
    Asking,
    Waiting,
    Reading,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SigningIn => "signing in",
            Self::Introducing => "preparing the replication link",
            Self::Asking => "asking for a snapshot",
            Self::Waiting => "waiting for the snapshot",
            Self::Reading => "reading the snapshot",
        })
    }
}

/// Why there is no snapshot.
#[derive(Debug)]
pub enum PullError {
    Connect {
        address: SocketAddr,
        cause: io::Error,
    },
    Socket {
        doing: Doing,
        cause: io::Error,
    },
    /// Nothing came for as long as [`Source::timeout`] allows.
    Silent {
        doing: Doing,
        after: Duration,
    },
    /// The server closed the connection.
    Closed {
        doing: Doing,
        bytes: u64,
    },
    Credentials {
        user: String,
    },
    SignInNeeded,
    NotPermitted {
        command: &'static str,
    },
    /// The server is still reading its own dataset.
    Loading,
    /// The server is a replica that has lost its primary.
    NoPrimary,
    Refused {
        command: &'static str,
        answer: String,
    },
    /// The server agreed to a snapshot and then could not make it.
    SnapshotFailed {
        answer: String,
    },
    /// Not an answer of this protocol.
    Unexpected {
        doing: Doing,
        answer: String,
    },
    /// What arrived is not a proven RDB.
    Snapshot(RdbError),
    /// The RDB ended before the announced length.
    Leftover {
        ended: u64,
        announced: u64,
    },
    /// The announced length ended before the RDB.
    Overrun {
        announced: u64,
    },
    /// Behind the RDB came something other than the announced end.
    Marker {
        at: u64,
    },
    Write(io::Error),
}

impl PullError {
    /// What happened, without the advice.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Connect { address, cause } => format!("could not connect to {address}: {cause}"),
            Self::Socket { doing, cause } => format!("the connection failed while {doing}: {cause}"),
            Self::Silent { doing, after } => format!("the server sent nothing for {after:?} while {doing}"),
            Self::Closed { doing: Doing::Reading, bytes } => {
                format!("the server closed the connection after {bytes} bytes of the snapshot")
            }
            Self::Closed { doing, .. } => format!("the server closed the connection while {doing}"),
            Self::Credentials { user } => format!("the server does not accept the password of user `{user}`"),
            Self::SignInNeeded => "the server asks for a user and a password".to_owned(),
            Self::NotPermitted { command } => format!("the user may not run `{command}`"),
            Self::Loading => "the server is still loading its dataset".to_owned(),
            Self::NoPrimary => "the server is a replica without a link to its primary".to_owned(),
            Self::Refused { command, answer } => format!("the server refused `{command}`: `{answer}`"),
            Self::SnapshotFailed { answer } => format!("the server could not make a snapshot: `{answer}`"),
            Self::Unexpected { doing, answer } => format!("unexpected answer while {doing}: `{answer}`"),
            Self::Snapshot(error) => format!("the snapshot is damaged or not understood: {error}"),
            Self::Leftover { ended, announced } => {
                format!("the snapshot ended at byte {ended}, but the server announced {announced} bytes")
            }
            Self::Overrun { announced } => {
                format!("the snapshot is not complete after the {announced} bytes that the server announced")
            }
            Self::Marker { at } => format!("the snapshot ended at byte {at} without the announced end marker"),
            Self::Write(cause) => format!("could not write the snapshot: {cause}"),
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "check that the server runs and that its address and port are reachable from here",
            Self::Socket { .. } => "check the network between here and the server, then run this again",
            Self::Silent { doing: Doing::SigningIn | Doing::Introducing, .. } => {
                "check that this is the port of a Redis or Valkey without TLS, and that no script keeps it busy"
            }
            Self::Silent { .. } => "look at the server's load and disk, or allow a longer timeout",
            Self::Closed { doing: Doing::SigningIn, .. } => {
                "check that this is the port of a Redis or Valkey without TLS, and the server's `maxclients`"
            }
            Self::Closed { .. } => {
                "the server's log says why: a failed snapshot, `repl-timeout`, or the output buffer limit of replicas"
            }
            Self::Credentials { .. } => "compare user and password with the server's ACL; it may also be switched off",
            Self::SignInNeeded => "give a user that may run `+psync +replconf +ping +client|setname`",
            Self::NotPermitted { .. } => "give the user `+psync +replconf +ping +client|setname` with `ACL SETUSER`",
            Self::Loading => "wait until `INFO persistence` shows `loading:0`, then run this again",
            Self::NoPrimary => "take the snapshot from the primary, or wait until the replica is in step again",
            Self::Refused { command: "AUTH", .. } => "compare user and password with the server's configuration",
            Self::Refused { .. } => "check that the server allows replication and has not renamed its commands",
            Self::SnapshotFailed { .. } => {
                "the server needs memory for a fork: see its log, its memory limit and `vm.overcommit_memory`"
            }
            Self::Unexpected { .. } => "check that this is the port of a Redis or Valkey",
            Self::Snapshot(RdbError {
                kind:
                    RdbErrorKind::UnknownType(_)
                    | RdbErrorKind::UnknownOpcode(_)
                    | RdbErrorKind::UnknownVersion(..)
                    | RdbErrorKind::EnterpriseType(_)
                    | RdbErrorKind::PreRelease(_),
                ..
            }) => "this server writes a format that is not supported yet; nothing was backed up",
            Self::Snapshot(_) | Self::Leftover { .. } | Self::Overrun { .. } | Self::Marker { .. } => {
                "do not use what was written; run this again, and suspect memory or network if it happens twice"
            }
            Self::Write(_) => "make room or fix the target, then run this again",
        }
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.help())
    }
}

impl Error for PullError {}

//! One connection on which whole pipelines go out as bytes and every answer comes back in order. Blocking on purpose, as
//! in `pull`: a restore keeps a thread for each.

use crate::redis::pull::Source;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const BUFFER: usize = 64 * 1024;
/// A line is a status, an error or a number.
const LINE: usize = 16 * 1024;
/// Answers of the commands sent here nest four deep at most.
const DEPTH: u8 = 8;
const NAME: &[u8] = b"lockstep-restore";

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn is_ok(&self) -> bool {
        matches!(self, Reply::Status(status) if status == "OK")
    }

    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Reply::Number(number) => Some(*number),
            Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> &[Reply] {
        match self {
            Reply::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        match self {
            Reply::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Reply::Status(status) => Some(status.clone()),
            _ => None,
        }
    }

    /// For messages: short, without control characters.
    pub(super) fn shown(&self) -> String {
        let text = match self {
            Reply::Status(text) | Reply::Error(text) => text.clone(),
            Reply::Number(number) => number.to_string(),
            Reply::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Reply::Nothing => "nothing".to_owned(),
            Reply::List(items) => format!("a list of {}", items.len()),
        };
        text.chars().take(200).map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
    }
}

/// Why a connection is of no use any more.
#[derive(Debug)]
pub enum LinkError {
    Connect {
        address: SocketAddr,
        cause: io::Error,
    },
    Socket(io::Error),
    Silent(Duration),
    Closed,
    Protocol(String),
    /// Nothing may be changed any more.
    Fenced(String),
    Credentials {
        user: String,
        answer: String,
    },
    /// Its answer is longer than so many bytes.
    TooMuch(u64),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Connect { address, cause } => write!(
                f,
                "could not connect to {address}: {cause}; check that the server runs and that its address and port are \
                 reachable from here"
            ),
            LinkError::Socket(cause) => write!(f, "the connection failed: {cause}; check the network"),
            LinkError::Silent(after) => {
                write!(
                    f,
                    "the server sent nothing for {after:?}; look at its load and its disk, or allow a longer timeout"
                )
            }
            LinkError::Fenced(why) => f.write_str(why),
            LinkError::Closed => f.write_str("the server closed the connection; its log says why"),
            LinkError::Protocol(what) => {
                write!(f, "unexpected answer `{what}`; check that this is the port of a Redis or Valkey without TLS")
            }
            LinkError::TooMuch(limit) => write!(f, "the answer is longer than {limit} bytes; ask for less"),
            LinkError::Credentials { user, answer } => {
                write!(f, "the server does not accept user `{user}`: `{answer}`; compare it with the server's ACL")
            }
        }
    }
}

impl std::error::Error for LinkError {}

/// Asked before anything is sent; the error says why nothing may be.
#[derive(Clone)]
pub struct Permit(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Permit {
    pub fn new(permit: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Permit {
        Permit(Arc::new(permit))
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

pub(super) struct Link {
    pub(super) permit: Option<Permit>,
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    timeout: Duration,
    database: u64,
    /// Bytes that may still be read, where the answers are bounded.
    left: Option<u64>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn connect(source: &Source) -> Result<Link, LinkError> {
        let mut link = Link::sign_in(source)?;
        // A courtesy to whoever reads CLIENT LIST, hence not worth a permission.
        link.ask(&[b"CLIENT", b"SETNAME", NAME])?;
        Ok(link)
    }

    /// Connects and says nothing but who it is.
    pub(super) fn sign_in(source: &Source) -> Result<Link, LinkError> {
        let stream = source.connect().map_err(|cause| LinkError::Connect { address: source.address, cause })?;
        let mut link = Link {
            permit: None,
            stream,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            timeout: source.timeout,
            database: 0,
            left: None,
        };
        let (user, password) = (source.user.as_bytes(), source.password.as_bytes());
        let answer = match (user, password) {
            ([], []) => Reply::Status("OK".to_owned()),
            ([], password) => link.ask(&[b"AUTH", password])?,
            (user, password) => link.ask(&[b"AUTH", user, password])?,
        };
        if !answer.is_ok() {
            // An old server repeats what it was sent behind the first quote.
            let answer = answer.shown().split(['\'', '`', '"']).next().unwrap_or_default().trim().to_owned();
            return Err(LinkError::Credentials { user: source.user.clone(), answer });
        }
        Ok(link)
    }

    /// From here on no answer may be longer than this.
    pub(super) fn ask_within(&mut self, words: &[&[u8]], limit: u64) -> Result<Reply, LinkError> {
        self.left = Some(limit);
        self.ask(words).map_err(|error| match error {
            LinkError::TooMuch(_) => LinkError::TooMuch(limit),
            other => other,
        })
    }

    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, LinkError> {
        let mut bytes = Vec::new();
        put_command(&mut bytes, words);
        self.send(&bytes)?;
        self.reply()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        if let Some(Permit(permit)) = &self.permit {
            permit().map_err(LinkError::Fenced)?;
        }
        self.stream.write_all(bytes).map_err(|cause| self.failure(cause))
    }

    /// Puts `SELECT` ahead of a pipeline where the database changes; its answer is read by whoever sends it.
    pub(super) fn select(&mut self, database: u64) -> Result<Option<Reply>, LinkError> {
        if self.database == database {
            return Ok(None);
        }
        let answer = self.ask(&[b"SELECT", database.to_string().as_bytes()])?;
        if !answer.is_ok() {
            return Ok(Some(answer));
        }
        self.database = database;
        Ok(None)
    }

    pub(super) fn reply(&mut self) -> Result<Reply, LinkError> {
        self.reply_below(DEPTH)
    }

    fn reply_below(&mut self, depth: u8) -> Result<Reply, LinkError> {
        let line = self.line()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<i64>().ok());
        let wrong = || LinkError::Protocol(text(line.get(..64.min(line.len())).unwrap_or_default()));
        match line.split_first() {
            Some((b'+', rest)) => Ok(Reply::Status(text(rest))),
            Some((b'-', rest)) => Ok(Reply::Error(text(rest))),
            Some((b':', rest)) => number(rest).map(Reply::Number).ok_or_else(wrong),
            Some((b'$', rest)) => match number(rest).ok_or_else(wrong)? {
                -1 => Ok(Reply::Nothing),
                length => self.bytes(u64::try_from(length).ok().ok_or_else(wrong)?),
            },
            Some((b'*', rest)) => match number(rest).ok_or_else(wrong)? {
                -1 => Ok(Reply::Nothing),
                _ if depth == 0 => Err(wrong()),
                count => {
                    let mut items = Vec::new();
                    for _ in 0..count {
                        items.push(self.reply_below(depth - 1)?);
                    }
                    Ok(Reply::List(items))
                }
            },
            _ => Err(wrong()),
        }
    }

    /// Grows with what comes, not with what is announced.
    fn bytes(&mut self, length: u64) -> Result<Reply, LinkError> {
        let mut bytes = Vec::new();
        let mut left = length;
        while left > 0 {
            self.fill()?;
            let ahead = self.buffer.get(self.start..self.end).unwrap_or_default();
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(ahead.len());
            bytes.extend_from_slice(ahead.get(..count).unwrap_or_default());
            self.start += count;
            left -= count as u64;
        }
        match self.line()?.as_slice() {
            [] => Ok(Reply::Bytes(bytes)),
            _ => Err(LinkError::Protocol("bytes behind the end of a value".to_owned())),
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut line = Vec::new();
        loop {
            self.fill()?;
            let ahead = self.buffer.get(self.start..self.end).unwrap_or_default();
            let end = ahead.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(ahead.get(..end.unwrap_or(ahead.len())).unwrap_or_default());
            self.start += end.map_or(ahead.len(), |end| end + 1);
            if end.is_some() {
                line.pop_if(|last| *last == b'\r');
                return Ok(line);
            }
            if line.len() > LINE {
                return Err(LinkError::Protocol("a line without an end".to_owned()));
            }
        }
    }

    /// Reads more when nothing is ahead.
    fn fill(&mut self) -> Result<(), LinkError> {
        if self.start < self.end {
            return Ok(());
        }
        (self.start, self.end) = (0, 0);
        self.end = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.failure(cause)),
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => break count,
            }
        };
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(self.end as u64).ok_or(LinkError::TooMuch(0))?;
        }
        Ok(())
    }

    fn failure(&self, cause: io::Error) -> LinkError {
        match cause.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => LinkError::Silent(self.timeout),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => LinkError::Closed,
            _ => LinkError::Socket(cause),
        }
    }
}

/// Begins a command of so many words.
pub(super) fn begin_command(out: &mut Vec<u8>, words: usize) {
    put_head(out, b'*', words);
}

pub(super) fn put_word(out: &mut Vec<u8>, word: &[u8]) {
    put_head(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn put_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    begin_command(out, words.len());
    for word in words {
        put_word(out, word);
    }
}

fn put_head(out: &mut Vec<u8>, sign: u8, number: usize) {
    out.push(sign);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

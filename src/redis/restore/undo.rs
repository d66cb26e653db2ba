//! Puts back what a journal holds: old values with their moments of expiry, and nothing where nothing was.

use super::{RestoreError, Session, refused};
use crate::redis::link::{LinkError, Reply, put_command};
use crate::restore::journal::{Before, Frame, JournalError, Reader};
use serde::Serialize;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io::{Read, Seek};

/// Commands that are under way at once.
const BYTES: usize = 2 * 1024 * 1024;
const COMMANDS: usize = 1024;

/// What an undo has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Undone {
    pub put_back: u64,
    /// Keys that were not there before, or whose time has passed since.
    pub removed: u64,
    pub functions: u64,
    pub batches: u64,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undone { put_back, removed, functions, batches } = self;
        write!(f, "{put_back} values put back, {removed} keys removed")?;
        if *functions > 0 {
            write!(f, ", {functions} function libraries as before")?;
        }
        write!(f, " ({batches} batches)")
    }
}

/// Why an undo ended early. Doing it again is safe.
#[derive(Debug)]
pub enum UndoError {
    Journal(JournalError),
    /// The journal belongs to a restore into another server.
    OtherServer {
        run_id: String,
    },
    Server(RestoreError),
}

impl fmt::Display for UndoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UndoError::Journal(error) => error.fmt(f),
            UndoError::OtherServer { run_id } => write!(
                f,
                "the journal belongs to a restore into the server with run id {run_id}, which this is not or no longer \
                 known to be; connect to that server, or say that it is this one"
            ),
            UndoError::Server(error) => write!(f, "{}; undo again when the cause is gone", error.what()),
        }
    }
}

impl Error for UndoError {}

impl From<JournalError> for UndoError {
    fn from(error: JournalError) -> UndoError {
        UndoError::Journal(error)
    }
}

impl From<RestoreError> for UndoError {
    fn from(error: RestoreError) -> UndoError {
        UndoError::Server(error)
    }
}

impl From<LinkError> for UndoError {
    fn from(error: LinkError) -> UndoError {
        UndoError::Server(RestoreError::Link(error))
    }
}

impl Session {
    /// Undoes a restore, whole or broken. What others have written to its keys since is lost. `anywhere` skips the
    /// question whether this is the server that the journal belongs to.
    ///
    /// # Errors
    /// What keeps it from being undone to its end.
    pub fn undo(&mut self, journal: impl Read + Seek, anywhere: bool) -> Result<Undone, UndoError> {
        let mut undone = Undone::default();
        let Some((mut reader, contents)) = Reader::open(journal)? else { return Ok(undone) };
        if !anywhere && !self.is_the_one_of(&contents.header) {
            return Err(UndoError::OtherServer { run_id: contents.header.run_id });
        }
        let mut superseded = BTreeSet::new();
        for batch in contents.batches.iter().rev() {
            let mut pipeline = Pipeline { session: self, out: Vec::new(), waiting: Vec::new() };
            reader.batch(*batch, |frame| match frame {
                Frame::Key { database, ordinal, key, before, supersedes } => {
                    if superseded.contains(&(ordinal, key.clone())) {
                        return Ok(());
                    }
                    if supersedes {
                        superseded.insert((ordinal, key.clone()));
                    }
                    pipeline.put_back(database, key, before, &mut undone)
                }
                Frame::NotOurs { ordinal, key } => {
                    superseded.insert((ordinal, key));
                    Ok(())
                }
                Frame::Function { name, before } => {
                    undone.functions += 1;
                    pipeline.flush()?;
                    pipeline.function(&name, before)
                }
                Frame::Header(_) | Frame::Batch { .. } | Frame::Done { .. } => Ok(()),
            })?;
            pipeline.flush()?;
            undone.batches += 1;
        }
        Ok(undone)
    }
}

struct Pipeline<'s> {
    session: &'s mut Session,
    out: Vec<u8>,
    /// Keys whose answers have not come yet.
    waiting: Vec<(u64, Vec<u8>)>,
}

impl Pipeline<'_> {
    fn put_back(&mut self, database: u64, key: Vec<u8>, before: Before, undone: &mut Undone) -> Result<(), UndoError> {
        if self.waiting.first().is_some_and(|(of, _)| *of != database)
            || self.out.len() >= BYTES
            || self.waiting.len() >= COMMANDS
        {
            self.flush()?;
        }
        if self.waiting.is_empty()
            && let Some(answer) = self.session.link.select(database)?
        {
            return Err(refused(database, None, &answer).into());
        }
        match before {
            Before::Value { payload, expires_at_ms } if expires_at_ms.is_none_or(|at| at > self.session.now_ms()) => {
                undone.put_back += 1;
                let expiry = expires_at_ms.unwrap_or(0).to_string();
                let words: [&[u8]; 6] = [b"RESTORE", &key, expiry.as_bytes(), &payload, b"REPLACE", b"ABSTTL"];
                put_command(&mut self.out, if expires_at_ms.is_some() { &words } else { &words[..5] });
            }
            Before::Value { .. } | Before::Absent => {
                undone.removed += 1;
                put_command(&mut self.out, &[b"UNLINK", &key]);
            }
        }
        self.waiting.push((database, key));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), UndoError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.session.link.send(&self.out)?;
        self.out.clear();
        self.out.shrink_to(2 * BYTES);
        let mut wrong = None;
        for (database, key) in self.waiting.drain(..) {
            let answer = self.session.link.reply()?;
            if let Reply::Error(_) = answer {
                wrong.get_or_insert_with(|| refused(database, Some(&key), &answer));
            }
        }
        wrong.map_or(Ok(()), |error| Err(error.into()))
    }

    fn function(&mut self, name: &str, before: Option<Vec<u8>>) -> Result<(), UndoError> {
        let answer = match &before {
            Some(code) => self.session.link.ask(&[b"FUNCTION", b"LOAD", b"REPLACE", code])?,
            None => self.session.link.ask(&[b"FUNCTION", b"DELETE", name.as_bytes()])?,
        };
        match answer {
            // Undone before.
            Reply::Error(text) if before.is_none() && text.contains("not found") => Ok(()),
            Reply::Error(_) => Err(refused(0, Some(name.as_bytes()), &answer).into()),
            _ => Ok(()),
        }
    }
}

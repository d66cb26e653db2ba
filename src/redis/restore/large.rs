//! A value too large for one command: built up in a key of its own by ordinary commands, then renamed into place.
//!
//! Until then nobody sees it under its name, and its own key is in the journal as one that was not there.

use super::send::{Sender, building};
use super::{RestoreError, refused};
use crate::rdb::{Element, Entry, Room, StreamFacts, StreamId};
use crate::redis::link::{Reply, begin_command, put_word};
use crate::restore::Existing;
use crate::restore::journal::{Before, Frame};
use std::collections::BTreeMap;
use std::io::Write;

/// A command goes out when its words come to this.
const CHUNK: usize = 1024 * 1024;
/// A server takes a million words; a command that long keeps everybody waiting.
const WORDS: usize = 4096;

impl<W: Write + Send> Sender<'_, W> {
    pub(super) fn large(
        &mut self,
        entry: &Entry<'_>,
        key: &[u8],
        expires_at_ms: Option<i64>,
        field: &dyn Fn(Option<i64>) -> Option<i64>,
        ordinal: u64,
        room: &mut Room,
    ) -> Result<(), RestoreError> {
        let database = entry.database;
        self.select(database)?;
        let mut there = self.look(database, &[key])?.into_iter().next().flatten();
        if there.is_some() && !self.may_replace(ordinal) {
            return self.stays(database, key);
        }
        let temporary = building(key, ordinal, self.shared.began_ms);
        let mut frames = self.before(database, &[(ordinal, key, there)], false)?;
        let (before, supersedes) = (Before::Absent, false);
        frames.push(Frame::Key { database, ordinal, key: temporary.clone(), before, supersedes });
        let number = self.write_journal(&frames, ordinal)?;
        self.found_absent = there.is_none();
        let built = self.build(entry, &temporary, expires_at_ms, field, room).and_then(|()| {
            // One that was not there may have come in the meantime.
            let command: &[u8] = if there.is_some() { b"RENAME" } else { b"RENAMENX" };
            let answer = self.link.ask(&[command, &temporary, key])?;
            match answer {
                Reply::Number(0) if self.shared.options.choice.existing == Existing::Replace => {
                    self.write_not_ours(&[Frame::NotOurs { ordinal, key: key.to_vec() }])?;
                    there = self.look(database, &[key])?.into_iter().next().flatten();
                    let frames = self.before(database, &[(ordinal, key, there)], true)?;
                    self.write_journal(&frames, ordinal)?;
                    let answer = self.link.ask(&[b"RENAME", &temporary, key])?;
                    answer.is_ok().then_some(true).ok_or_else(|| refused(database, Some(key), &answer))
                }
                Reply::Number(0) => {
                    self.write_not_ours(&[Frame::NotOurs { ordinal, key: key.to_vec() }])?;
                    self.stays(database, key).map(|()| false)
                }
                Reply::Number(1) => Ok(true),
                answer if answer.is_ok() => Ok(true),
                answer => Err(refused(database, Some(key), &answer)),
            }
        });
        match built {
            Ok(true) => {
                self.counts.large += 1;
                self.count_restored(there.is_some());
            }
            Ok(false) | Err(_) => {
                // Whether or not this is answered, undoing removes it as well.
                let _ = self.link.ask(&[b"UNLINK", &temporary]);
            }
        }
        let counts = std::mem::take(&mut self.counts);
        self.shared.add(counts);
        built?;
        self.is_done(number)
    }

    fn build(
        &mut self,
        entry: &Entry<'_>,
        key: &[u8],
        expires_at_ms: Option<i64>,
        field: &dyn Fn(Option<i64>) -> Option<i64>,
        room: &mut Room,
    ) -> Result<(), RestoreError> {
        let answer = self.link.ask(&[b"UNLINK", key])?;
        if let Reply::Error(_) = answer {
            return Err(refused(entry.database, Some(key), &answer));
        }
        let mut builder =
            Builder { sender: self, database: entry.database, key, chunk: Chunk::default(), stream: Stream::default() };
        let mut result = Ok(());
        entry.read(room, |element| {
            if result.is_ok() {
                result = builder.take(element, field);
            }
        })?;
        result?;
        builder.flush()?;
        builder.end_group()?;
        if let Some(expiry) = expires_at_ms {
            builder.run(&[b"PEXPIREAT", key, expiry.to_string().as_bytes()])?;
        }
        Ok(())
    }
}

/// A command that still takes words.
#[derive(Default)]
struct Chunk {
    command: &'static [u8],
    words: Vec<u8>,
    count: usize,
}

/// What was read of a stream's group and waits for what follows.
#[derive(Default)]
struct Stream {
    entry: Option<(StreamId, Vec<Vec<u8>>)>,
    group: Option<Vec<u8>>,
    pending: BTreeMap<StreamId, (i64, u64)>,
    consumer: Option<Vec<u8>>,
    entries: u64,
}

struct Builder<'b, 's, W> {
    sender: &'b mut Sender<'s, W>,
    database: u64,
    key: &'b [u8],
    chunk: Chunk,
    stream: Stream,
}

fn id_text(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

impl<W: Write + Send> Builder<'_, '_, W> {
    fn take(&mut self, element: Element<'_>, field: &dyn Fn(Option<i64>) -> Option<i64>) -> Result<(), RestoreError> {
        match element {
            Element::Text(text) => {
                for piece in text.chunks(CHUNK) {
                    self.add(b"APPEND", &[piece])?;
                    self.flush()?;
                }
                Ok(())
            }
            Element::Item(item) => self.add(b"RPUSH", &[item]),
            Element::Member(member) => self.add(b"SADD", &[member]),
            Element::Scored(member, score) => self.add(b"ZADD", &[score.to_string().as_bytes(), member]),
            Element::Field { name, value, expires_at_ms } => {
                self.add(b"HSET", &[name, value])?;
                match field(expires_at_ms) {
                    None => Ok(()),
                    Some(expiry) => {
                        self.flush()?;
                        let expiry = expiry.to_string();
                        self.run(&[b"HPEXPIREAT", self.key, expiry.as_bytes(), b"FIELDS", b"1", name])
                    }
                }
            }
            Element::StreamEntry(id) => {
                self.end_entry()?;
                self.stream.entry = Some((id, Vec::new()));
                Ok(())
            }
            Element::StreamField(name, value) => {
                if let Some((_, fields)) = &mut self.stream.entry {
                    fields.extend([name.to_vec(), value.to_vec()]);
                }
                Ok(())
            }
            Element::Stream(facts) => self.facts(facts),
            Element::Group { name, last, read } => {
                self.end_group()?;
                let (last, read) = (id_text(last), read.map(|read| read.to_string()));
                let mut words = vec![b"XGROUP", &b"CREATE"[..], self.key, name, last.as_bytes(), b"MKSTREAM"];
                if let Some(read) = read.as_ref().filter(|_| self.sender.shared.session.server.speaks(7, 0)) {
                    words.extend([&b"ENTRIESREAD"[..], read.as_bytes()]);
                }
                self.run(&words)?;
                self.stream.group = Some(name.to_vec());
                Ok(())
            }
            Element::Pending { id, delivered_ms, deliveries } => {
                self.stream.pending.insert(id, (delivered_ms, deliveries));
                Ok(())
            }
            Element::Consumer { name, .. } => {
                self.stream.consumer = Some(name.to_vec());
                let group = self.stream.group.clone().unwrap_or_default();
                if self.sender.shared.session.server.speaks(6, 2) {
                    return self.run(&[b"XGROUP", b"CREATECONSUMER", self.key, &group, name]);
                }
                Err(self.not_exact("its consumers cannot be made on a server before 6.2"))
            }
            Element::Owned(id) => self.claim(id),
            Element::Producers { added: 0, refused: 0, .. } => Ok(()),
            Element::GivenBack(_) | Element::Producer(_) | Element::Produced { .. } | Element::Producers { .. } => {
                Err(self.not_exact("its stream remembers what no command can tell it"))
            }
            Element::Slot { .. } | Element::NextSlot(_) => Err(self.not_exact("it is an array")),
            Element::Meta(_) => Err(self.not_exact("a module attached something to it")),
            Element::Module { .. } => Err(self.not_exact("a module defines it")),
        }
    }

    fn not_exact(&self, what: &'static str) -> RestoreError {
        RestoreError::NotExact { key: self.key.to_vec(), what }
    }

    fn end_entry(&mut self) -> Result<(), RestoreError> {
        let Some((id, fields)) = self.stream.entry.take() else { return Ok(()) };
        self.stream.entries += 1;
        let id = id_text(id);
        let mut words = vec![&b"XADD"[..], self.key, id.as_bytes()];
        words.extend(fields.iter().map(Vec::as_slice));
        self.run(&words)
    }

    fn facts(&mut self, facts: StreamFacts) -> Result<(), RestoreError> {
        self.end_entry()?;
        // A stream comes to be with an entry or a group, and this one may have neither.
        if self.stream.entries == 0 {
            self.run(&[b"XGROUP", b"CREATE", self.key, b"lockstep", b"0", b"MKSTREAM"])?;
            self.run(&[b"XGROUP", b"DESTROY", self.key, b"lockstep"])?;
        }
        let last = id_text(facts.last);
        match facts.counters.filter(|_| self.sender.shared.session.server.speaks(7, 0)) {
            None => self.run(&[b"XSETID", self.key, last.as_bytes()]),
            Some(counters) => {
                let (added, deleted) = (counters.entries_added.to_string(), id_text(counters.greatest_deleted));
                let numbers = [&b"ENTRIESADDED"[..], added.as_bytes(), b"MAXDELETEDID", deleted.as_bytes()];
                self.run(&[&[b"XSETID", self.key, last.as_bytes()], &numbers[..]].concat())
            }
        }
    }

    fn claim(&mut self, id: StreamId) -> Result<(), RestoreError> {
        let Some((delivered_ms, deliveries)) = self.stream.pending.get(&id).copied() else { return Ok(()) };
        let (group, consumer) =
            (self.stream.group.clone().unwrap_or_default(), self.stream.consumer.clone().unwrap_or_default());
        let (id, time, count) = (id_text(id), delivered_ms.to_string(), deliveries.to_string());
        let time = [b"TIME", time.as_bytes(), b"RETRYCOUNT", count.as_bytes(), b"FORCE", b"JUSTID"];
        let words = [&[b"XCLAIM", self.key, &group, &consumer, b"0", id.as_bytes()], &time[..]].concat();
        let answer = self.ask(&words)?;
        // Since 7.0 an entry that was deleted cannot be made pending.
        match answer.list() {
            [_] => Ok(()),
            _ => Err(self.not_exact("an entry is pending that was deleted from it")),
        }
    }

    fn end_group(&mut self) -> Result<(), RestoreError> {
        self.stream.group = None;
        self.stream.consumer = None;
        self.stream.pending.clear();
        Ok(())
    }

    /// Adds words to the command at hand, and sends it when it has grown enough.
    fn add(&mut self, command: &'static [u8], words: &[&[u8]]) -> Result<(), RestoreError> {
        self.chunk.command = command;
        for word in words {
            put_word(&mut self.chunk.words, word);
            self.chunk.count += 1;
        }
        if self.chunk.words.len() >= CHUNK || self.chunk.count >= WORDS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), RestoreError> {
        if self.chunk.count == 0 {
            return Ok(());
        }
        let mut head = Vec::new();
        begin_command(&mut head, self.chunk.count + 2);
        put_word(&mut head, self.chunk.command);
        put_word(&mut head, self.key);
        self.sender.counts.bytes += (head.len() + self.chunk.words.len()) as u64;
        self.sender.link.send(&head)?;
        self.sender.link.send(&self.chunk.words)?;
        self.chunk.count = 0;
        self.chunk.words.clear();
        self.chunk.words.shrink_to(2 * CHUNK);
        let answer = self.sender.link.reply()?;
        self.fine(answer).map(drop)
    }

    fn run(&mut self, words: &[&[u8]]) -> Result<(), RestoreError> {
        self.ask(words).map(drop)
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, RestoreError> {
        let answer = self.sender.link.ask(words)?;
        self.fine(answer)
    }

    fn fine(&self, answer: Reply) -> Result<Reply, RestoreError> {
        match answer {
            Reply::Error(_) => Err(refused(self.database, Some(self.key), &answer)),
            answer => Ok(answer),
        }
    }
}

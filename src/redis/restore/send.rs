//! One connection of a restore: looks what is there, journals it, sends, and checks every answer.

use super::{Names, Options, Report, RestoreError, SKIPPED, Session, refused, shown, time_of};
use crate::redis::link::{Link, LinkError, Reply, begin_command, put_command, put_word};
use crate::restore::Existing;
use crate::restore::journal::{Before, Contents, Frame, Header, Journal};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

/// Old values that are fetched at once, by what the server says that they use.
const FETCH: u64 = 8 * 1024 * 1024;
/// Keys asked for with one command.
const ASK: usize = 256;
/// Texts written with one command.
const TEXTS: usize = 64;
/// Whoever makes keys as fast as this is asked to stop.
const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What `DUMP` gives.
    Dump,
    /// A string as it is. Many of them fit one command, and neither side has a checksum to make.
    Text,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) ordinal: u64,
    /// Where in the unit its key lies, and its payload behind it.
    pub(super) at: usize,
    pub(super) key: usize,
    pub(super) payload: usize,
    pub(super) kind: Kind,
    pub(super) expires_at_ms: Option<i64>,
    pub(super) idle_seconds: Option<u64>,
    pub(super) frequency: Option<u8>,
}

/// Keys of one database in the order of the backup.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) database: u64,
    pub(super) items: Vec<Item>,
    pub(super) bytes: Vec<u8>,
}

impl Unit {
    fn key(&self, item: &Item) -> &[u8] {
        self.bytes.get(item.at..item.at + item.key).unwrap_or_default()
    }

    fn payload(&self, item: &Item) -> &[u8] {
        let at = item.at + item.key;
        self.bytes.get(at..at + item.payload).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) replaced: u64,
    pub(super) skipped: u64,
    pub(super) expired: u64,
    pub(super) left_out: u64,
    pub(super) done_before: u64,
    pub(super) empty: u64,
    pub(super) large: u64,
    pub(super) functions: u64,
    pub(super) bytes: u64,
    pub(super) plain: bool,
}

/// What all connections of a restore share.
pub(super) struct Shared<'j, W> {
    pub(super) session: &'j Session,
    pub(super) options: &'j Options,
    journal: Mutex<&'j mut Journal<W>>,
    /// Places that a run before had begun: what is there now may be our own.
    begun: Option<&'j Contents>,
    pub(super) began_ms: i64,
    pub(super) failed: AtomicBool,
    restored: AtomicU64,
    counts: Mutex<(Counts, Names)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'j, W: Write> Shared<'j, W> {
    pub(super) fn new(
        session: &'j Session,
        options: &'j Options,
        journal: &'j mut Journal<W>,
        began: &Header,
        begun: Option<&'j Contents>,
    ) -> Shared<'j, W> {
        Shared {
            session,
            options,
            journal: Mutex::new(journal),
            begun,
            began_ms: began.now_ms,
            failed: AtomicBool::new(false),
            restored: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    pub(super) fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: Counts) {
        let mut guard = lock(&self.counts);
        let counts = &mut guard.0;
        for (count, more) in [
            (&mut counts.replaced, more.replaced),
            (&mut counts.skipped, more.skipped),
            (&mut counts.expired, more.expired),
            (&mut counts.left_out, more.left_out),
            (&mut counts.done_before, more.done_before),
            (&mut counts.empty, more.empty),
            (&mut counts.large, more.large),
            (&mut counts.functions, more.functions),
            (&mut counts.bytes, more.bytes),
        ] {
            *count += more;
        }
        counts.plain |= more.plain;
    }

    pub(super) fn skip(&self, database: u64, key: &[u8]) {
        let mut guard = lock(&self.counts);
        guard.0.skipped += 1;
        guard.1.add(database, key, SKIPPED);
    }

    pub(super) fn report(&self) -> Report {
        let guard = lock(&self.counts);
        let (counts, mut skipped_keys) = (&guard.0, guard.1.clone());
        skipped_keys.sort();
        Report {
            restored: self.restored(),
            replaced: counts.replaced,
            skipped: counts.skipped,
            expired: counts.expired,
            left_out: counts.left_out,
            done_before: counts.done_before,
            empty: counts.empty,
            large: counts.large,
            functions: counts.functions,
            bytes: counts.bytes,
            plain: counts.plain,
            skipped_keys,
            ..Report::default()
        }
    }

    pub(super) fn settle(&self) -> Result<(), RestoreError> {
        lock(&self.journal).settle().map_err(RestoreError::Journal)
    }

    fn write(&self, frames: &[Frame], first: u64, last: u64) -> Result<u64, RestoreError> {
        let mut journal = lock(&self.journal);
        let mut write = || -> io::Result<u64> {
            for frame in frames {
                journal.put(frame)?;
            }
            journal.batch(first, last)
        };
        write().map_err(RestoreError::Journal)
    }

    fn done(&self, numbers: &[u64]) -> Result<(), RestoreError> {
        let mut journal = lock(&self.journal);
        numbers.iter().try_for_each(|number| journal.done(*number)).map_err(RestoreError::Journal)
    }
}

/// What is there of a key: what the server says it uses, and when it expires.
#[derive(Debug, Clone, Copy)]
pub(super) struct There {
    used: u64,
    expires_at_ms: Option<i64>,
}

pub(super) struct Sender<'s, W> {
    pub(super) link: Link,
    pub(super) shared: &'s Shared<'s, W>,
    out: Vec<u8>,
    pub(super) counts: Counts,
    /// Whether the key of the large value that was tried last was journaled as absent.
    pub(super) found_absent: bool,
}

impl<W: Write + Send> Sender<'_, W> {
    pub(super) fn new<'s>(link: Link, shared: &'s Shared<'s, W>) -> Sender<'s, W> {
        Sender { link, shared, out: Vec::new(), counts: Counts::default(), found_absent: false }
    }

    /// Works on units until there are no more, or somebody has failed.
    pub(super) fn run(mut self, units: &Mutex<mpsc::Receiver<Unit>>) -> Result<(), RestoreError> {
        let mut result = Ok(());
        while result.is_ok() && !self.shared.failed.load(Ordering::Relaxed) {
            let Ok(unit) = lock(units).recv() else { break };
            result = self.unit(&unit, false);
        }
        if result.is_err() {
            self.shared.failed.store(true, Ordering::Relaxed);
        }
        self.shared.add(std::mem::take(&mut self.counts));
        result
    }

    pub(super) fn select(&mut self, database: u64) -> Result<(), RestoreError> {
        match self.link.select(database)? {
            None => Ok(()),
            Some(answer) => Err(refused(database, None, &answer)),
        }
    }

    /// Restores the keys of a unit. `found_absent` says that they were journaled as absent before, as that of a large value.
    pub(super) fn unit(&mut self, unit: &Unit, found_absent: bool) -> Result<(), RestoreError> {
        let mut late = Vec::new();
        let done = self.rounds(unit, found_absent, &mut late);
        // Whatever ended it, these are left alone.
        self.not_ours(unit, &late).and(done)
    }

    /// `late` holds what was journaled as absent, is somebody's now, and is neither replaced nor written down as such.
    fn rounds(&mut self, unit: &Unit, found_absent: bool, late: &mut Vec<Item>) -> Result<(), RestoreError> {
        self.select(unit.database)?;
        let mut todo: Vec<Item> = unit.items.clone();
        let mut numbers = Vec::new();
        for round in 0..ROUNDS {
            let again = round > 0 || found_absent;
            let keys: Vec<&[u8]> = todo.iter().map(|item| unit.key(item)).collect();
            let there = self.look(unit.database, &keys)?;
            let (mut wanted, mut stay) = (Vec::with_capacity(todo.len()), Vec::new());
            for (item, there) in todo.iter().zip(there) {
                match there {
                    Some(_) if !self.may_replace(item.ordinal) => stay.push(*item),
                    there => wanted.push((*item, there)),
                }
            }
            if again {
                self.not_ours(unit, &stay)?;
                *late = wanted.iter().map(|(item, _)| *item).collect();
            }
            for item in &stay {
                self.stays(unit.database, unit.key(item))?;
            }
            let mut rest = wanted.as_slice();
            while !rest.is_empty() {
                // Old values are held until they are journaled, so only as many as there is room for.
                let mut used = 0u64;
                let fits = rest.iter().take_while(|(_, there)| {
                    let first = used == 0;
                    used = used.saturating_add(there.map_or(0, |there| there.used));
                    first || used <= FETCH
                });
                let (portion, behind) = rest.split_at(fits.count().max(1).min(rest.len()));
                rest = behind;
                // One that is still absent in the first round supersedes nothing: a run before may have found something.
                let supersedes = round > 0 || again && portion.iter().all(|(_, there)| there.is_some());
                numbers.push(self.journal(unit, portion, supersedes)?);
                if again {
                    late.drain(..portion.len());
                }
                self.send(unit, portion, late)?;
            }
            if late.is_empty() {
                return self.shared.done(&numbers);
            }
            todo.clone_from(late);
        }
        let key = todo.first().map(|item| unit.key(item)).unwrap_or_default();
        Err(RestoreError::Exists { database: unit.database, key: key.to_vec() })
    }

    /// Whether what is there may be replaced: by choice, or because a run before has put it there.
    pub(super) fn may_replace(&self, ordinal: u64) -> bool {
        let existing = self.shared.options.choice.existing;
        let ours = || self.shared.begun.is_some_and(|before| before.is_begun(ordinal));
        existing == Existing::Replace || existing == Existing::Refuse && ours()
    }

    /// Writes down that keys which were journaled as absent are left to whoever has made them since.
    fn not_ours(&mut self, unit: &Unit, items: &[Item]) -> Result<(), RestoreError> {
        let frame = |item: &Item| Frame::NotOurs { ordinal: item.ordinal, key: unit.key(item).to_vec() };
        self.write_not_ours(&items.iter().map(frame).collect::<Vec<_>>())
    }

    pub(super) fn write_not_ours(&mut self, frames: &[Frame]) -> Result<(), RestoreError> {
        if frames.is_empty() {
            return Ok(());
        }
        // No key has this place: nothing is sent with this batch, and going on takes none of its keys for done.
        self.shared.write(frames, u64::MAX, u64::MAX).map(|_| ())
    }

    /// Leaves a key as it is, or refuses to go on.
    pub(super) fn stays(&mut self, database: u64, key: &[u8]) -> Result<(), RestoreError> {
        match self.shared.options.choice.existing {
            Existing::Skip => {
                self.shared.skip(database, key);
                Ok(())
            }
            Existing::Replace | Existing::Refuse => Err(RestoreError::Exists { database, key: key.to_vec() }),
        }
    }

    /// What there is of each key.
    pub(super) fn look(&mut self, database: u64, keys: &[&[u8]]) -> Result<Vec<Option<There>>, RestoreError> {
        self.out.clear();
        for keys in keys.chunks(ASK) {
            begin_command(&mut self.out, keys.len() + 1);
            put_word(&mut self.out, b"EXISTS");
            keys.iter().for_each(|key| put_word(&mut self.out, key));
        }
        self.link.send(&self.out)?;
        let mut counts = Vec::new();
        for _ in keys.chunks(ASK) {
            counts.push(self.link.reply()?);
        }
        let mut found = Vec::with_capacity(keys.len());
        for (keys, count) in keys.chunks(ASK).zip(counts) {
            match count.number() {
                Some(0) => found.extend(keys.iter().map(|_| None)),
                Some(_) => found.extend(self.look_closely(database, keys)?),
                None => return Err(refused(database, keys.first().copied(), &count)),
            }
        }
        Ok(found)
    }

    fn look_closely(&mut self, database: u64, keys: &[&[u8]]) -> Result<Vec<Option<There>>, RestoreError> {
        // The moment of expiry can be asked for since 7.0; before, it is what is left, and the time around the question.
        let exact = self.shared.session.server.speaks(7, 0);
        self.out.clear();
        for key in keys {
            put_command(&mut self.out, &[b"MEMORY", b"USAGE", key]);
            if exact {
                put_command(&mut self.out, &[b"PEXPIRETIME", key]);
            } else {
                put_left(&mut self.out, key);
            }
        }
        self.link.send(&self.out)?;
        let mut found = Vec::with_capacity(keys.len());
        let mut again = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let used = self.link.reply()?;
            let (expiry, is_exact) = if exact { (self.link.reply()?, true) } else { read_left(&mut self.link)? };
            if !is_exact {
                again.push(index);
            }
            found.push(match (&used, expiry.number()) {
                (Reply::Nothing, _) => None,
                (_, Some(expiry)) if used.number().is_some() => {
                    let used = used.number().and_then(|used| u64::try_from(used).ok()).unwrap_or(0);
                    // -1 is for good; -2 has just gone, and DUMP will say so.
                    Some(There { used, expires_at_ms: Some(expiry).filter(|expiry| *expiry >= 0) })
                }
                (Reply::Error(_), _) => return Err(refused(database, Some(key), &used)),
                _ => return Err(refused(database, Some(key), &expiry)),
            });
        }
        for index in again {
            let Some(key) = keys.get(index) else { continue };
            let expiry = exactly_left(&mut self.link, key)?;
            if let Some(Some(there)) = found.get_mut(index) {
                there.expires_at_ms = expiry;
            }
        }
        Ok(found)
    }

    /// Writes down what the keys are. When this has returned, they may be overwritten.
    fn journal(
        &mut self,
        unit: &Unit,
        portion: &[(Item, Option<There>)],
        supersedes: bool,
    ) -> Result<u64, RestoreError> {
        let there: Vec<_> = portion.iter().map(|(item, there)| (item.ordinal, unit.key(item), *there)).collect();
        let frames = self.before(unit.database, &there, supersedes)?;
        let ordinal = |item: Option<&(Item, Option<There>)>| item.map(|(item, _)| item.ordinal).unwrap_or_default();
        self.shared.write(&frames, ordinal(portion.first()), ordinal(portion.last()))
    }

    pub(super) fn write_journal(&self, frames: &[Frame], ordinal: u64) -> Result<u64, RestoreError> {
        self.shared.write(frames, ordinal, ordinal)
    }

    pub(super) fn is_done(&self, number: u64) -> Result<(), RestoreError> {
        self.shared.done(&[number])
    }

    pub(super) fn before(
        &mut self,
        database: u64,
        keys: &[(u64, &[u8], Option<There>)],
        supersedes: bool,
    ) -> Result<Vec<Frame>, RestoreError> {
        self.out.clear();
        for (_, key, _) in keys.iter().filter(|(_, _, there)| there.is_some()) {
            put_command(&mut self.out, &[b"DUMP", key]);
        }
        self.link.send(&self.out)?;
        let mut frames = Vec::with_capacity(keys.len());
        for (ordinal, key, there) in keys {
            let before = match there {
                None => Before::Absent,
                Some(there) => match self.link.reply()? {
                    Reply::Bytes(payload) if payload.len() as u64 > self.shared.session.bulk_limit => {
                        let bytes = payload.len() as u64;
                        return Err(RestoreError::CannotJournal { key: key.to_vec(), bytes });
                    }
                    Reply::Bytes(payload) => Before::Value { payload, expires_at_ms: there.expires_at_ms },
                    // Gone in the meantime.
                    Reply::Nothing => Before::Absent,
                    answer => return Err(refused(database, Some(key), &answer)),
                },
            };
            frames.push(Frame::Key { database, ordinal: *ordinal, key: key.to_vec(), before, supersedes });
        }
        Ok(frames)
    }

    /// Sends a portion and checks every answer. Keys that somebody made in the meantime are added to `late`.
    fn send(
        &mut self,
        unit: &Unit,
        portion: &[(Item, Option<There>)],
        late: &mut Vec<Item>,
    ) -> Result<(), RestoreError> {
        let runs = runs(portion);
        self.out.clear();
        for run in &runs {
            match run {
                [(item, there)] => put_item(&mut self.out, unit, item, there.is_some()),
                many => {
                    begin_command(&mut self.out, many.len() * 2 + 1);
                    put_word(&mut self.out, b"MSETNX");
                    for (item, _) in *many {
                        put_word(&mut self.out, unit.key(item));
                        put_word(&mut self.out, unit.payload(item));
                    }
                }
            }
        }
        self.link.send(&self.out)?;
        self.counts.bytes += self.out.len() as u64;
        let mut wrong = None;
        // Answers behind an error still tell what was done.
        for run in runs {
            let answer = self.link.reply()?;
            let fine = match run {
                [_] => answer.is_ok(),
                _ => answer == Reply::Number(1),
            };
            let replaced = run.iter().filter(|(_, there)| there.is_some()).count() as u64;
            match &answer {
                _ if fine => {
                    self.shared.restored.fetch_add(run.len() as u64, Ordering::Relaxed);
                    self.counts.replaced += replaced;
                }
                Reply::Nothing | Reply::Number(0) => late.extend(run.iter().map(|(item, _)| *item)),
                Reply::Error(text) if text.starts_with("BUSYKEY") => late.extend(run.iter().map(|(item, _)| *item)),
                _ => {
                    let key = run.first().map(|(item, _)| unit.key(item));
                    wrong.get_or_insert_with(|| refused(unit.database, key, &answer));
                }
            }
        }
        self.out.shrink_to(self.shared.options.batch_bytes * 2);
        wrong.map_or(Ok(()), Err)
    }

    pub(super) fn count_restored(&mut self, replaced: bool) {
        self.shared.restored.fetch_add(1, Ordering::Relaxed);
        self.counts.replaced += u64::from(replaced);
    }

    /// Loads a function library, the one of its name having been journaled.
    pub(super) fn function(&mut self, code: &[u8]) -> Result<(), RestoreError> {
        let name = library(code).unwrap_or_default();
        let key = Some(name.as_bytes());
        let list = self.link.ask(&[b"FUNCTION", b"LIST", b"LIBRARYNAME", name.as_bytes(), b"WITHCODE"])?;
        if let Reply::Error(_) = list {
            return Err(refused(0, key, &list));
        }
        let fields = list.list().first().map(Reply::list).unwrap_or_default();
        let at = fields.iter().position(|word| word.text().as_deref() == Some("library_code"));
        let before = match at.and_then(|at| fields.get(at + 1)) {
            Some(Reply::Bytes(code)) => Some(code.clone()),
            _ => None,
        };
        if before.as_deref() == Some(code) {
            return Ok(());
        }
        if before.is_some() && self.shared.options.choice.existing != Existing::Replace {
            return match self.shared.options.choice.existing {
                Existing::Skip => Ok(()),
                _ => Err(RestoreError::Exists { database: 0, key: name.clone().into_bytes() }),
            };
        }
        let frame = Frame::Function { name: name.clone(), before };
        // No key has this place, so that going on never takes it for done.
        let number = self.shared.write(&[frame], u64::MAX, u64::MAX)?;
        let answer = self.link.ask(&[b"FUNCTION", b"LOAD", b"REPLACE", code])?;
        if let Reply::Error(_) = answer {
            return Err(refused(0, key, &answer));
        }
        self.shared.add(Counts { functions: 1, ..Counts::default() });
        self.is_done(number)
    }
}

/// The name in a library's first line: `#!lua name=mylib`.
fn library(code: &[u8]) -> Option<String> {
    let line = code.split(|byte| *byte == b'\n').next()?;
    let name = std::str::from_utf8(line).ok()?.split_whitespace().find_map(|word| word.strip_prefix("name="))?;
    Some(name.to_owned())
}

/// Cuts a portion into what goes with one command: strings for good that are not there go together.
fn runs(portion: &[(Item, Option<There>)]) -> Vec<&[(Item, Option<There>)]> {
    let plain = |(item, there): &(Item, Option<There>)| {
        item.kind == Kind::Text && item.expires_at_ms.is_none() && there.is_none()
    };
    let mut runs = Vec::with_capacity(portion.len());
    for part in portion.chunk_by(|one, next| plain(one) && plain(next)) {
        if part.first().is_some_and(plain) {
            runs.extend(part.chunks(TEXTS));
        } else {
            runs.extend(part.chunks(1));
        }
    }
    runs
}

fn put_item(out: &mut Vec<u8>, unit: &Unit, item: &Item, replace: bool) {
    let (key, payload) = (unit.key(item), unit.payload(item));
    let mut number = itoa::Buffer::new();
    let expiry = item.expires_at_ms.unwrap_or(0);
    match item.kind {
        Kind::Text => {
            let expires = item.expires_at_ms.is_some();
            begin_command(out, 3 + usize::from(!replace) + 2 * usize::from(expires));
            put_word(out, b"SET");
            put_word(out, key);
            put_word(out, payload);
            if !replace {
                put_word(out, b"NX");
            }
            if expires {
                put_word(out, b"PXAT");
                put_word(out, number.format(expiry).as_bytes());
            }
        }
        Kind::Dump => {
            let expires = item.expires_at_ms.is_some();
            let eviction = item.idle_seconds.is_some() || item.frequency.is_some();
            begin_command(out, 4 + usize::from(replace) + usize::from(expires) + 2 * usize::from(eviction));
            put_word(out, b"RESTORE");
            put_word(out, key);
            put_word(out, number.format(expiry).as_bytes());
            put_word(out, payload);
            if replace {
                put_word(out, b"REPLACE");
            }
            if expires {
                put_word(out, b"ABSTTL");
            }
            match (item.idle_seconds, item.frequency) {
                (Some(idle), _) => {
                    put_word(out, b"IDLETIME");
                    put_word(out, number.format(idle).as_bytes());
                }
                (None, Some(frequency)) => {
                    put_word(out, b"FREQ");
                    put_word(out, number.format(frequency).as_bytes());
                }
                (None, None) => {}
            }
        }
    }
}

fn put_left(out: &mut Vec<u8>, key: &[u8]) {
    put_command(out, &[b"TIME"]);
    put_command(out, &[b"PTTL", key]);
    put_command(out, &[b"TIME"]);
}

/// The moment of expiry, and whether it is exact: no millisecond has passed around the question.
fn read_left(link: &mut Link) -> Result<(Reply, bool), LinkError> {
    let (before, left, after) = (link.reply()?, link.reply()?, link.reply()?);
    match (time_of(&before), left.number(), time_of(&after)) {
        (Some(before), Some(left), Some(after)) if left >= 0 => {
            Ok((Reply::Number(before.saturating_add(left)), before == after))
        }
        _ => Ok((left, true)),
    }
}

fn exactly_left(link: &mut Link, key: &[u8]) -> Result<Option<i64>, LinkError> {
    let mut last = None;
    for _ in 0..20 {
        let mut out = Vec::new();
        put_left(&mut out, key);
        link.send(&out)?;
        let (expiry, exact) = read_left(link)?;
        last = expiry.number().filter(|expiry| *expiry >= 0);
        if exact {
            break;
        }
    }
    Ok(last)
}

impl<W> std::fmt::Debug for Shared<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// A name for the key in which a large value is built up, the same whenever a restore is gone on with.
pub(super) fn building(key: &[u8], ordinal: u64, began_ms: i64) -> Vec<u8> {
    format!("lockstep:restoring:{began_ms}:{ordinal}:{}", shown(key)).into_bytes()
}

//! Counts what an RDB holds, and opens every value on the way.

use std::collections::BTreeMap;
use std::io::Read;

use super::decode::{Entry, Room};
use super::frame::{Batch, Frames, Record};
use super::layout::Type;
use super::{Database, RdbError, RdbErrorKind, Summary};

/// Sixteen is the default. The limit keeps a file of nothing but database numbers from filling memory with counts.
const DATABASES: usize = 16_384;

/// Walks an RDB to its end. The source may hold more; whether it does shows in [`Summary::bytes`].
///
/// # Errors
/// Anything that keeps the input from being a complete RDB of a known version, with its byte offset.
pub fn walk(source: impl Read) -> Result<Summary, RdbError> {
    let mut frames = Frames::new(source);
    let mut tally = Tally::default();
    let mut room = Room::default();
    while let Some(batch) = frames.next_batch()? {
        tally.add(&batch, |entry| entry.read(&mut room, |_| ()))?;
        frames.recycle(batch);
    }
    Ok(tally.into_summary(frames.summary()))
}

/// Keys by database and type. Those of several batches add up in any order.
#[derive(Debug, Default)]
pub struct Tally {
    databases: Vec<(u64, Counts)>,
    /// Where in `databases` each is, and where the last one asked for is.
    places: BTreeMap<u64, usize>,
    last: usize,
    empty_keys: u64,
}

#[derive(Debug, Default, Clone)]
struct Counts {
    expires: u64,
    by_type: [u64; Type::ALL.len()],
    declared: Option<(u64, u64)>,
}

impl Tally {
    /// Counts a batch. `read` opens each value and tells how many elements it has.
    ///
    /// # Errors
    /// The first thing wrong in it.
    pub fn add(
        &mut self,
        batch: &Batch,
        mut read: impl FnMut(&Entry<'_>) -> Result<u64, RdbError>,
    ) -> Result<(), RdbError> {
        for record in batch.records() {
            self.record(&record?, &mut read)?;
        }
        Ok(())
    }

    /// Counts one record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn record(
        &mut self,
        record: &Record<'_>,
        read: impl FnOnce(&Entry<'_>) -> Result<u64, RdbError>,
    ) -> Result<(), RdbError> {
        match record {
            Record::Key(entry) => {
                let elements = read(entry)?;
                self.count(entry, elements)?;
            }
            Record::Announced { database, keys, expires } => {
                let counts = self.of(*database, 0)?;
                let (before, expiring) = counts.declared.unwrap_or_default();
                counts.declared = Some((before.saturating_add(*keys), expiring.saturating_add(*expires)));
            }
            Record::Function(_) | Record::ModuleAux(_) => {}
        }
        Ok(())
    }

    /// # Errors
    /// More databases than memory is set aside for.
    pub fn count(&mut self, entry: &Entry<'_>, elements: u64) -> Result<(), RdbError> {
        if elements == 0 {
            self.empty_keys += 1;
            return Ok(());
        }
        let counts = self.of(entry.database, entry.offset)?;
        counts.expires += u64::from(entry.expires_at_ms.is_some());
        if let Some(count) = counts.by_type.get_mut(entry.kind as usize) {
            *count += 1;
        }
        Ok(())
    }

    fn of(&mut self, number: u64, offset: u64) -> Result<&mut Counts, RdbError> {
        // Keys come database by database: the last one is nearly always the one.
        if self.databases.get(self.last).is_none_or(|(last, _)| *last != number) {
            let next = self.databases.len();
            self.last = match self.places.get(&number) {
                Some(place) => *place,
                None if next < DATABASES => {
                    self.places.insert(number, next);
                    self.databases.push((number, Counts::default()));
                    next
                }
                None => usize::MAX,
            };
        }
        match self.databases.get_mut(self.last) {
            Some((_, counts)) => Ok(counts),
            None => Err(RdbError { offset, kind: RdbErrorKind::TooManyDatabases(DATABASES), key: None }),
        }
    }

    /// Adds what another part of the same RDB has counted.
    ///
    /// # Errors
    /// More databases than memory is set aside for.
    pub fn merge(&mut self, other: Tally) -> Result<(), RdbError> {
        self.empty_keys += other.empty_keys;
        for (number, more) in other.databases {
            let counts = self.of(number, 0)?;
            counts.expires += more.expires;
            for (count, more) in counts.by_type.iter_mut().zip(more.by_type) {
                *count += more;
            }
            if let Some((keys, expires)) = more.declared {
                let (before, expiring) = counts.declared.unwrap_or_default();
                counts.declared = Some((before.saturating_add(keys), expiring.saturating_add(expires)));
            }
        }
        Ok(())
    }

    /// Completes what the frames have told.
    pub fn into_summary(self, told: &Summary) -> Summary {
        let mut summary = told.clone();
        summary.empty_keys = self.empty_keys;
        for (number, counts) in self.databases {
            let keys = counts.by_type.iter().sum();
            if keys == 0 && counts.declared.is_none() {
                continue;
            }
            let by_type = Type::ALL.into_iter().zip(counts.by_type).filter(|(_, count)| *count > 0);
            summary.databases.insert(
                number,
                Database {
                    keys,
                    expires: counts.expires,
                    by_type: by_type.map(|(kind, count)| (kind.name(), count)).collect(),
                    declared_keys: counts.declared.map(|(keys, _)| keys),
                    declared_expires: counts.declared.map(|(_, expires)| expires),
                },
            );
        }
        summary
    }
}

//! Stores that misbehave as stores do: they fill up, lie, forget and fail.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use lockstep::store::repository::store::{Claim, Object, Store};

/// What a store does to the objects it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Says yes and keeps nothing.
    Drops,
    /// Says yes and keeps all but the last byte.
    Truncates,
    /// Answers with what lay there before.
    Stale,
    /// Answers with one bit that is not what was given.
    Flips,
}

type Objects = BTreeMap<String, (Vec<u8>, Timestamp)>;

/// Objects in memory. The same objects can be reached through several of these, each with faults of its own.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub objects: Arc<Mutex<Objects>>,
    pub now: Arc<Mutex<Timestamp>>,
    pub far: bool,
    /// Only objects whose key contains the text are lied about.
    pub lie: Option<(Lie, &'static str)>,
    /// Writes that still succeed; afterwards the disk is full.
    pub room: Option<Arc<AtomicUsize>>,
    /// Reads fail while this is set.
    pub deaf: Arc<AtomicBool>,
    /// Changes that are still made; then the process is dead, and nothing it does has an effect.
    pub dies_after: Option<Arc<AtomicUsize>>,
}

impl Memory {
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Changes an object behind everybody's back.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.objects.lock().unwrap().get_mut(key).expect("an object").0);
    }

    pub fn forget(&self, key: &str) -> Vec<u8> {
        self.objects.lock().unwrap().remove(key).expect("an object").0
    }

    fn lie(&self, key: &str) -> Option<Lie> {
        self.lie.filter(|(_, about)| key.contains(about)).map(|(lie, _)| lie)
    }

    fn is_alive(&self) -> io::Result<()> {
        let Some(left) = &self.dies_after else { return Ok(()) };
        let counted = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        counted.map(|_| ()).map_err(|_dead| io::Error::other("killed"))
    }

    fn write(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.is_alive()?;
        if let Some(room) = &self.room {
            let left = room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map_err(|_full| io::Error::new(ErrorKind::StorageFull, "no space left on device"))?;
        }
        let bytes = match self.lie(key) {
            Some(Lie::Drops) => return Ok(()),
            Some(Lie::Truncates) => &bytes[..bytes.len().saturating_sub(1)],
            _ => bytes,
        };
        let now = *self.now.lock().unwrap();
        self.objects.lock().unwrap().insert(key.to_owned(), (bytes.to_vec(), now));
        Ok(())
    }
}

impl Store for Memory {
    fn place(&self, key: &str) -> String {
        format!("memory/{key}")
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(key, bytes)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        if self.objects.lock().unwrap().contains_key(key) {
            return Ok(false);
        }
        self.write(key, bytes).map(|()| true)
    }

    fn get(&self, key: &str, limit: u64) -> io::Result<Vec<u8>> {
        if self.deaf.load(Ordering::SeqCst) {
            return Err(io::Error::new(ErrorKind::TimedOut, "the store does not answer"));
        }
        let mut bytes = match (self.lie(key), self.objects.lock().unwrap().get(key)) {
            (Some(Lie::Stale), Some((bytes, _))) => vec![b'x'; bytes.len()],
            (_, Some((bytes, _))) => bytes.clone(),
            (_, None) => return Err(ErrorKind::NotFound.into()),
        };
        if let (Some(Lie::Flips), Some(byte)) = (self.lie(key), bytes.last_mut()) {
            *byte ^= 1;
        }
        match bytes.len() as u64 > limit {
            true => Err(io::Error::new(ErrorKind::InvalidData, "it is larger than expected")),
            false => Ok(bytes),
        }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        let objects = self.objects.lock().unwrap();
        let below =
            objects.iter().filter(|(key, _)| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')));
        let object = |(key, (bytes, modified)): (&String, &(Vec<u8>, Timestamp))| Object {
            key: key.clone(),
            bytes: bytes.len() as u64,
            modified: *modified,
        };
        Ok(below.map(object).collect())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.is_alive()?;
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    fn free(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn is_far(&self) -> bool {
        self.far
    }

    fn claim(&self, _folder: &str) -> io::Result<Claim> {
        Ok(Claim::default())
    }

    fn is_held(&self, _folder: &str) -> io::Result<Option<bool>> {
        Ok(None)
    }
}

//! What the keys of a running server are like, from the beginning of a snapshot that nobody keeps.
//!
//! Lockstep's user can read no key, and so nothing here scans: a snapshot comes over the replication stream, which costs the
//! server a fork and no command that waits, and is broken off when enough was seen.

use crate::desired::OPERATOR;
use crate::model::Environment;
use crate::model::behaviour::KeyRule;
use crate::parity::shape::{Cost, Shape};
use crate::probe;
use crate::redis;
use crate::store;
use crate::world::capture;
use crate::world::holds::Subject;
use crate::world::ready::redis_address;
use std::io::Read;
use std::time::Instant;

/// Keys that are looked at: shares are right within a third of a point.
const SAMPLE: u64 = 100_000;

/// The shape of one server's keys.
///
/// # Errors
/// Why there is none: it does not run, cannot be read, or has no room for a fork.
pub async fn shape(subject: Subject<'_>, environment: &Environment, service: &str) -> Result<Shape, String> {
    let password = subject.operators.get(service).ok_or("lockstep's password for it is not known")?;
    let address = redis_address(subject.engine, subject.names, service).await.map_err(|failure| failure.to_string())?;
    let server = redis::connect(address, OPERATOR, password).await.map_err(|error| error.to_string())?;
    let (keys, _) = server.burden().await.map_err(|error| error.to_string())?;
    let version = server.version().await.map_err(|error| error.to_string())?;
    let rules: Vec<KeyRule> = environment.keys.iter().filter(|rule| rule.on.as_str() == service).cloned().collect();
    let limit = subject.observed.state.container(service).map_or(0, |container| container.memory_bytes);
    // Databases come one after the other, and only within one is the order a sample.
    let most = if keys.len() > 1 { u64::MAX } else { SAMPLE };
    let (now_ms, began) = (store::now().as_millisecond(), Instant::now());
    let look = move |snapshot: &mut dyn Read| {
        let mut counted = Counted { source: snapshot, bytes: 0 };
        let rules: Vec<&KeyRule> = rules.iter().collect();
        let shape = probe::shape::shape(&mut counted, &rules, most, now_ms).map_err(|error| error.to_string())?;
        let enough = shape.read == most;
        Ok(((shape, counted.bytes), enough))
    };
    let looked = capture::glance(service, (address, password), limit, look).await;
    let (shape, bytes) = looked.map_err(|failure| failure.to_string())?;
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (_, fork_microseconds) = server.burden().await.map_err(|error| error.to_string())?;
    let total: u64 = keys.values().sum();
    Ok(Shape {
        version: version.to_string(),
        // Where everything was read, the snapshot knows better than what was said before it.
        keys: if shape.read == most { total.max(shape.read) } else { shape.read },
        cost: Cost { milliseconds, bytes, fork_microseconds },
        ..shape
    })
}

/// A source, and how much of it was read.
struct Counted<R> {
    source: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}

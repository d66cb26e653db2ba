//! What the journeys share: a project in a folder of its own, the engine, the servers, and a proxy between.

pub mod bare;
pub mod dataset;
pub mod disk;
pub mod docker;
pub mod engine;
pub mod facts;
pub mod project;
pub mod proxy;
#[path = "../../rdb/reading.rs"]
pub mod reading;
pub mod scenario;
pub mod server;
pub mod snapshot;
pub mod typed;
pub mod writer;

pub use bare::Bare;
pub use disk::Disk;
pub use engine::Engine;
pub use facts::Facts;
pub use proxy::{At, Fault, Proxy};
pub use scenario::{Ran, Running, Scenario, hashed};
pub use server::Redis;
pub use snapshot::Plain;
pub use writer::Writer;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For all that is sure to come. Where it comes this costs nothing, and a machine may stand still for a while.
const PATIENCE: Duration = Duration::from_secs(300);

/// Looks again and again until there is something to return; panics with `what` when the time is up.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        // Before the look: however late it is, and however long a look took, there is one more.
        let late = began.elapsed() > PATIENCE;
        if let Some(found) = look() {
            return found;
        }
        assert!(!late, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free a moment ago, and is given out once: below those that the machine chooses by itself, and apart
/// from those of other processes of these tests.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const PORTS: u32 = 12_000;
    const APART: u32 = 60;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() % (PORTS / APART) * APART;
    let mut ports = (0..PORTS).map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS);
    let free = ports.find_map(|port| {
        let port = u16::try_from(port).ok()?;
        ["127.0.0.1", "0.0.0.0"].iter().all(|address| TcpListener::bind((*address, port)).is_ok()).then_some(port)
    });
    free.expect("a port of this machine")
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

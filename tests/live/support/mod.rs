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

use std::time::{Duration, Instant};

/// Looks again and again until there is something to return; panics with `what` when the time is up.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
    listener.local_addr().expect("an address").port()
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

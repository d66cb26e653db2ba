//! Taking turns with other processes on this machine, so that an engine is not asked for more at once than it can do.
//!
//! A turn is a name of a socket that nobody else can have, and that goes with its process; no file is ever made. It is a
//! courtesy: whoever gets none goes on in the end all the same, and nothing that has to be right rests on it.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(25);

/// A turn; it is over when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _name: UnixListener,
}

/// One of so many turns at something, if one is free.
pub fn take(what: &str, places: usize) -> Option<Turn> {
    (0..places).find_map(|place| {
        let address = SocketAddr::from_abstract_name(format!("lockstep {what} {place}")).ok()?;
        UnixListener::bind_addr(&address).ok().map(|name| Turn { _name: name })
    })
}

/// Waits for one of so many turns; `None` when that takes too long, and it is time to go on beside the others, or when `stop`
/// says so.
pub async fn wait(what: &str, places: usize, within: Duration, stop: &(dyn Fn() -> bool + Sync)) -> Option<Turn> {
    let began = Instant::now();
    while began.elapsed() < within && !stop() {
        if let Some(turn) = take(what, places) {
            return Some(turn);
        }
        sleep(PAUSE).await;
    }
    None
}

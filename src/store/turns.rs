//! Taking turns with other processes on this machine, so that an engine is not asked for more at once than it can do.
//!
//! A turn is a name of a socket that nobody else can have, and that goes with its process; no file is ever made. It is a
//! courtesy: whoever gets none goes on in the end all the same, and nothing that has to be right rests on it.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

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

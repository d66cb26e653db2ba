//! The disk, the environment variables and the clock of this machine; the only folder that reads or writes them.

pub mod backups;
pub mod context;
pub mod docker_context;
pub mod files;
pub mod guard;
pub mod inputs;
pub mod secrets;

use jiff::Timestamp;
use std::io::{self, Read};

/// Now, in UTC.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Bytes that nobody can guess, from the operating system.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// `N` random bytes as hexadecimal text.
pub fn random_hex<const N: usize>() -> io::Result<String> {
    Ok(random::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An environment variable of this process.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

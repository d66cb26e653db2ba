//! The disk, the environment variables and the clock of this machine; the only folder that reads or writes them.

pub mod child;
pub mod context;
pub mod docker_context;
pub mod files;
pub mod git;
pub mod guard;
pub mod inputs;
pub mod journals;
pub mod notes;
pub mod privacy;
pub mod repository;
pub mod secrets;
pub mod seeds;
pub mod spill;
pub mod turns;
pub mod volumes;
pub mod who;

use crate::value::{Date, Span};
use jiff::Timestamp;
use std::io::{self, Read};

/// Now, in UTC.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// This day, in UTC.
pub fn today() -> Date {
    // What the clock says begins with a day, as RFC 3339 has it; without one, every acceptance has ended.
    Date::of_time(&now().to_string()).unwrap_or(Date::LAST)
}

/// How long ago an RFC 3339 time was; nothing for one that lies ahead.
pub fn age(time: &str) -> Option<Span> {
    let passed = now().duration_since(time.parse().ok()?);
    u64::try_from(passed.as_millis()).ok().map(|milliseconds| Span { milliseconds })
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

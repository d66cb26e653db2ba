//! A failure: something lockstep could not do, and the exit code that tells so.
//!
//! Inside, errors are `anyhow` with context; a `Failure` is made at a command's edge, where it is
//! known what the user can do about it. Code chooses by kind, never by reading a message.

use std::fmt;

/// Why a command ended without its result; each kind has one documented exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Could not finish.
    Error,
    /// The command line or the spec is wrong; nothing was touched.
    Usage,
    /// Finished, and found differences.
    Differences,
    /// Refused: protection, or something that would have to be confirmed.
    Refused,
    /// The change failed, and everything is as it was before it.
    Undone,
    /// The change failed, and not everything could be taken back.
    UndoIncomplete,
    /// The engine cannot be reached, or does not answer in time.
    Engine,
    /// The backup failed, so nothing was changed.
    Backup,
    /// Ended by this signal after a clean stop.
    Signal(u8),
    /// A command that was run beside an environment ended with this code, which becomes lockstep's own.
    Command(u8),
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Error => 1,
            Kind::Usage => 2,
            Kind::Differences => 3,
            Kind::Refused => 4,
            Kind::Undone => 5,
            Kind::UndoIncomplete => 6,
            Kind::Engine => 7,
            Kind::Backup => 9,
            Kind::Signal(number) => 128u8.saturating_add(number),
            Kind::Command(code) => code,
        }
    }
}

/// What could not be done, why, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub error: anyhow::Error,
    pub help: Option<String>,
    /// What had been done by then, when it matters.
    pub so_far: Option<String>,
}

impl Failure {
    pub fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Failure {
        Failure { kind, error: error.into(), help: None, so_far: None }
    }

    pub fn message(kind: Kind, message: impl Into<String>) -> Failure {
        Failure::new(kind, anyhow::Error::msg(message.into()))
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn so_far(mut self, so_far: impl Into<String>) -> Failure {
        self.so_far = Some(so_far.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Failure::new(Kind::Error, error),
        }
    }
}

impl std::error::Error for Failure {}

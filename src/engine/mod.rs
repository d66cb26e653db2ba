//! The Docker engine in our own words; the only folder that names bollard.
//!
//! Each method is one request or one stream. A lost or late answer is [`EngineError::Unknown`]: it
//! may have been carried out or not, and only a new look at the engine tells.

pub mod archive;
pub mod audit;
pub mod beyond;
pub mod build;
pub mod create;
pub mod docker;
pub mod ephemeral;
pub mod fence;
pub mod hold;
pub mod inspect;
pub mod names;
mod reach;

use crate::failure::Kind;
use std::fmt;

pub use docker::Engine;
pub use fence::Fence;
pub use names::Names;

/// What a caller can do about a failed request.
#[derive(Debug)]
pub enum EngineError {
    /// There is no such object.
    NotFound(String),
    /// The name is taken, or the object is in use.
    Conflict(String),
    /// The engine cannot be reached.
    Unreachable(String),
    /// No answer in time, or an answer that broke off: observe again.
    Unknown(String),
    /// The engine says no, and why.
    Refused { status: u16, message: String },
    /// Not asked: whoever wanted it may not change the environment any more, and why.
    Fenced(String),
}

impl EngineError {
    /// What a failure for this reason is.
    pub fn kind(&self) -> Kind {
        match self {
            EngineError::Fenced(_) => Kind::Refused,
            error if error.is_absence() => Kind::Engine,
            _ => Kind::Error,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, EngineError::NotFound(_))
    }

    /// Whether the engine itself is the problem, rather than what was asked of it.
    pub fn is_absence(&self) -> bool {
        matches!(self, EngineError::Unreachable(_) | EngineError::Unknown(_))
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::NotFound(message) | EngineError::Conflict(message) => f.write_str(message),
            EngineError::Unreachable(message) => write!(f, "the engine cannot be reached: {message}"),
            EngineError::Unknown(message) => write!(f, "the engine did not answer: {message}"),
            EngineError::Fenced(why) => f.write_str(why),
            EngineError::Refused { status, message } => write!(f, "the engine refused ({status}): {message}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<bollard::errors::Error> for EngineError {
    fn from(error: bollard::errors::Error) -> EngineError {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => match status_code {
                404 => EngineError::NotFound(message),
                409 => EngineError::Conflict(message),
                status => EngineError::Refused { status, message },
            },
            Error::RequestTimeoutError => EngineError::Unknown("no answer in time".to_owned()),
            Error::SocketNotFoundError(path) => EngineError::Unreachable(format!("there is no socket at {path}")),
            Error::HyperLegacyError { err } if err.is_connect() => EngineError::Unreachable(sources(&err)),
            Error::JsonDataError { message, .. } => {
                EngineError::Unknown(format!("its answer does not read: {message}"))
            }
            Error::DockerStreamError { error } => EngineError::Refused { status: 0, message: error },
            other => EngineError::Unknown(sources(&other)),
        }
    }
}

/// The innermost cause; the outer ones only repeat that a request failed.
fn sources(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

//! What stands between a process that lost its turn and the engine.

use futures_util::future::BoxFuture;
use std::fmt;

/// Says whether this process may still change the environment.
pub trait Fence: fmt::Debug + Send + Sync {
    /// Comes back at once while that is certain, asks where it is not; the error says who took the turn.
    fn permit(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Why nothing will ever be permitted again, once that is so.
    fn lost(&self) -> Option<String>;
}

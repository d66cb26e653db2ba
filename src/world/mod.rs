//! Where a plan meets the world; the one seam that tests replace.

pub mod live;
pub mod observe;
pub mod ready;

use crate::event::Listener;
use crate::failure::Failure;
use crate::plan::Step;
use std::future::Future;

/// Something that steps can be performed on: the engine with its servers, or a state in memory.
pub trait World {
    /// Performs one step and says in a few words what came of it.
    fn perform(&self, step: &Step, listener: &impl Listener) -> impl Future<Output = Result<String, Failure>>;
}

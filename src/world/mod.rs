//! Where a plan meets the world; the one seam that tests replace.

pub mod audit;
pub mod capture;
pub mod drill;
pub mod ephemeral;
pub mod fixture;
pub mod handover;
pub mod hold;
pub mod holds;
pub mod live;
pub mod log;
pub mod observe;
pub mod pages;
pub mod probe;
pub mod ready;
pub mod rehearsal;
pub mod restore;
mod seed;
pub mod shapes;
mod shared;
pub mod takeover;
pub mod throwaway;
pub mod watch;

use crate::event::Listener;
use crate::failure::Failure;
use crate::plan::Step;
use std::future::Future;

/// Something that steps can be performed on: the engine with its servers, or a state in memory.
pub trait World {
    /// Performs one step and says in a few words what came of it.
    fn perform(&self, step: &Step, listener: &impl Listener) -> impl Future<Output = Result<String, Failure>>;
}

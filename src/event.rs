//! What a long command says while it works. Emitted below, drawn by `ui`, never printed on the way.

use crate::plan::Step;

#[derive(Clone, Debug)]
pub enum Event {
    StepStarted {
        number: u32,
        summary: String,
    },
    StepDone {
        number: u32,
        summary: String,
        elapsed_ms: u64,
        outcome: String,
    },
    StepFailed {
        number: u32,
        summary: String,
    },
    /// Bytes of a snapshot so far.
    Bytes {
        number: u32,
        done: u64,
    },
    /// A backup that a change rests on.
    Kept {
        service: String,
        id: String,
        /// Absent for a copied volume, whose keys nobody counted.
        keys: Option<u64>,
        bytes: u64,
        /// As `backup list` calls it: `verified`, `drilled`, `copied`.
        proven: &'static str,
    },
    /// A server was ended before it had saved what it held.
    Unsaved {
        service: String,
    },
    /// How long a server held writes back.
    WritesPaused {
        ms: u64,
    },
    /// How long a service did not answer.
    Away {
        ms: u64,
    },
    /// Something worth a line that is no step: what a build says, why a wait goes on.
    Line {
        text: String,
    },
}

impl Event {
    pub fn started(step: &Step) -> Event {
        Event::StepStarted { number: step.number, summary: step.summary() }
    }
}

/// Where events go. Shared by steps that run at the same time.
pub trait Listener {
    fn hear(&self, event: Event);
}

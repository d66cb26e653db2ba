//! Walks a plan over a world, steps that do not wait for each other at the same time; decides nothing.

use crate::event::{Event, Listener};
use crate::failure::Failure;
use crate::plan::{Plan, Step};
use crate::world::World;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::BTreeSet;
use std::time::Instant;

/// How far a plan was carried out.
#[derive(Debug)]
pub struct Outcome {
    pub done: BTreeSet<u32>,
    pub failed: Option<(Step, Failure)>,
    /// Stopped because it was asked to; the steps in hand were finished.
    pub interrupted: bool,
}

impl Outcome {
    pub fn is_complete(&self, plan: &Plan) -> bool {
        self.done.len() == plan.steps.len()
    }
}

/// Carries out the plan. After a failure, or when `stop` says so, no new step begins; those in hand are finished.
pub async fn run(plan: &Plan, world: &impl World, listener: &impl Listener, stop: &dyn Fn() -> bool) -> Outcome {
    let mut outcome = Outcome { done: BTreeSet::new(), failed: None, interrupted: false };
    let mut begun: BTreeSet<u32> = BTreeSet::new();
    let mut in_hand = FuturesUnordered::new();
    loop {
        outcome.interrupted = outcome.interrupted || stop();
        if outcome.failed.is_none() && !outcome.interrupted {
            for step in &plan.steps {
                let ready = step.after.iter().all(|number| outcome.done.contains(number));
                if ready && begun.insert(step.number) {
                    listener.hear(Event::started(step));
                    let started = Instant::now();
                    in_hand.push(async move { (step, world.perform(step, listener).await, started.elapsed()) });
                }
            }
        }
        let Some((step, result, elapsed)) = in_hand.next().await else { break };
        match result {
            Ok(said) => {
                outcome.done.insert(step.number);
                let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                let (number, summary) = (step.number, step.summary());
                listener.hear(Event::StepDone { number, summary, elapsed_ms, outcome: said });
            }
            Err(failure) => {
                listener.hear(Event::StepFailed { number: step.number, summary: step.summary() });
                // The first one counts; what fails beside it is a consequence or says the same.
                outcome.failed.get_or_insert((step.clone(), failure));
            }
        }
    }
    outcome.interrupted = outcome.interrupted && !outcome.is_complete(plan);
    outcome
}

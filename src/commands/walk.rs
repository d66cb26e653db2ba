//! A plan on its way: opened where it takes backups, drawn, and remembered for the ledger.

use crate::apply;
use crate::commands::Session;
use crate::commands::record::Recorder;
use crate::desired::Desired;
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::plan::{Action, Plan};
use crate::project::Project;
use crate::spec::Drill;
use crate::state::Observed;
use crate::store::repository::Repository;
use crate::ui::Ui;
use crate::ui::progress::Progress;
use crate::value::ResourceKind;
use crate::world::live::Live;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// What every plan of one change has in common.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub ui: &'a Ui,
    pub project: &'a Project,
    pub environment: &'a Environment,
    pub session: &'a Session,
    pub reason: &'a str,
    pub recorder: &'a Recorder,
}

/// How far a plan was walked.
pub(super) struct Walked {
    pub done: BTreeSet<u32>,
    pub failure: Option<Failure>,
    /// Whether it is a network that may have been made or not: made once more, there could be two of one name.
    pub network: bool,
}

impl Way<'_> {
    /// Walks a plan towards `desired` until it ends, fails, or is to stop. Nothing was done where this is an error.
    pub async fn walk(
        &self,
        (desired, observed): (&Desired, &Observed),
        plan: &Plan,
        stop: &dyn Fn() -> bool,
    ) -> Result<Walked, Failure> {
        let Way { ui, project, environment, session, reason, recorder } = *self;
        let takes_backups = plan.steps.iter().any(|step| step.action == Action::Backup);
        let repository = takes_backups.then(|| Repository::open(&project.root, environment)).transpose();
        let world = Live {
            engine: &session.engine,
            names: session.names.clone(),
            desired,
            secrets: &session.secrets,
            root: project.root.clone(),
            repository: repository.map_err(|error| Failure::new(Kind::Backup, error))?,
            reason: reason.to_owned(),
            drills: environment.backup.drill != Drill::Never,
            revision: desired.state.digest(),
            observed,
            taken: Mutex::default(),
            stopped: Mutex::default(),
        };
        let progress = Progress::new(plan.steps.len());
        let outcome = apply::run(plan, &world, &recorder.beside(&progress), stop).await;
        drop(progress);
        let mut network = false;
        let failure = outcome.failed.map(|(step, failure)| {
            ui.status(&format!("step {} of {} failed", step.number, plan.steps.len()));
            network = step.action == Action::Create && step.resource.kind == ResourceKind::Network;
            failure
        });
        Ok(Walked { done: outcome.done, failure, network })
    }
}

//! `lockstep apply`: observe, plan, ask, carry out, look again.

use crate::apply;
use crate::cli::Cli;
use crate::commands::{Session, Signals, Verdict, load, open, plan::refusal_kind};
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::parity::{self, Side};
use crate::plan::{Effect, Plan, Risk, build};
use crate::project::Project;
use crate::store::backups;
use crate::ui::progress::Progress;
use crate::ui::{Ui, json, text};
use crate::value::Sources;
use crate::world::live::Live;
use std::collections::BTreeSet;
use std::time::Instant;

pub async fn run(cli: &Cli, ui: &Ui, environment: &str, reason: &str, yes: bool) -> Result<Verdict, Failure> {
    let (project, sources) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let mut session = open(&project, environment).await?;
    let plan = build::build(&session.observed, &session.desired, &BTreeSet::new());
    let (revision, fingerprint) = (session.desired.state.digest(), project.fingerprint());
    refuse(ui, &plan, &sources)?;
    if plan.is_empty() {
        let applied = json::Applied {
            format: 1,
            environment: environment.name.as_str(),
            revision: revision.as_str(),
            fingerprint: fingerprint.as_str(),
            plan: &plan,
            done: Vec::new(),
            verification: None,
        };
        if ui.is_json() {
            ui.json(&applied)
        } else {
            ui.result(&text::plan(&plan))
        }
        return Ok(None);
    }
    ui.status(text::plan(&plan).trim_end());
    if environment.protected && !yes {
        let question = format!("{} is protected", environment.name);
        confirm(ui, environment, &question)?;
        // Somebody had to think; meanwhile the world went on.
        session.observed = session.observe_again(environment).await?;
        let now = build::build(&session.observed, &session.desired, &BTreeSet::new());
        if text::plan(&now) != text::plan(&plan) {
            let message = format!("{} changed while the question was open", environment.name);
            let help = "nothing was changed; run the same command again to see the plan as it is now";
            return Err(Failure::message(Kind::Refused, message).help(help));
        }
    }
    let began = Instant::now();
    let done = carry_out(ui, &project, environment, &session, &plan, reason).await?;
    let observed = session.observe_again(environment).await?;
    let side = Side { want: &session.desired, have: &observed };
    let verification = parity::drift(side);
    if ui.is_json() {
        ui.json(&json::Applied {
            format: 1,
            environment: environment.name.as_str(),
            revision: revision.as_str(),
            fingerprint: fingerprint.as_str(),
            plan: &plan,
            done: done.into_iter().collect(),
            verification: Some(&verification),
        });
    } else {
        let seconds = began.elapsed().as_secs_f64();
        let steps = text::plural(plan.steps.len(), "step");
        ui.result(&format!(
            "{}: {steps} done in {seconds:.1} s, revision {}, fingerprint {}\n",
            environment.name,
            revision.short(),
            fingerprint.short()
        ));
        ui.result(&text::verification(&verification, &sources));
    }
    if verification.findings.is_empty() {
        return Ok(None);
    }
    Err(Failure::message(Kind::Error, format!("{} is not as it should be after the change", environment.name))
        .help(format!("`lockstep plan {}` says what is left to do", environment.name)))
}

/// A plan that may not be carried out ends here, before anything is touched.
pub(super) fn refuse(ui: &Ui, plan: &Plan, sources: &Sources) -> Result<(), Failure> {
    ui.findings(&plan.notes, sources);
    if plan.refusals.is_empty() {
        return Ok(());
    }
    ui.findings(&plan.refusals, sources);
    let message = format!("the plan for {} is refused: {}", plan.environment, text::count(&plan.refusals));
    Err(Failure::message(refusal_kind(plan), message).so_far("nothing was changed"))
}

pub(super) fn confirm(ui: &Ui, environment: &Environment, question: &str) -> Result<(), Failure> {
    let name = environment.name.as_str();
    if !ui.can_ask() {
        let help = "there is no terminal to ask on; give `--yes`";
        return Err(Failure::message(Kind::Refused, format!("{question}, and nobody confirmed it")).help(help));
    }
    if ui.typed(question, name) {
        return Ok(());
    }
    Err(Failure::message(Kind::Refused, "not confirmed").so_far("nothing was changed"))
}

/// Carries the plan out; what stops it says how far it came and how to go on.
pub(super) async fn carry_out(
    ui: &Ui,
    project: &Project,
    environment: &Environment,
    session: &Session,
    plan: &Plan,
    reason: &str,
) -> Result<BTreeSet<u32>, Failure> {
    let world = Live {
        engine: &session.engine,
        names: session.names.clone(),
        desired: &session.desired,
        secrets: &session.secrets,
        root: project.root.clone(),
        backups: backups::folder(
            &project.root,
            &environment.backups,
            environment.stack.as_str(),
            environment.name.as_str(),
        ),
        reason: reason.to_owned(),
        revision: session.desired.state.digest(),
        observed: &session.observed,
    };
    let signals = Signals::listen();
    let progress = Progress::new(plan.steps.len());
    let outcome = apply::run(plan, &world, &progress, &|| signals.heard().is_some()).await;
    let total = plan.steps.len();
    let done = outcome.done.len();
    let again = format!("run the same command again to go on; `lockstep plan {}` shows what is left", environment.name);
    if let Some((step, failure)) = outcome.failed {
        let so_far =
            if done == 0 { "nothing was changed".to_owned() } else { format!("{done} of {total} steps done; {again}") };
        let number = step.number;
        ui.status(&format!("step {number} of {total} failed"));
        // Only a backup may have been taken before another backup failed.
        let untouched = plan.steps.iter().filter(|step| outcome.done.contains(&step.number)).all(|step| {
            step.effect == Effect::Live && step.risk == Risk::None && matches!(step.action, crate::plan::Action::Backup)
        });
        let kind = if failure.kind == Kind::Backup && !untouched { Kind::Error } else { failure.kind };
        return Err(Failure { kind, ..failure }.so_far(so_far));
    }
    if let Some(number) = signals.heard().filter(|_| outcome.interrupted) {
        let message = format!("stopped by a signal after {done} of {total} steps");
        return Err(Failure::message(Kind::Signal(number), message).help(again));
    }
    Ok(outcome.done)
}

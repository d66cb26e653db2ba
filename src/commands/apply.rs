//! `lockstep apply`: observe, plan, ask, carry out, look again.

use crate::cli::{ChangeArguments, Cli};
use crate::commands::change::Change;
use crate::commands::gate::Will;
use crate::commands::hold::Why;
use crate::commands::plan_file::PlanFile;
use crate::commands::probe;
use crate::commands::record::{About, Records};
use crate::commands::refresh;
use crate::commands::{Session, Verdict, engine_failure, load, open, plan::refusal_kind};
use crate::desired::Generations;
use crate::failure::{Failure, Kind};
use crate::ledger::{self, Outcome};
use crate::model::Environment;
use crate::plan::Plan;
use crate::project::Project;
use crate::state::{Observed, Resource, Volume};
use crate::ui::{Ui, json, text};
use crate::value::{Name, ResourceId, ResourceKind, Sources};
use crate::world::hold::sweep;
use crate::world::restore::LOADS;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// What the command line said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a> {
    /// An environment, or the file of a plan.
    pub target: &'a str,
    pub why: Why<'a>,
    pub will: Will<'a>,
    /// Expectations as they were written.
    pub expect: &'a [String],
    pub undo: bool,
}

impl<'a> Arguments<'a> {
    pub fn of(verb: &'a str, target: &'a str, change: &'a ChangeArguments, skip_gate: bool) -> Arguments<'a> {
        let reason = change.reason.as_deref();
        Arguments {
            target,
            why: Why { verb, reason: reason.unwrap_or_default(), wait: change.lock_wait },
            will: Will { reason, yes: change.yes, skip_gate },
            expect: &change.expect,
            undo: !change.no_undo,
        }
    }
}

pub(super) async fn run(cli: &Cli, ui: &Ui, arguments: Arguments<'_>) -> Result<Verdict, Failure> {
    // No environment has a name like a file's.
    let file = match Name::parse(arguments.target) {
        Some(_) => None,
        None => Some(PlanFile::read(Path::new(arguments.target))?),
    };
    let environment = file.as_ref().map_or(arguments.target, |file| file.environment.as_str()).to_owned();
    let (project, sources) = load(cli, ui, &[&environment])?;
    let meant = project.environment(&environment)?;
    if let Some(seed) = &meant.seed
        && is_new(ui, &project, meant, arguments.why).await?
    {
        if file.is_some() {
            let message = format!("{environment} is not there yet, and begins with the data of {seed}");
            let help = format!("`lockstep apply {environment}` creates it with them; a plan holds no data");
            return Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed"));
        }
        arguments.will.checked()?.follow(ui, &project, meant, &sources).await?;
        refresh::seed(ui, &project, &sources, meant, (seed, arguments.why)).await?;
    }
    let wanted = Wanted { project: &project, sources: &sources, environment: &environment, file, rolls_back: None };
    bring_about(ui, wanted, arguments).await
}

/// Whether nothing of an environment is there, so that it begins with the data of another.
///
/// What a seeding left that was killed was never looked through: it is removed where it shows for what it is, and refused where
/// nothing says what lies in a volume that no change has ever put anything on.
async fn is_new(ui: &Ui, project: &Project, environment: &Environment, why: Why<'_>) -> Result<bool, Failure> {
    let mut session = open(project, environment).await?;
    if session.observed.state.resources.is_empty() {
        return Ok(session.observed.is_whole());
    }
    if of_a_seeding(&session.observed).is_some() {
        // Somebody may be at it; who holds the environment is told, and nothing of it is touched.
        session = session.take(ui, project, environment, why).await?;
        if let Some(left) = of_a_seeding(&session.observed) {
            remove_left(&session, &left).await?;
            ui.status(&format!("{} was being given its data when a run ended; that is begun anew", environment.name));
            return Ok(true);
        }
    }
    let observed = &session.observed;
    let serves = environment.services.keys().any(|service| observed.state.container(service.as_str()).is_some());
    let records = Records::of(project, environment)?;
    // A change that was taken back has proven what it loaded; what was taken away says nothing of what is there.
    let tells = |entry: &ledger::Entry| entry.begin.as_ref().is_none_or(|begin| begin.verb != "down");
    if serves || records.entries().await?.iter().any(tells) {
        return Ok(false);
    }
    let volumes = observed.state.resources.iter().filter_map(|(id, resource)| match resource {
        Resource::Volume(Volume::Data { .. }) => Some(id.name.as_str()),
        _ => None,
    });
    let volumes: Vec<&str> = volumes.collect();
    if volumes.is_empty() {
        return Ok(false);
    }
    let (name, named) = (&environment.name, volumes.join(", "));
    let message = format!("{name} begins with the data of another, and {named} is there, of which no change tells");
    let delete: String = volumes.iter().map(|volume| format!(" --delete-data {volume}")).collect();
    let help = format!(
        "to start on what lies there, take `seed:` out; if a seeding that was killed left it, `lockstep down {name}{delete}` and apply again"
    );
    Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed"))
}

async fn remove_left(session: &Session, left: &[ResourceId]) -> Result<(), Failure> {
    let (engine, names) = (&session.engine, &session.names);
    for kind in [ResourceKind::Container, ResourceKind::Volume, ResourceKind::Network] {
        for id in left.iter().filter(|id| id.kind == kind) {
            let removed = match kind {
                ResourceKind::Container => engine.kill_own(names, &names.of(id)).await,
                ResourceKind::Volume => engine.remove_volume(&names.of(id)).await,
                ResourceKind::Network => engine.remove_network(&names.of(id)).await,
            };
            removed.map_err(|error| engine_failure(&engine.address, &error))?;
        }
    }
    Ok(())
}

/// All that is there, where it is nothing but what data are loaded with, and the volumes that they are loaded into. A volume that
/// no loading server and no carrier mounts may hold anything.
fn of_a_seeding(observed: &Observed) -> Option<Vec<ResourceId>> {
    let loads = |name: &str| name.strip_suffix(".carrier").unwrap_or(name).ends_with(LOADS);
    let containers = observed.state.resources.iter().filter_map(|(id, resource)| match resource {
        Resource::Container(container) if loads(&id.name) => Some(container),
        _ => None,
    });
    let mounted: BTreeSet<&str> =
        containers.flat_map(|container| container.mounts.values().map(|mount| mount.volume.as_str())).collect();
    let is_left = |id: &ResourceId| match id.kind {
        ResourceKind::Container => loads(&id.name),
        ResourceKind::Network => id.name.ends_with(LOADS),
        ResourceKind::Volume => mounted.contains(id.name.as_str()),
    };
    let all = observed.state.resources.keys();
    (!mounted.is_empty() && all.clone().all(is_left)).then(|| all.cloned().collect())
}

/// A project that is to be what runs.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub project: &'a Project,
    pub sources: &'a Sources,
    pub environment: &'a str,
    pub file: Option<PlanFile>,
    /// The change that is taken back by it.
    pub rolls_back: Option<&'a str>,
}

/// Observes, plans, asks, and carries out what makes an environment what a project says.
pub(super) async fn bring_about(ui: &Ui, wanted: Wanted<'_>, arguments: Arguments<'_>) -> Result<Verdict, Failure> {
    let (project, sources, rolls_back) = (wanted.project, wanted.sources, wanted.rolls_back);
    let environment = project.environment(wanted.environment)?;
    let will = arguments.will.checked()?;
    let expected = probe::read(arguments.expect, environment)?;
    let records = Records::of(project, environment)?;
    let mut session = open(project, environment).await?;
    // In the middle of a hand-over neither server may be found; what is there is judged once it is concluded.
    let broken_off = !session.observed.beside.is_empty();
    if !broken_off {
        session.decided()?;
    }
    let mut plan = session.plan(project, environment)?;
    if !broken_off {
        refuse(ui, &plan, sources)?;
    }
    if let Some(file) = &wanted.file {
        file.holds(&plan, session.desired.state.digest().as_str())?;
    }
    let mut shown = text::plan(&plan);
    let mut asked = false;
    let was_empty = plan.is_empty();
    if !plan.is_empty() {
        ui.status(shown.trim_end());
        asked = clear(ui, &will, &wanted, environment).await?;
    }
    if !plan.is_empty() || !session.observed.is_whole() || records.unfinished().await?.is_some() {
        // Where there is nothing to do nobody has to be kept out; where there is, what counts is what is there from now on.
        session = session.take(ui, project, environment, arguments.why).await?;
        session.conclude(ui, project, environment).await?;
        session.decided()?;
        let left = records.unfinished().await?;
        if let Some(open) = &left {
            ui.status(&text::printable(&format!("change {} did not end; this one goes on from there", open.number)));
            if let Some(begin) = &open.begin
                && session.clear(&begin.makes).await?
            {
                session.renew(project, environment, &Generations::new()).await?;
            }
        }
        plan = session.plan(project, environment)?;
        if broken_off {
            refuse(ui, &plan, sources)?;
        }
        if text::plan(&plan) != shown {
            // Who wrote a plan down or typed a name agreed to that plan; a change that is gone on with was agreed to before, by
            // whoever began it, and so is carried out for whoever asks for no plan in particular.
            if wanted.file.is_some() || asked && left.is_none() {
                let message = format!("{} changed since its plan was made", environment.name);
                let help = "nothing was changed; run the same command again to see the plan as it is now";
                return Err(Failure::message(Kind::Refused, message).help(help));
            }
            refuse(ui, &plan, sources)?;
            shown = text::plan(&plan);
            ui.status(shown.trim_end());
            if !plan.is_empty() && (was_empty || asked) {
                // Nobody has agreed to this yet.
                clear(ui, &will, &wanted, environment).await?;
            }
        }
        if let Some(open) = left.filter(|_| plan.is_empty()) {
            let revision = session.desired.state.digest();
            let is_meant = |begin: &ledger::Begin| !begin.is_data_alone() && begin.revision == revision.as_str();
            let meant = open.begin.as_ref().is_some_and(is_meant);
            let outcome = if meant { Outcome::Done } else { Outcome::Interrupted };
            let said = "its process ended before it could be recorded; the next run found everything as it is meant, and \
                        neither measured nor watched it";
            records.close(open, outcome, said).await?;
        }
    }
    let (revision, fingerprint) = (session.desired.state.digest(), project.fingerprint());
    let applied = json::Applied {
        format: 1,
        environment: environment.name.as_str(),
        revision: revision.as_str(),
        fingerprint: fingerprint.as_str(),
        plan: &plan,
        done: Vec::new(),
        verification: None,
        measures: &[],
        expectations: &[],
        watched: None,
    };
    if plan.is_empty() {
        // Best effort: what a dead run left is in nobody's way.
        let _ = sweep(&session.engine, &session.names).await;
        match ui.is_json() {
            true => ui.json(&applied),
            false => ui.result(&text::plan(&plan)),
        }
        return Ok(None);
    }
    let began = Instant::now();
    let reason = arguments.will.reason.unwrap_or(arguments.why.verb);
    let change = Change {
        ui,
        project,
        sources,
        environment,
        about: About { verb: arguments.why.verb, reason, rolls_back, data: &[] },
        expected: &expected,
        chosen: &Generations::new(),
        undo: arguments.undo,
    };
    let changed = change.carry_out(&mut session, &plan).await?;
    if ui.is_json() {
        ui.json(&json::Applied {
            done: changed.done.into_iter().collect(),
            verification: Some(&changed.verification),
            measures: &changed.judged.measures,
            expectations: &changed.judged.expectations,
            watched: changed.judged.watched.as_ref(),
            ..applied
        });
        return Ok(None);
    }
    let seconds = began.elapsed().as_secs_f64();
    let steps = text::plural(plan.steps.len(), "step");
    ui.result(&format!(
        "{}: {steps} done in {seconds:.1} s, revision {}, fingerprint {}\n",
        environment.name,
        revision.short(),
        fingerprint.short()
    ));
    ui.result(&text::verification(&changed.verification, sources));
    if !environment.probes.is_empty() {
        ui.result(&text::measures(&changed.judged.measures));
    }
    if !changed.judged.expectations.is_empty() {
        ui.result(&text::expectations(&changed.judged.expectations));
    }
    if let Some(watched) = &changed.judged.watched {
        ui.result(&text::watched(watched));
    }
    Ok(None)
}

/// What has to be so before a plan is carried out; whether somebody was asked.
async fn clear(ui: &Ui, will: &Will<'_>, wanted: &Wanted<'_>, environment: &Environment) -> Result<bool, Failure> {
    // What it goes back to ran here already.
    if wanted.rolls_back.is_none() {
        will.follow(ui, wanted.project, environment, wanted.sources).await?;
    }
    will.confirm(ui, environment)
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

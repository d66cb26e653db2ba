//! `lockstep down`: remove an environment, keep its data.

use crate::cli::Cli;
use crate::commands::hold::Why;
use crate::commands::record::{About, Recorder, Records, said};
use crate::commands::walk::{Walked, Way};
use crate::commands::{Session, Signals, Verdict, apply, connect, engine_failure, load, open};
use crate::desired::{Desired, FILES};
use crate::engine::{EngineError, Names};
use crate::failure::{Failure, Kind};
use crate::ledger::{End, Outcome};
use crate::model::{Environment, ephemeral};
use crate::plan::{Action, Effect, Plan, Risk, build};
use crate::project::Project;
use crate::state::{Container, Mount, State, Volume};
use crate::ui::{Ui, json, text};
use crate::value::{Name, ResourceId, Span};
use crate::world::ephemeral as copies;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub(super) async fn run(
    cli: &Cli,
    ui: &Ui,
    environment: &str,
    delete_data: &[String],
    why: Why<'_>,
    yes: bool,
) -> Result<Verdict, Failure> {
    let (project, sources) = load(cli, ui, &[environment])?;
    if let Some(name) = Name::parse(environment).filter(|name| !project.resolved.contains_key(name))
        && let Some(base) = ephemeral::base(environment).and_then(|base| project.resolved.get(&base))
    {
        return down_copy(ui, base, name, why.wait).await;
    }
    let environment = project.environment(environment)?;
    let mut session = open(&project, environment).await?;
    if !session.observed.state.resources.is_empty() || !session.observed.is_whole() {
        session = session.take(ui, &project, environment, why).await?;
        session.conclude(ui, &project, environment).await?;
    }
    let delete_data: BTreeSet<String> = delete_data.iter().cloned().collect();
    for name in &delete_data {
        if !matches!(session.observed.state.volume(name), Some(Volume::Data { .. })) {
            let volumes: Vec<&str> = session
                .observed
                .state
                .resources
                .keys()
                .filter(|id| matches!(session.observed.state.volume(&id.name), Some(Volume::Data { .. })))
                .map(|id| id.name.as_str())
                .collect();
            let message = format!("{} has no data volume `{name}`", environment.name);
            return Err(Failure::message(Kind::Usage, message).help(if volumes.is_empty() {
                "it has none".to_owned()
            } else {
                format!("data volumes: {}", volumes.join(", "))
            }));
        }
    }
    let carrier = session.desired.state.container(FILES).cloned();
    // Nothing is meant to be there any more; what the services were is still needed to stop them gently.
    session.desired = Desired { state: State::default(), origins: BTreeMap::new(), ..session.desired };
    let mut plan = build::build(&session.observed, &session.desired, &delete_data);
    apply::refuse(ui, &plan, &sources)?;
    let done = if plan.is_empty() {
        BTreeSet::new()
    } else {
        ui.status(text::plan(&plan).trim_end());
        if (environment.protected || !delete_data.is_empty()) && !yes {
            let question = match delete_data.len() {
                0 => format!("{} is protected, and this removes it", environment.name),
                _ => format!("this removes data: {}", delete_data.iter().cloned().collect::<Vec<_>>().join(", ")),
            };
            apply::confirm(ui, environment, &question)?;
        }
        if let Some(carrier) = carrier.filter(|_| !delete_data.is_empty()) {
            carry(&session, carrier, &delete_data).await?;
        }
        // Somebody may have had to think, and data of servers that are gone can be copied now.
        session.observed = session.observe_again(environment).await?;
        plan = build::build(&session.observed, &session.desired, &delete_data);
        apply::refuse(ui, &plan, &sources)?;
        let records = Records::of(&project, environment)?;
        if let Some(open) = records.unfinished().await? {
            records
                .close(open, Outcome::Interrupted, "its process ended in the middle, and the environment was removed")
                .await?;
        }
        let reason = if why.reason.is_empty() { "down" } else { why.reason };
        let about = About { verb: "down", reason, rolls_back: None, data: &[] };
        let record = records.begin(&project, environment, &session, &plan, about).await?;
        let recorder = Recorder::new();
        let carried = carry_out(ui, &project, environment, &session, &plan, (reason, &recorder)).await;
        let end = match &carried {
            Ok(_) => recorder.end(Outcome::Done),
            Err(failure) => End { problem: Some(failure.to_string()), ..recorder.end(Outcome::Failed) },
        };
        let note = record.end(end).await;
        let done = carried?;
        said(ui, note?);
        done
    };
    if ui.is_json() {
        ui.json(&json::Applied {
            format: 1,
            environment: environment.name.as_str(),
            revision: "",
            fingerprint: "",
            plan: &plan,
            done: done.into_iter().collect(),
            verification: None,
            measures: &[],
            expectations: &[],
            watched: None,
        });
    } else if plan.is_empty() {
        ui.result(&format!("{} is not there: nothing to do\n", environment.name));
    } else {
        let kept = plan.notes.iter().filter(|note| note.rule == "data-kept").count();
        let kept = if kept == 0 { String::new() } else { format!("; {} kept", text::plural(kept, "data volume")) };
        ui.result(&format!("{} is removed{kept}\n", environment.name));
    }
    Ok(None)
}

/// Takes away a copy that exists for a while alone, with all that it holds; one that somebody works with stays.
async fn down_copy(ui: &Ui, base: &Environment, name: Name, wait: Span) -> Result<Verdict, Failure> {
    let engine = connect(base).await?;
    let names = Names::lasting(base.stack.clone(), name.clone());
    let failed = |error: EngineError| engine_failure(&engine.address, &error);
    let objects = engine.marked(&names.stack, Some(&name)).await.map_err(failed)?;
    let was_there = !objects.is_empty();
    let began = Instant::now();
    while let Some(holder) = copies::holder(&engine, &names, &objects).await.map_err(failed)? {
        if began.elapsed() >= wait.duration() {
            let message = format!("{name} is in use by {holder}");
            let help = "it goes with that command; wait for it with `--lock-wait 10m`";
            return Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    copies::discard(&engine, &names).await.map_err(failed)?;
    copies::give_seeds_back(&engine, &names.stack).await.map_err(failed)?;
    match (ui.is_json(), was_there) {
        (true, _) => ui.json(&serde_json::json!({ "format": 1, "environment": name, "removed": was_there })),
        (false, true) => ui.result(&format!("{name} is removed\n")),
        (false, false) => ui.result(&format!("{name} is not there: nothing to do\n")),
    }
    Ok(None)
}

/// Carries the plan out; what stops it says how far it came and how to go on.
async fn carry_out(
    ui: &Ui,
    project: &Project,
    environment: &Environment,
    session: &Session,
    plan: &Plan,
    (reason, recorder): (&str, &Recorder),
) -> Result<BTreeSet<u32>, Failure> {
    let signals = Signals::listen();
    let way = Way { ui, project, environment, session, reason, recorder };
    let (desired, observed) = (&session.desired, &session.observed);
    let walked = way.walk((desired, observed), plan, &|| signals.heard().is_some()).await;
    let Walked { done, failure, .. } = walked.map_err(|failure| failure.so_far("nothing was changed"))?;
    let total = plan.steps.len();
    let again = format!("run the same command again to go on; `lockstep plan {}` shows what is left", environment.name);
    if let Some(failure) = failure {
        let so_far = match done.len() {
            0 => "nothing was changed".to_owned(),
            done => format!("{done} of {total} steps done; {again}"),
        };
        if failure.kind != Kind::Engine && session.engine.fence().is_some_and(|fence| fence.lost().is_some()) {
            return Err(Failure { kind: Kind::Refused, ..failure }.so_far(so_far));
        }
        // Only a backup may have been taken before another backup failed.
        let untouched = plan
            .steps
            .iter()
            .filter(|step| done.contains(&step.number))
            .all(|step| step.effect == Effect::Live && step.risk == Risk::None && step.action == Action::Backup);
        let kind = if failure.kind == Kind::Backup && !untouched { Kind::Error } else { failure.kind };
        return Err(Failure { kind, ..failure }.so_far(so_far));
    }
    if let Some(number) = signals.heard().filter(|_| done.len() < total) {
        let message = format!("stopped by a signal after {} of {total} steps", done.len());
        return Err(Failure::message(Kind::Signal(number), message).help(again));
    }
    Ok(done)
}

/// Data of a server that is gone can be copied only through a container that mounts it.
async fn carry(session: &Session, mut carrier: Container, delete_data: &BTreeSet<String>) -> Result<(), Failure> {
    let id = ResourceId::container(FILES);
    let failed = |error: EngineError| {
        Failure::message(Kind::Backup, format!("could not reach the data that is to be removed: {error}"))
            .help("nothing was removed")
    };
    if let Some(had) = session.observed.state.container(FILES) {
        let reaches = |volume: &String| had.mounts.values().any(|mount| mount.volume == *volume);
        if delete_data.iter().all(reaches) {
            return Ok(());
        }
        // It holds nothing and never ran; what is to be removed has left the spec, and so its mounts.
        session.engine.remove_container(&session.names.of(&id)).await.map_err(failed)?;
        carrier.mounts.clone_from(&had.mounts);
    }
    for volume in delete_data {
        carrier.mounts.insert(format!("/d/{volume}"), Mount { volume: volume.clone(), read_only: false });
    }
    carrier.mounts.retain(|_, mount| session.observed.state.volume(&mount.volume).is_some());
    session.engine.create_container(&session.names, &id, &carrier).await.map_err(failed)
}

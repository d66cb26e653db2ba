//! `lockstep down`: remove an environment, keep its data.

use crate::cli::Cli;
use crate::commands::{Session, Verdict, apply, load, open};
use crate::desired::{Desired, FILES};
use crate::engine::EngineError;
use crate::failure::{Failure, Kind};
use crate::plan::build;
use crate::state::{Container, Mount, State, Volume};
use crate::ui::{Ui, json, text};
use crate::value::ResourceId;
use std::collections::{BTreeMap, BTreeSet};

pub async fn run(cli: &Cli, ui: &Ui, environment: &str, delete_data: &[String], yes: bool) -> Result<Verdict, Failure> {
    let (project, sources) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let mut session = open(&project, environment).await?;
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
        apply::carry_out(ui, &project, environment, &session, &plan, "down").await?
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

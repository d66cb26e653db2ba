//! `backup check`: whether a backup could be taken now and would be found again, without taking one.

use crate::backup::preflight::preflight;
use crate::backup::{Listed, State};
use crate::cli::Cli;
use crate::commands::{Session, Verdict, load, open};
use crate::desired::OPERATOR;
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::redis;
use crate::store;
use crate::store::repository::Repository;
use crate::ui::Ui;
use crate::value::{Span, bytes};
use crate::world::ready;
use serde::Serialize;

/// One thing that has to be right.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

pub async fn run(cli: &Cli, ui: &Ui, environment: &str) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let session = open(&project, environment).await?;
    let mut rows = Vec::new();
    let mut needed = 0;
    for service in session.redis_services() {
        let (row, used) = server(&session, &service).await;
        rows.push(row);
        needed += used;
    }
    let services = session.redis_services();
    let (root, of) = (project.root.clone(), environment.clone());
    let stored = tokio::task::spawn_blocking(move || stored(&root, &of, &services, needed)).await;
    rows.extend(stored.map_err(|error| Failure::new(Kind::Error, error))?);
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "environment": environment.name, "checks": rows }));
    } else {
        for row in &rows {
            let sign = if row.ok { "ok  " } else { "FAIL" };
            ui.result(&format!("{sign}  {}: {}\n", row.what, row.found));
            if let Some(help) = row.help.as_ref().filter(|_| !row.ok) {
                ui.result(&format!("      {help}\n"));
            }
        }
    }
    Ok(rows.iter().any(|row| !row.ok).then_some(Kind::Differences))
}

/// Whether a server can be reached, lets lockstep in, and can afford a snapshot; and the memory that it uses.
async fn server(session: &Session, service: &str) -> (Row, u64) {
    let what = format!("{service} can be backed up");
    let asked = async {
        let password = session.secrets.operators.get(service).ok_or("lockstep's password for it is not known")?;
        let address = ready::redis_address(&session.engine, &session.names, service).await;
        let address = address.map_err(|failure| failure.to_string())?;
        let server = redis::connect(address, OPERATOR, password).await.map_err(|error| error.to_string())?;
        let (state, missing) = server.state().await.map_err(|error| error.to_string())?;
        // What the first lines of every snapshot are: refused here, it would be refused there.
        server.run(&["REPLCONF", "capa", "eof"]).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((state, missing))
    };
    let help = Some(format!("`lockstep plan {}` shows what differs from the spec", session.names.environment));
    let (state, missing) = match asked.await {
        Ok(state) => state,
        Err(found) => return (Row { what, ok: false, found, help }, 0),
    };
    let limit = session.observed.state.container(service).map_or(0, |container| container.memory_bytes);
    let used = state.info.get("used_memory").and_then(|text| text.parse().ok()).unwrap_or(0);
    if let Some((found, help)) = preflight(&state.info, &state.config, limit).refusal {
        return (Row { what, ok: false, found, help: Some(help.to_owned()) }, used);
    }
    if !missing.is_empty() {
        let found = format!("a backup would be partial, without {}", missing.join(", "));
        return (Row { what, ok: false, found, help }, used);
    }
    (Row { what, ok: true, found: format!("{}, {} in use", state.server, bytes::about(used)), help: None }, used)
}

/// Whether the store takes, gives and keeps, and holds what is recent enough.
fn stored(root: &std::path::Path, environment: &Environment, services: &[String], needed: u64) -> Vec<Row> {
    let what = "the store can be used".to_owned();
    let help = Some("see `backup:` in environments/stack.yaml".to_owned());
    let opened = Repository::open(root, environment).and_then(|repository| {
        repository.probe()?;
        let listed = repository.list()?;
        Ok((repository, listed))
    });
    let (repository, listed) = match opened {
        Ok(opened) => opened,
        Err(error) => return vec![Row { what, ok: false, found: format!("{error:#}"), help }],
    };
    let found = format!("{}: written, read back, listed and removed", repository.place());
    let mut rows = vec![Row { what, ok: true, found, help: None }, room(&repository, needed)];
    rows.extend(keys(&repository, environment));
    for service in services {
        rows.push(age(&listed, service, environment.backup.max_age));
    }
    rows
}

fn room(repository: &Repository, needed: u64) -> Row {
    let what = "there is room".to_owned();
    match repository.free() {
        Ok(Some(free)) => {
            let help =
                format!("make room, or let `lockstep backup prune` do it: the servers use {}", bytes::about(needed));
            Row { what, ok: free > needed, found: format!("{} free", bytes::about(free)), help: Some(help) }
        }
        Ok(None) => Row { what, ok: true, found: "the store does not say".to_owned(), help: None },
        Err(error) => Row { what, ok: false, found: error.to_string(), help: None },
    }
}

/// Whether what is encrypted here could be opened here. That it cannot may be meant, and is said.
fn keys(repository: &Repository, environment: &Environment) -> Option<Row> {
    let recipients = environment.backup.encrypt_to.len();
    if recipients == 0 {
        return None;
    }
    let what = "backups can be opened".to_owned();
    Some(match repository.identities() {
        Ok(identities) if identities.is_empty() => {
            let found = format!("encrypted to {recipients}; no identity on this machine, so none is verified here");
            Row { what, ok: true, found, help: None }
        }
        Ok(_) => Row { what, ok: true, found: format!("encrypted to {recipients}; an identity is here"), help: None },
        Err(error) => Row { what, ok: false, found: format!("{error:#}"), help: None },
    })
}

fn age(listed: &[Listed], service: &str, allowed: Option<Span>) -> Row {
    let what = format!("{service} has a proven backup");
    let help = Some("`lockstep backup create`, then `lockstep backup drill`".to_owned());
    let proven = |backup: &&Listed| {
        backup.manifest.as_ref().is_some_and(|manifest| manifest.service == service && !manifest.imported)
            && matches!(backup.state, State::Verified | State::Drilled)
    };
    let newest = listed.iter().rfind(proven);
    let Some((backup, manifest)) = newest.and_then(|backup| Some((backup, backup.manifest.as_ref()?))) else {
        return Row { what, ok: allowed.is_none(), found: "none".to_owned(), help };
    };
    match (store::age(&manifest.taken_at), allowed) {
        (Some(age), Some(allowed)) if age > allowed => {
            let found = format!("the newest, {}, is {age} old, and {allowed} is allowed", backup.id);
            Row { what, ok: false, found, help }
        }
        (Some(age), _) => {
            let whole = Span::seconds(age.milliseconds / 1000);
            Row { what, ok: true, found: format!("{} ({}), {whole} old", backup.id, backup.state), help: None }
        }
        (None, _) => {
            let found = format!("{} was taken in the future: a clock is wrong", backup.id);
            Row { what, ok: false, found, help: None }
        }
    }
}

//! What the servers of a hand-over are told, one thing at a time.

use crate::acl;
use crate::desired::{FILES, OPERATOR, PRIVATE};
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::redis::{Server, ServerError};
use crate::state::{Container, User};
use crate::value::{ServerVersion, Span};
use std::collections::BTreeMap;

/// How long the old server holds writes back by itself, should nobody tell it anything more.
const PAUSE_MS: &str = "30000";
/// Writes are refused until so many replicas are there: never, and also after the pause is over.
const FENCE: &str = "1000000";

pub(super) fn offset(info: &BTreeMap<String, String>, name: &str) -> i64 {
    info.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Gives lockstep's own user what it needs for the moment.
pub(super) async fn grant(server: &Server, user: Option<&User>, more: &[&str]) -> Result<(), ServerError> {
    let Some(user) = user else { return Ok(()) };
    let mut rules = acl::rules(user);
    rules.extend(more.iter().map(|rule| (*rule).to_owned()));
    server.set_user(OPERATOR, &rules).await
}

pub(super) async fn settle_user(server: &Server, user: Option<&User>) -> Result<(), ServerError> {
    match user {
        Some(user) => server.set_user(OPERATOR, &acl::rules(user)).await,
        None => Ok(()),
    }
}

/// What a server was told to follow another is not what it is meant to know.
pub(super) async fn forget(server: &Server) -> Result<(), ServerError> {
    for setting in ["masterauth", "masteruser"] {
        server.run(&["CONFIG", "SET", setting, ""]).await?;
    }
    Ok(())
}

/// Holds writes back: they wait for a while, and are refused after it, for as long as the process lives.
pub(super) async fn fence(server: &Server, version: ServerVersion) -> Result<(), ServerError> {
    if version.speaks(6, 2) {
        server.run(&["CLIENT", "PAUSE", PAUSE_MS, "WRITE"]).await?;
    }
    server.run(&["CONFIG", "SET", "min-replicas-max-lag", "10"]).await?;
    server.run(&["CONFIG", "SET", "min-replicas-to-write", FENCE]).await
}

pub(super) async fn unfence(server: &Server, version: ServerVersion, user: Option<&User>) -> Result<(), ServerError> {
    open_to_all(server, None).await?;
    if version.speaks(6, 2) {
        server.run(&["CLIENT", "UNPAUSE"]).await?;
    }
    settle_user(server, user).await
}

/// What a server was told before, where that is known.
pub(in crate::world) fn said(before: Option<&crate::state::Server>, name: &str, otherwise: &str) -> String {
    match before.and_then(|before| before.settings.get(name)) {
        Some(crate::state::Value::Text(text)) => text.clone(),
        _ => otherwise.to_owned(),
    }
}

/// Whether a server finds on disk what it held, when it starts again.
pub(super) fn keeps(container: &Container) -> bool {
    saves(container.server.as_ref(), None)
}

/// The same by what it was told, or else by what is known besides.
pub(in crate::world) fn saves(told: Option<&crate::state::Server>, besides: Option<&crate::state::Server>) -> bool {
    let told = |name: &str, otherwise: &str| said(told, name, &said(besides, name, otherwise));
    // Where nothing is said, the server's own save points hold.
    told("appendonly", "no") == "yes" || !told("save", "its own").is_empty()
}

/// Asks a server to end and waits for it; the code that its process ended with, `None` where it is not there. It is 0 where all
/// was saved that is to be: a server that cannot save stays up until the engine kills it (7.0.15).
pub(in crate::world) async fn end(engine: &Engine, container: &str, grace: Span) -> Result<Option<i64>, EngineError> {
    engine.stop(container, grace).await?;
    let Some(report) = engine.find_container(container).await? else { return Ok(None) };
    Ok(Some(report.state.and_then(|state| state.exit_code).unwrap_or(-1)))
}

/// Takes writes and clients again.
pub(super) async fn open_to_all(server: &Server, before: Option<&crate::state::Server>) -> Result<(), ServerError> {
    for (setting, otherwise) in [("min-replicas-to-write", "0"), ("min-replicas-max-lag", "10")] {
        server.run(&["CONFIG", "SET", setting, &said(before, setting, otherwise)]).await?;
    }
    take_clients(server, before).await
}

/// Takes clients again, as many as it was told before, or as the container allows.
pub(super) async fn take_clients(server: &Server, before: Option<&crate::state::Server>) -> Result<(), ServerError> {
    let mut answer = Ok(());
    for most in [said(before, "maxclients", "10000").as_str(), "4000", "1000", "100"] {
        answer = server.run(&["CONFIG", "SET", "maxclients", most]).await;
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// Ends the connections of all others and takes no new ones, so that they look for the server by its name again.
pub(super) async fn turn_away(server: &Server) -> Result<(), ServerError> {
    server.run(&["CONFIG", "SET", "maxclients", "1"]).await?;
    for kind in ["normal", "pubsub"] {
        server.run(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await?;
    }
    Ok(())
}

/// Removes a server that nobody has found yet, with the copy that it holds.
pub(super) async fn drop_copy(engine: &Engine, names: &Names, next: &str) -> Result<(), EngineError> {
    let Some(report) = engine.find_container(next).await? else { return Ok(()) };
    let copy = inspect::volume_at(&report, "/data");
    engine.kill_own(names, next).await?;
    let Some(volume) = copy else { return Ok(()) };
    match engine.remove_volume(&volume).await {
        Err(EngineError::Conflict(_)) => {
            // The container that mounts all volumes has it; it holds nothing, and the plan makes it anew.
            engine.kill_own(names, &names.container(FILES)).await?;
            engine.remove_volume(&volume).await
        }
        other => other,
    }
}

/// Whether a container is on the private network; `None` when it is not there.
pub(super) async fn on_private(engine: &Engine, names: &Names, container: &str) -> Result<Option<bool>, EngineError> {
    let Some(report) = engine.find_container(container).await? else { return Ok(None) };
    // One that was never started is not found, whatever network it was made on.
    let started = inspect::was_started(&report);
    let networks = report.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    Ok(Some(started && networks.contains_key(&names.network(PRIVATE))))
}

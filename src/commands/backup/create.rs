//! `backup create`: take one now, of a Redis that runs.

use crate::backup::{self, Manifest};
use crate::cli::Cli;
use crate::commands::backup::drill::told;
use crate::commands::{Session, Verdict, load, open};
use crate::event::Event;
use crate::event::Listener;
use crate::failure::{Failure, Kind};
use crate::spec::Drill;
use crate::store::repository::Repository;
use crate::ui::Ui;
use crate::ui::progress::Progress;
use crate::value::bytes;
use crate::world::capture::{self, BackupRequest};
use crate::world::drill;
use crate::world::ready;

pub async fn run(
    cli: &Cli,
    ui: &Ui,
    environment: &str,
    service: Option<&str>,
    reason: &str,
) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let session = open(&project, environment).await?;
    let services = session.redis_services();
    let chosen: Vec<&String> = services.iter().filter(|name| service.is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        let message = format!("`{}` is not a Redis of {}", service.unwrap_or("(none)"), environment.name);
        return Err(Failure::message(Kind::Usage, message).help(format!("Redis services: {}", services.join(", "))));
    }
    let repository = Repository::open(&project.root, environment).map_err(|error| Failure::new(Kind::Backup, error))?;
    let progress = Progress::new(chosen.len());
    let mut taken = Vec::new();
    for (index, name) in chosen.into_iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let manifest = take(&session, name, repository.clone(), reason, false, number, &progress).await?;
        if environment.backup.drill == Drill::Always {
            let user = super::user_of(environment, name);
            let (engine, stack) = (&session.engine, &environment.stack);
            let drilled = drill::listed(engine, &repository, stack, &manifest.id, user, number, &progress).await;
            let drilled = drilled.map_err(|failure| Failure { kind: Kind::Backup, ..failure })?;
            progress.hear(Event::Line { text: format!("{}: {}", manifest.id, told(&drilled)) });
        }
        taken.push(manifest);
    }
    drop(progress);
    let (of, keep, on) = (repository.clone(), environment.backup.keep, *ui);
    let retained = tokio::task::spawn_blocking(move || super::prune::retain(&on, &of, keep)).await;
    if let Err(failure) = retained.map_err(|error| Failure::new(Kind::Error, error))? {
        // What was taken is taken, and `backup prune` says the same again.
        ui.status(&format!("retention broke off: {failure}"));
    }
    if ui.is_json() {
        ui.json(&taken);
    } else {
        for manifest in &taken {
            ui.result(&format!("{} {}/{}\n", manifest.id, repository.place(), manifest.id));
        }
    }
    Ok(None)
}

/// Backs up one Redis.
pub async fn take(
    session: &Session,
    name: &str,
    repository: Repository,
    reason: &str,
    change: bool,
    number: u32,
    progress: &impl Listener,
) -> Result<Manifest, Failure> {
    let environment = &session.names.environment;
    let summary = format!("back up {name} of {environment}");
    progress.hear(Event::StepStarted { number, summary: summary.clone() });
    let (Some(password), Some(vitals)) = (session.secrets.operators.get(name), session.observed.vitals.get(name))
    else {
        let message = format!("{name} of {environment} is not running");
        let help = format!("`lockstep apply {environment}` starts it");
        return Err(Failure::message(Kind::Backup, message).help(help));
    };
    if let Some(why) = &vitals.unreadable {
        return Err(Failure::message(Kind::Backup, format!("{name} of {environment} cannot be read: {why}")));
    }
    let address = ready::redis_address(&session.engine, &session.names, name).await?;
    let (reached, revision) = ((address, password.clone()), session.desired.state.digest());
    let request = BackupRequest::of(&session.observed, name, reached, repository, (reason, change), revision);
    let manifest = capture::take_backup(&session.names, request, number, progress).await?;
    let state = backup::manifest::state(&manifest, &[]);
    let outcome = format!("{state}: {} keys, {}", manifest.counts.keys, bytes::about(manifest.plain_bytes()));
    progress.hear(Event::StepDone { number, summary, elapsed_ms: manifest.elapsed_ms, outcome });
    Ok(manifest)
}

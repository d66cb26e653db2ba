//! `lockstep backup`: take one on request, and see what there is.

use crate::cli::Cli;
use crate::commands::{Verdict, load, open};
use crate::event::Event;
use crate::event::Listener as _;
use crate::failure::{Failure, Kind};
use crate::store::backups;
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::value::bytes;
use crate::world::live::{self, BackupRequest};

pub async fn create(
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
    let folder =
        backups::folder(&project.root, &environment.backups, environment.stack.as_str(), environment.name.as_str());
    let progress = Progress::new(chosen.len());
    let mut taken = Vec::new();
    for (index, name) in chosen.into_iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let summary = format!("back up {name} of {}", environment.name);
        progress.hear(Event::StepStarted { number, summary: summary.clone() });
        let (Some(password), Some(vitals)) = (session.secrets.operators.get(name), session.observed.vitals.get(name))
        else {
            let message = format!("{name} of {} is not running", environment.name);
            let help = format!("`lockstep apply {}` starts it", environment.name);
            return Err(Failure::message(Kind::Backup, message).help(help));
        };
        let address = live::redis_address(&session.engine, &session.names, name).await?;
        if let Some(why) = &vitals.unreadable {
            return Err(Failure::message(
                Kind::Backup,
                format!("{name} of {} cannot be read: {why}", environment.name),
            ));
        }
        let request = BackupRequest {
            address,
            password: password.clone(),
            container: name.clone(),
            image: session.observed.state.container(name).map_or_else(String::new, |container| container.image.clone()),
            server: live::version_of(&session.observed, name),
            expected_keys: vitals.keys,
            folder: folder.clone(),
            reason: reason.to_owned(),
            revision: session.desired.state.digest(),
        };
        let manifest = live::take_backup(&session.names, request, number, &progress).await?;
        let outcome = format!("{} keys, {}", manifest.keys, bytes::about(manifest.size_bytes));
        progress.hear(Event::StepDone { number, summary, elapsed_ms: manifest.elapsed_ms, outcome });
        taken.push(manifest);
    }
    if ui.is_json() {
        ui.json(&taken);
    } else {
        for manifest in &taken {
            let path = folder.join(&manifest.id);
            ui.result(&format!("{} {}\n", manifest.id, path.display()));
        }
    }
    Ok(None)
}

pub fn list(cli: &Cli, ui: &Ui, environment: Option<&str>) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[])?;
    let chosen = match environment {
        Some(name) => vec![project.environment(name)?],
        None => project.resolved.values().collect(),
    };
    let mut all = Vec::new();
    for environment in chosen {
        let folder =
            backups::folder(&project.root, &environment.backups, environment.stack.as_str(), environment.name.as_str());
        let listed = backups::list(&folder)?;
        if !ui.is_json() {
            ui.result(&format!("{}:\n{}", environment.name, text::backups(&listed)));
        }
        all.extend(listed);
    }
    if ui.is_json() {
        let rows: Vec<serde_json::Value> = all
            .iter()
            .map(|backup| {
                serde_json::json!({ "manifest": backup.manifest, "folder": backup.folder, "problem": backup.problem })
            })
            .collect();
        ui.json(&serde_json::json!({ "format": 1, "backups": rows }));
    }
    Ok(all.iter().any(|backup| backup.problem.is_some()).then_some(Kind::Differences))
}

//! `backup drill`: restore backups into throw-away servers and compare.

use crate::cli::{Chosen, Cli};
use crate::commands::backup::verify::choose;
use crate::commands::backup::{json, readable};
use crate::commands::{Verdict, connect, load};
use crate::event::{Event, Listener as _};
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::store::repository::Repository;
use crate::ui::Ui;
use crate::ui::progress::Progress;
use crate::value::bytes;
use crate::world::drill::{self, Drilled, Stored};

pub async fn run(cli: &Cli, ui: &Ui, wanted: &Chosen) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[&wanted.environment])?;
    let environment = project.environment(&wanted.environment)?;
    let engine = connect(environment).await?;
    let (repository, chosen) = {
        let environment = environment.clone();
        let root = project.root.clone();
        let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let repository = Repository::open(&root, &environment)?;
            let listed = repository.list()?;
            Ok((repository, listed))
        });
        let (repository, listed) = opened.await.map_err(|error| Failure::new(Kind::Error, error))??;
        (repository, choose(listed, wanted)?)
    };
    let progress = Progress::new(chosen.len());
    let (mut rows, mut damaged, mut failures) = (Vec::new(), false, Vec::new());
    for (number, backup) in (1u32..).zip(&chosen) {
        let summary = format!("drill {}", backup.id);
        progress.hear(Event::StepStarted { number, summary: summary.clone() });
        let drilled = match readable(backup) {
            Ok(manifest) => {
                let stored = Stored {
                    repository: &repository,
                    stack: &environment.stack,
                    manifest,
                    manifest_sha256: &backup.manifest_sha256,
                    user: user_of(environment, &manifest.service),
                };
                drill::stored(&engine, stored, number, &progress).await
            }
            Err(unreadable) => Err(unreadable),
        };
        let mut not_drilled = None;
        let said = match drilled {
            Ok(drilled) => {
                let outcome = told(&drilled);
                let elapsed_ms = drilled.elapsed_ms;
                progress.hear(Event::StepDone { number, summary, elapsed_ms, outcome: outcome.clone() });
                outcome
            }
            // One that cannot be drilled says nothing about those behind it.
            Err(failure) => {
                progress.hear(Event::StepFailed { number, summary });
                let said = failure.to_string();
                if failure.kind == Kind::Differences {
                    damaged = true;
                } else {
                    not_drilled = Some(said.clone());
                    failures.push(failure);
                }
                said
            }
        };
        if ui.is_json() {
            let (repository, id) = (repository.clone(), backup.id.clone());
            let again = tokio::task::spawn_blocking(move || repository.get(&id)).await;
            let after = again.map_err(|error| Failure::new(Kind::Error, error))??;
            let mut row = json(after.as_ref().unwrap_or(backup));
            if let (Some(why), Some(row)) = (not_drilled, row.as_object_mut()) {
                row.insert("not_drilled".to_owned(), why.into());
            }
            rows.push(row);
        } else {
            ui.result(&format!("{}: {said}\n", backup.id));
        }
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "backups": rows }));
    }
    let (all, drilled) = (chosen.len(), chosen.len() - failures.len());
    match worst(failures) {
        _ if damaged => Ok(Some(Kind::Differences)),
        Some(failure) if all > 1 => Err(failure.so_far(format!("{drilled} of {all} backups were drilled"))),
        Some(failure) => Err(failure),
        None => Ok(None),
    }
}

/// The one that says most of why not all were drilled. What is refused went least wrong.
fn worst(failures: Vec<Failure>) -> Option<Failure> {
    failures.into_iter().min_by_key(|failure| match failure.kind {
        Kind::Engine => 0,
        Kind::Refused => 2,
        _ => 1,
    })
}

/// Whom the files of a service belong to in its container.
pub fn user_of(environment: &Environment, service: &str) -> (u32, u32) {
    let of = environment.services.values().find(|of| of.name.as_str() == service);
    // What images of Redis and Valkey have.
    of.map_or((999, 999), |service| service.user)
}

pub(super) fn told(drilled: &Drilled) -> String {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    format!(
        "restored in {:.1} s into {}, read back equal: {} keys, {}",
        seconds(drilled.recovery_ms),
        drilled.server,
        drilled.keys,
        bytes::about(drilled.bytes)
    )
}

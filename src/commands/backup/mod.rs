//! `lockstep backup`: one file per verb; this one holds what they share.

mod check;
pub(super) mod create;
mod diff;
mod drill;
mod export;
mod import;
mod inspect;
mod lines;
mod list;
mod pin;
mod prune;
mod show;
mod verify;

use crate::backup::{Listed, SNAPSHOT, manifest};
use crate::cli::{BackupCommand, Cli};
use crate::commands::{Verdict, load};
use crate::failure::{Failure, Kind};
use crate::store::repository::{PartReader, Repository};
use crate::ui::Ui;
pub(super) use drill::user_of;
use tokio::runtime::Runtime;

pub fn run(cli: &Cli, ui: &Ui, command: &BackupCommand, runtime: &Runtime) -> Result<Verdict, Failure> {
    match command {
        BackupCommand::Create { environment, service, reason } => {
            runtime.block_on(create::run(cli, ui, environment, service.as_deref(), reason))
        }
        BackupCommand::Drill(chosen) => runtime.block_on(drill::run(cli, ui, chosen)),
        BackupCommand::Check { environment } => runtime.block_on(check::run(cli, ui, environment)),
        // The others wait for disks and stores, not for sockets of ours, and need no runtime.
        BackupCommand::List { environment } => list::run(cli, ui, environment.as_deref()),
        BackupCommand::Show { id } => show::run(cli, ui, id),
        BackupCommand::Inspect { files } => inspect::run(ui, files),
        BackupCommand::Import { environment, file, service, reason } => {
            import::run(cli, ui, environment, (file, service.as_deref()), reason)
        }
        BackupCommand::Verify(chosen) => verify::run(cli, ui, chosen),
        BackupCommand::Pin { id, reason } => pin::pin(cli, ui, id, reason),
        BackupCommand::Unpin { id } => pin::unpin(cli, ui, id),
        BackupCommand::Prune { environment, dry_run } => prune::run(cli, ui, environment, *dry_run),
        BackupCommand::Diff { a, b, prefix_depth, limit } => diff::run(cli, ui, [a, b], *prefix_depth, *limit),
        BackupCommand::Export { id, out, json_lines: false, .. } => export::run(cli, ui, id, out.as_deref()),
        BackupCommand::Export { id, out, pattern, .. } => lines::run(cli, ui, id, out.as_deref(), pattern.as_deref()),
    }
}

/// The backups of one environment.
fn open(cli: &Cli, ui: &Ui, environment: &str) -> Result<Repository, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    Ok(Repository::open(&project.root, project.environment(environment)?)?)
}

/// The one backup of any environment that is meant by an id, which may be abbreviated.
fn find(cli: &Cli, ui: &Ui, wanted: &str) -> Result<(Repository, Listed), Failure> {
    let (project, _) = load(cli, ui, &[])?;
    let mut all = Vec::new();
    for environment in project.resolved.values() {
        let repository = Repository::open(&project.root, environment)?;
        let listed = repository.list()?;
        all.extend(listed.into_iter().map(|backup| (repository.clone(), backup)));
    }
    let id = named(&all.iter().map(|(_, backup)| backup.id.as_str()).collect::<Vec<_>>(), wanted)?.to_owned();
    let found = all.into_iter().find(|(_, backup)| backup.id == id);
    found.ok_or_else(|| Failure::message(Kind::Usage, format!("there is no backup `{wanted}`")))
}

pub(super) fn named<'a>(ids: &[&'a str], wanted: &str) -> Result<&'a str, Failure> {
    manifest::find(ids, wanted).map_err(|near| match near.as_slice() {
        [] => Failure::message(Kind::Usage, format!("there is no backup `{wanted}`"))
            .help("`lockstep backup list` shows those that there are"),
        [one] => Failure::message(Kind::Usage, format!("there is no backup `{wanted}`"))
            .help(format!("did you mean `{one}`?")),
        several => {
            let message = format!("`{wanted}` may be one of {} backups", several.len());
            let shown: Vec<&str> = several.iter().take(5).copied().collect();
            let rest = if several.len() > shown.len() { " and others" } else { "" };
            Failure::message(Kind::Usage, message).help(format!("{}{rest}", shown.join(", ")))
        }
    })
}

/// A backup whose manifest reads, since without one there is nothing to work with.
pub(super) fn readable(backup: &Listed) -> Result<&manifest::Manifest, Failure> {
    let problem = backup.problem.as_deref().unwrap_or("its manifest does not read");
    let damaged = || Failure::message(Kind::Differences, format!("`{}` is damaged: {problem}", backup.id));
    backup.manifest.as_ref().ok_or_else(damaged)
}

/// The keys of a backup.
fn snapshot(repository: &Repository, backup: &Listed) -> Result<PartReader, Failure> {
    let manifest = readable(backup)?;
    if manifest.part(SNAPSHOT).is_none() {
        let message = format!("`{}` is the copy of a volume, and its keys cannot be read one by one", backup.id);
        return Err(Failure::message(Kind::Usage, message).help("`lockstep backup export --out` writes the volume"));
    }
    repository.read(manifest, SNAPSHOT, &repository.identities()?).map_err(|error| {
        let damaged = error.kind() == std::io::ErrorKind::InvalidData;
        let kind = if damaged { Kind::Differences } else { Kind::Error };
        Failure::new(kind, anyhow::Error::new(error).context(format!("could not read the backup `{}`", backup.id)))
    })
}

/// One backup for scripts.
fn json(backup: &Listed) -> serde_json::Value {
    serde_json::json!({
        "id": backup.id,
        "state": backup.state,
        "place": backup.place,
        "manifest": backup.manifest,
        "proofs": backup.proofs,
        "pin": backup.pin,
        "problem": backup.problem,
    })
}

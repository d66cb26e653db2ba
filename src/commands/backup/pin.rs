//! `backup pin` and `backup unpin`: what retention leaves alone.

use crate::backup::Pin;
use crate::cli::Cli;
use crate::commands::Verdict;
use crate::commands::backup::{find, json, readable};
use crate::failure::{Failure, Kind};
use crate::store;
use crate::ui::Ui;

pub fn pin(cli: &Cli, ui: &Ui, id: &str, reason: &str) -> Result<Verdict, Failure> {
    if reason.trim().is_empty() {
        return Err(Failure::message(Kind::Usage, "a pin needs a reason: somebody will ask whether it may go"));
    }
    let (repository, backup) = find(cli, ui, id)?;
    readable(&backup)?;
    repository.pin(&backup.id, &Pin { at: store::now().to_string(), reason: reason.to_owned() })?;
    said(ui, &repository.get(&backup.id)?.unwrap_or(backup), "pinned");
    Ok(None)
}

pub fn unpin(cli: &Cli, ui: &Ui, id: &str) -> Result<Verdict, Failure> {
    let (repository, backup) = find(cli, ui, id)?;
    let was = if backup.pin.is_some() { "no longer pinned" } else { "not pinned" };
    repository.unpin(&backup.id)?;
    said(ui, &repository.get(&backup.id)?.unwrap_or(backup), was);
    Ok(None)
}

fn said(ui: &Ui, backup: &crate::backup::Listed, what: &str) {
    if ui.is_json() {
        ui.json(&json(backup));
    } else {
        ui.result(&format!("{} {what}\n", backup.id));
    }
}

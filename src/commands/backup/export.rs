//! `backup export`: a backup as the plain file that a Redis loads.

use crate::backup::{COPY, SNAPSHOT};
use crate::cli::Cli;
use crate::commands::Verdict;
use crate::commands::backup::{find, readable};
use crate::failure::{Failure, Kind};
use crate::store::repository;
use crate::ui::Ui;
use std::path::Path;

pub fn run(cli: &Cli, ui: &Ui, id: &str, out: Option<&Path>) -> Result<Verdict, Failure> {
    if out.is_none() && ui.result_is_terminal() {
        return Err(Failure::message(Kind::Usage, "a snapshot is nothing for a terminal").help("name a file: `--out`"));
    }
    let (repository, backup) = find(cli, ui, id)?;
    let manifest = readable(&backup)?;
    // The copy of a volume has its snapshots inside.
    let part = [SNAPSHOT, COPY].into_iter().find(|name| manifest.part(name).is_some());
    let part = part.ok_or_else(|| {
        Failure::message(Kind::Usage, format!("`{}` has neither `{SNAPSHOT}` nor `{COPY}`", backup.id))
    })?;
    let opened = repository.read(manifest, part, &repository.identities()?);
    let mut reader = opened.map_err(|error| unread(&backup.id, error.into()))?;
    let written = match out {
        Some(path) => repository::export(&mut reader, path),
        None => ui.stream(&mut reader).map_err(Into::into),
    };
    written.map_err(|error| {
        let failure = unread(&backup.id, error);
        if out.is_none() { failure.help("what was written up to here is not a whole snapshot") } else { failure }
    })?;
    if let Some(path) = out {
        ui.status(&format!("{part} of {} written to {}", backup.id, path.display()));
    }
    Ok(None)
}

fn unread(id: &str, error: anyhow::Error) -> Failure {
    Failure::new(Kind::Error, error.context(format!("could not export `{id}`")))
}

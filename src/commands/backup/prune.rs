//! `backup prune`: remove what retention does not ask for, and give back what dead writers left.

use crate::backup::Listed;
use crate::backup::retention::{self, Candidate, Decision};
use crate::cli::Cli;
use crate::commands::{Verdict, load};
use crate::failure::{Failure, Kind};
use crate::store;
use crate::store::repository::Repository;
use crate::ui::{Ui, text};
use crate::value::bytes;

pub fn run(cli: &Cli, ui: &Ui, environment: &str, dry_run: bool) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let repository = Repository::open(&project.root, environment)?;
    let listed = repository.list()?;
    // The store's clock says how old a leftover is. Looking alone writes nothing, and asks this machine's clock.
    let now = store::now();
    let leftovers = repository.leftovers(Some(if dry_run { now } else { repository.probe()? }))?;
    let decided = decide(&repository, &listed, environment.backup.keep, now)?;
    let decisions = match &decided {
        Ok(decisions) => decisions.as_slice(),
        Err(refusal) => {
            // What was never a backup may go all the same.
            ui.status(&format!("no backup is removed: {refusal}"));
            &[]
        }
    };
    if !ui.is_json() && (decided.is_ok() || !leftovers.is_empty()) {
        ui.result(&text::decisions(decisions, &leftovers));
    }
    let (mut removed, mut freed) = (0, 0);
    if !dry_run {
        (removed, freed) = remove(ui, &repository, decisions)?;
        for leftover in &leftovers {
            repository.give_back(leftover)?;
            freed += leftover.bytes;
        }
    }
    if ui.is_json() {
        let rows: Vec<serde_json::Value> = decisions
            .iter()
            .map(
                |decision| serde_json::json!({ "id": decision.id, "keep": decision.keep, "reasons": decision.reasons }),
            )
            .collect();
        let refused = decided.as_ref().err().map(ToString::to_string);
        ui.json(&serde_json::json!({
            "format": 1, "decisions": rows, "leftovers": leftovers, "refused": refused, "dry_run": dry_run,
            "removed": removed, "freed_bytes": freed,
        }));
    } else if !dry_run {
        ui.status(&format!("{removed} removed, {} given back", bytes::about(freed)));
    }
    match decided {
        Ok(_) => Ok(None),
        Err(refusal) => {
            Err(Failure::message(Kind::Refused, format!("no backup is removed: {refusal}")).help(refusal.help()))
        }
    }
}

/// Removes what `keep:` does not ask for, after a backup that succeeded. Where that is refused nothing goes, and it is said.
pub fn retain(ui: &Ui, repository: &Repository, keep: crate::spec::Keep) -> Result<(), Failure> {
    if keep.is_empty() {
        return Ok(());
    }
    match decide(repository, &repository.list()?, keep, store::now())? {
        Ok(decisions) => {
            let (removed, freed) = remove(ui, repository, &decisions)?;
            if removed > 0 {
                let removed = text::plural(removed, "backup");
                ui.status(&format!(
                    "{removed} removed that `backup.keep` does not ask for, {} given back",
                    bytes::about(freed)
                ));
            }
        }
        Err(refusal) => ui.status(&format!("no backup is removed: {refusal}")),
    }
    Ok(())
}

/// How many were removed, and the bytes given back.
fn remove(ui: &Ui, repository: &Repository, decisions: &[Decision]) -> Result<(usize, u64), Failure> {
    let (mut removed, mut freed) = (0, 0);
    for decision in decisions.iter().filter(|decision| !decision.keep) {
        // Somebody may have pinned it, or a drill proven it, since the list was read.
        let Some(again) = repository.get(&decision.id)? else { continue };
        if again.pin.is_some() {
            ui.status(&format!("{} was pinned meanwhile, and stays", decision.id));
            continue;
        }
        repository.remove(&decision.id)?;
        removed += 1;
        freed += again.stored_bytes;
    }
    Ok((removed, freed))
}

type Decided = Result<Vec<Decision>, retention::Refusal>;

fn decide(
    repository: &Repository,
    listed: &[Listed],
    keep: crate::spec::Keep,
    now: jiff::Timestamp,
) -> Result<Decided, Failure> {
    let candidates: Vec<Candidate> = listed.iter().map(candidate).collect();
    let failures = repository.failures()?;
    let failures: Vec<retention::Failure> = failures
        .into_iter()
        .map(|failed| retention::Failure { at: failed.at.parse().ok(), service: failed.service })
        .collect();
    Ok(retention::decide(&candidates, &failures, &keep, now))
}

fn candidate(backup: &Listed) -> Candidate {
    let manifest = backup.manifest.as_ref();
    // The id begins with the service, for one whose manifest does not read.
    let service = manifest.map_or_else(
        || backup.id.rsplitn(3, '-').nth(2).unwrap_or_default().to_owned(),
        |manifest| manifest.service.clone(),
    );
    Candidate {
        id: backup.id.clone(),
        service,
        taken_at: backup.taken_at().parse().ok(),
        state: backup.state,
        pinned: backup.pin.is_some(),
        change: manifest.is_some_and(|manifest| manifest.change),
        imported: manifest.is_some_and(|manifest| manifest.imported),
    }
}

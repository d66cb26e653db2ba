//! What is kept of an environment: backups, ledger and notes, and the files of the project that protect its secrets.

use crate::audit::facts::{Backups, Kept, Ledger, Mode, Project, Read};
use crate::backup::{Listed, ProofKind, State};
use crate::ledger::Entry;
use crate::model::{Destination, Environment, Kind};
use crate::spec::environment::SecretSource;
use crate::store::repository::Repository;
use crate::store::{self, git, notes, privacy};
use crate::value::Span;
use crate::world::audit::Subject;
use std::path::{Path, PathBuf};

/// Records of the newest changes that are looked through for secrets.
const RECORDS: usize = 50;

/// What was read in a thread of its own, since stores block.
#[derive(Debug)]
pub(super) struct KeptFacts {
    backups: Read<Backups>,
    ledger: Read<Ledger>,
    project: Project,
    /// The folder of the backups, where they lie in one.
    folder: Option<PathBuf>,
}

impl KeptFacts {
    /// Completed with where the engine keeps its volumes.
    pub(super) fn of(self, engine: Option<&str>) -> (Read<Backups>, Read<Ledger>, Project) {
        let mut backups = self.backups;
        if let (Ok(backups), Some(folder), Some(engine)) = (&mut backups, &self.folder, engine) {
            backups.same_disk = Some(privacy::same_disk(folder, Path::new(engine)));
        }
        (backups, self.ledger, self.project)
    }
}

pub(super) async fn read(subject: Subject<'_>) -> KeptFacts {
    let (root, environment) = (subject.root.to_path_buf(), subject.environment.clone());
    let read = tokio::task::spawn_blocking(move || all(&root, &environment)).await;
    read.unwrap_or_else(|error| KeptFacts {
        backups: Err(error.to_string()),
        ledger: Err(error.to_string()),
        project: Project { private: Vec::new(), tracked: Err(error.to_string()), identity_beside: None },
        folder: None,
    })
}

fn all(root: &Path, environment: &Environment) -> KeptFacts {
    let folder = match &environment.backup.to {
        Destination::Folder(folder) => Some(root.join(folder)),
        Destination::Bucket(_) => None,
    };
    let repository = Repository::open(root, environment).map_err(|error| format!("{error:#}"));
    let backups = repository.as_ref().map_err(Clone::clone).and_then(|repository| backups(repository, environment));
    let ledger = repository.and_then(|repository| ledger(root, &repository, environment));
    KeptFacts { backups, ledger, project: project(root, environment, folder.as_deref()), folder }
}

fn backups(repository: &Repository, environment: &Environment) -> Read<Backups> {
    let listed = repository.list().map_err(|error| format!("{error:#}"))?;
    let mut backups = Backups {
        place: repository.place(),
        count: listed.len(),
        recipients: environment.backup.encrypt_to.len(),
        max_age: environment.backup.max_age,
        far: repository.is_far(),
        free: Some(repository.free().map_err(|error| error.to_string())),
        ..Backups::default()
    };
    for (name, service) in &environment.services {
        if matches!(service.kind, Kind::Redis(_)) {
            backups.services.insert(name.to_string(), kept(&listed, name.as_str()));
        }
    }
    for backup in &listed {
        if backup.manifest.as_ref().is_some_and(|manifest| manifest.encrypted_to.is_empty()) {
            backups.plain.push(backup.id.clone());
        }
    }
    Ok(backups)
}

fn kept(listed: &[Listed], service: &str) -> Kept {
    let mut kept = Kept::default();
    let of = |backup: &&Listed| {
        backup.manifest.as_ref().is_some_and(|manifest| manifest.service == service && !manifest.imported)
    };
    for backup in listed.iter().filter(of) {
        let newer = |known: &Option<(String, Span)>, age: Span| known.as_ref().is_none_or(|(_, known)| age < *known);
        let proven = matches!(backup.state, State::Verified | State::Drilled);
        if let Some(age) = store::age(backup.taken_at()).filter(|age| proven && newer(&kept.proven, *age)) {
            kept.proven = Some((backup.id.clone(), age));
        }
        let written = backup.manifest.as_ref().filter(|manifest| manifest.state == State::Drilled);
        let drills = backup.proofs.iter().filter(|proof| proof.kind == ProofKind::Drilled).map(|proof| &proof.at);
        for at in drills.chain(written.map(|manifest| &manifest.taken_at)) {
            if let Some(age) = store::age(at).filter(|age| newer(&kept.drilled, *age)) {
                kept.drilled = Some((backup.id.clone(), age));
            }
        }
    }
    kept
}

fn ledger(root: &Path, repository: &Repository, environment: &Environment) -> Read<Ledger> {
    let said = |error: anyhow::Error| format!("{error:#}");
    let ledger = repository.ledger();
    let anchors = notes::anchors(root, environment.stack.as_str(), environment.name.as_str()).map_err(said)?;
    let broken = ledger.verify(&anchors).map_err(said)?;
    let entries = ledger.entries(usize::MAX).map_err(said)?;
    let unexplained = |entry: &&Entry| entry.begin.as_ref().is_some_and(|begin| begin.who.user.trim().is_empty());
    let mut texts = notes::texts(root).map_err(|error| format!("{error:#}"))?;
    for entry in entries.iter().rev().take(RECORDS) {
        let records = [serde_json::to_string(&entry.begin), serde_json::to_string(&entry.end)];
        let place = format!("change {} of the ledger", entry.number);
        texts.extend(records.into_iter().filter_map(Result::ok).map(|text| (place.clone(), text)));
    }
    Ok(Ledger {
        changes: entries.len(),
        broken: broken.iter().map(|broken| format!("{} {}", broken.record, broken.what)).collect(),
        unfinished: entries.iter().filter(|entry| entry.is_unfinished()).map(|entry| entry.number).collect(),
        unexplained: entries.iter().filter(unexplained).map(|entry| entry.number).collect(),
        texts,
    })
}

fn project(root: &Path, environment: &Environment, backups: Option<&Path>) -> Project {
    let mut secret = Vec::new();
    if let Some(SecretSource::File(path)) = &environment.secret_source {
        let below = format!("environments/{path}");
        secret.extend(privacy::files_in(&root.join(&below), &below));
        secret.push(below);
    }
    let identity = environment.backup.identity.clone();
    secret.extend(identity.clone());
    let mut private: Vec<Read<Mode>> = secret.iter().filter_map(|path| privacy::mode(&root.join(path), path)).collect();
    if let Some(folder) = backups {
        let own = folder.join(environment.stack.as_str()).join(environment.name.as_str());
        private.extend(privacy::mode(&own, "the folder of the environment's backups"));
    }
    let beside = identity.filter(|path| backups.is_some_and(|folder| root.join(path).starts_with(folder)));
    Project { private, tracked: tracked(root, &secret), identity_beside: beside }
}

fn tracked(root: &Path, paths: &[String]) -> Read<Option<Vec<String>>> {
    match git::tracked(root, paths) {
        Some(tracked) => Ok(Some(tracked)),
        None if root.ancestors().any(|folder| folder.join(".git").exists()) => Err("git could not be asked".to_owned()),
        None => Ok(None),
    }
}

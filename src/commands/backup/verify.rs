//! `backup verify`: read back every byte, and write down what came of it.

use crate::backup::{COPY, Counts, Listed, Manifest, Proof, ProofKind, SNAPSHOT, State, copied};
use crate::cli::{Chosen, Cli};
use crate::commands::Verdict;
use crate::commands::backup::{json, named, open, readable};
use crate::failure::{Failure, Kind};
use crate::rdb::{self, RdbError};
use crate::store;
use crate::store::repository::{Identities, PartReader, Repository};
use crate::ui::Ui;
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// What reading a backup back came to.
enum Outcome {
    /// All that a restore would do up to the server.
    Proven(Counts),
    /// The stored bytes are right, and nothing here opens them.
    Closed(String),
    /// The stored bytes are right, and of a kind that this version does not know.
    Unknown(String),
    Damaged(String),
}

impl Outcome {
    /// Why more could not be proven of what is stored whole, and what helps.
    fn unread(&self) -> Option<(&str, &'static str)> {
        match self {
            Outcome::Proven(_) | Outcome::Damaged(_) => None,
            Outcome::Closed(why) => {
                Some((why.as_str(), "name a file with the identity in `backup.identity` or LOCKSTEP_AGE_IDENTITY_FILE"))
            }
            Outcome::Unknown(why) => Some((why.as_str(), "verify it with a newer version of lockstep")),
        }
    }
}

pub fn run(cli: &Cli, ui: &Ui, chosen: &Chosen) -> Result<Verdict, Failure> {
    let repository = open(cli, ui, &chosen.environment)?;
    let chosen = choose(repository.list()?, chosen)?;
    let identities = repository.identities()?;
    let (mut rows, mut damaged, mut unread) = (Vec::new(), false, None);
    for backup in &chosen {
        let outcome = look(&repository, backup, &identities)?;
        let said = match &outcome {
            Outcome::Proven(counts) => format!("read back whole: {} keys", counts.keys),
            Outcome::Closed(why) => format!("stored whole, and not opened: {why}"),
            Outcome::Unknown(why) => format!("stored whole, and not readable by this version: {why}"),
            Outcome::Damaged(why) => {
                damaged = true;
                format!("damaged: {why}")
            }
        };
        if let Some((why, help)) = outcome.unread() {
            unread = Some((format!("`{}` is stored whole, and more could not be proven: {why}", backup.id), help));
        }
        note(&repository, backup, &outcome)?;
        let after = repository.get(&backup.id)?.unwrap_or_else(|| backup.clone());
        if ui.is_json() {
            rows.push(json(&after));
        } else {
            ui.result(&format!("{} {}: {said}\n", after.id, after.state));
        }
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "backups": rows }));
    }
    match unread {
        _ if damaged => Ok(Some(Kind::Differences)),
        Some((why, help)) => Err(Failure::message(Kind::Error, why).help(help)),
        None => Ok(None),
    }
}

pub(super) fn choose(listed: Vec<Listed>, wanted: &Chosen) -> Result<Vec<Listed>, Failure> {
    let chosen: Vec<Listed> = match &wanted.id {
        Some(id) => {
            let ids: Vec<&str> = listed.iter().map(|backup| backup.id.as_str()).collect();
            let id = named(&ids, id)?.to_owned();
            listed.into_iter().filter(|backup| backup.id == id).collect()
        }
        None if wanted.all => listed,
        None => {
            let of = |backup: &Listed| backup.manifest.as_ref().map(|manifest| manifest.service.clone());
            // Oldest first, so that the newest of each service is what stays.
            let newest: BTreeMap<_, _> = listed.into_iter().map(|backup| (of(&backup), backup)).collect();
            newest.into_values().collect()
        }
    };
    if chosen.is_empty() {
        return Err(Failure::message(Kind::Usage, "there are no backups").help("`lockstep backup create`"));
    }
    Ok(chosen)
}

/// Reads all there is. An error is only what keeps anything from being known.
fn look(repository: &Repository, backup: &Listed, identities: &Identities) -> Result<Outcome, Failure> {
    let manifest = match readable(backup) {
        Ok(manifest) => manifest,
        Err(failure) => return Ok(Outcome::Damaged(failure.to_string())),
    };
    if backup.state == State::Damaged
        && let Some(problem) = &backup.problem
        && backup.proofs.iter().all(|proof| proof.kind != ProofKind::Failed)
    {
        return Ok(Outcome::Damaged(problem.clone()));
    }
    let unread = |error: anyhow::Error| {
        Failure::new(Kind::Error, error.context(format!("could not read the backup `{}`", backup.id)))
    };
    let stored_whole = |outcome: Outcome| match repository.read_back(manifest, &mut |_| {}) {
        Ok(()) => Ok(outcome),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Outcome::Damaged(error.to_string())),
        Err(error) => Err(unread(error.into())),
    };
    let mut counts = manifest.counts.clone();
    for part in &manifest.parts {
        let read = repository.read(manifest, &part.name, identities);
        let mut reader = match read {
            Ok(reader) => reader,
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(Outcome::Damaged(error.to_string())),
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !manifest.encrypted_to.is_empty() => {
                return stored_whole(Outcome::Closed(error.to_string()));
            }
            Err(error) => return Err(unread(error.into())),
        };
        match walk(manifest, &part.name, &mut reader) {
            Ok(found) => counts = found.unwrap_or(counts),
            // A parser that stopped at what a store did not give says nothing about the bytes; nor does one that is too old.
            Err(error) => match reader.failed() {
                None if error.downcast_ref::<RdbError>().is_some_and(RdbError::is_unknown) => {
                    return stored_whole(Outcome::Unknown(format!("{error:#}")));
                }
                None | Some(ErrorKind::InvalidData) => return Ok(Outcome::Damaged(format!("{error:#}"))),
                Some(_) => return Err(unread(error)),
            },
        }
    }
    Ok(Outcome::Proven(counts))
}

/// Reads a part to its end; what it counts has to be what the manifest says.
fn walk(manifest: &Manifest, part: &str, reader: &mut PartReader) -> anyhow::Result<Option<Counts>> {
    let found = match part {
        SNAPSHOT => Some(Counts::from(&rdb::walk(&mut *reader)?)),
        COPY => Some(Counts::from(&copied(&mut *reader)?.newest())),
        _ => None,
    };
    reader.finish()?;
    if let Some(found) = &found
        && *found != manifest.counts
    {
        anyhow::bail!(
            "`{part}` holds {} keys with crc64 {}, and its manifest says {} with {}",
            found.keys,
            found.crc64,
            manifest.counts.keys,
            manifest.counts.crc64
        );
    }
    Ok(found)
}

fn note(repository: &Repository, backup: &Listed, outcome: &Outcome) -> Result<(), Failure> {
    let (kind, counts, problem) = match outcome {
        Outcome::Proven(counts) => (ProofKind::Verified, Some(counts.clone()), None),
        Outcome::Damaged(why) => (ProofKind::Failed, None, Some(why.clone())),
        Outcome::Closed(_) | Outcome::Unknown(_) => return Ok(()),
    };
    // Nothing to be about.
    if backup.manifest.is_none() {
        return Ok(());
    }
    let proof = Proof::of(kind, store::now().to_string(), &backup.manifest_sha256);
    let proof = Proof { counts, problem, ..proof };
    Ok(repository.prove(&backup.id, &proof)?)
}

//! Backups in a store: `<stack>/<environment>/<id>/`, the pieces of the parts first and `manifest.json` last.
//!
//! Until its manifest is there a backup is not listed; what a dead writer left is told apart and given back. Blocking
//! throughout: a task asks from a thread of its own.

mod identities;
pub mod ledger;
pub mod local;
mod read;
pub mod remote;
pub mod store;
mod write;

pub use identities::Identities;
pub use read::PartReader;
pub use write::{CHUNK, Draft, PartWriter};

use crate::backup::{Chunk, Failed, Listed, Manifest, Pin, Proof, State, manifest};
use crate::model::{self, Destination};
use crate::value::{Digest, Recipient};
use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use local::Local;
use remote::{Credentials, Patience, Remote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Object, Store};

const MANIFEST: &str = "manifest.json";
const PIN: &str = "pin.json";
/// A terabyte has 131,072 pieces, and each takes some 130 bytes here.
const MAX_MANIFEST: u64 = 32 << 20;
const MAX_NOTE: u64 = 1 << 20;
/// What nobody has touched for a day is nobody's work any more.
const ABANDONED: SignedDuration = SignedDuration::from_hours(24);

/// The backups of one environment.
#[derive(Clone, Debug)]
pub struct Repository {
    store: Arc<dyn Store>,
    /// `shop/production`
    root: String,
    stack: String,
    environment: String,
    recipients: Vec<Recipient>,
    identity: Option<PathBuf>,
}

/// What a writer left that died before its manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leftover {
    /// Below the environment: an id, or the name of a single object.
    pub name: String,
    pub bytes: u64,
    /// A folder goes with all that is in it.
    #[serde(skip)]
    pub is_folder: bool,
}

impl Repository {
    /// Where the environment's backups lie. Asks the store nothing yet.
    pub fn open(root: &Path, environment: &model::Environment) -> anyhow::Result<Repository> {
        let plan = &environment.backup;
        let store: Arc<dyn Store> = match &plan.to {
            Destination::Folder(folder) => Arc::new(Local::new(root.join(folder))),
            Destination::Bucket(bucket) => {
                Arc::new(Remote::open(bucket, Credentials::from_environment()?, Patience::default())?)
            }
        };
        let identity = match super::variable(identities::VARIABLE) {
            Some(path) => Some(PathBuf::from(path)),
            None => plan.identity.as_ref().map(|path| root.join(path)),
        };
        let repository = Repository::new(store, environment.stack.as_str(), environment.name.as_str());
        Ok(Repository { identity, ..repository.encrypted_to(plan.encrypt_to.clone()) })
    }

    pub fn new(store: Arc<dyn Store>, stack: &str, environment: &str) -> Repository {
        Repository {
            store,
            root: format!("{stack}/{environment}"),
            stack: stack.to_owned(),
            environment: environment.to_owned(),
            recipients: Vec::new(),
            identity: None,
        }
    }

    #[must_use]
    pub fn encrypted_to(self, recipients: Vec<Recipient>) -> Repository {
        Repository { recipients, ..self }
    }

    /// For people.
    pub fn place(&self) -> String {
        self.store.place(&self.root)
    }

    /// Bytes that may still be written, where that can be known.
    pub fn free(&self) -> io::Result<Option<u64>> {
        self.store.free()
    }

    pub fn is_far(&self) -> bool {
        self.store.is_far()
    }

    /// What opens its backups here: none where no file is named, or the named one is not on this machine.
    pub fn identities(&self) -> anyhow::Result<Identities> {
        match &self.identity {
            Some(path) if path.exists() => Identities::read(path),
            _ => Ok(Identities::default()),
        }
    }

    fn folder(&self, id: &str) -> String {
        format!("{}/{id}", self.root)
    }

    /// Starts a backup of this id, and gives back what dead writers left on this machine.
    pub fn draft(&self, id: &str, service: &str) -> anyhow::Result<Draft> {
        if !self.store.is_far() {
            // Whoever cannot sweep may still be able to write.
            for leftover in self.leftovers(None).unwrap_or_default() {
                let _ = self.give_back(&leftover);
            }
        }
        Draft::begin(self, id, service)
    }

    /// All backups, oldest first. One that does not read is listed, and hides no other.
    pub fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let doing = || format!("could not list the backups in `{}`", self.place());
        let objects = self.objects().with_context(doing)?;
        let mut listed = Vec::new();
        for (id, objects) in &folders(&objects) {
            if objects.contains_key(MANIFEST) && manifest::is_plain(id) {
                listed.push(self.look(id, objects).with_context(doing)?);
            }
        }
        listed.sort_by(|a, b| (a.taken_at(), &a.id).cmp(&(b.taken_at(), &b.id)));
        Ok(listed)
    }

    /// One backup, by its whole id.
    pub fn get(&self, id: &str) -> anyhow::Result<Option<Listed>> {
        if !manifest::is_plain(id) {
            return Ok(None);
        }
        let doing = || format!("could not look at the backup `{id}` in `{}`", self.place());
        let objects = self.store.list(&self.folder(id)).with_context(doing)?;
        let objects = below(&objects, &self.root);
        match folders(&objects).get(id) {
            Some(objects) if objects.contains_key(MANIFEST) => self.look(id, objects).map(Some).with_context(doing),
            _ => Ok(None),
        }
    }

    /// Objects by their key below the environment.
    fn objects(&self) -> io::Result<Vec<Object>> {
        Ok(below(&self.store.list(&self.root)?, &self.root))
    }

    fn look(&self, id: &str, objects: &BTreeMap<&str, u64>) -> anyhow::Result<Listed> {
        let folder = self.folder(id);
        let mut listed = Listed {
            id: id.to_owned(),
            place: self.store.place(&folder),
            state: State::Damaged,
            stored_bytes: objects.values().sum(),
            ..Listed::default()
        };
        let text = match self.store.get(&format!("{folder}/{MANIFEST}"), MAX_MANIFEST) {
            Ok(text) => text,
            // Where nothing can be asked nothing is known; this one alone may be unreadable all the same.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::PermissionDenied) => {
                listed.problem = Some(format!("its manifest cannot be read: {error}"));
                return Ok(listed);
            }
            Err(error) => return Err(error.into()),
        };
        listed.manifest_sha256 = Digest::of(&text).to_string();
        let manifest: Manifest = match serde_json::from_slice(&text) {
            Ok(manifest) => manifest,
            Err(error) => {
                listed.problem = Some(match format_of(&text) {
                    Some(format) if format != manifest::FORMAT => {
                        format!("its manifest has format {format}, and this binary reads {}", manifest::FORMAT)
                    }
                    _ => format!("its manifest does not read: {error}"),
                });
                return Ok(listed);
            }
        };
        // Nobody may act on what it says, least of all remove it: another version of this may know better.
        if let Some(why) = manifest.foreign([&self.stack, &self.environment, id]) {
            listed.problem = Some(why);
            return Ok(listed);
        }
        listed.problem = manifest.problem(objects);
        let proofs = objects.keys().filter(|name| name.starts_with("proof-") && name.ends_with(".json"));
        for name in proofs {
            // A name begins with its time, so these come in order. One that does not read proves nothing.
            let proof: Option<Proof> = self.note(&format!("{folder}/{name}"))?;
            listed.proofs.extend(proof.filter(|proof| proof.manifest_sha256 == listed.manifest_sha256));
        }
        if objects.contains_key(PIN) {
            // Whatever it says, somebody wanted this one to stay.
            listed.pin = Some(self.note(&format!("{folder}/{PIN}"))?.unwrap_or_default());
        }
        if listed.problem.is_none() {
            listed.state = manifest::state(&manifest, &listed.proofs);
            let failed = listed.proofs.iter().rev().find_map(|proof| proof.problem.clone());
            listed.problem = failed.filter(|_| listed.state == State::Damaged);
        }
        listed.manifest = Some(manifest);
        Ok(listed)
    }

    /// A small object; `None` when it is not there (any more) or does not read.
    fn note<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<Option<T>> {
        match self.store.get(key, MAX_NOTE) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_note(&self, key: &str, note: &impl Serialize) -> anyhow::Result<()> {
        let doing = || format!("could not write `{}`", self.store.place(key));
        let text = serde_json::to_vec_pretty(note).with_context(doing)?;
        self.store.put(key, &text).with_context(doing)
    }

    /// The plain bytes of a part. Each piece is checked before a byte of it is handed on.
    pub fn read(&self, manifest: &Manifest, part: &str, identities: &Identities) -> io::Result<PartReader> {
        let absent = || io::Error::new(ErrorKind::InvalidInput, format!("`{}` has no part `{part}`", manifest.id));
        let part = manifest.part(part).ok_or_else(absent)?;
        let store = Arc::clone(&self.store);
        read::open(store, &self.folder(&manifest.id), part, &manifest.encrypted_to, identities, None)
    }

    /// Reads every stored byte of a backup and compares it with its hash; needs no key.
    pub fn read_back(&self, manifest: &Manifest, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let chunks: Vec<&Chunk> = manifest.parts.iter().flat_map(|part| &part.chunks).collect();
        read::check(self.store.as_ref(), &self.folder(&manifest.id), &chunks, progress)
    }

    /// Keeps what was found out about a backup.
    pub fn prove(&self, id: &str, proof: &Proof) -> anyhow::Result<()> {
        let at: Timestamp = proof.at.parse().with_context(|| format!("`{}` is not a time", proof.at))?;
        let name = format!("proof-{}-{}.json", at.strftime("%Y%m%dT%H%M%S%.6fZ"), proof.kind.as_str());
        self.write_note(&format!("{}/{name}", self.folder(id)), proof)
    }

    pub fn pin(&self, id: &str, pin: &Pin) -> anyhow::Result<()> {
        self.write_note(&format!("{}/{PIN}", self.folder(id)), pin)
    }

    pub fn unpin(&self, id: &str) -> anyhow::Result<()> {
        let key = format!("{}/{PIN}", self.folder(id));
        self.store.delete(&key).with_context(|| format!("could not remove `{}`", self.store.place(&key)))
    }

    /// Takes a backup away: its manifest first, so that it is never listed in part.
    pub fn remove(&self, id: &str) -> anyhow::Result<()> {
        // The record of what was changed is never removed.
        if !manifest::is_plain(id) || id == ledger::FOLDER {
            bail!("`{id}` is not a backup");
        }
        let folder = self.folder(id);
        let doing = || format!("could not remove the backup `{id}`");
        self.store.delete(&format!("{folder}/{MANIFEST}")).with_context(doing)?;
        self.store.delete_below(&folder).with_context(doing)
    }

    /// Notes that the last try to back up a service failed.
    pub fn mark_failed(&self, failed: &Failed) -> anyhow::Result<()> {
        if !manifest::is_plain(&failed.service) {
            bail!("`{}` is not a service", failed.service);
        }
        self.write_note(&self.failed_key(&failed.service), failed)
    }

    fn failed_key(&self, service: &str) -> String {
        format!("{}/failed-{service}.json", self.root)
    }

    pub fn clear_failed(&self, service: &str) -> io::Result<()> {
        self.store.delete(&self.failed_key(service))
    }

    /// Services whose last try failed.
    pub fn failures(&self) -> anyhow::Result<Vec<Failed>> {
        let doing = || format!("could not list the backups in `{}`", self.place());
        let mut failures = Vec::new();
        for object in self.objects().with_context(doing)? {
            let service = object.key.strip_prefix("failed-").and_then(|rest| rest.strip_suffix(".json"));
            let Some(service) = service.filter(|service| manifest::is_plain(service)) else { continue };
            let read: Option<Failed> = self.note(&self.failed_key(service)).with_context(doing)?;
            // One that does not read still says that something failed, and not when.
            let failed = read.filter(|failed| failed.service == service);
            failures.push(failed.unwrap_or_else(|| Failed { service: service.to_owned(), ..Failed::default() }));
        }
        Ok(failures)
    }

    /// Writes a small object, reads it back, lists it and takes it away: whether everything may be done that a backup
    /// needs. Answers what time it is by the store's own clock.
    pub fn probe(&self) -> anyhow::Result<Timestamp> {
        let content = super::random_hex::<16>()?;
        let key = format!("{}/probe-{content}", self.root);
        let doing = |what: &str| format!("could not {what} `{}`", self.store.place(&key));
        self.store.put(&key, content.as_bytes()).with_context(|| doing("write"))?;
        let tried = || -> anyhow::Result<Timestamp> {
            let read = self.store.get(&key, MAX_NOTE).with_context(|| doing("read"))?;
            if read != content.as_bytes() {
                bail!("{}: it is not what was written", doing("read"));
            }
            let listed = self.store.list(&self.root).with_context(|| doing("list"))?;
            let own = listed.iter().find(|object| object.key == key);
            own.map(|object| object.modified).with_context(|| format!("{}: it is not there", doing("list")))
        };
        let answer = tried();
        let removed = self.store.delete(&key).with_context(|| doing("remove"));
        let answer = answer?;
        removed?;
        Ok(answer)
    }

    /// What dead writers left. `now` is the store's own time; without it only what a lock tells is named.
    pub fn leftovers(&self, now: Option<Timestamp>) -> anyhow::Result<Vec<Leftover>> {
        let doing = || format!("could not look for leftovers in `{}`", self.place());
        let objects = self.objects().with_context(doing)?;
        let abandoned = |at: Timestamp| now.is_some_and(|now| now.duration_since(at) > ABANDONED);
        let mut leftovers = Vec::new();
        for (name, sizes) in folders(&objects) {
            let within = || {
                objects.iter().filter(|object| object.key.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
            };
            let newest = within().map(|object| object.modified).max();
            let old = newest.is_some_and(abandoned);
            let folder = Leftover { name: name.to_owned(), bytes: sizes.values().sum(), is_folder: true };
            // A name that no writer of ours gives belongs to somebody else.
            if name.strip_prefix('.').is_some_and(manifest::is_id) {
                leftovers.extend(Some(folder).filter(|_| old));
            } else if manifest::is_id(name) && !sizes.contains_key(MANIFEST) {
                let dead = self.store.is_held(&self.folder(name)).with_context(doing)?.map_or(old, |held| !held);
                // It may have been finished since it was listed, and its lock given up for that reason.
                let key = format!("{}/{MANIFEST}", self.folder(name));
                let listed = dead
                    && !matches!(self.store.get(&key, MAX_MANIFEST), Err(error) if error.kind() == ErrorKind::NotFound);
                leftovers.extend(Some(folder).filter(|_| dead && !listed));
            } else {
                let halves = within().filter(|object| is_half(&object.key) && abandoned(object.modified));
                leftovers.extend(halves.map(|object| Leftover {
                    name: object.key.clone(),
                    bytes: object.bytes,
                    is_folder: false,
                }));
            }
        }
        let loose = objects.iter().filter(|object| !object.key.contains('/') && abandoned(object.modified));
        leftovers.extend(
            loose.filter(|object| is_half(&object.key) || object.key.starts_with("probe-")).map(|object| Leftover {
                name: object.key.clone(),
                bytes: object.bytes,
                is_folder: false,
            }),
        );
        Ok(leftovers)
    }

    pub fn give_back(&self, leftover: &Leftover) -> anyhow::Result<()> {
        let key = self.folder(&leftover.name);
        let gone = if leftover.is_folder { self.store.delete_below(&key) } else { self.store.delete(&key) };
        gone.with_context(|| format!("could not give back `{}`", self.store.place(&key)))
    }
}

/// A file that was being written when its writer died.
fn is_half(key: &str) -> bool {
    key.rsplit('/').next().is_some_and(|name| name.starts_with(".tmp"))
}

fn format_of(text: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    value.get("format")?.as_u64()?.try_into().ok()
}

fn below(objects: &[Object], root: &str) -> Vec<Object> {
    let own = |object: &Object| {
        let key = object.key.strip_prefix(root)?.strip_prefix('/')?.to_owned();
        Some(Object { key, ..object.clone() })
    };
    objects.iter().filter_map(own).collect()
}

/// Names and sizes of the objects of each folder.
fn folders(objects: &[Object]) -> BTreeMap<&str, BTreeMap<&str, u64>> {
    let mut folders: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for object in objects {
        if let Some((folder, name)) = object.key.split_once('/') {
            folders.entry(folder).or_default().insert(name, object.bytes);
        }
    }
    folders
}

/// Writes what a reader yields into a new file of its owner alone; it is there when it is whole, and replaces nothing.
pub fn export(reader: &mut PartReader, path: &Path) -> anyhow::Result<()> {
    export_with(path, |file| io::copy(reader, file).map(|_| ()))
}

/// The same for what is made while it is written.
pub fn export_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> anyhow::Result<()> {
    let doing = || format!("could not write `{}`", path.display());
    match super::files::stream_whole(path, false, write).with_context(doing)? {
        true => Ok(()),
        false => bail!("could not write `{}`: it is there already", path.display()),
    }
}

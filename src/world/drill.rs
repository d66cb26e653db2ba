//! Restores a snapshot into a throw-away server, reads everything back, and compares.
//!
//! The snapshot is read once: while its bytes go into the server's volume, they are opened and digested here. What the
//! server gives back afterwards has to have the same digest.

use crate::backup::{Manifest, Proof, ProofKind, SNAPSHOT};
use crate::desired::OPERATOR;
use crate::digest::{self, Hasher, Key, Keyspace, ReadError};
use crate::engine::{Engine, EngineError};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::mask::{canary, report};
use crate::rdb::{RdbError, Summary};
use crate::redis::pull;
use crate::store;
use crate::store::repository::Repository;
use crate::value::{Name, ServerVersion};
use crate::world::restore::Refreshed;
use crate::world::throwaway::{self, Place, Throwaway, Wanted};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SILENCE: Duration = Duration::from_secs(120);
const PIECE: usize = 1024 * 1024;

/// What a drill has shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drilled {
    /// From the first request until the server had everything loaded: how long getting the data back takes.
    pub recovery_ms: u64,
    /// The whole drill, with reading back and clearing away.
    pub elapsed_ms: u64,
    pub server: String,
    pub keys: u64,
    pub functions: u64,
    pub bytes: u64,
}

/// Loads what `snapshot` reads into a throw-away server of this kind, and proves that it holds the same.
///
/// # Errors
/// [`Kind::Differences`] where the server gives back something else; anything else kept the drill from its end.
pub async fn drill(
    engine: &Engine,
    wanted: &Wanted,
    snapshot: impl Read + Send + 'static,
    number: u32,
    listener: &impl Listener,
) -> Result<Drilled, Failure> {
    let failed = |error: EngineError| {
        Failure::message(Kind::Error, format!("could not clear away what drills of {} left: {error}", wanted.service))
    };
    throwaway::sweep(engine, &wanted.stack, throwaway::LEFT_BEHIND).await.map_err(failed)?;
    let began = Instant::now();
    let proven = load(engine, Place::drill(wanted)?, wanted, snapshot, None, number, listener).await?;
    proven.throwaway.discard().await?;
    Ok(Drilled {
        recovery_ms: proven.loaded_ms,
        elapsed_ms: millis(began),
        server: proven.server,
        keys: proven.keys,
        functions: proven.summary.functions,
        bytes: proven.summary.bytes,
    })
}

/// A throw-away server that holds what was read, and has given it back equal.
pub(super) struct Proven<'e> {
    pub throwaway: Throwaway<'e>,
    pub summary: Summary,
    pub keys: u64,
    /// `redis 7.0.15`
    pub server: String,
    /// From the first request until everything was loaded.
    pub loaded_ms: u64,
}

/// Loads what `snapshot` reads, reads it back and compares; of a refresh it looks for what may not be there as well. After an
/// error nothing of it is left.
///
/// # Errors
/// [`Kind::Differences`] where the snapshot is damaged or something else comes back.
pub(super) async fn load<'e>(
    engine: &'e Engine,
    place: Place,
    wanted: &Wanted,
    snapshot: impl Read + Send + 'static,
    refreshed: Option<Arc<Refreshed>>,
    number: u32,
    listener: &impl Listener,
) -> Result<Proven<'e>, Failure> {
    let service = &wanted.service;
    let failed = |error: String| Failure::message(Kind::Error, format!("could not load {service}: {error}"));
    let began = Instant::now();
    let key = match &refreshed {
        Some(refreshed) => refreshed.key.clone(),
        None => Key::new(store::random().map_err(|error| failed(error.to_string()))?),
    };
    let hasher = Hasher::new(&key, None);
    let (bytes, reading) = streamed(snapshot, hasher.clone());
    let loaded = Throwaway::load(engine, place, wanted, bytes).await;
    let read = reading.await.map_err(|error| failed(error.to_string()))?;
    let (throwaway, (summary, expected)) = match (loaded, read) {
        (Ok(throwaway), Ok(read)) => (throwaway, read),
        // A snapshot that does not read is why nothing could be loaded.
        (loaded, Err(ReadError::Rdb(error))) => {
            discard(loaded).await;
            return Err(unread(service, error));
        }
        (Err(why), _) => return Err(why),
        (loaded, Err(ReadError::Tap(error))) => {
            discard(loaded).await;
            return Err(failed(error.to_string()));
        }
    };
    let loaded_ms = millis(began);
    listener.hear(Event::Bytes { number, done: summary.bytes });
    match compare(&throwaway, &summary, &expected, hasher, refreshed).await {
        Ok(server) => Ok(Proven { throwaway, summary, keys: expected.keys, server, loaded_ms }),
        Err(failure) => {
            discard(Ok(throwaway)).await;
            Err(failure)
        }
    }
}

/// Why a snapshot was not read to its end: its bytes are wrong, or they could not be had.
fn unread(service: &Name, error: RdbError) -> Failure {
    let damaged = error.is_damage();
    let error = anyhow::Error::new(error);
    match damaged {
        true => Failure::message(Kind::Differences, format!("the snapshot of {service} is damaged: {error:#}")),
        false => Failure::new(Kind::Error, error.context(format!("could not read the snapshot of {service}"))),
    }
}

async fn discard(loaded: Result<Throwaway<'_>, Failure>) {
    if let Ok(throwaway) = loaded {
        // Best effort: what stays is cleared away by a later drill or restore.
        let _ = throwaway.discard().await;
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

type Reading = tokio::task::JoinHandle<Result<(Summary, Keyspace), ReadError>>;

/// The bytes of the snapshot as a stream, and what reading them tells in the end.
fn streamed(
    snapshot: impl Read + Send + 'static,
    hasher: Hasher,
) -> (impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static, Reading) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reading = tokio::task::spawn_blocking(move || {
        let sent = sender.clone();
        let read = digest::read(snapshot, &hasher, move |piece| {
            // In pieces: a large value comes at once, and would wait here several times over.
            piece.chunks(PIECE).try_for_each(|piece| {
                let gone = |_| io::Error::other("the engine takes no more");
                sent.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone)
            })
        });
        if read.is_err() {
            // Ends the upload: what has arrived must not look like a whole file.
            let _ = sender.blocking_send(Err(io::Error::other("the snapshot does not read")));
        }
        read.map(|told| (told.summary, told.keyspace))
    });
    let bytes =
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|piece| (piece, receiver)) });
    (bytes, reading)
}

/// Compares what the server says and what it gives back with what was read; names the server.
async fn compare(
    throwaway: &Throwaway<'_>,
    summary: &Summary,
    expected: &Keyspace,
    hasher: Hasher,
    refreshed: Option<Arc<Refreshed>>,
) -> Result<String, Failure> {
    let refused = |error: crate::redis::ServerError| Failure::message(Kind::Error, error.to_string());
    let server = throwaway.server().await?;
    let info = server.info().await.map_err(refused)?;
    let counted = crate::redis::observe::keys(&info);
    let expected_counts: BTreeMap<u64, u64> =
        summary.databases.iter().filter(|(_, of)| of.keys > 0).map(|(number, of)| (*number, of.keys)).collect();
    if counted != expected_counts {
        let message =
            format!("the server loaded {}, and the snapshot holds {}", told(&counted), told(&expected_counts));
        return Err(Failure::message(Kind::Differences, message));
    }
    // Without a primary it would not give a snapshot; as a primary it would drop keys whose time has passed.
    server.run(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]).await.map_err(refused)?;
    server.run(&["REPLICAOF", "NO", "ONE"]).await.map_err(refused)?;
    let source = pull::Source::new(throwaway.address, OPERATOR, &throwaway.password, SILENCE);
    let looking = refreshed.clone();
    let pulled = tokio::task::spawn_blocking(move || match looking {
        None => pull::pull(&source, &hasher, &mut io::sink(), &mut |_, _| ()).map(|pulled| (pulled, Ok(()))),
        Some(refreshed) => look(&source, &hasher, &refreshed),
    });
    let pulled = pulled.await.map_err(|error| Failure::new(Kind::Error, error))?;
    let (pulled, looked) =
        pulled.map_err(|error| Failure::message(Kind::Error, format!("could not read it back: {error}")))?;
    looked?;
    // What was loaded is what was surveyed: the source has not changed in between.
    if let Some(refreshed) = refreshed.filter(|refreshed| refreshed.surveyed.keyspace != *expected) {
        let difference = refreshed.surveyed.keyspace.difference(expected, true).unwrap_or_default();
        let message = format!("the second reading of the source gave something else than the first: {difference}");
        return Err(Failure::message(Kind::Differences, message));
    }
    // What streams count a server makes up where the snapshot does not say it. Streams of a server before 7.0 lack it, and
    // still do when they were written anew, whatever version the file has.
    if let Some(difference) = pulled.keyspace.difference(expected, expected.counts()) {
        let message = format!("the server gives back something else than it was given: {difference}");
        return Err(Failure::message(Kind::Differences, message));
    }
    Ok(crate::redis::observe::version(&info))
}

/// Pulls everything, and looks at every text of it for what may not be there.
fn look(
    source: &pull::Source,
    hasher: &Hasher,
    refreshed: &Refreshed,
) -> Result<(pull::Pulled, Result<(), Failure>), pull::PullError> {
    let Refreshed { rules, canaries, surveyed, .. } = refreshed;
    let (reader, writer) = io::pipe().map_err(pull::PullError::Write)?;
    thread::scope(|scope| {
        let scanning = scope.spawn(|| canary::scan(rules, canaries, io::BufReader::with_capacity(PIECE, reader)));
        let mut writer = io::BufWriter::with_capacity(PIECE, writer);
        let pulled = pull::pull(source, hasher, &mut writer, &mut |_, _| ());
        drop(writer);
        let scanned = match scanning.join() {
            Ok(scanned) => scanned,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let looked = match scanned {
            Err(error) => Err(Failure::new(Kind::Error, error)),
            Ok(scanned) => match report::leaks(rules, surveyed, &scanned).as_slice() {
                [] => Ok(()),
                [first, others @ ..] => {
                    let more = if others.is_empty() { String::new() } else { format!("; {} more", others.len()) };
                    let message = format!("what was loaded is not fit for use: {}{more}", first.message);
                    let help = first.help.clone().unwrap_or_default();
                    Err(Failure::message(Kind::Refused, message)
                        .help(help)
                        .so_far("it was removed; nothing was changed"))
                }
            },
        };
        // Whoever scans stops at what does not read, and then nobody takes what is pulled.
        match (pulled, looked) {
            (Ok(pulled), looked) => Ok((pulled, looked)),
            (Err(error), _) => Err(error),
        }
    })
}

fn told(counts: &BTreeMap<u64, u64>) -> String {
    match counts.len() {
        0 => "no keys".to_owned(),
        _ => counts.iter().map(|(number, keys)| format!("{keys} keys in db {number}")).collect::<Vec<_>>().join(", "),
    }
}

/// What a stored backup is drilled with.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    pub repository: &'a Repository,
    pub stack: &'a Name,
    pub manifest: &'a Manifest,
    pub manifest_sha256: &'a str,
    /// Whom its files belong to in the container.
    pub user: (u32, u32),
}

/// Restores a stored backup into a throw-away server of the image that it names, and writes down what came of it. An imported
/// one was written by some other server.
///
/// # Errors
/// As [`drill`]; that it failed is written down too, where it was the backup that failed.
pub async fn stored(
    engine: &Engine,
    stored: Stored<'_>,
    number: u32,
    listener: &impl Listener,
) -> Result<Drilled, Failure> {
    let (manifest, repository) = (stored.manifest, stored.repository.clone());
    let failed =
        |error: anyhow::Error| Failure::new(Kind::Error, error.context(format!("could not drill `{}`", manifest.id)));
    let refused = |why: &str, help: &str| {
        Err(Failure::message(Kind::Refused, format!("`{}` cannot be drilled: {why}", manifest.id)).help(help))
    };
    let Some(part) = manifest.part(SNAPSHOT) else {
        return refused("it is the copy of a volume, not a snapshot", "`lockstep backup verify` reads it");
    };
    let found = engine.image(&manifest.image).await.map_err(|error| failed(error.into()))?;
    let Some(found) = found else {
        let why = format!("the engine does not have the image that wrote it, {}", manifest.image);
        return refused(&why, "build or load that image, then run this again");
    };
    let server = throwaway::server_in(&found).or_else(|| ServerVersion::parse(&manifest.server));
    let (Some(server), Some(service)) = (server, Name::parse(&manifest.service)) else {
        let why = "neither its image nor its manifest says which server it is for";
        return refused(why, "`lockstep backup verify` reads it");
    };
    let (image, size) = (&manifest.image, part.plain_bytes);
    let wanted = Wanted::of(manifest, stored.stack, &service, image, server, stored.user, size);
    let opened = {
        let (repository, manifest) = (repository.clone(), manifest.clone());
        tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let identities = repository.identities()?;
            Ok(repository.read(&manifest, SNAPSHOT, &identities)?)
        })
        .await
    };
    let reader = opened.map_err(|error| failed(error.into()))?.map_err(failed)?;
    let result = drill(engine, &wanted, reader, number, listener).await;
    let mut proof = Proof::of(ProofKind::Drilled, store::now().to_string(), stored.manifest_sha256);
    match &result {
        Ok(drilled) => {
            proof.recovery_ms = Some(drilled.recovery_ms);
            proof.counts = Some(manifest.counts.clone());
            proof.details = serde_json::to_value(drilled).ok();
        }
        Err(failure) if failure.kind == Kind::Differences => {
            proof.kind = ProofKind::Failed;
            proof.problem = Some(failure.to_string());
        }
        // It says nothing about the backup.
        Err(_) => return result,
    }
    let id = manifest.id.clone();
    let proven = tokio::task::spawn_blocking(move || repository.prove(&id, &proof)).await;
    proven.map_err(|error| failed(error.into()))?.map_err(failed)?;
    result
}

/// Drills a backup that was just listed.
///
/// # Errors
/// As [`stored`].
pub async fn listed(
    engine: &Engine,
    repository: &Repository,
    stack: &Name,
    id: &str,
    user: (u32, u32),
    number: u32,
    listener: &impl Listener,
) -> Result<Drilled, Failure> {
    let (of, wanted) = (repository.clone(), id.to_owned());
    let found = tokio::task::spawn_blocking(move || of.get(&wanted)).await;
    let found = found.map_err(|error| Failure::new(Kind::Error, error))??;
    let gone = || Failure::message(Kind::Error, format!("the backup `{id}` is not there any more"));
    let backup = found.ok_or_else(gone)?;
    let manifest = backup.manifest.as_ref().ok_or_else(gone)?;
    let manifest_sha256 = &backup.manifest_sha256;
    stored(engine, Stored { repository, stack, manifest, manifest_sha256, user }, number, listener).await
}

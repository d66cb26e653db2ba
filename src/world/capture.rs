//! Taking a backup: of a server that runs, over its replication stream; of one that does not, by copying its volume.
//!
//! With the snapshot goes what no snapshot holds: users, settings, modules, and where in which history it lies. Before the
//! server is asked to fork, it is looked at whether it can afford that.

use crate::backup::preflight::{self, Preflight};
use crate::backup::{self, Capture, Costs, Counts, Failed, Manifest, Part, ServerState, State};
use crate::desired::OPERATOR;
use crate::digest;
use crate::engine::Names;
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::redis::{self, pull};
use crate::state::Observed;
use crate::store;
use crate::store::repository::{Draft, Repository};
use crate::value::{Digest, Secret, ServerVersion};
use ::bytes::Bytes;
use std::io::{self, Read, Write as _};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A server that sends nothing for this long while a snapshot is awaited has hung.
pub(super) const SNAPSHOT_SILENCE: Duration = Duration::from_secs(60);

/// The version that a running server reported.
fn version_of(observed: &Observed, service: &str) -> String {
    let server = observed.state.container(service).and_then(|container| container.server.as_ref());
    server.and_then(|server| server.version()).unwrap_or_default().to_owned()
}

/// What is needed to take one backup.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    pub address: SocketAddr,
    pub password: Secret,
    pub container: String,
    pub image: String,
    /// `redis 7.0.15`
    pub server: String,
    /// Keys that the server had a moment before: a snapshot of none of them is no backup.
    pub expected_keys: u64,
    pub repository: Repository,
    pub reason: String,
    /// Asked for by a change that begins only when this is proven.
    pub change: bool,
    pub revision: Digest,
    /// What its container may use, in bytes; 0 for no limit.
    pub memory_limit: u64,
}

impl BackupRequest {
    /// Of a server as it was seen a moment ago.
    pub fn of(
        observed: &Observed,
        service: &str,
        (address, password): (SocketAddr, Secret),
        repository: Repository,
        (reason, change): (&str, bool),
        revision: Digest,
    ) -> BackupRequest {
        let container = observed.state.container(service);
        BackupRequest {
            address,
            password,
            container: service.to_owned(),
            image: container.map_or_else(String::new, |container| container.image.clone()),
            server: version_of(observed, service),
            expected_keys: observed.vitals.get(service).map_or(0, |vitals| vitals.keys),
            repository,
            reason: reason.to_owned(),
            change,
            revision,
            memory_limit: container.map_or(0, |container| container.memory_bytes),
        }
    }
}

/// Pulls a snapshot, proves it while it comes, and lists it last. Nothing is left when it fails.
pub async fn take_backup(
    names: &Names,
    request: BackupRequest,
    number: u32,
    listener: &impl Listener,
) -> Result<Manifest, Failure> {
    let capture = Capture {
        change: request.change,
        ..capture(
            names,
            &request.container,
            &request.reason,
            request.image.clone(),
            request.server.clone(),
            &request.revision,
        )?
    };
    let server = Checked::connect(&request.container, (request.address, &request.password), request.memory_limit).await;
    let (sender, mut progress) = tokio::sync::mpsc::unbounded_channel::<u64>();
    let runtime = tokio::runtime::Handle::current();
    let pulled = tokio::task::spawn_blocking(move || {
        let written = server.and_then(|server| {
            let written = write_backup(&request, capture, &server, &runtime, &sender);
            let calmed = runtime.block_on(server.leave());
            written.and_then(|manifest| calmed.map(|()| manifest))
        });
        noted(&request.repository, &request.container, written)
    });
    while let Some(done) = progress.recv().await {
        listener.hear(Event::Bytes { number, done });
    }
    pulled.await.unwrap_or_else(|error| Err(Failure::new(Kind::Backup, error)))
}

/// A server that can afford a snapshot, and what it says of itself ahead of it.
struct Checked {
    server: redis::Server,
    container: String,
    reached: (SocketAddr, Secret),
    state: ServerState,
    missing: Vec<String>,
    /// Whether it was told to send snapshots straight from memory, for as long as this takes.
    diskless: bool,
}

impl Checked {
    async fn connect(
        name: &str,
        (address, password): (SocketAddr, &Secret),
        memory_limit: u64,
    ) -> Result<Checked, Failure> {
        let failed =
            |error: redis::ServerError| Failure::message(Kind::Backup, format!("could not back up {name}: {error}"));
        let server = redis::connect(address, OPERATOR, password).await.map_err(failed)?;
        let (state, missing) = server.state().await.map_err(failed)?;
        let Preflight { refusal, leaves_a_file } = preflight::preflight(&state.info, &state.config, memory_limit);
        if let Some((why, help)) = refusal {
            let message = format!("{name} cannot be backed up now: {why}");
            return Err(Failure::message(Kind::Backup, message).help(help));
        }
        if leaves_a_file {
            server.set(DISKLESS, "yes").await.map_err(failed)?;
        }
        let (container, reached) = (name.to_owned(), (address, password.clone()));
        Ok(Checked { server, container, reached, state, missing, diskless: leaves_a_file })
    }

    /// What the snapshot cost the server, as far as it says.
    async fn costs(&self, pulled: &pull::Pulled) -> Costs {
        let after = self.server.info().await.unwrap_or_default();
        let millis = |span: Duration| u64::try_from(span.as_millis()).ok();
        let number = |name: &str| after.get(name).and_then(|text| text.parse().ok());
        Costs {
            fork_usec: number("latest_fork_usec"),
            cow_bytes: number("rdb_last_cow_size"),
            wait_ms: millis(pulled.wait),
            elapsed_ms: millis(pulled.elapsed),
            used_memory: number("used_memory"),
            rss: number("used_memory_rss"),
        }
    }

    /// Leaves the server as it was found.
    async fn leave(&self) -> Result<(), Failure> {
        if !self.diskless {
            return Ok(());
        }
        // A silent connection may be gone by now.
        let again = redis::connect(self.reached.0, OPERATOR, &self.reached.1).await;
        again.as_ref().unwrap_or(&self.server).set(DISKLESS, "no").await.map(drop).map_err(|error| {
            let message = format!("could not set `{DISKLESS}` of {} back to `no`: {error}", self.container);
            Failure::message(Kind::Backup, message).help("`lockstep apply` sets it as the spec means it")
        })
    }
}

const DISKLESS: &str = "repl-diskless-sync";

/// Shows a snapshot of a running server to `look` while it comes; nothing of it is kept. Whoever has seen enough says so
/// and looks no further, which breaks it off; otherwise all of it has to be whole.
pub(super) async fn glance<T: Send + 'static>(
    name: &str,
    (address, password): (SocketAddr, &Secret),
    memory_limit: u64,
    look: impl FnOnce(&mut dyn Read) -> Result<(T, bool), String> + Send + 'static,
) -> Result<T, Failure> {
    let server = Checked::connect(name, (address, password), memory_limit).await?;
    let random = store::random().map_err(|error| Failure::new(Kind::Error, error))?;
    let source = pull::Source::new(address, OPERATOR, password, SNAPSHOT_SILENCE);
    let looked = tokio::task::spawn_blocking(move || {
        let (sender, pieces) = mpsc::sync_channel::<io::Result<Bytes>>(8);
        std::thread::scope(|scope| {
            let looking = scope.spawn(move || look(&mut Archive { pieces, piece: Bytes::new() }));
            let hasher = digest::Hasher::new(&digest::Key::new(random), None);
            let pulled = pull::pull(&source, &hasher, &mut Pipe(sender), &mut |_, _| {});
            match (looking.join(), pulled) {
                (Ok(Ok((seen, _))), Ok(_)) | (Ok(Ok((seen, true))), Err(_)) => Ok(seen),
                // Whoever looks away breaks the pipe, and knows why.
                (Ok(Err(why)), _) => Err(why),
                (_, Err(error)) => Err(error.to_string()),
                (Err(_), _) => Err("it could not be read".to_owned()),
            }
        })
    })
    .await
    .unwrap_or_else(|error| Err(error.to_string()));
    server.leave().await?;
    looked.map_err(|why| Failure::message(Kind::Error, format!("could not look through a snapshot of {name}: {why}")))
}

/// Asks for a snapshot where the server can afford one, and leaves it as it was found; says which server it is.
pub(super) async fn afforded<T: Send + 'static>(
    name: &str,
    (address, password): (SocketAddr, &Secret),
    memory_limit: u64,
    pull: impl FnOnce() -> Result<T, pull::PullError> + Send + 'static,
) -> Result<(T, Option<ServerVersion>), Failure> {
    let server = Checked::connect(name, (address, password), memory_limit).await?;
    let version = server.server.version().await.ok();
    let pulled = tokio::task::spawn_blocking(pull).await;
    server.leave().await?;
    let failed = |why: String| Failure::message(Kind::Error, format!("could not read what {name} holds: {why}"));
    let pulled = pulled.map_err(|error| failed(error.to_string()))?;
    Ok((pulled.map_err(|error| failed(error.to_string()))?, version))
}

/// What is written into it, somebody else reads.
struct Pipe(mpsc::SyncSender<io::Result<Bytes>>);

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn capture(
    names: &Names,
    service: &str,
    reason: &str,
    image: String,
    server: String,
    revision: &Digest,
) -> Result<Capture, Failure> {
    let at = store::now();
    let suffix = store::random_hex::<3>().map_err(|error| Failure::new(Kind::Backup, error))?;
    Ok(Capture {
        id: format!("{service}-{}-{suffix}", at.strftime("%Y%m%dT%H%M%SZ")),
        stack: names.stack.clone(),
        environment: names.environment.clone(),
        service: service.to_owned(),
        taken_at: at.to_string(),
        reason: reason.to_owned(),
        change: false,
        image,
        server,
        revision: revision.clone(),
    })
}

/// A snapshot up to this size is read back and walked again as a matter of course; beyond it only before a change.
const READ_AGAIN: u64 = 256 << 20;

fn write_backup(
    request: &BackupRequest,
    mut capture: Capture,
    server: &Checked,
    runtime: &tokio::runtime::Handle,
    progress: &tokio::sync::mpsc::UnboundedSender<u64>,
) -> Result<Manifest, Failure> {
    let disk = |error: anyhow::Error| Failure::new(Kind::Backup, error);
    let mut draft = request.repository.draft(&capture.id, &capture.service).map_err(disk)?;
    let mut file = draft.part(backup::SNAPSHOT).map_err(disk)?;
    let source = pull::Source::new(request.address, OPERATOR, &request.password, SNAPSHOT_SILENCE);
    let mut last = Instant::now();
    let key = digest::Key::new(store::random().map_err(|error| Failure::new(Kind::Backup, error))?);
    let pulled = pull::pull(&source, &digest::Hasher::new(&key, None), &mut file, &mut |done, _total| {
        if last.elapsed() > Duration::from_millis(100) {
            last = Instant::now();
            // Nobody listening is no reason to stop.
            let _ = progress.send(done);
        }
    })
    .map_err(|error| Failure::message(Kind::Backup, format!("could not back up {}: {error}", request.container)))?;
    let refuse = |why: String| {
        Err(Failure::message(Kind::Backup, format!("the backup of {} is refused: {why}", request.container)))
    };
    if pulled.summary.keys() == 0 && request.expected_keys > 0 {
        return refuse(format!("it holds no keys, and the server had {} a moment before", request.expected_keys));
    }
    let part = file.finish().map_err(|error| disk(error.into()))?;
    capture.taken_at = store::now().to_string();
    let mut manifest = Manifest::of(&capture, &pulled.summary);
    if manifest.state == State::Unverified {
        return refuse("the server wrote no checksum; set `rdbchecksum: yes`".to_owned());
    }
    if request.change || part.plain_bytes <= READ_AGAIN {
        manifest.state = read_again(&request.repository, &draft, &part, &manifest.counts).map_err(disk)?;
    }
    manifest.replication_id.clone_from(&pulled.replication_id);
    manifest.replication_offset = pulled.replication_offset;
    manifest.elapsed_ms = u64::try_from(pulled.elapsed.as_millis()).unwrap_or(u64::MAX);
    manifest.encrypted_to = draft.encrypted_to();
    manifest.capture = Some(runtime.block_on(server.costs(&pulled)));
    manifest.missing.clone_from(&server.missing);
    manifest.parts = vec![part, write_state(&mut draft, &server.state).map_err(disk)?];
    draft.keep(&manifest).map_err(disk)?;
    Ok(manifest)
}

/// Keeps a snapshot that came as a file. It has no state of its server beside it, and the image is the one that would load it.
///
/// # Errors
/// [`Kind::Differences`] where it is damaged; [`Kind::Backup`] where it could not be kept. Nothing is left then.
pub fn import(
    repository: &Repository,
    environment: &Environment,
    (service, image): (&str, &str),
    reason: &str,
    source: impl Read + Send,
) -> Result<Manifest, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Kind::Backup, error.context("could not keep it as a backup"));
    let names = Names::lasting(environment.stack.clone(), environment.name.clone());
    let began = Instant::now();
    let capture = capture(&names, service, reason, image.to_owned(), String::new(), &Digest::of(b""))?;
    let mut draft = repository.draft(&capture.id, service).map_err(failed)?;
    let mut file = draft.part(backup::SNAPSHOT).map_err(failed)?;
    let key = digest::Key::new(store::random().map_err(|error| Failure::new(Kind::Backup, error))?);
    let read = digest::read(source, &digest::Hasher::new(&key, None), |piece| file.write_all(piece));
    let summary = match read {
        Ok(told) => told.summary,
        Err(digest::ReadError::Tap(error)) => return Err(failed(error.into())),
        Err(digest::ReadError::Rdb(error)) => {
            let kind = if error.is_damage() { Kind::Differences } else { Kind::Error };
            return Err(Failure::new(
                kind,
                anyhow::Error::new(error).context("it is not a whole RDB; nothing was kept"),
            ));
        }
    };
    let part = file.finish().map_err(|error| failed(error.into()))?;
    let mut manifest = Manifest::of(&capture, &summary);
    manifest.revision = String::new();
    manifest.imported = true;
    if manifest.state == State::Captured {
        manifest.state = read_again(repository, &draft, &part, &manifest.counts).map_err(failed)?;
    }
    manifest.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    manifest.encrypted_to = draft.encrypted_to();
    manifest.parts = vec![part];
    draft.keep(&manifest).map_err(failed)?;
    Ok(manifest)
}

fn write_state(draft: &mut Draft, state: &ServerState) -> anyhow::Result<Part> {
    let mut file = draft.part(backup::STATE)?;
    file.write_all(&serde_json::to_vec_pretty(state)?)?;
    Ok(file.finish()?)
}

/// Reads what was stored as a restore would, where this machine has what opens it.
fn read_again(repository: &Repository, draft: &Draft, part: &Part, counts: &Counts) -> anyhow::Result<State> {
    let identities = repository.identities()?;
    if identities.is_empty() && !draft.encrypted_to().is_empty() {
        return Ok(State::Captured);
    }
    let mut reader = match draft.read(part, &identities) {
        // The identities of this machine are for other backups.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(State::Captured),
        reader => reader?,
    };
    let walked = crate::rdb::walk(&mut reader)?;
    reader.finish()?;
    if Counts::from(&walked) != *counts {
        anyhow::bail!("what was stored reads back as another snapshot");
    }
    Ok(State::Verified)
}

/// An archive as it comes from the engine, for whoever reads at their own pace.
pub(super) struct Archive {
    pub pieces: mpsc::Receiver<io::Result<Bytes>>,
    pub piece: Bytes,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.piece = piece?,
                Err(_ended) => return Ok(0),
            }
        }
        let taken = self.piece.split_to(self.piece.len().min(buffer.len()));
        for (to, from) in buffer.iter_mut().zip(&taken) {
            *to = *from;
        }
        Ok(taken.len())
    }
}

/// Passes on what it reads, and keeps a copy.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: io::Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

/// Stores the copy of a volume, looking through it on the way; nothing where it holds no data.
pub(super) fn write_copy(
    repository: &Repository,
    capture: &Capture,
    archive: Archive,
    want: Option<&crate::state::Server>,
    began: Instant,
) -> Result<Option<Manifest>, Failure> {
    let service = &capture.service;
    let failed =
        |error: anyhow::Error| Failure::new(Kind::Backup, error.context(format!("could not back up {service}")));
    let mut draft = repository.draft(&capture.id, service).map_err(failed)?;
    let mut file = draft.part(backup::COPY).map_err(failed)?;
    let copied = backup::copied(Tee { from: archive, to: &mut file }).map_err(failed)?;
    if copied.is_empty() {
        return Ok(None);
    }
    if let Some(Err((why, help))) = want.map(|server| backup::loadable(server, &copied)) {
        return Err(Failure::message(Kind::Backup, format!("{service} cannot start on its volume: {why}")).help(help));
    }
    let part = file.finish().map_err(|error| failed(error.into()))?;
    let manifest = Manifest {
        state: State::Copied,
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        encrypted_to: draft.encrypted_to(),
        parts: vec![part],
        ..Manifest::of(capture, &copied.newest())
    };
    draft.keep(&manifest).map_err(failed)?;
    Ok(Some(manifest))
}

/// Leaves a note beside the backups when one failed: retention does not run until one succeeds.
pub(super) fn noted<T>(repository: &Repository, service: &str, outcome: Result<T, Failure>) -> Result<T, Failure> {
    if let Err(failure) = &outcome {
        let failed = Failed {
            service: service.to_owned(),
            at: store::now().to_string(),
            problem: failure.to_string(),
            tool: backup::manifest::tool(),
        };
        // Where backups cannot be written, neither can this.
        let _ = repository.mark_failed(&failed);
    }
    outcome
}

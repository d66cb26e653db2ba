//! A cold restore: a snapshot into a new data volume of an environment, which no server of it uses yet.
//!
//! A throw-away server loads it there, so that everything that could go wrong does so beside what runs: it has to load,
//! its data has to be read back equal, and what the real server will find at its start is written by a server of the
//! same image: an append-only file where one is wanted, and a snapshot that carries no other server's history.

use crate::backup::Manifest;
use crate::desired::Desired;
use crate::digest;
use crate::engine::Engine;
use crate::engine::Names;
use crate::event::Listener;
use crate::failure::{Failure, Kind};
use crate::mask::canary::Canaries;
use crate::mask::survey::Surveyed;
use crate::mask::{Rules, pass};
use crate::rdb::{Family, Form, Frames, Record, Room, Target, Writer};
use crate::redis::Server;
use crate::restore::{Choice, Ttl, Way};
use crate::state::Value;
use crate::store::repository::{Identities, Repository};
use crate::value::{Name, ServerVersion};
use crate::world::drill;
use crate::world::throwaway::{self, Place, Throwaway, Wanted};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long writing out what was loaded may take.
const WRITES_WITHIN: Duration = Duration::from_secs(1800);

/// What a snapshot is made from.
#[derive(Clone)]
pub struct Origin {
    pub repository: Repository,
    pub identities: Arc<Identities>,
    pub manifest: Arc<Manifest>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Origin").field(&self.manifest.id).finish()
    }
}

impl Origin {
    /// A backup of this id; `None` where it is not there any more.
    pub async fn of(repository: &Repository, id: &str) -> anyhow::Result<Option<Origin>> {
        let (repository, id) = (repository.clone(), id.to_owned());
        let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<Option<Origin>> {
            let identities = Arc::new(repository.identities()?);
            let manifest = repository.get(&id)?.and_then(|listed| listed.manifest);
            Ok(manifest.map(|manifest| Origin { repository, identities, manifest: Arc::new(manifest) }))
        });
        opened.await?
    }

    /// Whether it is not encrypted, or some key is here that may open it.
    pub fn can_be_opened(&self) -> bool {
        self.manifest.encrypted_to.is_empty() || !self.identities.is_empty()
    }

    /// The snapshot as it was taken.
    pub fn open(&self) -> io::Result<impl Read + Send + use<>> {
        self.repository.read(&self.manifest, crate::backup::SNAPSHOT, &self.identities)
    }

    /// The snapshot as it is to be loaded.
    pub fn open_for(&self, rewrite: Option<&Rewrite>) -> io::Result<Box<dyn Read + Send>> {
        Rewritten::of(self.open()?, rewrite)
    }

    /// The same, for a task: a store is waited for, and what is encrypted is read from at once.
    pub async fn opened(&self, rewrite: Option<&Rewrite>) -> io::Result<Box<dyn Read + Send>> {
        let (origin, rewrite) = (self.clone(), rewrite.cloned());
        let opened = tokio::task::spawn_blocking(move || origin.open_for(rewrite.as_ref()));
        opened.await.map_err(io::Error::other)?
    }

    /// Bytes of what will be loaded; the archive that carries it has to know ahead.
    pub async fn size(&self, rewrite: Option<&Rewrite>) -> Result<u64, Failure> {
        let rewrite = match rewrite.cloned() {
            None => return Ok(self.manifest.part(crate::backup::SNAPSHOT).map_or(0, |part| part.plain_bytes)),
            Some(Rewrite::Refreshed(refreshed)) => return Ok(refreshed.surveyed.result.bytes),
            Some(rewrite) => rewrite,
        };
        let origin = self.clone();
        rewritten_size(rewrite, move || Ok(origin.open()?)).await
    }
}

/// Bytes of what a snapshot comes to that is written anew.
pub(super) async fn rewritten_size<R: Read>(
    rewrite: Rewrite,
    open: impl FnOnce() -> anyhow::Result<R> + Send + 'static,
) -> Result<u64, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Kind::Error, error.context("could not read the snapshot"));
    let counted = tokio::task::spawn_blocking(move || -> anyhow::Result<u64> {
        let mut count = Count::default();
        rewrite.run(open()?, &mut count)?;
        Ok(count.0)
    });
    counted.await.map_err(|error| failed(error.into()))?.map_err(failed)
}

/// What another thread writes. Where that breaks off it says why.
pub(super) struct Rewritten {
    reader: io::PipeReader,
    writing: Option<thread::JoinHandle<anyhow::Result<()>>>,
}

impl Rewritten {
    /// A snapshot as it is to be loaded.
    pub fn of(source: impl Read + Send + 'static, rewrite: Option<&Rewrite>) -> io::Result<Box<dyn Read + Send>> {
        let Some(rewrite) = rewrite.cloned() else { return Ok(Box::new(source)) };
        let (reader, writer) = io::pipe()?;
        let writing = thread::spawn(move || rewrite.run(source, io::BufWriter::with_capacity(1 << 20, writer)));
        Ok(Box::new(Rewritten { reader, writing: Some(writing) }))
    }
}

impl Read for Rewritten {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(writing) = self.writing.take()
        {
            let wrote = writing.join().unwrap_or_else(|_panicked| Err(anyhow::anyhow!("writing it anew broke off")));
            wrote.map_err(|error| io::Error::other(format!("{error:#}")))?;
        }
        Ok(count)
    }
}

/// How a snapshot is written anew.
#[derive(Clone, Debug)]
pub enum Rewrite {
    /// For a server that does not load it as it is, or with other expiries.
    Restored(Restored),
    /// As another environment may have it.
    Refreshed(Arc<Refreshed>),
}

impl Rewrite {
    /// Writes the snapshot anew.
    pub fn run(&self, source: impl Read, out: impl Write) -> anyhow::Result<()> {
        match self {
            Rewrite::Restored(restored) => restored.run(source, out),
            Rewrite::Refreshed(refreshed) => pass::run(&refreshed.rules, refreshed.way, source, out, None),
        }
    }
}

/// What a refresh makes of a snapshot, and what has been found out about it.
#[derive(Debug)]
pub struct Refreshed {
    pub rules: Rules,
    pub way: pass::Way,
    pub surveyed: Surveyed,
    pub canaries: Canaries,
    /// What the digests were made with.
    pub key: digest::Key,
}

/// What is restored of a snapshot, and for which server.
#[derive(Clone, Debug)]
pub struct Restored {
    pub target: Target,
    pub choice: Choice,
    pub now_ms: i64,
}

impl Restored {
    /// What has to be written anew for this server, if anything has.
    pub fn needed(
        family: Family,
        version: u32,
        server: ServerVersion,
        choice: &Choice,
        now_ms: i64,
    ) -> Option<Rewrite> {
        let as_it_is = Way::choose(family, version, server).form == Form::AsWritten;
        if as_it_is && choice.ttl == Ttl::Keep && choice.keys.is_empty() {
            return None;
        }
        Some(Rewrite::Restored(Restored { target: target(server), choice: choice.clone(), now_ms }))
    }

    /// Writes the snapshot anew.
    pub fn run(&self, source: impl Read, out: impl Write) -> anyhow::Result<()> {
        let mut frames = Frames::new(source);
        let mut room = Room::default();
        let mut name = Vec::new();
        let mut writer = Writer::begin(out, self.target)?;
        while let Some(batch) = frames.next_batch()? {
            let created_ms = frames.summary().created_unix.map_or(self.now_ms, |seconds| seconds.saturating_mul(1000));
            let created_ms = self.choice.created_ms.unwrap_or(created_ms);
            for record in batch.records() {
                match record? {
                    Record::Key(entry) => {
                        if !self.choice.has(entry.key(&mut name)?) {
                            continue;
                        }
                        let ttl = self.choice.ttl;
                        if entry.expires_fields() && ttl != Ttl::Keep {
                            anyhow::bail!(
                                "fields of `{}` expire by themselves; only `--warm` changes their expiries",
                                entry.key(&mut name)?.escape_ascii()
                            );
                        }
                        let expiry = ttl.apply(entry.expires_at_ms, created_ms, self.now_ms);
                        writer.key(&entry, expiry, Form::Plain, &mut room)?;
                    }
                    // A hint, and wrong as soon as a key is left out.
                    Record::Announced { .. } => {}
                    Record::Function(written) if self.target.version >= 10 => writer.function(written)?,
                    Record::Function(_) => anyhow::bail!("the server has no functions, and the backup holds some"),
                    Record::ModuleAux(written) => writer.module_aux(written)?,
                }
            }
            frames.recycle(batch);
        }
        writer.finish()?;
        Ok(())
    }
}

/// What every server of this version loads.
fn target(server: ServerVersion) -> Target {
    let family =
        if server.family == Family::Valkey && server.rdb_version() >= 80 { Family::Valkey } else { Family::Redis };
    Target { family, version: server.rdb_version().min(if family == Family::Valkey { 80 } else { 12 }) }
}

/// How a snapshot of this kind is written for this server: what is kept as it is, where the server reads that.
pub fn way(family: Family, version: u32, server: ServerVersion, now_ms: i64) -> pass::Way {
    match Way::choose(family, version, server).form {
        Form::AsWritten => {
            pass::Way { target: Target { family, version }, form: Form::AsWritten, now_ms, created_ms: None }
        }
        Form::Plain => pass::Way { target: target(server), form: Form::Plain, now_ms, created_ms: None },
    }
}

/// Counts what is written to it.
#[derive(Default)]
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes behind a service's name in those of what its data are loaded with.
pub const LOADS: &str = ".restore";

/// What the new volume holds.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub keys: u64,
    pub elapsed: Duration,
}

/// What is restored, and where.
#[derive(Debug)]
pub struct Cold<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    pub desired: &'a Desired,
    pub service: &'a Name,
    /// The new volume, `cache.data-2`.
    pub data: String,
    pub image: String,
    pub server: ServerVersion,
    pub user: (u32, u32),
    pub origin: Origin,
    pub rewrite: Option<Rewrite>,
}

impl Cold<'_> {
    /// Fills the volume and proves what is in it. After an error the volume is gone again.
    ///
    /// # Errors
    /// [`Kind::Differences`] where the backup is damaged or reads back otherwise; anything else kept it from its end.
    pub async fn prepare(&self, number: u32, listener: &impl Listener) -> Result<Prepared, Failure> {
        let began = Instant::now();
        let failed = |why: String| Failure::message(Kind::Error, format!("could not restore {}: {why}", self.service));
        let size = self.origin.size(self.rewrite.as_ref()).await?;
        let (manifest, stack) = (&self.origin.manifest, &self.names.stack);
        let wanted = Wanted::of(manifest, stack, self.service, &self.image, self.server, self.user, size);
        let place = Place {
            names: self.names.clone(),
            network: format!("{}{LOADS}", self.service),
            container: format!("{}{LOADS}", self.service),
            data: self.data.clone(),
            files: self.files(),
        };
        // What a restore left that was killed has the same names.
        throwaway::remove(self.engine, &place).await.map_err(|error| failed(error.to_string()))?;
        let source = self.origin.opened(self.rewrite.as_ref()).await.map_err(|error| failed(error.to_string()))?;
        let refreshed = match &self.rewrite {
            Some(Rewrite::Refreshed(refreshed)) => Some(Arc::clone(refreshed)),
            _ => None,
        };
        let proven = drill::load(self.engine, place, &wanted, source, refreshed, number, listener).await?;
        if let Err(failure) = self.settle(&proven.throwaway).await {
            // Best effort: the next restore removes what has its names.
            let _ = proven.throwaway.discard().await;
            return Err(failure);
        }
        proven.throwaway.leave_data().await?;
        Ok(Prepared { keys: proven.keys, elapsed: began.elapsed() })
    }

    /// What the real server will call its files.
    fn files(&self) -> Vec<(String, String)> {
        let server = self.desired.state.container(self.service.as_str()).and_then(|of| of.server.as_ref());
        let named = ["dbfilename", "appendfilename", "appenddirname"].into_iter().filter_map(|setting| {
            match server?.settings.get(setting)? {
                Value::Text(name) if !name.is_empty() => Some((setting.to_owned(), name.clone())),
                _ => None,
            }
        });
        named.collect()
    }

    fn appends(&self) -> bool {
        let server = self.desired.state.container(self.service.as_str()).and_then(|of| of.server.as_ref());
        server.is_some_and(|server| server.settings.get("appendonly") == Some(&Value::text("yes")))
    }

    /// Makes the files what the real server looks for at its start.
    async fn settle(&self, throwaway: &Throwaway<'_>) -> Result<(), Failure> {
        let server = throwaway.server().await?;
        let failed = |error: crate::redis::ServerError| {
            Failure::message(Kind::Error, format!("could not write the data of {}: {error}", self.service))
        };
        // The child that sent the snapshot to compare may outlive the connection that it was sent on.
        idle(&server, &["rdb_bgsave_in_progress"]).await?;
        if self.appends() {
            server.set("appendonly", "yes").await.map_err(failed)?;
            let info = idle(&server, &["aof_rewrite_in_progress", "aof_rewrite_scheduled"]).await?;
            went_well(&info, "aof_last_bgrewrite_status")?;
        } else if self.rewrite.is_some() {
            // What was written here names no other server's history.
            return Ok(());
        }
        // The snapshot that was loaded names the history of the server that it was taken from; this one does not.
        server.run(&["BGSAVE"]).await.map_err(failed)?;
        went_well(&idle(&server, &["rdb_bgsave_in_progress"]).await?, "rdb_last_bgsave_status")
    }
}

/// Waits until none of these is under way; what the server says of itself then.
async fn idle(server: &Server, busy: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    let began = Instant::now();
    loop {
        if began.elapsed() > WRITES_WITHIN {
            let message = format!("the throw-away server is still busy after 30 minutes: {}", busy.join(", "));
            return Err(Failure::message(Kind::Error, message));
        }
        let info = server.info().await.map_err(|error| Failure::message(Kind::Error, error.to_string()))?;
        if busy.iter().all(|name| info.get(*name).is_some_and(|text| text == "0")) {
            return Ok(info);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn went_well(info: &BTreeMap<String, String>, status: &str) -> Result<(), Failure> {
    match info.get(status).map_or("", String::as_str) {
        "ok" => Ok(()),
        other => Err(Failure::message(Kind::Error, format!("the throw-away server reports {status}: {other}"))),
    }
}

//! What a Redis of a copy begins with, and a world in which it does: each of its servers is filled before it starts.

use crate::desired::FILES;
use crate::event::Listener;
use crate::failure::{Failure, Kind};
use crate::import;
use crate::plan::{Action, Step};
use crate::rdb::{self, Family as Rdb};
use crate::state::Container;
use crate::store::inputs;
use crate::store::repository::Repository;
use crate::value::{Family, Name, ResourceKind};
use crate::world::World;
use crate::world::live::Live;
use crate::world::restore::{Origin, Refreshed};
use crate::world::seed::{Seed, Source};
use crate::world::shared::{self, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Something that a Redis can begin with, read to its end and found whole.
#[derive(Clone, Debug)]
pub struct Fixture {
    source: Source,
    pub keys: u64,
}

impl Fixture {
    /// A snapshot that a server wrote.
    pub async fn snapshot(path: &Path) -> Result<Fixture, Failure> {
        let wrong = |what: String| Failure::message(Kind::Usage, format!("`{}`: {what}", path.display()));
        let walked = path.to_owned();
        let summary = tokio::task::spawn_blocking(move || -> Result<rdb::Summary, String> {
            // Opening anything else might wait for somebody who never comes.
            if !walked.metadata().map_err(|error| error.to_string())?.is_file() {
                return Err("it is not a regular file".to_owned());
            }
            let file = File::open(&walked).map_err(|error| error.to_string())?;
            rdb::walk(io::BufReader::with_capacity(1 << 20, file)).map_err(|error| error.to_string())
        });
        let summary = summary.await.map_err(|error| wrong(error.to_string()))?.map_err(wrong)?;
        let family = match summary.family {
            Rdb::Redis => Family::Redis,
            Rdb::Valkey => Family::Valkey,
        };
        let format = (family, summary.version);
        let source = Source::File { path: path.to_owned(), size: summary.bytes, format };
        Ok(Fixture { source, keys: summary.keys() })
    }

    /// Lines of JSON.
    pub async fn lines(path: &Path) -> Result<Fixture, Failure> {
        let wrong = |what: String| Failure::message(Kind::Usage, format!("`{}`: {what}", path.display()));
        let read = path.to_owned();
        let made = tokio::task::spawn_blocking(move || -> Result<import::Imported, String> {
            let bytes = inputs::bounded(&read, import::MOST)?;
            let text = String::from_utf8(bytes).map_err(|_not_shown| "it is not text".to_owned())?;
            import::lines(&text).map_err(|error| error.to_string())
        });
        let made = made.await.map_err(|error| wrong(error.to_string()))?.map_err(wrong)?;
        Ok(Fixture { source: Source::Made(made.rdb.into()), keys: made.keys })
    }

    /// A backup that this machine can open.
    pub async fn backup(repository: &Repository, id: &str) -> Result<Fixture, Failure> {
        let unread = |error: anyhow::Error| Failure::new(Kind::Error, error.context(format!("the backup `{id}`")));
        let gone = || Failure::message(Kind::Usage, format!("there is no backup `{id}` that reads"));
        let origin = Origin::of(repository, id).await.map_err(unread)?.ok_or_else(gone)?;
        if origin.manifest.part(crate::backup::SNAPSHOT).is_none() || !origin.can_be_opened() {
            let message = format!("`{id}` holds no snapshot that can be opened here");
            return Err(Failure::message(Kind::Usage, message));
        }
        let keys = origin.manifest.counts.keys;
        Ok(Fixture { source: Source::Backup(origin), keys })
    }

    /// What a refresh makes of a backup, surveyed and looked through for what may not be there.
    pub fn refreshed(origin: Origin, refreshed: Arc<Refreshed>) -> Fixture {
        let keys = refreshed.surveyed.keyspace.keys;
        Fixture { source: Source::Refreshed(origin, refreshed), keys }
    }
}

/// How often a seed is shared anew that went away while it was taken.
const TAKEN: u32 = 3;

/// A world in which servers do not begin empty.
pub struct Filled<'a> {
    pub live: Live<'a>,
    pub fixtures: &'a BTreeMap<Name, Fixture>,
    /// Whether waiting for others has to end.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Services whose servers read what others read too.
    sharing: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Filled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filled").field("live", &self.live).field("fixtures", &self.fixtures).finish_non_exhaustive()
    }
}

impl World for Filled<'_> {
    async fn perform(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        match step.action {
            Action::Create if step.resource.kind == ResourceKind::Container => {
                if let Some(created) = self.share(step).await? {
                    return Ok(created);
                }
            }
            Action::Start => self.fill(step).await?,
            _ => {}
        }
        self.live.perform(step, listener).await
    }
}

impl<'a> Filled<'a> {
    pub fn new(
        live: Live<'a>,
        fixtures: &'a BTreeMap<Name, Fixture>,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Filled<'a> {
        Filled { live, fixtures, stop, sharing: Mutex::default() }
    }

    /// Before its first start a server has nothing of its own: what is put into its volume is all that it finds.
    async fn fill(&self, step: &Step) -> Result<(), Failure> {
        let Some(seed) = self.seed(step) else { return Ok(()) };
        let shares = self.sharing.lock().unwrap_or_else(PoisonError::into_inner).contains(&step.resource.name);
        if shares { seed.link(&shared::path()).await } else { seed.put().await }
    }

    /// Creates a server that shares its seed with others, where it is to.
    async fn share(&self, step: &Step) -> Result<Option<String>, Failure> {
        let Some(seed) = self.seed(step) else { return Ok(None) };
        let failed = |error| self.live.failed(step, error);
        let (engine, names, id) = (self.live.engine, &self.live.names, &step.resource);
        let Some(shared) = Shared::of(&seed, &names.stack).await? else { return Ok(None) };
        for _ in 0..TAKEN {
            let volume = shared.volume(self.stop).await?;
            let container = Container { seed: Some(volume.clone()), ..seed.container.clone() };
            engine.create_container(names, id, &container).await.map_err(failed)?;
            if shared.is_there(&volume).await? {
                self.sharing.lock().unwrap_or_else(PoisonError::into_inner).insert(step.resource.name.clone());
                return Ok(Some("created, on a seed that is shared".to_owned()));
            }
            engine.kill_own(names, &names.of(id)).await.map_err(failed)?;
            shared.forget(&volume).await?;
        }
        let message = format!("the seed of {} was taken away {TAKEN} times while it was taken", step.resource.name);
        Err(Failure::message(Kind::Error, message).help("who removes volumes on this engine?"))
    }

    /// What a step's server begins with, where it does not begin empty.
    fn seed(&self, step: &Step) -> Option<Seed<'_>> {
        let (service, fixture) = self.fixtures.iter().find(|(name, _)| name.as_str() == step.resource.name)?;
        Some(Seed {
            engine: self.live.engine,
            carrier: self.live.names.container(FILES),
            service: service.as_str(),
            container: self.live.desired.state.container(service.as_str())?,
            data: self.live.desired.data_volume(service),
            source: fixture.source.clone(),
        })
    }
}

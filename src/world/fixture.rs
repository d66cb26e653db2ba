//! What a Redis of a copy begins with, and a world in which it does: each of its servers is filled before it starts.

use crate::desired::FILES;
use crate::event::Listener;
use crate::failure::{Failure, Kind};
use crate::import;
use crate::plan::{Action, Step};
use crate::rdb::{self, Family as Rdb};
use crate::store::inputs;
use crate::store::repository::Repository;
use crate::value::{Family, Name};
use crate::world::World;
use crate::world::live::Live;
use crate::world::restore::{Origin, Refreshed};
use crate::world::seed::{Seed, Source};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

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

/// A world in which servers do not begin empty.
#[derive(Debug)]
pub struct Filled<'a> {
    pub live: Live<'a>,
    pub fixtures: &'a BTreeMap<Name, Fixture>,
}

impl World for Filled<'_> {
    async fn perform(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        if step.action == Action::Start {
            self.fill(step).await?;
        }
        self.live.perform(step, listener).await
    }
}

impl Filled<'_> {
    /// Before its first start a server has nothing of its own: what is put into its volume is all that it finds.
    async fn fill(&self, step: &Step) -> Result<(), Failure> {
        let found = self.fixtures.iter().find(|(name, _)| name.as_str() == step.resource.name);
        let Some((service, fixture)) = found else { return Ok(()) };
        let Some(container) = self.live.desired.state.container(service.as_str()) else { return Ok(()) };
        let (carrier, data) = (self.live.names.container(FILES), self.live.desired.data_volume(service));
        let seed = Seed {
            engine: self.live.engine,
            carrier: &carrier,
            service: service.as_str(),
            container,
            data: &data,
            source: fixture.source.clone(),
        };
        seed.put().await
    }
}

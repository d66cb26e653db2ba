//! Large seeds that the engine has once for all copies that begin with them.
//!
//! A seed lies in a volume of its own, which servers of copies mount to read; in its place in a server's own volume there is a link,
//! which the server replaces when it first saves. It is made under a name that nobody else can have, and is there for
//! others from the moment its container gets the name that only the content gives, which the engine does whole or not at all.
//! The container is never started: it keeps the volume from being taken for unused, and says what it is for.
//!
//! A seed is there for as long as the process that made it lives or a copy has it. Whoever finds one just when it is taken
//! away sees afterwards that its volume is not the one it was, and makes it anew.

use crate::engine::ephemeral::{Listed, Marked};
use crate::engine::{Engine, EngineError, Names, archive, inspect, names};
use crate::failure::{Failure, Kind};
use crate::state::{Container, Mount, SEED_PATH, Volume};
use crate::store;
use crate::store::seeds::{self, Stamp};
use crate::store::turns;
use crate::store::who::{self, Fate};
use crate::value::{Digest, Name, ResourceId, ResourceKind, Span};
use crate::world::restore::Rewrite;
use crate::world::seed::{self, Seed, Source, pour};
use crate::world::throwaway::LEFT_BEHIND;
use futures_util::future;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Below this, putting a seed into each copy costs less than sharing one: a container, a volume, and looking for them.
const SHARED_FROM: u64 = 32 << 20;
/// How long somebody else may take to make one before it is made beside him.
const WITHIN: Duration = Duration::from_secs(300);
/// The folder of the volume in its container, and the file in it.
const FOLDER: &str = "seed";
const FILE: &str = "dump.rdb";

/// A seed that is large enough to be shared.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    engine: &'a Engine,
    names: Names,
    /// What goes into it, and how it is written for this server.
    source: Source,
    rewrite: Option<Rewrite>,
    /// As its file was when its content was looked at, where it is one.
    stamp: Option<Stamp>,
    user: (u32, u32),
    image: &'a str,
    service: &'a str,
}

impl<'a> Shared<'a> {
    /// What a server of a copy of this stack is to share; `None` for what each gets for itself.
    pub async fn of(seed: &Seed<'a>, stack: &Name) -> Result<Option<Shared<'a>>, Failure> {
        let layout = seed.layout()?;
        // An append-only file of before 7.0 begins with the snapshot and is written on: a link to what may only be read will not do.
        if layout.goes_on || seed.source.size(None).await? < SHARED_FROM {
            return Ok(None);
        }
        let unread = |error: io::Error| seed::unread(seed.service, &error);
        let stamp = stamp(&seed.source).map_err(unread)?;
        let Some(content) = content(&seed.source).await.map_err(unread)? else { return Ok(None) };
        let source = seed.source.clone();
        let rewrite = source.rewrite(layout.server, store::now().as_millisecond());
        // Nothing else decides what its bytes are and who may read them.
        let target = match &rewrite {
            None => "as it is".to_owned(),
            Some(Rewrite::Restored(restored)) => format!("{:?}", restored.target),
            Some(Rewrite::Refreshed(_)) => return Ok(None),
        };
        let digest = Digest::of(format!("{content} {target} {} {}", layout.user.0, layout.user.1).as_bytes());
        let Some(names) = names::of_seed(stack, &digest, who::maker()) else { return Ok(None) };
        let (user, image, service) = (layout.user, seed.container.image.as_str(), seed.service);
        Ok(Some(Shared { engine: seed.engine, names, source, rewrite, stamp, user, image, service }))
    }

    /// What the engine calls the volume with it, which is made where it is not there.
    pub async fn volume(&self, stop: &(dyn Fn() -> bool + Sync)) -> Result<String, Failure> {
        if let Some(volume) = self.find().await.map_err(|error| self.failed(&error))? {
            return Ok(volume);
        }
        let what = format!("seed {}", self.names.project());
        let _turn = turns::wait(&what, 1, WITHIN, stop).await;
        if let Some(volume) = self.find().await.map_err(|error| self.failed(&error))? {
            return Ok(volume);
        }
        let random = store::random_hex::<6>().map_err(|error| Failure::new(Kind::Error, error))?;
        let made = self.make(&random).await;
        if !matches!(made, Ok(true)) {
            self.discard(&random).await;
        }
        match made? {
            true => Ok(self.names.volume(&random)),
            // Somebody elsewhere was faster.
            false => self.find().await.map_err(|error| self.failed(&error))?.ok_or_else(|| {
                let message = format!("the seed of {} went away while it was looked at", self.service);
                Failure::message(Kind::Error, message).help("try again")
            }),
        }
    }

    /// Whether the volume that a container now has is still the one that was found: the engine makes an empty one for a name that
    /// has none.
    pub async fn is_there(&self, volume: &str) -> Result<bool, Failure> {
        self.engine.has_volume(&self.names, volume).await.map_err(|error| self.failed(&error))
    }

    /// Removes the empty volume that the engine made for a container which is gone again.
    pub async fn forget(&self, volume: &str) -> Result<(), Failure> {
        tolerate(self.engine.remove_volume(volume).await).map_err(|error| self.failed(&error))
    }

    async fn find(&self) -> Result<Option<String>, EngineError> {
        let Some(report) = self.engine.find_container(&self.names.whole()).await? else { return Ok(None) };
        let volume = inspect::volume_at(&report, &format!("/d/{FOLDER}"));
        let labels = report.config.and_then(|config| config.labels).unwrap_or_default();
        match self.names.claimed(&labels) {
            Some(_) => Ok(volume),
            None => {
                let message = format!("{} is somebody else's container, and was not touched", self.names.whole());
                Err(EngineError::Conflict(message))
            }
        }
    }

    /// False where somebody else has made it meanwhile.
    async fn make(&self, random: &str) -> Result<bool, Failure> {
        let failed = |error: EngineError| self.failed(&error);
        let (volume, id) = (ResourceId::volume(random), ResourceId::container(random));
        let carrier = self.names.of(&id);
        let data = Volume::Data { owner: self.user };
        self.engine.create_volume(&self.names, &volume, &data).await.map_err(failed)?;
        let mount = Mount { volume: random.to_owned(), read_only: false };
        let mounts = BTreeMap::from([(format!("/d/{FOLDER}"), mount)]);
        let user = format!("{}:{}", self.user.0, self.user.1);
        let container = Container::carrier(self.image.to_owned(), user, mounts);
        self.engine.create_container(&self.names, &id, &container).await.map_err(failed)?;
        let (size, snapshot) = self.source.written(self.service, self.rewrite.as_ref()).await?;
        let around = archive::around(&format!("d/{FOLDER}"), &[], (FILE, size), self.user);
        let around = around.map_err(|error| Failure::new(Kind::Error, error))?;
        pour(self.engine, &carrier, around, snapshot).await.map_err(failed)?;
        // A file is somebody's, who may have written to it meanwhile.
        if stamp(&self.source).map_err(|error| seed::unread(self.service, &error))? != self.stamp {
            let message = format!("what {} is filled with was changed while it was read", self.service);
            return Err(Failure::message(Kind::Error, message).help("try again when nobody writes to it"));
        }
        match self.engine.rename(&carrier, &self.names.whole()).await {
            Ok(()) => Ok(true),
            Err(EngineError::Conflict(_)) => Ok(false),
            // It may have been done.
            Err(error) => match self.find().await {
                Ok(Some(found)) => Ok(found == self.names.of(&volume)),
                _ => Err(failed(error)),
            },
        }
    }

    /// Best effort: what stays is no worse than what a killed run leaves.
    async fn discard(&self, random: &str) {
        let _ = self.engine.kill_own(&self.names, &self.names.container(random)).await;
        let _ = self.engine.remove_volume(&self.names.volume(random)).await;
    }

    fn failed(&self, error: &EngineError) -> Failure {
        let message = format!("the seed of {} could not be put where copies share it: {error}", self.service);
        Failure::message(error.kind(), message)
    }
}

/// Where a server of a copy finds the snapshot.
pub(super) fn path() -> String {
    format!("{SEED_PATH}/{FILE}")
}

fn stamp(source: &Source) -> io::Result<Option<Stamp>> {
    let Source::File { path, .. } = source else { return Ok(None) };
    Stamp::of(path).map(Some)
}

/// A digest of what a seed is made from, where that is the same for all.
async fn content(source: &Source) -> io::Result<Option<Digest>> {
    match source {
        Source::Backup(origin) => {
            let part = origin.manifest.part(crate::backup::SNAPSHOT);
            Ok(part.map(|part| Digest::of(part.plain_sha256.as_bytes())))
        }
        Source::Refreshed(..) => Ok(None),
        Source::File { path, size, .. } => {
            let (path, size) = (path.clone(), *size);
            let hashed = tokio::task::spawn_blocking(move || seeds::digest(&path, size));
            hashed.await.map_err(io::Error::other)?.map(Some)
        }
        Source::Made(bytes) => Ok(Some(Digest::of(bytes))),
    }
}

/// Takes away seeds that no copy has and whose maker is gone. This process's own are `kept` while it may still want them.
pub(super) async fn sweep(engine: &Engine, stack: &Name, listed: &[Listed], kept: bool) -> Result<(), EngineError> {
    let seeds: Vec<Marked> = listed.iter().filter_map(|object| object.of_seed(stack)).collect();
    let of = |kind: ResourceKind| seeds.iter().filter(move |seed| seed.resource.kind == kind);
    let left = of(ResourceKind::Container).filter(|seed| is_left(seed, kept));
    let removed = future::join_all(left.map(|seed| async move {
        let volume = seed.names.volume(&seed.resource.name);
        if engine.is_mounted(&volume, &seed.id).await? {
            return Ok(());
        }
        tolerate(engine.kill_container(&seed.id).await)?;
        tolerate(engine.remove_volume(&volume).await)
    }));
    removed.await.into_iter().collect::<Result<(), EngineError>>()?;
    // Those whose container was tidied up, or never came to be.
    let with_container = |seed: &&Marked| of(ResourceKind::Container).any(|of| of.resource.name == seed.resource.name);
    let alone = of(ResourceKind::Volume).filter(|seed| is_left(seed, kept) && !with_container(seed));
    let removed = future::join_all(alone.map(|seed| engine.remove_volume(&seed.id))).await;
    removed.into_iter().try_for_each(tolerate)
}

/// Whether whoever made it is gone. Of somebody elsewhere that is not known, and what is made takes a while.
fn is_left(seed: &Marked, kept: bool) -> bool {
    let Some(mark) = &seed.names.mark else { return false };
    if !kept && !mark.maker.is_empty() && mark.maker == who::maker() {
        return true;
    }
    match who::fate_of_maker(&mark.maker) {
        Fate::Lives => false,
        Fate::Dead => true,
        Fate::Unknown => {
            let age = seed.made.map(|made| store::now().as_second().saturating_sub(made));
            age.and_then(|age| u64::try_from(age).ok()).is_some_and(|age| Span::seconds(age) >= LEFT_BEHIND)
        }
    }
}

/// A volume that a copy has just taken stays, and what somebody else is just removing goes.
fn tolerate(removed: Result<(), EngineError>) -> Result<(), EngineError> {
    match removed {
        Err(EngineError::Conflict(_)) => Ok(()),
        other => other,
    }
}

//! What a change would start, started beside what runs before anything is touched: the same images, files, users, settings
//! and limits, with the data of the backups that the change has just taken, on a network that leads nowhere.
//!
//! It is an environment like any other to the engine, called `rehearse-` and six digits that tell of which one, so that what
//! a killed run left is found by the next one of the same environment, and by nobody else's.

use crate::backup::{COPY, Manifest, SNAPSHOT};
use crate::desired::{Desired, FILES, OPERATOR, PRIVATE, Readiness, Secrets, ServiceFacts};
use crate::engine::archive::Write;
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::model::rules::REHEARSE;
use crate::redis;
use crate::state::{Container, Mount, Observed, Role, Volume};
use crate::store::repository::Repository;
use crate::value::{Digest, Name, ResourceId};
use crate::world::ready;
use crate::world::restore::Origin;
use crate::world::seed::{Seed, Source, pieces};
use crate::world::throwaway::{self, LEFT_BEHIND};
use crate::world::{log, ready::address_on};
use futures_util::future;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

/// Where a copied volume is put back, whatever its archive calls it.
const COPIES: &str = "/copy";

/// What is rehearsed, and with what.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    pub engine: &'a Engine,
    /// The real environment.
    pub names: &'a Names,
    pub desired: &'a Desired,
    pub observed: &'a Observed,
    pub secrets: &'a Secrets,
    /// What is launched, each after those it needs.
    pub services: &'a [Name],
    /// Backups that this change took, by service.
    pub backups: BTreeMap<String, String>,
    pub repository: Option<Repository>,
}

/// What the engine calls the rehearsal of an environment.
pub fn names_of(real: &Names) -> Option<Names> {
    let digest = Digest::of(real.environment.as_str().as_bytes());
    let environment = Name::parse(&format!("{REHEARSE}{}", digest.as_str().get(..6)?))?;
    Some(Names::lasting(real.stack.clone(), environment))
}

/// Removes what a rehearsal of this environment left that was killed.
pub async fn clear(engine: &Engine, real: &Names) -> Result<(), EngineError> {
    match names_of(real) {
        Some(names) => throwaway::clear(engine, &names).await,
        None => Ok(()),
    }
}

/// A service that answered, and with how much.
struct Answered {
    service: Name,
    keys: Option<(u64, u64)>,
}

impl Rehearsal<'_> {
    fn failed(&self, what: &str, error: EngineError) -> Failure {
        let kind = match error.kind() {
            Kind::Error => Kind::Undone,
            kind => kind,
        };
        Failure::message(kind, format!("the rehearsal failed: {what}: {error}"))
    }

    fn refused(&self, what: impl std::fmt::Display) -> Failure {
        Failure::message(Kind::Undone, format!("the rehearsal failed: {what}"))
    }

    /// Launches it, waits until everything answers, and removes it again. Says what was found.
    ///
    /// # Errors
    /// [`Kind::Undone`] where something does not start or does not answer: nothing else was touched.
    pub async fn run(&self, number: u32, listener: &impl Listener) -> Result<String, Failure> {
        let began = Instant::now();
        let names = names_of(self.names).ok_or_else(|| self.refused("it has no name"))?;
        let cleared = |error| self.failed("what an earlier one left is still there", error);
        throwaway::clear(self.engine, &names).await.map_err(cleared)?;
        throwaway::sweep(self.engine, &names.stack, LEFT_BEHIND).await.map_err(cleared)?;
        let played = self.play(&names, number, listener).await;
        let removed = throwaway::clear(self.engine, &names).await;
        let answered = played?;
        removed.map_err(|error| self.failed("it could not be removed", error))?;
        let loaded = answered.iter().filter_map(|answered| {
            let (has, had) = answered.keys?;
            Some(format!("{} with {has} of {had} keys", answered.service))
        });
        let loaded: Vec<String> = loaded.collect();
        let loaded = if loaded.is_empty() { String::new() } else { format!(", {}", loaded.join(", ")) };
        let (count, seconds) = (answered.len(), began.elapsed().as_secs_f64());
        Ok(format!("{count} of {count} answer{loaded}, removed again after {seconds:.1} s"))
    }

    async fn play(&self, names: &Names, number: u32, listener: &impl Listener) -> Result<Vec<Answered>, Failure> {
        let containers: BTreeMap<&Name, Container> =
            self.services.iter().filter_map(|name| self.staged(name)).collect();
        let mounted = |container: &Container| -> Vec<String> {
            container.mounts.values().map(|mount| mount.volume.clone()).collect()
        };
        let volumes: BTreeSet<String> = containers.values().flat_map(mounted).collect();
        let volumes: BTreeMap<&str, &Volume> =
            volumes.iter().filter_map(|name| Some((name.as_str(), self.desired.state.volume(name)?))).collect();
        let failed = |error| self.failed("it could not be launched", error);
        // Before anything else: they are what a later run finds it by.
        let made = volumes.iter().map(|(name, volume)| async move {
            self.engine.create_volume(names, &ResourceId::volume(*name), volume).await
        });
        future::try_join_all(made).await.map_err(failed)?;
        self.engine.create_network(names, &ResourceId::network(PRIVATE), true).await.map_err(failed)?;
        let image = containers.values().next().map(|container| container.image.clone()).unwrap_or_default();
        let mounts = volumes.iter().map(|(name, volume)| {
            let folder = if matches!(volume, Volume::Files { .. }) { "/v" } else { "/d" };
            (format!("{folder}/{name}"), Mount { volume: (*name).to_owned(), read_only: false })
        });
        let carrier = Container::carrier(image, "65534:65534".to_owned(), mounts.collect());
        let id = ResourceId::container(FILES);
        self.engine.create_container(names, &id, &carrier).await.map_err(failed)?;
        let writes: Vec<Write<'_>> = volumes
            .iter()
            .map(|(name, volume)| match volume {
                Volume::Files { files } => Write::Files { volume: name, files, stale: &[] },
                Volume::Data { owner } => Write::Data { volume: name, owner: *owner },
            })
            .collect();
        self.engine.write_files(&names.of(&id), &writes, "rehearsal").await.map_err(failed)?;
        let mut seeded = BTreeMap::new();
        for (name, container) in containers.iter().filter(|(_, container)| container.role == Role::Redis) {
            if let Some(keys) = self.seed(names, name, container).await? {
                seeded.insert((*name).clone(), keys);
            }
            listener.hear(Event::Bytes { number, done: 0 });
        }
        let made = containers.iter().map(|(name, container)| async move {
            self.engine.create_container(names, &ResourceId::container(name.as_str()), container).await
        });
        future::try_join_all(made).await.map_err(failed)?;
        let mut answered: Vec<Answered> = Vec::new();
        while answered.len() < containers.len() {
            let is_up = |name: &Name| answered.iter().any(|answered| answered.service == *name);
            let launched = |need: &&Name| containers.contains_key(*need);
            let next: Vec<&ServiceFacts> = containers
                .keys()
                .filter(|name| !is_up(name))
                .filter_map(|name| self.desired.service(name.as_str()))
                .filter(|facts| facts.needs.iter().filter(launched).all(is_up))
                .collect();
            if next.is_empty() {
                return Err(self.refused("services wait for each other"));
            }
            let started = next.iter().map(|facts| self.start(names, facts, seeded.get(&facts.name)));
            answered.extend(future::try_join_all(started).await?);
        }
        // What ends a moment after its first answer is no better than what never gives one.
        future::try_join_all(containers.keys().map(|name| self.still_runs(names, name))).await?;
        Ok(answered)
    }

    /// A service's container as it is meant, out of everybody's reach.
    fn staged<'n>(&self, name: &'n Name) -> Option<(&'n Name, Container)> {
        let container = Container {
            networks: BTreeSet::from([PRIVATE.to_owned()]),
            ports: BTreeMap::new(),
            // What ends stays ended, and shows why.
            restart: "no".to_owned(),
            ..self.desired.state.container(name.as_str())?.clone()
        };
        Some((name, container))
    }

    async fn start(&self, names: &Names, facts: &ServiceFacts, seeded: Option<&Seeded>) -> Result<Answered, Failure> {
        let service = &facts.name;
        let (container, network) = (names.container(service.as_str()), names.network(PRIVATE));
        let lines = || log::last_lines(self.engine, &container, self.secrets);
        if let Err(error) = self.engine.start(&container).await {
            let failure = self.failed(&format!("{service} does not start"), error);
            return Err(if failure.kind == Kind::Undone { failure.help(lines().await) } else { failure });
        }
        let operator = self.secrets.operators.get(service.as_str());
        let within = facts.ready_within;
        if let Err(why) = ready::wait(self.engine, &container, &network, &facts.ready, within, operator).await {
            return Err(self.refused(format!("{service} {}", why.say(within))).help(lines().await));
        }
        let mut answered = Answered { service: service.clone(), keys: None };
        let (Readiness::Redis, Some(seeded), Some(password)) = (&facts.ready, seeded, operator) else {
            return Ok(answered);
        };
        let address = address_on(self.engine, names, service.as_str(), PRIVATE).await?;
        let failed = |error: redis::ServerError| self.refused(format!("{service} does not answer: {error}"));
        let server = redis::connect(address, OPERATOR, password).await.map_err(failed)?;
        let info = server.info().await.map_err(failed)?;
        let has: u64 = redis::observe::keys(&info).values().sum();
        if has == 0 && seeded.lasting > 0 {
            let message = format!("{service} has none of the {} keys of its backup after its start", seeded.keys);
            return Err(self.refused(message).help(lines().await));
        }
        answered.keys = Some((has, seeded.keys));
        Ok(answered)
    }

    async fn still_runs(&self, names: &Names, name: &Name) -> Result<(), Failure> {
        let container = names.container(name.as_str());
        let failed = |error| self.failed(&format!("{name} cannot be looked at"), error);
        let report = self.engine.container(&container).await.map_err(failed)?;
        if inspect::runs(&report) {
            return Ok(());
        }
        let code = report.state.and_then(|state| state.exit_code).unwrap_or_default();
        let message = format!("{name} answered and did not stay up: exit code {code}");
        Err(self.refused(message).help(log::last_lines(self.engine, &container, self.secrets).await))
    }

    /// Puts what the backup of a service holds where its server will look for it; nothing where there is none.
    async fn seed(&self, names: &Names, name: &Name, container: &Container) -> Result<Option<Seeded>, Failure> {
        let (Some(id), Some(repository)) = (self.backups.get(name.as_str()), &self.repository) else { return Ok(None) };
        let unread = |error: anyhow::Error| self.refused(format!("the backup of {name} cannot be read: {error:#}"));
        let origin = Origin::of(repository, id).await.map_err(unread)?;
        let Some(origin) = origin else { return Err(self.refused(format!("the backup `{id}` is not there any more"))) };
        if !origin.can_be_opened() {
            let unversioned = container.server.as_ref().is_none_or(|server| server.version().is_none());
            let had = self.observed.state.container(name.as_str());
            if unversioned && had.is_some_and(|had| had.image != container.image) {
                let message = format!(
                    "nobody knows whether the new {name} loads its data: its image does not say which server it is, and nothing \
                     here opens the backup"
                );
                return Err(self
                    .refused(message)
                    .help("write its `server:` into stack.lock, or name a key with `backup.identity`"));
            }
            // It was encrypted for somebody else to open; what can be rehearsed without it is.
            return Ok(None);
        }
        let seeded = Seeded::of(&origin.manifest);
        let sent = match origin.manifest.part(SNAPSHOT) {
            Some(_) if seeded.is_empty() => return Ok(None),
            Some(_) => self.put_snapshot(names, name, container, origin).await,
            None => self.put_copy(names, name, container, origin).await,
        };
        sent.map(|()| Some(seeded))
    }

    async fn put_snapshot(
        &self,
        names: &Names,
        name: &Name,
        container: &Container,
        origin: Origin,
    ) -> Result<(), Failure> {
        let data = self.desired.data_volume(name);
        let carrier = names.container(FILES);
        let (engine, service, source) = (self.engine, name.as_str(), Source::Backup(origin));
        let seed = Seed { engine, carrier, service, container, data, source };
        seed.put().await.map_err(|failure| match failure.kind {
            Kind::Error => Failure { kind: Kind::Undone, ..failure },
            _ => failure,
        })
    }

    /// The copy of a volume, as it was.
    async fn put_copy(&self, names: &Names, name: &Name, container: &Container, origin: Origin) -> Result<(), Failure> {
        let failed = |error| self.failed(&format!("the data of {name} could not be put into its volume"), error);
        let data = self.desired.data_volume(name);
        // Its archive begins with the folder that it was taken from: of the server, or of the volume.
        let folders = [format!("{COPIES}/data"), format!("{COPIES}/{data}")];
        let mounts = folders.map(|folder| (folder, Mount { volume: data.clone(), read_only: false }));
        let carrier = Container::carrier(container.image.clone(), container.user.clone(), BTreeMap::from(mounts));
        let id = ResourceId::container(format!("{name}.carrier"));
        self.engine.create_container(names, &id, &carrier).await.map_err(failed)?;
        let unread = |error: io::Error| self.refused(format!("the backup of {name} cannot be read: {error}"));
        let source =
            tokio::task::spawn_blocking(move || origin.repository.read(&origin.manifest, COPY, &origin.identities));
        let source = source.await.map_err(|error| unread(io::Error::other(error)))?.map_err(unread)?;
        self.engine.upload(&names.of(&id), COPIES, pieces(source)).await.map_err(failed)
    }
}

/// What a backup that a server was filled with holds.
struct Seeded {
    keys: u64,
    /// Keys that no time takes away.
    lasting: u64,
    functions: u64,
}

impl Seeded {
    fn of(manifest: &Manifest) -> Seeded {
        let counts = &manifest.counts;
        let lasting = counts.keys.saturating_sub(counts.expires);
        // How much of a copied volume is in force, only its server tells.
        let lasting = if manifest.part(SNAPSHOT).is_some() { lasting } else { 0 };
        Seeded { keys: counts.keys, lasting, functions: counts.functions }
    }

    fn is_empty(&self) -> bool {
        self.keys == 0 && self.functions == 0
    }
}

//! The real thing: the engine, the servers it runs, and the disk. One match on the action, one call in each arm.

use crate::backup::Capture;
use crate::desired::{Desired, FILES, OPERATOR, PRIVATE, Secrets};
use crate::directive;
use crate::engine::archive::Write;
use crate::engine::docker::next_within;
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::plan::{Action, Step};
use crate::redis;
use crate::state::{Container, Observed, Resource, Role, Volume};
use crate::store;
use crate::store::repository::Repository;
use crate::value::{Digest, Name, ResourceId, ResourceKind, Secret, Span, bytes};
use crate::world::World;
use crate::world::capture::{Archive, BackupRequest, capture, noted, take_backup, write_copy};
use crate::world::drill;
use crate::world::handover::{self, Handover, Refill};
use crate::world::log;
use crate::world::ready::{self, redis_address};
use crate::world::rehearsal::Rehearsal;
use crate::world::takeover::{self, TakeOver};
use ::bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Performs steps on an environment.
#[derive(Debug)]
pub struct Live<'a> {
    pub engine: &'a Engine,
    pub names: Names,
    pub desired: &'a Desired,
    pub secrets: &'a Secrets,
    /// Where the project lies; build contexts are below it.
    pub root: PathBuf,
    /// Where backups go; opened only for a plan that takes some.
    pub repository: Option<Repository>,
    pub reason: String,
    /// Whether a change rests only on backups that were restored once.
    pub drills: bool,
    pub revision: Digest,
    /// What was there when the plan was made.
    pub observed: &'a Observed,
    /// The backups that were taken on the way, by service.
    pub taken: Mutex<BTreeMap<String, String>>,
    /// When services were told to stop.
    pub stopped: Mutex<BTreeMap<String, Instant>>,
}

/// Nobody leaves one of these half written.
fn note<T>(notes: &Mutex<BTreeMap<String, T>>, service: &str, what: T) {
    notes.lock().unwrap_or_else(PoisonError::into_inner).insert(service.to_owned(), what);
}

impl World for Live<'_> {
    async fn perform(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        let id = &step.resource;
        let name = self.name(id);
        match &step.action {
            Action::Build { service } => self.build(service, listener).await,
            Action::Pull { image } => {
                self.engine.pull(image).await.map_err(|error| self.failed(step, error))?;
                Ok("fetched".to_owned())
            }
            Action::Create => self.create(step).await,
            Action::Remove => self.remove(step).await,
            Action::WriteFiles { volumes } => self.write_files(step, volumes).await,
            Action::Backup => self.backup(step, listener).await,
            Action::Set { setting, value } => self.set(step, setting, value).await,
            Action::LoadUsers => {
                let server = self.server(step).await?;
                self.engine.permit().await.map_err(|error| self.failed(step, error))?;
                match self.set_users(id, &server).await {
                    Ok(changed) => Ok(format!("{changed} set")),
                    Err(error) => {
                        let failure = self.server_failed(step, error);
                        Err(self.put_back(id, failure).await)
                    }
                }
            }
            Action::Update => {
                let container = self.wanted(step)?;
                self.engine.update(&name, container).await.map_err(|error| self.failed(step, error))?;
                Ok("updated".to_owned())
            }
            Action::Start => match self.engine.start(&name).await {
                Ok(()) => Ok("started".to_owned()),
                Err(error) => Err(self.start_failed(step, error).await),
            },
            Action::Stop => self.stop(step, &name, listener).await,
            Action::Rehearse { services, .. } => self.rehearse(step, services, listener).await,
            Action::HandOver { volume, refilled } => {
                let refill = refilled.then(|| self.refill(step, volume)).transpose()?;
                self.hand_over(step, refill, listener).await
            }
            Action::TakeOver { beside } => self.take_over(step, *beside, listener).await,
            Action::Ready => self.ready(step, listener).await,
        }
    }
}

impl Live<'_> {
    pub(super) fn failed(&self, step: &Step, error: EngineError) -> Failure {
        let message = format!("could not {} in {}: {error}", step.summary(), self.names.environment);
        let failure = Failure::message(error.kind(), message);
        match error {
            EngineError::Unknown(_) => failure.help("it may have been done or not; `lockstep plan` looks again"),
            EngineError::Conflict(_) => failure.help("something of that name is there and is not this environment's"),
            _ => failure,
        }
    }

    fn server_failed(&self, step: &Step, error: redis::ServerError) -> Failure {
        let message = format!("could not {} in {}: {error}", step.summary(), self.names.environment);
        Failure::message(Kind::Error, message)
    }

    fn wanted(&self, step: &Step) -> Result<&Container, Failure> {
        self.desired.state.container(&step.resource.name).ok_or_else(|| {
            Failure::message(Kind::Error, format!("{} is in the plan and not in the spec", step.resource))
        })
    }

    /// What the engine calls a resource: by what it is, when it is there, and not by what it should be called.
    fn name(&self, id: &ResourceId) -> String {
        self.observed.names.get(id).cloned().unwrap_or_else(|| self.names.of(id))
    }

    async fn create(&self, step: &Step) -> Result<String, Failure> {
        let id = &step.resource;
        let created = match self.desired.state.resources.get(id) {
            Some(Resource::Network(network)) => self.engine.create_network(&self.names, id, network.internal).await,
            Some(Resource::Volume(volume)) => self.engine.create_volume(&self.names, id, volume).await,
            Some(Resource::Container(container)) => self.engine.create_container(&self.names, id, container).await,
            None => return Err(Failure::message(Kind::Error, format!("{id} is in the plan and not in the spec"))),
        };
        created.map_err(|error| self.failed(step, error))?;
        Ok("created".to_owned())
    }

    async fn remove(&self, step: &Step) -> Result<String, Failure> {
        let id = &step.resource;
        let removed = match id.kind {
            ResourceKind::Network => self.engine.remove_network(&self.name(id)).await,
            ResourceKind::Volume => self.engine.remove_volume(&self.name(id)).await,
            ResourceKind::Container => self.engine.remove_container(&self.name(id)).await,
        };
        removed.map_err(|error| self.failed(step, error))?;
        Ok("removed".to_owned())
    }

    /// Ends a process. The next one on the volume of a Redis that was killed takes an older snapshot for all that there is.
    async fn stop(&self, step: &Step, name: &str, listener: &impl Listener) -> Result<String, Failure> {
        let service = step.resource.name.as_str();
        let failed = |error: EngineError| self.failed(step, error);
        let grace = self.desired.service(service).map_or(Span::seconds(120), |facts| facts.stop_grace);
        let found = match self.saves(service) {
            true => self.engine.find_container(name).await.map_err(failed)?,
            false => None,
        };
        note(&self.stopped, service, Instant::now());
        if found.is_none_or(|report| !inspect::runs(&report)) {
            // How one ended that had ended before, or does so over and over, is not this step's doing.
            self.engine.stop(name, grace).await.map_err(failed)?;
            return Ok("stopped".to_owned());
        }
        match handover::end(self.engine, name, grace).await.map_err(failed)? {
            // It is flushed before the last snapshot is written, which is what takes long.
            Some(code) if code != 0 && self.appends(service) => {
                Ok(format!("ended with code {code} in its last snapshot; its append-only file is what it loads"))
            }
            Some(code) if code != 0 => {
                listener.hear(Event::Unsaved { service: service.to_owned() });
                let failure = self.unsaved(step, code);
                // Nothing starts on what it left, unless all of it is taken back.
                if self.leaves(service) { Ok(format!("{failure}; that volume is left behind")) } else { Err(failure) }
            }
            _ => Ok("stopped".to_owned()),
        }
    }

    /// What a Redis is told by the time it is stopped: what decides whether it keeps its data is set before that, and what the
    /// spec leaves out is as it was.
    fn told(&self, service: &str) -> (Option<&crate::state::Server>, Option<&crate::state::Server>) {
        let want = self.desired.state.container(service).and_then(|want| want.server.as_ref());
        let have = self.observed.state.container(service).and_then(|have| have.server.as_ref());
        (want, have)
    }

    /// Whether whoever starts on the volume next loads an append-only file. What the spec leaves out is off.
    fn appends(&self, service: &str) -> bool {
        let (want, have) = self.told(service);
        handover::said(want.or(have), "appendonly", "no") == "yes"
    }

    /// Whether a service moves to another volume than the one that it runs on, which is left behind.
    fn leaves(&self, service: &str) -> bool {
        let data = |container: &Container| container.mounts.get("/data").map(|mount| mount.volume.clone());
        let (had, wanted) = (self.observed.state.container(service), self.desired.state.container(service));
        had.zip(wanted).is_some_and(|(had, wanted)| data(had) != data(wanted))
    }

    /// Whether a service is a Redis that runs and writes what it holds to disk before it ends.
    fn saves(&self, service: &str) -> bool {
        let Some(had) = self.observed.state.container(service).filter(|had| had.role == Role::Redis) else {
            return false;
        };
        let (want, have) = self.told(service);
        had.running && handover::saves(want, have)
    }

    /// The engine ended it, since it did not end by itself in time.
    fn unsaved(&self, step: &Step, code: i64) -> Failure {
        let service = step.resource.name.as_str();
        let message = format!(
            "{} was ended before it had saved (exit code {code}): the last snapshot in its volume is older than what it held",
            step.resource
        );
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        let held = match taken {
            Some(backup) => format!("what it held is in backup {backup}"),
            None => format!("`lockstep backup list {}` shows what is kept of it", self.names.environment),
        };
        let help = format!("{held}; `stop_grace:` gives it more time, and its log says what kept it");
        let so_far = format!("{service} has what is in its volume, and not what it held");
        Failure::message(Kind::Error, message).help(help).so_far(so_far)
    }

    async fn write_files(&self, step: &Step, volumes: &[String]) -> Result<String, Failure> {
        let writes: Vec<Write<'_>> = volumes
            .iter()
            .filter_map(|name| match self.desired.state.volume(name)? {
                Volume::Files { files } => Some(Write::Files { volume: name, files, stale: self.stale(name) }),
                Volume::Data { owner } => Some(Write::Data { volume: name, owner: *owner }),
            })
            .collect();
        // The name says nothing of the content, which may be secret.
        let revision = store::random_hex::<8>().map_err(|error| Failure::new(Kind::Error, error))?;
        let revision = format!("{}-{revision}", store::now().as_second());
        let carrier = self.names.container(FILES);
        self.engine.write_files(&carrier, &writes, &revision).await.map_err(|error| self.failed(step, error))?;
        Ok("written".to_owned())
    }

    /// Sets each user that differs, at once. `ACL LOAD` would do, and on Redis 7.0 end the connections of all others too.
    async fn set_users(&self, id: &ResourceId, server: &redis::Server) -> Result<usize, redis::ServerError> {
        let of = |state: &crate::state::State| {
            let server = state.container(&id.name).and_then(|container| container.server.as_ref());
            server.map(|server| server.users.clone()).unwrap_or_default()
        };
        let (have, want) = (of(&self.observed.state), of(&self.desired.state));
        let mut changed = 0;
        // Lockstep's own user comes last: it must keep the right to set the others.
        let mut names: Vec<&String> = want.keys().collect();
        names.sort_by_key(|name| name.as_str() == OPERATOR);
        for name in names.into_iter().filter(|name| have.get(*name) != want.get(*name)) {
            if let Some(user) = want.get(name) {
                server.set_user(name, &crate::acl::rules(user)).await?;
                changed += 1;
            }
        }
        for name in have.keys().filter(|name| !want.contains_key(*name)) {
            server.remove_user(name).await?;
            changed += 1;
        }
        Ok(changed)
    }

    /// Users that the server refused must not be what it starts from: the files that were in force come back.
    async fn put_back(&self, id: &ResourceId, failure: Failure) -> Failure {
        let volume = format!("{}.etc.redis", id.name);
        let Some(Volume::Files { files }) = self.observed.state.volume(&volume) else { return failure };
        let write = Write::Files { volume: &volume, files, stale: &[] };
        let revision = format!("{}-put-back", store::now().as_millisecond());
        match self.engine.write_files(&self.names.container(FILES), &[write], &revision).await {
            Ok(()) => failure.help("its users are as they were, and so is the file that it starts from"),
            Err(error) => failure.help(format!("the file that it starts from holds the refused users: {error}")),
        }
    }

    async fn rehearse(&self, step: &Step, services: &[Name], listener: &impl Listener) -> Result<String, Failure> {
        let rehearsal = Rehearsal {
            engine: self.engine,
            names: &self.names,
            desired: self.desired,
            observed: self.observed,
            secrets: self.secrets,
            services,
            backups: self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            repository: self.repository.clone(),
        };
        let rehearsed = rehearsal.run(step.number, listener).await;
        rehearsed.map_err(|failure| failure.so_far(format!("nothing was touched in {}", self.names.environment)))
    }

    async fn take_over(&self, step: &Step, beside: bool, listener: &impl Listener) -> Result<String, Failure> {
        let facts = self.desired.service(&step.resource.name).ok_or_else(|| {
            Failure::message(Kind::Error, format!("{} is in the plan and not in the spec", step.resource))
        })?;
        let (engine, names, secrets) = (self.engine, &self.names, self.secrets);
        TakeOver { engine, names, facts, wanted: self.wanted(step)?, secrets }.run(beside, listener).await
    }

    /// What a server is put aside with that the new one cannot follow.
    fn refill(&self, step: &Step, volume: &str) -> Result<Refill, Failure> {
        let service = &step.resource.name;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let reached = (nowhere, self.operator(service)?.clone());
        let why = (self.reason.as_str(), true);
        let request =
            BackupRequest::of(self.observed, service, reached, self.repository()?, why, self.revision.clone());
        let before = self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        Ok(Refill { request, data: volume.to_owned(), before })
    }

    fn operator(&self, service: &str) -> Result<&Secret, Failure> {
        self.secrets.operators.get(service).ok_or_else(|| {
            let message = format!("the password of user `{OPERATOR}` of {service} is not known");
            Failure::message(Kind::Error, message)
        })
    }

    async fn hand_over(
        &self,
        step: &Step,
        refill: Option<Refill>,
        listener: &impl Listener,
    ) -> Result<String, Failure> {
        let service = step.resource.name.as_str();
        let of = |state: &'_ crate::state::State| -> Option<crate::state::User> {
            state.container(service)?.server.as_ref()?.users.get(OPERATOR).cloned()
        };
        let (had, wanted) = (of(&self.observed.state), of(&self.desired.state));
        let operator = self.operator(service)?;
        let within = self.desired.service(service).map_or(Span::seconds(60), |facts| facts.ready_within);
        let handover = Handover {
            engine: self.engine,
            names: &self.names,
            service,
            wanted: self.wanted(step)?,
            operator,
            users: (had.as_ref(), wanted.as_ref()),
            within,
            refill,
        };
        let handed = handover.run(step.number, listener).await;
        match handed {
            Ok(handed) => {
                let ms = u64::try_from(handed.writes_paused.as_millis()).unwrap_or(u64::MAX);
                listener.hear(if handed.away { Event::Away { ms } } else { Event::WritesPaused { ms } });
                Ok(handed.say())
            }
            Err(failure) => {
                let next = self.names.next(service);
                let lines = self.culprit(&next).await;
                Err(if failure.help.is_none() { failure.help(lines) } else { failure })
            }
        }
    }

    fn stale(&self, volume: &str) -> &[String] {
        self.observed.stale.get(volume).map_or(&[], Vec::as_slice)
    }

    async fn build(&self, service: &Name, listener: &impl Listener) -> Result<String, Failure> {
        let facts = self.desired.service(service.as_str());
        let Some((facts, build)) = facts.and_then(|facts| Some((facts, facts.build.as_ref()?))) else {
            return Err(Failure::message(Kind::Error, format!("`{service}` has no `build:`")));
        };
        let wanted = self.desired.state.container(service.as_str()).map(|container| container.image.clone());
        let built = build_image(self.engine, &self.root, &facts.image, build, listener).await?;
        if wanted.as_deref() == Some(built.as_str()) {
            return Ok(format!("built {}", short(&built)));
        }
        let message = format!(
            "`{}` was built as {}, and stack.lock pins {}",
            facts.image,
            short(&built),
            short(wanted.as_deref().unwrap_or("nothing"))
        );
        Err(Failure::message(Kind::Usage, message).help("run `lockstep lock` to pin what was built"))
    }

    /// A connection to the server as it runs now.
    async fn server(&self, step: &Step) -> Result<redis::Server, Failure> {
        let (address, password) = self.reach(step).await?;
        redis::connect(address, OPERATOR, &password).await.map_err(|error| self.server_failed(step, error))
    }

    async fn reach(&self, step: &Step) -> Result<(SocketAddr, Secret), Failure> {
        let address = redis_address(self.engine, &self.names, &step.resource.name).await?;
        Ok((address, self.operator(&step.resource.name)?.clone()))
    }

    async fn set(&self, step: &Step, setting: &str, value: &str) -> Result<String, Failure> {
        let server = self.server(step).await?;
        let version = server.version().await.map_err(|error| self.server_failed(step, error))?;
        self.engine.permit().await.map_err(|error| self.failed(step, error))?;
        let after = server
            .set(&directive::spelled(setting, version), value)
            .await
            .map_err(|error| self.server_failed(step, error))?;
        let after = directive::canonical(setting, &[after]);
        if after != directive::canonical(setting, &[value.to_owned()]) {
            let message = format!("{setting} was set to {value} on {}, and reads back as {after}", step.resource);
            return Err(Failure::message(Kind::Error, message));
        }
        if setting == "appendonly" && value == "yes" {
            self.append_file_written(step, &server).await?;
        }
        Ok(format!("{setting} = {after}, read back"))
    }

    /// A restart reads the append-only file alone, so it has to be whole before anything else happens.
    async fn append_file_written(&self, step: &Step, server: &redis::Server) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let info = server.info().await.map_err(|error| self.server_failed(step, error))?;
            let field = |name: &str| info.get(name).map_or("", String::as_str);
            let idle = field("aof_rewrite_in_progress") == "0" && field("aof_rewrite_scheduled") == "0";
            if field("aof_enabled") == "1" && idle {
                return match field("aof_last_bgrewrite_status") {
                    "ok" => Ok(()),
                    status => {
                        Err(Failure::message(Kind::Error, format!("the append-only file was not written: {status}")))
                    }
                };
            }
            if began.elapsed() > Duration::from_secs(1800) {
                return Err(Failure::message(
                    Kind::Error,
                    "the append-only file is still not written after 30 minutes",
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn backup(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        let refused = |failure: Failure| {
            let kind = if failure.kind == Kind::Engine { Kind::Engine } else { Kind::Backup };
            let help = failure.help.clone();
            let said = help.unwrap_or_else(|| "a change starts only after its backup is proven".to_owned());
            Failure { kind, ..failure }.help(said)
        };
        let running = self.observed.state.container(&step.resource.name).is_some_and(|container| container.running);
        if !running || step.resource.kind == ResourceKind::Volume {
            return self.copy(step, listener).await.map_err(refused);
        }
        let reached = self.reach(step).await.map_err(refused)?;
        let (service, why) = (&step.resource.name, (self.reason.as_str(), true));
        let revision = self.revision.clone();
        let request = BackupRequest::of(self.observed, service, reached, self.repository()?, why, revision);
        let taken = take_backup(&self.names, request, step.number, listener).await.map_err(refused)?;
        if self.drills {
            let repository = self.repository()?;
            let user = self.observed.state.container(&step.resource.name).and_then(Container::owner);
            let (stack, user) = (&self.names.stack, user.unwrap_or((999, 999)));
            drill::listed(self.engine, &repository, stack, &taken.id, user, step.number, listener)
                .await
                .map_err(|failure| refused(Failure { kind: Kind::Backup, ..failure }))?;
        }
        note(&self.taken, service, taken.id.clone());
        listener.hear(taken.kept(self.drills));
        Ok(format!("{}: {} keys, {}", taken.id, taken.counts.keys, bytes::about(taken.plain_bytes())))
    }

    /// Copies the data volume of a server that does not run, or is not there any more.
    async fn copy(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        let (container, path, service) = match step.resource.kind {
            ResourceKind::Volume => {
                let service = step.resource.name.split('.').next().unwrap_or_default();
                (self.names.container(FILES), format!("/d/{}", step.resource.name), service)
            }
            _ => (self.name(&step.resource), "/data".to_owned(), step.resource.name.as_str()),
        };
        let capture = Capture {
            change: true,
            ..capture(&self.names, service, &self.reason, self.observed_image(service), String::new(), &self.revision)?
        };
        let server = self.desired.state.container(service).and_then(|container| container.server.as_ref());
        let (repository, server, began) = (self.repository()?, server.cloned(), Instant::now());
        let (sender, receiver) = mpsc::sync_channel::<io::Result<Bytes>>(8);
        let written = tokio::task::spawn_blocking(move || {
            let archive = Archive { pieces: receiver, piece: Bytes::new() };
            let written = write_copy(&repository, &capture, archive, server.as_ref(), began);
            noted(&repository, &capture.service, written)
        });
        let mut done = 0;
        let mut pieces = std::pin::pin!(self.engine.download(&container, &path));
        while let Some(piece) = next_within(&mut pieces).await.transpose() {
            let piece = piece.map_err(io::Error::other);
            let broken = piece.is_err();
            done += piece.as_ref().map_or(0, |piece| u64::try_from(piece.len()).unwrap_or(0));
            // Whoever does not take it any more says why when asked.
            if sender.send(piece).is_err() || broken {
                break;
            }
            listener.hear(Event::Bytes { number: step.number, done });
        }
        drop(sender);
        let written = written.await.unwrap_or_else(|error| Err(Failure::new(Kind::Backup, error)))?;
        if let Some(manifest) = &written {
            note(&self.taken, service, manifest.id.clone());
            listener.hear(manifest.kept(false));
        }
        Ok(match written {
            Some(manifest) => format!("{}: its volume copied, {}", manifest.id, bytes::about(manifest.plain_bytes())),
            None => "its volume holds no data".to_owned(),
        })
    }

    fn repository(&self) -> Result<Repository, Failure> {
        let opened = self.repository.clone();
        opened.ok_or_else(|| Failure::message(Kind::Backup, "the plan takes backups, and nobody opened their store"))
    }

    fn observed_image(&self, name: &str) -> String {
        self.observed.state.container(name).map_or_else(String::new, |container| container.image.clone())
    }

    async fn ready(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        let id = &step.resource;
        let facts = self.desired.service(&id.name);
        let Some(facts) = facts else {
            return Err(Failure::message(Kind::Error, format!("{id} is in the plan and not in the spec")));
        };
        let operator = self.secrets.operators.get(&id.name);
        let (container, network) = (self.names.of(id), self.names.network(PRIVATE));
        let waited = ready::wait(self.engine, &container, &network, &facts.ready, facts.ready_within, operator).await;
        match waited {
            Ok(()) => {
                let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.name);
                Ok(match stopped {
                    Some(stopped) => {
                        format!("{}, {}", facts.ready.met(), takeover::was_away(stopped.elapsed(), listener))
                    }
                    None => facts.ready.met(),
                })
            }
            Err(why) => {
                let message = format!("{id} {}", why.say(facts.ready_within));
                Err(Failure::message(Kind::Error, message).help(self.culprit(&container).await))
            }
        }
    }

    async fn start_failed(&self, step: &Step, error: EngineError) -> Failure {
        let failure = self.failed(step, error);
        let lines = self.culprit(&self.names.of(&step.resource)).await;
        if lines.is_empty() { failure } else { failure.help(lines) }
    }

    async fn culprit(&self, container: &str) -> String {
        log::last_lines(self.engine, container, self.secrets).await
    }
}

/// Builds an image and says which id came of it.
pub async fn build_image(
    engine: &Engine,
    root: &std::path::Path,
    tag: &str,
    build: &crate::model::Build,
    listener: &impl Listener,
) -> Result<String, Failure> {
    let context = store::context::pack(&root.join(&build.context))?;
    let said = |text: &str| listener.hear(Event::Line { text: text.to_owned() });
    let failed = |error: EngineError| Failure::message(Kind::Error, format!("could not build `{tag}`: {error}"));
    engine.build(tag, &build.dockerfile, context, said).await.map_err(failed)?;
    let image = engine.image(tag).await.map_err(failed)?;
    image
        .map(|image| image.id)
        .ok_or_else(|| failed(EngineError::NotFound("the engine does not have it after all".to_owned())))
}

fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}

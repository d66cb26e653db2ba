//! The real thing: the engine, the servers it runs, and the disk. One match on the action, one call in each arm.

use crate::backup::{self, Capture, Proof};
use crate::desired::{Desired, FILES, OPERATOR, PRIVATE, Readiness, Secrets};
use crate::directive;
use crate::engine::archive::Write;
use crate::engine::docker::next_within;
use crate::engine::{Engine, EngineError, Names};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::plan::{Action, Step};
use crate::redis::{self, pull};
use crate::state::{Observed, Resource, Value, Volume};
use crate::store::{self, backups};
use crate::value::{Digest, Family, Name, ResourceId, ResourceKind, Secret, ServerVersion, Span, bytes};
use crate::world::World;
use crate::world::ready::{self, NotReady, REDIS_PORT};
use sha2::Digest as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server that sends nothing for this long while a snapshot is awaited has hung.
const SNAPSHOT_SILENCE: Duration = Duration::from_secs(60);

/// Performs steps on an environment.
#[derive(Debug)]
pub struct Live<'a> {
    pub engine: &'a Engine,
    pub names: Names,
    pub desired: &'a Desired,
    pub secrets: &'a Secrets,
    /// Where the project lies; build contexts and backups are below it.
    pub root: PathBuf,
    pub backups: PathBuf,
    pub reason: String,
    pub revision: Digest,
    /// What was there when the plan was made.
    pub observed: &'a Observed,
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
            Action::Stop => {
                let service = self.desired.service(&id.name);
                let grace = service.map_or(Span::seconds(120), |facts| facts.stop_grace);
                self.engine.stop(&name, grace).await.map_err(|error| self.failed(step, error))?;
                Ok("stopped".to_owned())
            }
            Action::Ready => self.ready(step).await,
        }
    }
}

impl Live<'_> {
    fn failed(&self, step: &Step, error: EngineError) -> Failure {
        let kind = if error.is_absence() { Kind::Engine } else { Kind::Error };
        let message = format!("could not {} in {}: {error}", step.summary(), self.names.environment);
        let failure = Failure::message(kind, message);
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

    fn wanted(&self, step: &Step) -> Result<&crate::state::Container, Failure> {
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
        let password = self.secrets.operators.get(&step.resource.name).cloned();
        let password = password.ok_or_else(|| {
            Failure::message(
                Kind::Error,
                format!("the password of user `{OPERATOR}` of {} is not known", step.resource),
            )
        })?;
        Ok((address, password))
    }

    async fn set(&self, step: &Step, setting: &str, value: &str) -> Result<String, Failure> {
        let server = self.server(step).await?;
        let version = server.version().await.map_err(|error| self.server_failed(step, error))?;
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
        let (address, password) = self.reach(step).await.map_err(refused)?;
        let request = BackupRequest {
            address,
            password,
            container: step.resource.name.clone(),
            image: self.observed_image(&step.resource.name),
            server: version_of(self.observed, &step.resource.name),
            expected_keys: self.observed.vitals.get(&step.resource.name).map_or(0, |vitals| vitals.keys),
            folder: self.backups.clone(),
            reason: self.reason.clone(),
            revision: self.revision.clone(),
        };
        let taken = take_backup(&self.names, request, step.number, listener).await.map_err(refused)?;
        Ok(format!("{}: {} keys, {}", taken.id, taken.keys, bytes::about(taken.size_bytes)))
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
        let failed =
            |error: anyhow::Error| Failure::new(Kind::Backup, error.context(format!("could not back up {service}")));
        let began = Instant::now();
        let capture =
            capture(&self.names, service, &self.reason, self.observed_image(service), String::new(), &self.revision)?;
        let mut draft = backups::draft(&self.backups, &capture.id).map_err(failed)?;
        let mut file = draft.file().map_err(failed)?;
        let mut hash = sha2::Sha256::new();
        let mut size_bytes = 0;
        let mut chunks = std::pin::pin!(self.engine.download(&container, &path));
        while let Some(chunk) = next_within(&mut chunks).await.map_err(|error| failed(error.into()))? {
            hash.update(&chunk);
            file.write_all(&chunk).map_err(|error| failed(error.into()))?;
            size_bytes += u64::try_from(chunk.len()).unwrap_or(0);
            listener.hear(Event::Bytes { number: step.number, done: size_bytes });
        }
        let copied = backups::copied(&draft.path()).map_err(failed)?;
        if copied.is_empty() {
            return Ok("its volume holds no data".to_owned());
        }
        self.loadable(service, &copied)?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let sha256 = Digest::from_hash(&hash.finalize());
        let manifest = backup::copy_manifest(&capture, &copied.snapshots, size_bytes, &sha256, elapsed_ms);
        draft.keep(&manifest).map_err(failed)?;
        Ok(format!("{}: its volume copied, {}", manifest.id, bytes::about(size_bytes)))
    }

    /// Whether the server that is meant would find again what lies in the volume.
    fn loadable(&self, service: &str, copied: &backups::Copied) -> Result<(), Failure> {
        let server = self.desired.state.container(service).and_then(|container| container.server.as_ref());
        let Some(server) = server else { return Ok(()) };
        let keys: u64 = copied.snapshots.iter().map(crate::rdb::Summary::keys).sum();
        let appends = server.settings.get("appendonly") == Some(&Value::text("yes"));
        // Redis 7 with `appendonly yes` and no append-only file starts empty, and its next save overwrites the snapshot.
        if appends && !copied.append_only && keys > 0 {
            let message = format!(
                "{service} would start empty: with `appendonly: yes` it reads no snapshot, and its volume holds {keys} keys in one"
            );
            return Err(Failure::message(Kind::Backup, message).help(
                "apply once with `appendonly: no`, then set it to `yes`: lockstep changes that on the running server",
            ));
        }
        if !appends && copied.append_only && keys > 0 {
            let message =
                format!("{service} would start without what its append-only file holds: `appendonly` is not `yes`");
            return Err(Failure::message(Kind::Backup, message).help(
                "apply once with `appendonly: yes`, then change it: lockstep changes that on the running server",
            ));
        }
        let wanted = match server.facts.get("version") {
            Some(Value::Text(text)) => ServerVersion::parse(text),
            _ => None,
        };
        let too_new = copied.snapshots.iter().find(|snapshot| {
            let family = match snapshot.family {
                crate::rdb::Family::Redis => Family::Redis,
                crate::rdb::Family::Valkey => Family::Valkey,
            };
            let version = u16::try_from(snapshot.version).unwrap_or(u16::MAX);
            wanted.is_some_and(|wanted| !wanted.reads_snapshot(family, version))
        });
        match (too_new, wanted) {
            (Some(snapshot), Some(wanted)) => {
                let wrote = snapshot.server_version.as_deref().unwrap_or("a newer server");
                let message = format!("{wanted} cannot load the data that {wrote} left in the volume of {service}");
                Err(Failure::message(Kind::Backup, message).help("keep the version that wrote it"))
            }
            _ => Ok(()),
        }
    }

    fn observed_image(&self, name: &str) -> String {
        self.observed.state.container(name).map_or_else(String::new, |container| container.image.clone())
    }

    async fn ready(&self, step: &Step) -> Result<String, Failure> {
        let id = &step.resource;
        let facts = self.desired.service(&id.name);
        let Some(facts) = facts else {
            return Err(Failure::message(Kind::Error, format!("{id} is in the plan and not in the spec")));
        };
        let operator = self.secrets.operators.get(&id.name);
        let (container, network) = (self.names.of(id), self.names.network(PRIVATE));
        let waited = ready::wait(self.engine, &container, &network, &facts.ready, facts.ready_within, operator).await;
        match waited {
            Ok(()) => Ok(match &facts.ready {
                Readiness::Redis => "answers PING".to_owned(),
                Readiness::Http { path, .. } => format!("answers {path}"),
                Readiness::Running => "runs".to_owned(),
            }),
            Err(why) => {
                let message = match why {
                    NotReady::Ended(why) => format!("{id} did not stay up: {why}"),
                    NotReady::Silent(last) => {
                        format!("{id} runs and did not answer within {}: {last}", facts.ready_within)
                    }
                };
                Err(Failure::message(Kind::Error, message).help(self.culprit(&container).await))
            }
        }
    }

    async fn start_failed(&self, step: &Step, error: EngineError) -> Failure {
        let failure = self.failed(step, error);
        let lines = self.culprit(&self.names.of(&step.resource)).await;
        if lines.is_empty() { failure } else { failure.help(lines) }
    }

    /// The last lines that a container wrote, without secrets.
    async fn culprit(&self, container: &str) -> String {
        let lines = match self.engine.last_lines(container, 12).await {
            Ok(lines) if lines.is_empty() => return "it wrote nothing to its log".to_owned(),
            Ok(lines) => lines,
            Err(error) => return format!("its log could not be read: {error}"),
        };
        let mut text = format!("its last {} lines:", lines.len());
        for line in lines {
            text.push_str("\n  | ");
            text.push_str(&self.without_secrets(&line));
        }
        text
    }

    fn without_secrets(&self, line: &str) -> String {
        let mut shown: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        for secret in self.secrets.values.values().chain(self.secrets.operators.values()) {
            for value in String::from_utf8_lossy(secret.reveal()).lines().filter(|value| value.len() >= 4) {
                shown = shown.replace(value, crate::value::secret::HIDDEN);
            }
        }
        shown
    }
}

/// Where a Redis of the environment listens, on its private network.
pub async fn redis_address(engine: &Engine, names: &Names, service: &str) -> Result<SocketAddr, Failure> {
    let container = names.container(service);
    let report = engine.container(&container).await.map_err(|error| {
        let kind = if error.is_absence() { Kind::Engine } else { Kind::Error };
        Failure::message(kind, format!("could not look at {container}: {error}"))
    })?;
    let networks = report.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let end = networks.get(&names.network(PRIVATE));
    let address = end.and_then(|end| end.ip_address.as_deref()?.parse().ok());
    let address =
        address.ok_or_else(|| Failure::message(Kind::Error, format!("{container} has no address on its network")))?;
    Ok(SocketAddr::new(address, REDIS_PORT))
}

/// The version that a running server reported.
pub fn version_of(observed: &Observed, service: &str) -> String {
    let server = observed.state.container(service).and_then(|container| container.server.as_ref());
    match server.and_then(|server| server.facts.get("version")) {
        Some(Value::Text(version)) => version.clone(),
        _ => String::new(),
    }
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
    pub folder: PathBuf,
    pub reason: String,
    pub revision: Digest,
}

/// Pulls a snapshot, proves it while it comes, and lists it last. Nothing is left when it fails.
pub async fn take_backup(
    names: &Names,
    request: BackupRequest,
    number: u32,
    listener: &impl Listener,
) -> Result<backup::Manifest, Failure> {
    let capture = capture(
        names,
        &request.container,
        &request.reason,
        request.image.clone(),
        request.server.clone(),
        &request.revision,
    )?;
    let (sender, mut progress) = tokio::sync::mpsc::unbounded_channel::<u64>();
    let pulled = tokio::task::spawn_blocking(move || write_backup(&request, capture, &sender));
    while let Some(done) = progress.recv().await {
        listener.hear(Event::Bytes { number, done });
    }
    pulled.await.unwrap_or_else(|error| Err(Failure::new(Kind::Backup, error)))
}

fn capture(
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
        image,
        server,
        revision: revision.clone(),
    })
}

fn write_backup(
    request: &BackupRequest,
    mut capture: Capture,
    progress: &tokio::sync::mpsc::UnboundedSender<u64>,
) -> Result<backup::Manifest, Failure> {
    let disk = |error: anyhow::Error| Failure::new(Kind::Backup, error);
    let mut draft = backups::draft(&request.folder, &capture.id).map_err(disk)?;
    let mut file = draft.file().map_err(disk)?;
    let source = pull::Source {
        address: request.address,
        user: OPERATOR.to_owned(),
        password: String::from_utf8_lossy(request.password.reveal()).into_owned(),
        timeout: SNAPSHOT_SILENCE,
        announce_version: None,
    };
    let mut last = Instant::now();
    let pulled = pull::pull(&source, &mut file, &mut |done, _total| {
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
    capture.taken_at = store::now().to_string();
    let elapsed_ms = u64::try_from(pulled.elapsed.as_millis()).unwrap_or(u64::MAX);
    let replication = (pulled.replication_id.as_str(), pulled.replication_offset);
    let sha256 = Digest::from_hash(&pulled.sha256);
    let manifest = backup::manifest(&capture, &pulled.summary, &sha256, replication, elapsed_ms);
    if manifest.state == Proof::Unverified {
        return refuse("the server wrote no checksum; set `rdbchecksum: yes`".to_owned());
    }
    draft.keep(&manifest).map_err(disk)?;
    Ok(manifest)
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

//! The real thing: the engine, the servers it runs, and the disk. One match on the action, one call in each arm.

use crate::backup::{self, Capture, Proof};
use crate::desired::{Desired, OPERATOR, OPERATOR_PASSWORD, PRIVATE, Readiness, Secrets};
use crate::directive;
use crate::engine::archive::Write;
use crate::engine::inspect::{self, Seen};
use crate::engine::{Engine, EngineError, Names};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::http;
use crate::model::Environment;
use crate::plan::{Action, Step};
use crate::redis::{self, pull};
use crate::state::{Observed, Resource, Role, State, Value, Vitals, Volume};
use crate::store::{self, backups};
use crate::value::{Digest, Name, ResourceId, ResourceKind, Secret, Span, bytes};
use crate::world::World;
use crate::world::ready::{self, NotReady, REDIS_PORT};
use futures_util::{StreamExt as _, future};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server that sends nothing for this long while a snapshot is awaited has hung.
const SNAPSHOT_SILENCE: Duration = Duration::from_secs(60);

/// What the engine said of an environment, before it is compared with what is meant.
#[derive(Debug)]
pub struct Report {
    seen: Vec<Seen>,
    networks: Vec<(ResourceId, crate::state::Network)>,
    volumes: Vec<(ResourceId, Volume)>,
    files: BTreeMap<String, BTreeMap<String, crate::state::File>>,
    /// Wanted images that the engine has, by reference.
    images: BTreeMap<String, String>,
}

impl Report {
    /// The passwords of lockstep's own user, as they lie in the volumes.
    pub fn operators(&self) -> BTreeMap<String, Secret> {
        let mut operators = BTreeMap::new();
        for (volume, files) in &self.files {
            if let (Some((service, _)), Some(file)) = (volume.split_once('.'), files.get(OPERATOR_PASSWORD)) {
                operators.insert(service.to_owned(), Secret::new(file.content.clone()));
            }
        }
        operators
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }
}

/// Asks the engine for everything that carries the environment's labels. Sends nothing that changes anything.
pub async fn report(engine: &Engine, names: &Names, environment: Option<&Environment>) -> Result<Report, EngineError> {
    let wanted: BTreeSet<&str> = environment
        .iter()
        .flat_map(|environment| environment.services.values())
        .filter_map(|service| service.locked.as_deref())
        .collect();
    let images =
        future::try_join_all(wanted.into_iter().map(|reference| async move {
            Ok::<_, EngineError>((reference.to_owned(), engine.image(reference).await?))
        }));
    let expected: Vec<String> =
        environment.iter().flat_map(|e| e.services.keys()).map(|name| names.container(name.as_str())).collect();
    let carrier = names.container(crate::desired::FILES);
    // By name, so that nothing waits for the list; what the list has besides is asked for after it.
    let by_name = future::join_all(expected.iter().chain([&carrier]).map(|name| engine.container(name)));
    let files = async {
        match engine.read_files(&carrier).await {
            Err(error) if error.is_not_found() => Ok(BTreeMap::new()),
            other => other,
        }
    };
    let (listed, networks, volumes, images, by_name, files) =
        tokio::join!(engine.containers(names), engine.networks(names), engine.volumes(names), images, by_name, files,);
    let (listed, images) = (listed?, images?);
    let mut reports = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for report in by_name {
        match report {
            Ok(report) => {
                known.extend(report.id.clone());
                reports.push(report);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let others = listed.iter().filter(|(id, claim)| !known.contains(id) && claim.is_some());
    for report in future::join_all(others.map(|(id, _)| engine.container(id))).await {
        match report {
            Ok(report) => reports.push(report),
            // Gone between the list and the look.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let mine: BTreeSet<&str> = listed.iter().map(|(id, _)| id.as_str()).collect();
    let mut by_id: BTreeMap<String, &crate::engine::docker::Image> = BTreeMap::new();
    for image in images.iter().filter_map(|(_, image)| image.as_ref()) {
        by_id.insert(image.id.clone(), image);
    }
    let mut seen = Vec::new();
    for report in reports {
        // A container that has the name and not the labels is somebody else's.
        if !report.id.as_deref().is_some_and(|id| mine.contains(id)) {
            continue;
        }
        let image = report.image.as_ref().and_then(|id| by_id.get(id)).copied();
        seen.extend(inspect::container(names, report, image));
    }
    Ok(Report {
        seen,
        networks: networks?,
        volumes: volumes?,
        files: files?,
        images: images
            .iter()
            .filter_map(|(reference, image)| Some((reference.clone(), image.as_ref()?.id.clone())))
            .collect(),
    })
}

/// Completes a report with what the servers say of themselves, in the terms of what is meant.
pub async fn observe(report: Report, want: &Desired) -> Observed {
    let operators = report.operators();
    let mut state = State::default();
    let mut vitals = BTreeMap::new();
    for (id, network) in report.networks {
        state.resources.insert(id, Resource::Network(network));
    }
    let mut files = report.files;
    for (id, mut volume) in report.volumes {
        if let (Volume::Files { files: found }, Some(lying)) = (&mut volume, files.remove(&id.name)) {
            *found = lying;
            // Whether a file may be shown, the spec says.
            if let Some(Volume::Files { files: wanted }) = want.state.volume(&id.name) {
                for (path, file) in found.iter_mut() {
                    file.secret = wanted.get(path).is_none_or(|wanted| wanted.secret);
                }
            }
        }
        state.resources.insert(id, Resource::Volume(volume));
    }
    let asked = report.seen.iter().map(|seen| async {
        match seen.container.role {
            _ if !seen.container.running => None,
            Role::Redis => {
                let wanted = want.state.container(&seen.id.name).and_then(|container| container.server.as_ref());
                let (server, vitals) = ask(seen, operators.get(&seen.id.name), wanted).await;
                Some((server, Some(vitals)))
            }
            Role::App => Some((health(seen, want).await?, None)),
            Role::Files => None,
        }
    });
    let answers = future::join_all(asked).await;
    for (seen, answer) in report.seen.iter().zip(answers) {
        let mut container = seen.container.clone();
        if let Some(wanted) = want.state.container(&seen.id.name) {
            // What the image brings along is no difference to a spec that leaves it to the image.
            if wanted.entrypoint.is_none() && container.entrypoint == seen.brought.entrypoint {
                container.entrypoint = None;
            }
            if wanted.command.is_none() && container.command == seen.brought.command {
                container.command = None;
            }
            // The same bytes under the name that the lock has for them.
            if report.images.get(&wanted.image) == Some(&seen.image_id) {
                container.image.clone_from(&wanted.image);
            }
            if wanted.role == Role::Files {
                container.image.clone_from(&wanted.image);
            }
        }
        if let Some((server, read)) = answer {
            container.server = Some(server);
            vitals.extend(read.map(|read| (seen.id.name.clone(), read)));
        }
        state.resources.insert(seen.id.clone(), Resource::Container(Box::new(container)));
    }
    Observed { state, vitals, images: report.images.into_keys().collect() }
}

/// What an application answers on its health page, as a fact about it.
async fn health(seen: &Seen, want: &Desired) -> Option<crate::state::Server> {
    let facts = want.service(&seen.id.name)?;
    let Readiness::Http { path, port } = &facts.ready else { return None };
    let answer = match seen.address {
        Some(ip) => http::get(SocketAddr::new(ip, *port), path, Duration::from_secs(5)).await,
        None => Err("it has no address on its network".to_owned()),
    };
    let answer = match answer {
        Ok(status) => Value::text(format!("status {status}")),
        Err(why) => Value::Unknown(why),
    };
    Some(crate::state::Server { facts: BTreeMap::from([("health".to_owned(), answer)]), ..Default::default() })
}

async fn ask(
    seen: &Seen,
    operator: Option<&Secret>,
    want: Option<&crate::state::Server>,
) -> (crate::state::Server, Vitals) {
    let asked = async {
        let address = seen.address.ok_or("it has no address on its network")?;
        let password = operator.ok_or("the password of user `lockstep` is not in its volume")?;
        let server = redis::connect(SocketAddr::new(address, REDIS_PORT), OPERATOR, password).await;
        let server = server.map_err(|error| error.to_string())?;
        server.observe(want).await.map_err(|error| error.to_string())
    };
    asked.await.unwrap_or_else(|why: String| {
        let mut server = want.cloned().unwrap_or_default();
        for value in server.settings.values_mut() {
            *value = Value::Unknown(why.clone());
        }
        server.users.clear();
        server.facts = BTreeMap::from([("version".to_owned(), Value::Unknown(why.clone()))]);
        (server, Vitals { unreadable: Some(why), ..Vitals::default() })
    })
}

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
        let name = self.names.of(id);
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
                server.load_users().await.map_err(|error| self.server_failed(step, error))?;
                Ok("users loaded".to_owned())
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

    async fn create(&self, step: &Step) -> Result<String, Failure> {
        let id = &step.resource;
        let created = match self.desired.state.resources.get(id) {
            Some(Resource::Network(network)) => self.engine.create_network(&self.names, id, network.internal).await,
            Some(Resource::Volume(volume)) => self.engine.create_volume(&self.names, id, volume).await,
            Some(Resource::Container(container)) => {
                let service = self.desired.service(&id.name);
                let grace = service.map_or(Span::seconds(10), |facts| facts.stop_grace);
                self.engine.create_container(&self.names, id, container, grace).await
            }
            None => return Err(Failure::message(Kind::Error, format!("{id} is in the plan and not in the spec"))),
        };
        created.map_err(|error| self.failed(step, error))?;
        Ok("created".to_owned())
    }

    async fn remove(&self, step: &Step) -> Result<String, Failure> {
        let id = &step.resource;
        let removed = match id.kind {
            ResourceKind::Network => self.engine.remove_network(&self.names, id).await,
            ResourceKind::Volume => self.engine.remove_volume(&self.names, id).await,
            ResourceKind::Container => self.engine.remove_container(&self.names.of(id)).await,
        };
        removed.map_err(|error| self.failed(step, error))?;
        Ok("removed".to_owned())
    }

    async fn write_files(&self, step: &Step, volumes: &[String]) -> Result<String, Failure> {
        let writes: Vec<Write<'_>> = volumes
            .iter()
            .filter_map(|name| match self.desired.state.volume(name)? {
                Volume::Files { files } => Some(Write::Files { volume: name, files }),
                Volume::Data { owner } => Some(Write::Data { volume: name, owner: *owner }),
            })
            .collect();
        // The name says nothing of the content, which may be secret.
        let revision = store::random_hex::<8>().map_err(|error| Failure::new(Kind::Error, error))?;
        let revision = format!("{}-{revision}", store::now().as_second());
        let carrier = self.names.container(crate::desired::FILES);
        self.engine.write_files(&carrier, &writes, &revision).await.map_err(|error| self.failed(step, error))?;
        Ok("written".to_owned())
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
        let after = server.set(setting, value).await.map_err(|error| self.server_failed(step, error))?;
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
            Failure { kind, ..failure }.help("nothing was changed; a change starts only after its backup is proven")
        };
        let running = self.observed.state.container(&step.resource.name).is_some_and(|container| container.running);
        if !running {
            return self.copy(step, listener).await.map_err(refused);
        }
        let (address, password) = self.reach(step).await.map_err(refused)?;
        let request = BackupRequest {
            address,
            password,
            container: step.resource.name.clone(),
            image: self.observed_image(&step.resource.name),
            expected_keys: self.observed.vitals.get(&step.resource.name).map_or(0, |vitals| vitals.keys),
            folder: self.backups.clone(),
            reason: self.reason.clone(),
            revision: self.revision.clone(),
        };
        let taken = take_backup(&self.names, request, step.number, listener).await.map_err(refused)?;
        Ok(format!("{}: {} keys, {}", taken.id, taken.keys, bytes::about(taken.size_bytes)))
    }

    /// Copies the data volume of a server that does not run.
    async fn copy(&self, step: &Step, listener: &impl Listener) -> Result<String, Failure> {
        let name = &step.resource.name;
        let failed =
            |error: anyhow::Error| Failure::new(Kind::Backup, error.context(format!("could not back up {name}")));
        let began = Instant::now();
        let capture = capture(&self.names, name, &self.reason, self.observed_image(name), &self.revision)?;
        let mut draft = backups::draft(&self.backups, &capture.id).map_err(failed)?;
        let mut file = draft.file().map_err(failed)?;
        let mut hash = sha2::Sha256::new();
        let mut size_bytes = 0;
        let container = self.names.of(&step.resource);
        let mut chunks = std::pin::pin!(self.engine.download(&container, "/data"));
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| failed(error.into()))?;
            hash.update(&chunk);
            file.write_all(&chunk).map_err(|error| failed(error.into()))?;
            size_bytes += u64::try_from(chunk.len()).unwrap_or(0);
            listener.hear(Event::Bytes { number: step.number, done: size_bytes });
        }
        let snapshots = backups::snapshots(&draft.path()).map_err(failed)?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let sha256 = Digest::from_hash(&hash.finalize());
        let manifest = backup::copy_manifest(&capture, &snapshots, size_bytes, &sha256, elapsed_ms);
        draft.keep(&manifest).map_err(failed)?;
        Ok(format!("{}: its volume copied, {}", manifest.id, bytes::about(size_bytes)))
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
            if let Ok(value) = std::str::from_utf8(secret.reveal())
                && value.len() >= 4
            {
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

/// What is needed to take one backup.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    pub address: SocketAddr,
    pub password: Secret,
    pub container: String,
    pub image: String,
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
    let capture = capture(names, &request.container, &request.reason, request.image.clone(), &request.revision)?;
    let (sender, mut progress) = tokio::sync::mpsc::unbounded_channel::<u64>();
    let pulled = tokio::task::spawn_blocking(move || write_backup(&request, capture, &sender));
    while let Some(done) = progress.recv().await {
        listener.hear(Event::Bytes { number, done });
    }
    pulled.await.unwrap_or_else(|error| Err(Failure::new(Kind::Backup, error)))
}

fn capture(names: &Names, service: &str, reason: &str, image: String, revision: &Digest) -> Result<Capture, Failure> {
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

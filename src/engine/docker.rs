//! The requests, each with its own deadline.

use crate::engine::names::{self, Names};
use crate::engine::{EngineError, Fence, archive, create, inspect, reach};
use crate::hold;
use crate::probe::Life;
use crate::state::{Container, Volume};
use crate::value::{Digest, Name, ResourceId, Span};
use bollard::models::{
    ContainerInspectResponse, EndpointSettings, ImageInspect, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspect, VolumeCreateRequest,
};
use bollard::query_parameters as query;
use bollard::{ClientVersion, Docker};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds until a request without an answer counts as lost.
const DEADLINE_SECONDS: u64 = 60;
/// The same for a whole snapshot on its way into a volume.
const UPLOAD_SECONDS: u64 = 6 * 3600;
/// Seconds that the engine may take nothing of it: it writes to a disk that others use too.
const UPLOAD_STALL_SECONDS: u64 = 120;
/// The oldest API that has all that is used here: Docker 20.10.
const OLDEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// The newest API that was tried.
const NEWEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 53 };

#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    pub address: String,
    /// Whether it runs beside us and sees the same files.
    here: bool,
    /// Asked before every request that changes something.
    fence: Option<Arc<dyn Fence>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("address", &self.address).finish_non_exhaustive()
    }
}

/// An image as the engine knows it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// `sha256:...`
    pub id: String,
    /// `name@sha256:...`, for images that came from a registry.
    pub digests: Vec<String>,
    pub env: Vec<String>,
    pub command: Vec<String>,
    pub entrypoint: Vec<String>,
    pub labels: HashMap<String, String>,
    pub working_dir: String,
    pub stop_signal: String,
    pub ports: BTreeSet<String>,
    /// The test of its health check, in words.
    pub health: String,
}

impl Image {
    /// Which server it says it holds, `redis 7.0.15`: by the variables that images of Redis and Valkey set, or else by where they
    /// came from, which is all that some official images of Redis 8 say.
    pub fn server(&self) -> Option<String> {
        let variable = |name: &str| self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        [("VALKEY", "valkey"), ("REDIS", "redis")].into_iter().find_map(|(prefix, family)| {
            let from = variable(&format!("{prefix}_DOWNLOAD_URL")).and_then(released);
            let version = variable(&format!("{prefix}_VERSION")).or(from)?;
            Some(format!("{family} {version}"))
        })
    }
}

/// The version in the address of a release: `.../redis-8.2.1.tar.gz`, `.../refs/tags/8.2.1.tar.gz`.
fn released(address: &str) -> Option<&str> {
    let file = address.rsplit('/').next()?.strip_suffix(".tar.gz")?;
    let version = file.rsplit('-').next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

impl Engine {
    /// Connects and agrees on an API version; `address` is `unix:///path`.
    pub async fn connect(address: &str) -> Result<Engine, EngineError> {
        let socket = PathBuf::from(address.strip_prefix("unix://").unwrap_or(address));
        if !socket.exists() {
            return Err(EngineError::Unreachable(format!("there is no socket at {}", socket.display())));
        }
        let greeting = tokio::time::timeout(Duration::from_secs(DEADLINE_SECONDS), reach::greet(&socket)).await;
        let reach::Greeting { api, here } =
            greeting.unwrap_or_else(|_elapsed| Err(EngineError::Unknown("no answer in time".to_owned())))?;
        let version = if api < NEWEST_API { api } else { NEWEST_API };
        if version < OLDEST_API {
            return Err(EngineError::Unreachable(format!(
                "it speaks API {version}, and {OLDEST_API} (Docker 20.10) is the oldest that will do"
            )));
        }
        let docker = Docker::connect_with_unix(address, DEADLINE_SECONDS, &version)?;
        // bollard 0.21 leaves the version out of the path, so that every engine would answer in its own newest form. Goes
        // when 0.22 puts it there itself.
        let docker = docker.with_request_modifier(move |mut request| {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            if !path.starts_with("/v1.") {
                let mut parts = request.uri().clone().into_parts();
                parts.path_and_query = format!("/v{version}{path}").parse().ok();
                if let Ok(uri) = hyper::Uri::from_parts(parts) {
                    *request.uri_mut() = uri;
                }
            }
            request
        });
        Ok(Engine { docker, address: address.to_owned(), here, fence: None })
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The same engine, which changes something only while the fence permits it.
    #[must_use]
    pub fn fenced(&self, fence: Arc<dyn Fence>) -> Engine {
        Engine { fence: Some(fence), ..self.clone() }
    }

    /// Whether something may be changed now; asked before every request that does, and by those who change servers.
    pub async fn permit(&self) -> Result<(), EngineError> {
        match &self.fence {
            Some(fence) => fence.permit().await.map_err(EngineError::Fenced),
            None => Ok(()),
        }
    }

    /// The same for a thread that may wait; reads nothing but the fence.
    pub fn fence(&self) -> Option<Arc<dyn Fence>> {
        self.fence.clone()
    }

    /// Ids of all containers with the environment's labels, but the one that stands for a hold.
    pub async fn containers(&self, names: &Names) -> Result<Vec<String>, EngineError> {
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&names.filter()).build();
        let listed = self.docker.list_containers(Some(options)).await?;
        // Who is changing the environment is no part of it.
        let is_hold = |labels: &HashMap<String, String>| labels.get(names::ROLE).is_some_and(|role| role == hold::ROLE);
        let of_it = listed.into_iter().filter(|summary| !summary.labels.as_ref().is_some_and(is_hold));
        Ok(of_it.filter_map(|summary| summary.id).collect())
    }

    /// Whether it can bound what a container swaps; where the kernel does not count that, it reports no bound whatever it was told.
    pub async fn bounds_swap(&self) -> Result<bool, EngineError> {
        Ok(self.docker.info().await?.swap_limit.unwrap_or(true))
    }

    /// One container, by name or id, as the engine reports it.
    pub async fn container(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        Ok(self.docker.inspect_container(id, None).await?)
    }

    /// The same; `None` when it is not there.
    pub async fn find_container(&self, id: &str) -> Result<Option<ContainerInspectResponse>, EngineError> {
        match self.container(id).await {
            Ok(report) => Ok(Some(report)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All networks of the engine: those of others matter too, since a name can be taken.
    pub async fn networks(&self) -> Result<Vec<bollard::models::Network>, EngineError> {
        Ok(self.docker.list_networks(None::<query::ListNetworksOptions>).await?)
    }

    /// One network with those that are on it; `None` when it is not there.
    pub async fn network(&self, name: &str) -> Result<Option<NetworkInspect>, EngineError> {
        match self.docker.inspect_network(name, None::<query::InspectNetworkOptions>).await.map_err(EngineError::from) {
            Ok(report) => Ok(Some(report)),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ids of the containers on a network that are the environment's: those that are known, and any that came since.
    pub async fn residents(
        &self,
        names: &Names,
        network: &NetworkInspect,
        known: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut own = known.clone();
        for id in network.containers.iter().flatten().map(|(id, _)| id).filter(|id| !known.contains(*id)) {
            let labels = self.container(id).await.ok().map(|report| report.config.and_then(|config| config.labels));
            // One that is gone is nobody's guest.
            if labels.is_none_or(|labels| labels.is_some_and(|labels| names.claimed(&labels).is_some())) {
                own.insert(id.clone());
            }
        }
        own
    }

    /// All volumes of the engine.
    pub async fn volumes(&self) -> Result<Vec<bollard::models::Volume>, EngineError> {
        let listed = self.docker.list_volumes(None::<query::ListVolumesOptions>).await?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// `None` when the engine does not have it.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        match self.docker.inspect_image(reference).await.map_err(EngineError::from) {
            Ok(image) => Ok(Some(image_facts(image))),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn pull(&self, reference: &str) -> Result<(), EngineError> {
        self.permit().await?;
        let options = query::CreateImageOptionsBuilder::default().from_image(reference).build();
        let mut progress = std::pin::pin!(self.docker.create_image(Some(options), None, None));
        while let Some(line) = progress.next().await {
            line?;
        }
        Ok(())
    }

    pub async fn create_network(&self, names: &Names, id: &ResourceId, internal: bool) -> Result<(), EngineError> {
        self.permit().await?;
        let request = NetworkCreateRequest {
            name: names.of(id),
            driver: Some("bridge".to_owned()),
            internal: Some(internal),
            labels: Some(names.labels(id, "network")),
            ..NetworkCreateRequest::default()
        };
        let first = match self.docker.create_network(request.clone()).await.map_err(EngineError::from) {
            Ok(_) => return Ok(()),
            // It has given all its own address ranges away, some 30 of them, which it says in words alone (20.10 to 28).
            Err(error @ (EngineError::Refused { .. } | EngineError::NotFound(_)))
                if error.to_string().contains("address pool") =>
            {
                error
            }
            Err(error) => return Err(error),
        };
        for attempt in 0..RANGES_TRIED {
            let range = IpamConfig { subnet: Some(range(&request.name, attempt)), ..IpamConfig::default() };
            let ipam = Some(Ipam { config: Some(vec![range]), ..Ipam::default() });
            match self
                .docker
                .create_network(NetworkCreateRequest { ipam, ..request.clone() })
                .await
                .map_err(EngineError::from)
            {
                Ok(_) => return Ok(()),
                // Somebody has that one.
                Err(EngineError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(first)
    }

    /// Removes every network of this name, whoever is still on it: a lost answer may have made a second one.
    pub async fn dissolve(&self, name: &str) -> Result<(), EngineError> {
        let networks = self.networks().await?;
        let ids = networks.into_iter().filter(|network| network.name.as_deref() == Some(name)).filter_map(|of| of.id);
        for id in ids {
            let report = match self.docker.inspect_network(&id, None::<query::InspectNetworkOptions>).await {
                Ok(report) => report,
                Err(error) => {
                    absent_is_done(Err(error))?;
                    continue;
                }
            };
            for container in report.containers.unwrap_or_default().into_keys() {
                self.disconnect_from(&container, &id).await?;
            }
            self.remove_network(&id).await?;
        }
        Ok(())
    }

    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.permit().await?;
        absent_is_done(self.docker.remove_network(name).await)
    }

    pub async fn create_volume(&self, names: &Names, id: &ResourceId, volume: &Volume) -> Result<(), EngineError> {
        self.permit().await?;
        let request = VolumeCreateRequest {
            name: Some(names.of(id)),
            driver: Some("local".to_owned()),
            labels: Some(names.labels(id, inspect::volume_role(volume))),
            ..VolumeCreateRequest::default()
        };
        self.docker.create_volume(request).await?;
        Ok(())
    }

    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.permit().await?;
        absent_is_done(self.docker.remove_volume(name, None::<query::RemoveVolumeOptions>).await)
    }

    /// Creates the container and attaches it to all its networks; it is not started.
    pub async fn create_container(
        &self,
        names: &Names,
        id: &ResourceId,
        container: &Container,
    ) -> Result<(), EngineError> {
        self.create_as(names, id, container, &names.of(id), Some(&id.name)).await
    }

    /// The same under any name, and found by others under the alias; by nobody without one.
    pub async fn create_as(
        &self,
        names: &Names,
        id: &ResourceId,
        container: &Container,
        name: &str,
        alias: Option<&str>,
    ) -> Result<(), EngineError> {
        let options = query::CreateContainerOptionsBuilder::default().name(name).build();
        let (body, first) = create::body(names, id, container, alias);
        self.permit().await?;
        self.docker.create_container(Some(options), body).await?;
        // API 1.41 takes one network at creation.
        for network in container.networks.iter().filter(|network| Some(*network) != first.as_ref()) {
            self.connect_to(name, &names.network(network), alias).await?;
        }
        Ok(())
    }

    /// Creates a container under another name than its own, and on this network alone, where nobody knows it.
    pub async fn create_beside(
        &self,
        names: &Names,
        id: &ResourceId,
        container: &Container,
        beside: &str,
        network: &str,
    ) -> Result<(), EngineError> {
        let options = query::CreateContainerOptionsBuilder::default().name(beside).build();
        let (body, first) = create::body(names, id, container, None);
        self.permit().await?;
        self.docker.create_container(Some(options), body).await?;
        if let Some(first) = first {
            self.disconnect_from(beside, &names.network(&first)).await?;
        }
        self.connect_to(beside, network, None).await
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let options = query::RenameContainerOptionsBuilder::default().name(to).build();
        self.permit().await?;
        Ok(self.docker.rename_container(from, options).await?)
    }

    /// Attaches a container to a network, where others find it by the alias.
    pub async fn connect_to(&self, container: &str, network: &str, alias: Option<&str>) -> Result<(), EngineError> {
        let endpoint =
            EndpointSettings { aliases: alias.map(|alias| vec![alias.to_owned()]), ..EndpointSettings::default() };
        let request = NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
        self.permit().await?;
        Ok(self.docker.connect_network(network, request).await?)
    }

    pub async fn disconnect_from(&self, container: &str, network: &str) -> Result<(), EngineError> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(false) };
        self.permit().await?;
        match absent_is_done(self.docker.disconnect_network(network, request).await) {
            Err(EngineError::Refused { message, .. }) if message.contains("is not connected to") => Ok(()),
            other => other,
        }
    }

    pub async fn start(&self, name: &str) -> Result<(), EngineError> {
        self.permit().await?;
        Ok(self.docker.start_container(name, None).await?)
    }

    /// Stops within the grace, counted by the engine; the answer is awaited for longer than that.
    pub async fn stop(&self, name: &str, grace: Span) -> Result<(), EngineError> {
        self.permit().await?;
        let seconds = i32::try_from(grace.milliseconds.div_ceil(1000)).unwrap_or(i32::MAX);
        let patient = self.docker.clone().with_timeout(grace.duration() + Span::seconds(30).duration());
        let options = query::StopContainerOptionsBuilder::default().t(seconds).build();
        absent_is_done(patient.stop_container(name, Some(options)).await)
    }

    /// Removes a container and the anonymous volumes that its image declared; named volumes stay.
    pub async fn remove_container(&self, name: &str) -> Result<(), EngineError> {
        self.permit().await?;
        let options = query::RemoveContainerOptionsBuilder::default().v(true).build();
        absent_is_done(self.docker.remove_container(name, Some(options)).await)
    }

    /// Removes a container with the process in it, and the anonymous volumes that its image declared.
    pub async fn kill_container(&self, name: &str) -> Result<(), EngineError> {
        self.permit().await?;
        let options = query::RemoveContainerOptionsBuilder::default().v(true).force(true).build();
        absent_is_done(self.docker.remove_container(name, Some(options)).await)
    }

    /// The same of one under a name that only the environment gives; one of others that has it is left alone.
    pub async fn kill_own(&self, names: &Names, name: &str) -> Result<(), EngineError> {
        let Some(report) = self.find_container(name).await? else { return Ok(()) };
        let labels = report.config.and_then(|config| config.labels).unwrap_or_default();
        if names.claimed(&labels).is_none() {
            return Err(EngineError::Conflict(format!("{name} is somebody else's container, and was not touched")));
        }
        self.kill_container(&report.id.unwrap_or_default()).await
    }

    /// Names of all volumes with the environment's labels.
    pub async fn volumes_of(&self, names: &Names) -> Result<Vec<String>, EngineError> {
        let options = query::ListVolumesOptionsBuilder::default().filters(&names.filter()).build();
        let listed = self.docker.list_volumes(Some(options)).await?;
        Ok(listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    /// Names of all networks with the environment's labels.
    pub async fn networks_of(&self, names: &Names) -> Result<Vec<String>, EngineError> {
        let options = query::ListNetworksOptionsBuilder::default().filters(&names.filter()).build();
        let listed = self.docker.list_networks(Some(options)).await?;
        Ok(listed.into_iter().filter_map(|network| network.name).collect())
    }

    /// The environments of a stack whose name begins so and of which there is a volume, with the time when the engine
    /// made it (RFC 3339).
    pub async fn environments(&self, stack: &Name, prefix: &str) -> Result<BTreeMap<String, String>, EngineError> {
        let mut found = BTreeMap::new();
        for volume in self.volumes().await? {
            if let (Some(environment), Some(made)) = (volume.labels.get(names::ENVIRONMENT), volume.created_at)
                && volume.labels.get(names::STACK).is_some_and(|of| of == stack.as_str())
                && environment.starts_with(prefix)
            {
                found.insert(environment.clone(), made);
            }
        }
        Ok(found)
    }

    /// Unpacks a tar stream below a folder of a container.
    pub async fn upload(
        &self,
        name: &str,
        path: &str,
        tar: impl Stream<Item = io::Result<bytes::Bytes>> + Send + 'static,
    ) -> Result<(), EngineError> {
        self.permit().await?;
        let options = query::UploadToContainerOptionsBuilder::default().path(path).build();
        // The answer comes when all is unpacked.
        let patient = self.docker.clone().with_timeout(Duration::from_secs(UPLOAD_SECONDS));
        // A stream goes on for as long as it takes; each part of it is a change of its own.
        let fence = self.fence.clone();
        let tar = tar.then(move |part| {
            let fence = fence.clone();
            async move {
                if let Some(fence) = fence {
                    fence.permit().await.map_err(io::Error::other)?;
                }
                part
            }
        });
        let (tar, taken) = Taken::of(tar);
        let sent = patient.upload_to_container(name, Some(options), bollard::body_try_stream(tar));
        tokio::select! {
            sent = sent => Ok(sent?),
            () = taken.stalled(Duration::from_secs(UPLOAD_STALL_SECONDS)) => {
                Err(EngineError::Unknown(format!("it took nothing of an upload for {UPLOAD_STALL_SECONDS} s")))
            }
        }
    }

    /// Memory, processors, processes and restart policy of a running container.
    pub async fn update(&self, name: &str, container: &Container) -> Result<(), EngineError> {
        self.permit().await?;
        Ok(self.docker.update_container(name, create::update(container)).await?)
    }

    /// Writes files into volumes, through a container that mounts them under `/v` (files) and `/d` (data).
    pub async fn write_files(
        &self,
        name: &str,
        writes: &[archive::Write<'_>],
        revision: &str,
    ) -> Result<(), EngineError> {
        self.permit().await?;
        let tar = archive::pack(writes, revision)
            .map_err(|error| EngineError::Refused { status: 0, message: error.to_string() })?;
        let options = query::UploadToContainerOptionsBuilder::default().path("/").build();
        Ok(self.docker.upload_to_container(name, Some(options), bollard::body_full(tar.into())).await?)
    }

    /// Where an environment's volumes of files lie on this machine, out of all volumes that the engine listed, each with what it
    /// is called in the environment. `None` where they are not to be had here.
    pub fn homes(&self, names: &Names, listed: &[bollard::models::Volume]) -> Option<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for volume in listed.iter().filter(|volume| inspect::is_files(&volume.labels)) {
            let Some(id) = names.claimed(&volume.labels).filter(|id| names.of(id) == volume.name) else { continue };
            // A driver of others may have it anywhere, and one with options is only there while it is mounted.
            if volume.driver != "local" || !volume.options.is_empty() {
                return None;
            }
            found.push((id.name, PathBuf::from(&volume.mountpoint)));
        }
        self.here.then_some(found)
    }

    /// Whether it runs beside us and sees the same files.
    pub fn is_here(&self) -> bool {
        self.here
    }

    /// What lies below a folder of a container: `/v`, or a folder that one volume is mounted at.
    pub async fn read_files(&self, name: &str, path: &str) -> Result<Vec<u8>, EngineError> {
        let mut chunks = std::pin::pin!(self.download(name, path));
        let mut tar = Vec::new();
        while let Some(chunk) = next_within(&mut chunks).await? {
            if tar.len() + chunk.len() > archive::MAX_TAR {
                let message = "the volumes of files hold more than lockstep ever puts there".to_owned();
                return Err(EngineError::Refused { status: 0, message });
            }
            tar.extend_from_slice(&chunk);
        }
        Ok(tar)
    }

    /// A folder of a container as a tar stream, also of one that does not run.
    pub fn download(&self, name: &str, path: &str) -> impl Stream<Item = Result<bytes::Bytes, EngineError>> {
        let options = query::DownloadFromContainerOptionsBuilder::default().path(path).build();
        self.docker.download_from_container(name, Some(options)).map_err(EngineError::from)
    }

    /// The last lines that a container wrote.
    pub async fn last_lines(&self, name: &str, lines: u32) -> Result<Vec<String>, EngineError> {
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut text = Vec::new();
        let mut stream = std::pin::pin!(self.docker.logs(name, Some(options)).map_err(EngineError::from));
        while let Some(chunk) = next_within(&mut stream).await? {
            text.extend_from_slice(&chunk.into_bytes());
            if text.len() > 64 << 10 {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}

/// Since when the engine has had a part of a stream without asking for the next: nothing while one is being made for it.
#[derive(Clone, Debug)]
struct Taken(Arc<Mutex<Option<Instant>>>);

impl Taken {
    /// The stream, and what watches who takes from it.
    fn of<T>(stream: impl Stream<Item = T>) -> (impl Stream<Item = T>, Taken) {
        let taken = Taken(Arc::new(Mutex::new(Some(Instant::now()))));
        let watched = taken.clone();
        let mut stream = Box::pin(stream);
        let watching = futures_util::stream::poll_fn(move |context| {
            watched.set(None);
            let next = stream.as_mut().poll_next(context);
            if next.is_ready() {
                watched.set(Some(Instant::now()));
            }
            next
        });
        (watching, taken)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Ends when the engine has taken nothing for so long.
    async fn stalled(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit / 16).await;
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }
}

/// What a container wrote, with the engine's own time ahead of each line.
#[derive(Debug, Default)]
pub struct Written {
    pub lines: Vec<String>,
    /// Whether there is more than was read.
    pub more: bool,
}

impl Engine {
    /// What a container wrote from a second on (since 1970), the oldest first, up to 4 MB.
    pub async fn lines_since(&self, name: &str, second: i64) -> Result<Written, EngineError> {
        const MOST: usize = 4 << 20;
        let since = i32::try_from(second.max(0)).unwrap_or(i32::MAX);
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).since(since);
        let mut stream = std::pin::pin!(self.docker.logs(name, Some(options.build())).map_err(EngineError::from));
        let (mut text, mut more) = (Vec::new(), false);
        while let Some(chunk) = next_within(&mut stream).await? {
            text.extend_from_slice(&chunk.into_bytes());
            more = text.len() > MOST;
            if more {
                break;
            }
        }
        Ok(Written { lines: String::from_utf8_lossy(&text).lines().map(str::to_owned).collect(), more })
    }

    /// How a container lives, and where it is on a network of the engine's.
    pub async fn life(&self, name: &str, network: &str) -> Result<(Life, Option<std::net::IpAddr>), EngineError> {
        let report = self.container(name).await?;
        let address = inspect::address(&report.network_settings, network);
        let state = report.state.unwrap_or_default();
        let running = state.running.unwrap_or_default() && !state.restarting.unwrap_or_default();
        let life = Life {
            id: report.id.unwrap_or_default(),
            running,
            restarts: report.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
            started_at: state.started_at.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
        };
        Ok((life, address))
    }
}

/// How many ranges of addresses are tried for a network that the engine has none for.
const RANGES_TRIED: u32 = 8;

/// One of the 2048 ranges of 64 addresses in 198.18.0.0/15, which is set aside for tests and routed nowhere.
fn range(network: &str, attempt: u32) -> String {
    let digest = Digest::of(format!("{network} {attempt}").as_bytes());
    let drawn = digest.as_str().get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(attempt);
    let place = drawn % 2048;
    format!("198.{}.{}.{}/26", 18 + place / 1024, place / 4 % 256, place % 4 * 64)
}

/// The next part of a stream; the client's own deadline ends with the first byte of an answer.
pub async fn next_within<T>(
    stream: &mut (impl Stream<Item = Result<T, EngineError>> + Unpin),
) -> Result<Option<T>, EngineError> {
    let silence = Duration::from_secs(DEADLINE_SECONDS);
    match tokio::time::timeout(silence, stream.next()).await {
        Ok(part) => part.transpose(),
        Err(_elapsed) => Err(EngineError::Unknown("its answer broke off".to_owned())),
    }
}

/// What is to be gone and is not there is done.
fn absent_is_done(result: Result<(), bollard::errors::Error>) -> Result<(), EngineError> {
    match result.map_err(EngineError::from) {
        Err(EngineError::NotFound(_) | EngineError::Refused { status: 304, .. }) => Ok(()),
        other => other,
    }
}

fn image_facts(image: ImageInspect) -> Image {
    let config = image.config.unwrap_or_default();
    Image {
        id: image.id.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        stop_signal: config.stop_signal.unwrap_or_default(),
        ports: config.exposed_ports.unwrap_or_default().into_iter().collect(),
        health: inspect::health_check(config.healthcheck.as_ref()),
    }
}

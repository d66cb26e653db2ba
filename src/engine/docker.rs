//! The requests, each with its own deadline.

use crate::engine::names::Names;
use crate::engine::{EngineError, archive, create, inspect};
use crate::state::{Container, Volume};
use crate::value::{ResourceId, Span};
use bollard::models::{
    ContainerInspectResponse, EndpointSettings, ImageInspect, NetworkConnectRequest, NetworkCreateRequest,
    VolumeCreateRequest,
};
use bollard::query_parameters as query;
use bollard::{ClientVersion, Docker};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use std::fmt;

/// Seconds until a request without an answer counts as lost.
const DEADLINE_SECONDS: u64 = 60;
/// The oldest API that has all that is used here: Docker 20.10.
const OLDEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// The newest API that was tried.
const NEWEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 53 };

pub struct Engine {
    docker: Docker,
    pub address: String,
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
}

impl Engine {
    /// Connects and agrees on an API version; `address` is `unix:///path`.
    pub async fn connect(address: &str) -> Result<Engine, EngineError> {
        let docker = Docker::connect_with_unix(address, DEADLINE_SECONDS, &NEWEST_API)?;
        let docker = docker.negotiate_version().await?;
        let version = docker.client_version();
        if version < OLDEST_API {
            return Err(EngineError::Unreachable(format!(
                "it speaks API {version}, and {OLDEST_API} (Docker 20.10) is the oldest that will do"
            )));
        }
        // bollard 0.21 agrees on a version and then leaves it out of the path, so that every engine
        // would answer in its own newest form. Goes when 0.22 does it itself.
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
        Ok(Engine { docker, address: address.to_owned() })
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Ids of all containers with the environment's labels.
    pub async fn containers(&self, names: &Names) -> Result<Vec<String>, EngineError> {
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&names.filter()).build();
        let listed = self.docker.list_containers(Some(options)).await?;
        Ok(listed.into_iter().filter_map(|summary| summary.id).collect())
    }

    /// One container, by name or id, as the engine reports it.
    pub async fn container(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        Ok(self.docker.inspect_container(id, None).await?)
    }

    /// All networks of the engine: those of others matter too, since a name can be taken.
    pub async fn networks(&self) -> Result<Vec<bollard::models::Network>, EngineError> {
        Ok(self.docker.list_networks(None::<query::ListNetworksOptions>).await?)
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
        let options = query::CreateImageOptionsBuilder::default().from_image(reference).build();
        let mut progress = std::pin::pin!(self.docker.create_image(Some(options), None, None));
        while let Some(line) = progress.next().await {
            line?;
        }
        Ok(())
    }

    pub async fn create_network(&self, names: &Names, id: &ResourceId, internal: bool) -> Result<(), EngineError> {
        let request = NetworkCreateRequest {
            name: names.of(id),
            driver: Some("bridge".to_owned()),
            internal: Some(internal),
            labels: Some(names.labels(id, "network")),
            ..NetworkCreateRequest::default()
        };
        self.docker.create_network(request).await?;
        Ok(())
    }

    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        absent_is_done(self.docker.remove_network(name).await)
    }

    pub async fn create_volume(&self, names: &Names, id: &ResourceId, volume: &Volume) -> Result<(), EngineError> {
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
        absent_is_done(self.docker.remove_volume(name, None::<query::RemoveVolumeOptions>).await)
    }

    /// Creates the container and attaches it to all its networks; it is not started.
    pub async fn create_container(
        &self,
        names: &Names,
        id: &ResourceId,
        container: &Container,
    ) -> Result<(), EngineError> {
        let options = query::CreateContainerOptionsBuilder::default().name(&names.of(id)).build();
        let (body, first) = create::body(names, id, container);
        self.docker.create_container(Some(options), body).await?;
        // API 1.41 takes one network at creation.
        for network in container.networks.iter().filter(|network| Some(*network) != first.as_ref()) {
            let request = NetworkConnectRequest {
                container: names.of(id),
                endpoint_config: Some(EndpointSettings {
                    aliases: Some(vec![id.name.clone()]),
                    ..EndpointSettings::default()
                }),
            };
            self.docker.connect_network(&names.network(network), request).await?;
        }
        Ok(())
    }

    pub async fn start(&self, name: &str) -> Result<(), EngineError> {
        Ok(self.docker.start_container(name, None).await?)
    }

    /// Stops within the grace, counted by the engine; the answer is awaited for longer than that.
    pub async fn stop(&self, name: &str, grace: Span) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.milliseconds.div_ceil(1000)).unwrap_or(i32::MAX);
        let patient = self.docker.clone().with_timeout(grace.duration() + Span::seconds(30).duration());
        let options = query::StopContainerOptionsBuilder::default().t(seconds).build();
        absent_is_done(patient.stop_container(name, Some(options)).await)
    }

    /// Removes a container and the anonymous volumes that its image declared; named volumes stay.
    pub async fn remove_container(&self, name: &str) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptionsBuilder::default().v(true).build();
        absent_is_done(self.docker.remove_container(name, Some(options)).await)
    }

    /// Memory, processors, processes and restart policy of a running container.
    pub async fn update(&self, name: &str, container: &Container) -> Result<(), EngineError> {
        Ok(self.docker.update_container(name, create::update(container)).await?)
    }

    /// Writes files into volumes, through a container that mounts them under `/v` (files) and `/d` (data).
    pub async fn write_files(
        &self,
        name: &str,
        writes: &[archive::Write<'_>],
        revision: &str,
    ) -> Result<(), EngineError> {
        let tar = archive::pack(writes, revision)
            .map_err(|error| EngineError::Refused { status: 0, message: error.to_string() })?;
        let options = query::UploadToContainerOptionsBuilder::default().path("/").build();
        Ok(self.docker.upload_to_container(name, Some(options), bollard::body_full(tar.into())).await?)
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

/// The next part of a stream; the client's own deadline ends with the first byte of an answer.
pub async fn next_within<T>(
    stream: &mut (impl Stream<Item = Result<T, EngineError>> + Unpin),
) -> Result<Option<T>, EngineError> {
    let silence = std::time::Duration::from_secs(DEADLINE_SECONDS);
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
    }
}

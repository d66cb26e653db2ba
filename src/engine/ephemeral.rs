//! What the engine has of environments that exist for a while alone.

use crate::engine::names::{self, Names};
use crate::engine::{Engine, EngineError};
use crate::hold;
use crate::value::{Name, ResourceId, ResourceKind};
use bollard::query_parameters as query;
use jiff::Timestamp;
use std::collections::HashMap;

/// An object of one, or of a seed, as its labels and its name agree.
#[derive(Clone, Debug)]
pub struct Marked {
    pub names: Names,
    pub resource: ResourceId,
    /// What the engine knows it by: its id, which no later object has; a volume has but its name.
    pub id: String,
    /// Whether it stands for whoever holds the environment.
    pub is_hold: bool,
    /// When it was made, seconds since 1970, where the engine tells.
    pub made: Option<i64>,
}

/// An object with a mark, as the engine lists it; whose it is has yet to be found out.
#[derive(Clone, Debug)]
pub struct Listed {
    kind: ResourceKind,
    name: String,
    id: String,
    labels: HashMap<String, String>,
    made: Option<i64>,
}

impl Listed {
    /// What it is of a copy.
    pub fn of_copy(&self, stack: &Name) -> Option<Marked> {
        self.of(names::ephemeral(stack, &self.labels, &self.name)?)
    }

    /// What it is of a seed that copies share.
    pub fn of_seed(&self, stack: &Name) -> Option<Marked> {
        self.of(names::seed(stack, &self.labels, &self.name)?)
    }

    fn of(&self, (names, resource): (Names, ResourceId)) -> Option<Marked> {
        let is_hold = self.labels.get(names::ROLE).is_some_and(|role| role == hold::ROLE);
        let marked = Marked { names, resource, id: self.id.clone(), is_hold, made: self.made };
        (marked.resource.kind == self.kind).then_some(marked)
    }
}

impl Engine {
    /// Everything of a stack's ephemeral environments, or of one of them.
    pub async fn marked(&self, stack: &Name, environment: Option<&Name>) -> Result<Vec<Marked>, EngineError> {
        let listed = self.listed(stack, environment).await?;
        Ok(listed.iter().filter_map(|object| object.of_copy(stack)).collect())
    }

    /// Everything of a stack that has a mark, or of one environment of it.
    pub async fn listed(&self, stack: &Name, environment: Option<&Name>) -> Result<Vec<Listed>, EngineError> {
        let mut labels = vec![format!("{}={stack}", names::STACK), names::EPHEMERAL.to_owned()];
        labels.extend(environment.map(|environment| format!("{}={environment}", names::ENVIRONMENT)));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let containers = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let networks = query::ListNetworksOptionsBuilder::default().filters(&filters).build();
        let volumes = query::ListVolumesOptionsBuilder::default().filters(&filters).build();
        let docker = self.docker();
        let (containers, networks, volumes) = tokio::join!(
            docker.list_containers(Some(containers)),
            docker.list_networks(Some(networks)),
            docker.list_volumes(Some(volumes)),
        );
        let mut found = Vec::new();
        for container in containers? {
            let name = container.names.iter().flatten().next().map_or("", String::as_str).trim_start_matches('/');
            found.push(Listed {
                kind: ResourceKind::Container,
                name: name.to_owned(),
                id: container.id.unwrap_or_default(),
                labels: container.labels.unwrap_or_default(),
                made: container.created,
            });
        }
        for network in networks? {
            found.push(Listed {
                kind: ResourceKind::Network,
                name: network.name.unwrap_or_default(),
                id: network.id.unwrap_or_default(),
                labels: network.labels.unwrap_or_default(),
                made: network.created.as_deref().and_then(second),
            });
        }
        for volume in volumes?.volumes.unwrap_or_default() {
            found.push(Listed {
                kind: ResourceKind::Volume,
                id: volume.name.clone(),
                name: volume.name,
                labels: volume.labels,
                made: volume.created_at.as_deref().and_then(second),
            });
        }
        Ok(found)
    }

    /// Whether any container has a volume, but one of them.
    pub async fn is_mounted(&self, volume: &str, but: &str) -> Result<bool, EngineError> {
        let filters = HashMap::from([("volume".to_owned(), vec![volume.to_owned()])]);
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker().list_containers(Some(options)).await?;
        Ok(listed.iter().any(|container| container.id.as_deref() != Some(but)))
    }

    /// Whether a volume is the environment's: one that the engine made because a container named it has no labels.
    pub async fn has_volume(&self, names: &Names, volume: &str) -> Result<bool, EngineError> {
        match self.docker().inspect_volume(volume).await.map_err(EngineError::from) {
            Ok(report) => Ok(names.claimed(&report.labels).is_some()),
            Err(EngineError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The engine's own clock, seconds since 1970.
    pub async fn clock(&self) -> Result<i64, EngineError> {
        let time = self.docker().info().await?.system_time;
        let read = time.as_deref().and_then(second);
        read.ok_or_else(|| EngineError::Unknown("it does not say what time it is".to_owned()))
    }
}

fn second(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

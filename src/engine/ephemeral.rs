//! What the engine has of environments that exist for a while alone.

use crate::engine::names::{self, Names};
use crate::engine::{Engine, EngineError};
use crate::hold;
use crate::value::{Name, ResourceId};
use bollard::query_parameters as query;
use jiff::Timestamp;
use std::collections::HashMap;

/// An object of one, as its labels and its name agree.
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

impl Engine {
    /// Everything of a stack's ephemeral environments, or of one of them.
    pub async fn marked(&self, stack: &Name, environment: Option<&Name>) -> Result<Vec<Marked>, EngineError> {
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
        let mut admit = |labels: &HashMap<String, String>, name: &str, id: String, made: Option<i64>| {
            let own = names::ephemeral(stack, labels, name);
            let is_hold = labels.get(names::ROLE).is_some_and(|role| role == hold::ROLE);
            found.extend(own.map(|(names, resource)| Marked { names, resource, id, is_hold, made }));
        };
        for container in containers? {
            let name = container.names.iter().flatten().next().map_or("", String::as_str).trim_start_matches('/');
            admit(&container.labels.unwrap_or_default(), name, container.id.unwrap_or_default(), container.created);
        }
        for network in networks? {
            let (name, id) = (network.name.unwrap_or_default(), network.id.unwrap_or_default());
            let made = network.created.as_deref().and_then(second);
            admit(&network.labels.unwrap_or_default(), &name, id, made);
        }
        for volume in volumes?.volumes.unwrap_or_default() {
            let made = volume.created_at.as_deref().and_then(second);
            admit(&volume.labels, &volume.name, volume.name.clone(), made);
        }
        Ok(found)
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

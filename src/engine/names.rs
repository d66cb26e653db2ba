//! What an environment's resources are called on the engine, and which labels say whose they are.
//!
//! Labels hold stable identity only: they cannot change on a live container.

use crate::value::{Name, ResourceId, ResourceKind};
use std::collections::HashMap;

pub const STACK: &str = "dev.lockstep.stack";
pub const ENVIRONMENT: &str = "dev.lockstep.environment";
pub const SERVICE: &str = "dev.lockstep.service";
/// `container/cache`, `volume/cache.data`.
pub const RESOURCE: &str = "dev.lockstep.resource";
/// `data` or `files`, on volumes; `redis`, `app` or `files`, on containers.
pub const ROLE: &str = "dev.lockstep.role";

#[derive(Clone, Debug)]
pub struct Names {
    pub stack: Name,
    pub environment: Name,
}

impl Names {
    pub fn project(&self) -> String {
        format!("{}-{}", self.stack, self.environment)
    }

    /// `alphanode-staging-cache`, `alphanode-staging-cache.data`.
    pub fn of(&self, id: &ResourceId) -> String {
        format!("{}-{}", self.project(), id.name)
    }

    pub fn container(&self, name: &str) -> String {
        self.of(&ResourceId::container(name))
    }

    pub fn volume(&self, name: &str) -> String {
        self.of(&ResourceId::volume(name))
    }

    pub fn network(&self, name: &str) -> String {
        self.of(&ResourceId::network(name))
    }

    /// The label filter that finds everything of this environment.
    pub fn filter(&self) -> HashMap<String, Vec<String>> {
        let labels = vec![format!("{STACK}={}", self.stack), format!("{ENVIRONMENT}={}", self.environment)];
        HashMap::from([("label".to_owned(), labels)])
    }

    pub fn labels(&self, id: &ResourceId, role: &str) -> HashMap<String, String> {
        let service = id.name.split('.').next().unwrap_or_default();
        let mut labels = HashMap::from([
            (STACK.to_owned(), self.stack.to_string()),
            (ENVIRONMENT.to_owned(), self.environment.to_string()),
            (RESOURCE.to_owned(), id.to_string()),
            (ROLE.to_owned(), role.to_owned()),
            // So that the tools people already use group the stack.
            ("com.docker.compose.project".to_owned(), self.project()),
        ]);
        if id.kind == ResourceKind::Container {
            labels.insert("com.docker.compose.service".to_owned(), service.to_owned());
        }
        if id.kind != ResourceKind::Network {
            labels.insert(SERVICE.to_owned(), service.to_owned());
        }
        labels
    }
}

impl Names {
    /// The resource of this environment that an object's labels claim it to be.
    pub fn claimed(&self, labels: &HashMap<String, String>) -> Option<ResourceId> {
        let is = |label: &str, name: &Name| labels.get(label).is_some_and(|value| value == name.as_str());
        if !is(STACK, &self.stack) || !is(ENVIRONMENT, &self.environment) {
            return None;
        }
        let (kind, name) = labels.get(RESOURCE)?.split_once('/')?;
        let kind = [ResourceKind::Network, ResourceKind::Volume, ResourceKind::Container]
            .into_iter()
            .find(|known| known.as_str() == kind)?;
        Some(ResourceId { kind, name: name.to_owned() })
    }
}

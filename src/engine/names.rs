//! What an environment's resources are called on the engine, and which labels say whose they are.
//!
//! Labels hold stable identity only: they cannot change on a live container.

use crate::model::ephemeral::{self, Mark, Until};
use crate::model::rules::SEED;
use crate::state::Mount;
use crate::value::{Digest, Name, ResourceId, ResourceKind};
use jiff::Timestamp;
use std::collections::HashMap;

pub const STACK: &str = "dev.lockstep.stack";
pub const ENVIRONMENT: &str = "dev.lockstep.environment";
pub const SERVICE: &str = "dev.lockstep.service";
/// `container/cache`, `volume/cache.data`.
pub const RESOURCE: &str = "dev.lockstep.resource";
/// `data` or `files`, on volumes; `redis`, `app` or `files`, on containers.
pub const ROLE: &str = "dev.lockstep.role";
/// On what exists for a while alone: the environment that it is a copy of, and until when, which cannot change either.
pub const EPHEMERAL: &str = "dev.lockstep.ephemeral";
pub const UNTIL: &str = "dev.lockstep.until";
/// The process that made it. Where that is seen to live, it is nobody else's to take away.
pub const MAKER: &str = "dev.lockstep.maker";

/// In place of the environment that it is a copy of, on what copies share.
const SEEDS: &str = "seed";
/// What the container of a seed is called once the seed is whole; until then it is called as its volume is.
const WHOLE: &str = "whole";

/// In place of a time, where it goes with whoever holds it.
const WITH_HOLDER: &str = "holder";

/// The suffixes of the containers that stand beside a service's own while it is replaced, and of the network on which the
/// two servers of a hand-over meet.
const NEXT: &str = ".next";
const OLD: &str = ".old";
const MEETING: &str = ".handover";

#[derive(Clone, Debug)]
pub struct Names {
    pub stack: Name,
    pub environment: Name,
    /// What everything is marked with that is made under these names.
    pub mark: Option<Mark>,
}

impl Names {
    /// Of an environment that stays until somebody takes it down.
    pub fn lasting(stack: Name, environment: Name) -> Names {
        Names { stack, environment, mark: None }
    }

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

    /// What is to take a service's place.
    pub fn next(&self, service: &str) -> String {
        self.container(&format!("{service}{NEXT}"))
    }

    /// What had a service's place, for as long as it may get it back.
    pub fn old(&self, service: &str) -> String {
        self.container(&format!("{service}{OLD}"))
    }

    /// Whether a container of this name stands beside the service's own.
    pub fn is_beside(&self, service: &str, container: &str) -> bool {
        [self.next(service), self.old(service)].iter().any(|name| name == container)
    }

    /// Where the old and the new server of a service meet.
    pub fn meeting(service: &str) -> ResourceId {
        ResourceId::network(format!("{service}{MEETING}"))
    }

    /// The service whose servers meet on a network.
    pub fn met_on(network: &ResourceId) -> Option<&str> {
        network.name.strip_suffix(MEETING)
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
        if let Some(mark) = &self.mark {
            labels.insert(EPHEMERAL.to_owned(), mark.base.to_string());
            labels.insert(UNTIL.to_owned(), until_text(mark.until));
            labels.insert(MAKER.to_owned(), mark.maker.clone());
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

/// `holder`, or the moment as RFC 3339 has it.
pub fn until_text(until: Until) -> String {
    match until {
        Until::Holder => WITH_HOLDER.to_owned(),
        Until::Time(end) => Timestamp::from_second(end).unwrap_or(Timestamp::MAX).to_string(),
    }
}

fn until(text: &str) -> Option<Until> {
    match text {
        WITH_HOLDER => Some(Until::Holder),
        time => time.parse::<Timestamp>().ok().map(|time| Until::Time(time.as_second())),
    }
}

/// The ephemeral environment of a stack that an object belongs to, and what it is there: only where its labels, the mark among
/// them, and its name all say the same.
pub fn ephemeral(stack: &Name, labels: &HashMap<String, String>, name: &str) -> Option<(Names, ResourceId)> {
    let (names, claim) = marked(stack, labels, |environment| ephemeral::base(environment.as_str()))?;
    (names.of(&claim) == name).then_some((names, claim))
}

/// The seed that an object belongs to, and what it is there, where the same is so.
pub fn seed(stack: &Name, labels: &HashMap<String, String>, name: &str) -> Option<(Names, ResourceId)> {
    let seeds = |environment: &Name| Name::parse(SEEDS).filter(|_| environment.as_str().starts_with(SEED));
    let (names, claim) = marked(stack, labels, seeds)?;
    let is_whole = claim.kind == ResourceKind::Container && names.whole() == name;
    (names.of(&claim) == name || is_whole).then_some((names, claim))
}

/// What labels claim an object to be whose mark names what its environment is meant to be of.
fn marked(
    stack: &Name,
    labels: &HashMap<String, String>,
    base: impl Fn(&Name) -> Option<Name>,
) -> Option<(Names, ResourceId)> {
    let label = |label: &str| labels.get(label).map(String::as_str);
    let environment = Name::parse(label(ENVIRONMENT)?)?;
    let base = base(&environment)?;
    if label(EPHEMERAL)? != base.as_str() {
        return None;
    }
    let mark = Mark { base, until: until(label(UNTIL)?)?, maker: label(MAKER).unwrap_or_default().to_owned() };
    let names = Names { stack: stack.clone(), environment, mark: Some(mark) };
    let claim = names.claimed(labels)?;
    Some((names, claim))
}

/// The names under which a seed is made that copies of a stack share, by a digest of what is in it.
pub fn of_seed(stack: &Name, digest: &Digest, maker: String) -> Option<Names> {
    let environment = Name::parse(&format!("{SEED}{}", digest.as_str().get(..16)?))?;
    let mark = Mark { base: Name::parse(SEEDS)?, until: Until::Holder, maker };
    Some(Names { stack: stack.clone(), environment, mark: Some(mark) })
}

impl Names {
    /// What the container of a seed is called once the seed is whole.
    pub fn whole(&self) -> String {
        self.container(WHOLE)
    }
}

/// Whether a container of this environment has a seed of its stack there, to read: no other than a copy's ever does.
pub fn shares_seed(names: &Names, mount: Option<&Mount>) -> bool {
    let Some(mount) = mount else { return false };
    let is_copy = ephemeral::base(names.environment.as_str()).is_some();
    is_copy && mount.read_only && mount.volume.starts_with(&format!("{}-{SEED}", names.stack))
}

//! The comparable world: resources and their fields, the same type for desired and observed.
//!
//! Holds only what can be compared: no container ids, assigned addresses or times. Identity lives in
//! labels on the engine's objects, and `engine` keeps ids to itself.

pub mod container;

use crate::value::{Digest, ResourceId, Secret, secret};
use serde::Serialize;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use container::{Container, Hardening, Mount, Role, SEED_PATH, Server, User};

/// One field's value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    Text(String),
    /// Compared, never shown.
    Secret(Secret),
    /// Could not be read, and why. Never equal to anything that is wanted.
    Unknown(String),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) if text.is_empty() => f.write_str("(empty)"),
            Value::Text(text) => f.write_str(text),
            Value::Secret(_) => f.write_str(secret::HIDDEN),
            Value::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Text(text) => serializer.serialize_str(text),
            other => serializer.collect_str(other),
        }
    }
}

pub type Fields = BTreeMap<String, Value>;

#[derive(Clone, PartialEq, Debug, Default)]
pub struct State {
    pub resources: BTreeMap<ResourceId, Resource>,
}

impl State {
    pub fn container(&self, name: &str) -> Option<&Container> {
        match self.resources.get(&ResourceId::container(name)) {
            Some(Resource::Container(container)) => Some(container),
            _ => None,
        }
    }

    pub fn volume(&self, name: &str) -> Option<&Volume> {
        match self.resources.get(&ResourceId::volume(name)) {
            Some(Resource::Volume(volume)) => Some(volume),
            _ => None,
        }
    }

    /// A hash of everything but the values of secrets: the revision of an environment.
    pub fn digest(&self) -> Digest {
        let mut hash = sha2::Sha256::new();
        for (id, resource) in &self.resources {
            for (field, value) in resource.fields() {
                hash.update(format!("{id} {field} = {value}\n"));
            }
        }
        Digest::from_hash(&hash.finalize())
    }
}

/// What was read from an environment at one moment; every decision of a run is made from one of these.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    pub state: State,
    /// By Redis service; absent for one that does not run.
    pub vitals: BTreeMap<String, Vitals>,
    /// Of the images that are wanted, those that the engine has.
    pub images: BTreeSet<String>,
    /// What the engine calls each resource.
    pub names: BTreeMap<ResourceId, String>,
    /// Resources whose name something has that is not this environment's.
    pub taken: BTreeSet<ResourceId>,
    /// Services with a container beside their own, which a hand-over left that did not end.
    pub beside: BTreeSet<String>,
    /// Whether a rehearsal left something that did not end.
    pub rehearsed: bool,
    /// By volume: files of older revisions that still hold something.
    pub stale: BTreeMap<String, Vec<String>>,
    /// What tells since when something is as it is.
    pub since: BTreeMap<ResourceId, Since>,
    /// What networks and volumes are beyond what a spec can mean, by name. No change of the environment alters it.
    pub beyond: BTreeMap<ResourceId, BTreeMap<String, String>>,
}

impl Observed {
    /// Whether no earlier run left something half done that has to be ended first.
    pub fn is_whole(&self) -> bool {
        self.beside.is_empty() && !self.rehearsed
    }
}

/// What an engine and a server tell of the past of a resource; evidence beside a finding and never one by itself, since
/// lockstep changes settings and users by the same commands.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Since {
    /// When the container was made and its process started, as the engine words it.
    pub made: Option<String>,
    pub started: Option<String>,
    /// How often a server took a command by which people change it, since it started; 7.0 and newer say.
    pub commands: BTreeMap<String, u64>,
    /// Of files in a volume: when somebody else wrote them (RFC 3339); lockstep's own have no time.
    pub written: BTreeMap<String, String>,
}

/// What a Redis held when it was read: not comparable, but it decides what a change costs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Vitals {
    pub keys: u64,
    pub used_memory_bytes: u64,
    /// Calls of commands by which people change a server.
    pub commands: BTreeMap<String, u64>,
    /// Why it could not be read, when it could not.
    pub unreadable: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Resource {
    Network(Network),
    Volume(Volume),
    Container(Box<Container>),
}

impl Resource {
    pub fn fields(&self) -> Fields {
        match self {
            Resource::Network(network) => network.fields(),
            Resource::Volume(volume) => volume.fields(),
            Resource::Container(container) => container.fields(),
        }
    }
}

/// A user-defined bridge of the environment.
#[derive(Clone, PartialEq, Debug)]
pub struct Network {
    /// Without a way out of the host.
    pub internal: bool,
}

impl Network {
    fn fields(&self) -> Fields {
        Fields::from([("internal".to_owned(), Value::text(self.internal.to_string()))])
    }
}

/// A named volume: data, or files that lockstep delivers.
#[derive(Clone, PartialEq, Debug)]
pub enum Volume {
    /// Owned by the service; never removed unless it is named.
    Data {
        owner: (u32, u32),
    },
    Files {
        files: BTreeMap<String, File>,
    },
}

/// A delivered file, path relative to the volume.
#[derive(Clone, PartialEq, Debug)]
pub struct File {
    pub content: Vec<u8>,
    /// Whether the content may not be shown, nor a hash of it.
    pub secret: bool,
    pub mode: u32,
    pub owner: (u32, u32),
}

impl Volume {
    fn fields(&self) -> Fields {
        match self {
            // The owner is given once, when the volume is made; the server keeps it from then on.
            Volume::Data { .. } => Fields::from([("kind".to_owned(), Value::text("data"))]),
            Volume::Files { files } => {
                let mut fields = Fields::from([("kind".to_owned(), Value::text("files"))]);
                for (path, file) in files {
                    let value = if file.secret {
                        Value::Secret(Secret::new(file.content.clone()))
                    } else {
                        Value::text(format!("sha256:{}", Digest::of(&file.content)))
                    };
                    fields.insert(format!("files.{path}"), value);
                    let (user, group) = file.owner;
                    fields.insert(format!("modes.{path}"), Value::text(format!("{:04o} {user}:{group}", file.mode)));
                }
                fields
            }
        }
    }
}

//! Names of stacks, environments and services, and the `kind/name` of a resource.

use serde::Serialize;
use std::fmt;

/// A lower-case name: a letter, then letters, digits and single dashes, at most 40 characters.
///
/// The alphabet is the one that container names, DNS labels and file names share, so a name never
/// needs escaping on its way to the engine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    pub fn parse(text: &str) -> Option<Name> {
        let bytes = text.as_bytes();
        let fits = (1..=40).contains(&bytes.len())
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && !text.contains("--");
        fits.then(|| Name(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What help a message about a bad name gives.
pub const NAME_HELP: &str =
    "a name is a lower-case letter, then letters, digits and single dashes, at most 40 characters";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ResourceKind {
    Network,
    Volume,
    Container,
}

impl ResourceKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ResourceKind::Network => "network",
            ResourceKind::Volume => "volume",
            ResourceKind::Container => "container",
        }
    }
}

/// A resource of one environment, such as `container/cache` or `volume/cache.data`.
///
/// The environment's name is not part of it: that is what lets two environments be compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ResourceId {
    pub kind: ResourceKind,
    pub name: String,
}

impl ResourceId {
    pub fn container(name: impl Into<String>) -> ResourceId {
        ResourceId { kind: ResourceKind::Container, name: name.into() }
    }

    pub fn volume(name: impl Into<String>) -> ResourceId {
        ResourceId { kind: ResourceKind::Volume, name: name.into() }
    }

    pub fn network(name: impl Into<String>) -> ResourceId {
        ResourceId { kind: ResourceKind::Network, name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

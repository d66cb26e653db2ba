//! One environment, complete: every value typed, every default filled in, every template named.
//!
//! What a person may leave out is decided here and nowhere later.

pub mod backup;
pub mod behaviour;
pub mod ephemeral;
pub mod refresh;
pub mod resolve;
pub mod rules;
pub mod run;
pub mod security;

pub use backup::{BackupPlan, Bucket, Destination};

use crate::spec::Rehearse;
use crate::spec::environment::SecretSource;
use crate::value::{Bytes, Name, Place, ServerVersion, Span};
use std::collections::{BTreeMap, BTreeSet};

/// A value, where it was written, and the differences that it was computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<T> {
    pub value: T,
    pub place: Place,
    pub uses: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Environment {
    pub stack: Name,
    pub name: Name,
    pub owner: Option<String>,
    pub place: Place,
    /// `unix:///...`; the local engine when absent.
    pub engine: Option<String>,
    pub protected: bool,
    pub follows: Option<Name>,
    /// Whose data it begins with, by a refresh, where nothing of it is there yet.
    pub seed: Option<Name>,
    pub values: BTreeMap<String, Value>,
    pub services: BTreeMap<Name, Service>,
    pub secret_source: Option<SecretSource>,
    pub backup: BackupPlan,
    pub rehearse: Rehearse,
    /// In the order in which they were written.
    pub keys: Vec<behaviour::KeyRule>,
    pub probes: BTreeMap<String, behaviour::Probe>,
    /// Absent where nothing is to be watched.
    pub watch: Option<behaviour::Watch>,
    /// Where a refresh takes its data from; absent where there is none.
    pub refresh: Option<refresh::RefreshPlan>,
    /// What the audit asks beyond its own checks, and what is accepted.
    pub security: security::Security,
    /// What a command gets that runs beside a copy of it.
    pub run: run::Run,
    /// What the objects of a copy carry that exists for a while alone; absent for an environment with a file of its own.
    pub mark: Option<ephemeral::Mark>,
}

impl Environment {
    /// Names of the secrets that the environment's services use.
    pub fn secrets(&self) -> BTreeSet<String> {
        secrets_of(&self.services)
    }
}

fn secrets_of(services: &BTreeMap<Name, Service>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for service in services.values() {
        match &service.kind {
            Kind::Redis(redis) => names.extend(redis.users.values().map(|user| user.password.value.clone())),
            Kind::App(app) => names.extend(app.secrets.iter().map(|secret| secret.value.clone())),
        }
    }
    names
}

/// The value of a difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub kind: crate::spec::ValueKind,
    /// As it was written.
    pub text: String,
    /// For comparing with bounds: bytes, milliseconds, or the number itself.
    pub number: Option<u64>,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: Name,
    pub place: Place,
    pub image: Written<String>,
    /// What the lock pins the image to, when it does.
    pub locked: Option<String>,
    pub build: Option<Build>,
    /// Numeric, never root.
    pub user: (u32, u32),
    /// Absolute path in the container to the template that fills it.
    pub files: BTreeMap<String, Written<String>>,
    pub limits: Limits,
    pub needs: BTreeSet<Name>,
    pub stop_grace: Span,
    pub ready_within: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// Relative to the project.
    pub context: String,
    pub dockerfile: String,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub memory: Written<Bytes>,
    /// Billionths of a processor.
    pub nano_cpus: Written<u64>,
    pub pids: Written<u64>,
    /// Open files.
    pub files: Written<u64>,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Redis(RedisServer),
    App(App),
}

#[derive(Clone, Debug)]
pub struct RedisServer {
    /// Template of the whole `redis.conf`; the built-in one when absent.
    pub template: Option<Written<String>>,
    pub acl_template: Option<Written<String>>,
    /// What the spec sets, values as in `redis.conf`.
    pub settings: BTreeMap<String, Written<Vec<String>>>,
    pub users: BTreeMap<String, User>,
    pub server: ServerVersion,
}

#[derive(Clone, Debug)]
pub struct User {
    pub place: Place,
    /// Name of the secret.
    pub password: Written<String>,
    /// Rules in Redis' own words, such as `~page:*`, `+@read`.
    pub keys: Vec<String>,
    pub channels: Vec<String>,
    pub commands: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct App {
    pub command: Option<Vec<String>>,
    pub env: BTreeMap<String, Written<String>>,
    pub secrets: Vec<Written<String>>,
    pub ports: Vec<Written<Port>>,
    pub health: Option<Health>,
    /// Path to size and place.
    pub tmpfs: BTreeMap<String, Written<Bytes>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub host_ip: String,
    pub host: u16,
    pub container: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub path: String,
    pub port: u16,
}

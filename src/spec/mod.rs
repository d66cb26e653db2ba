//! The spec as it was written: `environments/stack.yaml` and one file per environment.
//!
//! Every leaf keeps its place and its text; templates in it are not rendered yet, sizes are not
//! read yet. Knows nothing of Docker or Redis beyond the names of the keys.

pub mod decode;
pub mod environment;
pub mod lock;
pub mod parse;
pub mod yaml;

use crate::value::{Located, Name, Place};
use std::collections::BTreeMap;

/// A piece of text with its place; may hold template expressions.
pub type Text = Located<String>;

/// `environments/stack.yaml`.
#[derive(Clone, Debug)]
pub struct Spec {
    pub place: Place,
    pub stack: Located<Name>,
    pub owner: Option<Text>,
    pub differences: BTreeMap<String, Difference>,
    pub redis: BTreeMap<Name, RedisSpec>,
    pub apps: BTreeMap<Name, AppSpec>,
    pub backup: BackupSpec,
    /// Sections that are read and checked, and whose behaviour is not built yet.
    pub dormant: Vec<Located<&'static str>>,
}

/// A value that an environment may set.
#[derive(Clone, Debug)]
pub struct Difference {
    pub place: Place,
    pub kind: ValueKind,
    pub why: Text,
    pub default: Option<Text>,
    pub at_least: Option<Located<Bound>>,
    pub at_most: Option<Located<Bound>>,
    pub between: Option<(Text, Text)>,
    pub one_of: Vec<Text>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueKind {
    Size,
    Integer,
    Port,
    Text,
    Duration,
    Boolean,
}

impl ValueKind {
    pub const ALL: [(&'static str, ValueKind); 6] = [
        ("size", ValueKind::Size),
        ("integer", ValueKind::Integer),
        ("port", ValueKind::Port),
        ("text", ValueKind::Text),
        ("duration", ValueKind::Duration),
        ("boolean", ValueKind::Boolean),
    ];
}

/// The bound of a difference: a value of its own type, or a share of another environment's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    Value(String),
    Share { percent: u64, of: Name },
}

/// What every service may have.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    pub place: Place,
    pub image: Text,
    pub build: Option<Build>,
    pub enabled: bool,
    pub user: Option<Text>,
    pub files: BTreeMap<String, (Place, Text)>,
    pub limits: LimitsSpec,
    pub needs: Vec<Located<Name>>,
    pub stop_grace: Option<Text>,
    pub ready_within: Option<Text>,
}

#[derive(Clone, Debug)]
pub struct Build {
    /// Folder below the project, relative to the file that names it.
    pub context: Text,
    /// Name inside the context.
    pub dockerfile: Option<Text>,
}

#[derive(Clone, Debug, Default)]
pub struct LimitsSpec {
    pub memory: Option<Text>,
    pub cpus: Option<Text>,
    pub pids: Option<Text>,
    pub files: Option<Text>,
}

#[derive(Clone, Debug)]
pub struct RedisSpec {
    pub service: ServiceSpec,
    pub template: Option<Text>,
    pub acl_template: Option<Text>,
    pub settings: BTreeMap<String, (Place, Vec<Text>)>,
    pub users: BTreeMap<String, UserSpec>,
}

#[derive(Clone, Debug)]
pub struct UserSpec {
    pub place: Place,
    /// Name of the secret that is the user's password.
    pub password: Text,
    pub keys: Vec<Text>,
    pub channels: Vec<Text>,
    pub allow: Vec<Text>,
}

#[derive(Clone, Debug)]
pub struct AppSpec {
    pub service: ServiceSpec,
    pub command: Option<Vec<Text>>,
    pub env: BTreeMap<String, (Place, Text)>,
    pub secrets: Vec<Text>,
    pub ports: Vec<Text>,
    pub health_path: Option<Text>,
    pub health_port: Option<Text>,
    pub tmpfs: BTreeMap<String, (Place, Text)>,
}

#[derive(Clone, Debug, Default)]
pub struct BackupSpec {
    /// Folder for backups, relative to the project.
    pub to: Option<Text>,
}

//! The spec as it was written: `environments/stack.yaml` and one file per environment.
//!
//! Every leaf keeps its place and its text; templates in it are not rendered yet, sizes are not
//! read yet. Knows nothing of Docker or Redis beyond the names of the keys.

mod accept;
pub mod behaviour;
pub mod decode;
pub mod environment;
pub mod lock;
pub mod parse;
pub mod refresh;
pub mod run;
pub mod security;
pub mod yaml;

use crate::acceptance::Acceptance;
use crate::value::{Located, Name, Place, Recipient, Span};
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
    pub rehearse: Rehearse,
    pub keys: behaviour::Section<behaviour::KeyRuleSpec>,
    pub probes: behaviour::Section<behaviour::ProbeSpec>,
    pub watch: Option<behaviour::WatchSpec>,
    /// `verify.accept`, in the order in which it was written.
    pub accept: Vec<Acceptance>,
    pub security: Option<security::SecuritySpec>,
    pub refresh: Option<refresh::RefreshSpec>,
    pub run: run::RunSpec,
    /// Sections that are read and checked, and that have no effect as the rest of the spec is.
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

/// `backup:`, as it was written.
#[derive(Clone, Debug, Default)]
pub struct BackupSpec {
    /// A folder relative to the spec, or `s3://bucket/prefix`.
    pub to: Option<Text>,
    /// Of an S3-compatible store that is not Amazon's.
    pub endpoint: Option<Text>,
    pub region: Option<Text>,
    /// Speak to the store without TLS.
    pub plain_http: bool,
    pub keep: Keep,
    pub encrypt_to: Vec<Located<Recipient>>,
    /// File with the age identities that open what is encrypted; wanted only where backups are read.
    pub identity: Option<Text>,
    /// The newest proven backup may be this old.
    pub max_age: Option<Span>,
    pub drill: Drill,
}

/// How many backups stay, by period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
}

impl Keep {
    pub fn is_empty(&self) -> bool {
        *self == Keep::default()
    }
}

/// Whether what a change restarts or replaces is started beside what runs first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rehearse {
    #[default]
    Always,
    Never,
}

impl Rehearse {
    pub const ALL: [(&'static str, Rehearse); 2] = [("always", Rehearse::Always), ("never", Rehearse::Never)];
}

/// When a backup is restored into a throw-away server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drill {
    /// Every backup, by `backup create` and before a change.
    Always,
    /// Those that a change rests on.
    OnChange,
    /// Only with `backup drill`.
    #[default]
    Never,
}

impl Drill {
    pub const ALL: [(&'static str, Drill); 3] =
        [("always", Drill::Always), ("on-change", Drill::OnChange), ("never", Drill::Never)];
}

//! What the audit judges: everything that was read from a running environment, as plain values.
//!
//! What could not be read is an `Err` with the reason, and the checks that need it say `unknown` with that reason.

use crate::model::security::Security;
use crate::state::{Role, User};
use crate::value::{Date, Secret, Span};
use std::collections::{BTreeMap, BTreeSet};

/// What was read, or why it could not be.
pub type Read<T> = Result<T, String>;

/// Everything that was read of one environment at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// In UTC; acceptances end by it.
    pub today: Date,
    /// By name: values that may stand in nothing that others can read. Those of lockstep's own users among them.
    pub secrets: Read<BTreeMap<String, Secret>>,
    /// By service; one that is not the service's own by the engine's name for it.
    pub containers: BTreeMap<String, Container>,
    pub networks: Read<BTreeMap<String, Network>>,
    pub engine: Read<Engine>,
    pub host: Host,
    pub project: Project,
    pub backups: Read<Backups>,
    pub ledger: Read<Ledger>,
    /// What the spec asks and accepts.
    pub security: Security,
}

/// One container, what runs in it, and what it serves.
#[derive(Clone, Debug)]
pub struct Container {
    pub role: Role,
    /// Whether the spec has a service of this name. What is not one is judged all the same.
    pub declared: bool,
    pub inspect: Read<Inspect>,
    pub processes: Read<Vec<Process>>,
    pub image: Read<Image>,
    /// The last lines that it wrote, the oldest first.
    pub log: Read<Vec<String>>,
    /// Of a Redis.
    pub server: Read<Server>,
    /// Of an application; absent where nothing says on which port it answers.
    pub site: Option<Read<Site>>,
    /// Delivered files in volumes that it mounts and that hold secrets.
    pub secret_files: Vec<SecretFile>,
    /// Whether its image is the one of the lock file; the reason where nothing is locked.
    pub locked: Read<bool>,
}

/// What the engine says of a container, as far as a check wants to know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspect {
    pub id: String,
    pub running: bool,
    pub restarting: bool,
    pub privileged: bool,
    pub read_only_root: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// Devices, rules for devices and requests for them, as words.
    pub devices: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Path to options.
    pub tmpfs: BTreeMap<String, String>,
    /// `pid`, `ipc`, `uts`, `network`, `user` and `cgroup` to the mode that was asked for.
    pub namespaces: BTreeMap<String, String>,
    pub security_options: Vec<String>,
    /// Bytes; 0 is no limit.
    pub memory: u64,
    /// Billionths of a processor; 0 is no limit.
    pub nano_cpus: u64,
    /// 0 is no limit.
    pub pids: u64,
    /// Name to the hard limit.
    pub ulimits: BTreeMap<String, i64>,
    pub ports: Vec<Published>,
    pub networks: Vec<String>,
    pub image_id: String,
    pub log_driver: String,
    pub log_options: BTreeMap<String, String>,
    /// Where the engine's own machine keeps its log; empty where it keeps none.
    pub log_path: String,
    pub restarts: u64,
    pub out_of_memory: bool,
    /// `NAME=value`
    pub env: Vec<String>,
    /// Every text in the report with the path of where it stands, `Config.Labels.owner`.
    pub texts: Vec<(String, String)>,
}

/// Something of the host, or a volume, inside a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`.
    pub kind: String,
    /// A path of the host, also for a volume.
    pub source: String,
    /// The name of a volume.
    pub volume: String,
    pub target: String,
    pub read_only: bool,
    /// Empty, `rprivate`, `shared` and so on.
    pub propagation: String,
}

/// A port of a container that the host answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// `6379/tcp`
    pub port: String,
    /// Empty: every address of the host.
    pub address: String,
    pub host_port: String,
}

/// A process as the kernel describes it in `/proc/<pid>/status` (proc(5)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub pid: u32,
    /// Real, effective, saved and of the file system.
    pub uids: Vec<u32>,
    /// `CapBnd`: what it and its children could ever get.
    pub bounding: u64,
    /// `CapEff`
    pub effective: u64,
    pub no_new_privileges: bool,
    /// 0 is off, 1 strict, 2 a filter.
    pub seccomp: u8,
    pub command: Vec<String>,
}

/// What an image brings along and how it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// `NAME=value`
    pub env: Vec<String>,
    /// What each layer was made by.
    pub history: Vec<String>,
}

/// What a Redis says of itself to lockstep's own user.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// In normal form; a secret one is left out.
    pub settings: BTreeMap<String, String>,
    pub users: BTreeMap<String, User>,
    /// By user: the commands of the server's categories admin, dangerous and scripting that it may run.
    pub reach: BTreeMap<String, BTreeSet<String>>,
    /// Of its version: since 7.0 some commands are off unless a setting says otherwise.
    pub protects_configs: bool,
    /// `rdb_last_bgsave_status`; absent where it is not reported.
    pub last_save: Option<String>,
    /// `aof_last_write_status`
    pub last_append: Option<String>,
    pub used_memory: u64,
}

impl Server {
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }
}

/// How an application answers over HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// GET and HEAD of pages that the spec names, and of `/`.
    pub pages: Vec<Answer>,
    /// GET of a page that there cannot be.
    pub missing: Option<Answer>,
    pub trace: Option<Read<Answer>>,
    /// GET on behalf of a page of `origin`, which nobody knows.
    pub foreign: Option<Answer>,
    pub origin: String,
    /// GET with more headers than anybody needs; refused without an answer is `None`.
    pub oversized: Option<Read<Option<Answer>>>,
    /// POST that announces more than the limit and sends nothing; `None` where it waits for the body.
    pub upload: Option<Read<Option<Answer>>>,
}

impl Site {
    /// Every answer that a browser could have been given.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.pages.iter().chain(&self.missing)
    }
}

/// One answer over HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// `GET /healthz`
    pub request: String,
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The beginning of its body.
    pub body: String,
}

impl Answer {
    /// The first header of a name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The values of every header of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn is_html(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
    }
}

/// A delivered file as it lies in a volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretFile {
    /// Below its volume.
    pub path: String,
    pub volume: String,
    pub mode: u32,
    pub owner: (u32, u32),
}

/// A network of the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    pub internal: bool,
    pub driver: String,
    /// Names of containers on it that are not the environment's.
    pub foreign: Vec<String>,
}

/// What the engine says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Engine {
    pub address: String,
    pub debug: bool,
    pub root_folder: String,
}

/// The machine that lockstep runs on, which is the engine's own in this version.
#[derive(Clone, Debug)]
pub struct Host {
    pub socket: Read<Mode>,
    /// `vm.overcommit_memory`
    pub overcommit: Read<String>,
    /// What is chosen of `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub huge_pages: Read<String>,
    /// Log files of containers, by service.
    pub logs: BTreeMap<String, Read<Mode>>,
}

/// Who may do what with a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mode {
    pub path: String,
    pub bits: u32,
    /// Its owner's id and name, `0 root`; the group's the same way.
    pub owner: String,
    pub group: String,
    /// Whether root owns it, or whoever asks.
    pub trusted: bool,
    pub folder: bool,
}

impl Mode {
    /// `0640, 0 root:999 docker`
    pub fn rights(&self) -> String {
        format!("{:04o}, {}:{}", self.bits, self.owner, self.group)
    }

    /// The same, with the path ahead of it.
    pub fn shown(&self) -> String {
        format!("{} is {}", self.path, self.rights())
    }
}

/// Files of the project that hold secrets, or what protects them.
#[derive(Clone, Debug)]
pub struct Project {
    pub private: Vec<Read<Mode>>,
    /// Of those files, the ones that git tracks; `None` where there is no repository.
    pub tracked: Read<Option<Vec<String>>>,
    /// A file of identities that lies among the backups which it opens.
    pub identity_beside: Option<String>,
}

/// What is kept of the environment.
#[derive(Clone, Debug, Default)]
pub struct Backups {
    pub place: String,
    /// By Redis that the spec has.
    pub services: BTreeMap<String, Kept>,
    /// How many there are.
    pub count: usize,
    /// Ids of those that anybody can read.
    pub plain: Vec<String>,
    /// Who can open new ones.
    pub recipients: usize,
    /// The newest proven one may be this old; absent where the spec does not say.
    pub max_age: Option<Span>,
    /// In a bucket.
    pub far: bool,
    /// Whether the folder is on the file system of the engine's data.
    pub same_disk: Option<Read<bool>>,
    /// Bytes that can still be written there; `None` where the store does not say.
    pub free: Option<Read<Option<u64>>>,
}

/// The backups of one Redis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The newest one that was verified or drilled: its id and its age.
    pub proven: Option<(String, Span)>,
    /// The newest proof that one could be restored: the id of the backup, and how long ago that was.
    pub drilled: Option<(String, Span)>,
}

/// What the ledger says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    pub changes: usize,
    /// Each place where it is not what was written.
    pub broken: Vec<String>,
    /// Numbers of changes that nobody ended.
    pub unfinished: Vec<u64>,
    /// Numbers of changes that do not say why, or by whom.
    pub unexplained: Vec<u64>,
    /// Records and notes, by where they stand.
    pub texts: Vec<(String, String)>,
}

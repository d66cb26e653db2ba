//! A container and, when it holds a Redis, what the running server says of itself.

use crate::state::{Fields, Value};
use crate::value::Secret;
use std::collections::{BTreeMap, BTreeSet};

/// Where a copy's server finds a seed that it shares with others.
pub const SEED_PATH: &str = "/lockstep-seed";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Redis,
    App,
    /// Never started; mounts every volume of files, so that they can be read and written at once.
    Files,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Container {
    pub role: Role,
    /// What the lock pins it to.
    pub image: String,
    /// `None` leaves the image's own.
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub user: String,
    pub mounts: BTreeMap<String, Mount>,
    /// What the engine calls the volume that a copy's server reads its first data from; see [`SEED_PATH`]. Not compared.
    pub seed: Option<String>,
    /// Container port (`8080/tcp`) to host address (`127.0.0.1:8080`).
    pub ports: BTreeMap<String, String>,
    pub networks: BTreeSet<String>,
    pub memory_bytes: u64,
    pub nano_cpus: u64,
    pub pids: u64,
    pub open_files: u64,
    /// Path to size in bytes.
    pub tmpfs: BTreeMap<String, u64>,
    pub restart: String,
    /// How long the engine waits for it to end before it kills it.
    pub stop_seconds: u64,
    pub hardening: Hardening,
    pub running: bool,
    /// Ends and is started again by the engine, over and over; then it is not running.
    pub restarting: bool,
    /// Whether its process ever ran. Not compared.
    pub started: bool,
    pub server: Option<Server>,
}

impl Container {
    /// The user and the group as whom it runs, where both are numbers.
    pub fn owner(&self) -> Option<(u32, u32)> {
        let (user, group) = self.user.split_once(':')?;
        Some((user.parse().ok()?, group.parse().ok()?))
    }

    /// One that is never started: through it the engine reads and writes the volumes that it mounts. Any image will do.
    pub fn carrier(image: String, user: String, mounts: BTreeMap<String, Mount>) -> Container {
        Container {
            role: Role::Files,
            image,
            entrypoint: Some(vec!["/never-started".to_owned()]),
            command: None,
            env: BTreeMap::new(),
            user,
            mounts,
            seed: None,
            ports: BTreeMap::new(),
            networks: BTreeSet::new(),
            memory_bytes: 16 << 20,
            nano_cpus: 100_000_000,
            pids: 1,
            open_files: 64,
            tmpfs: BTreeMap::new(),
            restart: "no".to_owned(),
            stop_seconds: 10,
            // Docker writes into no container whose root is read-only, not even into its volumes.
            hardening: Hardening { read_only_root: false, ..Hardening::standard() },
            running: false,
            restarting: false,
            started: false,
            server: None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    pub volume: String,
    pub read_only: bool,
}

/// What keeps a container from harming its host; the same for every service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hardening {
    pub privileged: bool,
    pub read_only_root: bool,
    pub cap_add: BTreeSet<String>,
    pub cap_drop: BTreeSet<String>,
    pub security_options: BTreeSet<String>,
    pub devices: BTreeSet<String>,
    pub pid_mode: String,
    pub ipc_mode: String,
    pub network_mode_host: bool,
    pub core_limit: Option<u64>,
    pub log_driver: String,
    pub log_options: BTreeMap<String, String>,
    pub init: bool,
    /// By name, whatever else is not as the engine leaves it; nothing, as it is meant.
    pub other: BTreeMap<String, String>,
    /// What of it the engine was told to run it with; nobody means it, and two environments may still differ in it.
    pub runtime: Option<String>,
}

impl Hardening {
    pub fn standard() -> Hardening {
        Hardening {
            privileged: false,
            read_only_root: true,
            cap_add: BTreeSet::new(),
            cap_drop: BTreeSet::from(["ALL".to_owned()]),
            security_options: BTreeSet::from(["no-new-privileges=true".to_owned()]),
            devices: BTreeSet::new(),
            pid_mode: String::new(),
            ipc_mode: "private".to_owned(),
            network_mode_host: false,
            core_limit: Some(0),
            log_driver: "json-file".to_owned(),
            log_options: BTreeMap::from([
                ("max-file".to_owned(), "3".to_owned()),
                ("max-size".to_owned(), "10m".to_owned()),
            ]),
            init: false,
            other: BTreeMap::new(),
            runtime: None,
        }
    }

    fn fields(&self, fields: &mut Fields) {
        let mut put = |name: &str, value: String| {
            fields.insert(name.to_owned(), Value::Text(value));
        };
        put("privileged", self.privileged.to_string());
        put("read-only-root", self.read_only_root.to_string());
        put("capabilities.added", join(&self.cap_add));
        put("capabilities.dropped", join(&self.cap_drop));
        put("security-options", join(&self.security_options));
        put("devices", join(&self.devices));
        put("isolation.pid", self.pid_mode.clone());
        put("isolation.ipc", self.ipc_mode.clone());
        put("isolation.host-network", self.network_mode_host.to_string());
        put("limits.core", self.core_limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string()));
        put("log.driver", self.log_driver.clone());
        for (option, value) in &self.log_options {
            put(&format!("log.options.{option}"), value.clone());
        }
        put("init", self.init.to_string());
        for (name, value) in &self.other {
            put(&format!("engine.{name}"), value.clone());
        }
        if let Some(runtime) = &self.runtime {
            put("isolation.runtime", runtime.clone());
        }
    }
}

fn join(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A running Redis, as it reports itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Server {
    /// Directive to value, both in normal form.
    pub settings: BTreeMap<String, Value>,
    pub users: BTreeMap<String, User>,
    /// Version, role, modules, functions, table of commands, persistence state.
    pub facts: BTreeMap<String, Value>,
}

impl Server {
    /// `redis 7.0.15`, where it is known.
    pub fn version(&self) -> Option<&str> {
        match self.facts.get("version")? {
            Value::Text(version) => Some(version),
            _ => None,
        }
    }
}

/// An ACL user; rules are sets, since their order says nothing once they are effective.
#[derive(Clone, PartialEq, Debug)]
pub struct User {
    pub enabled: bool,
    pub without_password: bool,
    /// Whether what it restores is taken as it comes.
    pub unchecked_payloads: bool,
    /// SHA-256 of each password, as Redis stores them: unsalted, so as secret as the passwords.
    pub passwords: BTreeSet<String>,
    pub keys: BTreeSet<String>,
    pub channels: BTreeSet<String>,
    /// In the order in which they apply.
    pub commands: String,
    pub selectors: BTreeSet<String>,
}

impl User {
    fn fields(&self, name: &str, fields: &mut Fields) {
        let mut put = |aspect: &str, value: Value| {
            fields.insert(format!("users.{name}.{aspect}"), value);
        };
        put("enabled", Value::text(self.enabled.to_string()));
        put("without-password", Value::text(self.without_password.to_string()));
        if self.unchecked_payloads {
            put("payloads", Value::text("not checked"));
        }
        put("passwords", Value::Secret(Secret::new(join(&self.passwords))));
        put("keys", Value::Text(join(&self.keys)));
        put("channels", Value::Text(join(&self.channels)));
        put("commands", Value::text(&self.commands));
        put("selectors", Value::Text(join(&self.selectors)));
    }
}

impl Container {
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        for (path, mount) in &self.mounts {
            let access = if mount.read_only { "read-only" } else { "read-write" };
            fields.insert(format!("mounts.{path}"), Value::text(format!("{} {access}", mount.volume)));
        }
        if self.role == Role::Files {
            return fields;
        }
        let mut put = |name: &str, value: String| {
            fields.insert(name.to_owned(), Value::Text(value));
        };
        put("image", self.image.clone());
        if let Some(entrypoint) = &self.entrypoint {
            put("entrypoint", entrypoint.join(" "));
        }
        if let Some(command) = &self.command {
            put("command", command.join(" "));
        }
        for (key, value) in &self.env {
            put(&format!("env.{key}"), value.clone());
        }
        put("user", self.user.clone());
        for (port, address) in &self.ports {
            put(&format!("ports.{port}"), address.clone());
        }
        for network in &self.networks {
            put(&format!("networks.{network}"), "attached".to_owned());
        }
        put("limits.memory", self.memory_bytes.to_string());
        put("limits.cpus", cpus(self.nano_cpus));
        put("limits.pids", self.pids.to_string());
        put("limits.open-files", self.open_files.to_string());
        for (path, size) in &self.tmpfs {
            put(&format!("tmpfs.{path}"), size.to_string());
        }
        put("restart", self.restart.clone());
        put("stop-seconds", self.stop_seconds.to_string());
        put("running", self.running.to_string());
        self.hardening.fields(&mut fields);
        if let Some(server) = &self.server {
            for (name, value) in &server.settings {
                fields.insert(format!("settings.{name}"), value.clone());
            }
            for (name, user) in &server.users {
                user.fields(name, &mut fields);
            }
            for (name, value) in &server.facts {
                fields.insert(format!("server.{name}"), value.clone());
            }
        }
        fields
    }
}

/// `1.5` for 1,500,000,000 billionths.
fn cpus(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

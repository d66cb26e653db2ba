//! What the engine reports, to state: defaults and read-back noise in the same form as what is meant.

use crate::engine::beyond;
use crate::engine::docker::Image;
use crate::engine::names::{self, Names};
use crate::state::{Container, Hardening, Mount, Role, SEED_PATH, Volume};
use crate::value::ResourceId;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, HealthConfig, HostConfig, NetworkSettings,
    RestartPolicyNameEnum,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

/// A container, and what is needed to talk to it and is no state.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: ResourceId,
    /// The engine's id of it.
    pub engine_id: String,
    /// What the engine calls it.
    pub name: String,
    pub container: Container,
    /// The engine's id of its image.
    pub image_id: String,
    /// On the environment's private network.
    pub address: Option<IpAddr>,
    /// When its process was started, as the engine words it.
    pub started_at: Option<String>,
    /// When it was made.
    pub made_at: Option<String>,
    pub brought: Brought,
}

/// What a container's image says about what to run.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub env: Vec<String>,
}

pub(crate) fn volume_role(volume: &Volume) -> &'static str {
    match volume {
        Volume::Data { .. } => "data",
        Volume::Files { .. } => "files",
    }
}

/// Whether a volume holds delivered files.
pub(crate) fn is_files(labels: &HashMap<String, String>) -> bool {
    labels.get(names::ROLE).is_some_and(|role| role == "files")
}

/// Anything that is not known to be files is treated as data: that is what is never removed.
pub fn volume(labels: &HashMap<String, String>) -> Volume {
    if is_files(labels) { Volume::Files { files: BTreeMap::new() } } else { Volume::Data { owner: (0, 0) } }
}

/// Where a container is on one of its networks, while it runs.
pub fn address(settings: &Option<NetworkSettings>, network: &str) -> Option<IpAddr> {
    settings.as_ref()?.networks.as_ref()?.get(network)?.ip_address.as_deref()?.parse().ok()
}

/// Where the engine publishes a container's port (`8080/tcp`), while it runs.
pub fn published(settings: &Option<NetworkSettings>, port: &str) -> Option<SocketAddr> {
    let bindings = settings.as_ref()?.ports.as_ref()?.get(port)?.as_ref()?;
    bindings.iter().find_map(|binding| {
        let ip: IpAddr = binding.host_ip.as_deref().unwrap_or_default().parse().ok()?;
        Some(SocketAddr::new(ip, binding.host_port.as_deref()?.parse().ok()?))
    })
}

/// Whether a container with a bound for its memory is said to have none for swap.
pub fn swaps_without_bound(report: &ContainerInspectResponse) -> bool {
    let host = report.host_config.as_ref();
    host.is_some_and(|host| host.memory > Some(0) && host.memory_swap == Some(-1))
}

/// What an engine says of swap that cannot bound it says nothing of the container.
pub fn leave_out_swap(report: &mut ContainerInspectResponse) {
    if let Some(host) = &mut report.host_config {
        host.memory_swap = host.memory;
    }
}

/// Whether others on a network find it under this alias.
pub fn has_alias(report: &ContainerInspectResponse, network: &str, alias: &str) -> bool {
    let networks = report.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let endpoint = networks.and_then(|networks| networks.get(network));
    endpoint.and_then(|endpoint| endpoint.aliases.as_ref()).is_some_and(|all| all.iter().any(|one| one == alias))
}

/// Whether its process is there, and not about to be started again.
pub fn runs(report: &ContainerInspectResponse) -> bool {
    let state = report.state.as_ref();
    state.is_some_and(|state| state.running.unwrap_or_default() && !state.restarting.unwrap_or_default())
}

/// What the engine calls the volume that a container mounts there.
pub fn volume_at(report: &ContainerInspectResponse, path: &str) -> Option<String> {
    report.mounts.iter().flatten().find(|mount| mount.destination.as_deref() == Some(path))?.name.clone()
}

/// Reads an inspected container; `image` is what its image brings along and the spec does not set.
pub fn container(names: &Names, report: ContainerInspectResponse, image: Option<&Image>) -> Option<Seen> {
    let config = report.config.unwrap_or_default();
    let labels = config.labels.clone().unwrap_or_default();
    let id = names.claimed(&labels)?;
    let name = report.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned();
    let host = report.host_config.unwrap_or_default();
    let state = report.state.unwrap_or_default();
    let role = match labels.get(names::ROLE).map(String::as_str) {
        Some("redis") => Role::Redis,
        Some("files") => Role::Files,
        _ => Role::App,
    };
    let image_id = report.image.unwrap_or_default();
    let address = address(&report.network_settings, &names.network(crate::desired::PRIVATE));
    let networks = report.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let engine_id = report.id.unwrap_or_default();
    let other = beyond::container(names, &id, &engine_id, (&host, &config), &networks, image);
    let env = config.env.unwrap_or_default();
    let env = env.iter().filter_map(|entry| entry.split_once('='));
    let prefix = format!("{}-", names.project());
    let own_name = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let some_words = |words: Option<Vec<String>>| words.filter(|words| !words.is_empty());
    let brought = Brought {
        entrypoint: some_words(image.map(|image| image.entrypoint.clone())),
        command: some_words(image.map(|image| image.command.clone())),
        env: image.map(|image| image.env.clone()).unwrap_or_default(),
    };
    let ulimit = |name: &str| {
        let ulimits = host.ulimits.iter().flatten();
        ulimits.filter(|limit| limit.name.as_deref() == Some(name)).find_map(|limit| limit.hard)
    };
    let mut mounts = mounts(&host, report.mounts.unwrap_or_default(), &own_name);
    let seed = names::shares_seed(names, mounts.get(SEED_PATH)).then(|| mounts.remove(SEED_PATH)).flatten();
    let restarting = state.restarting.unwrap_or_default();
    let started_at = state.started_at.clone();
    let running = state.running.unwrap_or_default() && !restarting && !state.paused.unwrap_or_default();
    let container = Container {
        role,
        image: image_id.clone(),
        entrypoint: some_words(config.entrypoint),
        command: some_words(config.cmd),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        user: config.user.unwrap_or_default(),
        mounts,
        seed: seed.map(|mount| mount.volume),
        ports: ports(&host),
        networks: networks.keys().filter(|name| *name != "none").map(|name| own_name(name)).collect(),
        memory_bytes: unsigned(host.memory),
        nano_cpus: unsigned(host.nano_cpus),
        pids: unsigned(host.pids_limit),
        open_files: unsigned(ulimit("nofile")),
        tmpfs: host.tmpfs.iter().flatten().map(|(path, options)| (path.clone(), tmpfs_size(options))).collect(),
        restart: restart(&host),
        stop_seconds: unsigned(config.stop_timeout),
        running,
        restarting,
        started: state.status != Some(ContainerStateStatusEnum::CREATED),
        server: None,
        hardening: Hardening {
            privileged: host.privileged.unwrap_or_default(),
            read_only_root: host.readonly_rootfs.unwrap_or_default(),
            cap_add: host.cap_add.iter().flatten().cloned().collect(),
            cap_drop: host.cap_drop.iter().flatten().cloned().collect(),
            security_options: beyond::security_options(&host),
            devices: beyond::devices(&host),
            pid_mode: host.pid_mode.clone().unwrap_or_default(),
            ipc_mode: host.ipc_mode.clone().unwrap_or_default(),
            network_mode_host: host.network_mode.as_deref() == Some("host"),
            core_limit: ulimit("core").and_then(|limit| u64::try_from(limit).ok()),
            log_driver: host.log_config.as_ref().and_then(|log| log.typ.clone()).unwrap_or_default(),
            log_options: host
                .log_config
                .as_ref()
                .and_then(|log| log.config.clone())
                .unwrap_or_default()
                .into_iter()
                .collect(),
            init: host.init.unwrap_or_default(),
            other,
            runtime: host.runtime.clone().filter(|runtime| !runtime.is_empty()),
        },
    };
    let made_at = report.created.map(|at| at.to_string());
    Some(Seen { id, engine_id, name, container, image_id, address, started_at, made_at, brought })
}

/// Volumes by target. Anything else that is mounted shows under its own source, and so as a difference.
fn mounts(
    host: &HostConfig,
    points: Vec<bollard::models::MountPoint>,
    own_name: &impl Fn(&str) -> String,
) -> BTreeMap<String, Mount> {
    let tmpfs: BTreeSet<&String> = host.tmpfs.iter().flatten().map(|(path, _)| path).collect();
    points
        .into_iter()
        .filter_map(|point| {
            let target = point.destination?;
            if tmpfs.contains(&target) {
                return None;
            }
            let volume = match point.name {
                Some(name) => own_name(&name),
                None => point.source.unwrap_or_default(),
            };
            Some((target, Mount { volume, read_only: !point.rw.unwrap_or(true) }))
        })
        .collect()
}

fn ports(host: &HostConfig) -> BTreeMap<String, String> {
    let mut ports = BTreeMap::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let addresses: Vec<String> = bindings
            .iter()
            .flatten()
            .map(|binding| {
                let ip = binding.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
                format!("{ip}:{}", binding.host_port.as_deref().unwrap_or_default())
            })
            .collect();
        ports.insert(port.clone(), addresses.join(" "));
    }
    ports
}

fn tmpfs_size(options: &str) -> u64 {
    options.split(',').find_map(|option| option.strip_prefix("size=")?.parse().ok()).unwrap_or(0)
}

fn restart(host: &HostConfig) -> String {
    let name = host.restart_policy.as_ref().and_then(|policy| policy.name);
    match name {
        Some(RestartPolicyNameEnum::ALWAYS) => "always",
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => "unless-stopped",
        Some(RestartPolicyNameEnum::ON_FAILURE) => "on-failure",
        _ => "no",
    }
    .to_owned()
}

fn unsigned(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

/// Whether a container's process has ever run.
pub fn was_started(report: &ContainerInspectResponse) -> bool {
    let status = report.state.as_ref().and_then(|state| state.status);
    status != Some(ContainerStateStatusEnum::CREATED)
}

/// The test of a health check, in words; nothing where there is none.
pub(super) fn health_check(check: Option<&HealthConfig>) -> String {
    check.and_then(|check| check.test.as_ref()).map(|words| words.join(" ")).unwrap_or_default()
}

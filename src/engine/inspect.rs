//! What the engine reports, to state: defaults and read-back noise in the same form as what is meant.

use crate::engine::docker::Image;
use crate::engine::names::{self, Names};
use crate::state::{Container, Hardening, Mount, Network, Role, Volume};
use crate::value::ResourceId;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HostConfig, RestartPolicyNameEnum};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// A container, and what is needed to talk to it and is no state.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: ResourceId,
    pub container: Container,
    /// The engine's id of its image.
    pub image_id: String,
    /// On the environment's private network.
    pub address: Option<IpAddr>,
    pub brought: Brought,
    /// Why it is not running, when it is not.
    pub exit: Option<String>,
}

/// What a container's image says about what to run.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
}

pub(crate) fn claim(labels: Option<&HashMap<String, String>>) -> Option<ResourceId> {
    labels.and_then(names::claimed)
}

pub(crate) fn network(network: bollard::models::Network) -> Option<(ResourceId, Network)> {
    let id = claim(network.labels.as_ref())?;
    Some((id, Network { internal: network.internal.unwrap_or_default() }))
}

pub(crate) fn volume_role(volume: &Volume) -> &'static str {
    match volume {
        Volume::Data { .. } => "data",
        Volume::Files { .. } => "files",
    }
}

pub(crate) fn volume(volume: bollard::models::Volume) -> Option<(ResourceId, Volume)> {
    let id = claim(Some(&volume.labels))?;
    // Anything that is not known to be files is treated as data: that is what is never removed.
    let volume = match volume.labels.get(names::ROLE).map(String::as_str) {
        Some("files") => Volume::Files { files: BTreeMap::new() },
        _ => Volume::Data { owner: (0, 0) },
    };
    Some((id, volume))
}

/// Reads an inspected container; `image` is what its image brings along and the spec does not set.
pub fn container(names: &Names, report: ContainerInspectResponse, image: Option<&Image>) -> Option<Seen> {
    let config = report.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let id = names::claimed(&labels)?;
    let host = report.host_config.unwrap_or_default();
    let state = report.state.unwrap_or_default();
    let role = match labels.get(names::ROLE).map(String::as_str) {
        Some("redis") => Role::Redis,
        Some("files") => Role::Files,
        _ => Role::App,
    };
    let image_id = report.image.unwrap_or_default();
    let from_image = |entry: &String| image.is_some_and(|image| image.env.contains(entry));
    let env = config.env.unwrap_or_default();
    let env = env.iter().filter(|entry| !from_image(entry)).filter_map(|entry| entry.split_once('='));
    let networks = report.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let prefix = format!("{}-", names.project());
    let own_name = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let address = networks
        .get(&names.network(crate::desired::PRIVATE))
        .and_then(|endpoint| endpoint.ip_address.as_deref())
        .and_then(|address| address.parse().ok());
    let some_words = |words: Option<Vec<String>>| words.filter(|words| !words.is_empty());
    let brought = Brought {
        entrypoint: some_words(image.map(|image| image.entrypoint.clone())),
        command: some_words(image.map(|image| image.command.clone())),
    };
    let ulimit = |name: &str| {
        let ulimits = host.ulimits.iter().flatten();
        ulimits.filter(|limit| limit.name.as_deref() == Some(name)).find_map(|limit| limit.hard)
    };
    let restarting = state.restarting.unwrap_or_default();
    let running = state.running.unwrap_or_default() && !restarting;
    let exit = (!running).then(|| match (state.oom_killed, state.exit_code, state.error) {
        (Some(true), ..) => "killed for want of memory".to_owned(),
        (_, _, Some(error)) if !error.is_empty() => error,
        (_, Some(code), _) => format!("exit code {code}"),
        _ => "not started".to_owned(),
    });
    let container = Container {
        role,
        image: image_id.clone(),
        entrypoint: some_words(config.entrypoint),
        command: some_words(config.cmd),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        user: config.user.unwrap_or_default(),
        mounts: mounts(&host, report.mounts.unwrap_or_default(), &own_name),
        ports: ports(&host),
        networks: networks.keys().filter(|name| *name != "none").map(|name| own_name(name)).collect(),
        memory_bytes: unsigned(host.memory),
        nano_cpus: unsigned(host.nano_cpus),
        pids: unsigned(host.pids_limit),
        open_files: unsigned(ulimit("nofile")),
        tmpfs: host.tmpfs.iter().flatten().map(|(path, options)| (path.clone(), tmpfs_size(options))).collect(),
        restart: restart(&host),
        running,
        restarting,
        started: state.status != Some(ContainerStateStatusEnum::CREATED),
        server: None,
        hardening: Hardening {
            privileged: host.privileged.unwrap_or_default(),
            read_only_root: host.readonly_rootfs.unwrap_or_default(),
            cap_add: host.cap_add.iter().flatten().cloned().collect(),
            cap_drop: host.cap_drop.iter().flatten().cloned().collect(),
            security_options: host.security_opt.iter().flatten().cloned().collect(),
            devices: u64::try_from(host.devices.iter().flatten().count()).unwrap_or(u64::MAX),
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
        },
    };
    Some(Seen { id, container, image_id, address, brought, exit })
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

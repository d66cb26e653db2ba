//! A container as it is meant, to what the engine wants to be told.

use crate::engine::beyond;
use crate::engine::names::Names;
use crate::hold::{self, Holder};
use crate::state::{Container, Hardening, Role, SEED_PATH};
use crate::value::ResourceId;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig, PortBinding, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::{BTreeMap, HashMap};

/// Owns nothing anywhere.
const NOBODY: &str = "65534:65534";

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Redis => "redis",
        Role::App => "app",
        Role::Files => "files",
    }
}

/// The request, and the network that it already attaches to; without an alias others do not find it by its name there.
pub(crate) fn body(
    names: &Names,
    id: &ResourceId,
    container: &Container,
    alias: Option<&str>,
) -> (ContainerCreateBody, Option<String>) {
    // The network with a way out comes first: it carries the published ports.
    let first = container.networks.first().cloned();
    let endpoints = first.as_ref().map(|network| {
        let aliases = alias.map(|alias| vec![alias.to_owned()]);
        let endpoint = EndpointSettings { aliases, ..EndpointSettings::default() };
        HashMap::from([(names.network(network), endpoint)])
    });
    let network_mode = first.as_ref().map_or_else(|| "none".to_owned(), |network| names.network(network));
    let body = ContainerCreateBody {
        image: Some(container.image.clone()),
        user: Some(container.user.clone()),
        env: Some(container.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        entrypoint: container.entrypoint.clone(),
        cmd: container.command.clone(),
        exposed_ports: Some(container.ports.keys().cloned().collect()),
        labels: Some(names.labels(id, role(container.role))),
        stop_timeout: Some(signed(container.stop_seconds)),
        networking_config: Some(NetworkingConfig { endpoints_config: endpoints }),
        host_config: Some(host_config(names, container, network_mode)),
        ..ContainerCreateBody::default()
    };
    (body, first)
}

fn host_config(names: &Names, container: &Container, network_mode: String) -> HostConfig {
    let hardening = &container.hardening;
    let own = container.mounts.iter();
    let own = own.map(|(target, mount)| (target.as_str(), names.volume(&mount.volume), mount.read_only));
    let shared = container.seed.iter().map(|volume| (SEED_PATH, volume.clone(), true));
    let mounts = own.chain(shared).map(|(target, source, read_only)| Mount {
        target: Some(target.to_owned()),
        source: Some(source),
        typ: Some(MountType::VOLUME),
        read_only: Some(read_only),
        // What the image has at this path is no part of what the spec means.
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    });
    let limit = |name: &str, value: u64| {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
    };
    let mut ulimits = vec![limit("nofile", container.open_files)];
    ulimits.extend(hardening.core_limit.map(|core| limit("core", core)));
    let tmpfs = container.tmpfs.iter().map(|(path, size)| (path.clone(), format!("{},size={size}", beyond::TMPFS)));
    let ports = container.ports.iter().map(|(port, address)| {
        let (ip, host) = address.rsplit_once(':').unwrap_or(("127.0.0.1", address));
        let binding = PortBinding { host_ip: Some(ip.to_owned()), host_port: Some(host.to_owned()) };
        (port.clone(), Some(vec![binding]))
    });
    HostConfig {
        mounts: Some(mounts.collect()),
        network_mode: Some(network_mode),
        port_bindings: Some(ports.collect()),
        memory: Some(signed(container.memory_bytes)),
        // Equal to memory: no swap, whose surprises look like a slow Redis.
        memory_swap: Some(signed(container.memory_bytes)),
        nano_cpus: Some(signed(container.nano_cpus)),
        pids_limit: Some(signed(container.pids)),
        ulimits: Some(ulimits),
        tmpfs: Some(tmpfs.collect()),
        restart_policy: Some(RestartPolicy { name: Some(restart(&container.restart)), maximum_retry_count: None }),
        privileged: Some(hardening.privileged),
        readonly_rootfs: Some(hardening.read_only_root),
        cap_drop: Some(hardening.cap_drop.iter().cloned().collect()),
        security_opt: Some(hardening.security_options.iter().cloned().collect()),
        ipc_mode: Some(hardening.ipc_mode.clone()),
        // With cgroups of version 1 the engine would share the host's.
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        init: Some(hardening.init),
        // An engine may have another default, and two of them may differ in it.
        shm_size: Some(beyond::SHM_BYTES),
        log_config: Some(HostConfigLogConfig {
            typ: Some(hardening.log_driver.clone()),
            config: Some(hardening.log_options.clone().into_iter().collect()),
        }),
        ..HostConfig::default()
    }
}

pub(crate) fn update(container: &Container) -> ContainerUpdateBody {
    ContainerUpdateBody {
        memory: Some(signed(container.memory_bytes)),
        memory_swap: Some(signed(container.memory_bytes)),
        nano_cpus: Some(signed(container.nano_cpus)),
        pids_limit: Some(signed(container.pids)),
        restart_policy: Some(RestartPolicy { name: Some(restart(&container.restart)), maximum_retry_count: None }),
        ..ContainerUpdateBody::default()
    }
}

fn restart(policy: &str) -> RestartPolicyNameEnum {
    match policy {
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => RestartPolicyNameEnum::NO,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The container that stands for a hold: hardened like every other, without a network, and gone with its process. `pulse`
/// is the first that it has.
pub(crate) fn hold(
    names: &Names,
    image: &str,
    words: &[String],
    holder: &Holder,
    pulse: Option<i64>,
) -> ContainerCreateBody {
    let container = Container {
        entrypoint: Some(words.iter().take(1).cloned().collect()),
        command: Some(words.iter().skip(1).cloned().collect()),
        memory_bytes: 32 << 20,
        nano_cpus: 500_000_000,
        pids: 16,
        hardening: Hardening::standard(),
        ..Container::carrier(image.to_owned(), NOBODY.to_owned(), BTreeMap::new())
    };
    let id = ResourceId::container(hold::CONTAINER);
    let mut labels = names.labels(&id, hold::ROLE);
    labels.extend(holder.labels());
    let (body, _) = body(names, &id, &container, None);
    let host = body.host_config.map(|host| HostConfig {
        auto_remove: Some(holder.sign.has_process()),
        cpu_shares: pulse,
        ..host
    });
    ContainerCreateBody {
        labels: Some(labels),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: host,
        ..body
    }
}

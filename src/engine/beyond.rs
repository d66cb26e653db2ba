//! What the engine reports that no spec means: everything that is not as it leaves a container, a network or a volume
//! of which it was told nothing more, by name. An environment as it is meant has none of it.
//!
//! Defaults of the engine and the noise of reading them back are left out here, and so is what it fills in by itself:
//! addresses, ids, times.

use crate::engine::docker::Image;
use crate::engine::inspect;
use crate::engine::names::Names;
use crate::value::ResourceId;
use bollard::models::{
    ContainerConfig, DeviceMapping, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum, NetworkInspect,
    RestartPolicyNameEnum, Volume,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// By name, what is beyond.
pub type Beyond = BTreeMap<String, String>;

/// What every engine since Docker 20.10 hides of the kernel from a container, and what it lets nobody write.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// How a tmpfs is mounted, its size aside.
pub(super) const TMPFS: &str = "rw,noexec,nosuid,nodev,mode=1777";
/// Of `/dev/shm`: what an engine gives that was told nothing.
pub(super) const SHM_BYTES: i64 = 64 << 20;
/// Labels that say whose a thing is; those of others may mean something to a tool that reads them.
const OUR_LABELS: [&str; 2] = ["dev.lockstep.", "com.docker.compose."];

/// Collects what is not empty.
#[derive(Default)]
struct Notes(Beyond);

impl Notes {
    fn put(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn number(&mut self, name: &str, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value != 0) {
            self.put(name, value.to_string());
        }
    }

    fn switch(&mut self, name: &str, value: Option<bool>) {
        if value == Some(true) {
            self.put(name, "yes");
        }
    }

    fn words<W: AsRef<str>>(&mut self, name: &str, words: impl IntoIterator<Item = W>) {
        let words: Vec<String> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self.put(name, words.join(" "));
    }

    fn pairs(&mut self, name: &str, pairs: Option<&HashMap<String, String>>) {
        for (key, value) in pairs.into_iter().flatten() {
            self.put(&format!("{name}.{key}"), if value.is_empty() { "set" } else { value });
        }
    }
}

/// A container: its host's side, what it was told, and where it is known on its networks.
pub(super) fn container(
    names: &Names,
    resource: &ResourceId,
    id: &str,
    (host, config): (&HostConfig, &ContainerConfig),
    networks: &HashMap<String, EndpointSettings>,
    image: Option<&Image>,
) -> Beyond {
    let mut notes = Notes::default();
    limits(&mut notes, host);
    isolation(&mut notes, host);
    told(&mut notes, host, config, id);
    if let Some(image) = image {
        brought(&mut notes, config, host, image);
    }
    let hostname = config.hostname.as_deref().unwrap_or_default();
    for (network, endpoint) in networks {
        known(&mut notes, names, resource, (id, hostname), network, endpoint);
    }
    notes.0
}

/// What it may use.
fn limits(notes: &mut Notes, host: &HostConfig) {
    // Swap beyond memory.
    let swap = host.memory_swap.filter(|swap| Some(*swap) != host.memory && host.memory > Some(0));
    notes.number("memory-swap", swap);
    notes.number("memory-swappiness", host.memory_swappiness.filter(|swappiness| *swappiness >= 0));
    notes.number("memory-reservation", host.memory_reservation);
    notes.number("cpu-shares", host.cpu_shares);
    notes.number("cpu-period", host.cpu_period);
    notes.number("cpu-quota", host.cpu_quota);
    notes.number("cpu-realtime-period", host.cpu_realtime_period);
    notes.number("cpu-realtime-runtime", host.cpu_realtime_runtime);
    notes.put("cpuset-cpus", host.cpuset_cpus.clone().unwrap_or_default());
    notes.put("cpuset-mems", host.cpuset_mems.clone().unwrap_or_default());
    notes.number("blkio-weight", host.blkio_weight.map(i64::from));
    let throttled = [
        ("blkio-read-bps", &host.blkio_device_read_bps),
        ("blkio-write-bps", &host.blkio_device_write_bps),
        ("blkio-read-iops", &host.blkio_device_read_iops),
        ("blkio-write-iops", &host.blkio_device_write_iops),
    ];
    for (name, devices) in throttled {
        let devices = devices.iter().flatten();
        let words = devices.map(|of| format!("{}:{}", of.path.as_deref().unwrap_or("?"), of.rate.unwrap_or_default()));
        notes.words(name, words);
    }
    notes.number("oom-score-adj", host.oom_score_adj);
    notes.switch("oom-kill-disable", host.oom_kill_disable);
    notes.number("shm-size", host.shm_size.filter(|size| *size != SHM_BYTES));
    for ulimit in host.ulimits.iter().flatten() {
        let (name, soft, hard) = (ulimit.name.as_deref().unwrap_or("?"), ulimit.soft, ulimit.hard);
        // The two that are meant have fields of their own, and one value.
        if !matches!(name, "nofile" | "core") || soft != hard {
            let number = |number: Option<i64>| number.unwrap_or_default();
            notes.put(&format!("ulimits.{name}"), format!("{}:{}", number(soft), number(hard)));
        }
    }
    let policy = host.restart_policy.as_ref();
    let retries = policy.filter(|policy| policy.name == Some(RestartPolicyNameEnum::ON_FAILURE));
    notes.number("restart-retries", retries.and_then(|policy| policy.maximum_retry_count));
}

/// What keeps it from its host and from others.
fn isolation(notes: &mut Notes, host: &HostConfig) {
    notes.words("device-rules", host.device_cgroup_rules.iter().flatten());
    let requests = host.device_requests.iter().flatten();
    notes.words("device-requests", requests.map(|request| format!("{:?}", request.driver.as_deref().unwrap_or("any"))));
    notes.words("dns", host.dns.iter().flatten());
    notes.words("dns-options", host.dns_options.iter().flatten());
    notes.words("dns-search", host.dns_search.iter().flatten());
    notes.words("extra-hosts", host.extra_hosts.iter().flatten());
    notes.words("group-add", host.group_add.iter().flatten());
    notes.words("links", host.links.iter().flatten());
    notes.words("volumes-from", host.volumes_from.iter().flatten());
    notes.put("userns", host.userns_mode.clone().unwrap_or_default());
    notes.put("uts", host.uts_mode.clone().unwrap_or_default());
    notes.put("cgroup-parent", host.cgroup_parent.clone().unwrap_or_default());
    if host.cgroupns_mode == Some(HostConfigCgroupnsModeEnum::HOST) {
        notes.put("cgroup-namespace", "host");
    }
    for (name, value) in host.sysctls.iter().flatten() {
        notes.put(&format!("sysctls.{name}"), value);
    }
    // A privileged container has neither, which is told by itself.
    if host.privileged != Some(true) {
        let without = |wanted: &[&str], found: &Option<Vec<String>>| {
            let found: BTreeSet<&str> = found.iter().flatten().map(String::as_str).collect();
            wanted.iter().filter(|path| !found.contains(**path)).map(|path| (*path).to_owned()).collect::<Vec<_>>()
        };
        notes.words("unmasked-paths", without(&MASKED, &host.masked_paths));
        notes.words("writable-paths", without(&READ_ONLY, &host.readonly_paths));
    }
    for (path, options) in host.tmpfs.iter().flatten() {
        let words = |text: &str| {
            let words = text.split(',').filter(|word| !word.is_empty() && !word.starts_with("size="));
            words.map(str::to_owned).collect::<BTreeSet<String>>()
        };
        if words(options) != words(TMPFS) {
            notes.put(&format!("tmpfs.{path}"), options);
        }
    }
}

/// What else the engine was told of it.
fn told(notes: &mut Notes, host: &HostConfig, config: &ContainerConfig, id: &str) {
    notes.switch("auto-remove", host.auto_remove);
    notes.switch("publish-all-ports", host.publish_all_ports);
    notes.put("volume-driver", host.volume_driver.clone().unwrap_or_default());
    notes.pairs("storage", host.storage_opt.as_ref());
    notes.pairs("annotations", host.annotations.as_ref());
    notes.switch("tty", config.tty);
    notes.switch("open-stdin", config.open_stdin);
    notes.put("domain-name", config.domainname.clone().unwrap_or_default());
    // By itself the engine calls it by the beginning of its id, and one on its host's network as its host.
    let hostname = config.hostname.as_deref().unwrap_or_default();
    if host.network_mode.as_deref() != Some("host") && !id.starts_with(hostname) {
        notes.put("hostname", hostname);
    }
}

/// What its image says otherwise.
fn brought(notes: &mut Notes, config: &ContainerConfig, host: &HostConfig, image: &Image) {
    let differs = |value: &Option<String>, brought: &str| {
        let value = value.clone().unwrap_or_default();
        (value != brought).then(|| if value.is_empty() { "none".to_owned() } else { value })
    };
    notes.put("working-dir", differs(&config.working_dir, &image.working_dir).unwrap_or_default());
    notes.put("stop-signal", differs(&config.stop_signal, &image.stop_signal).unwrap_or_default());
    let health = inspect::health_check(config.healthcheck.as_ref());
    notes.put("health-check", differs(&Some(health), &image.health).unwrap_or_default());
    let published: BTreeSet<&String> = host.port_bindings.iter().flatten().map(|(port, _)| port).collect();
    let exposed = config.exposed_ports.iter().flatten();
    notes.words("exposed", exposed.filter(|port| !image.ports.contains(*port) && !published.contains(port)));
    for (label, value) in config.labels.iter().flatten() {
        let ours = OUR_LABELS.iter().any(|ours| label.starts_with(ours));
        if !ours && image.labels.get(label) != Some(value) {
            notes.put(&format!("labels.{label}"), if value.is_empty() { "set" } else { value });
        }
    }
}

/// How others find it on a network.
fn known(
    notes: &mut Notes,
    names: &Names,
    resource: &ResourceId,
    (id, hostname): (&str, &str),
    network: &str,
    endpoint: &EndpointSettings,
) {
    let prefix = format!("{}-", names.project());
    let Some(own) = network.strip_prefix(&prefix) else { return };
    // An engine adds the beginning of its id, or the name it has for itself.
    let aliases: BTreeSet<&str> = endpoint.aliases.iter().flatten().map(String::as_str).collect();
    let by_itself = |alias: &str| id.starts_with(alias) || alias == hostname;
    let others = aliases.iter().filter(|alias| **alias != resource.name && !by_itself(alias));
    notes.words(&format!("aliases.{own}"), others);
    if own == crate::desired::PRIVATE && !aliases.contains(resource.name.as_str()) {
        notes.put(&format!("aliases.{own}"), format!("without {}", resource.name));
    }
    let fixed = endpoint.ipam_config.as_ref().and_then(|ipam| ipam.ipv4_address.clone());
    notes.put(&format!("addresses.{own}"), fixed.unwrap_or_default());
    notes.words(&format!("links.{own}"), endpoint.links.iter().flatten());
}

/// A network, and who is on it that is not the environment's: `own` are the ids of its containers.
pub fn network(report: &NetworkInspect, own: &BTreeSet<String>) -> Beyond {
    let mut notes = Notes::default();
    notes.put("driver", report.driver.clone().filter(|driver| driver != "bridge").unwrap_or_default());
    notes.switch("ipv6", report.enable_ipv6);
    notes.switch("attachable", report.attachable);
    for (option, value) in report.options.iter().flatten() {
        // What newer engines write down of what they do anyway.
        if !option.starts_with("com.docker.network.enable_ipv") {
            notes.put(&format!("options.{option}"), value);
        }
    }
    for (id, endpoint) in report.containers.iter().flatten() {
        if !own.contains(id) {
            let name = endpoint.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone());
            notes.put(&format!("guests.{name}"), "attached");
        }
    }
    foreign_labels(&mut notes, report.labels.iter().flatten());
    notes.0
}

pub fn volume(report: &Volume) -> Beyond {
    let mut notes = Notes::default();
    notes.put("driver", if report.driver == "local" { "" } else { report.driver.as_str() });
    notes.pairs("options", Some(&report.options));
    foreign_labels(&mut notes, report.labels.iter());
    notes.0
}

fn foreign_labels<'l>(notes: &mut Notes, labels: impl Iterator<Item = (&'l String, &'l String)>) {
    for (label, value) in labels.filter(|(label, _)| !OUR_LABELS.iter().any(|ours| label.starts_with(ours))) {
        notes.put(&format!("labels.{label}"), if value.is_empty() { "set" } else { value });
    }
}

/// Devices of the host, as where they are in it, in the container, and what may be done with them.
pub(super) fn devices(host: &HostConfig) -> BTreeSet<String> {
    let word = |device: &DeviceMapping| {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        format!(
            "{}:{}:{}",
            part(&device.path_on_host),
            part(&device.path_in_container),
            part(&device.cgroup_permissions)
        )
    };
    host.devices.iter().flatten().map(word).collect()
}

/// What keeps its process from more rights; a container that shares its host's processes loses one of them by itself.
pub(super) fn security_options(host: &HostConfig) -> BTreeSet<String> {
    let is_host = |mode: &Option<String>| mode.as_deref() == Some("host");
    let shares = host.privileged == Some(true) || is_host(&host.pid_mode) || is_host(&host.ipc_mode);
    let options = host.security_opt.iter().flatten();
    options.filter(|option| !(shares && *option == "label=disable")).cloned().collect()
}

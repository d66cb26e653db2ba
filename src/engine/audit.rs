//! What the audit wants to know of the engine and its containers, beyond what is compared.

use crate::audit::facts::{Engine as EngineFacts, Image, Inspect, Mount, Network, Published};
use crate::desired::PRIVATE;
use crate::engine::docker::next_within;
use crate::engine::inspect::address;
use crate::engine::{Engine, EngineError, Names};
use bollard::models::{ContainerInspectResponse, HostConfig, MountPoint};
use bollard::query_parameters as query;
use futures_util::TryStreamExt as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Of a log, so much is read.
const MAX_LOG: usize = 4 << 20;
/// Texts in the report about one container; it has some two hundred.
const MAX_TEXTS: usize = 5_000;
/// Processes of one container that are looked at.
const MAX_PROCESSES: usize = 512;

/// A container that has the labels of an environment.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// What the engine calls it.
    pub name: String,
    /// What it claims to be: `cache`, of `container/cache`.
    pub claim: Option<String>,
    /// `redis`, `app`, `files` or nothing.
    pub role: Option<String>,
    pub inspect: Inspect,
    /// On the private network, while it runs.
    pub address: Option<IpAddr>,
}

impl Engine {
    /// Every container with the environment's labels, and every one that has the name of one of its services.
    pub async fn audited(&self, names: &Names, services: &[&str]) -> Result<Vec<Labelled>, EngineError> {
        let mut wanted = self.containers(names).await?;
        wanted.extend(services.iter().map(|service| names.container(service)));
        let mut found: BTreeMap<String, Labelled> = BTreeMap::new();
        for id in wanted {
            // One may be gone between the list and the look.
            let Some(report) = self.find_container(&id).await? else { continue };
            let container = labelled(names, report);
            found.insert(container.name.clone(), container);
        }
        Ok(found.into_values().collect())
    }

    /// Ids of a container's processes, as the engine's host counts them.
    pub async fn processes(&self, name: &str) -> Result<Vec<u32>, EngineError> {
        let options = query::TopOptionsBuilder::default().ps_args("-eo pid").build();
        let listed = self.docker().top_processes(name, Some(options)).await?;
        let rows = listed.processes.unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row.first()?.trim().parse().ok()).take(MAX_PROCESSES).collect())
    }

    /// The last lines that a container wrote, up to 4 MB of them.
    pub async fn log_tail(&self, name: &str, lines: u32) -> Result<Vec<String>, EngineError> {
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut stream = std::pin::pin!(self.docker().logs(name, Some(options)).map_err(EngineError::from));
        let mut text = Vec::new();
        while let Some(chunk) = next_within(&mut stream).await? {
            text.extend_from_slice(&chunk.into_bytes());
            if text.len() > 2 * MAX_LOG {
                // The newest come last.
                text.drain(..text.len() - MAX_LOG);
            }
        }
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// What an image brings along, and what each of its layers was made by.
    pub async fn image_made_by(&self, id: &str) -> Result<Image, EngineError> {
        let image = self.docker().inspect_image(id).await?;
        let history = self.docker().image_history(id).await?;
        let env = image.config.and_then(|config| config.env).unwrap_or_default();
        Ok(Image { env, history: history.into_iter().map(|layer| layer.created_by).collect() })
    }

    /// The networks of an environment by their own names, and who is on them without its labels.
    pub async fn audited_networks(&self, names: &Names) -> Result<BTreeMap<String, Network>, EngineError> {
        let own: BTreeSet<String> = self.containers(names).await?.into_iter().collect();
        let prefix = format!("{}-", names.project());
        let mut networks = BTreeMap::new();
        for name in self.networks_of(names).await? {
            let options = None::<query::InspectNetworkOptions>;
            let report = self.docker().inspect_network(&name, options).await?;
            let on_it = report.containers.unwrap_or_default().into_iter().filter(|(id, _)| !own.contains(id));
            let mut foreign: Vec<String> = on_it.map(|(id, end)| end.name.unwrap_or(id)).collect();
            foreign.sort();
            let network = Network {
                internal: report.internal.unwrap_or_default(),
                driver: report.driver.unwrap_or_default(),
                foreign,
            };
            networks.insert(name.strip_prefix(&prefix).unwrap_or(&name).to_owned(), network);
        }
        Ok(networks)
    }

    /// What the engine says of itself.
    pub async fn about(&self) -> Result<EngineFacts, EngineError> {
        let info = self.docker().info().await?;
        Ok(EngineFacts {
            address: self.address.clone(),
            debug: info.debug.unwrap_or_default(),
            root_folder: info.docker_root_dir.unwrap_or_default(),
        })
    }
}

fn labelled(names: &Names, report: ContainerInspectResponse) -> Labelled {
    let labels = report.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
    Labelled {
        name: report.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned(),
        claim: names.claimed(&labels).map(|id| id.name),
        role: labels.get(super::names::ROLE).cloned(),
        address: address(&report.network_settings, &names.network(PRIVATE)),
        inspect: inspect(names, report),
    }
}

fn inspect(names: &Names, report: ContainerInspectResponse) -> Inspect {
    let texts = texts(&report);
    let prefix = format!("{}-", names.project());
    let own = |name: &String| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let host = report.host_config.unwrap_or_default();
    let config = report.config.unwrap_or_default();
    let state = report.state.unwrap_or_default();
    let networks = report.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let log = host.log_config.clone().unwrap_or_default();
    Inspect {
        id: report.id.unwrap_or_default(),
        running: state.running.unwrap_or_default(),
        restarting: state.restarting.unwrap_or_default(),
        privileged: host.privileged.unwrap_or_default(),
        read_only_root: host.readonly_rootfs.unwrap_or_default(),
        cap_add: host.cap_add.clone().unwrap_or_default(),
        cap_drop: host.cap_drop.clone().unwrap_or_default(),
        devices: devices(&host),
        mounts: report.mounts.into_iter().flatten().map(mount).collect(),
        tmpfs: host.tmpfs.clone().unwrap_or_default().into_iter().collect(),
        namespaces: namespaces(&host),
        security_options: host.security_opt.clone().unwrap_or_default(),
        memory: unsigned(host.memory),
        nano_cpus: processors(&host),
        pids: unsigned(host.pids_limit),
        ulimits: ulimits(&host),
        ports: published(&host),
        networks: networks.keys().map(own).collect::<BTreeSet<_>>().into_iter().collect(),
        image_id: report.image.unwrap_or_default(),
        log_driver: log.typ.unwrap_or_default(),
        log_options: log.config.unwrap_or_default().into_iter().collect(),
        log_path: report.log_path.unwrap_or_default(),
        restarts: unsigned(report.restart_count),
        out_of_memory: state.oom_killed.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        texts,
    }
}

fn mount(point: MountPoint) -> Mount {
    Mount {
        kind: point.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        source: point.source.unwrap_or_default(),
        volume: point.name.unwrap_or_default(),
        target: point.destination.unwrap_or_default(),
        read_only: !point.rw.unwrap_or(true),
        propagation: point.propagation.unwrap_or_default(),
    }
}

fn devices(host: &HostConfig) -> Vec<String> {
    let of_host = host.devices.iter().flatten().map(|device| device.path_on_host.clone().unwrap_or_default());
    let rules = host.device_cgroup_rules.iter().flatten().map(|rule| format!("by the rule {rule}"));
    let requests = host.device_requests.iter().flatten().map(|_| "by a request to a driver".to_owned());
    of_host.chain(rules).chain(requests).collect()
}

/// What was asked for of each kind; the engine's own choice is no entry.
fn namespaces(host: &HostConfig) -> BTreeMap<String, String> {
    let cgroup = host.cgroupns_mode.map(|mode| mode.to_string());
    let modes = [
        ("pid", host.pid_mode.clone()),
        ("ipc", host.ipc_mode.clone()),
        ("uts", host.uts_mode.clone()),
        ("network", host.network_mode.clone()),
        ("user", host.userns_mode.clone()),
        ("cgroup", cgroup),
    ];
    let asked = modes.into_iter().filter_map(|(kind, mode)| Some((kind.to_owned(), mode?)));
    asked.filter(|(_, mode)| !mode.is_empty()).collect()
}

/// Billionths of a processor, however they were asked for.
fn processors(host: &HostConfig) -> u64 {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let quota = positive(host.cpu_quota).map(|quota| {
        let period = positive(host.cpu_period).unwrap_or(100_000);
        quota.saturating_mul(1_000_000_000) / period
    });
    positive(host.nano_cpus).or(quota).unwrap_or(0)
}

fn ulimits(host: &HostConfig) -> BTreeMap<String, i64> {
    let limits = host.ulimits.iter().flatten();
    limits.filter_map(|limit| Some((limit.name.clone()?, limit.hard.unwrap_or(-1)))).collect()
}

fn published(host: &HostConfig) -> Vec<Published> {
    let mut ports = Vec::new();
    if host.publish_all_ports == Some(true) {
        let port = "every port".to_owned();
        ports.push(Published { port, address: String::new(), host_port: "of the engine's choice".to_owned() });
    }
    let bound: BTreeMap<_, _> = host.port_bindings.iter().flatten().collect();
    for (port, bindings) in bound {
        ports.extend(bindings.iter().flatten().map(|binding| Published {
            port: port.clone(),
            address: binding.host_ip.clone().unwrap_or_default(),
            host_port: binding.host_port.clone().unwrap_or_default(),
        }));
    }
    ports
}

/// Every text in a report and where it stands, names included: a value may have become one.
fn texts(report: &ContainerInspectResponse) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", &serde_json::to_value(report).unwrap_or_default(), &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    if found.len() >= MAX_TEXTS {
        return;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| collect(path, item, found)),
        Value::Object(entries) => {
            for (name, value) in entries {
                found.push((format!("the names in {path}"), name.clone()));
                collect(&below(name), value, found);
            }
        }
        _ => {}
    }
}

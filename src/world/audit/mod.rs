//! Reads everything that the audit judges from a running environment, its machine and its project.
//!
//! Changes nothing. What cannot be read is an error in the facts, with the reason, and the rest is still read.

mod kept;
pub(crate) mod site;

use crate::audit::facts::{Container, Facts, Host, Process, Read, SecretFile, Server};
use crate::desired::{FILES, OPERATOR, Secrets};
use crate::engine::audit::Labelled;
use crate::engine::{Engine, EngineError, Names};
use crate::model::{Environment, Kind};
use crate::redis;
use crate::state::{Observed, Role, Value, Volume};
use crate::store::{self, privacy};
use crate::value::{Secret, ServerVersion};
use crate::world::ready::REDIS_PORT;
use futures_util::future;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// Lines of each log that are looked through.
const LINES: u32 = 10_000;
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// What is audited, and what was read of it before.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    pub environment: &'a Environment,
    /// Of the project.
    pub root: &'a Path,
    pub secrets: &'a Secrets,
    /// Why the declared secrets could not be read, where they could not.
    pub without_secrets: Option<&'a str>,
    pub observed: &'a Observed,
}

/// Reads everything.
///
/// # Errors
/// An engine that cannot be reached, or does not list its containers.
pub async fn gather(subject: Subject<'_>) -> Result<Facts, EngineError> {
    let Subject { engine, names, environment, .. } = subject;
    let services: Vec<&str> = environment.services.keys().map(|name| name.as_str()).collect();
    let labelled = engine.audited(names, &services).await?;
    let looked = labelled.iter().filter(|container| is_judged(names, container)).map(|container| async {
        let service = service_of(subject, container);
        let name = service.map_or(container.name.as_str(), |service| service.name.as_str());
        (name.to_owned(), look(subject, service, container).await)
    });
    let (looked, networks, about, kept) =
        tokio::join!(future::join_all(looked), engine.audited_networks(names), engine.about(), kept::read(subject));
    let mut containers: BTreeMap<String, Container> = looked.into_iter().collect();
    for (name, service) in &environment.services {
        let absent = || absent(&service.kind, &format!("there is no container {}", names.container(name.as_str())));
        containers.entry(name.to_string()).or_insert_with(absent);
    }
    let about = about.map_err(|error| error.to_string());
    let logs = containers.iter().filter_map(|(name, container)| {
        let path = container.inspect.as_ref().ok()?.log_path.as_str();
        let shown = "its log file";
        let read = || privacy::mode(Path::new(path), shown).unwrap_or_else(|| Err(format!("{path} is not here")));
        (!path.is_empty()).then(|| (name.clone(), read()))
    });
    let logs = logs.collect();
    let (backups, ledger, project) = kept.of(about.as_ref().ok().map(|about| about.root_folder.as_str()));
    Ok(Facts {
        today: store::today(),
        secrets: known_secrets(subject),
        containers,
        networks: networks.map_err(|error| error.to_string()),
        host: Host { logs, ..host(&engine.address) },
        engine: about,
        project,
        backups,
        ledger,
        security: environment.security.clone(),
    })
}

/// The one that carries files never runs; where it does, it is judged as what it is.
fn is_judged(names: &Names, container: &Labelled) -> bool {
    container.inspect.running || container.name != names.container(FILES)
}

/// The service whose own container this is.
fn service_of<'a>(subject: Subject<'a>, container: &Labelled) -> Option<&'a crate::model::Service> {
    let mut services = subject.environment.services.values();
    services.find(|service| subject.names.container(service.name.as_str()) == container.name)
}

/// The values that may stand nowhere, by name.
fn known_secrets(subject: Subject<'_>) -> Read<BTreeMap<String, Secret>> {
    if let Some(why) = subject.without_secrets {
        return Err(why.to_owned());
    }
    let own = subject.secrets.operators.iter();
    let own = own.map(|(service, secret)| (format!("{OPERATOR} in {service}"), secret.clone()));
    Ok(subject.secrets.values.clone().into_iter().chain(own).collect())
}

fn absent(kind: &Kind, why: &str) -> Container {
    let app = matches!(kind, Kind::App(_));
    Container {
        role: if app { Role::App } else { Role::Redis },
        declared: true,
        inspect: Err(why.to_owned()),
        processes: Err(why.to_owned()),
        image: Err(why.to_owned()),
        log: Err(why.to_owned()),
        server: Err(why.to_owned()),
        site: app.then(|| Err(why.to_owned())),
        secret_files: Vec::new(),
        locked: Err(why.to_owned()),
    }
}

async fn look(subject: Subject<'_>, service: Option<&crate::model::Service>, container: &Labelled) -> Container {
    let engine = subject.engine;
    let role = match service.map(|service| &service.kind) {
        Some(Kind::Redis(_)) => Role::Redis,
        Some(Kind::App(_)) => Role::App,
        None if container.role.as_deref() == Some("redis") => Role::Redis,
        None => Role::App,
    };
    let (processes, image, log, server, site, locked) = tokio::join!(
        processes(engine, container),
        engine.image_made_by(&container.inspect.image_id),
        engine.log_tail(&container.name, LINES),
        server(subject, service, container),
        async {
            match service {
                Some(service) => site::site(subject, service, container.inspect.running, container.address).await,
                None => None,
            }
        },
        locked(engine, service, &container.inspect.image_id),
    );
    Container {
        role,
        declared: service.is_some(),
        inspect: Ok(container.inspect.clone()),
        processes,
        image: image.map_err(|error| error.to_string()),
        log: log.map_err(|error| error.to_string()),
        server,
        site,
        secret_files: secret_files(subject, container),
        locked,
    }
}

async fn processes(engine: &Engine, container: &Labelled) -> Read<Vec<Process>> {
    if !container.inspect.running {
        return Err("it does not run".to_owned());
    }
    let pids = engine.processes(&container.name).await.map_err(|error| error.to_string())?;
    let mut processes = Vec::new();
    for pid in pids {
        processes.extend(privacy::process(pid, &container.inspect.id)?);
    }
    if processes.is_empty() { Err("the engine lists no process of it".to_owned()) } else { Ok(processes) }
}

/// Whether a container runs what the lock says.
async fn locked(engine: &Engine, service: Option<&crate::model::Service>, image_id: &str) -> Read<bool> {
    let Some(service) = service else { return Err("the spec has no such service".to_owned()) };
    let Some(locked) = &service.locked else { return Err("its image is not in stack.lock".to_owned()) };
    let image = engine.image(locked).await.map_err(|error| error.to_string())?;
    Ok(image.is_some_and(|image| image.id == image_id))
}

/// What the service's own server said when it was observed, and what its users could do.
async fn server(subject: Subject<'_>, service: Option<&crate::model::Service>, container: &Labelled) -> Read<Server> {
    let service = service.ok_or("it is no service of the spec: lockstep has no password for it")?;
    let name = service.name.as_str();
    if !container.inspect.running {
        return Err("it does not run".to_owned());
    }
    let vitals = subject.observed.vitals.get(name).ok_or("it was not asked")?;
    if let Some(why) = &vitals.unreadable {
        return Err(why.clone());
    }
    let seen = subject.observed.state.container(name).and_then(|container| container.server.as_ref());
    let seen = seen.ok_or("it was not asked")?;
    let fact = |name: &str| match seen.facts.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    if let Some(Value::Unknown(why)) = seen.facts.get("users") {
        return Err(why.clone());
    }
    let settings = seen.settings.iter().filter_map(|(name, value)| match value {
        Value::Text(text) => Some((name.clone(), text.clone())),
        _ => None,
    });
    let address = container.address.ok_or("it has no address on its network")?;
    let password = subject.secrets.operators.get(name).ok_or("the password of user `lockstep` is not in its volume")?;
    let connection = redis::connect(SocketAddr::new(address, REDIS_PORT), OPERATOR, password).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let version = fact("version").and_then(|version| ServerVersion::parse(&version));
    Ok(Server {
        settings: settings.collect(),
        users: seen.users.clone(),
        reach: connection.reach(&seen.users).await.map_err(|error| error.to_string())?,
        protects_configs: version.is_some_and(|version| version.speaks(7, 0)),
        last_save: fact("last-save"),
        last_append: fact("last-append"),
        used_memory: vitals.used_memory_bytes,
    })
}

/// Files with secrets in the volumes that a container mounts, as they lie there.
fn secret_files(subject: Subject<'_>, container: &Labelled) -> Vec<SecretFile> {
    let mut found = Vec::new();
    let prefix = format!("{}-", subject.names.project());
    for mount in &container.inspect.mounts {
        let Some(volume) = mount.volume.strip_prefix(&prefix) else { continue };
        let Some(Volume::Files { files }) = subject.observed.state.volume(volume) else { continue };
        found.extend(files.iter().filter(|(_, file)| file.secret).map(|(path, file)| SecretFile {
            path: path.clone(),
            volume: volume.to_owned(),
            mode: file.mode,
            owner: file.owner,
        }));
    }
    found
}

/// The machine, where the engine listens on a socket of it.
fn host(address: &str) -> Host {
    let socket = match address.strip_prefix("unix://") {
        Some(path) => privacy::mode(Path::new(path), path).unwrap_or_else(|| Err(format!("there is no {path}"))),
        None => Err(format!("the engine at {address} is not on this machine")),
    };
    // `always [madvise] never`: the one in brackets counts.
    let chosen = |text: String| {
        let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        chosen.map_or_else(|| text.clone(), str::to_owned)
    };
    Host {
        socket,
        overcommit: privacy::kernel(OVERCOMMIT),
        huge_pages: privacy::kernel(HUGE_PAGES).map(chosen),
        logs: BTreeMap::new(),
    }
}

//! Rules across fields: what is wrong although every value alone is right. One short function each.

use crate::finding::{self, Finding, nearest};
use crate::model::resolve::{Inputs, known_environments};
use crate::model::{Environment, Kind, RedisServer, Service, ephemeral, run};
use crate::value::{Bytes, Name};
use std::collections::{BTreeMap, BTreeSet};

/// The service name that lockstep keeps for the container that mounts all files.
pub const FILES_CONTAINER: &str = "files";
/// And the one for the container that stands for whoever is changing the environment.
pub const LOCK_CONTAINER: &str = "lock";

/// How environments are called that exist for a moment alone; what is called so is cleared away when it is old.
pub const DRILL: &str = "drill-";
pub const REHEARSE: &str = "rehearse-";
pub const SEED: &str = "seed-";

/// All rules that look at one environment.
pub fn check(inputs: &Inputs<'_>, environment: &Environment, findings: &mut Vec<Finding>) {
    throwaway_name(environment, findings);
    ephemeral::name_of_a_copy(inputs, environment, findings);
    needs(inputs, environment, findings);
    cycles(inputs, environment, findings);
    for service in environment.services.values() {
        reserved_name(service, findings);
        match &service.kind {
            Kind::Redis(redis) => memory_fits(service, redis, findings),
            Kind::App(_) => credentials_in_env(service, findings),
        }
        file_folders(service, findings);
    }
    others(inputs, findings);
    secret_source(environment, findings);
    run::check(environment, findings);
    port_clashes([environment], findings);
}

fn throwaway_name(environment: &Environment, findings: &mut Vec<Finding>) {
    let own = [DRILL, REHEARSE, SEED].into_iter().find(|own| environment.name.as_str().starts_with(own));
    if let Some(own) = own {
        let message = format!("`{}` is called like what lockstep launches and removes by itself", environment.name);
        let help = format!("names that begin with `{own}` are lockstep's own; call the environment something else");
        findings.push(Finding::error("name", message).at(&environment.place).help(help));
    }
}

fn reserved_name(service: &Service, findings: &mut Vec<Finding>) {
    let own = match service.name.as_str() {
        FILES_CONTAINER => Some("container"),
        LOCK_CONTAINER => Some("lock"),
        _ => None,
    };
    if let Some(own) = own {
        let message = format!("`{}` is the name of lockstep's own {own}", service.name);
        findings.push(Finding::error("name", message).at(&service.place).help("call the service something else"));
    }
}

/// The `maxmemory` that the spec sets; `None` when it sets none, or no size.
pub fn maxmemory(redis: &RedisServer) -> Option<Bytes> {
    let written = redis.settings.get("maxmemory")?;
    written.value.first().and_then(|text| Bytes::parse(text)).filter(|bytes| bytes.0 > 0)
}

/// Below 1.3 times `maxmemory` a save, which copies the pages that change meanwhile, ends in an out-of-memory kill.
fn memory_fits(service: &Service, redis: &RedisServer, findings: &mut Vec<Finding>) {
    let Some(written) = redis.settings.get("maxmemory") else {
        let message = format!("`{}` has no `maxmemory`, and would grow until its container is killed", service.name);
        let help = "set `settings: { maxmemory: 256mb }`";
        findings.push(Finding::error("maxmemory", message).at(&service.place).help(help));
        return;
    };
    let Some(maxmemory) = maxmemory(redis) else {
        let text = written.value.first().map_or("", String::as_str);
        // It did not render, which is told.
        if text.is_empty() && finding::has_errors(findings) {
            return;
        }
        let message = format!("`{text}` is not a size above zero");
        findings.push(Finding::error("maxmemory", message).at(&written.place).help("write 256mb"));
        return;
    };
    let limit = service.limits.memory.value;
    let needed = Bytes(maxmemory.0.saturating_add(maxmemory.0 / 10 * 3));
    if limit < needed {
        let message = format!(
            "maxmemory {maxmemory} does not fit the container's memory limit of {limit}: saving needs up to {needed}"
        );
        let help = "raise `limits.memory`, for example to `{{ cache_memory | times(by=1.6) }}`, or lower maxmemory";
        findings.push(Finding::error("memory-fit", message).at(&written.place).help(help));
    }
}

fn needs(inputs: &Inputs<'_>, environment: &Environment, findings: &mut Vec<Finding>) {
    let specs = inputs.spec.redis.values().map(|redis| &redis.service);
    for service in specs.chain(inputs.spec.apps.values().map(|app| &app.service)).filter(|service| service.enabled) {
        for need in &service.needs {
            if environment.services.contains_key(&need.value) {
                continue;
            }
            let known = environment.services.keys().map(Name::as_str);
            let help = match nearest(need.value.as_str(), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a service needs services of the same spec that are not switched off".to_owned(),
            };
            let message = format!("there is no service `{}`", need.value);
            findings.push(Finding::error("unknown-service", message).at(&need.place).help(help));
        }
    }
}

fn cycles(inputs: &Inputs<'_>, environment: &Environment, findings: &mut Vec<Finding>) {
    let mut done: BTreeSet<&Name> = BTreeSet::new();
    for start in environment.services.keys() {
        let mut path: Vec<&Name> = Vec::new();
        if let Some(cycle) = walk(environment, start, &mut path, &mut done) {
            let names: Vec<&str> = cycle.iter().map(|name| name.as_str()).collect();
            let message = format!("services need each other in a circle: {}", names.join(" -> "));
            let finding = Finding::error("dependency-cycle", message);
            let place = cycle.first().and_then(|name| {
                let redis = inputs.spec.redis.get(*name).map(|redis| &redis.service);
                let service = redis.or_else(|| inputs.spec.apps.get(*name).map(|app| &app.service))?;
                service.needs.first().map(|need| &need.place)
            });
            findings.push(match place {
                Some(place) => finding.at(place),
                None => finding,
            });
            return;
        }
    }
}

/// Depth-first; its own stack, so that a long chain of services cannot exhaust the thread's.
fn walk<'e>(
    environment: &'e Environment,
    start: &'e Name,
    path: &mut Vec<&'e Name>,
    done: &mut BTreeSet<&'e Name>,
) -> Option<Vec<&'e Name>> {
    let mut stack = vec![(start, false)];
    while let Some((name, leaving)) = stack.pop() {
        if leaving {
            path.pop();
            done.insert(name);
            continue;
        }
        if done.contains(name) {
            continue;
        }
        if let Some(at) = path.iter().position(|seen| *seen == name) {
            let mut cycle: Vec<&Name> = path.iter().skip(at).copied().collect();
            cycle.push(name);
            return Some(cycle);
        }
        path.push(name);
        stack.push((name, true));
        if let Some(service) = environment.services.get(name) {
            stack.extend(service.needs.iter().map(|need| (need, false)));
        }
    }
    None
}

/// Two listeners on one address; `environments` are those that share an engine.
pub fn port_clashes<'e>(environments: impl IntoIterator<Item = &'e Environment>, findings: &mut Vec<Finding>) {
    let mut taken: BTreeMap<u16, Vec<(&str, String)>> = BTreeMap::new();
    for environment in environments {
        for service in environment.services.values() {
            let Kind::App(app) = &service.kind else { continue };
            for port in &app.ports {
                let owner = format!("{} {}", environment.name, service.name);
                let users = taken.entry(port.value.host).or_default();
                let any = |address: &str| address == "0.0.0.0" || address == "::";
                let ip = port.value.host_ip.as_str();
                if let Some((_, other)) = users.iter().find(|(used, _)| *used == ip || any(used) || any(ip)) {
                    let message = format!("port {} of {owner} is taken by {other} on the same engine", port.value.host);
                    let help = "make the port a difference and give each environment its own";
                    let value = port.uses.iter().find_map(|name| environment.values.get(name));
                    let place = value.map_or(&port.place, |value| &value.place);
                    findings.push(Finding::error("port-clash", message).at(place).help(help));
                }
                users.push((ip, owner));
            }
        }
    }
}

/// A folder that the image itself needs would be hidden by the volume that holds our file.
fn file_folders(service: &Service, findings: &mut Vec<Finding>) {
    const SYSTEM: [&str; 14] = [
        "", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/sbin", "/sys", "/usr", "/usr/bin",
        "/usr/lib",
    ];
    for (path, written) in &service.files {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let redis = matches!(service.kind, Kind::Redis(_)) && (folder == "/etc/redis" || folder.starts_with("/data"));
        let own = ["current", "r"].iter().any(|own| path.strip_prefix(folder) == Some(&format!("/{own}")));
        if own || SYSTEM.contains(&folder) || redis || folder.starts_with("/run/secrets") {
            let message = format!("`{path}` cannot be delivered: its folder belongs to the image or to lockstep");
            let help = "give the file a folder of its own, such as /etc/web/";
            findings.push(Finding::error("file-folder", message).at(&written.place).help(help));
        }
    }
}

fn credentials_in_env(service: &Service, findings: &mut Vec<Finding>) {
    let Kind::App(app) = &service.kind else { return };
    for (key, written) in &app.env {
        let upper = key.to_ascii_uppercase();
        let named = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY"];
        let suspicious = named.iter().any(|word| upper.ends_with(word))
            || written.value.split_once("://").is_some_and(|(_, rest)| {
                let authority = rest.split('/').next().unwrap_or("");
                authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
            });
        if suspicious && !written.value.is_empty() {
            let message =
                format!("`{key}` looks like a credential, and everyone who can inspect the container can read it");
            let help = "name a secret under `secrets:` and pass its path, /run/secrets/<name>";
            findings.push(Finding::error("credential-in-env", message).at(&written.place).help(help));
        }
    }
}

/// The environments that an environment's file names.
fn others(inputs: &Inputs<'_>, findings: &mut Vec<Finding>) {
    let environment = inputs.environment;
    let named =
        [("follows", "follow itself", &environment.follows), ("seed", "begin with its own data", &environment.seed)];
    let known = known_environments(inputs.all);
    for (key, what, other) in named {
        let Some(other) = other else { continue };
        if other.value == environment.name {
            let message = format!("an environment cannot {what}");
            findings.push(Finding::error(key, message).at(&other.place));
        } else if !known.contains(other.value.as_str()) {
            let help = nearest(other.value.as_str(), known.clone()).map(|near| format!("did you mean `{near}`?"));
            let mut finding =
                Finding::error(key, format!("there is no environment `{}`", other.value)).at(&other.place);
            finding.help = help;
            findings.push(finding);
        }
    }
    let Some(seed) = &environment.seed else { return };
    if inputs.spec.refresh.is_none() {
        let message = "the spec does not say what a refresh makes of the data that it is to begin with";
        let help = "write `refresh:` in the stack, and in the rules of its keys";
        findings.push(Finding::error("seed", message).at(&seed.place).help(help));
    }
    if environment.protected {
        let message = format!("{} is protected, and never gets somebody else's data", environment.name);
        findings.push(Finding::error("seed", message).at(&seed.place));
    }
}

fn secret_source(environment: &Environment, findings: &mut Vec<Finding>) {
    let secrets = environment.secrets();
    if environment.secret_source.is_none()
        && let Some(first) = secrets.first()
    {
        let message =
            format!("`{first}` is a secret, and {} does not say where its secrets come from", environment.name);
        let help = "add `secrets: { env: PREFIX_ }`, `secrets: { file: ... }` or `secrets: { command: [...] }`";
        findings.push(Finding::error("secret-source", message).at(&environment.place).help(help));
    }
}

//! Permissions: what a container could do to its host, and who may do what in a Redis.

use super::facts::{Container, Facts, Inspect, Mode, Network, Process, Server};
use super::{Chapter, Check, Seen, Severity, each, each_read, some};
use crate::desired::{OPERATOR, PRIVATE};
use crate::state::Role;

const HERE: Chapter = Chapter::Permissions;

pub(super) const CHECKS: &[Check] = &[
    HERE.check(
        "PERM-01",
        Severity::Critical,
        "no container reaches the engine's socket",
        |facts| each(facts, sockets),
        "take the mount out: whoever reaches the socket is root on the host",
        &["CIS Docker Benchmark 1.6.0: 5.32"],
    ),
    HERE.check(
        "PERM-02",
        Severity::Critical,
        "no container is privileged",
        |facts| each(facts, privileged),
        "make the container anew without it; `lockstep apply` does",
        &["CIS Docker Benchmark 1.6.0: 5.5"],
    ),
    HERE.check(
        "PERM-03",
        Severity::Critical,
        "no container has the capabilities, devices or folders that make it master of the host",
        |facts| each(facts, mastery),
        "take them away; lockstep's own containers need none of them",
        &["CIS Docker Benchmark 1.6.0: 5.4", "CIS Docker Benchmark 1.6.0: 5.6", "CIS Docker Benchmark 1.6.0: 5.18"],
    ),
    HERE.check(
        "PERM-04",
        Severity::High,
        "every process runs as nobody special: not root, no capabilities, no way to gain any, system calls filtered",
        |facts| each_process(facts, process),
        "set a numeric user, drop all capabilities, set no-new-privileges and leave the engine's seccomp profile on",
        &[
            "CIS Docker Benchmark 1.6.0: 4.1",
            "CIS Docker Benchmark 1.6.0: 5.4",
            "CIS Docker Benchmark 1.6.0: 5.22",
            "CIS Docker Benchmark 1.6.0: 5.26",
        ],
    ),
    HERE.check(
        "PERM-05",
        Severity::High,
        "no container shares a namespace with the host",
        |facts| each(facts, namespaces),
        "take `host` out of the container's pid, ipc, uts, network, user and cgroup mode",
        &[
            "CIS Docker Benchmark 1.6.0: 5.10",
            "CIS Docker Benchmark 1.6.0: 5.16",
            "CIS Docker Benchmark 1.6.0: 5.17",
            "CIS Docker Benchmark 1.6.0: 5.21",
            "CIS Docker Benchmark 1.6.0: 5.31",
        ],
    ),
    HERE.check(
        "PERM-06",
        Severity::Medium,
        "nothing that is written can be run: a read-only root, folders in memory without programs, private mounts",
        |facts| each(facts, writable),
        "make the root read-only and mount what is written as tmpfs with noexec, nosuid and nodev",
        &["CIS Docker Benchmark 1.6.0: 5.13", "CIS Docker Benchmark 1.6.0: 5.20"],
    ),
    HERE.check(
        "PERM-08",
        Severity::High,
        "only root and the group docker reach the engine",
        |facts| vec![engine_socket(facts)],
        "`chown root:docker` and `chmod 660` the socket",
        &["CIS Docker Benchmark 1.6.0: 3.15", "CIS Docker Benchmark 1.6.0: 3.16"],
    ),
    HERE.check(
        "PERM-09",
        Severity::High,
        "files and folders that hold secrets belong to their owner alone",
        |facts| match facts.project.private.as_slice() {
            [] => vec![Seen::idle("project", "no file of the project holds secrets")],
            private_files => private_files.iter().map(private).collect(),
        },
        "`chmod 600` the file, `chmod 700` the folder, and give it to whoever runs lockstep",
        &["ASVS 5.0: 13.3.2"],
    ),
    HERE.check(
        "PERM-10",
        Severity::High,
        "nobody is let in without a password, and no user may do what can harm the server",
        |facts| each_server(facts, users),
        "switch the default user off, give every user a password, and take -@admin -@dangerous -@scripting from it",
        &["ASVS 5.0: 13.2.2"],
    ),
    HERE.check(
        "PERM-11",
        Severity::High,
        "nobody who gets in can make the server write files or load code",
        |facts| each_server(facts, commands),
        "set enable-protected-configs, enable-debug-command and enable-module-command to no",
        &["ASVS 5.0: 13.2.2"],
    ),
    HERE.check(
        "PERM-12",
        Severity::Medium,
        "no container can take more of the host than it was given",
        |facts| each(facts, limits),
        "give the service `limits: { memory, cpus, pids, files }`",
        &[
            "CIS Docker Benchmark 1.6.0: 5.11",
            "CIS Docker Benchmark 1.6.0: 5.12",
            "CIS Docker Benchmark 1.6.0: 5.19",
            "CIS Docker Benchmark 1.6.0: 5.29",
        ],
    ),
    HERE.check(
        "PERM-13",
        Severity::High,
        "no Redis is published, and applications answer on an address that was chosen",
        |facts| each(facts, published),
        "take the port away from the Redis, or put the application's on 127.0.0.1",
        &["CIS Docker Benchmark 1.6.0: 5.9", "CIS Docker Benchmark 1.6.0: 5.14"],
    ),
    HERE.check(
        "PERM-14",
        Severity::Medium,
        "services talk on networks of their own, and a Redis on none that leads out",
        networks,
        "make the network anew, and take off it whoever is not part of the stack",
        &["CIS Docker Benchmark 1.6.0: 2.2", "CIS Docker Benchmark 1.6.0: 5.30"],
    ),
    HERE.check(
        "PERM-15",
        Severity::Medium,
        "every container runs the bytes that the lock file names",
        |facts| facts.containers.iter().map(|(name, container)| locked(name, container)).collect(),
        "`lockstep lock`, look at what changed, and `lockstep apply`",
        &["CIS Docker Benchmark 1.6.0: 5.28"],
    ),
];

fn each_server(facts: &Facts, look: fn(&str, &Server) -> Seen) -> Vec<Seen> {
    let of = |container: &'_ Container| container.role == Role::Redis;
    let servers = facts.containers.iter().filter(|(_, container)| of(container));
    let seen: Vec<Seen> = servers
        .map(|(name, container)| match &container.server {
            Ok(server) => look(name, server),
            Err(why) => Seen::unknown(name, why),
        })
        .collect();
    if seen.is_empty() { vec![Seen::idle("services", "the stack has no Redis")] } else { seen }
}

fn each_process(facts: &Facts, look: fn(&str, &[Process]) -> Seen) -> Vec<Seen> {
    each_read(facts, |container| Some(&container.processes), "nothing runs", |name, _, processes| look(name, processes))
}

/// What the socket of an engine is called.
const SOCKETS: [&str; 5] = ["docker.sock", "containerd.sock", "podman.sock", "crio.sock", "dockershim.sock"];
/// Folders in which such a socket lies.
const SOCKET_FOLDERS: [&str; 4] = ["/", "/run", "/var", "/var/run"];

fn sockets(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let reaches = |source: &str| {
        let source = if source.len() > 1 { source.trim_end_matches('/') } else { source };
        SOCKETS.iter().any(|socket| source.ends_with(socket)) || SOCKET_FOLDERS.contains(&source)
    };
    let wrong = inspect.mounts.iter().filter(|mount| mount.kind != "volume" && reaches(&mount.source));
    let wrong = wrong.map(|mount| format!("{} of the host is mounted at {}", mount.source, mount.target)).collect();
    Seen::judged(name, wrong, format!("inspect: {} mounts, none of them a socket", inspect.mounts.len()))
}

fn privileged(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    match inspect.privileged {
        true => Seen::fail(name, "inspect: HostConfig.Privileged is true"),
        false => Seen::pass(name, "inspect: HostConfig.Privileged is false"),
    }
}

/// With any of these a process in a container is as good as one outside of it (capabilities(7)).
const MASTER: [&str; 9] =
    ["ALL", "BPF", "DAC_READ_SEARCH", "MAC_ADMIN", "NET_ADMIN", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"];

fn mastery(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    for capability in &inspect.cap_add {
        if MASTER.contains(&capability.trim_start_matches("CAP_")) {
            wrong.push(format!("capability {capability} is added"));
        }
    }
    wrong.extend(inspect.devices.iter().map(|device| format!("device {device}")));
    let binds = inspect.mounts.iter().filter(|mount| mount.kind == "bind" && !mount.read_only);
    wrong.extend(binds.map(|mount| format!("{} of the host can be written at {}", mount.source, mount.target)));
    let added = if inspect.cap_add.is_empty() { "none".to_owned() } else { inspect.cap_add.join(" ") };
    Seen::judged(name, wrong, format!("inspect: capabilities added: {added}; no devices, no folders of the host"))
}

fn process(name: &str, processes: &[Process]) -> Seen {
    let mut wrong = Vec::new();
    for process in processes {
        let mut of = Vec::new();
        if process.uids.contains(&0) || process.uids.is_empty() {
            of.push("runs as root".to_owned());
        }
        if process.bounding != 0 {
            of.push(format!("could gain capabilities {:#x}", process.bounding));
        }
        if process.effective != 0 {
            of.push(format!("has capabilities {:#x}", process.effective));
        }
        if !process.no_new_privileges {
            of.push("may gain privileges from a program".to_owned());
        }
        if process.seccomp != 2 {
            of.push(format!("has no filter of system calls (Seccomp: {})", process.seccomp));
        }
        if !of.is_empty() {
            wrong.push(format!("process {} {}", process.pid, of.join(", ")));
        }
    }
    let count = processes.len();
    Seen::judged(name, wrong, format!("/proc/<pid>/status of {count} processes: CapBnd 0, NoNewPrivs 1, Seccomp 2"))
}

fn namespaces(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let wrong = inspect.namespaces.iter().filter(|(_, mode)| *mode == "host");
    let wrong = wrong.map(|(kind, _)| format!("inspect: it has the host's {kind} namespace")).collect();
    Seen::judged(name, wrong, "inspect: namespaces for pid, ipc, uts, network, user and cgroup are its own")
}

fn writable(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    if !inspect.read_only_root {
        wrong.push("its root can be written".to_owned());
    }
    for (path, options) in &inspect.tmpfs {
        let options: Vec<&str> = options.split(',').collect();
        let missing: Vec<&str> =
            ["noexec", "nosuid", "nodev"].into_iter().filter(|option| !options.contains(option)).collect();
        if !missing.is_empty() {
            wrong.push(format!("tmpfs {path} lacks {}", missing.join(", ")));
        }
    }
    let shared = inspect.mounts.iter().filter(|mount| mount.propagation.contains("shared"));
    wrong.extend(shared.map(|mount| format!("mounts at {} reach the host ({})", mount.target, mount.propagation)));
    let read = format!("inspect: ReadonlyRootfs, {} tmpfs, {} mounts", inspect.tmpfs.len(), inspect.mounts.len());
    Seen::judged(name, wrong, read)
}

fn engine_socket(facts: &Facts) -> Seen {
    let mode = match &facts.host.socket {
        Ok(mode) => mode,
        Err(why) => return Seen::unknown("engine", why),
    };
    let mut wrong = Vec::new();
    if mode.bits & 0o007 != 0 {
        wrong.push(format!("{}: everybody reaches it", mode.shown()));
    }
    if !mode.owner.starts_with("0 ") {
        wrong.push(format!("{}: it is not root's", mode.shown()));
    }
    Seen::judged("engine", wrong, mode.shown())
}

fn private(read: &Result<Mode, String>) -> Seen {
    let mode = match read {
        Ok(mode) => mode,
        Err(why) => return Seen::unknown("project", why),
    };
    let mut wrong = Vec::new();
    if mode.bits & 0o077 != 0 {
        let who = if mode.bits & 0o007 != 0 { "everybody" } else { "its group" };
        wrong.push(format!("{}: {who} gets at it", mode.rights()));
    }
    if !mode.trusted {
        wrong.push(format!("{}: it belongs to somebody else", mode.rights()));
    }
    Seen::judged(&mode.path, wrong, mode.rights())
}

fn users(name: &str, server: &Server) -> Seen {
    let mut wrong = Vec::new();
    let mut fine = Vec::new();
    for (user, rights) in server.users.iter().filter(|(_, rights)| rights.enabled) {
        if user == "default" {
            wrong.push("user `default` is on".to_owned());
        }
        if rights.without_password {
            wrong.push(format!("user `{user}` needs no password"));
        }
        // Lockstep changes settings and users: that is what its own is for.
        let reach = server.reach.get(user).filter(|reach| user != OPERATOR && !reach.is_empty());
        match reach {
            Some(reach) => {
                let shown: Vec<&str> = reach.iter().map(String::as_str).take(4).collect();
                let count = reach.len();
                wrong.push(format!(
                    "user `{user}` may run {count} admin, dangerous or scripting commands: {} ...",
                    shown.join(", ")
                ));
            }
            None => fine.push(user.as_str()),
        }
    }
    if server.users.is_empty() {
        return Seen::unknown(name, "the server reports no users");
    }
    Seen::judged(
        name,
        wrong,
        format!("ACL LIST and ACL CAT: enabled are {}, none of them without a password", fine.join(", ")),
    )
}

fn commands(name: &str, server: &Server) -> Seen {
    let mut wrong = Vec::new();
    let configures = |reach: &std::collections::BTreeSet<String>| {
        reach.iter().any(|command| command == "config" || command.starts_with("config|"))
    };
    for (user, _) in server.reach.iter().filter(|(user, reach)| *user != OPERATOR && configures(reach)) {
        wrong.push(format!("user `{user}` may run CONFIG"));
    }
    if server.users.is_empty() {
        return Seen::unknown(name, "the server reports no users");
    }
    if !server.protects_configs {
        return Seen::judged(name, wrong, "ACL: nobody but lockstep may run CONFIG; this version has no such settings");
    }
    for setting in ["enable-protected-configs", "enable-debug-command", "enable-module-command"] {
        match server.setting(setting) {
            Some("no") => {}
            Some(value) => wrong.push(format!("{setting} is {value}")),
            None => return Seen::unknown(name, format!("the server does not report {setting}")),
        }
    }
    Seen::judged(name, wrong, "CONFIG GET: all three are no; ACL: nobody but lockstep may run CONFIG")
}

fn limits(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    for (what, value) in [("memory", inspect.memory), ("processors", inspect.nano_cpus), ("processes", inspect.pids)] {
        if value == 0 {
            wrong.push(format!("no limit of {what}"));
        }
    }
    if inspect.ulimits.get("nofile").is_none_or(|limit| *limit <= 0) {
        wrong.push("no limit of open files".to_owned());
    }
    match inspect.ulimits.get("core") {
        Some(0) => {}
        _ => wrong.push("it may write its memory to a file when it crashes (ulimit core)".to_owned()),
    }
    let read = format!("inspect: {} MB, {} processes", inspect.memory >> 20, inspect.pids);
    Seen::judged(name, wrong, read)
}

fn published(name: &str, container: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    for port in &inspect.ports {
        let host = if port.address.is_empty() { "every address" } else { port.address.as_str() };
        let at = format!("{} answers on {host} port {}", port.port, port.host_port);
        let everywhere = matches!(port.address.as_str(), "" | "0.0.0.0" | "::" | "*");
        match container.role {
            Role::Redis => wrong.push(format!("a Redis is published: {at}")),
            _ if everywhere => wrong.push(at),
            _ => {}
        }
    }
    let shown: Vec<String> =
        inspect.ports.iter().map(|port| format!("{} on {}:{}", port.port, port.address, port.host_port)).collect();
    let read = if shown.is_empty() { "inspect: no port".to_owned() } else { format!("inspect: {}", some(&shown)) };
    Seen::judged(name, wrong, read)
}

fn networks(facts: &Facts) -> Vec<Seen> {
    let networks = match &facts.networks {
        Ok(networks) => networks,
        Err(why) => return vec![Seen::unknown("networks", why)],
    };
    let mut seen = each(facts, |name, container, inspect| {
        let wrong = inspect.networks.iter().filter_map(|network| match networks.get(network) {
            None => Some(format!("it is on {network}, which is not a network of the environment")),
            Some(known) if container.role == Role::Redis && !known.internal => {
                Some(format!("it is on {network}, which leads out"))
            }
            Some(_) => None,
        });
        Seen::judged(name, wrong.collect(), format!("inspect: on {}", some(&inspect.networks)))
    });
    for (name, network) in networks {
        let mut wrong: Vec<String> =
            network.foreign.iter().map(|container| format!("`{container}` is on it and not of this stack")).collect();
        wrong.extend(leads_out(name, network));
        let how = if network.internal { "internal" } else { "leads out" };
        seen.push(Seen::judged(format!("network {name}"), wrong, format!("inspect: {how}, nobody else on it")));
    }
    seen
}

fn leads_out(name: &str, network: &Network) -> Option<String> {
    (name == PRIVATE && !network.internal).then(|| "it is meant to be internal and leads out".to_owned())
}

fn locked(name: &str, container: &Container) -> Seen {
    match (&container.inspect, &container.locked) {
        (Err(why), _) => Seen::unknown(name, why),
        (_, Err(why)) if container.declared => Seen::fail(name, why),
        (_, Err(why)) => Seen::idle(name, why),
        (Ok(inspect), Ok(true)) => Seen::pass(name, format!("inspect: {}, as in stack.lock", inspect.image_id)),
        (Ok(inspect), Ok(false)) => {
            Seen::fail(name, format!("it runs {}, which is not in stack.lock", inspect.image_id))
        }
    }
}

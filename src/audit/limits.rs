//! Upload limits: how much anybody can make a service take in.

use super::facts::{Answer, Container, Facts, Inspect, Site};
use super::headers::each_site;
use super::{Chapter, Check, Seen, Severity, each};
use crate::state::Role;
use crate::value::{Bytes, bytes};

const HERE: Chapter = Chapter::UploadLimits;

pub(super) const CHECKS: &[Check] = &[
    HERE.check(
        "UPL-01",
        Severity::High,
        "an upload that announces more than the limit is refused before it is read",
        uploads,
        "compare Content-Length with the limit before the body is read, and answer 413",
        &["ASVS 5.0: 5.2.1"],
    ),
    HERE.check(
        "UPL-02",
        Severity::Medium,
        "a request with more headers than anybody needs is refused",
        |facts| each_site(facts, oversized),
        "bound the headers of a request, 16 KB or so, and answer 431",
        &["ASVS 5.0: 13.2.6"],
    ),
    HERE.check(
        "UPL-05",
        Severity::Medium,
        "what an application can write has an end, and nothing in it can be run",
        |facts| each(facts, room),
        "give the folder a size: `tmpfs: { /uploads: 80mb }`",
        &["ASVS 5.0: 5.2.4", "ASVS 5.0: 5.3.1"],
    ),
    HERE.check(
        "UPL-06",
        Severity::High,
        "what a Redis can be made to keep fits into what it was given",
        |facts| each(facts, memory),
        "set maxmemory below the container's limit, a policy, and buffers that fit beside it",
        &["ASVS 5.0: 13.2.6"],
    ),
];

fn uploads(facts: &Facts) -> Vec<Seen> {
    if facts.security.upload_limit.is_none() {
        return vec![Seen::idle("services", "the spec says no `security.upload_limit`")];
    }
    each_site(facts, |name, site, facts| {
        let limit = facts.security.upload_limit.as_ref().map_or(0, |limit| limit.value.0);
        upload(name, site, limit)
    })
}

fn upload(name: &str, site: &Site, limit: u64) -> Seen {
    let announced = format!("{} was announced", bytes::about(limit.saturating_add(1)));
    match &site.upload {
        None => Seen::unknown(name, "it was not asked"),
        Some(Err(why)) => Seen::unknown(name, why),
        Some(Ok(None)) => Seen::fail(name, format!("{announced}, and it waits for the body")),
        Some(Ok(Some(Answer { request, status, .. }))) => match status {
            413 => Seen::pass(name, format!("{announced} to {request}, nothing was sent, and it answers 413")),
            200..=399 => Seen::fail(name, format!("{announced} to {request}, and it answers {status}")),
            404 | 405 | 501 => {
                let help = "`security.upload_path` says where uploads go";
                Seen::unknown(name, format!("{request} answers {status}: nothing is uploaded there; {help}"))
            }
            _ => Seen::unknown(name, format!("{request} answers {status} before it looks at the size")),
        },
    }
}

/// What it answers to the same request without more headers than anybody needs.
fn plainly(site: &Site) -> u16 {
    site.pages.iter().find(|page| page.request == "GET /").map_or(0, |page| page.status)
}

fn oversized(name: &str, site: &Site, _: &Facts) -> Seen {
    match &site.oversized {
        None => Seen::unknown(name, "it was not asked"),
        Some(Err(why)) => Seen::unknown(name, why),
        Some(Ok(None)) => Seen::pass(name, "72 KB of headers: it closes the connection"),
        Some(Ok(Some(answer))) if answer.status == plainly(site) && answer.status >= 400 => {
            let status = answer.status;
            Seen::unknown(name, format!("72 KB of headers: it answers {status}, as it does without them"))
        }
        Some(Ok(Some(answer))) if (400..500).contains(&answer.status) => {
            Seen::pass(name, format!("72 KB of headers: it answers {}", answer.status))
        }
        Some(Ok(Some(answer))) => Seen::fail(name, format!("72 KB of headers: it answers {}", answer.status)),
    }
}

fn room(name: &str, container: &Container, inspect: &Inspect) -> Seen {
    if container.role != Role::App {
        return Seen::idle(name, "a Redis is bounded by its maxmemory");
    }
    let mut wrong = Vec::new();
    for (path, options) in &inspect.tmpfs {
        let options: Vec<&str> = options.split(',').collect();
        if !options.iter().any(|option| option.starts_with("size=")) {
            wrong.push(format!("tmpfs {path} has no size"));
        }
        if !options.contains(&"noexec") {
            wrong.push(format!("what lies in {path} can be run"));
        }
    }
    let mounts = inspect.mounts.iter().filter(|mount| mount.kind != "tmpfs" && !mount.read_only);
    wrong.extend(mounts.map(|mount| format!("{} ({}) grows without an end", mount.target, mount.kind)));
    if !inspect.read_only_root {
        wrong.push("its root grows without an end".to_owned());
    }
    let read = match inspect.tmpfs.is_empty() {
        true => "inspect: it can write nothing".to_owned(),
        false => format!("inspect: {} tmpfs, each with a size and noexec", inspect.tmpfs.len()),
    };
    Seen::judged(name, wrong, read)
}

fn memory(name: &str, container: &Container, inspect: &Inspect) -> Seen {
    if container.role != Role::Redis {
        return Seen::idle(name, "it is no Redis");
    }
    let server = match &container.server {
        Ok(server) => server,
        Err(why) => return Seen::unknown(name, why),
    };
    let size = |setting: &str| server.setting(setting).and_then(Bytes::parse).map(|size| size.0);
    let number = |setting: &str| server.setting(setting).and_then(|text| text.parse::<u64>().ok());
    let (Some(most), Some(policy), Some(clients), Some(buffer)) = (
        size("maxmemory"),
        server.setting("maxmemory-policy"),
        number("maxclients"),
        size("client-query-buffer-limit"),
    ) else {
        return Seen::unknown(name, "the server does not report its limits");
    };
    let mut wrong = Vec::new();
    if most == 0 {
        wrong.push("maxmemory is 0: there is no limit".to_owned());
    }
    if inspect.memory > 0 && most >= inspect.memory {
        let (most, has) = (bytes::about(most), bytes::about(inspect.memory));
        wrong.push(format!("maxmemory is {most}, and the container has {has}"));
    }
    if inspect.memory > 0 && buffer > inspect.memory {
        let (buffer, has) = (bytes::about(buffer), bytes::about(inspect.memory));
        wrong.push(format!("one client may send {buffer} at once, and the container has {has}"));
    }
    if let Some(files) = inspect.ulimits.get("nofile").and_then(|limit| u64::try_from(*limit).ok())
        && clients > files
    {
        wrong.push(format!("maxclients is {clients}, and it may open {files} files"));
    }
    let most = bytes::about(most);
    Seen::judged(name, wrong, format!("CONFIG GET: maxmemory {most}, {policy}, {clients} clients"))
}

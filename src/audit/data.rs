//! Data safety: whether what a Redis holds would be there again.

use super::facts::{Backups, Facts};
use super::{Chapter, Check, Seen, Severity};
use crate::state::Role;
use crate::value::{Span, bytes};

const HERE: Chapter = Chapter::DataSafety;

pub(super) const CHECKS: &[Check] = &[
    HERE.check(
        "BKP-01",
        Severity::High,
        "every Redis has a proven backup that is recent enough",
        |facts| each_kept(facts, proven),
        "`lockstep backup create`, and run it as often as `backup.max_age` says",
        &[],
    ),
    HERE.check(
        "BKP-02",
        Severity::High,
        "a backup was restored and compared within 30 days",
        |facts| each_kept(facts, drilled),
        "`lockstep backup drill`, or write `backup: { drill: always }`",
        &[],
    ),
    HERE.check(
        "BKP-03",
        Severity::Medium,
        "backups do not lie on the disk that they are for",
        |facts| vec![elsewhere(facts)],
        "let `backup.to` name a bucket, or a folder of the project that another disk is mounted on",
        &[],
    ),
    HERE.check(
        "BKP-04",
        Severity::Medium,
        "there is room for the next backups",
        |facts| vec![room(facts)],
        "make room, or let `lockstep backup prune` do it",
        &[],
    ),
    HERE.check(
        "RDS-01",
        Severity::High,
        "a Redis that ends has its keys when it starts again",
        |facts| each_server(facts, persistence),
        "set `appendonly: yes`, or points in time for `save`",
        &[],
    ),
    HERE.check(
        "RDS-02",
        Severity::High,
        "a Redis could write down what it holds when it last tried",
        |facts| each_server(facts, written),
        "its log says why it could not: a full disk, most of the time",
        &[],
    ),
    HERE.check(
        "RDS-04",
        Severity::Low,
        "the host lets a Redis copy itself when it saves, page by page",
        |facts| vec![host(facts)],
        "set vm.overcommit_memory to 1, and transparent huge pages to madvise or never",
        &[],
    ),
];

fn each_kept(facts: &Facts, look: fn(&str, &Backups) -> Seen) -> Vec<Seen> {
    match &facts.backups {
        Err(why) => vec![Seen::unknown("backups", why)],
        Ok(backups) if backups.services.is_empty() => vec![Seen::idle("backups", "the stack has no Redis")],
        Ok(backups) => backups.services.keys().map(|service| look(service, backups)).collect(),
    }
}

/// In whole hours, or days where it is that many.
fn about(age: Span) -> String {
    let hours = age.milliseconds / 3_600_000;
    match hours {
        0 => "less than an hour".to_owned(),
        1..48 => format!("{hours} h"),
        _ => format!("{} days", hours / 24),
    }
}

fn proven(service: &str, backups: &Backups) -> Seen {
    let kept = backups.services.get(service);
    match (kept.and_then(|kept| kept.proven.as_ref()), backups.max_age) {
        (None, _) => Seen::fail(service, format!("none of the {} in {} is proven", backups.count, backups.place)),
        (Some((id, age)), Some(most)) if *age > most => {
            Seen::fail(service, format!("the newest, {id}, is {} old, and {most} is allowed", about(*age)))
        }
        (Some((id, age)), Some(most)) => {
            Seen::pass(service, format!("{id} is {} old, and {most} is allowed", about(*age)))
        }
        (Some((id, age)), None) => {
            Seen::pass(service, format!("{id} is {} old; the spec has no `backup.max_age`", about(*age)))
        }
    }
}

/// So long a restore that worked says that the next one will.
const DRILLED: Span = Span::seconds(30 * 24 * 3600);

fn drilled(service: &str, backups: &Backups) -> Seen {
    match backups.services.get(service).and_then(|kept| kept.drilled.as_ref()) {
        None => Seen::fail(service, "no backup of it was ever restored and compared"),
        Some((id, age)) if *age > DRILLED => {
            Seen::fail(service, format!("{id} was drilled {} ago, and none since", about(*age)))
        }
        Some((id, age)) => Seen::pass(service, format!("{id} was drilled {} ago", about(*age))),
    }
}

/// The backups where there is something to back up.
fn backed(facts: &Facts) -> Result<&Backups, Seen> {
    match &facts.backups {
        Err(why) => Err(Seen::unknown("backups", why)),
        Ok(backups) if backups.services.is_empty() => Err(Seen::idle("backups", "the stack has no Redis")),
        Ok(backups) => Ok(backups),
    }
}

fn elsewhere(facts: &Facts) -> Seen {
    let backups = match backed(facts) {
        Ok(backups) => backups,
        Err(seen) => return seen,
    };
    match &backups.same_disk {
        _ if backups.far => Seen::pass("backups", format!("they go to {}", backups.place)),
        None => Seen::unknown("backups", "the engine does not say where its data lies"),
        Some(Err(why)) => Seen::unknown("backups", why),
        Some(Ok(true)) => {
            Seen::fail("backups", format!("{} is on the file system of the engine's volumes", backups.place))
        }
        Some(Ok(false)) => Seen::pass("backups", format!("{} is on a file system of its own", backups.place)),
    }
}

fn room(facts: &Facts) -> Seen {
    let backups = match backed(facts) {
        Ok(backups) => backups,
        Err(seen) => return seen,
    };
    let used: u64 =
        facts.containers.values().filter_map(|container| Some(container.server.as_ref().ok()?.used_memory)).sum();
    match &backups.free {
        None | Some(Ok(None)) => Seen::idle("backups", format!("{} does not say how much room it has", backups.place)),
        Some(Err(why)) => Seen::unknown("backups", why),
        Some(Ok(Some(free))) => {
            let shown = format!("{} free, and the servers use {}", bytes::about(*free), bytes::about(used));
            let wrong = if *free < used.saturating_mul(2) { vec![shown.clone()] } else { Vec::new() };
            Seen::judged("backups", wrong, shown)
        }
    }
}

fn each_server(facts: &Facts, look: fn(&str, &super::facts::Server) -> Seen) -> Vec<Seen> {
    let servers = facts.containers.iter().filter(|(_, container)| container.role == Role::Redis);
    let seen: Vec<Seen> = servers
        .map(|(name, container)| match &container.server {
            Err(why) => Seen::unknown(name, why),
            Ok(server) => look(name, server),
        })
        .collect();
    if seen.is_empty() { vec![Seen::idle("services", "the stack has no Redis")] } else { seen }
}

fn persistence(name: &str, server: &super::facts::Server) -> Seen {
    match (server.setting("appendonly"), server.setting("save")) {
        (Some("yes"), _) => Seen::pass(name, "CONFIG GET: appendonly yes"),
        (_, Some(points)) if !points.is_empty() => Seen::pass(name, format!("CONFIG GET: save {points}")),
        (Some(_), Some(_)) => Seen::fail(name, "CONFIG GET: appendonly no, and no point in time for save"),
        _ => Seen::unknown(name, "the server does not report how it keeps its data"),
    }
}

fn written(name: &str, server: &super::facts::Server) -> Seen {
    let (Some(save), Some(append)) = (&server.last_save, &server.last_append) else {
        return Seen::unknown(name, "the server does not report how its last writes went");
    };
    let mut wrong = Vec::new();
    for (what, status) in [("rdb_last_bgsave_status", save), ("aof_last_write_status", append)] {
        if status != "ok" {
            wrong.push(format!("{what} is {status}"));
        }
    }
    Seen::judged(name, wrong, "INFO: rdb_last_bgsave_status ok, aof_last_write_status ok")
}

fn host(facts: &Facts) -> Seen {
    if !facts.containers.values().any(|container| container.role == Role::Redis) {
        return Seen::idle("host", "the stack has no Redis");
    }
    let (overcommit, pages) = match (&facts.host.overcommit, &facts.host.huge_pages) {
        (Ok(overcommit), Ok(pages)) => (overcommit, pages),
        (Err(why), _) | (_, Err(why)) => return Seen::unknown("host", why),
    };
    let mut wrong = Vec::new();
    if overcommit != "1" {
        wrong.push(format!("vm.overcommit_memory is {overcommit}"));
    }
    if pages == "always" {
        wrong.push("transparent huge pages are always on".to_owned());
    }
    Seen::judged("host", wrong, format!("vm.overcommit_memory is {overcommit}, transparent huge pages: {pages}"))
}

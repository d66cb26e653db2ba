//! What a command gets that runs beside an environment of its own: where everything answers, its secrets, and what each
//! Redis begins with, complete.

use crate::finding::{Finding, nearest};
use crate::model::resolve::{self, Resolver};
use crate::model::{Environment, Kind, Service, ephemeral};
use crate::render::{Expressions, Values};
use crate::spec::Text;
use crate::spec::run::RunSpec;
use crate::value::{Name, Secret, Span, urlencoded};
use serde::Serialize;
use std::collections::BTreeMap;

/// `run:`; without the section, the usual.
#[derive(Clone, Debug)]
pub struct Run {
    /// Environment variables as they are written: rendered when it is known where everything answers.
    pub env: BTreeMap<String, Text>,
    pub seeds: BTreeMap<Name, Seed>,
    /// How long an environment stays that nobody holds.
    pub ttl: Span,
}

/// What a Redis begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seed {
    /// A snapshot, below the project.
    Snapshot(String),
    /// Lines of JSON, below the project.
    Lines(String),
    /// A backup by its id, or the beginning or end of it.
    Backup(String),
    /// What a refresh makes of a backup of this id, or of the newest proven one.
    Refresh(Option<String>),
}

impl Seed {
    /// `seeds/cache.rdb`, `seeds/cache.jsonl`, `backup:0c1d2e`, `refresh` or `refresh:0c1d2e`.
    pub fn parse(text: &str) -> Option<Seed> {
        let named = |id: &str| Some(id.trim().to_owned()).filter(|id| !id.is_empty());
        match text.split_once(':') {
            Some(("backup", id)) => return named(id).map(Seed::Backup),
            Some(("refresh", id)) => return named(id).map(|id| Seed::Refresh(Some(id))),
            None if text == "refresh" => return Some(Seed::Refresh(None)),
            _ => {}
        }
        match text.rsplit_once('.') {
            Some((_, "rdb")) => Some(Seed::Snapshot(text.to_owned())),
            Some((_, "jsonl" | "ndjson")) => Some(Seed::Lines(text.to_owned())),
            _ => None,
        }
    }
}

impl Seed {
    /// The same with its path below a folder.
    #[must_use]
    pub fn below(&self, folder: &str) -> Seed {
        let path = |path: &String| if path.starts_with('/') { path.clone() } else { format!("{folder}/{path}") };
        match self {
            Seed::Snapshot(file) => Seed::Snapshot(path(file)),
            Seed::Lines(file) => Seed::Lines(path(file)),
            Seed::Backup(_) | Seed::Refresh(_) => self.clone(),
        }
    }
}

/// What help a message about a seed gives.
pub const SEED_HELP: &str =
    "write the path of a snapshot (`.rdb`) or of lines of JSON (`.jsonl`) in the project, `backup:<id>`, or `refresh`";

/// What templates and variables see of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answers {
    pub host: String,
    pub port: u16,
    /// `http://127.0.0.1:49153`, `redis://app:password@172.18.0.2:6379`.
    pub url: String,
}

/// Where everything answers, and with which secrets.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// Host and port, by service.
    pub addresses: BTreeMap<Name, (String, u16)>,
    pub secrets: BTreeMap<String, Secret>,
}

impl Reached {
    fn secret(&self, name: &str) -> String {
        self.secrets.get(name).map_or_else(String::new, |secret| String::from_utf8_lossy(secret.reveal()).into_owned())
    }
}

/// Where one service answers. A Redis with one user is reached as that one.
pub fn answers(service: &Service, reached: &Reached) -> Option<Answers> {
    let (host, port) = reached.addresses.get(&service.name)?.clone();
    let around = bracketed(&host);
    let url = match &service.kind {
        Kind::App(_) => format!("http://{around}:{port}"),
        Kind::Redis(redis) => {
            let mut users = redis.users.iter();
            match (users.next(), users.next()) {
                (Some((user, of)), None) => redis_url(user, &reached.secret(&of.password.value), &around, port),
                _ => format!("redis://{around}:{port}"),
            }
        }
    };
    Some(Answers { host, port, url })
}

/// A host as a URL has it.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn redis_url(user: &str, password: &str, host: &str, port: u16) -> String {
    format!("redis://{}:{}@{host}:{port}", urlencoded(user), urlencoded(password))
}

/// Every variable that the command gets: those that lockstep gives by itself, and those of the spec, which win.
///
/// # Errors
/// Where a text of the spec does not render with what is known now.
pub fn variables(environment: &Environment, reached: &Reached) -> Result<BTreeMap<String, Secret>, Vec<Finding>> {
    let mut all: BTreeMap<String, Secret> = BTreeMap::new();
    let mut put = |name: String, value: String| _ = all.insert(name, Secret::new(value));
    put("LOCKSTEP_STACK".to_owned(), environment.stack.to_string());
    put("LOCKSTEP_ENVIRONMENT".to_owned(), environment.name.to_string());
    for service in environment.services.values() {
        let Some(answers) = answers(service, reached) else { continue };
        let prefix = format!("LOCKSTEP_{}", shouted(service.name.as_str()));
        if let Kind::Redis(redis) = &service.kind {
            for (user, of) in &redis.users {
                let url = redis_url(user, &reached.secret(&of.password.value), &bracketed(&answers.host), answers.port);
                put(format!("{prefix}_{}_URL", shouted(user)), url);
            }
        }
        put(format!("{prefix}_HOST"), answers.host);
        put(format!("{prefix}_PORT"), answers.port.to_string());
        put(format!("{prefix}_URL"), answers.url);
    }
    let names = names(environment, &environment.services, reached);
    let (mut expressions, mut findings) = (Expressions::default(), Vec::new());
    for (name, text) in &environment.run.env {
        match expressions.render(text, &names) {
            Ok((value, _)) => _ = all.insert(name.clone(), Secret::new(value)),
            Err(found) => findings.extend(found),
        }
    }
    if findings.is_empty() { Ok(all) } else { Err(findings) }
}

/// `my-cache` as a part of a variable's name.
fn shouted(name: &str) -> String {
    let part = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(part).collect()
}

/// What the texts of `run.env` may use: `{{ cache.host }}`, `{{ secret.cache_password }}`, `{{ environment }}`, and the
/// values of differences.
fn names(environment: &Environment, services: &BTreeMap<Name, Service>, reached: &Reached) -> Values {
    let mut names = resolve::names(environment);
    for service in services.values() {
        if let Some(answers) = answers(service, reached) {
            names.insert(&service.name.as_str().replace('-', "_"), &answers);
        }
    }
    let secrets: BTreeMap<String, String> =
        reached.secrets.keys().map(|name| (name.replace('-', "_"), reached.secret(name))).collect();
    names.insert("secret", &secrets);
    names.insert("environment", environment.name.as_str());
    names
}

/// Whether the texts of `run.env` render, tried with made-up addresses and secrets.
pub(super) fn check(environment: &Environment, findings: &mut Vec<Finding>) {
    let addresses = environment.services.keys().map(|name| (name.clone(), ("127.0.0.1".to_owned(), 1)));
    let secrets = environment.secrets().into_iter().map(|name| (name, Secret::new("secret")));
    let reached = Reached { addresses: addresses.collect(), secrets: secrets.collect() };
    if let Err(found) = variables(environment, &reached) {
        findings.extend(found);
    }
}

impl Resolver<'_, '_> {
    pub(super) fn run(&mut self, spec: &RunSpec, services: &BTreeMap<Name, Service>) -> Run {
        let mut env = BTreeMap::new();
        for (name, (place, text)) in &spec.env {
            let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
            if begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                env.insert(name.clone(), text.clone());
            } else {
                let message = format!("`{name}` is not the name of an environment variable");
                self.findings.push(Finding::error("name", message).at(place));
            }
        }
        let ttl = spec.ttl.as_ref().and_then(|text| {
            self.reading(text, "duration", "a length of time up to 7 days", "write 30m or 1h", |text| {
                Span::parse(text).filter(|ttl| ttl.milliseconds >= 1000 && *ttl <= ephemeral::LONGEST_TTL)
            })
        });
        Run {
            env,
            seeds: self.seeds(&spec.seed, services),
            ttl: ttl.map_or(ephemeral::USUAL_TTL, |written| written.value),
        }
    }

    fn seeds(&mut self, spec: &BTreeMap<Name, Text>, services: &BTreeMap<Name, Service>) -> BTreeMap<Name, Seed> {
        let mut seeds = BTreeMap::new();
        for (name, text) in spec {
            let is_redis = |service: &&Service| matches!(service.kind, Kind::Redis(_));
            if services.get(name).filter(is_redis).is_none() {
                let known = services.values().filter(is_redis).map(|service| service.name.as_str());
                let help = match nearest(name.as_str(), known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "a seed is for a Redis of the spec".to_owned(),
                };
                let message = format!("there is no Redis `{name}` to seed");
                self.findings.push(Finding::error("seed", message).at(&text.place).help(help));
                continue;
            }
            let seed = match Seed::parse(&text.value) {
                Some(Seed::Snapshot(_)) => self.path(text).map(Seed::Snapshot),
                Some(Seed::Lines(_)) => self.path(text).map(Seed::Lines),
                Some(seed @ (Seed::Backup(_) | Seed::Refresh(_))) => Some(seed),
                None => {
                    let message = format!("`{}` is no seed", text.value);
                    self.findings.push(Finding::error("seed", message).at(&text.place).help(SEED_HELP));
                    None
                }
            };
            seeds.extend(seed.map(|seed| (name.clone(), seed)));
        }
        seeds
    }
}

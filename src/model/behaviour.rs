//! What the stack does and keeps, complete: probes, rules for keys, and what is watched after a change.

use crate::finding::{Finding, nearest};
use crate::measure::Unit;
use crate::model::refresh::RefreshRule;
use crate::model::resolve::Resolver;
use crate::model::{Kind, Service, Written};
use crate::spec::Spec;
use crate::spec::behaviour::{AskSpec, KeyRuleSpec, ProbeSpec, WatchSpec};
use crate::spec::{ServiceSpec, Text};
use crate::value::{Glob, Name, Place, Span};
use std::collections::BTreeMap;

/// What keys of one kind are meant to be. Of the rules that match a name, the first counts.
#[derive(Clone, Debug)]
pub struct KeyRule {
    pub pattern: String,
    pub glob: Glob,
    pub place: Place,
    pub on: Name,
    /// As `TYPE` answers.
    pub kind: Option<String>,
    /// Absent where nothing is said of their expiry.
    pub lifetime: Option<Lifetime>,
    /// Absent where nothing is said of what a refresh does with them.
    pub refresh: Option<RefreshRule>,
}

/// How long a key lives from when it is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lifetime {
    pub least: Option<Span>,
    pub most: Option<Span>,
}

impl Lifetime {
    /// Reads `1m..1h`, `..24h`, `5m..` or `1h`.
    pub fn parse(text: &str) -> Option<Lifetime> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let side = |side: &str| match side.trim() {
            "" => Some(None),
            side => Span::parse(side).map(Some),
        };
        let lifetime = Lifetime { least: side(low)?, most: side(high)? };
        let backwards = matches!((lifetime.least, lifetime.most), (Some(least), Some(most)) if least > most);
        (lifetime != Lifetime { least: None, most: None } && !backwards).then_some(lifetime)
    }
}

/// One thing that the stack does, asked for over and over to see how it does it.
#[derive(Clone, Debug)]
pub struct Probe {
    pub name: String,
    pub place: Place,
    pub on: Name,
    pub ask: Ask,
    pub bounds: Vec<Bound>,
}

#[derive(Clone, Debug)]
pub enum Ask {
    Http {
        path: String,
        port: u16,
        status: Option<Written<u16>>,
        /// By name in lower case.
        headers: BTreeMap<String, Written<String>>,
    },
    /// As a user that the spec declares, never as lockstep's own.
    Redis { command: Vec<String>, user: String, password: String },
}

/// The most that a percentile of a probe's times may be, in milliseconds.
#[derive(Clone, Debug)]
pub struct Bound {
    pub percent: u8,
    pub most_ms: Written<f64>,
}

/// What is looked at after a change, and for how long.
#[derive(Clone, Debug)]
pub struct Watch {
    pub place: Place,
    pub lasts: Span,
    /// Texts that no container may write to its log.
    pub refuse: Vec<Written<String>>,
    /// How far the hit ratio may fall below what it was: 0.05 for `-5%`.
    pub hit_ratio_drop: Option<Written<f64>>,
}

/// Longer than this nobody waits for a change to be done.
const LONGEST_WATCH: Span = Span::seconds(24 * 3600);
const MOST_NAME: usize = 60;
const MOST_WORDS: usize = 64;

/// Commands that change something, wait for something or end the connection, or whose answer never ends: no probe asks
/// for them. The server's own categories are asked as well before a probe runs; this finds the mistake without a server.
const REFUSED: &[&str] = &[
    "acl",
    "append",
    "asking",
    "auth",
    "bgrewriteaof",
    "bgsave",
    "blmove",
    "blmpop",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "client",
    "cluster",
    "config",
    "copy",
    "debug",
    "decr",
    "decrby",
    "del",
    "discard",
    "eval",
    "evalsha",
    "exec",
    "expire",
    "expireat",
    "failover",
    "fcall",
    "flushall",
    "flushdb",
    "function",
    "geoadd",
    "georadius",
    "georadiusbymember",
    "getdel",
    "getex",
    "getset",
    "hdel",
    "hello",
    "hexpire",
    "hexpireat",
    "hincrby",
    "hincrbyfloat",
    "hmset",
    "hpersist",
    "hpexpire",
    "hpexpireat",
    "hset",
    "hsetnx",
    "incr",
    "incrby",
    "incrbyfloat",
    "info",
    "keys",
    "latency",
    "linsert",
    "lmove",
    "lmpop",
    "lpop",
    "lpush",
    "lpushx",
    "lrem",
    "lset",
    "ltrim",
    "migrate",
    "module",
    "monitor",
    "move",
    "mset",
    "msetnx",
    "multi",
    "persist",
    "pexpire",
    "pexpireat",
    "pfadd",
    "pfmerge",
    "psetex",
    "psubscribe",
    "psync",
    "publish",
    "quit",
    "rename",
    "renamenx",
    "replconf",
    "replicaof",
    "reset",
    "restore",
    "rpop",
    "rpoplpush",
    "rpush",
    "rpushx",
    "sadd",
    "save",
    "script",
    "select",
    "set",
    "setbit",
    "setex",
    "setnx",
    "setrange",
    "shutdown",
    "slaveof",
    "smove",
    "sort",
    "spop",
    "srem",
    "ssubscribe",
    "subscribe",
    "swapdb",
    "sync",
    "unlink",
    "wait",
    "watch",
    "xack",
    "xadd",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xgroup",
    "xreadgroup",
    "xtrim",
    "zadd",
    "zdiffstore",
    "zincrby",
    "zinterstore",
    "zmpop",
    "zpopmax",
    "zpopmin",
    "zrangestore",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
    "zunionstore",
    "bitfield",
    "bitop",
    "sdiffstore",
    "sinterstore",
    "sunionstore",
    "geosearchstore",
];

impl Resolver<'_, '_> {
    pub(super) fn reading<T>(
        &mut self,
        text: &Text,
        rule: &'static str,
        what: &str,
        help: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Written<T>> {
        let written = self.text(text)?;
        match read(&written.value) {
            Some(value) => Some(Written { value, place: written.place, uses: written.uses }),
            None => {
                let message = format!("`{}` is not {what}", written.value);
                self.findings.push(Finding::error(rule, message).at(&written.place).help(help));
                None
            }
        }
    }

    /// The service that is named; none with a finding where there is none, and without one where it is switched off.
    pub(super) fn service_named<'s>(
        &mut self,
        on: &Text,
        services: &'s BTreeMap<Name, Service>,
        wanted: &str,
        fits: impl Fn(&Kind) -> bool,
    ) -> Option<&'s Service> {
        let written = self.text(on)?;
        let found = services.values().find(|service| service.name.as_str() == written.value);
        if let Some(service) = found.filter(|service| fits(&service.kind)) {
            return Some(service);
        }
        let spec = self.inputs.spec;
        let names = spec.redis.keys().chain(spec.apps.keys());
        if found.is_none() && names.clone().any(|name| name.as_str() == written.value) {
            return None;
        }
        let (message, help) = match found {
            Some(_) => {
                let fitting = services.values().find(|service| fits(&service.kind));
                let help = fitting.map(|service| format!("`{}` is one", service.name));
                (format!("`{}` is not {wanted}", written.value), help)
            }
            None => {
                let near = nearest(&written.value, names.map(Name::as_str));
                (format!("there is no service `{}`", written.value), near.map(|near| format!("did you mean `{near}`?")))
            }
        };
        let mut finding = Finding::error("unknown-service", message).at(&on.place);
        finding.help = help;
        self.findings.push(finding);
        None
    }

    pub(super) fn key_rules(&mut self, rules: &[KeyRuleSpec], services: &BTreeMap<Name, Service>) -> Vec<KeyRule> {
        rules.iter().filter(|rule| rule.enabled).filter_map(|rule| self.key_rule(rule, services)).collect()
    }

    fn key_rule(&mut self, spec: &KeyRuleSpec, services: &BTreeMap<Name, Service>) -> Option<KeyRule> {
        let service = self.service_named(&spec.on, services, "a Redis", |kind| matches!(kind, Kind::Redis(_)));
        let help = "types are string, list, set, zset, hash, stream";
        let kind = spec.kind.as_ref().map(|kind| {
            self.reading(kind, "key-rule", "a type of Redis key", help, |text| {
                ["string", "list", "set", "zset", "hash", "stream"].contains(&text).then(|| text.to_owned())
            })
        });
        let help = "write 1m..1h or ..24h";
        let lifetime =
            spec.ttl.as_ref().map(|ttl| self.reading(ttl, "key-rule", "a range of lifetimes", help, Lifetime::parse));
        let pattern = spec.pattern.value.clone();
        let glob = Glob::new(pattern.as_bytes());
        let named = kind.as_ref().and_then(Option::as_ref).map(|kind| kind.value.as_str());
        let refresh = spec.refresh.as_ref();
        let refresh = refresh.and_then(|rule| self.refresh_rule(rule, named, &glob, spec.entity.as_ref()));
        Some(KeyRule {
            glob,
            refresh,
            pattern,
            place: spec.pattern.place.clone(),
            on: service?.name.clone(),
            kind: kind.flatten().map(|kind| kind.value),
            lifetime: lifetime.flatten().map(|lifetime| lifetime.value),
        })
    }

    pub(super) fn probes(
        &mut self,
        probes: &[ProbeSpec],
        services: &BTreeMap<Name, Service>,
    ) -> BTreeMap<String, Probe> {
        let probes = probes.iter().filter(|probe| probe.enabled);
        probes.filter_map(|probe| Some((probe.name.value.clone(), self.probe(probe, services)?))).collect()
    }

    fn probe(&mut self, spec: &ProbeSpec, services: &BTreeMap<Name, Service>) -> Option<Probe> {
        let name = &spec.name.value;
        let plain = |c: char| c.is_control() || matches!(c, '(' | ')');
        if name.is_empty() || name.len() > MOST_NAME || name.trim() != name || name.contains(plain) {
            let help = format!("at most {MOST_NAME} characters, no parentheses: an expectation says p95({name})");
            let message = format!("`{name}` cannot name a probe");
            self.findings.push(Finding::error("name", message).at(&spec.name.place).help(help));
            return None;
        }
        let help = "write 50ms, 0.5ms or 2s";
        let mut bounds = Vec::new();
        for (percent, text) in &spec.bounds {
            let read = |text: &str| Unit::Milliseconds.read(text);
            if let Some(most_ms) = self.reading(text, "duration", "a duration", help, read) {
                bounds.push(Bound { percent: *percent, most_ms });
            }
        }
        let (on, ask) = match spec.ask.as_ref()? {
            AskSpec::Http { get, port, status, headers } => {
                let on = self
                    .service_named(&spec.on, services, "an application", |kind| matches!(kind, Kind::App(_)))
                    .map(|service| (service.name.clone(), default_port(service)));
                let default = on.as_ref().map(|(_, port)| *port);
                let asked = self.http(&spec.name.place, get, port.as_ref(), status.as_ref(), headers, default);
                (on?.0, asked?)
            }
            AskSpec::Redis { command, user } => {
                let service = self.service_named(&spec.on, services, "a Redis", |kind| matches!(kind, Kind::Redis(_)));
                let words = self.command(&spec.name.place, command);
                let service = service?;
                let (user, password) = self.probing_user(&spec.on, service, user.as_ref())?;
                (service.name.clone(), Ask::Redis { command: words?, user, password })
            }
        };
        Some(Probe { name: name.clone(), place: spec.name.place.clone(), on, ask, bounds })
    }

    fn http(
        &mut self,
        place: &Place,
        get: &Text,
        port: Option<&Text>,
        status: Option<&Text>,
        headers: &BTreeMap<String, (Place, Text)>,
        default: Option<Option<u16>>,
    ) -> Option<Ask> {
        let path = self.reading(get, "path", "a path to ask over HTTP", "write /articles/one", |text| {
            let fits = text.starts_with('/') && text.len() <= 4096;
            (fits && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')).then(|| text.to_owned())
        });
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let port = match port {
            Some(text) => {
                self.reading(text, "port", "a port", "write a number from 1 to 65535", number).map(|w| w.value)
            }
            // Without its service there is a finding already, or nothing to look for.
            None => default.and_then(|port| {
                if port.is_none() {
                    let message = "nothing says on which port the application answers";
                    let help = "write `port: 8080` in the probe";
                    self.findings.push(Finding::error("probe", message).at(place).help(help));
                }
                port
            }),
        };
        let status = status.and_then(|text| {
            self.reading(text, "status", "a status of HTTP", "write a number from 100 to 599, such as 200", |text| {
                text.parse::<u16>().ok().filter(|status| (100..600).contains(status))
            })
        });
        let mut wanted = BTreeMap::new();
        for (name, (place, value)) in headers {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                let message = format!("`{name}` is not the name of a header");
                self.findings.push(Finding::error("header", message).at(place).help("write x-cache"));
                continue;
            }
            let written = self.text(value);
            wanted.extend(written.map(|written| (name.to_ascii_lowercase(), written)));
        }
        Some(Ask::Http { path: path?.value, port: port?, status, headers: wanted })
    }

    fn command(&mut self, place: &Place, words: &[Text]) -> Option<Vec<String>> {
        let written: Vec<Written<String>> = words.iter().filter_map(|word| self.text(word)).collect();
        let Some(first) = written.first().filter(|_| written.len() <= MOST_WORDS) else {
            let message = format!("a command has from 1 to {MOST_WORDS} words, and this has {}", written.len());
            let help = r#"write [ZREVRANGE, "popular", 0, 9]"#;
            self.findings.push(Finding::error("probe", message).at(place).help(help));
            return None;
        };
        if REFUSED.contains(&first.value.to_ascii_lowercase().as_str()) {
            let message = format!("`{}` cannot be a probe", first.value);
            let help = "a probe only reads: it changes nothing, waits for nothing and asks for nothing dangerous";
            self.findings.push(Finding::error("probe-command", message).at(&first.place).help(help));
            return None;
        }
        (written.len() == words.len()).then(|| written.into_iter().map(|word| word.value).collect())
    }

    /// The user that a probe signs in as, and the name of its password.
    fn probing_user(&mut self, on: &Text, service: &Service, user: Option<&Text>) -> Option<(String, String)> {
        let Kind::Redis(redis) = &service.kind else { return None };
        let (name, place) = match user {
            Some(text) => {
                let written = self.text(text)?;
                (Some(written.value), &text.place)
            }
            // They are sorted by name; where there are several, the choice is worth a word.
            None if redis.users.len() > 1 => {
                let names: Vec<&str> = redis.users.keys().map(String::as_str).collect();
                let message = format!("`{}` has several users, and nothing says as which one to ask", service.name);
                let help = format!("write `as: {}`; its users are {}", names.first().unwrap_or(&""), names.join(", "));
                self.findings.push(Finding::error("probe", message).at(&on.place).help(help));
                return None;
            }
            None => (redis.users.keys().next().cloned(), &on.place),
        };
        let found = name.as_ref().and_then(|name| redis.users.get(name));
        if let (Some(name), Some(found)) = (&name, found) {
            return Some((name.clone(), found.password.value.clone()));
        }
        let (message, help) = match &name {
            Some(name) => {
                let near = nearest(name, redis.users.keys().map(String::as_str));
                let known: Vec<&str> = redis.users.keys().map(String::as_str).collect();
                let help = near.map_or_else(
                    || format!("its users are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                (format!("`{}` has no user `{name}`", service.name), help)
            }
            None => {
                let help = "declare one under `users:`; lockstep's own user can read no key".to_owned();
                (format!("`{}` has no user that a probe could be", service.name), help)
            }
        };
        self.findings.push(Finding::error("unknown-user", message).at(place).help(help));
        None
    }

    pub(super) fn watch(&mut self, spec: &WatchSpec) -> Option<Watch> {
        let lasts = spec.lasts.as_ref().and_then(|text| {
            self.reading(text, "duration", "a duration of at most a day", "write 30s, 5m or 1h30m", |text| {
                Span::parse(text).filter(|span| *span <= LONGEST_WATCH)
            })
        });
        let refuse: Vec<Written<String>> = spec.refuse.iter().filter_map(|text| self.text(text)).collect();
        for written in refuse.iter().filter(|written| written.value.is_empty()) {
            let message = "an empty text stands in every line";
            self.findings.push(Finding::error("watch", message).at(&written.place));
        }
        let help = "write -5%: how far it may fall below what it was";
        let drop = spec.hit_ratio.as_ref().and_then(|text| {
            self.reading(text, "watch", "a fall of the hit ratio", help, |text| {
                let percent = text.trim().strip_prefix('-')?.strip_suffix('%')?.trim().parse::<f64>().ok()?;
                (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
            })
        });
        let refuse = refuse.into_iter().filter(|written| !written.value.is_empty()).collect();
        spec.enabled.then_some(Watch { place: spec.place.clone(), lasts: lasts?.value, refuse, hit_ratio_drop: drop })
    }
}

/// Where an application answers: on the port of its health page, or else on the first that it publishes.
pub fn default_port(service: &Service) -> Option<u16> {
    let Kind::App(app) = &service.kind else { return None };
    let health = app.health.as_ref().map(|health| health.port);
    health.or_else(|| app.ports.first().map(|port| port.value.container))
}

/// What `enabled: false` leaves out, in one line for each place where it is written.
pub fn switched_off(spec: &Spec) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |message: String, place: &Place| {
        findings.push(Finding::note("switched-off", message).at(place));
    };
    let services = spec.redis.iter().map(|(name, redis)| (name, &redis.service));
    let services = services.chain(spec.apps.iter().map(|(name, app)| (name, &app.service)));
    let off = services.filter(|(_, service): &(&Name, &ServiceSpec)| !service.enabled);
    for (name, service) in off {
        let on = |text: &Text| text.value == name.as_str();
        let rules =
            spec.keys.entries.iter().filter(|rule| on(&rule.on)).map(|rule| format!("keys `{}`", rule.pattern.value));
        let probes = spec.probes.entries.iter().filter(|probe| on(&probe.on));
        let with: Vec<String> = probes.map(|probe| format!("probe `{}`", probe.name.value)).chain(rules).collect();
        let with = if with.is_empty() { String::new() } else { format!(", and with it {}", with.join(", ")) };
        say(format!("`{name}` is switched off{with}"), &service.place);
    }
    let list = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match &spec.probes.off {
        Some(place) => {
            let names = spec.probes.entries.iter().map(|probe| probe.name.value.as_str()).collect();
            say(format!("all probes are switched off: {}", list(names)), place);
        }
        None => {
            for probe in spec.probes.entries.iter().filter(|probe| !probe.enabled) {
                say(format!("probe `{}` is switched off: nothing measures it", probe.name.value), &probe.name.place);
            }
        }
    }
    match &spec.keys.off {
        Some(place) => {
            let names = spec.keys.entries.iter().map(|rule| rule.pattern.value.as_str()).collect();
            say(format!("all rules for keys are switched off: {}", list(names)), place);
        }
        None => {
            for rule in spec.keys.entries.iter().filter(|rule| !rule.enabled) {
                let message = format!("the rule for keys `{}` is switched off", rule.pattern.value);
                say(message, &rule.pattern.place);
            }
        }
    }
    if let Some(watch) = spec.watch.as_ref().filter(|watch| !watch.enabled) {
        say("the watch after a change is switched off".to_owned(), &watch.place);
    }
    if let Some(refresh) = spec.refresh.as_ref().filter(|refresh| !refresh.enabled) {
        say("the refresh is switched off".to_owned(), &refresh.place);
    }
    if let Some(security) = spec.security.as_ref().filter(|security| !security.enabled) {
        say("the audit is switched off".to_owned(), &security.place);
    }
    findings
}

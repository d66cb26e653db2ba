//! `stack.yaml` as text to a [`Spec`], collecting all findings.
//!
//! What a value means (a size, a template, a reference to another service) is not looked at here.

use crate::acceptance::Acceptance;
use crate::finding::Finding;
use crate::spec::accept::accept;
use crate::spec::behaviour::{self, KeyRuleSpec, Section};
use crate::spec::decode::{Decoder, Fields};
use crate::spec::refresh::{self, RefreshSpec};
use crate::spec::yaml::Node;
use crate::spec::{
    AppSpec, BackupSpec, Bound, Build, Difference, Drill, Keep, LimitsSpec, RedisSpec, Rehearse, ServiceSpec, Spec,
    Text, UserSpec, ValueKind, run, security, yaml,
};
use crate::value::{Located, Name, Place, Recipient, Span};
use std::collections::BTreeMap;

const TOP: [&str; 15] = [
    "lockstep",
    "stack",
    "owner",
    "differences",
    "redis",
    "apps",
    "keys",
    "probes",
    "backup",
    "rehearse",
    "watch",
    "refresh",
    "verify",
    "security",
    "run",
];
const SERVICE: [&str; 8] = ["image", "build", "enabled", "user", "files", "limits", "needs", "stop_grace"];

/// Reads `stack.yaml`. `None` when what is left is too little to work with; the findings say why.
pub fn parse(file: &str, text: &str, findings: &mut Vec<Finding>) -> Option<Spec> {
    let root = yaml::parse(file, text, findings)?;
    let mut decoder = Decoder::default();
    let spec = spec(&mut decoder, &root);
    findings.append(&mut decoder.findings);
    spec
}

fn spec(d: &mut Decoder, root: &Node) -> Option<Spec> {
    let top = d.fields(root, "", &TOP)?;
    if let Some(version) = d.required(&top, "lockstep")
        && version.value != "1"
    {
        d.findings.push(
            Finding::error("spec-version", format!("`lockstep: {}` is not a version this binary reads", version.value))
                .at(&version.place)
                .help("write `lockstep: 1`"),
        );
    }
    let stack = d.required(&top, "stack").and_then(|text| d.name(&text));
    let keys = behaviour::keys(d, &top);
    let refresh = refresh::section(d, &top);
    let dormant = dormant(&keys, refresh.as_ref());
    let spec = Spec {
        place: root.place.clone(),
        stack: stack?,
        owner: d.text(&top, "owner"),
        differences: differences(d, &top),
        redis: services(d, &top, "redis", redis),
        apps: services(d, &top, "apps", app),
        backup: backup(d, &top),
        rehearse: rehearse(d, &top),
        keys,
        probes: behaviour::probes(d, &top),
        watch: behaviour::watch(d, &top),
        accept: verify(d, &top),
        security: security::security(d, &top),
        refresh,
        run: run::run(d, &top),
        dormant,
    };
    for (name, app) in &spec.apps {
        if let Some(other) = spec.redis.get(name) {
            let message = format!("`{name}` is both a Redis (line {}) and an application", other.service.place.line);
            d.findings.push(Finding::error("duplicate-service", message).at(&app.service.place));
        }
    }
    Some(spec)
}

fn services<T>(
    d: &mut Decoder,
    top: &Fields<'_>,
    section: &str,
    read: fn(&mut Decoder, &Place, &Node, &str) -> Option<T>,
) -> BTreeMap<Name, T> {
    let Some((_, node)) = d.node(top, section) else { return BTreeMap::new() };
    let mut services = BTreeMap::new();
    for (key, value) in d.entries(node, section).unwrap_or_default() {
        let Some(name) = d.name(key) else { continue };
        if let Some(service) = read(d, &key.place, value, &format!("{section}.{}", key.value)) {
            services.insert(name.value, service);
        }
    }
    services
}

fn service(d: &mut Decoder, place: &Place, fields: &Fields<'_>) -> Option<ServiceSpec> {
    let image = d.required(fields, "image");
    let build = d.node(fields, "build").and_then(|(_, node)| {
        let build = d.fields(node, &format!("{}.build", fields.path), &["context", "dockerfile"])?;
        Some(Build { context: d.required(&build, "context")?, dockerfile: d.text(&build, "dockerfile") })
    });
    let limits = d.node(fields, "limits").and_then(|(_, node)| {
        let limits = d.fields(node, &format!("{}.limits", fields.path), &["memory", "cpus", "pids", "files"])?;
        Some(LimitsSpec {
            memory: d.text(&limits, "memory"),
            cpus: d.text(&limits, "cpus"),
            pids: d.text(&limits, "pids"),
            files: d.text(&limits, "files"),
        })
    });
    let needs = d.texts(fields, "needs");
    Some(ServiceSpec {
        place: place.clone(),
        image: image?,
        build,
        enabled: d.boolean(fields, "enabled", true),
        user: d.text(fields, "user"),
        files: d.text_map(fields, "files"),
        limits: limits.unwrap_or_default(),
        needs: needs.iter().filter_map(|text| d.name(text)).collect(),
        stop_grace: d.text(fields, "stop_grace"),
        ready_within: d.text(fields, "ready_within"),
    })
}

fn redis(d: &mut Decoder, place: &Place, node: &Node, path: &str) -> Option<RedisSpec> {
    let own = ["template", "acl_template", "settings", "users", "ready_within"];
    let fields = d.fields(node, path, &[&SERVICE[..], &own[..]].concat())?;
    let mut settings = BTreeMap::new();
    if let Some((_, node)) = d.node(&fields, "settings") {
        for (key, value) in d.entries(node, &format!("{path}.settings")).unwrap_or_default() {
            let values = d.scalars(value, &format!("{path}.settings.{}", key.value));
            settings.insert(key.value.to_ascii_lowercase(), (key.place.clone(), values));
        }
    }
    let mut users = BTreeMap::new();
    if let Some((_, node)) = d.node(&fields, "users") {
        for (key, value) in d.entries(node, &format!("{path}.users")).unwrap_or_default() {
            if let Some(user) = user(d, &key.place, value, &format!("{path}.users.{}", key.value)) {
                users.insert(key.value.clone(), user);
            }
        }
    }
    Some(RedisSpec {
        service: service(d, place, &fields)?,
        template: d.text(&fields, "template"),
        acl_template: d.text(&fields, "acl_template"),
        settings,
        users,
    })
}

fn user(d: &mut Decoder, place: &Place, node: &Node, path: &str) -> Option<UserSpec> {
    let fields = d.fields(node, path, &["password", "keys", "channels", "allow"])?;
    Some(UserSpec {
        place: place.clone(),
        keys: d.texts(&fields, "keys"),
        channels: d.texts(&fields, "channels"),
        allow: d.texts(&fields, "allow"),
        password: d.required(&fields, "password")?,
    })
}

fn app(d: &mut Decoder, place: &Place, node: &Node, path: &str) -> Option<AppSpec> {
    let own = ["command", "env", "secrets", "ports", "health", "tmpfs"];
    let fields = d.fields(node, path, &[&SERVICE[..], &own[..]].concat())?;
    let command = d.node(&fields, "command").map(|(_, node)| d.scalars(node, &format!("{path}.command")));
    let mut service = service(d, place, &fields)?;
    let (mut health_path, mut health_port) = (None, None);
    if let Some((_, node)) = d.node(&fields, "health")
        && let Some(health) = d.fields(node, &format!("{path}.health"), &["http", "port", "within"])
    {
        health_path = d.required(&health, "http");
        health_port = d.text(&health, "port");
        service.ready_within = d.text(&health, "within");
    }
    Some(AppSpec {
        service,
        command,
        env: d.text_map(&fields, "env"),
        secrets: d.texts(&fields, "secrets"),
        ports: d.texts(&fields, "ports"),
        health_path,
        health_port,
        tmpfs: d.text_map(&fields, "tmpfs"),
    })
}

fn differences(d: &mut Decoder, top: &Fields<'_>) -> BTreeMap<String, Difference> {
    let Some((_, node)) = d.node(top, "differences") else { return BTreeMap::new() };
    let mut differences = BTreeMap::new();
    for (key, value) in d.entries(node, "differences").unwrap_or_default() {
        let identifier = key.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && key.value.starts_with(|c: char| c.is_ascii_lowercase());
        if !identifier {
            let message = format!("`{}` cannot name a difference", key.value);
            let help = "a difference is used in templates: lower-case letters, digits and underscores";
            d.findings.push(Finding::error("name", message).at(&key.place).help(help));
            continue;
        }
        if let Some(difference) = difference(d, &key.place, value, &format!("differences.{}", key.value)) {
            differences.insert(key.value.clone(), difference);
        }
    }
    differences
}

fn difference(d: &mut Decoder, place: &Place, node: &Node, path: &str) -> Option<Difference> {
    let known = ["type", "why", "default", "at_least", "at_most", "between", "one_of"];
    let fields = d.fields(node, path, &known)?;
    let kind = d.required(&fields, "type").and_then(|text| {
        let found = ValueKind::ALL.iter().find(|(name, _)| *name == text.value).map(|(_, kind)| *kind);
        if found.is_none() {
            let names = ValueKind::ALL.map(|(name, _)| name);
            let help = match crate::finding::nearest(&text.value, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("types are {}", names.join(", ")),
            };
            let message = format!("`{}` is not a type of difference", text.value);
            d.findings.push(Finding::error("difference-type", message).at(&text.place).help(help));
        }
        found
    });
    let why = d.required(&fields, "why");
    let between = d.texts(&fields, "between");
    let between = match <[Text; 2]>::try_from(between) {
        Ok([low, high]) => Some((low, high)),
        Err(other) => {
            if let Some((place, _)) = d.node(&fields, "between") {
                let message = format!("`{path}.between` takes two values, and this has {}", other.len());
                d.findings.push(Finding::error("wrong-type", message).at(place).help("write [lowest, highest]"));
            }
            None
        }
    };
    let at_least = bound(d, &fields, "at_least");
    let at_most = bound(d, &fields, "at_most");
    Some(Difference {
        place: place.clone(),
        kind: kind?,
        why: why?,
        default: d.text(&fields, "default"),
        at_least,
        at_most,
        between,
        one_of: d.texts(&fields, "one_of"),
    })
}

/// `64mb`, `25%` (of production's value) or `25% of staging`.
fn bound(d: &mut Decoder, fields: &Fields<'_>, key: &str) -> Option<Located<Bound>> {
    let text = d.text(fields, key)?;
    let Some((percent, rest)) = text.value.split_once('%') else {
        return Some(Located::new(Bound::Value(text.value), text.place));
    };
    let of = match rest.trim() {
        "" => Name::parse("production"),
        rest => rest.strip_prefix("of ").and_then(|name| Name::parse(name.trim())),
    };
    match (percent.trim().parse::<u64>(), of) {
        (Ok(percent), Some(of)) => Some(Located::new(Bound::Share { percent, of }, text.place)),
        _ => {
            let message = format!("`{}` is not a share", text.value);
            let help = "write a share such as `25%` (of production's value) or `25% of staging`";
            d.findings.push(Finding::error("share", message).at(&text.place).help(help));
            None
        }
    }
}

fn backup(d: &mut Decoder, top: &Fields<'_>) -> BackupSpec {
    let Some((_, node)) = d.node(top, "backup") else { return BackupSpec::default() };
    let known = ["to", "endpoint", "region", "plain_http", "keep", "encrypt_to", "identity", "drill", "max_age"];
    let Some(fields) = d.fields(node, "backup", &known) else { return BackupSpec::default() };
    BackupSpec {
        to: d.text(&fields, "to"),
        endpoint: d.text(&fields, "endpoint"),
        region: d.text(&fields, "region"),
        plain_http: d.boolean(&fields, "plain_http", false),
        keep: keep(d, &fields),
        encrypt_to: recipients(d, &fields),
        identity: d.text(&fields, "identity"),
        max_age: duration(d, &fields, "max_age"),
        drill: drill(d, &fields),
    }
}

fn keep(d: &mut Decoder, fields: &Fields<'_>) -> Keep {
    let mut keep = Keep::default();
    let Some((place, node)) = d.node(fields, "keep") else { return keep };
    let known = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
    let before = d.findings.len();
    let Some(fields) = d.fields(node, "backup.keep", &known) else { return keep };
    for (key, count) in known.into_iter().zip([
        &mut keep.last,
        &mut keep.hourly,
        &mut keep.daily,
        &mut keep.weekly,
        &mut keep.monthly,
        &mut keep.yearly,
    ]) {
        let Some(text) = d.text(&fields, key) else { continue };
        match text.value.parse() {
            Ok(number) => *count = number,
            Err(_not_a_number) => {
                let message = format!("`{}` is not a number of backups", text.value);
                d.findings.push(Finding::error("wrong-type", message).at(&text.place));
            }
        }
    }
    if keep.is_empty() && d.findings.len() == before {
        let help = "write for example { last: 7, daily: 14, weekly: 8 }, or leave `keep` out to remove none";
        d.findings.push(Finding::error("keep", "`backup.keep` keeps nothing").at(place).help(help));
    }
    keep
}

/// Whom backups are encrypted to; a mistake here would only be noticed on the day that one is needed.
fn recipients(d: &mut Decoder, fields: &Fields<'_>) -> Vec<Located<Recipient>> {
    let mut recipients: Vec<Located<Recipient>> = Vec::new();
    for text in d.texts(fields, "encrypt_to") {
        let finding = match Recipient::parse(&text.value) {
            Some(value) if recipients.iter().any(|other| other.value == value) => {
                Finding::error("recipient", format!("`{value}` is named twice"))
            }
            Some(value) => {
                recipients.push(Located::new(value, text.place));
                continue;
            }
            // Without the place, whose line would be shown.
            None if text.value.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") => {
                let line = text.place.line;
                let message = format!("`backup.encrypt_to` on line {line} has the secret half of an age key");
                let help = "take its public half, `age1...`, of a new pair: this one can be read by anybody now";
                d.findings.push(Finding::error("recipient", message).about("backup.encrypt_to").help(help));
                continue;
            }
            None if text.value.starts_with("age1") => {
                Finding::error("recipient", format!("`{}` is not an age recipient: a character is wrong", text.value))
                    .help("copy it again from the output of `age-keygen`")
            }
            None => Finding::error("recipient", format!("`{}` is not an age recipient", text.value))
                .help("recipients start with `age1`"),
        };
        d.findings.push(finding.at(&text.place));
    }
    recipients
}

fn drill(d: &mut Decoder, fields: &Fields<'_>) -> Drill {
    let Some(text) = d.text(fields, "drill") else { return Drill::default() };
    if let Some((_, drill)) = Drill::ALL.iter().find(|(name, _)| *name == text.value) {
        return *drill;
    }
    let message = format!("`{}` does not say when to drill", text.value);
    d.findings.push(Finding::error("wrong-type", message).at(&text.place).help("always, on-change or never"));
    Drill::default()
}

fn rehearse(d: &mut Decoder, top: &Fields<'_>) -> Rehearse {
    let Some(text) = d.text(top, "rehearse") else { return Rehearse::default() };
    if let Some((_, rehearse)) = Rehearse::ALL.iter().find(|(name, _)| *name == text.value) {
        return *rehearse;
    }
    let message = format!("`{}` does not say when to rehearse", text.value);
    d.findings.push(Finding::error("wrong-type", message).at(&text.place).help("always or never"));
    Rehearse::default()
}

fn duration(d: &mut Decoder, fields: &Fields<'_>, key: &str) -> Option<Span> {
    let text = d.text(fields, key)?;
    let span = Span::parse(&text.value);
    if span.is_none() {
        let message = format!("`{}` is not a duration", text.value);
        d.findings.push(Finding::error("duration", message).at(&text.place).help("write 30s, 5m or 1h30m"));
    }
    span
}

/// `verify:`: what is known and accepted of what `verify` finds.
fn verify(d: &mut Decoder, top: &Fields<'_>) -> Vec<Acceptance> {
    let Some((_, node)) = d.node(top, "verify") else { return Vec::new() };
    d.fields(node, "verify", &["accept"]).map(|fields| accept(d, &fields)).unwrap_or_default()
}

/// What is written and has no effect: rules for a refresh that the stack does not have.
fn dormant(keys: &Section<KeyRuleSpec>, refresh: Option<&RefreshSpec>) -> Vec<Located<&'static str>> {
    let first = keys.entries.iter().find_map(|rule| rule.refresh.as_ref()).filter(|_| refresh.is_none());
    first.map(|rule| Located::new("keys.refresh", rule.place.clone())).into_iter().collect()
}

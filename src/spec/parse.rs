//! `stack.yaml` as text to a [`Spec`], collecting all findings.
//!
//! What a value means (a size, a template, a reference to another service) is not looked at here.

use crate::finding::Finding;
use crate::spec::decode::{Decoder, Fields};
use crate::spec::yaml::{Node, Tree};
use crate::spec::{
    AppSpec, BackupSpec, Bound, Build, Difference, LimitsSpec, RedisSpec, ServiceSpec, Spec, Text, UserSpec, ValueKind,
    yaml,
};
use crate::value::{Bytes, Located, Name, Place, Span};
use std::collections::BTreeMap;

const TOP: [&str; 11] =
    ["lockstep", "stack", "owner", "differences", "redis", "apps", "keys", "probes", "backup", "watch", "security"];
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
    let spec = Spec {
        place: root.place.clone(),
        stack: stack?,
        owner: d.text(&top, "owner"),
        differences: differences(d, &top),
        redis: services(d, &top, "redis", redis),
        apps: services(d, &top, "apps", app),
        backup: backup(d, &top),
        dormant: dormant(d, &top),
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
    let known = ["to", "keep", "encrypt_to", "drill", "max_age"];
    let Some(fields) = d.fields(node, "backup", &known) else { return BackupSpec::default() };
    if let Some((_, node)) = d.node(&fields, "keep")
        && let Some(keep) = d.fields(node, "backup.keep", &["last", "hourly", "daily", "weekly", "monthly", "yearly"])
    {
        for key in ["last", "hourly", "daily", "weekly", "monthly", "yearly"] {
            if let Some(text) = d.text(&keep, key)
                && text.value.parse::<u32>().is_err()
            {
                let message = format!("`{}` is not a number of backups", text.value);
                d.findings.push(Finding::error("wrong-type", message).at(&text.place));
            }
        }
    }
    let recipients = d.texts(&fields, "encrypt_to");
    for recipient in recipients.iter().filter(|recipient| !recipient.value.starts_with("age1")) {
        let message = format!("`{}` is not an age recipient", recipient.value);
        d.findings.push(Finding::error("recipient", message).at(&recipient.place).help("recipients start with `age1`"));
    }
    duration(d, &fields, "max_age");
    if let Some(drill) = d.text(&fields, "drill")
        && !["always", "never", "on-change"].contains(&drill.value.as_str())
    {
        let message = format!("`{}` does not say when to drill", drill.value);
        d.findings.push(Finding::error("wrong-type", message).at(&drill.place).help("always, on-change or never"));
    }
    BackupSpec { to: d.text(&fields, "to") }
}

fn duration(d: &mut Decoder, fields: &Fields<'_>, key: &str) {
    if let Some(text) = d.text(fields, key)
        && Span::parse(&text.value).is_none()
    {
        let message = format!("`{}` is not a duration", text.value);
        d.findings.push(Finding::error("duration", message).at(&text.place).help("write 30s, 5m or 1h30m"));
    }
}

/// Reads the sections whose behaviour comes later, so that a mistake in them is found today.
fn dormant(d: &mut Decoder, top: &Fields<'_>) -> Vec<Located<&'static str>> {
    keys(d, top);
    probes(d, top);
    watch(d, top);
    security(d, top);
    let mut dormant: Vec<_> = ["keys", "probes", "watch", "security"]
        .into_iter()
        .filter_map(|section| Some(Located::new(section, d.node(top, section)?.0.clone())))
        .collect();
    if let Some((_, node)) = d.node(top, "backup")
        && let Tree::Map(entries) = &node.value
    {
        for (key, section) in [
            ("keep", "backup.keep"),
            ("encrypt_to", "backup.encrypt_to"),
            ("drill", "backup.drill"),
            ("max_age", "backup.max_age"),
        ] {
            if let Some((written, _)) = entries.iter().find(|(written, _)| written.value == key) {
                dormant.push(Located::new(section, written.place.clone()));
            }
        }
    }
    dormant
}

fn section<'n>(d: &mut Decoder, top: &Fields<'n>, name: &str) -> &'n [(Located<String>, Node)] {
    match d.node(top, name) {
        Some((_, node)) => d.entries(node, name).unwrap_or_default(),
        None => &[],
    }
}

fn keys(d: &mut Decoder, top: &Fields<'_>) {
    for (pattern, node) in section(d, top, "keys") {
        let path = format!("keys.{}", pattern.value);
        let Some(fields) = d.fields(node, &path, &["on", "type", "ttl", "refresh", "entity"]) else { continue };
        d.required(&fields, "on");
        if let Some(kind) = d.text(&fields, "type")
            && !["string", "list", "set", "zset", "hash", "stream"].contains(&kind.value.as_str())
        {
            let message = format!("`{}` is not a type of Redis key", kind.value);
            let help = "types are string, list, set, zset, hash, stream";
            d.findings.push(Finding::error("key-rule", message).at(&kind.place).help(help));
        }
        if let Some(ttl) = d.text(&fields, "ttl") {
            let (low, high) = ttl.value.split_once("..").unwrap_or((&ttl.value, &ttl.value));
            if [low, high].iter().any(|side| !side.is_empty() && Span::parse(side).is_none()) {
                let message = format!("`{}` is not a range of lifetimes", ttl.value);
                d.findings.push(Finding::error("key-rule", message).at(&ttl.place).help("write 1m..1h or ..24h"));
            }
        }
        if let Some((_, node)) = d.node(&fields, "refresh")
            && let Tree::Map(_) = node.value
        {
            d.fields(node, &format!("{path}.refresh"), &["keep", "drop", "mask", "ttl"]);
        }
    }
}

fn probes(d: &mut Decoder, top: &Fields<'_>) {
    for (name, node) in section(d, top, "probes") {
        let known = ["on", "get", "status", "header", "command", "p50", "p95", "p99", "enabled"];
        let path = format!("probes.{}", name.value);
        let Some(fields) = d.fields(node, &path, &known) else { continue };
        d.required(&fields, "on");
        if d.node(&fields, "get").is_some() == d.node(&fields, "command").is_some() {
            let message = format!("`{path}` needs either `get:` (HTTP) or `command:` (Redis)");
            d.findings.push(Finding::error("probe", message).at(&name.place));
        }
        for key in ["p50", "p95", "p99"] {
            duration(d, &fields, key);
        }
        d.text_map(&fields, "header");
    }
}

fn watch(d: &mut Decoder, top: &Fields<'_>) {
    let Some((_, node)) = d.node(top, "watch") else { return };
    if let Some(fields) = d.fields(node, "watch", &["for", "refuse", "hit_ratio", "enabled"]) {
        duration(d, &fields, "for");
        d.texts(&fields, "refuse");
    }
}

fn security(d: &mut Decoder, top: &Fields<'_>) {
    let Some((_, node)) = d.node(top, "security") else { return };
    let Some(fields) = d.fields(node, "security", &["headers", "upload_limit", "accept", "enabled"]) else { return };
    d.text_map(&fields, "headers");
    if let Some(limit) = d.text(&fields, "upload_limit")
        && Bytes::parse(&limit.value).is_none()
    {
        let message = format!("`{}` is not a size", limit.value);
        d.findings.push(Finding::error("size", message).at(&limit.place).help("write 8mb"));
    }
    if let Some((_, node)) = d.node(&fields, "accept") {
        for (id, node) in d.entries(node, "security.accept").unwrap_or_default() {
            let path = format!("security.accept.{}", id.value);
            if let Some(accepted) = d.fields(node, &path, &["why", "until"]) {
                d.required(&accepted, "why");
                d.required(&accepted, "until");
            }
        }
    }
}

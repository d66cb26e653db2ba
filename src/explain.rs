//! An environment in plain English, from the spec alone: what runs, which line made it so, and why it may differ.

use crate::desired::Desired;
use crate::directive;
use crate::model::behaviour;
use crate::model::refresh::Unmatched;
use crate::model::{App, BackupPlan, Destination, Environment, Kind, RedisServer, Service, User};
use crate::spec::environment::SecretSource;
use crate::spec::{Bound, Drill, Keep, Spec};
use crate::state::Value;
use crate::value::{Place, bytes};
use serde::Serialize;
use std::fmt::Write as _;

/// Columns of a page.
const WIDTH: usize = 100;

/// A heading, and sentences below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Section {
    pub title: String,
    pub lines: Vec<String>,
}

impl Section {
    fn new(title: impl Into<String>) -> Section {
        Section { title: title.into(), lines: Vec::new() }
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }
}

/// The sections as text, wrapped.
pub fn page(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        let _ = writeln!(text, "{}", section.title);
        for line in &section.lines {
            wrap(&mut text, line);
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn wrap(text: &mut String, line: &str) {
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column == 0 {
            text.push_str("  ");
            column = 2;
        } else if column + 1 + length > WIDTH {
            text.push_str("\n    ");
            column = 4;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

/// What the environment will run and why. `desired` is the same environment, with or without the values of its secrets.
pub fn explain(spec: &Spec, environment: &Environment, desired: &Desired) -> Vec<Section> {
    let mut sections = vec![head(environment)];
    for service in environment.services.values() {
        sections.push(match &service.kind {
            Kind::Redis(redis) => server(service, redis, desired),
            Kind::App(app) => application(service, app),
        });
    }
    sections.extend(differences(spec, environment));
    sections.push(data(environment));
    sections.push(changes(environment));
    sections.extend(audited(environment));
    sections.extend(off(spec));
    sections
}

fn head(environment: &Environment) -> Section {
    let mut section = Section::new(format!("{} of {}", environment.name, environment.stack));
    let owner = environment
        .owner
        .as_deref()
        .map_or("nobody is named as its owner".to_owned(), |owner| format!("{owner} owns it"));
    let engine = match &environment.engine {
        Some(engine) => format!("on the engine {engine}"),
        None => "on the engine of this machine, unless DOCKER_HOST or the Docker context names another".to_owned(),
    };
    let services = match environment.services.len() {
        1 => "One service runs".to_owned(),
        many => format!("{many} services run"),
    };
    section.say(format!("{services} {engine}; {owner}."));
    if environment.protected {
        section.say("It is protected: a change has to be confirmed by typing its name, or with `--yes`.");
    }
    if let Some(follows) = &environment.follows {
        section.say(format!("It follows {follows}: what is applied here should run there first."));
    }
    if let Some(seed) = &environment.seed {
        section.say(format!("Created from nothing, it begins with the data of {seed}, as a refresh makes it."));
    }
    section
}

/// What every service has.
fn container(section: &mut Section, service: &Service) {
    let locked = match (&service.locked, &service.build) {
        (Some(locked), _) => format!("exactly the bytes {}", short(locked)),
        (None, Some(_)) => "not locked yet; `lockstep lock` builds it".to_owned(),
        (None, None) => "not locked yet; `lockstep lock` pins it".to_owned(),
    };
    let image = &service.image;
    section.say(format!("Image {} ({}): {locked}.", image.value, because(&image.place, &image.uses)));
    let limits = &service.limits;
    let cpus = match limits.nano_cpus.value {
        1_000_000_000 => "one processor".to_owned(),
        share => format!("{} processors", share as f64 / 1e9),
    };
    let memory = match limits.memory.value {
        whole if whole.0.is_multiple_of(1 << 20) => whole.to_string(),
        odd => format!("about {}", bytes::about(odd.0)),
    };
    section.say(format!(
        "At most {memory} of memory, {cpus}, {} processes and {} open files; user {}, never root; its files \
         are read-only.",
        limits.pids.value, limits.files.value, service.user.0
    ));
    if !service.needs.is_empty() {
        let needs: Vec<&str> = service.needs.iter().map(|name| name.as_str()).collect();
        section.say(format!("It starts when {} answers.", list(&needs, "and")));
    }
}

fn server(service: &Service, redis: &RedisServer, desired: &Desired) -> Section {
    let mut section = Section::new(format!("{}: a {} server", service.name, redis.server));
    container(&mut section, service);
    let container = desired.state.container(service.name.as_str());
    let settings = container.and_then(|container| container.server.as_ref()).map(|server| &server.settings);
    let (mut as_usual, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in settings.into_iter().flatten() {
        let Value::Text(value) = value else { continue };
        // Where it listens and keeps its files is the same in every environment, and nobody's choice.
        if directive::OWN.iter().any(|(own, _)| own == name) {
            continue;
        }
        let value = if directive::is_secret(name) { "(secret)".to_owned() } else { directive::shown(name, value) };
        let default = directive::server_default(name, redis.server);
        let default = default.map(|text| directive::shown(name, &directive::canonical(name, &[text.to_owned()])));
        let pair = format!("{name} = {}", quoted(&value));
        let same = default.as_ref() == Some(&value);
        match (redis.settings.get(name), same) {
            (Some(_), true) => as_usual.push(pair),
            (Some(written), false) => {
                let otherwise = default.map(|default| format!("; otherwise {}", quoted(&default))).unwrap_or_default();
                section.say(format!("{pair} ({}{otherwise})", because(&written.place, &written.uses)));
            }
            (None, false) if is_ours(name, redis) => ours.push(pair),
            (None, false) => theirs.push(pair),
            (None, true) => {}
        }
    }
    if !as_usual.is_empty() {
        section.say(format!("Written in the spec, and the same without it: {}.", as_usual.join(", ")));
    }
    if !ours.is_empty() {
        section.say(format!("Set by lockstep unless the spec says otherwise: {}.", ours.join(", ")));
    }
    if let (Some(template), false) = (&redis.template, theirs.is_empty()) {
        let place = because(&template.place, &[]);
        section.say(format!("From templates/{} ({place}): {}.", template.value, theirs.join(", ")));
    }
    for (name, user) in &redis.users {
        section.say(rights(name, user));
    }
    section.say("The default user is off. lockstep has a user of its own, to which no key is open.");
    section.say("Reached by the services of this environment alone; nothing is published.");
    section
}

/// Whether lockstep sets it in every Redis.
fn is_ours(name: &str, redis: &RedisServer) -> bool {
    redis.template.is_none() || directive::baseline(redis.server).iter().any(|(own, _)| *own == name)
}

/// A user's rights in words; the order of rules is that of the spec, and a later one wins.
fn rights(name: &str, user: &User) -> String {
    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for rule in &user.commands {
        let words = match rule.get(1..).unwrap_or_default() {
            "@all" => "every command".to_owned(),
            group if group.starts_with('@') => format!("{} commands", group.trim_start_matches('@')),
            command => command.to_ascii_uppercase(),
        };
        if rule.starts_with('-') { may_not.push(words) } else { may.push(words) }
    }
    let may = if may.is_empty() { "no command".to_owned() } else { list(&may, "and") };
    let but = if may_not.is_empty() { String::new() } else { format!(", but not {}", list(&may_not, "or")) };
    let keys: Vec<String> = user.keys.iter().map(|rule| scope(rule)).collect();
    let keys = if keys.is_empty() { "on no key".to_owned() } else { format!("on keys {}", list(&keys, "and")) };
    let channels: Vec<&str> = user.channels.iter().map(|rule| rule.trim_start_matches('&')).collect();
    let channels = match channels.is_empty() {
        true => String::new(),
        false => format!(" and on channels {}", list(&channels, "and")),
    };
    let (password, place) = (&user.password.value, because(&user.place, &[]));
    format!("User {name} may use {may}{but}, {keys}{channels}; its password is the secret {password} ({place}).")
}

/// `page:*`, or what else a rule says of keys.
fn scope(rule: &str) -> String {
    match rule.split_once('~') {
        Some(("%R", pattern)) => format!("{pattern} (to read)"),
        Some(("%W", pattern)) => format!("{pattern} (to write)"),
        Some((_, "*")) => "of any name".to_owned(),
        Some((_, pattern)) => pattern.to_owned(),
        None => rule.to_owned(),
    }
}

fn application(service: &Service, app: &App) -> Section {
    let mut section = Section::new(format!("{}: an application", service.name));
    container(&mut section, service);
    for port in &app.ports {
        let (host, open) = (&port.value.host_ip, port.value.host);
        let whom = match host.as_str() {
            "127.0.0.1" | "::1" => "for this machine alone",
            "0.0.0.0" | "::" => "for everybody who reaches this machine",
            _ => "for whoever reaches that address",
        };
        let why = because(&port.place, &port.uses);
        section.say(format!("Its port {} is at {host}:{open}, {whom} ({why}).", port.value.container));
    }
    if app.ports.is_empty() {
        section.say("No port is published, and it reaches nothing outside of this environment.");
    }
    match &app.health {
        Some(health) => section.say(format!(
            "Ready when {} on port {} answers well, within {}.",
            health.path, health.port, service.ready_within
        )),
        None => section.say("Nothing says when it is ready: it counts as that when it still runs after a moment."),
    }
    // Values that depend on the environment are what people look for; the others are the same everywhere.
    let varied = app.env.iter().filter(|(_, written)| !written.uses.is_empty());
    let varied: Vec<String> = varied
        .map(|(name, written)| {
            format!("{name} = {} ({})", quoted(&written.value), because(&written.place, &written.uses))
        })
        .collect();
    let same = app.env.len() - varied.len();
    match (varied.is_empty(), same) {
        (true, 0) => {}
        (true, same) => section.say(format!("{same} environment variables, the same in every environment.")),
        (false, 0) => section.say(format!("Environment variables: {}.", varied.join(", "))),
        (false, same) => {
            section
                .say(format!("Environment variables: {}, and {same} that are the same everywhere.", varied.join(", ")));
        }
    }
    for (path, template) in &service.files {
        let place = because(&template.place, &[]);
        section.say(format!("{path} is rendered from templates/{} ({place}).", template.value));
    }
    if !app.secrets.is_empty() {
        let names: Vec<&str> = app.secrets.iter().map(|secret| secret.value.as_str()).collect();
        section.say(format!("Secrets as files in /run/secrets: {}.", list(&names, "and")));
    }
    section
}

fn differences(spec: &Spec, environment: &Environment) -> Option<Section> {
    let mut section = Section::new("What may differ from other environments, and nothing else");
    for (name, difference) in &spec.differences {
        let Some(value) = environment.values.get(name) else { continue };
        let bound = |word: &str, bound: &Option<crate::value::Located<Bound>>| {
            bound.as_ref().map(|bound| match &bound.value {
                Bound::Value(value) => format!("at {word} {value}"),
                Bound::Share { percent, of } => format!("at {word} {percent}% of {of}'s"),
            })
        };
        let between = difference.between.as_ref().map(|(low, high)| format!("{} to {}", low.value, high.value));
        let one_of: Vec<&str> = difference.one_of.iter().map(|text| text.value.as_str()).collect();
        let one_of = (!one_of.is_empty()).then(|| format!("one of {}", list(&one_of, "or")));
        let bounds: Vec<String> =
            [bound("least", &difference.at_least), bound("most", &difference.at_most), between, one_of]
                .into_iter()
                .flatten()
                .collect();
        let bounds = if bounds.is_empty() { String::new() } else { format!(", {}", bounds.join(", ")) };
        let value_at = format!("{}:{}", value.place.file, value.place.line);
        section.say(format!("{name} is {} ({value_at}{bounds}), because {}.", value.text, difference.why.value));
    }
    (!section.lines.is_empty()).then_some(section)
}

fn data(environment: &Environment) -> Section {
    let mut section = Section::new("Backups and secrets");
    let BackupPlan { to, keep, encrypt_to, drill, max_age, .. } = &environment.backup;
    let place = match to {
        Destination::Folder(folder) => format!("the folder {folder}"),
        Destination::Bucket(bucket) => format!("the bucket {}", bucket.name),
    };
    let sealed = match encrypt_to.len() {
        0 => "not encrypted".to_owned(),
        1 => "encrypted to one recipient".to_owned(),
        many => format!("encrypted to {many} recipients, any one of whom can open it"),
    };
    section.say(format!("Before a Redis that holds keys is touched, a backup of it goes to {place}, {sealed}."));
    section.say(match drill {
        Drill::Always => "Every backup is restored into a throw-away server and compared.",
        Drill::OnChange => "A backup that a change rests on is restored into a throw-away server first and compared.",
        Drill::Never => "Backups are read back and checked; they are restored for a test only on request.",
    });
    section.say(format!("{}.", kept(keep)));
    if let Some(age) = max_age {
        section.say(format!("The newest proven one may be {age} old."));
    }
    let secrets = environment.secrets();
    let names: Vec<&str> = secrets.iter().map(String::as_str).collect();
    if !names.is_empty() {
        let from = match &environment.secret_source {
            Some(SecretSource::Env(prefix)) => format!("environment variables that begin with {prefix}"),
            Some(SecretSource::File(path)) => format!("environments/{path}"),
            Some(SecretSource::Command(words)) => format!("what `{}` says", words.first().map_or("", String::as_str)),
            None => "nowhere: `secrets:` is missing".to_owned(),
        };
        section.say(format!("The values of {} come from {from}.", list(&names, "and")));
    }
    section
}

fn kept(keep: &Keep) -> String {
    let counts = [
        (keep.last, "of the newest"),
        (keep.hourly, "hourly"),
        (keep.daily, "daily"),
        (keep.weekly, "weekly"),
        (keep.monthly, "monthly"),
        (keep.yearly, "yearly"),
    ];
    let named: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    match named.is_empty() {
        true => "No backup is ever removed".to_owned(),
        false => {
            format!(
                "`backup prune` keeps {} ones of each Redis, the two newest proven, pinned ones, and those of changes",
                list(&named, "and")
            )
        }
    }
}

/// What a change needs, what it is compared by, and what takes it back.
fn changes(environment: &Environment) -> Section {
    let mut section = Section::new("Changes");
    let name = &environment.name;
    if let Some(first) = &environment.follows {
        section.say(format!("{name} follows {first}: it gets only what {first} runs at that moment."));
    }
    if environment.protected {
        section.say("Somebody has to type its name, or give `--yes`, with a reason where nobody can type.");
    }
    section.say("Whatever fails on the way, or is not as it is meant afterwards, is taken back.");
    let probes: Vec<&str> = environment.probes.keys().map(String::as_str).collect();
    if !probes.is_empty() {
        section.say(format!("Measured before and after: {}.", list(&probes, "and")));
    }
    let rules: Vec<&str> = environment.keys.iter().map(|rule| rule.pattern.as_str()).collect();
    if !rules.is_empty() {
        section.say(format!("Counted before and after: the keys {}.", list(&rules, "and")));
    }
    if let Some(refresh) = &environment.refresh {
        let (from, source) = (&refresh.from, environment.name == refresh.from);
        let unmatched = match refresh.unmatched {
            Unmatched::Refuse => "refuse it",
            Unmatched::Drop => "are left out",
        };
        match source || environment.protected {
            true => section.say(format!("No refresh ever puts another environment's data into {name}.")),
            false => section
                .say(format!("A refresh gives it {from}'s data, masked by rule; keys that no rule names {unmatched}.")),
        }
    }
    if let Some(watch) = &environment.watch {
        let texts: Vec<String> = watch.refuse.iter().map(|text| format!("`{}`", text.value)).collect();
        let logs = match texts.is_empty() {
            true => String::new(),
            false => format!(", with {} in a log as a failure", list(&texts, "or")),
        };
        section.say(format!("Watched for {} afterwards{logs}.", watch.lasts));
    }
    section
}

/// What `lockstep audit` lets pass.
fn audited(environment: &Environment) -> Option<Section> {
    let security = &environment.security;
    if security.off.is_some() {
        return None;
    }
    let accepted: Vec<String> = security
        .accept
        .iter()
        .map(|accepted| {
            let of = accepted.service.as_ref().map_or_else(String::new, |service| format!(" of {service}"));
            format!("{}{of} until {}", accepted.id, accepted.until)
        })
        .collect();
    let mut section = Section::new("Audit");
    section.say(format!("Accepted as it is: {}.", list(&accepted, "and")));
    (!accepted.is_empty()).then_some(section)
}

fn off(spec: &Spec) -> Option<Section> {
    let mut section = Section::new("Switched off");
    for finding in behaviour::switched_off(spec) {
        let place = finding.place.as_ref().map(|place| format!(" ({}:{})", place.file, place.line)).unwrap_or_default();
        section.say(format!("{}{place}.", finding.message));
    }
    let dormant: Vec<&str> = spec.dormant.iter().map(|section| section.value).collect();
    if !dormant.is_empty() {
        section.say(format!(
            "Read and checked, and without effect while the stack has no `refresh:`: {}.",
            list(&dormant, "and")
        ));
    }
    (!section.lines.is_empty()).then_some(section)
}

/// Where a value was written, and the differences that it was computed from.
fn because(place: &Place, uses: &[String]) -> String {
    let by = if uses.is_empty() { String::new() } else { format!(", by {}", list(uses, "and")) };
    format!("{}:{}{by}", place.file, place.line)
}

fn quoted(value: &str) -> String {
    if value.is_empty() { "nothing".to_owned() } else { value.to_owned() }
}

/// `sha256:299fbffad90f`, of an image.
fn short(reference: &str) -> String {
    match reference.rsplit_once("sha256:") {
        Some((_, hash)) => format!("sha256:{}", hash.get(..12).unwrap_or(hash)),
        None => reference.to_owned(),
    }
}

/// `a, b and c`
fn list<T: AsRef<str>>(items: &[T], and: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} {and} {}", first.join(", "), last.as_ref())
        }
    }
}

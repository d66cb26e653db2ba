//! Spec and environment file to a complete [`Environment`], collecting all findings.

use crate::directive;
use crate::finding::{Finding, nearest};
use crate::model::{
    App, BackupPlan, Bucket, Build, Destination, Environment, Health, Kind, Limits, Port, RedisServer, Service, User,
    Value, Written, backup, rules,
};
use crate::render::{Expressions, Templates, Values};
use crate::spec::environment::EnvironmentSpec;
use crate::spec::lock::Lock;
use crate::spec::{AppSpec, BackupSpec, Bound, Difference, RedisSpec, ServiceSpec, Spec, Text, UserSpec, ValueKind};
use crate::value::{Bytes, Located, Name, Place, ServerVersion, Span};
use std::collections::{BTreeMap, BTreeSet};

/// What a Redis needs beside its `maxmemory`: buffers, fragmentation, and pages copied while it saves.
pub fn redis_memory(maxmemory: Bytes) -> Bytes {
    Bytes(maxmemory.0.saturating_add(maxmemory.0 / 10 * 6).saturating_add(64 << 20))
}

/// Everything that resolving one environment looks at.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub spec: &'a Spec,
    pub environment: &'a EnvironmentSpec,
    /// All environments of the project, this one included: bounds may be shares of another's value.
    pub all: &'a BTreeMap<Name, EnvironmentSpec>,
    pub templates: &'a Templates,
    pub lock: &'a Lock,
}

/// The environment, or as much of it as makes sense; complete if no finding is an error.
pub fn resolve(inputs: &Inputs<'_>, findings: &mut Vec<Finding>) -> Environment {
    let values = values(inputs, findings);
    let mut names = template_values(&values);
    inputs.spec.differences.keys().filter(|name| !values.contains_key(*name)).for_each(|name| names.is_wrong(name));
    let mut resolver = Resolver { expressions: Expressions::default(), names, inputs, findings };
    let mut services = BTreeMap::new();
    for (name, redis) in inputs.spec.redis.iter().filter(|(_, redis)| redis.service.enabled) {
        let service = resolver.redis(name, redis);
        services.insert(name.clone(), service);
    }
    for (name, app) in inputs.spec.apps.iter().filter(|(_, app)| app.service.enabled) {
        let service = resolver.app(name, app);
        services.insert(name.clone(), service);
    }
    let backup = resolver.backup(&inputs.spec.backup);
    let keys = resolver.key_rules(&inputs.spec.keys.entries, &services);
    let probes = resolver.probes(&inputs.spec.probes.entries, &services);
    let watch = inputs.spec.watch.as_ref().and_then(|watch| resolver.watch(watch));
    let security = inputs.spec.security.as_ref().map(|security| resolver.security(security, &services));
    let engine = inputs.environment.engine.as_ref().and_then(|engine| resolver.engine(engine));
    let secrets = super::secrets_of(&services);
    let refresh = inputs.spec.refresh.as_ref().and_then(|refresh| resolver.refresh(refresh, &secrets));
    let run = resolver.run(&inputs.spec.run, &services);
    let environment = Environment {
        stack: inputs.spec.stack.value.clone(),
        name: inputs.environment.name.clone(),
        owner: inputs.spec.owner.as_ref().map(|owner| owner.value.clone()),
        place: inputs.environment.place.clone(),
        engine,
        protected: inputs.environment.protected,
        follows: inputs.environment.follows.as_ref().map(|follows| follows.value.clone()),
        seed: inputs.environment.seed.as_ref().map(|seed| seed.value.clone()),
        values,
        services,
        secret_source: inputs.environment.secrets.as_ref().map(|secrets| secrets.value.clone()),
        backup,
        rehearse: inputs.spec.rehearse,
        keys: if inputs.spec.keys.off.is_none() { keys } else { Vec::new() },
        probes: if inputs.spec.probes.off.is_none() { probes } else { BTreeMap::new() },
        watch,
        refresh,
        security: security.unwrap_or_default(),
        run,
        mark: None,
    };
    rules::check(inputs, &environment, findings);
    environment
}

/// The values of all differences in this environment.
fn values(inputs: &Inputs<'_>, findings: &mut Vec<Finding>) -> BTreeMap<String, Value> {
    let declared = &inputs.spec.differences;
    for (name, (place, _)) in &inputs.environment.values {
        if !declared.contains_key(name) {
            let help = match nearest(name, declared.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under `differences:` in stack.yaml, with the reason why it may differ".to_owned(),
            };
            let message = format!("`{name}` is not a declared difference");
            findings.push(Finding::error("undeclared-difference", message).at(place).help(help));
        }
    }
    let mut values = BTreeMap::new();
    for (name, difference) in declared {
        let written = value_text(inputs.environment, name, difference);
        let Some(text) = written else {
            let message = format!("`{name}` has no value in {}", inputs.environment.name);
            let help = format!("set `values: {{ {name}: ... }}`; declared because: {}", difference.why.value);
            findings.push(Finding::error("missing-value", message).at(&inputs.environment.place).help(help));
            continue;
        };
        match value(difference.kind, text) {
            Ok(value) => {
                readable(difference, findings);
                bounds(inputs, name, difference, &value, findings);
                values.insert(name.clone(), value);
            }
            Err(finding) => findings.push(finding.about(format!("values.{name}"))),
        }
    }
    values
}

fn value_text<'s>(environment: &'s EnvironmentSpec, name: &str, difference: &'s Difference) -> Option<&'s Text> {
    environment.values.get(name).map(|(_, text)| text).or(difference.default.as_ref())
}

/// Text to a value of its kind.
fn value(kind: ValueKind, text: &Text) -> Result<Value, Finding> {
    let wrong = |what: &str, help: &str| {
        Finding::error("wrong-type", format!("`{}` is not {what}", text.value)).at(&text.place).help(help)
    };
    let number = match kind {
        ValueKind::Size => Some(
            Bytes::parse(&text.value)
                .ok_or_else(|| wrong("a size", "write a whole number and a unit, such as 256mb"))?
                .0,
        ),
        ValueKind::Integer => Some(
            text.value.parse::<u64>().ok().ok_or_else(|| wrong("a whole number", "write digits only, such as 8"))?,
        ),
        ValueKind::Port => match text.value.parse::<u16>() {
            Ok(port) if port > 0 => Some(u64::from(port)),
            _ => return Err(wrong("a port", "write a number from 1 to 65535")),
        },
        ValueKind::Duration => {
            Some(Span::parse(&text.value).ok_or_else(|| wrong("a duration", "write 30s, 5m or 1h30m"))?.milliseconds)
        }
        ValueKind::Boolean => match text.value.as_str() {
            "true" | "yes" => Some(1),
            "false" | "no" => Some(0),
            _ => return Err(wrong("a boolean", "write true or false")),
        },
        ValueKind::Text => None,
    };
    Ok(Value { kind, text: text.value.clone(), number, place: text.place.clone() })
}

/// A bound that does not read would be none.
fn readable(difference: &Difference, findings: &mut Vec<Finding>) {
    let of_value = |bound: &Option<Located<Bound>>| match bound {
        Some(Located { value: Bound::Value(text), place }) => Some(Text::new(text.clone(), place.clone())),
        _ => None,
    };
    let pair = difference.between.iter().flat_map(|(low, high)| [low.clone(), high.clone()]);
    let written: Vec<Text> =
        pair.chain([of_value(&difference.at_least), of_value(&difference.at_most)].into_iter().flatten()).collect();
    let shares = [&difference.at_least, &difference.at_most].into_iter().flatten();
    if difference.kind == ValueKind::Text {
        let places = written.iter().map(|text| &text.place).chain(shares.map(|bound| &bound.place));
        for place in places {
            let message = "a text is neither less nor more than another";
            findings
                .push(Finding::error("constraint", message).at(place).help("write `one_of: [...]`, or another `type`"));
        }
        return;
    }
    findings.extend(written.iter().filter_map(|text| value(difference.kind, text).err()));
    let number = |text: &Text| value(difference.kind, text).ok().and_then(|value| value.number);
    if let Some((low, high)) = &difference.between
        && number(low).zip(number(high)).is_some_and(|(low, high)| low > high)
    {
        let message = format!("nothing is between {} and {}", low.value, high.value);
        findings.push(Finding::error("constraint", message).at(&low.place).help("write the lower one first"));
    }
}

fn bounds(inputs: &Inputs<'_>, name: &str, difference: &Difference, value: &Value, findings: &mut Vec<Finding>) {
    let mut unsatisfied = |message: String, limit: &Place| {
        let help = format!("the limit is at {limit}; {name} may differ because: {}", difference.why.value);
        findings.push(Finding::error("constraint", message).at(&value.place).help(help));
    };
    if !difference.one_of.is_empty() && !difference.one_of.iter().any(|allowed| allowed.value == value.text) {
        let allowed: Vec<&str> = difference.one_of.iter().map(|text| text.value.as_str()).collect();
        unsatisfied(format!("{name} is {}, and must be one of {}", value.text, allowed.join(", ")), &difference.place);
    }
    let Some(number) = value.number else { return };
    let limit = |text: &Text| self::value(difference.kind, text).ok().and_then(|value| value.number);
    if let Some((low, high)) = &difference.between
        && let (Some(lowest), Some(highest)) = (limit(low), limit(high))
        && !(lowest..=highest).contains(&number)
    {
        let message = format!("{name} is {}, and must be between {} and {}", value.text, low.value, high.value);
        unsatisfied(message, &low.place);
    }
    for (bound, least) in [(&difference.at_least, true), (&difference.at_most, false)] {
        let Some(bound) = bound else { continue };
        let (limit, shown) = match &bound.value {
            Bound::Value(text) => {
                let text = Text::new(text.clone(), bound.place.clone());
                (limit(&text), text.value)
            }
            // An environment is not measured against itself.
            Bound::Share { of, .. } if *of == inputs.environment.name => continue,
            Bound::Share { percent, of } => {
                let Some(other) = inputs.all.get(of) else {
                    unsatisfied(
                        format!("{name} is bounded by a share of `{of}`, and there is no such environment"),
                        &bound.place,
                    );
                    continue;
                };
                let theirs = value_text(other, name, difference);
                let limit = theirs.and_then(limit).map(|theirs| {
                    let exact = u128::from(theirs) * u128::from(*percent);
                    u64::try_from(if least { exact.div_ceil(100) } else { exact / 100 }).unwrap_or(u64::MAX)
                });
                let theirs = theirs.map_or("", |text| text.value.as_str());
                (limit, format!("{percent}% of {of}'s {theirs}"))
            }
        };
        let Some(limit) = limit else { continue };
        if (least && number < limit) || (!least && number > limit) {
            let word = if least { "at least" } else { "at most" };
            unsatisfied(format!("{name} is {}, and must be {word} {shown}", value.text), &bound.place);
        }
    }
}

/// What templates see of a value: sizes in bytes, durations in seconds.
fn template_values(values: &BTreeMap<String, Value>) -> Values {
    let mut names = Values::default();
    for (name, value) in values {
        match (value.kind, value.number) {
            (ValueKind::Boolean, Some(number)) => names.insert(name, &(number == 1)),
            (ValueKind::Duration, Some(ms)) if ms.is_multiple_of(1000) => names.insert(name, &(ms / 1000)),
            (ValueKind::Duration, Some(ms)) => names.insert(name, &(ms as f64 / 1000.0)),
            (_, Some(number)) => names.insert(name, &number),
            (_, None) => names.insert(name, &value.text),
        }
    }
    names
}

/// The values that every template of the environment may use.
pub fn names(environment: &Environment) -> Values {
    template_values(&environment.values)
}

pub(super) struct Resolver<'a, 'f> {
    expressions: Expressions,
    names: Values,
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) findings: &'f mut Vec<Finding>,
}

impl Resolver<'_, '_> {
    pub(super) fn text(&mut self, text: &Text) -> Option<Written<String>> {
        match self.expressions.render(text, &self.names) {
            Ok((value, uses)) => Some(Written { value, place: text.place.clone(), uses }),
            Err(findings) => {
                self.findings.extend(findings);
                None
            }
        }
    }

    fn typed<T>(
        &mut self,
        text: Option<&Text>,
        default: (T, &Place),
        what: &str,
        help: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Written<T> {
        let default = Written { value: default.0, place: default.1.clone(), uses: Vec::new() };
        let Some(written) = text.and_then(|text| self.text(text)) else { return default };
        match read(&written.value) {
            Some(value) => Written { value, place: written.place, uses: written.uses },
            None => {
                let message = format!("`{}` is not {what}", written.value);
                self.findings.push(Finding::error("wrong-type", message).at(&written.place).help(help));
                default
            }
        }
    }

    fn size(&mut self, text: Option<&Text>, default: (Bytes, &Place)) -> Written<Bytes> {
        self.typed(text, default, "a size", "write a whole number and a unit, such as 256mb", Bytes::parse)
    }

    fn service(&mut self, name: &Name, spec: &ServiceSpec, kind: Kind, memory: Bytes) -> Service {
        let place = &spec.place;
        let image = self.text(&spec.image).unwrap_or(Written {
            value: String::new(),
            place: spec.image.place.clone(),
            uses: Vec::new(),
        });
        self.image_name(&image);
        let (default_user, pids, files) = match &kind {
            // The user id of Redis in the official images and in Debian's.
            Kind::Redis(redis) => ((999, 999), 128, maxclients(redis).saturating_add(96)),
            Kind::App(_) => ((65532, 65532), 512, 4096),
        };
        let help = "write a numeric id that is not root, such as 999:999";
        let user = self.typed(spec.user.as_ref(), (default_user, place), "a user", help, user_id);
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let limits = Limits {
            memory: self.size(spec.limits.memory.as_ref(), (memory, place)),
            nano_cpus: self.typed(
                spec.limits.cpus.as_ref(),
                (1_000_000_000, place),
                "a number of processors",
                "write 1 or 0.5",
                |text| {
                    let cpus = text.parse::<f64>().ok().filter(|cpus| (0.01..=1024.0).contains(cpus))?;
                    // Bounded by the line above.
                    Some((cpus * 1e9).round() as u64)
                },
            ),
            pids: self.typed(spec.limits.pids.as_ref(), (pids, place), "a number of processes", "write digits", number),
            files: self.typed(spec.limits.files.as_ref(), (files, place), "a number of files", "write digits", number),
        };
        let duration = "write 30s, 5m or 1h30m";
        let grace = match &kind {
            Kind::Redis(_) => 120,
            Kind::App(_) => 10,
        };
        let stop_grace =
            self.typed(spec.stop_grace.as_ref(), (Span::seconds(grace), place), "a duration", duration, Span::parse);
        let ready_within =
            self.typed(spec.ready_within.as_ref(), (Span::seconds(60), place), "a duration", duration, Span::parse);
        let mut paths = BTreeMap::new();
        for (path, (place, template)) in &spec.files {
            if !is_plain_path(path) {
                let message = format!("`{path}` is not an absolute path without `..`");
                self.findings.push(Finding::error("path", message).at(place));
                continue;
            }
            if let Some(written) = self.text(template)
                && self.template(&written)
            {
                paths.insert(path.clone(), written);
            }
        }
        let build = spec.build.as_ref().and_then(|build| {
            let context = self.path(&build.context)?;
            let dockerfile = build.dockerfile.as_ref().and_then(|name| self.text(name)).map(|name| name.value);
            Some(Build { context, dockerfile: dockerfile.unwrap_or_else(|| "Dockerfile".to_owned()) })
        });
        let locked = self.inputs.lock.images.get(&image.value).and_then(|image| image.reference());
        Service {
            name: name.clone(),
            place: place.clone(),
            locked: locked.map(str::to_owned),
            image,
            build,
            user: user.value,
            files: paths,
            limits,
            needs: spec.needs.iter().map(|need| need.value.clone()).collect(),
            stop_grace: stop_grace.value,
            ready_within: ready_within.value,
            kind,
        }
    }

    fn redis(&mut self, name: &Name, spec: &RedisSpec) -> Service {
        let image = spec.service.image.value.as_str();
        let server = self.inputs.lock.images.get(image).and_then(|image| image.server.as_deref());
        let server = server.and_then(ServerVersion::parse).unwrap_or(ServerVersion::OLDEST);
        let mut settings = BTreeMap::new();
        for (written, (place, values)) in &spec.settings {
            let name = directive::primary(written);
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
            {
                let message = format!("`{written}` is not the name of a setting");
                self.findings.push(Finding::error("setting-name", message).at(place));
                continue;
            }
            if let Some((_, why)) = directive::FIXED.iter().find(|(fixed, _)| *fixed == name) {
                let message = format!("`{written}` cannot be set: {why}");
                self.findings.push(Finding::error("fixed-setting", message).at(place));
                continue;
            }
            let mut rendered = Vec::new();
            let mut uses = Vec::new();
            for value in values {
                let Some(value) = self.text(value) else { continue };
                if directive::line(&name, &value.value).is_none() {
                    let message = format!("the value of `{written}` holds a line break or a control character");
                    self.findings.push(Finding::error("setting-value", message).at(&value.place));
                    continue;
                }
                rendered.push(match value.value.as_str() {
                    // The server knows the switch under one spelling only.
                    "true" => "yes".to_owned(),
                    "false" => "no".to_owned(),
                    _ => value.value,
                });
                uses.extend(value.uses);
            }
            if rendered.is_empty() {
                rendered.push(String::new());
            }
            let place = values.first().map_or(place, |value| &value.place).clone();
            settings.insert(name, Written { value: rendered, place, uses });
        }
        let users = spec.users.iter().filter_map(|(name, user)| Some((name.clone(), self.user(name, user)?)));
        let users = users.collect();
        let template = spec.template.as_ref().and_then(|text| self.text(text)).filter(|name| self.template(name));
        let acl_template =
            spec.acl_template.as_ref().and_then(|text| self.text(text)).filter(|name| self.template(name));
        let redis = RedisServer { template, acl_template, settings, users, server };
        let memory = match rules::maxmemory(&redis) {
            Some(maxmemory) => redis_memory(maxmemory),
            None => Bytes(512 << 20),
        };
        self.service(name, &spec.service, Kind::Redis(redis), memory)
    }

    fn user(&mut self, name: &str, spec: &UserSpec) -> Option<User> {
        if name == "default" || name == "lockstep" {
            let message = format!("`{name}` cannot be declared");
            let help = "the default user is off, and `lockstep` is the user that lockstep itself connects as";
            self.findings.push(Finding::error("fixed-user", message).at(&spec.place).help(help));
            return None;
        }
        let word = |text: &str| !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        if !word(name) {
            let message = format!("`{name}` is not the name of a Redis user");
            self.findings.push(Finding::error("name", message).at(&spec.place));
            return None;
        }
        let mut rules = |texts: &[Text], prefixes: &[&str], default: &str| {
            let mut rules = Vec::new();
            for text in texts {
                let Some(written) = self.text(text) else { continue };
                if !word(&written.value) {
                    let message = format!("`{}` is not an access rule", written.value);
                    self.findings.push(Finding::error("access-rule", message).at(&text.place));
                } else if prefixes.iter().any(|prefix| written.value.starts_with(prefix)) {
                    rules.push(written.value);
                } else {
                    rules.push(format!("{default}{}", written.value));
                }
            }
            rules
        };
        let keys = rules(&spec.keys, &["~", "%"], "~");
        let channels = rules(&spec.channels, &["&"], "&");
        let commands = rules(&spec.allow, &["+", "-"], "+");
        let password = self.text(&spec.password)?;
        self.secret_name(&password)?;
        Some(User { place: spec.place.clone(), password, keys, channels, commands })
    }

    /// A secret's name becomes part of a path and of an environment variable.
    pub(super) fn secret_name(&mut self, name: &Written<String>) -> Option<()> {
        let fits = !name.value.is_empty()
            && name.value.len() <= 64
            && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !fits {
            let message = format!("`{}` is not the name of a secret", name.value);
            let help = "letters, digits, underscores and dashes";
            self.findings.push(Finding::error("name", message).at(&name.place).help(help));
        }
        fits.then_some(())
    }

    fn app(&mut self, name: &Name, spec: &AppSpec) -> Service {
        let mut env = BTreeMap::new();
        for (key, (place, text)) in &spec.env {
            let fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !fits {
                let message = format!("`{key}` is not the name of an environment variable");
                self.findings.push(Finding::error("name", message).at(place));
            }
            if let Some(written) = self.text(text) {
                env.insert(key.clone(), written);
            }
        }
        let mut secrets = Vec::new();
        for text in &spec.secrets {
            if let Some(written) = self.text(text)
                && self.secret_name(&written).is_some()
            {
                secrets.push(written);
            }
        }
        let mut ports = Vec::new();
        for text in &spec.ports {
            let Some(written) = self.text(text) else { continue };
            match port(&written.value) {
                Some(value) if ports.iter().any(|port: &Written<Port>| port.value.container == value.container) => {
                    let message = format!("port {} of the container is published twice", value.container);
                    self.findings.push(Finding::error("port", message).at(&written.place));
                }
                Some(value) => ports.push(Written { value, place: written.place, uses: written.uses }),
                None => {
                    let message = format!("`{}` is not a port", written.value);
                    let help = "write \"8080:80\" (on 127.0.0.1) or \"192.0.2.1:8080:80\"";
                    self.findings.push(Finding::error("port", message).at(&written.place).help(help));
                }
            }
        }
        let mut tmpfs = BTreeMap::new();
        for (path, (place, text)) in &spec.tmpfs {
            if is_plain_path(path) {
                tmpfs.insert(path.clone(), self.size(Some(text), (Bytes(16 << 20), place)));
            } else {
                let message = format!("`{path}` is not an absolute path without `..`");
                self.findings.push(Finding::error("path", message).at(place));
            }
        }
        let health = spec.health_path.as_ref().and_then(|path| {
            let path = self.text(path)?;
            if !path.value.starts_with('/') || path.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
                let message = format!("`{}` is not a path to ask over HTTP", path.value);
                self.findings.push(Finding::error("path", message).at(&path.place).help("write /healthz"));
                return None;
            }
            let default = ports.first().map_or(80, |port| port.value.container);
            let port = self.typed(
                spec.health_port.as_ref(),
                (default, &spec.service.place),
                "a port",
                "write a number from 1 to 65535",
                |text| text.parse::<u16>().ok().filter(|port| *port > 0),
            );
            Some(Health { path: path.value, port: port.value })
        });
        let command = spec
            .command
            .as_ref()
            .map(|words| words.iter().filter_map(|word| self.text(word)).map(|written| written.value).collect());
        let app = App { command, env, secrets, ports, health, tmpfs };
        self.service(name, &spec.service, Kind::App(app), Bytes(256 << 20))
    }

    /// Whether the template that a value names exists.
    fn template(&mut self, name: &Written<String>) -> bool {
        if self.inputs.templates.contains(&name.value) {
            return true;
        }
        let finding = if name.value.split('/').any(|part| part == "..") || name.value.starts_with('/') {
            Finding::error("path", format!("template `{}` leaves the templates folder", name.value))
        } else {
            let help = match nearest(&name.value, self.inputs.templates.names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let names: Vec<&str> = self.inputs.templates.names().collect();
                    format!("templates: {}", names.join(", "))
                }
            };
            Finding::error("undefined-template", format!("there is no template `{}`", name.value)).help(help)
        };
        self.findings.push(finding.at(&name.place));
        false
    }

    fn backup(&mut self, spec: &BackupSpec) -> BackupPlan {
        let plan = |to, identity| BackupPlan {
            to,
            keep: spec.keep,
            encrypt_to: spec.encrypt_to.iter().map(|recipient| recipient.value.clone()).collect(),
            identity,
            max_age: spec.max_age,
            drill: spec.drill,
        };
        let identity = spec.identity.as_ref().and_then(|text| self.identity(text));
        let default = Destination::Folder("backups".to_owned());
        let Some((text, to)) = spec.to.as_ref().and_then(|to| Some((to, self.text(to)?))) else {
            return plan(default, identity);
        };
        if !to.value.contains("://") {
            if let Some(written) = spec.endpoint.as_ref().or(spec.region.as_ref()) {
                let message = format!("`{}` says where a store is, and `backup.to` is a folder", written.value);
                let help = "write `to: s3://bucket/prefix`, or leave it out";
                self.findings.push(Finding::error("backup", message).at(&written.place).help(help));
            }
            let folder = self.path(text).map(Destination::Folder);
            return plan(folder.unwrap_or(default), identity);
        }
        match backup::bucket(&to.value) {
            Ok((name, prefix)) => {
                let endpoint = spec.endpoint.as_ref().and_then(|text| self.endpoint(text, spec.plain_http));
                let region = spec.region.as_ref().and_then(|text| self.text(text));
                let region = region.map_or_else(|| backup::REGION.to_owned(), |written| written.value);
                if spec.encrypt_to.is_empty() {
                    let message = "backups leave this machine, and nothing encrypts them";
                    let help = "`age-keygen` makes a key; name its public half in `backup.encrypt_to`";
                    self.findings.push(Finding::warning("not-encrypted", message).at(&to.place).help(help));
                }
                plan(Destination::Bucket(Bucket { name, prefix, endpoint, region }), identity)
            }
            Err(why) => {
                let message = format!("`{}` {why}", to.value);
                let help = "write a folder, such as ../backups, or s3://bucket/prefix";
                self.findings.push(Finding::error("backup", message).at(&to.place).help(help));
                plan(default, identity)
            }
        }
    }

    fn endpoint(&mut self, text: &Text, plain_http: bool) -> Option<String> {
        let written = self.text(text)?;
        if written.value.contains('@') {
            // Without the place, whose line would be shown.
            let message = format!("`backup.endpoint` on line {} carries credentials", written.place.line);
            let help = "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY alone";
            self.findings.push(Finding::error("backup", message).about("backup.endpoint").help(help));
            return None;
        }
        let finding = match backup::endpoint(&written.value) {
            Ok(endpoint) if endpoint.encrypted || endpoint.local || plain_http => {
                return Some(written.value.trim_end_matches('/').to_owned());
            }
            Ok(_) => Finding::error("backup", format!("`{}` is spoken to without TLS", written.value))
                .help("use https://, or say `plain_http: true` if nobody else is on that network"),
            Err(why) => Finding::error("backup", format!("the endpoint `{}` {why}", written.value))
                .help("write https://s3.example.net or http://127.0.0.1:9000"),
        };
        self.findings.push(finding.at(&written.place));
        None
    }

    /// A file of identities: anywhere, since it should not lie beside what it opens.
    fn identity(&mut self, text: &Text) -> Option<String> {
        let written = self.text(text)?;
        if written.value.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            // Without the place, whose line would be shown.
            let message = format!("`backup.identity` on line {} is an age identity itself", written.place.line);
            let help = "write it into a file of mode 600 outside the project, and name the file";
            self.findings.push(Finding::error("identity", message).about("backup.identity").help(help));
            return None;
        }
        if written.value.starts_with('/') && !written.value.contains('\0') {
            return Some(written.value);
        }
        self.path(text)
    }

    /// A path below the project, relative to the spec's folder; `None` with a finding when it leaves it.
    pub(super) fn path(&mut self, text: &Text) -> Option<String> {
        let written = self.text(text)?;
        let mut parts: Vec<&str> = vec!["environments"];
        for part in written.value.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.is_empty() => {
                    parts.push("..");
                    break;
                }
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let bad = written.value.starts_with('/') || parts.first() == Some(&"..") || written.value.contains('\0');
        if bad {
            let message = format!("`{}` leaves the project's folder", written.value);
            let help = "name a folder below the project; another disk can be mounted there";
            self.findings.push(Finding::error("path", message).at(&text.place).help(help));
            return None;
        }
        Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
    }

    fn engine(&mut self, text: &Text) -> Option<String> {
        let known = text.value.starts_with("unix:///");
        if !known {
            let message = format!("the engine `{}` cannot be used yet", text.value);
            let help =
                "this version speaks to an engine on this machine: `unix:///var/run/docker.sock`, or leave it out";
            self.findings.push(Finding::error("engine", message).at(&text.place).help(help));
        }
        known.then(|| text.value.clone())
    }

    /// Names go into request paths, so only what an image name may hold gets that far.
    fn image_name(&mut self, image: &Written<String>) {
        let fits = image.value.len() <= 255
            && image.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && image.value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
            && !image.value.contains("..")
            && !image.value.contains("//");
        if !fits {
            let message = format!("`{}` is not the name of an image", image.value);
            self.findings.push(Finding::error("image", message).at(&image.place).help("write name:tag"));
        } else if !image.value.contains(':') {
            let message = format!("image `{}` has no tag", image.value);
            let help = "name the version, such as redis:7.4; `latest` means something else every week";
            self.findings.push(Finding::error("image", message).at(&image.place).help(help));
        }
    }
}

fn maxclients(redis: &RedisServer) -> u64 {
    let written = redis.settings.get("maxclients").and_then(|written| written.value.first());
    written.and_then(|text| text.parse().ok()).filter(|clients| *clients <= 1_000_000).unwrap_or(10_000)
}

fn user_id(text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    Some((user.parse().ok().filter(|id| *id > 0)?, group.parse().ok().filter(|id| *id > 0)?))
}

fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() > 1
        && !path.ends_with('/')
        && path
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control))
}

/// `8080:80` is published on 127.0.0.1; another address has to be written.
fn port(text: &str) -> Option<Port> {
    let mut parts: Vec<&str> = text.rsplitn(3, ':').collect();
    parts.reverse();
    let (host_ip, host, container) = match parts.as_slice() {
        [host, container] => ("127.0.0.1", host, container),
        [address, host, container] => (*address, host, container),
        _ => return None,
    };
    host_ip.parse::<std::net::IpAddr>().ok()?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    Some(Port { host_ip: host_ip.to_owned(), host: number(host)?, container: number(container)? })
}

/// Names of the environments that the project has, for `follows:` and `seed:`.
pub fn known_environments(all: &BTreeMap<Name, EnvironmentSpec>) -> BTreeSet<&str> {
    all.keys().map(Name::as_str).collect()
}

//! The comparison itself: every difference of two states is drift, declared, of the host, unknown, or a finding.

use crate::desired;
use crate::diff::{self, Change};
use crate::directive::Class;
use crate::finding::{self, Finding, Seen};
use crate::parity::{Declared, LEVELS, Level, Proof, Row, Side, Verification, listed, since};
use crate::state::{Fields, Observed, Resource, Value};
use crate::value::{ResourceId, ResourceKind};
use std::collections::{BTreeMap, BTreeSet};

/// A field of a resource.
type Key = (ResourceId, String);

/// Has someone touched it? Desired against observed.
pub fn drift(side: Side<'_>) -> Verification {
    let mut report = Report::new(&[side]);
    for (id, resource) in &side.want.state.resources {
        for field in resource.fields().keys() {
            report.count(0, level(id, field), |proof| proof.compared += 1);
        }
    }
    for stray in strays(side) {
        let level = level(&stray.0.resource, &stray.0.field);
        report.stray(0, level, stray);
    }
    report.conditions(0, side);
    report.finish()
}

/// Is one like the other? Everything that both were seen to be, minus what the spec declares.
pub fn parity(left: Side<'_>, right: Side<'_>) -> Verification {
    matrix(left, &[right])
}

/// Are they all like the first one?
pub fn matrix(reference: Side<'_>, others: &[Side<'_>]) -> Verification {
    let reference = reference.numberless();
    let others: Vec<_> = others.iter().map(|side| side.numberless()).collect();
    let (reference, others): (Side<'_>, Vec<Side<'_>>) =
        (reference.side(), others.iter().map(|side| side.side()).collect());
    let sides: Vec<Side<'_>> = std::iter::once(reference).chain(others.iter().copied()).collect();
    let differing: Vec<BTreeMap<Key, Change>> = others.iter().map(|other| differing(reference, *other)).collect();
    let mut report = Report::new(&sides);
    for (at, side) in sides.iter().enumerate() {
        report.conditions(at, *side);
        // Two that were changed in the same way are like each other, and still not what the spec means.
        let fields: usize = side.want.state.resources.values().map(|resource| resource.fields().len()).sum();
        let fields = u64::try_from(fields).unwrap_or(u64::MAX);
        report.count(at, Level::Spec, |proof| proof.compared += fields);
        for stray in strays(*side) {
            let key = (stray.0.resource.clone(), stray.0.field.clone());
            let tells =
                |differing: &BTreeMap<Key, Change>| differing.get(&key).is_some_and(|change| !may_differ(change));
            let told = match at.checked_sub(1) {
                None => differing.iter().all(tells),
                Some(other) => differing.get(other).is_some_and(tells),
            };
            if !told {
                report.stray(at, Level::Spec, stray);
            }
        }
    }
    let mut declared = BTreeMap::new();
    for ((other, differing), at) in others.iter().zip(&differing).zip(1..) {
        for (id, fields) in common(reference.have, other.have) {
            for (field, value) in fields {
                let level = level(&id, &field);
                report.count(at, level, |proof| proof.compared += 1);
                let key = (id.clone(), field);
                if !differing.contains_key(&key) {
                    report.equal(at, &key, &value, level);
                }
            }
        }
        let apart = apart(reference.have, other.have);
        let mut lacking: BTreeMap<&ResourceId, Vec<&Change>> = BTreeMap::new();
        for (key, change) in differing.iter().filter(|(_, change)| !is_volatile_absence(change)) {
            if apart.contains_key(&key.0) && is_of_one_version(change) {
                lacking.entry(&key.0).or_default().push(change);
            } else if let Some(because) = report.differing(at, change, reference, *other) {
                declared.entry(key.clone()).or_insert_with(Vec::new).extend(because);
            }
        }
        for (id, changes) in lacking {
            if let Some(versions) = apart.get(id) {
                report.not_comparable(at, id, versions, &changes);
            }
        }
    }
    for (with, one) in others.iter().enumerate() {
        for (at, other) in others.iter().enumerate().skip(with + 1) {
            for key in shared(*one, *other) {
                // The same as in the first one is told already.
                let told = differing.get(with).is_some_and(|differing| !differing.contains_key(&key));
                if !told || !has(reference, &key) {
                    report.shared(with + 1, at + 1, &key);
                }
            }
        }
    }
    report.declared = declared.into_iter().map(|(key, because)| explained(key, because, &sides)).collect();
    report.finish()
}

fn differing(left: Side<'_>, right: Side<'_>) -> BTreeMap<Key, Change> {
    let changes = diff::all(&left.have.state, &right.have.state);
    changes.into_iter().map(|change| ((change.resource.clone(), change.field.clone()), change)).collect()
}

/// The secrets that two environments have in common.
fn shared(one: Side<'_>, other: Side<'_>) -> Vec<Key> {
    let mut keys = Vec::new();
    for (id, fields) in common(one.have, other.have) {
        let others = other.have.state.resources.get(&id).map(Resource::fields).unwrap_or_default();
        for (field, value) in fields {
            let secret = matches!(&value, Value::Secret(secret) if !secret.reveal().is_empty());
            if secret && others.get(&field) == Some(&value) {
                keys.push((id.clone(), field));
            }
        }
    }
    keys
}

fn has(side: Side<'_>, (id, field): &Key) -> bool {
    side.have.state.resources.get(id).is_some_and(|resource| resource.fields().contains_key(field))
}

/// A declared difference with what each environment has.
fn explained((id, field): Key, mut because: Vec<String>, sides: &[Side<'_>]) -> Declared {
    because.sort();
    because.dedup();
    let value = |side: &Side<'_>| side.have.state.resources.get(&id)?.fields().remove(&field);
    let values = sides.iter().map(|side| value(side).unwrap_or_else(|| Value::text("absent"))).collect();
    let class = if desired::class(&field) == Class::Scaled { Class::Scaled } else { Class::Declared };
    Declared { subject: subject(&id, &field), class, values, because }
}

/// A field of one environment that is not as it is meant.
struct Stray(Change, Finding);

fn strays(side: Side<'_>) -> Vec<Stray> {
    let stopped = stopped(side.have);
    let changes = diff::declared(&side.have.state, &side.want.state);
    changes
        .into_iter()
        .filter(|change| !is_consequence(change, &stopped) && !is_kept_data(change, side.have))
        .map(|change| {
            let subject = subject(&change.resource, &change.field);
            let mut finding = match &change.before {
                Some(Value::Unknown(why)) => Finding::error("unknown", format!("{subject} could not be read: {why}")),
                _ => Finding::error("drift", drift_message(&change)).sides(shown(&change.after), shown(&change.before)),
            };
            finding = finding.about(subject);
            let origin = side.want.origin(&change.resource, &change.field);
            finding.place = origin.and_then(|origin| origin.place.clone());
            finding.help = Some(format!("`lockstep apply {}` puts it right", side.want.environment));
            Stray(change, finding)
        })
        .collect()
}

/// A row of the matrix while it is filled.
struct Filled {
    environment: String,
    proofs: BTreeMap<Level, Proof>,
}

struct Report<'s> {
    /// What each row was seen to be.
    seen: Vec<&'s Observed>,
    rows: Vec<Filled>,
    findings: Vec<Finding>,
    declared: Vec<Declared>,
}

impl<'s> Report<'s> {
    fn new(sides: &[Side<'s>]) -> Report<'s> {
        let row = |side: &Side<'_>| Filled {
            environment: side.want.environment.to_string(),
            proofs: LEVELS.map(|level| (level, Proof::none(level))).into(),
        };
        let seen = sides.iter().map(|side| side.have).collect();
        Report { seen, rows: sides.iter().map(row).collect(), findings: Vec::new(), declared: Vec::new() }
    }

    fn environment(&self, at: usize) -> &str {
        self.rows.get(at).map_or("", |row| row.environment.as_str())
    }

    /// Counts something of a level of one environment.
    fn count(&mut self, at: usize, level: Level, count: impl FnOnce(&mut Proof)) {
        if let Some(proof) = self.rows.get_mut(at).and_then(|row| row.proofs.get_mut(&level)) {
            count(proof);
        }
    }

    fn finish(mut self) -> Verification {
        finding::sort(&mut self.findings);
        let environments = self.rows.iter().map(|row| row.environment.clone()).collect();
        let together = |level: Level| {
            let proofs = self.rows.iter().filter_map(|row| row.proofs.get(&level));
            proofs.fold(Proof::none(level), |sum, proof| Proof {
                compared: sum.compared + proof.compared,
                declared: sum.declared + proof.declared,
                host: sum.host + proof.host,
                ..sum
            })
        };
        let levels = LEVELS.map(together).into();
        let several = self.rows.len() > 1;
        let row = |(at, row): (usize, Filled)| Row {
            environment: row.environment,
            reference: several && at == 0,
            read_at: None,
            unknown: None,
            levels: row.proofs.into_values().collect(),
        };
        let mut verification = Verification {
            format: 1,
            environments,
            levels,
            matrix: self.rows.into_iter().enumerate().map(row).collect(),
            findings: self.findings,
            declared: self.declared,
            ..Verification::default()
        };
        verification.count();
        verification
    }

    /// A finding of one environment: of the first one by itself, of another beside the first one.
    fn push(&mut self, at: usize, level: Level, source: Level, finding: Finding) {
        let seen = Seen {
            environment: self.environment(at).to_owned(),
            level: level.as_str(),
            source: source.source(),
            at: None,
            since: None,
        };
        self.findings.push(finding.seen(seen));
    }

    /// The same, with what is told of since when the fact is so in one of the environments.
    fn push_since(&mut self, at: usize, level: Level, source: Level, finding: Finding, told_by: usize) {
        let subject = finding.subject.clone().unwrap_or_default();
        let since = self.seen.get(told_by).and_then(|have| since::since(have, &subject));
        self.push(at, level, source, finding);
        let seen = self.findings.last_mut().and_then(|finding| finding.seen.as_mut());
        if let Some(seen) = seen {
            seen.since = since;
        }
    }

    /// What is wrong with one environment, whatever the others are.
    fn own(&mut self, at: usize, level: Level, source: Level, mut finding: Finding) {
        if self.rows.len() > 1 {
            finding.message = format!("in {}, {}", self.environment(at), finding.message);
        }
        self.push_since(at, level, source, finding, at);
    }

    fn stray(&mut self, at: usize, told_at: Level, Stray(change, finding): Stray) {
        self.own(at, told_at, level(&change.resource, &change.field), finding);
    }

    fn conditions(&mut self, at: usize, side: Side<'_>) {
        for (id, field, value) in facts(side.have) {
            self.fact(at, &id, &field, &value);
        }
    }

    /// A fact that no spec sets, and that says by itself whether something is wrong.
    fn fact(&mut self, at: usize, id: &ResourceId, field: &str, value: &Value) {
        let Some((rule, message)) = condition(id, field, value) else { return };
        self.own(at, Level::Process, Level::Process, Finding::error(rule, message).about(subject(id, field)));
    }

    /// Two sides agree: right, unless it is something that they must not share, or neither of them was read.
    fn equal(&mut self, at: usize, key: &Key, value: &Value, level: Level) {
        match value {
            Value::Text(_) => {}
            Value::Unknown(why) => self.unknown(at, key, why, level),
            Value::Secret(secret) if secret.reveal().is_empty() => {}
            Value::Secret(_) => self.shared(0, at, key),
        }
    }

    /// Two environments have one secret.
    fn shared(&mut self, with: usize, at: usize, (id, field): &Key) {
        let both = listed(&[self.environment(with), self.environment(at)]);
        let message = format!("{} is the same secret in {both}", subject(id, field));
        let finding = Finding::error("shared-secret", message)
            .about(subject(id, field))
            .help("give each environment secrets of its own");
        let level = level(id, field);
        self.push(at, level, level, finding);
    }

    /// A fact that could not be compared, where nothing says so already.
    fn unknown(&mut self, at: usize, (id, field): &Key, why: &str, level: Level) {
        // What a server says of itself is reported with the side that it is unknown on.
        if field.starts_with("server.") {
            return;
        }
        let subject = subject(id, field);
        let told = |known: &Finding| {
            let seen = known.seen.as_ref().is_some_and(|seen| seen.environment == self.environment(at));
            seen && known.rule == "unknown" && known.subject.as_deref() == Some(subject.as_str())
        };
        if !self.findings.iter().any(told) {
            let message = format!("{subject} could not be compared: {why}");
            self.own(at, level, level, Finding::error("unknown", message).about(subject));
        }
    }

    /// What only one of two versions knows cannot differ; it is told once for a server, with both versions.
    fn not_comparable(&mut self, at: usize, id: &ResourceId, versions: &(String, String), changes: &[&Change]) {
        let sides = [(self.environment(0), &versions.0), (self.environment(at), &versions.1)];
        let mut only: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        let [left, right] = &mut only;
        for Change { field, before, after, .. } in changes {
            match (field.strip_prefix("settings."), before) {
                (Some(setting), Some(_)) => left.push(format!("`{setting}`")),
                (Some(setting), None) => right.push(format!("`{setting}`")),
                (None, _) => {
                    left.extend(more(before, after));
                    right.extend(more(after, before));
                }
            }
        }
        let parts = sides.iter().zip(&only).filter(|(_, words)| !words.is_empty());
        let said: Vec<String> = parts
            .map(|((name, version), words)| format!("only {version} in {name} has {}", words.join(", ")))
            .collect();
        let message = format!("{id} is not comparable in all: {}", said.join("; "));
        let finding = Finding::warning("not-comparable", message)
            .about(subject(id, "server.version"))
            .sides(&versions.0, &versions.1)
            .help("with one version in both, everything is compared");
        self.push(at, Level::Process, Level::Process, finding);
    }

    /// Two sides disagree. The declared differences, where these explain it.
    fn differing(&mut self, at: usize, change: &Change, left: Side<'_>, right: Side<'_>) -> Option<Vec<String>> {
        let (id, field) = (&change.resource, change.field.as_str());
        let level = level(id, field);
        let sides = [&change.before, &change.after].into_iter().flatten();
        if let Some(why) = sides.clone().find_map(|value| match value {
            Value::Unknown(why) => Some(why),
            _ => None,
        }) {
            let at = if matches!(change.before, Some(Value::Unknown(_))) { 0 } else { at };
            self.unknown(at, &(id.clone(), field.to_owned()), why, level);
            return None;
        }
        let told = |value: &Value| field.starts_with("server.") && condition(id, field, value).is_some();
        if sides.clone().any(told) {
            return None;
        }
        if may_differ(change) {
            if !is_secret(change) {
                self.count(at, level, |proof| proof.host += 1);
            }
            return None;
        }
        let because = declared_by(change, left, right);
        match &because {
            Some(_) => self.count(at, level, |proof| proof.declared += 1),
            None => {
                // What is told of the one that strayed.
                let strayed = blame(change, left, right).is_some_and(|name| name == *left.want.environment.as_str());
                self.push_since(at, level, level, unexplained(change, left, right), if strayed { 0 } else { at });
            }
        }
        because
    }
}

/// What is wrong with a fact by itself, as a rule and in words.
fn condition(id: &ResourceId, field: &str, value: &Value) -> Option<(&'static str, String)> {
    Some(match (field, value) {
        (_, Value::Unknown(why)) => ("unknown", format!("{} could not be read: {why}", subject(id, field))),
        ("server.last-save" | "server.last-append", Value::Text(status)) if status != "ok" => {
            ("persistence", format!("{id} could not write its data to disk: {status}"))
        }
        ("server.health", Value::Text(status))
            if !status.starts_with("status 2") && !status.starts_with("status 3") =>
        {
            ("health", format!("{id} answers its health page with {status}"))
        }
        _ => return None,
    })
}

/// Each side has a secret of its own. One without any is another matter.
fn is_secret(change: &Change) -> bool {
    [&change.before, &change.after].iter().all(|side| matches!(side, Some(Value::Secret(_))))
}

/// Whether two environments may differ in it without a word. That one of them is not as it is meant is told all the same.
fn may_differ(change: &Change) -> bool {
    let unknown = [&change.before, &change.after].iter().any(|side| matches!(side, Some(Value::Unknown(_))));
    !unknown && (is_secret(change) || matches!(desired::class(&change.field), Class::Host | Class::Volatile))
}

/// Servers whose versions are known on both sides and not the same, with both.
fn apart(left: &Observed, right: &Observed) -> BTreeMap<ResourceId, (String, String)> {
    let version = |have: &Observed, id: &ResourceId| match have.state.resources.get(id) {
        Some(Resource::Container(container)) => container.server.as_ref()?.version().map(str::to_owned),
        _ => None,
    };
    let both = left.state.resources.keys().filter_map(|id| {
        let versions = (version(left, id)?, version(right, id)?);
        (versions.0 != versions.1).then(|| (id.clone(), versions))
    });
    both.collect()
}

/// Whether a difference is one of what versions know: a directive that one side lacks, or the table of commands.
fn is_of_one_version(change: &Change) -> bool {
    let lacks = change.before.is_none() != change.after.is_none();
    let text = |value: &Option<Value>| matches!(value, Some(Value::Text(_)));
    (lacks && change.field.starts_with("settings."))
        || (change.field == COMMANDS && text(&change.before) && text(&change.after))
}

/// Every command that a server knows, in one text; nobody wants to read two of them beside each other.
const COMMANDS: &str = "server.commands";

/// The commands of one side that the other one lacks.
fn more(value: &Option<Value>, other: &Option<Value>) -> Vec<String> {
    let names = |value: &Option<Value>| -> BTreeSet<String> {
        match value {
            Some(Value::Text(names)) => names.split(' ').map(str::to_uppercase).collect(),
            _ => BTreeSet::new(),
        }
    };
    names(value).difference(&names(other)).cloned().collect()
}

/// The finding for a difference that nothing declares.
fn unexplained(change: &Change, left: Side<'_>, right: Side<'_>) -> Finding {
    let (id, field) = (&change.resource, change.field.as_str());
    let (a, b) = (&left.want.environment, &right.want.environment);
    let sides = match field == COMMANDS {
        true => [(&change.before, &change.after), (&change.after, &change.before)].map(|(value, other)| {
            let more = more(value, other);
            if more.is_empty() { "nothing more".to_owned() } else { more.join(", ") }
        }),
        false => [&change.before, &change.after].map(shown),
    };
    let [before, after] = &sides;
    let message = if field == COMMANDS {
        format!("{id} does not know the same commands: {a} has {before}, and {b} has {after}")
    } else if field.is_empty() {
        let (there, gone) = if change.before.is_some() { (a, b) } else { (b, a) };
        format!("{id} is in {there} and not in {gone}")
    } else {
        format!("{} is {before} in {a} and {after} in {b}", subject(id, field))
    };
    let mut finding = Finding::error("parity", message).about(subject(id, field));
    finding = finding.sides(before, after);
    finding.place = left.want.origin(id, field).and_then(|origin| origin.place.clone());
    finding.help = Some(match blame(change, left, right) {
        Some(environment) => {
            format!("{environment} is not as the spec says; `lockstep apply {environment}` puts it right")
        }
        None => "nothing declares this; set it in the spec, or declare a difference".to_owned(),
    });
    finding
}

/// The declared differences that explain a change, when both sides are exactly as they are meant.
fn declared_by(change: &Change, left: Side<'_>, right: Side<'_>) -> Option<Vec<String>> {
    let wanted = |side: Side<'_>| side.want.state.resources.get(&change.resource)?.fields().remove(&change.field);
    if wanted(left) != change.before || wanted(right) != change.after {
        return None;
    }
    let uses = |side: Side<'_>| side.want.origin(&change.resource, &change.field).map(|origin| origin.uses.clone());
    let mut because = uses(left).unwrap_or_default();
    because.extend(uses(right).unwrap_or_default());
    because.sort();
    because.dedup();
    (!because.is_empty()).then_some(because)
}

/// The environment that is not as it is meant, when exactly one is not.
fn blame(change: &Change, left: Side<'_>, right: Side<'_>) -> Option<String> {
    let strays = |side: Side<'_>, value: &Option<Value>| {
        let wanted = side.want.state.resources.get(&change.resource)?.fields().remove(&change.field);
        (wanted.is_some() && wanted != *value).then(|| side.want.environment.to_string())
    };
    match (strays(left, &change.before), strays(right, &change.after)) {
        (Some(environment), None) | (None, Some(environment)) => Some(environment),
        _ => None,
    }
}

fn level(id: &ResourceId, field: &str) -> Level {
    if field == "image" {
        return Level::Image;
    }
    match id.kind {
        ResourceKind::Volume if field.starts_with("files.") || field.starts_with("modes.") => Level::Bytes,
        ResourceKind::Container
            if ["settings.", "users.", "server."].iter().any(|family| field.starts_with(family)) =>
        {
            Level::Process
        }
        _ => Level::Container,
    }
}

fn subject(id: &ResourceId, field: &str) -> String {
    if field.is_empty() { id.to_string() } else { format!("{id} {field}") }
}

fn shown(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string)
}

fn drift_message(change: &Change) -> String {
    let subject = subject(&change.resource, &change.field);
    match (&change.before, &change.after) {
        (None, Some(_)) if change.field.is_empty() => format!("{subject} is missing"),
        (Some(_), None) if change.field.is_empty() => format!("{subject} is there, and the spec knows nothing of it"),
        (Some(_), None) => format!("{subject} is set, and the spec knows nothing of it"),
        (Some(Value::Secret(_)), Some(Value::Secret(_))) => {
            format!("{subject} is not the secret that it is meant to be")
        }
        _ => format!("{subject} is {}, and is meant to be {}", shown(&change.before), shown(&change.after)),
    }
}

/// Containers that do not run: their missing settings are no finding of their own.
fn stopped(have: &Observed) -> Vec<ResourceId> {
    let containers = have.state.resources.iter().filter(|(_, resource)| match resource {
        Resource::Container(container) => !container.running,
        _ => false,
    });
    containers.map(|(id, _)| id.clone()).collect()
}

fn is_consequence(change: &Change, stopped: &[ResourceId]) -> bool {
    stopped.contains(&change.resource)
        && ["settings.", "users.", "server."].iter().any(|family| change.field.starts_with(family))
}

/// Data whose service has left the spec is kept on purpose.
fn is_kept_data(change: &Change, have: &Observed) -> bool {
    change.field.is_empty()
        && change.after.is_none()
        && matches!(have.state.volume(&change.resource.name), Some(crate::state::Volume::Data { .. }))
        && change.resource.kind == ResourceKind::Volume
}

/// One side's server says something that the other, not running, cannot.
fn is_volatile_absence(change: &Change) -> bool {
    change.field == "server.health" && (change.before.is_none() || change.after.is_none())
}

/// What servers say of their own condition.
fn facts(have: &Observed) -> Vec<(ResourceId, String, Value)> {
    let mut facts = Vec::new();
    for (id, resource) in &have.state.resources {
        let fields: Fields = resource.fields();
        let own = fields.into_iter().filter(|(field, _)| field.starts_with("server."));
        facts.extend(own.map(|(field, value)| (id.clone(), field, value)));
    }
    facts
}

fn common(left: &Observed, right: &Observed) -> Vec<(ResourceId, Fields)> {
    let both = left.state.resources.iter().filter_map(|(id, resource)| {
        let others = right.state.resources.get(id)?.fields();
        let fields = resource.fields().into_iter().filter(|(field, _)| others.contains_key(field)).collect();
        Some((id.clone(), fields))
    });
    both.collect()
}

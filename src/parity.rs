//! What the difference of two states means: drift of one environment, or unexplained differences of two.
//!
//! A fact that could not be read is never equal to anything: it is reported as unknown.

use crate::desired::{self, Desired};
use crate::diff::{self, Change};
use crate::directive::Class;
use crate::finding::{self, Finding};
use crate::state::{Fields, Observed, Value};
use crate::value::{ResourceId, ResourceKind};
use serde::Serialize;
use std::collections::BTreeMap;

/// How deep a fact lies; a report says how far each level was proven.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The same spec, declared differences apart.
    Spec,
    /// The files that were rendered, as they lie in the volumes.
    Bytes,
    Image,
    /// The container as the engine reports it.
    Container,
    /// The process as it reports itself.
    Process,
}

const LEVELS: [Level; 5] = [Level::Spec, Level::Bytes, Level::Image, Level::Container, Level::Process];

#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    pub level: Level,
    /// Facts that were read on every side and compared.
    pub compared: u64,
    pub findings: u64,
    /// Facts that could not be read.
    pub unknown: u64,
    /// Facts that differ as the spec declares.
    pub declared: u64,
    /// Facts that say where something runs, not what it does.
    pub host: u64,
}

/// A difference that the spec declares, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct Declared {
    pub subject: String,
    pub class: Class,
    pub values: Vec<Value>,
    /// The differences it comes from.
    pub because: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Version of this form.
    pub format: u32,
    pub environments: Vec<String>,
    pub levels: Vec<Proof>,
    pub findings: Vec<Finding>,
    pub declared: Vec<Declared>,
}

/// One environment as it is meant and as it is.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub want: &'a Desired,
    pub have: &'a Observed,
}

/// Has someone touched it? Desired against observed.
pub fn drift(side: Side<'_>) -> Verification {
    let mut report = Report::new(&[side]);
    for (id, resource) in &side.want.state.resources {
        for field in resource.fields().keys() {
            report.level(level(id, field)).compared += 1;
        }
    }
    for stray in strays(side) {
        report.stray(level(&stray.change.resource, &stray.change.field), stray);
    }
    report.conditions(side);
    report.finish()
}

/// Is one like the other? Everything that both were seen to be, minus what the spec declares.
pub fn parity(left: Side<'_>, right: Side<'_>) -> Verification {
    let mut report = Report::new(&[left, right]);
    let differing: BTreeMap<(ResourceId, String), Change> = diff::all(&left.have.state, &right.have.state)
        .into_iter()
        .map(|change| ((change.resource.clone(), change.field.clone()), change))
        .collect();
    for side in [left, right] {
        report.conditions(side);
        // Two that were changed in the same way are like each other, and still not what the spec means.
        let fields: usize = side.want.state.resources.values().map(|resource| resource.fields().len()).sum();
        report.level(Level::Spec).compared += u64::try_from(fields).unwrap_or(u64::MAX);
        for stray in strays(side) {
            let key = (stray.change.resource.clone(), stray.change.field.clone());
            if !differing.contains_key(&key) {
                report.stray(Level::Spec, stray);
            }
        }
    }
    for (id, fields) in common(left.have, right.have) {
        for (field, value) in fields {
            let level = level(&id, &field);
            report.level(level).compared += 1;
            let key = (id.clone(), field);
            if !differing.contains_key(&key) {
                report.equal(&key.0, &key.1, &value, level);
            }
        }
    }
    for change in differing.values().filter(|change| !is_volatile_absence(change)) {
        report.differing(change, left, right);
    }
    report.finish()
}

/// A field of one environment that is not as it is meant.
struct Stray {
    change: Change,
    finding: Finding,
    unknown: bool,
}

fn strays(side: Side<'_>) -> Vec<Stray> {
    let stopped = stopped(side.have);
    let changes = diff::declared(&side.have.state, &side.want.state);
    changes
        .into_iter()
        .filter(|change| !is_consequence(change, &stopped) && !is_kept_data(change, side.have))
        .map(|change| {
            let subject = subject(&change.resource, &change.field);
            let unknown = match &change.before {
                Some(Value::Unknown(why)) => Some(why.clone()),
                _ => None,
            };
            let mut finding = match &unknown {
                Some(why) => Finding::error("unknown", format!("{subject} could not be read: {why}")),
                None => {
                    Finding::error("drift", drift_message(&change)).sides(shown(&change.after), shown(&change.before))
                }
            };
            finding = finding.about(subject);
            let origin = side.want.origin(&change.resource, &change.field);
            finding.place = origin.and_then(|origin| origin.place.clone());
            finding.help = Some(format!("`lockstep apply {}` puts it right", side.want.environment));
            Stray { change, finding, unknown: unknown.is_some() }
        })
        .collect()
}

struct Report {
    environments: Vec<String>,
    levels: BTreeMap<Level, Proof>,
    findings: Vec<Finding>,
    declared: Vec<Declared>,
}

impl Report {
    fn new(sides: &[Side<'_>]) -> Report {
        Report {
            environments: sides.iter().map(|side| side.want.environment.to_string()).collect(),
            levels: BTreeMap::new(),
            findings: Vec::new(),
            declared: Vec::new(),
        }
    }

    fn level(&mut self, level: Level) -> &mut Proof {
        let empty = Proof { level, compared: 0, findings: 0, unknown: 0, declared: 0, host: 0 };
        self.levels.entry(level).or_insert(empty)
    }

    fn finish(mut self) -> Verification {
        for level in LEVELS {
            self.level(level);
        }
        finding::sort(&mut self.findings);
        Verification {
            format: 1,
            environments: self.environments,
            levels: self.levels.into_values().collect(),
            findings: self.findings,
            declared: self.declared,
        }
    }

    fn stray(&mut self, level: Level, stray: Stray) {
        let proof = self.level(level);
        if stray.unknown {
            proof.unknown += 1
        } else {
            proof.findings += 1
        }
        self.findings.push(stray.finding);
    }

    fn conditions(&mut self, side: Side<'_>) {
        for (id, field, value) in facts(side.have) {
            self.fact(&id, &field, &value);
        }
    }

    /// A fact that no spec sets, and that says by itself whether something is wrong.
    fn fact(&mut self, id: &ResourceId, field: &str, value: &Value) {
        let (rule, message) = match (field, value) {
            (_, Value::Unknown(why)) => ("unknown", format!("{} could not be read: {why}", subject(id, field))),
            ("server.last-save" | "server.last-append", Value::Text(status)) if status != "ok" => {
                ("persistence", format!("{id} could not write its data to disk: {status}"))
            }
            ("server.health", Value::Text(status))
                if !status.starts_with("status 2") && !status.starts_with("status 3") =>
            {
                ("health", format!("{id} answers its health page with {status}"))
            }
            _ => return,
        };
        let level = self.level(Level::Process);
        if rule == "unknown" {
            level.unknown += 1
        } else {
            level.findings += 1
        }
        self.findings.push(Finding::error(rule, message).about(subject(id, field)));
    }

    /// Two sides agree: right, unless it is something that they must not share.
    fn equal(&mut self, id: &ResourceId, field: &str, value: &Value, level: Level) {
        let Value::Secret(secret) = value else { return };
        if secret.reveal().is_empty() {
            return;
        }
        self.level(level).findings += 1;
        let message = format!("{} is the same secret in both environments", subject(id, field));
        self.findings.push(
            Finding::error("shared-secret", message)
                .about(subject(id, field))
                .help("give each environment secrets of its own"),
        );
    }

    fn differing(&mut self, change: &Change, left: Side<'_>, right: Side<'_>) {
        let (id, field) = (&change.resource, change.field.as_str());
        let level = level(id, field);
        let class = desired::class(field);
        let unknown = [&change.before, &change.after].into_iter().flatten().find_map(|value| match value {
            Value::Unknown(why) => Some(why),
            _ => None,
        });
        if unknown.is_some() {
            // Reported with the side that it is unknown on.
            if !field.starts_with("server.") {
                self.level(level).unknown += 1;
                let message =
                    format!("{} could not be compared: {}", subject(id, field), unknown.map_or("", String::as_str));
                self.findings.push(Finding::error("unknown", message).about(subject(id, field)));
            }
            return;
        }
        let secret =
            [&change.before, &change.after].into_iter().flatten().any(|value| matches!(value, Value::Secret(_)));
        if secret && change.before.is_some() && change.after.is_some() {
            return;
        }
        if class == Class::Host || class == Class::Volatile {
            self.level(level).host += 1;
            return;
        }
        if let Some(because) = declared_by(change, left, right) {
            self.level(level).declared += 1;
            let class = if class == Class::Scaled { Class::Scaled } else { Class::Declared };
            let values = [&change.before, &change.after].into_iter().flatten().cloned().collect();
            self.declared.push(Declared { subject: subject(id, field), class, values, because });
            return;
        }
        self.level(level).findings += 1;
        let (a, b) = (&left.want.environment, &right.want.environment);
        let message = if field.is_empty() {
            let (there, gone) = if change.before.is_some() { (a, b) } else { (b, a) };
            format!("{id} is in {there} and not in {gone}")
        } else {
            let (before, after) = (shown(&change.before), shown(&change.after));
            format!("{} is {before} in {a} and {after} in {b}", subject(id, field))
        };
        let mut finding = Finding::error("parity", message).about(subject(id, field));
        finding = finding.sides(shown(&change.before), shown(&change.after));
        finding.place = left.want.origin(id, field).and_then(|origin| origin.place.clone());
        finding.help = Some(match blame(change, left, right) {
            Some(environment) => {
                format!("{environment} is not as the spec says; `lockstep apply {environment}` puts it right")
            }
            None => "nothing declares this; set it in the spec, or declare a difference".to_owned(),
        });
        self.findings.push(finding);
    }
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
        crate::state::Resource::Container(container) => !container.running,
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

//! What the difference of states means: drift of one environment, or unexplained differences of several.
//!
//! A fact that could not be read is never equal to anything: it is reported as unknown. So is an environment that could
//! not be read at all.

mod beyond;
mod compare;
pub mod data;
mod numberless;
pub mod pages;
pub mod shape;
mod since;

pub use compare::{drift, matrix, parity};

use crate::acceptance::{self, Acceptance, Accepted};
use crate::desired::Desired;
use crate::directive::Class;
use crate::finding::{self, Finding, Severity};
use crate::state::{Observed, Value};
use crate::value::Date;
use serde::Serialize;
use std::fmt;

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

pub const LEVELS: [Level; 5] = [Level::Spec, Level::Bytes, Level::Image, Level::Container, Level::Process];

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Spec => "spec",
            Level::Bytes => "bytes",
            Level::Image => "image",
            Level::Container => "container",
            Level::Process => "process",
        }
    }

    /// Who says what is so, at this level.
    fn source(self) -> &'static str {
        match self {
            Level::Spec => "the spec",
            Level::Bytes => "the files in the volumes",
            Level::Image | Level::Container => "the engine",
            Level::Process => "the running process",
        }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
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

impl Proof {
    fn none(level: Level) -> Proof {
        Proof { level, compared: 0, findings: 0, unknown: 0, declared: 0, host: 0 }
    }

    /// Whether there was anything to look at.
    pub fn is_empty(&self) -> bool {
        self.compared == 0 && self.findings == 0 && self.unknown == 0
    }
}

/// One environment in the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub environment: String,
    /// Whether others are compared with it.
    pub reference: bool,
    /// When it was read: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<String>,
    /// Why it could not be read; then nothing of it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// What was found of it: of the first one by itself, of the others beside the first one.
    pub levels: Vec<Proof>,
}

/// What may be said of one environment at one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Everything that was compared is right: that many facts.
    Right(u64),
    /// The first of several, without a finding of its own: the others are compared with it.
    Reference,
    /// How much is wrong, and how much could not be read.
    Wrong { findings: u64, unknown: u64 },
    /// There was nothing to look at.
    Nothing,
    /// The environment could not be read.
    Unknown,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Standing::Right(_) => f.write_str("ok"),
            Standing::Reference => f.write_str("reference"),
            Standing::Wrong { findings, unknown: 0 } => f.write_str(&plural_of(findings, "finding")),
            Standing::Wrong { findings: 0, unknown } => write!(f, "{unknown} unknown"),
            Standing::Wrong { findings, unknown } => write!(f, "{}, {unknown} unknown", plural_of(findings, "finding")),
            Standing::Nothing => f.write_str("-"),
            Standing::Unknown => f.write_str("unknown"),
        }
    }
}

impl Row {
    pub fn state(&self, level: Level) -> Standing {
        if self.unknown.is_some() {
            return Standing::Unknown;
        }
        match self.levels.iter().find(|proof| proof.level == level) {
            Some(Proof { findings, unknown, .. }) if findings + unknown > 0 => {
                Standing::Wrong { findings: *findings, unknown: *unknown }
            }
            _ if self.reference => Standing::Reference,
            Some(proof) if proof.compared > 0 => Standing::Right(proof.compared),
            _ => Standing::Nothing,
        }
    }
}

/// A difference that the spec declares, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct Declared {
    pub subject: String,
    pub class: Class,
    /// One for each environment that was read.
    pub values: Vec<Value>,
    /// The differences it comes from.
    pub because: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// Version of this form.
    pub format: u32,
    pub environments: Vec<String>,
    /// All environments together.
    pub levels: Vec<Proof>,
    /// Each environment; the others are compared with the first one.
    pub matrix: Vec<Row>,
    pub findings: Vec<Finding>,
    /// Findings that somebody accepted; they are not among the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<Accepted>,
    pub declared: Vec<Declared>,
    /// What the keys are like, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<shape::Shaped>,
    /// How long the probes take, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<pages::Latency>,
}

/// One environment as it is meant and as it is.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub want: &'a Desired,
    pub have: &'a Observed,
}

impl Verification {
    /// Whether something is found, and all of it on health pages: what passes by itself where a page only met a moment.
    pub fn is_of_health_alone(&self) -> bool {
        let of_health =
            |finding: &Finding| finding.subject.as_deref().is_some_and(|subject| subject.ends_with(" server.health"));
        !self.findings.is_empty() && self.findings.iter().all(of_health)
    }

    /// Of one environment that could not be read at all.
    pub fn of_unread(environment: &str, why: &str) -> Verification {
        let levels = LEVELS.map(Proof::none).into();
        let mut verification = Verification { format: 1, levels, ..Verification::default() };
        verification.unread(0, environment, why);
        verification
    }

    /// Takes in an environment that could not be read, at its place in the order.
    pub fn unread(&mut self, place: usize, environment: &str, why: &str) {
        let place = place.min(self.matrix.len());
        let row = Row {
            environment: environment.to_owned(),
            reference: false,
            read_at: None,
            unknown: Some(why.to_owned()),
            levels: Vec::new(),
        };
        self.matrix.insert(place, row);
        self.environments.insert(place, environment.to_owned());
    }

    /// When an environment was read.
    pub fn read_at(&mut self, environment: &str, time: &str) {
        for row in self.matrix.iter_mut().filter(|row| row.environment == environment) {
            row.read_at = Some(time.to_owned());
        }
        let seen = self.findings.iter_mut().filter_map(|finding| finding.seen.as_mut());
        for seen in seen.filter(|seen| seen.environment == environment) {
            seen.at = Some(time.to_owned());
        }
    }

    /// Sets apart what is accepted on this day.
    pub fn accept(&mut self, acceptances: &[Acceptance], today: Date) {
        self.accepted = acceptance::apply(acceptances, &mut self.findings, today);
        finding::sort(&mut self.findings);
        self.count();
    }

    /// Counts the findings of every level anew.
    fn count(&mut self) {
        let findings = &self.findings;
        let count = |level: Level, environment: Option<&str>, unknown: bool| {
            let of = findings.iter().filter(|finding| {
                let seen = finding.seen.as_ref().is_some_and(|seen| {
                    seen.level == level.as_str()
                        && environment.is_none_or(|environment| seen.environment == environment)
                });
                seen && (finding.rule == "unknown") == unknown
            });
            u64::try_from(of.count()).unwrap_or(u64::MAX)
        };
        for proof in &mut self.levels {
            (proof.findings, proof.unknown) = (count(proof.level, None, false), count(proof.level, None, true));
        }
        for row in &mut self.matrix {
            let environment = Some(row.environment.as_str());
            for proof in &mut row.levels {
                proof.findings = count(proof.level, environment, false);
                proof.unknown = count(proof.level, environment, true);
            }
        }
    }

    /// Environments of which nothing is known, and why.
    pub fn unknown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.matrix.iter().filter_map(|row| Some((row.environment.as_str(), row.unknown.as_deref()?)))
    }

    /// Whether everything that was read is right. `strict` also wants everything read, and nothing to warn of.
    pub fn is_right(&self, strict: bool) -> bool {
        match strict {
            true => self.findings.is_empty() && self.unknown().next().is_none(),
            false => !finding::has_errors(&self.findings),
        }
    }

    /// What came of it, in a few words.
    pub fn headline(&self) -> String {
        let read: Vec<&str> =
            self.matrix.iter().filter(|row| row.unknown.is_none()).map(|row| row.environment.as_str()).collect();
        let names = listed(&read);
        match (read.len(), self.errors()) {
            (1, 0) => format!("{names} is as the spec says"),
            (1, _) => format!("{names} is not as the spec says"),
            (_, 0) => format!("{names} match"),
            (_, _) => format!("{names} do not match"),
        }
    }

    /// How much of what was found, and what is unknown; nothing where there is nothing to say.
    pub fn counts(&self) -> String {
        let errors = self.errors();
        let counts = [
            (errors, "finding", ""),
            (self.findings.len() - errors, "warning", ""),
            (self.accepted.len(), "finding", " accepted"),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let mut said: Vec<String> = vec![
            counts.map(|(count, word, end)| format!("{}{end}", plural(count, word))).collect::<Vec<_>>().join(", "),
        ];
        let unknown: Vec<&str> = self.unknown().map(|(environment, _)| environment).collect();
        let verb = if unknown.len() == 1 { "is" } else { "are" };
        if !unknown.is_empty() {
            said.push(format!("{} {verb} unknown", listed(&unknown)));
        }
        said.retain(|part| !part.is_empty());
        said.join("; ")
    }

    /// Both in a sentence.
    pub fn verdict(&self) -> String {
        let (headline, counts) = (self.headline(), self.counts());
        if counts.is_empty() { headline } else { format!("{headline}: {counts}") }
    }

    /// How many findings are more than a warning.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

/// `staging, production and ci`
pub fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn plural_of(count: u64, word: &str) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), word)
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

//! The security checklist: facts in, results out.
//!
//! One file per chapter, each a table of checks. A check passes only on evidence: what could not be read is `unknown`, what
//! has nothing to look at is `not-applicable`, both with the reason. Nothing is read and no clock is asked in here.
//! The ids and what they stand for are described in `docs/audit.md`, and so is what is not checked.

mod accept;
mod data;
pub mod facts;
mod headers;
mod limits;
mod logging;
mod permissions;
mod secrets;

pub use accept::unknown_ids;

use crate::finding::{Finding, sort};
use crate::value::Date;
use facts::{Container, Facts, Inspect, Read};
use serde::Serialize;

/// The parts of the checklist, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chapter {
    Permissions,
    Secrets,
    Headers,
    UploadLimits,
    Logging,
    DataSafety,
    Acceptances,
}

impl Chapter {
    pub fn title(self) -> &'static str {
        match self {
            Chapter::Permissions => "permissions",
            Chapter::Secrets => "secrets",
            Chapter::Headers => "headers",
            Chapter::UploadLimits => "upload limits",
            Chapter::Logging => "logging",
            Chapter::DataSafety => "data safety",
            Chapter::Acceptances => "acceptances",
        }
    }

    /// A check of this chapter.
    const fn check(
        self,
        id: &'static str,
        severity: Severity,
        title: &'static str,
        look: fn(&Facts) -> Vec<Seen>,
        remedy: &'static str,
        references: &'static [&'static str],
    ) -> Check {
        Check { id, chapter: self, severity, title, remedy, references, look }
    }
}

/// How bad it is when a check fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The host or all data, with no further step.
    Critical,
    /// Needs a second flaw, or exposes secrets.
    High,
    /// A defence is missing.
    Medium,
    /// Hygiene.
    Low,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        }
    }
}

/// How a check ended for one subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Pass,
    Fail,
    Unknown,
    NotApplicable,
    /// It fails, and the spec says why that is good enough until a day that has not passed.
    Accepted,
}

/// One line of the checklist.
#[derive(Debug)]
pub struct Check {
    /// Stable: acceptances and reports name it.
    pub id: &'static str,
    pub chapter: Chapter,
    pub severity: Severity,
    /// What holds when it passes.
    pub title: &'static str,
    /// What to do when it fails.
    pub remedy: &'static str,
    /// `CIS Docker 1.6.0 5.5`, `ASVS 5.0 13.3.1`.
    pub references: &'static [&'static str],
    look: fn(&Facts) -> Vec<Seen>,
}

/// What a check saw of one subject.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    subject: String,
    verdict: Verdict,
    evidence: String,
}

impl Seen {
    fn new(subject: impl Into<String>, verdict: Verdict, evidence: impl Into<String>) -> Seen {
        Seen { subject: subject.into(), verdict, evidence: evidence.into() }
    }

    fn pass(subject: impl Into<String>, evidence: impl Into<String>) -> Seen {
        Seen::new(subject, Verdict::Pass, evidence)
    }

    fn fail(subject: impl Into<String>, evidence: impl Into<String>) -> Seen {
        Seen::new(subject, Verdict::Fail, evidence)
    }

    fn unknown(subject: impl Into<String>, why: impl Into<String>) -> Seen {
        Seen::new(subject, Verdict::Unknown, why)
    }

    fn idle(subject: impl Into<String>, why: impl Into<String>) -> Seen {
        Seen::new(subject, Verdict::NotApplicable, why)
    }

    /// Fails with what is wrong; passes with what was read where nothing is.
    fn judged(subject: impl Into<String>, wrong: Vec<String>, read: impl Into<String>) -> Seen {
        match wrong.is_empty() {
            true => Seen::pass(subject, read),
            false => Seen::fail(subject, some(&wrong)),
        }
    }
}

/// So many things are named; of more, the number.
const NAMED: usize = 6;

fn some(items: &[String]) -> String {
    let shown = items.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Every check there is, in the order of the checklist.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    let chapters =
        [permissions::CHECKS, secrets::CHECKS, headers::CHECKS, limits::CHECKS, logging::CHECKS, data::CHECKS];
    chapters.into_iter().flatten().chain(accept::CHECKS)
}

/// What a check came to for one subject.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    pub id: &'static str,
    pub chapter: Chapter,
    pub title: &'static str,
    pub severity: Severity,
    pub verdict: Verdict,
    /// A service, a network, a file, or the part of the project that was looked at.
    pub subject: String,
    /// What was read and from where; the reason where nothing was.
    pub evidence: String,
    pub remedy: &'static str,
    pub references: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// Why something that fails is left as it is, as the spec says.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Accepted {
    pub why: String,
    pub until: Date,
}

/// How many outcomes there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    pub pass: usize,
    pub fail: usize,
    pub unknown: usize,
    pub not_applicable: usize,
    pub accepted: usize,
}

/// The whole checklist of an environment.
#[derive(Clone, PartialEq, Debug)]
pub struct Audit {
    /// In the order of the checklist.
    pub outcomes: Vec<Outcome>,
    places: Vec<(usize, crate::value::Place)>,
}

/// Looks at the facts with every check, and then at what the spec accepts.
pub fn audit(facts: &Facts) -> Audit {
    let mut outcomes = Vec::new();
    for check in checks().filter(|check| check.chapter != Chapter::Acceptances) {
        outcomes.extend((check.look)(facts).into_iter().map(|seen| outcome(check, seen)));
    }
    let mut places = Vec::new();
    for (check, seen, place) in accept::accept(&facts.security.accept, facts.today, &mut outcomes) {
        places.push((outcomes.len(), place));
        outcomes.push(outcome(check, seen));
    }
    // Whatever a check quotes, no secret goes further than this.
    for outcome in &mut outcomes {
        outcome.evidence = secrets::concealed(facts, &outcome.evidence);
    }
    Audit { outcomes, places }
}

fn outcome(check: &'static Check, seen: Seen) -> Outcome {
    Outcome {
        id: check.id,
        chapter: check.chapter,
        title: check.title,
        severity: check.severity,
        verdict: seen.verdict,
        subject: seen.subject,
        evidence: seen.evidence,
        remedy: check.remedy,
        references: check.references,
        accepted: None,
    }
}

impl Audit {
    pub fn counts(&self) -> Counts {
        let of = |verdict: Verdict| self.outcomes.iter().filter(|outcome| outcome.verdict == verdict).count();
        Counts {
            pass: of(Verdict::Pass),
            fail: of(Verdict::Fail),
            unknown: of(Verdict::Unknown),
            not_applicable: of(Verdict::NotApplicable),
            accepted: of(Verdict::Accepted),
        }
    }

    /// Whether nothing fails; `strict` wants nothing unknown either.
    pub fn is_fine(&self, strict: bool) -> bool {
        let counts = self.counts();
        counts.fail == 0 && !(strict && counts.unknown > 0)
    }

    /// What fails, as findings: the rule is the id of the check, an error where it is critical or high.
    pub fn findings(&self) -> Vec<Finding> {
        let failing = self.outcomes.iter().enumerate().filter(|(_, outcome)| outcome.verdict == Verdict::Fail);
        let mut findings: Vec<Finding> = failing
            .map(|(at, outcome)| {
                let message = format!("{}: {}", outcome.subject, outcome.evidence);
                let finding = match outcome.severity {
                    Severity::Critical | Severity::High => Finding::error(outcome.id, message),
                    Severity::Medium | Severity::Low => Finding::warning(outcome.id, message),
                };
                let finding =
                    finding.about(&outcome.subject).sides(outcome.title, &outcome.evidence).help(outcome.remedy);
                match self.places.iter().find(|(of, _)| *of == at) {
                    Some((_, place)) => finding.at(place),
                    None => finding,
                }
            })
            .collect();
        sort(&mut findings);
        findings
    }
}

/// Looks at every container that the engine could describe; of the others nothing is known.
fn each(facts: &Facts, look: impl Fn(&str, &Container, &Inspect) -> Seen) -> Vec<Seen> {
    let containers = facts.containers.iter();
    containers
        .map(|(name, container)| match &container.inspect {
            Ok(inspect) => look(name, container, inspect),
            Err(why) => Seen::unknown(name, why),
        })
        .collect()
}

/// The same where something that may not have been read is looked at; the reason where there is none to look at.
fn each_read<'f, T: 'f>(
    facts: &'f Facts,
    of: impl Fn(&'f Container) -> Option<&'f Read<T>>,
    none: &str,
    look: impl Fn(&str, &Container, &T) -> Seen,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (name, container) in &facts.containers {
        seen.extend(of(container).map(|read| match read {
            Ok(read) => look(name, container, read),
            Err(why) => Seen::unknown(name, why),
        }));
    }
    if seen.is_empty() { vec![Seen::idle("services", none)] } else { seen }
}

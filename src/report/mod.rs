//! What a command found, as a page for people or a file for other tools: one file for each form.
//!
//! Pure: a [`Report`] goes in and text comes out. Every text in it may come from outside, so each form escapes all of
//! them. Values of secrets never get here: they are hidden where findings are made.

pub mod chart;
pub mod escape;
pub mod html;
pub mod junit;
pub mod markdown;
mod rules;
pub mod sarif;
mod style;

use crate::acceptance::Accepted;
use crate::finding::Finding;
use crate::ledger::note::shell;
use crate::ledger::{Entry, Outcome};
use crate::measure::{Expectation, Measure};
use crate::parity::shape::Shaped;
use crate::parity::{Declared, Row, Standing, Verification};

/// More findings than this no page shows; `--json` has them all.
const SHOWN: usize = 500;

/// A form that a report can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Junit,
    Sarif,
    Markdown,
    Html,
}

/// How it went, for the one sign that everybody looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Right,
    Wrong,
    /// Nothing that was seen is wrong, and not everything was seen.
    Unknown,
}

impl Mood {
    fn sign(self) -> &'static str {
        match self {
            Mood::Right => "✓",
            Mood::Wrong => "✗",
            Mood::Unknown => "?",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Mood::Right => "right",
            Mood::Wrong => "wrong",
            Mood::Unknown => "unknown",
        }
    }
}

/// Everything that a report shows.
#[derive(Clone, Debug)]
pub struct Report {
    pub stack: String,
    /// What was done to find out, `lockstep verify staging production`.
    pub command: String,
    pub mood: Mood,
    /// What came of it, in a few words.
    pub headline: String,
    /// What else is to be said of that; may be empty.
    pub note: String,
    /// When it was made: RFC 3339, UTC.
    pub at: String,
    /// Whether a warning counts like an error.
    pub strict: bool,
    /// What is worth knowing beside it, by name.
    pub facts: Vec<(&'static str, String)>,
    pub matrix: Vec<Row>,
    pub findings: Vec<Finding>,
    pub accepted: Vec<Accepted>,
    pub declared: Vec<Declared>,
    /// What the keys of each server are like.
    pub shapes: Vec<Shaped>,
    pub measures: Vec<Measure>,
    pub expectations: Vec<Expectation>,
    /// What was done, a line each, and whether it did what it should.
    pub steps: Vec<(String, bool)>,
}

impl Report {
    /// Of a comparison; `at` is the time at which it ended.
    pub fn of_verification(verification: &Verification, stack: &str, strict: bool, at: &str) -> Report {
        let unknown = verification.unknown().next().is_some();
        let mood = match (verification.is_right(strict), unknown) {
            (true, false) => Mood::Right,
            (true, true) => Mood::Unknown,
            (false, _) if verification.is_right(false) && verification.findings.is_empty() => Mood::Unknown,
            (false, _) => Mood::Wrong,
        };
        Report {
            stack: stack.to_owned(),
            command: format!("lockstep verify {}", verification.environments.join(" ")),
            mood,
            headline: verification.headline(),
            note: verification.counts(),
            at: at.to_owned(),
            strict,
            facts: Vec::new(),
            matrix: verification.matrix.clone(),
            findings: verification.findings.clone(),
            accepted: verification.accepted.clone(),
            declared: verification.declared.clone(),
            shapes: verification.shapes.clone(),
            measures: Vec::new(),
            expectations: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Of a change, from its record. A change whose begin cannot be read has nothing to say but that.
    pub fn of_change(entry: &Entry) -> Report {
        let (begin, end) = (entry.begin.clone().unwrap_or_default(), entry.end.clone().unwrap_or_default());
        let mood = match entry.end.as_ref().map(|end| end.outcome) {
            Some(Outcome::Done) => Mood::Right,
            Some(_) => Mood::Wrong,
            None => Mood::Unknown,
        };
        let reason = match begin.reason.trim() {
            "" if entry.begin.is_none() => "a change whose record cannot be read",
            "" => "a change without a reason",
            reason => reason,
        };
        Report {
            stack: begin.stack.clone(),
            command: format!("change {} of {}", entry.number, begin.environment),
            mood,
            headline: reason.to_owned(),
            note: entry.outcome().to_owned(),
            at: begin.at.clone(),
            strict: false,
            facts: facts(entry),
            matrix: Vec::new(),
            findings: Vec::new(),
            accepted: Vec::new(),
            declared: Vec::new(),
            shapes: Vec::new(),
            measures: end.measures.clone(),
            expectations: end.expectations.clone(),
            steps: steps(entry),
        }
    }

    /// The report in one of its forms.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Junit => junit::junit(self),
            Form::Sarif => sarif::sarif(self),
            Form::Markdown => markdown::markdown(self),
            Form::Html => html::html(self),
        }
    }

    /// Headline and note in a sentence.
    fn verdict(&self) -> String {
        if self.note.is_empty() { self.headline.clone() } else { format!("{}: {}", self.headline, self.note) }
    }

    /// Environments of which nothing is known, and why.
    fn unknown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.matrix.iter().filter_map(|row| Some((row.environment.as_str(), row.unknown.as_deref()?)))
    }
}

/// What a change was, from its record.
fn facts(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(problem) = &entry.problem {
        facts.push(("Record", problem.clone()));
    }
    let Some(begin) = &entry.begin else { return facts };
    facts.push(("Environment", format!("{} of {}", begin.environment, begin.stack)));
    facts.push(("By", begin.who.to_string()));
    facts.push(("Command", shell(&begin.command)));
    let Some(end) = &entry.end else { return facts };
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    facts.extend(end.elapsed_ms.map(|took| ("Took", seconds(took))));
    facts.extend(end.downtime_ms.map(|down| ("Without an answer", format!("{down} ms"))));
    facts.extend(end.writes_paused_ms.map(|paused| ("Writes paused", format!("{paused} ms"))));
    facts.extend(end.backups.iter().map(|backup| ("Backup", format!("{} ({})", backup.id, backup.proven))));
    facts.extend(end.verification.clone().map(|found| ("Looked at afterwards", found)));
    facts.extend(end.watched.clone().map(|seen| ("Watched", seen)));
    facts.extend(end.problem.clone().map(|problem| ("What went wrong", problem)));
    facts.extend(end.hand_steps.iter().map(|step| ("To be done by hand", step.clone())));
    facts
}

/// The steps as they went, or as they were meant.
fn steps(entry: &Entry) -> Vec<(String, bool)> {
    let actions = entry.end.as_ref().map(|end| end.actions.as_slice()).unwrap_or_default();
    if actions.is_empty() {
        let meant = entry.begin.as_ref().map(|begin| begin.steps.as_slice()).unwrap_or_default();
        return meant.iter().map(|step| (step.clone(), true)).collect();
    }
    let line = |action: &crate::ledger::Performed| match action.outcome.as_str() {
        "" => action.summary.clone(),
        outcome => format!("{}: {outcome}", action.summary),
    };
    actions.iter().map(|action| (line(action), !action.failed)).collect()
}

/// `2026-11-23 05:12:00 UTC` of a time in UTC.
fn moment(at: &str) -> String {
    let plain = at.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ");
    if plain.is_empty() { "unknown".to_owned() } else { format!("{plain} UTC") }
}

/// The class by which a page draws a cell.
fn mood_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Right(_) => "right",
        Standing::Reference | Standing::Nothing => "quiet",
        Standing::Wrong { findings: 0, .. } | Standing::Unknown => "unknown",
        Standing::Wrong { .. } => "wrong",
    }
}

//! The checklist of an audit, as text and as JSON.

use crate::audit::{Audit, Chapter, Outcome, Verdict};
use crate::finding::Finding;
use crate::model::Environment;
use crate::ui::text::{plural, printable};
use serde::Serialize;
use std::fmt::Write as _;

/// What `audit --json` says.
#[derive(Debug, Serialize)]
pub struct Checklist<'a> {
    pub format: u32,
    pub environment: &'a str,
    /// Whether nothing fails; with `--strict`, whether nothing is unknown either.
    pub ok: bool,
    pub strict: bool,
    pub counts: crate::audit::Counts,
    pub checks: &'a [Outcome],
    /// What fails.
    pub findings: Vec<Finding>,
}

pub fn json<'a>(environment: &'a str, audit: &'a Audit, strict: bool) -> Checklist<'a> {
    Checklist {
        format: 1,
        environment,
        ok: audit.is_fine(strict),
        strict,
        counts: audit.counts(),
        checks: &audit.outcomes,
        findings: audit.findings(),
    }
}

/// Chapter by chapter, a line for each check and subject; of what fails, what to do as well.
pub fn text(environment: &Environment, audit: &Audit) -> String {
    let counts = audit.counts();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "audit of {} of {}: {} passed, {} failed, {} unknown, {} not applicable, {} accepted",
        environment.name,
        environment.stack,
        counts.pass,
        counts.fail,
        counts.unknown,
        counts.not_applicable,
        counts.accepted
    );
    let mut chapter = None;
    for outcome in &audit.outcomes {
        if chapter != Some(outcome.chapter) {
            chapter = Some(outcome.chapter);
            let _ = writeln!(text, "\n{}", heading(outcome.chapter, audit));
        }
        line(&mut text, outcome);
    }
    printable(&text)
}

fn heading(chapter: Chapter, audit: &Audit) -> String {
    let failed = audit.outcomes.iter().filter(|outcome| outcome.chapter == chapter && outcome.verdict == Verdict::Fail);
    match failed.count() {
        0 => chapter.title().to_owned(),
        count => format!("{} ({} failed)", chapter.title(), plural(count, "check")),
    }
}

fn line(text: &mut String, outcome: &Outcome) {
    let word = match outcome.verdict {
        Verdict::Pass => "ok",
        Verdict::Fail => "FAIL",
        Verdict::Unknown => "?",
        Verdict::NotApplicable => "-",
        Verdict::Accepted => "accepted",
    };
    let Outcome { id, severity, subject, evidence, title, remedy, references, .. } = outcome;
    let _ = writeln!(text, "  {word:<8}  {id}  {:<8}  {subject}: {evidence}", severity.as_str());
    if let Some(accepted) = &outcome.accepted {
        let _ = writeln!(text, "            until {}: {}", accepted.until, accepted.why);
    }
    if outcome.verdict == Verdict::Fail {
        let _ = writeln!(text, "            wanted: {title}");
        let _ = writeln!(text, "            help: {remedy}");
        if !references.is_empty() {
            let _ = writeln!(text, "            see {}", references.join(", "));
        }
    }
}

//! A finding: something a person should look at, about what was given or what was seen.
//!
//! Findings are collected and all shown; they are the normal result of `check` and `verify`.
//! What lockstep could not do is a `Failure` instead.

use crate::value::Place;
use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A short stable name, such as `unknown-key`.
    pub rule: &'static str,
    pub message: String,
    /// Where it was written, when a file is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What it is about: a key path in the spec, or a resource and its field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Where and when it was seen, when it was seen in an environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Box<Seen>>,
}

/// Where a finding comes from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Seen {
    pub environment: String,
    /// How deep it lies: `spec`, `bytes`, `image`, `container`, `process`.
    pub level: &'static str,
    /// Who said so.
    pub source: &'static str,
    /// When the environment was read: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Since when it is so, as far as anybody tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl Finding {
    fn new(severity: Severity, rule: &'static str, message: String) -> Finding {
        Finding {
            severity,
            rule,
            message,
            place: None,
            subject: None,
            expected: None,
            observed: None,
            help: None,
            seen: None,
        }
    }

    pub fn error(rule: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, rule, message.into())
    }

    pub fn warning(rule: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, rule, message.into())
    }

    pub fn note(rule: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, rule, message.into())
    }

    #[must_use]
    pub fn at(mut self, place: &Place) -> Finding {
        self.place = Some(place.clone());
        self
    }

    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Finding {
        self.subject = Some(subject.into());
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn seen(mut self, seen: Seen) -> Finding {
        self.seen = Some(Box::new(seen));
        self
    }

    #[must_use]
    pub fn sides(mut self, expected: impl Into<String>, observed: impl Into<String>) -> Finding {
        self.expected = Some(expected.into());
        self.observed = Some(observed.into());
        self
    }
}

/// The order findings are shown in: by place, then by what they are about, worst first.
pub fn sort(findings: &mut [Finding]) {
    findings
        .sort_by(|a, b| (&a.place, &a.subject, a.severity, a.rule).cmp(&(&b.place, &b.subject, b.severity, b.rule)));
}

pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// `did you mean ...?` for a name that is near one of those that would have been right.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(written.len()) / 4)
        .min_by_key(|(distance, name)| (*distance, *name))
        .map(|(_, name)| name)
}

//! Findings that somebody accepted: for a reason, and until a day.
//!
//! Pure: which day it is comes from the edge. What nobody could read is accepted by nobody, and neither is a mistake in
//! the acceptances themselves: one that has expired and one that fits nothing are findings.

use crate::finding::Finding;
use crate::value::{Date, Glob, Located};
use serde::Serialize;

/// The rule of findings about acceptances.
pub const RULE: &str = "acceptance";

/// One entry of an `accept:`.
#[derive(Clone, PartialEq, Debug)]
pub struct Acceptance {
    /// The subject or the rule of what is accepted; `*` stands for any text.
    pub what: Located<String>,
    pub why: String,
    /// The last day on which it holds.
    pub until: Date,
}

/// A finding that is known and accepted.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Accepted {
    pub finding: Finding,
    /// The acceptance, as it was written.
    pub by: String,
    pub why: String,
    pub until: Date,
}

impl Acceptance {
    /// Whether it means this finding, whatever the day.
    pub fn fits(&self, finding: &Finding) -> bool {
        let glob = Glob::new(only_stars(&self.what.value).as_bytes());
        let names = [finding.subject.as_deref(), Some(finding.rule)];
        acceptable(finding) && names.into_iter().flatten().any(|name| glob.matches(name.as_bytes()))
    }

    pub fn expired(&self, today: Date) -> bool {
        self.until < today
    }
}

/// Takes out of the findings what is accepted today, by the first acceptance that fits, and adds a finding for each
/// acceptance that has expired (an error) or that fits nothing (a warning: what it accepted is gone, or was never there).
pub fn apply(acceptances: &[Acceptance], findings: &mut Vec<Finding>, today: Date) -> Vec<Accepted> {
    let mut accepted = Vec::new();
    let mut open = Vec::new();
    let mut used = vec![false; acceptances.len()];
    for finding in findings.drain(..) {
        let mut by = None;
        for (acceptance, used) in acceptances.iter().zip(&mut used).filter(|(acceptance, _)| acceptance.fits(&finding))
        {
            *used = true;
            if !acceptance.expired(today) {
                by = by.or(Some(acceptance));
            }
        }
        match by {
            None => open.push(finding),
            Some(Acceptance { what, why, until }) => {
                accepted.push(Accepted { finding, by: what.value.clone(), why: why.clone(), until: *until });
            }
        }
    }
    for (acceptance, used) in acceptances.iter().zip(used) {
        open.extend(complaint(acceptance, used, today));
    }
    *findings = open;
    accepted
}

/// What is wrong with an acceptance itself.
fn complaint(acceptance: &Acceptance, used: bool, today: Date) -> Option<Finding> {
    let (what, until) = (&acceptance.what.value, acceptance.until);
    let finding = match (acceptance.expired(today), used) {
        (true, true) => Finding::error(RULE, format!("`{what}` was accepted until {until}, and is still there"))
            .help(format!("put it right, or accept it until a later day; the reason was: {}", acceptance.why)),
        (true, false) => {
            Finding::error(RULE, format!("`{what}` was accepted until {until}, and nothing like it is found"))
                .help("take the acceptance out")
        }
        (false, false) => Finding::warning(RULE, format!("`{what}` is accepted, and nothing like it is found"))
            .help("take the acceptance out, unless it is for another comparison"),
        (false, true) => return None,
    };
    Some(finding.at(&acceptance.what.place).about(what))
}

fn acceptable(finding: &Finding) -> bool {
    !["unknown", RULE].contains(&finding.rule)
}

/// The pattern with every sign but `*` meant as it stands.
fn only_stars(pattern: &str) -> String {
    let mut escaped = String::new();
    for c in pattern.chars() {
        if matches!(c, '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

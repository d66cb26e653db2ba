//! What the spec accepts: it counts until its day has passed, and one that nothing needs is said.

use super::{Accepted, Chapter, Check, Outcome, Seen, Severity, Verdict, checks};
use crate::finding::{Finding, nearest};
use crate::model::security::Acceptance;
use crate::spec::Spec;
use crate::value::{Date, Place};

const EXPIRED: Check = Check {
    id: "ACC-01",
    chapter: Chapter::Acceptances,
    severity: Severity::Medium,
    title: "no acceptance is older than it was meant to be",
    remedy: "put right what was accepted, or decide anew: write another `until` and why it still holds",
    references: &[],
    look: |_| Vec::new(),
};

const UNUSED: Check = Check {
    id: "ACC-02",
    chapter: Chapter::Acceptances,
    severity: Severity::Low,
    title: "every acceptance is needed",
    remedy: "take the entry out of `security.accept`: it would hide the next failure of the check",
    references: &[],
    look: |_| Vec::new(),
};

pub(super) const CHECKS: &[Check] = &[EXPIRED, UNUSED];

/// Marks what fails and is accepted, and says what is wrong with the acceptances, each at its place.
pub(super) fn accept(
    accepted: &[Acceptance],
    today: Date,
    outcomes: &mut [Outcome],
) -> Vec<(&'static Check, Seen, Place)> {
    let [expired, unused] = CHECKS else { return Vec::new() };
    let mut seen = Vec::new();
    for acceptance in accepted {
        let subject = match &acceptance.service {
            Some(service) => format!("{} of {service}", acceptance.id),
            None => acceptance.id.clone(),
        };
        let place = acceptance.place.clone();
        let covered = outcomes.iter_mut().filter(|outcome| {
            outcome.id == acceptance.id
                && outcome.verdict == Verdict::Fail
                && acceptance.service.as_ref().is_none_or(|service| service.as_str() == outcome.subject)
        });
        let covered: Vec<&mut Outcome> = covered.collect();
        if covered.is_empty() {
            let evidence = format!("the check does not fail, and {place} accepts that it does");
            seen.push((unused, Seen::fail(subject, evidence), place));
            continue;
        }
        if acceptance.until < today {
            let evidence = format!("{place} accepts it until {}, and today is {today}", acceptance.until);
            seen.push((expired, Seen::fail(subject, evidence), place));
            continue;
        }
        for outcome in covered {
            outcome.verdict = Verdict::Accepted;
            outcome.accepted = Some(Accepted { why: acceptance.why.clone(), until: acceptance.until });
        }
        seen.push((expired, Seen::pass(subject, format!("{place} accepts it until {}", acceptance.until)), place));
    }
    seen
}

/// Says which ids of `security.accept` no check has.
pub fn unknown_ids(spec: &Spec, findings: &mut Vec<Finding>) {
    let known: Vec<&str> =
        checks().filter(|check| check.chapter != Chapter::Acceptances).map(|check| check.id).collect();
    for accept in spec.security.iter().flat_map(|security| &security.accept) {
        let id = accept.id.value.as_str();
        if known.contains(&id) {
            continue;
        }
        let help = match nearest(id, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`lockstep audit` shows the id of each check".to_owned(),
        };
        let message = format!("there is no check `{id}`");
        findings.push(Finding::error("unknown-check", message).at(&accept.id.place).help(help));
    }
}

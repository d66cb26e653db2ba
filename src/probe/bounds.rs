//! What a capture shows that the spec does not want: bounds of probes, and rules for keys.

use crate::finding::{Finding, Severity};
use crate::measure::Unit;
use crate::model::Environment;
use crate::model::behaviour::{Ask, KeyRule, Lifetime, Probe};
use crate::probe::{Broken, Capture, Counted, Probed};
use crate::value::Span;

/// Everything in a capture that breaks what the spec says, and what could not be looked at.
///
/// A time beyond its bound is an error when its whole interval is, and a warning when chance may have put it there.
pub fn violations(capture: &Capture, environment: &Environment) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, probe) in &environment.probes {
        let Some(probed) = capture.probes.get(name) else { continue };
        probed_well(&mut findings, probe, probed);
    }
    for (name, served) in &capture.servers {
        if let Some(problem) = &served.problem {
            let message = format!("{name} could not be asked what it does: {problem}");
            findings.push(Finding::error("not-measured", message).about(format!("container/{name}")));
        }
    }
    for rule in &environment.keys {
        let Some(counted) = capture.keys.get(rule.on.as_str()) else { continue };
        kept_well(&mut findings, rule, counted);
    }
    for (name, counted) in &capture.keys {
        if let Some(problem) = &counted.problem {
            let message = format!("the keys of {name} could not be counted: {problem}");
            findings.push(Finding::error("not-measured", message).about(format!("keys {name}")));
        }
        if counted.unruled > 0 {
            let prefixes: Vec<String> =
                counted.unruled_prefixes.iter().map(|(prefix, keys)| format!("`{prefix}` ({keys})")).collect();
            let message = format!("{} of {name} match no rule: {}", keys_of(counted.unruled), prefixes.join(", "));
            let help = "add a rule under `keys:`, so that it is known what they are and how long they live";
            findings.push(Finding::warning("keys-without-rule", message).about(format!("keys {name}")).help(help));
        }
    }
    findings
}

/// What a change can be blamed for: of what is wrong after it, what was not wrong before.
///
/// What did not run before was not wrong, it was not there. What nobody could count before is told, and no reason to take the
/// change back.
pub fn blamed(before: &Capture, after: &Capture, environment: &Environment) -> Vec<Finding> {
    let ran = |service: &str| before.lives.get(service).is_some_and(|life| life.running);
    let mut seen = before.clone();
    seen.probes.retain(|name, _| environment.probes.get(name).is_some_and(|probe| ran(probe.on.as_str())));
    seen.servers.retain(|service, _| ran(service));
    let was_wrong = violations(&seen, environment);
    let known = |finding: &Finding| {
        was_wrong.iter().any(|other| {
            other.rule == finding.rule && other.subject == finding.subject && other.severity <= finding.severity
        })
    };
    let mut findings: Vec<Finding> =
        violations(after, environment).into_iter().filter(|finding| !known(finding)).collect();
    let counted = |service: &str| before.keys.get(service).is_some_and(|counted| counted.problem.is_none());
    let mut uncounted = Capture { keys: after.keys.clone(), ..Capture::default() };
    // What was not there at all held nothing before.
    let was_there = |service: &str| before.lives.get(service).is_some_and(|life| !life.id.is_empty());
    uncounted.keys.retain(|service, _| was_there(service) && !counted(service));
    let uncounted = violations(&uncounted, environment);
    for finding in findings.iter_mut().filter(|finding| uncounted.contains(finding)) {
        finding.severity = Severity::Warning;
        finding.help = Some("the keys were not counted before the change, so it may have been so all along".to_owned());
    }
    findings
}

fn keys_of(count: u64) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}

fn probed_well(findings: &mut Vec<Finding>, probe: &Probe, probed: &Probed) {
    let name = &probe.name;
    if let Some(problem) = &probed.problem {
        let message = format!("probe `{name}`: {problem}");
        findings.push(Finding::error("probe-failed", message).at(&probe.place).about(format!("probe {name}")));
    }
    if let Ask::Http { status: Some(wanted), .. } = &probe.ask {
        let others: Vec<String> = probed
            .statuses
            .iter()
            .filter(|(status, _)| **status != wanted.value)
            .map(|(status, count)| format!("{status} ({count} times)"))
            .collect();
        if !others.is_empty() {
            let message = format!("probe `{name}` answers with {}, and not {}", others.join(", "), wanted.value);
            let finding = Finding::error("probe-status", message).at(&wanted.place).about(format!("status({name})"));
            findings.push(finding.sides(wanted.value.to_string(), others.join(", ")));
        }
    }
    if let Ask::Http { headers, .. } = &probe.ask {
        for (header, wanted) in headers {
            let seen = probed.headers.get(header).into_iter().flatten();
            let others: Vec<&str> = seen.filter(|seen| **seen != wanted.value).map(String::as_str).collect();
            if others.is_empty() {
                continue;
            }
            let list: Vec<String> = others
                .iter()
                .map(|seen| if seen.is_empty() { "nothing".to_owned() } else { format!("`{seen}`") })
                .collect();
            let message = format!("probe `{name}` has {} in `{header}`, and not `{}`", list.join(", "), wanted.value);
            let finding = Finding::error("probe-header", message).at(&wanted.place);
            findings.push(finding.about(format!("header({name} {header})")).sides(&wanted.value, list.join(", ")));
        }
    }
    let times = probed.times();
    for bound in &probe.bounds {
        let Some(sample) = times.percentile(f64::from(bound.percent) / 100.0) else { continue };
        let most = bound.most_ms.value;
        if sample.value <= most {
            continue;
        }
        let (about, limit) = (|value| Unit::Milliseconds.about(value), Unit::Milliseconds.exact(most));
        let measure = format!("p{}({name})", bound.percent);
        let spread = format!("{} to {}, {} times", about(sample.low), about(sample.high), times.count());
        let finding = if sample.low > most {
            Finding::error("probe-bound", format!("{measure} is {} ({spread}), above {limit}", about(sample.value)))
        } else {
            let message = format!("{measure} is {} ({spread}), which may be above {limit}", about(sample.value));
            Finding::warning("probe-bound", message)
        };
        findings.push(finding.at(&bound.most_ms.place).about(measure).sides(limit, about(sample.value)));
    }
}

fn kept_well(findings: &mut Vec<Finding>, rule: &KeyRule, counted: &Counted) {
    let Some(count) = counted.rules.get(&rule.pattern) else { return };
    let most = rule
        .lifetime
        .and_then(|lifetime: Lifetime| lifetime.most)
        .map_or_else(String::new, |most: Span| most.to_string());
    let kind = rule.kind.clone().unwrap_or_default();
    let ways: [(&'static str, &Broken, String); 3] = [
        ("key-type", &count.wrong_type, format!("of another type than {kind}")),
        ("key-expiry", &count.endless, "without an expiry".to_owned()),
        ("key-expiry", &count.too_long, format!("with more than {most} left to live")),
    ];
    for (name, broken, how) in ways.into_iter().filter(|(_, broken, _)| broken.keys > 0) {
        let prefixes: Vec<String> = broken.prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
        let message = format!("{} of `{}` {how}: {}", keys_of(broken.keys), rule.pattern, prefixes.join(", "));
        let subject = format!("keys({}) {how}", rule.pattern);
        findings.push(Finding::error(name, message).at(&rule.place).about(subject));
    }
}

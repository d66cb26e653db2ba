//! SARIF 2.1.0, for viewers that show findings beside the lines they point at.

use crate::acceptance::Accepted;
use crate::finding::{Finding, Severity};
use crate::report::escape::{clean, uri};
use crate::report::{Mood, Report, rules};
use crate::value::{Digest, Place};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
const STACK: &str = "environments/stack.yaml";

/// One result before its rule has a number.
struct Found<'r> {
    rule: &'r str,
    finding: Option<&'r Finding>,
    message: String,
    level: &'static str,
    place: Option<&'r Place>,
    /// The file that it is about where it has no place.
    file: String,
    subject: &'r str,
    environment: &'r str,
    accepted: Option<&'r Accepted>,
}

/// The report as JSON.
pub fn sarif(report: &Report) -> String {
    let mut found: Vec<Found<'_>> = report.findings.iter().map(|finding| of_finding(finding, None)).collect();
    found.extend(report.accepted.iter().map(|accepted| of_finding(&accepted.finding, Some(accepted))));
    found.extend(report.unknown().map(|(environment, why)| of_unknown(environment, why)));
    let names: BTreeSet<&str> = found.iter().map(|found| found.rule).collect();
    let rules: Vec<Value> = names.iter().map(|name| rule(name)).collect();
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    let results: Vec<Value> = found
        .iter()
        .map(|found| {
            let index = names.iter().position(|name| *name == found.rule).unwrap_or(0);
            result(found, index, &mut known)
        })
        .collect();
    let mut invocation =
        json!({ "executionSuccessful": report.unknown().next().is_none(), "commandLine": clean(&report.command) });
    if let (Some(fields), true) = (invocation.as_object_mut(), report.at.ends_with('Z')) {
        fields.insert("endTimeUtc".to_owned(), json!(report.at));
    }
    let version = env!("CARGO_PKG_VERSION");
    let driver = json!({ "name": "lockstep", "version": version, "semanticVersion": version, "rules": rules });
    let verdict = json!({ "verdict": clean(&report.verdict()), "right": report.mood == Mood::Right });
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "columnKind": "unicodeCodePoints",
            "automationDetails": { "id": format!("lockstep/verify/{}", clean(&report.stack)) },
            "invocations": [invocation],
            "results": results,
            "properties": verdict,
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).unwrap_or_default();
    text.push('\n');
    text
}

fn of_finding<'r>(finding: &'r Finding, accepted: Option<&'r Accepted>) -> Found<'r> {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let environment = finding.seen.as_ref().map_or("", |seen| seen.environment.as_str());
    let mut message = plain(&finding.message);
    if let Some(help) = &finding.help {
        message.push_str(&format!(". {}", plain(help)));
    }
    let subject = finding.subject.as_deref().unwrap_or(&finding.message);
    let place = finding.place.as_ref();
    Found {
        rule: finding.rule,
        finding: Some(finding),
        message,
        level,
        place,
        file: STACK.to_owned(),
        subject,
        environment,
        accepted,
    }
}

/// A message without links: `[this](there)` is one in a message of SARIF.
fn plain(text: &str) -> String {
    clean(text).replace("](", "] (")
}

fn of_unknown<'r>(environment: &'r str, why: &str) -> Found<'r> {
    Found {
        rule: "unreachable",
        finding: None,
        message: plain(&format!("{environment} is unknown: {why}")),
        level: "warning",
        place: None,
        file: format!("environments/{environment}.yaml"),
        subject: environment,
        environment,
        accepted: None,
    }
}

fn rule(id: &str) -> Value {
    let rules::Rule { title, help } = rules::rule(id);
    json!({
        "id": id,
        "name": id,
        "shortDescription": { "text": title },
        "fullDescription": { "text": format!("{title}.") },
        "help": { "text": help },
    })
}

fn result(found: &Found<'_>, index: usize, known: &mut BTreeMap<String, u32>) -> Value {
    let (line, column) = found.place.map_or((1, 1), |place| (place.line.max(1), place.column.max(1)));
    let file = found.place.map_or(found.file.as_str(), |place| &place.file);
    let region = json!({ "startLine": line, "startColumn": column });
    // Neither the value nor the line is part of it, so that a finding is known again while both move.
    let identity =
        Digest::of(format!("{}\n{}\n{}", found.rule, found.environment, found.subject).as_bytes()).to_string();
    let times = known.entry(identity.clone()).or_insert(0);
    *times += 1;
    let mut result = json!({
        "ruleId": found.rule,
        "ruleIndex": index,
        "level": found.level,
        "message": { "text": found.message },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri(file) }, "region": region },
            "logicalLocations": [{ "fullyQualifiedName": clean(found.subject), "kind": "resource" }],
        }],
        "partialFingerprints": { "lockstepFinding/v1": format!("{identity}:{times}") },
        "properties": properties(found),
    });
    if let (Some(fields), Some(accepted)) = (result.as_object_mut(), found.accepted) {
        let why = format!("{} (until {})", clean(&accepted.why), accepted.until);
        let suppression = json!({ "kind": "external", "status": "accepted", "justification": why });
        fields.insert("suppressions".to_owned(), json!([suppression]));
    }
    result
}

fn properties(found: &Found<'_>) -> Value {
    let seen = found.finding.and_then(|finding| finding.seen.as_ref());
    let texts = [
        ("environment", Some(found.environment.to_owned())),
        ("depth", seen.map(|seen| seen.level.to_owned())),
        ("source", seen.map(|seen| seen.source.to_owned())),
        ("readAt", seen.and_then(|seen| seen.at.clone())),
        ("expected", found.finding.and_then(|finding| finding.expected.clone())),
        ("observed", found.finding.and_then(|finding| finding.observed.clone())),
    ];
    let texts =
        texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.filter(|value| !value.is_empty())?)));
    texts.map(|(name, value)| (name, json!(clean(&value)))).collect::<serde_json::Map<_, _>>().into()
}

//! JUnit XML: a suite for each environment, a case for each level of it.
//!
//! Written so that both common schemas take it: that of Ant's reports (Windy Road), which wants every attribute and the
//! three elements around the cases, and that of Jenkins, which wants the same names and is laxer.

use crate::finding::{Finding, Severity};
use crate::parity::{LEVELS, Level, Row, Standing};
use crate::report::escape::{clean, markup};
use crate::report::{Report, moment};
use std::fmt::Write as _;

/// The rule of a finding that says how a command ended which ran beside what was compared.
pub const COMMAND: &str = "command";
/// The suite of what belongs to no environment.
const OWN: &str = "spec";

/// One case and what came of it.
struct Case {
    name: String,
    result: Result,
}

enum Result {
    Passed,
    /// There was nothing to look at.
    Skipped,
    Failed {
        message: String,
        text: String,
    },
    /// It could not be found out.
    Errored {
        message: String,
        text: String,
    },
}

/// The report as XML.
pub fn junit(report: &Report) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for (id, row) in report.matrix.iter().enumerate() {
        suite(&mut xml, id, &row.environment, report, &cases(report, row), row.read_at.as_deref());
    }
    let own = report.findings.iter().filter(|finding| finding.seen.is_none());
    let (commands, own): (Vec<&Finding>, Vec<&Finding>) = own.partition(|finding| finding.rule == COMMAND);
    let result = failed(report, &own).unwrap_or(Result::Passed);
    let mut cases = vec![Case { name: "acceptances hold and are needed".to_owned(), result }];
    cases.extend(failed(report, &commands).map(|result| Case { name: "the command succeeds".to_owned(), result }));
    suite(&mut xml, report.matrix.len(), OWN, report, &cases, None);
    xml.push_str("</testsuites>\n");
    xml
}

fn suite(xml: &mut String, id: usize, name: &str, report: &Report, cases: &[Case], read_at: Option<&str>) {
    let count = |fits: fn(&Result) -> bool| cases.iter().filter(|case| fits(&case.result)).count();
    let _ = writeln!(
        xml,
        "  <testsuite id=\"{id}\" name=\"{name}\" package=\"{stack}\" timestamp=\"{at}\" hostname=\"localhost\" \
         tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"0\">",
        name = token(name),
        stack = token(&report.stack),
        at = markup(&timestamp(read_at.unwrap_or(&report.at))),
        tests = cases.len(),
        failures = count(|result| matches!(result, Result::Failed { .. })),
        errors = count(|result| matches!(result, Result::Errored { .. })),
        skipped = count(|result| matches!(result, Result::Skipped)),
    );
    let _ = writeln!(xml, "    <properties>");
    for (key, value) in [("verdict", report.verdict().as_str()), ("command", report.command.as_str())] {
        let _ = writeln!(xml, "      <property name=\"{key}\" value=\"{}\"/>", markup(value));
    }
    let _ = writeln!(xml, "    </properties>");
    let class = token(&format!("{}.{name}", report.stack));
    for Case { name, result } in cases {
        let _ = write!(xml, "    <testcase classname=\"{class}\" name=\"{}\" time=\"0\"", token(name));
        let (element, message, text) = match result {
            Result::Passed => {
                let _ = writeln!(xml, "/>");
                continue;
            }
            Result::Skipped => {
                let _ = writeln!(xml, "><skipped/></testcase>");
                continue;
            }
            Result::Failed { message, text } => ("failure", message, text),
            Result::Errored { message, text } => ("error", message, text),
        };
        let (message, text) = (markup(message), markup(text).replace("&#10;", "\n"));
        let kind = if element == "error" { "unknown" } else { "finding" };
        let _ = writeln!(
            xml,
            ">\n      <{element} type=\"{kind}\" message=\"{message}\">{text}</{element}>\n    </testcase>"
        );
    }
    let _ = writeln!(xml, "    <system-out>{}</system-out>", markup(&output(report, name)).replace("&#10;", "\n"));
    let _ = writeln!(xml, "    <system-err></system-err>\n  </testsuite>");
}

fn cases(report: &Report, row: &Row) -> Vec<Case> {
    let reference = report.matrix.first().filter(|first| first.reference && !row.reference);
    let case = |level: &Level| {
        let name = match reference {
            Some(reference) => format!("{}: as in {}", level.as_str(), reference.environment),
            None => format!("{}: as the spec says", level.as_str()),
        };
        Case { name, result: result(report, row, *level) }
    };
    LEVELS.iter().map(case).collect()
}

fn result(report: &Report, row: &Row, level: Level) -> Result {
    match row.state(level) {
        Standing::Right(_) | Standing::Reference => Result::Passed,
        Standing::Nothing => Result::Skipped,
        Standing::Unknown => {
            let why = row.unknown.clone().unwrap_or_default();
            Result::Errored { message: format!("{} could not be read", row.environment), text: why }
        }
        Standing::Wrong { .. } => {
            let of = report.findings.iter().filter(|finding| {
                let seen = finding.seen.as_ref();
                seen.is_some_and(|seen| seen.environment == row.environment && seen.level == level.as_str())
            });
            failed(report, &of.collect::<Vec<_>>()).unwrap_or(Result::Passed)
        }
    }
}

/// Findings as one result: an error where none of them is more than unknown. A case fails of what makes the command fail;
/// what is only warned of stands in the output of its suite.
fn failed(report: &Report, findings: &[&Finding]) -> Option<Result> {
    let findings: Vec<&Finding> = findings.iter().copied().filter(|finding| counts(report, finding)).collect();
    let first = findings.iter().find(|finding| finding.rule != "unknown").or(findings.first())?;
    let message = match findings.len() {
        1 => first.message.clone(),
        many => format!("{} (and {} more)", first.message, many - 1),
    };
    let text = findings.iter().map(|finding| block(finding)).collect::<Vec<_>>().join("\n");
    Some(match first.rule {
        "unknown" => Result::Errored { message, text },
        _ => Result::Failed { message, text },
    })
}

fn counts(report: &Report, finding: &Finding) -> bool {
    report.strict || finding.severity == Severity::Error
}

/// All that is known of a finding, in lines.
fn block(finding: &Finding) -> String {
    let mut text = format!("[{}] {}\n", finding.rule, finding.message);
    let seen = finding.seen.as_ref();
    let seen = seen.map(|seen| format!("{}, {}", seen.source, seen.at.as_deref().map(moment).unwrap_or_default()));
    let place = finding.place.as_ref().map(ToString::to_string);
    let lines = [
        ("expected", &finding.expected),
        ("observed", &finding.observed),
        ("read from", &seen),
        ("written at", &place),
        ("help", &finding.help),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name}: {}", value.trim_end_matches(", "));
        }
    }
    text
}

/// What a suite says beside its cases: what is accepted, and what is only warned of.
fn output(report: &Report, suite: &str) -> String {
    let is_of = |finding: &Finding| match &finding.seen {
        Some(seen) => seen.environment == suite,
        None => suite == OWN,
    };
    let accepted = report.accepted.iter().filter(|accepted| is_of(&accepted.finding));
    let accepted = accepted.map(|accepted| {
        format!("accepted until {}: {} ({})\n", accepted.until, accepted.finding.message, accepted.why)
    });
    let warned = report.findings.iter().filter(|finding| is_of(finding) && !counts(report, finding));
    accepted.chain(warned.map(|finding| format!("warning: {}\n", finding.message))).collect()
}

/// A value whose white space the schemas would collapse, and that may not be empty.
fn token(text: &str) -> String {
    let words: Vec<String> = clean(text).split_whitespace().map(markup).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// A time without its fraction and its zone, as the schema has it; it is in UTC.
fn timestamp(at: &str) -> String {
    let plain = at.get(..19).filter(|plain| plain.as_bytes().get(10) == Some(&b'T'));
    plain.unwrap_or("1970-01-01T00:00:00").to_owned()
}

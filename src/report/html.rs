//! One page that holds everything it needs: no script, no font, nothing from the network.
//!
//! Its policy lets the one style sheet in and nothing else. What opens is `<details>`, so it works wherever it is read.

use crate::finding::{Finding, Severity};
use crate::measure::{Measure, Sample, Unit, Verdict};
use crate::parity::{LEVELS, Level, Standing, shape};
use crate::report::escape::{brief, markup, shorten};
use crate::report::style::STYLE;
use crate::report::{Report, SHOWN, chart, moment, mood_of};
use crate::value::blob::base64;
use sha2::Digest as _;
use std::fmt::Write as _;

/// The report as a page.
pub fn html(report: &Report) -> String {
    let mut page = head(report);
    page.push_str("<body>\n<main>\n");
    page.push_str(&header(report));
    page.push_str(&facts(report));
    page.push_str(&matrix(report));
    page.push_str(&findings(report));
    page.push_str(&charts(report));
    page.push_str(&expectations(report));
    page.push_str(&accepted(report));
    page.push_str(&shapes(report));
    page.push_str(&declared(report));
    page.push_str(&steps(report));
    let (version, at) = (env!("CARGO_PKG_VERSION"), markup(&moment(&report.at)));
    let command = markup(&report.command);
    let _ = writeln!(page, "<footer>lockstep {version} · <code>{command}</code> · <time>{at}</time></footer>");
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn head(report: &Report) -> String {
    let hash = base64(&sha2::Sha256::digest(STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    let title = markup(&shorten(&report.verdict(), 120));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
    )
}

fn header(report: &Report) -> String {
    let (mood, sign) = (report.mood.as_str(), report.mood.sign());
    let (stack, command) = (markup(&report.stack), markup(&report.command));
    let (headline, note, at) = (markup(&report.headline), markup(&report.note), markup(&moment(&report.at)));
    let compared: u64 = report.matrix.iter().flat_map(|row| &row.levels).map(|proof| proof.compared).sum();
    let facts = if compared > 0 { format!(" · {} facts compared", grouped(compared)) } else { String::new() };
    let mut said = format!(
        "<header class=\"verdict {mood}\">\n<p class=\"stack\">{stack}</p>\n\
         <h1><span class=\"sign\" aria-hidden=\"true\">{sign}</span><span>{headline}</span></h1>\n\
         <p class=\"note\">{note}</p>\n\
         <p class=\"when\"><code>{command}</code> · {at}{facts}</p>\n"
    );
    for (environment, why) in report.unknown() {
        let _ = writeln!(said, "<p class=\"why\"><b>{}</b> is unknown: {}</p>", markup(environment), markup(why));
    }
    said.push_str("</header>\n");
    said
}

fn section(title: &str, count: Option<usize>, body: &str) -> String {
    let count = count.map(|count| format!(" <span class=\"count\">{count}</span>")).unwrap_or_default();
    format!("<section>\n<h2>{title}{count}</h2>\n{body}</section>\n")
}

fn facts(report: &Report) -> String {
    if report.facts.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(&str, String)| format!("<dt>{}</dt><dd>{}</dd>\n", markup(name), markup(value));
    let rows: String = report.facts.iter().map(row).collect();
    section("The change", None, &format!("<dl class=\"facts\">\n{rows}</dl>\n"))
}

fn matrix(report: &Report) -> String {
    if report.matrix.is_empty() {
        return String::new();
    }
    let mut table = "<div class=\"wide\"><table class=\"matrix\">\n<thead><tr><td></td>".to_owned();
    for row in &report.matrix {
        let note = match (&row.read_at, row.reference) {
            (Some(at), true) => format!("reference, read {}", clock(at)),
            (None, true) => "reference".to_owned(),
            (Some(at), false) => format!("read {}", clock(at)),
            (None, false) => "not read".to_owned(),
        };
        let _ = write!(table, "<th scope=\"col\">{}<small>{}</small></th>", markup(&row.environment), markup(&note));
    }
    table.push_str("</tr></thead>\n<tbody>\n");
    for level in LEVELS {
        let _ = write!(table, "<tr><th scope=\"row\">{}<small>{}</small></th>", level.as_str(), meaning(level));
        for row in &report.matrix {
            let standing = row.state(level);
            let _ = write!(table, "<td class=\"{}\">{}</td>", mood_of(standing), cell(standing));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody></table></div>\n");
    section("Environments", None, &table)
}

fn meaning(level: Level) -> &'static str {
    match level {
        Level::Spec => "as the spec means it",
        Level::Bytes => "the files as they lie there",
        Level::Image => "what was built",
        Level::Container => "as the engine has it",
        Level::Process => "as the server says itself",
    }
}

fn cell(standing: Standing) -> String {
    let sign = |sign: &str, said: &str| format!("<span class=\"sign\" aria-hidden=\"true\">{sign}</span>{said}");
    match standing {
        Standing::Right(compared) => {
            format!("{}<small>{}</small>", sign("✓", "same"), grouped(compared))
        }
        Standing::Reference => sign("·", "<span class=\"dim\">reference</span>"),
        Standing::Nothing => "<span class=\"dim\">nothing to compare</span>".to_owned(),
        Standing::Unknown => sign("?", "unknown"),
        Standing::Wrong { findings: 0, .. } => sign("?", &standing.to_string()),
        Standing::Wrong { .. } => sign("✗", &standing.to_string()),
    }
}

fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    // What is wrong is open where there is little of it.
    let open = report.findings.len() <= 3;
    let mut list: String = report.findings.iter().take(SHOWN).map(|found| finding(report, found, None, open)).collect();
    if report.findings.len() > SHOWN {
        let _ = writeln!(list, "<p class=\"dim\">And {} more.</p>", report.findings.len() - SHOWN);
    }
    section("Findings", Some(report.findings.len()), &list)
}

/// A finding that opens to its evidence.
fn finding(report: &Report, finding: &Finding, accepted: Option<(&str, String)>, open: bool) -> String {
    let (class, word) = match (accepted.is_some(), finding.severity) {
        (true, _) => ("quiet", "accepted"),
        (_, Severity::Error) if finding.rule == "unknown" => ("unknown", "unknown"),
        (_, Severity::Error) => ("wrong", finding.rule),
        (_, Severity::Warning) => ("unknown", "warning"),
        (_, Severity::Note) => ("quiet", "note"),
    };
    let open = if open { " open" } else { "" };
    let mut said = format!(
        "<details class=\"finding {class}\"{open}>\n<summary><span class=\"chip\">{}</span><span>{}</span></summary>\n<div>\n",
        markup(word),
        ticks(&brief(&finding.message))
    );
    if let (Some(expected), Some(observed)) = (&finding.expected, &finding.observed) {
        let (left, right) = names(report, finding);
        let sides = [("expected", left, expected), ("observed", right, observed)];
        let side = |(class, name, value): &(&str, String, &String)| {
            format!("<div class=\"{class}\"><small>{}</small><pre>{}</pre></div>", markup(name), multiline(value))
        };
        let _ = writeln!(said, "<div class=\"sides\">{}</div>", sides.iter().map(side).collect::<String>());
    }
    let seen = finding.seen.as_ref();
    let read = seen.map(|seen| {
        let at = seen.at.as_deref().map(|at| format!(", {}", moment(at))).unwrap_or_default();
        format!("{} of {}{at}", seen.source, seen.environment)
    });
    let rows = [
        ("Rule", Some(finding.rule.to_owned())),
        ("About", finding.subject.clone()),
        ("Level", seen.map(|seen| seen.level.to_owned())),
        ("Read from", read),
        ("Since", seen.and_then(|seen| seen.since.clone())),
        ("Written at", finding.place.as_ref().map(ToString::to_string)),
        ("What to do", finding.help.clone()),
        ("Accepted", accepted.as_ref().map(|(why, _)| (*why).to_owned())),
        ("Until", accepted.as_ref().map(|(_, until)| until.clone())),
    ];
    let rows: String = rows
        .iter()
        .filter_map(|(name, value)| Some(format!("<dt>{name}</dt><dd>{}</dd>\n", ticks(value.as_ref()?))))
        .collect();
    let _ = writeln!(said, "<dl class=\"facts\">\n{rows}</dl>\n</div>\n</details>");
    said
}

/// What its two sides are called: two environments, or what is meant and what is.
fn names(report: &Report, finding: &Finding) -> (String, String) {
    let reference = report.matrix.iter().find(|row| row.reference && finding.rule == "parity");
    match (reference, &finding.seen) {
        (Some(reference), Some(seen)) => (reference.environment.clone(), seen.environment.clone()),
        _ => ("expected".to_owned(), "observed".to_owned()),
    }
}

fn accepted(report: &Report) -> String {
    if report.accepted.is_empty() {
        return String::new();
    }
    let shown = report.accepted.iter().take(SHOWN);
    let list: String = shown
        .map(|accepted| {
            finding(report, &accepted.finding, Some((accepted.why.as_str(), accepted.until.to_string())), false)
        })
        .collect();
    section("Accepted", Some(report.accepted.len()), &list)
}

fn declared(report: &Report) -> String {
    if report.declared.is_empty() {
        return String::new();
    }
    let names = report.matrix.iter().filter(|row| row.unknown.is_none());
    let names: String = names.map(|row| format!("<th scope=\"col\">{}</th>", markup(&row.environment))).collect();
    let mut table = format!(
        "<div class=\"wide\"><table class=\"plain\">\n<thead><tr><th>What</th>{names}<th>Declared by</th></tr></thead>\n<tbody>\n"
    );
    for declared in report.declared.iter().take(SHOWN) {
        let value = |value: &crate::state::Value| {
            format!("<td><code>{}</code></td>", markup(&shorten(&brief(&value.to_string()), 44)))
        };
        let values: String = declared.values.iter().map(value).collect();
        let (subject, because) = (markup(&declared.subject), markup(&declared.because.join(", ")));
        let _ = writeln!(table, "<tr><td><code>{subject}</code></td>{values}<td>{because}</td></tr>");
    }
    table.push_str("</tbody></table></div>\n");
    let body = format!("<details class=\"more\"><summary>What may differ, and does</summary>\n{table}</details>\n");
    section("Declared differences", Some(report.declared.len()), &body)
}

/// What the keys are like, rule by rule, and what it cost to see.
fn shapes(report: &Report) -> String {
    if report.shapes.is_empty() {
        return String::new();
    }
    let heads: String = shape::HEADS.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    let row = |row: &[String; 9]| {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", markup(&shorten(cell, 80)))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = shape::rows(&report.shapes).iter().take(SHOWN).map(row).collect();
    let costs = shape::costs(&report.shapes);
    let costs: String = costs.iter().map(|line| format!("<p class=\"dim\">{}</p>\n", markup(line))).collect();
    let table = format!(
        "<div class=\"wide\"><table class=\"plain\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    );
    section("Shape of the keys", None, &format!("{table}{costs}"))
}

/// Measures in the order in which they matter: how fast, how well, how large, and the rest.
fn charts(report: &Report) -> String {
    let groups: [(&str, &[Unit]); 4] = [
        ("Latency", &[Unit::Milliseconds]),
        ("Hit ratio and coverage", &[Unit::Ratio]),
        ("Memory", &[Unit::Bytes]),
        ("Counts and rates", &[Unit::Count, Unit::PerSecond]),
    ];
    let mut said = String::new();
    for (title, units) in groups {
        let of: Vec<&Measure> = report
            .measures
            .iter()
            .filter(|measure| units.contains(&measure.unit) && (measure.before.is_some() || measure.after.is_some()))
            .collect();
        if !of.is_empty() {
            let rows: String = of.iter().take(SHOWN).map(|measure| row(measure)).collect();
            let _ = write!(said, "<h3>{title}</h3>\n<div class=\"measures\">\n{rows}</div>\n");
        }
    }
    if said.is_empty() {
        return said;
    }
    let legend = "<p class=\"legend\"><span class=\"key before\"></span>before<span class=\"key after\"></span>after\
                  <span class=\"key spread\"></span>where repeating the measurement would lie</p>\n";
    section("Before and after", None, &format!("{legend}{said}"))
}

fn row(measure: &Measure) -> String {
    let about = |sample: Option<Sample>| match sample {
        None => "<b>–</b>".to_owned(),
        Some(Sample { value, low, high }) => {
            let (value, low, high) = (measure.unit.about(value), measure.unit.about(low), measure.unit.about(high));
            let spread = if low == high {
                String::new()
            } else {
                format!("<small>{} – {}</small>", markup(&low), markup(&high))
            };
            format!("<b>{}</b>{spread}", markup(&value))
        }
    };
    let (class, sign) = match measure.verdict {
        Verdict::Better => ("right", "✓ "),
        Verdict::Worse => ("wrong", "✗ "),
        Verdict::Same | Verdict::Changed => ("quiet", ""),
        Verdict::Unknown => ("unknown", "? "),
    };
    let said =
        |sample: Option<Sample>| sample.map_or("not measured".to_owned(), |sample| measure.unit.about(sample.value));
    let label = format!("{}: before {}, after {}", measure.name, said(measure.before), said(measure.after));
    format!(
        "<div class=\"measure\"><code>{name}</code><span class=\"chip {class}\">{sign}{verdict}</span>{bars}\
         <span class=\"value before\">{before}</span><span class=\"value after\">{after}</span></div>\n",
        name = markup(&measure.name),
        verdict = measure.verdict.as_str(),
        bars = chart::bars(measure, &markup(&label)),
        before = about(measure.before),
        after = about(measure.after),
    )
}

fn expectations(report: &Report) -> String {
    if report.expectations.is_empty() {
        return String::new();
    }
    let row = |expectation: &crate::measure::Expectation| {
        let (class, word) = if expectation.met { ("right", "✓ met") } else { ("wrong", "✗ missed") };
        let (text, measured) = (markup(&expectation.text), markup(&expectation.measured));
        format!(
            "<tr><td><code>{text}</code></td><td class=\"number\">{measured}</td><td><span class=\"chip {class}\">{word}</span></td></tr>\n"
        )
    };
    let rows: String = report.expectations.iter().take(SHOWN).map(row).collect();
    let table = format!(
        "<div class=\"wide\"><table class=\"plain\">\n<thead><tr><th>Expected</th><th>Measured</th><th></th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    );
    section("Expectations", Some(report.expectations.len()), &table)
}

fn steps(report: &Report) -> String {
    if report.steps.is_empty() {
        return String::new();
    }
    let step = |(step, fine): &(String, bool)| {
        let failed = if *fine { "" } else { " <span class=\"chip wrong\">✗ failed</span>" };
        format!("<li>{}{failed}</li>\n", ticks(step))
    };
    let list: String = report.steps.iter().take(SHOWN).map(step).collect();
    section("Steps", Some(report.steps.len()), &format!("<ol class=\"steps\">\n{list}</ol>\n"))
}

/// Text with what stands between backticks as code.
fn ticks(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // One that is left alone begins nothing.
    if parts.len().is_multiple_of(2) {
        return markup(text);
    }
    let part = |(at, part): (usize, &&str)| match at % 2 {
        0 => markup(part),
        _ => format!("<code>{}</code>", markup(part)),
    };
    parts.iter().enumerate().map(part).collect()
}

fn multiline(text: &str) -> String {
    markup(&shorten(text, 4000)).replace("&#10;", "\n")
}

/// `05:12:00` of a time.
fn clock(at: &str) -> String {
    at.get(11..19).map_or_else(|| at.to_owned(), |time| format!("{time} UTC"))
}

/// `12 345`, with a thin space.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{2009}');
        }
        grouped.push(digit);
    }
    grouped
}

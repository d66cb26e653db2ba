//! Plans, findings and tables as text.

use crate::acceptance::Accepted;
use crate::backup::retention::Decision;
use crate::backup::{self, Inspected, Listed};
use crate::failure::Failure;
use crate::finding::{Finding, Severity, has_errors};
use crate::keydiff::{self, Class, Counts, Difference, Report};
use crate::ledger::Entry;
use crate::measure::{Expectation, Measure, Sample, Unit};
use crate::parity::pages::Latency;
use crate::parity::{LEVELS, Proof, Verification, shape};
use crate::plan::{Cause, Plan};
use crate::probe::Watched;
use crate::store::repository::Leftover;
use crate::value::{Blob, Sources, Span, bytes};
use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};
use std::fmt::Write as _;

const WIDTH: usize = 120;

/// More than this nobody reads at once; `--json` has them all.
const SHOWN: usize = 100;

/// Findings, each with its place, the line it points at, and what to do.
pub fn findings(findings: &[Finding], sources: &Sources) -> String {
    let mut text = String::new();
    for finding in findings.iter().take(SHOWN) {
        text.push_str(&one(finding, sources));
        text.push('\n');
    }
    if findings.len() > SHOWN {
        let _ = writeln!(text, "and {} more\n", plural(findings.len() - SHOWN, "finding"));
    }
    text
}

fn one(finding: &Finding, sources: &Sources) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let message = printable(&finding.message);
    let mut group = level.primary_title(message.as_str()).id(finding.rule).elements(Vec::<Element<'_>>::new());
    let (path, line);
    if let Some(place) = &finding.place {
        let source = sources.text(&place.file);
        // One line of context is enough, and a long file is not searched for each finding.
        let start = source.get(..place.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let rest = source.get(start..).unwrap_or("");
        line = rest.lines().next().unwrap_or("").to_owned();
        path = place.file.to_string();
        let from = place.start.saturating_sub(start).min(line.len());
        let to = place.end.saturating_sub(start).clamp(from, line.len());
        let (from, to) = (line.floor_char_boundary(from), line.floor_char_boundary(to));
        let snippet = Snippet::source(line.as_str())
            .path(path.as_str())
            .line_start(usize::try_from(place.line).unwrap_or(1))
            .annotation(AnnotationKind::Primary.span(from..to));
        group = group.element(snippet);
    }
    let since = finding.seen.as_ref().and_then(|seen| seen.since.as_deref()).map(printable);
    if let Some(since) = &since {
        group = group.element(Level::NOTE.message(since.as_str()));
    }
    let help = finding.help.as_deref().map(printable);
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let mut text = Renderer::styled().term_width(WIDTH).render(&[group]);
    text.push('\n');
    text
}

/// The text without the colours that a terminal shows.
pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Text from outside must not move the cursor or change colours.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// `3 errors, 1 warning`, or `no findings`.
pub fn count(findings: &[Finding]) -> String {
    let of = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let parts: Vec<String> =
        [(of(Severity::Error), "error"), (of(Severity::Warning), "warning"), (of(Severity::Note), "note")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| plural(count, word))
            .collect();
    if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") }
}

pub fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn many(count: u64, word: &str) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), word)
}

pub fn failure(failure: &Failure) -> String {
    let mut text = format!("\u{1b}[1;31merror\u{1b}[0m: {}\n", printable(&failure.to_string()));
    for (word, said) in [("help", &failure.help), ("so far", &failure.so_far)] {
        if let Some(said) = said {
            let _ = writeln!(text, "  {word}: {}", printable(said));
        }
    }
    text
}

/// The plan: each step with what it costs, what it means for data, and why.
pub fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.is_empty() {
        let _ = writeln!(text, "{} is as the spec says: nothing to do", plan.environment);
    } else {
        let _ = writeln!(text, "plan for {} of {}: {}", plan.environment, plan.stack, plural(plan.steps.len(), "step"));
    }
    for step in &plan.steps {
        let _ = writeln!(text, "{:>3} {} {}", step.number, step.sign(), step.summary());
        let mut causes = step.because.iter().map(cause_line).collect::<Vec<_>>();
        causes.dedup();
        let first = causes.first().map(|cause| format!(", because {cause}")).unwrap_or_default();
        let _ = writeln!(text, "      cost: {}, data risk: {}{first}", step.effect, step.risk);
        let shown = 4;
        for cause in causes.iter().take(shown).skip(1) {
            let _ = writeln!(text, "      and because {cause}");
        }
        if causes.len() > shown {
            let _ = writeln!(text, "      and for {} more", plural(causes.len() - shown, "reason"));
        }
    }
    for finding in plan.refusals.iter().chain(&plan.notes) {
        let word = if finding.severity == Severity::Error { "refused" } else { "note" };
        let _ = writeln!(text, "  {word}: {}", finding.message);
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "        {help}");
        }
    }
    printable(&text)
}

fn cause_line(cause: &Cause) -> String {
    let change = &cause.change;
    let subject = if change.field.is_empty() {
        change.resource.to_string()
    } else {
        format!("{} {}", change.resource, change.field)
    };
    let what = match (&change.before, &change.after) {
        (None, Some(_)) if change.field.is_empty() => format!("{subject} is missing"),
        (Some(_), None) if change.field.is_empty() => format!("{subject} is not in the spec"),
        (Some(before), None) if change.field.starts_with("settings.") => {
            format!("{subject}: {} -> the server's default", shorten(&before.to_string()))
        }
        (before, after) => {
            let side = |value: &Option<crate::state::Value>| {
                value.as_ref().map_or_else(|| "absent".to_owned(), |value| shorten(&value.to_string()))
            };
            format!("{subject}: {} -> {}", side(before), side(after))
        }
    };
    match cause.origin.as_ref().and_then(|origin| origin.place.as_ref()) {
        Some(place) => format!("{what} ({place})"),
        None => what,
    }
}

/// How far environments were proven, at which level, and everything that was found.
pub fn verification(verification: &Verification, sources: &Sources) -> String {
    let mut text = format!("{}\n", verification.verdict());
    match verification.environments.len() > 2 {
        true => text.push_str(&matrix(verification)),
        false => text.push_str(&proofs(&verification.levels)),
    }
    for (environment, why) in verification.unknown() {
        let _ = writeln!(text, "{environment} is unknown: {why}");
    }
    if !verification.declared.is_empty() {
        let _ = writeln!(text, "declared differences:");
        for declared in &verification.declared {
            let values: Vec<String> = declared.values.iter().map(|value| shorten(&value.to_string())).collect();
            let _ = writeln!(text, "  {}: {} ({})", declared.subject, values.join(" | "), declared.because.join(", "));
        }
    }
    if !verification.shapes.is_empty() {
        let indented = |mut row: Vec<String>| {
            row.iter_mut().take(1).for_each(|first| first.insert_str(0, "  "));
            row
        };
        let head = indented(shape::HEADS.map(str::to_owned).to_vec());
        let rows = shape::rows(&verification.shapes).into_iter().map(|row| indented(row.to_vec()));
        let _ = writeln!(text, "shape of the keys:");
        text.push_str(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
        for line in shape::costs(&verification.shapes) {
            let _ = writeln!(text, "  {line}");
        }
    }
    if !verification.latencies.is_empty() {
        let _ = writeln!(text, "how long the probes take:");
        for Latency { environment, probe, p50, p95, p99, problem } in &verification.latencies {
            let about =
                |sample: &Option<Sample>| sample.map_or("-".to_owned(), |of| Unit::Milliseconds.about(of.value));
            let said = match problem {
                Some(problem) => problem.clone(),
                None => format!("p50 {}, p95 {}, p99 {}", about(p50), about(p95), about(p99)),
            };
            let _ = writeln!(text, "  {probe} in {environment}: {said}");
        }
    }
    if !verification.accepted.is_empty() {
        let _ = writeln!(text, "accepted findings:");
        for Accepted { finding, why, until, .. } in &verification.accepted {
            let _ = writeln!(text, "  {}: {why} (until {until})", finding.message);
        }
    }
    let mut text = printable(&text);
    if !verification.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(&verification.findings, sources));
    }
    text
}

/// What was compared at each level, of all environments together.
fn proofs(levels: &[Proof]) -> String {
    let mut text = format!(
        "  {:<10} {:>8} {:>9} {:>8} {:>9} {:>6}\n",
        "level", "compared", "findings", "unknown", "declared", "host"
    );
    for proof in levels {
        let name = proof.level.as_str();
        let Proof { compared, findings, unknown, declared, host, .. } = proof;
        let _ = match proof.is_empty() {
            true => writeln!(text, "  {name:<10} {:>8}", "-"),
            false => writeln!(text, "  {name:<10} {compared:>8} {findings:>9} {unknown:>8} {declared:>9} {host:>6}"),
        };
    }
    text
}

/// Each environment at each level; the first one is what the others are compared with.
fn matrix(verification: &Verification) -> String {
    let mut rows = vec![vec!["  level".to_owned()]];
    rows.extend(LEVELS.iter().map(|level| vec![format!("  {}", level.as_str())]));
    for row in &verification.matrix {
        let cells = LEVELS.iter().map(|level| row.state(*level).to_string());
        let column = std::iter::once(row.environment.clone()).chain(cells);
        rows.iter_mut().zip(column).for_each(|(row, cell)| row.push(cell));
    }
    table(&rows)
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        format!("{}...", text.chars().take(24).collect::<String>())
    }
}

/// Changes as a table, the newest last.
pub fn changes(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no changes\n".to_owned();
    }
    let mut rows = vec![["", "when", "who", "verb", "outcome", "reason"].map(str::to_owned).to_vec()];
    for entry in entries {
        let mut row = vec![entry.number.to_string()];
        match &entry.begin {
            Some(begin) => row.extend([moment(&begin.at), begin.who.to_string(), begin.verb.clone()]),
            None => row.extend([const { String::new() }; 3]),
        }
        let mark = if entry.is_unfinished() { "UNFINISHED" } else { entry.outcome() };
        let reason = entry.begin.as_ref().map_or("its record cannot be read", |begin| begin.reason.as_str());
        row.extend([mark.to_owned(), reason.split_whitespace().collect::<Vec<_>>().join(" ")]);
        rows.push(row);
    }
    table(&rows)
}

pub fn backups(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no backups\n".to_owned();
    }
    let mut rows =
        vec![["taken at", "id", "state", "keys", "size", "stored", "server", "reason"].map(str::to_owned).to_vec()];
    for backup in listed {
        let Some(manifest) = &backup.manifest else {
            rows.push(vec![String::new(), backup.id.clone(), standing(backup)]);
            continue;
        };
        let pinned = backup.pin.as_ref().map(|pin| format!("; pinned: {}", pin.reason)).unwrap_or_default();
        rows.push(vec![
            moment(&manifest.taken_at),
            manifest.id.clone(),
            standing(backup),
            manifest.counts.keys.to_string(),
            bytes::about(manifest.plain_bytes()),
            bytes::about(manifest.stored_bytes()),
            manifest.server.clone(),
            format!("{}{pinned}", manifest.reason),
        ]);
    }
    table(&rows)
}

/// How far a backup is proven, and what is wrong with it.
fn standing(backup: &Listed) -> String {
    match &backup.problem {
        Some(problem) => format!("damaged: {problem}"),
        None => backup.state.to_string(),
    }
}

/// `2026-11-23 05:12:00` of a time in UTC.
fn moment(written: &str) -> String {
    written.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ")
}

/// One backup, with all that is known of it.
pub fn backup(listed: &Listed) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("backup", listed.id.clone());
    row("state", standing(listed));
    if let Some(manifest) = &listed.manifest {
        row("of", format!("{} of {}, {}", manifest.service, manifest.environment, manifest.stack));
        row("taken at", format!("{} UTC, in {} ms", moment(&manifest.taken_at), manifest.elapsed_ms));
        let change = if manifest.change { " (for a change)" } else { "" };
        row("reason", format!("{}{change}", manifest.reason));
        row("server", format!("{}, image {}", manifest.server, manifest.image));
        row("revision", manifest.revision.clone());
        let counts = &manifest.counts;
        row(
            "holds",
            format!("{} keys, {} with an expiry, {} functions", counts.keys, counts.expires, counts.functions),
        );
        let types: Vec<String> = counts.types.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        row("types", types.join(", "));
        row("format", format!("rdb {}, crc64 {}", counts.rdb, counts.crc64));
        for part in &manifest.parts {
            let (plain, stored) = (bytes::about(part.plain_bytes), bytes::about(part.stored_bytes));
            row("part", format!("{}: {plain}, {stored} stored in {} pieces", part.name, part.chunks.len()));
            row("", format!("sha256 {}", part.plain_sha256));
        }
        let to = if manifest.encrypted_to.is_empty() { "nobody".to_owned() } else { manifest.encrypted_to.join(", ") };
        row("encrypted to", to);
        if !manifest.missing.is_empty() {
            row("missing", manifest.missing.join(", "));
        }
    }
    for proof in &listed.proofs {
        let recovery = proof.recovery_ms.map(|ms| format!(", back in {ms} ms")).unwrap_or_default();
        let problem = proof.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        row(proof.kind.as_str(), format!("{} UTC{recovery}{problem}", moment(&proof.at)));
    }
    if let Some(pin) = &listed.pin {
        row("pinned", format!("{} UTC: {}", moment(&pin.at), pin.reason));
    }
    row("place", listed.place.clone());
    table(&rows)
}

/// What an RDB file turned out to be, in a line.
pub fn inspected(of: &Inspected) -> String {
    let Inspected { file, state, .. } = of;
    let Some(counts) = &of.counts else {
        let problem = of.problem.as_deref().unwrap_or("it was not read");
        return format!("{}  {file}: {problem}\n", state.as_str());
    };
    let server = of.server.as_deref().unwrap_or("a server that does not say its version");
    let types: Vec<String> = counts.types.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let types = if types.is_empty() { String::new() } else { format!(" ({})", types.join(", ")) };
    let behind = match of.bytes_behind {
        0 => String::new(),
        count => format!("; {count} bytes behind its end are no part of it"),
    };
    let backup::Counts { keys, expires, functions, rdb, .. } = counts;
    format!(
        "{}  {file}: {}{types}, {expires} with an expiry, {}, rdb {rdb} of {server}, {}{behind}\n",
        state.as_str(),
        many(*keys, "key"),
        many(*functions, "function"),
        bytes::about(of.bytes)
    )
}

/// What retention decided, and what dead writers left.
pub fn decisions(decisions: &[Decision], leftovers: &[Leftover]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for decision in decisions {
        let verb = if decision.keep { "keep" } else { "remove" };
        rows.push(vec![verb.to_owned(), decision.id.clone(), decision.reasons.join("; ")]);
    }
    for leftover in leftovers {
        let why = format!("{} of a backup that was never finished", bytes::about(leftover.bytes));
        rows.push(vec!["remove".to_owned(), leftover.name.clone(), why]);
    }
    if rows.is_empty() { "no backups\n".to_owned() } else { table(&rows) }
}

fn count_of(count: u64, word: &str) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), word)
}

/// Prefixes in the table; JSON has those of all that are counted.
const PREFIXES: usize = 50;
/// Of a longer name only its beginning is shown.
const NAME: usize = 200;

/// In what two backups differ: how much, where, and which keys.
pub fn differences(ids: [&str; 2], report: &Report) -> String {
    let [a, b] = ids;
    let differing = report.differing.total();
    let [keys_a, keys_b] = report.keys;
    let mut text = format!("A {a}: {}\nB {b}: {}\n", count_of(keys_a, "key"), count_of(keys_b, "key"));
    if report.is_equal() {
        text.push_str("equal: no key and no function library differs\n");
        return printable(&text);
    }
    let verb = if differing == 1 { "differs" } else { "differ" };
    let _ = writeln!(text, "{} {verb}: {}", count_of(differing, "key"), classes(&report.differing));
    if differing > 0 {
        let mut rows =
            vec![["db", "prefix", "differ", "only A", "only B", "type", "value", "expiry"].map(str::to_owned)];
        let row = |database: String, prefix: String, counts: &Counts| {
            let Counts { only_a, only_b, kind, value, expiry } = *counts;
            let [total, a, b, kind, value, expiry] =
                [counts.total(), only_a, only_b, kind, value, expiry].map(|count| count.to_string());
            [database, prefix, total, a, b, kind, value, expiry]
        };
        for ((database, prefix), counts) in report.prefixes.iter().take(PREFIXES) {
            rows.push(row(database.to_string(), name(&keydiff::shown(prefix)), counts));
        }
        if let Some(further) = report.prefixes.get(PREFIXES..).filter(|further| !further.is_empty()) {
            let sum = further.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(counts));
            rows.push(row(String::new(), format!("({} more prefixes)", further.len()), &sum));
        }
        if report.other.total() > 0 {
            rows.push(row(String::new(), "(other)".to_owned(), &report.other));
        }
        text.push_str(&table(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>()));
    }
    let rows: Vec<Vec<String>> = report
        .listed
        .iter()
        .map(|((database, key), difference)| vec![database.to_string(), name(&Blob(key).to_string()), says(difference)])
        .collect();
    if !rows.is_empty() {
        text.push_str("keys:\n");
        text.push_str(&table(&rows));
    }
    let more = differing.saturating_sub(rows.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "and {more} more; `--limit` names more of them");
    }
    for (library, class) in &report.listed_functions {
        let what = match class {
            Class::OnlyA => "only in A",
            Class::OnlyB => "only in B",
            Class::Type | Class::Value | Class::Expiry => "its source differs",
        };
        let _ = writeln!(text, "function library {}: {what}", name(&Blob(library).to_string()));
    }
    printable(&text)
}

fn classes(counts: &Counts) -> String {
    let parts = [
        (counts.only_a, "only in A"),
        (counts.only_b, "only in B"),
        (counts.kind, "of another type"),
        (counts.value, "with another value"),
        (counts.expiry, "with another expiry alone"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() { "function libraries alone do".to_owned() } else { parts.join(", ") }
}

/// In what a key differs; of both sides where it is more than a hash.
fn says(difference: &Difference) -> String {
    let when = |at: Option<i64>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let (a, b) = match (&difference.a, &difference.b) {
        (Some(a), Some(b)) => (a, b),
        (Some(a), None) => return format!("only in A ({})", a.kind),
        (None, Some(b)) => return format!("only in B ({})", b.kind),
        (None, None) => return String::new(),
    };
    let parts: Vec<String> = difference
        .aspects
        .iter()
        .map(|aspect| match aspect {
            keydiff::Aspect::Type => format!("type: {} -> {}", a.kind, b.kind),
            keydiff::Aspect::Expiry => {
                format!("expires at ms: {} -> {}", when(a.expires_at_ms), when(b.expires_at_ms))
            }
            other => other.name().to_owned(),
        })
        .collect();
    parts.join(", ")
}

fn name(text: &str) -> String {
    match text.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Everything that was measured, with the interval in which repeating would put it; changes where there is a before.
pub fn measures(measures: &[Measure]) -> String {
    let compared = measures.iter().any(|measure| measure.before.is_some());
    let head: &[&str] =
        if compared { &["measure", "before", "after", "spread", "verdict"] } else { &["measure", "now", "spread"] };
    let mut rows = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    for measure in measures {
        let about = |sample: Option<Sample>| {
            sample.map_or_else(|| "not measured".to_owned(), |sample| measure.unit.about(sample.value))
        };
        let spread = measure.after.filter(|sample| sample.low < sample.high).map_or_else(String::new, |sample| {
            format!("{} to {}", measure.unit.about(sample.low), measure.unit.about(sample.high))
        });
        let mut row = vec![measure.name.clone()];
        if compared {
            row.push(about(measure.before));
        }
        row.extend([about(measure.after), spread]);
        if compared {
            row.push(measure.verdict.as_str().to_owned());
        }
        rows.push(row);
    }
    if measures.is_empty() {
        "nothing is measured: the spec has no probes and no Redis\n".to_owned()
    } else {
        table(&rows)
    }
}

/// What was expected, and what became of it.
pub fn expectations(expectations: &[Expectation]) -> String {
    let row = |expectation: &Expectation| {
        let word = if expectation.met { "met" } else { "missed" };
        vec![word.to_owned(), expectation.text.clone(), expectation.measured.clone()]
    };
    table(&expectations.iter().map(row).collect::<Vec<_>>())
}

/// How a watch ended.
pub fn watched(watched: &Watched) -> String {
    let lasted = Span { milliseconds: watched.lasted_ms / 100 * 100 };
    let looks = plural(usize::try_from(watched.looks).unwrap_or(usize::MAX), "look");
    let end = match (has_errors(&watched.findings), watched.complete) {
        (true, _) => "ended by what it found",
        (false, true) => "nothing is wrong",
        (false, false) => "ended early",
    };
    format!("watched for {lasted}, {looks}: {end}\n")
}

/// Columns as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    printable(&text)
}

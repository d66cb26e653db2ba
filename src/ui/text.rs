//! Plans, findings and tables as text.

use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::parity::{Level as Depth, Verification};
use crate::plan::{Cause, Plan};
use crate::store::backups::Listed;
use crate::value::{Sources, bytes};
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
    let help = finding.help.as_deref().map(printable);
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let mut text = Renderer::styled().term_width(WIDTH).render(&[group]);
    text.push('\n');
    text
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

/// How far each level was proven, then what the spec declares, then what is wrong.
pub fn verification(verification: &Verification, sources: &Sources) -> String {
    let names = verification.environments.join(" and ");
    let mut text = String::new();
    let wrong = verification.findings.len();
    let verdict = match (verification.environments.len(), wrong) {
        (1, 0) => format!("{names} is as the spec says"),
        (1, _) => format!("{names} is not as the spec says: {}", plural(wrong, "finding")),
        (_, 0) => format!("{names} match"),
        (_, _) => format!("{names} do not match: {}", plural(wrong, "finding")),
    };
    let _ = writeln!(text, "{verdict}");
    let _ = writeln!(
        text,
        "  {:<10} {:>8} {:>9} {:>8} {:>9} {:>6}",
        "level", "compared", "findings", "unknown", "declared", "host"
    );
    for proof in &verification.levels {
        let name = match proof.level {
            Depth::Spec => "spec",
            Depth::Bytes => "bytes",
            Depth::Image => "image",
            Depth::Container => "container",
            Depth::Process => "process",
        };
        if proof.compared == 0 && proof.findings == 0 && proof.unknown == 0 {
            let _ = writeln!(text, "  {name:<10} {:>8}", "-");
            continue;
        }
        let _ = writeln!(
            text,
            "  {name:<10} {:>8} {:>9} {:>8} {:>9} {:>6}",
            proof.compared, proof.findings, proof.unknown, proof.declared, proof.host
        );
    }
    if !verification.declared.is_empty() {
        let _ = writeln!(text, "declared differences:");
        for declared in &verification.declared {
            let values: Vec<String> = declared.values.iter().map(|value| shorten(&value.to_string())).collect();
            let _ = writeln!(text, "  {}: {} ({})", declared.subject, values.join(" | "), declared.because.join(", "));
        }
    }
    let mut text = printable(&text);
    if wrong > 0 {
        text.push('\n');
        text.push_str(&findings(&verification.findings, sources));
    }
    text
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        format!("{}...", text.chars().take(24).collect::<String>())
    }
}

pub fn backups(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no backups\n".to_owned();
    }
    let mut rows = vec![["taken at", "id", "state", "keys", "size", "server", "reason"].map(str::to_owned).to_vec()];
    for backup in listed {
        let manifest = &backup.manifest;
        let state = match (&backup.problem, manifest.state) {
            (Some(problem), _) => format!("damaged: {problem}"),
            (None, crate::backup::Proof::Verified) => "verified".to_owned(),
            (None, crate::backup::Proof::Unverified) => "unverified".to_owned(),
            (None, crate::backup::Proof::Copied) => "copied".to_owned(),
        };
        let taken = manifest.taken_at.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ");
        rows.push(vec![
            taken,
            manifest.id.clone(),
            state,
            manifest.keys.to_string(),
            bytes::about(manifest.size_bytes),
            manifest.server.clone(),
            manifest.reason.clone(),
        ]);
    }
    table(&rows)
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

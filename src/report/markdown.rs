//! Markdown for a pull request: the verdict, the matrix, and what was found.
//!
//! Short enough for a comment, which GitHub cuts at 65536 characters.

use crate::finding::{Finding, Severity};
use crate::ledger::markdown::{code, table, text};
use crate::parity::{LEVELS, Standing, shape};
use crate::report::escape::{brief, shorten};
use crate::report::{Mood, Report, moment};
use std::fmt::Write as _;

/// Rows of a table; the rest is counted.
const ROWS: usize = 25;
/// Characters of a cell.
const CELL: usize = 200;

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let sign = match report.mood {
        Mood::Right => "✅",
        Mood::Wrong => "❌",
        Mood::Unknown => "❔",
    };
    let mut said = format!("### {sign} {}\n\n", cell(&report.verdict()));
    if !report.matrix.is_empty() {
        said.push_str(&matrix(report));
        said.push('\n');
    }
    for (environment, why) in report.unknown() {
        let _ = writeln!(said, "- **{}** is unknown: {}", text(environment), cell(why));
    }
    if report.unknown().next().is_some() {
        said.push('\n');
    }
    findings(&mut said, &report.findings);
    let accepted = report
        .accepted
        .iter()
        .map(|accepted| vec![cell(&accepted.finding.message), cell(&accepted.why), accepted.until.to_string()]);
    folded(&mut said, "accepted finding", "", &["Finding", "Why", "Until"], accepted.collect());
    let declared = report.declared.iter().map(|declared| {
        let values: Vec<String> =
            declared.values.iter().map(|value| code(&shorten(&brief(&value.to_string()), 40))).collect();
        vec![code(&shorten(&declared.subject, 120)), values.join(" · "), text(&declared.because.join(", "))]
    });
    folded(&mut said, "declared difference", "", &["What", "Values", "Declared by"], declared.collect());
    let shapes = shape::rows(&report.shapes).into_iter().map(|row| row.iter().map(|text| cell(text)).collect());
    folded(&mut said, "line", " about the shape of the keys", &shape::HEADS, shapes.collect());
    let (command, at) = (code(&report.command), moment(&report.at));
    let _ = writeln!(said, "<sub>{command} of {}, {}</sub>", cell(&report.stack), text(&at));
    said
}

fn matrix(report: &Report) -> String {
    let names: Vec<String> = report.matrix.iter().map(|row| text(&row.environment)).collect();
    let mut head = vec!["Level"];
    head.extend(names.iter().map(String::as_str));
    let rows = LEVELS.iter().map(|level| {
        let cells = report.matrix.iter().map(|row| match row.state(*level) {
            Standing::Right(compared) => format!("✅ {compared}"),
            Standing::Reference => "reference".to_owned(),
            Standing::Nothing => "–".to_owned(),
            wrong @ Standing::Wrong { findings: 1.., .. } => format!("❌ {wrong}"),
            unknown => format!("❔ {unknown}"),
        });
        std::iter::once(level.as_str().to_owned()).chain(cells).collect()
    });
    table(&head, &rows.collect::<Vec<_>>())
}

fn findings(said: &mut String, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    let rows = findings.iter().take(ROWS).map(|finding| {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let place = finding.place.as_ref().map(|place| code(&shorten(&place.to_string(), 120))).unwrap_or_default();
        let help = finding.help.as_deref().map(cell).unwrap_or_default();
        vec![format!("{severity} {}", code(finding.rule)), cell(&finding.message), place, help]
    });
    said.push_str(&table(&["Finding", "What", "Where", "What to do"], &rows.collect::<Vec<_>>()));
    if findings.len() > ROWS {
        let _ = write!(said, "\nAnd {} more.\n", findings.len() - ROWS);
    }
    said.push('\n');
}

/// A table that is opened by whoever wants to see it.
fn folded(said: &mut String, what: &str, about: &str, head: &[&str], mut rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let count = rows.len();
    rows.truncate(ROWS);
    let plural = if count == 1 { "" } else { "s" };
    let _ = write!(said, "<details><summary>{count} {what}{plural}{about}</summary>\n\n{}", table(head, &rows));
    if count > ROWS {
        let _ = write!(said, "\nAnd {} more.\n", count - ROWS);
    }
    said.push_str("\n</details>\n\n");
}

/// Text in which nobody is called: `@read` is a category of commands here, and a person on GitHub.
fn cell(written: &str) -> String {
    let short = shorten(&brief(written), CELL);
    let word = |word: &str| if word.contains(['@', '#']) { code(word) } else { text(word) };
    short.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

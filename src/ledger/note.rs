//! The note of a change, in Markdown for the project's `changes/`: what the next person reads in two minutes.

use crate::ledger::markdown::{block, code, paragraph, table, text};
use crate::ledger::{Anchor, Begin, End, Entry, Git, Head, Outcome, Part, slug};
use crate::measure::{Measure, Sample, Unit, Verdict};
use crate::value::{Span, bytes};
use std::fmt::Write as _;

/// Begins the line by which the note knows its record.
const ANCHOR: &str = "<!-- lockstep ledger: ";
/// More steps or files than this are counted; `history show --json` has them all.
const SHOWN: usize = 40;

/// The names that the note of a change may have, the nicest first: the second is no other change's.
pub fn names(begin: &Begin) -> [String; 2] {
    let date = begin.at.get(..10).unwrap_or("undated");
    let slug = slug(&begin.reason);
    [format!("{date}-{slug}.md"), format!("{date}-{slug}-{}-{}.md", begin.environment, begin.number)]
}

/// The name of the draft of a note, no other change's.
pub fn draft_name(begin: &Begin) -> String {
    let [_, own] = names(begin);
    format!("{}.draft.md", own.trim_end_matches(".md"))
}

/// The whole note. A change whose begin cannot be read has nothing to say but that.
pub fn note(entry: &Entry) -> String {
    let Some(begin) = &entry.begin else {
        let problem = entry.problem.as_deref().unwrap_or("its record cannot be read");
        return format!("# Change {}\n\n{}\n", entry.number, text(problem));
    };
    let end = entry.end.as_ref();
    let mut note = format!("# {}\n\n", title(&begin.reason));
    note.push_str(&headline(entry, begin));
    note.push_str(&facts(begin, end));
    note.push_str(&why(begin));
    if let Some(end) = end {
        note.push_str(&trouble(end));
        note.push_str(&result(end));
    }
    note.push_str(&done(begin, end));
    note.push_str(&files(begin.git.as_ref()));
    let _ = write!(note, "## Command used\n\n{}\n", block("sh", &shell(&begin.command)));
    note.push_str(&backups(begin, end));
    note.push_str(&back(entry, begin));
    note.push_str(&assumptions(begin, end));
    let head = entry.head();
    let (stack, environment) = (&begin.stack, &begin.environment);
    let _ = write!(
        note,
        "---\n\nWritten by {} from change {} in the ledger of {} ({} {}); `lockstep history verify {environment}` \
         compares the two.\n\n{ANCHOR}{stack}/{environment} {} {} {} -->\n",
        text(&begin.tool),
        begin.number,
        text(environment),
        head.part.as_str(),
        code(head.sha256.get(..12).unwrap_or_default()),
        head.number,
        head.part.as_str(),
        head.sha256,
    );
    note
}

/// What a note says of the record that it was made from, when it is one of this ledger.
pub fn anchor(place: &str, note: &str, stack: &str, environment: &str) -> Option<Anchor> {
    let line = note.lines().rev().find_map(|line| line.strip_prefix(ANCHOR))?;
    let mut words = line.strip_suffix(" -->")?.split(' ');
    let ledger = words.next()?;
    let (number, part, sha256) = (words.next()?.parse().ok()?, words.next()?, words.next()?.to_owned());
    let part = [Part::Begin, Part::End].into_iter().find(|known| known.as_str() == part)?;
    let whole = number > 0 && sha256.len() == 64 && words.next().is_none();
    let head = Head { number, part, sha256 };
    (whole && ledger == format!("{stack}/{environment}")).then(|| Anchor { place: place.to_owned(), head })
}

/// The first line of the reason, no longer than a title.
fn title(reason: &str) -> String {
    let line = reason.lines().find(|line| !line.trim().is_empty()).unwrap_or("A change without a reason");
    let mut short: String = line.chars().take(80).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    let mut letters = short.chars();
    let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    text(&format!("{capital}{}", letters.as_str()))
}

/// How it ended, in a sentence.
fn headline(entry: &Entry, begin: &Begin) -> String {
    let environment = format!("**{}**", text(&begin.environment));
    let said = match entry.end.as_ref().map(|end| end.outcome) {
        None if entry.is_unfinished() => format!(
            "**Not finished.** {environment} may be in the middle of this change; the next `lockstep` command that \
             changes it finishes it or takes it back. This note is a draft."
        ),
        None => format!("How this change of {environment} ended cannot be read."),
        Some(Outcome::Done) => format!("**Done.** {environment} runs it, and was looked at afterwards."),
        Some(Outcome::Undone) => {
            format!("**Undone.** It did not work, and {environment} is as it was before.")
        }
        Some(Outcome::UndoIncomplete) => format!(
            "**Undo incomplete.** It did not work, and {environment} is not quite as it was: there are steps left to \
             be done by hand. This note is a draft."
        ),
        Some(Outcome::Failed) => {
            format!("**Failed.** {environment} is neither as it was nor as it was meant. This note is a draft.")
        }
        Some(Outcome::Interrupted) => {
            format!("**Interrupted.** Its process ended in the middle of changing {environment}. This note is a draft.")
        }
        Some(Outcome::Refused) => format!("**Refused.** Nothing was changed in {environment}."),
    };
    format!("{said}\n\n")
}

fn facts(begin: &Begin, end: Option<&End>) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.push(("Environment", format!("{} of {}", text(&begin.environment), text(&begin.stack))));
    let took = end.and_then(|end| end.elapsed_ms).map(|took| format!(", took {}", span(took))).unwrap_or_default();
    rows.push(("When", format!("{}{took}", moment(&begin.at))));
    let who = text(&begin.who.to_string());
    let other = end.filter(|end| (&end.by.user, &end.by.host) != (&begin.who.user, &begin.who.host));
    let other = other.map(|end| format!("; ended by {}", text(&end.by.to_string()))).unwrap_or_default();
    rows.push(("Who", format!("{who}{other}")));
    rows.push(("Owner", begin.owner.as_deref().map_or_else(|| "not named in the spec".to_owned(), text)));
    let before = begin.revision_before.as_deref().map(short).unwrap_or_else(|| "none known".to_owned());
    let mut revision = format!("{before} → {}", short(&begin.revision));
    if let Some(now) = end.and_then(|end| end.revision.as_deref()).filter(|now| *now != begin.revision) {
        let _ = write!(revision, "; runs now: {}", short(now));
    }
    rows.push(("Revision", revision));
    rows.push(("Fingerprint", short(&begin.fingerprint)));
    if let Some(id) = &begin.rolls_back {
        rows.push(("Takes back", code(id)));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect();
    format!("{}\n", table(&["", ""], &rows))
}

fn why(begin: &Begin) -> String {
    let reason = paragraph(&begin.reason);
    let reason = if reason.is_empty() { "No reason was given.".to_owned() } else { reason };
    let steps = match begin.steps.len() {
        0 => "had no step to take".to_owned(),
        1 => "had one step to take".to_owned(),
        many => format!("had {many} steps to take"),
    };
    format!("## What and why\n\n{reason}\n\n{} {steps}.\n\n", code(&begin.verb))
}

fn trouble(end: &End) -> String {
    let mut said = String::new();
    if let Some(problem) = &end.problem {
        let _ = write!(said, "## What went wrong\n\n{}\n\n", paragraph(problem));
    }
    if !end.hand_steps.is_empty() {
        said.push_str("## To be done by hand\n\n");
        for (index, step) in end.hand_steps.iter().enumerate() {
            let _ = writeln!(said, "{}. {}", index + 1, code(step));
        }
        said.push('\n');
    }
    said
}

fn result(end: &End) -> String {
    let mut said = "## Result\n\n".to_owned();
    if !end.expectations.is_empty() {
        let rows = end.expectations.iter().map(|expectation| {
            let met = if expectation.met { "met" } else { "**not met**" };
            vec![code(&expectation.text), text(&expectation.measured), met.to_owned()]
        });
        let _ = writeln!(said, "{}", table(&["Expected", "Measured", ""], &rows.collect::<Vec<_>>()));
    }
    if !end.measures.is_empty() {
        let rows = end.measures.iter().map(|measure| {
            let side = |sample: Option<Sample>| sample.map_or("–".to_owned(), |sample| reading(measure, sample));
            vec![code(&measure.name), side(measure.before), side(measure.after), verdict(measure.verdict).to_owned()]
        });
        let _ = writeln!(said, "{}", table(&["Measure", "Before", "After", "Verdict"], &rows.collect::<Vec<_>>()));
    }
    let mut lines = Vec::new();
    if let Some(paused) = end.writes_paused_ms {
        lines.push(format!("Writes were paused for {}.", span(paused)));
    }
    if let Some(down) = end.downtime_ms {
        lines.push(if down == 0 {
            "No service stopped answering.".to_owned()
        } else {
            format!("A service did not answer for {}.", span(down))
        });
    }
    lines.extend(end.verification.as_deref().map(|found| format!("Looked at afterwards: {}", text(found))));
    lines.extend(end.watched.as_deref().map(|seen| format!("Watched: {}", text(seen))));
    if end.measures.is_empty() && end.expectations.is_empty() {
        lines.push("Nothing was measured.".to_owned());
    }
    for line in &lines {
        let _ = writeln!(said, "- {line}");
    }
    said.push_str(if lines.is_empty() { "" } else { "\n" });
    if !end.data.is_empty() {
        let _ = write!(said, "## The data\n\n{}\n", block("", &end.data.join("\n")));
    }
    said
}

fn reading(measure: &Measure, sample: Sample) -> String {
    let shown = |value: f64| quantity(measure.unit, value);
    let (value, low, high) = (shown(sample.value), shown(sample.low), shown(sample.high));
    if low == high { value } else { format!("{value} ({low} to {high})") }
}

/// A number with its unit, in the figures that a person reads.
pub fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Milliseconds if value >= 10_000.0 => format!("{} s", figures(value / 1000.0)),
        Unit::Milliseconds => format!("{} ms", figures(value)),
        Unit::Bytes => ["bytes", "KB", "MB", "GB"]
            .iter()
            .enumerate()
            .map(|(power, name)| (value / 1024f64.powi(i32::try_from(power).unwrap_or(0)), name))
            .find(|(scaled, name)| scaled.abs() < 1024.0 || **name == "GB")
            .map_or_else(String::new, |(scaled, name)| format!("{} {name}", figures(scaled))),
        Unit::Ratio => format!("{} %", figures(value * 100.0)),
        Unit::Count => figures(value),
        Unit::PerSecond => format!("{}/s", figures(value)),
    }
}

/// Three figures behind the first, and no more than are needed.
fn figures(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "**worse**",
        Verdict::Same => "same",
        Verdict::Changed => "changed",
        Verdict::Unknown => "unknown",
    }
}

/// The steps as they went, or as they were meant.
fn done(begin: &Begin, end: Option<&End>) -> String {
    let actions = end.map(|end| end.actions.as_slice()).unwrap_or_default();
    let mut said = String::new();
    let count = if actions.is_empty() {
        said.push_str(if end.is_some() { "## What was meant\n\n" } else { "## What is meant\n\n" });
        for (index, step) in begin.steps.iter().take(SHOWN).enumerate() {
            let _ = writeln!(said, "{}. {}", index + 1, text(step));
        }
        if end.is_some() {
            said.push_str("\nNone of it was recorded as done.\n");
        }
        begin.steps.len()
    } else {
        said.push_str("## What was done\n\n");
        for action in actions.iter().take(SHOWN) {
            let outcome = match action.outcome.as_str() {
                "" => String::new(),
                outcome => format!(": {}", text(outcome)),
            };
            let failed = if action.failed { "**failed**, " } else { "" };
            let (summary, took) = (text(&action.summary), span(action.elapsed_ms));
            let _ = writeln!(said, "{}. {summary}{outcome} ({failed}{took})", action.number);
        }
        actions.len()
    };
    if count > SHOWN {
        let _ = writeln!(said, "\nAnd {} more.", count - SHOWN);
    }
    said.push('\n');
    said
}

fn files(git: Option<&Git>) -> String {
    let mut said = "## Files touched\n\n".to_owned();
    let Some(git) = git else {
        said.push_str("Not known: the project is not in a git repository, or git was not there to ask.\n\n");
        return said;
    };
    let at = match (&git.commit, &git.branch) {
        (Some(commit), Some(branch)) => format!("commit {} on {}", short(commit), code(branch)),
        (Some(commit), None) => format!("commit {}", short(commit)),
        (None, _) => "no commit yet".to_owned(),
    };
    let since = match &git.since {
        Some(since) => format!("since {}, the commit of the change before", short(since)),
        None => "not committed yet".to_owned(),
    };
    let dirty = if git.dirty { ", with changes that were not committed" } else { "" };
    match git.touched.len() {
        0 => _ = write!(said, "None {since} (at {at}{dirty}).\n\n"),
        _ => {
            let _ = write!(said, "At {at}{dirty}; {since}:\n\n");
            for file in git.touched.iter().take(SHOWN) {
                let open = if file.committed { "" } else { ", not committed" };
                let _ = writeln!(said, "- {} ({}{open})", code(&file.path), text(&file.how));
            }
            let further = git.touched.len().saturating_sub(SHOWN);
            let more = u64::try_from(further).unwrap_or(0).saturating_add(git.more);
            if more > 0 {
                let _ = writeln!(said, "- and {more} more");
            }
            said.push('\n');
        }
    }
    said
}

fn backups(begin: &Begin, end: Option<&End>) -> String {
    let kept = end.map(|end| end.backups.as_slice()).unwrap_or_default();
    if kept.is_empty() {
        let why = if end.is_some() {
            "None was taken: no Redis that holds keys was touched."
        } else {
            "None is recorded yet."
        };
        return format!("## Backup\n\n{why}\n\n");
    }
    let rows = kept.iter().map(|backup| {
        let keys = backup.keys.map(|keys| format!("{keys} keys")).unwrap_or_default();
        let size = backup.bytes.map(bytes::about).unwrap_or_default();
        let holds: Vec<String> = [keys, size].into_iter().filter(|part| !part.is_empty()).collect();
        let what = backup.what.as_deref().unwrap_or("as it was before");
        vec![code(&backup.id), text(&backup.service), text(what), text(&backup.proven), holds.join(", ")]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let environment = &begin.environment;
    format!(
        "## Backup\n\n{}\n`lockstep backup list {environment}` shows whether they are still there.\n\n",
        table(&["Backup", "Of", "What", "Proven", "Holds"], &rows)
    )
}

fn back(entry: &Entry, begin: &Begin) -> String {
    let (environment, number) = (&begin.environment, begin.number);
    let mut said = "## How to take it back\n\n".to_owned();
    let outcome = entry.end.as_ref().map(|end| end.outcome);
    match outcome {
        Some(Outcome::Undone | Outcome::Refused) => {
            said.push_str("There is nothing to take back.\n\n");
            return said;
        }
        Some(Outcome::UndoIncomplete) => said.push_str("First do by hand what is listed above; then:\n\n"),
        _ => {}
    }
    if begin.is_data_alone() {
        said.push_str(&match entry.end.as_ref().and_then(|end| end.journal.as_deref()) {
            Some(journal) => {
                block("sh", &shell(&["lockstep", "restore", environment, "--undo", journal].map(str::to_owned)))
            }
            None => format!(
                "Where it got to is in its journal, in the folder `.restores` of the backups: `lockstep restore {environment} --undo JOURNAL`.\n"
            ),
        });
        said.push('\n');
        return said;
    }
    let rollback = ["lockstep", "rollback", environment, &number.to_string(), "--reason", "..."].map(str::to_owned);
    said.push_str(&block("sh", &shell(&rollback)));
    said.push_str("\nThat brings back images, settings, users and files as they were, and leaves the data as it is.");
    let backups = entry.end.as_ref().map(|end| end.backups.as_slice()).unwrap_or_default();
    let before: Vec<String> = backups
        .iter()
        .filter(|backup| backup.what.is_none())
        .map(|backup| shell(&["lockstep", "restore", environment, &backup.id].map(str::to_owned)))
        .collect();
    if before.is_empty() {
        said.push_str("\n\n");
    } else {
        said.push_str(" With `--data` the data comes back as well. The data alone:\n\n");
        said.push_str(&block("sh", &before.join("\n")));
        said.push_str("\nWhat was written since is backed up first.\n\n");
    }
    said
}

fn assumptions(begin: &Begin, end: Option<&End>) -> String {
    let mut lines: Vec<String> = begin.assumptions.iter().map(|line| text(line)).collect();
    lines.push("The files of the project, as they were, are in the record of this change.".to_owned());
    if begin.git.as_ref().is_some_and(|git| git.dirty) {
        lines.push("What was not committed may be nowhere else.".to_owned());
    }
    let measured = end.is_some_and(|end| end.measures.iter().any(|measure| measure.before.is_some()));
    if measured {
        lines.push(
            "Before and after were measured under the load that there was; `same` means that the difference \
                    is within what repeating the measurement would show."
                .to_owned(),
        );
    }
    let mut said = "## Assumptions\n\n".to_owned();
    for line in lines {
        let _ = writeln!(said, "- {line}");
    }
    said.push('\n');
    said
}

fn short(digest: &str) -> String {
    code(digest.get(..12).unwrap_or(digest))
}

/// `2026-11-23 14:32 UTC`
fn moment(at: &str) -> String {
    match (at.get(..10), at.get(11..16)) {
        (Some(date), Some(time)) => text(&format!("{date} {time} UTC")),
        _ => text(at),
    }
}

fn span(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => Span::seconds(milliseconds / 1_000).to_string(),
    }
}

/// Arguments as a shell takes them.
pub(crate) fn shell(arguments: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quoted = arguments.iter().map(|argument| match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.clone(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

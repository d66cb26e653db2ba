//! `lockstep history`: the changes of an environment, one of them, and whether their record is what was written.

use crate::cli::{Cli, HistoryCommand};
use crate::commands::{Verdict, deliver, form, load};
use crate::failure::{Failure, Kind};
use crate::ledger::{self, Entry, note};
use crate::report::{Form, Report};
use crate::store::notes;
use crate::store::repository::Repository;
use crate::store::repository::ledger::Ledger;
use crate::ui::{Ui, json, text};
use std::path::{Path, PathBuf};

pub fn run(
    cli: &Cli,
    ui: &Ui,
    command: Option<&HistoryCommand>,
    environment: Option<&str>,
    last: usize,
) -> Result<Verdict, Failure> {
    match command {
        None => list(cli, ui, environment.unwrap_or_default(), last),
        Some(HistoryCommand::Show { environment, change, out }) => {
            show(cli, ui, environment, change.as_deref(), out.as_deref())
        }
        Some(HistoryCommand::Verify { environment }) => verify(cli, ui, environment),
    }
}

/// A ledger, and whose it is.
struct Opened {
    ledger: Ledger,
    root: PathBuf,
    stack: String,
    environment: String,
}

fn open(cli: &Cli, ui: &Ui, environment: &str) -> Result<Opened, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let ledger = Repository::open(&project.root, environment)?.ledger();
    let (stack, environment) = (environment.stack.to_string(), environment.name.to_string());
    Ok(Opened { ledger, stack, environment, root: project.root })
}

fn list(cli: &Cli, ui: &Ui, environment: &str, last: usize) -> Result<Verdict, Failure> {
    let Opened { ledger, environment, .. } = open(cli, ui, environment)?;
    let entries = ledger.entries(last)?;
    let unreadable = entries.iter().any(|entry| entry.problem.is_some());
    if ui.is_json() {
        let rows: Vec<serde_json::Value> = entries.iter().map(summary).collect();
        ui.json(&serde_json::json!({ "format": 1, "environment": environment, "changes": rows }));
    } else {
        ui.result(&text::changes(&entries));
        for entry in entries.iter().filter(|entry| entry.is_unfinished()) {
            ui.status(&text::printable(&format!(
                "change {} is not finished: the next command that changes {environment} finishes it or takes it back",
                entry.number
            )));
        }
        for entry in &entries {
            if let Some(problem) = &entry.problem {
                ui.status(&text::printable(&format!("change {}: {problem}", entry.number)));
            }
        }
    }
    Ok(unreadable.then_some(Kind::Differences))
}

/// One change in a list, for scripts.
fn summary(entry: &Entry) -> serde_json::Value {
    let begin = entry.begin.as_ref();
    serde_json::json!({
        "number": entry.number,
        "id": begin.map(|begin| &begin.id),
        "at": begin.map(|begin| &begin.at),
        "who": begin.map(|begin| &begin.who),
        "verb": begin.map(|begin| &begin.verb),
        "outcome": entry.outcome(),
        "unfinished": entry.is_unfinished(),
        "reason": begin.map(|begin| &begin.reason),
        "problem": entry.problem,
    })
}

fn show(cli: &Cli, ui: &Ui, environment: &str, change: Option<&str>, out: Option<&Path>) -> Result<Verdict, Failure> {
    let Opened { ledger, environment, .. } = open(cli, ui, environment)?;
    let entries = ledger.entries(if change.is_some() { usize::MAX } else { 1 })?;
    let entry = match change {
        None => entries.last().ok_or_else(|| none(&environment))?,
        Some(wanted) => ledger::find(&entries, wanted).map_err(|near| unknown(&environment, wanted, &near))?,
    };
    let said = match form(cli) {
        Some(Form::Html) => Report::of_change(entry).render(Form::Html),
        // The note is Markdown already.
        None if ui.is_json() => json::text(&serde_json::json!({
            "format": 1,
            "number": entry.number,
            "outcome": entry.outcome(),
            "problem": entry.problem,
            "begin": entry.begin,
            "begin_sha256": entry.begin_sha256,
            "end": entry.end,
            "end_sha256": entry.end_sha256,
        })),
        _ => text::printable(&note::note(entry)),
    };
    deliver(ui, out, &said, &format!("change {} of {environment}: {}", entry.number, entry.outcome()))?;
    if let Some(problem) = entry.problem.as_ref().filter(|_| !ui.is_json()) {
        ui.status(&text::printable(problem));
    }
    Ok(entry.problem.is_some().then_some(Kind::Differences))
}

fn none(environment: &str) -> Failure {
    Failure::message(Kind::Usage, format!("no change of {environment} is recorded"))
        .help(format!("a change is recorded when it begins, beside the backups of {environment}"))
}

pub(super) fn unknown(environment: &str, wanted: &str, near: &[&str]) -> Failure {
    let list = format!("`lockstep history {environment}` shows those that there are");
    match near {
        [] => Failure::message(Kind::Usage, format!("there is no change `{wanted}` of {environment}")).help(list),
        [one] => Failure::message(Kind::Usage, format!("there is no change `{wanted}` of {environment}"))
            .help(format!("did you mean `{one}`?")),
        several => {
            let shown: Vec<&str> = several.iter().take(5).copied().collect();
            let rest = if several.len() > shown.len() { " and others" } else { "" };
            let message = format!("`{wanted}` may be one of {} changes of {environment}", several.len());
            Failure::message(Kind::Usage, message).help(format!("{}{rest}", shown.join(", ")))
        }
    }
}

fn verify(cli: &Cli, ui: &Ui, environment: &str) -> Result<Verdict, Failure> {
    let Opened { ledger, root, stack, environment } = open(cli, ui, environment)?;
    let anchors = notes::anchors(&root, &stack, &environment)?;
    let broken = ledger.verify(&anchors)?;
    let changes = ledger.entries(usize::MAX)?.len();
    if ui.is_json() {
        ui.json(&serde_json::json!({
            "format": 1, "environment": environment, "changes": changes, "notes": anchors.len(), "broken": broken,
        }));
    } else if broken.is_empty() {
        let (changes, notes) = (text::plural(changes, "change"), text::plural(anchors.len(), "note"));
        ui.result(&format!("the ledger of {environment} is what was written: {changes}, compared with {notes}\n"));
    } else {
        for place in &broken {
            ui.result(&text::printable(&format!("{} {}\n", place.record, place.what)));
        }
        ui.result(&format!(
            "the ledger of {environment} is not what was written: {}\n",
            text::plural(broken.len(), "place")
        ));
    }
    Ok((!broken.is_empty()).then_some(Kind::Differences))
}

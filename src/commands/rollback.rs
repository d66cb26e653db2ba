//! `lockstep rollback`: an environment as the spec was before a change, by a change like any other.

use crate::cli::Cli;
use crate::commands::apply::{Arguments, Wanted, bring_about};
use crate::commands::probe;
use crate::commands::record::{About, Records};
use crate::commands::restore::{Task, cold, find};
use crate::commands::{Verdict, history, load, open, sound};
use crate::failure::{Failure, Kind};
use crate::ledger::{self, Entry, Outcome};
use crate::project::{self, Project, Scope};
use crate::restore::Choice;
use crate::ui::{Ui, text};
use crate::value::Sources;
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) async fn run(
    cli: &Cli,
    ui: &Ui,
    change: Option<&str>,
    with_data: bool,
    arguments: Arguments<'_>,
) -> Result<Verdict, Failure> {
    let name = arguments.target;
    let (present, _) = load(cli, ui, &[name])?;
    let environment = present.environment(name)?;
    let entries = Records::of(&present, environment)?.entries().await?;
    let taken_back = match change {
        Some(wanted) => ledger::find(&entries, wanted).map_err(|near| history::unknown(name, wanted, &near))?,
        None => {
            let of_spec = |entry: &Entry| entry.begin.as_ref().is_none_or(|begin| !begin.is_data_alone());
            let done =
                |entry: &&Entry| of_spec(entry) && entry.end.as_ref().is_some_and(|end| end.outcome == Outcome::Done);
            let newest = entries.iter().rev().find(done);
            newest.ok_or_else(|| Failure::message(Kind::Usage, format!("no change of {name} is recorded as done")))?
        }
    };
    if let Some(begin) = taken_back.begin.as_ref().filter(|begin| begin.is_data_alone()) {
        let message =
            format!("change {} of {name} is a `{}`: the spec was not changed by it", begin.number, begin.verb);
        let journal = taken_back.end.as_ref().and_then(|end| end.journal.as_deref()).unwrap_or("JOURNAL");
        return Err(Failure::message(Kind::Usage, message).help(format!("`lockstep restore {name} --undo {journal}`")));
    }
    let before = entries.iter().rev().filter(|entry| entry.number < taken_back.number).find_map(|entry| {
        let done = entry.end.as_ref().is_some_and(|end| end.outcome == Outcome::Done);
        entry
            .begin
            .as_ref()
            .filter(|begin| done && matches!(begin.verb.as_str(), "apply" | "rollback" | "restore" | "refresh"))
    });
    let Some(before) = before else {
        let message = format!("change {} of {name} is the first one: there is nothing before it", taken_back.number);
        return Err(Failure::message(Kind::Refused, message).help(format!("`lockstep down {name}` removes it")));
    };
    let scope = Scope::Only(vec![name.to_owned()]);
    let (was, sources) = sound(ui, project::load_texts(&present.root, &before.texts, scope)).map_err(|failure| {
        failure.so_far(format!("that is the spec of change {}; nothing was changed", before.number))
    })?;
    ui.status(&text::printable(&format!("{name} goes back to change {}: {}", before.number, before.reason)));
    let verdict = if with_data {
        data_too(ui, (&was, &sources), taken_back, arguments).await?
    } else {
        let rolls_back = Some(taken_back.id());
        let wanted = Wanted { project: &was, sources: &sources, environment: name, file: None, rolls_back };
        bring_about(ui, wanted, arguments).await?
    };
    if was.texts != present.texts {
        ui.status(&format!(
            "the project's files still say otherwise: change them, or the next `apply {name}` does it again"
        ));
    }
    Ok(verdict)
}

/// Goes back to a spec and to the data of that time in one change: each Redis that the change backed up gets a new volume with
/// what it held then, and what it holds now is backed up and stays in its volume.
async fn data_too(
    ui: &Ui,
    (was, sources): (&Project, &Sources),
    taken_back: &Entry,
    arguments: Arguments<'_>,
) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let environment = was.environment(arguments.target)?;
    let name = &environment.name;
    let will = arguments.will.checked()?;
    let expected = probe::read(arguments.expect, environment)?;
    let backups = backups_before(taken_back);
    if backups.is_empty() {
        let message =
            format!("change {} of {name} took no backup of a Redis: there is no data to go back to", taken_back.number);
        return Err(Failure::message(Kind::Usage, message).help("without `--data` it is taken back all the same"));
    }
    let kept = taken_back.end.iter().flat_map(|end| &end.backups).filter(|kept| kept.what.is_none());
    if let Some(copied) = kept.into_iter().find(|kept| !backups.contains_key(&kept.service)) {
        let message = format!("what {} held before is in a copy of its volume, which is not restored", copied.service);
        let help = format!("`lockstep backup export {}` gives its files", copied.id);
        return Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed"));
    }
    let mut session = open(was, environment).await?;
    will.confirm(ui, environment)?;
    session = session.take(ui, was, environment, arguments.why).await?;
    session.conclude(ui, was, environment).await?;
    session.decided()?;
    let reason = arguments.will.reason.unwrap_or(arguments.why.verb);
    let about = About { verb: arguments.why.verb, reason, rolls_back: Some(taken_back.id()), data: &[] };
    let mut tasks = Vec::new();
    for (service, id) in &backups {
        let Some(facts) = session.desired.service(service) else {
            ui.status(&format!("{service} was not there before: what it holds stays in its volume"));
            continue;
        };
        let origin = find(was, environment, id).await?;
        let (service, choice, session, yes) = (facts.name.clone(), Choice::default(), &session, will.yes);
        tasks.push(Task { ui, project: was, sources, environment, session, service, origin, choice, yes, about });
    }
    for task in &tasks {
        cold::foresee(task).await?;
        task.confirm()?;
    }
    let moving = cold::Moving {
        ui,
        project: was,
        sources,
        environment,
        session: &session,
        about,
        expected: &expected,
        undo: arguments.undo,
    };
    let mut loaded = Vec::new();
    for task in &tasks {
        match cold::load(task).await {
            Ok(one) => loaded.push(one),
            Err(failure) => {
                moving.clear(&loaded).await;
                return Err(failure);
            }
        }
    }
    moving.run(&loaded).await?;
    let mut restored = Vec::new();
    for (task, loaded) in tasks.iter().zip(&loaded) {
        let compared = cold::prove(task, loaded).await?;
        match ui.is_json() {
            true => restored.push(cold::json(task, loaded, &compared, began.elapsed())),
            false => ui.result(&cold::told(task, loaded, &compared, began.elapsed())),
        }
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "environment": name, "restored": restored }));
    }
    Ok(None)
}

/// The last backup that a change took of each Redis before it touched it, by service.
fn backups_before(entry: &Entry) -> BTreeMap<String, String> {
    let kept = entry.end.iter().flat_map(|end| &end.backups);
    let before = kept.filter(|kept| kept.what.is_none() && kept.keys.is_some());
    before.map(|kept| (kept.service.clone(), kept.id.clone())).collect()
}

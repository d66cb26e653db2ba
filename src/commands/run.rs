//! `lockstep run`: a command beside a copy of the stack that is there for it alone.
//!
//! Standard output is the command's. The copy goes with this process, however it ends: it is held by a connection of this
//! process to the engine, and the next run removes what nobody holds.

use crate::cli::{Cli, RunArguments};
use crate::commands::copies::{Copied, Launched, Wanted, told};
use crate::commands::{Signals, Verdict, load};
use crate::failure::{Failure, Kind};
use crate::finding::Finding;
use crate::parity::Verification;
use crate::report::{Form, Report, junit};
use crate::store;
use crate::store::{child, files};
use crate::ui::{Ui, json, text};
use crate::value::Secret;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

pub(super) async fn run(cli: &Cli, ui: &Ui, arguments: &RunArguments) -> Result<Verdict, Failure> {
    let signals = Signals::listen_saying("stopping: the command was told, and its environment goes after it");
    let (project, sources) = load(cli, ui, &[&arguments.environment])?;
    let base = project.environment(&arguments.environment)?;
    let stays = arguments.keep.then(|| arguments.ttl.unwrap_or(base.run.ttl));
    let wanted = Wanted { base: &arguments.environment, stays, seeds: &arguments.seeds, verb: "run" };
    let mut copied = Copied::begin(ui, &project, &sources, &wanted, &signals).await?;
    let swept = copied.sweeping();
    let result = match copied.launch(&signals).await {
        Ok(Launched { variables, .. }) => follow(&arguments.command, &variables, &signals).await,
        Err(failure) => Err(failure),
    };
    if let Some(why) = copied.lost() {
        ui.status(&why);
    }
    let failed = match &result {
        Ok(Ended { code, .. }) => *code != 0,
        Err(failure) => !matches!(failure.kind, Kind::Signal(_)),
    };
    if failed {
        copied.show_last_lines().await;
    }
    let kept = match &arguments.artifacts {
        Some(folder) => artifacts(&copied, folder, &result).await,
        None => Ok(()),
    };
    let sweeper = copied.sweeping();
    let removed = match arguments.keep {
        true => {
            copied.leave().await;
            Ok(())
        }
        false => copied.remove().await,
    };
    told(ui, swept).await;
    told(ui, sweeper).await;
    let ended = result?;
    if ended.code == 0 {
        // What the command says counts for more than what came after it.
        removed?;
        kept?;
    } else {
        for failure in [removed, kept].into_iter().filter_map(Result::err) {
            ui.failure(&failure);
        }
    }
    Ok((ended.code != 0).then_some(Kind::Command(ended.code)))
}

/// How a command ended.
struct Ended {
    code: u8,
    said: String,
}

/// Runs the command to its end. A signal that lockstep gets goes on to it.
async fn follow(words: &[OsString], variables: &BTreeMap<String, Secret>, signals: &Signals) -> Result<Ended, Failure> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Failure::message(Kind::Usage, "there is no command"))?;
    let shown = program.to_string_lossy().into_owned();
    let variables = variables.iter().map(|(name, value)| (name, OsStr::from_bytes(value.reveal())));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).envs(variables).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        Failure::message(Kind::Usage, format!("could not run `{shown}`: {error}"))
            .help("is it in PATH, and may it be run?")
    })?;
    let mut number = None;
    let status = loop {
        let ended = tokio::select! {
            status = child.wait() => Some(status),
            heard = signals.come(), if number.is_none() => {
                number = Some(heard);
                // A terminal has told everybody in front of it already.
                if let Some(process) = child.id().filter(|_| heard != 2 || !child::hears_the_terminal()) {
                    child::signal(process, heard);
                }
                None
            }
        };
        if let Some(status) = ended {
            break status.map_err(|error| Failure::new(Kind::Error, error))?;
        }
    };
    Ok(match number {
        Some(number) => Ended { code: Kind::Signal(number).exit_code(), said: format!("`{shown}` was stopped") },
        None => ended(&shown, status),
    })
}

fn ended(shown: &str, status: ExitStatus) -> Ended {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) => u8::try_from(signal).map_or(1, |signal| Kind::Signal(signal).exit_code()),
        (None, None) => 1,
    };
    Ended { code, said: format!("`{shown}` ended with {status}") }
}

/// What somebody who looks at a failed run later wants to have.
async fn artifacts(copied: &Copied<'_>, folder: &Path, result: &Result<Ended, Failure>) -> Result<(), Failure> {
    let unwritten = |error: anyhow::Error| {
        Failure::new(Kind::Error, error.context(format!("could not keep artifacts in `{}`", folder.display())))
    };
    std::fs::create_dir_all(folder).map_err(|error| unwritten(error.into()))?;
    let write = |name: &str, content: &str| {
        files::write_atomically(&folder.join(name), text::plain(content).as_bytes(), 0o644).map_err(unwritten)
    };
    for service in copied.environment.services.keys() {
        write(&format!("{service}.log"), &copied.log(service).await)?;
    }
    let at = store::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let verification = copied.verification.as_ref();
    let nothing = Verification::of_unread(copied.name().as_str(), "it was not launched");
    let mut report =
        Report::of_verification(verification.unwrap_or(&nothing), copied.environment.stack.as_str(), false, &at);
    report.command = format!("lockstep run {}", copied.name());
    let problem = match result {
        Ok(Ended { code: 0, .. }) => None,
        Ok(Ended { said, .. }) => Some(said.clone()),
        Err(failure) => Some(failure.to_string()),
    };
    report.findings.extend(problem.map(|problem| Finding::error(junit::COMMAND, problem)));
    write("junit.xml", &report.render(Form::Junit))?;
    match verification {
        Some(verification) => write("verify.json", &json::text(verification)),
        None => Ok(()),
    }
}

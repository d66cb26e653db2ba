//! `lockstep up --ephemeral`: a copy of the stack for pipelines of several steps, which stays until its time is over.

use crate::cli::{Cli, Output, UpArguments};
use crate::commands::copies::{Copied, Launched, Wanted, told};
use crate::commands::{Signals, Verdict, load};
use crate::failure::{Failure, Kind};
use crate::ledger::note::shell;
use crate::model;
use crate::store;
use crate::store::files;
use crate::ui::{Ui, text};
use crate::value::{Secret, urlencoded};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) async fn run(cli: &Cli, ui: &Ui, arguments: &UpArguments) -> Result<Verdict, Failure> {
    let signals = Signals::listen_saying("stopping: what was launched goes again");
    let (project, sources) = load(cli, ui, &[&arguments.environment])?;
    let base = project.environment(&arguments.environment)?;
    let stays = Some(arguments.ttl.unwrap_or(base.run.ttl));
    let wanted = Wanted { base: &arguments.environment, stays, seeds: &arguments.seeds, verb: "up" };
    let mut copied = Copied::begin(ui, &project, &sources, &wanted, &signals).await?;
    let swept = copied.sweeping();
    let launched = match copied.launch(&signals).await {
        Ok(launched) => launched,
        Err(failure) => {
            if !matches!(failure.kind, Kind::Signal(_)) {
                copied.show_last_lines().await;
            }
            copied.remove().await?;
            told(ui, swept).await;
            return Err(failure);
        }
    };
    let output = if ui.is_json() { Output::Json } else { arguments.output };
    let said = say(ui, &copied, &launched, output);
    match said {
        Ok(()) => copied.leave().await,
        // Nobody would know of it.
        Err(_) => copied.remove().await?,
    }
    told(ui, swept).await;
    said.map(|()| None)
}

/// What somebody needs to use the copy, in the form that was asked for.
fn say(ui: &Ui, copied: &Copied<'_>, launched: &Launched, output: Output) -> Result<(), Failure> {
    let variables: BTreeMap<&str, String> =
        launched.variables.iter().map(|(name, value)| (name.as_str(), revealed(value))).collect();
    let name = copied.name().as_str();
    match output {
        Output::Json => {
            let services: BTreeMap<&str, _> = copied
                .environment
                .services
                .values()
                .filter_map(|service| {
                    let answers = model::run::answers(service, &launched.reached)?;
                    Some((service.name.as_str(), answers))
                })
                .collect();
            ui.json(&serde_json::json!({
                "format": 1, "environment": name, "stack": copied.environment.stack, "until": copied.until_text(),
                "services": services, "env": variables,
            }));
        }
        Output::Env => {
            let lines =
                variables.iter().map(|(name, value)| format!("export {name}={}\n", shell(std::slice::from_ref(value))));
            ui.result(&lines.collect::<String>());
        }
        Output::Github => github(ui, name, launched, &variables)?,
        Output::Text => {
            let rows: Vec<Vec<String>> = launched
                .reached
                .addresses
                .iter()
                .map(|(service, (host, port))| vec![format!("  {service}"), format!("{host}:{port}")])
                .collect();
            ui.result(&format!("{name}\n{}", text::table(&rows)));
        }
    }
    Ok(())
}

fn revealed(value: &Secret) -> String {
    String::from_utf8_lossy(value.reveal()).into_owned()
}

/// Into the files that GitHub gives every step of a job; secrets are masked in its log from then on.
fn github(ui: &Ui, name: &str, launched: &Launched, variables: &BTreeMap<&str, String>) -> Result<(), Failure> {
    let file = |variable: &str| store::variable(variable);
    let Some(env) = file("GITHUB_ENV") else {
        let message = "`--output github` writes into the files of a GitHub job, and GITHUB_ENV names none";
        return Err(Failure::message(Kind::Usage, message).help("elsewhere use `--output env` or `json`"));
    };
    let random = store::random_hex::<8>().map_err(|error| Failure::new(Kind::Error, error))?;
    // A value of several lines ends with a line that nobody can have written into it.
    let entry = |name: &str, value: &str| format!("{name}<<end-{random}\n{value}\nend-{random}\n");
    let entries: String = variables.iter().map(|(name, value)| entry(name, value)).collect();
    let masks = launched.reached.secrets.values().map(revealed).flat_map(|secret| {
        let mut both = vec![urlencoded(&secret), secret];
        both.dedup();
        both
    });
    let masks = masks.flat_map(|secret| secret.lines().map(str::to_owned).collect::<Vec<_>>());
    let masks = masks.filter(|line| !line.is_empty()).map(|line| format!("::add-mask::{}\n", command_data(&line)));
    // First, so that nothing is ever shown that is in the files already.
    ui.result(&masks.collect::<String>());
    let unwritten = |error| Failure::new(Kind::Error, anyhow::Error::from(error).context("could not tell the job"));
    files::append(Path::new(&env), entries.as_bytes()).map_err(unwritten)?;
    if let Some(output) = file("GITHUB_OUTPUT") {
        files::append(Path::new(&output), entry("environment", name).as_bytes()).map_err(unwritten)?;
    }
    Ok(())
}

/// A text as a command of a GitHub log has it.
fn command_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

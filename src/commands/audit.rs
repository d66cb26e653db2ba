//! `lockstep audit`: the security checklist, judged by what runs.

use crate::audit::{self, Audit};
use crate::cli::Cli;
use crate::commands::{Verdict, engine_failure, load_with_copies, look};
use crate::desired::Secrets;
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::project::Project;
use crate::ui::{Ui, checklist};
use crate::world::audit::{Subject, gather};
use crate::world::observe;

pub async fn run(cli: &Cli, ui: &Ui, environment: &str, strict: bool) -> Result<Verdict, Failure> {
    let (project, _) = load_with_copies(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    if let Some(place) = &environment.security.off {
        let message = format!("the audit is switched off at {place}");
        return Err(Failure::message(Kind::Refused, message).help("take `enabled: false` out of `security:`"));
    }
    let audit = read(&project, environment).await?;
    if ui.is_json() {
        ui.json(&checklist::json(environment.name.as_str(), &audit, strict));
    } else {
        ui.result(&checklist::text(environment, &audit));
    }
    Ok((!audit.is_fine(strict)).then_some(Kind::Differences))
}

/// Reads the environment and judges it. Secrets that cannot be read leave the checks that look for them unknown.
async fn read(project: &Project, environment: &Environment) -> Result<Audit, Failure> {
    let (engine, names, report) = look(environment).await?;
    if report.is_empty() {
        let message = format!("there is nothing to audit: the engine has nothing of {}", environment.name);
        let help = format!("`lockstep apply {}` makes it", environment.name);
        return Err(Failure::message(Kind::Error, message).help(help));
    }
    let values = project.secrets(environment);
    let without_secrets = values.as_ref().err().map(ToString::to_string);
    let secrets = Secrets { values: values.unwrap_or_default(), operators: report.operators() };
    let generations = report.generations();
    let desired = project.desired(environment, &secrets, &generations)?;
    let observed = observe::observe(&engine, report, &desired).await;
    let subject = Subject {
        engine: &engine,
        names: &names,
        environment,
        root: &project.root,
        secrets: &secrets,
        without_secrets: without_secrets.as_deref(),
        observed: &observed,
    };
    let facts = gather(subject).await.map_err(|error| engine_failure(&engine.address, &error))?;
    Ok(audit::audit(&facts))
}

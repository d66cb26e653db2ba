//! `lockstep plan`: what `apply` would do and why.

use crate::cli::Cli;
use crate::commands::plan_file::PlanFile;
use crate::commands::{Verdict, load, open};
use crate::failure::{Failure, Kind};
use crate::model::behaviour;
use crate::ui::{Ui, text};
use std::path::Path;

pub async fn run(cli: &Cli, ui: &Ui, environment: &str, out: Option<&Path>) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let mut session = open(&project, environment).await?;
    session.decided()?;
    let mut plan = session.plan(&project, environment)?;
    if let Some(path) = out.filter(|_| plan.refusals.is_empty()) {
        PlanFile::of(&plan, session.desired.state.digest().as_str())?.write(path)?;
    }
    plan.notes.extend(behaviour::switched_off(&project.spec));
    if ui.is_json() {
        ui.json(&plan);
    } else {
        ui.result(&text::plan(&plan));
    }
    Ok(match (plan.is_empty(), plan.refusals.is_empty()) {
        (true, _) => None,
        (false, true) => Some(Kind::Differences),
        (false, false) => Some(refusal_kind(&plan)),
    })
}

/// The exit code of a plan that may not be carried out.
pub fn refusal_kind(plan: &crate::plan::Plan) -> Kind {
    let any = |rule: &str| plan.refusals.iter().any(|finding| finding.rule == rule);
    match (any("backup"), any("name-taken")) {
        (true, _) => Kind::Backup,
        (false, true) => Kind::Error,
        (false, false) => Kind::Usage,
    }
}

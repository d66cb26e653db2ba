//! `lockstep plan`: what `apply` would do and why.

use crate::cli::Cli;
use crate::commands::{Verdict, load, open};
use crate::failure::{Failure, Kind};
use crate::plan::build;
use crate::ui::{Ui, text};
use std::collections::BTreeSet;

pub async fn run(cli: &Cli, ui: &Ui, environment: &str) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let session = open(&project, environment).await?;
    let plan = build::build(&session.observed, &session.desired, &BTreeSet::new());
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

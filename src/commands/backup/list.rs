//! `backup list`: what there is, and how far each is proven.

use crate::cli::Cli;
use crate::commands::backup::json;
use crate::commands::{Verdict, load};
use crate::failure::{Failure, Kind};
use crate::store::repository::Repository;
use crate::ui::{Ui, text};

pub fn run(cli: &Cli, ui: &Ui, environment: Option<&str>) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[])?;
    let chosen = match environment {
        Some(name) => vec![project.environment(name)?],
        None => project.resolved.values().collect(),
    };
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for environment in chosen {
        let repository = Repository::open(&project.root, environment)?;
        let listed = repository.list()?;
        let failed = repository.failures()?;
        if !ui.is_json() {
            ui.result(&format!("{}:\n{}", environment.name, text::backups(&listed)));
            for failed in &failed {
                ui.status(&format!(
                    "the last backup of {} failed at {}: {}",
                    failed.service, failed.at, failed.problem
                ));
            }
        }
        all.extend(listed);
        failures.extend(failed);
    }
    if ui.is_json() {
        let rows: Vec<serde_json::Value> = all.iter().map(json).collect();
        ui.json(&serde_json::json!({ "format": 1, "backups": rows, "failed": failures }));
    }
    Ok(all.iter().any(|backup| backup.problem.is_some()).then_some(Kind::Differences))
}

//! `lockstep check`: everything that can be said without an engine.

use crate::cli::Cli;
use crate::commands::Verdict;
use crate::failure::{Failure, Kind};
use crate::finding;
use crate::project::{self, Scope};
use crate::ui::{Ui, json, text};

pub fn run(cli: &Cli, ui: &Ui) -> Result<Verdict, Failure> {
    let loaded = project::load(&cli.project, Scope::All)?;
    let wrong = finding::has_errors(&loaded.findings);
    if ui.is_json() {
        ui.json(&json::Check { format: 1, ok: !wrong, findings: &loaded.findings });
    } else {
        ui.result(&text::findings(&loaded.findings, &loaded.sources));
        let environments = loaded.project.as_ref().map_or(0, |project| project.resolved.len());
        let verdict = if wrong { "wrong" } else { "right" };
        ui.result(&format!(
            "the spec is {verdict}: {}, {}\n",
            text::plural(environments, "environment"),
            text::count(&loaded.findings)
        ));
    }
    Ok(wrong.then_some(Kind::Usage))
}

//! `lockstep explain`: what an environment will run and why, from the spec alone.

use crate::cli::Cli;
use crate::commands::{Verdict, load_to_show};
use crate::desired::{Generations, Secrets};
use crate::explain::{explain, page};
use crate::failure::Failure;
use crate::ui::{Ui, text};

pub fn run(cli: &Cli, ui: &Ui, environment: &str) -> Result<Verdict, Failure> {
    let (project, _) = load_to_show(cli, ui, environment)?;
    let environment = project.environment(environment)?;
    // No value of a secret is wanted for saying what runs.
    let desired = project.desired(environment, &Secrets::default(), &Generations::new())?;
    let sections = explain(&project.spec, environment, &desired);
    if ui.is_json() {
        let fingerprint = project.fingerprint();
        ui.json(&serde_json::json!({
            "format": 1, "environment": environment.name, "fingerprint": fingerprint, "sections": sections,
        }));
    } else {
        ui.result(&text::printable(&page(&sections)));
    }
    Ok(None)
}

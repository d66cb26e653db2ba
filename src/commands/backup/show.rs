//! `backup show`: all that is known of one.

use crate::cli::Cli;
use crate::commands::Verdict;
use crate::commands::backup::{find, json};
use crate::failure::{Failure, Kind};
use crate::ui::{Ui, text};

pub fn run(cli: &Cli, ui: &Ui, id: &str) -> Result<Verdict, Failure> {
    let (_, backup) = find(cli, ui, id)?;
    if ui.is_json() {
        ui.json(&json(&backup));
    } else {
        ui.result(&text::backup(&backup));
    }
    Ok(backup.problem.is_some().then_some(Kind::Differences))
}

//! Parses the arguments, runs the command, shows the failure, chooses the exit code.

use clap::Parser as _;
use lockstep::cli::Cli;
use lockstep::commands;
use lockstep::failure::Kind;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // A reader that has gone does not make the arguments wrong.
            let _ = error.print();
            return ExitCode::from(if asked_for { 0 } else { Kind::Usage.exit_code() });
        }
    };
    let ui = commands::ui(&cli);
    match commands::run(&cli, &ui) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(kind)) => ExitCode::from(kind.exit_code()),
        Err(failure) => {
            ui.failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

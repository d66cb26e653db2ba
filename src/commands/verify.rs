//! `lockstep verify`: is it as the spec says, and is it like the other one?

use crate::cli::Cli;
use crate::commands::{Verdict, load, open};
use crate::failure::{Failure, Kind};
use crate::parity::{self, Side};
use crate::ui::{Ui, text};

pub async fn run(cli: &Cli, ui: &Ui, environment: &str, with: Option<&str>) -> Result<Verdict, Failure> {
    let (project, sources) = load(cli, ui, &[environment, with.unwrap_or(environment)])?;
    let left = project.environment(environment)?;
    let verification = match with {
        None => {
            let session = open(&project, left).await?;
            parity::drift(Side { want: &session.desired, have: &session.observed })
        }
        Some(with) => {
            let right = project.environment(with)?;
            if left.name == right.name {
                let message = format!("`{}` is compared with itself", left.name);
                return Err(Failure::message(Kind::Usage, message).help("name two environments"));
            }
            let (left, right) = futures_util::future::try_join(open(&project, left), open(&project, right)).await?;
            parity::parity(
                Side { want: &left.desired, have: &left.observed },
                Side { want: &right.desired, have: &right.observed },
            )
        }
    };
    if ui.is_json() {
        ui.json(&verification);
    } else {
        ui.result(&text::verification(&verification, &sources));
    }
    Ok((!verification.findings.is_empty()).then_some(Kind::Differences))
}

//! What the networks and volumes of an environment are beyond what a spec can mean, as findings.
//!
//! They stand apart from drift because no change of the environment mends them: a change must neither fail for a stranger
//! on a network nor take him off it.

use super::{Level, Verification};
use crate::finding::{self, Finding, Seen};
use crate::state::Observed;
use crate::value::ResourceKind;

impl Verification {
    /// Takes in what one environment is beyond what its spec means.
    pub fn beyond(&mut self, environment: &str, have: &Observed) {
        let several = self.matrix.len() > 1;
        for (id, of) in &have.beyond {
            for (field, value) in of {
                let (rule, said, help) = match field.strip_prefix("guests.") {
                    Some(guest) => (
                        "guest",
                        format!("{guest} is on {id} and is no part of the environment"),
                        "take it off the network, or give it one of its own".to_owned(),
                    ),
                    None => (
                        "drift",
                        format!("{id} {field} is {value}, and nothing means that"),
                        match id.kind {
                            ResourceKind::Volume => format!(
                                "back it up and restore it with `lockstep restore {environment}`, which makes another volume"
                            ),
                            _ => {
                                format!("`lockstep down {environment}` and `lockstep apply {environment}` make it anew")
                            }
                        },
                    ),
                };
                let message = if several { format!("in {environment}, {said}") } else { said };
                let seen = Seen {
                    environment: environment.to_owned(),
                    level: Level::Container.as_str(),
                    source: Level::Container.source(),
                    at: None,
                    since: None,
                };
                let finding = Finding::error(rule, message).about(format!("{id} {field}")).sides("absent", value);
                self.findings.push(finding.help(help).seen(seen));
            }
        }
        finding::sort(&mut self.findings);
        self.count();
    }
}

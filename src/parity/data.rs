//! What two servers hold, compared: a verification that was asked for it says so for every Redis.

use super::{Level, Verification};
use crate::finding::{Finding, Seen};

/// What comparing one Redis of two environments came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `cache`
    pub service: String,
    pub keys: (u64, u64),
    /// In what they differ, `keys`, `values`; nothing where they are equal.
    pub differs: Vec<&'static str>,
    /// How many of the 4096 parts that keys fall into differ.
    pub parts: usize,
}

impl Verification {
    /// Takes in what an environment holds beside the reference, or why that is not known.
    pub fn data(&mut self, reference: &str, environment: &str, service: &str, found: Result<Held, String>) {
        let row = self.matrix.iter_mut().filter(|row| row.environment == environment).flat_map(|row| &mut row.levels);
        for proof in row.chain(&mut self.levels).filter(|proof| proof.level == Level::Process) {
            proof.compared += 1;
        }
        let subject = format!("container/{service} data");
        let finding = match found {
            Ok(held) if held.differs.is_empty() => return,
            Ok(Held { keys, differs, parts, .. }) => {
                let message = format!(
                    "container/{service} does not hold in {environment} what it holds in {reference}: {} differ, in {parts} of 4096 parts",
                    differs.join(", ")
                );
                let help = format!(
                    "`lockstep backup create` of {reference} and of {environment}, and `lockstep backup diff` of the two, name the keys"
                );
                let side = |keys: u64| if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
                Finding::error("data", message).sides(side(keys.0), side(keys.1)).help(help)
            }
            Err(why) => {
                Finding::error("unknown", format!("what container/{service} holds could not be compared: {why}"))
            }
        };
        let seen = Seen {
            environment: environment.to_owned(),
            level: Level::Process.as_str(),
            source: Level::Process.source(),
            at: None,
            since: None,
        };
        self.findings.push(finding.about(subject).seen(seen));
    }
}

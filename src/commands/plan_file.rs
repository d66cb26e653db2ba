//! A plan that was written down, to be carried out later exactly as it was read, or not at all.

use crate::failure::{Failure, Kind};
use crate::plan::Plan;
use crate::store::{files, inputs};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FORMAT: u32 = 1;
/// A plan of a thousand services has some megabytes.
const MAX: u64 = 64 << 20;

/// The file that `plan --out` writes and `apply` takes in the place of an environment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PlanFile {
    format: u32,
    pub environment: String,
    /// The revision that the plan leads to.
    revision: String,
    plan: serde_json::Value,
}

impl PlanFile {
    pub fn of(plan: &Plan, revision: &str) -> Result<PlanFile, Failure> {
        let written = serde_json::to_value(plan).map_err(|error| Failure::new(Kind::Error, error))?;
        let environment = plan.environment.to_string();
        Ok(PlanFile { format: FORMAT, environment, revision: revision.to_owned(), plan: written })
    }

    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let doing = || format!("could not write the plan to `{}`", path.display());
        let text = serde_json::to_vec_pretty(self).with_context(doing)?;
        files::write_whole(path, &text, true).with_context(doing)?;
        Ok(())
    }

    pub fn read(path: &Path) -> Result<PlanFile, Failure> {
        let wrong = |why: String| {
            let message = format!("`{}` is no plan that can be carried out: {why}", path.display());
            Failure::message(Kind::Usage, message).help("write one with `lockstep plan ENV --out FILE`")
        };
        let bytes = inputs::bounded(path, MAX).map_err(wrong)?;
        let file: PlanFile = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if file.format != FORMAT {
            return Err(wrong(format!("it has format {}, and this binary reads {FORMAT}", file.format)));
        }
        Ok(file)
    }

    /// Refuses when what would be done now is anything else than what was written down.
    pub fn holds(&self, now: &Plan, revision: &str) -> Result<(), Failure> {
        let said = |what: &str| {
            let message = format!("{} is not what it was when the plan was written: {what}", self.environment);
            Failure::message(Kind::Refused, message)
                .help(format!("look at `lockstep plan {}`, and write the plan again", self.environment))
                .so_far("nothing was changed")
        };
        if revision != self.revision {
            return Err(said("the spec means something else now"));
        }
        let now = serde_json::to_value(now).map_err(|error| Failure::new(Kind::Error, error))?;
        if now != self.plan {
            return Err(said("other steps would be taken now"));
        }
        Ok(())
    }
}

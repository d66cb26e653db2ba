//! What a change needs before it may begin: an environment that already runs the same, and somebody who means it.

use super::apply::confirm;
use crate::commands::open;
use crate::failure::{Failure, Kind};
use crate::finding;
use crate::model::Environment;
use crate::parity::{self, Side};
use crate::project::Project;
use crate::ui::{Ui, text};
use crate::value::Sources;

/// Who asks for a change, and how sure they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Will<'a> {
    pub reason: Option<&'a str>,
    pub yes: bool,
    pub skip_gate: bool,
}

impl<'a> Will<'a> {
    /// A gate that is passed over is passed over for a reason that is kept.
    pub fn checked(self) -> Result<Will<'a>, Failure> {
        let said = self.reason.is_some_and(|reason| !reason.trim().is_empty());
        if self.skip_gate && !said {
            let message = "`--skip-gate` needs a reason that is kept with the change";
            return Err(Failure::message(Kind::Usage, message).help("add `--reason \"...\"`"));
        }
        Ok(self)
    }

    /// Refuses an environment that follows one which does not run the same, as it was read just now.
    pub async fn follow(
        &self,
        ui: &Ui,
        project: &Project,
        environment: &Environment,
        sources: &Sources,
    ) -> Result<(), Failure> {
        let Some(followed) = &environment.follows else { return Ok(()) };
        let (name, first) = (&environment.name, project.environment(followed.as_str())?);
        if self.skip_gate {
            ui.status(&format!("{name} follows {followed}, and --skip-gate passes over it"));
            return Ok(());
        }
        let help =
            format!("run `lockstep apply {followed}` first, or pass over it with `--skip-gate --reason \"...\"`");
        let refused = |why: String| {
            let message = format!("{name} follows {followed}, and {why}");
            Failure::message(Kind::Refused, message).help(help.clone()).so_far("nothing was changed")
        };
        let session = match open(project, first).await {
            Ok(session) => session,
            Err(failure) => return Err(refused(format!("{followed} could not be read: {failure}"))),
        };
        let verification = parity::drift(Side { want: &session.desired, have: &session.observed });
        if verification.findings.is_empty() {
            let fingerprint = project.fingerprint();
            ui.status(&format!("{followed} runs fingerprint {}, read just now", fingerprint.short()));
            return Ok(());
        }
        let mut shown = verification.findings.clone();
        finding::sort(&mut shown);
        ui.findings(&shown, sources);
        Err(refused(format!("{followed} does not run what would be applied: {}", text::count(&shown))))
    }

    /// Asks for the name of a protected environment; where nobody can be asked, it takes `--yes` and a reason.
    pub fn confirm(&self, ui: &Ui, environment: &Environment) -> Result<bool, Failure> {
        if !environment.protected {
            return Ok(false);
        }
        if self.yes && (self.reason.is_some() || ui.can_ask()) {
            return Ok(false);
        }
        let name = &environment.name;
        if self.yes {
            let message = format!("{name} is protected, and nobody said why it is changed");
            let help = "there is no terminal to ask on; give `--yes` and `--reason \"...\"`";
            return Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed"));
        }
        confirm(ui, environment, &format!("{name} is protected"))?;
        Ok(true)
    }
}

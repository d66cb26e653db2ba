//! `lockstep restore`: what a backup holds, into a new data volume or into a running server.

pub(super) mod cold;
mod warm;

use crate::backup::{SNAPSHOT, State};
use crate::cli::{Cli, RestoreArguments};
use crate::commands::apply::confirm;
use crate::commands::backup::{named, readable};
use crate::commands::hold::Why;
use crate::commands::record::About;
use crate::commands::{Session, Verdict, load, open};
use crate::failure::{Failure, Kind};
use crate::finding;
use crate::model::Environment;
use crate::project::Project;
use crate::restore::{Choice, Existing, Facts, Forecast, Ttl, forecast};
use crate::store::repository::Repository;
use crate::ui::{Ui, text};
use crate::value::{Glob, Name, Sources, bytes};
use crate::world::restore::Origin;
use std::sync::Arc;

/// Everything that both ways of restoring start from.
pub(super) struct Task<'a> {
    pub ui: &'a Ui,
    pub project: &'a Project,
    pub sources: &'a Sources,
    pub environment: &'a Environment,
    pub session: &'a Session,
    pub service: Name,
    pub origin: Origin,
    pub choice: Choice,
    /// Nobody has to be asked.
    pub yes: bool,
    pub about: About<'a>,
}

pub async fn run(cli: &Cli, ui: &Ui, arguments: &RestoreArguments) -> Result<Verdict, Failure> {
    let (project, sources) = load(cli, ui, &[&arguments.environment])?;
    let environment = project.environment(&arguments.environment)?;
    if let Some(journal) = &arguments.undo {
        return warm::undo(ui, &project, environment, arguments, journal).await;
    }
    let wanted = arguments.backup.as_deref().unwrap_or_default();
    let origin = find(&project, environment, wanted).await?;
    let mut session = open(&project, environment).await?;
    session.decided()?;
    if !arguments.dry_run {
        session = session.take(ui, &project, environment, why(arguments)).await?;
        session.conclude(ui, &project, environment).await?;
        session.decided()?;
    }
    let service = service(&session, arguments.service.as_deref().unwrap_or(&origin.manifest.service))?;
    let choice = Choice {
        keys: arguments.keys.iter().map(|pattern| Glob::new(pattern.as_bytes())).collect(),
        ttl: Ttl::parse(arguments.ttl.as_str()).unwrap_or_default(),
        existing: match arguments.existing {
            crate::cli::WhenThere::Replace => Existing::Replace,
            crate::cli::WhenThere::Skip => Existing::Skip,
            crate::cli::WhenThere::Refuse => Existing::Refuse,
        },
        ..Choice::default()
    };
    let (about, yes) =
        (About { verb: "restore", reason: &arguments.reason, rolls_back: None, data: &[] }, arguments.yes);
    let (project, sources, session) = (&project, &sources, &session);
    let task = Task { ui, project, sources, environment, session, service, origin, choice, yes, about };
    match arguments.warm {
        true => warm::run(task, arguments.dry_run).await,
        false => cold::run(task, arguments.dry_run).await,
    }
}

fn why(arguments: &RestoreArguments) -> Why<'_> {
    Why { verb: "restore", reason: &arguments.reason, wait: arguments.lock_wait }
}

/// A backup of this environment that may be restored.
pub(super) async fn find(project: &Project, environment: &Environment, wanted: &str) -> Result<Origin, Failure> {
    let (root, of, wanted) = (project.root.clone(), environment.clone(), wanted.to_owned());
    let found = tokio::task::spawn_blocking(move || -> Result<Origin, Failure> {
        let repository = Repository::open(&root, &of)?;
        let listed = repository.list()?;
        let ids: Vec<&str> = listed.iter().map(|backup| backup.id.as_str()).collect();
        let id = named(&ids, &wanted)?.to_owned();
        let backup = listed.iter().find(|backup| backup.id == id);
        let backup = backup.ok_or_else(|| Failure::message(Kind::Usage, format!("there is no backup `{wanted}`")))?;
        let manifest = readable(backup)?;
        let refused = |why: &str, help: &str| {
            Err(Failure::message(Kind::Refused, format!("`{id}` is not restored: {why}")).help(help.to_owned()))
        };
        match backup.state {
            State::Damaged => {
                let why = backup.problem.as_deref().unwrap_or("it is damaged");
                return refused(why, "`lockstep backup list` shows the others");
            }
            State::Unverified => return refused("nothing vouches for its bytes", "`lockstep backup drill` proves it"),
            _ => {}
        }
        if manifest.part(SNAPSHOT).is_none() {
            return refused("it is the copy of a volume", "`lockstep backup export` gives its files");
        }
        let identities = Arc::new(repository.identities()?);
        Ok(Origin { manifest: Arc::new(manifest.clone()), repository, identities })
    });
    found.await.map_err(|error| Failure::new(Kind::Error, error))?
}

fn service(session: &Session, wanted: &str) -> Result<Name, Failure> {
    let services = session.redis_services();
    let found = session.desired.service(wanted).filter(|_| services.iter().any(|name| name == wanted));
    found.map(|facts| facts.name.clone()).ok_or_else(|| {
        let message = format!("`{wanted}` is not a Redis of {}", session.names.environment);
        Failure::message(Kind::Usage, message).help(format!("Redis services: {}; see `--service`", services.join(", ")))
    })
}

impl Task<'_> {
    /// Reads the whole backup, says what restoring it will come to, and ends here where that is refused.
    async fn foresee(&self, facts: Facts) -> Result<Forecast, Failure> {
        let (origin, choice) = (self.origin.clone(), self.choice.clone());
        let read = tokio::task::spawn_blocking(move || -> Result<Forecast, Failure> {
            let doing = |error: anyhow::Error| Failure::new(Kind::Error, error.context("could not read the backup"));
            let source = origin.open().map_err(|error| doing(error.into()))?;
            forecast(source, &facts, &choice).map_err(|error| match error.is_damage() {
                true => {
                    let message = format!("the backup `{}` is damaged: {error}", origin.manifest.id);
                    Failure::message(Kind::Differences, message)
                }
                false => doing(error.into()),
            })
        });
        let forecast = read.await.map_err(|error| Failure::new(Kind::Error, error))??;
        self.ui.status(told(&forecast).trim_end());
        self.ui.findings(&forecast.findings, self.sources);
        if finding::has_errors(&forecast.findings) {
            let message = format!("the restore is refused: {}", text::count(&forecast.findings));
            return Err(Failure::message(Kind::Refused, message).so_far("nothing was changed"));
        }
        Ok(forecast)
    }

    /// The end of a dry run.
    pub fn changed_nothing(&self, forecast: &Forecast) {
        match self.ui.is_json() {
            true => self.ui.json(&serde_json::json!({
                "format": 1, "environment": self.environment.name, "service": self.service,
                "backup": self.origin.manifest.id, "dry_run": true, "forecast": forecast,
            })),
            false => self.ui.result("nothing was changed\n"),
        }
    }

    /// Data is about to be replaced: somebody has to mean it.
    pub fn confirm(&self) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let question = format!(
            "{} of {} will hold what `{}` of {} holds",
            self.service, self.environment.name, self.origin.manifest.id, self.origin.manifest.taken_at
        );
        confirm(self.ui, self.environment, &question)
    }
}

/// What a restore will come to, in words.
fn told(forecast: &Forecast) -> String {
    let mut lines = format!(
        "{} keys, about {} of memory",
        forecast.chosen.keys.saturating_sub(forecast.chosen.expired),
        bytes::about(forecast.memory)
    );
    if forecast.chosen.expired > 0 {
        let mut by: Vec<(&String, u64)> = forecast
            .prefixes
            .iter()
            .filter(|(_, part)| part.expired > 0)
            .map(|(prefix, part)| (prefix, part.expired))
            .collect();
        by.sort_by_key(|(_, expired)| std::cmp::Reverse(*expired));
        let shown: Vec<String> = by.iter().take(5).map(|(prefix, expired)| format!("{prefix}* {expired}")).collect();
        lines.push_str(&format!(
            "\n{} more have expired since it was taken, and will not be there ({}); `--ttl shift` or `--ttl drop` keeps \
             them",
            forecast.chosen.expired,
            shown.join(", ")
        ));
    }
    if forecast.left_out > 0 {
        lines.push_str(&format!("\n{} keys are not chosen", forecast.left_out));
    }
    if !forecast.libraries.is_empty() {
        let named: Vec<&str> = forecast.libraries.iter().take(5).map(String::as_str).collect();
        let rest = if forecast.libraries.len() > named.len() { " and others" } else { "" };
        lines.push_str(&format!("\nfunction libraries that will be loaded: {}{rest}", named.join(", ")));
    }
    if forecast.plain {
        lines.push_str("\nwritten anew in plain form: this server does not load the backup's own");
    }
    lines.push('\n');
    lines
}

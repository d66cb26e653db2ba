//! A restore into a new data volume: loaded and proven beside what runs, then put in its place.

use super::Task;
use crate::commands::apply::refuse;
use crate::commands::change::Change;
use crate::commands::record::{About, Records};
use crate::commands::{Session, Verdict, next_generation};
use crate::desired::{self, Generations, OPERATOR};
use crate::digest;
use crate::event::{Event, Listener as _};
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::plan::{Action, Step, build};
use crate::probe::expectation::Expected;
use crate::project::Project;
use crate::redis::pull;
use crate::restore::{Facts, Forecast};
use crate::state::{Container, Role, Value};
use crate::store;
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::value::{Name, ServerVersion, Sources};
use crate::world::restore::{Cold, LOADS, Restored, Rewrite};
use crate::world::{holds, ready};
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

const SILENCE: Duration = Duration::from_secs(120);
/// Reading a server back, and what its clock is off, takes no longer than this.
const SOON_MS: i64 = 600_000;

pub(super) async fn run(task: Task<'_>, dry_run: bool) -> Result<Verdict, Failure> {
    let began = Instant::now();
    moves_alone((task.ui, dry_run), task.project, task.environment, task.session, &[&task.service]).await?;
    let forecast = foresee(&task).await?;
    if dry_run {
        task.changed_nothing(&forecast);
        return Ok(None);
    }
    task.confirm()?;
    let loaded = [load(&task).await?];
    let Task { ui, project, sources, environment, session, about, .. } = task;
    let expected = &[];
    let moving = Moving { ui, project, sources, environment, session, about, expected, undo: true };
    moving.run(&loaded).await?;
    let [loaded] = loaded;
    let compared = prove(&task, &loaded).await?;
    match ui.is_json() {
        true => ui.json(&json(&task, &loaded, &compared, began.elapsed())),
        false => ui.result(&told(&task, &loaded, &compared, began.elapsed())),
    }
    Ok(None)
}

/// A data volume that holds what a backup holds, proven, and that nothing uses yet.
#[derive(Debug)]
pub struct Loaded {
    service: Name,
    generation: u32,
    /// The volume, and the one that is in use until now.
    data: String,
    before: String,
    keys: u64,
    rewrite: Option<Rewrite>,
}

/// Ends where more than data would change: what the spec means and does not run is for `apply`, with its gate and its questions.
/// An environment that is not there is made with its data, a server that does not run has nothing to lose, and a change that
/// nobody finished is gone on with. A dry run is only told of it: what it would come to is worth knowing all the same.
pub async fn moves_alone(
    (ui, dry_run): (&Ui, bool),
    project: &Project,
    environment: &Environment,
    session: &Session,
    services: &[&Name],
) -> Result<(), Failure> {
    let (observed, desired) = (&session.observed, &session.desired);
    let runs = |service: &str| observed.state.container(service).is_some_and(|container| container.running);
    if !desired.services.keys().any(|service| runs(service.as_str())) {
        return Ok(());
    }
    let plan = build::build(observed, desired, &BTreeSet::new());
    let is_needed = |step: &Step| {
        let of = step.resource.name.split('.').next().unwrap_or_default();
        // Loading removes by itself what a loading left that was killed.
        let left = step.resource.name.starts_with(&format!("{of}{LOADS}"));
        let stopped = services.iter().any(|service| service.as_str() == of) && !runs(of);
        of == desired::FILES || left || stopped
    };
    // What ended for want of its data, and has to start again, is what this is for.
    let of_life = |step: &Step| {
        let serves = desired.service(&step.resource.name).is_none_or(|facts| facts.role != Role::Redis);
        let lives =
            serves && !step.because.is_empty() && step.because.iter().all(|cause| cause.change.field == "running");
        matches!(step.action, Action::Backup | Action::Ready)
            || matches!(step.action, Action::Start | Action::Stop | Action::Rehearse { .. }) && lives
    };
    let pending = plan.steps.iter().filter(|step| !of_life(step) && !is_needed(step));
    let Some(first) = pending.min_by_key(|step| step.number) else { return Ok(()) };
    if Records::of(project, environment)?.unfinished().await?.is_some() {
        return Ok(());
    }
    let name = &environment.name;
    let message =
        format!("{name} is not as the spec says, and this moves data alone: there is also to {}", first.summary());
    let help =
        format!("`lockstep plan {name}` shows all of it; apply it first, or go back to the spec that runs there");
    let failure = Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed");
    if dry_run {
        ui.status(&failure.to_string());
        return Ok(());
    }
    Err(failure)
}

/// Says what restoring will come to, and ends where that is refused.
pub async fn foresee(task: &Task<'_>) -> Result<Forecast, Failure> {
    let (wanted, server) = meant(task.session, &task.service)?;
    task.foresee(facts(wanted, server, store::now().as_millisecond())).await
}

/// The server as the spec means it, and which one that is: what its image runs, or else what runs now.
pub fn meant<'s>(session: &'s Session, service: &Name) -> Result<(&'s Container, ServerVersion), Failure> {
    let wanted = session.desired.state.container(service.as_str());
    let wanted = wanted.ok_or_else(|| Failure::message(Kind::Error, format!("{service} is not in the spec")))?;
    let said = |container: Option<&Container>| ServerVersion::parse(container?.server.as_ref()?.version()?);
    let observed = session.observed.state.container(service.as_str());
    let server = said(Some(wanted)).or_else(|| said(observed)).ok_or_else(|| {
        let message = format!("it is not known which server {service} is");
        Failure::message(Kind::Refused, message).help("start it with `lockstep apply` first")
    })?;
    Ok((wanted, server))
}

/// Fills a new data volume beside what runs.
pub async fn load(task: &Task<'_>) -> Result<Loaded, Failure> {
    let (_, server) = meant(task.session, &task.service)?;
    let counts = &task.origin.manifest.counts;
    let unknown = || Failure::message(Kind::Differences, format!("the backup's format `{}` is not known", counts.rdb));
    let (family, format) = counts.format().ok_or_else(unknown)?;
    let rewrite = Restored::needed(family, format, server, &task.choice, store::now().as_millisecond());
    load_as(task, server, rewrite).await
}

/// The same, of what `rewrite` makes of the backup.
pub async fn load_as(task: &Task<'_>, server: ServerVersion, rewrite: Option<Rewrite>) -> Result<Loaded, Failure> {
    let (wanted, _) = meant(task.session, &task.service)?;
    let service = &task.service;
    let generation = next_generation(&task.session.observed, service);
    let data = desired::data_volume(service, generation);
    let cold = Cold {
        engine: &task.session.engine,
        names: &task.session.names,
        desired: &task.session.desired,
        service,
        data: data.clone(),
        image: wanted.image.clone(),
        server,
        user: crate::commands::backup::user_of(task.environment, service.as_str()),
        rewrite: rewrite.clone(),
        origin: task.origin.clone(),
    };
    let progress = Progress::new(1);
    let summary = format!("load {} into {data} and read it back", task.origin.manifest.id);
    progress.hear(Event::StepStarted { number: 1, summary: summary.clone() });
    let prepared = cold.prepare(1, &progress).await?;
    let elapsed_ms = u64::try_from(prepared.elapsed.as_millis()).unwrap_or(u64::MAX);
    let outcome = format!("{} keys, read back equal", prepared.keys);
    progress.hear(Event::StepDone { number: 1, summary, elapsed_ms, outcome });
    let before = task.session.desired.data_volume(service);
    Ok(Loaded { service: service.clone(), generation, data, before, keys: prepared.keys, rewrite })
}

/// What the forecast wants to know of a server that does not run yet.
pub fn facts(wanted: &Container, server: ServerVersion, now_ms: i64) -> Facts {
    let setting = |name: &str| match wanted.server.as_ref().and_then(|server| server.settings.get(name)) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let number = |name: &str| setting(name).and_then(|text| text.parse::<u64>().ok());
    Facts {
        server,
        maxmemory: number("maxmemory").unwrap_or(0),
        maxmemory_policy: setting("maxmemory-policy").unwrap_or_else(|| "noeviction".to_owned()),
        used_memory: 0,
        databases: number("databases").unwrap_or(16),
        modules: Vec::new(),
        memory_limit: Some(wanted.memory_bytes).filter(|limit| *limit > 0),
        now_ms,
        is_replica: false,
        is_cluster: setting("cluster-enabled").is_some_and(|enabled| enabled == "yes"),
    }
}

/// Services on their way to data volumes that were filled for them; a change like any other.
#[derive(Clone, Copy)]
pub struct Moving<'a> {
    pub ui: &'a Ui,
    pub project: &'a Project,
    pub sources: &'a Sources,
    pub environment: &'a Environment,
    pub session: &'a Session,
    pub about: About<'a>,
    pub expected: &'a [Expected],
    pub undo: bool,
}

impl Moving<'_> {
    /// Moves them, what they held before backed up first. What no server has run on after a failure is removed; what one may have
    /// run on can hold the only copy of what was written since, and stays.
    pub async fn run(&self, loaded: &[Loaded]) -> Result<(), Failure> {
        let moved = self.change(loaded).await;
        match &moved {
            Err(failure) if matches!(failure.kind, Kind::Refused | Kind::Backup) => self.clear(loaded).await,
            Err(_) => {
                let name = &self.environment.name;
                for loaded in loaded {
                    let data = &loaded.data;
                    self.ui.status(&format!(
                        "what was loaded, and whatever was written to it, stays in {data}: `lockstep down {name} --delete-data {data}`"
                    ));
                }
            }
            Ok(()) => {}
        }
        moved
    }

    /// Removes what nothing uses, and nothing will.
    pub async fn clear(&self, loaded: &[Loaded]) {
        for loaded in loaded {
            let _ = self.session.engine.remove_volume(&self.session.names.volume(&loaded.data)).await;
        }
    }

    async fn change(&self, loaded: &[Loaded]) -> Result<(), Failure> {
        let Moving { ui, project, sources, environment, about, expected, undo, .. } = *self;
        let chosen: Generations = loaded.iter().map(|of| (of.service.to_string(), of.generation)).collect();
        let mut session = self.session.meaning(project, environment, &chosen).await?;
        let plan = build::build(&session.observed, &session.desired, &BTreeSet::new());
        refuse(ui, &plan, sources)?;
        ui.status(text::plan(&plan).trim_end());
        let change = Change { ui, project, sources, environment, about, expected, chosen: &chosen, undo };
        change.carry_out(&mut session, &plan).await?;
        Ok(())
    }
}

/// What comparing the running server with the backup showed.
pub struct Compared {
    keys: u64,
    /// In what they differ, which an application that has written since brings about as well.
    differs: Vec<&'static str>,
}

/// Compares what the server that now runs on it gives back with the backup.
pub async fn prove(task: &Task<'_>, loaded: &Loaded) -> Result<Compared, Failure> {
    let (service, names, rewrite) = (task.service.as_str(), &task.session.names, loaded.rewrite.clone());
    let failed = |why: String| {
        let so_far = format!("{service} is on {}, which was read back equal before it moved there", loaded.data);
        Failure::message(Kind::Error, format!("could not look at {service} afterwards: {why}")).so_far(so_far)
    };
    let address = ready::redis_address(&task.session.engine, names, service).await?;
    // Where the move made the server, it has drawn a password of its own.
    let now = task.session.meaning(task.project, task.environment, &Generations::new()).await?;
    let password = now.secrets.operators.get(service).cloned();
    let password = password.ok_or_else(|| failed("lockstep's password for it is not known".to_owned()))?;
    // What was surveyed need not be made once more, unless some of it may have expired since.
    let soon_ms = store::now().as_millisecond().saturating_add(SOON_MS);
    let lasts = |first_ms: Option<i64>| first_ms.is_none_or(|first_ms| first_ms > soon_ms);
    let surveyed = match &rewrite {
        Some(Rewrite::Refreshed(refreshed)) => {
            Some(refreshed).filter(|refreshed| lasts(refreshed.surveyed.survey.first_expiry_ms))
        }
        _ => None,
    };
    let hasher = match surveyed {
        Some(refreshed) => digest::Hasher::new(&refreshed.key, None),
        None => holds::hasher()?,
    };
    let known = surveyed.map(|refreshed| refreshed.surveyed.keyspace.clone());
    let source = pull::Source::new(address, OPERATOR, &password, SILENCE);
    let origin = task.origin.clone();
    let compared = tokio::task::spawn_blocking(move || -> anyhow::Result<Compared> {
        let pulled = pull::pull(&source, &hasher, &mut io::sink(), &mut |_, _| ())?;
        let unread = |error: digest::ReadError| anyhow::anyhow!("the backup does not read: {error:?}");
        let expected = match known {
            Some(known) => known,
            None => {
                let backup = origin.open_for(rewrite.as_ref())?;
                digest::read(backup, &hasher, |_| Ok(())).map_err(unread)?.keyspace
            }
        };
        Ok(Compared { keys: pulled.keyspace.keys, differs: pulled.keyspace.differs_in(&expected, false) })
    });
    let compared = compared.await.map_err(|error| failed(error.to_string()))?;
    let compared = compared.map_err(|error| failed(format!("{error:#}")))?;
    let writers = task.session.desired.services.values().any(|facts| facts.role != Role::Redis);
    if !compared.differs.is_empty() && !writers {
        let message = format!("{service} does not hold what was restored: {} differ", compared.differs.join(", "));
        return Err(
            Failure::message(Kind::Error, message).help("see its log, and `maxmemory`: it may have evicted keys")
        );
    }
    Ok(compared)
}

/// What was restored, for scripts.
pub fn json(task: &Task<'_>, loaded: &Loaded, compared: &Compared, elapsed: Duration) -> serde_json::Value {
    let volume = |volume: &str| task.session.names.volume(volume);
    serde_json::json!({
        "format": 1, "environment": task.environment.name, "service": task.service,
        "backup": task.origin.manifest.id, "volume": volume(&loaded.data), "kept_volume": volume(&loaded.before),
        "keys_loaded": loaded.keys, "keys_found": compared.keys, "differs": compared.differs,
        "elapsed_ms": elapsed.as_millis() as u64,
    })
}

/// The same for people.
pub fn told(task: &Task<'_>, loaded: &Loaded, compared: &Compared, elapsed: Duration) -> String {
    let (service, environment) = (&task.service, &task.environment.name);
    let Loaded { data, keys, .. } = loaded;
    let kept = task.session.names.volume(&loaded.before);
    let now = match compared.differs.is_empty() {
        true => format!("{} keys read back from it, equal to the backup", compared.keys),
        false => format!(
            "{} keys read back from it; {} differ from the backup, as they do when an application writes",
            compared.keys,
            compared.differs.join(", ")
        ),
    };
    format!(
        "{service} of {environment} is on {data} since {:.1} s: {keys} keys loaded; {now}\n\
         what it held before is in its backup, and in the volume {kept}, which nothing uses any more\n",
        elapsed.as_secs_f64()
    )
}

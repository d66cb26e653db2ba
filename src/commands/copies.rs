//! A copy of an environment that exists for a while alone, from its launch to its end. `run` and `up` are made of this.

use crate::acceptance;
use crate::apply;
use crate::commands::backup::named;
use crate::commands::hold::Why;
use crate::commands::{Session, Signals, address, apply as changes, engine_failure, open, refresh};
use crate::engine::Engine;
use crate::engine::names::until_text;
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::model::ephemeral::{self, Mark, Until};
use crate::model::run::{self, Reached, SEED_HELP, Seed};
use crate::model::{Environment, Kind as ServiceKind};
use crate::parity::{self, Side, Verification};
use crate::plan::Action;
use crate::project::Project;
use crate::store;
use crate::store::repository::Repository;
use crate::store::turns::Turn;
use crate::store::who;
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::value::{Digest, Name, Secret, Sources, Span};
use crate::world::fixture::{Filled, Fixture};
use crate::world::live::Live;
use crate::world::{ephemeral as present, log};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;
use tokio::task::JoinHandle;

/// How often another name is drawn for one that somebody has.
const NAMES: u32 = 8;

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub base: &'a str,
    /// How long it stays by itself; not at all without it.
    pub stays: Option<Span>,
    /// Seeds of the command line, as they were written.
    pub seeds: &'a [String],
    pub verb: &'a str,
}

/// A copy that is held by this run.
pub(super) struct Copied<'a> {
    ui: &'a Ui,
    project: &'a Project,
    sources: &'a Sources,
    pub environment: Environment,
    session: Session,
    /// The same engine without a fence: taking a copy away needs no turn.
    engine: Engine,
    until: Until,
    fixtures: BTreeMap<Name, Fixture>,
    turn: Option<Turn>,
    /// What came of comparing it with the spec, once it was launched.
    pub verification: Option<Verification>,
}

/// Everything that somebody who uses a copy wants to know.
pub(super) struct Launched {
    pub reached: Reached,
    pub variables: BTreeMap<String, Secret>,
}

impl<'a> Copied<'a> {
    /// Draws a name and takes it in hand. Nothing but the lock is there yet.
    pub async fn begin(
        ui: &'a Ui,
        project: &'a Project,
        sources: &'a Sources,
        wanted: &Wanted<'_>,
        signals: &Signals,
    ) -> Result<Copied<'a>, Failure> {
        let base = project.environment(wanted.base)?;
        if base.protected {
            let message = format!("{} is protected, and nothing is launched with its values and secrets", base.name);
            let help = "name an environment that is not, such as `ci`";
            return Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was launched"));
        }
        let seeds = seeds(project, base, wanted.seeds)?;
        let mut fixtures = BTreeMap::new();
        for (service, seed) in &seeds {
            let made = match seed {
                Seed::Snapshot(path) => Fixture::snapshot(Path::new(path)).await,
                Seed::Lines(path) => Fixture::lines(Path::new(path)).await,
                Seed::Backup(id) => backup(project, id).await,
                // Made for the server that it is for.
                Seed::Refresh(_) => continue,
            };
            fixtures.insert(service.clone(), made.map_err(|failure| unusable(service, failure))?);
        }
        let turn = turn(base, signals).await?;
        let draw = refresh::draw()?;
        let mut until = None;
        for _ in 0..NAMES {
            let random =
                store::random_hex::<{ ephemeral::RANDOM }>().map_err(|error| Failure::new(Kind::Error, error))?;
            let Some(name) = ephemeral::name(&base.name, &random) else {
                let message = format!("`{}` is too long a name for a copy to have one", base.name);
                return Err(
                    Failure::message(Kind::Usage, message).help("seven signs stand behind it, and 40 is the most")
                );
            };
            if project.resolved.contains_key(&name) {
                continue;
            }
            let mut environment = ephemeral::of(base, name, None);
            let mut session = open(project, &environment).await?;
            if !session.observed.state.resources.is_empty() || !session.observed.is_whole() {
                continue;
            }
            let engine = session.engine.clone();
            let until = match (until, wanted.stays) {
                (Some(until), _) => until,
                (None, None) => Until::Holder,
                (None, Some(ttl)) => {
                    let now = engine.clock().await.map_err(|error| engine_failure(&engine.address, &error))?;
                    let seconds = i64::try_from(ttl.milliseconds.div_ceil(1000)).unwrap_or(i64::MAX);
                    *until.insert(Until::Time(now.saturating_add(seconds)))
                }
            };
            environment.mark = Some(Mark { base: base.name.clone(), until, maker: who::maker() });
            session.names.mark.clone_from(&environment.mark);
            let why = Why { verb: wanted.verb, reason: "", wait: Span::default() };
            match session.take_as_read(ui, &environment, why).await {
                Ok(session) => {
                    for (service, seed) in &seeds {
                        let Seed::Refresh(backup) = seed else { continue };
                        let of = (service, backup.as_deref());
                        let into = (&environment, &session);
                        let made = refresh::fixture((ui, signals), project, sources, into, of, &draw).await;
                        fixtures.insert(service.clone(), made.map_err(|failure| unusable(service, failure))?);
                    }
                    return Ok(Copied {
                        ui,
                        project,
                        sources,
                        environment,
                        session,
                        engine,
                        until,
                        fixtures,
                        turn,
                        verification: None,
                    });
                }
                Err(failure) if failure.kind == Kind::Refused => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::message(Kind::Error, format!("{NAMES} names for a copy of {} were taken", base.name)))
    }

    pub fn name(&self) -> &Name {
        &self.environment.name
    }

    /// When it goes by itself.
    pub fn until_text(&self) -> String {
        until_text(self.until)
    }

    /// Launches it, waits until everything answers, and looks whether it is what the spec says.
    pub async fn launch(&mut self, signals: &Signals) -> Result<Launched, Failure> {
        let began = Instant::now();
        let Copied { ui, project, sources, environment, session, fixtures, turn, verification, .. } = self;
        let plan = session.plan(project, environment)?;
        changes::refuse(ui, &plan, sources)?;
        let live = Live {
            engine: &session.engine,
            names: session.names.clone(),
            desired: &session.desired,
            secrets: &session.secrets,
            root: project.root.clone(),
            repository: None,
            reason: String::new(),
            drills: false,
            revision: session.desired.state.digest(),
            observed: &session.observed,
            taken: Mutex::default(),
            stopped: Mutex::default(),
        };
        // An image that has to be built or fetched takes a while, and somebody waits for it.
        let slow = plan.steps.iter().any(|step| matches!(step.action, Action::Build { .. } | Action::Pull { .. }));
        let listener = Said(slow.then(|| Progress::new(plan.steps.len())));
        let stop = || signals.heard().is_some();
        let world = Filled::new(live, fixtures, &stop);
        let outcome = apply::run(&plan, &world, &listener, &stop).await;
        drop(listener);
        *turn = None;
        if let Some(number) = signals.heard() {
            return Err(Failure::message(Kind::Signal(number), "stopped by a signal while it was launched"));
        }
        if let Some((_, failure)) = outcome.failed {
            return Err(failure);
        }
        let (observed, addresses) = tokio::join!(
            session.observe_again(environment),
            present::addresses(&session.engine, &session.names, environment)
        );
        let verification = verification.insert(parity::drift(Side { want: &session.desired, have: &observed? }));
        verification.accept(&project.spec.accept, store::today());
        // They are about environments that last: one that fits nothing here may be needed there.
        verification.findings.retain(|finding| finding.rule != acceptance::RULE);
        if !verification.is_right(false) {
            ui.status(text::verification(verification, sources).trim_end());
            let message = format!("{} is not as the spec says", environment.name);
            return Err(Failure::message(Kind::Error, message));
        }
        let reached = Reached { addresses: addresses?, secrets: session.secrets.values.clone() };
        let variables = run::variables(environment, &reached).map_err(|findings| {
            ui.findings(&findings, sources);
            Failure::message(Kind::Usage, format!("`run.env` does not render: {}", text::count(&findings)))
        })?;
        let services = text::plural(environment.services.len(), "service");
        let seconds = began.elapsed().as_secs_f64();
        ui.status(&format!("{}: {services} ready after {seconds:.1} s", environment.name));
        Ok(Launched { reached, variables })
    }

    /// Why it is not held by this run any more, where that is so.
    pub fn lost(&self) -> Option<String> {
        self.session.engine.fence().and_then(|fence| fence.lost())
    }

    /// The last lines of every service, for whoever has to find out why something failed.
    pub async fn show_last_lines(&self) {
        for service in self.environment.services.keys() {
            let container = self.session.names.container(service.as_str());
            let lines = log::last_lines(&self.engine, &container, &self.session.secrets).await;
            self.ui.status(&format!("{service}: {lines}"));
        }
    }

    /// All that a service wrote, without secrets.
    pub async fn log(&self, service: &Name) -> String {
        let container = self.session.names.container(service.as_str());
        match self.engine.lines_since(&container, 0).await {
            Ok(written) => {
                let lines = written.lines.iter().map(|line| self.session.secrets.conceal_line(line) + "\n");
                let more = if written.more { "(there is more)\n" } else { "" };
                lines.collect::<String>() + more
            }
            Err(error) => format!("its log could not be read: {error}\n"),
        }
    }

    /// Takes it away, everything of it.
    pub async fn remove(self) -> Result<(), Failure> {
        let Copied { session, engine, environment, fixtures, .. } = self;
        let Session { names, hold, .. } = session;
        // Giving the lock back takes the engine as long as anything else does.
        let given_back = tokio::task::spawn_blocking(move || drop(hold));
        let mut removed = present::remove(&engine, &names).await;
        if removed.is_ok() && !fixtures.is_empty() {
            removed = present::give_seeds_back(&engine, &names.stack).await;
        }
        let _ = given_back.await;
        removed.map_err(|error| {
            let name = &environment.name;
            let message = format!("could not remove {name}: {error}");
            let help = format!("the next `lockstep run` removes it, or `lockstep down {name}`");
            Failure::message(error.kind(), message).help(help)
        })
    }

    /// Leaves it up, and says for how long.
    pub async fn leave(self) {
        let Copied { ui, session, environment, until, .. } = self;
        let _ = tokio::task::spawn_blocking(move || drop(session.hold)).await;
        let name = &environment.name;
        let end = until_text(until);
        ui.status(&format!("{name} stays up until {end}; `lockstep down {name}` removes it"));
    }
}

/// Waits until it is this run's turn to launch something: engines that are asked to start fifty containers at once take longer
/// for all of them than for one after the other, and for some longer than anybody waits.
async fn turn(base: &Environment, signals: &Signals) -> Result<Option<Turn>, Failure> {
    let places = std::thread::available_parallelism().map_or(4, |cores| (cores.get() * 2).max(4));
    signals.turn(&format!("launch {}", Digest::of(address(base)?.as_bytes()).short()), places).await
}

/// What every Redis begins with: what the spec says, and the command line beside it, which wins.
fn seeds(project: &Project, base: &Environment, written: &[String]) -> Result<BTreeMap<Name, Seed>, Failure> {
    let mut seeds = BTreeMap::new();
    for (service, seed) in &base.run.seeds {
        seeds.insert(service.clone(), seed.below(&project.root.to_string_lossy()));
    }
    for text in written {
        let wrong = |what: String| Failure::message(Kind::Usage, what).help(SEED_HELP);
        let Some((service, seed)) = text.split_once('=') else {
            return Err(wrong(format!("`--seed {text}` does not say which Redis begins with what")));
        };
        let service = Name::parse(service).filter(|name| {
            let found = base.services.get(name);
            found.is_some_and(|found| matches!(found.kind, ServiceKind::Redis(_)))
        });
        let service = service.ok_or_else(|| wrong(format!("`--seed {text}` names no Redis of the spec")))?;
        let seed = Seed::parse(seed).ok_or_else(|| wrong(format!("`{seed}` is no seed")))?;
        seeds.insert(service, seed);
    }
    Ok(seeds)
}

fn unusable(service: &Name, failure: Failure) -> Failure {
    Failure {
        error: failure.error.context(format!("{service} cannot begin with its seed")),
        so_far: Some("nothing was launched".to_owned()),
        ..failure
    }
}

/// A backup of an environment that may be copied.
async fn backup(project: &Project, wanted: &str) -> Result<Fixture, Failure> {
    let (root, wanted) = (project.root.clone(), wanted.to_owned());
    let environments: Vec<Environment> = project.resolved.values().cloned().collect();
    let found = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        for environment in environments {
            let repository = Repository::open(&root, &environment)?;
            let listed = repository.list()?;
            all.extend(listed.into_iter().map(|backup| (repository.clone(), environment.clone(), backup.id)));
        }
        let id = named(&all.iter().map(|(_, _, id)| id.as_str()).collect::<Vec<_>>(), &wanted)?.to_owned();
        let found = all.into_iter().find(|(_, _, known)| *known == id);
        found.ok_or_else(|| Failure::message(Kind::Usage, format!("there is no backup `{wanted}`")))
    });
    let (repository, environment, id) = found.await.map_err(|error| Failure::new(Kind::Error, error))??;
    if environment.protected {
        let message = format!("`{id}` is a backup of {}, which is protected", environment.name);
        let help = "what it holds is never put under another environment's name as it is; make a fixture of it";
        return Err(Failure::message(Kind::Refused, message).help(help));
    }
    Fixture::backup(&repository, &id).await
}

/// Only what takes long is worth a line.
struct Said(Option<Progress>);

impl Listener for Said {
    fn hear(&self, event: Event) {
        if let Some(progress) = &self.0 {
            progress.hear(event);
        }
    }
}

/// Says what was taken away.
pub(super) async fn told(ui: &Ui, swept: JoinHandle<BTreeSet<Name>>) {
    for name in swept.await.unwrap_or_default() {
        ui.status(&format!("{name} was left by a run that is gone, and is removed"));
    }
}

impl Copied<'_> {
    /// Takes away what others left, beside everything else; the names of what was removed, for [`told`].
    pub fn sweeping(&self) -> JoinHandle<BTreeSet<Name>> {
        let (engine, stack) = (self.engine.clone(), self.project.spec.stack.value.clone());
        // Its own, too, would look left by somebody while it is being taken away.
        let spared: BTreeSet<Name> = self.project.resolved.keys().chain([self.name()]).cloned().collect();
        // What cannot be removed now is in nobody's way, and the next one tries again.
        tokio::spawn(async move { present::sweep(&engine, &stack, &spared).await.unwrap_or_default() })
    }
}

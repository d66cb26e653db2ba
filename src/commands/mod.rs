//! One file per verb, read top to bottom; this one holds what they share.

pub mod apply;
pub mod audit;
pub mod backup;
mod change;
pub mod check;
mod copies;
pub mod down;
pub mod explain;
mod gate;
pub mod history;
mod hold;
pub mod list;
pub mod lock;
pub mod mask;
pub mod plan;
mod plan_file;
pub mod probe;
mod record;
pub mod refresh;
pub mod render;
pub mod restore;
mod rollback;
pub mod run;
pub mod status;
pub mod up;
pub mod verify;
mod walk;

use crate::cli::{Cli, Command, Form, HistoryCommand};
use crate::commands::hold::Why;
use crate::desired::{self, Desired, FILES, Generations, Secrets};
use crate::engine::{Engine, EngineError, Names};
use crate::failure::{Failure, Kind};
use crate::finding;
use crate::model::{Environment, ephemeral};
use crate::plan::{Plan, build};
use crate::project::{self, Loaded, Project, Scope};
use crate::report;
use crate::state::{Observed, Resource, Role, Volume};
use crate::store;
use crate::store::turns::{self, Turn};
use crate::ui::{Format, Ui, text};
use crate::value::{Name, Secret, Sources, Span};
use crate::world::handover::Remains;
use crate::world::hold::Hold;
use crate::world::{observe, rehearsal, throwaway};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a turn is waited for.
const TURN: Duration = Duration::from_secs(300);

/// What a command that did its work has to say by its exit code; `None` is 0.
pub type Verdict = Option<Kind>;

pub fn ui(cli: &Cli) -> Ui {
    Ui { format: if cli.json || cli.format == Form::Json { Format::Json } else { Format::Text } }
}

/// The form of a report, when one is asked for.
fn form(cli: &Cli) -> Option<report::Form> {
    match cli.format {
        _ if cli.json => None,
        Form::Text | Form::Json => None,
        Form::Junit => Some(report::Form::Junit),
        Form::Sarif => Some(report::Form::Sarif),
        Form::Markdown => Some(report::Form::Markdown),
        Form::Html => Some(report::Form::Html),
    }
}

/// Refuses a form that the command has no report in.
fn suits(cli: &Cli) -> Result<(), Failure> {
    let Some(form) = form(cli) else { return Ok(()) };
    let page = matches!(form, report::Form::Markdown | report::Form::Html);
    let help = match &cli.command {
        Command::Verify { .. } => return Ok(()),
        Command::History { command: Some(HistoryCommand::Show { .. }), .. } if page => return Ok(()),
        Command::History { command: Some(HistoryCommand::Show { .. }), .. } => {
            "a change has `--format text`, `json`, `markdown` and `html`"
        }
        _ => "use `--format text` or `json`; `verify` has all forms, and `history show` has `markdown` and `html`",
    };
    Err(Failure::message(Kind::Usage, "this command has no report of that format").help(help))
}

/// A result to where it was asked for: to a file, or to standard output.
fn deliver(ui: &Ui, out: Option<&Path>, said: &str, verdict: &str) -> Result<(), Failure> {
    let Some(path) = out else {
        ui.result(said);
        return Ok(());
    };
    store::files::write_atomically(path, text::plain(said).as_bytes(), 0o644)
        .map_err(|error| Failure::new(Kind::Error, error).help("name a file in a folder that is there with `--out`"))?;
    ui.status(&format!("{}: {}", text::printable(verdict), path.display()));
    Ok(())
}

pub fn run(cli: &Cli, ui: &Ui) -> Result<Verdict, Failure> {
    suits(cli)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Error, error))?;
    match &cli.command {
        Command::Check => check::run(cli, ui),
        Command::Render { environment, out, with_secrets } => {
            render::run(cli, ui, environment, out.as_deref(), *with_secrets)
        }
        Command::Lock { environment, check } => runtime.block_on(lock::run(cli, ui, environment.as_deref(), *check)),
        Command::Plan { environment, out } => runtime.block_on(plan::run(cli, ui, environment, out.as_deref())),
        Command::Apply { target, change, skip_gate } => {
            let arguments = apply::Arguments::of("apply", target, change, *skip_gate);
            runtime.block_on(apply::run(cli, ui, arguments))
        }
        Command::Rollback { environment, number, data, change } => {
            // What it goes back to passed the gate when it ran.
            let arguments = apply::Arguments::of("rollback", environment, change, false);
            runtime.block_on(rollback::run(cli, ui, number.as_deref(), *data, arguments))
        }
        Command::Down { environment, delete_data, lock_wait, yes } => {
            let why = Why { verb: "down", reason: "", wait: *lock_wait };
            runtime.block_on(down::run(cli, ui, environment, delete_data, why, *yes))
        }
        Command::Run(arguments) => runtime.block_on(run::run(cli, ui, arguments)),
        Command::Up(arguments) => runtime.block_on(up::run(cli, ui, arguments)),
        Command::List => runtime.block_on(list::run(cli, ui)),
        Command::Status { environment } => runtime.block_on(status::run(cli, ui, environment.as_deref())),
        Command::Verify { environments, strict, data, shape, probes, out } => {
            let asked = verify::Asked { strict: *strict, data: *data, shape: *shape, probes: *probes };
            runtime.block_on(verify::run(cli, ui, environments, asked, out.as_deref()))
        }
        Command::Audit { environment, strict } => runtime.block_on(audit::run(cli, ui, environment, *strict)),
        // These wait for no socket of ours.
        Command::History { command, environment, last } => {
            history::run(cli, ui, command.as_ref(), environment.as_deref(), *last)
        }
        Command::Explain { environment } => explain::run(cli, ui, environment),
        Command::Probe(arguments) => runtime.block_on(probe::run(cli, ui, arguments)),
        Command::Refresh(arguments) => runtime.block_on(refresh::run(cli, ui, arguments)),
        // Reads a file and nothing else.
        Command::Mask(command) => mask::run(cli, ui, command),
        Command::Restore(arguments) => runtime.block_on(restore::run(cli, ui, arguments)),
        Command::Backup(command) => backup::run(cli, ui, command, &runtime),
    }
}

/// The project, if nothing in it is wrong; what is only warned of is for `check`, and for [`load_to_show`].
///
/// Only the named environments are rendered on the way; all of them when none is named.
fn load(cli: &Cli, ui: &Ui, environments: &[&str]) -> Result<(Project, Sources), Failure> {
    let named: Vec<String> = environments.iter().map(|name| (*name).to_owned()).collect();
    let scope = if named.is_empty() { Scope::All } else { Scope::Only(named) };
    sound(ui, project::load(&cli.project, scope)?)
}

/// The same for verbs that show what the spec comes to: whatever makes that doubtful goes to standard error.
fn load_to_show(cli: &Cli, ui: &Ui, environment: &str) -> Result<(Project, Sources), Failure> {
    let loaded = project::load(&cli.project, Scope::Only(vec![environment.to_owned()]))?;
    let warned = loaded.findings.iter().filter(|finding| finding.severity == finding::Severity::Warning);
    let warned: Vec<_> = warned.cloned().collect();
    if !finding::has_errors(&loaded.findings) {
        ui.findings(&warned, &loaded.sources);
    }
    sound(ui, loaded)
}

/// The same for verbs that also look at copies which exist for a while alone: one that is named is an environment like others.
fn load_with_copies(cli: &Cli, ui: &Ui, environments: &[&str]) -> Result<(Project, Sources), Failure> {
    let bases: Vec<Name> = environments.iter().filter_map(|name| ephemeral::base(name)).collect();
    let named: Vec<&str> = environments.iter().copied().chain(bases.iter().map(Name::as_str)).collect();
    let (mut project, sources) = load(cli, ui, &named)?;
    for name in environments.iter().filter_map(|name| Name::parse(name)) {
        project.take_in_copy(name);
    }
    Ok((project, sources))
}

/// What was loaded, if nothing in it is wrong.
fn sound(ui: &Ui, loaded: Loaded) -> Result<(Project, Sources), Failure> {
    let errors: Vec<_> =
        loaded.findings.iter().filter(|finding| finding.severity != finding::Severity::Note).cloned().collect();
    if finding::has_errors(&errors) {
        ui.findings(&errors, &loaded.sources);
    }
    match loaded.project {
        Some(project) if !finding::has_errors(&errors) => Ok((project, loaded.sources)),
        _ => Err(Failure::message(Kind::Usage, format!("the spec is wrong: {}", text::count(&errors)))),
    }
}

/// One environment, connected and read: what is meant and what is.
struct Session {
    engine: Engine,
    names: Names,
    secrets: Secrets,
    desired: Desired,
    observed: Observed,
    /// The data volumes that are in use, whichever are meant.
    generations: Generations,
    /// Services with several data volumes of which nothing says which one is in use.
    undecided: BTreeMap<String, Vec<String>>,
    /// While it is changed: what keeps others from changing it at the same time.
    hold: Option<Hold>,
}

/// Where the environment's engine listens.
fn address(environment: &Environment) -> Result<String, Failure> {
    let written = match environment.engine.clone().or_else(|| store::variable("DOCKER_HOST")) {
        Some(address) => Some(address),
        None => store::docker_context::address().map_err(|why| Failure::message(Kind::Usage, why))?,
    };
    let address = written.unwrap_or_else(|| project::LOCAL.to_owned());
    if address.starts_with("unix://") {
        return Ok(address);
    }
    Err(Failure::message(Kind::Usage, format!("the engine `{address}` cannot be used yet"))
        .help("this version speaks to an engine on this machine: unset DOCKER_HOST, or point it at unix:///..."))
}

/// What the engine calls everything of an environment.
fn names_of(environment: &Environment) -> Names {
    let (stack, mark) = (environment.stack.clone(), environment.mark.clone());
    Names { stack, environment: environment.name.clone(), mark }
}

async fn connect(environment: &Environment) -> Result<Engine, Failure> {
    let address = address(environment)?;
    Engine::connect(&address).await.map_err(|error| engine_failure(&address, &error))
}

fn engine_failure(address: &str, error: &EngineError) -> Failure {
    Failure::message(error.kind(), format!("could not read from the engine at {address}: {error}"))
        .help("is Docker running, and may this user reach its socket (root, or group `docker`)?")
}

/// Reads the environment; changes nothing.
async fn open(project: &Project, environment: &Environment) -> Result<Session, Failure> {
    let (engine, names, report) = look(environment).await?;
    compare(project, environment, engine, names, report, &Generations::new()).await
}

/// What the engine has of the environment. Needs no secrets.
async fn look(environment: &Environment) -> Result<(Engine, Names, observe::Report), Failure> {
    let engine = connect(environment).await?;
    let names = names_of(environment);
    let report = observe::report(&engine, &names, Some(environment)).await;
    let report = report.map_err(|error| engine_failure(&engine.address, &error))?;
    Ok((engine, names, report))
}

/// What is there beside what is meant, its servers asked.
async fn compare(
    project: &Project,
    environment: &Environment,
    engine: Engine,
    names: Names,
    report: observe::Report,
    chosen: &Generations,
) -> Result<Session, Failure> {
    let values = project.secrets(environment)?;
    let mut operators = report.operators();
    for (name, service) in &environment.services {
        if matches!(service.kind, crate::model::Kind::Redis(_)) && !operators.contains_key(name.as_str()) {
            // A new server gets a password that nobody has ever seen; it lives in the server's volume alone.
            let password = store::random_hex::<24>().map_err(|error| Failure::new(Kind::Error, error))?;
            operators.insert(name.to_string(), Secret::new(password));
        }
    }
    let secrets = Secrets { values, operators };
    let undecided = report.undecided();
    let in_use = report.generations();
    let mut generations = in_use.clone();
    generations.extend(chosen.iter().map(|(service, number)| (service.clone(), *number)));
    let desired = project.desired(environment, &secrets, &generations)?;
    let observed = observe::observe(&engine, report, &desired).await;
    Ok(Session { engine, names, secrets, desired, observed, generations: in_use, undecided, hold: None })
}

impl Session {
    /// Refuses to guess which of several data volumes a service is to start on.
    fn decided(&self) -> Result<(), Failure> {
        let Some((service, volumes)) = self.undecided.iter().next() else { return Ok(()) };
        let environment = &self.names.environment;
        let message =
            format!("{service} of {environment} has several data volumes, and no container says which is its");
        let each: Vec<String> = volumes.iter().map(|volume| format!("--delete-data {volume}")).collect();
        let help = format!("remove what is not its data: `lockstep down {environment}` with {}", each.join(" or "));
        Err(Failure::message(Kind::Refused, message).help(help))
    }

    /// The plan to what is meant. A Redis that is replaced while it runs gets a volume of its own to be handed over to.
    fn plan(&mut self, project: &Project, environment: &Environment) -> Result<Plan, Failure> {
        let replaced = build::replaceable(&self.observed, &self.desired);
        if !replaced.is_empty() {
            let mut generations = self.desired.generations.clone();
            for service in replaced {
                generations.insert(service.to_string(), next_generation(&self.observed, &service));
            }
            self.desired = project.desired(environment, &self.secrets, &generations)?;
        }
        Ok(build::build(&self.observed, &self.desired, &BTreeSet::new()))
    }

    /// Ends what hand-overs and rehearsals of an earlier run left that did not end, and then looks at everything anew.
    async fn conclude(&mut self, ui: &Ui, project: &Project, environment: &Environment) -> Result<(), Failure> {
        for service in &self.observed.beside {
            self.remains(service, None).conclude(&|said| ui.status(&format!("{service}: {said}"))).await?;
        }
        if self.observed.rehearsed {
            let failed = |error: EngineError| engine_failure(&self.engine.address, &error);
            rehearsal::clear(&self.engine, &self.names).await.map_err(failed)?;
            ui.status("a rehearsal that broke off is removed");
        }
        match self.observed.is_whole() {
            true => Ok(()),
            false => self.renew(project, environment, &Generations::new()).await,
        }
    }

    /// The same within the run that hands over: the old servers stay until it is known whether the change stands.
    async fn settle(&self) -> Result<(), Failure> {
        for service in &self.observed.beside {
            self.remains(service, None).settle().await?;
        }
        if self.observed.rehearsed {
            let failed = |error: EngineError| engine_failure(&self.engine.address, &error);
            rehearsal::clear(&self.engine, &self.names).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Reads the environment again, meaning these data volumes, and keeps it in hand.
    async fn renew(
        &mut self,
        project: &Project,
        environment: &Environment,
        chosen: &Generations,
    ) -> Result<(), Failure> {
        let renewed = self.meaning(project, environment, chosen).await?;
        *self = Session { hold: self.hold.take(), ..renewed };
        Ok(())
    }

    /// Removes what a change that did not end made and never used: data volumes that no server is on and that hold nothing.
    async fn clear(&self, makes: &[String]) -> Result<bool, Failure> {
        let Some(carrier) = self.desired.state.container(FILES) else { return Ok(false) };
        let made: BTreeSet<&str> = makes.iter().filter_map(|id| id.strip_prefix("volume/")).collect();
        let mounted = |volume: &str| {
            self.observed.state.resources.iter().any(|(id, resource)| match resource {
                Resource::Container(container) if id.name != FILES => {
                    container.mounts.values().any(|mount| mount.volume == volume)
                }
                _ => false,
            })
        };
        let mut cleared = false;
        for (id, resource) in &self.observed.state.resources {
            // The first one is the service's own, whoever made it.
            let later = desired::generation(&id.name).is_some_and(|(service, number)| {
                number > 1 && number != self.generations.get(service).copied().unwrap_or(1)
            });
            let data = matches!(resource, Resource::Volume(Volume::Data { .. }));
            if data && later && made.contains(id.name.as_str()) && !mounted(&id.name) {
                let image = &carrier.image;
                let failed = |error: EngineError| engine_failure(&self.engine.address, &error);
                cleared |=
                    throwaway::remove_if_empty(&self.engine, &self.names, &id.name, image).await.map_err(failed)?;
            }
        }
        Ok(cleared)
    }

    fn remains<'s>(&'s self, service: &'s str, before: Option<&'s Desired>) -> Remains<'s> {
        let grace = self.desired.service(service).map_or(Span::seconds(120), |facts| facts.stop_grace);
        Remains {
            engine: &self.engine,
            names: &self.names,
            service,
            operator: self.secrets.operators.get(service),
            grace,
            facts: self.desired.service(service),
            before: before.and_then(|before| before.state.container(service)?.server.as_ref()),
        }
    }

    /// Reads the environment again, meaning these data volumes.
    async fn meaning(
        &self,
        project: &Project,
        environment: &Environment,
        chosen: &Generations,
    ) -> Result<Session, Failure> {
        let report = observe::report(&self.engine, &self.names, Some(environment)).await;
        let report = report.map_err(|error| engine_failure(&self.engine.address, &error))?;
        compare(project, environment, self.engine.clone(), self.names.clone(), report, chosen).await
    }

    async fn observe_again(&self, environment: &Environment) -> Result<Observed, Failure> {
        self.observe_as(environment, &self.desired).await
    }

    /// What is there, in the terms of something else than what the spec means.
    async fn observe_as(&self, environment: &Environment, meant: &Desired) -> Result<Observed, Failure> {
        let failed = |error: EngineError| engine_failure(&self.engine.address, &error);
        let report = observe::report(&self.engine, &self.names, Some(environment)).await.map_err(failed)?;
        let mut observed = observe::observe(&self.engine, report, meant).await;
        for resource in meant.state.resources.values() {
            let Resource::Container(container) = resource else { continue };
            if !observed.images.contains(&container.image)
                && self.engine.image(&container.image).await.map_err(failed)?.is_some()
            {
                observed.images.insert(container.image.clone());
            }
        }
        Ok(observed)
    }

    fn redis_services(&self) -> Vec<String> {
        let services = self.desired.services.values().filter(|facts| facts.role == Role::Redis);
        services.map(|facts| facts.name.to_string()).collect()
    }
}

/// A number that no data volume of the service has.
fn next_generation(observed: &Observed, service: &Name) -> u32 {
    let volumes = observed.state.resources.keys().filter_map(|id| desired::generation(&id.name));
    let of_service = volumes.filter(|(of, _)| *of == service.as_str()).map(|(_, number)| number);
    of_service.max().unwrap_or(1).saturating_add(1)
}

/// Hears SIGINT, SIGTERM and SIGHUP. The first asks for a clean stop, the second ends at once.
#[derive(Clone, Debug, Default)]
struct Signals {
    first: Arc<AtomicU8>,
    came: Arc<Notify>,
}

impl Signals {
    fn listen() -> Signals {
        Signals::listen_saying("stopping after the steps in hand; once more ends at once")
    }

    /// The same with other words for the first one.
    fn listen_saying(said: &'static str) -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = Signals::default();
        for (kind, number) in [(SignalKind::interrupt(), 2u8), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)]
        {
            let (first, came) = (Arc::clone(&signals.first), Arc::clone(&signals.came));
            if let Ok(mut stream) = signal(kind) {
                tokio::spawn(async move {
                    while stream.recv().await.is_some() {
                        if first.swap(number, Ordering::SeqCst) != 0 {
                            end_now(number);
                        }
                        came.notify_waiters();
                        Ui { format: Format::Text }.status(said);
                    }
                });
            }
        }
        signals
    }

    fn heard(&self) -> Option<u8> {
        Some(self.first.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }

    /// Comes back with the first signal.
    async fn come(&self) -> u8 {
        loop {
            let came = self.came.notified();
            if let Some(number) = self.heard() {
                return number;
            }
            came.await;
        }
    }

    /// Waits for one of so many turns at something; `None` when the others take too long, and it is time to go on beside them.
    async fn turn(&self, what: &str, places: usize) -> Result<Option<Turn>, Failure> {
        let turn = turns::wait(what, places, TURN, &|| self.heard().is_some()).await;
        match (&turn, self.heard()) {
            (None, Some(number)) => {
                Err(Failure::message(Kind::Signal(number), "stopped by a signal while it waited for its turn"))
            }
            _ => Ok(turn),
        }
    }
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "a second signal means now; nothing of ours needs closing")]
fn end_now(number: u8) {
    std::process::exit(i32::from(Kind::Signal(number).exit_code()));
}

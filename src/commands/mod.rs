//! One file per verb, read top to bottom; this one holds what they share.

pub mod apply;
pub mod backup;
pub mod check;
pub mod down;
pub mod lock;
pub mod plan;
pub mod render;
pub mod status;
pub mod verify;

use crate::cli::{BackupCommand, Cli, Command, Form};
use crate::desired::{Desired, Secrets};
use crate::engine::{Engine, EngineError, Names};
use crate::failure::{Failure, Kind};
use crate::finding;
use crate::model::Environment;
use crate::project::{self, Project, Scope};
use crate::state::{Observed, Role};
use crate::store;
use crate::ui::{Format, Ui, text};
use crate::value::{Secret, Sources};
use crate::world::observe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a command that did its work has to say by its exit code; `None` is 0.
pub type Verdict = Option<Kind>;

pub fn ui(cli: &Cli) -> Ui {
    Ui { format: if cli.json || cli.format == Form::Json { Format::Json } else { Format::Text } }
}

pub fn run(cli: &Cli, ui: &Ui) -> Result<Verdict, Failure> {
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
        Command::Plan { environment } => runtime.block_on(plan::run(cli, ui, environment)),
        Command::Apply { environment, reason, yes } => runtime.block_on(apply::run(cli, ui, environment, reason, *yes)),
        Command::Down { environment, delete_data, yes } => {
            runtime.block_on(down::run(cli, ui, environment, delete_data, *yes))
        }
        Command::Status { environment } => runtime.block_on(status::run(cli, ui, environment.as_deref())),
        Command::Verify { environment, with } => runtime.block_on(verify::run(cli, ui, environment, with.as_deref())),
        Command::Backup(BackupCommand::Create { environment, service, reason }) => {
            runtime.block_on(backup::create(cli, ui, environment, service.as_deref(), reason))
        }
        Command::Backup(BackupCommand::List { environment }) => backup::list(cli, ui, environment.as_deref()),
    }
}

/// The project, if nothing in it is wrong; warnings go to standard error.
///
/// Only the named environments are rendered on the way; all of them when none is named.
fn load(cli: &Cli, ui: &Ui, environments: &[&str]) -> Result<(Project, Sources), Failure> {
    let named: Vec<String> = environments.iter().map(|name| (*name).to_owned()).collect();
    let scope = if named.is_empty() { Scope::All } else { Scope::Only(named) };
    let loaded = project::load(&cli.project, scope)?;
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

async fn connect(environment: &Environment) -> Result<Engine, Failure> {
    let address = address(environment)?;
    Engine::connect(&address).await.map_err(|error| engine_failure(&address, &error))
}

fn engine_failure(address: &str, error: &EngineError) -> Failure {
    let kind = if error.is_absence() { Kind::Engine } else { Kind::Error };
    Failure::message(kind, format!("could not read from the engine at {address}: {error}"))
        .help("is Docker running, and may this user reach its socket (root, or group `docker`)?")
}

/// Reads the environment; changes nothing.
async fn open(project: &Project, environment: &Environment) -> Result<Session, Failure> {
    let (engine, names, report) = look(environment).await?;
    compare(project, environment, engine, names, report).await
}

/// What the engine has of the environment. Needs no secrets.
async fn look(environment: &Environment) -> Result<(Engine, Names, observe::Report), Failure> {
    let engine = connect(environment).await?;
    let names = Names { stack: environment.stack.clone(), environment: environment.name.clone() };
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
    let desired = project.desired(environment, &secrets)?;
    let observed = observe::observe(report, &desired).await;
    Ok(Session { engine, names, secrets, desired, observed })
}

impl Session {
    async fn observe_again(&self, environment: &Environment) -> Result<Observed, Failure> {
        let report = observe::report(&self.engine, &self.names, Some(environment)).await;
        let report = report.map_err(|error| engine_failure(&self.engine.address, &error))?;
        Ok(observe::observe(report, &self.desired).await)
    }

    fn redis_services(&self) -> Vec<String> {
        let services = self.desired.services.values().filter(|facts| facts.role == Role::Redis);
        services.map(|facts| facts.name.to_string()).collect()
    }
}

/// Hears SIGINT, SIGTERM and SIGHUP. The first asks for a clean stop, the second ends at once.
#[derive(Clone, Debug, Default)]
struct Signals {
    first: Arc<AtomicU8>,
}

impl Signals {
    fn listen() -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = Signals::default();
        for (kind, number) in [(SignalKind::interrupt(), 2u8), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)]
        {
            let first = Arc::clone(&signals.first);
            if let Ok(mut stream) = signal(kind) {
                tokio::spawn(async move {
                    while stream.recv().await.is_some() {
                        if first.swap(number, Ordering::SeqCst) != 0 {
                            end_now(number);
                        }
                        Ui { format: Format::Text }.status("stopping after the steps in hand; once more ends at once");
                    }
                });
            }
        }
        signals
    }

    fn heard(&self) -> Option<u8> {
        Some(self.first.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "a second signal means now; nothing of ours needs closing")]
fn end_now(number: u8) {
    std::process::exit(i32::from(Kind::Signal(number).exit_code()));
}

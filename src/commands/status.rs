//! `lockstep status`: what runs, where it answers, and whether it is as the spec says.

use crate::cli::Cli;
use crate::commands::{Session, Verdict, compare, load_with_copies, look};
use crate::desired::Generations;
use crate::failure::{Failure, Kind};
use crate::model::Environment;
use crate::parity::{self, Side};
use crate::project::Project;
use crate::state::{Container, Role, Value};
use crate::store;
use crate::ui::{Ui, text};
use crate::value::bytes;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Status {
    format: u32,
    environments: Vec<EnvironmentStatus>,
}

#[derive(Debug, Serialize)]
struct EnvironmentStatus {
    environment: String,
    /// `up`, `partly up`, `down` or `unknown`.
    state: &'static str,
    /// Findings that `verify` would report.
    findings: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    services: Vec<ServiceStatus>,
}

#[derive(Debug, Serialize)]
struct ServiceStatus {
    service: String,
    running: bool,
    image: String,
    addresses: Vec<String>,
    /// What it says of itself.
    condition: String,
}

pub async fn run(cli: &Cli, ui: &Ui, environment: Option<&str>) -> Result<Verdict, Failure> {
    let named: Vec<&str> = environment.into_iter().collect();
    let (project, _) = load_with_copies(cli, ui, &named)?;
    let chosen = match environment {
        Some(name) => vec![project.environment(name)?],
        None => project.resolved.values().collect(),
    };
    let mut environments = Vec::new();
    for environment in chosen {
        let name = environment.name.to_string();
        let empty =
            EnvironmentStatus { environment: name, state: "down", findings: 0, problem: None, services: Vec::new() };
        let status = match read(&project, environment).await {
            Ok(None) => empty,
            Ok(Some(session)) => {
                let side = Side { want: &session.desired, have: &session.observed };
                let mut verification = parity::drift(side);
                verification.beyond(environment.name.as_str(), &session.observed);
                verification.accept(&project.spec.accept, store::today());
                let findings = verification.errors();
                let services: Vec<ServiceStatus> =
                    session.desired.services.keys().map(|name| service(&session, name.as_str())).collect();
                let running = services.iter().filter(|service| service.running).count();
                let state = match running {
                    0 => "down",
                    some if some == services.len() => "up",
                    _ => "partly up",
                };
                EnvironmentStatus { state, findings, services, ..empty }
            }
            Err(failure) if failure.kind == Kind::Engine => return Err(failure),
            // One environment that cannot be read does not hide the others.
            Err(failure) => EnvironmentStatus { state: "unknown", problem: Some(failure.to_string()), ..empty },
        };
        environments.push(status);
    }
    let status = Status { format: 1, environments };
    if ui.is_json() {
        ui.json(&status);
    } else {
        ui.result(&shown(&status));
    }
    Ok(None)
}

/// `None` for an environment of which the engine has nothing; then nobody asks for its secrets either.
async fn read(project: &Project, environment: &Environment) -> Result<Option<Session>, Failure> {
    let (engine, names, report) = look(environment).await?;
    if report.is_empty() {
        return Ok(None);
    }
    compare(project, environment, engine, names, report, &Generations::new()).await.map(Some)
}

fn service(session: &Session, name: &str) -> ServiceStatus {
    let container = session.observed.state.container(name);
    let condition = match container {
        None => "absent".to_owned(),
        Some(container) if !container.running => "stopped".to_owned(),
        Some(container) => condition(session, name, container),
    };
    ServiceStatus {
        service: name.to_owned(),
        running: container.is_some_and(|container| container.running),
        image: session.desired.service(name).map_or_else(String::new, |facts| facts.image.clone()),
        addresses: container.map_or_else(Vec::new, |container| {
            container.ports.values().map(|address| format!("http://{address}")).collect()
        }),
        condition,
    }
}

fn condition(session: &Session, name: &str, container: &Container) -> String {
    let fact = |fact: &str| container.server.as_ref().and_then(|server| server.facts.get(fact));
    match (container.role, session.observed.vitals.get(name)) {
        (Role::Redis, Some(vitals)) => match &vitals.unreadable {
            Some(why) => why.clone(),
            None => {
                let version = fact("version").map_or_else(String::new, ToString::to_string);
                format!("{version}, {} keys, {}", vitals.keys, bytes::about(vitals.used_memory_bytes))
            }
        },
        _ => match fact("health") {
            Some(Value::Text(status)) => format!("health page: {status}"),
            Some(other) => other.to_string(),
            None => "running".to_owned(),
        },
    }
}

fn shown(status: &Status) -> String {
    let mut shown = String::new();
    for environment in &status.environments {
        let verdict = match (&environment.problem, environment.state, environment.findings) {
            (Some(problem), ..) => format!("unknown: {problem}"),
            (None, "down", _) => "down".to_owned(),
            (None, state, 0) => format!("{state}, as the spec says"),
            (None, state, findings) => {
                format!(
                    "{state}, {} (`lockstep verify {}`)",
                    text::plural(findings, "finding"),
                    environment.environment
                )
            }
        };
        shown.push_str(&format!("{}: {verdict}\n", environment.environment));
        let rows: Vec<Vec<String>> = environment
            .services
            .iter()
            .filter(|_| environment.state != "down")
            .map(|service| {
                vec![
                    format!("  {}", service.service),
                    service.image.clone(),
                    service.addresses.join(" "),
                    service.condition.clone(),
                ]
            })
            .collect();
        shown.push_str(&text::table(&rows));
    }
    shown
}

//! Where a service is, and waiting until it answers itself, or noticing that it never will.

use crate::desired::{OPERATOR, PRIVATE, Readiness};
use crate::engine::{Engine, Names, inspect};
use crate::failure::{Failure, Kind};
use crate::http;
use crate::redis::{self, ServerError};
use crate::value::{Secret, Span};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The first answers come within milliseconds; later there is no hurry.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often the engine is asked whether the process is still there.
const LOOK: Duration = Duration::from_secs(1);
/// A server that reads a large data set is not a server that hangs.
const LOADING: Duration = Duration::from_secs(1800);
/// How long a process that can be asked nothing has to last.
const SETTLE: Duration = Duration::from_millis(1500);
pub const REDIS_PORT: u16 = 6379;

/// Why a service is not ready.
#[derive(Debug)]
pub enum NotReady {
    /// The process ended; the engine's reason.
    Ended(String),
    /// It runs, and this is the last thing that was wrong.
    Silent(String),
}

impl NotReady {
    /// `did not stay up: exit code 1`
    pub fn say(&self, within: Span) -> String {
        match self {
            NotReady::Ended(why) => format!("did not stay up: {why}"),
            NotReady::Silent(last) => format!("runs and did not answer within {within}: {last}"),
        }
    }
}

/// Asks the service at its own address, over and over, until it answers or the time is up.
pub async fn wait(
    engine: &Engine,
    container: &str,
    network: &str,
    ready: &Readiness,
    within: Span,
    operator: Option<&Secret>,
) -> Result<(), NotReady> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut looked: Option<Instant> = None;
    let mut address: Option<IpAddr> = None;
    let mut last = "it has no address yet".to_owned();
    let mut limit = within.duration();
    let mut since: Option<String> = None;
    loop {
        let settled = *ready == Readiness::Running && began.elapsed() >= SETTLE;
        if settled || looked.is_none_or(|at| at.elapsed() >= LOOK) {
            match engine.container(container).await {
                Ok(report) => {
                    let state = report.state.unwrap_or_default();
                    if !state.running.unwrap_or_default() || state.restarting.unwrap_or_default() {
                        let code = state.exit_code.unwrap_or_default();
                        let killed = state.oom_killed.unwrap_or_default();
                        let why =
                            if killed { "killed for want of memory".to_owned() } else { format!("exit code {code}") };
                        return Err(NotReady::Ended(why));
                    }
                    // Started again since the first look: it does not stay up, however often it is found running.
                    if since.is_some() && since != state.started_at {
                        return Err(NotReady::Ended("it ended and was started again".to_owned()));
                    }
                    since = state.started_at;
                    address = inspect::address(&report.network_settings, network);
                }
                Err(error) => last = error.to_string(),
            }
            looked = Some(Instant::now());
        }
        match (ready, address) {
            (Readiness::Running, _) if settled => return Ok(()),
            (Readiness::Running, _) | (_, None) => {}
            (Readiness::Redis, Some(ip)) => match redis_answers(SocketAddr::new(ip, REDIS_PORT), operator).await {
                Ok(()) => return Ok(()),
                Err(ServerError::Loading) => {
                    limit = LOADING;
                    last = ServerError::Loading.to_string();
                }
                Err(error) => last = error.to_string(),
            },
            (Readiness::Http { path, port }, Some(ip)) => {
                match http::get(SocketAddr::new(ip, *port), path, Duration::from_secs(5)).await {
                    Ok(status) if (200..400).contains(&status) => return Ok(()),
                    Ok(status) => last = format!("{path} answers with status {status}"),
                    Err(why) => last = format!("{path} on port {port}: {why}"),
                }
            }
        }
        if began.elapsed() > limit {
            return Err(NotReady::Silent(last));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn redis_answers(address: SocketAddr, operator: Option<&Secret>) -> Result<(), ServerError> {
    let Some(password) = operator else {
        return Err(ServerError::Denied("its password is not known".to_owned()));
    };
    redis::connect(address, OPERATOR, password).await?.ping().await
}

/// Where a Redis of the environment listens, on its private network.
pub async fn redis_address(engine: &Engine, names: &Names, service: &str) -> Result<SocketAddr, Failure> {
    address_on(engine, names, service, PRIVATE).await
}

/// The same for another of its networks.
pub(super) async fn address_on(
    engine: &Engine,
    names: &Names,
    service: &str,
    network: &str,
) -> Result<SocketAddr, Failure> {
    let container = names.container(service);
    let report = engine
        .container(&container)
        .await
        .map_err(|error| Failure::message(error.kind(), format!("could not look at {container}: {error}")))?;
    let address = inspect::address(&report.network_settings, &names.network(network));
    let address =
        address.ok_or_else(|| Failure::message(Kind::Error, format!("{container} has no address on its network")))?;
    Ok(SocketAddr::new(address, REDIS_PORT))
}

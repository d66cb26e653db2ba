//! Asks a running environment what it does: its pages and its servers as their users see them, over and over, and the
//! servers for what they count.
//!
//! Changes nothing. What cannot be asked is a problem in the capture, with the reason, and the rest is still asked.

use crate::backup::{self, Manifest};
use crate::desired::{OPERATOR, PRIVATE, Secrets};
use crate::engine::{Engine, Names};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind as FailureKind};
use crate::http::Visitor;
use crate::measure::Unit;
use crate::model::behaviour::{Ask, KeyRule, Probe};
use crate::model::{Environment, Kind};
use crate::probe::{self, Capture, Counted, MOST_TIMES, Probed, ROUNDS, Served};
use crate::redis;
use crate::redis::probe::Asker;
use crate::state::{Observed, Resource, Volume};
use crate::store;
use crate::store::repository::Repository;
use crate::value::Secret;
use crate::world::capture;
use crate::world::ready::REDIS_PORT;
use futures_util::future;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long one probe is asked in all; what is slow is asked less often.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that do not count: connections are made and caches are filled.
const FIRST_WARM_UP: usize = 3;
const WARM_UP: usize = 1;
/// Different values that are kept of a header, and of a body's digest.
const KINDS: usize = 4;

/// What is asked, and with which passwords.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    pub environment: &'a Environment,
    pub secrets: &'a Secrets,
    /// What was observed last: while a password changes, the one in force lies in a volume.
    pub observed: Option<&'a Observed>,
}

/// Where the counts of keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// From a snapshot of each server that has rules, which forks once.
    Pull,
    /// They are known already, by service: from a backup that was taken a moment ago, read by `probe::keys::count`.
    Known(BTreeMap<String, Counted>),
}

/// Captures what the environment does.
///
/// # Errors
/// An engine that does not answer.
pub async fn capture(subject: Subject<'_>, keys: Keys, listener: &impl Listener) -> Result<Capture, Failure> {
    let at = store::now();
    let mut capture = Capture { format: Capture::FORMAT, at: at.to_string(), ..Capture::default() };
    let mut addresses = BTreeMap::new();
    for (service, seen) in lives(subject).await? {
        let (life, address) = seen;
        addresses.extend(address.map(|address| (service.clone(), address)));
        capture.lives.insert(service, life);
    }
    let servers: Vec<&str> = redis_services(subject.environment);
    let began = future::join_all(servers.iter().map(|name| counted(subject, name, addresses.get(*name)))).await;
    for (name, served) in servers.iter().zip(began) {
        capture.servers.insert((*name).to_owned(), served);
    }
    capture.probes = probes(subject, &addresses, listener).await;
    let ended = future::join_all(servers.iter().map(|name| completed(subject, name, addresses.get(*name)))).await;
    for (name, ended) in servers.iter().zip(ended) {
        let Some(served) = capture.servers.get_mut(*name) else { continue };
        match ended {
            Ok((run, _, _, _)) if served.problem.is_none() && run != served.run => {
                served.problem = Some("it was started anew meanwhile".to_owned());
            }
            Ok((_, counters, slowest_us, histograms)) => {
                (served.end, served.slowest_us, served.histograms) = (counters, slowest_us, histograms);
            }
            Err(why) => served.problem = Some(why),
        }
    }
    capture.keys = match keys {
        Keys::Known(known) => known,
        Keys::Pull => count_keys(subject, &addresses, listener).await,
    };
    Ok(capture)
}

type Lives = BTreeMap<String, (probe::Life, Option<IpAddr>)>;

/// How each container of the environment lives, those that are not there as ones that do not run.
pub(super) async fn lives(subject: Subject<'_>) -> Result<Lives, Failure> {
    let Subject { engine, names, environment, .. } = subject;
    let network = names.network(PRIVATE);
    let services = environment.services.keys();
    let asked =
        services.map(|name| async { (name.to_string(), engine.life(&names.container(name.as_str()), &network).await) });
    let mut lives = Lives::new();
    for (name, answer) in future::join_all(asked).await {
        let life = match answer {
            Ok(life) => life,
            Err(error) if error.is_not_found() => (probe::Life::default(), None),
            Err(error) => {
                return Err(Failure::message(error.kind(), format!("could not look at {name}: {error}")));
            }
        };
        lives.insert(name, life);
    }
    Ok(lives)
}

fn redis_services(environment: &Environment) -> Vec<&str> {
    let services = environment.services.values();
    services.filter(|service| matches!(service.kind, Kind::Redis(_))).map(|service| service.name.as_str()).collect()
}

/// A connection as lockstep's own user.
async fn operator(
    subject: Subject<'_>,
    name: &str,
    address: Option<&IpAddr>,
) -> Result<(redis::Server, SocketAddr, Secret), String> {
    let address = SocketAddr::new(*address.ok_or("it does not run")?, REDIS_PORT);
    let password = subject.secrets.operators.get(name).ok_or("the password of user `lockstep` is not known")?;
    let server = redis::connect(address, OPERATOR, password).await.map_err(|error| error.to_string())?;
    Ok((server, address, password.clone()))
}

/// A server's counters as they are now.
pub(super) async fn counted(subject: Subject<'_>, name: &str, address: Option<&IpAddr>) -> Served {
    let asked = async {
        let (server, _, _) = operator(subject, name, address).await?;
        server.counters().await.map_err(|error| error.to_string())
    };
    match asked.await {
        Ok((run, counters, slow)) => {
            Served { run, start: counters, end: counters, slowest_us: slow.slowest_us, ..Served::default() }
        }
        Err(why) => Served { problem: Some(why), ..Served::default() },
    }
}

type Completed = (String, probe::Counters, Option<u64>, BTreeMap<String, probe::Histogram>);

async fn completed(subject: Subject<'_>, name: &str, address: Option<&IpAddr>) -> Result<Completed, String> {
    let (server, _, _) = operator(subject, name, address).await?;
    let (run, counters, slow) = server.counters().await.map_err(|error| error.to_string())?;
    let histograms = server.histograms().await.map_err(|error| error.to_string())?;
    Ok((run, counters, slow.slowest_us, histograms))
}

/// Asks for everything in rounds, one probe after the other, so that a moment of noise does not meet one of them alone.
async fn probes(
    subject: Subject<'_>,
    addresses: &BTreeMap<String, IpAddr>,
    listener: &impl Listener,
) -> BTreeMap<String, Probed> {
    let mut probed: BTreeMap<String, Probed> = BTreeMap::new();
    for round in 0..ROUNDS {
        for (name, probe) in &subject.environment.probes {
            let found = probed.entry(name.clone()).or_default();
            if found.problem.is_some() {
                continue;
            }
            let asked = match (addresses.get(probe.on.as_str()), &probe.ask) {
                (None, _) => Err(format!("{} does not run", probe.on)),
                (Some(address), Ask::Http { .. }) => pages(probe, *address, round, found).await,
                (Some(address), Ask::Redis { .. }) => commands(subject, probe, *address, round, found).await,
            };
            found.problem = asked.err();
        }
    }
    for (name, found) in &probed {
        let text = match (&found.problem, found.times().percentile(0.95)) {
            (Some(problem), _) => format!("probe {name}: {problem}"),
            (None, Some(p95)) => {
                format!("probe {name}: {} times, p95 {}", found.times().count(), Unit::Milliseconds.about(p95.value))
            }
            (None, None) => format!("probe {name}: no times"),
        };
        listener.hear(Event::Line { text });
    }
    probed
}

fn micros(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX)
}

fn warm_up(round: usize) -> usize {
    if round == 0 { FIRST_WARM_UP } else { WARM_UP }
}

fn round_time() -> Duration {
    PROBE_TIME / u32::try_from(ROUNDS).unwrap_or(1)
}

async fn pages(probe: &Probe, address: IpAddr, round: usize, found: &mut Probed) -> Result<(), String> {
    let Ask::Http { path, port, headers, .. } = &probe.ask else { return Ok(()) };
    let address = SocketAddr::new(address, *port);
    let names: Vec<&str> = headers.keys().map(String::as_str).collect();
    let late = |_| format!("no answer within {} s", PATIENCE.as_secs());
    let connect = || async { tokio::time::timeout(PATIENCE, Visitor::connect(address)).await.map_err(late)? };
    let began = Instant::now();
    let mut visitor = connect().await?;
    let mut times = Vec::new();
    for number in 0..MOST_TIMES / ROUNDS + warm_up(round) {
        if number > warm_up(round) && began.elapsed() >= round_time() {
            break;
        }
        if visitor.is_gone().await {
            visitor = connect().await?;
        }
        let asked = visitor.get(path, &names);
        let page = tokio::time::timeout(PATIENCE, asked).await.map_err(late)??;
        if number < warm_up(round) {
            continue;
        }
        times.push(micros(page.elapsed));
        *found.statuses.entry(page.status).or_default() += 1;
        for (name, value) in page.headers {
            let seen = found.headers.entry(name).or_default();
            if seen.len() < KINDS {
                seen.insert(value);
            }
        }
        if found.bodies.len() < KINDS {
            found.bodies.insert(page.body.to_string());
        }
        found.body_bytes = Some(page.body_bytes);
    }
    found.rounds.push(times);
    Ok(())
}

async fn commands(
    subject: Subject<'_>,
    probe: &Probe,
    address: IpAddr,
    round: usize,
    found: &mut Probed,
) -> Result<(), String> {
    let Ask::Redis { command, user, password } = &probe.ask else { return Ok(()) };
    if round == 0 {
        let (server, _, _) = operator(subject, probe.on.as_str(), Some(&address)).await?;
        if let Some(why) = server.refuses_as_probe(command).await.map_err(|error| error.to_string())? {
            return Err(why);
        }
    }
    let passwords = passwords(subject, password);
    let (command, user, address) = (command.clone(), user.clone(), SocketAddr::new(address, REDIS_PORT));
    let asked = tokio::task::spawn_blocking(move || ask_over_and_over(address, &user, &passwords, &command, round));
    let times = asked.await.unwrap_or_else(|error| Err(error.to_string()))?;
    found.rounds.push(times);
    Ok(())
}

/// The password that is meant, then those that lie in volumes and may be in force still.
fn passwords(subject: Subject<'_>, name: &str) -> Vec<Secret> {
    let mut passwords: Vec<Secret> = subject.secrets.values.get(name).cloned().into_iter().collect();
    let resources = subject.observed.iter().flat_map(|observed| observed.state.resources.values());
    for resource in resources {
        if let Resource::Volume(Volume::Files { files }) = resource
            && let Some(file) = files.get(name).filter(|file| file.secret)
        {
            let secret = Secret::new(file.content.clone());
            if !passwords.contains(&secret) {
                passwords.push(secret);
            }
        }
    }
    passwords
}

fn ask_over_and_over(
    address: SocketAddr,
    user: &str,
    passwords: &[Secret],
    command: &[String],
    round: usize,
) -> Result<Vec<u32>, String> {
    let mut refused = format!("the password of user `{user}` is not known");
    let mut asker = None;
    for password in passwords {
        match Asker::connect(address, user, password, PATIENCE) {
            Ok(connected) => {
                asker = Some(connected);
                break;
            }
            Err(error) if error.is_credentials() => refused = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    let Some(mut asker) = asker else { return Err(refused) };
    let began = Instant::now();
    let mut times = Vec::new();
    for number in 0..MOST_TIMES / ROUNDS + warm_up(round) {
        if number > warm_up(round) && began.elapsed() >= round_time() {
            break;
        }
        let elapsed = asker.ask(command).map_err(|error| error.to_string())??;
        if number >= warm_up(round) {
            times.push(micros(elapsed));
        }
    }
    Ok(times)
}

/// Counts the keys in a stored backup, for [`Keys::Known`]. Blocks for as long as reading it takes.
///
/// # Errors
/// A backup that does not read to its end, or that nothing here opens.
pub fn keys_of_backup(
    repository: &Repository,
    manifest: &Manifest,
    environment: &Environment,
) -> Result<Counted, Failure> {
    let failed = |error: anyhow::Error| {
        let what = format!("could not count the keys in the backup {}", manifest.id);
        Failure::new(FailureKind::Error, error.context(what))
    };
    let identities = repository.identities().map_err(failed)?;
    let mut reader = repository.read(manifest, backup::SNAPSHOT, &identities).map_err(|error| failed(error.into()))?;
    let rules: Vec<&KeyRule> = environment.keys.iter().filter(|rule| rule.on.as_str() == manifest.service).collect();
    let taken: jiff::Timestamp = manifest.taken_at.parse().map_err(|error: jiff::Error| failed(error.into()))?;
    let counted =
        probe::keys::count(&mut reader, &rules, taken.as_millisecond()).map_err(|error| failed(error.into()))?;
    reader.finish().map_err(|error| failed(error.into()))?;
    Ok(counted)
}

/// Counts the keys of every server that has rules, in a snapshot that nobody keeps.
async fn count_keys(
    subject: Subject<'_>,
    addresses: &BTreeMap<String, IpAddr>,
    listener: &impl Listener,
) -> BTreeMap<String, Counted> {
    let environment = subject.environment;
    let servers: BTreeSet<&str> = environment.keys.iter().map(|rule| rule.on.as_str()).collect();
    let mut counts = BTreeMap::new();
    for name in servers {
        let rules: Vec<KeyRule> = environment.keys.iter().filter(|rule| rule.on.as_str() == name).cloned().collect();
        let limit = environment.services.values().find(|service| service.name.as_str() == name);
        let limit = limit.map_or(0, |service| service.limits.memory.value.0);
        let counted = async {
            let (_, address, password) = operator(subject, name, addresses.get(name)).await?;
            let now_ms = store::now().as_millisecond();
            let look = move |snapshot: &mut dyn std::io::Read| {
                let rules: Vec<&KeyRule> = rules.iter().collect();
                let counted = probe::keys::count(snapshot, &rules, now_ms).map_err(|error| error.to_string())?;
                Ok((counted, false))
            };
            capture::glance(name, (address, &password), limit, look).await.map_err(|failure| failure.to_string())
        };
        let counted = counted.await.unwrap_or_else(|why: String| Counted { problem: Some(why), ..Counted::default() });
        let keys: u64 = counted.rules.values().map(|rule| rule.keys).sum();
        listener.hear(Event::Line { text: format!("keys of {name}: {}", keys + counted.unruled) });
        counts.insert(name.to_owned(), counted);
    }
    counts
}

//! What is there: the engine asked for everything that is the environment's, the servers for what they are.
//!
//! Sends nothing that changes anything. What cannot be read is unknown, with the reason.

use crate::desired::{self, Desired, FILES, Generations, OPERATOR, OPERATOR_PASSWORD, Readiness};
use crate::engine::archive::{self, Lying};
use crate::engine::beyond::{self, Beyond};
use crate::engine::docker::Image;
use crate::engine::inspect::{self, Seen};
use crate::engine::{Engine, EngineError, Names};
use crate::http;
use crate::model::Environment;
use crate::redis::{self, ServerError};
use crate::state::{self, Observed, Resource, Role, Since, State, Value, Vitals, Volume};
use crate::store::volumes;
use crate::value::{ResourceId, Secret};
use crate::world::ready::REDIS_PORT;
use crate::world::rehearsal;
use futures_util::future;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a server that does not answer yet is given before it counts as unreadable: longer than one attempt to connect.
const STARTING: Duration = Duration::from_secs(7);
/// A page that fails once may have met a moment; it is asked once more after this long.
const ANOTHER_LOOK: Duration = Duration::from_millis(1200);

/// What the engine said of an environment, before it is compared with what is meant.
#[derive(Debug)]
pub struct Report {
    seen: Vec<Seen>,
    networks: BTreeMap<ResourceId, state::Network>,
    volumes: BTreeMap<ResourceId, Volume>,
    files: BTreeMap<String, Lying>,
    /// Wanted images that the engine has, by reference.
    images: BTreeMap<String, String>,
    names: BTreeMap<ResourceId, String>,
    taken: BTreeSet<ResourceId>,
    /// Services with a container beside their own, which a hand-over left.
    beside: BTreeSet<String>,
    rehearsed: bool,
    beyond: BTreeMap<ResourceId, Beyond>,
}

impl Report {
    /// The passwords of lockstep's own user, as they lie in the volumes.
    pub fn operators(&self) -> BTreeMap<String, Secret> {
        let mut operators = BTreeMap::new();
        for (volume, lying) in &self.files {
            if let (Some((service, _)), Some(file)) = (volume.split_once('.'), lying.files.get(OPERATOR_PASSWORD)) {
                operators.insert(service.to_owned(), Secret::new(file.content.clone()));
            }
        }
        operators
    }

    /// Which of its data volumes each Redis is on. Its container says so; without one, the container that mounts all
    /// volumes; without that, the volumes themselves.
    pub fn generations(&self) -> Generations {
        let mut found = Generations::new();
        for (id, volume) in &self.volumes {
            if let (Volume::Data { .. }, Some((service, number))) = (volume, desired::generation(&id.name)) {
                let most = found.entry(service.to_owned()).or_insert(number);
                *most = number.max(*most);
            }
        }
        let mounted = |role: Role| {
            let of_role = self.seen.iter().filter(move |seen| seen.container.role == role);
            of_role.flat_map(|seen| seen.container.mounts.values().map(move |mount| (seen, mount)))
        };
        // By its name too: what a restore that was killed left mounts a volume that nothing vouches for.
        for (seen, mount) in mounted(Role::Files) {
            if let Some((service, number)) = desired::generation(&mount.volume)
                && seen.id.name == FILES
            {
                found.insert(service.to_owned(), number);
            }
        }
        for (seen, mount) in mounted(Role::Redis) {
            if let Some((service, number)) = desired::generation(&mount.volume)
                && service == seen.id.name
            {
                found.insert(service.to_owned(), number);
            }
        }
        found
    }

    /// Data volumes of a service of which nothing says which one is in use.
    pub fn undecided(&self) -> BTreeMap<String, Vec<String>> {
        let decided = |volume: &String| {
            self.seen.iter().any(|seen| {
                let service = desired::generation(volume).map(|(service, _)| service);
                let of = |mount: &state::Mount| desired::generation(&mount.volume).map(|(of, _)| of) == service;
                let tells = seen.id.name == FILES || Some(seen.id.name.as_str()) == service;
                tells && seen.container.mounts.values().any(of)
            })
        };
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in self.volumes.keys().filter(|id| !decided(&id.name)) {
            if let Some((service, _)) = desired::generation(&id.name) {
                found.entry(service.to_owned()).or_default().push(id.name.clone());
            }
        }
        found.retain(|_, volumes| volumes.len() > 1);
        found
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }
}

/// Objects by the resource that they claim to be. A name that is not the claim's own does not hide the one that is.
struct Claims<'n> {
    names: &'n Names,
    found: BTreeMap<ResourceId, String>,
    taken: BTreeSet<ResourceId>,
}

impl Claims<'_> {
    /// The identity of an object that claims to be `claim`; those that have the claim's own name come first.
    fn admit(&mut self, claim: ResourceId, name: &str) -> ResourceId {
        let id = if self.found.contains_key(&claim) {
            ResourceId { name: format!("{} ({name})", claim.name), ..claim }
        } else {
            claim
        };
        self.found.insert(id.clone(), name.to_owned());
        id
    }
}

/// Asks the engine for everything that carries the environment's labels.
pub async fn report(engine: &Engine, names: &Names, environment: Option<&Environment>) -> Result<Report, EngineError> {
    let services = || environment.iter().flat_map(|environment| environment.services.values());
    let wanted: BTreeSet<&str> = services().filter_map(|service| service.locked.as_deref()).collect();
    let images =
        future::try_join_all(wanted.into_iter().map(|reference| async move {
            Ok::<_, EngineError>((reference.to_owned(), engine.image(reference).await?))
        }));
    let carrier = names.container(FILES);
    let expected: Vec<String> = services().map(|service| names.container(service.name.as_str())).collect();
    // By name, so that nothing waits for the list; what the list has besides is asked for after it.
    let by_name = future::join_all(expected.iter().chain([&carrier]).map(|name| engine.find_container(name)));
    // An engine that runs beside us says where volumes lie; any other starts a process for each archive, which takes longer
    // than everything else here.
    let files = async { if engine.is_here() { None } else { Some(engine.read_files(&carrier, "/v").await) } };
    let met = [desired::PRIVATE, desired::EDGE].map(|network| (network, names.network(network)));
    let met = future::join_all(met.iter().map(|(network, name)| async move { (*network, engine.network(name).await) }));
    let (listed, networks, volumes, images, by_name, files, met) =
        tokio::join!(engine.containers(names), engine.networks(), engine.volumes(), images, by_name, files, met);
    let (listed, images) = (listed?, images?);
    let mut reports = Vec::new();
    for report in by_name {
        reports.extend(report?);
    }
    let mut known: BTreeSet<String> = reports.iter().filter_map(|report| report.id.clone()).collect();
    let others = listed.iter().filter(|id| !known.contains(*id));
    for report in future::join_all(others.map(|id| engine.find_container(id))).await {
        // One may be gone between the list and the look.
        reports.extend(report?);
    }
    known.extend(listed);
    if reports.iter().any(inspect::swaps_without_bound) && !engine.bounds_swap().await? {
        reports.iter_mut().for_each(inspect::leave_out_swap);
    }
    let mut by_id: BTreeMap<String, Image> = BTreeMap::new();
    for image in images.iter().filter_map(|(_, image)| image.as_ref()) {
        by_id.insert(image.id.clone(), image.clone());
    }
    // A container may run another image than the one that is wanted; what that one brings along is not the spec's either.
    let others: BTreeSet<&String> =
        reports.iter().filter_map(|report| report.image.as_ref()).filter(|id| !by_id.contains_key(*id)).collect();
    let others = future::try_join_all(others.into_iter().map(|id| engine.image(id))).await?;
    by_id.extend(others.into_iter().flatten().map(|image| (image.id.clone(), image)));

    let mut claims = Claims { names, found: BTreeMap::new(), taken: BTreeSet::new() };
    let (mut seen, mut doubles, mut beside) = (Vec::new(), Vec::new(), BTreeSet::new());
    for report in reports {
        let name = report.name.clone().unwrap_or_default().trim_start_matches('/').to_owned();
        let image = report.image.as_ref().and_then(|id| by_id.get(id));
        match inspect::container(names, report, image) {
            // It is there for a hand-over alone.
            Some(found) if names.is_beside(&found.id.name, &found.name) => {
                beside.insert(found.id.name);
            }
            Some(found) if names.of(&found.id) == found.name => {
                claims.admit(found.id.clone(), &found.name);
                seen.push(found);
            }
            Some(found) => doubles.push(found),
            // It has a name of ours and not our labels.
            None => {
                let prefix = format!("{}-", names.project());
                claims.taken.extend(name.strip_prefix(&prefix).map(ResourceId::container));
            }
        }
    }
    for mut found in doubles {
        found.id = claims.admit(found.id, &found.name);
        seen.push(found);
    }
    let (volumes, networks) = (volumes?, networks?);
    let files = match files {
        Some(files) => files,
        None => match here(engine.homes(names, &volumes)).await {
            Some(tar) => Ok(tar),
            None => engine.read_files(&carrier, "/v").await,
        },
    };
    let mut strange = BTreeMap::new();
    for (network, report) in met {
        // One that went meanwhile, or that there are two of, is told by the list of all networks.
        let Ok(Some(report)) = report else { continue };
        if report.labels.as_ref().and_then(|labels| names.claimed(labels)) == Some(ResourceId::network(network)) {
            let own = engine.residents(names, &report, &known).await;
            strange.insert(ResourceId::network(network), beyond::network(&report, &own));
        }
    }
    for volume in &volumes {
        strange.extend(names.claimed(&volume.labels).map(|id| (id, beyond::volume(volume))));
    }
    strange.retain(|_, of| !of.is_empty());
    let rehearsal = rehearsal::names_of(names);
    // Whatever it left, a volume is part of it.
    let rehearsed = volumes
        .iter()
        .any(|volume| rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.claimed(&volume.labels).is_some()));
    let volumes = volumes.iter().map(|volume| (volume.name.as_str(), Some(&volume.labels), volume));
    let volumes = own(&mut claims, volumes, ResourceId::volume, |volume| inspect::volume(&volume.labels));
    let networks =
        networks.iter().map(|network| (network.name.as_deref().unwrap_or_default(), network.labels.as_ref(), network));
    let mut networks = own(&mut claims, networks, ResourceId::network, |network| state::Network {
        internal: network.internal.unwrap_or_default(),
    });
    // Where only the network of a hand-over is left, one broke off as well.
    networks.retain(|id, _| match Names::met_on(id) {
        Some(service) => {
            beside.insert(service.to_owned());
            false
        }
        None => true,
    });
    let files = match files {
        Ok(tar) => unpack(&tar, "v", None)?,
        Err(error) if error.is_not_found() => through_services(engine, &seen, &volumes).await?,
        Err(error) => return Err(error),
    };
    Ok(Report {
        seen,
        networks,
        volumes,
        files,
        images: images
            .iter()
            .filter_map(|(reference, image)| Some((reference.clone(), image.as_ref()?.id.clone())))
            .collect(),
        names: claims.found,
        taken: claims.taken,
        beside,
        rehearsed,
        beyond: strange,
    })
}

/// Of all objects of a kind, those that are the environment's; names of ours that others have are noted.
fn own<'o, O: 'o, S>(
    claims: &mut Claims<'_>,
    objects: impl Iterator<Item = (&'o str, Option<&'o std::collections::HashMap<String, String>>, &'o O)>,
    named: fn(String) -> ResourceId,
    state: impl Fn(&O) -> S,
) -> BTreeMap<ResourceId, S> {
    let prefix = format!("{}-", claims.names.project());
    let mut found = BTreeMap::new();
    let mut doubles = Vec::new();
    for (name, labels, object) in objects {
        let claim = labels.and_then(|labels| claims.names.claimed(labels));
        match claim {
            Some(claim) if claims.names.of(&claim) == name => {
                found.insert(claims.admit(claim, name), state(object));
            }
            Some(claim) => doubles.push((claim, name, object)),
            None => claims.taken.extend(name.strip_prefix(&prefix).map(|name| named(name.to_owned()))),
        }
    }
    for (claim, name, object) in doubles {
        found.insert(claims.admit(claim, name), state(object));
    }
    found
}

/// The files of volumes that lie on this machine, as the archive that the engine would make of them.
async fn here(homes: Option<Vec<(String, PathBuf)>>) -> Option<Vec<u8>> {
    let homes = homes?;
    tokio::task::spawn_blocking(move || volumes::read(&homes, archive::MAX_TAR as u64)).await.ok()?.ok()
}

fn unpack(tar: &[u8], prefix: &str, volume: Option<&str>) -> Result<BTreeMap<String, Lying>, EngineError> {
    archive::unpack(tar, prefix, volume)
        .map_err(|error| EngineError::Unknown(format!("its archive does not read: {error}")))
}

/// Without the container that mounts all files, through those that mount some of them.
async fn through_services(
    engine: &Engine,
    seen: &[Seen],
    volumes: &BTreeMap<ResourceId, Volume>,
) -> Result<BTreeMap<String, Lying>, EngineError> {
    let mut files = BTreeMap::new();
    for found in seen {
        for (path, mount) in &found.container.mounts {
            if !matches!(volumes.get(&ResourceId::volume(&mount.volume)), Some(Volume::Files { .. })) {
                continue;
            }
            let folder = path.rsplit('/').next().unwrap_or_default();
            let tar = engine.read_files(&found.name, path).await?;
            files.extend(unpack(&tar, folder, Some(&mount.volume))?);
        }
    }
    Ok(files)
}

/// Completes a report with what the servers say of themselves, in the terms of what is meant.
pub async fn observe(engine: &Engine, report: Report, want: &Desired) -> Observed {
    let operators = report.operators();
    let mut state = State::default();
    let mut vitals: BTreeMap<String, Vitals> = BTreeMap::new();
    let mut since: BTreeMap<ResourceId, Since> = BTreeMap::new();
    for (id, network) in report.networks {
        state.resources.insert(id, Resource::Network(network));
    }
    let mut files = report.files;
    let mut stale = BTreeMap::new();
    for (id, mut volume) in report.volumes {
        if let (Volume::Files { files: found }, Some(lying)) = (&mut volume, files.remove(&id.name)) {
            *found = lying.files;
            let at = |second: u64| Timestamp::from_second(i64::try_from(second).ok()?).ok().map(|at| at.to_string());
            let written = lying.written.into_iter().filter_map(|(path, second)| Some((path, at(second)?)));
            since.entry(id.clone()).or_default().written = written.collect();
            stale.insert(id.name.clone(), lying.stale);
            // Whether a file may be shown, the spec says.
            if let Some(Volume::Files { files: wanted }) = want.state.volume(&id.name) {
                for (path, file) in found.iter_mut() {
                    file.secret = wanted.get(path).is_none_or(|wanted| wanted.secret);
                }
            }
        }
        state.resources.insert(id, Resource::Volume(volume));
    }
    let asked = report.seen.iter().map(|seen| async {
        match seen.container.role {
            _ if !seen.container.running => Looked::Nothing,
            Role::Redis => {
                let wanted = want.state.container(&seen.id.name).and_then(|container| container.server.as_ref());
                let (server, vitals) = ask(seen, operators.get(&seen.id.name), wanted).await;
                if vitals.unreadable.is_some() && ended_since(engine, seen).await {
                    Looked::Ended
                } else {
                    Looked::Said(server, Some(vitals))
                }
            }
            Role::App => health(seen, want).await.map_or(Looked::Nothing, |server| Looked::Said(server, None)),
            Role::Files => Looked::Nothing,
        }
    });
    let answers = future::join_all(asked).await;
    for (seen, answer) in report.seen.iter().zip(answers) {
        let mut container = seen.container.clone();
        let wanted = want.state.container(&seen.id.name);
        // What the image brings along is no difference to a spec that leaves it to the image.
        container.env.retain(|key, value| {
            let named = wanted.is_some_and(|wanted| wanted.env.contains_key(key));
            named || !seen.brought.env.contains(&format!("{key}={value}"))
        });
        if let Some(wanted) = wanted {
            if wanted.entrypoint.is_none() && container.entrypoint == seen.brought.entrypoint {
                container.entrypoint = None;
            }
            if wanted.command.is_none() && container.command == seen.brought.command {
                container.command = None;
            }
            // The same bytes under the name that the lock has for them.
            if wanted.role == Role::Files || report.images.get(&wanted.image) == Some(&seen.image_id) {
                container.image.clone_from(&wanted.image);
            }
        }
        match answer {
            Looked::Nothing => {}
            Looked::Said(server, read) => {
                container.server = Some(server);
                if let Some(read) = read {
                    since.entry(seen.id.clone()).or_default().commands.clone_from(&read.commands);
                    vitals.insert(seen.id.name.clone(), read);
                }
            }
            Looked::Ended => (container.running, container.restarting) = (false, true),
        }
        let of = since.entry(seen.id.clone()).or_default();
        (of.made, of.started) = (seen.made_at.clone(), seen.started_at.clone());
        state.resources.insert(seen.id.clone(), Resource::Container(Box::new(container)));
    }
    let images = report.images.into_keys().collect();
    Observed {
        state,
        vitals,
        images,
        names: report.names,
        taken: report.taken,
        beside: report.beside,
        rehearsed: report.rehearsed,
        since,
        beyond: report.beyond,
        stale,
    }
}

/// What asking a container came to.
enum Looked {
    Nothing,
    Said(state::Server, Option<Vitals>),
    /// It was met at the one moment when it ran: it ends, and the engine starts it again, over and over.
    Ended,
}

/// Whether a container that did not answer is another process by now, or none.
async fn ended_since(engine: &Engine, seen: &Seen) -> bool {
    let Ok(again) = engine.container(&seen.name).await else { return false };
    let state = again.state.unwrap_or_default();
    !state.running.unwrap_or_default() || state.restarting.unwrap_or_default() || state.started_at != seen.started_at
}

/// What an application answers on its health page, as a fact about it.
async fn health(seen: &Seen, want: &Desired) -> Option<state::Server> {
    let facts = want.service(&seen.id.name)?;
    let Readiness::Http { path, port } = &facts.ready else { return None };
    let answer = match seen.address {
        Some(ip) => {
            let look = || http::get(SocketAddr::new(ip, *port), path, Duration::from_secs(5));
            match look().await {
                Ok(status @ ..400) => Ok(status),
                _ => {
                    tokio::time::sleep(ANOTHER_LOOK).await;
                    look().await
                }
            }
        }
        None => Err("it has no address on its network".to_owned()),
    };
    let answer = match answer {
        Ok(status) => Value::text(format!("status {status}")),
        Err(why) => Value::Unknown(why),
    };
    Some(state::Server { facts: BTreeMap::from([("health".to_owned(), answer)]), ..Default::default() })
}

async fn ask(seen: &Seen, operator: Option<&Secret>, want: Option<&state::Server>) -> (state::Server, Vitals) {
    let asked = async {
        let address = seen.address.ok_or("it has no address on its network")?;
        let password = operator.ok_or("the password of user `lockstep` is not in its volume")?;
        let began = Instant::now();
        loop {
            let server = redis::connect(SocketAddr::new(address, REDIS_PORT), OPERATOR, password).await;
            let asked = match server {
                Ok(server) => server.observe(want).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                // One that was just started listens in a moment, and may have to read its data first.
                Err(ServerError::Unreachable(_) | ServerError::Loading) if began.elapsed() < STARTING => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    asked.await.unwrap_or_else(|why: String| {
        let mut server = want.cloned().unwrap_or_default();
        for value in server.settings.values_mut() {
            *value = Value::Unknown(why.clone());
        }
        server.users.clear();
        server.facts = BTreeMap::from([("version".to_owned(), Value::Unknown(why.clone()))]);
        (server, Vitals { unreadable: Some(why), ..Vitals::default() })
    })
}

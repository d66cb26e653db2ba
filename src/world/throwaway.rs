//! A throw-away server that loads a snapshot: on a network of its own that leads nowhere, in a volume of its own.
//!
//! For a drill it is an environment like any other to the engine, called `drill-...`, so its names and labels cannot be
//! taken for those of a real one. For a restore it fills a new volume of a real environment, which stays. It starts as a
//! replica of nobody: a primary drops keys whose time has passed while it loads, a replica keeps them, and everything
//! that is in the snapshot can be compared. No client can reach it without a password that exists in its volume alone.

use crate::backup::Manifest;
use crate::desired::{OPERATOR, PRIVATE, Readiness, data_volume};
use crate::engine::docker::Image;
use crate::engine::{Engine, EngineError, Names, archive};
use crate::failure::{Failure, Kind};
use crate::model::rules::{DRILL, REHEARSE};
use crate::redis::{self, Server};
use crate::state::{Container, Hardening, Mount, Volume};
use crate::store;
use crate::value::{Family, Name, ResourceId, Secret, ServerVersion, Span};
use crate::world::ready::{self, NotReady, address_on};
use crate::world::seed::pour;
use bytes::Bytes;
use futures_util::{Stream, future, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

/// What was killed is cleared away by a later one.
pub(super) const LEFT_BEHIND: Span = Span::seconds(6 * 3600);
/// How long it may take to start, besides loading, for which there is more.
const STARTS_WITHIN: u64 = 120;
/// How long it may take to write out what it holds when it ends.
const ENDS_WITHIN: u64 = 600;

/// What is to be loaded, and into what.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub stack: Name,
    pub service: Name,
    /// As the lock pins it.
    pub image: String,
    /// The one in the image, whichever wrote the snapshot.
    pub server: ServerVersion,
    pub user: (u32, u32),
    /// Bytes of the snapshot.
    pub size: u64,
    /// Bytes of memory that the server used that wrote it.
    pub used_memory: u64,
    /// One more than the highest database in it.
    pub databases: u64,
}

impl Wanted {
    /// What it takes to load `size` bytes that were made from this backup.
    pub fn of(
        manifest: &Manifest,
        stack: &Name,
        service: &Name,
        image: &str,
        server: ServerVersion,
        user: (u32, u32),
        size: u64,
    ) -> Wanted {
        let used_memory = manifest.capture.as_ref().and_then(|costs| costs.used_memory);
        Wanted {
            stack: stack.clone(),
            service: service.clone(),
            image: image.to_owned(),
            server,
            user,
            size,
            used_memory: used_memory.unwrap_or(size.saturating_mul(4)),
            databases: manifest.counts.databases_needed(),
        }
    }
}

/// Which server an image holds, as far as its variables say so; those of the servers' makers do.
pub fn server_in(image: &Image) -> Option<ServerVersion> {
    image.server().and_then(|server| ServerVersion::parse(&server))
}

/// Where it runs, and what its files are called.
#[derive(Clone, Debug)]
pub struct Place {
    pub names: Names,
    pub network: String,
    pub container: String,
    /// The volume that the snapshot is loaded from.
    pub data: String,
    /// What the files in it are called, as the server's settings have it.
    pub files: Vec<(String, String)>,
}

impl Place {
    /// An environment of its own.
    pub(super) fn drill(wanted: &Wanted) -> Result<Place, Failure> {
        let random = store::random_hex::<3>().map_err(|error| Failure::new(Kind::Error, error))?;
        let environment = format!("{DRILL}{random}");
        let unnamed = || Failure::message(Kind::Error, format!("`{environment}` is no name"));
        let environment = Name::parse(&environment).ok_or_else(unnamed)?;
        Ok(Place {
            names: Names::lasting(wanted.stack.clone(), environment),
            network: PRIVATE.to_owned(),
            container: wanted.service.to_string(),
            data: data_volume(&wanted.service, 1),
            files: Vec::new(),
        })
    }

    fn carrier(&self) -> ResourceId {
        ResourceId::container(format!("{}.carrier", self.container))
    }

    fn conf(&self) -> String {
        format!("{}.conf", self.container)
    }

    fn dump(&self) -> &str {
        let named = self.files.iter().find(|(setting, _)| setting == "dbfilename");
        named.map_or("dump.rdb", |(_, name)| name.as_str())
    }
}

/// A server that has loaded the snapshot. It lives until [`Throwaway::discard`] or [`Throwaway::leave_data`].
#[derive(Debug)]
pub struct Throwaway<'e> {
    engine: &'e Engine,
    place: Place,
    service: Name,
    pub password: Secret,
    pub address: SocketAddr,
}

impl<'e> Throwaway<'e> {
    /// Launches it, and waits until it has loaded. What was made is removed again when that fails.
    pub async fn load(
        engine: &'e Engine,
        place: Place,
        wanted: &Wanted,
        snapshot: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Throwaway<'e>, Failure> {
        let random = |error| Failure::new(Kind::Error, error);
        let password = Secret::new(store::random_hex::<24>().map_err(random)?);
        let made = make(engine, &place, wanted, &password, snapshot).await;
        let result = match made {
            Ok(()) => address(engine, &place).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(address) => Ok(Throwaway { engine, place, service: wanted.service.clone(), password, address }),
            Err(failure) => {
                // Best effort: what stays is no worse than what a killed run leaves.
                let _ = remove(engine, &place).await;
                let _ = engine.remove_volume(&place.names.volume(&place.data)).await;
                Err(failure)
            }
        }
    }

    pub async fn server(&self) -> Result<Server, Failure> {
        let connected = redis::connect(self.address, OPERATOR, &self.password).await;
        connected.map_err(|error| Failure::message(Kind::Error, format!("the throw-away {}: {error}", self.service)))
    }

    /// Removes everything that was made for it.
    pub async fn discard(self) -> Result<(), Failure> {
        let data = self.place.names.volume(&self.place.data);
        let removed = match remove(self.engine, &self.place).await {
            Ok(()) => self.engine.remove_volume(&data).await,
            failed => failed,
        };
        removed.map_err(|error| {
            let message = format!("could not remove {}: {error}", self.place.names.container(&self.place.container));
            Failure::message(Kind::Error, message).help("the next drill removes what drills leave")
        })
    }

    /// Ends the server in order and removes everything but the volume with the data.
    pub async fn leave_data(self) -> Result<(), Failure> {
        let container = self.place.names.container(&self.place.container);
        let failed = |why: String| Failure::message(Kind::Error, format!("could not end {container}: {why}"));
        self.engine.stop(&container, Span::seconds(ENDS_WITHIN)).await.map_err(|error| failed(error.to_string()))?;
        let ended = self.engine.container(&container).await.map_err(|error| failed(error.to_string()))?;
        match ended.state.and_then(|state| state.exit_code) {
            Some(0) => {}
            code => return Err(failed(format!("it ended with code {}", code.unwrap_or(-1)))),
        }
        remove(self.engine, &self.place).await.map_err(|error| failed(error.to_string()))
    }
}

async fn address(engine: &Engine, place: &Place) -> Result<SocketAddr, Failure> {
    address_on(engine, &place.names, &place.container, &place.network).await
}

async fn make(
    engine: &Engine,
    place: &Place,
    wanted: &Wanted,
    password: &Secret,
    snapshot: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<(), Failure> {
    let names = &place.names;
    let failed = |error: EngineError| {
        let kind = error.kind();
        let help = format!("is there room, and does the engine have the image {}?", wanted.image);
        Failure::message(kind, format!("could not launch a throw-away {}: {error}", wanted.service)).help(help)
    };
    let (network, data, conf) =
        (ResourceId::network(&place.network), ResourceId::volume(&place.data), ResourceId::volume(place.conf()));
    let owned = Volume::Data { owner: wanted.user };
    let files = Volume::Files { files: BTreeMap::new() };
    let (first, second, third) = future::join3(
        engine.create_network(names, &network, true),
        engine.create_volume(names, &data, &owned),
        engine.create_volume(names, &conf, &files),
    )
    .await;
    first.and(second).and(third).map_err(failed)?;
    let (carrier, server) = (place.carrier(), ResourceId::container(&place.container));
    let (first, second) = future::join(
        engine.create_container(names, &carrier, &carrier_of(wanted, place)),
        engine.create_container(names, &server, &server_of(wanted, place)),
    )
    .await;
    first.and(second).map_err(failed)?;
    let packing = |error| Failure::new(Kind::Error, error);
    let text = configuration(wanted, place, password).into_bytes();
    let around = archive::around("c", &[], ("redis.conf", text.len() as u64), wanted.user).map_err(packing)?;
    let text = stream::iter([Ok(Bytes::from(text))]);
    pour(engine, &names.of(&carrier), around, text).await.map_err(failed)?;
    let around = archive::around("d", &[], (place.dump(), wanted.size), wanted.user).map_err(packing)?;
    pour(engine, &names.of(&carrier), around, snapshot).await.map_err(failed)?;
    engine.start(&names.of(&server)).await.map_err(failed)?;
    let within = Span::seconds(STARTS_WITHIN);
    let (container, network) = (names.of(&server), names.network(&place.network));
    ready::wait(engine, &container, &network, &Readiness::Redis, within, Some(password)).await.map_err(|why| {
        let why = match why {
            NotReady::Ended(why) => format!("it did not stay up: {why}"),
            NotReady::Silent(last) => format!("it did not answer: {last}"),
        };
        Failure::message(Kind::Error, format!("a throw-away {} did not load the snapshot: {why}", wanted.service))
    })?;
    Ok(())
}

/// Nothing but what it takes to load a snapshot and to give it back: no limit on memory that would evict, nothing saved.
fn configuration(wanted: &Wanted, place: &Place, password: &Secret) -> String {
    let password = String::from_utf8_lossy(password.reveal()).into_owned();
    let databases = wanted.databases.max(16);
    let mut conf = format!(
        "bind 0.0.0.0\nport 6379\ndir /d\nsave \"\"\nappendonly no\nmaxmemory 0\n\
         databases {databases}\nreplicaof 127.0.0.1 1\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n\
         rdbcompression no\nuser default off\nuser {OPERATOR} on >{password} allkeys +@all\n"
    );
    if wanted.server.family == Family::Valkey || wanted.server.speaks(7, 0) {
        conf.push_str("enable-debug-command yes\n");
    }
    for (setting, name) in &place.files {
        conf.push_str(&format!("{setting} {name}\n"));
    }
    conf
}

fn server_of(wanted: &Wanted, place: &Place) -> Container {
    let binary = match wanted.server.family {
        Family::Redis => "redis-server",
        Family::Valkey => "valkey-server",
    };
    // To whoever finds it after its process was killed it is no Redis of the environment: nobody's data is in it alone.
    Container {
        entrypoint: Some(vec![binary.to_owned()]),
        command: Some(vec!["/c/redis.conf".to_owned()]),
        networks: BTreeSet::from([place.network.clone()]),
        // Twice what the data took, for the copy on write while it is read back.
        memory_bytes: (wanted.used_memory.max(wanted.size) * 2).saturating_add(256 << 20),
        nano_cpus: 0,
        pids: 256,
        open_files: 1024,
        hardening: Hardening::standard(),
        ..carrier_of(wanted, place)
    }
}

fn carrier_of(wanted: &Wanted, place: &Place) -> Container {
    let mount = |volume: String| Mount { volume, read_only: false };
    let mounts = [("/c".to_owned(), mount(place.conf())), ("/d".to_owned(), mount(place.data.clone()))];
    Container::carrier(wanted.image.clone(), format!("{}:{}", wanted.user.0, wanted.user.1), BTreeMap::from(mounts))
}

/// Removes what was made for it but the volume with the data.
pub(super) async fn remove(engine: &Engine, place: &Place) -> Result<(), EngineError> {
    let names = &place.names;
    let (first, second) = future::join(
        engine.kill_own(names, &names.container(&place.container)),
        engine.kill_own(names, &names.of(&place.carrier())),
    )
    .await;
    first.and(second)?;
    let conf = names.volume(&place.conf());
    let (first, second) =
        future::join(engine.remove_volume(&conf), engine.remove_network(&names.network(&place.network))).await;
    first.and(second)
}

/// Removes everything of an environment that existed for a moment alone; its volumes last, since they tell of it.
pub async fn clear(engine: &Engine, names: &Names) -> Result<(), EngineError> {
    let containers = engine.containers(names).await?;
    for removed in future::join_all(containers.iter().map(|id| engine.kill_container(id))).await {
        removed?;
    }
    for network in engine.networks_of(names).await? {
        engine.remove_network(&network).await?;
    }
    let volumes = engine.volumes_of(names).await?;
    for removed in future::join_all(volumes.iter().map(|name| engine.remove_volume(name))).await {
        removed?;
    }
    Ok(())
}

/// Removes what drills and rehearsals of this stack left whose process was killed: those that are older than any takes.
pub async fn sweep(engine: &Engine, stack: &Name, older_than: Span) -> Result<(), EngineError> {
    for prefix in [DRILL, REHEARSE] {
        for (environment, made) in engine.environments(stack, prefix).await? {
            if store::age(&made).is_some_and(|age| age >= older_than)
                && let Some(environment) = Name::parse(&environment)
            {
                clear(engine, &Names::lasting(stack.clone(), environment)).await?;
            }
        }
    }
    Ok(())
}

/// Removes a data volume that nothing was ever put into; looked at through a container that is never started. False where
/// there is something in it.
pub async fn remove_if_empty(engine: &Engine, names: &Names, volume: &str, image: &str) -> Result<bool, EngineError> {
    let id = ResourceId::container(format!("{volume}.look"));
    let mounts = BTreeMap::from([("/d".to_owned(), Mount { volume: volume.to_owned(), read_only: true })]);
    let carrier = Container::carrier(image.to_owned(), "65534:65534".to_owned(), mounts);
    engine.kill_own(names, &names.of(&id)).await?;
    engine.create_container(names, &id, &carrier).await?;
    // What does not fit into memory is not nothing.
    let looked = engine.read_files(&names.of(&id), "/d").await;
    engine.kill_own(names, &names.of(&id)).await?;
    if !looked.is_ok_and(|tar| archive::is_empty_folder(&tar)) {
        return Ok(false);
    }
    match engine.remove_volume(&names.volume(volume)).await {
        Ok(()) => Ok(true),
        // The container that mounts all volumes has it; it holds nothing, and the plan makes it anew.
        Err(EngineError::Conflict(_)) => {
            engine.kill_own(names, &names.container(crate::desired::FILES)).await?;
            engine.remove_volume(&names.volume(volume)).await.map(|()| true)
        }
        Err(error) => Err(error),
    }
}

//! A Redis that is replaced while it serves: the new one follows the old one on a volume of its own, writes pause, the new
//! one is promoted and found under the name, and the old one stays as it is until the change stands.
//!
//! The new container is called `<name>.next` until others find it, and the old one `<name>.old` from then on. What a run
//! leaves that was killed can be told from these names and from who is on the private network.

mod copies;
mod remains;
mod seeded;
mod server;

use copies::{Copies, Copy};
pub use remains::{Left, Remains, Settled};
pub use seeded::Refill;
use server::{
    drop_copy, fence, forget, grant, keeps, offset, on_private, settle_user, take_clients, turn_away, unfence,
};
pub(super) use server::{end, said, saves};

use crate::desired::{OPERATOR, PRIVATE, Readiness};
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::redis::observe::keys;
use crate::redis::pull::Source;
use crate::redis::{self, Server, ServerError};
use crate::state::{Container, User};
use crate::value::{ResourceId, Secret, ServerVersion, Span};
use crate::world::holds;
use crate::world::ready::{self, REDIS_PORT};
use futures_util::future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The new server has the last write within this time, or writes go on where they were.
const LAST_WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A copy that does not get on for so long has broken off.
const STALLED: Duration = Duration::from_secs(120);
/// This much behind, the rest is there in a moment.
const NEAR_BYTES: i64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);
/// A copy takes no longer than this, and no more than so many beginnings.
const LONGEST_COPY: Duration = Duration::from_secs(6 * 3600);
const COPIES: i64 = 4;
/// How long a server is given to answer before another one takes its place.
const PATIENCE: Span = Span::seconds(60);
const DROP_FILES: &str = "rdb-del-sync-files";
const SYNC_DELAY: &str = "repl-diskless-sync-delay";
/// While writes wait, every millisecond counts.
const CLOSE_LOOK: Duration = Duration::from_millis(2);

/// What is handed over, and to what.
#[derive(Debug)]
pub struct Handover<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    /// The service.
    pub service: &'a str,
    /// The container as it is meant.
    pub wanted: &'a Container,
    pub operator: &'a Secret,
    /// Lockstep's own user as it was on the old server, and as it is meant on the new one.
    pub users: (Option<&'a User>, Option<&'a User>),
    pub within: Span,
    /// Where the new server cannot follow the old one.
    pub refill: Option<Refill>,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    pub keys: u64,
    /// From holding back the first write to the moment when the new server was found under the name.
    pub writes_paused: Duration,
    /// Whether nobody could read meanwhile either.
    pub away: bool,
}

impl Handed {
    pub fn say(&self) -> String {
        let paused = self.writes_paused.as_millis();
        let what = if self.away { "nobody was served" } else { "writes paused" };
        format!("{} keys handed over and read back equal, {what} for {paused} ms", self.keys)
    }
}

impl Handover<'_> {
    fn main(&self) -> String {
        self.names.container(self.service)
    }

    fn next(&self) -> String {
        self.names.next(self.service)
    }

    fn failed(&self, what: &str, why: impl std::fmt::Display) -> Failure {
        Failure::message(Kind::Error, format!("could not hand {} over: {what}: {why}", self.service))
    }

    fn engine_failed(&self, what: &str, error: EngineError) -> Failure {
        Failure { kind: error.kind(), ..self.failed(what, error) }
    }

    /// Servers are told to change something only while this run holds the environment.
    async fn permit(&self) -> Result<(), Failure> {
        self.engine.permit().await.map_err(|error| self.engine_failed("it is not ours any more", error))
    }

    /// Hands over. After a failure the old server serves as before and the new one is gone.
    pub async fn run(&self, number: u32, listener: &impl Listener) -> Result<Handed, Failure> {
        let old = match self.meet().await {
            Ok(old) => old,
            Err(failure) => {
                self.call_off(None).await;
                return Err(failure);
            }
        };
        let handed = match &self.refill {
            None => self.replicate(&old, number, listener).await,
            Some(refill) => self.start_on(&old, refill, number, listener).await,
        };
        let (handed, unproven) = match handed {
            Ok(handed) => handed,
            Err(failure) => {
                self.call_off(Some(&old)).await;
                return Err(failure);
            }
        };
        // From here on the new server is the one: what fails now is finished, or taken back with what was written since.
        if let Some((new, copies)) = unproven {
            self.prove(&old, &new, copies).await?;
        }
        self.part().await.map_err(|error| self.engine_failed("the two servers were not parted", error))?;
        Ok(handed)
    }

    /// The old server, on a network where nobody but lockstep and the new one are going to be.
    async fn meet(&self) -> Result<Met, Failure> {
        let (network, main) = (self.names.of(&Names::meeting(self.service)), self.main());
        let failed = |error| self.engine_failed("the new server was not made", error);
        if self.engine.find_container(&self.names.old(self.service)).await.map_err(failed)?.is_some() {
            // It is what this change would go back to.
            return Err(self.failed("the new server was not made", "an earlier hand-over is not concluded"));
        }
        // One whose answer was lost is there already, and two of one name cannot be told apart.
        self.engine.dissolve(&network).await.map_err(failed)?;
        self.engine.create_network(self.names, &Names::meeting(self.service), true).await.map_err(failed)?;
        self.engine.connect_to(&main, &network, None).await.map_err(failed)?;
        let old = self.connect(&main, &network).await?;
        let failed = |error: ServerError| self.failed("the old server is not made ready", error);
        self.permit().await?;
        grant(&old.server, self.users.0, &["+client|pause", "+client|unpause", "+client|kill"])
            .await
            .map_err(failed)?;
        Ok(old)
    }

    /// The new server, on the network where the old one is met.
    async fn launch(&self) -> Result<Met, Failure> {
        let (network, next) = (self.names.of(&Names::meeting(self.service)), self.next());
        let failed = |error| self.engine_failed("the new server was not made", error);
        let id = ResourceId::container(self.service);
        self.engine.create_beside(self.names, &id, self.wanted, &next, &network).await.map_err(failed)?;
        self.engine.start(&next).await.map_err(failed)?;
        let waited =
            ready::wait(self.engine, &next, &network, &Readiness::Redis, self.within, Some(self.operator)).await;
        waited.map_err(|why| self.failed("the new server did not start", why.say(self.within)))?;
        self.connect(&next, &network).await
    }

    /// The new one follows the old one until it has everything, and takes its place.
    async fn replicate(
        &self,
        old: &Met,
        number: u32,
        listener: &impl Listener,
    ) -> Result<(Handed, Option<(Met, Copies)>), Failure> {
        let new = self.follow(old, number, listener).await?;
        let (handed, copies) = self.switch(old, &new).await?;
        Ok((handed, Some((new, copies))))
    }

    /// The new server, up to date but for what is written in this moment.
    async fn follow(&self, old: &Met, number: u32, listener: &impl Listener) -> Result<Met, Failure> {
        let new = self.launch().await?;
        let failed = |error: ServerError| self.failed("the new server does not follow the old one", error);
        self.permit().await?;
        grant(&new.server, self.users.1, &["+replicaof"]).await.map_err(failed)?;
        let password = String::from_utf8_lossy(self.operator.reveal()).into_owned();
        new.server.run(&["CONFIG", "SET", "masteruser", OPERATOR]).await.map_err(failed)?;
        new.server.run(&["CONFIG", "SET", "masterauth", &password]).await.map_err(failed)?;
        // The copy that is compared in the end begins while writes wait.
        new.server.run(&["CONFIG", "SET", SYNC_DELAY, "0"]).await.map_err(failed)?;
        // Until that copy is under way it holds what the old one holds, whatever room it is given after that.
        new.server.run(&["CONFIG", "SET", "maxmemory", "0"]).await.map_err(failed)?;
        let stays = keeps(self.wanted);
        if !stays {
            // What it is sent goes by way of a file, which its next start would load.
            new.server.run(&["CONFIG", "SET", DROP_FILES, "yes"]).await.map_err(failed)?;
        }
        let (host, port) = (old.address.ip().to_string(), old.address.port().to_string());
        new.server.run(&["REPLICAOF", &host, &port]).await.map_err(failed)?;
        self.catch_up(old, &new, number, listener).await?;
        if !stays {
            let meant = said(self.wanted.server.as_ref(), DROP_FILES, "no");
            new.server.run(&["CONFIG", "SET", DROP_FILES, &meant]).await.map_err(failed)?;
        }
        Ok(new)
    }

    async fn connect(&self, container: &str, network: &str) -> Result<Met, Failure> {
        let report = self.engine.container(container).await;
        let report = report.map_err(|error| self.engine_failed("a server cannot be looked at", error))?;
        let address = inspect::address(&report.network_settings, network)
            .ok_or_else(|| self.failed("a server has no address", container))?;
        let address = SocketAddr::new(address, REDIS_PORT);
        let failed = |error| self.failed("a server does not answer", error);
        let server = redis::connect(address, OPERATOR, self.operator).await.map_err(failed)?;
        let version = server.version().await.map_err(failed)?;
        Ok(Met { server, address, version })
    }

    /// Waits until the new server has all but the last moment of what the old one has.
    async fn catch_up(&self, old: &Met, new: &Met, number: u32, listener: &impl Listener) -> Result<(), Failure> {
        let began = Instant::now();
        let (mut last, mut moved, mut copies) = (String::new(), Instant::now(), None);
        loop {
            let (had, has) = future::join(old.server.info(), new.server.info()).await;
            let had = had.map_err(|error| self.failed("the old server does not answer", error))?;
            let begun = offset(&had, "sync_full");
            let first = *copies.get_or_insert(begun);
            let state = match &has {
                Ok(has) => {
                    let field = |name: &str| has.get(name).map_or("", String::as_str);
                    let busy = ["loading", "aof_rewrite_in_progress", "aof_rewrite_scheduled"];
                    let quiet = busy.into_iter().all(|busy| matches!(field(busy), "0" | ""));
                    let behind = offset(&had, "master_repl_offset") - offset(has, "slave_repl_offset");
                    if field("master_link_status") == "up" && quiet && behind < NEAR_BYTES {
                        return Ok(());
                    }
                    if field("aof_last_bgrewrite_status") == "err" {
                        let why = "its append-only file was not written; is the disk full?";
                        return Err(self.failed("the new server cannot keep what it gets", why));
                    }
                    let done = field("used_memory").parse().unwrap_or(0);
                    listener.hear(Event::Bytes { number, done });
                    let moving =
                        ["master_link_status", "master_sync_left_bytes", "loading_loaded_bytes", "slave_repl_offset"];
                    moving.map(field).join(" ")
                }
                Err(ServerError::Loading) => "loading".to_owned(),
                Err(error) => return Err(self.failed("the new server does not answer", error)),
            };
            if state != last {
                (last, moved) = (state, Instant::now());
            }
            // A copy that is read in and written out moves nothing that is told.
            let patience = if last.contains("loading") { STALLED * 15 } else { STALLED };
            if moved.elapsed() > patience {
                let why = format!("nothing moved for {} s, its link is {last}", patience.as_secs());
                return Err(self.failed("the new server does not catch up", why));
            }
            if begun - first > COPIES || began.elapsed() > LONGEST_COPY {
                let why = format!(
                    "{} copies were begun; more is written than `client-output-buffer-limit` lets wait",
                    begun - first
                );
                return Err(self.failed("the new server does not catch up", why));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Holds writes back, waits for the last one, and lets the new server be found. At no moment are both found.
    async fn switch(&self, old: &Met, new: &Met) -> Result<(Handed, Copies), Failure> {
        let failed = |error: ServerError| self.failed("the last writes", error);
        // Before 7.0 a script writes although writes are refused: then nobody may reach the old server at all.
        let scripts_write = !old.version.speaks(7, 0);
        self.permit().await?;
        let began = Instant::now();
        fence(&old.server, old.version).await.map_err(failed)?;
        if scripts_write {
            self.hide(old).await?;
        }
        let keys = self.same(old, new, began).await?;
        self.permit().await?;
        new.server.run(&["REPLICAOF", "NO", "ONE"]).await.map_err(failed)?;
        let role = new.server.info().await.map_err(failed)?;
        if role.get("role").is_none_or(|role| role != "master") {
            return Err(self.failed("the new server was not promoted", "it still follows"));
        }
        forget(&new.server).await.map_err(failed)?;
        settle_user(&new.server, self.users.1).await.map_err(failed)?;
        if !scripts_write {
            self.hide(old).await?;
        }
        // Nobody else gets there any more; whoever has to return to it must not find it full.
        take_clients(&old.server, None).await.map_err(failed)?;
        let copies = self.copies(old, new).await?;
        let room = said(self.wanted.server.as_ref(), "maxmemory", "0");
        new.server.run(&["CONFIG", "SET", "maxmemory", &room]).await.map_err(failed)?;
        match self.take_its_place(began).await {
            Ok(writes_paused) => Ok((Handed { keys, writes_paused, away: false }, copies)),
            Err(unknown) => {
                // It may have been found all the same, and whoever goes on from there compares nothing any more.
                if !matches!(on_private(self.engine, self.names, &self.next()).await, Ok(Some(false))) {
                    self.prove(old, new, copies).await?;
                }
                Err(unknown)
            }
        }
    }

    /// Takes the old server out of everybody's reach but lockstep's.
    async fn hide(&self, old: &Met) -> Result<(), Failure> {
        turn_away(&old.server).await.map_err(|error| self.failed("the last writes", error))?;
        let hidden = self.engine.disconnect_from(&self.main(), &self.names.network(PRIVATE)).await;
        hidden.map_err(|error| self.engine_failed("the old server could still be found", error))
    }

    /// Lets the new server be found, under the name of the old one; how long nobody took writes.
    async fn take_its_place(&self, began: Instant) -> Result<Duration, Failure> {
        let (main, next) = (self.main(), self.next());
        let connected = self.engine.connect_to(&next, &self.names.network(PRIVATE), Some(self.service)).await;
        connected.map_err(|error| self.engine_failed("the new server could not be found", error))?;
        let away = began.elapsed();
        let finish = |error| self.engine_failed("the new server has not got its name", error);
        self.engine.rename(&main, &self.names.old(self.service)).await.map_err(finish)?;
        self.engine.rename(&next, &main).await.map_err(finish)?;
        Ok(away)
    }

    /// Begins to read what both hold in this moment, in which nobody writes; it is read to its end beside whatever follows.
    async fn copies(&self, old: &Met, new: &Met) -> Result<Copies, Failure> {
        let hasher = holds::hasher()?;
        let begin = |address| Copy::begin(Source::new(address, OPERATOR, self.operator, STALLED), hasher.clone());
        let (old, mut new) = (begin(old.address), begin(new.address));
        let failed = |error: String| self.failed("what the servers hold cannot be compared", error);
        // The old one changes no more: only the copy of the new one has to be under way before others write to it.
        new.under_way().await.map_err(failed)?;
        Ok(Copies { old, new })
    }

    /// Whether the new server had, when it took over, exactly what the old one has.
    async fn prove(&self, old: &Met, new: &Met, copies: Copies) -> Result<(), Failure> {
        let failed = |error: String| self.failed("what the servers hold cannot be compared", error);
        let (had, has) = future::join(copies.old.read(), copies.new.read()).await;
        let (had, has) = (had.map_err(failed)?, has.map_err(failed)?);
        let delay = said(self.wanted.server.as_ref(), SYNC_DELAY, "0");
        // Reading may have taken longer than a silent connection lasts.
        let put_back = async {
            let server = redis::connect(new.address, OPERATOR, self.operator).await?;
            server.run(&["CONFIG", "SET", SYNC_DELAY, &delay]).await
        };
        put_back.await.map_err(|error| self.failed("a setting of the new server", error))?;
        let both_count = old.version.speaks(7, 0) && new.version.speaks(7, 0);
        let what = "the new server does not hold what the old one held";
        has.difference(&had, both_count).map_or(Ok(()), |difference| Err(self.failed(what, difference)))
    }

    /// Waits until the new server has the last write of the old one and as many keys; how many those are.
    async fn same(&self, old: &Met, new: &Met, began: Instant) -> Result<u64, Failure> {
        let failed = |error: ServerError| self.failed("the last writes", error);
        // However long it took to get here, it is looked at once.
        let seen = loop {
            // The old one first: whatever the new one has then, it has at least that.
            let was = old.server.info().await.map_err(failed)?;
            let is = new.server.info().await.map_err(failed)?;
            let up = is.get("master_link_status").is_some_and(|link| link == "up");
            let (had, has) = (keys(&was), keys(&is));
            let seen = if up && offset(&is, "slave_repl_offset") >= offset(&was, "master_repl_offset") {
                if had == has {
                    return Ok(has.values().sum());
                }
                format!("it holds {has:?} keys, and the old one {had:?}")
            } else {
                format!("its link is {}, and it is behind", if up { "up" } else { "down" })
            };
            if began.elapsed() >= LAST_WRITE_WITHIN {
                break seen;
            }
            tokio::time::sleep(CLOSE_LOOK).await;
        };
        Err(self.failed("the new server did not get the last writes", format!("after {LAST_WRITE_WITHIN:?} {seen}")))
    }

    /// Takes away the network that the two met on.
    async fn part(&self) -> Result<(), EngineError> {
        self.engine.dissolve(&self.names.of(&Names::meeting(self.service))).await
    }

    /// The old server goes on as before, once the new one is gone. What cannot be done now the next run does: until then
    /// the old one takes no writes.
    async fn call_off(&self, old: Option<&Met>) {
        let (main, private) = (self.main(), self.names.network(PRIVATE));
        let off = async {
            if on_private(self.engine, self.names, &self.next()).await? == Some(true) {
                // It was found after all.
                return Ok(());
            }
            drop_copy(self.engine, self.names, &self.next()).await?;
            if on_private(self.engine, self.names, &main).await? == Some(false) {
                self.engine.connect_to(&main, &private, Some(self.service)).await?;
            }
            if let Some(old) = old {
                // The connection that it was fenced over may have been silent for too long.
                let again = redis::connect(old.address, OPERATOR, self.operator).await;
                let _ = unfence(again.as_ref().unwrap_or(&old.server), old.version, self.users.0).await;
            }
            self.part().await
        };
        // Whatever is left of it is seen by whoever looks next.
        let _: Result<(), EngineError> = off.await;
    }
}

/// A server of a hand-over.
#[derive(Debug)]
struct Met {
    server: Server,
    /// Where it is found on the network on which the two meet.
    address: SocketAddr,
    version: ServerVersion,
}

//! What a hand-over left that broke off: finished or taken back, by whoever comes next.

use super::PATIENCE;
use super::server::{drop_copy, end, forget, on_private, open_to_all, saves};
use crate::desired::{OPERATOR, PRIVATE, Readiness, ServiceFacts};
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::failure::{Failure, Kind};
use crate::redis::{self, Server, ServerError};
use crate::value::{Secret, Span};
use crate::world::ready::{self, REDIS_PORT};
use crate::world::takeover;
use futures_util::future;
use std::net::SocketAddr;

/// What a service whose hand-over somebody did not finish needs to be told.
#[derive(Clone, Copy, Debug)]
pub struct Remains<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    pub service: &'a str,
    pub operator: Option<&'a Secret>,
    /// How long the old server may take to end.
    pub grace: Span,
    /// What the spec means the service to be, where it still has it.
    pub facts: Option<&'a ServiceFacts>,
    /// What the old server was told before the hand-over, where that is known.
    pub before: Option<&'a crate::state::Server>,
}

/// Which server is found under the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The one that was there before, with nothing beside it.
    Old,
    /// The new one; the old one may be there beside it.
    New,
}

/// Where that is which a new server held, once the old one serves again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// In its volume, all of it.
    Saved,
    /// In its volume, as far as it had written it when it was ended.
    EndedEarly,
    /// Nowhere: it kept nothing on disk.
    InMemory,
    /// There was no new server any more.
    Nothing,
}

impl Left {
    /// The end of a sentence about the new server.
    pub fn say(self) -> &'static str {
        match self {
            Left::Saved => "what it held is in its volume",
            Left::EndedEarly => {
                "it was ended before it had saved: what it had written until then is in its volume, and nothing later"
            }
            Left::InMemory => "it kept nothing on disk, and what it held went with it",
            Left::Nothing => "it was not there any more",
        }
    }
}

/// Who is there of the three that a hand-over knows, and whether others find it.
#[derive(Clone, Copy, Debug)]
struct Present {
    main: Option<bool>,
    next: Option<bool>,
    old: Option<bool>,
}

impl Remains<'_> {
    fn main(&self) -> String {
        self.names.container(self.service)
    }

    fn next(&self) -> String {
        self.names.next(self.service)
    }

    fn old(&self) -> String {
        self.names.old(self.service)
    }

    /// What the engine calls the network on which the two servers meet.
    fn meeting(&self) -> String {
        self.names.of(&Names::meeting(self.service))
    }

    fn failed(&self, error: impl std::fmt::Display) -> Failure {
        let message = format!("could not finish a hand-over of {} that broke off: {error}", self.service);
        Failure::message(Kind::Error, message)
    }

    fn engine_failed(&self, error: EngineError) -> Failure {
        Failure { kind: error.kind(), ..self.failed(error) }
    }

    async fn present(&self) -> Result<Present, EngineError> {
        let (main, next, old) = (self.main(), self.next(), self.old());
        let look = |name: String| async move { on_private(self.engine, self.names, &name).await };
        let (main, next, old) = future::try_join3(look(main), look(next), look(old)).await?;
        Ok(Present { main, next, old })
    }

    /// The same for an application, of which nothing is left beside it; `None` where it is none.
    async fn settle_application(&self) -> Result<Option<&'static str>, Failure> {
        let settled = takeover::settle(self.engine, self.names, self.service, self.facts).await;
        settled.map_err(|error| self.engine_failed(error))
    }

    /// Brings what a run left that broke off into one of two forms: nothing beside the service, or the new server under its
    /// name and the old one beside it. Whoever is found under the name stays. Says what was done.
    pub async fn settle(&self) -> Result<Settled, Failure> {
        match self.settle_application().await? {
            Some(_) => Ok(Settled::Old),
            None => self.settle_servers().await,
        }
    }

    async fn settle_servers(&self) -> Result<Settled, Failure> {
        let failed = |error: EngineError| self.engine_failed(error);
        let there = self.present().await.map_err(failed)?;
        match there {
            Present { next: Some(true), .. } => {
                self.finish(there).await.map_err(failed)?;
                self.forget_the_old_one().await?;
                self.part().await?;
                Ok(Settled::New)
            }
            Present { next: Some(false), main: Some(found), old } => {
                self.drop_next().await.map_err(failed)?;
                if !found {
                    self.meet(&self.main()).await.map_err(failed)?;
                }
                self.reopen().await?;
                self.connect_main().await.map_err(failed)?;
                self.part().await?;
                // Beside an old one it is itself the new one of a change that nobody concluded.
                Ok(if old.is_some() { Settled::New } else { Settled::Old })
            }
            Present { main: Some(true), old: Some(_), .. } => {
                // Still on the network where the two met, it would look like one that has to be replaced.
                self.part().await?;
                Ok(Settled::New)
            }
            Present { old: Some(_), .. } => {
                self.return_to_old().await?;
                Ok(Settled::Old)
            }
            Present { main: Some(found), .. } if self.was_put_aside().await.map_err(failed)? => {
                // Nobody may write to it, and nothing was there yet to take its place.
                self.reopen().await?;
                if !found {
                    self.connect_main().await.map_err(failed)?;
                }
                self.part().await?;
                Ok(Settled::Old)
            }
            Present { .. } => {
                self.part().await?;
                Ok(Settled::Old)
            }
        }
    }

    /// In a run that is not the one which handed over: the new server stays if it answers, since whatever was written
    /// since is in it alone; otherwise the old one serves again, and the new one's volume stays.
    pub async fn conclude(&self, listener: &impl Fn(&str)) -> Result<(), Failure> {
        if let Some(done) = self.settle_application().await? {
            listener(&format!("a replacement that broke off is {done}"));
            return Ok(());
        }
        if self.settle_servers().await? == Settled::Old {
            listener("a hand-over that broke off is taken back");
            return Ok(());
        }
        let (main, private) = (self.main(), self.names.network(PRIVATE));
        match ready::wait(self.engine, &main, &private, &Readiness::Redis, PATIENCE, self.operator).await {
            Ok(()) => {
                self.commit().await?;
                listener("a hand-over that broke off is finished");
            }
            Err(_) => {
                let left = self.return_to_old().await?;
                listener(&format!("a hand-over that broke off is taken back; of the new server: {}", left.say()));
            }
        }
        Ok(())
    }

    /// Whether the server under the name runs on the network where another one was to meet it.
    async fn was_put_aside(&self) -> Result<bool, EngineError> {
        let Some(report) = self.engine.find_container(&self.main()).await? else { return Ok(false) };
        Ok(inspect::runs(&report) && inspect::address(&report.network_settings, &self.meeting()).is_some())
    }

    async fn finish(&self, there: Present) -> Result<(), EngineError> {
        let (main, next, private) = (self.main(), self.next(), self.names.network(PRIVATE));
        if there.main.is_some() {
            self.engine.disconnect_from(&main, &private).await?;
            self.engine.rename(&main, &self.old()).await?;
        }
        self.engine.rename(&next, &main).await
    }

    async fn forget_the_old_one(&self) -> Result<(), Failure> {
        let server = self.server(&self.main()).await?;
        self.engine.permit().await.map_err(|error| self.engine_failed(error))?;
        forget(&server).await.map_err(|error| self.failed(error))
    }

    async fn connect_main(&self) -> Result<(), EngineError> {
        let main = self.main();
        match on_private(self.engine, self.names, &main).await? {
            Some(false) => self.engine.connect_to(&main, &self.names.network(PRIVATE), Some(self.service)).await,
            _ => Ok(()),
        }
    }

    /// Removes the new server, which nobody has found yet, with the copy that it holds.
    async fn drop_next(&self) -> Result<(), EngineError> {
        drop_copy(self.engine, self.names, &self.next()).await
    }

    async fn server(&self, container: &str) -> Result<Server, Failure> {
        let report = self.engine.container(container).await.map_err(|error| self.failed(error))?;
        let networks = [self.names.network(PRIVATE), self.meeting()];
        let mut addresses = networks.iter().filter_map(|network| inspect::address(&report.network_settings, network));
        let address = addresses.next().ok_or_else(|| self.failed(format!("{container} has no address")))?;
        let operator = self.operator.ok_or_else(|| self.failed("lockstep's password for it is not known"))?;
        let address = SocketAddr::new(address, REDIS_PORT);
        redis::connect(address, OPERATOR, operator).await.map_err(|error| self.failed(error))
    }

    /// Shuts everybody but lockstep out of the new server, so that what it holds can be kept before it goes.
    pub async fn hold(&self) -> Result<(), Failure> {
        let failed = |error: ServerError| self.failed(error);
        let server = self.server(&self.main()).await?;
        self.engine.permit().await.map_err(|error| self.engine_failed(error))?;
        server.shut_out(OPERATOR).await.map_err(failed)
    }

    /// Whether there is an old server to return to.
    pub async fn has_old(&self) -> Result<bool, Failure> {
        Ok(self.present().await.map_err(|error| self.engine_failed(error))?.old.is_some())
    }

    /// The volume with the data of the server under the name, as this environment calls it.
    pub async fn volume(&self) -> Result<Option<String>, Failure> {
        let report = self.engine.find_container(&self.main()).await.map_err(|error| self.engine_failed(error))?;
        let Some(report) = report else { return Ok(None) };
        let prefix = format!("{}-", self.names.project());
        Ok(inspect::volume_at(&report, "/data").and_then(|name| name.strip_prefix(&prefix).map(str::to_owned)))
    }

    /// Whether the server under the name writes what it holds to disk; as the old one did, where it cannot be asked.
    async fn keeps(&self) -> bool {
        let told = match self.server(&self.main()).await {
            Ok(server) => server.observe(None).await.ok().map(|(told, _)| told),
            Err(_) => None,
        };
        saves(told.as_ref(), self.before)
    }

    /// Removes the server under the name; its volume stays. It ends by itself before that: it may hold in memory alone what was
    /// written last.
    async fn put_away(&self) -> Result<Left, Failure> {
        let failed = |error: EngineError| self.engine_failed(error);
        let main = self.main();
        let keeps = self.keeps().await;
        let code = end(self.engine, &main, self.grace).await.map_err(failed)?;
        self.engine.kill_own(self.names, &main).await.map_err(failed)?;
        Ok(match code {
            None => Left::Nothing,
            Some(_) if !keeps => Left::InMemory,
            Some(0) => Left::Saved,
            Some(_) => Left::EndedEarly,
        })
    }

    /// The old server serves again; the new one is removed, and its volume stays. There is an old one as long as anything is
    /// left to do. Says where that is which the new one held.
    pub async fn return_to_old(&self) -> Result<Left, Failure> {
        let failed = |error: EngineError| self.engine_failed(error);
        let there = self.present().await.map_err(failed)?;
        let (main, old, private) = (self.main(), self.old(), self.names.network(PRIVATE));
        if there.old.is_none() {
            return Ok(Left::Nothing);
        }
        // Nobody has found this one: it holds nothing but a copy.
        self.engine.kill_own(self.names, &self.next()).await.map_err(failed)?;
        let left = self.put_away().await?;
        let hidden = there.old == Some(false);
        if hidden {
            // Where the others find it they would be first, and it may have been told to take one client alone.
            self.meet(&old).await.map_err(failed)?;
        }
        match self.engine.start(&old).await {
            Ok(()) | Err(EngineError::Refused { status: 304, .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let network = if hidden { self.meeting() } else { private.clone() };
        let waited = ready::wait(self.engine, &old, &network, &Readiness::Redis, PATIENCE, self.operator).await;
        waited.map_err(|why| self.failed(format!("the old server does not answer: {why:?}")))?;
        self.open(&old).await?;
        if hidden {
            self.engine.connect_to(&old, &private, Some(self.service)).await.map_err(failed)?;
        }
        self.engine.rename(&old, &main).await.map_err(failed)?;
        self.part().await?;
        Ok(left)
    }

    /// Puts a server on the network where nobody but lockstep asks it.
    async fn meet(&self, container: &str) -> Result<(), EngineError> {
        let network = self.meeting();
        let report = self.engine.container(container).await?;
        let on = report.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        if on.contains_key(&network) {
            return Ok(());
        }
        match self.engine.connect_to(container, &network, None).await {
            Err(error) if error.is_not_found() => {
                self.engine.create_network(self.names, &Names::meeting(self.service), true).await?;
                self.engine.connect_to(container, &network, None).await
            }
            other => other,
        }
    }

    /// Lets the server under the name serve again that was told to turn everybody away.
    async fn reopen(&self) -> Result<(), Failure> {
        self.open(&self.main()).await
    }

    async fn open(&self, container: &str) -> Result<(), Failure> {
        let server = self.server(container).await?;
        self.engine.permit().await.map_err(|error| self.engine_failed(error))?;
        open_to_all(&server, self.before).await.map_err(|error| self.failed(error))?;
        // Before 6.2 nothing was paused, and without the right to it neither.
        let _ = server.run(&["CLIENT", "UNPAUSE"]).await;
        Ok(())
    }

    /// The change stands: the old server ends, and its volume stays.
    pub async fn commit(&self) -> Result<(), Failure> {
        let failed = |error: EngineError| self.engine_failed(error);
        let old = self.old();
        if self.present().await.map_err(failed)?.old.is_some() {
            self.engine.stop(&old, self.grace).await.map_err(failed)?;
            self.engine.remove_container(&old).await.map_err(failed)?;
        }
        self.part().await
    }

    /// Takes away the network that two servers met on.
    async fn part(&self) -> Result<(), Failure> {
        let failed = |error: EngineError| self.engine_failed(error);
        self.engine.dissolve(&self.meeting()).await.map_err(failed)
    }
}

//! An application that is replaced while it serves. Where nothing keeps two of them apart, the new one is started beside the
//! old one and found under the name only when it answers; otherwise it is made beforehand and started when the old one
//! has stopped, which takes the old one's place again when it does not answer.
//!
//! The new container is called `<name>.next` until the old one is gone.

use crate::desired::{PRIVATE, Readiness, Secrets, ServiceFacts};
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::state::{Container, Role};
use crate::value::{ResourceId, Span};
use crate::world::log;
use crate::world::ready;
use futures_util::future;
use std::time::{Duration, Instant};

/// What is replaced, and by what.
#[derive(Debug)]
pub struct TakeOver<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    pub facts: &'a ServiceFacts,
    /// The container as it is meant.
    pub wanted: &'a Container,
    pub secrets: &'a Secrets,
}

impl TakeOver<'_> {
    fn service(&self) -> &str {
        self.facts.name.as_str()
    }

    fn main(&self) -> String {
        self.names.container(self.service())
    }

    fn next(&self) -> String {
        self.names.next(self.service())
    }

    fn failed(&self, what: &str, error: EngineError) -> Failure {
        let message = format!("could not replace {}: {what}: {error}", self.service());
        Failure::message(error.kind(), message)
    }

    /// After a failure the old one serves. Says how it went.
    pub async fn run(&self, beside: bool, listener: &impl Listener) -> Result<String, Failure> {
        if beside { self.beside().await } else { self.in_turn(listener).await }
    }

    async fn beside(&self) -> Result<String, Failure> {
        let began = Instant::now();
        if let Err(failure) = self.prove().await {
            // Best effort: the next run removes what is left.
            let _ = self.engine.kill_own(self.names, &self.next()).await;
            return Err(failure);
        }
        let proven = began.elapsed();
        let failed = |error| self.failed("the old one is still there", error);
        self.engine.stop(&self.main(), self.facts.stop_grace).await.map_err(failed)?;
        self.succeed().await?;
        Ok(format!("{} after {} ms, was not away", self.answered(), proven.as_millis()))
    }

    /// Starts the new one where nobody finds it, and lets it be found when it answers.
    async fn prove(&self) -> Result<(), Failure> {
        let (id, next, private) = (ResourceId::container(self.service()), self.next(), self.names.network(PRIVATE));
        let failed = |error| self.failed("the new one was not made", error);
        self.engine.create_as(self.names, &id, self.wanted, &next, None).await.map_err(failed)?;
        self.start().await?;
        self.answers().await?;
        // A name is given when a network is joined, and not later. Connections to what it needs do not outlive that, and
        // nobody would tell it: so it is started once more rather than left to find out.
        let failed = |error| self.failed("the new one could not be found", error);
        let is_connected = !self.facts.needs.is_empty();
        if is_connected {
            self.engine.stop(&next, self.facts.stop_grace).await.map_err(failed)?;
        }
        self.engine.disconnect_from(&next, &private).await.map_err(failed)?;
        self.engine.connect_to(&next, &private, Some(self.service())).await.map_err(failed)?;
        if is_connected {
            self.start().await?;
        }
        self.answers().await
    }

    async fn in_turn(&self, listener: &impl Listener) -> Result<String, Failure> {
        let (id, main, next) = (ResourceId::container(self.service()), self.main(), self.next());
        let failed = |error| self.failed("the new one was not made", error);
        if let Err(error) = self.engine.create_as(self.names, &id, self.wanted, &next, Some(self.service())).await {
            let _ = self.engine.kill_own(self.names, &next).await;
            return Err(failed(error));
        }
        let began = Instant::now();
        let tried = async {
            let failed = |error| self.failed("the old one did not stop", error);
            self.engine.stop(&main, self.facts.stop_grace).await.map_err(failed)?;
            self.start().await?;
            self.answers().await
        };
        if let Err(failure) = tried.await {
            // Best effort: what cannot be done now, the next run does.
            let _ = self.engine.kill_own(self.names, &next).await;
            let back = self.engine.start(&main).await;
            let so_far = match back {
                Ok(()) => format!("the old one runs again, {} ms after it was stopped", began.elapsed().as_millis()),
                Err(error) => format!("and the old one did not start again: {error}"),
            };
            return Err(failure.so_far(so_far));
        }
        let away = began.elapsed();
        self.succeed().await?;
        Ok(format!("{}, {}", self.answered(), was_away(away, listener)))
    }

    async fn start(&self) -> Result<(), Failure> {
        match self.engine.start(&self.next()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed("the new one does not start", error)),
        }
    }

    async fn answers(&self) -> Result<(), Failure> {
        let (next, private) = (self.next(), self.names.network(PRIVATE));
        let within = self.facts.ready_within;
        let Err(why) = ready::wait(self.engine, &next, &private, &self.facts.ready, within, None).await else {
            return Ok(());
        };
        let why = why.say(within);
        let message = format!("could not replace {}: the new one {why}", self.service());
        Err(Failure::message(Kind::Error, message).help(log::last_lines(self.engine, &next, self.secrets).await))
    }

    fn answered(&self) -> String {
        format!("the new one {}", self.facts.ready.met())
    }

    async fn succeed(&self) -> Result<(), Failure> {
        let failed = |error| self.failed("the old one is still there", error);
        self.engine.remove_container(&self.main()).await.map_err(failed)?;
        self.engine.rename(&self.next(), &self.main()).await.map_err(failed)
    }
}

/// Tells how long a service did not answer, and says so.
pub fn was_away(gap: Duration, listener: &impl Listener) -> String {
    listener.hear(Event::Away { ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX) });
    format!("was away for {} ms", gap.as_millis())
}

/// Ends what a run left that was killed while it replaced an application: the new one stays when it answers and others find
/// it or the old one has stopped, and the old one stays otherwise. Says what was done; `None` where there is no such thing.
pub async fn settle(
    engine: &Engine,
    names: &Names,
    service: &str,
    facts: Option<&ServiceFacts>,
) -> Result<Option<&'static str>, EngineError> {
    let (main, next) = (names.container(service), names.next(service));
    let (new, old) = future::try_join(engine.find_container(&next), engine.find_container(&main)).await?;
    let Some(new) = new else { return Ok(None) };
    let private = names.network(PRIVATE);
    let (found, runs) = (inspect::has_alias(&new, &private, service), inspect::runs(&new));
    if inspect::container(names, new, None).is_none_or(|seen| seen.container.role != Role::App) {
        return Ok(None);
    }
    let answers = || async {
        let (ready, within) =
            facts.map_or((&Readiness::Running, Span::seconds(10)), |facts| (&facts.ready, facts.ready_within));
        runs && found && ready::wait(engine, &next, &private, ready, within, None).await.is_ok()
    };
    if let Some(old) = old {
        if !answers().await {
            engine.kill_own(names, &next).await?;
            if !inspect::runs(&old) {
                engine.start(&main).await?;
            }
            return Ok(Some("taken back"));
        }
        let grace = facts.map_or(Span::seconds(30), |facts| facts.stop_grace);
        engine.stop(&main, grace).await?;
        engine.remove_container(&main).await?;
    }
    engine.rename(&next, &main).await?;
    Ok(Some("finished"))
}

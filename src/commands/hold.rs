//! Taking an environment in hand before it is changed.

use crate::commands::{Session, engine_failure};
use crate::desired::Generations;
use crate::failure::Failure;
use crate::hold::{Holder, Sign, USUAL_LEASE};
use crate::model::{Environment, Kind};
use crate::project::Project;
use crate::state::{Resource, Role};
use crate::store::who;
use crate::ui::Ui;
use crate::value::{Family, ResourceId, Span};
use crate::world::hold::{Hold, Request, Stand, take};
use std::collections::BTreeSet;

/// Why an environment is taken, and how long to wait while another has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Why<'a> {
    pub verb: &'a str,
    pub reason: &'a str,
    pub wait: Span,
}

impl Session {
    /// Takes the environment in hand and reads it again: somebody else may have changed it until a moment ago. From here
    /// on the session's engine changes something only while this run holds the environment; it is given back with the
    /// session, however that ends.
    pub(super) async fn take(
        self,
        ui: &Ui,
        project: &Project,
        environment: &Environment,
        why: Why<'_>,
    ) -> Result<Session, Failure> {
        let fenced = self.take_as_read(ui, environment, why).await?;
        let hold = fenced.hold;
        let fenced = Session { hold: None, ..fenced };
        let session = fenced.meaning(project, environment, &Generations::new()).await?;
        Ok(Session { hold, ..session })
    }

    /// The same of an environment that nobody else knows of yet: what was read a moment ago is as good as read again.
    pub(super) async fn take_as_read(
        self,
        ui: &Ui,
        environment: &Environment,
        why: Why<'_>,
    ) -> Result<Session, Failure> {
        let hold = hold(ui, environment, &self, why).await?;
        Ok(Session { engine: self.engine.fenced(hold.fence()), hold: Some(hold), ..self })
    }
}

async fn hold(ui: &Ui, environment: &Environment, session: &Session, why: Why<'_>) -> Result<Hold, Failure> {
    let who = who::who();
    // A person wrote it, and everybody who may ask the engine reads it.
    let reason = session.secrets.conceal(why.reason);
    let holder = Holder {
        verb: why.verb.to_owned(),
        reason,
        who: who.user,
        host: who.host,
        process: who.process,
        origin: who::origin(),
        lease: who::lease().unwrap_or(USUAL_LEASE),
        sign: Sign::Lines,
    };
    let stands = stands(environment, session).await?;
    let (names, engine) = (session.names.clone(), session.engine.address.clone());
    let hold = take(Request { names, engine, holder, stands, wait: why.wait }, |line| ui.status(line)).await?;
    for other in &hold.instead_of {
        ui.status(&format!("{} was locked by {other}; the lock was taken over", environment.name));
    }
    Ok(hold)
}

/// What can stand for the hold, the best first: a client of one of the stack's servers, which answers line by line; the
/// server itself, which reads its settings to their end and then has nowhere to listen; another image's `cat`; and
/// where there is no process at all, a container that is never started.
async fn stands(environment: &Environment, session: &Session) -> Result<Vec<Stand>, Failure> {
    let (mut servers, mut others) = (Vec::new(), Vec::new());
    for service in environment.services.values() {
        let seen = match session.observed.state.resources.get(&ResourceId::container(service.name.as_str())) {
            Some(Resource::Container(container)) => Some(container.image.clone()),
            _ => None,
        };
        for image in service.locked.clone().into_iter().chain(seen) {
            match &service.kind {
                Kind::Redis(redis) => servers.push((image, redis.server.family)),
                Kind::App(_) => others.push(image),
            }
        }
    }
    for resource in session.observed.state.resources.values() {
        match resource {
            Resource::Container(container) if container.role == Role::Redis => {
                servers.push((container.image.clone(), Family::Redis));
            }
            Resource::Container(container) => others.push(container.image.clone()),
            _ => {}
        }
    }
    // The image of a first launch may still have to be fetched, which changes no environment.
    if let Some((image, _)) = servers.first()
        && missing(session, image).await?
        && image.contains("@sha256:")
    {
        session.engine.pull(image).await.map_err(|error| engine_failure(&session.engine.address, &error))?;
    }
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let mut any = None;
    for (image, family) in servers {
        if !known.insert(image.clone()) || missing(session, &image).await? {
            continue;
        }
        let nowhere = ["-", "--port", "0", "--save", "", "--loglevel", "warning"];
        let mut server = vec![format!("{family}-server")];
        server.extend(words(&nowhere));
        let stand = |words: Vec<String>, sign: Sign| Stand { image: image.clone(), words, sign };
        found.push(stand(vec![format!("{family}-cli")], Sign::Lines));
        found.push(stand(server, Sign::Pulse));
        any.get_or_insert(image.clone());
    }
    for image in others {
        if !known.insert(image.clone()) || missing(session, &image).await? {
            continue;
        }
        found.push(Stand { image: image.clone(), words: words(&["cat"]), sign: Sign::Lines });
        any.get_or_insert(image);
    }
    let alone = any.map(|image| Stand { image, words: words(&["/never-started"]), sign: Sign::PulseAlone });
    // Nobody else wants a copy's name. What ends with its holder is not needed where whoever comes next sees the processes
    // of this machine, and starting it would take as long as starting a service.
    let is_copy_here = environment.mark.is_some() && session.engine.is_here();
    let clock = alone.clone().filter(|_| is_copy_here).map(|stand| Stand { sign: Sign::Clock, ..stand });
    Ok(clock.into_iter().chain(found).chain(alone).collect())
}

async fn missing(session: &Session, image: &str) -> Result<bool, Failure> {
    if session.observed.images.contains(image) {
        return Ok(false);
    }
    let found = session.engine.image(image).await.map_err(|error| engine_failure(&session.engine.address, &error))?;
    Ok(found.is_none())
}

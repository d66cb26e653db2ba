//! Environments that exist for a while alone: who holds them, where they answer, and taking them away.
//!
//! Every object says for itself whose it is and until when ([`Marked`]); nothing is taken away but what does, and of that
//! nothing while a living run holds its environment.

use crate::desired::PRIVATE;
use crate::engine::ephemeral::Marked;
use crate::engine::{Engine, EngineError, Names, inspect};
use crate::failure::{Failure, Kind};
use crate::hold::Holder;
use crate::model::ephemeral::Until;
use crate::model::{Environment, Kind as ServiceKind, Service};
use crate::store::who::living_maker;
use crate::value::{Name, ResourceKind};
use crate::world::hold::living;
use crate::world::ready::REDIS_PORT;
use crate::world::shared;
use futures_util::future;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long taking one away may take, while the engine or others are busy with it.
const REMOVAL: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(50);

/// An ephemeral environment that is there.
#[derive(Debug)]
pub struct Present {
    pub names: Names,
    /// What is marked for longest counts for all of it.
    pub until: Until,
    /// When its first object was made, seconds since 1970.
    pub made: Option<i64>,
    pub holder: Option<Holder>,
}

/// All of a stack's.
pub async fn list(engine: &Engine, stack: &Name) -> Result<Vec<Present>, EngineError> {
    let mut found: BTreeMap<Name, Present> = BTreeMap::new();
    let marked = engine.marked(stack, None).await?;
    for one in &marked {
        let Some(until) = until(one) else { continue };
        let first = || Present { names: one.names.clone(), until, made: one.made, holder: None };
        let present = found.entry(one.names.environment.clone()).or_insert_with(first);
        present.until = present.until.max(until);
        present.made = match (present.made, one.made) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    let mut all: Vec<Present> = found.into_values().collect();
    let holders = future::try_join_all(all.iter().map(|present| holder(engine, &present.names, &marked))).await?;
    for (present, holder) in all.iter_mut().zip(holders) {
        present.holder = holder;
    }
    Ok(all)
}

/// Who has one in hand, of which these objects are there: by its lock; or, when that is gone, the process that made it, where
/// it is seen to live. Somebody who tidies up may take a lock that does not run, and until it is made again nothing else tells.
pub async fn holder(engine: &Engine, names: &Names, objects: &[Marked]) -> Result<Option<Holder>, EngineError> {
    if let Some(holder) = living(engine, names).await? {
        return Ok(Some(holder));
    }
    let of_it = objects.iter().filter(|marked| marked.names.environment == names.environment);
    let mut makers = of_it.filter_map(|marked| living_maker(&marked.names.mark.as_ref()?.maker));
    Ok(makers.next())
}

/// Takes away what nobody wants any more: environments that went with their holder, and those whose time is over. One that
/// is spared, such as every one that has a file in the project, is never among them. The names of those that were. And seeds that
/// no copy has, but this process's own.
pub async fn sweep(engine: &Engine, stack: &Name, spared: &BTreeSet<Name>) -> Result<BTreeSet<Name>, EngineError> {
    let listed = engine.listed(stack, None).await?;
    let marked = listed.iter().filter_map(|object| object.of_copy(stack));
    let mut of: BTreeMap<Name, Vec<Marked>> = BTreeMap::new();
    for marked in marked.filter(|marked| !spared.contains(&marked.names.environment)) {
        of.entry(marked.names.environment.clone()).or_default().push(marked);
    }
    let timed = of.values().flatten().any(|marked| matches!(until(marked), Some(Until::Time(_))));
    // Nothing of a time is over for whoever cannot read the clock.
    let now = if timed { engine.clock().await? } else { i64::MIN };
    let swept = of.into_iter().map(|(name, objects)| async move {
        let over = |marked: &Marked| until(marked).is_some_and(|until| until.is_over(now));
        let Some(first) = objects.iter().find(|marked| over(marked)) else { return Ok(None) };
        if holder(engine, &first.names, &objects).await?.is_some() {
            return Ok(None);
        }
        // Whatever comes under this name from now on is somebody else's.
        let seen: BTreeSet<&str> = objects.iter().map(|marked| marked.id.as_str()).collect();
        clear(engine, stack, &name, &|marked| over(marked) && seen.contains(marked.id.as_str())).await?;
        Ok::<_, EngineError>(Some(name))
    });
    let swept = future::join_all(swept).await;
    let mut names = BTreeSet::new();
    for one in swept {
        names.extend(one?);
    }
    // What a copy had that went just now goes as well; what cannot, goes with the next run.
    let _ = shared::sweep(engine, stack, &listed, true).await;
    Ok(names)
}

/// Takes away seeds that no copy has, this process's own among them.
pub async fn give_seeds_back(engine: &Engine, stack: &Name) -> Result<(), EngineError> {
    let listed = engine.listed(stack, None).await?;
    shared::sweep(engine, stack, &listed, false).await
}

fn until(marked: &Marked) -> Option<Until> {
    marked.names.mark.as_ref().map(|mark| mark.until)
}

/// Takes one away, whatever its time; what stands for a holder is left to whoever has it.
pub async fn remove(engine: &Engine, names: &Names) -> Result<(), EngineError> {
    clear(engine, &names.stack, &names.environment, &|marked| !marked.is_hold).await
}

/// The same with what stands for a holder who is gone.
pub async fn discard(engine: &Engine, names: &Names) -> Result<(), EngineError> {
    clear(engine, &names.stack, &names.environment, &|_| true).await
}

/// Takes away those of its objects that may go, again and again until none is left: others may be at it too.
async fn clear(
    engine: &Engine,
    stack: &Name,
    environment: &Name,
    may_go: &(dyn Fn(&Marked) -> bool + Sync),
) -> Result<(), EngineError> {
    let began = Instant::now();
    loop {
        let marked = engine.marked(stack, Some(environment)).await?;
        let going: Vec<&Marked> = marked.iter().filter(|marked| may_go(marked)).collect();
        if going.is_empty() {
            return Ok(());
        }
        let of = |kind: ResourceKind| going.iter().filter(move |marked| marked.resource.kind == kind);
        let containers = of(ResourceKind::Container).map(|marked| engine.kill_container(&marked.id));
        let mut last = tolerated(future::join_all(containers).await)?;
        let networks = of(ResourceKind::Network).map(|marked| engine.remove_network(&marked.id));
        let volumes = of(ResourceKind::Volume).map(|marked| engine.remove_volume(&marked.id));
        let (networks, volumes) = future::join(future::join_all(networks), future::join_all(volumes)).await;
        last = tolerated(networks)?.or(last);
        last = tolerated(volumes)?.or(last);
        match last {
            // A look at the end only where somebody else may have it in hand.
            None => return Ok(()),
            Some(error) if began.elapsed() > REMOVAL => return Err(error),
            Some(_) => sleep(PAUSE).await,
        }
    }
}

/// The last reason why one did not go that may not be one in a moment.
fn tolerated(results: Vec<Result<(), EngineError>>) -> Result<Option<EngineError>, EngineError> {
    let mut last = None;
    for error in results.into_iter().filter_map(Result::err) {
        match error {
            EngineError::Conflict(_) | EngineError::Refused { .. } | EngineError::Unknown(_) => last = Some(error),
            EngineError::NotFound(_) => {}
            gone => return Err(gone),
        }
    }
    Ok(last)
}

/// Where every service answers for somebody on the engine's host: at the port that the engine chose, or at its address.
pub async fn addresses(
    engine: &Engine,
    names: &Names,
    environment: &Environment,
) -> Result<BTreeMap<Name, (String, u16)>, Failure> {
    let asked = environment.services.values().map(|service| address(engine, names, service));
    Ok(future::try_join_all(asked).await?.into_iter().flatten().collect())
}

async fn address(engine: &Engine, names: &Names, service: &Service) -> Result<Option<(Name, (String, u16))>, Failure> {
    let container = names.container(service.name.as_str());
    let failed =
        |why: String| Failure::message(Kind::Error, format!("it is not known where {} answers: {why}", service.name));
    let report = engine.container(&container).await.map_err(|error| failed(error.to_string()))?;
    let settings = &report.network_settings;
    let port = match &service.kind {
        ServiceKind::Redis(_) => REDIS_PORT,
        ServiceKind::App(app) => match (app.ports.first(), &app.health) {
            (Some(port), _) => {
                let key = format!("{}/tcp", port.value.container);
                let published = inspect::published(settings, &key);
                let address = published.ok_or_else(|| failed(format!("the engine published no port for {key}")))?;
                return Ok(Some((service.name.clone(), (address.ip().to_string(), address.port()))));
            }
            (None, Some(health)) => health.port,
            // It listens nowhere that anybody knows of.
            (None, None) => return Ok(None),
        },
    };
    let address = inspect::address(settings, &names.network(PRIVATE));
    let address = address.ok_or_else(|| failed(format!("{container} has no address on its network")))?;
    Ok(Some((service.name.clone(), (address.to_string(), port))))
}

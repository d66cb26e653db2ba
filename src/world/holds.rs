//! What the servers of several environments hold, as digests that compare.

use crate::desired::OPERATOR;
use crate::digest::{Hasher, Key, Keyspace};
use crate::engine::{Engine, Names};
use crate::failure::{Failure, Kind};
use crate::parity::data::Held;
use crate::redis::pull;
use crate::state::Observed;
use crate::store;
use crate::value::{Secret, ServerVersion};
use crate::world::capture::{SNAPSHOT_SILENCE, afforded};
use crate::world::ready::redis_address;
use std::collections::BTreeMap;
use std::io;

/// Keys that expire this soon are not compared: one server may have dropped them already.
const SOON_MS: i64 = 60_000;

/// An environment whose servers are asked.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub engine: &'a Engine,
    pub names: &'a Names,
    pub observed: &'a Observed,
    /// Passwords of lockstep's own user, by service.
    pub operators: &'a BTreeMap<String, Secret>,
}

/// What one server holds.
#[derive(Clone, Debug)]
pub struct Digested {
    pub keyspace: Keyspace,
    pub version: Option<ServerVersion>,
}

/// What every server is digested with, so that the digests compare.
///
/// # Errors
/// No random bytes.
pub fn hasher() -> Result<Hasher, Failure> {
    let random = store::random().map_err(|error| Failure::new(Kind::Error, error))?;
    Ok(Hasher::new(&Key::new(random), Some(store::now().as_millisecond().saturating_add(SOON_MS))))
}

/// Pulls a snapshot of a running server and digests it; nothing of it is kept. It costs the server a fork, which is not asked
/// of one that cannot afford it.
///
/// # Errors
/// A server that does not run, cannot be read, or has no room for a fork.
pub async fn digested(subject: Subject<'_>, service: &str, hasher: &Hasher) -> Result<Digested, Failure> {
    let failed = |why: String| Failure::message(Kind::Error, why);
    let password = subject.operators.get(service);
    let password = password.ok_or_else(|| failed("lockstep's password for it is not known".to_owned()))?;
    let address = redis_address(subject.engine, subject.names, service).await?;
    let limit = subject.observed.state.container(service).map_or(0, |container| container.memory_bytes);
    let source = pull::Source::new(address, OPERATOR, password, SNAPSHOT_SILENCE);
    let hasher = hasher.clone();
    let (keyspace, version) = afforded(service, (address, password), limit, move || {
        pull::pull(&source, &hasher, &mut io::sink(), &mut |_, _| ()).map(|pulled| pulled.keyspace)
    })
    .await?;
    Ok(Digested { keyspace, version })
}

/// What two servers of one service come to.
pub fn compared(service: &str, reference: &Digested, other: &Digested) -> Held {
    let (one, two) = (&reference.keyspace, &other.keyspace);
    let counts = |of: &Digested| of.version.is_none_or(|version| version.speaks(7, 0));
    Held {
        service: service.to_owned(),
        keys: (one.keys, two.keys),
        differs: two.differs_in(one, counts(reference) && counts(other)),
        parts: two.unequal_buckets(one),
    }
}

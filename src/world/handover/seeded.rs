//! A new server that cannot follow the old one: it starts on what the old one held when it was taken out of everybody's reach.
//!
//! A backup of that moment is written in the form that the new server loads. Nobody is served until it has loaded, and has
//! given back what the old one holds; the old one stays as it is until the change stands.

use super::copies::Copies;
use super::server::{fence, keeps, take_clients};
use super::{Handed, Handover, Met};
use crate::desired::FILES;
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::redis::ServerError;
use crate::redis::observe::keys;
use crate::world::capture::{BackupRequest, take_backup};
use crate::world::restore::Origin;
use crate::world::seed::{Seed, Source};
use std::time::Instant;

/// What a backup of the last moment is taken with, and where it is put.
#[derive(Clone, Debug)]
pub struct Refill {
    /// Of the old server, wherever it is found then.
    pub request: BackupRequest,
    /// The new volume, as the environment calls it.
    pub data: String,
    /// The backup that this change has taken before anything else.
    pub before: Option<String>,
}

impl Handover<'_> {
    /// Lets nobody write, takes a backup, starts the new server on it, proves what it holds, and lets it be found.
    pub(super) async fn start_on(
        &self,
        old: &Met,
        refill: &Refill,
        number: u32,
        listener: &impl Listener,
    ) -> Result<(Handed, Option<(Met, Copies)>), Failure> {
        let failed = |error: ServerError| self.failed("the last writes", error);
        if let Some(before) = &refill.before {
            // What cannot be read is found while everybody is served.
            self.open(refill, before).await?;
        }
        self.permit().await?;
        let began = Instant::now();
        fence(&old.server, old.version).await.map_err(failed)?;
        self.hide(old).await?;
        // The backup is pulled over a connection of its own.
        take_clients(&old.server, None).await.map_err(failed)?;
        let origin = self.last_backup(old, refill, number, listener).await?;
        let seed = Seed {
            engine: self.engine,
            carrier: self.names.container(FILES),
            service: self.service,
            container: self.wanted,
            data: refill.data.clone(),
            source: Source::Backup(origin),
        };
        self.permit().await?;
        seed.put().await?;
        let new = self.launch().await?;
        let copies = self.copies(old, &new).await?;
        let evicted = new.server.info().await.map_err(failed)?.get("evicted_keys").is_some_and(|count| count != "0");
        match self.prove(old, &new, copies).await {
            // The spec gives it less room than the data takes: which keys go is its policy's choice.
            Err(_) if evicted => {
                let text = format!("{} had to evict keys when it loaded: what it holds was not compared", self.service);
                listener.hear(Event::Line { text });
            }
            proven => proven?,
        }
        if !keeps(self.wanted) {
            seed.empty().await?;
        }
        let held = new.server.info().await.map_err(failed)?;
        let writes_paused = self.take_its_place(began).await?;
        Ok((Handed { keys: keys(&held).values().sum(), writes_paused, away: true }, None))
    }

    /// A backup of what nobody changes any more.
    async fn last_backup(
        &self,
        old: &Met,
        refill: &Refill,
        number: u32,
        listener: &impl Listener,
    ) -> Result<Origin, Failure> {
        let request = BackupRequest { address: old.address, ..refill.request.clone() };
        // By now more than nothing was changed.
        let failed = |failure: Failure| match failure.kind {
            Kind::Backup => Failure { kind: Kind::Error, ..failure },
            _ => failure,
        };
        let taken = take_backup(self.names, request, number, listener).await.map_err(failed)?;
        listener.hear(taken.kept(false));
        self.open(refill, &taken.id).await
    }

    async fn open(&self, refill: &Refill, id: &str) -> Result<Origin, Failure> {
        let failed = |why: String| self.failed("its backup cannot be read", why);
        let origin = Origin::of(&refill.request.repository, id).await.map_err(|error| failed(format!("{error:#}")))?;
        let origin = origin.ok_or_else(|| failed(format!("`{id}` is not there any more")))?;
        if origin.can_be_opened() {
            return Ok(origin);
        }
        let help = "name a file with the identity in `backup.identity` or LOCKSTEP_AGE_IDENTITY_FILE";
        Err(failed("it is encrypted, and no key that opens it is here".to_owned()).help(help))
    }
}

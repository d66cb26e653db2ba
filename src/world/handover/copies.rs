//! What a server held at one moment, read beside whatever follows.

use crate::digest::{Hasher, Keyspace};
use crate::redis::pull::{self, PullError, Source};
use std::io;
use std::time::Duration;
use tokio::sync::oneshot;

/// A copy is under way within this time.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// What two servers hold, read at the same time.
pub(super) struct Copies {
    pub old: Copy,
    pub new: Copy,
}

/// What a server held at one moment, on its way into a digest.
pub(super) struct Copy {
    reading: tokio::task::JoinHandle<Result<Keyspace, PullError>>,
    begun: oneshot::Receiver<()>,
}

impl Copy {
    pub fn begin(source: Source, hasher: Hasher) -> Copy {
        let (begins, begun) = oneshot::channel();
        let mut begins = Some(begins);
        let reading = tokio::task::spawn_blocking(move || {
            let mut said = |_, _| {
                if let Some(begins) = begins.take() {
                    // Nobody waits for it where both are read at leisure.
                    let _ = begins.send(());
                }
            };
            pull::pull(&source, &hasher, &mut io::sink(), &mut said).map(|pulled| pulled.keyspace)
        });
        Copy { reading, begun }
    }

    /// Waits for its first bytes: the server has forked then, and what is written to it later is not in it.
    pub async fn under_way(&mut self) -> Result<(), String> {
        match tokio::time::timeout(BEGINS_WITHIN, &mut self.begun).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_ended)) => Err(match (&mut self.reading).await {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(_)) => return Ok(()),
                Err(error) => error.to_string(),
            }),
            Err(_) => Err(format!("no snapshot of the new server began within {} s", BEGINS_WITHIN.as_secs())),
        }
    }

    pub async fn read(self) -> Result<Keyspace, String> {
        match self.reading.await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

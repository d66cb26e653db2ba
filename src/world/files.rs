//! Writing the files of an environment into its volumes.

use crate::engine::archive::{self, Write};
use crate::engine::{Engine, EngineError, Names};
use crate::store::volumes;
use std::path::PathBuf;

/// Writes files into volumes, as one revision, through a container that mounts them all.
pub async fn write(engine: &Engine, carrier: &str, writes: &[Write<'_>], revision: &str) -> Result<(), EngineError> {
    engine.write_files(carrier, pack(writes, revision)?).await
}

/// The same into volumes that were just made. Where they lie on this machine the files are written there: an engine starts
/// itself anew for every archive, which takes longer than making what it goes into ([decision 18]).
///
/// [decision 18]: ../../../docs/decisions/0018-files-where-they-lie.md
pub async fn write_first(
    engine: &Engine,
    names: &Names,
    carrier: &str,
    writes: &[Write<'_>],
    revision: &str,
) -> Result<(), EngineError> {
    let tar = pack(writes, revision)?;
    let homes = match engine.is_here() {
        true => engine.homes(names, &engine.volumes().await?, |_| true),
        false => None,
    };
    let meant = |(name, _): &(String, PathBuf)| writes.iter().any(|write| write.volume() == name);
    let homes = homes.map(|homes| homes.into_iter().filter(meant).collect());
    match homes {
        Some(homes) => {
            engine.permit().await?;
            match fill(homes, tar).await {
                Ok(()) => Ok(()),
                Err(tar) => engine.write_files(carrier, tar).await,
            }
        }
        None => engine.write_files(carrier, tar).await,
    }
}

fn pack(writes: &[Write<'_>], revision: &str) -> Result<Vec<u8>, EngineError> {
    archive::pack(writes, revision).map_err(|error| EngineError::Refused { status: 0, message: error.to_string() })
}

/// Gives the archive back where it has to go another way.
async fn fill(homes: Vec<(String, PathBuf)>, tar: Vec<u8>) -> Result<(), Vec<u8>> {
    let kept = tar.clone();
    let filled = tokio::task::spawn_blocking(move || volumes::fill(&homes, &tar)).await;
    if matches!(filled, Ok(Ok(()))) { Ok(()) } else { Err(kept) }
}

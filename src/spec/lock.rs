//! `environments/stack.lock`: which image each tag of the spec stands for, in every environment.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The lock file. Format 1; an older binary refuses a newer format rather than guess.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub lockstep: u32,
    pub images: BTreeMap<String, LockedImage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// `name@sha256:...` where a registry knows the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `sha256:...`, the engine's image id: the same on every engine that holds these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `redis 7.0.15` or `valkey 8.1.1`, as the image itself says; settings depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

impl LockedImage {
    /// What the engine is asked for.
    pub fn reference(&self) -> Option<&str> {
        self.digest.as_deref().or(self.id.as_deref())
    }
}

const HEADER: &str = "# Written by `lockstep lock`. Pins the bytes that every environment runs; commit it.\n";

pub fn parse(text: &str) -> anyhow::Result<Lock> {
    let lock: Lock = serde_yaml::from_str(text).context("stack.lock does not read as a lock file")?;
    if lock.lockstep != 1 {
        bail!("stack.lock has format {}, and this binary reads format 1", lock.lockstep);
    }
    for (tag, image) in &lock.images {
        let hex = image.reference().and_then(|text| text.rsplit_once("sha256:")).map_or("", |(_, hex)| hex);
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("stack.lock pins `{tag}` to something that is not a sha256");
        }
    }
    Ok(lock)
}

pub fn print(lock: &Lock) -> anyhow::Result<String> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(lock).context("could not write the lock file's text")?))
}

//! Which engine the user's Docker configuration points at.
//!
//! Reads what the `docker` command reads: the context named by `DOCKER_CONTEXT` or by `currentContext`
//! in its configuration, and the address that this context has.

use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints")]
    endpoints: std::collections::BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
}

/// The address of the context in use; `None` for the default one. The error names a context that is not there.
pub fn address() -> Result<Option<String>, String> {
    let Some(folder) = folder() else { return Ok(None) };
    let Some(name) = super::variable("DOCKER_CONTEXT").or_else(|| current(&folder)) else { return Ok(None) };
    if name == "default" {
        return Ok(None);
    }
    find(&folder, &name).map(Some).ok_or_else(|| format!("there is no Docker context `{name}`"))
}

fn folder() -> Option<PathBuf> {
    let configured = super::variable("DOCKER_CONFIG").map(PathBuf::from);
    configured.or_else(|| Some(PathBuf::from(super::variable("HOME")?).join(".docker")))
}

fn current(folder: &Path) -> Option<String> {
    let text = fs::read(folder.join("config.json")).ok()?;
    serde_json::from_slice::<Config>(&text).ok()?.current.filter(|name| !name.is_empty())
}

fn find(folder: &Path, name: &str) -> Option<String> {
    let entries = fs::read_dir(folder.join("contexts/meta")).ok()?;
    let metas = entries.flatten().filter_map(|entry| {
        let text = fs::read(entry.path().join("meta.json")).ok()?;
        serde_json::from_slice::<Meta>(&text).ok()
    });
    let meta = metas.into_iter().find(|meta| meta.name == name)?;
    meta.endpoints.into_iter().find(|(kind, _)| kind == "docker")?.1.host
}

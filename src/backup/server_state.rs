//! What belongs to a dataset and is in no snapshot of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `state.json` of a backup. It holds password hashes and whatever the settings hold: as secret as the data, and
/// encrypted with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerState {
    pub format: u32,
    /// `redis 7.0.15`
    pub server: String,
    /// Every setting as `CONFIG GET *` gives it.
    pub config: BTreeMap<String, String>,
    /// The lines of `ACL LIST`.
    pub users: Vec<String>,
    /// Names of loaded modules. A server without them does not load their keys.
    pub modules: Vec<String>,
    /// `INFO`, without the counters of commands and errors.
    pub info: BTreeMap<String, String>,
}

impl ServerState {
    pub const FORMAT: u32 = 1;
}

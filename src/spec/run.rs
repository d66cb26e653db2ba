//! `run:` as it was written: what a command gets that runs beside an environment of its own.

use crate::spec::Text;
use crate::spec::decode::{Decoder, Fields};
use crate::value::{Located, Name, Place};
use std::collections::BTreeMap;

/// `run:`.
#[derive(Clone, Debug, Default)]
pub struct RunSpec {
    /// Environment variables, by name.
    pub env: BTreeMap<String, (Place, Text)>,
    /// What each Redis begins with.
    pub seed: BTreeMap<Name, Text>,
    /// How long an environment stays that nobody holds.
    pub ttl: Option<Text>,
}

pub(super) fn run(d: &mut Decoder, top: &Fields<'_>) -> RunSpec {
    let Some((_, node)) = d.node(top, "run") else { return RunSpec::default() };
    let Some(fields) = d.fields(node, "run", &["env", "seed", "ttl"]) else { return RunSpec::default() };
    let mut seed = BTreeMap::new();
    for (key, (place, text)) in d.text_map(&fields, "seed") {
        if let Some(name) = d.name(&Located::new(key, place)) {
            seed.insert(name.value, text);
        }
    }
    RunSpec { env: d.text_map(&fields, "env"), seed, ttl: d.text(&fields, "ttl") }
}

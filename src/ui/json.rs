//! The same values as JSON, each with `format: 1`: a script that reads a later form must be changed on purpose.

use crate::finding::Finding;
use serde::Serialize;

/// What `check` says.
#[derive(Debug, Serialize)]
pub struct Check<'a> {
    pub format: u32,
    pub ok: bool,
    pub findings: &'a [Finding],
}

/// What a command that carries out a plan says.
#[derive(Debug, Serialize)]
pub struct Applied<'a> {
    pub format: u32,
    pub environment: &'a str,
    pub revision: &'a str,
    /// The same for every environment of one spec.
    pub fingerprint: &'a str,
    pub plan: &'a crate::plan::Plan,
    pub done: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<&'a crate::parity::Verification>,
}

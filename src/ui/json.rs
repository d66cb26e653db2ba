//! The same values as JSON, each with `format: 1`: a script that reads a later form must be changed on purpose.

use crate::finding::Finding;
use crate::keydiff::{Class, Counts, Report};
use crate::measure::{Expectation, Measure};
use crate::probe::Watched;
use crate::value::Blob;
use serde::Serialize;
use serde_json::{Value, json};

/// A value as a script reads it.
pub fn text<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub measures: &'a [Measure],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub expectations: &'a [Expectation],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched: Option<&'a Watched>,
}

/// What `backup diff` says.
pub fn differences(ids: [&str; 2], report: &Report) -> Value {
    let total = |counts: &Counts| json!({ "differing": counts.total(), "counts": counts });
    let side = |id: &str, keys: u64| json!({ "backup": id, "keys": keys });
    let prefixes = report.prefixes.iter().map(|((database, prefix), counts)| {
        let prefix = prefix.as_deref().map(Blob);
        json!({ "database": database, "prefix": prefix, "differing": counts.total(), "counts": counts })
    });
    let keys = report.listed.iter().map(|((database, key), difference)| {
        json!({
            "database": database, "key": Blob(key), "class": difference.class, "differs_in": difference.aspects,
            "a": difference.a, "b": difference.b,
        })
    });
    let functions = report.listed_functions.iter().map(|(name, class)| {
        // Of a library that both have, its source differs.
        let class = if *class == Class::Value { json!("source") } else { json!(class) };
        json!({ "name": Blob(name), "class": class })
    });
    json!({
        "format": 1,
        "equal": report.is_equal(),
        "a": side(ids[0], report.keys[0]),
        "b": side(ids[1], report.keys[1]),
        "keys": total(&report.differing),
        "prefixes": prefixes.collect::<Vec<_>>(),
        "other_prefixes": total(&report.other),
        "listed": keys.collect::<Vec<_>>(),
        "functions": total(&report.functions),
        "listed_functions": functions.collect::<Vec<_>>(),
    })
}

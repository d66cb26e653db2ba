//! `accept:` of a section: findings that are known, each with its reason and its last day.

use crate::acceptance::Acceptance;
use crate::finding::Finding;
use crate::spec::decode::{Decoder, Fields};
use crate::value::Date;

/// Longer than this no subject is.
const MOST_PATTERN: usize = 200;

/// Reads `accept: { "container/cache settings.*": { why: ..., until: 2027-01-31 } }`.
pub(super) fn accept(d: &mut Decoder, fields: &Fields<'_>) -> Vec<Acceptance> {
    let Some((_, node)) = d.node(fields, "accept") else { return Vec::new() };
    let path = format!("{}.accept", fields.path);
    let mut acceptances = Vec::new();
    for (what, node) in d.entries(node, &path).unwrap_or_default() {
        let pattern = what.value.trim_matches('*');
        if pattern.is_empty() || what.value.len() > MOST_PATTERN {
            let message = format!("`{}` does not say what is accepted", what.value);
            let help = "name a subject or a rule as `verify` shows it; `*` stands for a part of it";
            d.findings.push(Finding::error("acceptance", message).at(&what.place).help(help));
        }
        let Some(entry) = d.fields(node, &format!("{path}.{}", what.value), &["why", "until"]) else { continue };
        let (why, until) = (d.required(&entry, "why"), d.required(&entry, "until"));
        let why = why.filter(|why| {
            let said = !why.value.trim().is_empty();
            if !said {
                let message = "nothing says why it is accepted";
                d.findings.push(Finding::error("acceptance", message).at(&why.place));
            }
            said
        });
        let until = until.and_then(|text| {
            let date = Date::parse(&text.value);
            if date.is_none() {
                let message = format!("`{}` is not a day", text.value);
                d.findings.push(Finding::error("date", message).at(&text.place).help("write 2027-01-31"));
            }
            date
        });
        if let (Some(why), Some(until)) = (why, until) {
            acceptances.push(Acceptance { what: what.clone(), why: why.value, until });
        }
    }
    acceptances
}

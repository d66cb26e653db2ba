//! `keys:`, `probes:` and `watch:` as they were written: what an application keeps in its Redis, what the stack does,
//! and what is looked at after a change.

use crate::finding::Finding;
use crate::spec::Text;
use crate::spec::decode::{Decoder, Fields};
use crate::spec::refresh::{self, RefreshRuleSpec};
use crate::spec::yaml::{Node, Tree};
use crate::value::{Located, Place};
use std::collections::BTreeMap;

/// A section whose entries have names of the user's choice, and that can be switched off as a whole.
#[derive(Clone, Debug)]
pub struct Section<T> {
    /// Where `enabled: false` stands for all of it.
    pub off: Option<Place>,
    /// In the order in which they were written.
    pub entries: Vec<T>,
}

/// One entry of `keys:`; of those that match a name, the first counts.
#[derive(Clone, Debug)]
pub struct KeyRuleSpec {
    pub pattern: Located<String>,
    pub enabled: bool,
    pub on: Text,
    pub kind: Option<Text>,
    pub ttl: Option<Text>,
    /// What becomes of them at a refresh.
    pub refresh: Option<RefreshRuleSpec>,
    /// What a key belongs to, for shares of them.
    pub entity: Option<Text>,
}

/// One entry of `probes:`.
#[derive(Clone, Debug)]
pub struct ProbeSpec {
    pub name: Located<String>,
    pub enabled: bool,
    pub on: Text,
    /// Absent where it asks for nothing, or for two things at once.
    pub ask: Option<AskSpec>,
    /// `p50`, `p95` and `p99`, by percentile.
    pub bounds: BTreeMap<u8, Text>,
}

#[derive(Clone, Debug)]
pub enum AskSpec {
    Http { get: Text, port: Option<Text>, status: Option<Text>, headers: BTreeMap<String, (Place, Text)> },
    Redis { command: Vec<Text>, user: Option<Text> },
}

/// `watch:`.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    pub place: Place,
    pub enabled: bool,
    pub lasts: Option<Text>,
    pub refuse: Vec<Text>,
    pub hit_ratio: Option<Text>,
}

fn section<T>(
    d: &mut Decoder,
    top: &Fields<'_>,
    name: &str,
    read: impl Fn(&mut Decoder, &Located<String>, &Node, &str) -> Option<T>,
) -> Section<T> {
    let mut section = Section { off: None, entries: Vec::new() };
    let Some((_, node)) = d.node(top, name) else { return section };
    for (key, value) in d.entries(node, name).unwrap_or_default() {
        // The one entry that is a single value is the switch of the section.
        if key.value == "enabled" && matches!(value.value, Tree::Scalar(..)) {
            if let Some(fields) = d.fields(node, name, &all_keys(node))
                && !d.boolean(&fields, "enabled", true)
            {
                section.off = Some(key.place.clone());
            }
            continue;
        }
        section.entries.extend(read(d, key, value, &format!("{name}.{}", key.value)));
    }
    section
}

fn all_keys(node: &Node) -> Vec<&str> {
    match &node.value {
        Tree::Map(entries) => entries.iter().map(|(key, _)| key.value.as_str()).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn keys(d: &mut Decoder, top: &Fields<'_>) -> Section<KeyRuleSpec> {
    section(d, top, "keys", |d, pattern, node, path| {
        let fields = d.fields(node, path, &["on", "type", "ttl", "refresh", "entity", "enabled"])?;
        let on = d.required(&fields, "on");
        let kind = d.text(&fields, "type");
        let ttl = d.text(&fields, "ttl");
        let refresh = d.node(&fields, "refresh");
        let refresh = refresh.and_then(|(place, node)| refresh::rule(d, place, node, &format!("{path}.refresh")));
        let entity = d.text(&fields, "entity");
        let enabled = d.boolean(&fields, "enabled", true);
        Some(KeyRuleSpec { pattern: pattern.clone(), enabled, on: on?, kind, ttl, refresh, entity })
    })
}

pub(super) fn probes(d: &mut Decoder, top: &Fields<'_>) -> Section<ProbeSpec> {
    section(d, top, "probes", |d, name, node, path| {
        let known = ["on", "as", "get", "port", "status", "header", "command", "p50", "p95", "p99", "enabled"];
        let fields = d.fields(node, path, &known)?;
        let on = d.required(&fields, "on");
        let get = d.node(&fields, "get").is_some();
        let command = d.node(&fields, "command").map(|(_, node)| d.scalars(node, &format!("{path}.command")));
        let both = get && command.is_some();
        if both || !get && command.is_none() {
            let message = format!("`{path}` needs either `get:` (HTTP) or `command:` (Redis)");
            d.findings.push(Finding::error("probe", message).at(&name.place));
        } else {
            let others: &[&str] = if get { &["as"] } else { &["port", "status", "header"] };
            for key in others {
                if let Some((place, _)) = d.node(&fields, key) {
                    let of = if get { "command" } else { "get" };
                    let message = format!("`{key}` says something of a probe with `{of}:`, and this one has none");
                    d.findings.push(Finding::error("probe", message).at(place));
                }
            }
        }
        let bounds = [(50, "p50"), (95, "p95"), (99, "p99")];
        let bounds = bounds.into_iter().filter_map(|(percent, key)| Some((percent, d.text(&fields, key)?))).collect();
        let user = d.text(&fields, "as");
        let ask = match (d.text(&fields, "get"), command) {
            _ if both => None,
            (None, None) => None,
            (None, Some(command)) => Some(AskSpec::Redis { command, user }),
            (Some(get), _) => Some(AskSpec::Http {
                get,
                port: d.text(&fields, "port"),
                status: d.text(&fields, "status"),
                headers: d.text_map(&fields, "header"),
            }),
        };
        let enabled = d.boolean(&fields, "enabled", true);
        Some(ProbeSpec { name: name.clone(), enabled, on: on?, ask, bounds })
    })
}

pub(super) fn watch(d: &mut Decoder, top: &Fields<'_>) -> Option<WatchSpec> {
    let (place, node) = d.node(top, "watch")?;
    let fields = d.fields(node, "watch", &["for", "refuse", "hit_ratio", "enabled"])?;
    Some(WatchSpec {
        place: place.clone(),
        enabled: d.boolean(&fields, "enabled", true),
        lasts: d.required(&fields, "for"),
        refuse: d.texts(&fields, "refuse"),
        hit_ratio: d.text(&fields, "hit_ratio"),
    })
}

//! `refresh:` as it was written: of the whole stack, and of the keys of one rule.

use crate::finding::Finding;
use crate::spec::Text;
use crate::spec::decode::{Decoder, Fields};
use crate::spec::yaml::{Node, Tree};
use crate::value::{Located, Place};

/// The section `refresh:`.
#[derive(Clone, Debug)]
pub struct RefreshSpec {
    pub place: Place,
    pub enabled: bool,
    /// The environment whose data the others may get.
    pub from: Option<Text>,
    /// Name of the secret that masks are made with.
    pub secret: Option<Text>,
    pub unmatched: Option<Text>,
    /// Whether every refresh makes the same of the same.
    pub stable: bool,
    pub canaries: Vec<Text>,
}

/// What becomes of the keys of one rule.
#[derive(Clone, Debug)]
pub struct RefreshRuleSpec {
    pub place: Place,
    pub deed: DeedSpec,
}

#[derive(Clone, Debug)]
pub enum DeedSpec {
    /// `refresh: drop`
    Word(Text),
    Copy {
        keep: Option<Text>,
        ttl: Option<Text>,
        /// Whether it may match nothing.
        optional: bool,
        mask: Vec<PartSpec>,
    },
}

/// One part of a value, and what it is masked with.
#[derive(Clone, Debug)]
pub struct PartSpec {
    /// A field, `$.path` in a JSON text, or `*` for all that has no entry of its own.
    pub target: Located<String>,
    pub masker: MaskerSpec,
}

#[derive(Clone, Debug)]
pub enum MaskerSpec {
    Named(Text),
    Null,
    Constant(Text),
}

pub(super) fn section(d: &mut Decoder, top: &Fields<'_>) -> Option<RefreshSpec> {
    let (place, node) = d.node(top, "refresh")?;
    let known = ["from", "secret", "unmatched", "stable", "canaries", "enabled"];
    let fields = d.fields(node, "refresh", &known)?;
    Some(RefreshSpec {
        place: place.clone(),
        enabled: d.boolean(&fields, "enabled", true),
        from: d.required(&fields, "from"),
        secret: d.text(&fields, "secret"),
        unmatched: d.text(&fields, "unmatched"),
        stable: d.boolean(&fields, "stable", true),
        canaries: d.texts(&fields, "canaries"),
    })
}

pub(super) fn rule(d: &mut Decoder, place: &Place, node: &Node, path: &str) -> Option<RefreshRuleSpec> {
    let Tree::Map(_) = node.value else {
        let word = d.scalar(node, path)?;
        return Some(RefreshRuleSpec { place: place.clone(), deed: DeedSpec::Word(word) });
    };
    if is_nothing(node) {
        let message = format!("`{path}` does not say what becomes of the keys");
        let help = "write keep, drop, or { keep: 10%, mask: { email: email }, ttl: shift }";
        d.findings.push(Finding::error("refresh", message).at(place).help(help));
        return None;
    }
    let fields = d.fields(node, path, &["keep", "mask", "ttl", "optional"])?;
    let mask = d.node(&fields, "mask").map(|(place, node)| (place.clone(), node));
    let mask = mask.map(|(place, node)| parts(d, &place, node, &format!("{path}.mask"))).unwrap_or_default();
    let (keep, ttl) = (d.text(&fields, "keep"), d.text(&fields, "ttl"));
    let optional = d.boolean(&fields, "optional", false);
    Some(RefreshRuleSpec { place: place.clone(), deed: DeedSpec::Copy { keep, ttl, optional, mask } })
}

/// A mapping without entries says as little as nothing at all.
fn is_nothing(node: &Node) -> bool {
    match &node.value {
        Tree::Null => true,
        Tree::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

fn parts(d: &mut Decoder, place: &Place, node: &Node, path: &str) -> Vec<PartSpec> {
    if is_nothing(node) {
        let message = format!("`{path}` does not say what is masked");
        let help = "write `mask: token`, or { field: email, other: redact }";
        d.findings.push(Finding::error("mask", message).at(place).help(help));
        return Vec::new();
    }
    let Tree::Map(entries) = &node.value else {
        let target = Located::new("*".to_owned(), place.clone());
        return masker(d, node, path).map(|masker| PartSpec { target, masker }).into_iter().collect();
    };
    let mut parts = Vec::new();
    for (target, node) in entries {
        let masker = masker(d, node, &format!("{path}.{}", target.value));
        parts.extend(masker.map(|masker| PartSpec { target: target.clone(), masker }));
    }
    parts
}

fn masker(d: &mut Decoder, node: &Node, path: &str) -> Option<MaskerSpec> {
    match &node.value {
        Tree::Null => Some(MaskerSpec::Null),
        Tree::Map(_) => {
            let fields = d.fields(node, path, &["constant"])?;
            d.required(&fields, "constant").map(MaskerSpec::Constant)
        }
        _ => d.scalar(node, path).map(MaskerSpec::Named),
    }
}

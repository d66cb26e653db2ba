//! `security:` as it was written: what the audit is to ask for beyond its own checks, and what is accepted as it is.

use crate::finding::Finding;
use crate::spec::Text;
use crate::spec::decode::{Decoder, Fields};
use crate::value::{Located, Place};
use std::collections::BTreeMap;

/// `security:`.
#[derive(Clone, Debug)]
pub struct SecuritySpec {
    pub place: Place,
    pub enabled: bool,
    /// By the name as it was written: `required`, or the value that is wanted.
    pub headers: BTreeMap<String, (Place, Text)>,
    pub upload_limit: Option<Text>,
    /// Where uploads go.
    pub upload_path: Option<Text>,
    pub accept: Vec<AcceptSpec>,
}

/// One entry of `accept:`.
#[derive(Clone, Debug)]
pub struct AcceptSpec {
    pub id: Located<String>,
    pub why: Text,
    pub until: Text,
    pub service: Option<Text>,
}

pub(super) fn security(d: &mut Decoder, top: &Fields<'_>) -> Option<SecuritySpec> {
    let (place, node) = d.node(top, "security")?;
    let fields = d.fields(node, "security", &["headers", "upload_limit", "upload_path", "accept", "enabled"])?;
    Some(SecuritySpec {
        place: place.clone(),
        enabled: d.boolean(&fields, "enabled", true),
        headers: d.text_map(&fields, "headers"),
        upload_limit: d.text(&fields, "upload_limit"),
        upload_path: d.text(&fields, "upload_path"),
        accept: accept(d, &fields),
    })
}

/// The entries of which everything that is needed is there.
fn accept(d: &mut Decoder, fields: &Fields<'_>) -> Vec<AcceptSpec> {
    let Some((_, node)) = d.node(fields, "accept") else { return Vec::new() };
    let mut accepted = Vec::new();
    for (id, node) in d.entries(node, "security.accept").unwrap_or_default() {
        let path = format!("security.accept.{}", id.value);
        let Some(fields) = d.fields(node, &path, &["why", "until", "service"]) else { continue };
        let (why, until) = (d.required(&fields, "why"), d.required(&fields, "until"));
        let service = d.text(&fields, "service");
        if let Some(why) = why.as_ref().filter(|why| why.value.trim().is_empty()) {
            let message = format!("`{path}.why` says nothing");
            let help = "say why it is good enough as it is, for whoever reads the audit";
            d.findings.push(Finding::error("accept", message).at(&why.place).help(help));
        }
        accepted.extend(why.zip(until).map(|(why, until)| AcceptSpec { id: id.clone(), why, until, service }));
    }
    accepted
}

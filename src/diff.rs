//! The one comparison behind plan, drift, parity and undo: the difference of two states.

use crate::state::{Resource, State, Value};
use crate::value::ResourceId;
use serde::Serialize;

/// One field's before and after. A resource that is there on one side only is one change, of field `""`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Change {
    pub resource: ResourceId,
    pub field: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Families of fields that the wanted side lists completely: what it does not name may not be there. The last two are fields:
/// without them it is what the image brings along.
const CLOSED: [&str; 11] = [
    "files.",
    "modes.",
    "env.",
    "mounts.",
    "ports.",
    "networks.",
    "tmpfs.",
    "users.",
    "engine.",
    "command",
    "entrypoint",
];

/// Changes that make `have` what `want` declares; what `want` does not mention is left alone.
pub fn declared(have: &State, want: &State) -> Vec<Change> {
    compare(have, want, false)
}

/// Every field on which the two sides disagree.
pub fn all(left: &State, right: &State) -> Vec<Change> {
    compare(left, right, true)
}

fn compare(have: &State, want: &State, complete: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for (id, wanted) in &want.resources {
        let Some(had) = have.resources.get(id) else {
            changes.push(whole(id, None, Some(())));
            continue;
        };
        // Whether one runs that crashes over and over is chance.
        let by_chance = matches!(wanted, Resource::Container(wanted) if wanted.restarting && !complete);
        let (had, wanted) = (had.fields(), wanted.fields());
        for (field, after) in &wanted {
            let before = had.get(field);
            if by_chance && field == "running" {
                continue;
            }
            if before != Some(after) {
                changes.push(change(id, field, before, Some(after)));
            }
        }
        for (field, before) in &had {
            let closed = complete || CLOSED.iter().any(|family| is_of(family, field));
            if closed && !wanted.contains_key(field) {
                changes.push(change(id, field, Some(before), None));
            }
        }
    }
    for id in have.resources.keys().filter(|id| !want.resources.contains_key(id)) {
        changes.push(whole(id, Some(()), None));
    }
    changes
}

fn is_of(family: &str, field: &str) -> bool {
    field == family || family.ends_with('.') && field.starts_with(family)
}

fn change(id: &ResourceId, field: &str, before: Option<&Value>, after: Option<&Value>) -> Change {
    Change { resource: id.clone(), field: field.to_owned(), before: before.cloned(), after: after.cloned() }
}

fn whole(id: &ResourceId, before: Option<()>, after: Option<()>) -> Change {
    let present = |side: Option<()>| side.map(|()| Value::text("present"));
    Change { resource: id.clone(), field: String::new(), before: present(before), after: present(after) }
}

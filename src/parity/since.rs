//! Since when something is as it is, as far as an engine, a volume or a server tells: evidence beside a finding.

use crate::state::{Observed, Since};

/// What is told of a field, in a few words; `subject` is the resource and its field.
pub(super) fn since(have: &Observed, subject: &str) -> Option<String> {
    let (resource, field) = subject.split_once(' ')?;
    let of = have.since.iter().find(|(id, _)| id.to_string() == resource).map(|(_, of)| of)?;
    if let Some(path) = ["files.", "modes."].iter().find_map(|family| field.strip_prefix(family)) {
        return of.written.get(path).map(|at| format!("somebody else wrote it at {at}"));
    }
    let commands: &[&str] = match field.split('.').next().unwrap_or_default() {
        "settings" => &["config|set", "config|rewrite"],
        "users" => &["acl|setuser", "acl|deluser", "acl|load"],
        "server" if field == "server.functions" => &["function|load", "function|delete", "function|flush"],
        "server" if field == "server.modules" => &["module|load"],
        "server" if field == "server.role" => &["replicaof"],
        "server" => &[],
        _ => return of.made.as_deref().map(|at| format!("the container was made at {}", second(at))),
    };
    let started = of.started.as_deref().map(|at| format!("the server started at {}", second(at)))?;
    Some(match taken(of, commands) {
        said if said.is_empty() => started,
        said => format!("{started} and has taken {said} since, lockstep's own among them"),
    })
}

fn taken(of: &Since, commands: &[&str]) -> String {
    let counted = commands.iter().filter_map(|command| Some((command, *of.commands.get(*command)?)));
    let said = counted.filter(|(_, calls)| *calls > 0).map(|(command, calls)| {
        let times = if calls == 1 { "once".to_owned() } else { format!("{calls} times") };
        format!("`{}` {times}", command.to_uppercase().replace('|', " "))
    });
    said.collect::<Vec<_>>().join(", ")
}

/// A time of the engine's without its parts of a second.
fn second(at: &str) -> String {
    at.split('.').next().map_or_else(|| at.to_owned(), |head| format!("{}Z", head.trim_end_matches('Z')))
}

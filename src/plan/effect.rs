//! What changing one field costs; one table.

use crate::diff::Change;
use crate::directive;
use crate::plan::Effect;
use crate::state::{Role, Value};

/// How a field of a container is changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Means {
    /// Follows from another change; nothing to do for it.
    None,
    /// `CONFIG SET`.
    Setting,
    /// `ACL LOAD`.
    Users,
    /// The engine changes it in place.
    Update,
    /// The process starts; on the way back, also ends.
    Start,
    Restart,
    Replace,
}

impl Means {
    pub fn effect(self) -> Effect {
        match self {
            Means::None | Means::Setting | Means::Users | Means::Update => Effect::Live,
            Means::Start | Means::Restart => Effect::Restart,
            Means::Replace => Effect::Replace,
        }
    }
}

pub fn of(change: &Change) -> Means {
    let field = change.field.as_str();
    if let Some(directive) = field.strip_prefix("settings.") {
        if matches!(change.before, Some(Value::Unknown(_))) {
            // Nothing is known to be wrong with it; what keeps it from being read is a change of its own.
            return Means::None;
        }
        // Which value a server falls back to, only its start tells.
        let live = directive::is_live(directive) && change.after.is_some();
        return if live { Means::Setting } else { Means::Restart };
    }
    if field.starts_with("users.") {
        return Means::Users;
    }
    match field {
        // Docker 20.10 updates these on a running container.
        "limits.memory" | "limits.cpus" | "limits.pids" | "restart" => Means::Update,
        // It goes with them.
        "engine.memory-swap" | "engine.restart-retries" => Means::Update,
        "running" => Means::Start,
        field if field.starts_with("server.") => Means::None,
        _ => Means::Replace,
    }
}

/// What new files in a service's volumes mean for its process.
pub fn of_file(role: Role, path: &str) -> Means {
    match role {
        // The settings in it are compared one by one.
        Role::Redis if path == "redis.conf" => Means::None,
        Role::Redis if path == "users.acl" || path == crate::desired::OPERATOR_PASSWORD => Means::Users,
        // What an application makes of a file, only its start tells.
        _ => Means::Restart,
    }
}

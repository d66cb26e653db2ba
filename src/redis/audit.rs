//! What the users of a server could do to it, by the server's own categories of commands.

use crate::redis::{Server, ServerError};
use crate::state::User;
use std::collections::{BTreeMap, BTreeSet};

/// Categories that no application needs (`ACL CAT`, since 6.0).
const RISKY: [&str; 3] = ["admin", "dangerous", "scripting"];

impl Server {
    /// Of each enabled user, the commands of the risky categories that its rules and selectors allow.
    pub async fn reach(
        &self,
        users: &BTreeMap<String, User>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, ServerError> {
        let mut risky = BTreeSet::new();
        for category in RISKY {
            let names: Vec<String> = self.ask(::redis::cmd("ACL").arg("CAT").arg(category)).await?;
            risky.extend(names.into_iter().map(|name| name.to_ascii_lowercase()));
        }
        let mut reach = BTreeMap::new();
        for (name, user) in users.iter().filter(|(_, user)| user.enabled) {
            let mut found = BTreeSet::new();
            let selectors = user.selectors.iter().map(|selector| selector.trim_matches(['(', ')']));
            for rules in selectors.chain([user.commands.as_str()]) {
                let allowed = self.commands(rules).await?;
                found.extend(risky.iter().filter(|command| allows(&allowed, command)).cloned());
            }
            reach.insert(name.clone(), found);
        }
        Ok(reach)
    }
}

/// Whether rules that came to these commands allow one; `config|get` is part of `config`.
fn allows(allowed: &BTreeSet<String>, command: &str) -> bool {
    let parent = command.split('|').next().unwrap_or(command);
    let named = |prefix: &str| {
        allowed.contains(&format!("{prefix}{command}")) || allowed.contains(&format!("{prefix}{parent}"))
    };
    let part = || allowed.iter().any(|rule| rule.strip_prefix(command).is_some_and(|rest| rest.starts_with('|')));
    match allowed.contains("@all") {
        true => !named("!"),
        false => named("") || part(),
    }
}

//! What the users of a server could do to it, by the server's own categories of commands.

use crate::acl;
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
        let selectors = |user: &User| -> Vec<String> {
            let selectors = user.selectors.iter().map(|selector| selector.trim_matches(['(', ')']).to_owned());
            selectors.chain([user.commands.clone()]).collect()
        };
        let enabled: Vec<(&String, Vec<String>)> =
            users.iter().filter(|(_, user)| user.enabled).map(|(name, user)| (name, selectors(user))).collect();
        let named = enabled.iter().flat_map(|(_, rules)| rules).flat_map(|rules| acl::categories(rules));
        let known = self.categories(named.chain(RISKY.map(str::to_owned))).await?;
        let risky: BTreeSet<String> =
            RISKY.iter().filter_map(|category| known.get(*category)).flatten().cloned().collect();
        let mut reach = BTreeMap::new();
        for (name, rules) in enabled {
            let mut found = BTreeSet::new();
            for rules in &rules {
                let allowed = acl::commands(rules, &known);
                found.extend(risky.iter().filter(|command| acl::allows(&allowed, command)).cloned());
            }
            reach.insert(name.clone(), found);
        }
        Ok(reach)
    }
}

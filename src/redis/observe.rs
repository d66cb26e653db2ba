//! What a running server says of itself, in the normal form of what is meant.
//!
//! A part that cannot be read is [`Value::Unknown`] with the reason, never left out and never
//! assumed; the rest is still read.

use crate::acl;
use crate::directive;
use crate::redis::{Server, ServerError};
use crate::state::{self, User, Value, Vitals};
use crate::value::{Digest, Secret};
use std::collections::{BTreeMap, BTreeSet};

impl Server {
    /// Settings, users, version, modules, functions and persistence; and what it holds.
    ///
    /// `want` is what it is compared with: rules that amount to the same commands are reported in its words.
    pub async fn observe(&self, want: Option<&state::Server>) -> Result<(state::Server, Vitals), ServerError> {
        let (mut config_command, mut acl_command) = (::redis::cmd("CONFIG"), ::redis::cmd("ACL"));
        let (mut modules_command, mut functions_command) = (::redis::cmd("MODULE"), ::redis::cmd("FUNCTION"));
        let (config, users, info, modules, functions) = tokio::join!(
            self.ask::<Vec<(String, String)>>(config_command.arg("GET").arg("*")),
            self.ask::<Vec<String>>(acl_command.arg("LIST")),
            self.info(),
            self.ask::<::redis::Value>(modules_command.arg("LIST")),
            self.ask::<::redis::Value>(functions_command.arg("LIST").arg("WITHCODE")),
        );
        let info = info?;
        let version = version(&info);
        let mut server = state::Server::default();
        match config {
            Ok(pairs) => {
                for (name, value) in pairs {
                    let name = directive::primary(&name);
                    let value = directive::canonical(&name, &[value]);
                    let value = if directive::is_secret(&name) && !value.is_empty() {
                        Value::Secret(Secret::new(value))
                    } else {
                        Value::Text(value)
                    };
                    server.settings.insert(name, value);
                }
            }
            Err(error) => {
                for name in want.iter().flat_map(|want| want.settings.keys()) {
                    server.settings.insert(name.clone(), Value::Unknown(error.to_string()));
                }
            }
        }
        match users {
            Ok(lines) => server.users = self.users(&lines, want).await?,
            Err(error) => _ = server.facts.insert("users".to_owned(), Value::Unknown(error.to_string())),
        }
        server.facts.insert("version".to_owned(), Value::text(version));
        server.facts.insert("modules".to_owned(), described(modules, false));
        // Functions came with 7.0; before, the command is not known, and that is an answer.
        server.facts.insert("functions".to_owned(), described(functions, true));
        // Valkey calls its mode by its own name.
        let copy = |name: &str| {
            let found = info.get(name).or_else(|| info.get(&name.replace("redis_", "server_")));
            found.map_or_else(|| Value::Unknown("not reported".to_owned()), Value::text)
        };
        for (fact, field) in [
            ("role", "role"),
            ("mode", "redis_mode"),
            ("last-save", "rdb_last_bgsave_status"),
            ("last-append", "aof_last_write_status"),
        ] {
            server.facts.insert(fact.to_owned(), copy(field));
        }
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let keys = info.iter().filter(|(name, _)| name.starts_with("db") && name.len() <= 6);
        let keys = keys.filter_map(|(_, text)| text.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok());
        let vitals = Vitals { keys: keys.sum(), used_memory_bytes: number("used_memory"), unreadable: None };
        Ok((server, vitals))
    }

    async fn users(
        &self,
        lines: &[String],
        want: Option<&state::Server>,
    ) -> Result<BTreeMap<String, User>, ServerError> {
        let mut users = BTreeMap::new();
        for line in lines {
            let Some((name, rules)) = line.strip_prefix("user ").and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let mut user = acl::user(rules);
            if let Some(wanted) = want.and_then(|want| want.users.get(name))
                && wanted.commands != user.commands
                && self.commands(&wanted.commands).await? == self.commands(&user.commands).await?
            {
                user.commands.clone_from(&wanted.commands);
            }
            users.insert(name.to_owned(), user);
        }
        Ok(users)
    }

    /// The commands that rules amount to on this server; a rule for one argument stays a word of its own.
    async fn commands(&self, rules: &str) -> Result<BTreeSet<String>, ServerError> {
        let mut allowed: BTreeSet<String> = BTreeSet::new();
        for rule in rules.split_whitespace() {
            let (add, what) = match rule.split_at_checked(1) {
                Some(("+", what)) => (true, what.to_ascii_lowercase()),
                Some(("-", what)) => (false, what.to_ascii_lowercase()),
                _ => continue,
            };
            if what == "@all" {
                allowed.clear();
                if add {
                    allowed.insert("@all".to_owned());
                }
                continue;
            }
            let commands = match what.strip_prefix('@') {
                Some(category) => self.ask::<Vec<String>>(::redis::cmd("ACL").arg("CAT").arg(category)).await?,
                None => vec![what],
            };
            for command in commands {
                // Taking from everything is told apart from never having given.
                let (yes, no) = (command.clone(), format!("!{command}"));
                let _ = if add { allowed.remove(&no) } else { allowed.remove(&yes) };
                if add {
                    allowed.insert(yes);
                } else if allowed.contains("@all") || command.contains('|') {
                    allowed.insert(no);
                }
                if !add && !command.contains('|') {
                    let children = format!("{command}|");
                    allowed.retain(|rule| !rule.starts_with(&children));
                }
            }
        }
        // With everything allowed, single permissions add nothing; without, nor does taking what was never given.
        let all = allowed.contains("@all");
        allowed.retain(|rule| rule == "@all" || rule.starts_with('!') == all);
        Ok(allowed)
    }
}

/// `redis 7.0.15` or `valkey 8.1.1`: Valkey reports a Redis version too, for old clients.
pub(super) fn version(info: &BTreeMap<String, String>) -> String {
    match (info.get("valkey_version"), info.get("redis_version")) {
        (Some(version), _) => format!("valkey {version}"),
        (None, Some(version)) => format!("redis {version}"),
        (None, None) => "not reported".to_owned(),
    }
}

/// Names where there are any, and a digest of all that was said, so that code is compared and not shown.
fn described(answer: Result<::redis::Value, ServerError>, since_7: bool) -> Value {
    match answer {
        Ok(::redis::Value::Array(items)) if items.is_empty() => Value::text("none"),
        Ok(answer) => {
            let count = match &answer {
                ::redis::Value::Array(items) => items.len(),
                _ => 1,
            };
            let text = format!("{answer:?}");
            Value::text(format!("{count}, sha256:{}", Digest::of(text.as_bytes()).short()))
        }
        Err(ServerError::Refused(why)) if since_7 && why.contains("unknown command") => Value::text("none"),
        Err(error) => Value::Unknown(error.to_string()),
    }
}

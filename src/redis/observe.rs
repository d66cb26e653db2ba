//! What a running server says of itself, in the normal form of what is meant.
//!
//! A part that cannot be read is [`Value::Unknown`] with the reason, never left out and never
//! assumed; the rest is still read.

use crate::acl;
use crate::backup::ServerState;
use crate::directive;
use crate::redis::{Server, ServerError};
use crate::state::{self, User, Value, Vitals};
use crate::value::secret::HIDDEN;
use crate::value::{Digest, Secret};
use futures_util::future;
use std::collections::{BTreeMap, BTreeSet};

impl Server {
    /// Settings, users, version, modules, functions, commands and persistence; and what it holds.
    ///
    /// `want` is what it is compared with: rules that amount to the same commands are reported in its words.
    pub async fn observe(&self, want: Option<&state::Server>) -> Result<(state::Server, Vitals), ServerError> {
        let (mut config_command, mut acl_command) = (::redis::cmd("CONFIG"), ::redis::cmd("ACL"));
        let (mut modules_command, mut functions_command) = (::redis::cmd("MODULE"), ::redis::cmd("FUNCTION"));
        let (config, users, info, modules, functions, commands) = tokio::join!(
            self.ask::<Vec<(String, String)>>(config_command.arg("GET").arg("*")),
            self.ask::<Vec<String>>(acl_command.arg("LIST")),
            self.info(),
            self.ask::<::redis::Value>(modules_command.arg("LIST")),
            self.ask::<::redis::Value>(functions_command.arg("LIST").arg("WITHCODE")),
            self.table(),
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
        server.facts.insert("modules".to_owned(), named(modules, "name", false));
        // Functions came with 7.0; before, the command is not known, and that is an answer.
        server.facts.insert("functions".to_owned(), named(functions, "library_name", true));
        let commands =
            commands.map_or_else(|error| Value::Unknown(error.to_string()), |names| Value::text(names.join(" ")));
        server.facts.insert("commands".to_owned(), commands);
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
        server.facts.insert("replicas".to_owned(), Value::text(replicas(&info).to_string()));
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let vitals = Vitals {
            keys: keys(&info).values().sum(),
            used_memory_bytes: number("used_memory"),
            commands: by_hand(&info),
            unreadable: None,
        };
        Ok((server, vitals))
    }

    /// What belongs to its data and is in no snapshot, and what of it could not be read.
    pub async fn state(&self) -> Result<(ServerState, Vec<String>), ServerError> {
        let (mut config_command, mut acl_command) = (::redis::cmd("CONFIG"), ::redis::cmd("ACL"));
        let mut modules_command = ::redis::cmd("MODULE");
        let (info, config, users, modules) = tokio::join!(
            self.info(),
            self.ask::<Vec<(String, String)>>(config_command.arg("GET").arg("*")),
            self.ask::<Vec<String>>(acl_command.arg("LIST")),
            self.ask::<Vec<BTreeMap<String, ::redis::Value>>>(modules_command.arg("LIST")),
        );
        let mut info = info?;
        let mut missing = Vec::new();
        let mut part = |name: &str, error: ServerError| missing.push(format!("{name} ({error})"));
        let config = config.unwrap_or_else(|error| {
            part("settings", error);
            Vec::new()
        });
        let users = users.unwrap_or_else(|error| {
            part("users", error);
            Vec::new()
        });
        let modules = modules.unwrap_or_else(|error| {
            part("modules", error);
            Vec::new()
        });
        let server = version(&info);
        let counters = ["cmdstat_", "errorstat_", "latency_percentiles_", "eventloop_"];
        info.retain(|name, _| !counters.iter().any(|prefix| name.starts_with(prefix)));
        let name = |module: BTreeMap<String, ::redis::Value>| {
            module.get("name").and_then(|name| ::redis::from_redis_value_ref::<String>(name).ok())
        };
        let modules = modules.into_iter().filter_map(name).collect();
        let hidden = |name: &str, value: String| match directive::is_secret(name) && !value.is_empty() {
            true => HIDDEN.to_owned(),
            false => value,
        };
        let config =
            config.into_iter().map(|(name, value): (String, String)| (name.clone(), hidden(&name, value))).collect();
        Ok((ServerState { format: ServerState::FORMAT, server, config, users, modules, info }, missing))
    }

    /// The names of all commands that it knows, in order: what `rename-command` took away shows nowhere else. One that was given
    /// another name is listed by its own all the same (7.0.15, 8.0.2).
    async fn table(&self) -> Result<Vec<String>, ServerError> {
        let mut names = match self.ask::<Vec<String>>(::redis::cmd("COMMAND").arg("LIST")).await {
            // Before 7.0 there is but the whole table, each command with its name first.
            Err(ServerError::Refused(_)) => {
                let table = self.ask::<Vec<Vec<::redis::Value>>>(&mut ::redis::cmd("COMMAND")).await?;
                let name = |command: Vec<::redis::Value>| ::redis::from_redis_value(command.into_iter().next()?).ok();
                table.into_iter().filter_map(name).collect()
            }
            answer => answer?,
        };
        names.sort();
        Ok(names)
    }

    async fn users(
        &self,
        lines: &[String],
        want: Option<&state::Server>,
    ) -> Result<BTreeMap<String, User>, ServerError> {
        let lines = lines.iter().filter_map(|line| line.strip_prefix("user ")?.split_once(' '));
        let mut users: BTreeMap<String, User> =
            lines.map(|(name, rules)| (name.to_owned(), acl::user(rules))).collect();
        let wanted = |name: &String| want.and_then(|want| want.users.get(name)).map(|user| user.commands.as_str());
        let differing: Vec<(&mut String, &str)> = users
            .iter_mut()
            .filter_map(|(name, user)| Some((&mut user.commands, wanted(name)?)))
            .filter(|(found, wanted)| found.as_str() != *wanted)
            .collect();
        let rules = differing.iter().flat_map(|(found, wanted)| [found.as_str(), *wanted]);
        let known = self.categories(rules.flat_map(acl::categories)).await?;
        for (found, wanted) in differing {
            if acl::commands(wanted, &known) == acl::commands(found, &known) {
                wanted.clone_into(found);
            }
        }
        Ok(users)
    }

    /// The commands of these categories, each asked for once and all at the same time (`ACL CAT`, since 6.0).
    pub(super) async fn categories(
        &self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<acl::Categories, ServerError> {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        let asked = names.into_iter().map(|name| async move {
            let commands = self.ask::<Vec<String>>(::redis::cmd("ACL").arg("CAT").arg(&name)).await?;
            Ok::<_, ServerError>((name, commands.into_iter().map(|command| command.to_ascii_lowercase()).collect()))
        });
        Ok(future::try_join_all(asked).await?.into_iter().collect())
    }
}

/// Keys by database, of those that hold some: `db0:keys=12,expires=0` of `INFO`.
pub fn keys(info: &BTreeMap<String, String>) -> BTreeMap<u64, u64> {
    let count = |(name, text): (&String, &String)| {
        let number = name.strip_prefix("db")?.parse().ok()?;
        let keys = text.strip_prefix("keys=")?.split(',').next()?.parse().ok()?;
        Some((number, keys))
    };
    info.iter().filter_map(count).filter(|(_, keys)| *keys > 0).collect()
}

/// `redis 7.0.15` or `valkey 8.1.1`: Valkey reports a Redis version too, for old clients.
pub fn version(info: &BTreeMap<String, String>) -> String {
    match (info.get("valkey_version"), info.get("redis_version")) {
        (Some(version), _) => format!("valkey {version}"),
        (None, Some(version)) => format!("redis {version}"),
        (None, None) => "not reported".to_owned(),
    }
}

/// Each by its name with a digest of what it is, in an order of its own: code is compared and not shown, and a server lists
/// its functions in another order after every start.
fn named(answer: Result<::redis::Value, ServerError>, name: &str, since_7: bool) -> Value {
    let items = match answer {
        Ok(::redis::Value::Array(items)) => items,
        Ok(answer) => {
            return Value::Unknown(format!("an answer that is no list: {} bytes", format!("{answer:?}").len()));
        }
        Err(ServerError::Refused(why)) if since_7 && why.contains("unknown command") => return Value::text("none"),
        Err(error) => return Value::Unknown(error.to_string()),
    };
    let mut described = Vec::new();
    for item in items {
        let Ok(mut parts) = ::redis::from_redis_value::<BTreeMap<String, ::redis::Value>>(item) else {
            return Value::Unknown("an entry of the list does not read".to_owned());
        };
        // They follow from the code, and their order is as good as random.
        parts.remove("functions");
        let name = parts.remove(name).and_then(|name| ::redis::from_redis_value::<String>(name).ok());
        let digest = Digest::of(format!("{parts:?}").as_bytes());
        described.push(format!("{} sha256:{}", name.unwrap_or_default(), digest.short()));
    }
    described.sort();
    Value::text(if described.is_empty() { "none".to_owned() } else { described.join(", ") })
}

/// Commands by which people change a running server.
const BY_HAND: [&str; 10] = [
    "config|set",
    "config|rewrite",
    "acl|setuser",
    "acl|deluser",
    "acl|load",
    "function|load",
    "function|delete",
    "function|flush",
    "module|load",
    "replicaof",
];

/// How often each of them was called since the server started: `cmdstat_config|set:calls=3,usec=...`.
fn by_hand(info: &BTreeMap<String, String>) -> BTreeMap<String, u64> {
    let calls = |name: &&str| {
        let stat = info.get(&format!("cmdstat_{name}"))?;
        let calls = stat.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
        Some(((*name).to_owned(), calls))
    };
    BY_HAND.iter().filter_map(calls).collect()
}

/// How many servers copy this one for good; lockstep's own copies listen nowhere.
fn replicas(info: &BTreeMap<String, String>) -> usize {
    let slaves = info.iter().filter(|(name, _)| {
        name.strip_prefix("slave").is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
    });
    slaves.filter(|(_, text)| !text.split(',').any(|part| part == "port=0")).count()
}

//! What is known of Redis directives: normal form, aliases, which can change at run time, and how parity treats each.
//!
//! Pure knowledge, from `config.c` of Redis 7.0.15 and the notes of 6.0, 6.2, 7.2 and 8.0. A value
//! takes its normal form once on either side of a comparison, so that comparing is `==`.

use crate::value::{Bytes, Family, ServerVersion};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How parity treats a field that two environments disagree on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    MustMatch,
    /// May differ inside a ratio that the spec declares.
    Scaled,
    /// A difference that the spec declares.
    Declared,
    /// Says where it runs, not what it does.
    Host,
    /// Equality is the mistake: a password shared between environments.
    MustDiffer,
    /// Changes by itself.
    Volatile,
}

/// One line of a configuration file.
#[derive(Clone, Debug, PartialEq)]
pub struct Directive {
    pub name: String,
    pub arguments: Vec<String>,
    /// From 1.
    pub line: usize,
}

/// Directives whose value lockstep decides, with the reason; a spec or a template cannot set them.
pub const FIXED: [(&str, &str); 20] = [
    ("rdbchecksum", "without it no backup can be proven"),
    ("aclfile", "users are declared under `users:`"),
    ("user", "users are declared under `users:`"),
    ("requirepass", "users are declared under `users:`; `CONFIG GET` shows this password in clear"),
    ("masterauth", "`CONFIG GET` shows this password in clear"),
    ("masteruser", "replicas are not part of the spec yet"),
    ("replicaof", "replicas are not part of the spec yet"),
    ("slaveof", "replicas are not part of the spec yet"),
    ("rename-command", "it hides commands from tools; take them away with `users:`"),
    ("include", "the whole configuration is rendered into one file"),
    ("dir", "data lives in the service's volume at /data"),
    ("port", "Redis listens on 6379 inside its network and is not published"),
    ("unixsocket", "Redis is reached over its network only"),
    ("daemonize", "the container's first process must stay in the foreground"),
    ("supervised", "the engine supervises the container"),
    ("pidfile", "the root file system is read-only"),
    ("logfile", "the engine collects the log"),
    ("protected-mode", "it stays on"),
    ("bind", "the network is internal to the environment"),
    ("dbfilename", "backups and restores rely on dump.rdb"),
];

/// The directives that lockstep sets itself, always.
pub const OWN: [(&str, &str); 10] = [
    ("aclfile", "/etc/redis/users.acl"),
    ("bind", "* -::*"),
    ("daemonize", "no"),
    ("dbfilename", "dump.rdb"),
    ("dir", "/data"),
    ("logfile", ""),
    ("port", "6379"),
    ("protected-mode", "yes"),
    ("rdbchecksum", "yes"),
    ("supervised", "no"),
];

/// What a Redis gets unless the spec says otherwise: bounded, durable, closed.
pub fn baseline(server: ServerVersion) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut settings = vec![
        ("appendfsync", vec!["everysec"]),
        // A backup's stream is cut at 256mb by default, just when the data set is large and busy.
        ("client-output-buffer-limit", vec!["replica 512mb 256mb 60"]),
        ("client-query-buffer-limit", vec!["64mb"]),
        ("loglevel", vec!["notice"]),
        ("maxclients", vec!["10000"]),
        // A hand-over that broke off leaves a server that takes no writes; with these everybody sees it.
        ("min-replicas-max-lag", vec!["10"]),
        ("min-replicas-to-write", vec!["0"]),
        // The default makes every backup wait five seconds for company.
        ("repl-diskless-sync", vec!["yes"]),
        ("repl-diskless-sync-delay", vec!["0"]),
        // One pair per line: Redis 6 reads only one. Without any, SIGTERM saves nothing.
        ("save", vec!["3600 1", "300 100"]),
        ("stop-writes-on-bgsave-error", vec!["yes"]),
        ("tcp-keepalive", vec!["300"]),
        ("timeout", vec!["0"]),
    ];
    if server.speaks(6, 2) {
        settings.push(("acl-pubsub-default", vec!["resetchannels"]));
        // Valkey 9.1 knows the name, ignores it, and does not report it.
        if server.family == Family::Redis || server.version < (9, 1, 0) {
            settings.push(("sanitize-dump-payload", vec!["yes"]));
        }
    }
    if server.speaks(7, 0) {
        settings.push(("enable-debug-command", vec!["no"]));
        settings.push(("enable-module-command", vec!["no"]));
        settings.push(("enable-protected-configs", vec!["no"]));
        settings.push(("maxmemory-clients", vec!["10%"]));
        settings.push(("shutdown-timeout", vec!["10"]));
    }
    settings
}

/// What a server does when nobody says otherwise, for the settings that people write and lockstep sets.
///
/// `None` for a setting whose default this does not know, or that the server does not have.
pub fn server_default(name: &str, server: ServerVersion) -> Option<&'static str> {
    let since_seven = server.speaks(7, 0);
    let value = match name {
        "maxmemory" | "timeout" | "latency-monitor-threshold" => "0",
        "maxmemory-clients" if since_seven => "0",
        "maxmemory-policy" => "noeviction",
        "maxmemory-samples" => "5",
        "appendonly" | "activedefrag" | "no-appendfsync-on-rewrite" => "no",
        "lazyfree-lazy-eviction" | "lazyfree-lazy-expire" | "lazyfree-lazy-server-del" => "no",
        "lazyfree-lazy-user-del" | "sanitize-dump-payload" => "no",
        "enable-debug-command" | "enable-module-command" | "enable-protected-configs" if since_seven => "no",
        "appendfsync" => "everysec",
        "aof-use-rdb-preamble" | "rdbcompression" | "rdbchecksum" | "stop-writes-on-bgsave-error" => "yes",
        "acl-pubsub-default" => {
            if since_seven {
                "resetchannels"
            } else {
                "allchannels"
            }
        }
        "auto-aof-rewrite-percentage" => "100",
        "auto-aof-rewrite-min-size" => "64mb",
        "client-output-buffer-limit" => "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
        "client-query-buffer-limit" => "1gb",
        "databases" => "16",
        "hz" | "lfu-log-factor" => "10",
        "lfu-decay-time" | "io-threads" => "1",
        "loglevel" => "notice",
        "maxclients" => "10000",
        "notify-keyspace-events" => "",
        "repl-diskless-sync" => {
            if since_seven {
                "yes"
            } else {
                "no"
            }
        }
        "repl-diskless-sync-delay" => "5",
        "save" if since_seven => "3600 1 300 100 60 10000",
        "save" => "900 1 300 10 60 10000",
        "shutdown-timeout" if since_seven => "10",
        "slowlog-log-slower-than" => "10000",
        "slowlog-max-len" => "128",
        "tcp-keepalive" => "300",
        _ => return None,
    };
    Some(value)
}

/// A value in normal form as people write it: sizes with their unit.
pub fn shown(name: &str, canonical: &str) -> String {
    match canonical.parse().ok().filter(|_| SIZES.contains(&name)) {
        Some(bytes @ 1..) => Bytes(bytes).to_string(),
        _ => canonical.to_owned(),
    }
}

/// What lockstep sets itself, as this server understands it.
pub fn own(server: ServerVersion) -> impl Iterator<Item = (&'static str, &'static str)> {
    OWN.into_iter().map(move |(name, value)| match name {
        // A dash for an address that may be missing came with 6.2.
        "bind" if !server.speaks(6, 2) => (name, "0.0.0.0"),
        _ => (name, value),
    })
}

/// The name by which a server knows a directive: some were renamed with 7.0.
pub fn spelled(name: &str, server: ServerVersion) -> String {
    if server.speaks(7, 0) {
        return name.to_owned();
    }
    match name {
        "busy-reply-threshold" => "lua-time-limit".to_owned(),
        _ => name.replace("-max-listpack-", "-max-ziplist-"),
    }
}

/// The name a directive has today; Redis reports some under two names, which would be found twice.
pub fn primary(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "slaveof" => "replicaof".to_owned(),
        "primaryauth" => "masterauth".to_owned(),
        "primaryuser" => "masteruser".to_owned(),
        "lua-time-limit" => "busy-reply-threshold".to_owned(),
        "min-slaves-to-write" => "min-replicas-to-write".to_owned(),
        "min-slaves-max-lag" => "min-replicas-max-lag".to_owned(),
        "repl-ping-slave-period" => "repl-ping-replica-period".to_owned(),
        "cluster-slave-validity-factor" => "cluster-replica-validity-factor".to_owned(),
        "cluster-slave-no-failover" => "cluster-replica-no-failover".to_owned(),
        _ => match name.strip_prefix("slave-") {
            Some(rest) => format!("replica-{rest}"),
            // Since 8.0 `server_cpulist` and its like have a second name; the first one is known to all (tried on 7.0.15, 8.0.2).
            None if name.ends_with("-cpulist") => name.replace('-', "_"),
            None if name.contains("-max-ziplist-") => name.replace("-max-ziplist-", "-max-listpack-"),
            None => name,
        },
    }
}

const SIZES: [&str; 13] = [
    "maxmemory",
    "auto-aof-rewrite-min-size",
    "client-query-buffer-limit",
    "proto-max-bulk-len",
    "repl-backlog-size",
    "hll-sparse-max-bytes",
    "stream-node-max-bytes",
    "active-defrag-ignore-bytes",
    "cluster-link-sendbuf-limit",
    "loading-process-events-interval-bytes",
    "maxmemory-clients",
    "hash-max-listpack-value",
    "zset-max-listpack-value",
];

/// What Redis assumes for the classes that a configuration leaves out.
const BUFFER_LIMITS: [(&str, &str); 3] =
    [("normal", "0 0 0"), ("pubsub", "33554432 8388608 60"), ("replica", "268435456 67108864 60")];

/// The normal form of a value: sizes in bytes, pairs in order, aliases resolved.
pub fn canonical(name: &str, values: &[String]) -> String {
    let joined = values.join(" ");
    let text = joined.trim();
    if SIZES.contains(&name) {
        return Bytes::parse(text).map_or_else(|| text.to_owned(), |bytes| bytes.0.to_string());
    }
    match name {
        "save" => {
            let words: Vec<&str> = text.split_whitespace().collect();
            let mut pairs: Vec<String> = words.chunks(2).map(|pair| pair.join(" ")).collect();
            pairs.sort();
            pairs.join(" ")
        }
        "client-output-buffer-limit" => {
            let mut limits: BTreeMap<String, String> =
                BUFFER_LIMITS.map(|(class, limit)| (class.to_owned(), limit.to_owned())).into();
            let words: Vec<&str> = text.split_whitespace().collect();
            for quad in words.chunks(4) {
                let [class, hard, soft, seconds] = quad else { continue };
                let class = if *class == "slave" { "replica" } else { class };
                let bytes = |text: &str| Bytes::parse(text).map_or_else(|| text.to_owned(), |b| b.0.to_string());
                limits.insert(class.to_owned(), format!("{} {} {seconds}", bytes(hard), bytes(soft)));
            }
            limits.iter().map(|(class, limit)| format!("{class} {limit}")).collect::<Vec<_>>().join(" ")
        }
        "notify-keyspace-events" => {
            let expanded = text.replace('A', "g$lshzxetd");
            expanded.chars().collect::<BTreeSet<char>>().into_iter().collect()
        }
        "maxmemory-policy" | "appendfsync" | "loglevel" | "sanitize-dump-payload" | "acl-pubsub-default" => {
            text.to_ascii_lowercase()
        }
        _ => match text.to_ascii_lowercase().as_str() {
            switch @ ("yes" | "no") => switch.to_owned(),
            // A spec may say it the YAML way.
            "true" => "yes".to_owned(),
            "false" => "no".to_owned(),
            _ => text.to_owned(),
        },
    }
}

/// Directives that a running server refuses to change.
const IMMUTABLE: [&str; 36] = [
    "aclfile",
    "always-show-logo",
    "aof_rewrite_cpulist",
    "appenddirname",
    "appendfilename",
    "bgsave_cpulist",
    "bio_cpulist",
    "cluster-config-file",
    "cluster-enabled",
    "cluster-port",
    "daemonize",
    "databases",
    "dbfilename",
    "dir",
    "disable-thp",
    "enable-debug-command",
    "enable-module-command",
    "enable-protected-configs",
    "include",
    "io-threads",
    "io-threads-do-reads",
    "loadmodule",
    "logfile",
    "pidfile",
    "rdbchecksum",
    "rename-command",
    "server_cpulist",
    "set-proc-title",
    "socket-mark-id",
    "supervised",
    "syslog-enabled",
    "syslog-facility",
    "syslog-ident",
    "tcp-backlog",
    "unixsocket",
    "unixsocketperm",
];

/// Whether `CONFIG SET` can change it.
pub fn is_live(name: &str) -> bool {
    !IMMUTABLE.contains(&name)
}

/// Whether `CONFIG GET` reports it; the others exist in the file only.
pub fn is_reported(name: &str) -> bool {
    !["include", "loadmodule", "rename-command", "user"].contains(&name)
}

const SCALED: [&str; 8] = [
    "maxmemory",
    "maxmemory-clients",
    "maxclients",
    "io-threads",
    "io-threads-do-reads",
    "repl-backlog-size",
    "client-output-buffer-limit",
    "tcp-backlog",
];

const HOST: [&str; 20] = [
    "bind",
    "bind-source-addr",
    "port",
    "tls-port",
    "unixsocket",
    "unixsocketperm",
    "dir",
    "pidfile",
    "logfile",
    "daemonize",
    "supervised",
    "set-proc-title",
    "proc-title-template",
    "socket-mark-id",
    "server_cpulist",
    "bio_cpulist",
    "aof_rewrite_cpulist",
    "bgsave_cpulist",
    "cluster-config-file",
    "cluster-port",
];

const MUST_DIFFER: [&str; 4] = ["requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass"];

/// Parity's view of a directive that nobody declared a difference for.
pub fn class(name: &str) -> Class {
    if MUST_DIFFER.contains(&name) {
        Class::MustDiffer
    } else if HOST.contains(&name) || name.starts_with("syslog-") || name.starts_with("cluster-announce-") {
        Class::Host
    } else if SCALED.contains(&name) {
        Class::Scaled
    } else {
        Class::MustMatch
    }
}

/// Whether a value must never be shown.
pub fn is_secret(name: &str) -> bool {
    MUST_DIFFER.contains(&name)
}

/// Reads a configuration file the way the server does; the error is the line and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Directive>, (usize, String)> {
    let mut directives = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = words(line).ok_or((index + 1, "quotes are not closed or not followed by a space".to_owned()))?;
        let mut words = words.into_iter();
        let Some(name) = words.next() else { continue };
        directives.push(Directive { name: name.to_ascii_lowercase(), arguments: words.collect(), line: index + 1 });
    }
    Ok(directives)
}

/// What each directive amounts to: the last one wins, save for those that add up.
pub fn effective(directives: &[Directive]) -> BTreeMap<String, (String, usize)> {
    let mut collected: BTreeMap<String, (Vec<String>, usize)> = BTreeMap::new();
    for directive in directives {
        let name = primary(&directive.name);
        let entry = collected.entry(name.clone()).or_default();
        let empties = directive.arguments.iter().all(String::is_empty);
        if !matches!(name.as_str(), "save" | "client-output-buffer-limit") || empties {
            entry.0.clear();
        }
        entry.0.push(directive.arguments.join(" "));
        entry.1 = directive.line;
    }
    collected.into_iter().map(|(name, (values, line))| (name.clone(), (canonical(&name, &values), line))).collect()
}

/// Splits a line into words as Redis' `sdssplitargs` does.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek().copied() else { return Some(words) };
        let mut word = String::new();
        if first == '"' || first == '\'' {
            chars.next();
            loop {
                match chars.next()? {
                    c if c == first => break,
                    '\\' if first == '"' => word.push(escaped(&mut chars)?),
                    '\\' if chars.peek() == Some(&'\'') => word.extend(chars.next()),
                    c => word.push(c),
                }
            }
            if chars.peek().is_some_and(|c| !c.is_whitespace()) {
                return None;
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

fn escaped(chars: &mut impl Iterator<Item = char>) -> Option<char> {
    Some(match chars.next()? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'a' => '\u{7}',
        'x' => {
            let hex: String = [chars.next()?, chars.next()?].iter().collect();
            char::from(u8::from_str_radix(&hex, 16).ok()?)
        }
        other => other,
    })
}

/// One line of a configuration file; `None` for a value that a line cannot hold.
pub fn line(name: &str, value: &str) -> Option<String> {
    if value.chars().any(char::is_control) {
        return None;
    }
    Some(match value {
        "" => format!("{name} \"\""),
        // Values are written as in redis.conf, where spaces separate arguments.
        value => format!("{name} {value}"),
    })
}

//! What a snapshot says, held against what the server that wrote it says of itself.

use crate::support::typed::{self, Contents, Functions};
use crate::support::{Plain, Scenario, dataset, reading, snapshot};
use lockstep::rdb;
use std::fs;
use std::path::{Path, PathBuf};

const SERVERS: [&str; 7] =
    ["redis:6.0", "redis:6.2", "redis:7.0", "redis:8.0", "valkey:8.1", "valkey:9.0", "valkey:9.1"];

/// Those that can lower the size from which a list's element has a node of its own, need to be allowed to.
fn arguments(server: &str) -> &'static [&'static str] {
    if server.starts_with("redis:6") { &[] } else { &["--enable-debug-command", "yes"] }
}

fn empty(stack: &Scenario, server: &str) -> Plain {
    Plain::start(stack, &format!("lockstep/{server}"), None, arguments(server))
}

fn loaded(stack: &Scenario, server: &str, dump: &[u8]) -> Plain {
    Plain::start(stack, &format!("lockstep/{server}"), Some(dump), arguments(server))
}

/// Our reading of a snapshot against what the server told.
fn agrees(dump: &[u8], contents: &Contents, functions: &Functions) {
    let (read, libraries) = reading::contents(dump);
    for (key, typed) in contents {
        assert_eq!(read.get(key), Some(typed), "{key:?}");
    }
    assert_eq!((read.len(), &libraries), (contents.len(), functions));
    let walked = rdb::walk(dump).expect("an RDB");
    assert!(matches!(walked.checksum, rdb::Checksum::Verified(_)), "{walked:?}");
    assert_eq!(walked.bytes, dump.len() as u64);
    assert_eq!(walked.functions, functions.len() as u64);
    let by_type = walked.databases.iter().map(|(number, database)| (*number, database.by_type.clone())).collect();
    assert_eq!(dataset::counts(contents), by_type);
    for (number, database) in &walked.databases {
        let here = contents.iter().filter(|((of, _), _)| u64::from(*of) == *number);
        let expires = here.filter(|(_, typed)| typed.expires_at_ms.is_some()).count();
        assert_eq!(database.expires, expires as u64, "keys that expire in {number}");
    }
}

fn snapshot_is_what_the_server_holds(test: &'static str, server: &str) {
    let stack = Scenario::new(test);
    let mut plain = empty(&stack, server);
    dataset::fill(&mut plain.redis, server);
    let contents = typed::read_all(&mut plain.redis);
    let functions = typed::functions(&mut plain.redis);
    assert_eq!(typed::from_json(&typed::to_json(&contents, &functions)), (contents.clone(), functions.clone()));

    // By this policy depends what a snapshot says of how a key was used: nothing, idle seconds, or a frequency.
    let mut dumps = Vec::new();
    for policy in ["noeviction", "allkeys-lru", "allkeys-lfu"] {
        plain.redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let dump = plain.save();
        agrees(&dump, &contents, &functions);
        dumps.push(dump);
    }
    let keys = contents.len();
    let more: Vec<usize> = dumps[1..].iter().map(|dump| dump.len().saturating_sub(dumps[0].len())).collect();
    // Seconds take a byte more from 64 on. The numbers beside the data may change in length, too.
    let allowed = [2 * keys..3 * keys + 32, 2 * keys..2 * keys + 32];
    for (more, allowed) in more.iter().zip(allowed) {
        assert!((allowed.start - 32..allowed.end).contains(more), "{more} bytes more for {keys} keys");
    }
    drop(plain);

    for dump in &dumps {
        let (fine, said) = snapshot::check_rdb(&stack, &format!("lockstep/{server}"), dump);
        assert!(fine, "{said}");
        let mut again = loaded(&stack, server, dump);
        same(&typed::read_all(&mut again.redis), &contents);
        assert_eq!(typed::functions(&mut again.redis), functions);
    }

    let mut broken = dumps.swap_remove(0);
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let (fine, said) = snapshot::check_rdb(&stack, &format!("lockstep/{server}"), &broken);
    assert!(!fine, "a flipped bit goes unseen: {said}");
    let log = Plain::try_start(&stack, &format!("lockstep/{server}"), Some(&broken), &[]).err();
    assert!(log.is_some(), "a server loads a snapshot with a flipped bit");
}

/// Panics with the keys that differ: all of both sides is more than a person can read.
fn same(now: &Contents, before: &Contents) {
    let keys = now.keys().chain(before.keys()).collect::<std::collections::BTreeSet<_>>();
    let differing = keys.into_iter().filter(|key| now.get(*key) != before.get(*key));
    let shown: Vec<String> = differing
        .take(3)
        .map(|key| {
            let (now, before) = (format!("{:?}", now.get(key)), format!("{:?}", before.get(key)));
            format!("{} {}\n  {now:.2000}\n  {before:.2000}", key.0, key.1.escape_ascii())
        })
        .collect();
    assert!(shown.is_empty(), "keys that differ, as they are and as they were:\n{}", shown.join("\n"));
}

#[test]
fn redis_6_0_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oracle60", "redis:6.0");
}

#[test]
fn redis_6_2_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oracle62", "redis:6.2");
}

#[test]
fn redis_7_0_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oracle70", "redis:7.0");
}

#[test]
fn redis_8_0_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oracle80", "redis:8.0");
}

#[test]
fn valkey_8_1_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oraclev81", "valkey:8.1");
}

#[test]
fn valkey_9_0_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oraclev90", "valkey:9.0");
}

#[test]
fn valkey_9_1_snapshots_are_what_the_server_holds() {
    snapshot_is_what_the_server_holds("oraclev91", "valkey:9.1");
}

// ---------------------------------------------------------------------------------------------------------------------
// The dumps in tests/rdb
// ---------------------------------------------------------------------------------------------------------------------

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rdb")
}

/// `FIXTURES=1` writes the dumps of `tests/rdb` anew, `FIXTURES=redis:8.6` those of one server. Without it, each is
/// loaded by the server that wrote it, which then has to say what lies beside the dump.
#[test]
fn committed_snapshots_are_what_their_servers_load() {
    let asked = std::env::var("FIXTURES").ok();
    let writing = asked.is_some();
    let stack = Scenario::new("fixtures");
    // What was written by 9.0 is what 9.1 writes.
    let servers = match asked.as_deref() {
        None | Some("1") => SERVERS.into_iter().filter(|server| *server != "valkey:9.1").collect(),
        Some(server) => vec![server],
    };
    for server in servers {
        for family in dataset::FAMILIES.into_iter().chain(["lfu", "lru"]) {
            let path = fixtures().join(format!("{}-{family}.rdb", server.replace(':', "-")));
            if writing {
                write_fixture(&stack, server, family, &path);
            }
            let Ok(dump) = fs::read(&path) else {
                assert!(family == "functions" && server.starts_with("redis:6"), "no {}", path.display());
                continue;
            };
            let mut plain = loaded(&stack, server, &dump);
            let (contents, functions) = (typed::read_all(&mut plain.redis), typed::functions(&mut plain.redis));
            let json = path.with_extension("json");
            if writing {
                fs::write(&json, typed::to_json(&contents, &functions)).expect("a fixture is written");
                continue;
            }
            agrees(&dump, &contents, &functions);
            let (stored, stored_functions) = typed::from_json(&fs::read_to_string(json).expect("a fixture"));
            same(&contents, &stored);
            assert_eq!(functions, stored_functions, "{}", path.display());
        }
    }
}

fn write_fixture(stack: &Scenario, server: &str, family: &str, path: &Path) {
    let mut plain = empty(stack, server);
    let policy = match family {
        "lfu" => "allkeys-lfu",
        "lru" => "allkeys-lru",
        _ => "noeviction",
    };
    plain.redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]);
    let filled = if policy == "noeviction" { family } else { "expiries" };
    let there = dataset::fill_family(&mut plain.redis, server, filled);
    if policy != "noeviction" {
        dataset::fill_usage(&mut plain.redis);
    }
    if there {
        let dump = plain.save();
        assert!(dump.len() <= 20_000, "{family} of {server} has {} bytes", dump.len());
        fs::write(path, dump).expect("a fixture is written");
    }
}

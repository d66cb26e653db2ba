//! No proven backup, no change: exit 9, and everything is as it was.

use crate::support::{Disk, Ran, Scenario, noise, project};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// All that a refused change must leave as it is.
#[derive(Debug, PartialEq)]
struct Before {
    containers: Vec<(String, String)>,
    files: BTreeMap<String, String>,
    policy: String,
    backups: BTreeSet<String>,
}

fn running() -> Scenario {
    let stack = Scenario::with("backup_refuses", project::small);
    stack.apply("live");
    stack.redis("live").fill(50);
    stack
}

fn state(stack: &Scenario) -> Before {
    Before {
        containers: ["cache", "web", "files"].map(|name| stack.docker.identity(&stack.name("live", name))).into(),
        files: stack.files("live"),
        policy: stack.redis("live").config("maxmemory-policy"),
        backups: below(&stack.path("backups")),
    }
}

/// Every file, by path, and every folder that is named as a backup is; but not the note that a backup failed, and not the
/// ledger.
fn below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("failed-") || name.starts_with("ledger") {
            continue;
        }
        if path.is_file() || name.starts_with("cache-") {
            found.insert(path.display().to_string());
        }
        found.extend(below(&path));
    }
    found
}

/// A change that touches Redis, and the application too.
#[track_caller]
fn refused(stack: &Scenario) -> Ran {
    let before = state(stack);
    let (from, to) = match before.policy.as_str() {
        "allkeys-lru" => ("maxmemory-policy: allkeys-lru", "maxmemory-policy: allkeys-lfu"),
        _ => ("maxmemory-policy: allkeys-lfu", "maxmemory-policy: allkeys-lru"),
    };
    stack.edit(from, to);
    stack.edit("COLOUR: green", "COLOUR: red");
    let ran = stack.run(&["apply", "live"]).exits(9);
    let untouched = ["nothing was changed", "nothing is changed"].iter().any(|said| ran.stderr.contains(said));
    assert!(untouched, "{ran}");
    assert_eq!(state(stack), before, "after: {ran}");
    stack.redis("live").holds(50);
    stack.edit(to, from);
    stack.edit("COLOUR: red", "COLOUR: green");
    ran
}

#[test]
fn a_backup_that_cannot_be_written_or_proven_keeps_the_change_from_starting() {
    let stack = running();

    let away = in_the_way(&stack);
    refused(&stack).says("backups");
    stack.run(&["backup", "create", "live"]).exits(9);
    fs::remove_file(stack.path("backups")).expect("the file goes");

    // Six megabytes that do not compress, into a disk of one.
    let mut redis = stack.redis("live");
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    for number in 0..6 {
        redis.put(&format!("noise:{number}"), &noise(1 << 20));
    }
    fs::create_dir(stack.path("backups")).expect("the folder");
    // What was recorded stays where it is, below the disk.
    let disk = Disk::mount(stack.path("backups"), "size=1m");
    let before = state(&stack);
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["apply", "live"]).exits(9).says("No space left");
    stack.edit("allkeys-lfu", "allkeys-lru");
    assert_eq!(state(&stack).containers, before.containers);
    assert_eq!(state(&stack).files, before.files);
    assert_eq!(below(&stack.path("backups")), BTreeSet::new(), "nothing half-written is left");
    assert_eq!(stack.backups("live").len(), 0);
    drop(disk);
    fs::remove_dir_all(stack.path("backups")).expect("the empty folder goes");
    fs::rename(&away, stack.path("backups")).expect("the folder comes back");
    for number in 0..6 {
        redis.ask::<()>(&["DEL", &format!("noise:{number}")]);
    }

    // The password in the volume is not the one that the server wants.
    redis.ask::<()>(&["ACL", "SETUSER", "lockstep", "resetpass", ">another"]);
    refused(&stack);
    stack.run(&["backup", "create", "live"]).exits(9);
    assert_eq!(stack.backups("live").len(), 0);
    redis.ask::<()>(&["ACL", "SETUSER", "lockstep", "resetpass", &format!(">{}", stack.lockstep_password("live"))]);

    // May sign in, and may not pull.
    redis.ask::<()>(&["ACL", "SETUSER", "lockstep", "-psync"]);
    let before = state(&stack);
    stack.edit("COLOUR: green", "COLOUR: red");
    stack.run(&["apply", "live"]).exits(9).says("PSYNC");
    stack.edit("COLOUR: red", "COLOUR: green");
    assert_eq!(state(&stack), before);
    redis.ask::<()>(&["ACL", "SETUSER", "lockstep", "+psync"]);

    stack.is_right("live");
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.apply("live");
    assert_eq!(stack.backups("live").len(), 1, "and with all in order it is taken");
    stack.redis("live").holds(50);
}

/// The first backup is taken, the second fails: still nothing was changed.
#[test]
fn one_backup_of_two_is_not_enough() {
    let stack = Scenario::new("backup_of_two");
    let cache = project::redis_only(&stack.stack, "lockstep/redis:7.0");
    let (_, service) = cache.split_once("  cache:\n").expect("a Redis");
    stack.write_spec(&format!("{}  store:\n{service}", cache.trim_end().to_owned() + "\n"));
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    stack.redis("live").fill(10);
    let address = stack.docker.address(&stack.name("live", "store"), &stack.name("live", "private"));
    let hand = stack.password("live", "hand");
    let mut store = crate::support::Redis::connect(&address, "hand", &hand).expect("the other Redis");
    store.fill(10);
    store.ask::<()>(&["ACL", "SETUSER", "lockstep", "-psync"]);
    let spec = stack.read("environments/stack.yaml");
    stack.write("environments/stack.yaml", &spec.replace("allkeys-lru", "allkeys-lfu"));
    let files = stack.files("live");
    stack.run(&["apply", "live"]).exits(9);
    assert_eq!(stack.files("live"), files);
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
    assert_eq!(store.config("maxmemory-policy"), "allkeys-lru");
    store.ask::<()>(&["ACL", "SETUSER", "lockstep", "+psync"]);
    stack.apply("live");
    assert_eq!(store.config("maxmemory-policy"), "allkeys-lfu");
    stack.is_right("live");
}

/// No spec can ask for it; somebody with access to the volume can.
#[test]
fn a_snapshot_without_a_checksum_is_no_backup() {
    let stack = Scenario::with("backup_checksum", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    stack.redis("live").fill(50);
    let (files, folder) = (stack.name("live", "files"), "/v/cache.etc.redis/current");
    let right = stack.docker.file(&files, &format!("{folder}/redis.conf"));
    let wrong = [&right[..], b"rdbchecksum no\n"].concat();
    stack.docker.put_file(&files, folder, "redis.conf", &wrong, 999, 0o440);
    stack.docker.restart(&stack.name("live", "cache"));
    assert_eq!(stack.redis_again("live").config("rdbchecksum"), "no");

    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["apply", "live"]).exits(9).says("rdbchecksum");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
    stack.run(&["backup", "create", "live"]).exits(9);
    assert_eq!(stack.backups("live").len(), 0);
    assert_eq!(below(&stack.path("backups")), BTreeSet::new(), "nothing is left of it");

    stack.docker.put_file(&files, folder, "redis.conf", &right, 999, 0o440);
    stack.docker.restart(&stack.name("live", "cache"));
    stack.redis_again("live").holds(50);
    stack.apply("live");
    assert_eq!(stack.backups("live").len(), 1);
    stack.is_right("live");
}

#[test]
fn removing_data_wants_a_backup_too() {
    let stack = running();
    in_the_way(&stack);
    let before = state(&stack);
    stack.run(&["down", "live", "--delete-data", "cache.data", "--yes"]).exits(9);
    stack.run(&["down", "live"]).exits(9);
    assert_eq!(state(&stack), before);
    stack.redis("live").holds(50);
}

#[test]
fn what_a_killed_backup_left_is_not_listed_and_goes_with_the_next() {
    let stack = Scenario::with("backup_leftovers", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    stack.redis("live").fill(50);
    let folder = stack.backup_folder("live");
    for name in ["cache-20200101T000000Z-aaaaaa", "cache-20200101T000000Z-bbbbbb"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    fs::write(folder.join("cache-20200101T000000Z-aaaaaa/partial"), b"REDIS0010 and so").expect("a part");
    fs::write(folder.join("cache-20200101T000000Z-bbbbbb/dump.rdb.000001"), b"a piece").expect("a piece");
    assert_eq!(stack.backups("live").len(), 0);
    let taken = stack.run(&["backup", "create", "live", "--reason", "by hand", "--json"]).ok();
    assert_eq!(taken.json()[0]["keys"], serde_json::json!(50), "{taken}");
    assert_eq!(stack.backups("live").len(), 1);
    let entries = fs::read_dir(&folder).expect("the folder").flatten();
    let backups = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with("ledger")).count();
    assert_eq!(backups, 1, "{:?}", below(&folder));
    // A backup that was damaged since is listed as damaged.
    let id = crate::support::docker::text(&stack.backups("live")[0], "/id");
    fs::write(folder.join(id).join("dump.rdb.000001"), b"cut").expect("a damaged piece");
    stack.run(&["backup", "list", "live"]).exits(3).shows("damaged");
}

/// A file where the folder of the backups was; where the folder is now.
fn in_the_way(stack: &Scenario) -> PathBuf {
    let (folder, away) = (stack.path("backups"), stack.path("backups.away"));
    fs::rename(&folder, &away).expect("the folder is moved");
    fs::write(&folder, "in the way").expect("a file in place of the folder");
    away
}

//! What a running Redis can take at once is given to it at once: no restart, no lost key, and a backup first.

use crate::support::{Scenario, docker, project};
use lockstep::rdb;
use lockstep::value::Digest;
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_live_change_keeps_process_and_keys_and_outlives_a_restart() {
    let stack = Scenario::with("live_setting", project::small);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(200);
    redis.fill_kinds();
    let contents = redis.contents();
    let cache = stack.name("live", "cache");
    let before = [stack.docker.identity(&cache), stack.docker.identity(&stack.name("live", "web"))];
    assert_eq!(stack.backups("live"), Vec::<Value>::new(), "an empty Redis needs no backup");

    stack.edit("maxmemory: 16mb", "maxmemory: 24mb");
    stack.edit("allkeys-lru", "volatile-lfu");
    stack.edit("appendonly: yes\n", "appendonly: yes\n      maxmemory-samples: 7\n");
    stack.edit("limits: { memory: 64mb }\n", "limits: { memory: 80mb, pids: 100 }\n");
    let plan = stack.run(&["plan", "live", "--json"]).exits(3);
    let effects: Vec<String> =
        plan.json()["steps"].as_array().into_iter().flatten().map(|step| docker::text(step, "/effect")).collect();
    assert!(effects.iter().all(|effect| effect == "live"), "{plan}");
    assert_eq!(plan.steps().first().map(String::as_str), Some("backup container/cache"), "{plan}");
    stack.run(&["apply", "live", "--reason", "more room"]).ok();

    let after = [stack.docker.identity(&cache), stack.docker.identity(&stack.name("live", "web"))];
    assert_eq!(before, after, "same containers, same processes");
    redis.still_has(&contents, "on the connection from before");
    in_force(&stack, 24);
    the_backup_is_what_it_says(&stack, 208);
    stack.is_right("live");

    stack.docker.restart(&cache);
    let mut redis = stack.redis_again("live");
    redis.still_has(&contents, "after a restart by hand");
    in_force(&stack, 24);
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();

    // And back: a limit that shrinks goes after the setting that has to fit it.
    stack.edit("maxmemory: 24mb", "maxmemory: 16mb");
    stack.edit("memory: 80mb", "memory: 64mb");
    stack.apply("live");
    in_force_of(&stack, 16, 64);
    assert_eq!(stack.backups("live").len(), 2);
    redis.still_has(&contents, "after the way back");
}

#[test]
fn a_changed_user_is_in_force_at_once_and_after_a_restart() {
    let stack = Scenario::with("live_user", project::small);
    stack.apply("live");
    stack.redis("live").fill(20);
    let cache = stack.name("live", "cache");
    let before = stack.docker.identity(&cache);

    stack.edit(r#"keys: ["page:*"], allow"#, r#"keys: ["news:*"], allow"#);
    stack
        .edit("      hand:", "      guest: { password: hand_password, keys: [\"page:1\"], allow: [get] }\n      hand:");
    stack.apply("live");
    assert_eq!(before, stack.docker.identity(&cache), "the same process");
    let users_are_right = || {
        let mut app = stack.redis_as("live", "app", &stack.password("live", "app"));
        app.ask::<()>(&["SET", "news:one", "1"]);
        app.ask::<()>(&["DEL", "news:one"]);
        assert_eq!(app.refusal(&["GET", "page:1"]).code(), Some("NOPERM"));
        let mut guest = stack.redis_as("live", "guest", &stack.password("live", "hand"));
        guest.ask::<String>(&["GET", "page:1"]);
        assert_eq!(guest.refusal(&["GET", "page:2"]).code(), Some("NOPERM"));
    };
    users_are_right();
    stack.docker.restart(&cache);
    stack.redis_again("live").holds(20);
    users_are_right();
    stack.is_right("live");

    stack.edit("      guest: { password: hand_password, keys: [\"page:1\"], allow: [get] }\n", "");
    stack.apply("live");
    let users: Vec<String> = stack.redis("live").ask(&["ACL", "USERS"]);
    assert_eq!(users, ["app", "default", "hand", "lockstep"]);
}

#[test]
fn a_limit_below_what_is_used_is_announced_with_what_it_evicts() {
    let stack = Scenario::with("live_evicts", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    let mut redis = stack.redis("live");
    for number in 0..32 {
        redis.put(&format!("page:{number}"), &vec![b'x'; 128 << 10]);
    }
    let used: String = redis.ask(&["INFO", "memory"]);
    let used =
        used.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok()).expect("used");
    stack.edit("maxmemory: 16mb", "maxmemory: 3mb");
    let plan = stack.run(&["plan", "live", "--json"]).exits(3).json();
    let steps = plan["steps"].as_array().cloned().unwrap_or_default();
    let evicted: Vec<u64> = steps.iter().filter_map(|step| step["risk"]["evicts"]["bytes"].as_u64()).collect();
    let [evicted] = evicted.as_slice() else { panic!("one step evicts: {plan}") };
    let expected = used - (3 << 20);
    assert!(evicted.abs_diff(expected) < 300_000, "{evicted} announced, {expected} by hand");
    stack.apply("live");
    let left = redis.ask::<u64>(&["DBSIZE"]);
    assert!((1..32).contains(&left), "{left} keys are left");
    assert_eq!(stack.backups("live").first().map(|backup| backup["keys"].clone()), Some(json!(32)));
}

/// The plan calls it live, and live means that nothing notices.
#[test]
fn a_change_of_one_user_costs_no_other_user_its_connection() {
    let stack = Scenario::with("live_connection", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    let mut hand = stack.redis("live");
    hand.ask::<()>(&["SET", "page:1", "1"]);

    stack.edit(r#"keys: ["page:*"], allow"#, r#"keys: ["news:*"], allow"#);
    let plan = stack.run(&["plan", "live", "--json"]).exits(3).json();
    let steps = plan["steps"].as_array().cloned().unwrap_or_default();
    assert!(steps.iter().all(|step| step["effect"] == json!("live")), "{plan}");
    stack.apply("live");
    let answer = hand.try_ask::<String>(&["GET", "page:1"]);
    assert!(answer.is_ok(), "the connection of a user that did not change is gone: {answer:?}");
}

fn in_force(stack: &Scenario, maxmemory: u64) {
    in_force_of(stack, maxmemory, 80);
    let mut redis = stack.redis("live");
    assert_eq!(redis.config("maxmemory-policy"), "volatile-lfu");
    assert_eq!(redis.config("maxmemory-samples"), "7");
}

fn in_force_of(stack: &Scenario, maxmemory: u64, limit: u64) {
    assert_eq!(stack.redis("live").config("maxmemory"), (maxmemory << 20).to_string());
    let report = stack.docker.inspect(&stack.name("live", "cache"));
    assert_eq!(report["HostConfig"]["Memory"], json!(limit << 20));
    assert_eq!(report["HostConfig"]["PidsLimit"], json!(100));
}

fn the_backup_is_what_it_says(stack: &Scenario, keys: u64) {
    let listed = stack.backups("live");
    let [manifest] = listed.as_slice() else { panic!("one backup: {listed:?}") };
    let id = docker::text(manifest, "/id");
    let folder = stack.backup_folder("live").join(&id);
    let dump = stack.exported(&id);
    let walked = rdb::walk(dump.as_slice()).expect("an RDB from its first byte to its checksum");
    assert_eq!(walked.keys(), keys);
    assert!(matches!(walked.checksum, rdb::Checksum::Verified(_)));
    assert_eq!(walked.bytes, dump.len() as u64);
    let mut kinds = crate::support::Redis::kinds();
    *kinds.entry("string".to_owned()).or_default() += 200;
    let image = stack.docker.image_id("lockstep/redis:7.0");
    for (field, expected) in [
        ("state", json!("verified")),
        ("keys", json!(keys)),
        ("expires", json!(2)),
        ("types", json!(kinds)),
        ("databases", json!({ "0": keys })),
        ("change", json!(true)),
        ("encrypted_to", json!([])),
        ("reason", json!("more room")),
        ("stack", json!(stack.stack)),
        ("environment", json!("live")),
        ("service", json!("cache")),
        ("server", json!("redis 7.0.15")),
        ("image", json!(image)),
    ] {
        assert_eq!(manifest[field], expected, "{field} of the manifest");
    }
    let part = &manifest["parts"][0];
    assert_eq!(part["name"], json!("dump.rdb"));
    assert_eq!(part["plain_sha256"], json!(Digest::of(&dump).to_string()));
    assert_eq!(part["plain_bytes"], json!(dump.len()));
    for (name, mode) in [("dump.rdb.000001", 0o600), ("manifest.json", 0o600)] {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = fs::metadata(folder.join(name)).expect("a file of the backup");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name} is for its owner alone");
    }
    let left: Vec<_> = fs::read_dir(&folder).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 3, "snapshot, state and manifest, nothing half-written: {left:?}");
}

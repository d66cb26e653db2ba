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
    stack.edit(r#"keys: ["page:*"], allow"#, r#"keys: ["page:*", "news:*"], allow"#);
    stack.edit("limits: { memory: 64mb }\n", "limits: { memory: 80mb, pids: 100 }\n");
    let plan = stack.run(&["plan", "live", "--json"]).exits(3);
    let effects: Vec<String> =
        plan.json()["steps"].as_array().into_iter().flatten().map(|step| docker::text(step, "/effect")).collect();
    assert!(effects.iter().all(|effect| effect == "live"), "{plan}");
    assert_eq!(plan.steps().first().map(String::as_str), Some("backup container/cache"), "{plan}");
    stack.run(&["apply", "live", "--reason", "more room"]).ok();

    let after = [stack.docker.identity(&cache), stack.docker.identity(&stack.name("live", "web"))];
    assert_eq!(before, after, "same containers, same processes");
    assert_eq!(redis.contents(), contents, "the connection outlived it, and so did every key");
    in_force(&stack, 24);
    the_backup_is_what_it_says(&stack, 208);
    stack.is_right("live");

    stack.docker.restart(&cache);
    let mut redis = stack.redis_again("live");
    assert_eq!(redis.contents(), contents, "keys after a restart by hand");
    in_force(&stack, 24);
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();

    // And back: a limit that shrinks goes after the setting that has to fit it.
    stack.edit("maxmemory: 24mb", "maxmemory: 16mb");
    stack.edit("memory: 80mb", "memory: 64mb");
    stack.apply("live");
    in_force_of(&stack, 16, 64);
    assert_eq!(stack.backups("live").len(), 2);
    assert_eq!(redis.contents(), contents);
}

fn in_force(stack: &Scenario, maxmemory: u64) {
    in_force_of(stack, maxmemory, 80);
    let mut redis = stack.redis("live");
    assert_eq!(redis.config("maxmemory-policy"), "volatile-lfu");
    assert_eq!(redis.config("maxmemory-samples"), "7");
    let mut app = stack.redis_as("live", "app", &stack.password("live", "app"));
    app.ask::<()>(&["SET", "news:one", "1"]);
    app.ask::<()>(&["DEL", "news:one"]);
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
    let folder = stack.backup_folder("live").join(docker::text(manifest, "/id"));
    let dump = fs::read(folder.join("dump.rdb")).expect("the snapshot");
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
        ("sha256", json!(Digest::of(&dump).to_string())),
        ("size_bytes", json!(dump.len())),
        ("reason", json!("more room")),
        ("stack", json!(stack.stack)),
        ("environment", json!("live")),
        ("service", json!("cache")),
        ("server", json!("redis 7.0.15")),
        ("image", json!(image)),
        ("file", json!("dump.rdb")),
    ] {
        assert_eq!(manifest[field], expected, "{field} of the manifest");
    }
    for (name, mode) in [("dump.rdb", 0o600), ("manifest.json", 0o600)] {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = fs::metadata(folder.join(name)).expect("a file of the backup");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name} is for its owner alone");
    }
    let left: Vec<_> = fs::read_dir(&folder).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "snapshot and manifest, nothing half-written: {left:?}");
}

//! The same promises on each server that there is an image for.

use crate::support::docker::text;
use crate::support::{Redis, Scenario, project};
use lockstep::rdb;
use serde_json::json;

fn serves(test: &'static str, image: &'static str, server: &str) {
    let stack = Scenario::new(test);
    stack.docker.image_id(image);
    stack.write_spec(&project::redis_only(&stack.stack, image));
    stack.environment("live", "");
    stack.lock();
    assert!(stack.read("environments/stack.lock").contains(&format!("server: {server}")));
    stack.apply("live");
    stack.is_right("live");
    assert_eq!(stack.run(&["apply", "live", "--json"]).ok().steps(), Vec::<String>::new(), "nothing is left to do");

    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    let contents = redis.contents();
    let mut app = stack.redis_as("live", "app", &stack.password("live", "app"));
    assert_eq!(app.ask::<String>(&["GET", "page:7"]), "<p>page 7</p>");
    assert_eq!(app.refusal(&["FLUSHALL"]).code(), Some("NOPERM"));
    assert_eq!(app.refusal(&["SET", "other", "1"]).code(), Some("NOPERM"));
    drop(app);
    stack.is_right("live");

    let before = stack.docker.identity(&stack.name("live", "cache"));
    stack.edit("allkeys-lru", "volatile-ttl");
    stack.edit("maxmemory: 16mb", "maxmemory: 20mb");
    stack.apply("live");
    assert_eq!(redis.config("maxmemory-policy"), "volatile-ttl");
    assert_eq!(redis.config("maxmemory"), (20 << 20).to_string());
    assert_eq!(before, stack.docker.identity(&stack.name("live", "cache")), "without a restart");
    redis.still_has(&contents, "after a live change");

    let backups = stack.backups("live");
    let [manifest] = backups.as_slice() else { panic!("one backup: {backups:?}") };
    let mut kinds = Redis::kinds();
    *kinds.entry("string".to_owned()).or_default() += 100;
    assert_eq!(manifest["types"], json!(kinds));
    assert_eq!(manifest["state"], json!("verified"));
    assert!(text(manifest, "/server").starts_with(server), "{manifest}");
    let dump = stack.exported(&text(manifest, "/id"));
    let walked = rdb::walk(dump.as_slice()).expect("an RDB");
    assert_eq!(walked.keys(), 108);

    stack.edit(r#"keys: ["page:*"], allow"#, r#"keys: ["page:*", "news:*"], allow"#);
    stack.apply("live");
    stack.redis_as("live", "app", &stack.password("live", "app")).ask::<()>(&["SETEX", "news:1", "1", "soon gone"]);
    stack.is_right("live");
    stack.docker.restart(&stack.name("live", "cache"));
    stack.redis_again("live");
    stack.is_right("live");
    assert_eq!(stack.run(&["apply", "live", "--json"]).ok().steps(), Vec::<String>::new());
    stack.wipe("live");
}

#[test]
fn redis_6_0_is_served() {
    serves("redis60", "lockstep/redis:6.0", "redis 6.0.16");
}

#[test]
fn redis_6_2_is_served() {
    serves("redis62", "lockstep/redis:6.2", "redis 6.2.5");
}

#[test]
fn redis_7_0_is_served() {
    serves("redis70", "lockstep/redis:7.0", "redis 7.0.15");
}

#[test]
fn redis_8_0_is_served() {
    serves("redis80", "lockstep/redis:8.0", "redis 8.0");
}

#[test]
fn valkey_8_1_is_served() {
    serves("valkey81", "lockstep/valkey:8.1", "valkey 8.1.1");
}

#[test]
fn valkey_9_0_is_served() {
    serves("valkey90", "lockstep/valkey:9.0", "valkey 9.0.0");
}

#[test]
fn valkey_9_1_is_served() {
    serves("valkey91", "lockstep/valkey:9.1", "valkey 9.1.2");
}

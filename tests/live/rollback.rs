//! What is recorded of changes, and the way back to what was before one of them.

use crate::support::{At, Facts, Fault, Proxy, Scenario, docker, project};
use serde_json::Value;
use std::fs;

fn site(stack: &str) -> String {
    format!("{}\nbackup: {{ to: ../backups, drill: never }}\n", project::site(stack))
}

#[track_caller]
fn changes(stack: &Scenario) -> Vec<(String, String)> {
    let listed = stack.run(&["history", "live", "--json"]).ok().json();
    let changes = listed["changes"].as_array().cloned().unwrap_or_default();
    changes.iter().map(|change| (docker::text(change, "/verb"), docker::text(change, "/outcome"))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(verb, outcome)| ((*verb).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn a_rollback_brings_settings_users_files_limits_and_images_back_and_is_a_change_itself() {
    let stack = Scenario::with("rollback", site);
    stack.run(&["rollback", "live"]).exits(2).says("no change of live");
    stack.apply("live");
    stack.run(&["rollback", "live"]).exits(4).says("lockstep down live");
    let mut redis = stack.redis("live");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.fill(30);
    redis.fill_kinds();
    // The version of its image comes back as well.
    let newer = stack.tag("alphanode/site:1.0", "web", "2.0");
    let before = Facts::of(&stack, "live");

    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.edit("appendonly: yes\n", "appendonly: yes\n      databases: 4\n");
    stack.edit("keys: [\"page:*\"", "keys: [\"news:*\", \"page:*\"");
    stack.edit("limits: { memory: 64mb }\n", "limits: { memory: 80mb }\n");
    stack.edit("WORKERS: \"1\"", "WORKERS: \"2\"");
    stack.edit("alphanode/site:1.0", &newer);
    stack.edit_file("templates/site.toml.tera", "fragment_ttl_seconds = 3600", "fragment_ttl_seconds = 3601");
    stack.lock();
    stack.run(&["apply", "live", "--reason", "all at once"]).ok();
    let after = Facts::of(&stack, "live");
    stack.edit("databases: 4", "databases: 5");
    stack.run(&["apply", "live", "--reason", "one more"]).ok();

    // The newest one, then one by its number.
    let ran = stack.run(&["rollback", "live", "--reason", "one too many"]).ok();
    assert!(ran.stderr.contains("still say otherwise"), "what the files say is said: {ran}");
    after.equal(&Facts::of(&stack, "live"), "the newest change is taken back");
    stack.run(&["rollback", "live", "2", "--reason", "all of it"]).ok();
    before.equal(&Facts::of(&stack, "live"), "change 2 is taken back");

    stack.run(&["rollback", "live", "1"]).exits(4).says("the first one");
    stack.run(&["rollback", "live", "99"]).exits(2).says("no change");
    before.equal(&Facts::of(&stack, "live"), "what cannot be taken back");
    let done = [("apply", "done"), ("apply", "done"), ("apply", "done"), ("rollback", "done"), ("rollback", "done")];
    assert_eq!(changes(&stack), pairs(&done));
    let begin = stack.run(&["history", "show", "live", "--json"]).ok().json()["begin"].clone();
    assert!(docker::text(&begin, "/rolls_back").contains("all-at-once"), "{begin}");
    stack.run(&["history", "verify", "live"]).ok();

    // Every change has a note, and it says how to go back.
    let notes: Vec<String> = fs::read_dir(stack.path("changes"))
        .expect("the notes")
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()).unwrap_or_default())
        .collect();
    assert_eq!(notes.len(), 5);
    assert!(notes.iter().all(|note| !note.contains(&stack.sentinel)), "no secret is in a note");
    let note = notes.iter().find(|note| note.contains("all at once") && note.contains("lockstep rollback live"));
    assert!(note.is_some(), "{notes:?}");
}

#[test]
fn a_server_goes_back_to_an_older_version_with_what_it_holds_now_or_with_what_it_held() {
    let stack = Scenario::with("rollback_image", |stack| {
        project::redis_only(stack, "lockstep/redis:7.0") + "\nbackup: { to: ../backups, drill: never }\n"
    });
    stack.apply("live");
    stack.redis("live").fill(20);
    let version = || stack.redis("live").ask::<String>(&["INFO", "server"]);
    let spec = stack.read("environments/stack.yaml");
    stack.run(&["rollback", "live", "--data"]).exits(4).says("lockstep down live");
    stack.edit("lockstep/redis:7.0", "lockstep/redis:8.0");
    stack.lock();
    stack.run(&["apply", "live", "--reason", "newer"]).ok();
    assert!(version().contains("redis_version:8.0"));
    stack.redis("live").fill(40);
    stack.run(&["rollback", "live", "--reason", "not better"]).ok();
    assert!(version().contains("redis_version:7.0"), "{}", version());
    stack.redis("live").holds(40);
    stack.write_spec(&spec);
    stack.lock();
    stack.is_right("live");

    // And with its data: what it held before the change is there again, and what it held until now is kept.
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["apply", "live", "--reason", "another policy"]).ok();
    stack.redis("live").fill(60);
    let refused = stack.run(&["rollback", "live", "--data"]).exits(4);
    assert!(refused.stderr.contains("--yes"), "data is replaced for somebody who means it: {refused}");
    stack.redis("live").holds(60);
    let ran = stack.run(&["rollback", "live", "--data", "--yes", "--reason", "all of it", "--json"]).ok();
    assert_eq!(ran.json()["restored"][0]["keys_found"], 40, "{ran}");
    stack.redis("live").holds(40);
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
    let shown = stack.run(&["history", "show", "live", "--json"]).ok().json();
    assert_eq!(docker::text(&shown, "/begin/verb"), "rollback");
    assert!(docker::text(&shown, "/begin/rolls_back").contains("another-policy"), "{shown}");
    assert_eq!(shown["end"]["backups"][0]["keys"], 60, "what it held until now: {shown}");
    stack.run(&["history", "verify", "live"]).ok();
    stack.write_spec(&spec);
    stack.is_right("live");
}

#[test]
fn a_change_that_was_killed_is_recorded_by_the_next_run() {
    let stack = Scenario::with("rollback_killed", site);
    stack.apply("live");
    stack.redis("live").ask::<()>(&["FLUSHALL"]);
    stack.redis("live").fill(20);
    let spec = stack.read("environments/stack.yaml");
    stack.edit("WORKERS: \"1\"", "WORKERS: \"2\"");
    let proxy = Proxy::start();
    proxy.arm(At::Matching("POST", format!("create?name={}", stack.name("live", "web"))), Fault::KillAfter);
    let killed = stack.run_through(&proxy, &["apply", "live", "--reason", "killed"]);
    assert!(killed.signal.is_some(), "{killed}");
    proxy.settle();
    stack.run(&["history", "live"]).ok().says("change 2 is not finished");
    // Somebody thinks better of it: the next change goes elsewhere.
    stack.write_spec(&spec);
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["apply", "live", "--reason", "another"]).ok().says("change 2 did not end");
    assert_eq!(changes(&stack), pairs(&[("apply", "done"), ("apply", "interrupted"), ("apply", "done")]));
    stack.is_right("live");
    stack.redis("live").holds(20);
    stack.run(&["history", "verify", "live"]).ok();

    // A failure that follows a killed change goes back to the last that was done.
    let before = Facts::of(&stack, "live");
    let spec = stack.read("environments/stack.yaml");
    stack.edit("WORKERS: \"1\"", "WORKERS: \"3\"");
    proxy.arm(At::Matching("POST", format!("create?name={}", stack.name("live", "web"))), Fault::KillBefore);
    assert!(stack.run_through(&proxy, &["apply", "live"]).signal.is_some());
    proxy.settle();
    let ran = stack.run(&["apply", "live", "--expect", "memory(cache) < 1b"]).exits(5);
    stack.write_spec(&spec);
    before.equal(&Facts::of(&stack, "live"), &format!("{ran}"));
    let ends = changes(&stack);
    assert_eq!(ends.get(3..), Some(&pairs(&[("apply", "interrupted"), ("apply", "undone")])[..]));
    stack.is_right("live");
    let entries = stack.run(&["history", "show", "live", "--json"]).ok().json();
    assert_ne!(entries["end"]["problem"], Value::Null, "{entries}");
}

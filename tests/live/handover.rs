//! A Redis is replaced while somebody writes to it as fast as can be: no acknowledged write is lost, and the pause is told.

use crate::support::{Scenario, Writer, docker, project, writer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a machine may stand still, beside a change that takes its time.
const STALL: Duration = Duration::from_secs(60);

/// Room for what is written, and nothing that is thrown out for it.
fn roomy(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
        .replace("maxmemory: 16mb", "maxmemory: 400mb")
        .replace("allkeys-lru", "noeviction")
        .replace("limits: { memory: 64mb }", "limits: { memory: 600mb }")
}

fn handed_over(test: &'static str, keys: usize, change: fn(&Scenario)) {
    let stack = Scenario::with(test, roomy);
    stack.apply("live");
    stack.redis("live").fill(keys);
    let container = stack.docker.identity(&stack.name("live", "cache"));
    change(&stack);
    let writing = Writer::start(&stack, "live");
    let before = writing.so_far();
    let applied = stack.run(&["apply", "live", "--reason", "a newer server"]);
    let meanwhile = writing.so_far() - before;
    let written = writing.end();
    let applied = applied.ok();

    let mut redis = stack.redis("live");
    writer::all_there(&mut redis, &written);
    for number in [0, keys / 2, keys - 1] {
        assert_eq!(redis.ask::<String>(&["GET", &format!("page:{number}")]), format!("<p>page {number}</p>"));
    }
    let all: usize = written.iter().map(|of| of.acknowledged.len()).sum();
    let held = redis.ask::<usize>(&["DBSIZE"]);
    let written_keys = held - keys - written.len();
    assert!(written_keys >= all && written_keys <= all + 100, "{held} keys, {all} acknowledged");

    let (id, _) = stack.docker.identity(&stack.name("live", "cache"));
    assert_ne!(id, container.0, "it is another container");
    only_one_serves(&stack);
    let end = stack.run(&["history", "show", "live", "--json"]).ok().json()["end"].clone();
    assert_eq!(docker::text(&end, "/outcome"), "done");
    let paused = Duration::from_millis(end["writes_paused_ms"].as_u64().unwrap_or_else(|| panic!("a pause: {end}")));
    let gap = written.iter().map(|of| of.gap).max().unwrap_or_default();
    eprintln!(
        "{test}: {all} acknowledged writes beside {keys} keys, {meanwhile} of them during the change of {:.1?}; writes \
         paused for {paused:.0?}, the longest silence that a writer saw was {gap:.0?}",
        applied.elapsed
    );
    // How short is a matter of the machine; that the change is not one long pause is not.
    assert!(paused <= applied.elapsed, "writes paused for {paused:?}: {applied}");
    assert!(gap <= applied.elapsed + STALL, "a writer heard nothing for {gap:?}: {applied}");
    assert!(meanwhile > 0, "nothing was written during the change: {applied}");
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();
}

/// Of the servers of a hand-over one is left, it takes writes, and the volume of the other is kept.
fn only_one_serves(stack: &Scenario) {
    let objects = stack.objects("live");
    let servers: BTreeSet<&str> = objects.iter().filter_map(|object| object.strip_prefix("container cache")).collect();
    assert_eq!(servers, BTreeSet::from([""]), "{objects:?}");
    assert!(!objects.iter().any(|object| object.contains("handover")), "{objects:?}");
    let info: String = stack.redis("live").ask(&["INFO", "replication"]);
    assert!(info.contains("role:master") && info.contains("connected_slaves:0"), "{info}");
    stack.redis("live").ask::<()>(&["SET", "page:last", "1"]);
    for setting in ["masterauth", "masteruser"] {
        assert_eq!(stack.redis("live").config(setting), "", "{setting}");
    }
}

#[test]
fn a_newer_image_takes_over_from_one_that_is_written_to() {
    handed_over("handover_image", 100_000, |stack| {
        stack.edit("lockstep/redis:7.0", "lockstep/redis:8.0");
        stack.lock();
    });
}

#[test]
fn another_limit_on_the_same_image_takes_over_from_one_that_is_written_to() {
    handed_over("handover_limit", 1000, |stack| stack.edit("memory: 600mb }", "memory: 600mb, files: 20000 }"));
}

/// Backwards, where no replication goes: nobody is served for a while, and nothing that was acknowledged is lost.
#[test]
fn an_older_image_takes_over_with_what_a_backup_of_that_moment_holds() {
    let stack = Scenario::with("handover_older", |stack| roomy(stack).replace("redis:7.0", "redis:8.0"));
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(20_000);
    redis.fill_kinds();
    stack.edit("lockstep/redis:8.0", "lockstep/redis:7.0");
    stack.lock();
    let plan = stack.run(&["plan", "live"]).exits(3);
    plan.shows("put container/cache aside for a new one on cache.data-2 with its data; nobody is served meanwhile");
    let writing = Writer::start(&stack, "live");
    let applied = stack.run(&["apply", "live", "--reason", "the older server was the better one"]);
    let written = writing.end();
    let applied = applied.ok();
    let mut redis = stack.redis("live");
    let info: String = redis.ask(&["INFO", "server"]);
    assert!(info.contains("redis_version:7.0"), "{info}");
    writer::all_there(&mut redis, &written);
    for (key, kind) in [("page:hash", "hash"), ("page:list", "list"), ("page:zset", "zset"), ("page:stream", "stream")]
    {
        assert_eq!(redis.ask::<String>(&["TYPE", key]), kind, "{key}");
    }
    assert_eq!(redis.ask::<String>(&["HGET", "page:hash", "field"]), "value");
    assert!(redis.ask::<i64>(&["TTL", "page:hash"]) > 80_000, "its expiry goes with it");
    assert_eq!(redis.ask::<String>(&["GET", "page:19999"]), "<p>page 19999</p>");
    only_one_serves(&stack);
    let end = stack.run(&["history", "show", "live", "--json"]).ok().json()["end"].clone();
    assert_eq!(docker::text(&end, "/outcome"), "done");
    assert!(end["downtime_ms"].as_u64().is_some_and(|ms| ms > 0), "how long nobody was served is recorded: {end}");
    assert_eq!(end["backups"].as_array().map(Vec::len), Some(2), "one before and one of the last moment: {applied}");
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();
}

/// A cache that keeps nothing on disk is meant to be empty when it starts again, whatever it was handed over by; and one that gets
/// less room than it takes evicts once it serves, which is no difference.
#[test]
fn a_cache_that_keeps_nothing_is_handed_over_and_starts_empty_all_the_same() {
    let stack = Scenario::with("handover_cache", |stack| {
        project::redis_only(stack, "lockstep/redis:7.0").replace("appendonly: yes", "appendonly: no\n      save: \"\"")
    });
    stack.apply("live");
    stack.redis("live").fill(20_000);
    for image in ["lockstep/redis:8.0", "lockstep/redis:7.0"] {
        let spec = stack.read("environments/stack.yaml");
        let from = if image.ends_with("8.0") { "lockstep/redis:7.0" } else { "lockstep/redis:8.0" };
        stack.write_spec(&spec.replace(from, image));
        stack.lock();
        stack.apply("live");
        stack.redis("live").holds(20_000);
        stack.docker.restart(&stack.name("live", "cache"));
        assert_eq!(stack.redis_again("live").ask::<usize>(&["DBSIZE"]), 0, "after a restart of {image}");
        stack.redis("live").fill(20_000);
    }
    stack.edit("maxmemory: 16mb", "maxmemory: 3mb");
    stack.edit("memory: 64mb }", "memory: 64mb, files: 15000 }");
    stack.apply("live");
    let left = stack.redis("live").ask::<usize>(&["DBSIZE"]);
    assert!(left > 0 && left < 20_000, "what did not fit was evicted: {left} are left");
    stack.is_right("live");
}

/// To and fro, each time on a volume of its own; what was kept can be removed by name and nothing else can.
#[test]
fn volumes_that_a_hand_over_left_are_kept_until_they_are_named() {
    let stack = Scenario::with("handover_volumes", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    stack.redis("live").fill(50);
    stack.edit("memory: 64mb }", "memory: 64mb, files: 15000 }");
    stack.apply("live");
    let kept = |stack: &Scenario| -> BTreeSet<String> {
        let objects = stack.objects("live").into_iter();
        objects.filter(|object| object.starts_with("volume cache.data")).collect()
    };
    assert_eq!(kept(&stack).len(), 2, "{:?}", kept(&stack));
    stack.is_right("live");
    let refused = stack.run(&["plan", "live", "--json"]).ok();
    assert_eq!(refused.json()["steps"], Value::Array(Vec::new()), "{refused}");
    stack.edit("files: 15000", "files: 16000");
    stack.apply("live");
    stack.redis("live").holds(50);
    let left = kept(&stack);
    assert!(left.len() >= 2, "the one in use and the one before: {left:?}");
    stack.is_right("live");
}

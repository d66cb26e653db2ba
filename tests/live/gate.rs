//! What a change needs before it may begin: the environment that it follows, somebody who means it, and the world as its
//! plan saw it.

use crate::support::{Scenario, docker, project};
use std::collections::BTreeSet;
use std::fs;

fn redis(stack: &str) -> String {
    format!("{}\nbackup: {{ to: ../backups, drill: never }}\n", project::redis_only(stack, "lockstep/redis:7.0"))
}

/// `live` with more lines in its file.
fn with(test: &'static str, lines: &str) -> Scenario {
    let stack = Scenario::with(test, redis);
    let text = stack.read("environments/live.yaml");
    stack.write("environments/live.yaml", &format!("{text}{lines}\n"));
    stack
}

#[test]
fn production_takes_only_what_staging_runs_now() {
    let stack = with("gate_follows", "follows: staging");
    stack.environment("staging", "");
    let nothing = BTreeSet::new();
    // Not there at all.
    stack.run(&["apply", "live"]).exits(4).says("live follows staging").says("lockstep apply staging");
    assert_eq!(stack.objects("live"), nothing);
    stack.apply("staging");
    stack.run(&["apply", "live"]).ok().says("staging runs fingerprint");

    // Another spec than staging runs.
    stack.edit("allkeys-lru", "allkeys-lfu");
    let ran = stack.run(&["apply", "live"]).exits(4).says("live follows staging");
    assert!(ran.stderr.contains("maxmemory-policy"), "what differs is shown: {ran}");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
    stack.run(&["apply", "live", "--skip-gate"]).exits(2).says("--reason");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");

    // The same spec, and somebody touched staging.
    stack.apply("staging");
    stack.redis("staging").ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    stack.run(&["apply", "live"]).exits(4).says("live follows staging");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");

    // Past it, for a reason that is kept.
    stack.run(&["apply", "live", "--skip-gate", "--reason", "staging is being looked at"]).ok();
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lfu");
    let begin = stack.run(&["history", "show", "live", "--json"]).ok().json()["begin"].clone();
    assert_eq!(docker::text(&begin, "/reason"), "staging is being looked at");
    assert!(begin["command"].to_string().contains("--skip-gate"), "{begin}");
    stack.run(&["history", "show", "live"]).ok().shows("--skip-gate");
    stack.is_right("live");

    // What is refused is no change, and what has nothing to do needs nobody.
    let changes = stack.run(&["history", "live", "--json"]).ok().json();
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(2), "{changes}");
    stack.run(&["apply", "live"]).ok();
    stack.edit("allkeys-lfu", "volatile-lru");
    stack.apply("staging");
    stack.run(&["apply", "live"]).ok();
}

#[test]
fn a_protected_environment_is_changed_by_somebody_who_says_so_and_why() {
    let stack = with("gate_protected", "protected: true");
    stack.run(&["apply", "live"]).exits(4).says("--yes");
    stack.run(&["apply", "live", "--reason", "first"]).exits(4).says("--yes");
    stack.run(&["apply", "live", "--yes"]).exits(4).says("--reason");
    assert_eq!(stack.objects("live"), BTreeSet::new());
    stack.run(&["apply", "live", "--yes", "--reason", "first"]).ok();
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["apply", "live", "--yes"]).exits(4);
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
    stack.run(&["apply", "live", "--yes", "--reason", "second"]).ok();
    stack.run(&["rollback", "live"]).exits(4);
    stack.run(&["rollback", "live", "--yes", "--reason", "second was wrong"]).ok();
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
}

#[test]
fn a_plan_that_was_written_down_is_carried_out_as_it_is_or_not_at_all() {
    let stack = Scenario::with("gate_plan", redis);
    let file = stack.path("live.plan.json");
    let file = file.to_str().expect("a path of text");
    let written = stack.run(&["plan", "live", "--out", file, "--json"]).exits(3);
    let applied = stack.run(&["apply", file, "--json"]).ok();
    assert_eq!(written.steps(), applied.steps());
    stack.is_right("live");
    // It is done already.
    stack.run(&["apply", file]).exits(4).says("nothing was changed");

    // The world moved.
    let policy = |stack: &Scenario| stack.redis("live").config("maxmemory-policy");
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["plan", "live", "--out", file]).exits(3);
    stack.redis("live").ask::<()>(&["CONFIG", "SET", "maxmemory", "8mb"]);
    stack.run(&["apply", file]).exits(4).says("live is not what it was when the plan was written");
    assert_eq!(policy(&stack), "allkeys-lru");
    stack.redis("live").ask::<()>(&["CONFIG", "SET", "maxmemory", "16mb"]);

    // The spec says something else, also where the steps would be the same.
    stack.edit("allkeys-lfu", "volatile-lfu");
    stack.run(&["apply", file]).exits(4).says("the spec means something else now");
    assert_eq!(policy(&stack), "allkeys-lru");
    stack.edit("volatile-lfu", "allkeys-lfu");
    stack.run(&["apply", file, "--reason", "as it was read"]).ok();
    assert_eq!(policy(&stack), "allkeys-lfu");
    stack.is_right("live");

    // No plan at all, one that was cut off, one that somebody edited.
    let text = stack.read("live.plan.json");
    for (content, code) in [
        ("lockstep: 1", 2),
        ("{}", 2),
        (text.get(..text.len() / 2).expect("a half"), 2),
        (&text.replace("\"format\": 1", "\"format\": 99"), 2),
        (&text.replace("allkeys-lfu", "noeviction"), 4),
    ] {
        fs::write(file, content).expect("a file");
        stack.run(&["apply", file]).exits(code);
    }
    stack.run(&["apply", "./nothing.json"]).exits(2);
    assert_eq!(policy(&stack), "allkeys-lfu");
    stack.is_right("live");
}

//! Two environments of one spec: they match, but for what is declared, and whatever is done to one shows.

use crate::support::docker::text;
use crate::support::{Scenario, project};
use serde_json::{Value, json};

fn two() -> Scenario {
    let stack = Scenario::new("parity");
    let spec = project::small(&stack.stack)
        .replace("maxmemory: 16mb", "maxmemory: \"{{ memory }}\"")
        .replace("COLOUR: green", "COLOUR: \"{{ colour }}\"");
    stack.write_spec(&format!(
        "{spec}\ndifferences:\n  memory: {{ type: size, why: smaller host }}\n  colour: {{ type: text, why: to tell them apart }}\n"
    ));
    stack.environment("one", "memory: 16mb, colour: green");
    stack.environment("two", "memory: 24mb, colour: blue");
    stack.lock();
    let (one, two) = (stack.start(&["apply", "one"], None), stack.start(&["apply", "two"], None));
    one.finish().ok();
    two.finish().ok();
    stack
}

/// What parity finds, as `rule subject`.
#[track_caller]
fn findings(stack: &Scenario) -> Vec<String> {
    let ran = stack.run(&["verify", "one", "two", "--json"]);
    let report = ran.json();
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<String> =
        findings.iter().map(|finding| format!("{} {}", text(finding, "/rule"), text(finding, "/subject"))).collect();
    found.sort();
    assert_eq!(ran.code, if found.is_empty() { 0 } else { 3 }, "{ran}");
    found
}

#[test]
fn two_environments_match_but_for_what_is_declared() {
    let stack = two();
    let report = stack.run(&["verify", "one", "two", "--json"]).ok().json();
    let mut declared: Vec<&Value> = report["declared"].as_array().into_iter().flatten().collect();
    declared.sort_by_key(|declared| text(declared, "/subject"));
    let subjects: Vec<String> = declared.iter().map(|declared| text(declared, "/subject")).collect();
    assert_eq!(
        subjects,
        ["container/cache settings.maxmemory", "container/web env.COLOUR", "volume/cache.etc.redis files.redis.conf"]
    );
    for (index, because, values) in
        [(0, json!(["memory"]), json!(["16777216", "25165824"])), (1, json!(["colour"]), json!(["green", "blue"]))]
    {
        assert_eq!(declared.get(index).map(|declared| &declared["because"]), Some(&because));
        assert_eq!(declared.get(index).map(|declared| &declared["values"]), Some(&values));
    }
    for level in report["levels"].as_array().into_iter().flatten() {
        assert_eq!((&level["findings"], &level["unknown"]), (&json!(0), &json!(0)), "{level}");
        assert!(level["compared"].as_u64().is_some_and(|compared| compared > 0), "every level was looked at: {level}");
    }

    // What is done to one of them by hand.
    stack.redis("one").fill(5);
    assert_eq!(findings(&stack), [""; 0], "data is no difference");
    let mut redis = stack.redis("two");
    redis.ask::<()>(&["CONFIG", "SET", "hz", "50"]);
    assert_eq!(findings(&stack), ["parity container/cache settings.hz"], "a setting that the spec never mentions");
    redis.ask::<()>(&["CONFIG", "SET", "hz", "10"]);
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "20mb"]);
    assert_eq!(findings(&stack), ["parity container/cache settings.maxmemory"], "declared, and not as declared");
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "24mb"]);
    redis.ask::<()>(&["ACL", "SETUSER", "app", "+flushall"]);
    assert_eq!(findings(&stack), ["parity container/cache users.app.commands"]);
    redis.ask::<()>(&["ACL", "SETUSER", "app", "-flushall"]);
    // The rules read differently now, and amount to the same.
    assert_eq!(findings(&stack), [""; 0], "rules that amount to the same commands are the same");
    redis.ask::<String>(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=greet\nredis.register_function('greet', function() return 'hello' end)",
    ]);
    assert_eq!(findings(&stack), ["parity container/cache server.functions"]);
    redis.ask::<()>(&["FUNCTION", "DELETE", "greet"]);
    assert_eq!(findings(&stack), [""; 0]);
    let body = json!({ "Memory": 80 << 20, "MemorySwap": 80 << 20 });
    stack.docker.post(&format!("/containers/{}/update", stack.name("two", "web")), &body);
    assert_eq!(findings(&stack), ["parity container/web limits.memory"]);
    stack.apply("two");
    stack.docker.stop(&stack.name("two", "web"));
    assert!(findings(&stack).contains(&"parity container/web running".to_owned()), "{:?}", findings(&stack));
    stack.apply("two");
    assert_eq!(findings(&stack), [""; 0]);

    // What cannot be read is not equal.
    stack.redis("one").ask::<()>(&["ACL", "SETUSER", "lockstep", "-config|get"]);
    let unread = findings(&stack);
    let settings = unread.iter().filter(|finding| finding.starts_with("unknown container/cache settings.")).count();
    assert!(settings > 10, "{unread:?}");
    stack.redis("one").ask::<()>(&["ACL", "SETUSER", "lockstep", "+config|get"]);
    stack.redis("one").ask::<()>(&["ACL", "SETUSER", "lockstep", "-acl|list"]);
    assert!(findings(&stack).iter().any(|finding| finding.starts_with("unknown ")), "users that cannot be listed");
    stack.docker.restart(&stack.name("one", "cache"));
    stack.redis_again("one");
    assert_eq!(findings(&stack), [""; 0]);

    // One secret for both is the mistake.
    stack.secrets("two", &stack.password("one", "app"), &stack.password("two", "hand"));
    stack.apply("two");
    assert_eq!(
        findings(&stack),
        [
            "shared-secret container/cache users.app.passwords",
            "shared-secret volume/web.run.secrets files.app_password"
        ]
    );
    stack.run(&["down", "two"]).ok();
    assert!(!findings(&stack).is_empty(), "one of them is not there");
    stack.run(&["verify", "one", "one"]).exits(2);
    stack.run(&["verify", "one", "tow"]).exits(2).says("two");
}

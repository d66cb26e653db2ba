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

/// A third environment, on an engine that is not there: it is unknown, which is said, and hides nothing.
#[track_caller]
fn one_that_is_not_there(stack: &Scenario) {
    stack.environment("three", "memory: 16mb, colour: red");
    stack.edit_file("environments/three.yaml", "values:", "engine: unix:///nonexistent/docker.sock\nvalues:");
    let report = stack.run(&["verify", "one", "two", "three", "--json"]).ok().json();
    assert_eq!(report["environments"], json!(["one", "two", "three"]));
    let rows: Vec<&Value> = report["matrix"].as_array().into_iter().flatten().collect();
    assert_eq!(rows.iter().map(|row| row["unknown"].is_string()).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(rows.iter().map(|row| row["read_at"].is_string()).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(report["declared"].as_array().map(Vec::len), Some(3), "the others are compared all the same");
    stack.run(&["verify", "one", "two", "three"]).ok().shows("one and two match: three is unknown");
    stack.run(&["verify", "one", "two", "three", "--strict"]).exits(3);
    stack.run(&["verify", "one", "three"]).exits(7).says("/nonexistent/docker.sock");
    stack.run(&["verify", "three", "two", "one"]).exits(7);

    // The same as files for others, without a secret in any of them.
    for form in ["text", "json", "junit", "sarif", "markdown", "html"] {
        let path = format!("report.{form}");
        let ran = stack.run(&["verify", "one", "two", "three", "--format", form, "--out", &path]).ok();
        assert_eq!(ran.stdout, "", "{form}: the result is in the file");
        let written = stack.read(&path);
        assert!(written.contains("three") && written.contains("/nonexistent/docker.sock"), "{form}: {written}");
        for environment in ["one", "two"] {
            // Its beginning, which no form escapes.
            let password = stack.password(environment, "app");
            let (beginning, _) = password.split_once('&').expect("a password that has to be escaped");
            assert!(!written.contains(beginning), "{form}");
        }
    }
}

/// What they hold is compared when that is asked for, whatever form it is kept in.
#[track_caller]
fn holds_the_same(stack: &Scenario) {
    let [mut one, mut two] = ["one", "two"].map(|environment| stack.redis(environment));
    for redis in [&mut one, &mut two] {
        redis.ask::<()>(&["FLUSHALL"]);
        redis.fill(200);
        redis.fill_kinds();
    }
    // Another order and another encoding of the same.
    two.ask::<()>(&["DEL", "page:set"]);
    two.ask::<()>(&["SADD", "page:set", "y", "x"]);
    let at = one.ask::<i64>(&["PEXPIRETIME", "page:number"]).to_string();
    two.ask::<()>(&["PEXPIREAT", "page:number", &at]);
    let at = one.ask::<i64>(&["PEXPIRETIME", "page:hash"]).to_string();
    two.ask::<()>(&["PEXPIREAT", "page:hash", &at]);
    stack.run(&["verify", "one", "two", "--data"]).ok();
    two.ask::<()>(&["SET", "page:7", "something else"]);
    stack.run(&["verify", "one", "two"]).ok();
    let report = stack.run(&["verify", "one", "two", "--data", "--json"]).exits(3).json();
    let found = report["findings"].as_array().cloned().unwrap_or_default();
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!((text(&found[0], "/rule"), text(&found[0], "/subject")), ("data".into(), "container/cache data".into()));
    assert!(text(&found[0], "/message").contains("values differ, in 1 of 4096 parts"), "{report}");
    assert_eq!(found[0]["seen"]["environment"], "two", "{report}");
    stack.run(&["verify", "one", "--data"]).exits(2);
}

/// What is accepted is set apart until its day has passed.
#[track_caller]
fn accepted(stack: &Scenario) {
    let accept = |until: &str| {
        format!("verify: {{ accept: {{ \"*settings.h*\": {{ why: measured, until: {until} }} }} }}\ndifferences:")
    };
    stack.edit("differences:", &accept("2999-12-31"));
    let report = stack.run(&["verify", "one", "two", "--json"]).ok().json();
    let accepted = &report["accepted"][0];
    assert_eq!(accepted["why"], "measured", "{report}");
    assert_eq!(accepted["finding"]["seen"]["environment"], "two", "{report}");
    assert!(accepted["finding"]["seen"]["at"].is_string(), "{report}");
    stack.edit(&accept("2999-12-31"), &accept("2020-01-01"));
    let found = findings(stack);
    assert_eq!(found, ["acceptance *settings.h*", "parity container/cache settings.hz"], "it expired");
    stack.edit(&accept("2020-01-01"), "differences:");
}

/// A newer server beside an older one: what only one of them can be asked is told once, with both versions.
#[track_caller]
fn of_two_versions(stack: &Scenario) {
    let spec = stack.read("environments/stack.yaml");
    stack.write_spec(&spec.replace("lockstep/redis:7.0", "lockstep/redis:8.0"));
    stack.lock();
    stack.apply("two");
    let report = stack.run(&["verify", "one", "two", "--json"]).exits(3).json();
    let found = report["findings"].as_array().cloned().unwrap_or_default();
    let apart: Vec<&Value> = found.iter().filter(|finding| finding["rule"] == "not-comparable").collect();
    assert_eq!(apart.len(), 1, "{report}");
    assert_eq!(
        (&apart[0]["severity"], text(apart[0], "/expected").starts_with("redis 7.0.")),
        (&json!("warning"), true)
    );
    let message = text(apart[0], "/message");
    assert!(!message.contains("cpulist"), "two names of one setting: {message}");
    for said in ["HGETEX", "`max-new-connections-per-cycle`", "only redis 8.0.", "only redis 7.0."] {
        assert!(message.contains(said), "{said}: {message}");
    }
    let settings = found.iter().filter(|finding| text(finding, "/subject").contains(" settings."));
    let lacking: Vec<&Value> = settings.filter(|finding| text(finding, "/message").contains("absent")).collect();
    assert_eq!(lacking, [&json!(null); 0], "none of them is called a difference");
    stack.write_spec(&spec);
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

    one_that_is_not_there(&stack);
    holds_the_same(&stack);

    // What is done to one of them by hand.
    stack.redis("one").fill(5);
    assert_eq!(findings(&stack), [""; 0], "data is no difference");
    let mut redis = stack.redis("two");
    redis.ask::<()>(&["CONFIG", "SET", "hz", "50"]);
    assert_eq!(findings(&stack), ["parity container/cache settings.hz"], "a setting that the spec never mentions");
    accepted(&stack);
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
    of_two_versions(&stack);
    stack.run(&["verify", "one", "one"]).exits(2);
    stack.run(&["verify", "one", "tow"]).exits(2).says("two");
}

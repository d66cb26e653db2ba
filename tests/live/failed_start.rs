//! A start that fails says so, shows why, and is taken back.

use crate::support::{Scenario, project};
use serde_json::json;

const COMMAND: &str = r#"command: [redis-server, --port, "7000", --save, "", --protected-mode, "no"]"#;

#[test]
fn an_application_that_ends_is_shown_with_its_last_lines() {
    let stack = Scenario::with("failed_app", project::small);
    let ends = "command: [redis-cli, -h, 127.0.0.1, PING]";
    stack.edit(COMMAND, ends);
    // The engine starts it again and again; at which moment one looks must make no difference.
    for attempt in 1..=4 {
        let failed = stack.run(&["apply", "live"]);
        assert_eq!(failed.code, 5, "attempt {attempt}: {failed}");
        assert!(failed.stderr.contains("container/web"), "the culprit is named: {failed}");
        assert!(failed.stderr.contains("Could not connect to Redis"), "with its last lines: {failed}");
        assert!(stack.objects("live").is_empty(), "nothing was there before: {failed}");
    }

    stack.edit(ends, COMMAND);
    stack.apply("live");
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();
}

#[test]
fn a_secret_in_the_log_of_a_failed_start_is_masked() {
    let stack = Scenario::with("failed_secret", project::small);
    // Redis says which line of its configuration it does not understand, secret and all.
    stack.edit(COMMAND, "command: [redis-server, /run/secrets/app_password]");
    let failed = stack.run(&["apply", "live", "--no-undo"]).exits(1).says("container/web");
    let log = stack.docker.logs(&stack.name("live", "web"));
    let password = stack.password("live", "app");
    assert!(log.contains(&password), "the test is about a log that holds the secret: {log}");
    assert!(!failed.stderr.contains(&password), "{failed}");
    assert!(!failed.stderr.contains(&stack.sentinel), "{failed}");
    assert!(failed.stderr.contains("(secret)"), "the line is there, without the secret: {failed}");
}

#[test]
fn a_setting_that_the_server_rejects_at_its_start_is_named_and_can_be_corrected() {
    let stack = Scenario::with("failed_redis", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.edit("allkeys-lru", "allkeys-lra");
    let failed = stack.run(&["apply", "live"]).exits(5).says("container/cache");
    assert!(failed.stderr.contains("allkeys-lra"), "the server's own words: {failed}");
    stack.run(&["verify", "live"]).exits(3);
    stack.edit("allkeys-lra", "allkeys-lru");
    stack.apply("live");
    stack.is_right("live");
}

#[test]
fn a_setting_that_the_running_server_refuses_reaches_no_file() {
    let stack = Scenario::with("failed_set", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    stack.redis("live").fill(10);
    let before = stack.files("live");
    let identity = stack.docker.identity(&stack.name("live", "cache"));
    stack.edit("allkeys-lru", "allkeys-lra");
    stack.run(&["apply", "live"]).exits(5).says("maxmemory-policy");
    assert_eq!(stack.files("live"), before, "a restart would read the old file");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lru");
    stack.docker.restart(&stack.name("live", "cache"));
    stack.redis_again("live").holds(10);
    stack.edit("allkeys-lra", "allkeys-lfu");
    stack.apply("live");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lfu");
    assert_eq!(stack.docker.identity(&stack.name("live", "cache")).0, identity.0);
    stack.is_right("live");
}

/// Started, ended, started again by the engine: at no moment is that a running application.
#[test]
fn an_application_that_ends_over_and_over_does_not_count_as_running() {
    let stack = Scenario::with("failed_loop", project::small);
    stack.edit(COMMAND, r#"command: [redis-cli, --intrinsic-latency, "1"]"#);
    let failed = stack.run(&["apply", "live"]);
    assert_eq!(failed.code, 5, "it runs for a second at a time: {failed}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let stack = Scenario::with("failed_port", project::site);
    let port = crate::support::free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port");
    stack.environment("live", &format!("port: {port}"));
    stack.run(&["apply", "live"]).exits(5).says(&port.to_string());
    drop(listener);
    stack.apply("live");
    stack.is_right("live");
    assert_eq!(stack.run(&["status", "live", "--json"]).ok().json()["environments"][0]["state"], json!("up"));
}

#[test]
fn a_health_page_that_does_not_get_well_ends_the_run_with_what_it_says() {
    let stack = Scenario::with("failed_health", project::site);
    stack.edit("health: { http: /healthz, within: 30s }", "health: { http: /no-such-page, within: 10s }");
    stack.run(&["apply", "live"]).exits(5).says("404");
    stack.edit("health: { http: /no-such-page, within: 10s }", "health: { http: /healthz, within: 30s }");
    stack.apply("live");
    stack.is_right("live");
}

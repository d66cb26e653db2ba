//! What would not start is found before anything is touched: beside what runs, with the data of the backup just taken.

use crate::support::{At, Fault, Proxy, Ran, Scenario, docker, project};
use lockstep::value::Digest;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::thread;

/// Everything that there is of the stack: its objects, the starts of its processes, its networks' and files' identities.
#[derive(Debug, PartialEq)]
struct Facts {
    objects: BTreeSet<String>,
    started: Vec<(String, String)>,
    networks: Vec<String>,
    files: BTreeMap<String, String>,
}

fn facts(stack: &Scenario) -> Facts {
    let objects = stack.docker.labelled(docker::STACK, &stack.stack);
    let of = |kind: &str| -> Vec<String> {
        objects.iter().filter_map(|object| object.strip_prefix(kind).map(str::to_owned)).collect()
    };
    Facts {
        started: of("container ").iter().map(|name| stack.docker.identity(name)).collect(),
        networks: of("network ")
            .iter()
            .map(|name| docker::text(&stack.docker.get(&format!("/networks/{name}")), "/Id"))
            .collect(),
        files: stack.files("live"),
        objects,
    }
}

/// Of a change that cannot work: it ends with 5, says why, and nothing at all is other than before.
#[track_caller]
fn found_beforehand(stack: &Scenario, says: &str) -> Ran {
    let before = facts(stack);
    stack.run(&["plan", "live"]).exits(3).shows(". rehearse ");
    let failed = stack.run(&["apply", "live"]).exits(5).says("the rehearsal failed").says(says);
    assert!(failed.stderr.contains("nothing was touched"), "{failed}");
    assert!(!failed.stderr.contains(&stack.sentinel), "{failed}");
    assert_eq!(facts(stack), before, "{failed}");
    failed
}

/// What a rehearsal of this environment makes has this in its name.
fn called(environment: &str) -> String {
    format!("rehearse-{}", Digest::of(environment.as_bytes()).as_str().get(..6).expect("a digest"))
}

fn left(stack: &Scenario) -> Vec<String> {
    let objects = stack.docker.labelled(docker::STACK, &stack.stack).into_iter();
    objects.filter(|object| object.contains("rehearse-")).collect()
}

#[test]
fn a_server_that_would_not_start_is_found_with_nothing_touched() {
    let stack = Scenario::with("rehearse_redis", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(100);
    let spec = stack.read("environments/stack.yaml");

    stack.edit("allkeys-lru", "allkeys-lra\n      databases: 4");
    found_beforehand(&stack, "allkeys-lra");
    stack.write_spec(&spec);

    // A file of users that the server does not take.
    stack.edit("appendonly: yes", "appendonly: yes\n      databases: 4");
    stack.edit("\"-@dangerous\"", "\"-@dangerous\", \"+no-such-command\"");
    found_beforehand(&stack, "no-such-command");
    stack.write_spec(&spec);

    // An image that knows everything but this directive; and one with no server in it.
    stack.edit("appendonly: yes", "appendonly: yes\n      no-such-directive: 1");
    stack.edit("lockstep/redis:7.0", "lockstep/redis:8.0");
    stack.lock();
    found_beforehand(&stack, "no-such-directive");
    stack.write_spec(&spec);
    stack.edit("lockstep/redis:7.0", "alphanode/site:1.0");
    stack.lock();
    found_beforehand(&stack, "redis-server");
    stack.write_spec(&spec);
    stack.lock();

    redis.holds(100);
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();
    let backups = stack.backups("live").len();
    assert_eq!(backups, 4, "one before each attempt");
}

/// An image that does not say which server it is, and a backup that nobody here can open: an empty server that starts says nothing.
#[test]
fn a_server_that_nobody_knows_is_not_rehearsed_without_its_data() {
    let stack = Scenario::new("rehearse_unknown");
    let key = age::x25519::Identity::generate().to_public();
    let spec = project::redis_only(&stack.stack, "lockstep/redis:7.0");
    stack.write_spec(&format!("{spec}\nbackup: {{ encrypt_to: [{key}] }}\n"));
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    stack.redis("live").fill(20);
    stack.edit("lockstep/redis:7.0", "lockstep/redis:8.0");
    stack.lock();
    let lock = stack.read("environments/stack.lock");
    let unknown: Vec<&str> = lock.lines().filter(|line| !line.contains("server: redis 8")).collect();
    assert!(unknown.len() < lock.lines().count(), "{lock}");
    stack.write("environments/stack.lock", &(unknown.join("\n") + "\n"));
    found_beforehand(&stack, "nobody knows whether the new cache loads its data");
}

#[test]
fn a_server_whose_data_does_not_fit_is_found_with_nothing_touched() {
    let stack = Scenario::with("rehearse_memory", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.edit("maxmemory: 16mb", "maxmemory: 100mb");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 200mb }");
    stack.apply("live");
    let mut redis = stack.redis("live");
    let value = vec![b'x'; 1 << 20];
    for number in 0..60 {
        redis.put(&format!("page:{number}"), &value);
    }
    stack.edit("maxmemory: 100mb", "maxmemory: 8mb\n      databases: 4");
    stack.edit("limits: { memory: 200mb }", "limits: { memory: 24mb }");
    found_beforehand(&stack, "cache did not stay up");
    assert_eq!(redis.ask::<usize>(&["DBSIZE"]), 60);
}

#[test]
fn an_application_that_would_not_work_is_found_with_nothing_touched() {
    let stack = Scenario::with("rehearse_app", project::small);
    stack.apply("live");
    stack.redis("live").fill(10);
    let spec = stack.read("environments/stack.yaml");
    let command = r#"command: [redis-server, --port, "7000", --save, "", --protected-mode, "no"]"#;

    // Up for a second at a time; not there at all; a secret in what it says last.
    stack.edit(command, r#"command: [redis-cli, --intrinsic-latency, "1"]"#);
    found_beforehand(&stack, "web ");
    stack.write_spec(&spec);
    stack.edit(command, "command: [no-such-program]");
    found_beforehand(&stack, "no-such-program");
    stack.write_spec(&spec);
    stack.edit(command, "command: [redis-server, /run/secrets/app_password]");
    let failed = found_beforehand(&stack, "its last");
    assert!(failed.stderr.contains("(secret)"), "{failed}");
    stack.write_spec(&spec);
    stack.is_right("live");
}

#[test]
fn an_application_whose_health_never_comes_is_found_with_nothing_touched() {
    let stack = Scenario::with("rehearse_health", project::site);
    stack.apply("live");
    // What works had its time; what never comes is not waited for that long.
    stack.edit("within: 30s", "within: 4s");
    stack.edit_file("templates/site.toml.tera", "0.0.0.0:8080", "0.0.0.0:8089");
    found_beforehand(&stack, "/healthz");
    // A server that it needs is rehearsed with it, and found to be the one that fails.
    stack.edit_file("templates/site.toml.tera", "0.0.0.0:8089", "0.0.0.0:8080");
    stack.edit("allkeys-lru", "allkeys-lra");
    stack.edit("WORKERS: \"1\"", "WORKERS: \"2\"");
    found_beforehand(&stack, "allkeys-lra");
}

#[test]
fn what_is_changed_live_or_made_anew_is_not_rehearsed_and_neither_is_what_is_switched_off() {
    let stack = Scenario::with("rehearse_not", project::small);
    let proxy = Proxy::start();
    let made = stack.run_through(&proxy, &["apply", "live"]).ok();
    assert!(!made.stderr.contains("rehearse"), "{made}");
    stack.edit("allkeys-lru", "allkeys-lfu");
    let plan = stack.run(&["plan", "live"]).exits(3);
    assert!(!plan.stdout.contains("rehearse"), "{plan}");
    stack.run_through(&proxy, &["apply", "live"]).ok();
    let rehearsed = proxy.mutations().iter().any(|call| call.path.contains("rehearse-"));
    assert!(!rehearsed, "nothing of a rehearsal was asked for");

    stack.edit("apps:", "rehearse: never\n\napps:");
    stack.edit("appendonly: yes", "appendonly: yes\n      databases: 4");
    let plan = stack.run(&["plan", "live"]).exits(3).shows("not rehearsed: cache");
    assert!(plan.steps_are_without("rehearse"), "{plan}");
    stack.apply("live");
    stack.is_right("live");
}

impl Ran {
    fn steps_are_without(&self, word: &str) -> bool {
        !self.stdout.lines().any(|line| line.contains(&format!(". {word} ")))
    }
}

/// Whatever the server keeps its data in, the rehearsal finds all of it.
#[test]
fn the_data_of_the_backup_is_loaded_whatever_the_server_keeps_it_in() {
    let cases = [
        ("lockstep/redis:6.2", "yes"),
        ("lockstep/redis:7.0", "yes"),
        ("lockstep/redis:8.0", "no\n      save: \"3600 1\""),
        ("lockstep/valkey:8.1", "yes"),
    ];
    thread::scope(|scope| {
        for (image, appendonly) in cases {
            scope.spawn(move || {
                let stack = Scenario::with("rehearse_data", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
                stack.edit("lockstep/redis:7.0", image);
                stack.edit("appendonly: yes", &format!("appendonly: {appendonly}"));
                stack.lock();
                stack.apply("live");
                let mut redis = stack.redis("live");
                redis.fill(300);
                redis.fill_kinds();
                let keys = redis.ask::<usize>(&["DBSIZE"]);
                stack.edit("maxmemory: 16mb", "maxmemory: 16mb\n      databases: 4");
                let applied = stack.apply("live");
                let loaded = format!("cache with {keys} of {keys} keys");
                assert!(applied.stderr.contains(&loaded), "{image}: `{loaded}` in {applied}");
                assert_eq!(left(&stack), Vec::<String>::new());
                assert!(applied.stderr.contains("was away for"), "a restart says how long it took: {applied}");
                assert_eq!(stack.redis("live").ask::<usize>(&["DBSIZE"]), keys);
                stack.is_right("live");
            });
        }
    });
}

/// Nothing can be pulled from it; the copy of its volume is what is rehearsed.
#[test]
fn a_server_that_stopped_is_rehearsed_with_the_copy_of_its_volume() {
    let stack = Scenario::with("rehearse_copy", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    stack.redis("live").fill(50);
    stack.docker.stop(&stack.name("live", "cache"));
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 64mb, files: 20000 }");
    let applied = stack.apply("live");
    assert!(applied.stderr.contains("cache with 50 of "), "{applied}");
    stack.redis("live").holds(50);
    stack.is_right("live");
}

/// Killed anywhere, it is found by the next run of the same environment, whatever that run is about, and by no other.
#[test]
fn a_rehearsal_that_is_killed_is_removed_by_the_next_run() {
    let stack = Scenario::with("rehearse_killed", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.environment("other", "");
    stack.apply("live");
    stack.redis("live").fill(20);
    let before = facts(&stack);
    let spec = stack.read("environments/stack.yaml");
    let changed = spec.replace("appendonly: yes", "appendonly: yes\n      databases: 4");
    let name = format!("{}-{}", stack.stack, called("live"));
    let mut story = String::new();
    for (method, path) in [
        ("POST", "/volumes/create".to_owned()),
        ("POST", "/networks/create".to_owned()),
        ("POST", format!("/containers/create?name={name}-files")),
        ("PUT", format!("/containers/{name}-files/archive")),
        ("POST", format!("/containers/create?name={name}-cache")),
        ("POST", format!("/containers/{name}-cache/start")),
        ("DELETE", "/networks/".to_owned()),
    ] {
        stack.write_spec(&changed);
        let proxy = Proxy::start();
        proxy.arm(At::Matching(method, path.clone()), Fault::KillAfter);
        let killed = stack.run_through(&proxy, &["apply", "live"]);
        proxy.settle();
        assert_eq!(killed.signal, Some(Signal::KILL.as_raw()), "{method} {path}: {killed}");
        let _ = writeln!(story, "{method} {path}: {:?}", left(&stack));
        assert!(!left(&stack).is_empty(), "{story}");
        stack.run(&["status", "live"]).ok().shows("up, ");
        stack.run(&["plan", "other"]).exits(3);
        // Nothing to do, but for what the other run left.
        stack.write_spec(&spec);
        stack.apply("live");
        assert_eq!(left(&stack), Vec::<String>::new(), "{story}");
        assert_eq!(facts(&stack), before, "{story}");
    }
    stack.write_spec(&changed);
    stack.apply("live");
    stack.redis("live").holds(20);
    stack.is_right("live");
}

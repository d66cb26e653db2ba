//! Hand-made deviations on a running environment: each is named, nothing else is, and `apply` mends it.

use crate::support::docker::{self, RESOURCE};
use crate::support::{At, Fault, Proxy, Scenario, noise, project, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

struct Drift {
    stack: Scenario,
}

impl Drift {
    fn new(test: &'static str) -> Drift {
        let stack = Scenario::with(test, project::small);
        stack.apply("live");
        stack.redis("live").fill(30);
        stack.is_right("live");
        Drift { stack }
    }

    fn name(&self, resource: &str) -> String {
        self.stack.name("live", resource)
    }

    /// Deviates, expects exactly these findings, applies, expects none, and all keys.
    #[track_caller]
    fn check<S: AsRef<str>>(&self, what: &str, deviate: impl FnOnce(&Drift), expected: &[S]) {
        deviate(self);
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        assert_eq!(self.stack.findings("live"), expected, "findings after: {what}");
        let apply = self.stack.run(&["apply", "live"]);
        assert_eq!(apply.code, 0, "apply after: {what}: {apply}");
        assert_eq!(self.stack.findings("live"), [""; 0], "findings after apply after: {what}");
        self.stack.redis_again("live").holds(30);
    }
}

#[test]
fn what_redis_reports_is_compared_and_mended() {
    let drift = Drift::new("drift_redis");
    let check = |what: &str, words: &[&[&str]], expected: &[String]| {
        drift.check(
            what,
            |drift| {
                let mut redis = drift.stack.redis("live");
                words.iter().for_each(|words| redis.ask::<()>(words));
            },
            expected,
        );
    };
    let one = |field: &str| vec![format!("container/cache {field}")];
    let all_of = |user: &str| {
        ["channels", "commands", "enabled", "keys", "passwords", "selectors", "without-password"]
            .map(|aspect| format!("container/cache users.{user}.{aspect}"))
    };
    let before = drift.stack.docker.identity(&drift.name("cache"));
    check("CONFIG SET", &[&["CONFIG", "SET", "maxmemory", "20mb"]], &one("settings.maxmemory"));
    check(
        "two settings",
        &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"], &["CONFIG", "SET", "save", "60 1"]],
        &[one("settings.maxmemory-policy"), one("settings.save")].concat(),
    );
    check("appendonly off", &[&["CONFIG", "SET", "appendonly", "no"]], &one("settings.appendonly"));
    check("more rights", &[&["ACL", "SETUSER", "app", "+flushall"]], &one("users.app.commands"));
    check("more keys", &[&["ACL", "SETUSER", "app", "~*"]], &one("users.app.keys"));
    check("switched off", &[&["ACL", "SETUSER", "app", "off"]], &one("users.app.enabled"));
    check("one more password", &[&["ACL", "SETUSER", "app", ">let-me-in"]], &one("users.app.passwords"));
    check(
        "no password needed",
        &[&["ACL", "SETUSER", "app", "nopass"]],
        &[one("users.app.passwords"), one("users.app.without-password")].concat(),
    );
    check("a new user", &[&["ACL", "SETUSER", "intruder", "on", "nopass", "~*", "+@all"]], &all_of("intruder"));
    check("a user less", &[&["ACL", "DELUSER", "app"]], &all_of("app"));
    check("the default user on", &[&["ACL", "SETUSER", "default", "on"]], &one("users.default.enabled"));
    assert_eq!(before, drift.stack.docker.identity(&drift.name("cache")), "all of it without a restart");
}

#[test]
fn what_the_engine_reports_is_compared_and_mended() {
    let drift = Drift::new("drift_engine");
    let docker = &drift.stack.docker;
    drift.check(
        "docker update --memory",
        |drift| {
            let body = json!({ "Memory": 96 << 20, "MemorySwap": 96 << 20 });
            docker.post(&format!("/containers/{}/update", drift.name("cache")), &body);
        },
        &["container/cache limits.memory"],
    );
    drift.check(
        "docker update --restart",
        |drift| {
            let body = json!({ "RestartPolicy": { "Name": "always" } });
            docker.post(&format!("/containers/{}/update", drift.name("web")), &body);
        },
        &["container/web restart"],
    );
    drift.check("an app stopped", |drift| docker.stop(&drift.name("web")), &["container/web running"]);
    drift.check("Redis stopped", |drift| docker.stop(&drift.name("cache")), &["container/cache running"]);
    drift.check("an app removed", |drift| docker.remove_container(&drift.name("web")), &["container/web"]);
    drift.check(
        "Redis removed",
        |drift| {
            docker.stop(&drift.name("cache"));
            docker.remove_container(&drift.name("cache"));
        },
        &["container/cache"],
    );
    drift.check(
        "an app taken off its network",
        |drift| {
            let body = json!({ "Container": drift.name("web"), "Force": true });
            docker.post(&format!("/networks/{}/disconnect", drift.name("private")), &body);
        },
        &["container/web networks.private"],
    );
    drift.check(
        "an app put on the bridge",
        |drift| _ = docker.post("/networks/bridge/connect", &json!({ "Container": drift.name("web") })),
        &["container/web networks.bridge"],
    );
    drift.check(
        "an app made anew by hand, without its limits",
        |drift| {
            let report = docker.inspect(&drift.name("web"));
            let mut body = report["Config"].clone();
            body["Hostname"] = json!("");
            body["HostConfig"] = report["HostConfig"].clone();
            let network = json!({ drift.name("private"): { "Aliases": ["web"] } });
            body["NetworkingConfig"] = json!({ "EndpointsConfig": network });
            body["HostConfig"]["Memory"] = json!(0);
            body["HostConfig"]["MemorySwap"] = json!(0);
            body["HostConfig"]["CapDrop"] = json!([]);
            docker.remove_container(&drift.name("web"));
            docker.create_container(&drift.name("web"), &body);
            docker.start(&drift.name("web"));
        },
        &["container/web capabilities.dropped", "container/web limits.memory"],
    );
    drift.check(
        "one container more with the labels",
        |drift| {
            let mut labels = docker.inspect(&drift.name("web"))["Config"]["Labels"].clone();
            labels[RESOURCE] = json!("container/ghost");
            docker.create_container(&drift.name("ghost"), &json!({ "Image": "lockstep/redis:7.0", "Labels": labels }));
        },
        &["container/ghost"],
    );
}

#[test]
fn files_in_the_volumes_are_compared_and_mended() {
    let drift = Drift::new("drift_files");
    let docker = &drift.stack.docker;
    let edited = |volume: &str, name: &str, content: &[u8], owner: u64, mode: u32| {
        docker.put_file(&drift.name("files"), &format!("/v/{volume}/current"), name, content, owner, mode);
    };
    let conf = docker.file(&drift.name("files"), "/v/cache.etc.redis/current/redis.conf");
    let mut longer = conf.clone();
    longer.extend_from_slice(b"maxmemory 1mb\n");
    let before = docker.identity(&drift.name("cache"));
    drift.check(
        "redis.conf edited",
        |_| edited("cache.etc.redis", "redis.conf", &longer, 999, 0o440),
        &["volume/cache.etc.redis files.redis.conf"],
    );
    drift.check(
        "redis.conf writable",
        |_| edited("cache.etc.redis", "redis.conf", &conf, 999, 0o666),
        &["volume/cache.etc.redis modes.redis.conf"],
    );
    drift.check(
        "users.acl edited",
        |_| edited("cache.etc.redis", "users.acl", b"user app on nopass ~* +@all\n", 999, 0o440),
        &["volume/cache.etc.redis files.users.acl"],
    );
    assert_eq!(before, docker.identity(&drift.name("cache")), "Redis was not restarted for it");
    drift.check(
        "one more file",
        |_| edited("cache.etc.redis", "extra.conf", b"port 1\n", 999, 0o440),
        &["volume/cache.etc.redis files.extra.conf", "volume/cache.etc.redis modes.extra.conf"],
    );
    drift.check(
        "a file beside them",
        |_| docker.put_file(&drift.name("files"), "/v/cache.etc.redis", "more.conf", b"port 1\n", 999, 0o440),
        &["volume/cache.etc.redis files.more.conf", "volume/cache.etc.redis modes.more.conf"],
    );
    let web = docker.identity(&drift.name("web"));
    drift.check(
        "a secret edited",
        |_| edited("web.run.secrets", "app_password", b"guess", 65532, 0o400),
        &["volume/web.run.secrets files.app_password"],
    );
    assert_ne!(web.1, docker.identity(&drift.name("web")).1, "the application was restarted to read it");
    let secret = docker.file_inside(&drift.name("web"), "/run/secrets/app_password");
    assert_eq!(secret, drift.stack.password("live", "app").as_bytes());
}

/// `docker container prune` takes every container that does not run, and the one that carries the files never does.
#[test]
fn a_pruned_files_container_is_made_anew() {
    let drift = Drift::new("drift_prune");
    let cache = drift.stack.docker.identity(&drift.name("cache"));
    drift.stack.docker.remove_container(&drift.name("files"));
    let found = drift.stack.run(&["verify", "live", "--json"]).exits(3);
    assert!(found.stdout.contains("container/files"), "what is missing is named: {found}");
    drift.stack.run(&["apply", "live"]).ok();
    drift.stack.is_right("live");
    assert_eq!(cache, drift.stack.docker.identity(&drift.name("cache")), "Redis was left alone");
    drift.stack.redis("live").holds(30);
}

/// A Redis that is cut off cannot be backed up; that is said, and the way out that is offered works.
#[test]
fn a_redis_off_its_network_is_found_and_what_is_advised_helps() {
    let drift = Drift::new("drift_network");
    let docker = &drift.stack.docker;
    let body = json!({ "Container": drift.name("cache"), "Force": true });
    docker.post(&format!("/networks/{}/disconnect", drift.name("private")), &body);
    let found = drift.stack.run(&["verify", "live", "--json"]).exits(3);
    assert!(found.stdout.contains("container/cache networks.private"), "{found}");
    let refused = drift.stack.run(&["apply", "live"]);
    if refused.code != 0 {
        assert_eq!(refused.code, 9, "{refused}");
        assert!(refused.stderr.contains("network"), "the reason is named: {refused}");
        // The advice, whatever it is, must lead back. Restarting is what it says today.
        assert!(!refused.stderr.contains("restart"), "a restart does not put it back on its network: {refused}");
        docker.post(
            &format!("/networks/{}/connect", drift.name("private")),
            &json!({ "Container": drift.name("cache") }),
        );
        drift.stack.apply("live");
    }
    drift.stack.is_right("live");
    drift.stack.redis("live").holds(30);
}

/// Without the right to read settings nothing is proven, and the file in the volume still has the right.
#[test]
fn rights_taken_from_lockstep_are_unknown_and_given_back() {
    let drift = Drift::new("drift_rights");
    drift.stack.redis("live").ask::<()>(&["ACL", "SETUSER", "lockstep", "-config|get"]);
    let found = drift.stack.run(&["verify", "live", "--json"]).exits(3);
    let findings = found.json()["findings"].as_array().cloned().unwrap_or_default();
    let unknown = findings.iter().filter(|finding| finding["rule"] == json!("unknown")).count();
    assert!(unknown > 10, "settings are unknown, not right: {found}");
    assert!(
        findings.iter().any(|finding| docker::text(finding, "/subject") == "container/cache users.lockstep.commands"),
        "{found}"
    );
    let apply = drift.stack.run(&["apply", "live"]);
    assert_eq!(apply.code, 0, "{apply}");
    drift.stack.is_right("live");
    drift.stack.redis_again("live").holds(30);
}

#[test]
fn a_paused_application_is_mended_or_the_way_out_is_named() {
    let drift = Drift::new("drift_paused");
    drift.stack.docker.pause(&drift.name("web"));
    assert_eq!(drift.stack.findings("live"), ["container/web running"]);
    let apply = drift.stack.run(&["apply", "live"]);
    if apply.code != 0 {
        assert!(apply.stderr.contains("unpause"), "{apply}");
        drift.stack.docker.unpause(&drift.name("web"));
    }
    drift.stack.is_right("live");
}

/// Nothing differs from the spec, and still it does not answer: `verify` says so, and `apply` must not say that all
/// is well. A run that is killed between start and readiness leaves just this for the next one.
#[test]
fn an_application_that_does_not_answer_is_no_success() {
    let stack = Scenario::with("drift_silent", project::site);
    stack.apply("live");
    // Stopped in its tracks: to the engine it runs.
    let process = stack.docker.processes(&stack.name("live", "web")).into_iter().next().expect("a process");
    let process = Pid::from_raw(process.cast_signed()).expect("a process id");
    kill_process(process, Signal::STOP).expect("the site runs");
    let findings = stack.findings_at_once("live");
    let apply = stack.run(&["apply", "live"]);
    kill_process(process, Signal::CONT).expect("the site is still there");
    assert_eq!(findings, ["container/web server.health"]);
    assert_ne!(apply.code, 0, "it does not answer its health page: {apply}");
    stack.apply("live");
    stack.is_right("live");
}

/// Between its start and its first answer lie some milliseconds, which is when the run after a killed one comes.
#[test]
fn a_redis_that_does_not_listen_yet_is_no_failure() {
    let stack = Scenario::with("drift_listening", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.apply("live");
    stack.redis("live").fill(30);
    let cache = stack.name("live", "cache");
    let proxy = Proxy::start();
    for attempt in 1..=8 {
        // Held at its look at the container until that has just been started.
        proxy.arm(At::Matching("GET", format!("/containers/{cache}/json")), Fault::Hold);
        let apply = stack.start_through(&proxy, &["apply", "live"]);
        proxy.wait_for_hit();
        stack.docker.restart(&cache);
        proxy.release();
        let apply = apply.finish();
        assert_eq!(apply.code, 0, "attempt {attempt}, right after a restart: {apply}");
    }
    stack.redis_again("live").holds(30);
    stack.is_right("live");
}

/// While it reads its first large value it reports no key at all; that is not the same as having none.
#[test]
fn no_change_starts_without_a_backup_while_redis_loads() {
    let stack = Scenario::with("drift_loading", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.edit("maxmemory: 16mb", "maxmemory: 256mb");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 640mb }");
    stack.edit("appendonly: yes", "appendonly: no");
    stack.apply("live");
    let piece = noise(8 << 20);
    let mut redis = stack.redis("live");
    for key in ["page:0", "page:1"] {
        (0..9).for_each(|_| redis.append(key, &piece));
    }
    for (policy, next) in [("allkeys-lru", "allkeys-lfu"), ("allkeys-lfu", "allkeys-lru")] {
        stack.docker.restart(&stack.name("live", "cache"));
        stack.edit(policy, next);
        let backups = stack.backups("live").len();
        let apply = stack.run(&["apply", "live"]);
        let mut redis = stack.redis_again("live");
        if redis.config("maxmemory-policy") == next {
            assert_eq!(stack.backups("live").len(), backups + 1, "changed without a backup: {apply}");
        } else {
            assert_eq!(apply.code, 9, "nothing was changed: {apply}");
            stack.apply("live");
        }
    }
    for manifest in stack.backups("live") {
        assert_eq!(manifest["keys"], json!(2), "{manifest}");
    }
}

/// A server that was started a moment ago does not listen yet, and one with data reads it first; neither is broken.
#[test]
fn a_redis_that_is_still_starting_is_waited_for_or_said_to_be_loading() {
    let stack = Scenario::with("drift_starting", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.edit("maxmemory: 16mb", "maxmemory: 64mb");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 192mb }");
    stack.apply("live");
    stack.redis("live").fill(200_000);
    for (policy, next) in
        [("allkeys-lru", "allkeys-lfu"), ("allkeys-lfu", "allkeys-lru"), ("allkeys-lru", "allkeys-lfu")]
    {
        stack.docker.restart(&stack.name("live", "cache"));
        stack.edit(policy, next);
        let apply = stack.run(&["apply", "live"]);
        if apply.code != 0 {
            assert_eq!(apply.code, 9, "right after a restart: {apply}");
            assert!(apply.stderr.contains("loading"), "what it lacks is said as it is: {apply}");
            stack.redis_again("live");
            stack.apply("live");
        }
        assert_eq!(stack.redis_again("live").config("maxmemory-policy"), next);
    }
    assert_eq!(stack.redis("live").ask::<usize>(&["DBSIZE"]), 200_000);
    assert_eq!(stack.backups("live").len(), 3);
}

/// A container that ends and is started again and again is not one that runs.
#[test]
fn a_crash_loop_is_found() {
    let drift = Drift::new("drift_loop");
    let docker = &drift.stack.docker;
    let report = docker.inspect(&drift.name("web"));
    let mut body = report["Config"].clone();
    body["HostConfig"] = report["HostConfig"].clone();
    body["Cmd"] = json!(["redis-server", "--no-such-option"]);
    docker.remove_container(&drift.name("web"));
    docker.create_container(&drift.name("web"), &body);
    docker.start(&drift.name("web"));
    until("the container to be found between two starts", || {
        let findings = drift.stack.findings("live");
        assert!(findings.contains(&"container/web command".to_owned()), "{findings:?}");
        findings.contains(&"container/web running".to_owned()).then_some(())
    });
    drift.stack.apply("live");
    drift.stack.is_right("live");
}

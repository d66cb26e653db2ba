//! What a stack does, measured on a real site with a real Redis, and watched.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use lockstep::project::{Scope, load};
use lockstep::store::repository::Repository;
use lockstep::world::probe::keys_of_backup;

use crate::support::{Scenario, docker, project, until};

const BEHAVIOUR: &str = r#"
keys:
  "page:*": { on: cache, type: string, ttl: ..1h }
  "fragment:*": { on: cache, type: string, ttl: ..2h }
  "popular": { on: cache, type: zset }

probes:
  article: { on: web, get: /articles/redis-caching, status: 200, header: { x-cache: HIT }, p95: 60s }
  popular list: { on: cache, as: app, command: [ZREVRANGE, "popular", 0, 9], p99: 60s }

watch: { for: 3s, refuse: ["ERROR", "no memory"], hit_ratio: -50% }
"#;

fn site(stack: &str) -> String {
    project::site(stack) + BEHAVIOUR
}

fn launched(test: &'static str) -> Scenario {
    let stack = Scenario::with(test, site);
    stack.apply("live");
    stack
}

/// One page of the site, asked as a stranger would.
fn visit(stack: &Scenario, path: &str) -> String {
    let ports = stack.docker.inspect(&stack.name("live", "web"));
    let port = docker::text(&ports, "/HostConfig/PortBindings/8080~1tcp/0/HostPort");
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the site listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    page
}

fn found(report: &Value, list: &str, field: &str) -> BTreeSet<String> {
    let items = report[list].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| docker::text(item, &format!("/{field}"))).collect()
}

fn measure(report: &Value, name: &str) -> f64 {
    let measures = report["measures"].as_array().cloned().unwrap_or_default();
    let found = measures.iter().find(|measure| measure["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is measured: {report:#}"));
    found["after"]["value"].as_f64().unwrap_or_else(|| panic!("{name} has a value: {found}"))
}

#[test]
fn a_site_and_its_redis_are_measured_and_expectations_met_and_missed() {
    let stack = launched("probe_measures");
    let mut redis = stack.redis("live");
    redis.ask::<()>(&["ACL", "LOG", "RESET"]);
    let ran =
        stack.run(&["probe", "live", "--json", "--expect", "p95(article) < 60s", "--expect", "keys(page:*) = 1"]).ok();
    let report = ran.json();
    assert_eq!(report["ok"], true, "{ran}");
    assert_eq!(found(&report, "findings", "rule"), BTreeSet::new(), "{ran}");
    assert_eq!(report["expectations"].as_array().map(Vec::len), Some(2));
    for (name, least, most) in [
        ("p50(article)", 0.01, 60_000.0),
        ("p95(article)", 0.01, 60_000.0),
        ("p99(popular list)", 0.001, 60_000.0),
        ("p50(cache.zrevrange)", 0.000_1, 60_000.0),
        ("status(article)", 200.0, 200.0),
        ("hit_ratio(cache)", 0.5, 1.0),
        ("keys(cache)", 3.0, 5.0),
        ("keys(page:*)", 1.0, 1.0),
        ("ttl_coverage(page:*)", 1.0, 1.0),
        ("ttl_coverage(popular)", 0.0, 0.0),
        ("memory(cache)", 300_000.0, 16e6),
    ] {
        let value = measure(&report, name);
        assert!((least..=most).contains(&value), "{name} is {value}");
    }
    let times = &report["capture"]["probes"]["article"]["rounds"];
    let rounds: Vec<usize> =
        times.as_array().into_iter().flatten().filter_map(|round| Some(round.as_array()?.len())).collect();
    assert_eq!(rounds.len(), 4, "{times}");
    assert!(rounds.iter().all(|times| (1..=25).contains(times)), "{rounds:?}");
    let denied: Vec<redis::Value> = redis.ask(&["ACL", "LOG"]);
    assert_eq!(denied, [], "nothing that was asked is denied to who asked it");

    let missed = stack.run(&["probe", "live", "--expect", "p50(article) < 1us"]).exits(3);
    missed.shows("missed  p50(article) < 0.001ms").shows("p95(popular list)");
    stack.run(&["probe", "live", "--expect", "p95(artcle) < 1ms"]).exits(2).says("did you mean `article`?");
    stack.run(&["probe", "live", "--expect", "p95(article) < 1"]).exits(2).says("(character 16)");

    redis.ask::<()>(&["SET", "stray:1", "x"]);
    redis.ask::<()>(&["SET", "page:/forever", "x"]);
    redis.ask::<()>(&["SADD", "fragment:wrong", "x"]);
    redis.ask::<()>(&["EXPIRE", "fragment:wrong", "86400"]);
    stack.edit("x-cache: HIT }, p95: 60s", "x-cache: WARM }, p95: 0.001ms");
    stack.edit(r#"command: [ZREVRANGE, "popular", 0, 9]"#, r#"command: [XSETID, "popular", 1]"#);
    let ran = stack.run(&["probe", "live", "--json"]).exits(3);
    let rules = found(&ran.json(), "findings", "rule");
    let expected = ["key-expiry", "key-type", "keys-without-rule", "probe-bound", "probe-failed", "probe-header"];
    assert_eq!(rules, expected.map(str::to_owned).into(), "{ran}");
    let said = stack.said();
    assert!(!said.contains(&stack.sentinel), "no secret is shown");
    assert!(said.contains("category `write`"), "{said}");
}

#[test]
fn a_probe_goes_on_while_its_password_changes() {
    let stack = launched("probe_password");
    stack.run(&["probe", "live"]).ok();
    // The new one is meant, and the server still has the old one.
    let (app, hand) = (format!("{}new", stack.sentinel), stack.password("live", "hand"));
    stack.secrets("live", &app, &hand);
    stack.run(&["probe", "live"]).ok();
    stack.apply("live");
    stack.run(&["probe", "live"]).ok();
    stack.edit("p99: 60s }", "p99: 60s, enabled: false }");
    stack.run(&["plan", "live"]).ok().shows("probe `popular list` is switched off");
    assert!(!stack.said().contains(&stack.sentinel), "no secret is shown");
}

#[test]
fn a_watch_ends_well_or_with_what_it_found() {
    let stack = launched("probe_watch");
    visit(&stack, "/ERROR-of-before");
    until("the engine to have the line", || {
        stack.docker.logs(&stack.name("live", "web")).contains("/ERROR-of-before").then_some(())
    });
    // For so long that whoever is slow, or stands still for a while, looks more than once.
    stack.edit("watch: { for: 3s", "watch: { for: 40s");
    let quiet = stack.run(&["probe", "live", "--watch", "--json"]).ok();
    let watched = &quiet.json()["watched"];
    assert_eq!(watched["complete"], true, "{quiet}");
    assert!(watched["lasted_ms"].as_u64().is_some_and(|ms| ms >= 40_000), "{watched}");
    assert!(watched["looks"].as_u64().is_some_and(|looks| looks >= 2), "{watched}");

    stack.edit("watch: { for: 40s", "watch: { for: 20m");
    let running = stack.start(&["probe", "live", "--watch", "--json"], None);
    running.says("watching for 20m");
    let said = Instant::now();
    visit(&stack, "/ERROR-of-now");
    let ran = running.finish().exits(3);
    let report = ran.json();
    assert_eq!(found(&report, "findings", "rule"), ["watch-log".to_owned()].into(), "{ran}");
    assert!(ran.stdout.contains("/ERROR-of-now") && !ran.stdout.contains("/ERROR-of-before"), "{ran}");
    assert!(said.elapsed() < Duration::from_secs(600), "it ends with what it finds: {ran}");

    let running = stack.start(&["probe", "live", "--watch", "--json"], None);
    running.says("watching for 20m");
    let process = stack.docker.processes(&stack.name("live", "web")).first().copied().expect("the site's process");
    let process = Pid::from_raw(process.cast_signed()).expect("a process id");
    kill_process(process, Signal::KILL).expect("it runs");
    let ran = running.finish().exits(3);
    assert!(found(&ran.json(), "findings", "rule").contains("watch-crash"), "{ran}");
}

/// With rules for keys and a probe; what there is on the server, its version decides.
fn measured_on(test: &'static str, image: &'static str, times_commands: bool) {
    let stack = Scenario::new(test);
    stack.docker.image_id(image);
    let behaviour = r#"
keys:
  "page:*": { on: cache, type: string }

probes:
  page: { on: cache, as: app, command: [GET, "page:7"], p99: 60s }
"#;
    // Launched without probes, which a launch would ask for keys that are not there yet.
    let spec = project::redis_only(&stack.stack, image);
    stack.write_spec(&spec);
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    stack.write_spec(&(spec + behaviour));
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.ask::<()>(&["ACL", "LOG", "RESET"]);
    redis.ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    let expect = ["probe", "live", "--json", "--expect", "keys(page:*) = 100", "--expect", "slow > 0"];
    let ran = stack.run(&expect).ok();
    let report = ran.json();
    assert_eq!(found(&report, "findings", "rule"), BTreeSet::new(), "{ran}");
    assert!(measure(&report, "p50(page)") > 0.0);
    assert_eq!(measure(&report, "hit_ratio(cache)"), 1.0, "every lookup was the probe's");
    let timed = found(&report, "measures", "name").contains("p50(cache.get)");
    assert_eq!(timed, times_commands, "{ran}");
    assert!(!ran.stdout.contains("page:7"), "of the slow log, only times are kept: {ran}");
    let denied: Vec<redis::Value> = redis.ask(&["ACL", "LOG"]);
    assert_eq!(denied, [], "nothing that was asked is denied to who asked it");
    redis.ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "10000"]);
    stack.is_right("live");

    // A stored backup says the same of the keys as the snapshot did.
    stack.run(&["backup", "create", "live"]).ok();
    let loaded = load(&stack.path(""), Scope::All).expect("the project");
    let project = loaded.project.expect("it is right");
    let environment = project.environment("live").expect("it is there");
    let repository = Repository::open(&project.root, environment).expect("its backups");
    let listed = repository.list().expect("a list");
    let manifest = listed.first().and_then(|backup| backup.manifest.as_ref()).expect("one backup");
    let counted = keys_of_backup(&repository, manifest, environment).expect("a snapshot");
    assert_eq!((counted.rules["page:*"].keys, counted.unruled), (100, 0));
}

#[test]
fn redis_6_0_is_measured() {
    measured_on("probe_redis_6_0", "lockstep/redis:6.0", false);
}

#[test]
fn redis_6_2_is_measured() {
    measured_on("probe_redis_6_2", "lockstep/redis:6.2", false);
}

#[test]
fn redis_8_0_is_measured() {
    measured_on("probe_redis_8_0", "lockstep/redis:8.0", true);
}

#[test]
fn valkey_9_1_is_measured() {
    measured_on("probe_valkey_9_1", "lockstep/valkey:9.1", true);
}

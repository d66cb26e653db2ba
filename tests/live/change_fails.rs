//! A change that fails, in whatever phase, leaves everything as it was: containers, files, settings, users, keys.

use crate::refresh;
use crate::support::{At, Disk, Facts, Fault, Proxy, Ran, Redis, Scenario, Writer, docker, project, writer};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What may be changed, as places of the spec and what comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Settings, a user and a limit of a server that goes on.
    Live,
    /// A setting that needs a restart.
    Restart,
    /// Another application.
    Application,
    /// Another Redis.
    HandOver,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Live, Kind::Restart, Kind::Application, Kind::HandOver];

    fn apply_to(self, spec: &str) -> String {
        let edits: &[(&str, &str)] = match self {
            Kind::Live => &[
                ("allkeys-lru", "allkeys-lfu"),
                ("maxmemory: 16mb", "maxmemory: 24mb"),
                (r#"keys: ["page:*""#, r#"keys: ["news:*", "page:*""#),
                ("limits: { memory: 64mb }", "limits: { memory: 80mb }"),
            ],
            Kind::Restart => &[("appendonly: yes\n", "appendonly: yes\n      databases: 4\n")],
            Kind::Application => &[("WORKERS: \"1\"", "WORKERS: \"2\"")],
            Kind::HandOver => &[("limits: { memory: 64mb }", "limits: { memory: 64mb, files: 20000 }")],
        };
        let mut changed = spec.to_owned();
        for (from, to) in edits {
            assert_eq!(changed.matches(from).count(), 1, "`{from}` stands in the spec once");
            changed = changed.replace(from, to);
        }
        changed
    }
}

/// A site whose Redis has keys that nobody but the test writes; backups are not drilled, which is tested elsewhere.
fn site(stack: &str) -> String {
    let behaviour = r#"
probes:
  pages: { on: cache, as: app, command: [GET, "page:1"] }

backup: { to: ../backups, drill: never }
"#;
    project::site(stack) + behaviour
}

fn launched(test: &'static str) -> Scenario {
    let stack = Scenario::with(test, site);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.fill(20);
    redis.fill_kinds();
    stack
}

/// Runs each job once, each lane on a stack of its own.
fn in_lanes<J: Sync>(jobs: &[J], stacks: &[Scenario], work: impl Fn(&Scenario, &J) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for stack in stacks {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(stack, job);
                }
            });
        }
    });
}

fn several(test: &'static str, lanes: usize) -> Vec<Scenario> {
    thread::scope(|scope| {
        let started: Vec<_> = (0..lanes).map(|_| scope.spawn(|| launched(test))).collect();
        started.into_iter().map(|lane| lane.join().expect("a lane starts")).collect()
    })
}

/// Nothing of it is left, and the next one may begin.
#[track_caller]
fn as_it_was(stack: &Scenario, before: &Facts, when: &str) {
    before.equal(&Facts::of(stack, "live"), when);
    stack.is_right("live");
    assert!(!stack.docker.exists("containers", &stack.name("live", "lock")), "{when}: the lock is free");
    stack.run(&["history", "verify", "live"]).ok();
    let listed = stack.run(&["history", "live", "--json"]).ok().json();
    let unfinished = |change: &&serde_json::Value| change["unfinished"] == serde_json::json!(true);
    let open = listed["changes"].as_array().into_iter().flatten().filter(unfinished).count();
    assert_eq!(open, 0, "{when}: {listed}");
}

#[track_caller]
fn outcome(stack: &Scenario) -> String {
    docker::text(&stack.run(&["history", "show", "live", "--json"]).ok().json(), "/end/outcome")
}

#[test]
fn an_expectation_that_is_missed_takes_every_kind_of_change_back() {
    let stacks = several("fails_expected", 2);
    in_lanes(&Kind::ALL, &stacks, |stack, kind| {
        let before = Facts::of(stack, "live");
        let spec = stack.read("environments/stack.yaml");
        stack.write_spec(&kind.apply_to(&spec));
        let ran = stack.run(&["apply", "live", "--expect", "p50(pages) < 0.0001ms"]).exits(5);
        assert!(ran.stderr.contains("does not do what was expected"), "{ran}");
        assert!(ran.stderr.contains("everything is as it was"), "{ran}");
        stack.write_spec(&spec);
        as_it_was(stack, &before, &format!("{kind:?}: {ran}"));
        assert_eq!(outcome(stack), "undone", "{kind:?}");
        eprintln!("fails_expected: {kind:?} done and taken back in {:.1?}", ran.elapsed);
    });

    // What had been stopped before, a change starts, and the way back stops it again.
    let [stack, ..] = stacks.as_slice() else { panic!("a stack") };
    stack.docker.stop(&stack.name("live", "web"));
    let before = Facts::of(stack, "live");
    let spec = stack.read("environments/stack.yaml");
    stack.write_spec(&Kind::Live.apply_to(&spec));
    let ran = stack.run(&["apply", "live", "--expect", "p50(pages) < 0.0001ms"]).exits(5);
    assert!(ran.stderr.contains("stop container/web"), "{ran}");
    stack.write_spec(&spec);
    before.equal(&Facts::of(stack, "live"), &format!("an application that had been stopped: {ran}"));
    assert_eq!(outcome(stack), "undone");
}

/// What was written after the hand-over is not in the server that serves again, so it is kept.
#[test]
fn what_came_in_before_a_hand_over_was_taken_back_is_in_a_backup() {
    let stack = launched("fails_kept");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 64mb, files: 20000 }");
    stack.edit("redis:\n  cache:", "rehearse: never\n\nredis:\n  cache:");
    let proxy = Proxy::start();
    // The network of the two goes last, and without a rehearsal no other goes; by then the new one has the name.
    proxy.arm(At::Matching("DELETE", "/networks/".to_owned()), Fault::HoldReply);
    let expect = ["apply", "live", "--expect", "p50(pages) < 0.0001ms"];
    let running = stack.start_through(&proxy, &expect);
    proxy.wait_for_hit();
    stack.redis("live").ask::<()>(&["SET", "page:meanwhile", "written to the new one"]);
    proxy.release();
    let ran = running.finish().exits(5);
    let shown = stack.run(&["history", "show", "live", "--json"]).ok().json();
    let kept = shown["end"]["backups"].as_array().cloned().unwrap_or_default();
    let since = kept.iter().find(|kept| docker::text(kept, "/what").contains("writes made since"));
    let since = since.unwrap_or_else(|| panic!("a backup of what came: {shown:#}"));
    let (id, keys) = (docker::text(since, "/id"), since["keys"].as_u64());
    assert_eq!(keys, Some(20 + 8 + 1), "{since}");
    let listed = stack.backups("live");
    assert!(listed.iter().any(|manifest| docker::text(manifest, "/id") == id), "{id} is listed: {ran}");
    let dump = stack.exported(&id);
    assert!(dump.windows(14).any(|bytes| bytes == b"page:meanwhile"), "{ran}");
    assert_eq!(stack.redis("live").ask::<Option<String>>(&["GET", "page:meanwhile"]), None);
}

/// As many keys and every write, and one value that is another one: only what is read back shows it.
#[test]
fn a_new_server_that_holds_something_else_is_found_and_taken_back() {
    let stack = launched("fails_differs");
    stack.edit("redis:\n  cache:", "rehearse: never\n\nredis:\n  cache:");
    let before = Facts::of(&stack, "live");
    let spec = stack.read("environments/stack.yaml");
    stack.write_spec(&Kind::HandOver.apply_to(&spec));
    let proxy = Proxy::start();
    // First the new one leaves, for the network where the two meet; when the old one does, the new one takes writes.
    proxy.arm(At::MatchingNth("POST", "private/disconnect".to_owned(), 2), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    let address = stack.docker.address(&stack.name("live", "cache.next"), &stack.name("live", "cache.handover"));
    let mut redis = Redis::connect(&address, "hand", &stack.password("live", "hand")).expect("the new server");
    redis.ask::<()>(&["SET", "page:0", "something else"]);
    proxy.release();
    let ran = running.finish().exits(5);
    assert!(ran.stderr.contains("does not hold what the old one held: values differ, in 1 of 4096 parts"), "{ran}");
    stack.write_spec(&spec);
    as_it_was(&stack, &before, "a new server that holds something else");
}

#[test]
fn a_probe_that_breaks_and_a_line_in_a_log_take_the_change_back() {
    let stack = launched("fails_judged");
    let before = Facts::of(&stack, "live");
    let spec = stack.read("environments/stack.yaml");
    let health = "  health: { on: web, get: /healthz, status: 200 }\n";
    let probed = spec.replace("probes:\n", &format!("probes:\n{health}"));
    stack.write_spec(&probed);
    stack.is_right("live");
    // The user whom the probe asks as may not read the key any more.
    stack.edit(r#"keys: ["page:*", "fragment:*", "popular"]"#, r#"keys: ["fragment:*", "popular"]"#);
    let ran = stack.run(&["apply", "live"]).exits(5);
    assert!(ran.stderr.contains("pages"), "the probe is named: {ran}");
    stack.write_spec(&spec);
    as_it_was(&stack, &before, "a probe that broke");

    // What an application says once it runs.
    stack.edit("WORKERS: \"1\"", "WORKERS: \"2\"");
    let text = stack.docker.logs(&stack.name("live", "web"));
    let word = ["listening", "listen", "site", "serving"].into_iter().find(|word| text.contains(word));
    let word = word.unwrap_or_else(|| panic!("the site says something when it starts: {text}"));
    stack.write(
        "environments/stack.yaml",
        &format!("{}\nwatch: {{ for: 3s, refuse: [\"{word}\"] }}\n", stack.read("environments/stack.yaml")),
    );
    let ran = stack.run(&["apply", "live"]).exits(5);
    assert!(ran.stderr.contains(word), "the line is shown: {ran}");
    stack.write_spec(&spec);
    as_it_was(&stack, &before, "a line that is refused");
    let end = stack.run(&["history", "show", "live", "--json"]).ok().json()["end"].clone();
    assert_eq!(docker::text(&end, "/outcome"), "undone");
    assert!(!docker::text(&end, "/watched").is_empty(), "what was watched is recorded: {end}");
}

#[test]
fn an_application_that_ends_while_it_is_watched_takes_the_change_back() {
    let stack = launched("fails_watched");
    let spec = format!("{}\nwatch: {{ for: 20m }}\n", stack.read("environments/stack.yaml"));
    stack.write_spec(&spec);
    let before = Facts::of(&stack, "live");
    stack.write_spec(&Kind::Application.apply_to(&spec));
    let running = stack.start(&["apply", "live"], None);
    running.says("watching for");
    stack.docker.stop(&stack.name("live", "web"));
    let ran = running.finish().exits(5);
    assert!(ran.stderr.contains("web"), "{ran}");
    stack.write_spec(&spec);
    as_it_was(&stack, &before, "an application that ended");

    // A signal while it is watched takes it back as well.
    stack.write_spec(&Kind::HandOver.apply_to(&spec));
    let running = stack.start(&["apply", "live"], None);
    running.says("watching for");
    running.signal(Signal::TERM);
    running.finish().exits(143);
    stack.write_spec(&spec);
    as_it_was(&stack, &before, "a signal while it is watched");
}

/// What the engine is asked to change for a kind of change, counted on one run of it.
fn mutations(stack: &Scenario, spec: &str, kind: Kind) -> Vec<String> {
    let proxy = Proxy::start();
    stack.write_spec(&kind.apply_to(spec));
    stack.run_through(&proxy, &["apply", "live"]).ok();
    stack.write_spec(spec);
    stack.apply("live");
    proxy.mutations().iter().map(ToString::to_string).collect()
}

/// A sample of what may be asked, the same for every run.
fn every(calls: usize, step: usize) -> impl Iterator<Item = usize> {
    (1..=calls).filter(move |number| number % step == 1 || step == 1 || *number == calls)
}

#[test]
fn a_request_that_the_engine_refuses_takes_every_kind_of_change_back() {
    let stacks = several("fails_refused", 3);
    let [first, ..] = stacks.as_slice() else { panic!("a lane") };
    let spec = |stack: &Scenario| stack.read("environments/stack.yaml");
    let mut jobs = Vec::new();
    for (kind, step) in [(Kind::Live, 2), (Kind::Restart, 2), (Kind::Application, 2), (Kind::HandOver, 2)] {
        let calls = mutations(first, &spec(first), kind);
        eprintln!("fails_refused: {kind:?} asks {} times: {calls:?}", calls.len());
        jobs.extend(every(calls.len(), step).map(|number| (kind, number)));
    }
    // To and fro made data volumes; what they were is what is compared with.
    let codes = std::sync::Mutex::new(Vec::new());
    in_lanes(&jobs, &stacks, |stack, (kind, number)| {
        let before = Facts::of(stack, "live");
        let old = spec(stack);
        stack.write_spec(&kind.apply_to(&old));
        let proxy = Proxy::start();
        proxy.arm(At::Mutation(*number), Fault::Refuse);
        let ran = stack.run_through(&proxy, &["apply", "live"]);
        let hit = proxy.hit();
        let when = format!("{kind:?}, refused at {number} ({hit:?})\n{ran}");
        let said = hit.map_or_else(|| "nothing".to_owned(), |call| call.to_string());
        codes.lock().expect("the list").push(format!("{kind:?} {number} {said}: {}", ran.code));
        if ran.code == 0 {
            // What was refused was not needed.
            stack.is_right("live");
            stack.write_spec(&old);
            stack.apply("live");
            return;
        }
        if ran.code == 1 && outcome(stack) == "failed" {
            // It was proven by then; what is left of the old server goes with the next run.
            stack.is_right("live");
            stack.apply("live");
            assert!(!stack.objects("live").iter().any(|object| object.contains(".old")), "{when}");
            stack.write_spec(&old);
            stack.apply("live");
            return;
        }
        assert!(matches!(ran.code, 1 | 5 | 9), "{when}");
        stack.write_spec(&old);
        as_it_was(stack, &before, &when);
        assert_ne!(outcome(stack), "undo-incomplete", "{when}");
    });
    let codes = codes.into_inner().expect("the list");
    eprintln!("fails_refused:\n{}", codes.join("\n"));
    let undone = codes.iter().filter(|line| line.ends_with(": 5")).count();
    assert!(undone * 3 >= codes.len(), "most of what is refused is taken back: {codes:?}");
}

/// While it is handed over, somebody takes the new server away.
#[test]
fn containers_that_go_by_hand_in_mid_change_are_noticed_and_it_is_taken_back() {
    let stack = launched("fails_by_hand");
    // Room for all that is written meanwhile, at a measured pace: what is evicted is not lost by the change.
    stack.edit("maxmemory: 16mb", "maxmemory: 48mb");
    stack.apply("live");
    let before = Facts::of(&stack, "live");
    let spec = stack.read("environments/stack.yaml");
    stack.write_spec(&Kind::HandOver.apply_to(&spec));
    let writing = Writer::paced(&stack, "live", Duration::from_millis(10));
    let proxy = Proxy::start();
    proxy.arm(At::Matching("POST", "private/connect".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    stack.docker.remove_container(&stack.name("live", "cache.next"));
    proxy.release();
    let ran = running.finish().exits(5);
    let written = writing.end();
    let mut redis = stack.redis("live");
    writer::all_there(&mut redis, &written);
    for of in ["seq:*", "count:*"] {
        // A client that asks for all of them at once takes more memory than the server gives it.
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys): (String, Vec<String>) = redis.ask(&["SCAN", &cursor, "MATCH", of, "COUNT", "1000"]);
            let words: Vec<&str> = ["DEL"].into_iter().chain(keys.iter().map(String::as_str)).collect();
            if words.len() > 1 {
                redis.ask::<u64>(&words);
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
    }
    stack.write_spec(&spec);
    as_it_was(&stack, &before, &format!("the new server is removed by hand: {ran}"));

    // And the Redis itself, while the application is replaced.
    stack.write_spec(&Kind::Application.apply_to(&spec));
    let proxy = Proxy::start();
    proxy.arm(At::Matching("POST", format!("create?name={}", stack.name("live", "web"))), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    stack.docker.stop(&stack.name("live", "cache"));
    stack.docker.remove_container(&stack.name("live", "cache"));
    proxy.release();
    let ran = running.finish().exits(5);
    stack.write_spec(&spec);
    as_it_was(&stack, &before, &format!("the Redis is removed by hand: {ran}"));
}

#[test]
fn a_disk_that_is_full_lets_nothing_begin_and_what_ended_is_recorded_later() {
    let stack = Scenario::with("fails_disk", site);
    fs::create_dir(stack.path("backups")).expect("a folder");
    let disk = Disk::mount(stack.path("backups"), "size=2m");
    disk.fill();
    stack.run(&["apply", "live"]).exits(9).says("nothing was changed");
    assert_eq!(stack.objects("live"), BTreeSet::new());
    disk.free();
    stack.apply("live");
    stack.redis("live").ask::<()>(&["FLUSHALL"]);
    stack.redis("live").fill(10);

    stack.edit("allkeys-lru", "allkeys-lfu");
    let proxy = Proxy::start();
    // The backup is there by then.
    proxy.arm(At::Matching("PUT", "/archive".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    disk.fill();
    proxy.release();
    let ran: Ran = running.finish().exits(1);
    assert!(ran.stderr.contains("could not be recorded"), "{ran}");
    assert_eq!(stack.redis("live").config("maxmemory-policy"), "allkeys-lfu");
    disk.free();
    stack.apply("live");
    stack.run(&["history", "verify", "live"]).ok();
    assert_eq!(outcome(&stack), "done", "it is what was meant");
    stack.redis("live").holds(10);

    // What no backup can be made of on the way back is in the volume all the same: its server saves before it goes.
    stack.edit("appendonly: yes\n", "appendonly: no\n");
    stack.apply("live");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 64mb, files: 20000 }");
    stack.edit("redis:\n  cache:", "rehearse: never\n\nredis:\n  cache:");
    let proxy = Proxy::start();
    proxy.arm(At::Matching("DELETE", "/networks/".to_owned()), Fault::HoldReply);
    let running = stack.start_through(&proxy, &["apply", "live", "--expect", "p50(pages) < 0.0001ms"]);
    proxy.wait_for_hit();
    stack.redis("live").ask::<()>(&["SET", "page:meanwhile", "written to the new one"]);
    disk.fill();
    proxy.release();
    let ran = running.finish().exits(5);
    disk.free();
    assert!(ran.stderr.contains("could not be backed up"), "{ran}");
    assert_eq!(stack.redis("live").ask::<Option<String>>(&["GET", "page:meanwhile"]), None);
    let lies = refresh::rests(&stack, "live", "page:meanwhile");
    assert!(lies.iter().any(|file| file.starts_with("cache.data-2")), "it lies in {lies:?}: {ran}");
}

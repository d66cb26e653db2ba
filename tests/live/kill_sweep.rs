//! SIGKILL at every request in turn: the next run finishes the work, nothing is left over, no key is lost.

use crate::refresh;
use crate::support::{At, Fault, Proxy, Ran, Scenario, docker, project};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// As many as keep two cores busy while the engine is waited for.
const LANES: usize = 3;
/// All that can go wrong with a request.
const FAULTS: [Fault; 6] =
    [Fault::KillBefore, Fault::KillAfter, Fault::LoseReply, Fault::Refuse, Fault::Hang, Fault::Terminate];

/// Whether everything is tried everywhere, which takes hours: `make sweep`.
fn whole() -> bool {
    std::env::var("SWEEP").is_ok_and(|sweep| sweep == "whole")
}

/// Breaks each of so many requests in the usual ways, one after the other; with `SWEEP=whole`, each in every way.
fn spread(requests: usize, usual: &[Fault]) -> Vec<(usize, Fault)> {
    match whole() {
        true => (1..=requests).flat_map(|number| FAULTS.map(|fault| (number, fault))).collect(),
        false => (1..=requests).zip(usual.iter().copied().cycle()).collect(),
    }
}

/// Breaks each of so many requests in each of the usual ways; with `SWEEP=whole`, in every way there is.
fn each(requests: usize, usual: &[Fault]) -> Vec<(usize, Fault)> {
    let faults = if whole() { &FAULTS[..] } else { usual };
    (1..=requests).flat_map(|number| faults.iter().map(move |fault| (number, *fault))).collect()
}

/// Whether a run ended as one may that met this fault; `last` says that the request may never have been reached.
#[track_caller]
fn ended_as_it_may(ran: &Ran, fault: Fault, at: &str) {
    match fault {
        Fault::KillBefore | Fault::KillAfter if ran.signal.is_some() => was_killed(ran),
        // What runs at the same time reaches the engine in any order, so the last number may not be reached.
        Fault::KillBefore | Fault::KillAfter => assert_eq!(ran.code, 0, "{fault:?} at {at}: {ran}"),
        // Looked at again and gone on with; or taken back; or the engine is said to be gone.
        Fault::LoseReply | Fault::Hang => assert!([0, 1, 5, 7, 9].contains(&ran.code), "{fault:?} at {at}: {ran}"),
        Fault::Refuse => assert!([0, 1, 4, 5, 9].contains(&ran.code), "{fault:?} at {at}: {ran}"),
        Fault::Terminate => assert!([0, 143].contains(&ran.code), "{fault:?} at {at}: {ran}"),
        Fault::Hold | Fault::HoldReply | Fault::Deny | Fault::Conflict => panic!("not a fault of a sweep: {ran}"),
    }
}

fn hit(proxy: &Proxy) -> String {
    proxy.hit().map_or_else(|| "nothing".to_owned(), |call| call.to_string())
}

/// Runs `work` with each job once, several at a time, each lane in an environment of its own.
fn in_lanes<J: Sync>(jobs: &[J], lanes: &[String], work: impl Fn(&str, &J) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(lane, job);
                }
            });
        }
    });
}

fn lanes(stack: &Scenario) -> Vec<String> {
    let lanes: Vec<String> = (1..=LANES).map(|lane| format!("lane{lane}")).collect();
    for lane in &lanes {
        stack.environment(lane, &format!("port: {}", crate::support::free_port()));
    }
    lanes
}

impl Scenario {
    /// The same environments under another spec, locked.
    fn takes_over(&self, stack: &Scenario, lanes: &[String]) {
        for lane in lanes {
            self.write(&format!("environments/{lane}.yaml"), &stack.read(&format!("environments/{lane}.yaml")));
            self.secrets(lane, &stack.password(lane, "app"), &stack.password(lane, "hand"));
        }
        self.lock();
    }
}

#[track_caller]
fn was_killed(ran: &Ran) {
    assert_eq!(ran.signal, Some(Signal::KILL.as_raw()), "{ran}");
}

#[test]
fn a_creation_that_is_killed_anywhere_is_finished_by_the_next_run() {
    let stack = Scenario::with("kill_create", project::site);
    let lanes = lanes(&stack);
    let proxy = Proxy::start();
    let first = lanes.first().expect("a lane").as_str();
    stack.run_through(&proxy, &["apply", first]).ok();
    let expected = stack.objects(first);
    let calls = proxy.calls();
    let mutations = proxy.mutations().len();
    let before_any = calls.iter().take_while(|call| !call.changes_something()).count();
    assert!(mutations >= 10 && before_any >= 5, "{mutations} changes, {before_any} looks before the first");
    stack.wipe(first);

    // While it only looks, nothing has happened when it dies.
    for number in 1..=before_any {
        proxy.arm(At::Request(number), if number.is_multiple_of(2) { Fault::KillBefore } else { Fault::KillAfter });
        was_killed(&stack.run_through(&proxy, &["apply", first]));
        proxy.settle();
        assert_eq!(stack.objects(first), BTreeSet::new(), "killed at look {number}");
    }

    let broken = each(mutations, &[Fault::KillBefore, Fault::KillAfter]).into_iter();
    let mut jobs: Vec<(At, Fault)> = broken.map(|(number, fault)| (At::Mutation(number), fault)).collect();
    // Of the looks in between and at the end, every third.
    let looks = calls.iter().enumerate().skip(before_any).filter(|(_, call)| !call.changes_something());
    jobs.extend(looks.step_by(3).map(|(index, _)| (At::Request(index + 1), Fault::KillBefore)));
    in_lanes(&jobs, &lanes, |lane, (at, fault)| {
        let proxy = Proxy::start();
        proxy.arm(at.clone(), *fault);
        let broken = stack.run_through(&proxy, &["apply", lane]);
        proxy.settle();
        let at = hit(&proxy);
        ended_as_it_may(&broken, *fault, &at);
        let again = stack.run(&["apply", lane]);
        assert_eq!(again.code, 0, "after {fault:?} at {at}: {again}");
        assert_eq!(stack.objects(lane), expected, "after {fault:?} at {at}");
        stack.is_right(lane);
        stack.wipe(lane);
    });
}

#[test]
fn a_change_that_is_killed_anywhere_is_finished_by_the_next_run_and_costs_no_key() {
    let stack = Scenario::with("kill_change", project::site);
    // What a killed rehearsal leaves is the matter of tests/live/rehearsal.rs.
    stack.edit("apps:", "rehearse: never\n\napps:");
    let lanes = lanes(&stack);
    let spec = stack.read("environments/stack.yaml");
    let changed = spec.replace("allkeys-lru", "allkeys-lfu").replace("WORKERS: \"1\"", "WORKERS: \"2\"");
    // Two projects of one stack, so that lanes can go to and fro without waiting for each other.
    let other = Scenario::new("kill_change");
    other.write_spec(&changed);
    other.takes_over(&stack, &lanes);
    thread::scope(|scope| {
        for lane in &lanes {
            scope.spawn(|| {
                stack.apply(lane);
                let mut redis = stack.redis(lane);
                redis.ask::<()>(&["FLUSHALL"]);
                redis.fill(1000);
            });
        }
    });
    let first = lanes.first().expect("a lane").as_str();
    let expected = stack.objects(first);
    let redis = stack.docker.identity(&stack.name(first, "cache"));
    let proxy = Proxy::start();
    other.run_through(&proxy, &["apply", first]).ok();
    let calls = proxy.calls();
    let mutations = proxy.mutations().len();
    assert!(mutations >= 5, "stop, remove, create, connect, start, write: {mutations}");
    stack.apply(first);

    let broken = each(mutations, &[Fault::KillBefore, Fault::KillAfter]).into_iter();
    let mut jobs: Vec<(At, Fault)> = broken.map(|(number, fault)| (At::Mutation(number), fault)).collect();
    jobs.extend((1..=calls.len()).step_by(4).map(|number| (At::Request(number), Fault::KillBefore)));
    let in_force: Vec<AtomicUsize> = lanes.iter().map(|_| AtomicUsize::new(0)).collect();
    in_lanes(&jobs, &lanes, |lane, (at, fault)| {
        let index = lanes.iter().position(|name| name == lane).unwrap_or(0);
        let turn = in_force[index].fetch_add(1, Ordering::Relaxed);
        let (project, policy) = if turn.is_multiple_of(2) { (&other, "allkeys-lfu") } else { (&stack, "allkeys-lru") };
        let proxy = Proxy::start();
        proxy.arm(at.clone(), *fault);
        let broken = project.run_through(&proxy, &["apply", lane]);
        proxy.settle();
        let at = hit(&proxy);
        ended_as_it_may(&broken, *fault, &at);
        let mut redis = stack.redis(lane);
        redis.holds(1000);
        let again = project.run(&["apply", lane]);
        assert_eq!(again.code, 0, "after {fault:?} at {at}: {again}");
        assert_eq!(stack.objects(lane), expected, "after {fault:?} at {at}");
        project.is_right(lane);
        redis.holds(1000);
        assert_eq!(redis.config("maxmemory-policy"), policy);
        stack.run(&["history", "verify", lane]).ok();
        // What a killed backup left behind is not listed.
        for manifest in project.backups(lane) {
            assert_eq!(manifest["keys"], serde_json::json!(1000), "{manifest}");
        }
    });
    assert_eq!(redis, stack.docker.identity(&stack.name(first, "cache")), "Redis ran through all of it");
}

/// The riskiest moment: a server with the only copy of the data gives way to another one. To a newer one by replication, and
/// back to the older one, which cannot follow it, by a backup of the last moment.
#[test]
fn a_replaced_redis_that_is_killed_anywhere_comes_back_with_every_key() {
    let stack = Scenario::with("kill_replace", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    stack.edit("redis:\n  cache:", "rehearse: never\n\nredis:\n  cache:");
    let keys = if whole() { 100_000 } else { 1000 };
    stack.edit("maxmemory: 16mb", "maxmemory: 64mb");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 256mb }");
    let lanes: Vec<String> = (1..=LANES).map(|lane| format!("lane{lane}")).collect();
    lanes.iter().for_each(|lane| stack.environment(lane, ""));
    let other = Scenario::new("kill_replace");
    let spec = stack.read("environments/stack.yaml");
    other.write_spec(&spec.replace("lockstep/redis:7.0", "lockstep/redis:8.0"));
    other.takes_over(&stack, &lanes);
    thread::scope(|scope| {
        for lane in &lanes {
            scope.spawn(|| {
                stack.apply(lane);
                stack.redis(lane).fill(keys);
            });
        }
    });
    let first = lanes.first().expect("a lane").as_str();
    let expected = stack.objects(first);
    let [up, down] = [&other, &stack].map(|project| {
        let proxy = Proxy::start();
        project.run_through(&proxy, &["apply", first]).ok();
        remove_kept(&stack, first);
        proxy.mutations().len()
    });
    assert!(up >= 10 && down >= 10, "networks, containers, names: {up} and {down}");

    // A whole hand-over each way for each: every request is broken in one way, and each way is tried at every third.
    let jobs = spread(up.max(down), &[Fault::KillBefore, Fault::KillAfter, Fault::LoseReply]);
    in_lanes(&jobs, &lanes, |lane, (number, fault)| {
        for (project, mutations) in [(&other, up), (&stack, down)] {
            let proxy = Proxy::start();
            proxy.arm(At::Mutation(*number), *fault);
            let broken = project.run_through(&proxy, &["apply", lane]);
            proxy.settle();
            let at = hit(&proxy);
            ended_as_it_may(&broken, *fault, &at);
            assert!(proxy.hit().is_some() || *number > mutations, "{fault:?} at {number} met nothing: {broken}");
            let again = project.run(&["apply", lane]);
            assert_eq!(again.code, 0, "after {fault:?} at {at}: {again}");
            let (used, kept) = data_volumes(&stack, lane);
            // The one that it was on before, and one that was being filled when the run died.
            assert!(kept.len() <= 2, "after {fault:?} at {at}: {used} is in use, {kept:?} are left");
            remove_kept(&stack, lane);
            let left = without_data(&stack.objects(lane));
            assert_eq!(without_data(&expected), left, "after {fault:?} at {at}");
            project.is_right(lane);
            stack.redis(lane).holds(keys);
            stack.run(&["history", "verify", lane]).ok();
        }
    });
}

#[track_caller]
fn remove_kept(stack: &Scenario, environment: &str) {
    let (_, kept) = data_volumes(stack, environment);
    kept.iter().for_each(|volume| stack.docker.remove_volume(&stack.name(environment, volume)));
}

/// What staging holds is its own data or the masked, whole, whatever breaks off and when; and never a private text.
#[test]
fn a_refresh_that_breaks_off_anywhere_leaves_what_was_there_or_what_was_to_be() {
    let lanes: Vec<String> = (1..=LANES).map(|lane| format!("lane{lane}")).collect();
    let named: Vec<&str> = lanes.iter().map(String::as_str).collect();
    let stack = refresh::beside_production("kill_refresh", &named);
    let refreshed = |lane: &str| stack.run(&["refresh", lane, "--yes"]).ok();
    thread::scope(|scope| lanes.iter().for_each(|lane| _ = scope.spawn(|| refreshed(lane))));
    let first = named.first().expect("a lane");
    let (objects, masked) = (without_data(&stack.objects(first)), stack.redis(first).contents());
    let proxy = Proxy::start();
    stack.run_through(&proxy, &["refresh", first, "--yes"]).ok();
    let mutations = proxy.mutations().len();
    assert!(mutations >= 20, "a server beside, its data, a backup and a hand-over: {mutations}");
    lanes.iter().for_each(|lane| remove_kept(&stack, lane));

    let jobs = spread(mutations, &[Fault::KillBefore, Fault::KillAfter, Fault::LoseReply, Fault::Refuse]);
    in_lanes(&jobs, &lanes, |lane, (number, fault)| {
        refresh::own(&mut stack.redis(lane));
        let own = stack.redis(lane).contents();
        let is_one_of_them = |when: &str| {
            let now = stack.redis_again(lane).contents();
            assert!(now == own || now == masked, "{when}: {now:?}");
            now == masked
        };
        let proxy = Proxy::start();
        proxy.arm(At::Mutation(*number), *fault);
        let broken = stack.run_through(&proxy, &["refresh", lane, "--yes"]);
        proxy.settle();
        let at = format!("{fault:?} at {}", hit(&proxy));
        ended_as_it_may(&broken, *fault, &at);
        assert!(!broken.stdout.contains("shop.test") && !broken.stderr.contains("shop.test"), "{broken}");
        let cache = stack.name(lane, "cache");
        let stop = format!("/{cache}/stop");
        let switched = proxy.mutations().iter().any(|call| call.path.contains(&stop) && call.status.is_some());
        match broken.code {
            0 => assert!(is_one_of_them(&at), "after {at}: {broken}"),
            4 | 5 => assert!(!is_one_of_them(&at), "after {at}: {broken}"),
            _ if !switched => assert!(!is_one_of_them(&at), "before the switch, after {at}: {broken}"),
            // In the middle of it nothing serves, and the next run goes on.
            _ if !stack.docker.runs(&cache) => {}
            _ => _ = is_one_of_them(&at),
        }
        // The next run is a refresh as well, or one that only puts right what it finds.
        if number.is_multiple_of(2) {
            stack.apply(lane);
            is_one_of_them(&format!("apply after {at}"));
        } else {
            refreshed(lane);
            assert!(is_one_of_them(&at), "a refresh after {at}");
        }
        assert_eq!(refresh::rests(&stack, lane, "shop.test"), Vec::<String>::new(), "after {at}");
        remove_kept(&stack, lane);
        assert_eq!(without_data(&stack.objects(lane)), objects, "after {at}");
        stack.is_right(lane);
        stack.run(&["history", "verify", lane]).ok();
    });
    // Whatever befell the others, production was only read.
    stack.is_right("production");
}

/// On the way back as on the way there.
#[test]
fn a_rollback_that_breaks_off_anywhere_is_finished_by_the_next_run() {
    let stack = Scenario::with("kill_rollback", project::site);
    stack.edit("apps:", "rehearse: never\n\napps:");
    let lanes = lanes(&stack);
    let changed = Scenario::new("kill_rollback");
    let spec = stack.read("environments/stack.yaml");
    changed.write_spec(&spec.replace("allkeys-lru", "allkeys-lfu").replace("WORKERS: \"1\"", "WORKERS: \"2\""));
    changed.takes_over(&stack, &lanes);
    // Both write down what they do in one place: going back is to what was recorded.
    std::fs::create_dir_all(stack.path("backups")).expect("a folder");
    std::os::unix::fs::symlink(stack.path("backups"), changed.path("backups")).expect("a link to it");
    thread::scope(|scope| {
        for lane in &lanes {
            scope.spawn(|| {
                stack.apply(lane);
                let mut redis = stack.redis(lane);
                redis.ask::<()>(&["FLUSHALL"]);
                redis.fill(1000);
            });
        }
    });
    let first = lanes.first().expect("a lane").as_str();
    let expected = stack.objects(first);
    let proxy = Proxy::start();
    changed.apply(first);
    stack.run_through(&proxy, &["rollback", first]).ok();
    let mutations = proxy.mutations().len();
    assert!(mutations >= 5, "{mutations}");

    let jobs = spread(mutations, &[Fault::KillBefore, Fault::KillAfter, Fault::LoseReply, Fault::Refuse]);
    in_lanes(&jobs, &lanes, |lane, (number, fault)| {
        changed.apply(lane);
        let proxy = Proxy::start();
        proxy.arm(At::Mutation(*number), *fault);
        let broken = stack.run_through(&proxy, &["rollback", lane]);
        proxy.settle();
        let at = hit(&proxy);
        ended_as_it_may(&broken, *fault, &at);
        if broken.code != 0 {
            let again = stack.run(&["rollback", lane]);
            assert_eq!(again.code, 0, "after {fault:?} at {at}: {broken}\n{again}");
        }
        assert_eq!(stack.objects(lane), expected, "after {fault:?} at {at}");
        stack.is_right(lane);
        let mut redis = stack.redis(lane);
        redis.holds(1000);
        assert_eq!(redis.config("maxmemory-policy"), "allkeys-lru");
        stack.run(&["history", "verify", lane]).ok();
    });
}

fn without_data(objects: &BTreeSet<String>) -> BTreeSet<String> {
    objects.iter().filter(|object| !object.starts_with("volume cache.data")).cloned().collect()
}

/// The data volume that the Redis of an environment is on, and the others.
fn data_volumes(stack: &Scenario, environment: &str) -> (String, Vec<String>) {
    let prefix = stack.name(environment, "");
    let container = stack.docker.inspect(&stack.name(environment, "cache"));
    let mounts = container.get("Mounts").and_then(|mounts| mounts.as_array()).cloned().unwrap_or_default();
    let data = mounts.iter().find(|mount| docker::text(mount, "/Destination") == "/data").expect("a mount of data");
    let used = docker::text(data, "/Name").replace(&prefix, "");
    let objects = stack.objects(environment);
    let volumes = objects.iter().filter_map(|object| object.strip_prefix("volume "));
    let kept = volumes.filter(|name| name.starts_with("cache.data") && **name != used);
    (used.clone(), kept.map(str::to_owned).collect())
}

#[test]
fn a_removal_that_is_killed_anywhere_is_finished_by_the_next_run() {
    let stack = Scenario::with("kill_down", project::site);
    let lanes = lanes(&stack);
    let first = lanes.first().expect("a lane").as_str();
    let proxy = Proxy::start();
    stack.apply(first);
    stack.run_through(&proxy, &["down", first, "--delete-data", "cache.data", "--yes"]).ok();
    let mutations = proxy.mutations().len();
    assert!(mutations >= 8, "{mutations}");
    let jobs = spread(mutations, &[Fault::KillBefore, Fault::KillAfter]);
    in_lanes(&jobs, &lanes, |lane, (number, fault)| {
        stack.apply(lane);
        let proxy = Proxy::start();
        proxy.arm(At::Mutation(*number), *fault);
        stack.run_through(&proxy, &["down", lane, "--delete-data", "cache.data", "--yes"]);
        proxy.settle();
        stack.wipe(lane);
    });
}

/// What goes at the same time as Redis stops must not be what the next run needs to go on.
#[test]
fn a_removal_that_dies_before_redis_has_stopped_can_be_gone_on_with() {
    let stack = Scenario::with("kill_down_early", project::small);
    stack.apply("live");
    stack.redis("live").fill(20);
    let proxy = Proxy::start();
    proxy.arm(At::Matching("POST", format!("/containers/{}/stop", stack.name("live", "cache"))), Fault::Hold);
    let down = stack.start_through(&proxy, &["down", "live"]);
    proxy.wait_for_hit();
    // Whatever does not wait for Redis to stop is given the time to happen.
    let began = std::time::Instant::now();
    let files = stack.name("live", "files");
    crate::support::until("a moment", || {
        let gone = !stack.docker.exists("containers", &files);
        (gone || began.elapsed() > Duration::from_secs(2)).then_some(())
    });
    down.signal(Signal::KILL);
    was_killed(&down.finish());
    proxy.abandon();
    proxy.settle();
    assert!(stack.docker.running(&stack.name("live", "cache")), "Redis never heard of it");

    stack.run(&["down", "live"]).ok();
    assert_eq!(stack.objects("live"), BTreeSet::from(["volume cache.data".to_owned()]));
    stack.apply("live");
    stack.redis("live").holds(20);
}

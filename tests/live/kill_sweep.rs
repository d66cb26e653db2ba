//! SIGKILL at every request in turn: the next run finishes the work, nothing is left over, no key is lost.

use crate::support::{At, Fault, Proxy, Ran, Scenario, project};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// As many as keep two cores busy while the engine is waited for.
const LANES: usize = 3;

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

    let mut jobs: Vec<(At, Fault)> = (1..=mutations)
        .flat_map(|number| [Fault::KillBefore, Fault::KillAfter].map(|fault| (At::Mutation(number), fault)))
        .collect();
    // Of the looks in between and at the end, every third.
    let looks = calls.iter().enumerate().skip(before_any).filter(|(_, call)| !call.changes_something());
    jobs.extend(looks.step_by(3).map(|(index, _)| (At::Request(index + 1), Fault::KillBefore)));
    in_lanes(&jobs, &lanes, |lane, (at, fault)| {
        let proxy = Proxy::start();
        proxy.arm(at.clone(), *fault);
        let killed = stack.run_through(&proxy, &["apply", lane]);
        proxy.settle();
        // What runs at the same time reaches the engine in any order, so the last number may not be reached.
        if killed.signal.is_some() {
            was_killed(&killed);
        } else {
            assert_eq!(killed.code, 0, "{killed}");
        }
        let again = stack.run(&["apply", lane]);
        assert_eq!(again.code, 0, "after {fault:?} at {at:?} ({:?}): {again}", proxy.hit());
        assert_eq!(stack.objects(lane), expected, "after {fault:?} at {at:?} ({:?})", proxy.hit());
        stack.is_right(lane);
        stack.wipe(lane);
    });
}

#[test]
fn a_change_that_is_killed_anywhere_is_finished_by_the_next_run_and_costs_no_key() {
    let stack = Scenario::with("kill_change", project::site);
    let lanes = lanes(&stack);
    let spec = stack.read("environments/stack.yaml");
    let changed = spec.replace("allkeys-lru", "allkeys-lfu").replace("WORKERS: \"1\"", "WORKERS: \"2\"");
    // Two projects of one stack, so that lanes can go to and fro without waiting for each other.
    let other = Scenario::new("kill_change");
    other.write_spec(&changed);
    for lane in &lanes {
        other.write(&format!("environments/{lane}.yaml"), &stack.read(&format!("environments/{lane}.yaml")));
        other.secrets(lane, &stack.password(lane, "app"), &stack.password(lane, "hand"));
    }
    other.lock();
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

    let mut jobs: Vec<(At, Fault)> = (1..=mutations)
        .flat_map(|number| [Fault::KillBefore, Fault::KillAfter].map(|fault| (At::Mutation(number), fault)))
        .collect();
    jobs.extend((1..=calls.len()).step_by(4).map(|number| (At::Request(number), Fault::KillBefore)));
    let in_force: Vec<AtomicUsize> = lanes.iter().map(|_| AtomicUsize::new(0)).collect();
    in_lanes(&jobs, &lanes, |lane, (at, fault)| {
        let index = lanes.iter().position(|name| name == lane).unwrap_or(0);
        let turn = in_force[index].fetch_add(1, Ordering::Relaxed);
        let (project, policy) = if turn.is_multiple_of(2) { (&other, "allkeys-lfu") } else { (&stack, "allkeys-lru") };
        let proxy = Proxy::start();
        proxy.arm(at.clone(), *fault);
        let killed = project.run_through(&proxy, &["apply", lane]);
        proxy.settle();
        if killed.signal.is_none() {
            assert_eq!(killed.code, 0, "{killed}");
        }
        let mut redis = stack.redis(lane);
        redis.holds(1000);
        let again = project.run(&["apply", lane]);
        assert_eq!(again.code, 0, "after {fault:?} at {at:?} ({:?}): {again}", proxy.hit());
        assert_eq!(stack.objects(lane), expected, "after {fault:?} at {at:?} ({:?})", proxy.hit());
        project.is_right(lane);
        redis.holds(1000);
        assert_eq!(redis.config("maxmemory-policy"), policy);
        // What a killed backup left behind is not listed.
        for manifest in project.backups(lane) {
            assert_eq!(manifest["keys"], serde_json::json!(1000), "{manifest}");
        }
    });
    assert_eq!(redis, stack.docker.identity(&stack.name(first, "cache")), "Redis ran through all of it");
}

/// The riskiest moment: the only copy of the data lies in a volume, and the server that has it stopped is replaced.
#[test]
fn a_replaced_redis_that_is_killed_anywhere_comes_back_with_every_key() {
    let stack = Scenario::with("kill_replace", |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    let lanes: Vec<String> = (1..=LANES).map(|lane| format!("lane{lane}")).collect();
    lanes.iter().for_each(|lane| stack.environment(lane, ""));
    let other = Scenario::new("kill_replace");
    let spec = stack.read("environments/stack.yaml");
    other.write_spec(&spec.replace("limits: { memory: 64mb }", "limits: { memory: 64mb, files: 20000 }"));
    for lane in &lanes {
        other.write(&format!("environments/{lane}.yaml"), &stack.read(&format!("environments/{lane}.yaml")));
        other.secrets(lane, &stack.password(lane, "app"), &stack.password(lane, "hand"));
    }
    other.lock();
    thread::scope(|scope| {
        for lane in &lanes {
            scope.spawn(|| {
                stack.apply(lane);
                stack.redis(lane).fill(1000);
            });
        }
    });
    let first = lanes.first().expect("a lane").as_str();
    let expected = stack.objects(first);
    let proxy = Proxy::start();
    other.run_through(&proxy, &["apply", first]).ok();
    let mutations: Vec<String> =
        proxy.mutations().iter().map(|call| format!("{} {}", call.method, call.path)).collect();
    assert!(mutations.len() >= 4, "stop, remove, create, start: {mutations:?}");
    stack.apply(first);

    let jobs: Vec<(usize, Fault)> = (1..=mutations.len())
        .flat_map(|number| [Fault::KillBefore, Fault::KillAfter, Fault::LoseReply].map(|fault| (number, fault)))
        .collect();
    let turns: Vec<AtomicUsize> = lanes.iter().map(|_| AtomicUsize::new(0)).collect();
    in_lanes(&jobs, &lanes, |lane, (number, fault)| {
        let index = lanes.iter().position(|name| name == lane).unwrap_or(0);
        let turn = turns[index].fetch_add(1, Ordering::Relaxed);
        let project = if turn.is_multiple_of(2) { &other } else { &stack };
        let proxy = Proxy::start();
        proxy.arm(At::Mutation(*number), *fault);
        let hit = project.run_through(&proxy, &["apply", lane]);
        proxy.settle();
        assert!(hit.signal.is_some() || *fault == Fault::LoseReply, "{hit}");
        let again = project.run(&["apply", lane]);
        assert_eq!(again.code, 0, "after {fault:?} at {:?}: {again}", proxy.hit());
        assert_eq!(stack.objects(lane), expected, "after {fault:?} at {:?}", proxy.hit());
        project.is_right(lane);
        stack.redis(lane).holds(1000);
    });
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
    let jobs: Vec<(usize, Fault)> = (1..=mutations)
        .map(|number| (number, if number.is_multiple_of(2) { Fault::KillBefore } else { Fault::KillAfter }))
        .collect();
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
    crate::support::until("a moment", Duration::from_secs(30), || {
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

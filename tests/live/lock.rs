//! One operator at a time: the second learns who is first, the dead make room, and who lost the environment cannot act.

use crate::support::{At, Fault, Proxy, Ran, Running, Scenario, docker, project, until};
use lockstep::engine::{Engine, Names};
use lockstep::failure::Kind;
use lockstep::hold::{Holder, Sign};
use lockstep::store::who::origin;
use lockstep::value::{Name, ResourceId, Span};
use lockstep::world::hold::{Request, Stand, take};
use rustix::process::Signal;
use serde_json::json;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const RACES: usize = 50;
/// For whoever finds an environment held, also on a machine that is slow; whoever waits does so for longer.
const AT_ONCE: Duration = Duration::from_secs(30);
/// What the tests make of a minute. A machine that stands still for some seconds costs nobody the lock.
const SHORT: [(&str, &str); 1] = [("LOCKSTEP_LOCK_LEASE", "16s")];

fn redis_only(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

/// A run that holds the environment and has just been given the answer to nothing: the engine has made the network.
fn holding<'s>(stack: &'s Scenario, proxy: &Proxy, environment: &[(&str, &str)]) -> Running<'s> {
    proxy.arm(At::Matching("POST", "/networks/create".to_owned()), Fault::HoldReply);
    let arguments = ["apply", "live", "--reason", "first of two"];
    let running = stack.start_with(&arguments, Some(&proxy.address()), environment);
    proxy.wait_for_hit();
    running
}

fn lock_is_gone(stack: &Scenario) {
    assert!(!stack.docker.exists("containers", &stack.name("live", "lock")), "the lock is given back");
}

#[test]
fn of_two_operators_one_changes_the_environment_and_the_other_learns_who() {
    let stack = Scenario::with("lock_races", redis_only);
    stack.apply("live");
    lock_is_gone(&stack);
    let proxy = Proxy::start();
    let mut known = Vec::new();
    for race in 0..RACES {
        let (from, to) = if race % 2 == 0 { ("allkeys-lru", "allkeys-lfu") } else { ("allkeys-lfu", "allkeys-lru") };
        stack.edit(from, to);
        // The winner is kept from finishing until the other has given up.
        proxy.arm(At::Matching("PUT", "/archive".to_owned()), Fault::Hold);
        let address = proxy.address();
        let (ended, ends) = mpsc::channel();
        thread::scope(|scope| {
            let mut ids = Vec::new();
            for _ in 0..2 {
                let (ended, stack) = (ended.clone(), &stack);
                let running = stack.start(&["apply", "live", "--reason", "tidy up"], Some(&address));
                ids.push(running.id());
                scope.spawn(move || _ = ended.send((running.id(), running.finish())));
            }
            let (loser, lost): (u32, Ran) = ends.recv().expect("one of the two ends");
            proxy.wait_for_hit();
            proxy.release();
            let (winner, won) = ends.recv().expect("the other ends");
            assert_eq!((lost.code, won.code), (4, 0), "race {race}: {lost}\n{won}");
            assert!(ids.contains(&loser) && ids.contains(&winner));
            for text in
                ["live is locked by", &format!("process {winner}, apply: tidy up, since 20"), "nothing was changed"]
            {
                assert!(lost.stderr.contains(text), "`{text}` in race {race}: {lost}");
            }
            known.push(lost.elapsed);
        });
    }
    // Not the slowest: other tests keep the engine busy for seconds.
    known.sort();
    let usual = known.get(RACES / 2).copied().unwrap_or(Duration::MAX);
    eprintln!("{RACES} races; a loser usually knew after {usual:?}, the slowest after {:?}", known.last());
    assert!(usual < AT_ONCE, "a loser usually knew after {usual:?}");
    lock_is_gone(&stack);
    stack.is_right("live");
}

#[test]
fn whoever_waits_gets_the_environment_when_it_is_given_back() {
    let stack = Scenario::with("lock_wait", project::small);
    let proxy = Proxy::start();
    let first = holding(&stack, &proxy, &[]);
    let second = stack.start(&["apply", "live", "--lock-wait", "10m"], None);
    second.says("waiting for live is locked by");
    // Those that change nothing are not kept out, and do not see who is at it.
    let plan = stack.run(&["plan", "live"]).exits(3);
    assert!(!plan.stdout.contains("lock"), "{plan}");
    stack.run(&["status", "live"]);
    stack.run(&["down", "live"]).exits(4).says("first of two");
    proxy.release();
    first.finish().ok();
    let second = second.finish().ok();
    assert!(second.elapsed > Duration::from_millis(300), "{second}");
    lock_is_gone(&stack);
    stack.is_right("live");
    // With nothing to do nobody is kept out.
    proxy.reset();
    stack.run_through(&proxy, &["apply", "live"]).ok();
    assert_eq!(proxy.mutations().len(), 0, "{:?}", proxy.mutations());
}

fn killed(test: &'static str, image: &'static str) {
    let stack = Scenario::new(test);
    stack.write_spec(&project::redis_only(&stack.stack, image));
    stack.environment("live", "");
    stack.lock();
    let proxy = Proxy::start();
    let first = holding(&stack, &proxy, &[]);
    let lock = stack.name("live", "lock");
    assert!(stack.docker.exists("containers", &lock));
    let killed = Instant::now();
    first.signal(Signal::KILL);
    until("the engine to free the environment", || (!stack.docker.exists("containers", &lock)).then_some(()));
    eprintln!("{image}: free {:?} after SIGKILL", killed.elapsed());
    assert_eq!(first.finish().signal, Some(Signal::KILL.as_raw()));
    proxy.abandon();
    stack.apply("live");

    // And nobody has to wait for that: the next one is started while the dead one's lock may still be there.
    stack.edit("allkeys-lru", "allkeys-lfu");
    proxy.arm(At::Matching("PUT", "/archive".to_owned()), Fault::KillBefore);
    let ran = stack.run_through(&proxy, &["apply", "live"]);
    assert_eq!(ran.signal, Some(Signal::KILL.as_raw()), "{ran}");
    stack.apply("live");
    stack.is_right("live");
}

#[test]
fn a_killed_holder_frees_the_environment_at_once() {
    killed("lock_killed", "lockstep/redis:7.0");
}

#[test]
fn a_killed_holder_frees_the_environment_at_once_where_no_client_is_in_the_image() {
    killed("lock_killed_server", "lockstep/valkey:9.1");
}

/// A busy engine notices late that the dead one's line has ended; whoever comes next waits for that, without being told to.
#[test]
fn a_killed_holder_that_the_engine_has_not_missed_yet_is_outwaited() {
    let stack = Scenario::with("lock_late", redis_only);
    let proxy = Proxy::start();
    let first = holding(&stack, &proxy, &[]);
    proxy.notices_late();
    first.signal(Signal::KILL);
    assert_eq!(first.finish().signal, Some(Signal::KILL.as_raw()));
    let lock = stack.name("live", "lock");
    assert!(stack.docker.runs(&lock), "the engine has not missed it");
    let other = Proxy::start();
    let second = stack.start_through(&other, &["apply", "live"]);
    // It looks again and again, and for longer than it would at the lock of one that lives. Each look asks by name
    // twice: it tries to make its own, and sees what is there.
    let asked = || other.calls().iter().filter(|call| call.path.contains(&lock)).count();
    let mut began = None;
    until("the second to look four times, for more than a second", || {
        let asked = asked();
        if asked == 0 {
            return None;
        }
        let began: &Instant = began.get_or_insert_with(Instant::now);
        (asked >= 8 && began.elapsed() > Duration::from_secs(1)).then_some(())
    });
    proxy.release();
    second.finish().ok();
    lock_is_gone(&stack);
    stack.is_right("live");
}

fn stopped(test: &'static str, image: &'static str) {
    let stack = Scenario::new(test);
    stack.write_spec(&project::redis_only(&stack.stack, image));
    stack.environment("live", "");
    stack.lock();
    let proxy = Proxy::start();
    let first = holding(&stack, &proxy, &SHORT);
    let lock = stack.name("live", "lock");
    let (locked, _) = stack.docker.identity(&lock);
    // What it asks beside the request that is held has been asked and answered, so that nothing is on its way when it stops:
    // the gap between the fence and the write, which decision 10 leaves open. Its signs of life go on meanwhile.
    let files = format!("/containers/create?name={}", stack.name("live", "files"));
    let (mut changes, mut since) = (0, Instant::now());
    until("the other requests to be answered", || {
        let calls = proxy.calls();
        let calls: Vec<_> = calls.iter().filter(|call| !call.path.contains(&locked)).collect();
        let made = calls.iter().any(|call| call.path.contains(&files) && call.status.is_some());
        let open = calls.iter().any(|call| call.status.is_none());
        let now = calls.iter().filter(|call| call.changes_something()).count();
        if open || now != changes {
            (changes, since) = (now, Instant::now());
        }
        (made && since.elapsed() > Duration::from_secs(2)).then_some(())
    });
    first.signal(Signal::STOP);
    let second = stack.run(&["apply", "live", "--lock-wait", "300s", "--reason", "second of two"]).ok();
    assert!(second.stderr.contains("first of two: silent for "), "{second}");
    let made = stack.objects("live");
    let cache = stack.docker.identity(&stack.name("live", "cache"));

    // While a third one is at it, the first wakes up and is told that what it asked for long ago is done.
    stack.edit("allkeys-lru", "allkeys-lfu");
    let other = Proxy::start();
    other.arm(At::Matching("PUT", "/archive".to_owned()), Fault::Hold);
    let third = stack.start_through(&other, &["apply", "live", "--reason", "third"]);
    other.wait_for_hit();
    let before = proxy.mutations().len();
    first.signal(Signal::CONT);
    proxy.release();
    let first = first.finish().exits(4);
    assert!(first.stderr.contains("the lock of live was lost to"), "{first}");
    assert!(first.stderr.contains("third") && first.stderr.contains("no further change was made"), "{first}");
    proxy.settle();
    // What it had asked before it was stopped, its own signs of life among it, is all that it ever asked.
    let after = proxy.mutations();
    let after: Vec<_> = after.iter().skip(before).filter(|call| !call.path.contains(&locked)).collect();
    assert!(after.is_empty(), "changed something after the lock was lost: {after:?}");
    other.release();
    third.finish().ok();
    assert_eq!(stack.objects("live"), made);
    assert_eq!(stack.docker.identity(&stack.name("live", "cache")), cache);
    stack.is_right("live");
    lock_is_gone(&stack);
}

#[test]
fn a_stopped_holder_that_lost_the_environment_changes_nothing_when_it_goes_on() {
    stopped("lock_stopped", "lockstep/redis:7.0");
}

#[test]
fn a_stopped_holder_changes_nothing_where_no_client_is_in_the_image() {
    stopped("lock_stopped_server", "lockstep/valkey:9.1");
}

#[test]
fn a_lock_that_was_made_and_never_started_is_nobodys() {
    let stack = Scenario::with("lock_unstarted", project::small);
    let proxy = Proxy::start();
    proxy.arm(At::Matching("POST", "/start".to_owned()), Fault::KillBefore);
    let ran = stack.run_through(&proxy, &["apply", "live"]);
    assert_eq!(ran.signal, Some(Signal::KILL.as_raw()), "{ran}");
    let lock = stack.name("live", "lock");
    assert!(stack.docker.exists("containers", &lock) && !stack.docker.running(&lock));
    // Nobody takes it for a part of the environment.
    let plan = stack.run(&["plan", "live"]).exits(3);
    assert!(!plan.stdout.contains("lock"), "{plan}");
    stack.run(&["apply", "live"]).ok().says("it was never started");
    lock_is_gone(&stack);
    stack.is_right("live");
}

#[test]
fn somebody_elses_container_of_that_name_is_named_and_not_touched() {
    let stack = Scenario::with("lock_foreign", project::small);
    let lock = stack.name("live", "lock");
    let body = json!({ "Image": "lockstep/redis:7.0", "Labels": { docker::DECOY: stack.stack } });
    stack.docker.create_container(&lock, &body);
    let before = stack.docker.inspect(&lock);
    stack.run(&["apply", "live"]).exits(4).says(&format!("{lock} is somebody else's container"));
    assert_eq!(stack.docker.inspect(&lock), before);
    stack.docker.remove_container(&lock);
    stack.apply("live");
}

/// A stack of images without a server and without `cat`: nothing can run that ends with the holder.
#[test]
fn a_lock_without_a_process_is_kept_by_its_pulse_and_left_when_that_stops() {
    let stack = Scenario::new("lock_pulse");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = |text: &str| Name::parse(text).expect("a name");
    let request = |reason: &str, wait: Span, words: &[&str], sign: Sign| Request {
        names: Names::lasting(name(&stack.stack), name("live")),
        engine: format!("unix://{}", docker::SOCKET),
        holder: Holder {
            verb: "apply".to_owned(),
            reason: reason.to_owned(),
            who: "ana".to_owned(),
            host: "here".to_owned(),
            process: 1,
            origin: String::new(),
            lease: Span::seconds(20),
            sign,
        },
        stands: vec![Stand {
            image: "alphanode/site:1.0".to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            sign,
        }],
        wait,
    };
    let alone = |reason: &str, wait: Span| request(reason, wait, &["/never-started"], Sign::PulseAlone);
    runtime.block_on(async {
        let unfit = take(request("no such program", Span::seconds(0), &["cat"], Sign::Lines), |_| ()).await;
        assert!(unfit.is_err_and(|failure| failure.to_string().contains("none of its images")));
        let first = take(alone("first", Span::seconds(0)), |_| ()).await.expect("nobody holds it");
        // For longer than the lease: it lives.
        let second = take(alone("second", Span::seconds(30)), |_| ()).await.expect_err("it is held");
        assert_eq!(second.kind, Kind::Refused);
        assert!(second.to_string().contains("ana@here, process 1, apply: first"), "{second}");
        let engine = Engine::connect(&format!("unix://{}", docker::SOCKET)).await.expect("the engine");
        let names = Names::lasting(name(&stack.stack), name("live"));
        let fenced = engine.fenced(first.fence());
        fenced.create_network(&names, &ResourceId::network("one"), true).await.expect("it holds the environment");
        // Ended from outside: from now on nothing is sent.
        stack.docker.remove_container(&stack.name("live", "lock"));
        let began = Instant::now();
        let refused = loop {
            if let Err(error) = fenced.remove_network(&names.network("none")).await {
                break error;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the loss is noticed");
        };
        assert!(refused.to_string().contains("was lost"), "{refused}");
        drop(first);
        let third = take(alone("third", Span::seconds(0)), |_| ()).await.expect("it is free");
        let fence = third.fence();
        drop(third);
        assert!(fence.permit().await.is_err_and(|why| why.contains("given back")));

        // One that tells the time: of a holder on another machine, silent for its lease; and of a dead one on this.
        let words = ["/never-started".to_owned()];
        let mut left = alone("left", Span::default()).holder;
        left.sign = Sign::Clock;
        engine.make_hold(&names, "alphanode/site:1.0", &words, &left, None).await.expect("it is free");
        let began = Instant::now();
        let next = take(alone("next", Span::seconds(300)), |_| ()).await.expect("it is silent");
        assert!(next.instead_of.iter().any(|why| why.contains("left: silent for ")), "{:?}", next.instead_of);
        assert!(began.elapsed() > Duration::from_secs(15), "its lease lasts");
        drop(next);
        let mut dead = std::process::Command::new("/bin/true").spawn().expect("a program");
        dead.wait().expect("it ends");
        left.process = dead.id();
        left.origin = origin();
        engine.make_hold(&names, "alphanode/site:1.0", &words, &left, None).await.expect("it is free");
        let next = take(alone("next", Span::default()), |_| ()).await.expect("its process has ended");
        assert!(next.instead_of.iter().any(|why| why.ends_with("its process has ended")), "{:?}", next.instead_of);
        drop(next);
        // One whose process is seen to live holds it, whatever keeps its signs from the engine.
        left.process = std::process::id();
        left.lease = Span::seconds(1);
        engine.make_hold(&names, "alphanode/site:1.0", &words, &left, None).await.expect("it is free");
        let refused = take(alone("next", Span::seconds(5)), |_| ()).await.expect_err("it is held");
        assert!(refused.to_string().contains("left, since"), "{refused}");
        stack.docker.remove_container(&stack.name("live", "lock"));
        // Somebody who tidies up takes what does not run.
        let clock = request("copy", Span::default(), &["/never-started"], Sign::Clock);
        let held = take(clock, |_| ()).await.expect("it is free");
        let lock = stack.name("live", "lock");
        let first = stack.docker.identity(&lock);
        stack.docker.remove_container(&lock);
        until("the lock to be made again", || stack.docker.exists("containers", &lock).then_some(()));
        assert_ne!(stack.docker.identity(&lock), first);
        let fenced = engine.fenced(held.fence());
        fenced.remove_network(&names.network("one")).await.expect("it is held all the time");
    });
    lock_is_gone(&stack);
}

//! An engine that is away, hangs or is not one: exit 7, in time, with nothing changed.

use crate::support::{At, Engine, Fault, Proxy, Scenario, project};
use rustix::process::Signal;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

/// How long an engine that does not answer may hold a command up.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same of what is seen at once.
const AT_ONCE: Duration = Duration::from_secs(30);

#[test]
fn an_engine_that_is_not_there_is_said_at_once() {
    let stack = Scenario::with("engine_absent", project::small);
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("engine.sock");
    for arguments in
        [&["plan", "live"][..], &["apply", "live"], &["verify", "live"], &["status"], &["down", "live"], &["lock"]]
    {
        let ran = stack.start(arguments, Some(&format!("unix://{}", nowhere.display()))).finish().exits(7);
        assert!(ran.stderr.contains("engine.sock"), "it names the socket: {ran}");
        assert!(ran.elapsed < AT_ONCE, "{ran}");
    }
    // A socket that nobody serves any more.
    drop(UnixListener::bind(&nowhere).expect("a socket"));
    stack.start(&["plan", "live"], Some(&format!("unix://{}", nowhere.display()))).finish().exits(7);
    stack.start(&["plan", "live"], Some("tcp://127.0.0.1:1")).finish().exits(2);
    stack.run(&["check"]).ok();
}

#[test]
fn something_that_is_no_engine_is_said() {
    use std::io::{Read as _, Write as _};
    let stack = Scenario::with("engine_nonsense", project::small);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\": [",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(answer.as_bytes());
            }
        });
        let ran = stack.start(&["plan", "live"], Some(&format!("unix://{}", path.display()))).finish().exits(7);
        assert!(ran.elapsed < AT_ONCE, "{ran}");
    }
}

/// Slow on purpose: what is tested is a deadline. The three wait at the same time.
#[test]
fn an_engine_that_hangs_is_given_up_in_time() {
    let stack = Scenario::with("engine_hangs", project::small);
    let folder = tempfile::tempdir().expect("a folder");
    let silent = folder.path().join("engine.sock");
    let _listener = UnixListener::bind(&silent).expect("a socket");
    let proxy = Proxy::start();
    let list = Proxy::start();
    list.arm(At::Matching("GET", "/containers/json".to_owned()), Fault::Hold);
    proxy.arm(At::Matching("POST", "/networks/create".to_owned()), Fault::Hold);
    let stack = &stack;
    thread::scope(|scope| {
        scope.spawn(|| {
            let ran = stack.start(&["plan", "live"], Some(&format!("unix://{}", silent.display()))).finish().exits(7);
            assert!(ran.elapsed < PATIENCE, "{ran}");
            eprintln!("an engine that never answers: given up after {:.0?}", ran.elapsed);
        });
        scope.spawn(|| {
            let ran = stack.start(&["status", "live"], Some(&list.address())).finish().exits(7);
            assert!(ran.elapsed < PATIENCE, "{ran}");
        });
        scope.spawn(|| {
            let ran = stack.start(&["apply", "live"], Some(&proxy.address())).finish();
            assert!(ran.elapsed < PATIENCE, "{ran}");
            assert!(ran.stderr.contains("again"), "it looks again, or says how to go on: {ran}");
        });
    });
    proxy.release();
    list.release();
    proxy.settle();
    stack.apply("live");
    stack.is_right("live");
    let networks = stack.docker.get("/networks");
    let name = stack.name("live", "private");
    let found =
        networks.as_array().into_iter().flatten().filter(|network| network["Name"] == serde_json::json!(name)).count();
    assert_eq!(found, 1, "the late network is the only one");
}

/// Slow on purpose, as above.
#[test]
fn an_engine_that_is_frozen_is_given_up_and_found_again() {
    let stack = Scenario::with("engine_frozen", project::small);
    let engine = Engine::start();
    let host = format!("unix://{}", engine.socket().display());
    let plan = || stack.start(&["plan", "live"], Some(&host)).finish();
    // It has none of the images, which is an answer.
    plan().exits(2);
    engine.signal(Signal::STOP);
    let frozen = plan().exits(7);
    engine.signal(Signal::CONT);
    assert!(frozen.elapsed < PATIENCE, "{frozen}");
    plan().exits(2);
}

fn lives_at(stack: &Scenario, address: &str) {
    let file = stack.read("environments/live.yaml");
    let rest: Vec<&str> = file.lines().filter(|line| !line.starts_with("engine:")).collect();
    stack.write("environments/live.yaml", &format!("engine: {address}\n{}\n", rest.join("\n")));
}

/// Everything ends with the engine and comes back with it, and so does half a change.
#[test]
fn a_change_in_which_the_engine_is_restarted_is_finished_by_the_next_run() {
    // First, so that it goes last.
    let mut engine = Engine::start();
    let stack = engine.redis("engine_restart");
    stack.edit("redis:\n  cache:", "rehearse: never\n\nredis:\n  cache:");
    let own = format!("unix://{}", engine.socket().display());
    lives_at(&stack, &own);
    engine.inside(|| {
        stack.apply("live");
        stack.redis("live").fill(1000);
    });
    let spec = stack.read("environments/stack.yaml");
    let another = |files: u32| spec.replace("memory: 64mb }", &format!("memory: 64mb, files: {files} }}"));
    let other_volume = At::MatchingNth("POST", "private/disconnect".to_owned(), 2);
    for (at, fault, changed) in [
        (other_volume, Fault::Hold, another(15_000)),
        (At::Matching("POST", "/rename".to_owned()), Fault::HoldReply, another(16_000)),
    ] {
        let proxy = Proxy::before(engine.socket());
        proxy.arm(at.clone(), fault);
        lives_at(&stack, &proxy.address());
        stack.write_spec(&changed);
        let running = engine.inside(|| {
            let running = stack.start(&["apply", "live"], None);
            proxy.wait_for_hit();
            running
        });
        engine.restart();
        proxy.release();
        let ran = running.finish();
        assert_ne!(ran.code, 0, "its lock went with the engine: {ran}");
        lives_at(&stack, &own);
        engine.inside(|| {
            let again = stack.run(&["apply", "live"]);
            assert_eq!(again.code, 0, "after a restart at {at:?}: {ran}\n{again}");
            stack.is_right("live");
            stack.redis("live").holds(1000);
            stack.run(&["history", "verify", "live"]).ok();
        });
    }
}

/// A copy is launched, used or taken away when its engine dies: the run fails or ends, and the next one leaves nothing.
#[test]
fn a_copy_whose_engine_is_killed_is_taken_away_by_the_next_run() {
    let mut engine = Engine::start();
    let stack = engine.redis("engine_killed");
    let own = format!("unix://{}", engine.socket().display());
    let script = "echo running; sleep 1";
    for (at, fault) in [
        (At::Matching("POST", "/containers/create".to_owned()), Fault::HoldReply),
        (At::MatchingNth("POST", "/start".to_owned(), 2), Fault::Hold),
        (At::MatchingNth("POST", "/start".to_owned(), 2), Fault::HoldReply),
        (At::Matching("DELETE", "/containers/".to_owned()), Fault::Hold),
        (At::MatchingNth("DELETE", "/".to_owned(), 3), Fault::HoldReply),
    ] {
        let proxy = Proxy::before(engine.socket());
        proxy.arm(at.clone(), fault);
        lives_at(&stack, &proxy.address());
        let running = engine.inside(|| {
            let running = stack.start(&["run", "live", "--", "/bin/sh", "-c", script], None);
            proxy.wait_for_hit();
            running
        });
        engine.kill();
        proxy.release();
        let broken = running.finish();
        lives_at(&stack, &own);
        engine.inside(|| {
            let next = stack.run(&["run", "live", "--", "/bin/sh", "-c", script]);
            assert_eq!(next.code, 0, "after {at:?}: {broken}\n{next}");
            assert_eq!(next.stdout, "running\n");
        });
        let left = stack.docker.labelled(crate::support::docker::STACK, &stack.stack);
        assert!(left.is_empty(), "after {at:?}: {left:?}\n{broken}");
    }
}

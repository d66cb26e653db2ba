//! Asked to stop, it finishes the step in hand, says how to go on, and the next run goes on.

use crate::support::{At, Fault, Proxy, Scenario, project};
use rustix::process::Signal;

fn stopped_by(test: &'static str, signal: Signal, code: i32) {
    let stack = Scenario::with(test, project::small);
    let proxy = Proxy::start();
    let create = format!("/containers/create?name={}", stack.name("live", "cache"));
    proxy.arm(At::Matching("POST", create), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    running.signal(signal);
    running.says("stopping");
    proxy.release();
    let ran = running.finish();
    assert_eq!((ran.code, ran.signal), (code, None), "{ran}");
    assert!(ran.stderr.contains("run the same command again"), "it says how to go on: {ran}");
    assert!(stack.docker.exists("containers", &stack.name("live", "cache")), "the step in hand was finished: {ran}");
    assert!(!stack.docker.running(&stack.name("live", "cache")), "and no other was begun: {ran}");
    stack.run(&["plan", "live"]).exits(3);
    stack.apply("live");
    stack.is_right("live");
}

#[test]
fn sigint_stops_after_the_step_in_hand_with_130() {
    stopped_by("sigint", Signal::INT, 130);
}

#[test]
fn sigterm_stops_after_the_step_in_hand_with_143() {
    stopped_by("sigterm", Signal::TERM, 143);
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_run_goes_on() {
    let stack = Scenario::with("sigint_twice", project::small);
    let proxy = Proxy::start();
    proxy.arm(At::Matching("PUT", "/archive".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    running.signal(Signal::INT);
    running.says("stopping");
    running.signal(Signal::INT);
    let ran = running.finish();
    assert_eq!((ran.code, ran.signal), (130, None), "{ran}");
    proxy.release();
    proxy.settle();
    stack.apply("live");
    stack.is_right("live");
}

#[test]
fn a_signal_while_it_only_looks_changes_nothing() {
    let stack = Scenario::with("sigint_look", project::small);
    let proxy = Proxy::start();
    proxy.arm(At::Matching("GET", "/networks".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live"]);
    proxy.wait_for_hit();
    running.signal(Signal::INT);
    let ran = running.finish();
    proxy.release();
    assert!(ran.code == 130 || ran.signal == Some(Signal::INT.as_raw()), "{ran}");
    assert_eq!(stack.objects("live").len(), 0);
}

//! Asked to stop, it finishes the step in hand and takes back what was done; asked twice, the next run goes on.

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
    assert!(ran.stderr.contains("everything is as it was before"), "it says what is left of it: {ran}");
    assert_eq!(stack.objects("live").len(), 0, "the step in hand was finished and all of it taken back: {ran}");
    stack.apply("live");
    stack.is_right("live");
}

#[test]
fn sigint_takes_back_what_was_done_and_ends_with_130() {
    stopped_by("sigint", Signal::INT, 130);
}

#[test]
fn sigterm_takes_back_what_was_done_and_ends_with_143() {
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
    running.signal(Signal::TERM);
    let ran = running.finish();
    proxy.release();
    assert!(ran.code == 143 || ran.signal == Some(Signal::TERM.as_raw()), "{ran}");
    assert_eq!(stack.objects("live").len(), 0);
}

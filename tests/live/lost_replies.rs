//! A reply that never comes says nothing about what was done; a refusal says that it was not. The next run knows.

use crate::support::{At, Fault, Proxy, Scenario, project};
use std::collections::BTreeSet;
use std::thread;

fn site_with(test: &'static str) -> (Scenario, BTreeSet<String>) {
    let stack = Scenario::with(test, project::site);
    stack.apply("live");
    let expected = stack.objects("live");
    stack.wipe("live");
    (stack, expected)
}

/// One fault, then a plain run; the environment is as it should be, once.
#[track_caller]
fn fault_then_again(stack: &Scenario, environment: &str, expected: &BTreeSet<String>, at: At, fault: Fault) {
    let proxy = Proxy::start();
    proxy.arm(at.clone(), fault);
    let hit = stack.run_through(&proxy, &["apply", environment]);
    let call = proxy.hit();
    // Not every run asks as often as the one that was counted; then nothing of it went wrong.
    assert!(call.is_some() || (matches!(at, At::Mutation(_)) && hit.code == 0), "{at:?} was never asked: {hit}");
    assert_eq!(hit.signal, None, "{hit}");
    let met = call.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    // Giving the lock back is the one thing that may fail unseen: it goes with the connection.
    if fault == Fault::Refuse && call.is_some_and(|call| call.method != "DELETE") {
        assert_ne!(hit.code, 0, "refused at {met}: {hit}");
    }
    if hit.code == 0 {
        // It went on, so it must have seen that all is well.
        stack.is_right(environment);
    } else {
        assert!(hit.stderr.contains("error"), "it says what it could not do: {hit}");
    }
    proxy.settle();
    let again = stack.run(&["apply", environment]);
    assert_eq!(again.code, 0, "after {fault:?} at {met}: {again}");
    assert_eq!(&stack.objects(environment), expected, "after {fault:?} at {met}");
    stack.is_right(environment);
    stack.wipe(environment);
}

#[test]
fn a_lost_reply_leads_to_no_double_and_the_next_run_goes_on() {
    let (stack, expected) = site_with("lost_reply");
    for (method, path) in [
        ("POST", "/networks/create".to_owned()),
        ("POST", "/volumes/create".to_owned()),
        ("POST", format!("/containers/create?name={}", stack.name("live", "cache"))),
        ("POST", format!("/containers/create?name={}", stack.name("live", "web"))),
        ("POST", format!("/containers/create?name={}", stack.name("live", "files"))),
        ("POST", "/connect".to_owned()),
        ("POST", format!("/containers/{}/start", stack.name("live", "cache"))),
        ("POST", format!("/containers/{}/start", stack.name("live", "web"))),
        ("PUT", "/archive".to_owned()),
    ] {
        fault_then_again(&stack, "live", &expected, At::Matching(method, path), Fault::LoseReply);
    }
}

#[test]
fn a_refusal_of_any_step_is_told_and_the_next_run_goes_on() {
    let (stack, expected) = site_with("refused");
    let proxy = Proxy::start();
    stack.run_through(&proxy, &["apply", "live"]).ok();
    let mutations = proxy.mutations().len();
    stack.wipe("live");
    stack.environment("other", &format!("port: {}", crate::support::free_port()));
    let (stack, expected) = (&stack, &expected);
    thread::scope(|scope| {
        for (lane, environment) in ["live", "other"].into_iter().enumerate() {
            scope.spawn(move || {
                for number in (1..=mutations).skip(lane).step_by(2) {
                    fault_then_again(stack, environment, expected, At::Mutation(number), Fault::Refuse);
                }
            });
        }
    });
}

#[test]
fn a_look_that_fails_is_no_reason_to_act() {
    let stack = Scenario::with("refused_look", project::small);
    stack.apply("live");
    stack.redis("live").fill(10);
    let before = ["cache", "web", "files"].map(|name| stack.docker.identity(&stack.name("live", name)));
    let objects = stack.objects("live");
    let proxy = Proxy::start();
    stack.run_through(&proxy, &["apply", "live"]).ok();
    let looks = proxy.calls().len();
    for number in 1..=looks {
        for fault in [Fault::Refuse, Fault::LoseReply] {
            proxy.arm(At::Request(number), fault);
            let ran = stack.run_through(&proxy, &["apply", "live"]);
            let sent: Vec<String> = proxy.mutations().iter().map(|call| call.path.clone()).collect();
            assert_eq!(sent, Vec::<String>::new(), "{fault:?} of look {number}: {ran}");
            assert!([0, 1, 7].contains(&ran.code), "{fault:?} of look {number}: {ran}");
        }
    }
    assert_eq!(before, ["cache", "web", "files"].map(|name| stack.docker.identity(&stack.name("live", name))));
    assert_eq!(objects, stack.objects("live"));
    stack.redis("live").holds(10);
    stack.is_right("live");
}

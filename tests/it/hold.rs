//! Who holds an environment, decided from what an engine says of a container.

use lockstep::hold::{Found, Holder, Judgement, Sign, Stage, USUAL_LEASE, judge, pulse_at, since_pulse};
use lockstep::store::who::{Fate, fate, living_maker, maker, origin};
use lockstep::value::Span;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn holder(sign: Sign) -> Holder {
    Holder {
        verb: "apply".to_owned(),
        reason: "keep popular pages".to_owned(),
        who: "ana".to_owned(),
        host: "desk".to_owned(),
        process: 71,
        origin: String::new(),
        lease: USUAL_LEASE,
        sign,
    }
}

fn found(stage: Stage, sign: Sign, silent: Option<u64>) -> Found {
    let silent = silent.map(Span::seconds);
    Found { id: "4f".to_owned(), ours: true, holder: holder(sign), stage, busy: false, made: 0, silent, pulse: 2 }
}

fn read(labels: &BTreeMap<String, String>) -> Holder {
    Holder::of(|name| labels.get(name).map(String::as_str))
}

#[test]
fn what_runs_and_speaks_is_held_and_what_is_silent_for_longer_than_its_lease_is_not() {
    let look = |stage, sign, silent, watched| judge(&found(stage, sign, silent), Span::seconds(watched));
    assert_eq!(look(Stage::Runs, Sign::Lines, Some(3), 0), Judgement::Held);
    assert_eq!(look(Stage::Runs, Sign::Lines, Some(60), 600), Judgement::Held);
    // The engine was busy with it: that is no silence.
    assert_eq!(look(Stage::Runs, Sign::Lines, None, 600), Judgement::Held);
    assert_eq!(look(Stage::Runs, Sign::Lines, Some(75), 0), Judgement::Stale("silent for 1m15s".to_owned()));
    for sign in [Sign::Pulse, Sign::PulseAlone] {
        assert_eq!(look(Stage::Runs, sign, None, 60), Judgement::Held);
        assert_eq!(look(Stage::Runs, sign, None, 61), Judgement::Stale("silent for 1m1s".to_owned()));
    }
}

#[test]
fn what_was_made_and_not_started_is_watched_before_it_is_taken_for_dead() {
    let look = |sign, watched| judge(&found(Stage::Made, sign, None), Span { milliseconds: watched });
    assert_eq!(look(Sign::Lines, 900), Judgement::Undecided);
    assert_eq!(look(Sign::Pulse, 1000), Judgement::Stale("it was never started".to_owned()));
    // One that has no process never is.
    assert_eq!(look(Sign::PulseAlone, 60_000), Judgement::Held);
    assert!(matches!(look(Sign::PulseAlone, 60_001), Judgement::Stale(_)));
    assert!(matches!(judge(&found(Stage::Ended, Sign::Lines, None), Span::default()), Judgement::Stale(_)));
}

#[test]
fn a_pulse_that_is_a_time_says_how_long_a_holder_is_silent() {
    let ago = |seconds: i64, later: i64| since_pulse(pulse_at(seconds), seconds + later);
    let seconds = |seconds| Some(Span::seconds(seconds));
    for began in [0, 199_999, 1_795_896_000] {
        for later in [0, 61, 90_000, 199_000] {
            assert_eq!(ago(began, later), seconds(later.unsigned_abs()));
        }
        assert_eq!(ago(began, -5), seconds(0), "a clock that was set back");
    }
    assert_eq!(since_pulse(0, 1_795_896_000), None, "it was never set");
    let look = |silent| judge(&found(Stage::Made, Sign::Clock, Some(silent)), Span::default());
    assert_eq!((look(60), look(61)), (Judgement::Held, Judgement::Stale("silent for 1m1s".to_owned())));
}

#[test]
fn a_process_that_has_ended_is_known_by_where_it_began() {
    let of = |process: u32, origin: &str| Holder { process, origin: origin.to_owned(), ..holder(Sign::Clock) };
    let here = origin();
    let own = std::process::id();
    assert_eq!(fate(&of(own, &here), true), Fate::Lives);
    let mut child = std::process::Command::new("/bin/true").spawn().expect("a program");
    let (space, _) = here.rsplit_once(' ').expect("a start");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it was not waited for");
    let began = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).expect("its start");
    let ended = of(child.id(), &format!("{space} {began}"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fate(&ended, false) != Fate::Dead {
        assert!(std::time::Instant::now() < deadline, "one that nobody has waited for is dead");
    }
    child.wait().expect("it ends");
    assert_eq!(fate(&ended, false), Fate::Dead, "nor is it there now");
    assert_eq!(fate(&of(own, &format!("{space} 1")), false), Fate::Dead, "another one has its id");
    let elsewhere = space.replace("pid:", "pid:9");
    for origin in ["", "1", &format!("{elsewhere} {began}"), "4f2c pid:[4026531836] time:[4026531834] 77"] {
        assert_eq!(fate(&of(child.id(), origin), false), Fate::Unknown, "{origin}");
    }
    assert_eq!(fate(&of(own, &format!("{elsewhere} {began}")), true), Fate::Unknown, "in another container");
    let before = here.replace(here.split(' ').next().unwrap_or_default(), "4f2c");
    assert_eq!(fate(&of(own, &before), true), Fate::Dead, "the machine was started since");
    assert_eq!(living_maker(&maker()).map(|holder| holder.process), Some(own));
    for other in [String::new(), "1".to_owned(), format!("{} {space} {began}", child.id()), format!("{own} {before}")] {
        assert_eq!(living_maker(&other), None, "{other}");
    }
}

#[test]
fn a_container_without_our_labels_is_somebody_elses_however_dead() {
    for stage in [Stage::Made, Stage::Runs, Stage::Ended] {
        let found = Found { ours: false, ..found(stage, Sign::Lines, Some(9999)) };
        assert_eq!(judge(&found, Span::seconds(9999)), Judgement::Foreign);
    }
}

#[test]
fn a_holder_is_told_in_one_line() {
    assert_eq!(holder(Sign::Lines).to_string(), "ana@desk, process 71, apply: keep popular pages");
    let nobody = Holder::of(|_| None);
    assert_eq!(nobody.to_string(), "somebody@an unknown host, process 0, doing something");
    assert_eq!((nobody.lease, nobody.sign), (USUAL_LEASE, Sign::Lines));
}

proptest! {
    /// Labels are read by everybody and written by whoever likes: what is shown of them stays short and on its line.
    #[test]
    fn what_a_holder_says_is_bounded_and_without_control_characters(reason in "\\PC{0,400}|(?s).{0,400}", who in ".{0,20}") {
        let said = Holder { reason, who, ..holder(Sign::Pulse) };
        let labels = said.labels();
        for value in labels.values() {
            prop_assert!(value.chars().count() <= 200);
            prop_assert!(!value.chars().any(char::is_control));
        }
        let again = read(&labels);
        prop_assert_eq!(&again.labels(), &labels);
        prop_assert_eq!((again.sign, again.lease, again.process), (said.sign, said.lease, said.process));
        prop_assert!(!again.to_string().chars().any(char::is_control));
    }
}

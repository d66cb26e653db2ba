//! Which backups stay: what must hold for every history, and the words that a person reads.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lockstep::backup::State;
use lockstep::backup::retention::{self, Candidate, Decision, Failure, Refusal};
use lockstep::spec::Keep;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

const HOUR: i64 = 3_600;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn taken(id: &str, taken_at: &str, state: State) -> Candidate {
    let taken_at = Some(at(taken_at));
    Candidate {
        id: id.to_owned(),
        service: "cache".to_owned(),
        taken_at,
        state,
        pinned: false,
        change: false,
        imported: false,
    }
}

/// One backup a day at five, the newest first: `d0`, `d1`, ...
fn daily(days: i64) -> Vec<Candidate> {
    let newest = at("2026-11-23T05:00:00Z");
    let one = |day: i64| Candidate {
        taken_at: Timestamp::from_second(newest.as_second() - day * 24 * HOUR).ok(),
        ..taken(&format!("d{day}"), "2026-11-23T05:00:00Z", State::Verified)
    };
    (0..days).map(one).collect()
}

fn decide(candidates: &[Candidate], keep: Keep) -> Vec<Decision> {
    retention::decide(candidates, &[], &keep, at("2026-11-23T06:00:00Z")).expect("nothing speaks against it")
}

fn kept(decisions: &[Decision]) -> Vec<&str> {
    decisions.iter().filter(|decision| decision.keep).map(|decision| decision.id.as_str()).collect()
}

fn reasons(decisions: &[Decision], id: &str) -> String {
    decisions.iter().find(|decision| decision.id == id).expect("a decision").reasons.join("; ")
}

#[test]
fn periods_count_and_each_decision_says_why() {
    let keep = Keep { last: 2, daily: 3, weekly: 2, monthly: 2, yearly: 1, ..Keep::default() };
    let decisions = decide(&daily(40), keep);
    assert_eq!(kept(&decisions), ["d0", "d1", "d2", "d23"], "the newest of each of the periods");
    assert_eq!(
        reasons(&decisions, "d0"),
        "one of the two newest proven; one of the newest 2; newest daily of 2026-11-23; newest weekly of 2026-W48; \
         newest monthly of 2026-11; newest yearly of 2026"
    );
    assert_eq!(reasons(&decisions, "d23"), "newest monthly of 2026-10");
    assert_eq!(reasons(&decisions, "d5"), "no rule of `backup.keep` asks for it");
}

#[test]
fn what_was_read_back_stands_for_its_period_before_what_is_newer_and_was_not() {
    let candidates = [
        taken("evening", "2026-11-20T20:00:00Z", State::Captured),
        taken("noon", "2026-11-20T12:00:00Z", State::Verified),
        taken("morning", "2026-11-20T08:00:00Z", State::Verified),
        taken("new", "2026-11-22T08:00:00Z", State::Verified),
        taken("newer", "2026-11-23T05:00:00Z", State::Drilled),
    ];
    let decisions = decide(&candidates, Keep { daily: 3, ..Keep::default() });
    assert_eq!(kept(&decisions), ["newer", "new", "noon"]);
}

#[test]
fn damaged_ones_fill_no_place_and_go_only_when_two_others_are_proven() {
    let mut candidates = daily(4);
    candidates[0].state = State::Damaged;
    let keep = Keep { last: 1, ..Keep::default() };
    let decisions = decide(&candidates, keep);
    assert_eq!(kept(&decisions), ["d1", "d2"]);
    assert_eq!(reasons(&decisions, "d0"), "damaged, and two others are proven");
    for candidate in &mut candidates[1..3] {
        candidate.state = State::Captured;
    }
    assert_eq!(kept(&decide(&candidates, keep)).len(), 4, "with one proven, whatever there is may be all there is");
}

#[test]
fn pinned_ones_and_those_of_changes_stay() {
    let mut candidates = daily(9);
    candidates[5].pinned = true;
    candidates[7].change = true;
    let decisions = decide(&candidates, Keep { last: 1, ..Keep::default() });
    assert_eq!(kept(&decisions), ["d0", "d1", "d5", "d7"]);
    assert_eq!(reasons(&decisions, "d5"), "pinned");
    assert_eq!(reasons(&decisions, "d7"), "taken for a change");
}

#[test]
fn services_do_not_count_for_each_other() {
    let mut candidates = daily(3);
    candidates.extend(daily(3).into_iter().map(|candidate| Candidate {
        id: format!("store-{}", candidate.id),
        service: "store".to_owned(),
        ..candidate
    }));
    let decisions = decide(&candidates, Keep { last: 1, ..Keep::default() });
    assert_eq!(kept(&decisions), ["d0", "d1", "store-d0", "store-d1"]);
}

#[test]
fn nothing_is_decided_after_a_failure_under_another_clock_or_without_a_rule() {
    let (candidates, now) = (daily(5), at("2026-11-23T06:00:00Z"));
    let keep = Keep { last: 1, ..Keep::default() };
    let refused = |failures: &[Failure], keep: Keep, now| retention::decide(&candidates, failures, &keep, now).err();
    assert_eq!(refused(&[], Keep::default(), now), Some(Refusal::KeepsNothing));
    let failed = |at| Failure { service: "cache".to_owned(), at };
    let refusal = Some(Refusal::Failed { service: "cache".to_owned() });
    assert_eq!(refused(&[failed(Some(at("2026-11-23T05:30:00Z")))], keep, now), refusal);
    assert_eq!(refused(&[failed(None)], keep, now), refusal, "nobody knows when");
    assert_eq!(refused(&[failed(Some(at("2026-11-23T04:59:00Z")))], keep, now), None, "one succeeded since");
    let other = Failure { service: "store".to_owned(), at: Some(at("2020-01-01T00:00:00Z")) };
    assert!(matches!(refused(&[other], keep, now), Some(Refusal::Failed { .. })), "it never succeeded");
    assert!(matches!(refused(&[], keep, at("2026-11-23T04:00:00Z")), Some(Refusal::FromTheFuture { .. })));
    assert_eq!(refused(&[], keep, at("2026-11-23T04:59:30Z")), None, "two machines differ by seconds");
}

#[test]
fn one_that_does_not_read_stays_and_stands_for_nothing() {
    let mut candidates = daily(3);
    candidates.push(Candidate { taken_at: None, ..taken("riddle", "2026-11-23T05:00:00Z", State::Damaged) });
    let decisions = decide(&candidates, Keep { last: 1, ..Keep::default() });
    assert_eq!(kept(&decisions), ["riddle", "d0", "d1"]);
}

const STATES: [State; 7] = [
    State::Captured,
    State::Verified,
    State::Drilled,
    State::Partial,
    State::Unverified,
    State::Copied,
    State::Damaged,
];

fn histories() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0i64..3 * 365 * 24 * 6, select(&STATES[..]), 0u8..10, select(&["cache", "store"][..]));
    vec(one, 0..60).prop_map(|backups| {
        let numbered = backups.into_iter().enumerate();
        let candidate = |(number, (age, state, luck, service)): (usize, (i64, State, u8, &str))| Candidate {
            id: format!("{service}-{number}"),
            service: service.to_owned(),
            taken_at: Timestamp::from_second(at("2026-11-23T06:00:00Z").as_second() - age * HOUR / 6).ok(),
            state,
            pinned: luck == 0,
            change: luck == 1,
            imported: false,
        };
        numbered.map(candidate).collect()
    })
}

fn keeps() -> impl Strategy<Value = Keep> {
    (0u32..4, 0u32..4, 0u32..4, 0u32..4, 0u32..4, 1u32..4).prop_map(|(last, hourly, daily, weekly, monthly, yearly)| {
        Keep { last, hourly, daily, weekly, monthly, yearly }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn retention_never_removes_what_may_be_needed(candidates in histories(), keep in keeps()) {
        let decisions = decide(&candidates, keep);
        prop_assert_eq!(decisions.len(), candidates.len());
        let removed: BTreeSet<&str> =
            decisions.iter().filter(|decision| !decision.keep).map(|decision| decision.id.as_str()).collect();
        let mut proven: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
        for candidate in &candidates {
            prop_assert!(!(candidate.pinned || candidate.change) || !removed.contains(candidate.id.as_str()));
            if candidate.state.is_proven() {
                proven.entry(&candidate.service).or_default().push(candidate);
            }
        }
        for candidate in &candidates {
            let of_service = proven.get(candidate.service.as_str()).map_or(&[][..], Vec::as_slice);
            prop_assert!(of_service.len() >= 2 || !removed.contains(candidate.id.as_str()));
            let newer = of_service.iter().filter(|other| other.taken_at > candidate.taken_at).count();
            let same = of_service.iter().filter(|other| other.taken_at == candidate.taken_at).count();
            prop_assert!(!candidate.state.is_proven() || newer + same > 2 || !removed.contains(candidate.id.as_str()));
        }
        for decision in &decisions {
            prop_assert!(!decision.reasons.is_empty());
        }
    }

    #[test]
    fn pruning_twice_removes_nothing_more_and_order_does_not_matter(candidates in histories(), keep in keeps()) {
        let decisions = decide(&candidates, keep);
        let staying: BTreeSet<&str> = kept(&decisions).into_iter().collect();
        let mut left: Vec<Candidate> =
            candidates.iter().filter(|candidate| staying.contains(candidate.id.as_str())).cloned().collect();
        left.reverse();
        let again = decide(&left, keep);
        prop_assert_eq!(kept(&again).len(), left.len());
    }

    #[test]
    fn keeping_more_never_removes_more(candidates in histories(), keep in keeps(), more in 0u32..3) {
        let wider = Keep { last: keep.last + more, daily: keep.daily + more, weekly: keep.weekly + more, ..keep };
        let few: BTreeSet<String> = kept(&decide(&candidates, keep)).into_iter().map(str::to_owned).collect();
        let many: BTreeSet<String> = kept(&decide(&candidates, wider)).into_iter().map(str::to_owned).collect();
        prop_assert!(few.is_subset(&many), "{:?}", few.difference(&many));
    }
}

/// A file of last year that is kept today pushes no backup of today out, and is pushed out by none.
#[test]
fn what_was_imported_is_counted_by_itself() {
    let of = |id: &str, hour: u8| taken(id, &format!("2026-11-23T0{hour}:00:00Z"), State::Verified);
    let file = Candidate { imported: true, ..of("file", 5) };
    let all = [file, of("night", 2), of("evening", 1), of("morning", 0)];
    assert_eq!(kept(&decide(&all, Keep { daily: 1, ..Keep::default() })), ["night", "evening", "file"]);
    // Nor does it say that a backup succeeded since one failed.
    let failed = Failure { service: "cache".to_owned(), at: Some(at("2026-11-23T04:00:00Z")) };
    let keep = Keep { daily: 1, ..Keep::default() };
    let refused = retention::decide(&all, &[failed], &keep, at("2026-11-23T06:00:00Z"));
    assert!(matches!(refused, Err(Refusal::Failed { .. })));
}

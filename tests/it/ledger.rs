//! The ledger: whoever wrote it, whatever befell it, it says so.

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lockstep::ledger::chain::{self, Stored, is_sealed};
use lockstep::ledger::{self, Anchor, Begin, Broken, End, Head, Outcome, Part, Who, file_name, parse_file_name};
use lockstep::measure::{Measure, Sample, Unit, Verdict};
use lockstep::model::Bucket;
use lockstep::store::repository::Repository;
use lockstep::store::repository::ledger::{Ledger, LedgerError, Open};
use lockstep::store::repository::local::Local;
use lockstep::store::repository::remote::{Credentials, Patience, Remote};
use lockstep::value::Digest;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;

use crate::support::project::{Project, put};
use crate::support::s3::S3;
use crate::support::stores::{Lie, Memory};

const HEAD: &str = "shop/live/ledger-head.json";

fn on(store: &Memory) -> Ledger {
    repository(store).ledger()
}

fn repository(store: &Memory) -> Repository {
    Repository::new(Arc::new(store.clone()), "shop", "live")
}

fn in_folder(folder: &tempfile::TempDir) -> Ledger {
    Repository::new(Arc::new(Local::new(folder.path().join("backups"))), "shop", "live").ledger()
}

fn on_bucket(server: &S3) -> Ledger {
    let bucket = Bucket {
        name: "bucket".to_owned(),
        prefix: String::new(),
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
    };
    let credentials =
        Credentials { access_key_id: "id".to_owned(), secret_access_key: "secret".to_owned(), session_token: None };
    let patience = Patience {
        retries: 1,
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        request: Duration::from_secs(5),
        altogether: Duration::from_secs(10),
    };
    let store = Remote::open(&bucket, credentials, patience).expect("a store");
    Repository::new(Arc::new(store), "shop", "live").ledger()
}

fn change(reason: &str) -> Begin {
    Begin { verb: "apply".to_owned(), reason: reason.to_owned(), ..Begin::default() }
}

fn ended(outcome: Outcome) -> End {
    End { outcome, ..End::default() }
}

fn begin(ledger: &Ledger, reason: &str) -> Open {
    ledger.begin(&mut change(reason)).expect("it begins")
}

fn whole(ledger: &Ledger, reason: &str) {
    let open = begin(ledger, reason);
    ledger.end(&open, &mut ended(Outcome::Done)).expect("it ends");
}

fn key(number: u64, part: Part) -> String {
    format!("shop/live/ledger/{}", file_name(number, part))
}

/// A ledger of so many changes, the last one unfinished or not.
fn written(changes: usize, unfinished: bool) -> (Memory, Ledger) {
    let store = Memory::default();
    let ledger = on(&store);
    for number in 0..changes {
        whole(&ledger, &format!("change {number}"));
    }
    if unfinished {
        begin(&ledger, "in the middle");
    }
    (store, ledger)
}

fn records(store: &Memory) -> Vec<Stored> {
    let objects = store.objects.lock().unwrap();
    let own = objects.iter().filter_map(|(key, (bytes, _))| {
        let name = key.strip_prefix("shop/live/ledger/")?.to_owned();
        Some(Stored { name, bytes: Ok(bytes.clone()) })
    });
    own.collect()
}

/// What the records say without anybody outside.
fn alone(records: &[Stored]) -> Vec<Broken> {
    chain::verify("shop", "live", records, &[])
}

fn names(broken: &[Broken]) -> Vec<&str> {
    broken.iter().map(|broken| broken.record.as_str()).collect()
}

/// The record again as somebody writes it who knows how a seal is made.
fn resealed(bytes: &[u8], change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Vec<u8> {
    let mut record: serde_json::Map<String, Value> = serde_json::from_slice(bytes).expect("a record");
    record.remove("seal");
    change(&mut record);
    chain::sealed(&record).expect("sealed")
}

// ---------------------------------------------------------------------------------------------------------------------
// The chain
// ---------------------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(40),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_edit_of_a_single_byte_is_found_and_named(
        changes in 1usize..4, unfinished: bool, which: prop::sample::Index, at: prop::sample::Index, flip in 1u8..,
    ) {
        let (store, _) = written(changes, unfinished);
        let mut records = records(&store);
        prop_assert_eq!(alone(&records), Vec::new());
        let record = which.index(records.len());
        let bytes = records[record].bytes.as_mut().expect("bytes");
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let broken = alone(&records);
        prop_assert_eq!(names(&broken), [records[record].name.as_str()]);
        prop_assert!(broken[0].number.is_some());
    }

    #[test]
    fn any_edit_under_a_new_seal_is_found_when_a_record_follows(
        changes in 1usize..4, unfinished: bool, which: prop::sample::Index,
    ) {
        let (store, _) = written(changes, unfinished);
        let mut records = records(&store);
        let record = which.index(records.len() - 1);
        let bytes = records[record].bytes.clone().expect("bytes");
        let edited = resealed(&bytes, |fields| _ = fields.insert("tool".to_owned(), Value::from("another")));
        prop_assert!(is_sealed(&edited));
        records[record].bytes = Ok(edited);
        let broken = alone(&records);
        prop_assert_eq!(names(&broken), [records[record].name.as_str()]);
    }

    #[test]
    fn any_removal_but_that_of_the_newest_is_found_and_named(
        changes in 2usize..5, unfinished: bool, first: prop::sample::Index, many in 1usize..4,
    ) {
        let (store, _) = written(changes, unfinished);
        let mut records = records(&store);
        let first = first.index(records.len() - 1);
        let many = many.min(records.len() - 1 - first);
        let removed: Vec<Stored> = records.drain(first..first + many).collect();
        let broken = alone(&records);
        prop_assert_eq!(names(&broken), [removed[0].name.as_str()]);
        prop_assert!(many == 1 || broken[0].what.contains(removed[many - 1].name.as_str()), "{:?}", broken);
    }

    #[test]
    fn any_two_records_that_changed_places_are_named(
        changes in 1usize..4, a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let (store, _) = written(changes, true);
        let mut records = records(&store);
        let (a, b) = (a.index(records.len()), b.index(records.len()));
        prop_assume!(a != b);
        let (one, other) = (records[a].bytes.clone(), records[b].bytes.clone());
        (records[a].bytes, records[b].bytes) = (other, one);
        let mut wanted = [records[a].name.as_str(), records[b].name.as_str()];
        wanted.sort_unstable();
        let broken = alone(&records);
        prop_assert_eq!(names(&broken), wanted);
    }

    #[test]
    fn removing_the_newest_records_is_found_by_the_head(changes in 1usize..4, unfinished: bool, many in 1usize..4) {
        let (store, ledger) = written(changes, unfinished);
        prop_assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
        let records = records(&store);
        let many = many.min(records.len());
        for record in &records[records.len() - many..] {
            store.forget(&format!("shop/live/ledger/{}", record.name));
        }
        let broken = ledger.verify(&[]).expect("a ledger");
        prop_assert_eq!(names(&broken), [records[records.len() - many].name.as_str()]);
        prop_assert!(broken[0].what.contains("ledger-head.json knows"), "{:?}", broken);
        // The records alone are a shorter ledger that is right.
        prop_assert_eq!(alone(&records[..records.len() - many]), Vec::new());
    }

    #[test]
    fn hostile_records_end_in_an_answer(names in prop::collection::vec("[0-9]{0,20}-(begin|end)\\.json", 0..6), text: Vec<u8>) {
        let records: Vec<Stored> =
            names.into_iter().map(|name| Stored { name, bytes: Ok(text.clone()) }).collect();
        let broken = alone(&records);
        prop_assert!(records.is_empty() || !broken.is_empty());
        ledger::entries(&records);
    }
}

#[test]
fn a_newest_record_that_was_edited_under_a_new_seal_is_found_by_the_head() {
    let (store, ledger) = written(2, false);
    store.tamper(&key(2, Part::End), |bytes| {
        *bytes = resealed(bytes, |fields| _ = fields.insert("outcome".to_owned(), Value::from("undone")));
    });
    assert_eq!(alone(&records(&store)), Vec::new());
    let broken = ledger.verify(&[]).expect("a ledger");
    assert_eq!(names(&broken), ["00000002-end.json"]);
    // The next change goes on, and does not cover it up.
    whole(&ledger, "later");
    let broken = ledger.verify(&[]).expect("a ledger");
    assert_eq!(names(&broken), ["00000002-end.json"]);
    assert!(broken[0].what.contains("when 00000003-begin.json was written"), "{broken:?}");
}

#[test]
fn numbers_of_records_that_were_removed_are_not_given_again() {
    let (store, ledger) = written(3, false);
    for (number, part) in [(2, Part::End), (3, Part::Begin), (3, Part::End)] {
        store.forget(&key(number, part));
    }
    // What remains looks like a change in the middle, and is one for whoever goes on.
    let open = ledger.unfinished().expect("a ledger").expect("unfinished");
    ledger.end(&open, &mut ended(Outcome::Interrupted)).expect("it ends");
    let broken = ledger.verify(&[]).expect("a ledger");
    assert_eq!(names(&broken), ["00000003-end.json"], "what the head had named: {broken:?}");
    let (store, ledger) = written(3, false);
    for (number, part) in [(2, Part::Begin), (2, Part::End), (3, Part::Begin), (3, Part::End)] {
        store.forget(&key(number, part));
    }
    assert_eq!(begin(&ledger, "later").number, 4);
    assert_eq!(names(&ledger.verify(&[]).expect("a ledger")), ["00000002-begin.json"]);
}

#[test]
fn a_note_that_lies_elsewhere_vouches_for_its_record() {
    let (store, ledger) = written(2, false);
    let entry = ledger.entries(1).expect("entries").remove(0);
    let note = ledger::note::note(&entry);
    let anchor = ledger::note::anchor("changes/a.md", &note, "shop", "live").expect("an anchor");
    assert_eq!(anchor, Anchor { place: "changes/a.md".to_owned(), head: entry.head() });
    assert_eq!(ledger::note::anchor("changes/a.md", &note, "shop", "other"), None);
    assert_eq!(ledger.verify(std::slice::from_ref(&anchor)).expect("a ledger"), Vec::new());
    // Whoever can write the store takes the newest change away, and makes the head fit.
    let first = ledger.entries(2).expect("entries").remove(0).head();
    store.forget(&key(2, Part::Begin));
    store.forget(&key(2, Part::End));
    store.tamper(HEAD, |text| *text = serde_json::to_vec(&first).expect("JSON"));
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new(), "nobody in the store can tell");
    let broken = ledger.verify(&[anchor]).expect("a ledger");
    assert_eq!(names(&broken), ["00000002-begin.json"]);
    assert!(broken[0].what.contains("changes/a.md"), "{broken:?}");
}

#[test]
fn what_lies_between_the_records_is_named_and_what_is_half_written_is_not() {
    let (store, ledger) = written(1, false);
    let bytes = store.objects.lock().unwrap()[&key(1, Part::End)].clone();
    for name in ["00000001-end (copy).json", "1-end.json", "notes.txt", ".tmpAbC"] {
        store.objects.lock().unwrap().insert(format!("shop/live/ledger/{name}"), bytes.clone());
    }
    let broken = ledger.verify(&[]).expect("a ledger");
    assert_eq!(names(&broken), ["00000001-end (copy).json", "1-end.json", "notes.txt"]);
    store.objects.lock().unwrap().insert(key(2, Part::Begin), bytes);
    let broken = ledger.verify(&[]).expect("a ledger");
    assert!(broken.iter().any(|broken| broken.number == Some(2)), "a record that was slipped in: {broken:?}");
}

#[test]
fn a_record_of_another_environment_is_told_apart() {
    let (store, _) = written(1, false);
    let broken = chain::verify("shop", "other", &records(&store), &[]);
    assert_eq!(names(&broken), ["00000001-begin.json", "00000001-end.json"]);
    assert!(broken[0].what.contains("shop/live"), "{broken:?}");
}

#[test]
fn a_head_that_is_gone_or_does_not_read_is_told_and_a_head_that_lags_is_not() {
    let (store, ledger) = written(2, false);
    let text = store.forget(HEAD);
    assert_eq!(names(&ledger.verify(&[]).expect("a ledger")), ["ledger-head.json"]);
    store.objects.lock().unwrap().insert(HEAD.to_owned(), (b"{".to_vec(), jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(names(&ledger.verify(&[]).expect("a ledger")), ["ledger-head.json"]);
    store.tamper(HEAD, |head| *head = text);
    // Killed between the record and the head.
    let dying = Memory { dies_after: Some(Arc::new(AtomicUsize::new(1))), ..store.clone() };
    begin(&on(&dying), "killed");
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
    let open = ledger.unfinished().expect("a ledger").expect("unfinished");
    ledger.end(&open, &mut ended(Outcome::Interrupted)).expect("it ends");
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
}

#[test]
fn a_record_of_a_later_format_keeps_its_place_and_is_named() {
    let (store, ledger) = written(1, true);
    store.tamper(&key(2, Part::Begin), |bytes| {
        *bytes = resealed(bytes, |fields| _ = fields.insert("format".to_owned(), Value::from(2)));
    });
    store.forget(HEAD);
    let broken = alone(&records(&store));
    assert_eq!(names(&broken), ["00000002-begin.json"]);
    assert!(broken[0].what.contains("format 2"), "{broken:?}");
    let entries = ledger.entries(9).expect("entries");
    assert!(entries[1].problem.as_ref().is_some_and(|why| why.contains("format 2")), "{:?}", entries[1].problem);
    assert_eq!(entries[0].outcome(), "done", "it hides no other");
}

// ---------------------------------------------------------------------------------------------------------------------
// Beginning and ending
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_change_has_a_begin_an_end_and_everything_that_was_said() {
    let store = Memory::default();
    let ledger = on(&store);
    let mut begun = Begin {
        at: "2026-11-23T14:32:10Z".to_owned(),
        who: Who { user: "anna".to_owned(), host: "ops-1".to_owned(), process: 7 },
        command: vec!["lockstep".to_owned(), "apply".to_owned(), "live".to_owned()],
        ..change("Raise cache memory")
    };
    let open = ledger.begin(&mut begun).expect("it begins");
    assert_eq!((open.number, begun.number, begun.id.as_str()), (1, 1, "2026-11-23-1432-raise-cache-memory"));
    assert_eq!((begun.stack.as_str(), begun.environment.as_str(), begun.previous.as_str()), ("shop", "live", ""));
    assert_eq!(ledger.unfinished().expect("a ledger"), Some(open.clone()));
    let mut end = End { at: "2026-11-23T14:32:51Z".to_owned(), ..ended(Outcome::Done) };
    let entry = ledger.end(&open, &mut end).expect("it ends");
    assert_eq!(end.elapsed_ms, Some(41_000));
    assert_eq!(end.previous, Digest::of(&store.objects.lock().unwrap()[&key(1, Part::Begin)].0).to_string());
    assert_eq!(ledger.unfinished().expect("a ledger"), None);
    let read = ledger.entries(9).expect("entries");
    assert_eq!(read, std::slice::from_ref(&entry));
    assert_eq!((entry.begin.as_ref(), entry.end.as_ref()), (Some(&begun), Some(&end)));
    assert_eq!((entry.id(), entry.outcome()), ("2026-11-23-1432-raise-cache-memory", "done"));
    let mut next = change("Next");
    ledger.begin(&mut next).expect("it begins");
    assert_eq!((next.number, next.previous), (2, entry.end_sha256.clone()));
    let head: Head = serde_json::from_slice(&store.objects.lock().unwrap()[HEAD].0).expect("a head");
    assert_eq!((head.number, head.part), (2, Part::Begin));
    assert_eq!(ledger.entries(1).expect("entries").len(), 1, "as many as are asked for, the newest");
}

#[test]
fn of_two_that_begin_at_once_one_is_told_of_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = S3::start();
    for round in 0..10u64 {
        for far in [false, true] {
            let start = || if far { on_bucket(&server) } else { in_folder(&folder) };
            let outcomes: Vec<Result<Open, LedgerError>> = thread::scope(|scope| {
                let racers: Vec<_> = (0..4)
                    .map(|racer| {
                        let ledger = start();
                        scope.spawn(move || ledger.begin(&mut change(&format!("racer {racer}"))))
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
            });
            let won: Vec<&Open> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
            assert_eq!(won.len(), 1, "{outcomes:?}");
            assert_eq!(won[0].number, round + 1);
            for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                assert!(matches!(lost, LedgerError::Unfinished(open) if **open == *won[0]), "{lost:?}");
            }
            let ledger = start();
            ledger.end(won[0], &mut ended(Outcome::Done)).expect("it ends");
            assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
        }
    }
}

#[test]
fn a_change_whose_process_died_is_ended_by_another_and_by_one_alone() {
    let store = Memory::default();
    let late = on(&store);
    let open = begin(&late, "killed");
    let other = on(&store);
    let found = other.unfinished().expect("a ledger").expect("unfinished");
    assert_eq!(found, open);
    let error = other.begin(&mut change("too early")).expect_err("one is open");
    assert!(error.to_string().contains("change 1 (apply by "), "{error}");
    assert!(error.to_string().contains("is not finished"), "{error}");
    let by = Who { user: "ben".to_owned(), host: "ops-2".to_owned(), process: 9 };
    other.end(&found, &mut End { by: by.clone(), ..ended(Outcome::Undone) }).expect("it ends");
    // It was only stopped, and goes on.
    match late.end(&open, &mut ended(Outcome::Done)) {
        Err(LedgerError::Ended(end)) => assert_eq!((end.outcome, end.by), (Outcome::Undone, by)),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(late.verify(&[]).expect("a ledger"), Vec::new());
}

#[test]
fn killed_at_any_write_it_is_the_old_ledger_or_the_new_one() {
    for writes in 0..6 {
        let (store, ledger) = written(1, false);
        let dying = on(&Memory { dies_after: Some(Arc::new(AtomicUsize::new(writes))), ..store.clone() });
        let _ = dying.begin(&mut change("killed")).and_then(|open| dying.end(&open, &mut ended(Outcome::Done)));
        assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new(), "after {writes} writes");
        match ledger.unfinished().expect("a ledger") {
            Some(open) => _ = ledger.end(&open, &mut ended(Outcome::Interrupted)).expect("it ends"),
            None => assert!(writes == 0 || writes > 2, "after {writes} writes"),
        }
        whole(&ledger, "next");
        assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new(), "after {writes} writes");
    }
}

#[test]
fn an_answer_that_was_lost_is_no_failure() {
    let server = S3::start();
    let ledger = on_bucket(&server);
    server.with(|state| state.answer_lost = 1);
    let open = begin(&ledger, "lost");
    assert_eq!(open.number, 1);
    // Lost for good: nothing is answered any more, and yet it is there.
    server.with(|state| state.answer_lost = 4);
    let mut end = ended(Outcome::Done);
    ledger.end(&open, &mut end).expect("it ends");
    server.with(|state| state.answer_lost = 0);
    // Whoever did not hear it says it again.
    ledger.end(&open, &mut end).expect("the same end");
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
    assert_eq!(ledger.entries(9).expect("entries").len(), 1);
}

#[test]
fn a_store_that_lies_is_not_believed() {
    for (lie, known) in [(Lie::Drops, true), (Lie::Truncates, false), (Lie::Flips, false), (Lie::Stale, false)] {
        let ledger = on(&Memory { lie: Some((lie, "-begin")), ..Memory::default() });
        match (ledger.begin(&mut change("a lie")), known) {
            (Err(LedgerError::Store(_)), true) | (Err(LedgerError::Unknown(_)), false) => {}
            (outcome, _) => panic!("{lie:?}: {outcome:?}"),
        }
    }
}

#[test]
fn a_full_disk_is_an_error_before_anything_is_recorded() {
    let (store, ledger) = written(1, false);
    let full = on(&Memory { room: Some(Arc::new(AtomicUsize::new(0))), ..store.clone() });
    let Err(LedgerError::Store(error)) = full.begin(&mut change("no room")) else { panic!("it begins") };
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    assert_eq!(kind, Some(ErrorKind::StorageFull), "{error:#}");
    assert_eq!(ledger.unfinished().expect("a ledger"), None);
    whole(&ledger, "room again");
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
    // An end that has no room leaves the change open, and can be written later.
    let open = begin(&ledger, "half");
    let mut end = ended(Outcome::Done);
    assert!(matches!(full.end(&open, &mut end), Err(LedgerError::Store(_))));
    ledger.end(&open, &mut end).expect("it ends");
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_and_never_guessed_about() {
    let (store, ledger) = written(1, false);
    store.deaf.store(true, Ordering::SeqCst);
    assert!(matches!(ledger.begin(&mut change("deaf")), Err(LedgerError::Store(_))));
    assert!(ledger.unfinished().is_err() && ledger.entries(9).is_err() && ledger.verify(&[]).is_err());
    store.deaf.store(false, Ordering::SeqCst);
    assert_eq!(records(&store).len(), 2);
}

#[test]
fn a_record_that_does_not_read_hides_no_other_and_can_be_gone_on_from() {
    let (store, ledger) = written(2, false);
    let open = begin(&ledger, "spoiled");
    store.tamper(&key(1, Part::Begin), |bytes| bytes.clear());
    store.tamper(&key(3, Part::Begin), |bytes| *bytes = b"not JSON".to_vec());
    let entries = ledger.entries(9).expect("entries");
    assert_eq!(entries.len(), 3);
    assert!(entries[0].problem.is_some() && entries[0].end.is_some());
    assert_eq!((entries[1].problem.as_ref(), entries[1].outcome()), (None, "done"));
    assert_eq!((entries[2].begin.as_ref(), entries[2].outcome()), (None, "unfinished"));
    let found = ledger.unfinished().expect("a ledger").expect("unfinished");
    assert_eq!((found.number, found.begin.as_ref()), (3, None));
    assert_ne!(found, open);
    ledger.end(&found, &mut ended(Outcome::Interrupted)).expect("it ends");
    whole(&ledger, "next");
    assert_eq!(names(&ledger.verify(&[]).expect("a ledger")), ["00000001-begin.json", "00000003-begin.json"]);
}

#[test]
fn a_number_that_is_none_does_not_make_the_record_unreadable() {
    let sample = |value| Some(Sample { value, low: 1.0, high: 2.0 });
    let store = Memory::default();
    let ledger = on(&store);
    let open = begin(&ledger, "measured");
    let measure = Measure {
        name: "hit_ratio(cache)".to_owned(),
        unit: Unit::Ratio,
        before: sample(f64::NAN),
        after: sample(1.5),
        verdict: Verdict::Better,
    };
    ledger.end(&open, &mut End { measures: vec![measure], ..ended(Outcome::Done) }).expect("it ends");
    let entry = ledger.entries(1).expect("entries").remove(0);
    assert_eq!(entry.problem, None);
    let measure = &entry.end.expect("an end").measures[0];
    assert_eq!((measure.before, measure.after, measure.verdict), (None, sample(1.5), Verdict::Unknown));
}

#[test]
fn a_record_beyond_its_bound_is_refused_before_it_is_written() {
    let store = Memory::default();
    let mut large = change("large");
    large.texts.stack = "x".repeat(33 << 20);
    assert!(matches!(on(&store).begin(&mut large), Err(LedgerError::Store(_))));
    assert_eq!(store.keys(), Vec::<String>::new());
}

// ---------------------------------------------------------------------------------------------------------------------
// Beside the backups
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn backups_know_nothing_of_the_ledger() {
    let (store, ledger) = written(2, true);
    let repository = repository(&store);
    let before = store.keys();
    assert!(repository.list().expect("a list").is_empty());
    assert!(repository.get("ledger").expect("a look").is_none());
    assert_eq!(repository.failures().expect("a look"), Vec::new());
    let years_later: jiff::Timestamp = "2036-11-23T00:00:00Z".parse().expect("a time");
    assert_eq!(repository.leftovers(Some(years_later)).expect("a look"), Vec::new());
    assert_eq!(repository.leftovers(None).expect("a look"), Vec::new());
    repository.remove("ledger").expect_err("it is no backup");
    repository.draft("cache-20261123T051200Z-0c1d2e", "cache").map(drop).expect("a draft that is given up");
    repository.probe().expect("the store can be used");
    assert_eq!(store.keys(), before);
    assert_eq!(ledger.verify(&[]).expect("a ledger"), Vec::new());
}

#[test]
fn what_a_dead_writer_left_half_written_is_given_back() {
    let store = Memory::default();
    store.objects.lock().unwrap().insert(
        "shop/live/ledger/.tmpXyZ".to_owned(),
        (b"half".to_vec(), "2026-11-20T00:00:00Z".parse().expect("a time")),
    );
    let now: jiff::Timestamp = "2026-11-23T00:00:00Z".parse().expect("a time");
    let leftovers = repository(&store).leftovers(Some(now)).expect("a look");
    assert_eq!(leftovers.iter().map(|leftover| leftover.name.as_str()).collect::<Vec<_>>(), ["ledger/.tmpXyZ"]);
    assert_eq!(begin(&on(&store), "the first").number, 1);
}

#[test]
fn records_are_open_to_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = in_folder(&folder);
    whole(&ledger, "private");
    let own = folder.path().join("backups/shop/live");
    let mode = |path: &str| std::fs::metadata(own.join(path)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode("ledger"), 0o700);
    assert_eq!(mode("ledger/00000001-begin.json"), 0o600);
    assert_eq!(mode("ledger/00000001-end.json"), 0o600);
    assert_eq!(mode("ledger-head.json"), 0o600);
}

// ---------------------------------------------------------------------------------------------------------------------
// Names
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn an_id_is_the_time_and_a_few_words_of_the_reason() {
    let id = |reason: &str| ledger::id("2026-11-23T14:32:10Z", reason);
    assert_eq!(id("Raise cache_memory!"), "2026-11-23-1432-raise-cache-memory");
    assert_eq!(id(""), "2026-11-23-1432-change");
    assert_eq!(id("../../etc/passwd\n# x"), "2026-11-23-1432-etc-passwd-x");
    assert_eq!(id("ключ"), "2026-11-23-1432-change");
    let long = id(&"word ".repeat(40));
    assert!(long.len() <= 16 + 40 && long.ends_with("-word"), "{long}");
    assert_eq!(id(&"x".repeat(90)).len(), 16 + 40);
    assert_eq!(ledger::id("", "x"), "undated-0000-x");
}

#[test]
fn a_change_is_found_by_its_number_its_id_or_its_beginning() {
    let store = Memory::default();
    let ledger = on(&store);
    for (at, reason) in [("2026-11-23T14:32:10Z", "a"), ("2026-11-23T15:00:00Z", "b"), ("2026-11-24T15:00:00Z", "c")] {
        let open = ledger.begin(&mut Begin { at: at.to_owned(), ..change(reason) }).expect("it begins");
        ledger.end(&open, &mut ended(Outcome::Done)).expect("it ends");
    }
    let entries = ledger.entries(9).expect("entries");
    let find = |wanted: &str| ledger::find(&entries, wanted).map(|entry| entry.number);
    assert_eq!((find("2"), find("2026-11-23-1432-a"), find("2026-11-24")), (Ok(2), Ok(1), Ok(3)));
    assert_eq!(find("2026-11-23"), Err(vec!["2026-11-23-1432-a", "2026-11-23-1500-b"]));
    assert_eq!(find("2026-11-23-1432-x"), Err(vec!["2026-11-23-1432-a"]));
    assert_eq!((find("9"), find("")), (Err(vec![]), Err(vec![])));
}

#[test]
fn names_of_records_read_as_they_are_written() {
    assert_eq!(file_name(7, Part::End), "00000007-end.json");
    assert_eq!(parse_file_name("123456789-begin.json"), Some((123_456_789, Part::Begin)));
    for other in
        ["7-end.json", "00000000-end.json", "00000007-end.json.bak", "+0000007-end.json", "00000007-middle.json"]
    {
        assert_eq!(parse_file_name(other), None, "{other}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The verbs
// ---------------------------------------------------------------------------------------------------------------------

/// A project whose staging had two changes and is in the middle of a third.
fn changed() -> (Project, Ledger) {
    let project = Project::small();
    let store = Local::new(project.path().join("backups"));
    let ledger = Repository::new(Arc::new(store), "shop", "staging").ledger();
    for (at, reason, outcome) in [
        ("2026-11-21T08:00:00Z", "Raise cache memory", Outcome::Done),
        ("2026-11-22T09:30:00Z", "Try another\neviction policy", Outcome::Undone),
    ] {
        let who = Who { user: "anna".to_owned(), host: "ops-1".to_owned(), process: 1 };
        let mut begun = Begin { at: at.to_owned(), who: who.clone(), ..change(reason) };
        let open = ledger.begin(&mut begun).expect("it begins");
        let mut end = End { at: at.to_owned(), by: who, ..ended(outcome) };
        let entry = ledger.end(&open, &mut end).expect("it ends");
        lockstep::store::notes::write(project.path(), &entry).expect("a note");
    }
    let who = Who { user: "ben\u{1b}[2J".to_owned(), host: "ops-2".to_owned(), process: 1 };
    let mut begun = Begin { at: "2026-11-23T14:32:10Z".to_owned(), who, ..change("Half\u{1b}[2J way") };
    ledger.begin(&mut begun).expect("it begins");
    (project, ledger)
}

#[test]
fn history_lists_changes_and_marks_the_unfinished_one() {
    let (project, _) = changed();
    let ran = project.lockstep(&["history", "staging"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = [
        "   when                 who               verb   outcome     reason",
        "1  2026-11-21 08:00:00  anna on ops-1     apply  done        Raise cache memory",
        "2  2026-11-22 09:30:00  anna on ops-1     apply  undone      Try another eviction policy",
        "3  2026-11-23 14:32:10  ben\u{fffd}[2J on ops-2  apply  UNFINISHED  Half\u{fffd}[2J way",
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
    assert!(ran.stderr.contains("change 3 is not finished"), "{}", ran.stderr);
    assert_eq!(project.lockstep(&["history", "staging", "--last", "1"]).stdout.lines().count(), 2);
    let said: Value = serde_json::from_str(&project.lockstep(&["history", "staging", "--json"]).stdout).expect("JSON");
    assert_eq!((&said["format"], said["changes"].as_array().map(Vec::len)), (&Value::from(1), Some(3)));
    assert_eq!(said["changes"][1]["outcome"], "undone");
    assert_eq!(said["changes"][2]["unfinished"], true);
    assert_eq!(Project::small().lockstep(&["history", "staging"]).stdout, "no changes\n");
    assert_eq!(project.lockstep(&["history"]).code, 2);
}

#[test]
fn history_show_prints_the_note_or_the_records() {
    let (project, _) = changed();
    let newest = project.lockstep(&["history", "show", "staging"]);
    assert_eq!(newest.code, 0, "{}", newest.stderr);
    assert!(newest.stdout.starts_with("# Half\u{fffd}\\[2J way\n\n**Not finished.**"), "{}", newest.stdout);
    let by_number = project.lockstep(&["history", "show", "staging", "1"]);
    assert_eq!(by_number, project.lockstep(&["history", "show", "staging", "2026-11-21"]));
    let note = std::fs::read_to_string(project.path().join("changes/2026-11-21-raise-cache-memory.md"));
    assert_eq!(by_number.stdout, note.expect("the note"));
    let ran = project.lockstep(&["history", "show", "staging", "2", "--json"]);
    let said: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        (&said["begin"]["reason"], &said["end"]["outcome"]),
        (&"Try another\neviction policy".into(), &"undone".into())
    );
    let wrong = project.lockstep(&["history", "show", "staging", "2026-11-2"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("may be one of 3 changes"), "{}", wrong.stderr);
    assert_eq!(Project::small().lockstep(&["history", "show", "staging"]).code, 2);
}

#[test]
fn history_verify_compares_records_head_and_notes() {
    let (project, _) = changed();
    let right = project.lockstep(&["history", "verify", "staging"]);
    assert_eq!((right.code, right.stderr.as_str()), (0, ""));
    assert_eq!(right.stdout, "the ledger of staging is what was written: 3 changes, compared with 2 notes\n");
    let path = project.path().join("backups/shop/staging/ledger/00000002-begin.json");
    let text = std::fs::read_to_string(&path).expect("a record").replace("Try another", "Try no other");
    put(&path, text.as_bytes());
    let wrong = project.lockstep(&["history", "verify", "staging"]);
    assert_eq!(wrong.code, 3);
    assert_eq!(
        wrong.stdout,
        "00000002-begin.json was edited: its seal does not fit its text\n\
         the ledger of staging is not what was written: 1 place\n"
    );
    let said: Value =
        serde_json::from_str(&project.lockstep(&["history", "verify", "staging", "--json"]).stdout).expect("JSON");
    assert_eq!(said["broken"][0]["number"], 2);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(project.lockstep(&["history", "staging"]).code, 3, "a change without its record is no normal change");
}

#[test]
fn a_note_is_a_draft_until_the_change_is_over_and_replaces_nothing() {
    let project = Project::small();
    let ledger = Repository::new(Arc::new(Memory::default()), "shop", "staging").ledger();
    let write = |entry: &ledger::Entry| lockstep::store::notes::write(project.path(), entry).expect("a note");
    let notes = || {
        let paths = crate::support::project::entries(&project.path().join("changes"));
        let names = paths.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    let mut begun = Begin { at: "2026-11-23T14:32:10Z".to_owned(), ..change("Raise memory") };
    let open = ledger.begin(&mut begun).expect("it begins");
    let draft = write(&open.entry());
    assert_eq!(draft.to_str(), Some("changes/2026-11-23-raise-memory-staging-1.draft.md"));
    assert_eq!(write(&open.entry()), draft, "a draft may be written again");
    let entry = ledger.end(&open, &mut ended(Outcome::Done)).expect("it ends");
    assert_eq!(write(&entry).to_str(), Some("changes/2026-11-23-raise-memory.md"));
    assert_eq!(notes(), ["2026-11-23-raise-memory.md"], "the draft is gone");
    assert_eq!(write(&entry).to_str(), Some("changes/2026-11-23-raise-memory.md"), "the same note again");
    let mut begun = Begin { at: "2026-11-23T15:00:00Z".to_owned(), ..change("Raise memory") };
    let open = ledger.begin(&mut begun).expect("it begins");
    let entry = ledger.end(&open, &mut ended(Outcome::Done)).expect("it ends");
    assert_eq!(
        write(&entry).to_str(),
        Some("changes/2026-11-23-raise-memory-staging-2.md"),
        "another change of that name"
    );
    let mut begun = Begin { at: "2026-11-24T15:00:00Z".to_owned(), ..change("Break it") };
    let open = ledger.begin(&mut begun).expect("it begins");
    let entry = ledger.end(&open, &mut ended(Outcome::UndoIncomplete)).expect("it ends");
    assert_eq!(write(&entry).to_str(), Some("changes/2026-11-24-break-it-staging-3.draft.md"));
    let mode = |name: &str| {
        let path = project.path().join("changes").join(name);
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode("2026-11-23-raise-memory.md"), 0o644, "it goes to a repository");
    assert_eq!(
        ledger
            .verify(&lockstep::store::notes::anchors(project.path(), "shop", "staging").expect("notes"))
            .expect("a ledger"),
        Vec::new()
    );
}

//! What is said of the shapes of two keyspaces, made up here byte by byte.

use lockstep::finding::Severity;
use lockstep::model::behaviour::KeyRule;
use lockstep::parity::Verification;
use lockstep::parity::shape::{Shape, Shaped, UNRULED, costs, rows};
use lockstep::probe::shape::shape;

use crate::support::script::verified;
use crate::support::spec::Texts;

const NOW_MS: i64 = 1_700_000_000_000;

fn rules() -> Vec<KeyRule> {
    let mut texts = Texts::base();
    let written = texts.0.get_mut("environments/stack.yaml").expect("the spec");
    written.push_str("\nkeys:\n  \"page:*\": { on: cache, type: string, ttl: ..1h }\n");
    texts.resolved("staging").0.keys
}

/// A string key with a value of so many bytes, and so long to live.
fn key(name: &str, bytes: usize, left_seconds: Option<i64>) -> Vec<u8> {
    let mut record = Vec::new();
    if let Some(left) = left_seconds {
        record.push(0xfc);
        record.extend((NOW_MS + left * 1000).to_le_bytes());
    }
    record.push(0);
    for text in [name.as_bytes(), &vec![b'x'; bytes]] {
        record.push(0x80);
        record.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
        record.extend(text);
    }
    record
}

fn snapshot(keys: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut rdb = b"REDIS0009\xfe\x00".to_vec();
    keys.into_iter().for_each(|key| rdb.extend(key));
    rdb.extend([0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    rdb
}

fn pages(count: usize, bytes: usize, left_seconds: Option<i64>) -> Vec<Vec<u8>> {
    (0..count).map(|number| key(&format!("page:{number}"), bytes, left_seconds)).collect()
}

fn read(keys: Vec<Vec<u8>>, most: u64) -> Shape {
    let rules = rules();
    let rules: Vec<&KeyRule> = rules.iter().collect();
    let all = u64::try_from(keys.len()).expect("few");
    let found = shape(snapshot(keys).as_slice(), &rules, most, NOW_MS).expect("a snapshot");
    Shape { keys: all, version: "7.0".to_owned(), ..found }
}

/// Aspects that two shapes are unlike in, each with its severity.
fn unlike(left: Shape, right: Shape) -> Vec<(String, Severity)> {
    let mut verification: Verification = verified("compare staging production\n").0;
    let shaped = |environment: &str, shape: Shape| Shaped {
        environment: environment.to_owned(),
        service: "cache".to_owned(),
        shape: Some(shape),
        unknown: None,
    };
    verification.shapes(vec![shaped("staging", left), shaped("production", right)]);
    assert_eq!(costs(&verification.shapes).len(), 2);
    assert!(!rows(&verification.shapes).is_empty());
    let findings = verification.findings.iter();
    findings
        .map(|finding| {
            assert_eq!(finding.seen.as_ref().map(|seen| seen.environment.as_str()), Some("production"), "{finding:?}");
            let subject = finding.subject.clone().unwrap_or_default();
            (subject.strip_prefix("container/cache keys.").unwrap_or(&subject).to_owned(), finding.severity)
        })
        .collect()
}

fn warned(aspects: &[&str]) -> Vec<(String, Severity)> {
    aspects.iter().map(|aspect| ((*aspect).to_owned(), Severity::Warning)).collect()
}

#[test]
fn keys_fall_under_the_first_rule_that_matches_and_keep_no_name() {
    let mut keys = pages(3, 10, Some(60));
    keys.push(key("page:late", 5, Some(-1)));
    keys.push(key("user:jane@example.org", 3_000, None));
    let found = read(keys, 100);
    let group = &found.groups["page:*"];
    assert_eq!((found.read, group.keys, group.with_expiry), (4, 3, 3), "what had expired is not there");
    assert_eq!(group.types, [("string".to_owned(), 3)].into());
    assert_eq!((group.ttl_seconds.most, group.bytes.most), (60, 15));
    let unruled = &found.groups[UNRULED];
    assert_eq!((unruled.keys, unruled.biggest.as_slice()), (1, &[("user:".to_owned(), 3_005)][..]));
    assert!(!serde_json::to_string(&found).expect("JSON").contains("jane"), "a name may be anybody's");
}

#[test]
fn the_same_habits_are_alike_however_many_keys_there_are() {
    assert_eq!(unlike(read(pages(300, 100, Some(600)), 1_000), read(pages(3_000, 120, Some(500)), 10_000)), []);
    assert_eq!(unlike(read(Vec::new(), 10), read(Vec::new(), 10)), []);
    assert_eq!(unlike(read(pages(10, 10, None), 10), read(pages(10, 9_000, Some(9)), 10)), [], "too few to say");
}

#[test]
fn every_habit_that_differs_is_named() {
    let usual = || read(pages(300, 100, Some(600)), 1_000);
    assert_eq!(unlike(usual(), read(pages(300, 100, Some(36_000)), 1_000)), warned(&["page:*.ttl"]));
    assert_eq!(unlike(usual(), read(pages(300, 900, Some(600)), 1_000)), warned(&["page:*.size"]));
    let mut half = pages(150, 100, Some(600));
    half.extend(pages(300, 100, None).split_off(150));
    assert_eq!(unlike(usual(), read(half, 1_000)), warned(&["page:*.expiry"]));
    let mut strays = pages(200, 100, Some(600));
    strays.extend((0..100).map(|number| key(&format!("stray:{number}"), 100, None)));
    assert_eq!(unlike(usual(), read(strays, 1_000)), warned(&["(no rule).share", "page:*.share"]));
    // An intset in the place of a string.
    let set = |number: usize| {
        let mut record = vec![11, 6];
        record.extend(format!("page:{number}").chars().chain("xxxxx".chars()).take(6).map(|c| c as u8));
        record.extend([10, 2, 0, 0, 0, 1, 0, 0, 0, 7, 0]);
        record
    };
    let found = unlike(read(pages(300, 5, None), 1_000), read((0..100).map(set).collect(), 1_000));
    assert_eq!(found, [("page:*.type".to_owned(), Severity::Error)]);
}

#[test]
fn a_sample_says_how_far_it_may_be_off() {
    let whole = read(pages(3_000, 10, None), u64::MAX);
    assert_eq!((whole.read, whole.error()), (3_000, 0.0));
    let sample = read(pages(3_000, 10, None), 1_000);
    assert_eq!(sample.read, 1_000);
    assert!((0.020..0.031).contains(&sample.error()), "{}", sample.error());
}

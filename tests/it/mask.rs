//! What masking promises, whatever is masked: the same for the same, nothing of the source, every key counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lockstep::digest::Key;
use lockstep::mask::canary::Canaries;
use lockstep::mask::pass::{self, Way};
use lockstep::mask::survey::{self, Surveyed};
use lockstep::mask::{Rules, report, sample};
use lockstep::model::behaviour::KeyRule;
use lockstep::model::refresh::{
    Copy, Deed, Masker, Part, Path, Piece, RefreshPlan, RefreshRule, Share, Target as Aim, Ttl, Unmatched,
};
use lockstep::rdb::{Element, Family, Form, Frames, Record, Room, Target};
use lockstep::value::{Glob, Name, Place};
use proptest::prelude::*;

use crate::keyspace::{Bytes, Kind, file, keyspace};

const NOW: i64 = 1_800_000_000_000;
const SECRET: &[u8] = b"a secret of the tests";
const MASKERS: [Masker; 4] = [Masker::Token, Masker::Email, Masker::Name, Masker::Digits];

fn place() -> Place {
    Place::file("stack.yaml")
}

fn copy(parts: Vec<Part>) -> Copy {
    Copy { share: Share::ALL, entity: Vec::new(), ttl: Ttl::Keep, parts, optional: false }
}

fn part(target: &str, masker: Masker) -> Part {
    let aim = match target.split_once('$') {
        _ if target == "*" => Aim::Rest,
        Some((field, path)) => {
            let field = (!field.is_empty()).then(|| Glob::new(field.as_bytes()));
            Aim::Json { field, path: Path::parse(path).expect("a path") }
        }
        None => Aim::Field(Glob::new(target.as_bytes())),
    };
    Part { place: place(), text: target.to_owned(), target: aim, masker }
}

fn masked(masker: &Masker) -> Deed {
    Deed::Copy(copy(vec![part("*", masker.clone())]))
}

fn rules(rules: Vec<(&[u8], Deed)>, unmatched: Unmatched, secret: &[u8]) -> Rules {
    let on = Name::parse("cache").expect("a name");
    let keys = rules.into_iter().map(|(pattern, deed)| KeyRule {
        pattern: String::from_utf8_lossy(pattern).into_owned(),
        glob: Glob::new(pattern),
        place: place(),
        on: on.clone(),
        kind: None,
        lifetime: None,
        refresh: Some(RefreshRule { place: place(), deed }),
    });
    let plan = RefreshPlan {
        place: place(),
        from: Name::parse("production").expect("a name"),
        secret: Some("mask_key".to_owned()),
        unmatched,
        stable: true,
        canaries: Vec::new(),
    };
    Rules::of(&plan, &keys.collect::<Vec<_>>(), &on, secret, b"")
}

fn all(masker: &Masker) -> Rules {
    rules(vec![(b"*", masked(masker))], Unmatched::Refuse, SECRET)
}

/// All that every server reads but the expiries of fields, which are those of newer ones.
fn way(target: Target) -> Way {
    Way { target, form: Form::Plain, now_ms: NOW, created_ms: Some(NOW - 60_000) }
}

const NEWEST: Target = Target { family: Family::Redis, version: 12 };

fn made(rules: &Rules, source: &[u8]) -> Bytes {
    let mut out = Vec::new();
    pass::run(rules, way(NEWEST), source, &mut out, None).unwrap_or_else(|error| panic!("{error:#}"));
    out
}

fn surveyed(rules: &Rules, source: &[u8]) -> Surveyed {
    survey::survey(rules, way(NEWEST), source, &Key::new([7; 32])).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The texts of every key, each with its place in the value; those of sets have none.
type Texts = BTreeMap<(u64, Bytes), (Vec<(String, Bytes)>, BTreeSet<Bytes>)>;

fn texts(source: &[u8]) -> Texts {
    let mut texts = Texts::new();
    let (mut frames, mut room, mut name) = (Frames::new(source), Room::default(), Vec::new());
    while let Some(batch) = frames.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        for record in batch.records() {
            let Record::Key(entry) = record.expect("a record") else { continue };
            let (mut placed, mut loose) = (Vec::new(), BTreeSet::new());
            let (mut number, mut whole) = (0, None::<Bytes>);
            let elements = entry.read(&mut room, |element| {
                number += 1;
                match element {
                    Element::Text(piece) => whole.get_or_insert_default().extend_from_slice(piece),
                    Element::Item(item) => placed.push((number.to_string(), item.to_vec())),
                    Element::Member(member) | Element::Scored(member, _) => _ = loose.insert(member.to_vec()),
                    Element::Field { name, value, .. } => placed.push((format!("{name:?}"), value.to_vec())),
                    Element::StreamField(name, value) => placed.push((format!("{number} {name:?}"), value.to_vec())),
                    _ => {}
                }
            });
            if elements.unwrap_or_else(|error| panic!("{error}")) == 0 {
                continue;
            }
            placed.extend(whole.map(|whole| (String::new(), whole)));
            placed.sort();
            texts.insert((entry.database, entry.key(&mut name).expect("a name").to_vec()), (placed, loose));
        }
    }
    texts
}

fn is_in(needle: &[u8], hay: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_same_becomes_the_same_in_every_type_and_encoding(keys in keyspace(), seed: u64, masker in 0usize..4) {
        let rules = all(&MASKERS[masker]);
        let (source, again) = (file(&keys, Kind::Redis12, seed), file(&keys, Kind::Redis12, seed ^ 1));
        let result = made(&rules, &source);
        prop_assert_eq!(texts(&result), texts(&made(&rules, &again)), "whatever the encoding");
        let mut becomes: HashMap<Bytes, Bytes> = HashMap::new();
        let (before, after) = (texts(&source), texts(&result));
        let known: Vec<_> = before.iter().filter(|(key, _)| after.contains_key(*key)).collect();
        for (key, (placed, _)) in &known {
            let (now, _) = &after[*key];
            prop_assert_eq!(placed.len(), now.len());
            for ((place, old), (same, new)) in placed.iter().zip(now) {
                prop_assert_eq!(place, same);
                let known = becomes.entry(old.clone()).or_insert_with(|| new.clone());
                prop_assert_eq!(&*known, new, "another result for the same text");
            }
        }
        for (key, (_, loose)) in known {
            let (_, now) = &after[key];
            let wanted: Vec<&Bytes> = loose.iter().filter_map(|member| becomes.get(member)).collect();
            prop_assert!(wanted.into_iter().all(|member| now.contains(member)));
            prop_assert_eq!(loose.is_empty(), now.is_empty());
        }
    }

    #[test]
    fn nothing_of_what_is_masked_comes_out(keys in keyspace(), seed: u64, masker in 0usize..4) {
        let rules = all(&MASKERS[masker]);
        let source = file(&keys, Kind::Redis12, seed);
        let result = texts(&made(&rules, &source));
        let out: Vec<&Bytes> =
            result.values().flat_map(|(placed, loose)| placed.iter().map(|(_, text)| text).chain(loose)).collect();
        for (placed, loose) in texts(&source).values() {
            let long = placed.iter().map(|(_, text)| text).chain(loose).filter(|text| text.len() >= 8);
            for text in long {
                prop_assert!(!out.iter().any(|masked| is_in(text, masked)), "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn a_masked_copy_stays_as_it_is(keys in keyspace(), seed: u64, masker in 0usize..3) {
        let rules = all(&MASKERS[masker]);
        let once = made(&rules, &file(&keys, Kind::Redis12, seed));
        let survey = surveyed(&rules, &once);
        prop_assert_eq!(texts(&made(&rules, &once)), texts(&once));
        // Another secret does not know it.
        let other = super::mask::rules(vec![(b"*", masked(&MASKERS[masker]))], Unmatched::Refuse, b"another secret");
        let changed = texts(&made(&other, &once));
        let long = |texts: &Texts| texts.values().any(|(placed, _)| placed.iter().any(|(_, text)| !text.is_empty()));
        prop_assert!(!long(&changed) || changed != texts(&once));
        prop_assert!(survey.algebra().iter().all(|equation| equation.holds));
    }

    #[test]
    fn every_key_is_kept_dropped_or_masked(keys in keyspace(), seed: u64, masker in 0usize..4, share in 1u32..1_000_000) {
        let sampled = Copy { share: Share(share), ttl: Ttl::Shift, ..copy(Vec::new()) };
        let rules = rules(
            vec![
                (b"[a-f]*", Deed::Drop),
                (b"[g-z]*", Deed::Copy(sampled)),
                (b"[^\x80-\xff]*", masked(&MASKERS[masker])),
            ],
            Unmatched::Drop,
            SECRET,
        );
        let source = file(&keys, Kind::Redis12, seed);
        let surveyed = surveyed(&rules, &source);
        for equation in surveyed.algebra() {
            prop_assert!(equation.holds, "{}", equation.says);
        }
        prop_assert_eq!(surveyed.survey.problem_count, 0);
        prop_assert_eq!(surveyed.keys(), surveyed.kept() + surveyed.masked() + surveyed.dropped());
        let by_rule: u64 = surveyed.survey.rules.iter().map(|counted| counted.keys).sum();
        prop_assert_eq!(surveyed.keys(), by_rule + surveyed.survey.others.keys);
        prop_assert_eq!(made(&rules, &source).len() as u64, surveyed.result.bytes, "the second pass does the same");
        let scanned = survey::look(&rules, way(NEWEST), source.as_slice(), &Canaries::default()).expect("it reads");
        let leaks = report::leaks(&rules, &surveyed, &scanned);
        prop_assert!(leaks.is_empty(), "{leaks:?}");
    }
}

fn of_lines(lines: &str) -> Bytes {
    sample::snapshot(lines).expect("a sample")
}

#[test]
fn what_belongs_together_stays_together() {
    let lines: Vec<String> = (0..400)
        .flat_map(|user| {
            [format!(r#"{{"key":"user:{user}","value":"x"}}"#), format!(r#"{{"key":"cart:{user}:open","value":"x"}}"#)]
        })
        .collect();
    let of = |share| {
        let entity = vec![Piece::Captured(0)];
        Deed::Copy(Copy { share: Share(share), entity, ..copy(Vec::new()) })
    };
    let rules = rules(vec![(b"user:*", of(200_000)), (b"cart:*:*", of(200_000))], Unmatched::Refuse, SECRET);
    let kept = texts(&made(&rules, &of_lines(&lines.join("\n"))));
    let users: BTreeSet<String> = kept
        .keys()
        .filter_map(|(_, key)| String::from_utf8_lossy(key).strip_prefix("user:").map(str::to_owned))
        .collect();
    assert!((40..120).contains(&users.len()), "{}", users.len());
    assert_eq!(kept.len(), users.len() * 2);
    assert!(users.iter().all(|user| kept.contains_key(&(0, format!("cart:{user}:open").into_bytes()))));
}

#[test]
fn what_nobody_names_refuses_it_and_so_does_another_type() {
    let source = of_lines(
        r#"{"key":"user:1","value":{"email":"ann@shop.test"}}
           {"key":"user:2","value":"ann@shop.test"}
           {"key":"other:1","value":"x"}
           {"key":"doc:1","value":"{not json"}
           {"key":"bull:mail:1","value":"x"}"#,
    );
    let rules = rules(
        vec![
            (b"user:*", Deed::Copy(copy(vec![part("email", Masker::Email), part("phone", Masker::Digits)]))),
            (b"doc:*", Deed::Copy(copy(vec![part("$.name", Masker::Name)]))),
            (b"none:*", masked(&Masker::Token)),
        ],
        Unmatched::Refuse,
        SECRET,
    );
    let surveyed = surveyed(&rules, &source);
    let findings = report::findings(&rules, &surveyed);
    let found: Vec<(&str, &str)> = findings.iter().map(|finding| (finding.rule, finding.message.as_str())).collect();
    let wanted = [
        ("refresh-unmatched", "1 keys match no rule: `other:*` 1"),
        ("refresh-type", "`user:2` is a string, which the rule `user:*` is not for"),
        ("refresh-json", "`doc:1` is not JSON, which the rule `doc:*` masks at `$.name`"),
        ("refresh-part", "the rule `user:*` masks `phone`, which none of 1 keys has"),
        ("refresh-nothing", "the rule `none:*` matches no key"),
    ];
    for wanted in wanted {
        assert!(found.contains(&wanted), "{wanted:?} is not in {found:#?}");
    }
    let error = pass::run(&rules, way(NEWEST), source.as_slice(), &mut Vec::new(), None).expect_err("refused");
    assert!(error.to_string().contains("user:2"), "the first of them ends the pass: {error}");
    assert_eq!(surveyed.survey.others.keys, 1, "the queue is dropped");
}

#[test]
fn a_text_that_stands_unmasked_elsewhere_is_found() {
    let source = of_lines(
        r#"{"key":"user:1","value":{"email":"ann@shop.test"}}
           {"key":"log:1","value":"mail sent to ann@shop.test at noon"}"#,
    );
    let deed = Deed::Copy(copy(vec![part("email", Masker::Email)]));
    let rules = rules(vec![(b"user:*", deed), (b"log:*", Deed::Copy(copy(Vec::new())))], Unmatched::Refuse, SECRET);
    let mut surveyed = surveyed(&rules, &source);
    let canaries = Canaries::new(std::mem::take(&mut surveyed.survey.sample), &[]);
    let scanned = survey::look(&rules, way(NEWEST), source.as_slice(), &canaries).expect("it reads");
    let leaks = report::leaks(&rules, &surveyed, &scanned);
    assert_eq!(leaks[0].message, "a text that `user:*` masks at `email` stands unmasked in the value of `log:1`");
}

#[test]
fn leaves_of_json_are_masked_and_all_else_is_copied() {
    let text = r#"{ "name": "Ann", "n": 12345, "big": 12345678901234567890123, "list": [{"name": "Bob"}, null],
        "deep": {"iban": "DE89", "name": {"first": "Ann"}} }"#;
    let line = serde_json::json!({"key": "doc:1", "value": text}).to_string();
    let parts = vec![
        part("$.name", Masker::Constant("N".to_owned())),
        part("$.n", Masker::Digits),
        part("$.list[*].name", Masker::Null),
        part("$..iban", Masker::Redact),
    ];
    let rules = rules(vec![(b"doc:*", Deed::Copy(copy(parts)))], Unmatched::Refuse, SECRET);
    let result = texts(&made(&rules, &of_lines(&line)));
    let (placed, _) = result.values().next().expect("a key");
    let made = String::from_utf8(placed[0].1.clone()).expect("text");
    let number = made.split_once("\"n\": ").and_then(|(_, rest)| rest.split_once(',')).expect("a number").0;
    assert!(number.len() == 5 && number != "12345" && number.parse::<u32>().is_ok(), "{made}");
    let wanted = text
        .replacen("\"Ann\"", "\"N\"", 1)
        .replace("12345,", &format!("{number},"))
        .replace("\"Bob\"", "null")
        .replace("\"DE89\"", "\"redacted\"");
    assert_eq!(made, wanted);
}

/// What a cache holds beside objects: a text that is a leaf and nothing more.
#[test]
fn a_json_text_that_is_one_leaf_is_masked_like_any_other_leaf() {
    let lines = r#"{"key":"cache:a","value":"\"ann@shop.test\""}
        {"key":"cache:b","value":" 4917012345678 "}
        {"key":"cache:c","value":"true"}
        {"key":"cache:d","value":"null"}
        {"key":"cache:e","value":"[\"bob@shop.test\", {\"a\": 12345}]"}"#;
    let rules = rules(
        vec![(b"cache:*", Deed::Copy(copy(vec![part("$..*", Masker::Constant("X".to_owned()))])))],
        Unmatched::Refuse,
        SECRET,
    );
    let result = texts(&made(&rules, &of_lines(lines)));
    let made: Vec<String> =
        result.values().map(|(placed, _)| String::from_utf8(placed[0].1.clone()).expect("text")).collect();
    assert_eq!(made, [r#""X""#, r#" "X" "#, r#""X""#, "null", r#"["X", {"a": "X"}]"#]);
}

#[test]
fn a_part_that_is_kept_need_not_be_masked_anywhere() {
    let source = of_lines(r#"{"key":"doc:1","value":"{\"id\": 7, \"name\": \"Ann\"}"}"#);
    let parts = vec![part("$.id", Masker::Keep), part("$..*", Masker::Token)];
    let rules = rules(vec![(b"doc:*", Deed::Copy(copy(parts)))], Unmatched::Refuse, SECRET);
    let surveyed = surveyed(&rules, &source);
    assert_eq!(report::findings(&rules, &surveyed), Vec::new());
}

#[test]
fn scores_that_stay_are_warned_of() {
    let source = of_lines(r#"{"key":"near:1","type":"zset","value":[["ann@shop.test",3479099956230698]]}"#);
    let rules = rules(vec![(b"near:*", masked(&Masker::Token))], Unmatched::Refuse, SECRET);
    let found = report::findings(&rules, &surveyed(&rules, &source));
    assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["refresh-score"]);
}

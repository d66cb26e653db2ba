//! What may be said of measurements, and what people expect of them.

use lockstep::finding::Severity;
use lockstep::measure::{Measure, Sample, Unit, Verdict};
use lockstep::model::Environment;
use lockstep::model::behaviour::KeyRule;
use lockstep::probe::expectation::{self, Expected};
use lockstep::probe::statistics::{Times, judge_times, percentile, rate, share};
use lockstep::probe::{self, Broken, Capture, Counted, Counters, Life, Probed, RuleCount, Served, Sight};
use proptest::prelude::*;

use crate::support::spec::Texts;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    /// From 0 to 1, both left out.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Times as services have them: a floor, and a tail.
    fn time(&mut self, scale: f64) -> f64 {
        scale * (1.0 - self.roll().ln())
    }

    fn times(&mut self, scale: f64) -> Times {
        Times::new(&(0..4).map(|_| (0..25).map(|_| self.time(scale)).collect()).collect::<Vec<_>>())
    }
}

#[test]
fn the_same_service_measured_twice_is_the_same() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut wrong = 0;
    const PAIRS: usize = 2_000;
    for _ in 0..PAIRS {
        let (before, after) = (dice.times(1.0), dice.times(1.0));
        wrong +=
            [0.50, 0.95, 0.99].iter().filter(|share| judge_times(&before, &after, **share) != Verdict::Same).count();
    }
    assert!(wrong * 1000 <= PAIRS * 3 * 5, "{wrong} of {} verdicts see what is not there", PAIRS * 3);
}

#[test]
fn a_service_that_became_slower_or_faster_is_told_so() {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut missed = 0;
    const PAIRS: usize = 500;
    for _ in 0..PAIRS {
        let (slow, fast) = (dice.times(2.0), dice.times(1.0));
        missed += usize::from(judge_times(&fast, &slow, 0.5) != Verdict::Worse);
        missed += usize::from(judge_times(&slow, &fast, 0.5) != Verdict::Better);
        let (much, little) = (dice.times(10.0), dice.times(1.0));
        for share in [0.5, 0.95] {
            missed += usize::from(judge_times(&little, &much, share) != Verdict::Worse);
            missed += usize::from(judge_times(&much, &little, share) != Verdict::Better);
        }
    }
    assert!(missed * 100 <= PAIRS * 6 * 5, "{missed} of {} shifts are missed", PAIRS * 6);
}

#[test]
fn a_tail_that_grew_alone_is_seen_in_the_tail_alone() {
    let mut dice = Dice(77);
    let mut tail = |slow: usize| {
        let round = |dice: &mut Dice| -> Vec<f64> {
            (0..25).map(|number| if number < slow { 50.0 + dice.roll() } else { 1.0 + dice.roll() / 10.0 }).collect()
        };
        Times::new(&[round(&mut dice), round(&mut dice), round(&mut dice), round(&mut dice)])
    };
    let (before, after) = (tail(0), tail(4));
    assert_eq!(judge_times(&before, &after, 0.50), Verdict::Same);
    assert_eq!(judge_times(&before, &after, 0.95), Verdict::Worse);
    assert_eq!(judge_times(&after, &before, 0.95), Verdict::Better);
}

#[test]
fn a_machine_that_moves_from_round_to_round_widens_the_interval() {
    let mut dice = Dice(5);
    let mut rounds = |levels: [f64; 4]| -> Times {
        Times::new(&levels.map(|level| (0..25).map(|_| level * (1.0 + dice.roll() / 50.0)).collect::<Vec<_>>()))
    };
    let (calm, restless) = (rounds([1.0; 4]), rounds([1.0, 1.6, 0.7, 1.3]));
    let width = |times: &Times| times.percentile(0.5).map(|sample| (sample.high - sample.low) / sample.value);
    assert!(width(&restless) > width(&calm).map(|width| width * 5.0));
    assert_eq!(judge_times(&calm, &restless, 0.5), Verdict::Same, "no level is its own");
}

#[test]
fn a_difference_that_matters_to_nobody_is_none() {
    let steady = |level: f64| Times::new(&vec![vec![level; 25]; 4]);
    assert_eq!(judge_times(&steady(10.0), &steady(10.2), 0.5), Verdict::Same, "two in a hundred");
    assert_eq!(judge_times(&steady(0.10), &steady(0.115), 0.5), Verdict::Same, "fifteen microseconds");
    assert_eq!(judge_times(&steady(10.0), &steady(11.0), 0.5), Verdict::Worse);
}

#[test]
fn intervals_hold_what_they_promise() {
    let mut dice = Dice(99);
    for (share, truth) in [(0.5, 2.0f64.ln() + 1.0), (0.9, 10.0f64.ln() + 1.0)] {
        let mut held = 0;
        for _ in 0..1000 {
            let mut times: Vec<f64> = (0..100).map(|_| dice.time(1.0)).collect();
            times.sort_by(f64::total_cmp);
            let sample = percentile(&times, share).expect("a hundred times");
            held += usize::from((sample.low..=sample.high).contains(&truth));
        }
        assert!((935..=995).contains(&held), "{held} of 1000 intervals hold the truth at {share}");
    }
}

proptest! {
    #[test]
    fn an_interval_is_in_order_and_out_of_what_was_measured(
        mut times in proptest::collection::vec(0.001f64..1e6, 1..300), part in 0.01f64..0.995
    ) {
        times.sort_by(f64::total_cmp);
        let sample = percentile(&times, part).expect("something was measured");
        prop_assert!(sample.low <= sample.value && sample.value <= sample.high);
        for value in [sample.low, sample.value, sample.high] {
            prop_assert!(times.contains(&value));
        }
    }

    #[test]
    fn shares_and_rates_lie_in_their_intervals(part in 0u64..1_000_000, rest in 0u64..1_000_000, seconds in 0.1f64..1e6) {
        if let Some(sample) = share(part, part + rest) {
            prop_assert!(0.0 <= sample.low && sample.low <= sample.value + 1e-12);
            prop_assert!(sample.value <= sample.high + 1e-12 && sample.high <= 1.0);
        }
        let sample = rate(part, seconds).expect("some time passed");
        prop_assert!(sample.low <= sample.value && sample.value <= sample.high);
    }

    #[test]
    fn an_expectation_that_is_printed_reads_as_it_was(
        quantity in 0usize..14, of in "[a-z][a-z0-9:*._ -]{0,20}[a-z*]", sign in 0usize..5, number in 0u32..2_000_000
    ) {
        let (word, value) = [
            ("p50", format!("{}ms", f64::from(number) / 8.0)), ("p95", format!("{number}us")), ("p99", format!("{number}s")),
            ("status", number.to_string()), ("body", format!("{number}kb")), ("hit_ratio", format!("{}%", f64::from(number % 101))),
            ("evictions", format!("{number}/s")), ("expired", number.to_string()), ("slow", format!("{}", f64::from(number) / 4.0)),
            ("commands", number.to_string()), ("memory", format!("{number}mb")), ("clients", number.to_string()),
            ("keys", number.to_string()), ("ttl_coverage", format!("{}", f64::from(number % 1000) / 1000.0)),
        ][quantity].clone();
        let text = format!("{word}({of}) {} {value}", ["<", "<=", ">", ">=", "="][sign]);
        let read = expectation::parse(&text).expect("what was written is an expectation");
        prop_assert_eq!(&read.quantity, word);
        prop_assert_eq!(expectation::parse(&read.to_string()), Ok(read));
    }

    #[test]
    fn any_text_is_an_expectation_or_a_mistake_within_it(text in "\\PC{0,60}") {
        if let Err(mistake) = expectation::parse(&text) {
            prop_assert!(mistake.character >= 1 && mistake.character <= text.chars().count() + 1);
            prop_assert!(!mistake.help.is_empty());
        }
    }

    #[test]
    fn no_capture_of_anything_makes_comparing_fail(
        counts in proptest::collection::vec(any::<u64>(), 20), micros in proptest::collection::vec(any::<u32>(), 0..60)
    ) {
        let counters = |at: usize| Counters {
            uptime_seconds: counts[at], hits: counts[at + 1], misses: counts[at + 2], evicted: counts[at + 3],
            expired: counts[at + 4], commands: counts[at + 5], slow: counts[at + 6], used_memory: counts[at + 7],
            clients: counts[at + 8], keys: counts[at + 9],
        };
        let histogram = vec![(counts[0] % 1000, counts[1]), (1000 + counts[2] % 1000, counts[3])];
        let served = |at: usize| Served {
            run: "a".to_owned(), start: counters(at), end: counters(at), histograms: [("get".to_owned(), histogram.clone())].into(),
            ..Served::default()
        };
        let capture = |at: usize| Capture {
            probes: [("page".to_owned(), Probed { rounds: vec![micros.clone()], ..Probed::default() })].into(),
            servers: [("cache".to_owned(), served(at))].into(),
            ..Capture::default()
        };
        for measure in probe::compare(&capture(0), &capture(10)).into_iter().chain(probe::measures(&capture(0))) {
            for sample in [measure.before, measure.after].into_iter().flatten() {
                prop_assert!(sample.value.is_finite() && sample.low <= sample.high, "{measure:?}");
            }
        }
    }
}

#[test]
fn a_mistake_in_an_expectation_is_pointed_at() {
    for (text, character, message, help) in [
        ("p59(article) < 20ms", 1, "`p59` is nothing that is measured", "did you mean `p50`?"),
        ("speed > 1", 1, "`speed` is nothing that is measured", "an expectation begins with one of p50, p95"),
        ("p95 < 20ms", 4, "`p95` of what?", "write the probe's name: p95(article) < 20ms"),
        ("p95(article < 20ms", 19, "a `(` is not closed", "write p95(article) < 20ms"),
        ("p95( article) < 20ms", 5, "` article` is no name: spaces do not belong around it", "write p95"),
        ("hit_ratio is 1", 11, "`i` is not a comparison", "one of <, <=, >, >=, ="),
        ("hit_ratio", 10, "the comparison is missing", "one of <"),
        ("hit_ratio >", 12, "the value is missing", "write it as 0.9 or 90%"),
        ("hit_ratio > 120%", 13, "`120%` is not a value of hit_ratio", "write it as 0.9 or 90%"),
        ("p95(article) < 20", 16, "`20` is not a value of p95", "write it as 20ms"),
        ("memory(cache) < lots", 17, "`lots` is not a value of memory", "write it as 100mb"),
        ("äöü", 1, "`` is nothing that is measured", "an expectation begins with one of"),
    ] {
        let mistake = expectation::parse(text).expect_err(text);
        assert_eq!((mistake.character, mistake.message.as_str()), (character, message), "{text}");
        assert!(mistake.help.starts_with(help), "{text}: {}", mistake.help);
    }
}

const BEHAVIOUR: &str = r#"
keys:
  "page:*": { on: cache, type: string, ttl: ..1h }
  "session:*": { on: cache, type: hash, ttl: 1m..2h }
probes:
  article: { on: web, get: /articles/one, status: 200, header: { x-cache: HIT }, p50: 5ms, p95: 10ms }
  one page: { on: cache, command: [GET, "page:1"], p99: 2ms }
watch: { for: 30s, refuse: [ERROR, "no memory"], hit_ratio: -5% }
"#;

fn shop() -> Environment {
    let mut texts = Texts::default();
    texts.0.insert(
        "environments/stack.yaml".to_owned(),
        format!(
            r#"lockstep: 1
stack: shop
redis:
  cache:
    image: redis:7.0
    settings: {{ maxmemory: 64mb }}
    users: {{ app: {{ password: app_password, keys: ["page:*"], allow: ["@read"] }} }}
apps:
  web: {{ image: "web:1.0", ports: ["8080:80"] }}
{BEHAVIOUR}"#
        ),
    );
    texts.0.insert("environments/staging.yaml".to_owned(), "values: {}\nsecrets: { env: A_ }\n".to_owned());
    texts.0.insert("environments/stack.lock".to_owned(), Texts::base().0["environments/stack.lock"].clone());
    texts.resolved("staging").0
}

#[test]
fn an_expectation_names_what_is_there() {
    let environment = shop();
    let known = |text: &str| {
        let expected = expectation::parse(text).expect("an expectation");
        expectation::known(text, &expected, &environment).map_err(|mistake| format!("{mistake}; {}", mistake.help))
    };
    for right in [
        "p95(article) < 20ms",
        "p99(one page) < 2ms",
        "p99(cache.get) < 1ms",
        "hit_ratio > 0.9",
        "hit_ratio(cache) >= 90%",
        "keys(page:*) > 1000",
        "keys > 1",
        "keys(cache) > 1",
        "ttl_coverage(session:*) = 100%",
        "memory < 100mb",
    ] {
        assert_eq!(known(right), Ok(()), "{right}");
    }
    for (wrong, said) in [
        ("p95(artcle) < 20ms", "there is no `artcle` that has a p95 (character 5); did you mean `article`?"),
        ("hit_ratio(cach) > 1%", "there is no `cach` that has a hit_ratio (character 11); did you mean `cache`?"),
        ("keys(blog:*) > 1", "there is no `blog:*` that has a keys (character 6); there are page:*, session:*, cache"),
        (
            "ttl_coverage > 1%",
            "`ttl_coverage` of what? (character 13); write ttl_coverage(page:*); there are page:*, session:*",
        ),
    ] {
        assert_eq!(known(wrong), Err(said.to_owned()));
    }
}

#[test]
fn an_expectation_is_met_by_what_was_measured_last() {
    let sample = |value: f64| Some(Sample { value, low: value * 0.9, high: value * 1.1 });
    let measure = |name: &str, unit, before, after| Measure {
        name: name.to_owned(),
        unit,
        before: sample(before),
        after: sample(after),
        verdict: Verdict::Same,
    };
    let measures = [
        measure("p95(article)", Unit::Milliseconds, 50.0, 12.0),
        measure("hit_ratio(cache)", Unit::Ratio, 0.5, 0.8),
        Measure { after: None, ..measure("memory(cache)", Unit::Bytes, 1.0, 1.0) },
    ];
    let evaluate = |text: &str| expectation::evaluate(&expectation::parse(text).expect("an expectation"), &measures);
    for (text, met, measured) in [
        ("p95(article) < 20ms", true, "12 ms (11 ms to 13 ms)"),
        ("p95(article) <= 12ms", true, "12 ms (11 ms to 13 ms)"),
        ("p95(article) < 12ms", false, "12 ms (11 ms to 13 ms)"),
        ("hit_ratio > 90%", false, "80.0% (72.0% to 88.0%)"),
        ("hit_ratio(cache) = 0.8", true, "80.0% (72.0% to 88.0%)"),
        ("memory < 1gb", false, "not measured"),
        ("clients > 0", false, "not measured"),
    ] {
        let found = evaluate(text);
        assert_eq!((found.met, found.measured.as_str()), (met, measured), "{text}");
    }
    let printed: Expected = expectation::parse("  hit_ratio(cache)>=90% ").expect("an expectation");
    assert_eq!(printed.to_string(), "hit_ratio(cache) >= 0.9");
}

fn slow(micros: u32) -> Probed {
    Probed {
        rounds: vec![vec![micros; 25]; 4],
        statuses: [(200, 99), (503, 1)].into(),
        headers: [("x-cache".to_owned(), ["HIT".to_owned(), "MISS".to_owned()].into())].into(),
        ..Probed::default()
    }
}

#[test]
fn what_breaks_the_spec_is_found_and_a_change_is_blamed_for_its_own() {
    let environment = shop();
    let life = Life { running: true, ..Life::default() };
    let capture = |probed: Probed| Capture {
        probes: [("article".to_owned(), probed)].into(),
        lives: [(environment.probes["article"].on.to_string(), life.clone())].into(),
        ..Capture::default()
    };
    let found = probe::violations(&capture(slow(8_000)), &environment);
    let said: Vec<String> = found.iter().map(|finding| finding.message.clone()).collect();
    assert_eq!(
        said,
        [
            "probe `article` answers with 503 (1 times), and not 200",
            "probe `article` has `MISS` in `x-cache`, and not `HIT`",
            "p50(article) is 8.00 ms (8.00 ms to 8.00 ms, 100 times), above 5ms",
        ]
    );
    assert!(found.iter().all(|finding| finding.place.is_some() && finding.severity == Severity::Error));
    let blamed = |before: &Capture, after: &Capture| -> Vec<_> {
        probe::blamed(before, after, &environment).into_iter().filter_map(|finding| finding.subject).collect()
    };
    let (slow_before, worse) = (capture(slow(8_000)), capture(slow(20_000)));
    assert_eq!(blamed(&slow_before, &worse), ["p95(article)"], "the rest was so before");
    // A service that did not run was not wrong in the same way; nobody knows how it was.
    let failed = Probed { problem: Some("it does not run".to_owned()), ..Probed::default() };
    let absent = Capture { lives: [].into(), ..capture(failed.clone()) };
    assert_eq!(blamed(&absent, &capture(failed.clone())), ["probe article"]);
    assert_eq!(blamed(&capture(failed.clone()), &capture(failed)), [""; 0]);

    // Half of them are slow: the median may be above the bound by chance.
    let mixed = Probed { rounds: vec![[vec![1_000; 12], vec![6_000; 13]].concat(); 4], ..Probed::default() };
    let found = probe::violations(&capture(mixed), &environment);
    assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Warning], "{found:?}");
}

fn served(hits: u64, misses: u64) -> Served {
    let counters = Counters { uptime_seconds: 100, hits, misses, ..Counters::default() };
    Served { run: "one".to_owned(), start: counters, end: counters, ..Served::default() }
}

#[test]
fn a_hit_ratio_is_of_what_was_asked_since() {
    let capture = |served: Served| Capture { servers: [("cache".to_owned(), served)].into(), ..Capture::default() };
    let ratio = |before: Served, after: Served| {
        let measures = probe::compare(&capture(before), &capture(after));
        measures.into_iter().find(|measure| measure.name == "hit_ratio(cache)").expect("it is measured")
    };
    let fell = ratio(served(9_000, 1_000), served(9_100, 1_900));
    assert_eq!(fell.after.map(|sample| sample.value), Some(0.1), "a hundred of the last thousand");
    assert_eq!(fell.verdict, Verdict::Worse);
    let none = ratio(served(9_000, 1_000), served(9_000, 1_000));
    assert_eq!((none.after, none.verdict), (None, Verdict::Unknown), "nobody asked");
    let restarted = Served { run: "two".to_owned(), ..served(40, 10) };
    assert_eq!(ratio(served(9_000, 1_000), restarted).after.map(|sample| sample.value), Some(0.8), "since its start");

    let watch = shop().watch.expect("it is declared");
    assert!(probe::cooled(&watch, "cache", &served(9_000, 1_000), &served(9_100, 1_900)).is_some());
    assert!(probe::cooled(&watch, "cache", &served(9_000, 1_000), &served(9_870, 1_130)).is_none(), "87%: within five");
    assert!(probe::cooled(&watch, "cache", &served(9_000, 1_000), &served(9_000, 1_010)).is_none(), "ten are too few");
}

#[test]
fn a_watch_sees_ends_and_refused_lines() {
    let life = |id: &str, restarts: u64| Life { id: id.to_owned(), running: true, restarts, ..Life::default() };
    let seen = |before: Option<&Life>, now: &Life| {
        probe::lived(Sight { service: "web", before, now }).map(|finding| finding.message)
    };
    assert_eq!(seen(Some(&life("a", 3)), &life("a", 3)), None, "what happened before the change");
    let again = seen(Some(&life("a", 3)), &life("a", 4));
    assert_eq!(again.as_deref(), Some("web ended and was started again once"));
    let new = seen(Some(&life("a", 0)), &life("b", 2));
    assert_eq!(new.as_deref(), Some("web ended and was started again 2 times"));
    let dead = Life { exit_code: 137, out_of_memory: true, ..Life::default() };
    assert_eq!(seen(None, &dead).as_deref(), Some("web does not run: exit code 137, killed for want of memory"));
    let watch = shop().watch.expect("it is declared");
    let found = probe::line_refused(&watch, "web", "12:00 ERROR: it broke").expect("the text stands there");
    assert_eq!(found.message, "web wrote `ERROR` to its log: 12:00 ERROR: it broke");
    assert!(probe::line_refused(&watch, "web", "an error, in lower case").is_none());
    let long = probe::line_refused(&watch, "web", &format!("ERROR {}", "x".repeat(5_000))).expect("it stands there");
    assert!(long.message.len() < 300, "a line is shown within bounds");
}

#[test]
fn keys_are_counted_by_rule() {
    let environment = shop();
    let rules: Vec<&KeyRule> = environment.keys.iter().collect();
    let now_ms = 1_000_000_000_000;
    let expiring = |key: &str, left_ms: i64| {
        let mut record = vec![0xfc];
        record.extend((now_ms + left_ms).to_le_bytes());
        record.extend(string(key));
        record
    };
    let records = [
        expiring("page:/articles/one", 1_000),
        expiring("page:/articles/two", 3_600_000),
        expiring("page:/articles/late", 86_400_000),
        expiring("page:/gone", -1),
        string("page:/endless"),
        string("session:17:cart"),
        string("stray"),
        string("stray:1"),
        string("stray:2"),
    ];
    let mut rdb = b"REDIS0009\xfe\x00".to_vec();
    rdb.extend(records.concat());
    // No checksum: eight zeroes.
    rdb.extend([0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let counted = probe::keys::count(rdb.as_slice(), &rules, now_ms).expect("a snapshot");
    let pages = &counted.rules["page:*"];
    assert_eq!((pages.keys, pages.with_expiry), (4, 3), "what had expired is not there");
    assert_eq!((pages.endless.keys, pages.too_long.keys, pages.wrong_type.keys), (1, 1, 0));
    assert_eq!(pages.too_long.prefixes, ["page:/articles/".to_owned()].into());
    let sessions = &counted.rules["session:*"];
    assert_eq!((sessions.keys, sessions.wrong_type.keys, sessions.endless.keys), (1, 1, 1));
    assert_eq!(counted.unruled, 3);
    assert_eq!(counted.unruled_prefixes, [("(no prefix)".to_owned(), 1), ("stray:".to_owned(), 2)].into());

    let capture = Capture { keys: [("cache".to_owned(), counted)].into(), ..Capture::default() };
    let said: Vec<String> =
        probe::violations(&capture, &environment).into_iter().map(|finding| finding.message).collect();
    assert_eq!(
        said,
        [
            "1 key of `page:*` without an expiry: `page:/`",
            "1 key of `page:*` with more than 1h left to live: `page:/articles/`",
            "1 key of `session:*` of another type than hash: `session:17:`",
            "1 key of `session:*` without an expiry: `session:17:`",
            "3 keys of cache match no rule: `(no prefix)` (1), `stray:` (2)",
        ]
    );
}

/// A key with an empty string, as it lies in a snapshot.
fn string(key: &str) -> Vec<u8> {
    let mut record = vec![0, u8::try_from(key.len()).expect("a short key")];
    record.extend(key.as_bytes());
    record.push(0);
    record
}

/// A change of an application takes no backup, so nobody counted the keys before it; an encrypted one nobody here can open.
#[test]
fn keys_that_nobody_counted_before_take_no_change_back() {
    let environment = shop();
    let broken = Broken { keys: 1, prefixes: ["page:/".to_owned()].into() };
    let counted = |keys: u64| {
        let endless = if keys > 0 { broken.clone() } else { Broken::default() };
        let rules = [("page:*".to_owned(), RuleCount { keys: 1, endless, ..RuleCount::default() })].into();
        Counted { rules, ..Counted::default() }
    };
    let life = Life { id: "1f".to_owned(), ..Life::default() };
    let capture = |counted: Option<Counted>| Capture {
        keys: counted.map(|counted| ("cache".to_owned(), counted)).into_iter().collect(),
        lives: [("cache".to_owned(), life.clone())].into(),
        ..Capture::default()
    };
    let severities = |before: Option<Counted>| -> Vec<Severity> {
        let after = capture(Some(counted(1)));
        probe::blamed(&capture(before), &after, &environment).into_iter().map(|finding| finding.severity).collect()
    };
    let unread = Counted { problem: Some("no identity opens it".to_owned()), ..Counted::default() };
    assert_eq!(severities(Some(counted(0))), [Severity::Error], "it was right before");
    assert_eq!(severities(Some(counted(1))), [], "it was so before");
    assert_eq!(severities(None), [Severity::Warning]);
    assert_eq!(severities(Some(unread)), [Severity::Warning]);
}

//! The JSON of `verify`, by a schema that knows every key: one more, one less or of another kind is a new format.

use lockstep::measure::Sample;
use lockstep::parity::Verification;
use lockstep::parity::pages::{Latency, Page, Pages};
use lockstep::parity::shape::{Group, Shape, Shaped, Spread};
use lockstep::ui::json;
use serde_json::Value;

use crate::support::script::verified;

/// What stands at a place.
enum Kind {
    Text,
    Number,
    Switch,
    /// One of these texts.
    Word(&'static [&'static str]),
    List(&'static Kind),
    /// Keys of anybody's choice.
    Map(&'static Kind),
    /// All keys that there may be, with whether each has to be there.
    Object(&'static [(&'static str, bool, &'static Kind)]),
    /// Or nothing.
    Maybe(&'static Kind),
    /// A number, and how many are below it.
    Pair,
    /// A prefix, and bytes.
    Sized,
}

use Kind::{List, Map, Maybe, Number, Object, Pair, Sized, Switch, Text, Word};

const LEVEL: Kind = Word(&["spec", "bytes", "image", "container", "process"]);
const PROOF: Kind = Object(&[
    ("level", true, &LEVEL),
    ("compared", true, &Number),
    ("findings", true, &Number),
    ("unknown", true, &Number),
    ("declared", true, &Number),
    ("host", true, &Number),
]);
const ROW: Kind = Object(&[
    ("environment", true, &Text),
    ("reference", true, &Switch),
    ("read_at", false, &Text),
    ("unknown", false, &Text),
    ("levels", true, &List(&PROOF)),
]);
const PLACE: Kind = Object(&[("file", true, &Text), ("line", true, &Number), ("column", true, &Number)]);
const SEEN: Kind = Object(&[
    ("environment", true, &Text),
    ("level", true, &LEVEL),
    ("source", true, &Text),
    ("at", false, &Text),
    ("since", false, &Text),
]);
const FINDING: Kind = Object(&[
    ("severity", true, &Word(&["error", "warning", "note"])),
    ("rule", true, &Text),
    ("message", true, &Text),
    ("place", false, &PLACE),
    ("subject", false, &Text),
    ("expected", false, &Text),
    ("observed", false, &Text),
    ("help", false, &Text),
    ("seen", false, &SEEN),
]);
const ACCEPTED: Kind =
    Object(&[("finding", true, &FINDING), ("by", true, &Text), ("why", true, &Text), ("until", true, &Text)]);
const DECLARED: Kind = Object(&[
    ("subject", true, &Text),
    ("class", true, &Word(&["must-match", "scaled", "declared", "host", "must-differ", "volatile"])),
    ("values", true, &List(&Text)),
    ("because", true, &List(&Text)),
]);
const SPREAD: Kind = Object(&[
    ("p5", true, &Maybe(&Number)),
    ("p50", true, &Maybe(&Number)),
    ("p95", true, &Maybe(&Number)),
    ("p99", true, &Maybe(&Number)),
    ("most", true, &Number),
    ("below", true, &List(&Pair)),
]);
const GROUP: Kind = Object(&[
    ("keys", true, &Number),
    ("types", true, &Map(&Number)),
    ("encodings", true, &Map(&Number)),
    ("with_expiry", true, &Number),
    ("ttl_seconds", true, &SPREAD),
    ("bytes", true, &SPREAD),
    ("biggest", true, &List(&Sized)),
    ("prefixes", false, &Map(&Number)),
]);
const COST: Kind =
    Object(&[("milliseconds", true, &Number), ("bytes", true, &Number), ("fork_microseconds", true, &Number)]);
const SHAPE: Kind = Object(&[
    ("version", true, &Text),
    ("keys", true, &Number),
    ("read", true, &Number),
    ("groups", true, &Map(&GROUP)),
    ("cost", true, &COST),
]);
const SHAPED: Kind = Object(&[
    ("environment", true, &Text),
    ("service", true, &Text),
    ("shape", false, &SHAPE),
    ("unknown", false, &Text),
]);
const SAMPLE: Kind = Object(&[("value", true, &Number), ("low", true, &Number), ("high", true, &Number)]);
const LATENCY: Kind = Object(&[
    ("environment", true, &Text),
    ("probe", true, &Text),
    ("p50", false, &SAMPLE),
    ("p95", false, &SAMPLE),
    ("p99", false, &SAMPLE),
    ("problem", false, &Text),
]);
const VERIFICATION: Kind = Object(&[
    ("format", true, &Number),
    ("environments", true, &List(&Text)),
    ("levels", true, &List(&PROOF)),
    ("matrix", true, &List(&ROW)),
    ("findings", true, &List(&FINDING)),
    ("accepted", false, &List(&ACCEPTED)),
    ("declared", true, &List(&DECLARED)),
    ("shapes", false, &List(&SHAPED)),
    ("latencies", false, &List(&LATENCY)),
]);

fn check(value: &Value, kind: &Kind, at: &str) {
    match kind {
        Text => assert!(value.is_string(), "{at}: {value}"),
        Number => assert!(value.is_number(), "{at}: {value}"),
        Switch => assert!(value.is_boolean(), "{at}: {value}"),
        Word(words) => assert!(value.as_str().is_some_and(|word| words.contains(&word)), "{at}: {value}"),
        Maybe(_) if value.is_null() => {}
        Maybe(kind) => check(value, kind, at),
        Pair => assert!(value[0].is_number() && value[1].is_u64() && value[2].is_null(), "{at}: {value}"),
        Sized => assert!(value[0].is_string() && value[1].is_u64() && value[2].is_null(), "{at}: {value}"),
        List(kind) => {
            let items = value.as_array().unwrap_or_else(|| panic!("{at} is a list: {value}"));
            items.iter().enumerate().for_each(|(number, item)| check(item, kind, &format!("{at}[{number}]")));
        }
        Map(kind) => {
            let entries = value.as_object().unwrap_or_else(|| panic!("{at} is an object: {value}"));
            entries.iter().for_each(|(key, value)| check(value, kind, &format!("{at}.{key}")));
        }
        Object(keys) => {
            let entries = value.as_object().unwrap_or_else(|| panic!("{at} is an object: {value}"));
            for (key, value) in entries {
                let known = keys.iter().find(|(known, ..)| known == key);
                let (.., kind) = known.unwrap_or_else(|| panic!("{at}.{key} is not in the schema"));
                check(value, kind, &format!("{at}.{key}"));
            }
            for (key, required, _) in *keys {
                assert!(!required || entries.contains_key(*key), "{at}.{key} is required");
            }
        }
    }
}

fn is_valid(verification: &Verification) {
    let value: Value = serde_json::from_str(&json::text(verification)).expect("JSON");
    check(&value, &VERIFICATION, "$");
    assert_eq!(value["format"], 1);
}

#[test]
fn every_comparison_is_of_the_schema() {
    for script in [
        "compare staging\n",
        "compare staging production\n",
        "compare staging production\nunread ci nobody listens\n",
        "compare staging production\nproduction: setting cache hz 50\nproduction: unwell web 503\n",
        "compare staging production\nunknown cache settings.hz NOPERM\n",
    ] {
        is_valid(&verified(script).0);
    }
}

#[test]
fn what_is_compared_besides_is_of_the_schema() {
    let mut verification = verified("compare staging production\n").0;
    let mut spread = Spread::default();
    [1, 10, 100].into_iter().for_each(|number| spread.add(number));
    let group = Group {
        keys: 3,
        types: [("string".to_owned(), 3)].into(),
        encodings: [("raw".to_owned(), 3)].into(),
        with_expiry: 3,
        ttl_seconds: spread.clone(),
        bytes: spread,
        biggest: vec![("page:".to_owned(), 100)],
        prefixes: [("page:".to_owned(), 3)].into(),
    };
    let groups = [("(no rule)".to_owned(), group), ("page:*".to_owned(), Group::default())].into();
    let shape = Shape { version: "redis 7.0.15".to_owned(), keys: 3, read: 3, groups, ..Shape::default() };
    let shaped = |environment: &str, shape: Option<Shape>| Shaped {
        environment: environment.to_owned(),
        service: "cache".to_owned(),
        unknown: shape.is_none().then(|| "it does not run".to_owned()),
        shape,
    };
    verification.shapes(vec![shaped("staging", Some(shape)), shaped("production", None)]);
    let sample = Some(Sample { value: 1.0, low: 0.5, high: 2.0 });
    let (environment, probe) = ("staging".to_owned(), "article".to_owned());
    verification.latencies.push(Latency { environment, probe, p50: sample, p95: sample, p99: None, problem: None });
    let page = |status| Page { request: "GET /".to_owned(), status, ..Page::default() };
    let pages = |status| Pages::from([("web".to_owned(), Ok(vec![page(status)]))]);
    verification.pages(("staging", &pages(200)), ("production", &pages(500)));
    assert_eq!(verification.findings.len(), 2);
    is_valid(&verification);
}

#[test]
fn the_schema_refuses_what_is_not_in_it() {
    let sound: Value = serde_json::from_str(&json::text(&verified("compare staging\n").0)).expect("JSON");
    for (key, value) in [("more", Value::Null), ("format", "1".into()), ("levels", Value::Null)] {
        let mut other = sound.clone();
        other[key] = value;
        assert!(std::panic::catch_unwind(|| check(&other, &VERIFICATION, "$")).is_err(), "{key}");
    }
    let mut less = sound;
    less.as_object_mut().expect("an object").remove("matrix");
    assert!(std::panic::catch_unwind(|| check(&less, &VERIFICATION, "$")).is_err());
}

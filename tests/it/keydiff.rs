//! `lockstep::keydiff` against a comparison that holds everything in memory, and `backup diff` from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use lockstep::backup::State;
use lockstep::digest::{Hasher, Key};
use lockstep::keydiff::{Asked, Aspect, Class, Counts, DiffError, HELD, Report, Side, Spill, WAITING, compare};
use lockstep::rdb;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use serde_json::json;

use crate::backup_verbs::{damage, json, repository, shop, take_dump};
use crate::rdb::{Rdb, length, text};
use crate::rdb_fixtures::typed::{self, Typed};
use crate::rdb_fixtures::{dumps, told};

const A: &str = "cache-20261120T050000Z-aaaaaa";
const B: &str = "cache-20261121T050000Z-bbbbbb";

#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    appends: usize,
}

impl Spill for &mut Memory {
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.appends += 1;
        self.bytes.extend_from_slice(bytes);
        Ok((self.bytes.len() - bytes.len()) as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
        Ok(())
    }
}

fn hasher() -> Hasher {
    Hasher::new(&Key::new([7; 32]), None)
}

fn diff(a: &[u8], b: &[u8], waiting: usize, asked: Asked) -> Report {
    let (mut aside_a, mut aside_b) = (Memory::default(), Memory::default());
    let a = Side::read(a, hasher(), &mut aside_a, waiting).expect("an RDB");
    let b = Side::read(b, hasher(), &mut aside_b, waiting).expect("an RDB");
    compare(a, b, asked).expect("compared")
}

fn plainly(a: &[u8], b: &[u8]) -> Report {
    diff(a, b, WAITING, Asked { depth: 1, limit: 1000, held: HELD })
}

// ---------------------------------------------------------------------------------------------------------------------
// Random datasets
// ---------------------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq)]
enum Value {
    String(Vec<u8>),
    List(Vec<u8>),
    Set(BTreeSet<u8>),
    Zset(BTreeMap<u8, i8>),
    Hash(BTreeMap<u8, u8>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Set(_) => "set",
            Value::Zset(_) => "zset",
            Value::Hash(_) => "hash",
        }
    }
}

type Data = BTreeMap<(u8, Vec<u8>), (Value, Option<u8>)>;

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        vec(any::<u8>(), 0..4).prop_map(Value::String),
        vec(0u8..3, 1..4).prop_map(Value::List),
        btree_set(0u8..4, 1..4).prop_map(Value::Set),
        btree_map(0u8..3, any::<i8>(), 1..3).prop_map(Value::Zset),
        btree_map(0u8..3, 0u8..2, 1..3).prop_map(Value::Hash),
    ]
}

fn data() -> impl Strategy<Value = Data> {
    let names = prop_oneof!["[ab]:[ab]:[a-d]{1,2}", "[a-c]{0,2}", "x:[a-d]"];
    let names = names.prop_map(|name: String| match name.len() {
        5 => [name.as_bytes(), &[0xff]].concat(),
        _ => name.into_bytes(),
    });
    btree_map((0u8..3, names), (values(), proptest::option::weighted(0.3, any::<u8>())), 0..60)
}

fn datasets() -> impl Strategy<Value = (Data, Data)> {
    // The other side is the same with some keys gone, changed and added.
    let changes = (vec((any::<proptest::sample::Index>(), values(), 0u8..5), 0..10), data());
    (data(), changes).prop_map(|(a, (changes, more))| {
        let mut b = a.clone();
        for (index, value, how) in changes {
            if b.is_empty() {
                break;
            }
            let at = index.index(b.len());
            let key = b.keys().nth(at).expect("in it").clone();
            match how {
                0 => _ = b.remove(&key),
                1 => b.get_mut(&key).expect("there").1 = Some(9),
                2 => b.get_mut(&key).expect("there").1 = None,
                _ => b.get_mut(&key).expect("there").0 = value,
            }
        }
        b.extend(more.into_iter().take(5));
        (a, b)
    })
}

/// Elements and keys in their order, or all in the opposite one.
fn write(data: &Data, reversed: bool) -> Vec<u8> {
    fn order<T>(items: impl Iterator<Item = T>, reversed: bool) -> Vec<T> {
        let mut items: Vec<T> = items.collect();
        if reversed {
            items.reverse();
        }
        items
    }
    let mut rdb = Rdb::begin("REDIS0010");
    for ((database, key), (value, expiry)) in order(data.iter(), reversed) {
        rdb = rdb.select(u64::from(*database));
        if let Some(expiry) = expiry {
            rdb = rdb.put([252]).put(i64::from(*expiry).to_le_bytes());
        }
        let counted = |items: Vec<Vec<u8>>| [length(items.len() as u64), items.concat()].concat();
        let (number, bytes) = match value {
            Value::String(bytes) => (0, text(bytes)),
            Value::List(items) => (1, counted(items.iter().map(|item| text([*item])).collect())),
            Value::Set(items) => (2, counted(order(items.iter().map(|item| text([*item])), reversed))),
            Value::Zset(items) => {
                let item =
                    |(member, score): (&u8, &i8)| [text([*member]), f64::from(*score).to_le_bytes().into()].concat();
                (5, counted(order(items.iter().map(item), reversed)))
            }
            Value::Hash(items) => {
                let item = |(name, value): (&u8, &u8)| [text([*name]), text([*value])].concat();
                (4, counted(order(items.iter().map(item), reversed)))
            }
        };
        rdb = rdb.put([number]).put(text(key)).put(bytes);
    }
    rdb.end()
}

fn naive(a: &Data, b: &Data) -> BTreeMap<(u64, Vec<u8>), Class> {
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let class = |key: &(u8, Vec<u8>)| match (a.get(key), b.get(key)) {
        (Some(_), None) => Some(Class::OnlyA),
        (None, _) => Some(Class::OnlyB),
        (Some((a, _)), Some((b, _))) if a.kind() != b.kind() => Some(Class::Type),
        (Some((a, _)), Some((b, _))) if a != b => Some(Class::Value),
        (Some((_, a)), Some((_, b))) => (a != b).then_some(Class::Expiry),
    };
    keys.into_iter().filter_map(|key| Some(((u64::from(key.0), key.1.clone()), class(key)?))).collect()
}

fn classes(report: &Report) -> BTreeMap<(u64, Vec<u8>), Class> {
    report.listed.iter().map(|(key, difference)| (key.clone(), difference.class)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_is_what_a_comparison_in_memory_finds(
        (a, b) in datasets(),
        waiting in prop_oneof![Just(1usize), 1usize..2_000, Just(WAITING)],
        held in prop_oneof![Just(1usize), 1usize..200, Just(HELD)],
        limit in prop_oneof![0usize..10, Just(1000)],
        depth in 1usize..4,
    ) {
        let expected = naive(&a, &b);
        let report = diff(&write(&a, false), &write(&b, true), waiting, Asked { depth, limit, held });
        prop_assert_eq!(report.keys, [a.len() as u64, b.len() as u64]);
        prop_assert_eq!(report.differing.total(), expected.len() as u64);
        prop_assert_eq!(report.is_equal(), expected.is_empty());
        let shown: BTreeMap<_, _> = expected.iter().take(limit).map(|(key, class)| (key.clone(), *class)).collect();
        prop_assert_eq!(classes(&report), shown);
        let mut prefixes: BTreeMap<(u64, Option<Vec<u8>>), u64> = BTreeMap::new();
        for (database, key) in expected.keys() {
            let ends: Vec<usize> = key.iter().enumerate().filter(|(_, b)| **b == b':').map(|(at, _)| at).collect();
            let end = ends.get(depth - 1).or(ends.last());
            *prefixes.entry((*database, end.map(|end| key[..=*end].to_vec()))).or_default() += 1;
        }
        let counted: BTreeMap<_, _> = report.prefixes.iter().map(|(key, counts)| (key.clone(), counts.total())).collect();
        prop_assert_eq!(counted, prefixes);
        prop_assert!(report.prefixes.is_sorted_by(|(_, one), (_, next)| one.total() >= next.total()));
        let sum = report.prefixes.iter().fold(report.other, |sum, (_, counts)| sum.plus(counts));
        prop_assert_eq!(sum, report.differing);
        for ((database, key), difference) in &report.listed {
            let key = (u8::try_from(*database).expect("small"), key.clone());
            for (data, held) in [(&a, difference.a), (&b, difference.b)] {
                let told = data.get(&key).map(|(value, expiry)| (value.kind(), expiry.map(i64::from)));
                prop_assert_eq!(held.map(|held| (held.kind, held.expires_at_ms)), told);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What real servers wrote
// ---------------------------------------------------------------------------------------------------------------------

/// What servers of every version can say of a value.
fn comparable(typed: &Typed, other: Option<&Typed>) -> Typed {
    let mut typed = typed.clone();
    let counts =
        |typed: &Typed| !matches!(&typed.value, typed::Value::Stream(stream) if stream.entries_added.is_none());
    let both_count = counts(&typed) && other.is_none_or(counts);
    if let typed::Value::Stream(stream) = &mut typed.value {
        stream.first = None;
        if !both_count {
            (stream.max_deleted, stream.entries_added) = (None, None);
        }
        for group in &mut stream.groups {
            group.entries_read = group.entries_read.filter(|_| both_count);
            for consumer in &mut group.consumers {
                (consumer.seen_ms, consumer.active_ms) = (0, None);
            }
        }
    }
    typed
}

#[test]
fn what_servers_of_all_versions_wrote_differs_where_they_say_so() {
    let readable = |path: &std::path::PathBuf| rdb::walk(fs::read(path).expect("a dump").as_slice()).is_ok();
    let what = |path: &std::path::Path| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        name.splitn(3, '-').nth(2).expect("what it holds").to_owned()
    };
    let mut groups: BTreeMap<String, Vec<std::path::PathBuf>> = BTreeMap::new();
    for path in dumps().into_iter().filter(readable) {
        groups.entry(what(&path)).or_default().push(path);
    }
    let (mut equal, mut compared) = (0, 0);
    for paths in groups.values() {
        for (index, left) in paths.iter().enumerate() {
            for right in &paths[index..] {
                let ((a, _), (b, _)) = (told(left), told(right));
                let expected: BTreeSet<(u64, Vec<u8>)> = a
                    .keys()
                    .chain(b.keys())
                    .filter(|key| match (a.get(*key), b.get(*key)) {
                        (Some(a), Some(b)) => comparable(a, Some(b)) != comparable(b, Some(a)),
                        _ => true,
                    })
                    .map(|(database, key)| (u64::from(*database), key.clone()))
                    .collect();
                let report = plainly(&fs::read(left).expect("a dump"), &fs::read(right).expect("a dump"));
                let found: BTreeSet<_> = report.listed.keys().cloned().collect();
                assert_eq!(found, expected, "{} and {}", left.display(), right.display());
                compared += 1;
                equal += usize::from(left != right && expected.is_empty());
            }
        }
    }
    assert!(compared > 100 && equal > 50, "{equal} of {compared} are equal");
}

#[test]
fn streams_differ_in_their_groups_alone_and_function_libraries_by_name() {
    let one = Rdb::begin("REDIS0010").select(0).entry(15, "s", crate::rdb::stream(1)).end();
    let counted = Rdb::begin("REDIS0010").select(0).entry(19, "s", crate::rdb::stream(2)).end();
    assert!(plainly(&one, &counted).is_equal(), "a server that does not count says nothing else");
    let library = |name: &str, body: &str| text(format!("#!lua name={name}\n{body}"));
    let functions = |libraries: &[Vec<u8>]| {
        let begun = Rdb::begin("REDIS0010");
        libraries.iter().fold(begun, |rdb, library| rdb.put([245]).put(library)).end()
    };
    let a = functions(&[library("same", "x"), library("other", "x"), library("gone", "x")]);
    let b = functions(&[library("new", "x"), library("other", "y"), library("same", "x")]);
    let report = plainly(&a, &b);
    let expected = [("gone", Class::OnlyA), ("new", Class::OnlyB), ("other", Class::Value)];
    let expected = expected.map(|(name, class)| (name.as_bytes().to_vec(), class));
    assert_eq!(report.listed_functions, BTreeMap::from(expected));
    assert_eq!((report.functions.total(), report.differing, report.keys), (3, Counts::default(), [0, 0]));
    assert!(!report.is_equal());
}

#[test]
fn expiries_of_fields_are_told_from_values() {
    let hash = |expiry: i64| {
        let field = [&text("f")[..], &text("v"), &expiry.to_le_bytes()].concat();
        Rdb::begin("VALKEY080").select(0).entry(22, "h", [length(1), field].concat()).end()
    };
    let report = plainly(&hash(5_000), &hash(6_000));
    let difference = report.listed.values().next().expect("one key");
    assert_eq!((difference.class, difference.aspects.as_slice()), (Class::Expiry, &[Aspect::FieldExpiry][..]));
}

// ---------------------------------------------------------------------------------------------------------------------
// Bounds
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn memory_is_bounded_however_many_keys_there_are() {
    const KEYS: u64 = 300_000;
    const LIMIT: usize = 64 << 10;
    let dump = |changed: u64| {
        let begun = Rdb::begin("REDIS0010").select(0);
        let value = |key| if key == changed { "other" } else { "value" };
        (0..KEYS).fold(begun, |rdb, key| rdb.set(&format!("p{key}:{key}"), value(key))).end()
    };
    let (a, b) = (dump(1), dump(2));
    let (mut aside_a, mut aside_b) = (Memory::default(), Memory::default());
    let a = Side::read(a.as_slice(), hasher(), &mut aside_a, LIMIT).expect("an RDB");
    let b = Side::read(b.as_slice(), hasher(), &mut aside_b, LIMIT).expect("an RDB");
    assert!(a.peak() < LIMIT + 200 && b.peak() < LIMIT + 200, "{} {}", a.peak(), b.peak());
    let report = compare(a, b, Asked { depth: 1, limit: 10, held: 4 << 10 }).expect("compared");
    let names: Vec<&[u8]> = report.listed.keys().map(|(_, key)| key.as_slice()).collect();
    assert_eq!(names, [b"p1:1", b"p2:2"]);
    assert!(aside_a.bytes.len() > 10_000_000 && aside_a.appends > 1_000, "what does not wait lies elsewhere");

    // With nothing in common there are as many prefixes as keys.
    let empty = Rdb::begin("REDIS0010").end();
    let report = diff(&dump(1), &empty, LIMIT, Asked { depth: 1, limit: 10, held: HELD });
    assert_eq!((report.prefixes.len(), report.listed.len()), (10_000, 10));
    assert_eq!((report.differing.only_a, report.other.only_a), (KEYS, KEYS - 10_000));
}

struct Full;

impl Spill for Full {
    fn append(&mut self, _bytes: &[u8]) -> io::Result<u64> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn read_at(&mut self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_ends_it() {
    let dump = crate::rdb::snapshot_of(100, 10);
    let error = Side::read(dump.as_slice(), hasher(), Full, 1).expect_err("nowhere to go");
    assert!(matches!(error, DiffError::Spill(_)), "{error}");
    assert!(Side::read(dump.as_slice(), hasher(), Full, WAITING).is_ok(), "what fits needs no disk");
}

// ---------------------------------------------------------------------------------------------------------------------
// From outside
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn two_backups_are_compared() {
    let project = shop("").with("environments/live.yaml", "values: {}\n");
    let expiring = |at: i64| [&[252][..], &at.to_le_bytes()].concat();
    let a = Rdb::begin("REDIS0010")
        .select(0)
        .set("user:1", "ann")
        .set("user:2", "bob")
        .put(expiring(9_000_000_000_000))
        .set("page:1", "text")
        .select(3)
        .set("gone", "x")
        .end();
    let b = Rdb::begin("REDIS0009")
        .select(0)
        .set("page:1", "text")
        .entry(1, "user:2", [length(1), text("bob")].concat())
        .set("user:1", "eve")
        .put([0])
        .put(text([b'n', 0xff]))
        .put(text("new"))
        .end();
    take_dump(&repository(&project), A, &a, State::Verified);
    take_dump(&repository(&project), B, &b, State::Verified);
    let ran = project.lockstep(&["backup", "diff", "aaaaaa", "bbbbbb"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""), "{ran:?}");
    let expected = format!(
        "A {A}: 4 keys
B {B}: 4 keys
5 keys differ: 1 only in A, 1 only in B, 1 of another type, 1 with another value, 1 with another expiry alone
db  prefix       differ  only A  only B  type  value  expiry
0   user:        2       0       0       1     1      0
0   (no prefix)  1       0       1       0     0      0
0   page:        1       0       0       0     0      1
3   (no prefix)  1       1       0       0     0      0
keys:
0  n\\xff   only in B (string)
0  page:1  expires at ms: 9000000000000 -> never
0  user:1  value
0  user:2  type: string -> list
3  gone    only in A (string)
"
    );
    assert_eq!(ran.stdout, expected);
    let ran = project.lockstep(&["backup", "diff", A, B, "--limit", "1", "--json"]);
    assert_eq!(ran.code, 3);
    let said = json(&ran);
    assert_eq!((&said["format"], &said["equal"], &said["keys"]["differing"]), (&json!(1), &json!(false), &json!(5)));
    let none = json!({ "only_a": 0, "only_b": 0, "type": 0, "value": 0, "expiry": 1 });
    let page = json!({ "database": 0, "prefix": "page:", "differing": 1, "counts": none });
    assert_eq!(said["prefixes"][2], page);
    let new = json!([{
        "database": 0, "key": { "base64": "bv8=" }, "class": "only_b", "differs_in": [],
        "a": null, "b": { "type": "string", "expires_at_ms": null },
    }]);
    assert_eq!(said["listed"], new);

    let ran = project.lockstep(&["backup", "diff", "aaaaaa", "aaaaaa"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.ends_with("equal: no key and no function library differs\n"), "{}", ran.stdout);
    assert_eq!(json(&project.lockstep(&["backup", "diff", A, A, "--json"]))["equal"], true);
    assert_eq!(project.lockstep(&["backup", "diff", A, B, "--prefix-depth", "0"]).code, 2);
    assert_eq!(project.lockstep(&["backup", "diff", A, "nothing-like-it"]).code, 2);

    // That two differ and that one cannot be read are told apart by the exit code.
    damage(&project, B);
    let ran = project.lockstep(&["backup", "diff", A, B]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains(B) && ran.stderr.contains("hash differs"), "{}", ran.stderr);
}

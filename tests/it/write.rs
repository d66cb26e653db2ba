//! What the writer of `lockstep::rdb` promises: what was read is what is there when it is read again.

use lockstep::digest::{self, Hasher, Lane};
use lockstep::rdb::{self, Family, Form, Frames, Record, Room, Target, WriteError, Writer};
use proptest::prelude::*;

use crate::digest::{digest_of, hasher};
use crate::keyspace::{Bytes, Dice, Keyspace, Kind, Value, end, file, keyspace, plain};

const TARGETS: [Target; 8] = [
    Target { family: Family::Redis, version: 9 },
    Target { family: Family::Redis, version: 10 },
    Target { family: Family::Redis, version: 11 },
    Target { family: Family::Redis, version: 12 },
    Target { family: Family::Redis, version: 13 },
    Target { family: Family::Redis, version: 14 },
    Target { family: Family::Redis, version: 15 },
    Target { family: Family::Valkey, version: 80 },
];

/// Writes everything again, and tells what could not be: key and reason.
fn rewritten(bytes: &[u8], target: Target, form: Form) -> (Bytes, Vec<(Bytes, &'static str)>) {
    let mut frames = Frames::new(bytes);
    let mut writer = Writer::begin(Vec::new(), target).expect("memory");
    let (mut room, mut lost) = (Room::default(), Vec::new());
    while let Some(batch) = frames.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        for record in batch.records() {
            match record.expect("a record") {
                Record::Key(entry) => match writer.key(&entry, entry.expires_at_ms, form, &mut room) {
                    Ok(_) => {}
                    Err(WriteError::Loses { key, what }) => lost.push((key, what)),
                    Err(error) => panic!("{error}"),
                },
                Record::Announced { database, keys, expires } => {
                    writer.announce(database, keys, expires).expect("memory");
                }
                Record::Function(written) => writer.function(written).expect("memory"),
                Record::ModuleAux(written) => writer.module_aux(written).expect("memory"),
            }
        }
    }
    (writer.finish().expect("memory"), lost)
}

fn has_field_expiry(value: &Value) -> bool {
    matches!(value, Value::Hash(fields) if fields.values().any(|(_, expiry)| expiry.is_some()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn plain_says_the_same_and_what_it_cannot_say_it_names(keys in keyspace(), seed: u64) {
        let kind = if seed % 2 == 0 { Kind::Redis12 } else { Kind::Valkey80 };
        let bytes = file(&keys, kind, seed);
        for target in TARGETS {
            let (again, mut lost) = rewritten(&bytes, target, Form::Plain);
            let has_none = target.family == Family::Redis && target.version < 12;
            let (without, with): (Keyspace, Keyspace) =
                keys.clone().into_iter().partition(|(_, key)| has_none && has_field_expiry(&key.value));
            let mut expected: Vec<_> =
                without.into_keys().map(|(_, key)| (key, "expiry for the fields of a hash")).collect();
            lost.sort();
            expected.sort();
            prop_assert_eq!(lost, expected);
            let (before, after) = (digest_of(&file(&with, kind, seed), hasher()), digest_of(&again, hasher()));
            prop_assert_eq!(before.keys, after.keys);
            let differs = before.differs(&after);
            let allowed: &[Lane] = if target.version < 10 { &[Lane::StreamCounters] } else { &[] };
            prop_assert!(differs.iter().all(|lane| allowed.contains(lane)), "{differs:?} for {target:?}");
        }
    }

    #[test]
    fn as_written_is_as_it_was(keys in keyspace(), seed: u64) {
        for (kind, target) in [(Kind::Redis12, TARGETS[3]), (Kind::Redis12, TARGETS[6]), (Kind::Valkey80, TARGETS[7])] {
            let bytes = file(&keys, kind, seed);
            let (again, lost) = rewritten(&bytes, target, Form::AsWritten);
            prop_assert_eq!(lost, []);
            prop_assert_eq!(digest_of(&bytes, hasher()), digest_of(&again, hasher()));
        }
    }

    #[test]
    fn a_payload_opens_again(keys in keyspace(), seed: u64, form in prop::sample::select(vec![Form::AsWritten, Form::Plain])) {
        let bytes = file(&keys, Kind::Redis12, seed);
        let mut frames = Frames::new(&bytes[..]);
        let (mut room, mut payload) = (Room::default(), Vec::new());
        while let Some(batch) = frames.next_batch().expect("a file") {
            for record in batch.records() {
                let Record::Key(entry) = record.expect("a record") else { continue };
                prop_assert!(rdb::dump(&entry, TARGETS[3], form, &mut room, &mut payload).expect("a payload"));
                let (value, trailer) = payload.split_at(payload.len() - 10);
                prop_assert_eq!(&trailer[..2], [12, 0]);
                let checked = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&payload[..payload.len() - 8]);
                prop_assert_eq!(&trailer[2..], checked.to_le_bytes());
                let mut name = Vec::new();
                let key = plain(entry.key(&mut name).expect("a name"));
                let wrapped = end([&b"REDIS0012"[..], &value[..1], &key, &value[1..]].concat());
                let mut one = Hasher::new(&digest::Key::new([7; 32]), None);
                let mut bare = entry;
                (bare.database, bare.expires_at_ms) = (0, None);
                one.add(&bare, &mut room).expect("a value");
                prop_assert_eq!(digest_of(&wrapped, hasher()), one.keyspace);
            }
        }
    }

    #[test]
    fn an_empty_collection_is_left_out(form in prop::sample::select(vec![Form::AsWritten, Form::Plain])) {
        let bytes = end(b"REDIS0009\x01\x01k\x00\x00\x01a\x01b".to_vec());
        let (again, lost) = rewritten(&bytes, TARGETS[0], form);
        prop_assert_eq!(lost, []);
        let summary = rdb::walk(&again[..]).expect("a file");
        prop_assert_eq!((summary.empty_keys, summary.keys()), (0, 1));
    }
}

#[test]
fn an_encoding_goes_only_to_who_knows_it() {
    for seed in 0..300 {
        let key = |value| (0, vec![seed as u8], value);
        let mut dice = Dice(seed);
        let hash = Value::Hash([(b"f".to_vec(), (b"v".to_vec(), (seed % 2 == 0).then_some(1_600_000_000_000)))].into());
        let (_, _, hash) = key(hash);
        let (number, value) = crate::keyspace::encoded(&hash, Kind::Redis12, &mut dice);
        let bytes = end([&b"REDIS0012"[..], &[number, 1, b'k'], &value].concat());
        for target in TARGETS {
            let knows = match number {
                4 | 9 | 13 => true,
                16 => target.version >= 10,
                _ => target.family == Family::Redis && target.version >= 12,
            };
            let (again, lost) = rewritten(&bytes, target, Form::AsWritten);
            assert_eq!(lost.is_empty(), knows, "{number} for {target:?}");
            assert_eq!(rdb::walk(&again[..]).expect("a file").keys(), u64::from(knows));
        }
    }
}

#[test]
fn what_modules_attach_is_kept_or_named() {
    let bytes = end(b"REDIS0013\xf3\x01abcd\x05\x01m\x00\xfc\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01k\x01v".to_vec());
    let without = end(b"REDIS0013\xfc\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01k\x01v".to_vec());
    assert_eq!(digest_of(&bytes, hasher()).differs(&digest_of(&without, hasher())), [Lane::Values]);
    let (again, lost) = rewritten(&bytes, TARGETS[4], Form::AsWritten);
    assert_eq!(lost, []);
    assert_eq!(digest_of(&again, hasher()), digest_of(&bytes, hasher()));
    for (target, form) in [(TARGETS[4], Form::Plain), (TARGETS[3], Form::AsWritten), (TARGETS[7], Form::AsWritten)] {
        let (again, lost) = rewritten(&bytes, target, form);
        assert_eq!(lost, [(b"k".to_vec(), "place for what modules attach to a key")]);
        assert_eq!(rdb::walk(&again[..]).expect("a file").keys(), 0);
    }
}

#[test]
fn expiries_at_both_ends_of_time_do_not_overflow() {
    let field = |name: u8, at: i64| [&[1, name, 1, b'v'][..], &at.to_le_bytes()].concat();
    let fields = [field(b'a', i64::MIN), field(b'b', i64::MAX)].concat();
    let bytes = end([&b"VALKEY080\x16\x01k\x02"[..], &fields].concat());
    let (_, lost) = rewritten(&bytes, TARGETS[3], Form::Plain);
    assert_eq!(lost, [(b"k".to_vec(), "expiry so far from another of the same hash")]);
    let (again, lost) = rewritten(&bytes, TARGETS[7], Form::Plain);
    assert_eq!((digest_of(&again, hasher()), lost), (digest_of(&bytes, hasher()), vec![]));
}

#[test]
fn functions_and_what_modules_keep_go_along() {
    let bytes = end(b"REDIS0011\xf7\x81\x00\x00\x00\x01\x00\x00\x00\x00\x02\x01\x05\x01m\x00\xf5\x04code".to_vec());
    let (again, _) = rewritten(&bytes, TARGETS[2], Form::Plain);
    assert_eq!(again, bytes);
}

/// Each of what only Redis since 8.6 has: number, version that has it, what older ones lack, and the value.
pub(crate) fn new_values() -> Vec<(u8, u32, &'static str, Bytes)> {
    let id = [&7u64.to_be_bytes()[..], &1u64.to_be_bytes()].concat();
    let claim = [&id[..], &[0; 8], &[1]].concat();
    // No entries; a group with one pending entry, which a consumer or nobody holds; then what producers have sent.
    let stream = |held: &[u8], given_back: &[u8], producers: &[u8]| {
        let group = [&[1, 1, b'g', 7, 1, 3, 1][..], &claim, &[1, 1, b'c'], &[9; 16], held, given_back].concat();
        [&[0, 0, 7, 1, 0, 0, 0, 0, 1][..], &group, &[60, 10][..], producers, &[1, 0]].concat().to_vec()
    };
    let held = [&[1][..], &id].concat();
    let lp = |items: &[&[u8]]| {
        let mut dice = Dice(4);
        plain(&crate::keyspace::listpack(&items.iter().map(|item| item.to_vec()).collect::<Vec<_>>(), &mut dice))
    };
    let values = [&[0x80 | 1, b'v', 2][..], &[0xc7, 0xd0, 2]].concat();
    let packed = |number: &[u8]| {
        let body = [number, &values].concat();
        plain(&[&((7 + body.len()) as u32).to_le_bytes()[..], &[3, 0], &body, &[255]].concat())
    };
    vec![
        (26, 13, "", stream(&held, &[], &[0])),
        (26, 13, "memory of what producers have sent", stream(&held, &[], &[1, 1, b'p', 1, 1, b'i', 7, 1])),
        (27, 14, "", stream(&held, &[0], &[0])),
        (27, 14, "pending entries that no consumer holds", stream(&[0], &held, &[0])),
        (
            28,
            14,
            "arrays",
            [&[4, 1, 9, 0, 1][..], &[7; 8], &[3, 2], &1.5f64.to_le_bytes(), &[5, 0, 1, b'x', 8, 3, 1, b'y']].concat(),
        ),
        (29, 15, "", [vec![0], lp(&[b"f", b"g"]), packed(&[0, 1])].concat()),
        (29, 15, "", [vec![1, 2, 1, b'f', 1, b'g'], packed(&[5, 1])].concat()),
        (30, 15, "", packed(&[3, 1])),
        (31, 15, "", [vec![0], lp(&[b"f", b"g"]), vec![1, b'v', 0xc1, 0xd0, 0x07]].concat()),
        (31, 15, "", [1, 2, 1, b'f', 1, b'g', 1, b'v', 0xc1, 0xd0, 0x07].to_vec()),
        (32, 15, "", [3, 1, b'v', 0xc1, 0xd0, 0x07].to_vec()),
    ]
}

/// A file of one of them, with the template that some refer to.
pub(crate) fn new_file(number: u8, version: u32, value: &[u8]) -> Bytes {
    let template: &[u8] = if version >= 15 { b"\xf2\x03\x02\x01f\x01g" } else { b"" };
    end([format!("REDIS{version:04}").as_bytes(), template, &[number, 1, b'k'], value].concat())
}

#[test]
fn what_is_new_is_read_and_what_older_servers_lack_is_named() {
    for (number, version, lacks, value) in new_values() {
        let bytes = new_file(number, version, &value);
        let before = digest_of(&bytes, hasher());
        assert_eq!(before.keys, 1, "type {number}");
        for target in TARGETS {
            let (again, lost) = rewritten(&bytes, target, Form::Plain);
            let knows = lacks.is_empty() || target.family == Family::Redis && target.version >= version;
            assert_eq!(lost.is_empty(), knows, "{number} for {target:?}");
            if knows {
                let differs = before.differs(&digest_of(&again, hasher()));
                assert!(differs.iter().all(|lane| *lane == Lane::StreamCounters), "{differs:?}: {number}, {target:?}");
            } else {
                assert_eq!(lost, [(b"k".to_vec(), lacks)]);
            }
        }
        let (again, lost) = rewritten(&bytes, TARGETS[6], Form::AsWritten);
        assert_eq!((digest_of(&again, hasher()), lost), (before, vec![]), "type {number}");
        // No older version knows the number.
        assert!(rdb::walk(&new_file(number, version - 1, &value)[..]).is_err());
    }
}

#[test]
fn a_hash_is_the_same_with_a_template_and_without() {
    let plain = digest_of(&end(b"REDIS0012\x04\x01k\x02\x01f\x01v\x01g\x042000".to_vec()), hasher());
    for (number, version, _, value) in new_values().into_iter().filter(|(number, ..)| (29..=32).contains(number)) {
        assert_eq!(digest_of(&new_file(number, version, &value), hasher()), plain, "type {number}");
    }
}

#[test]
fn templates_that_a_server_would_refuse_are_refused() {
    let refused = |records: &[u8], what: &str| {
        let error = rdb::walk(&end([b"REDIS0015", records].concat())[..]).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(b"\xf2\x03\x00", "hash template without a name");
    refused(b"\xf2\x03\x02\x01g\x01f", "names out of order");
    refused(b"\xf2\x03\x02\x01f\x01f", "names out of order");
    refused(b"\xf2\x03\x01\x01g\xf2\x03\x01\x01f", "number of another");
    refused(b"\xf2\x80\xff\xff\xff\xff\x01\x01g", "beyond all use");
    refused(b"\x20\x01k\x04\x01v", "unknown template");
    refused(b"\x1e\x01k\x0b\x0b\x00\x00\x00\x02\x00\x03\x01\x04\x01\xff", "unknown template");
    refused(b"\xf2\x03\x01\x01f\x1e\x01k\x09\x09\x00\x00\x00\x01\x00\x03\x01\xff", "middle of an item");
    refused(b"\x1f\x01k\x02\x01\x01f\x01v", "unknown form of the names");
    refused(b"\x1f\x01k\x01\x00", "without a name");
    refused(b"\x1f\x01k\x01\x02\x01g\x01f\x01v\x01w", "names out of order");
    refused(b"\x1c\x01k\x00\x00", "head that is none");
    refused(b"\x1c\x01k\x01\x02", "head that is none");
    refused(b"\x1c\x01k\x01\x00\x00\x04\x00", "unknown kind of value in an array");
}

//! What `lockstep::digest` promises, shown on keyspaces made up by chance and written in ever other ways.

use std::io::{self, Read};

use lockstep::digest::{self, Hasher, Lane, ReadError};
use lockstep::rdb::{Frames, Room, Summary, Tally};
use proptest::prelude::*;

use crate::keyspace::{Bytes, Dice, Key, Keyspace, Kind, Value, end, file, keyspace, lzf, plain, stream_value};

pub(crate) fn hasher() -> Hasher {
    Hasher::new(&digest::Key::new([7; 32]), None)
}

/// The digest of a file on one thread.
pub(crate) fn digest_of(bytes: &[u8], mut hasher: Hasher) -> digest::Keyspace {
    let mut frames = Frames::new(bytes);
    let (mut tally, mut room) = (Tally::default(), Room::default());
    while let Some(batch) = frames.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        hasher.add_batch(&batch, &mut tally, &mut room).unwrap_or_else(|error| panic!("{error}"));
        frames.recycle(batch);
    }
    hasher.keyspace
}

fn digest_of_keys(keys: &Keyspace, seed: u64) -> digest::Keyspace {
    let kind = if seed.is_multiple_of(2) { Kind::Redis12 } else { Kind::Valkey80 };
    digest_of(&file(keys, kind, seed), hasher())
}

/// A source that gives so many bytes at a time.
struct Pieces<'b>(&'b [u8], Dice);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (1 + self.1.below(9)).min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

fn changed(text: &mut Bytes, dice: &mut Dice) {
    match dice.below(3) {
        0 if !text.is_empty() => {
            let at = dice.below(text.len());
            text[at] ^= 1 << dice.below(8);
        }
        1 if !text.is_empty() => {
            text.pop();
        }
        _ => text.push(dice.below(256) as u8),
    }
}

fn later(expiry: &mut Option<i64>) {
    *expiry = match *expiry {
        Some(at) => Some(at + 1),
        None => Some(1_500_000_000_000),
    };
}

/// Changes one thing, and says whether anything was there to change.
fn change(value: &mut Value, dice: &mut Dice) -> bool {
    match value {
        Value::Text(text) => changed(text, dice),
        Value::List(items) => {
            let (one, two) = (dice.below(items.len()), dice.below(items.len()));
            match dice.below(3) {
                0 if items[one] != items[two] => items.swap(one, two),
                1 => items.push(b"one more".to_vec()),
                _ => changed(&mut items[one], dice),
            }
        }
        Value::Set(members) => {
            let member = members.iter().nth(dice.below(members.len())).cloned().expect("a member");
            let mut other = member.clone();
            changed(&mut other, dice);
            members.remove(&member);
            return members.insert(other);
        }
        Value::Zset(members) => {
            let index = dice.below(members.len());
            let score = members.values_mut().nth(index).expect("a member");
            let before = *score;
            *score = if dice.below(2) == 0 { score.next_up() } else { -*score + 0.0 };
            return *score != before;
        }
        Value::Hash(fields) => {
            let index = dice.below(fields.len());
            let (value, expiry) = fields.values_mut().nth(index).expect("a field");
            match dice.below(2) {
                0 => changed(value, dice),
                _ => later(expiry),
            }
        }
        Value::Stream(stream) => {
            let index = dice.below(stream.entries.len());
            let groups = dice.below(stream.groups.len());
            let group = stream.groups.values_mut().nth(groups);
            match (dice.below(9), stream.entries.values_mut().nth(index), group) {
                (0, ..) => stream.last.1 ^= 1,
                (1, Some(fields), _) if !fields.is_empty() => {
                    let (name, value) = &mut fields[0];
                    changed(if dice.below(2) == 0 { name } else { value }, dice);
                }
                (2, Some(fields), _) => fields.push((b"f".to_vec(), b"v".to_vec())),
                (3, _, Some(group)) => group.last.0 ^= 1,
                (4, _, Some(group)) => group.read = group.read.map_or(Some(3), |read| Some(read + 1)),
                (5, _, Some(group)) => return group.consumers.insert(b"another, who holds nothing \xff\xff".to_vec()),
                (6, _, Some(group)) => match group.pending.values_mut().next() {
                    Some((_, at, times)) => {
                        *(if dice.below(2) == 0 {
                            at
                        } else {
                            return {
                                *times += 1;
                                true
                            };
                        }) ^= 1;
                    }
                    None => return false,
                },
                (7, _, Some(group)) if group.consumers.len() > 1 => match group.pending.values_mut().next() {
                    Some((consumer, ..)) => *consumer = (*consumer + 1) % group.consumers.len(),
                    None => return false,
                },
                (8, _, Some(group)) => return group.pending.pop_first().is_some(),
                _ => return false,
            }
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn order_and_encoding_do_not_matter(keys in keyspace(), one: u64, other: u64) {
        let (one, other) = (digest_of_keys(&keys, one), digest_of_keys(&keys, other));
        prop_assert_eq!(one.keys, keys.len() as u64);
        prop_assert!(one == other, "they differ in {:?}", one.differs(&other));
    }

    #[test]
    fn every_single_change_shows(keys in keyspace(), seed: u64, which: prop::sample::Index, what in 0u8..6) {
        prop_assume!(!keys.is_empty());
        let ((database, name), Key { expiry, value }) =
            keys.iter().nth(which.index(keys.len())).map(|(place, key)| (place.clone(), key.clone())).expect("a key");
        let mut dice = Dice(seed);
        let mut place = (database, name.clone());
        let mut key = Key { expiry, value };
        match what {
            0 => place.0 += 1,
            1 => changed(&mut place.1, &mut dice),
            2 => later(&mut key.expiry),
            _ => prop_assume!(change(&mut key.value, &mut dice)),
        }
        let mut others = keys.clone();
        others.remove(&(database, name));
        prop_assume!(others.insert(place, key).is_none());
        let (before, after) = (digest_of_keys(&keys, seed), digest_of_keys(&others, seed));
        prop_assert!(!before.differs(&after).is_empty());
        prop_assert!((1..=2).contains(&before.unequal_buckets(&after)));
    }

    #[test]
    fn a_type_is_part_of_the_data(items in prop::collection::vec(any::<u8>(), 1..9), seed: u64) {
        let list = Value::List(vec![items.clone()]);
        let set = Value::Set([items.clone()].into());
        let one = |value| Keyspace::from([((0, b"key".to_vec()), Key { expiry: None, value })]);
        let digests = [list, set, Value::Text(items)].map(|value| digest_of_keys(&one(value), seed));
        prop_assert_ne!(&digests[0], &digests[1]);
        prop_assert_ne!(&digests[0], &digests[2]);
        prop_assert_ne!(&digests[1], &digests[2]);
    }

    #[test]
    fn parts_add_up_to_the_whole_and_can_be_taken_out(keys in keyspace(), seed: u64) {
        let mut dice = Dice(seed);
        let (one, other): (Keyspace, Keyspace) = keys.clone().into_iter().partition(|_| dice.below(2) == 0);
        let (one, other, whole) =
            (digest_of_keys(&one, seed), digest_of_keys(&other, seed + 1), digest_of_keys(&keys, seed + 2));
        let mut sum = one.clone();
        sum.merge(&other);
        prop_assert_eq!(&sum, &whole);
        sum.subtract(&other);
        prop_assert_eq!(&sum, &one);
        sum.subtract(&one);
        prop_assert_eq!(&sum, &digest::Keyspace::default());
    }

    #[test]
    fn threads_and_the_way_the_source_is_cut_do_not_matter(keys in keyspace(), seed: u64) {
        let bytes = file(&keys, Kind::Redis12, seed);
        let alone = digest_of(&bytes, hasher());
        let mut tapped = Vec::new();
        let source = Pieces(&bytes, Dice(seed));
        let told = digest::read(source, &hasher(), |piece| { tapped.extend_from_slice(piece); Ok(()) }).expect("a file");
        prop_assert_eq!(told.keyspace, alone);
        prop_assert_eq!(told.summary, lockstep::rdb::walk(&bytes[..]).expect("a file"));
        prop_assert_eq!(tapped, bytes);
    }

    #[test]
    fn what_has_expired_is_left_out(keys in keyspace(), now in 1_000_000_000_000i64..2_000_000_000_000, seed: u64) {
        let alive = |at: Option<i64>| at.is_none_or(|at| at > now);
        let mut left = keys.clone();
        left.retain(|_, key| {
            if let Value::Hash(fields) = &mut key.value {
                fields.retain(|_, (_, expiry)| alive(*expiry));
            }
            let is_empty = matches!(&key.value, Value::Hash(fields) if fields.is_empty());
            alive(key.expiry) && !is_empty
        });
        let timed = || Hasher::new(&digest::Key::new([7; 32]), Some(now));
        let mut digest = digest_of(&file(&keys, Kind::Valkey80, seed), timed());
        prop_assert_eq!(digest.expired, (keys.len() - left.len()) as u64);
        digest.expired = 0;
        prop_assert_eq!(digest, digest_of_keys(&left, seed));
    }

    #[test]
    fn an_old_stream_lacks_its_counters_and_nothing_else(value in crate::keyspace::value(), seed: u64) {
        let Value::Stream(stream) = value else { return Ok(()) };
        let of = |number: u8, version: u8| {
            let value = stream_value(&stream, version, &mut Dice(seed));
            digest_of(&end([b"REDIS0011".to_vec(), vec![number], plain(b"key"), value].concat()), hasher())
        };
        prop_assert_eq!(of(15, 1).differs(&of(19, 2)), [Lane::StreamCounters]);
        prop_assert_eq!(of(19, 2).differs(&of(21, 3)), []);
        // All three lie in files of version 11: what a stream lacks, its own form tells.
        prop_assert_eq!([of(15, 1), of(19, 2), of(21, 3)].map(|digest| digest.uncounted), [1, 0, 0]);
        let (old, new) = (of(15, 1), of(19, 2));
        prop_assert_eq!(new.difference(&old, old.counts()), None, "a server makes them up");
        prop_assert!(old.difference(&new, new.counts()).is_some(), "and none loses them");
        let mut both = old.clone();
        both.merge(&new);
        prop_assert!(!both.counts());
        both.subtract(&old);
        prop_assert!(both.counts());
    }
}

#[test]
fn another_key_gives_another_digest() {
    let keys = Keyspace::from([((0, b"key".to_vec()), Key { expiry: None, value: Value::Text(b"v".to_vec()) })]);
    let bytes = file(&keys, Kind::Redis12, 1);
    let other = digest_of(&bytes, Hasher::new(&digest::Key::new([8; 32]), None));
    assert_eq!(digest_of(&bytes, hasher()).differs(&other), [Lane::Keys, Lane::Values]);
}

/// One string of 3 MB, plain and compressed, which is expanded piece by piece.
#[test]
fn a_long_string_is_the_same_however_it_is_kept() {
    let text: Bytes =
        (0..3_000_000u32).flat_map(|at| if at % 1000 < 900 { vec![b'x'] } else { vec![at as u8] }).collect();
    let packed = lzf(&text);
    let size = |count: usize| [&[0x80][..], &(count as u32).to_be_bytes()].concat();
    let of = |value: Bytes| digest_of(&end([&b"REDIS0009\x00\x01k"[..], &value].concat()), hasher());
    let plain = of([size(text.len()), text.clone()].concat());
    assert_eq!(plain, of([vec![0xc3], size(packed.len()), size(text.len()), packed].concat()));
    let mut other = text.clone();
    other[2_999_999] ^= 1;
    assert_ne!(plain, of([size(other.len()), other].concat()));
}

#[test]
fn who_gives_up_does_not_leave_the_others_waiting() {
    // One value larger than everything that may be under way, and wrong at its very end.
    let items = 6_000_000u32;
    let mut value = [&[0x80][..], &items.to_be_bytes()].concat();
    for _ in 0..items {
        value.extend(*b"\x03one");
    }
    let size = value.len();
    value[size - 4..].copy_from_slice(&[0xc3, 1, 1, 0x20]);
    let whole = end([&b"REDIS0009\x01\x01k"[..], &value].concat());
    for _ in 0..3 {
        let failed = digest::read(&whole[..], &hasher(), |_| Ok(())).expect_err("a wrong value");
        assert!(matches!(failed, ReadError::Rdb(error) if error.key.as_deref() == Some(b"k")));
    }
    let many =
        end([&b"REDIS0009"[..], &[&b"\x01\x01k"[..], &value[..5], &value[5..size - 4], b"\x03one"].concat().repeat(3)]
            .concat());
    for given in 0..3 {
        let mut left = given;
        let failed = digest::read(&many[..], &hasher(), |_| {
            left -= 1;
            if left < 0 { Err(io::Error::other("full")) } else { Ok(()) }
        });
        assert!(matches!(failed, Err(ReadError::Tap(_))));
    }
}

#[test]
fn the_earliest_of_several_mistakes_is_told() {
    let mut bytes = b"REDIS0009".to_vec();
    for key in 0..60_000u32 {
        let score = if key == 30_000 || key == 59_999 { f64::NAN } else { 1.0 };
        bytes.extend([&[5][..], &plain(&key.to_be_bytes()), &[1, 1, b'm'], &score.to_le_bytes()].concat());
    }
    for _ in 0..5 {
        match digest::read(&end(bytes.clone())[..], &hasher(), |_| Ok(())) {
            Err(ReadError::Rdb(error)) => assert_eq!(error.key.as_deref(), Some(&30_000u32.to_be_bytes()[..])),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_mistake_in_a_value_comes_before_one_in_a_later_name() {
    // A string that does not expand, and the name of the next key with lengths that cannot be.
    let bytes = end(b"REDIS0009\x00\x01a\xc3\x04\x04\x00a\x20\x01\x00\xc3\x01\x00\x00\x00".to_vec());
    let walked = lockstep::rdb::walk(&bytes[..]).expect_err("a mistake");
    match digest::read(&bytes[..], &hasher(), |_| Ok(())) {
        Err(ReadError::Rdb(error)) => assert_eq!((error.to_string(), error.offset), (walked.to_string(), 12)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_databases_and_tiny_keys_take_neither_time_nor_memory() {
    // A megabyte of the smallest keys, each in another database than the one before.
    let mut bytes = b"REDIS0009".to_vec();
    for key in 0..170_000u32 {
        bytes.extend([254, 0x40 | ((key % 16_000) >> 8) as u8, (key % 16_000) as u8, 0, 0, 0]);
    }
    let bytes = end(bytes);
    let told = digest::read(&bytes[..], &hasher(), |_| Ok(())).expect("a file");
    let Summary { databases, .. } = told.summary;
    assert_eq!((databases.len(), told.keyspace.keys), (16_000, 170_000));
}

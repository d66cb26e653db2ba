//! Every kind of damage to a small file of every kind: cut off anywhere, or any byte another.

use std::time::Duration;

use lockstep::digest::Keyspace;
use lockstep::rdb::{self, Checksum, Frames, RdbError, Room, Tally};

use crate::digest::hasher;
use crate::keyspace::{Bytes, Dice, Kind, Value, encoded, end, plain, stream_value};
use crate::rdb::redis_values;
use crate::write::{new_file, new_values};

fn one(magic: &str, record: &[u8]) -> Bytes {
    end([magic.as_bytes(), record].concat())
}

/// A small file of every type, every encoding and every record.
fn files() -> Vec<(String, Bytes)> {
    let mut files = Vec::new();
    for (number, _, value) in redis_values() {
        files.push((format!("type {number}"), one("REDIS0012", &[&[number, 1, b'k'][..], &value].concat())));
    }
    for (number, version, _, value) in new_values() {
        files.push((format!("type {number} of {version}"), new_file(number, version, &value)));
    }
    let numbers: Vec<Bytes> = ["1", "-300", "70000", "5000000000", "x"].map(|text| text.into()).to_vec();
    let hash = numbers.iter().map(|name| (name.clone(), (b"v".to_vec(), None))).collect();
    for seed in 0..12 {
        for value in [Value::List(numbers.clone()), Value::Hash(Clone::clone(&hash))] {
            let (number, value) = encoded(&value, Kind::Redis12, &mut Dice(seed));
            files.push((format!("seed {seed}"), one("REDIS0012", &[&[number, 1, b'k'][..], &value].concat())));
        }
    }
    let records: [(&str, &[u8]); 11] = [
        ("REDIS0012", b"\xfa\x09redis-ver\x058.2.3\x00\x01k\x01v"),
        ("REDIS0012", b"\xfe\x03\xfb\x01\x00\x00\x01k\x01v"),
        ("REDIS0012", b"\xfc\x00\x10\x20\x30\x40\x01\x00\x00\xf8\x09\x00\x01k\x01v"),
        ("REDIS0012", b"\xfd\x00\x10\x20\x30\xf9\x09\x00\x01k\x01v"),
        ("REDIS0012", b"\xf5\x04code"),
        ("REDIS0012", b"\xf7\x09\x02\x01\x01\x05\x02\x05\x03\x00\x00\x00\x00\x05\x01m\x00\x00\x01k\x01v"),
        ("REDIS0012", b"\xf4\x05\x01\x00\x00\x01k\x01v"),
        ("REDIS0013", b"\xf3\x01abcd\x05\x01m\x00\x00\x01k\x01v"),
        ("REDIS0015", b"\xf2\x03\x02\x01f\x01g\x20\x01k\x03\x01v\x01w"),
        ("VALKEY080", b"\xf3\x03job\x01\x00\x05\x00\x01k\x01v"),
        ("VALKEY080", b"\x16\x01k\x01\x01f\x01v\x01\x02\x03\x04\x05\x06\x07\x08"),
    ];
    files.extend(records.map(|(magic, record)| (record.escape_ascii().to_string(), one(magic, record))));
    files
}

fn read(bytes: &[u8]) -> Result<(Keyspace, Checksum), RdbError> {
    let mut frames = Frames::new(bytes);
    let (mut hasher, mut tally, mut room) = (hasher(), Tally::default(), Room::default());
    while let Some(batch) = frames.next_batch()? {
        hasher.add_batch(&batch, &mut tally, &mut room)?;
    }
    Ok((hasher.keyspace, frames.summary().checksum))
}

fn flips(byte: u8) -> impl Iterator<Item = u8> {
    let bits = (0..8).map(move |bit| byte ^ (1 << bit));
    bits.chain([0, 255, !byte, byte.wrapping_add(1), byte.wrapping_sub(1)]).filter(move |other| *other != byte)
}

#[test]
fn every_file_is_whole() {
    for (name, bytes) in files() {
        let (_, checksum) = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches!(checksum, Checksum::Verified(_)), "{name}");
    }
}

#[test]
fn no_part_of_a_file_passes_for_the_whole() {
    for (name, bytes) in files() {
        for size in 0..bytes.len() {
            assert!(read(&bytes[..size]).is_err(), "{name}: the first {size} bytes");
        }
    }
}

#[test]
fn no_other_byte_goes_unnoticed() {
    for (name, bytes) in files() {
        let (whole, _) = read(&bytes).expect("a whole file");
        for at in 0..bytes.len() {
            for other in flips(bytes[at]) {
                let mut damaged = bytes.clone();
                damaged[at] = other;
                if let Ok((digest, checksum)) = read(&damaged) {
                    assert!(checksum == Checksum::Absent || digest == whole, "{name}: byte {at} as {other:#04x}");
                    // Of the versions without a checksum nothing vouches for anything; that is all that is left here.
                    assert!(at < 9, "{name}: byte {at} as {other:#04x}");
                }
            }
        }
    }
}

/// What this thread has had of a processor, however busy the machine is otherwise.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time since the thread began")
}

#[test]
fn without_a_checksum_damage_is_read_or_refused_at_once() {
    let begun = processor();
    for (_, bytes) in files() {
        let body = bytes.len() - 8;
        for at in 0..body {
            for other in flips(bytes[at]) {
                let mut damaged = bytes.clone();
                damaged[body..].fill(0);
                damaged[at] = other;
                if let Ok((_, checksum)) = read(&damaged) {
                    assert_eq!(checksum, Checksum::Absent);
                }
            }
        }
    }
    let took = processor().saturating_sub(begun);
    assert!(took < Duration::from_secs(60), "{took:?} of processor time");
}

/// A string of so many times the same four bytes, as small as LZF makes it.
fn bomb(head: &[u8], four: [u8; 4], tail: &[u8], times: usize) -> Bytes {
    let mut packed = Vec::new();
    let mut literal = |bytes: &[u8]| {
        for run in bytes.chunks(32) {
            packed.push(run.len() as u8 - 1);
            packed.extend(run);
        }
    };
    literal(head);
    literal(&four);
    let mut size = head.len() + 4 + tail.len();
    for _ in 0..times {
        packed.extend([0xe0, 255, 3]);
        size += 264;
    }
    for run in tail.chunks(32) {
        packed.push(run.len() as u8 - 1);
        packed.extend(run);
    }
    let length = |count: usize| [&[0x80][..], &(count as u32).to_be_bytes()].concat();
    [&[0xc3][..], &length(packed.len()), &length(size), &packed].concat()
}

#[test]
fn a_megabyte_that_expands_a_hundredfold_takes_neither_long_nor_much() {
    let times = 330_000;
    // One-byte numbers with one byte behind each: 43 million members.
    let header = |inner: usize| [&((7 + inner) as u32).to_le_bytes()[..], &[255, 255]].concat();
    let repeated = 4 + 264 * times;
    let set = bomb(&header(repeated), [1, 1, 1, 1], &[255], times);
    let set = one("REDIS0012", &[&[20, 1, b'k'][..], &set].concat());
    // A node of a stream without an entry, and with as many names for the fields of one.
    let names = (repeated / 2) as u32;
    let counts = [&[0, 1, 0, 1, 0xf3][..], &names.to_le_bytes(), &[5]].concat();
    let head = [header(counts.len() + repeated + 2), counts].concat();
    let node = bomb(&head, [1, 1, 1, 1], &[0, 1, 255], times);
    let stream = [&[21, 1, b'k', 1][..], &plain(&[0; 16]), &node, &[0; 9]].concat();
    for bytes in [set, one("REDIS0012", &stream)] {
        assert!(bytes.len() < 1_100_000);
        let begun = processor();
        assert_eq!(rdb::walk(&bytes[..]).unwrap_or_else(|error| panic!("{error}")).keys(), 1);
        let took = processor().saturating_sub(begun);
        // Compiled without optimisation it takes five.
        assert!(took < Duration::from_secs(20), "{took:?} of processor time");
    }
}

#[test]
fn streams_whose_parts_contradict_each_other_are_refused() {
    let Value::Stream(stream) = sample() else { panic!("a stream") };
    let value = stream_value(&stream, 3, &mut Dice(1));
    assert!(read(&one("REDIS0011", &[&[21, 1, b'k'][..], &value].concat())).is_ok());
    let refused = |value: &[u8], what: &str| {
        let error = read(&one("REDIS0011", &[&[21, 1, b'k'][..], value].concat())).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(&[0, 1, 7, 1, 0, 0, 0, 0, 1, 0], "stream with a length and without entries");
    let claim = [&[0; 15][..], &[1], &[0; 8], &[1]].concat();
    let id = &claim[..16];
    let group = |pending: &[u8], held: &[u8]| {
        [&[0, 0, 7, 1, 0, 0, 0, 0, 1, 1, 1, b'g', 7, 1, 3][..], pending, &[1, 1, b'c'], &[0; 16], held].concat()
    };
    refused(&group(&[&[2][..], &claim, &claim].concat(), &[&[2][..], id, id].concat()), "pending twice with a group");
    refused(&group(&[&[1][..], &claim].concat(), &[0]), "and not with one of its consumers");
    refused(&group(&[&[1][..], &claim].concat(), &[&[2][..], id, id].concat()), "and not with one of its consumers");
    refused(&group(&[0], &[&[1][..], id].concat()), "and not with its group");
}

fn sample() -> Value {
    use crate::keyspace::{Group, Stream};
    let group =
        Group { last: (7, 1), read: Some(1), consumers: [b"c".to_vec()].into(), pending: [((7, 1), (0, 5, 1))].into() };
    let entries = [((7, 1), vec![(b"f".to_vec(), b"v".to_vec())])].into();
    Value::Stream(Stream { entries, last: (7, 1), groups: [(b"g".to_vec(), group)].into() })
}

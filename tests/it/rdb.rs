//! What `lockstep::rdb` promises, shown on RDBs that are built here byte by byte from the format's description.

use std::io::{self, Read};

use crc::{CRC_64_REDIS, Crc};
use lockstep::rdb::{self, Checksum, Family, Frames, RdbError, RdbErrorKind, Summary};
use proptest::collection::vec;
use proptest::prelude::*;

// ---------------------------------------------------------------------------------------------------------------------
// A writer of RDBs, as small as the tests allow
// ---------------------------------------------------------------------------------------------------------------------

#[derive(Clone)]
pub(crate) struct Rdb(Vec<u8>);

impl Rdb {
    pub(crate) fn begin(magic: &str) -> Self {
        Self(magic.as_bytes().to_vec())
    }

    pub(crate) fn put(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    fn aux(self, name: &str, value: &str) -> Self {
        self.put([250]).put(text(name)).put(text(value))
    }

    pub(crate) fn select(self, database: u64) -> Self {
        self.put([254]).put(length(database))
    }

    pub(crate) fn entry(self, number: u8, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.put([number]).put(text(key)).put(value)
    }

    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.entry(0, key, text(value))
    }

    pub(crate) fn end(self) -> Vec<u8> {
        let Self(mut bytes) = self.put([255]);
        let checksum = Crc::<u64>::new(&CRC_64_REDIS).checksum(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    fn end_without_checksum(self) -> Vec<u8> {
        self.put([255]).put([0; 8]).0
    }
}

/// A whole snapshot of this many keys, for tests that are about something else.
pub(crate) fn snapshot_of(keys: u64, version: u32) -> Vec<u8> {
    let begun = Rdb::begin(&format!("REDIS{version:04}")).select(0);
    (0..keys).fold(begun, |rdb, key| rdb.set(&format!("key:{key}"), "value")).end()
}

/// A source that gives so many bytes at a time.
struct Pieces<'b> {
    bytes: &'b [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.step.min(buffer.len());
        self.bytes.read(&mut buffer[..count])
    }
}

pub(crate) fn length(value: u64) -> Vec<u8> {
    match value {
        0..=0x3f => vec![value as u8],
        0x40..=0x3fff => vec![0x40 | (value >> 8) as u8, value as u8],
        _ if u32::try_from(value).is_ok() => [&[0x80][..], &(value as u32).to_be_bytes()].concat(),
        _ => [&[0x81][..], &value.to_be_bytes()].concat(),
    }
}

pub(crate) fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    [&length(value.as_ref().len() as u64)[..], value.as_ref()].concat()
}

fn texts(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(text).collect()
}

/// An LZF string from its tokens and the length that is claimed for its text.
fn lzf(tokens: &[u8], claimed: u64) -> Vec<u8> {
    [&[0xc3][..], &length(tokens.len() as u64), &length(claimed), tokens].concat()
}

/// `count` times `a`, for counts from 10 to 264: one literal, and a reference to it.
fn lzf_of_a(count: u8) -> Vec<u8> {
    lzf(&[0, b'a', 0xe0, count - 10, 0], u64::from(count))
}

enum Item {
    Text(&'static str),
    Int(u8),
}

fn listpack(items: &[Item]) -> Vec<u8> {
    let entries: Vec<u8> = items
        .iter()
        .flat_map(|item| match item {
            Item::Text(text) => [&[0x80 | text.len() as u8], text.as_bytes(), &[1 + text.len() as u8]].concat(),
            Item::Int(number) => vec![*number, 1],
        })
        .collect();
    let total = (6 + entries.len() + 1) as u32;
    [&total.to_le_bytes()[..], &(items.len() as u16).to_le_bytes(), &entries, &[255]].concat()
}

fn ziplist(items: &[&str]) -> Vec<u8> {
    let (mut entries, mut last, mut tail) = (Vec::new(), 0, 10);
    for item in items {
        tail = 10 + entries.len() as u32;
        entries.extend([&[last, item.len() as u8], item.as_bytes()].concat());
        last = 2 + item.len() as u8;
    }
    let total = (10 + entries.len() + 1) as u32;
    [&total.to_le_bytes()[..], &tail.to_le_bytes(), &(items.len() as u16).to_le_bytes(), &entries, &[255]].concat()
}

fn intset(numbers: &[i16]) -> Vec<u8> {
    let numbers_bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    [&2u32.to_le_bytes()[..], &(numbers.len() as u32).to_le_bytes(), &numbers_bytes].concat()
}

/// A stream with one entry, a group that does not know how much it has read, a consumer and a pending entry.
pub(crate) fn stream(version: u8) -> Vec<u8> {
    let id = [&7u64.to_be_bytes()[..], &1u64.to_be_bytes()].concat();
    let node = listpack(&[
        Item::Int(1),
        Item::Int(0),
        Item::Int(1),
        Item::Text("f"),
        Item::Int(0),
        Item::Int(2),
        Item::Int(0),
        Item::Int(0),
        Item::Text("v"),
        Item::Int(4),
    ]);
    let mut value = [&length(1)[..], &text(&id), &text(node), &length(1), &length(7), &length(1)].concat();
    if version >= 2 {
        value.extend([length(7), length(1), length(0), length(0), length(1)].concat());
    }
    value.extend([length(1), text("group"), length(7), length(1)].concat());
    if version >= 2 {
        value.extend(length(u64::MAX));
    }
    value.extend([&length(1)[..], &id, &1_700_000_000_000u64.to_le_bytes(), &length(1)].concat());
    value.extend([&length(1)[..], &text("consumer"), &1_700_000_000_000u64.to_le_bytes()].concat());
    if version >= 3 {
        value.extend(u64::MAX.to_le_bytes());
    }
    value.extend([&length(1)[..], &id].concat());
    value
}

/// One value of every type that RDB 12 can hold, by number.
pub(crate) fn redis_values() -> Vec<(u8, &'static str, Vec<u8>)> {
    let one = 1f64.to_le_bytes();
    let expiry = 1_900_000_000_000u64.to_le_bytes();
    vec![
        (0, "string", text("value")),
        (1, "list", [length(2), texts(&["a", "b"])].concat()),
        (2, "set", [length(2), texts(&["a", "b"])].concat()),
        (3, "zset", [&length(3)[..], &text("a"), &[1, b'1'], &text("b"), &[254], &text("c"), &[255]].concat()),
        (4, "hash", [length(1), texts(&["f", "v"])].concat()),
        (5, "zset", [&length(1)[..], &text("a"), &one].concat()),
        (
            7,
            "module",
            [&length(0x1234_5678_9abc_def0)[..], &[1, 5, 2, 6, 3, 0, 0, 0, 0, 4], &one, &[5], &text("s"), &[0]]
                .concat(),
        ),
        (9, "hash", text([1, 1, b'f', 1, 0, b'v', 255])),
        (10, "list", text(ziplist(&["a", "b"]))),
        (11, "set", text(intset(&[1, 2, 3]))),
        (12, "zset", text(ziplist(&["a", "1"]))),
        (13, "hash", text(ziplist(&["f", "v"]))),
        (14, "list", [length(2), text(ziplist(&["a"])), text(ziplist(&["b"]))].concat()),
        (15, "stream", stream(1)),
        (16, "hash", text(listpack(&[Item::Text("f"), Item::Text("v")]))),
        (17, "zset", text(listpack(&[Item::Text("a"), Item::Int(1)]))),
        (18, "list", [length(2), length(1), text("plain"), length(2), text(listpack(&[Item::Text("a")]))].concat()),
        (19, "stream", stream(2)),
        (20, "set", text(listpack(&[Item::Text("a"), Item::Int(7)]))),
        (21, "stream", stream(3)),
        (22, "hash", [length(1), length(1_900_000_000_000), texts(&["f", "v"])].concat()),
        (23, "hash", text(listpack(&[Item::Text("f"), Item::Text("v"), Item::Int(0)]))),
        (
            24,
            "hash",
            [&expiry[..], &length(2), &length(0), &texts(&["f", "v"]), &length(1), &texts(&["g", "w"])].concat(),
        ),
        (25, "hash", [&expiry[..], &text(listpack(&[Item::Text("f"), Item::Text("v"), Item::Int(0)]))].concat()),
    ]
}

/// An RDB with a little of everything that RDB 12 can hold.
fn varied() -> Rdb {
    let mut rdb = Rdb::begin("REDIS0012")
        .aux("redis-ver", "8.2.3")
        .put([250])
        .put(text("redis-bits"))
        .put([0xc0, 64])
        .put([250])
        .put(text("ctime"))
        .put([0xc2])
        .put(1_795_404_569u32.to_le_bytes())
        .aux("used-mem", "12345678901")
        .aux("repl-id", "36bfc14b452b48df500430d43e3e7052f8fa9df5")
        .aux("repl-offset", "4711")
        .aux("of-tomorrow", "whatever")
        // A module's record: its id, the number that says where it belongs, a field, the end.
        .put([[247].as_slice(), &length(1 << 40), &[2, 1, 5], &text("m"), &[0]].concat())
        .put([245])
        .put(text("#!lua name=library\n"))
        .select(0)
        .put([251, 26, 2])
        .put([244, 5, 1, 0])
        .put([252])
        .put(1_900_000_000_000u64.to_le_bytes())
        .set("expires in milliseconds", "x")
        .put([253])
        .put(1_900_000_000u32.to_le_bytes())
        .put([248, 9])
        .entry(0, "expires in seconds", [0xc1, 0x10, 0x27]);
    for (number, _, value) in redis_values() {
        rdb = rdb.entry(number, &format!("key:{number}"), value);
    }
    rdb.select(9).put([249, 200]).entry(0, "compressed", lzf_of_a(100))
}

// ---------------------------------------------------------------------------------------------------------------------
// What is there is counted
// ---------------------------------------------------------------------------------------------------------------------

fn walked(bytes: &[u8]) -> Summary {
    rdb::walk(bytes).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_summary_says_what_the_file_says() {
    let bytes = varied().end();
    let summary = walked(&bytes);
    assert_eq!((summary.family, summary.version), (Family::Redis, 12));
    assert_eq!(summary.server_version.as_deref(), Some("8.2.3"));
    assert_eq!(summary.replication_id.as_deref(), Some("36bfc14b452b48df500430d43e3e7052f8fa9df5"));
    assert_eq!(summary.replication_offset, Some(4711));
    assert_eq!(summary.used_memory, Some(12_345_678_901));
    assert_eq!(summary.created_unix, Some(1_795_404_569));
    assert_eq!((summary.functions, summary.module_aux, summary.empty_keys), (1, 1, 0));
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert!(matches!(summary.checksum, Checksum::Verified(checksum) if bytes.ends_with(&checksum.to_le_bytes())));

    assert_eq!(summary.databases.keys().copied().collect::<Vec<_>>(), [0, 9]);
    let zero = &summary.databases[&0];
    assert_eq!((zero.keys, zero.expires), (26, 2));
    assert_eq!((zero.declared_keys, zero.declared_expires), (Some(26), Some(2)));
    let by_type: Vec<_> = zero.by_type.iter().map(|(name, count)| (*name, *count)).collect();
    let counts = [("hash", 8), ("list", 4), ("module", 1), ("set", 3), ("stream", 3), ("string", 3), ("zset", 4)];
    assert_eq!(by_type, counts);
    assert_eq!((summary.databases[&9].keys, summary.databases[&9].declared_keys), (1, None));
    assert_eq!(summary.keys(), 27);
}

#[test]
fn every_type_is_walked_on_its_own() {
    for (number, name, value) in redis_values() {
        let summary = walked(&Rdb::begin("REDIS0012").entry(number, "key", value).end());
        assert_eq!(summary.databases[&0].by_type.get(name), Some(&1), "type {number}");
    }
}

#[test]
fn numbers_mean_what_they_mean_in_their_family() {
    let expiry = u64::MAX.to_le_bytes();
    let hash = [&length(2)[..], &texts(&["f", "v"]), &expiry, &texts(&["g", "w"]), &expiry].concat();
    let import = [&[243][..], &text("job"), &[2, 0, 5, 7, 9]].concat();
    let valkey = Rdb::begin("VALKEY080").aux("valkey-ver", "9.1.2").put(import).entry(22, "hash", hash);
    let summary = walked(&valkey.end());
    assert_eq!((summary.family, summary.version), (Family::Valkey, 80));
    assert_eq!(summary.server_version.as_deref(), Some("9.1.2"));
    assert_eq!(summary.keys(), 1);

    // Metadata of a key: one class of four bytes and a field; template: its number and two names.
    let meta = [&[243, 1, 1, 2, 3, 4, 5][..], &text("m"), &[0]].concat();
    let template = [&[242, 1, 2][..], &texts(&["f", "g"])].concat();
    let redis = Rdb::begin("REDIS0015").put(template).put([252]).put([1; 8]).put(meta).set("key", "value");
    let summary = walked(&redis.end());
    assert_eq!((summary.databases[&0].keys, summary.databases[&0].expires), (1, 1));
}

#[test]
fn empty_collections_are_counted_apart_as_servers_drop_them() {
    let empty = [
        (1, length(0)),
        (4, length(0)),
        (5, length(0)),
        (10, text(ziplist(&[]))),
        (14, [length(1), text(ziplist(&[]))].concat()),
        (16, text(listpack(&[]))),
        (18, [length(1), length(2), text(listpack(&[]))].concat()),
        (24, [&[0; 8][..], &length(0)].concat()),
        (25, [&[0; 8][..], &text(listpack(&[]))].concat()),
    ];
    let mut rdb = Rdb::begin("REDIS0012").put([252]).put([0; 8]);
    for (number, value) in &empty {
        rdb = rdb.entry(*number, "key", value);
    }
    let summary = walked(&rdb.set("kept", "x").end());
    assert_eq!((summary.empty_keys, summary.keys()), (empty.len() as u64, 1));
    assert_eq!(summary.databases[&0].expires, 0, "an expiry goes with its key");
}

#[test]
fn keys_ahead_of_any_database_are_in_the_first_and_a_database_may_come_twice() {
    let summary = walked(&Rdb::begin("REDIS0009").set("a", "1").select(3).set("b", "2").select(0).set("c", "3").end());
    assert_eq!((summary.databases[&0].keys, summary.databases[&3].keys), (2, 1));
}

#[test]
fn a_text_beyond_what_is_kept_is_stepped_over() {
    let summary = walked(&Rdb::begin("REDIS0011").aux("redis-ver", &"7".repeat(1_000_000)).set("a", "1").end());
    assert_eq!(summary.server_version.as_ref().map(String::len), Some(64 * 1024));
    assert_eq!(summary.keys(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// The checksum
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_checksum_that_was_left_out_is_absent_and_not_right() {
    assert_eq!(walked(&Rdb::begin("REDIS0011").set("a", "1").end_without_checksum()).checksum, Checksum::Absent);
    // Before version 5 there is no place for it.
    let old = Rdb::begin("REDIS0003").set("a", "1").put([255]).0;
    let summary = walked(&old);
    assert_eq!((summary.checksum, summary.bytes), (Checksum::Absent, old.len() as u64));
}

#[test]
fn a_wrong_checksum_is_told_with_both_values() {
    let mut bytes = varied().end();
    let at = bytes.len() - 8;
    bytes[at] ^= 1;
    let error = rdb::walk(&bytes[..]).expect_err("a wrong checksum");
    assert!(matches!(error.kind, RdbErrorKind::Checksum { stored, computed } if stored == computed ^ 1));
    assert_eq!(error.offset, at as u64);
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let bytes = varied().end();
    for at in 0..bytes.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(rdb::walk(&damaged[..]).is_err(), "byte {at} changed by {flip:#04x}");
        }
    }
}

#[test]
fn a_missing_end_is_refused_wherever_it_begins() {
    let bytes = varied().end();
    for end in 0..bytes.len() {
        let error = rdb::walk(&bytes[..end]).expect_err("a missing end");
        assert!(matches!(error.kind, RdbErrorKind::Truncated), "cut at {end}: {error}");
        assert_eq!(error.offset, end as u64);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The source
// ---------------------------------------------------------------------------------------------------------------------

/// Hands out at most `step` bytes at a time and panics when asked for more than it has.
struct Exact<'b> {
    bytes: &'b [u8],
    step: usize,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!self.bytes.is_empty(), "the source was asked for more than the RDB");
        let count = self.step.min(buffer.len()).min(self.bytes.len());
        self.bytes.read(&mut buffer[..count])
    }
}

#[test]
fn nothing_is_read_behind_the_end_and_every_partition_gives_the_same() {
    let bytes = varied().end();
    let whole = walked(&bytes);
    for step in 1..bytes.len() {
        assert_eq!(rdb::walk(Exact { bytes: &bytes, step }).expect("a whole RDB"), whole, "in steps of {step}");
    }
}

#[test]
fn what_follows_an_rdb_is_left_to_the_owner_of_the_source() {
    let marker = b"40 bytes of marker, and more besides";
    let bytes = [&varied().end()[..], marker].concat();
    for step in [1, 2, 7, 64, 100_000] {
        let mut frames = Frames::new(Pieces { bytes: &bytes, step });
        while frames.next_batch().expect("a whole RDB").is_some() {}
        assert_eq!(frames.summary().bytes as usize, bytes.len() - marker.len());
        let (mut source, mut rest) = frames.into_rest();
        source.read_to_end(&mut rest).expect("the rest");
        assert_eq!(rest, marker);
    }
    assert_eq!(walked(&bytes).bytes as usize, bytes.len() - marker.len(), "a longer file can be told by its length");
}

#[test]
fn a_source_that_fails_is_not_a_damaged_rdb() {
    struct Failing(bool);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            buffer[..9].copy_from_slice(b"REDIS0011");
            Ok(9)
        }
    }
    let error = rdb::walk(Failing(false)).expect_err("a failing source");
    assert!(matches!(&error.kind, RdbErrorKind::Io(cause) if cause.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(error.to_string(), "could not read the RDB beyond byte 9");
}

#[test]
fn an_interrupted_read_is_tried_again() {
    struct Interrupted<'b>(&'b [u8], bool);
    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(io::Error::from(io::ErrorKind::Interrupted)) } else { self.0.read(buffer) }
        }
    }
    let bytes = varied().end();
    assert_eq!(rdb::walk(Interrupted(&bytes, false)).expect("a whole RDB"), walked(&bytes));
}

// ---------------------------------------------------------------------------------------------------------------------
// What is refused, and in which words
// ---------------------------------------------------------------------------------------------------------------------

fn refused(rdb: Rdb) -> RdbError {
    rdb::walk(&rdb.end()[..]).expect_err("something to refuse")
}

fn check(rdb: Rdb, message: &str) {
    assert_eq!(refused(rdb).to_string(), message);
}

#[test]
fn an_unknown_type_is_told_with_number_offset_and_key() {
    let error = refused(Rdb::begin("REDIS0012").set("a", "1").entry(28, "user:\n1", text("?")));
    assert!(matches!(error.kind, RdbErrorKind::UnknownType(28)));
    assert_eq!((error.offset, error.key.as_deref()), (14, Some(&b"user:\n1"[..])));
    assert_eq!(error.to_string(), r"unknown value type 28 at byte 14 (key `user:\n1`)");
}

#[test]
fn numbers_of_the_other_family_or_a_later_version_are_unknown() {
    let r11 = || Rdb::begin("REDIS0011");
    check(r11().entry(22, "k", []), "unknown value type 22 at byte 9 (key `k`)");
    check(r11().entry(24, "k", []), "unknown value type 24 at byte 9 (key `k`)");
    check(r11().put([242]), "unknown record 242 at byte 9");
    check(Rdb::begin("REDIS0012").put([243, 0]).set("k", "v"), "unknown record 243 at byte 9");
    check(Rdb::begin("REDIS0014").put([242, 0, 0]), "unknown record 242 at byte 9");
    let valkey = || Rdb::begin("VALKEY080");
    check(valkey().entry(23, "k", []), "unknown value type 23 at byte 9 (key `k`)");
    check(valkey().entry(25, "k", []), "unknown value type 25 at byte 9 (key `k`)");
    check(Rdb::begin("VALKEY081").put([242]), "unknown record 242 at byte 9");
}

#[test]
fn what_no_release_of_redis_writes_is_refused_by_name() {
    let rdb = || Rdb::begin("REDIS0011");
    check(rdb().entry(8, "k", []), "unknown value type 8 at byte 9 (key `k`)");
    check(rdb().entry(6, "k", []), "number 6 at byte 9, which only release candidates wrote (key `k`)");
    check(rdb().put([246]).put(text("x")), "number 246 at byte 9, which only release candidates wrote");
    check(rdb().entry(107, "k", []), "value type 107 at byte 9, which only Redis Enterprise writes (key `k`)");
}

#[test]
fn what_is_not_an_rdb_is_told_from_a_version_that_does_not_exist() {
    let not = "not an RDB: it begins with neither `REDIS` and four digits nor `VALKEY` and three";
    check(Rdb::begin("<!DOCTYPE html>"), not);
    check(Rdb::begin("REDIS00a1"), not);
    check(Rdb::begin("REDIS0000"), "unknown redis RDB version 0 at byte 0");
    check(Rdb::begin("REDIS0080"), "unknown redis RDB version 80 at byte 0");
    check(Rdb::begin("VALKEY011"), "unknown valkey RDB version 11 at byte 0");
    assert_eq!(rdb::walk(&b"REDIS"[..]).expect_err("too short").to_string(), "the RDB breaks off at byte 5");
}

#[test]
fn long_and_compressed_keys_are_named_by_their_beginning() {
    let error = refused(Rdb::begin("REDIS0011").put([200]).put(lzf_of_a(100)));
    assert_eq!(error.key.as_deref(), Some(&[b'a'; 64][..]));
    let message = format!("unknown value type 200 at byte 9 (key beginning `{}`)", "a".repeat(64));
    assert_eq!(error.to_string(), message);
    check(Rdb::begin("REDIS0011").put([200, 0xc1, 0xff, 0xff]), "unknown value type 200 at byte 9 (key `-1`)");
}

#[test]
fn an_error_inside_a_value_names_its_key() {
    let score = [&length(2)[..], &text("a"), &[1, b'1'], &[0x90]].concat();
    check(Rdb::begin("REDIS0011").entry(3, "ranks", score), "impossible length at byte 21 (key `ranks`)");
}

#[test]
fn an_expiry_belongs_to_the_key_behind_it() {
    for record in [&[254, 1][..], &[255], &[251, 0, 0], &[250, 0, 0]] {
        let rdb = Rdb::begin("REDIS0011").put([253, 0, 0, 0, 0]).put(record);
        check(rdb, "expiry or idle time without its key at byte 14");
    }
}

#[test]
fn an_expiry_of_minus_one_is_none() {
    let summary = walked(&Rdb::begin("REDIS0011").put([252]).put([255; 8]).set("a", "1").end());
    assert_eq!((summary.keys(), summary.databases[&0].expires), (1, 0));
}

#[test]
fn a_version_of_tomorrow_is_refused_and_not_guessed() {
    check(Rdb::begin("REDIS0017"), "unknown redis RDB version 17 at byte 0");
    check(Rdb::begin("VALKEY082"), "unknown valkey RDB version 82 at byte 0");
}

#[test]
fn a_header_too_old_for_its_records_does_not_hide_the_checksum() {
    // Some tools write an old number and all that is new.
    let old = || Rdb::begin("REDIS0003").aux("redis-ver", "7.2.4").set("a", "1");
    assert!(matches!(walked(&old().end()).checksum, Checksum::Verified(_)));
    let mut damaged = old().end();
    damaged[8] ^= 1;
    assert!(matches!(rdb::walk(&damaged[..]).expect_err("damage").kind, RdbErrorKind::Checksum { .. }));
    let without = rdb::walk(&old().put([255]).0[..]).expect_err("no checksum");
    assert!(matches!(without.kind, RdbErrorKind::Truncated));
}

#[test]
fn compressed_names_and_functions_are_expanded_too() {
    let wrong = || lzf(&[0, b'a', 0x20, 1], 4);
    let key = Rdb::begin("REDIS0011").put([0]).put(wrong()).put(text("v"));
    assert!(refused(key).to_string().starts_with("compressed string that does not have its announced length"));
    check(Rdb::begin("REDIS0011").put([245]).put(wrong()), "compressed string that is not one at byte 10");
    let module = Rdb::begin("REDIS0011").entry(7, "k", [&[1, 5][..], &wrong(), &[0]].concat());
    assert!(refused(module).to_string().starts_with("compressed string that does not have its announced length"));
}

#[test]
fn structures_that_contradict_the_format_are_refused() {
    let rdb = || Rdb::begin("REDIS0012");
    check(rdb().put([244]).put(length(16_384)).put([0, 0]), "slot number beyond the last slot at byte 10");
    check(rdb().put([247, 1, 1, 0, 0]), "module record without its place at byte 11");
    check(rdb().entry(7, "k", [1, 9]), "unknown field in a module's value at byte 13 (key `k`)");
    check(rdb().entry(18, "k", [1, 3, 0]), "unknown kind of list node at byte 13 (key `k`)");
    check(
        rdb().entry(16, "k", text("123456")),
        "listpack with a header that does not fit its bytes at byte 12 (key `k`)",
    );
    check(rdb().entry(9, "k", text([0, 255])), "packed value without an element at byte 12 (key `k`)");
    check(rdb().entry(11, "k", text(intset(&[]))), "packed value without an element at byte 12 (key `k`)");
    check(rdb().entry(16, "k", [0xc0, 7]), "packed value too short for its header at byte 12 (key `k`)");
    check(rdb().entry(15, "k", [1, 0, 0, 0, 0, 0, 0]), "stream node without an id of 16 bytes at byte 13 (key `k`)");
    let hollow = [&length(1)[..], &text([0; 16]), &text(listpack(&[])), &[0; 4]].concat();
    check(rdb().entry(15, "k", hollow), "packed value that ends in the middle of an item at byte 30 (key `k`)");
    let not_a_number = |score: &[u8]| [&length(1)[..], &text("a"), score].concat();
    check(rdb().entry(3, "k", not_a_number(&[253])), "score that is not a number at byte 15 (key `k`)");
    check(
        rdb().entry(5, "k", not_a_number(&f64::NAN.to_le_bytes())),
        "score that is not a number at byte 15 (key `k`)",
    );
    check(rdb().entry(0, "k", [0xc4]), "unknown string encoding at byte 12 (key `k`)");
}

#[test]
fn compressed_strings_have_to_be_what_they_announce() {
    let check = |value: Vec<u8>, what: &str| {
        let rdb = Rdb::begin("REDIS0011").entry(0, "k", value);
        assert_eq!(refused(rdb).to_string(), format!("compressed string {what} at byte 12 (key `k`)"));
    };
    let announced = "that does not have its announced length";
    let lengths = "with lengths that cannot belong together";
    check(lzf(&[0, b'a', 0xe0, 90, 0], 99), announced);
    check(lzf(&[0, b'a', 0xe0, 90, 0], 101), announced);
    check(lzf(&[4, b'a', b'b'], 5), announced);
    check(lzf(&[0, b'a', 0x20, 1], 4), announced);
    check(lzf(&[], 1), lengths);
    check(lzf(&[0, b'a'], 0), lengths);
    check(lzf(&[0, b'a'], u64::MAX), lengths);
    check(lzf(&[0, b'a'], 1 << 40), lengths);
}

#[test]
fn lengths_from_hell_are_refused_at_once_and_take_no_memory() {
    let huge = length(u64::MAX);
    let rdb = || Rdb::begin("REDIS0011");
    check(rdb().put([0]).put(&huge), "impossible length at byte 10");
    check(rdb().entry(0, "k", &huge), "impossible length at byte 12 (key `k`)");
    check(rdb().entry(0, "k", [&[0xc3][..], &huge, &huge].concat()), "impossible length at byte 12 (key `k`)");
    for number in [1, 2, 3, 4, 5, 14, 15, 18, 19, 21] {
        refused(rdb().entry(number, "k", &huge));
    }
    for length in [1 << 20, 1 << 32, 1 << 62] {
        let length = self::length(length);
        assert!(matches!(refused(rdb().entry(0, "k", &length)).kind, RdbErrorKind::Truncated));
        assert!(matches!(refused(rdb().put([250]).put(&length)).kind, RdbErrorKind::Truncated));
        assert!(matches!(refused(rdb().put([0]).put(length)).kind, RdbErrorKind::Truncated));
    }
    for byte in 0x82..0xc0 {
        check(rdb().put([254, byte]), "impossible length at byte 10");
    }
    check(rdb().put([254, 0xc0, 1]), "impossible length at byte 10");
}

#[test]
fn a_file_of_nothing_but_databases_does_not_fill_memory() {
    let mut rdb = Rdb::begin("REDIS0011");
    for database in 0..20_000 {
        rdb = rdb.select(database).put([251, 0, 0]);
    }
    assert!(matches!(refused(rdb).kind, RdbErrorKind::TooManyDatabases(16_384)));
    let mut rdb = Rdb::begin("REDIS0011");
    for database in 0..20_000 {
        rdb = rdb.select(database);
    }
    assert!(walked(&rdb.end()).databases.is_empty(), "a database that holds nothing is none");
}

proptest! {
    #[test]
    fn any_bytes_are_walked_or_refused(bytes in vec(any::<u8>(), 0..600)) {
        let _ = rdb::walk(&bytes[..]);
    }

    #[test]
    fn any_bytes_behind_a_header_are_walked_or_refused(
        header in prop::sample::select(vec!["REDIS0003", "REDIS0011", "REDIS0012", "REDIS0015", "VALKEY080"]),
        bytes in vec(any::<u8>(), 0..600),
    ) {
        let _ = rdb::walk(&[header.as_bytes(), &bytes].concat()[..]);
    }

    #[test]
    fn any_bytes_as_a_value_are_walked_or_refused(number in any::<u8>(), bytes in vec(any::<u8>(), 0..300)) {
        for header in ["REDIS0012", "VALKEY080"] {
            let _ = rdb::walk(&Rdb::begin(header).entry(number, "key", &bytes).end()[..]);
        }
    }

    #[test]
    fn damage_of_any_kind_is_refused(
        at in any::<prop::sample::Index>(),
        cut in 0usize..9,
        bytes in vec(any::<u8>(), 0..9),
    ) {
        let whole = varied().end();
        let at = at.index(whole.len());
        let mut damaged = whole.clone();
        damaged.splice(at..(at + cut).min(whole.len()), bytes);
        prop_assume!(damaged != whole && !damaged.starts_with(&whole));
        // The one thing that can be lost unnoticed is the checksum itself, and then it is said to be absent.
        let seen = rdb::walk(&damaged[..]);
        prop_assert!(seen.is_err() || seen.is_ok_and(|summary| summary.checksum == Checksum::Absent));
    }

    #[test]
    fn every_text_has_one_length_however_the_source_is_cut(
        value in vec(any::<u8>(), 0..40_000),
        capacity in 1usize..5_000,
    ) {
        let bytes = Rdb::begin("REDIS0011").entry(0, "key", text(&value)).end();
        let source = Pieces { bytes: &bytes, step: capacity };
        prop_assert_eq!(rdb::walk(source).map(|summary| summary.keys()).ok(), Some(1));
    }
}

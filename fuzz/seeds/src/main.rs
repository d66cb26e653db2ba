//! Writes small inputs of every kind for the targets to begin with: `seeds FOLDER`.

use std::fs;
use std::path::Path;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../../tests/it/keyspace.rs"]
mod keyspace;

use keyspace::{Bytes, Dice, Kind, encoded, file, keyspace, listpack, lzf, value, ziplist};

const MANIFEST: &str = r#"{"format":1,"id":"20261123T072119Z-1","stack":"shop","environment":"production",
"service":"cache","taken_at":"2026-11-23T07:21:19Z","reason":"apply","state":"verified","server":"redis 7.0.15",
"image":"sha256:00","revision":"00","file":"dump.rdb","size_bytes":1,"sha256":"00","rdb":"redis 10","crc64":"00",
"keys":1,"expires":0,"databases":{"0":1},"types":{"string":1},"functions":0,"replication_id":"","replication_offset":0,
"elapsed_ms":1}"#;

fn main() {
    let root = std::env::args().nth(1).expect("a folder");
    let put = |target: &str, seed: u64, bytes: &[u8]| {
        let folder = Path::new(&root).join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("seed-{seed}")), bytes).expect("a file");
    };
    let mut runner = TestRunner::deterministic();
    put("manifest", 0, MANIFEST.as_bytes());
    for seed in 0..200 {
        let dice = &mut Dice(seed);
        let kind = if seed.is_multiple_of(2) { Kind::Redis12 } else { Kind::Valkey80 };
        let keys = keyspace().new_tree(&mut runner).expect("keys").current();
        let mut whole = file(&keys, kind, seed);
        // Without a checksum a change is looked into and not only seen.
        let end = whole.len() - 8;
        whole[end..].fill(0);
        if whole.len() < 4096 {
            put("reader", seed, &whole);
            put("round_trip", seed, &[&[seed as u8], &whole[..]].concat());
        }
        let one = value().new_tree(&mut runner).expect("a value").current();
        let (number, bytes) = encoded(&one, Kind::Redis12, dice);
        put("value", seed, &[&[number], &bytes[..]].concat());
        let items: Vec<Bytes> =
            ["f", "1", "-300", "70000", "x"].iter().take(dice.below(6)).map(|text| (*text).into()).collect();
        put("listpack", seed, &listpack(&items, dice));
        put("ziplist", seed, &ziplist(&items, dice));
        let text = vec![b'a'; 1 + dice.below(300)];
        put("lzf", seed, &[&(text.len() as u16).to_le_bytes()[..], &lzf(&text)].concat());
    }
}

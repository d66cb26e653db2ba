//! What makes a backup count, and when a server would not find again what lies in its volume.

use lockstep::backup::{Copied, copied, loadable};
use lockstep::rdb;
use lockstep::state::{Server, Value};
use std::collections::BTreeMap;

use crate::rdb::snapshot_of;

fn wanting(append_only: bool, version: &str) -> Server {
    let appends = if append_only { "yes" } else { "no" };
    Server {
        settings: BTreeMap::from([("appendonly".to_owned(), Value::text(appends))]),
        facts: BTreeMap::from([("version".to_owned(), Value::text(version))]),
        ..Server::default()
    }
}

/// A volume with a snapshot of `keys` keys and this format, and an append-only file, each written at a time.
fn holding(snapshot: Option<(u64, u32, u64)>, append_only_written: Option<u64>) -> Copied {
    let snapshots = snapshot
        .map(|(keys, version, _)| rdb::walk(snapshot_of(keys, version).as_slice()).expect("a snapshot that is whole"));
    Copied {
        snapshots: snapshots.into_iter().collect(),
        snapshot_written: snapshot.map(|(_, _, written)| written),
        append_only_written,
        others: false,
    }
}

fn refused(want: &Server, copied: &Copied) -> String {
    loadable(want, copied).expect_err("the server would lose what lies there").0
}

#[test]
fn an_append_only_server_does_not_start_on_a_snapshot_alone() {
    let copied = holding(Some((3, 10, 100)), None);
    assert!(refused(&wanting(true, "redis 7.0.15"), &copied).contains("3 keys"));
    assert!(loadable(&wanting(false, "redis 7.0.15"), &copied).is_ok());
    assert!(loadable(&wanting(true, "redis 7.0.15"), &holding(Some((0, 10, 100)), None)).is_ok(), "nothing to lose");
    assert!(loadable(&wanting(true, "redis 7.0.15"), &holding(Some((3, 10, 100)), Some(90))).is_ok());
}

#[test]
fn a_server_without_append_only_file_starts_on_a_snapshot_that_is_no_older() {
    let want = wanting(false, "redis 7.0.15");
    assert!(loadable(&want, &holding(Some((3, 10, 100)), Some(90))).is_ok(), "saved at its end, as it should be");
    assert!(loadable(&want, &holding(Some((3, 10, 100)), Some(100))).is_ok());
    assert!(refused(&want, &holding(Some((3, 10, 100)), Some(101))).contains("newer"));
    assert!(refused(&want, &holding(None, Some(100))).contains("newer"), "no snapshot at all");
}

#[test]
fn a_server_does_not_start_on_what_a_newer_one_wrote() {
    let copied = holding(Some((3, 11, 100)), None);
    assert!(refused(&wanting(false, "redis 7.0.15"), &copied).starts_with("redis 7.0.15 cannot load"));
    for version in ["redis 7.2.4", "redis 8.0.2", "valkey 8.1.1", "valkey 9.0.0"] {
        assert!(loadable(&wanting(false, version), &copied).is_ok(), "{version}");
    }
    assert!(loadable(&Server::default(), &copied).is_ok(), "of a server that does not say, nothing is claimed");
}

/// Before 7.0 an append-only file has the name that the settings give it, and may be all there is.
#[test]
fn a_volume_that_holds_anything_is_not_empty() {
    let volume = |name: &str, content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, content).expect("a tar in memory");
        copied(tar.into_inner().expect("a tar in memory").as_slice()).expect("a volume")
    };
    assert!(!volume("data/cache.log", b"*1\r\n$4\r\nPING\r\n").is_empty());
    assert!(volume("data/temp-17.rdb", b"half a snapshot").is_empty());
    assert!(volume("data/empty", b"").is_empty());
}

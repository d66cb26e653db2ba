//! Dumps that real servers wrote, against what those servers said they hold. `tests/rdb/README.md` says where they
//! come from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lockstep::rdb::{self, Checksum};

use crate::support::project::entries;
use crate::support::repository;

#[path = "../rdb/reading.rs"]
mod reading;
#[path = "../rdb/typed.rs"]
pub(crate) mod typed;

pub(crate) fn dumps() -> Vec<PathBuf> {
    let dumps: Vec<PathBuf> = entries(&repository().join("tests/rdb"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rdb"))
        .collect();
    assert!(dumps.len() > 50, "{} dumps", dumps.len());
    dumps
}

pub(crate) fn told(dump: &Path) -> (typed::Contents, typed::Functions) {
    let json = dump.with_extension("json");
    typed::from_json(&fs::read_to_string(&json).unwrap_or_else(|error| panic!("{}: {error}", json.display())))
}

#[test]
fn what_is_stored_beside_a_dump_can_be_read_and_written_again() {
    for dump in dumps() {
        let (contents, functions) = told(&dump);
        let json = fs::read_to_string(dump.with_extension("json")).expect("a fixture");
        assert!(typed::to_json(&contents, &functions) == json, "{} is not as it would be written", dump.display());
    }
}

#[test]
fn a_dump_holds_what_its_server_said() {
    for path in dumps() {
        let dump = fs::read(&path).expect("a dump");
        let walked = rdb::walk(dump.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (contents, functions) = told(&path);
        let mut by_type: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
        let mut expires: BTreeMap<u64, u64> = BTreeMap::new();
        for ((database, _), typed) in &contents {
            let database = u64::from(*database);
            *by_type.entry(database).or_default().entry(typed.value.kind()).or_default() += 1;
            *expires.entry(database).or_default() += u64::from(typed.expires_at_ms.is_some());
        }
        let databases = &walked.databases;
        let (read, libraries) = reading::contents(&dump);
        for (key, typed) in &contents {
            assert_eq!(read.get(key), Some(typed), "{key:?} of {}", path.display());
        }
        assert_eq!((read.len(), &libraries), (contents.len(), &functions), "{}", path.display());
        let path = path.display();
        assert_eq!(
            databases.iter().map(|(n, d)| (*n, d.by_type.clone())).collect::<BTreeMap<_, _>>(),
            by_type,
            "{path}"
        );
        assert_eq!(databases.iter().map(|(n, d)| (*n, d.expires)).collect::<BTreeMap<_, _>>(), expires, "{path}");
        assert_eq!(walked.functions, functions.len() as u64, "{path}");
        assert_eq!(walked.bytes, dump.len() as u64, "{path}");
        assert!(matches!(walked.checksum, Checksum::Verified(_)), "{path}: {walked:?}");
    }
}

#[test]
fn a_dump_that_breaks_off_is_refused_wherever_it_does() {
    for path in dumps() {
        let dump = fs::read(&path).expect("a dump");
        for length in 0..dump.len() {
            let walked = rdb::walk(&dump[..length]);
            assert!(walked.is_err(), "{} is taken with its first {length} bytes", path.display());
        }
    }
}

#[test]
fn a_dump_with_a_flipped_bit_is_never_verified() {
    for path in dumps() {
        let mut dump = fs::read(&path).expect("a dump");
        for at in 0..dump.len() {
            let bit = 1 << (at % 8);
            dump[at] ^= bit;
            // A flip in the header can make it a version that had no checksum yet.
            let verified = rdb::walk(dump.as_slice()).is_ok_and(|walked| walked.checksum != Checksum::Absent);
            assert!(!verified, "{} with another byte {at} is taken for whole", path.display());
            dump[at] ^= bit;
        }
    }
}

//! The backup repository: what is listed is whole, whatever writers, stores and strangers do.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lockstep::backup::manifest::{self, FORMAT};
use lockstep::backup::{Counts, Failed, Listed, Manifest, Part, Pin, Proof, ProofKind, SNAPSHOT, STATE, State};
use lockstep::model::Bucket;
use lockstep::store::repository::local::Local;
use lockstep::store::repository::remote::{Credentials, Patience, Remote};
use lockstep::store::repository::store::Store;
use lockstep::store::repository::{Draft, Identities, Repository};
use lockstep::value::Recipient;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::support::s3::S3;
use crate::support::stores::{Lie, Memory};

const CHUNK: usize = 1 << 10;
/// Tells a run of this binary that it is to be the writer that gets killed, and where.
const VICTIM: &str = "LOCKSTEP_TEST_VICTIM";

fn id(number: u32) -> String {
    format!("cache-20261123T05{:02}00Z-{number:06x}", number % 60)
}

/// Bytes that do not compress, so that sizes in the store are known.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).flatten().take(bytes).collect()
}

fn manifest_of(draft: &Draft, number: u32, parts: Vec<Part>) -> Manifest {
    Manifest {
        format: FORMAT,
        id: draft.id().to_owned(),
        stack: "shop".to_owned(),
        environment: "live".to_owned(),
        service: "cache".to_owned(),
        taken_at: format!("2026-11-23T05:{:02}:00Z", number % 60),
        counts: Counts { keys: u64::from(number), ..Counts::default() },
        encrypted_to: draft.encrypted_to(),
        parts,
        ..Manifest::default()
    }
}

fn write(repository: &Repository, number: u32, parts: &[(&str, &[u8])]) -> anyhow::Result<Manifest> {
    let mut draft = repository.draft(&id(number), "cache")?.with_chunks_of(CHUNK);
    let mut written = Vec::new();
    for (name, bytes) in parts {
        let mut part = draft.part(name)?;
        part.write_all(bytes)?;
        written.push(part.finish()?);
    }
    let manifest = manifest_of(&draft, number, written);
    draft.keep(&manifest)?;
    Ok(manifest)
}

fn read(repository: &Repository, manifest: &Manifest, part: &str, keys: &Identities) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    repository.read(manifest, part, keys)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn none() -> Identities {
    Identities::default()
}

fn on(store: &Memory) -> Repository {
    Repository::new(Arc::new(store.clone()), "shop", "live")
}

fn in_folder(folder: &tempfile::TempDir) -> Repository {
    Repository::new(Arc::new(Local::new(folder.path().join("backups"))), "shop", "live")
}

fn ids(repository: &Repository) -> Vec<String> {
    repository.list().expect("a list").into_iter().map(|backup| backup.id).collect()
}

fn only(repository: &Repository) -> Listed {
    let mut listed = repository.list().expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed.remove(0)
}

fn keys(count: usize) -> (Vec<age::x25519::Identity>, Vec<Recipient>) {
    let keys: Vec<_> = (0..count).map(|_| age::x25519::Identity::generate()).collect();
    let recipients = keys.iter().map(|key| Recipient::parse(&key.to_public().to_string()).expect("a recipient"));
    let recipients = recipients.collect();
    (keys, recipients)
}

fn holding(keys: &[age::x25519::Identity]) -> Identities {
    Identities::from(keys.to_vec())
}

// ---------------------------------------------------------------------------------------------------------------------
// What goes in comes out
// ---------------------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_goes_in_comes_out(chunks in 0usize..5, around in 0usize..80, encrypted in 0usize..3, far: bool) {
        let bytes = noise((chunks * CHUNK + around).saturating_sub(40), 7);
        let (own, recipients) = keys(encrypted);
        let store = Memory { far, ..Memory::default() };
        let repository = on(&store).encrypted_to(recipients);
        let manifest = write(&repository, 1, &[(SNAPSHOT, &bytes), (STATE, b"{}")]).expect("a backup");
        prop_assert_eq!(&read(&repository, &manifest, SNAPSHOT, &holding(&own)).expect("the bytes"), &bytes);
        prop_assert_eq!(&read(&repository, &manifest, STATE, &holding(&own)).expect("the bytes"), b"{}");
        let part = manifest.part(SNAPSHOT).expect("a part");
        prop_assert_eq!(part.plain_bytes, bytes.len() as u64);
        prop_assert!(part.chunks.iter().rev().skip(1).all(|chunk| chunk.bytes == CHUNK as u64));
        prop_assert_eq!(part.stored_bytes, part.chunks.iter().map(|chunk| chunk.bytes).sum::<u64>());
        let listed = only(&repository);
        prop_assert_eq!(listed.problem, None);
        prop_assert_eq!(listed.manifest, Some(manifest));
    }
}

#[test]
fn pieces_are_cut_at_eight_megabytes_and_blocks_of_every_size_are_taken() {
    let store = Memory::default();
    let repository = on(&store);
    let bytes = noise((8 << 20) + (300 << 10), 3);
    let mut draft = repository.draft(&id(1), "cache").expect("a draft");
    let mut part = draft.part(SNAPSHOT).expect("a part");
    for block in bytes.chunks(100_003) {
        part.write_all(block).expect("taken");
    }
    let part = part.finish().expect("a part");
    assert_eq!(part.chunks.len(), 2);
    assert_eq!(part.chunks[0].bytes, 8 << 20);
    let manifest = manifest_of(&draft, 1, vec![part]);
    draft.keep(&manifest).expect("kept");
    assert_eq!(read(&repository, &manifest, SNAPSHOT, &none()).expect("the bytes"), bytes);
}

#[test]
fn every_one_of_three_keys_opens_what_is_encrypted_to_all_and_no_other_does() {
    let (own, recipients) = keys(3);
    let store = Memory::default();
    let repository = on(&store).encrypted_to(recipients);
    let bytes = noise(5 * CHUNK, 1);
    let manifest = write(&repository, 1, &[(SNAPSHOT, &bytes)]).expect("a backup");
    assert_eq!(manifest.encrypted_to.len(), 3);
    for key in &own {
        assert_eq!(
            read(&repository, &manifest, SNAPSHOT, &holding(std::slice::from_ref(key))).expect("the bytes"),
            bytes
        );
    }
    let (other, named) = keys(1);
    let error = read(&repository, &manifest, SNAPSHOT, &holding(&other)).expect_err("another key");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&manifest.encrypted_to[0]), "{error}");
    assert!(error.to_string().contains(named[0].as_str()), "{error}");
    let error = read(&repository, &manifest, SNAPSHOT, &none()).expect_err("no key");
    assert!(error.to_string().contains("there is none here"), "{error}");
    repository.read_back(&manifest, &mut |_| {}).expect("whoever has no key can still tell that it is whole");
    let stored: Vec<u8> = store.objects.lock().unwrap().values().flat_map(|(bytes, _)| bytes.clone()).collect();
    assert!(!stored.windows(16).any(|window| window == &bytes[..16]), "and nothing of it lies there in the open");
}

#[test]
fn an_identity_file_is_private_and_its_mistakes_do_not_show_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let (own, recipients) = keys(1);
    use age::secrecy::ExposeSecret as _;
    let secret = own[0].to_string().expose_secret().to_owned();
    crate::support::project::put(&path, format!("# public key: {}\n{secret}\n", recipients[0]).as_bytes());
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    mode(0o644);
    assert!(Identities::read(&path).expect_err("others can read it").to_string().contains("chmod 600"));
    mode(0o600);
    assert_eq!(Identities::read(&path).expect("identities").recipients(), recipients);
    crate::support::project::put(&path, format!("{secret}x\n").as_bytes());
    let error = Identities::read(&path).expect_err("no identity").to_string();
    assert!(error.contains("line 1") && !error.contains(&secret[..24]), "{error}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Damage
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn whatever_happens_to_a_piece_is_noticed() {
    let (own, recipients) = keys(1);
    for recipients in [Vec::new(), recipients] {
        let store = Memory::default();
        let repository = on(&store).encrypted_to(recipients);
        let manifest = write(&repository, 1, &[(SNAPSHOT, &noise(3 * CHUNK, 5))]).expect("a backup");
        let chunks = manifest.part(SNAPSHOT).expect("a part").chunks.clone();
        let key = |number: usize| format!("shop/live/{}/{}", id(1), chunks[number].name);
        let whole = store.objects.lock().unwrap().clone();
        let refused = |what: &str, says: &str| {
            let error = read(&repository, &manifest, SNAPSHOT, &holding(&own)).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}: {error}");
            assert!(error.to_string().contains(says), "{what}: {error}");
            let error = repository.read_back(&manifest, &mut |_| {}).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}: {error}");
            *store.objects.lock().unwrap() = whole.clone();
        };
        for (number, chunk) in chunks.iter().enumerate() {
            for byte in [0, chunk.bytes as usize / 2, chunk.bytes as usize - 1] {
                store.tamper(&key(number), |bytes| bytes[byte] ^= 0x10);
                refused("a flipped bit", "its hash differs");
            }
            store.tamper(&key(number), |bytes| _ = bytes.pop());
            assert!(only(&repository).problem.is_some_and(|problem| problem.contains("bytes")), "the list says so");
            refused("a piece cut short", "were written");
            store.tamper(&key(number), |bytes| bytes.push(0));
            refused("a piece that grew", "not what was written");
            store.forget(&key(number));
            assert!(only(&repository).problem.is_some_and(|problem| problem.contains("is missing")));
            refused("a piece that is gone", "is missing");
        }
        let (first, second) = (store.forget(&key(0)), store.forget(&key(1)));
        let now = Timestamp::UNIX_EPOCH;
        store.objects.lock().unwrap().insert(key(0), (second, now));
        store.objects.lock().unwrap().insert(key(1), (first, now));
        refused("two pieces swapped", "its hash differs");
        assert_eq!(only(&repository).problem, None);
    }
}

#[test]
fn a_manifest_cannot_make_a_reader_believe_or_swallow_anything() {
    let store = Memory::default();
    let repository = on(&store);
    let manifest = write(&repository, 1, &[(SNAPSHOT, &vec![0; 1 << 20])]).expect("a backup");
    let refused = |what: &str, change: &dyn Fn(&mut Part)| {
        let mut changed = manifest.clone();
        change(&mut changed.parts[0]);
        let error = read(&repository, &changed, SNAPSHOT, &none()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}: {error}");
    };
    refused("a megabyte out of what says it is ten bytes", &|part| part.plain_bytes = 10);
    refused("more than there is", &|part| part.plain_bytes += 1);
    refused("another hash", &|part| part.plain_sha256 = "0".repeat(64));
    refused("no pieces at all", &|part| part.chunks.clear());
    refused("a piece of an exabyte", &|part| part.chunks[0].bytes = 1 << 60);
    refused("a piece elsewhere", &|part| part.chunks[0].name = "../../../etc/passwd".to_owned());
    refused("a piece twice", &|part| part.chunks.push(part.chunks[0].clone()));
    let key = format!("shop/live/{}/manifest.json", id(1));
    for (text, says) in [
        ("{", "does not read"),
        (r#"{"format":1,"state":"verified","file":"dump.rdb"}"#, "has format 1"),
        (r#"{"format":3,"state":"perfect"}"#, "has format 3"),
        (r#"{"format":2}"#, "is that of"),
    ] {
        store.tamper(&key, |bytes| *bytes = text.as_bytes().to_vec());
        let listed = only(&repository);
        assert!(listed.problem.as_ref().is_some_and(|problem| problem.contains(says)), "{text}: {listed:?}");
        assert_eq!((listed.state, listed.manifest), (State::Damaged, None), "nobody may act on what it says");
    }
    write(&repository, 2, &[(SNAPSHOT, b"another")]).expect("a backup");
    assert_eq!(ids(&repository).len(), 2, "one that does not read hides no other");
}

// ---------------------------------------------------------------------------------------------------------------------
// Stores that fail and lie
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_store_that_lies_gets_nothing_listed() {
    for lie in [Lie::Drops, Lie::Truncates, Lie::Stale, Lie::Flips] {
        for about in ["dump.rdb.000001", "dump.rdb.000003", "manifest.json"] {
            let honest = Memory::default();
            let before = write(&on(&honest), 1, &[(SNAPSHOT, b"before")]).expect("a backup");
            let liar = Memory { lie: Some((lie, about)), ..honest.clone() };
            let error = write(&on(&liar), 2, &[(SNAPSHOT, &noise(3 * CHUNK, 9))]).expect_err("a lie");
            assert!(!error.to_string().is_empty());
            assert_eq!(ids(&on(&honest)), [id(1)], "{lie:?} about {about}");
            assert!(honest.keys().iter().all(|key| key.contains(&id(1))), "{lie:?}: {:?}", honest.keys());
            assert_eq!(read(&on(&honest), &before, SNAPSHOT, &none()).expect("whole as before"), b"before");
        }
    }
}

#[test]
fn a_disk_that_is_full_at_any_write_gets_nothing_listed_and_gives_the_space_back() {
    for far in [false, true] {
        for room in 0.. {
            let plain = Memory { far, ..Memory::default() };
            write(&on(&plain), 1, &[(SNAPSHOT, b"before")]).expect("a backup");
            let before = plain.keys();
            let full = Memory { room: Some(Arc::new(AtomicUsize::new(room))), ..plain.clone() };
            let parts = [(SNAPSHOT, &noise(3 * CHUNK, 2)[..]), (STATE, b"{}")];
            match write(&on(&full), 2, &parts) {
                Ok(_) => {
                    assert_eq!(ids(&on(&plain)), [id(1), id(2)]);
                    assert!(room >= 5, "each piece and the manifest were written");
                    break;
                }
                Err(error) => {
                    assert!(format!("{error:#}").contains("no space left"), "{error:#}");
                    assert_eq!(plain.keys(), before, "after {room} writes");
                }
            }
        }
    }
}

/// Killed before its n-th change of the store, for every n: what was listed is whole, what is listed is whole, and what
/// is left over is found a day later.
#[test]
fn a_writer_that_dies_anywhere_leaves_what_was_and_what_is_listed_whole() {
    let parts = [(SNAPSHOT, noise(3 * CHUNK, 2)), (STATE, b"{}".to_vec())];
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let still_whole = |store: &Memory, when: &str| {
        *store.now.lock().unwrap() = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48);
        let repository = on(store);
        let listed = repository.list().expect("a list");
        for backup in &listed {
            assert_eq!(backup.problem, None, "{when}");
            let manifest = backup.manifest.as_ref().expect("a manifest");
            repository.read_back(manifest, &mut |_| {}).unwrap_or_else(|error| panic!("{when}: {error}"));
        }
        for leftover in repository.leftovers(Some(repository.probe().expect("a time"))).expect("leftovers") {
            repository.give_back(&leftover).expect("given back");
        }
        let folders: BTreeSet<String> =
            store.keys().iter().filter_map(|key| key.split('/').nth(2)).map(str::to_owned).collect();
        let listed: BTreeSet<String> = listed.into_iter().map(|backup| backup.id).collect();
        assert_eq!(folders, listed, "{when}: nothing else takes space");
        listed.len()
    };
    for far in [false, true] {
        let mut outcomes = BTreeSet::new();
        for left in 0..12 {
            let store = Memory { far, ..Memory::default() };
            write(&on(&store), 1, &[(SNAPSHOT, b"before")]).expect("a backup");
            let dying = Memory { dies_after: Some(Arc::new(AtomicUsize::new(left))), ..store.clone() };
            let _ = write(&on(&dying), 2, &parts);
            outcomes.insert(still_whole(&store, &format!("a backup that died after {left} changes")));
        }
        assert_eq!(outcomes, BTreeSet::from([1, 2]), "it was broken off, and it came to its end");
        let mut outcomes = BTreeSet::new();
        for left in 0..12 {
            let store = Memory { far, ..Memory::default() };
            write(&on(&store), 1, &[(SNAPSHOT, b"before")]).expect("a backup");
            write(&on(&store), 2, &parts).expect("a backup");
            let dying = Memory { dies_after: Some(Arc::new(AtomicUsize::new(left))), ..store.clone() };
            let _ = on(&dying).remove(&id(2));
            outcomes.insert(still_whole(&store, &format!("a removal that died after {left} changes")));
        }
        assert_eq!(outcomes, BTreeSet::from([1, 2]));
    }
}

#[test]
fn a_store_that_does_not_answer_is_not_taken_for_damage() {
    let store = Memory::default();
    let repository = on(&store);
    let manifest = write(&repository, 1, &[(SNAPSHOT, &noise(3 * CHUNK, 2))]).expect("a backup");
    store.deaf.store(true, Ordering::SeqCst);
    let mut reader = match repository.read(&manifest, SNAPSHOT, &none()) {
        Ok(reader) => reader,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(reader.finish().expect_err("no answer").kind(), ErrorKind::TimedOut);
    assert_eq!(reader.failed(), Some(ErrorKind::TimedOut));
    assert!(repository.list().is_err(), "and a list that cannot be read is not an empty one");
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    for far in [false, true] {
        let store = Memory { far, ..Memory::default() };
        let repository = on(&store);
        let mut draft = repository.draft(&id(1), "cache").expect("a draft").with_chunks_of(CHUNK);
        let mut part = draft.part(SNAPSHOT).expect("a part");
        part.write_all(&noise(600 << 10, 4)).expect("taken");
        drop(part);
        drop(draft);
        assert_eq!(store.keys(), Vec::<String>::new());
    }
}

#[test]
fn a_draft_is_kept_only_as_what_was_written() {
    let store = Memory::default();
    let repository = on(&store);
    let attempt = |change: &dyn Fn(&mut Manifest)| {
        let mut draft = repository.draft(&id(1), "cache").expect("a draft");
        let mut part = draft.part(SNAPSHOT).expect("a part");
        part.write_all(b"bytes").expect("taken");
        let mut manifest = manifest_of(&draft, 1, vec![part.finish().expect("a part")]);
        change(&mut manifest);
        draft.keep(&manifest).map(|_| ())
    };
    assert!(attempt(&|manifest| manifest.parts.clear()).is_err());
    assert!(attempt(&|manifest| manifest.id = id(2)).is_err());
    assert!(attempt(&|manifest| manifest.parts[0].chunks[0].sha256 = "0".repeat(64)).is_err());
    assert_eq!(store.keys(), Vec::<String>::new());
    attempt(&|_| {}).expect("kept");
    let mut draft = repository.draft(&id(3), "cache").expect("a draft");
    for name in ["", "../x", "manifest.json", "proof-1.json", ".hidden", "a/b"] {
        assert!(draft.part(name).is_err(), "{name}");
    }
    let _part = draft.part(SNAPSHOT).expect("a part");
    assert!(draft.part(SNAPSHOT).is_err(), "twice");
    assert!(repository.draft("somebody-elses-folder", "cache").is_err());
}

// ---------------------------------------------------------------------------------------------------------------------
// On a disk
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn what_lies_on_the_disk_is_for_its_owner_alone_and_nothing_half_written_is_left() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let repository = in_folder(&folder);
    write(&repository, 1, &[(SNAPSHOT, &noise(2 * CHUNK, 1))]).expect("a backup");
    let own = folder.path().join("backups/shop/live").join(id(1));
    let names: BTreeSet<String> = std::fs::read_dir(&own)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["dump.rdb.000001", "dump.rdb.000002", "dump.rdb.000003", "manifest.json"]
    );
    for entry in crate::support::project::entries(&own) {
        assert_eq!(std::fs::metadata(&entry).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    for above in [&own, &folder.path().join("backups")] {
        assert_eq!(std::fs::metadata(above).expect("a folder").permissions().mode() & 0o777, 0o700);
    }
    assert!(repository.free().expect("an answer").expect("a number") > 0);
}

#[test]
fn links_and_strangers_in_the_folder_are_neither_followed_nor_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let repository = in_folder(&folder);
    let manifest = write(&repository, 1, &[(SNAPSHOT, b"bytes")]).expect("a backup");
    let live = folder.path().join("backups/shop/live");
    std::fs::create_dir_all(live.join("notes of mine")).expect("a folder");
    crate::support::project::put(&live.join("notes of mine/plan.txt"), b"keep");
    std::os::unix::fs::symlink(live.join(id(1)), live.join(id(7))).expect("a link");
    assert_eq!(ids(&repository), [id(1)], "a link is no backup");
    let piece = live.join(id(1)).join("dump.rdb.000001");
    let aside = folder.path().join("aside");
    std::fs::rename(&piece, &aside).expect("moved");
    std::os::unix::fs::symlink(&aside, &piece).expect("a link");
    assert!(read(&repository, &manifest, SNAPSHOT, &none()).is_err(), "a piece that is a link");
    let later = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 90);
    assert_eq!(repository.leftovers(Some(later)).expect("leftovers"), []);
    repository.remove(&id(1)).expect("removed");
    assert!(live.join("notes of mine/plan.txt").exists() && aside.exists());
}

#[test]
fn two_writers_at_once_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let repository = in_folder(&folder);
    thread::scope(|scope| {
        for number in 0..8 {
            let repository = &repository;
            scope.spawn(move || {
                write(repository, number, &[(SNAPSHOT, &noise(4 * CHUNK, u64::from(number)))]).expect("a backup")
            });
        }
    });
    let listed = repository.list().expect("a list");
    assert_eq!(listed.len(), 8);
    for backup in &listed {
        let manifest = backup.manifest.as_ref().expect("a manifest");
        assert_eq!(backup.problem, None);
        let bytes = read(&repository, manifest, SNAPSHOT, &none()).expect("the bytes");
        assert_eq!(bytes, noise(4 * CHUNK, manifest.counts.keys));
    }
    let held = repository.draft(&id(50), "cache").expect("a draft");
    assert!(repository.draft(&id(50), "cache").is_err(), "a name is somebody's as long as they live");
    assert!(repository.draft(&id(1), "cache").is_err(), "and when there is a backup of it");
    assert_eq!(ids(&repository).len(), 8);
    drop(held);
}

/// Run by itself this does nothing; run by the next test, it writes until it is killed.
#[test]
fn the_writer_that_is_killed() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let repository = Repository::new(Arc::new(Local::new(folder)), "shop", "live");
    let mut draft = repository.draft(&id(9), "cache").expect("a draft").with_chunks_of(CHUNK);
    let mut part = draft.part(SNAPSHOT).expect("a part");
    loop {
        part.write_all(&noise(512 << 10, 1)).expect("taken");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_a_killed_writer_left_is_not_listed_and_is_given_back_and_what_a_live_one_writes_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let repository = in_folder(&folder);
    write(&repository, 1, &[(SNAPSHOT, b"before")]).expect("a backup");
    let mut victim = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "repository::the_writer_that_is_killed"])
        .env(VICTIM, folder.path().join("backups"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a second run");
    let own = folder.path().join("backups/shop/live").join(id(9));
    let began = Instant::now();
    while !own.join("dump.rdb.000002").exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "the writer writes");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(repository.leftovers(None).expect("leftovers"), [], "it lives");
    drop(repository.draft(&id(20), "cache").expect("a draft"));
    assert!(own.exists(), "the next writer leaves it alone");
    victim.kill().expect("killed");
    victim.wait().expect("gone");
    assert_eq!(ids(&repository), [id(1)]);
    let left = repository.leftovers(None).expect("leftovers");
    assert_eq!(left.iter().map(|leftover| leftover.name.clone()).collect::<Vec<_>>(), [id(9)]);
    assert!(left[0].bytes >= CHUNK as u64);
    drop(repository.draft(&id(21), "cache").expect("a draft"));
    assert!(!own.exists(), "and now it takes it away");
    assert_eq!(ids(&repository), [id(1)]);
}

#[test]
fn where_only_time_tells_a_day_passes_by_the_stores_own_clock() {
    let store = Memory { far: true, ..Memory::default() };
    let repository = on(&store);
    let start: Timestamp = "2026-11-23T05:00:00Z".parse().expect("a time");
    *store.now.lock().unwrap() = start;
    for name in ["dump.rdb.000001", "dump.rdb.000002"] {
        store.put(&format!("shop/live/{}/{name}", id(3)), b"left").expect("put");
    }
    store.put("shop/live/probe-1234", b"left").expect("put");
    store.put("shop/live/somebody/else", b"not ours").expect("put");
    assert_eq!(repository.probe().expect("an answer"), start);
    assert_eq!(repository.leftovers(Some(start + SignedDuration::from_hours(24))).expect("leftovers"), []);
    *store.now.lock().unwrap() = start + SignedDuration::from_hours(25);
    let now = repository.probe().expect("an answer");
    let left = repository.leftovers(Some(now)).expect("leftovers");
    assert_eq!(left.iter().map(|leftover| leftover.bytes).sum::<u64>(), 12);
    for leftover in &left {
        repository.give_back(leftover).expect("given back");
    }
    assert_eq!(store.keys(), ["shop/live/somebody/else"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// What is known later
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_backup_is_as_proven_as_the_newest_evidence_about_it_says() {
    let store = Memory::default();
    let repository = on(&store);
    write(&repository, 1, &[(SNAPSHOT, b"bytes")]).expect("a backup");
    let listed = only(&repository);
    assert_eq!(listed.state, State::Captured);
    let mut minute = 0;
    let mut prove = |kind, about: &str| {
        minute += 1;
        let proof = Proof {
            format: FORMAT,
            kind,
            at: format!("2026-11-23T06:{minute:02}:00Z"),
            manifest_sha256: about.to_owned(),
            problem: (kind == ProofKind::Failed).then(|| "it did not load".to_owned()),
            recovery_ms: (kind == ProofKind::Drilled).then_some(840),
            ..Proof::default()
        };
        repository.prove(&id(1), &proof).expect("kept");
        only(&repository)
    };
    let own = listed.manifest_sha256.as_str();
    assert_eq!(prove(ProofKind::Verified, "another manifest").state, State::Captured, "evidence about another");
    assert_eq!(prove(ProofKind::Verified, own).state, State::Verified);
    assert_eq!(prove(ProofKind::Drilled, own).state, State::Drilled);
    assert_eq!(prove(ProofKind::Verified, own).state, State::Drilled, "it still was");
    let failed = prove(ProofKind::Failed, own);
    assert_eq!((failed.state, failed.problem.as_deref()), (State::Damaged, Some("it did not load")));
    let again = prove(ProofKind::Verified, own);
    assert_eq!((again.state, again.problem), (State::Verified, None));
    assert_eq!(again.proofs.iter().filter_map(|proof| proof.recovery_ms).collect::<Vec<_>>(), [840]);
}

#[test]
fn what_is_not_whole_does_not_become_so_by_being_read() {
    let proof = |kind| Proof { kind, ..Proof::default() };
    let state = |state, missing: &[&str], proofs: &[ProofKind]| {
        let missing = missing.iter().map(|what| (*what).to_owned()).collect();
        let proofs: Vec<Proof> = proofs.iter().map(|kind| proof(*kind)).collect();
        manifest::state(&Manifest { state, missing, ..Manifest::default() }, &proofs)
    };
    use ProofKind::{Drilled, Failed, Verified};
    assert_eq!(state(State::Verified, &["acl"], &[]), State::Partial);
    assert_eq!(state(State::Captured, &["acl"], &[Verified, Drilled]), State::Partial);
    assert_eq!(state(State::Unverified, &[], &[Verified]), State::Unverified, "no checksum vouches for it");
    assert_eq!(state(State::Copied, &[], &[Verified]), State::Copied);
    assert_eq!(state(State::Copied, &[], &[Drilled]), State::Drilled);
    assert_eq!(state(State::Partial, &[], &[Failed]), State::Damaged);
}

#[test]
fn pins_and_failures_are_notes_beside_what_never_changes() {
    let store = Memory::default();
    let repository = on(&store);
    let failed = Failed { service: "cache".to_owned(), problem: "no answer".to_owned(), ..Failed::default() };
    repository.mark_failed(&failed).expect("noted");
    assert_eq!(repository.failures().expect("failures"), [failed]);
    assert_eq!(ids(&repository), Vec::<String>::new());
    write(&repository, 1, &[(SNAPSHOT, b"bytes")]).expect("a backup");
    assert_eq!(repository.failures().expect("failures"), [], "the next success ends it");
    let before = only(&repository).manifest_sha256;
    repository.pin(&id(1), &Pin { at: String::new(), reason: "before the sale".to_owned() }).expect("pinned");
    assert_eq!(only(&repository).pin.map(|pin| pin.reason).as_deref(), Some("before the sale"));
    repository.unpin(&id(1)).expect("unpinned");
    repository.unpin(&id(1)).expect("twice");
    assert_eq!((only(&repository).pin, only(&repository).manifest_sha256), (None, before));
    assert_eq!(repository.get(&id(1)).expect("an answer").map(|backup| backup.id), Some(id(1)));
    assert!(repository.get(&id(2)).expect("an answer").is_none());
    assert!(repository.get("../live").expect("an answer").is_none());
    repository.remove(&id(1)).expect("removed");
    assert_eq!(store.keys(), Vec::<String>::new());
}

#[test]
fn an_id_may_be_abbreviated_while_one_is_meant() {
    let all = ["cache-20261123T051200Z-0c1d2e", "cache-20261123T061200Z-0c1d2f", "store-20261123T061200Z-aaaaaa"];
    assert_eq!(manifest::find(&all, all[0]), Ok(all[0]));
    assert_eq!(manifest::find(&all, "store"), Ok(all[2]));
    assert_eq!(manifest::find(&all, "0c1d2f"), Ok(all[1]));
    assert_eq!(manifest::find(&all, "cache-"), Err(vec![all[0], all[1]]));
    assert_eq!(manifest::find(&all, "cache-20261123T051200Z-0c1d2x"), Err(vec![all[0]]));
    assert_eq!(manifest::find(&all, ""), Err(Vec::new()));
    assert!(manifest::is_id(all[0]) && manifest::is_id("a-b-c-20261123T051200Z-0c1d2e"));
    for other in ["cache", "cache-20261123T051200Z", "-20261123T051200Z-0c1d2e", "cache-2026-11-23-backup"] {
        assert!(!manifest::is_id(other), "{other}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Far away
// ---------------------------------------------------------------------------------------------------------------------

fn remote(server: &S3, prefix: &str) -> Remote {
    let bucket = Bucket {
        name: "bucket".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
    };
    let credentials = Credentials {
        access_key_id: "id".to_owned(),
        secret_access_key: "sentinel-secret".to_owned(),
        session_token: None,
    };
    let patience = Patience {
        retries: 3,
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        request: Duration::from_secs(5),
        altogether: Duration::from_secs(5),
    };
    Remote::open(&bucket, credentials, patience).expect("a client")
}

fn far(server: &S3) -> Repository {
    Repository::new(Arc::new(remote(server, "team/one")), "shop", "live")
}

#[test]
fn a_bucket_holds_backups_as_a_folder_does() {
    let server = S3::start();
    let (own, recipients) = keys(1);
    let repository = far(&server).encrypted_to(recipients);
    let bytes = noise(6 * CHUNK, 8);
    let manifest = write(&repository, 1, &[(SNAPSHOT, &bytes), (STATE, b"{}")]).expect("a backup");
    write(&repository, 2, &[(SNAPSHOT, b"second")]).expect("a backup");
    assert_eq!(ids(&repository), [id(1), id(2)], "listed over several pages");
    assert_eq!(read(&repository, &manifest, SNAPSHOT, &holding(&own)).expect("the bytes"), bytes);
    repository.pin(&id(1), &Pin::default()).expect("pinned");
    repository.probe().expect("all that is needed may be done");
    assert_eq!(repository.free().expect("an answer"), None);
    let elsewhere = Repository::new(Arc::new(remote(&server, "team/two")), "shop", "live");
    assert_eq!(ids(&elsewhere), Vec::<String>::new(), "another prefix is another place");
    assert!(repository.draft(&id(1), "cache").is_err(), "the name is taken");
    repository.remove(&id(1)).expect("removed");
    assert_eq!(ids(&repository), [id(2)]);
    server.with(|state| {
        assert!(state.objects.keys().all(|key| key.starts_with("team/one/shop/live/") && key.contains(&id(2))));
        assert_eq!(state.unsigned, 0, "every request is signed");
    });
    assert!(!format!("{repository:?}").contains("sentinel"), "the secret shows nowhere");
}

#[test]
fn a_bucket_creates_an_object_once() {
    let server = S3::start();
    let store = remote(&server, "");
    assert!(store.create("a/b", b"first").expect("an answer"));
    assert!(!store.create("a/b", b"second").expect("an answer"));
    assert!(store.create("a/b", b"first").expect("an answer"), "what lies there is what was to be created");
    server.with(|state| state.answer_lost = 1);
    assert!(store.create("a/c", b"third").expect("an answer"), "done, and the answer lost");
    assert_eq!(store.get("a/b", 5).expect("the object"), b"first");
    assert_eq!(store.get("a/b", 4).expect_err("too large").kind(), ErrorKind::InvalidData);
    assert_eq!(store.get("a/x", 4).expect_err("absent").kind(), ErrorKind::NotFound);
    store.delete("a/x").expect("what is not there is deleted already");
}

#[test]
fn a_store_that_throttles_is_waited_for_and_not_for_ever() {
    let server = S3::start();
    let repository = far(&server);
    server.with(|state| state.throttled = 2);
    let manifest = write(&repository, 1, &[(SNAPSHOT, &noise(4 * CHUNK, 1))]).expect("a backup, a little later");
    server.with(|state| state.throttled = 2);
    read(&repository, &manifest, SNAPSHOT, &none()).expect("the bytes, a little later");
    server.with(|state| state.throttled = usize::MAX);
    let began = Instant::now();
    let error = format!("{:#}", write(&repository, 2, &[(SNAPSHOT, b"bytes")]).expect_err("never an answer"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(error.contains("SlowDown") || error.contains("503"), "{error}");
    let error = format!("{:#}", repository.list().expect_err("no list"));
    assert!(error.contains("s3://bucket/team/one/shop/live"), "{error}");
    server.with(|state| state.throttled = 0);
    assert_eq!(ids(&repository), [id(1)]);
}

#[test]
fn a_bucket_that_lies_or_breaks_off_is_caught() {
    let server = S3::start();
    let repository = far(&server);
    server.with(|state| state.dropped = 1);
    let error = format!("{:#}", write(&repository, 1, &[(SNAPSHOT, &noise(2 * CHUNK, 1))]).expect_err("a lie"));
    assert!(error.contains("is missing"), "{error}");
    assert_eq!(ids(&repository), Vec::<String>::new());
    assert!(server.with(|state| state.objects.is_empty()), "and nothing is left");
    server.with(|state| state.answer_lost = 1);
    let manifest = write(&repository, 2, &[(SNAPSHOT, &noise(2 * CHUNK, 2))]).expect("said twice, there once");
    server.with(|state| state.cut = vec![100]);
    let read_again = read(&repository, &manifest, SNAPSHOT, &none());
    assert!(read_again.is_err() || read_again.is_ok_and(|bytes| bytes == noise(2 * CHUNK, 2)), "never fewer bytes");
    server.with(|state| (state.cut.clear(), state.forbidden = true).0);
    let error = write(&repository, 3, &[(SNAPSHOT, b"bytes")]).expect_err("forbidden");
    assert!(format!("{error:#}").contains("AccessDenied") || format!("{error:#}").contains("403"), "{error:#}");
    server.with(|state| state.forbidden = false);
    assert_eq!(ids(&repository), [id(2)]);
}

#[test]
fn a_store_behind_tls_that_is_not_there_is_an_error_and_no_panic() {
    let bucket = Bucket {
        name: "bucket".to_owned(),
        prefix: String::new(),
        endpoint: Some("https://127.0.0.1:9".to_owned()),
        region: "us-east-1".to_owned(),
    };
    let credentials =
        Credentials { access_key_id: "id".to_owned(), secret_access_key: "secret".to_owned(), session_token: None };
    let patience = Patience { retries: 0, request: Duration::from_secs(5), ..Patience::default() };
    let store = Remote::open(&bucket, credentials, patience).expect("a client");
    let error = store.list("shop/live").expect_err("nobody listens");
    assert!(error.to_string().contains("s3://bucket/shop/live"), "{error}");
}

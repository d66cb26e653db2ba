//! RDB files from anywhere: `backup inspect` reads them, `backup import` makes them backups.

use crate::backup_verbs::{json, repository};
use crate::rdb::snapshot_of;
use crate::rdb_fixtures::dumps;
use crate::support::project::{Project, Ran, put};
use lockstep::backup::State;
use serde_json::json;
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A project with one Redis, whose image is pinned.
fn shop() -> Project {
    let stack = "lockstep: 1\nstack: shop\nbackup: { to: ../kept }\nredis:\n  cache:\n    image: redis:7.0\n    \
                 settings: { maxmemory: 16mb, maxmemory-policy: allkeys-lru }\n    limits: { memory: 64mb }\n";
    let digest = "7".repeat(64);
    let lock = format!(
        "lockstep: 1\nimages:\n  \"redis:7.0\":\n    digest: redis@sha256:{digest}\n    server: redis 7.0.15\n"
    );
    Project::small().with("environments/stack.yaml", stack).with("environments/stack.lock", lock)
}

/// What the binary says when it runs in the project's folder, as somebody does who names a file beside them.
fn lockstep_here(project: &Project, arguments: &[&str]) -> Ran {
    Ran::from(project.command(arguments).current_dir(project.path()).output().expect("the binary starts"))
}

#[test]
fn every_dump_of_every_server_is_read_whole_and_needs_no_project() {
    let dumps = dumps();
    let mut arguments = vec!["backup", "inspect", "--json"];
    arguments.extend(dumps.iter().map(|path| text(path)));
    let ran = Project::empty().lockstep(&arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    let said = json(&ran);
    let files = said["files"].as_array().expect("a list");
    assert_eq!(files.len(), dumps.len());
    for file in files {
        assert_eq!((&file["state"], &file["bytes_behind"]), (&json!("verified"), &json!(0)), "{file}");
        let name = file["file"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let (family, version) = name.split_once('-').expect("server-version-what.rdb");
        let version = version.split('-').next().unwrap_or_default();
        assert!(
            file["server"].as_str().is_some_and(|server| server.starts_with(&format!("{family} {version}"))),
            "{file}"
        );
        let filled = file["keys"].as_u64() > Some(0) || file["functions"].as_u64() > Some(0);
        assert!(filled, "{file}");
    }
}

#[test]
fn a_damaged_file_is_told_from_one_that_cannot_be_read_and_from_one_without_a_checksum() {
    let project = Project::empty();
    let whole = snapshot_of(3, 10);
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut unsummed = whole.clone();
    let end = unsummed.len() - 8;
    unsummed[end..].fill(0);
    for (name, bytes) in [
        ("whole.rdb", whole.clone()),
        ("flipped.rdb", flipped),
        ("short.rdb", whole[..whole.len() - 1].to_vec()),
        ("unsummed.rdb", unsummed),
        ("behind.rdb", [whole.as_slice(), b"*1\r\n"].concat()),
        ("other.rdb", b"SQLite format 3\0".to_vec()),
        ("empty.rdb", Vec::new()),
    ] {
        put(&project.path().join(name), &bytes);
    }
    for (name, code, said) in [
        ("whole.rdb", 0, "verified  whole.rdb: 3 keys"),
        ("flipped.rdb", 3, "damaged  flipped.rdb: "),
        ("short.rdb", 3, "damaged  short.rdb: the RDB breaks off at byte "),
        ("unsummed.rdb", 0, "unverified  unsummed.rdb: 3 keys"),
        ("behind.rdb", 0, "; 4 bytes behind its end are no part of it"),
        ("other.rdb", 3, "damaged  other.rdb: not an RDB"),
        ("empty.rdb", 3, "damaged  empty.rdb: the RDB breaks off at byte 0"),
        ("nowhere.rdb", 1, "unread  nowhere.rdb: "),
        (".", 1, "unread  .: it is a folder"),
    ] {
        let ran = lockstep_here(&project, &["backup", "inspect", name]);
        assert_eq!(ran.code, code, "{name}: {ran:?}");
        assert!(ran.stdout.contains(said) && ran.stderr.is_empty(), "{name}: {ran:?}");
    }
    let both = lockstep_here(&project, &["backup", "inspect", "whole.rdb", "flipped.rdb"]);
    assert_eq!((both.code, both.stdout.lines().count()), (3, 2), "{both:?}");
}

#[test]
fn an_imported_file_is_a_backup_like_any_other() {
    let project = shop();
    let whole = snapshot_of(4, 10);
    put(&project.path().join("old.rdb"), &whole);
    let ran =
        lockstep_here(&project, &["backup", "import", "staging", "old.rdb", "--reason", "from the old host", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = json(&ran);
    assert_eq!((&said["keys"], &said["state"], &said["service"]), (&json!(4), &json!("verified"), &json!("cache")));
    let id = said["id"].as_str().expect("an id");
    let listed = repository(&project).list().expect("a list");
    assert_eq!(listed.iter().map(|of| (of.id.as_str(), of.state)).collect::<Vec<_>>(), [(id, State::Verified)]);
    assert_eq!(project.lockstep(&["backup", "verify", "staging", "--all"]).code, 0);
    assert_eq!(lockstep_here(&project, &["backup", "export", id, "--out", "again.rdb"]).code, 0);
    assert_eq!(std::fs::read(project.path().join("again.rdb")).expect("a file"), whole);
}

#[test]
fn what_is_damaged_or_nobodys_is_not_imported() {
    let project = shop();
    let whole = snapshot_of(4, 10);
    put(&project.path().join("short.rdb"), &whole[..whole.len() - 9]);
    put(&project.path().join("whole.rdb"), &whole);
    for (arguments, code, said) in [
        (&["short.rdb"][..], 3, "it is not a whole RDB; nothing was kept"),
        (&["nowhere.rdb"], 2, "could not read `nowhere.rdb`"),
        (&["whole.rdb", "--service", "cash"], 2, "`cash` is not a Redis of staging"),
    ] {
        let ran = lockstep_here(&project, &[&["backup", "import", "staging"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{arguments:?}: {ran:?}");
        assert!(repository(&project).list().expect("a list").is_empty(), "{arguments:?}");
    }
}

//! `backup drill` and `backup check` from outside, and backups that only their key opens.

use crate::restore_verb::first_piece;
use crate::support::docker::{STACK, text};
use crate::support::{Plain, Ran, Scenario, noise, project, until};
use age::secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn redis_7(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

#[track_caller]
fn backed_up(stack: &Scenario) -> String {
    text(&stack.run(&["backup", "create", "live", "--json"]).ok().json(), "/0/id")
}

#[track_caller]
fn state_of(stack: &Scenario, id: &str) -> String {
    // 3 where it is damaged, and shown all the same.
    text(&stack.run(&["backup", "show", id, "--json"]).json(), "/state")
}

/// Above the spec's services.
fn with_backup(stack: &Scenario, section: &str) {
    let spec = stack.read("environments/stack.yaml");
    let kept: Vec<&str> = spec.lines().filter(|line| !line.starts_with("backup:")).collect();
    stack.write("environments/stack.yaml", &format!("{}\nbackup: {{ {section} }}\n", kept.join("\n")));
}

#[test]
fn a_drill_proves_a_backup_and_leaves_nothing() {
    let stack = Scenario::with("backup_drill", redis_7);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    let id = backed_up(&stack);
    let objects = stack.docker.labelled(STACK, &stack.stack);
    let contents = redis.contents();
    assert_eq!(state_of(&stack, &id), "verified");

    let report = stack.run(&["backup", "drill", "live", "--json"]).ok().json();
    let drilled = &report["backups"][0];
    assert_eq!((text(drilled, "/id"), text(drilled, "/state")), (id.clone(), "drilled".to_owned()));
    let proofs = drilled["proofs"].as_array().cloned().unwrap_or_default();
    let proof = proofs.iter().find(|proof| proof["kind"] == json!("drilled")).expect("the proof of a drill");
    assert!(proof["recovery_ms"].as_u64().is_some_and(|time| (1..600_000).contains(&time)), "{proof}");
    assert_eq!(proof["counts"]["keys"], json!(108), "{proof}");
    assert_eq!(proof["details"]["keys"], json!(108), "{proof}");
    assert_eq!(stack.docker.labelled(STACK, &stack.stack), objects, "nothing of the drill is left");
    redis.still_has(&contents, "the server that runs has nothing to do with it");
    stack.is_right("live");
    stack.run(&["backup", "list", "live"]).ok().shows("drilled");
    stack.run(&["backup", "check", "live"]).ok().shows("drilled");

    // A second one, and both at once.
    let second = backed_up(&stack);
    let ran = stack.run(&["backup", "drill", "live", "--all"]).ok().shows(&id).shows(&second).shows("read back equal");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran}");

    let piece = first_piece(&stack, &second);
    let mut bytes = fs::read(&piece).expect("a piece");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&piece, &bytes).expect("a damaged piece");
    stack.run(&["backup", "drill", "live", &second]).exits(3).shows("damaged");
    assert_eq!(state_of(&stack, &second), "damaged");
    assert_eq!(state_of(&stack, &id), "drilled", "the other one");
    stack.run(&["backup", "list", "live"]).exits(3).shows("damaged");
    stack.run(&["restore", "live", &second, "--yes"]).exits(4).says("is not restored");
    assert_eq!(stack.docker.labelled(STACK, &stack.stack), objects, "nothing of the drill is left");
    stack.run(&["backup", "drill", "live", "cache-19700101T000000Z-000000"]).exits(2);

    // What another server wrote is drilled in the one that the spec has for it.
    let mut old = Plain::start(&stack, "lockstep/redis:6.0", None, &[]);
    old.redis.fill(50);
    old.redis.fill_kinds();
    let file = stack.path("old.rdb");
    fs::write(&file, old.save()).expect("a snapshot");
    drop(old);
    let taken = stack.run(&["backup", "import", "live", file.to_str().expect("a path of text"), "--json"]).ok();
    let imported = text(&taken.json(), "/id");
    stack.run(&["backup", "drill", "live", &imported]).ok().shows("into redis 7.0").shows("58 keys");

    // One that cannot be drilled stops no other.
    bytes[middle] ^= 1;
    fs::write(&piece, &bytes).expect("the piece as it was");
    let copy = backed_up(&stack);
    becomes_a_copy(&stack, &copy);
    let refused = stack.run(&["backup", "drill", "live"]).exits(4).says("copy of a volume");
    refused.shows(&copy);
    let ran = stack.run(&["backup", "drill", "live", "--all"]).exits(4).says("copy of a volume").says("3 of 4 backups");
    for drilled in [&id, &second, &imported] {
        let row = ran.stdout.lines().find(|line| line.starts_with(drilled.as_str()));
        assert!(row.is_some_and(|row| row.contains("read back equal")), "{drilled}: {ran}");
    }
    assert_eq!(stack.docker.labelled(STACK, &stack.stack), objects, "nothing of the drills is left");
}

/// Makes a backup look like one of a volume: its only part besides the state has the name of such a copy.
#[track_caller]
fn becomes_a_copy(stack: &Scenario, id: &str) {
    let folder = stack.backup_folder("live").join(id);
    for entry in fs::read_dir(&folder).expect("the backup").flatten() {
        let name = entry.file_name().to_string_lossy().replace("dump.rdb", "volume.tar");
        fs::rename(entry.path(), folder.join(name)).expect("another name");
    }
    let manifest = folder.join("manifest.json");
    let written = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, written.replace("dump.rdb", "volume.tar")).expect("another manifest");
}

/// It keeps what is pinned and the two newest, says what it took away.
#[test]
fn retention_comes_after_a_backup_that_succeeded() {
    let stack = Scenario::with("backup_retention", redis_7);
    with_backup(&stack, "to: ../backups, keep: { last: 2 }");
    stack.apply("live");
    stack.redis("live").fill(5);
    let first = backed_up(&stack);
    stack.run(&["backup", "pin", &first, "--reason", "the first"]).ok();
    let second = backed_up(&stack);
    let third = backed_up(&stack);
    let ran = stack.run(&["backup", "create", "live", "--json"]).ok();
    let fourth = text(&ran.json(), "/0/id");
    assert!(ran.stderr.contains("1 backup removed that `backup.keep` does not ask for"), "{ran}");
    let left: Vec<String> = stack.backups("live").iter().map(|manifest| text(manifest, "/id")).collect();
    for (id, stays) in [(first, true), (second, false), (third, true), (fourth, true)] {
        assert_eq!(left.contains(&id), stays, "{id}: {left:?}");
    }
}

/// The image that wrote it is what a drill restores into.
#[test]
fn a_drill_without_its_image_is_refused_with_help() {
    let stack = Scenario::new("backup_drill_image");
    let body = json!({ "Image": "lockstep/redis:7.0", "Labels": { crate::support::docker::DECOY: stack.stack } });
    let container = stack.docker.create_container(&format!("{}-origin", stack.stack), &body);
    let image = format!("{}/redis:own", stack.stack);
    let commit = format!("/commit?container={container}&repo={}/redis&tag=own&comment=own", stack.stack);
    stack.docker.post(&commit, &json!({ "Labels": { "made-for": stack.stack } }));
    stack.remove_at_the_end(&image);
    stack.docker.remove_container(&container);
    stack.write_spec(&project::redis_only(&stack.stack, &image));
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    stack.redis("live").fill(20);
    let id = backed_up(&stack);
    stack.run(&["down", "live"]).ok();
    stack.docker.untag(&image);
    let refused = stack.run(&["backup", "drill", "live", &id]).exits(4);
    refused.says("does not have the image").says("build or load that image");
    assert_eq!(state_of(&stack, &id), "verified", "it says nothing about the backup");
}

/// The row of a check that begins so.
#[track_caller]
fn row(ran: &Ran, what: &str) -> (bool, String) {
    let report = ran.json();
    let rows = report["checks"].as_array().cloned().unwrap_or_default();
    let found: Option<&Value> = rows.iter().find(|row| text(row, "/what").contains(what));
    let found = found.unwrap_or_else(|| panic!("no check of `{what}`: {ran}"));
    (found["ok"] == json!(true), text(found, "/found"))
}

#[test]
fn a_check_fails_for_whatever_would_keep_a_backup_from_being_taken() {
    let stack = Scenario::with("backup_check", redis_7);
    stack.apply("live");
    stack.redis("live").fill(100);
    let ran = stack.run(&["backup", "check", "live", "--json"]).ok();
    for what in ["cache can be backed up", "the store can be used", "there is room", "cache has a proven backup"] {
        assert!(row(&ran, what).0, "{what}: {ran}");
    }
    assert_eq!(stack.backups("live").len(), 0, "a check takes none");

    // Something that is old enough for it.
    with_backup(&stack, "max_age: 1h");
    let ran = stack.run(&["backup", "check", "live", "--json"]).exits(3);
    assert_eq!(row(&ran, "has a proven backup"), (false, "none".to_owned()), "{ran}");
    let id = backed_up(&stack);
    let ran = stack.run(&["backup", "check", "live", "--json"]).ok();
    assert!(row(&ran, "has a proven backup").1.contains(&id), "{ran}");
    with_backup(&stack, "max_age: 1s");
    let ran = until("the backup is too old", || {
        let ran = stack.run(&["backup", "check", "live", "--json"]);
        (ran.code != 0).then_some(ran)
    });
    let ran = ran.exits(3);
    let (ok, found) = row(&ran, "has a proven backup");
    assert!(!ok && found.contains("1s is allowed"), "{ran}");
    assert!(row(&ran, "cache can be backed up").0, "{ran}");
    stack.run(&["backup", "check", "live"]).exits(3).shows("FAIL").shows("lockstep backup create");
    with_backup(&stack, "max_age: 1h");

    let backups = stack.path("backups");
    let aside = stack.path("backups.aside");
    fs::rename(&backups, &aside).expect("the folder moves");
    fs::write(&backups, "in the way").expect("a file in place of the folder");
    let ran = stack.run(&["backup", "check", "live", "--json"]).exits(3);
    assert!(!row(&ran, "the store can be used").0, "{ran}");
    assert!(row(&ran, "cache can be backed up").0, "the server has nothing to do with it: {ran}");
    stack.run(&["backup", "create", "live"]).exits(9);
    fs::remove_file(&backups).expect("the file goes");
    fs::rename(&aside, &backups).expect("the folder is back");

    stack.docker.stop(&stack.name("live", "cache"));
    let ran = stack.run(&["backup", "check", "live", "--json"]).exits(3);
    assert!(!row(&ran, "cache can be backed up").0, "{ran}");
    assert!(row(&ran, "the store can be used").0, "{ran}");
    stack.run(&["backup", "create", "live"]).exits(9);
    stack.apply("live");
    stack.run(&["backup", "check", "live"]).ok();
}

/// A snapshot takes a fork, and a fork takes memory: better no backup than a server that the kernel has ended.
#[test]
fn a_server_without_room_for_a_fork_is_left_alone() {
    let stack = Scenario::new("backup_fork");
    stack.write_spec(&redis_7(&stack.stack).replace("appendonly: yes", "appendonly: no"));
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(10);
    stack.run(&["backup", "check", "live"]).ok();
    // No spec that fits can bring it about; somebody with a password can.
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    for number in 0..190 {
        redis.put(&format!("noise:{number}"), &noise(250_000));
    }
    // It measures ten times a second what it uses, which is more than it holds by now this and now that.
    let mut number = 190;
    until("the server to use more than leaves room", || {
        let info: String = redis.ask(&["INFO", "memory"]);
        let resident: u64 = info.lines().find_map(|line| line.strip_prefix("used_memory_rss:")?.trim().parse().ok())?;
        if resident > 58_500_000 {
            return Some(());
        }
        redis.put(&format!("noise:{number}"), &noise(50_000));
        number += 1;
        None
    });
    let identity = stack.docker.identity(&stack.name("live", "cache"));
    let keys: usize = redis.ask(&["DBSIZE"]);
    let ran = stack.run(&["backup", "check", "live", "--json"]).exits(3);
    let (ok, found) = row(&ran, "cache can be backed up");
    assert!(!ok && found.contains("of the 64 MB"), "{ran}");
    stack.run(&["backup", "create", "live"]).exits(9).says("cannot be backed up now").says("limits.memory");
    assert_eq!(stack.backups("live").len(), 0);
    stack.edit("allkeys-lru", "allkeys-lfu");
    stack.run(&["apply", "live"]).exits(9).says("nothing was changed");
    assert_eq!(redis.config("maxmemory-policy"), "allkeys-lru");
    assert_eq!(redis.ask::<usize>(&["DBSIZE"]), keys);
    assert_eq!(stack.docker.identity(&stack.name("live", "cache")), identity, "it was never ended");
}

#[test]
fn an_encrypted_backup_is_drilled_and_restored_with_its_key_alone() {
    let stack = Scenario::new("backup_encrypted");
    let key = age::x25519::Identity::generate();
    let vault = tempfile::tempdir().expect("a folder outside of the project");
    let identity = vault.path().join("key.txt");
    fs::write(&identity, format!("# made by a test\n{}\n", key.to_string().expose_secret())).expect("a key");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).expect("permissions");
    stack.write_spec(&redis_7(&stack.stack));
    let closed = format!("encrypt_to: [{}]", key.to_public());
    let open = format!("{closed}, identity: {}", identity.display());
    with_backup(&stack, &closed);
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    let contents = redis.contents();

    // A machine that only writes.
    let id = backed_up(&stack);
    assert_eq!(state_of(&stack, &id), "captured");
    stack.run(&["backup", "list", "live"]).ok().shows("captured");
    stack.run(&["backup", "show", &id]).ok().shows(&id);
    stack.run(&["backup", "check", "live"]).ok().shows("no identity on this machine");
    let objects = stack.docker.labelled(STACK, &stack.stack);
    for arguments in [
        &["restore", "live", &id, "--yes"][..],
        &["restore", "live", &id, "--warm", "--yes"],
        &["restore", "live", &id, "--dry-run"],
        &["backup", "drill", "live", &id],
        &["backup", "verify", "live", &id],
    ] {
        let ran = stack.run(arguments);
        assert!(matches!(ran.code, 1 | 4), "{ran}");
        assert!(ran.stderr.contains("identity"), "says what is missing: {ran}");
    }
    redis.still_has(&contents, "without the key");
    assert_eq!(stack.docker.labelled(STACK, &stack.stack), objects);
    stack.is_right("live");
    assert_eq!(state_of(&stack, &id), "captured", "nothing was said about the backup");
    for entry in fs::read_dir(stack.backup_folder("live").join(&id)).expect("the backup").flatten() {
        let bytes = fs::read(entry.path()).expect("a file of the backup");
        assert!(!bytes.windows(6).any(|window| window == b"page 7"), "{}", entry.path().display());
    }

    // One that has the key.
    with_backup(&stack, &open);
    stack.run(&["backup", "verify", "live", &id]).ok();
    assert_eq!(state_of(&stack, &id), "verified");
    stack.run(&["backup", "drill", "live", &id]).ok().shows("read back equal");
    assert_eq!(state_of(&stack, &id), "drilled");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.fill(3);
    drop(redis);
    stack.run(&["restore", "live", &id, "--yes"]).ok();
    stack.redis("live").still_has(&contents, "restored with the key");
    stack.is_right("live");
    stack.redis("live").ask::<()>(&["DEL", "page:hash"]);
    stack.run(&["restore", "live", &id, "--warm", "--match", "page:hash", "--yes"]).ok();
    stack.redis("live").still_has(&contents, "and warm");
    assert_eq!(state_of(&stack, &backed_up(&stack)), "verified", "what is taken with the key at hand");

    // Another key does not open it.
    let other = age::x25519::Identity::generate();
    fs::write(&identity, format!("{}\n", other.to_string().expose_secret())).expect("another key");
    let ran = stack.run(&["restore", "live", &id, "--yes"]);
    assert!(matches!(ran.code, 1 | 4), "{ran}");
    stack.redis("live").still_has(&contents, "with another key");
}

//! `restore` from outside: into a new data volume, into a running server, refused, and killed on its way.

use crate::support::docker::{self, DECOY, text};
use crate::support::{At, Fault, Proxy, Ran, Redis, Scenario, hashed, noise, project, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

fn redis_7(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

fn running(test: &'static str, image: &str, change: impl Fn(String) -> String) -> Scenario {
    let stack = Scenario::new(test);
    stack.docker.image_id(image);
    stack.write_spec(&change(project::redis_only(&stack.stack, image)));
    stack.environment("live", "");
    stack.lock();
    stack.apply("live");
    stack
}

/// Takes one; its id.
#[track_caller]
fn backed_up(stack: &Scenario, environment: &str) -> String {
    let taken = stack.run(&["backup", "create", environment, "--json"]).ok();
    text(&taken.json(), "/0/id")
}

#[track_caller]
fn backups_of(stack: &Scenario, reason: &str) -> Vec<Value> {
    stack.backups("live").into_iter().filter(|manifest| manifest["reason"] == json!(reason)).collect()
}

/// The files of a volume, whoever uses it.
#[track_caller]
fn lying(stack: &Scenario, volume: &str) -> BTreeMap<String, String> {
    let keeper = format!("{}-keeper", stack.stack);
    let body = json!({
        "Image": "lockstep/redis:7.0",
        "Labels": { DECOY: stack.stack },
        "HostConfig": { "Mounts": [{ "Type": "volume", "Source": volume, "Target": "/kept", "ReadOnly": true }] },
    });
    stack.docker.create_container(&keeper, &body);
    let files = hashed(stack.docker.tree(&keeper, "/kept"));
    // Without its volumes: they are the environment's.
    stack.docker.ask("DELETE", &format!("/containers/{keeper}?force=true"), None);
    files
}

/// What a server says of its history: its own, and the one that it goes on from.
fn histories(redis: &mut Redis) -> Vec<String> {
    let info: String = redis.ask(&["INFO", "replication"]);
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    vec![field("master_replid:"), field("master_replid2:")]
}

/// All that a refused restore must leave as it is.
#[derive(Debug, PartialEq)]
struct Before {
    objects: BTreeSet<String>,
    containers: Vec<(String, String)>,
    files: BTreeMap<String, String>,
    users: Vec<String>,
    contents: BTreeMap<String, String>,
    backups: usize,
}

#[track_caller]
fn state(stack: &Scenario) -> Before {
    let mut redis = stack.redis("live");
    Before {
        objects: stack.objects("live"),
        containers: ["cache", "files"].map(|name| stack.docker.identity(&stack.name("live", name))).into(),
        files: stack.files("live"),
        users: redis.ask(&["ACL", "LIST"]),
        contents: redis.contents(),
        backups: fs::read_dir(stack.backup_folder("live")).map_or(0, Iterator::count),
    }
}

/// Into a new volume, read back, once more after a restart, and once more over itself.
fn restores(test: &'static str, image: &str, appends: bool) {
    let stack = running(test, image, |spec| match appends {
        true => spec,
        false => spec.replace("appendonly: yes", "appendonly: no"),
    });
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    for number in 0..300 {
        redis.ask::<()>(&["RPUSH", "page:long", &format!("element {number}")]);
    }
    let contents = redis.contents();
    let history = histories(&mut redis);
    let id = backed_up(&stack, "live");
    for words in [&["FLUSHALL"][..], &["SET", "page:string", "another"], &["SET", "page:later", "written since"]] {
        redis.ask::<()>(words);
    }
    let since = redis.contents();
    let objects = stack.objects("live");

    let ran = stack.run(&["restore", "live", &id, "--yes", "--json"]).ok();
    let report = ran.json();
    assert_eq!(report["keys_loaded"], json!(contents.len()), "{ran}");
    assert_eq!(report["keys_found"], json!(contents.len()), "{ran}");
    assert_eq!(text(&report, "/volume"), stack.name("live", "cache.data-2"));
    assert_eq!(text(&report, "/kept_volume"), stack.name("live", "cache.data"));
    let mut redis = stack.redis("live");
    redis.still_has(&contents, "after the restore");
    assert_eq!(redis.config("appendonly"), if appends { "yes" } else { "no" });
    let new = histories(&mut redis);
    assert!(new.iter().all(|one| !history.contains(one) || one.trim_matches('0').is_empty()), "{history:?} {new:?}");
    stack.is_right("live");
    assert_eq!(stack.run(&["apply", "live", "--json"]).ok().steps(), Vec::<String>::new());
    let with = |volume: &str| objects.iter().cloned().chain([volume.to_owned()]).collect::<BTreeSet<_>>();
    assert_eq!(stack.objects("live"), with("volume cache.data-2"), "nothing else is new");

    // What was there before is in a backup that is proven, and in its volume.
    let replaced = backups_of(&stack, "restore");
    let [replaced] = replaced.as_slice() else { panic!("one backup of what was replaced: {replaced:?}") };
    assert_eq!((&replaced["state"], &replaced["keys"]), (&json!("verified"), &json!(since.len())), "{replaced}");
    let old = lying(&stack, &stack.name("live", "cache.data"));
    assert!(!old.is_empty());

    stack.docker.restart(&stack.name("live", "cache"));
    stack.redis_again("live").still_has(&contents, "after a restart");
    stack.is_right("live");

    // And back to what was replaced, which goes to the next number.
    let ran = stack.run(&["restore", "live", &text(replaced, "/id"), "--yes", "--reason", "back again"]).ok();
    ran.shows("cache.data-3");
    stack.redis("live").still_has(&since, "restored again");
    stack.is_right("live");
    assert_eq!(stack.run(&["apply", "live", "--json"]).ok().steps(), Vec::<String>::new());
    assert_eq!(lying(&stack, &stack.name("live", "cache.data")), old, "the first volume");
    assert_eq!(backups_of(&stack, "back again").len(), 1);
    stack.docker.stop(&stack.name("live", "cache"));
    stack.apply("live");
    stack.redis_again("live").still_has(&since, "after a stop");
}

#[test]
fn a_restore_goes_into_a_new_volume_on_redis_7_0_with_an_append_only_file() {
    restores("restore70", "lockstep/redis:7.0", true);
}

#[test]
fn a_restore_goes_into_a_new_volume_on_redis_6_0_with_an_append_only_file() {
    restores("restore60", "lockstep/redis:6.0", true);
}

#[test]
fn a_restore_goes_into_a_new_volume_on_redis_8_0_without_an_append_only_file() {
    restores("restore80", "lockstep/redis:8.0", false);
}

#[test]
fn a_restore_goes_into_a_new_volume_on_valkey_8_1() {
    restores("restorev81", "lockstep/valkey:8.1", true);
}

#[test]
fn a_restore_goes_into_a_new_volume_on_valkey_9_0() {
    restores("restorev90", "lockstep/valkey:9.0", false);
}

/// A backup outlives its server: what an older one does not load is written anew for it.
#[test]
fn a_backup_of_a_newer_server_is_restored_into_an_older_one() {
    let stack = running("restore_older", "lockstep/redis:8.0", |spec| spec);
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    let contents = redis.contents();
    let id = backed_up(&stack, "live");
    drop(redis);
    stack.run(&["down", "live", "--delete-data", "cache.data", "--yes"]).ok();
    stack.edit("lockstep/redis:8.0", "lockstep/redis:7.0");
    stack.lock();
    stack.apply("live");
    assert_eq!(stack.redis("live").ask::<usize>(&["DBSIZE"]), 0);
    stack.run(&["restore", "live", &id, "--dry-run"]).ok().says("written anew in plain form");
    stack.run(&["restore", "live", &id, "--yes"]).ok().says("written anew in plain form");
    stack.redis("live").still_has(&contents, "written anew");
    stack.is_right("live");
    stack.docker.restart(&stack.name("live", "cache"));
    stack.redis_again("live").still_has(&contents, "after a restart");
}

#[test]
fn keys_that_have_expired_since_are_counted_beforehand_and_can_be_kept() {
    let stack = running("restore_ttl", "lockstep/redis:7.0", |spec| spec);
    let mut redis = stack.redis("live");
    // Where a backup takes longer than they live, they live for longer.
    let taken = ["4000", "30000", "120000"].into_iter().find_map(|short| {
        redis.ask::<()>(&["FLUSHALL"]);
        let set = Instant::now();
        redis.fill(20);
        redis.ask::<()>(&["SET", "session:long", "value", "PX", "3600000"]);
        for number in 0..7 {
            redis.ask::<()>(&["SET", &format!("session:{number}"), "value", "PX", short]);
        }
        let id = backed_up(&stack, "live");
        let taken = stack.backups("live").into_iter().find(|manifest| text(manifest, "/id") == id);
        taken.is_some_and(|manifest| manifest["keys"] == json!(28)).then_some((id, set))
    });
    let (id, set) = taken.expect("a backup that has every key");
    until("the short sessions are gone", || (redis.ask::<u64>(&["DBSIZE"]) == 21).then_some(()));
    drop(redis);

    let before = state(&stack);
    let said = stack.run(&["restore", "live", &id, "--dry-run"]).ok();
    let said = said.says("21 keys").says("7 more have expired").says("session:* 7").says("--ttl shift");
    said.shows("nothing was changed");
    assert_eq!(state(&stack), before, "a dry run");

    stack.run(&["restore", "live", &id, "--yes", "--json"]).ok();
    stack.redis("live").ask::<()>(&["DEL", "session:long"]);
    stack.redis("live").holds(20);

    stack.run(&["restore", "live", &id, "--yes", "--ttl", "drop"]).ok();
    let mut redis = stack.redis("live");
    assert_eq!(redis.ask::<usize>(&["DBSIZE"]), 28);
    for key in ["session:long", "session:3"] {
        assert_eq!(redis.ask::<i64>(&["PTTL", key]), -1, "{key}");
    }
    drop(redis);

    stack.run(&["restore", "live", &id, "--yes", "--ttl", "shift"]).ok();
    let mut redis = stack.redis("live");
    let left: i64 = redis.ask(&["PTTL", "session:long"]);
    let age = i64::try_from(set.elapsed().as_millis()).expect("a short test");
    assert!(left <= 3_600_000 + 1000 && left > 3_600_000 - age, "{left} of an hour, {age} after it was set");
    stack.is_right("live");
}

#[test]
fn a_restore_that_does_not_fit_is_refused_or_said() {
    let stack = running("restore_memory", "lockstep/redis:7.0", |spec| spec);
    let mut redis = stack.redis("live");
    for number in 0..6 {
        redis.put(&format!("page:{number}"), &noise(1 << 20));
    }
    let id = backed_up(&stack, "live");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.put("page:own", b"stays");
    drop(redis);
    stack.edit("maxmemory: 16mb", "maxmemory: 4mb");
    stack.edit("allkeys-lru", "noeviction");
    stack.apply("live");
    let before = state(&stack);
    let refused = stack.run(&["restore", "live", &id, "--yes"]).exits(4);
    refused.says("`maxmemory` is 4").says("refuse to go on").says("nothing was changed");
    assert_eq!(state(&stack), before);

    // The spec's limit is what counts, whatever it is now.
    stack.edit("maxmemory: 4mb", "maxmemory: 16mb");
    stack.edit("noeviction", "allkeys-lru");
    stack.apply("live");
    stack.run(&["restore", "live", &id, "--yes"]).ok();
    assert_eq!(stack.redis("live").ask::<usize>(&["DBSIZE"]), 6);

    stack.edit("maxmemory: 16mb", "maxmemory: 4mb");
    let said = stack.run(&["restore", "live", &id, "--dry-run"]).ok();
    said.says("`allkeys-lru` will evict");
    stack.edit("maxmemory: 4mb", "maxmemory: 16mb");
    stack.edit("memory: 64mb", "memory: 7mb");
    let before = state(&stack);
    let refused = stack.run(&["restore", "live", &id, "--yes"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(state(&stack), before);
}

/// What one restores for: the server is down, and what needs it is as well. What else waits for `apply` is not carried along.
#[test]
fn a_restore_moves_data_alone_also_where_nothing_serves() {
    let stack = Scenario::with("restore_alone", project::small);
    stack.apply("live");
    stack.redis("live").fill(50);
    let id = backed_up(&stack, "live");
    stack.edit("COLOUR: green", "COLOUR: blue");
    let before = stack.docker.identity(&stack.name("live", "web"));
    let refused = stack.run(&["restore", "live", &id, "--yes"]).exits(4);
    refused.says("this moves data alone: there is also to").says("nothing was changed");
    assert_eq!(stack.docker.identity(&stack.name("live", "web")), before);
    let forecast = stack.run(&["restore", "live", &id, "--dry-run", "--json"]).ok().json();
    assert_eq!(forecast["forecast"]["chosen"]["keys"], 50, "{forecast}");
    stack.edit("COLOUR: blue", "COLOUR: green");
    for service in ["web", "cache"] {
        stack.docker.stop(&stack.name("live", service));
    }
    stack.run(&["restore", "live", &id, "--yes"]).ok();
    stack.redis_again("live").holds(50);
    stack.is_right("live");
}

#[test]
fn a_restore_that_is_refused_changes_nothing() {
    let stack = running("restore_refused", "lockstep/redis:7.0", |spec| spec);
    stack.environment("other", "");
    stack.apply("other");
    stack.redis("live").fill(50);
    stack.redis("other").fill(10);
    let (id, foreign) = (backed_up(&stack, "live"), backed_up(&stack, "other"));
    stack.redis("live").fill_kinds();
    let before = state(&stack);
    let unchanged = |ran: Ran| {
        assert_eq!(state(&stack), before, "after: {ran}");
        ran
    };

    let near = format!("{}x", id.split_at(id.len() - 1).0);
    unchanged(stack.run(&["restore", "live", &near, "--yes"])).exits(2).says("did you mean").says(&id);
    unchanged(stack.run(&["restore", "live", "nothing-of-that-kind", "--yes"])).exits(2).says("there is no backup");
    unchanged(stack.run(&["restore", "live", &foreign, "--yes"])).exits(2).says("there is no backup");
    unchanged(stack.run(&["restore", "live", &foreign, "--warm", "--yes"])).exits(2);
    unchanged(stack.run(&["restore", "live", &id])).exits(4).says("--yes");
    unchanged(stack.run(&["restore", "live", &id, "--warm"])).exits(4).says("--yes");
    unchanged(stack.run(&["restore", "live", &id, "--service", "cash", "--yes"])).exits(2).says("cache");
    unchanged(stack.run(&["restore", "live", &id, "--match", "page:*"])).exits(2).says("--warm");
    unchanged(stack.run(&["restore", "live", &id, "--dry-run"])).ok().shows("nothing was changed");
    unchanged(stack.run(&["restore", "live", &id, "--dry-run", "--warm"])).ok().shows("nothing was changed");
    // A dry run does not ask the engine to change anything, not even something that it takes back.
    let proxy = Proxy::start();
    stack.run_through(&proxy, &["restore", "live", &id, "--dry-run"]).ok();
    assert_eq!(proxy.mutations().len(), 0, "{:?}", proxy.mutations());
    // Nor the server: somebody else may be restoring into it, and works as a user that was made for that.
    let made = users_made(&stack);
    unchanged(stack.run(&["restore", "live", &id, "--dry-run", "--warm"])).ok();
    assert_eq!(users_made(&stack), made);

    let piece = first_piece(&stack, &id);
    let right = fs::read(&piece).expect("a piece");
    for place in [right.len() / 2, right.len() - 9] {
        let mut wrong = right.clone();
        wrong[place] ^= 0x10;
        fs::write(&piece, &wrong).expect("a damaged piece");
        for how in [&["--yes"][..], &["--yes", "--warm"], &["--dry-run"]] {
            let ran = stack.run(&[&["restore", "live", &id][..], how].concat());
            assert!(matches!(ran.code, 3 | 4), "damaged: {ran}");
            unchanged(ran).says("damaged");
        }
    }
    fs::write(&piece, &right[..right.len() / 2]).expect("half a piece");
    let ran = unchanged(stack.run(&["restore", "live", &id, "--yes"]));
    assert!(matches!(ran.code, 3 | 4), "half of it: {ran}");
    fs::write(&piece, &right).expect("the piece");
    stack.run(&["restore", "live", &id, "--yes"]).ok();
    stack.redis("live").holds(50);
    stack.redis("other").holds(10);
}

/// How often users were made, changed and removed, as the server counts it.
#[track_caller]
fn users_made(stack: &Scenario) -> Vec<String> {
    let info: String = stack.redis("live").ask(&["INFO", "commandstats"]);
    let of_users = |line: &&str| ["cmdstat_acl|setuser:", "cmdstat_acl|deluser:"].iter().any(|of| line.starts_with(of));
    info.lines().filter(of_users).map(str::to_owned).collect()
}

/// The first piece of a backup's snapshot.
#[track_caller]
pub fn first_piece(stack: &Scenario, id: &str) -> PathBuf {
    let folder = stack.backup_folder("live").join(id);
    let mut pieces: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the backup's folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dump.rdb.")))
        .collect();
    pieces.sort();
    pieces.into_iter().next().expect("a piece")
}

/// Whenever it dies, the environment serves what it served or what was restored, `apply` leaves nothing of it but data,
/// and the next restore works.
#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new() {
    let stack = running("restore_killed", "lockstep/redis:7.0", |spec| spec);
    let mut redis = stack.redis("live");
    redis.fill(200);
    redis.fill_kinds();
    let restored = redis.contents();
    let id = backed_up(&stack, "live");
    let objects = stack.objects("live");
    let change = || {
        let mut redis = stack.redis("live");
        redis.ask::<()>(&["FLUSHALL"]);
        redis.fill(30);
        redis.contents()
    };
    let old = change();
    let proxy = Proxy::start();
    stack.run_through(&proxy, &["restore", "live", &id, "--yes"]).ok();
    let calls: Vec<String> = proxy.mutations().iter().map(|call| format!("{} {}", call.method, call.path)).collect();
    let first = |what: &str| {
        let found = calls.iter().position(|call| call.contains(what));
        found.unwrap_or_else(|| panic!("no `{what}` in {calls:#?}")) + 1
    };
    let uploads: Vec<usize> = (1..=calls.len()).filter(|number| calls[number - 1].contains("/archive")).collect();
    let points = [
        (first("/containers/create"), Fault::KillAfter),
        (uploads[1], Fault::KillBefore),
        (uploads[1], Fault::KillAfter),
        (first("cache.restore/start"), Fault::KillAfter),
        (first("cache.restore/stop"), Fault::KillBefore),
        (first("cache.restore/stop"), Fault::KillAfter),
        (first("cache/stop"), Fault::KillBefore),
        (first("cache/stop"), Fault::KillAfter),
        (first("cache/stop") + 1, Fault::KillAfter),
        (first("cache/stop") + 2, Fault::KillAfter),
        (calls.len() - 1, Fault::KillAfter),
        (calls.len(), Fault::KillAfter),
    ];
    for (number, fault) in points {
        change();
        let at = &calls[number - 1];
        proxy.arm(At::Mutation(number), fault);
        let ran = stack.run_through(&proxy, &["restore", "live", &id, "--yes"]);
        assert_eq!(ran.signal, Some(Signal::KILL.as_raw()), "{fault:?} at {at}: {ran}");
        proxy.settle();
        let hit = proxy.hit().map(|call| format!("{} {}", call.method, call.path));
        let when = format!("after {fault:?} at {hit:?}");
        let cache = stack.name("live", "cache");
        if stack.docker.runs(&cache) {
            let now = stack.redis_again("live").contents();
            assert!(now == old || now == restored, "{when}: neither the old nor the restored");
        }
        let again = stack.run(&["apply", "live"]);
        assert_eq!(again.code, 0, "{when}: {again}");
        let now = stack.redis_again("live").contents();
        assert!(now == old || now == restored, "{when}: neither the old nor the restored: {now:?}");
        stack.is_right("live");
        assert_eq!(stack.run(&["apply", "live", "--json"]).ok().steps(), Vec::<String>::new(), "{when}");
        let left: Vec<String> = stack
            .objects("live")
            .into_iter()
            .filter(|object| !objects.contains(object) && !object.starts_with("volume cache.data-"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{when}");
    }
    // Nor does it take an `apply` in between.
    for (number, fault) in [(uploads[1], Fault::KillAfter), (first("cache.restore/start"), Fault::KillAfter)] {
        proxy.arm(At::Mutation(number), fault);
        stack.run_through(&proxy, &["restore", "live", &id, "--yes"]);
        proxy.settle();
    }
    stack.run(&["restore", "live", &id, "--yes"]).ok();
    stack.redis("live").still_has(&restored, "after two that were killed");
    stack.is_right("live");
    let volumes = |object: &String| !object.starts_with("volume cache.data");
    let mut left = stack.objects("live");
    left.retain(volumes);
    let mut expected = objects.clone();
    expected.retain(volumes);
    assert_eq!(left, expected);
    assert!(stack.docker.labelled(docker::STACK, &stack.stack).iter().all(|object| !object.contains("drill-")));
}

#[test]
fn a_warm_restore_changes_what_matches_and_is_taken_back() {
    let stack = Scenario::with("restore_warm", redis_7);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    let backed_up_contents = redis.contents();
    let id = backed_up(&stack, "live");
    redis.ask::<()>(&["DEL", "page:string", "page:list", "page:7", "page:12"]);
    redis.ask::<()>(&["SET", "page:zset", "another kind"]);
    redis.ask::<()>(&["SET", "page:11", "written since", "EX", "5000"]);
    redis.ask::<()>(&["SET", "own", "stays"]);
    let before = redis.contents();
    let objects = stack.objects("live");
    let identity = stack.docker.identity(&stack.name("live", "cache"));

    let ran =
        stack.run(&["restore", "live", &id, "--warm", "--match", "page:1*", "--match", "page:z*", "--yes", "--json"]);
    let report = ran.ok().json();
    let mut expected = before.clone();
    for (key, value) in &backed_up_contents {
        if key.starts_with("page:1") || key.starts_with("page:z") {
            expected.insert(key.clone(), value.clone());
        }
    }
    redis.still_has(&expected, "restored warm");
    let users: Vec<String> = redis.ask(&["ACL", "LIST"]);
    assert!(users.iter().all(|user| !user.contains("lockstep-restore")), "{users:?}");
    stack.is_right("live");
    assert_eq!(stack.docker.identity(&stack.name("live", "cache")), identity, "without a restart");
    assert_eq!(stack.objects("live"), objects);
    let replaced = backups_of(&stack, "restore");
    assert_eq!(replaced.len(), 1, "what was there is backed up first");
    assert_eq!(replaced[0]["state"], json!("verified"));

    let journal = text(&report, "/journal");
    stack.run(&["restore", "live", "--undo", &journal]).ok();
    redis.still_has(&before, "taken back");
    stack.run(&["restore", "live", "--undo", &journal]).ok();
    redis.still_has(&before, "taken back twice");
    let users: Vec<String> = redis.ask(&["ACL", "LIST"]);
    assert!(users.iter().all(|user| !user.contains("lockstep-restore")), "{users:?}");
    stack.is_right("live");

    // What is there may stay, or end it.
    stack.run(&["restore", "live", &id, "--warm", "--existing", "refuse", "--yes"]).exits(1).says("--undo");
    let journal = newest_journal(&stack).expect("a journal");
    stack.run(&["restore", "live", "--undo", journal.to_str().expect("text")]).ok();
    redis.still_has(&before, "refused and taken back");
    stack.run(&["restore", "live", &id, "--warm", "--existing", "skip", "--yes"]).ok();
    let mut expected = backed_up_contents;
    expected.extend(before);
    redis.still_has(&expected, "what was there stayed");
    stack.run(&["restore", "live", "--undo", "nowhere.journal"]).exits(2);

    // Each is in the ledger, and none is taken for a change of the spec.
    let listed = stack.run(&["history", "live", "--json"]).ok().json();
    let changes = listed["changes"].as_array().cloned().unwrap_or_default();
    let said: Vec<String> =
        changes.iter().map(|change| format!("{}: {}", text(change, "/verb"), text(change, "/outcome"))).collect();
    let (warm, undo) = ("restore --warm: done".to_owned(), "restore --undo: done".to_owned());
    let failed = "restore --warm: failed".to_owned();
    assert_eq!(said, ["apply: done".to_owned(), warm.clone(), undo.clone(), undo.clone(), failed, undo, warm]);
    stack.run(&["history", "verify", "live"]).ok();
    stack.run(&["history", "show", "live"]).ok().shows("--undo");
    stack.run(&["rollback", "live"]).exits(4).says("the first one");
    stack.run(&["rollback", "live", "2"]).exits(2).says("--undo");
    stack.run(&["plan", "live"]).ok();
}

fn newest_journal(stack: &Scenario) -> Option<PathBuf> {
    let entries = fs::read_dir(stack.path("backups/.restores")).ok()?;
    entries.flatten().map(|entry| entry.path()).max_by_key(|path| fs::metadata(path).and_then(|of| of.modified()).ok())
}

#[test]
fn a_warm_restore_that_is_killed_can_be_taken_back() {
    let stack = running("restore_warm_killed", "lockstep/redis:7.0", |spec| {
        spec.replace("maxmemory: 16mb", "maxmemory: 400mb").replace("memory: 64mb", "memory: 800mb")
    });
    let mut redis = stack.redis("live");
    redis.fill(200_000);
    let id = backed_up(&stack, "live");
    let killed = (0..5).find_map(|_| {
        redis.ask::<()>(&["FLUSHALL"]);
        redis.fill(20);
        redis.ask::<()>(&["SET", "page:5", "written since"]);
        let before = redis.contents();
        let restore = stack.start(&["restore", "live", &id, "--warm", "--yes"], None);
        until("keys to come", || (redis.ask::<usize>(&["DBSIZE"]) > 2000).then_some(()));
        restore.signal(Signal::KILL);
        let ran = restore.finish();
        assert!(ran.signal == Some(Signal::KILL.as_raw()) || ran.code == 0, "{ran}");
        // Whoever looks late finds it done.
        let there: usize = redis.ask(&["DBSIZE"]);
        (ran.signal.is_some() && there < 200_000).then_some((before, there))
    });
    let (before, there) = killed.expect("one that was killed in the middle of it");
    assert!(there > 20, "in the middle of it: {there}");

    // The user that it worked with is named, and goes with the next change; or with the undo.
    let found = stack.findings("live");
    assert!(found.iter().any(|subject| subject.contains("lockstep-restore")), "{found:?}");
    stack.apply("live");
    stack.is_right("live");
    let users: Vec<String> = redis.ask(&["ACL", "LIST"]);
    assert!(users.iter().all(|user| !user.contains("lockstep-restore")), "{users:?}");

    // Those of others that were killed go with the undo, whichever of the names that such users have had.
    for user in ["lockstep-restore", "lockstep-restore-0123456789ab"] {
        redis.ask::<()>(&["ACL", "SETUSER", user, "on"]);
    }
    let journal = newest_journal(&stack).expect("a journal");
    stack.run(&["restore", "live", "--undo", journal.to_str().expect("text")]).ok();
    redis.still_has(&before, "taken back");
    stack.is_right("live");
}

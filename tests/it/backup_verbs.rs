//! The verbs of `lockstep backup` that need no server, from outside.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use lockstep::backup::{Capture, Manifest, SNAPSHOT, State};
use lockstep::model::Bucket;
use lockstep::rdb;
use lockstep::store::repository::local::Local;
use lockstep::store::repository::remote::{Credentials, Patience, Remote};
use lockstep::store::repository::{Identities, Repository};
use lockstep::value::{Digest, Name, Recipient};
use lockstep::world::restore::Origin;
use serde_json::Value;

use crate::rdb::snapshot_of;
use crate::support::project::{Project, Ran};
use crate::support::s3::S3;

const OLD: &str = "cache-20261120T050000Z-aaaaaa";
const MID: &str = "cache-20261121T050000Z-bbbbbb";
const NEW: &str = "cache-20261122T050000Z-cccccc";

pub(crate) fn shop(backup: &str) -> Project {
    let text = format!("lockstep: 1\nstack: shop\nbackup: {{ to: ../kept, {backup} }}\n");
    Project::small().with("environments/stack.yaml", text)
}

pub(crate) fn repository(project: &Project) -> Repository {
    Repository::new(Arc::new(Local::new(project.path().join("kept"))), "shop", "staging")
}

fn take(repository: &Repository, id: &str, keys: u64, state: State) {
    take_dump(repository, id, &snapshot_of(keys, 10), state);
}

/// Keeps a snapshot as if it had been pulled.
pub(crate) fn take_dump(repository: &Repository, id: &str, dump: &[u8], state: State) {
    take_as(repository, id, dump, &rdb::walk(dump).expect("a snapshot"), state);
}

/// Keeps a snapshot as one that holds what the summary says.
fn take_as(repository: &Repository, id: &str, dump: &[u8], summary: &rdb::Summary, state: State) {
    let day = &id[6..14];
    let capture = Capture {
        id: id.to_owned(),
        stack: Name::parse("shop").expect("a name"),
        environment: Name::parse("staging").expect("a name"),
        service: "cache".to_owned(),
        taken_at: format!("{}-{}-{}T05:00:00Z", &day[..4], &day[4..6], &day[6..]),
        reason: "nightly".to_owned(),
        change: false,
        image: "redis:7.0".to_owned(),
        server: "redis 7.0.15".to_owned(),
        revision: Digest::of(b"revision"),
    };
    let mut draft = repository.draft(id, "cache").expect("a draft");
    let mut part = draft.part(SNAPSHOT).expect("a part");
    part.write_all(dump).expect("taken");
    let manifest = Manifest {
        state,
        parts: vec![part.finish().expect("a part")],
        encrypted_to: draft.encrypted_to(),
        ..Manifest::of(&capture, summary)
    };
    draft.keep(&manifest).expect("kept");
}

fn three(backup: &str) -> Project {
    let project = shop(backup);
    let repository = repository(&project);
    take(&repository, OLD, 1, State::Verified);
    take(&repository, MID, 2, State::Verified);
    take(&repository, NEW, 3, State::Verified);
    project
}

pub(crate) fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

pub(crate) fn damage(project: &Project, id: &str) {
    let piece = project.path().join("kept/shop/staging").join(id).join("dump.rdb.000001");
    let mut bytes = std::fs::read(&piece).expect("a piece");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    crate::support::project::put(&piece, &bytes);
}

#[test]
fn list_and_show_say_what_there_is() {
    let project = three("");
    let ran = project.lockstep(&["backup", "list", "staging"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains(OLD) && ran.stdout.contains("verified"), "{}", ran.stdout);
    let ran = project.lockstep(&["backup", "show", "bbbbbb"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("2 keys") && ran.stdout.contains("redis 7.0.15"), "{}", ran.stdout);
    let shown = json(&project.lockstep(&["backup", "show", "bbbbbb", "--json"]));
    assert_eq!(shown["manifest"]["keys"], 2);
    assert_eq!(shown["state"], "verified");
    let ran = project.lockstep(&["backup", "show", "cache-2026112"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("one of 3") && ran.stderr.contains(OLD), "{}", ran.stderr);
    let ran = project.lockstep(&["backup", "show", "cache-20261122T050000Z-cccccd"]);
    assert!(ran.code == 2 && ran.stderr.contains(&format!("did you mean `{NEW}`?")), "{}", ran.stderr);
}

#[test]
fn verify_reads_every_byte_and_writes_down_what_came_of_it() {
    let project = shop("");
    take(&repository(&project), NEW, 3, State::Captured);
    take(&repository(&project), OLD, 1, State::Captured);
    let ran = project.lockstep(&["backup", "verify", "staging"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("{NEW} verified: read back whole: 3 keys")), "{}", ran.stdout);
    assert!(!ran.stdout.contains(OLD), "the newest alone, unless asked for more");
    damage(&project, NEW);
    let ran = project.lockstep(&["backup", "verify", "staging", "--all", "--json"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let said = json(&ran);
    assert_eq!(said["backups"][0]["state"], "verified");
    assert_eq!(said["backups"][1]["state"], "damaged");
    assert!(said["backups"][1]["problem"].as_str().is_some_and(|why| why.contains("hash differs")));
    assert_eq!(project.lockstep(&["backup", "list"]).code, 3, "and from now on the list says so");
    assert_eq!(project.lockstep(&["backup", "export", NEW, "--out", "x"]).code, 1);
    damage(&project, NEW);
    assert_eq!(project.lockstep(&["backup", "verify", "staging", "cccccc"]).code, 0, "what came back is right again");
    assert_eq!(project.lockstep(&["backup", "list"]).code, 0);
}

#[test]
fn a_snapshot_that_is_another_than_its_manifest_says_is_damaged() {
    let project = shop("");
    take(&repository(&project), NEW, 3, State::Captured);
    let path = project.path().join("kept/shop/staging").join(NEW).join("manifest.json");
    let text = std::fs::read_to_string(&path).expect("a manifest");
    crate::support::project::put(&path, text.replace("\"keys\": 3", "\"keys\": 4").as_bytes());
    let ran = project.lockstep(&["backup", "verify", "staging"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("3 keys") && ran.stdout.contains("says 4"), "{}", ran.stdout);
}

#[test]
fn a_snapshot_of_a_newer_kind_is_not_damaged() {
    let project = shop("");
    let repository = repository(&project);
    let known = snapshot_of(3, 10);
    let summary = rdb::walk(&known[..]).expect("a snapshot");
    take_as(&repository, NEW, &[&b"REDIS0099"[..], &known[9..]].concat(), &summary, State::Captured);
    take(&repository, OLD, 1, State::Captured);
    let ran = project.lockstep(&["backup", "verify", "staging", "--all"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains(&format!("{OLD} verified: read back whole: 1 keys")), "{}", ran.stdout);
    let unread =
        format!("{NEW} captured: stored whole, and not readable by this version: unknown redis RDB version 99");
    assert!(ran.stdout.contains(&unread), "{}", ran.stdout);
    assert!(ran.stderr.contains("a newer version of lockstep"), "{}", ran.stderr);
    let shown = json(&project.lockstep(&["backup", "show", NEW, "--json"]));
    assert_eq!((&shown["state"], &shown["proofs"]), (&Value::from("captured"), &Value::Array(Vec::new())));
    assert_eq!(project.lockstep(&["backup", "list"]).code, 0);
    // Its bytes are compared with what was stored all the same.
    damage(&project, NEW);
    let ran = project.lockstep(&["backup", "verify", "staging"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains(&format!("{NEW} damaged: damaged:")), "{}", ran.stdout);
}

#[test]
fn what_is_encrypted_is_verified_and_exported_where_the_key_is() {
    use age::secrecy::ExposeSecret as _;
    let key = age::x25519::Identity::generate();
    let public = key.to_public().to_string();
    let project = shop(&format!("encrypt_to: [{public}], identity: key.txt"));
    let recipients = vec![Recipient::parse(&public).expect("a recipient")];
    take(&repository(&project).encrypted_to(recipients), NEW, 3, State::Captured);
    let ran = project.lockstep(&["backup", "verify", "staging"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(&public) && ran.stderr.contains("LOCKSTEP_AGE_IDENTITY_FILE"), "{}", ran.stderr);
    assert_eq!(json(&project.lockstep(&["backup", "show", NEW, "--json"]))["state"], "captured");
    let ran = project.lockstep(&["backup", "export", NEW]);
    assert!(ran.code == 1 && ran.stdout.is_empty() && ran.stderr.contains(&public), "{ran:?}");

    project.write("environments/key.txt", key.to_string().expose_secret());
    assert_eq!(project.lockstep(&["backup", "verify", "staging"]).code, 0);
    assert_eq!(json(&project.lockstep(&["backup", "show", NEW, "--json"]))["state"], "verified");
    let out = project.path().join("out.rdb");
    let out_text = out.to_str().expect("text");
    assert_eq!(project.lockstep(&["backup", "export", "cccccc", "--out", out_text]).code, 0);
    assert_eq!(std::fs::read(&out).expect("a file"), snapshot_of(3, 10));
    let again = project.lockstep(&["backup", "export", "cccccc", "--out", out_text]);
    assert!(again.code == 1 && again.stderr.contains("there already"), "{}", again.stderr);
    let output = project.command(&["backup", "export", "cccccc"]).output().expect("the binary starts");
    assert_eq!(output.stdout, snapshot_of(3, 10), "standard output takes it too, when it is no terminal");

    let elsewhere = project.path().join("elsewhere.txt");
    std::fs::rename(project.path().join("environments/key.txt"), &elsewhere).expect("moved");
    let variable = [("LOCKSTEP_AGE_IDENTITY_FILE", elsewhere.to_str().expect("text"))];
    assert_eq!(project.lockstep_with(&["backup", "verify", "staging"], &variable).code, 0);
}

#[test]
fn prune_says_what_it_would_do_and_then_does_it() {
    let project = three("keep: { last: 1 }");
    let dry = project.lockstep(&["backup", "prune", "staging", "--dry-run"]);
    assert_eq!((dry.code, dry.stderr.as_str()), (0, ""));
    assert!(dry.stdout.contains(&format!("remove  {OLD}  no rule")), "{}", dry.stdout);
    assert!(dry.stdout.contains(&format!("keep    {NEW}  one of the two newest proven; one of the newest 1")));
    let pinned = project.lockstep(&["backup", "pin", "aaaaaa", "--reason", "before the sale"]);
    assert_eq!((pinned.code, pinned.stdout), (0, format!("{OLD} pinned\n")));
    assert!(project.lockstep(&["backup", "list"]).stdout.contains("pinned: before the sale"));
    assert_eq!(json(&project.lockstep(&["backup", "prune", "staging", "--json"]))["removed"], 0);
    assert_eq!(project.lockstep(&["backup", "unpin", "aaaaaa"]).code, 0);
    // A folder without a manifest and without a writer, as a killed one leaves it.
    project.write("kept/shop/staging/cache-20261119T050000Z-dddddd/dump.rdb.000001", "left");
    let ran = json(&project.lockstep(&["backup", "prune", "staging", "--json"]));
    assert_eq!((&ran["removed"], &ran["leftovers"][0]["bytes"]), (&Value::from(1), &Value::from(4)));
    let left = json(&project.lockstep(&["backup", "list", "--json"]));
    let ids: Vec<&str> = left["backups"].as_array().expect("a list").iter().filter_map(|b| b["id"].as_str()).collect();
    assert_eq!(ids, [MID, NEW]);
    assert!(!project.path().join("kept/shop/staging/cache-20261119T050000Z-dddddd").exists());
}

#[test]
fn prune_leaves_alone_what_it_does_not_understand() {
    let project = three("keep: { last: 1 }");
    let newer = r#"{"format":3,"id":"cache-20200101T050000Z-ffffff","stack":"shop","environment":"staging",
        "service":"cache","taken_at":"2020-01-01T05:00:00Z"}"#;
    project.write("kept/shop/staging/cache-20200101T050000Z-ffffff/manifest.json", newer);
    project.write("kept/shop/staging/by-hand/dump.rdb", "mine");
    let said = json(&project.lockstep(&["backup", "prune", "staging", "--json"]));
    assert_eq!(said["removed"], 1, "{said}");
    assert!(project.path().join("kept/shop/staging/cache-20200101T050000Z-ffffff/manifest.json").exists());
    assert!(project.path().join("kept/shop/staging/by-hand/dump.rdb").exists());
}

#[test]
fn prune_refuses_without_a_rule_and_after_a_failure() {
    let project = three("");
    let ran = project.lockstep(&["backup", "prune", "staging"]);
    assert!(ran.code == 4 && ran.stderr.contains("`backup.keep` says nothing"), "{ran:?}");
    let project = three("keep: { last: 1 }");
    project.write("kept/shop/staging/failed-cache.json", r#"{"service":"cache","at":"2026-11-22T06:00:00Z"}"#);
    let ran = project.lockstep(&["backup", "prune", "staging"]);
    assert!(ran.code == 4 && ran.stderr.contains("last backup of cache failed"), "{ran:?}");
    assert_eq!(json(&project.lockstep(&["backup", "list", "--json"]))["backups"].as_array().map(Vec::len), Some(3));
    take(&repository(&project), "cache-20261122T070000Z-eeeeee", 4, State::Verified);
    assert_eq!(project.lockstep(&["backup", "prune", "staging"]).code, 0, "one succeeded since");
}

fn on_bucket(server: &S3) -> Repository {
    let bucket = Bucket {
        name: "bucket".to_owned(),
        prefix: "team".to_owned(),
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
    };
    let credentials =
        Credentials { access_key_id: "id".to_owned(), secret_access_key: "sentinel".to_owned(), session_token: None };
    let store = Remote::open(&bucket, credentials, Patience::default()).expect("a client");
    Repository::new(Arc::new(store), "shop", "staging")
}

/// Opening it reads from the bucket at once, which no task can wait for.
#[test]
fn an_encrypted_backup_in_a_bucket_is_opened_for_a_task() {
    let server = S3::start();
    let key = age::x25519::Identity::generate();
    let recipients = vec![Recipient::parse(&key.to_public().to_string()).expect("a recipient")];
    let repository = on_bucket(&server).encrypted_to(recipients);
    take(&repository, NEW, 3, State::Captured);
    let manifest = repository.get(NEW).expect("a bucket").and_then(|listed| listed.manifest).expect("a manifest");
    let identities = Arc::new(Identities::from(vec![key]));
    let origin = Origin { repository, identities, manifest: Arc::new(manifest) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut opened = runtime.block_on(origin.opened(None)).expect("a snapshot");
    let mut dump = Vec::new();
    opened.read_to_end(&mut dump).expect("its bytes");
    assert_eq!(dump, snapshot_of(3, 10));
}

#[test]
fn every_verb_works_on_a_bucket() {
    let server = S3::start();
    let repository = on_bucket(&server);
    for (id, keys) in [(OLD, 1), (MID, 2), (NEW, 3)] {
        take(&repository, id, keys, State::Captured);
    }
    let text = format!(
        "lockstep: 1\nstack: shop\nbackup: {{ to: s3://bucket/team, endpoint: \"{}\", keep: {{ last: 1 }} }}\n",
        server.endpoint()
    );
    let project = Project::small().with("environments/stack.yaml", text);
    let variables = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "sentinel")];
    let run = |arguments: &[&str]| {
        let ran = project.lockstep_with(arguments, &variables);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        assert!(!ran.stdout.contains("sentinel") && !ran.stderr.contains("sentinel"), "{ran:?}");
        ran
    };
    assert!(run(&["backup", "verify", "staging", "--all"]).stdout.contains(&format!("{OLD} verified")));
    run(&["backup", "pin", "bbbbbb", "--reason", "before the sale"]);
    assert!(run(&["backup", "show", "bbbbbb"]).stdout.contains("s3://bucket/team/shop/staging"));
    let out = project.path().join("out.rdb");
    run(&["backup", "export", "bbbbbb", "--out", out.to_str().expect("text")]);
    assert_eq!(std::fs::read(&out).expect("a file"), snapshot_of(2, 10));
    assert_eq!(json(&run(&["backup", "prune", "staging", "--json"]))["removed"], 1);
    assert!(!run(&["backup", "list"]).stdout.contains(OLD));
    assert!(server.with(|state| state.objects.keys().all(|key| !key.contains(OLD) && !key.contains("probe"))));
}

#[test]
fn a_bucket_needs_credentials_from_the_environment() {
    let text = "lockstep: 1\nstack: shop\nbackup: { to: s3://bucket/prefix, endpoint: \"http://127.0.0.1:1\" }\n";
    let project = Project::small().with("environments/stack.yaml", text);
    let ran = project.lockstep(&["backup", "list"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("AWS_ACCESS_KEY_ID"), "{}", ran.stderr);
}

//! Files in volumes are read where they lie, if the engine runs beside us, and through the engine otherwise. Both say the same.

use crate::support::{Engine, Proxy, Scenario, project};
use serde_json::Value;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The moment as the engine's events take it: what was asked a moment before is not among those since then.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// What `verify` says, without the moments at which it looked, and whether the engine was asked for files.
#[track_caller]
fn verified(stack: &Scenario, host: &str) -> (Value, bool) {
    let began = now();
    let ran = stack.start(&["verify", "live", "--json"], Some(host)).finish();
    assert!([0, 3].contains(&ran.code), "{ran}");
    let mut said = ran.json();
    forget_times(&mut said);
    (said, asked_for_files(stack, &began))
}

/// Whether the engine was asked for files of this stack since then; others may ask it for theirs.
fn asked_for_files(stack: &Scenario, began: &str) -> bool {
    let ours = stack.name("live", "");
    let events = stack.docker.events(began, &now());
    events.lines().any(|event| event.contains("archive-path") && event.contains(&ours))
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "at" && name != "read_at" && name != "elapsed_ms");
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

#[test]
fn both_ways_to_read_them_say_the_same_whatever_was_done_to_them() {
    let stack = Scenario::with("files_lie", project::small);
    stack.apply("live");
    let forwarder = Proxy::start();
    let engine = format!("unix://{}", crate::support::docker::SOCKET);
    let carrier = stack.name("live", "files");
    let docker = &stack.docker;
    let folder = "/v/cache.etc.redis";
    let same = |what: &str, right: bool| {
        let (here, asked) = verified(&stack, &engine);
        // What is asked through a forwarder may be on another machine.
        let (there, asked_there) = verified(&stack, &forwarder.address());
        assert!(!asked && asked_there, "{what}: who asks the engine for files: {asked}, {asked_there}");
        assert_eq!(here, there, "{what}");
        let found = here["findings"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(found, right, "{what}: {here:#}");
    };
    same("as it was made", true);
    docker.put_file(&carrier, &format!("{folder}/current"), "redis.conf", b"maxmemory 1mb\n", 0, 0o644);
    same("an edited file", false);
    stack.apply("live");
    same("written anew", true);
    docker.put_file(&carrier, folder, "extra.conf", b"of somebody's own\n", 999, 0o4755);
    same("a file of others", false);
    docker.put_link(&carrier, folder, "redis.conf", "/etc/passwd");
    same("a link of ours that leads elsewhere", false);
    docker.remove_container(&carrier);
    stack.apply("live");
    same("with the container anew that mounts them", true);

    // What reading must not wait for, follow, or take for a file.
    let volume = docker.get(&format!("/volumes/{}", stack.name("live", "cache.etc.redis")));
    let home = volume["Mountpoint"].as_str().expect("a folder of this machine").to_owned();
    let made = Command::new("sh")
        .args(["-c", "mkfifo pipe; ln -s /dev/zero endless; mkdir -p deep/er"])
        .current_dir(&home)
        .status();
    assert!(made.expect("a shell").success());
    same("a pipe, a link to a device and folders", true);
    // Deeper than anything of ours: the engine says what it has.
    let deep = format!("{home}/{}", vec!["d"; 40].join("/"));
    std::fs::create_dir_all(&deep).expect("folders");
    let (_, asked) = verified(&stack, &engine);
    assert!(asked, "it is left to the engine");
    std::fs::remove_dir_all(format!("{home}/d")).expect("folders");
    docker.put_link(&carrier, folder, "current", "r/nowhere");
    same("no revision in force", false);
}

#[test]
fn a_daemon_that_was_handed_its_socket_is_known_for_what_it_is() {
    let engine = Engine::start_handed();
    let stack = engine.redis("files_handed");
    let host = format!("unix://{}", engine.socket().display());
    engine.inside(|| stack.start(&["apply", "live"], Some(&host)).finish().ok());
    // From where the socket was made, as everybody else on a machine sees it; its servers cannot be reached from there.
    let began = now();
    let ran = stack.start(&["plan", "live"], Some(&host)).finish();
    assert!(
        ran.stdout.contains("the server does not answer"),
        "the password in the volume was found, and tried: {ran}"
    );
    assert!(!asked_for_files(&stack, &began), "its files are read where they lie");
}

//! What is not lockstep's own is neither used nor removed, however close its name comes.

use crate::support::docker::{self, DECOY, RESOURCE};
use crate::support::{Scenario, hashed, project};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn redis_only(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

/// A volume of somebody else's has the very name that a data volume would get.
#[test]
fn a_volume_of_others_is_not_taken_for_the_data_volume() {
    let stack = Scenario::with("foreign_volume", redis_only);
    let volume = stack.name("live", "cache.data");
    stack.docker.post("/volumes/create", &json!({ "Name": volume, "Labels": { DECOY: stack.stack } }));
    let carrier = stack.docker.create_container(
        &format!("{}-keeper", stack.stack),
        &json!({
            "Image": "lockstep/redis:7.0",
            "Labels": { DECOY: stack.stack },
            "HostConfig": { "Mounts": [{ "Type": "volume", "Source": volume, "Target": "/kept" }] },
        }),
    );
    stack.docker.put_file(&carrier, "/kept", "dump.rdb", b"somebody's only copy", 4242, 0o600);
    let before = hashed(stack.docker.tree(&carrier, "/kept"));

    let refused = stack.run(&["apply", "live"]);
    assert_ne!(refused.code, 0, "the name is taken, and that is said: {refused}");
    assert_eq!(hashed(stack.docker.tree(&carrier, "/kept")), before, "its content");
    let mounted = format!("/var/lib/docker/volumes/{volume}/_data");
    if let Ok(metadata) = std::fs::metadata(&mounted) {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(metadata.uid(), 0, "its owner");
    }
    assert!(!stack.docker.exists("containers", &stack.name("live", "cache")), "nothing runs on it");
    // Whatever was begun, going back must not take it along.
    stack.run(&["down", "live"]);
    assert_eq!(hashed(stack.docker.tree(&carrier, "/kept")), before, "after down");
}

#[test]
fn a_container_of_others_with_our_name_is_left_alone() {
    let stack = Scenario::with("foreign_container", redis_only);
    let name = stack.name("live", "cache");
    let id = stack
        .docker
        .create_container(&name, &json!({ "Image": "lockstep/redis:7.0", "Labels": { DECOY: stack.stack } }));
    stack.docker.start(&name);
    let before = stack.docker.identity(&name);
    stack.run(&["apply", "live"]).exits(1).says(&name);
    stack.run(&["down", "live"]).ok();
    assert_eq!(stack.docker.identity(&name), before);
    assert!(stack.docker.running(&id));
    let left: BTreeSet<String> = stack.objects("live");
    assert!(left.iter().all(|object| object == "volume cache.data"), "{left:?}");
    stack.docker.remove_container(&name);
    stack.apply("live");
    stack.is_right("live");
}

/// Names that are there for the time of a change alone are names of ours too.
#[test]
fn a_container_of_others_is_not_taken_for_what_a_change_left() {
    let stack = Scenario::with("foreign_next", project::small);
    stack.apply("live");
    let names = ["web.next", "cache.next", "cache.restore"].map(|name| stack.name("live", name));
    for name in &names {
        let body = json!({ "Image": "lockstep/redis:7.0", "Labels": { DECOY: stack.stack } });
        stack.docker.create_container(name, &body);
        stack.docker.start(name);
    }
    let before: Vec<_> = names.iter().map(|name| stack.docker.identity(name)).collect();
    let backup = stack.run(&["backup", "create", "live", "--json"]).ok().json();
    let id = docker::text(&backup[0], "/id");
    let restored = stack.run(&["restore", "live", &id, "--yes"]);
    assert!(restored.code != 0 && restored.stderr.contains("somebody else's container"), "{restored}");
    // The application has to be replaced, and then the server.
    stack.edit("COLOUR: green", "COLOUR: blue");
    let changed = stack.run(&["apply", "live"]);
    assert_ne!(changed.code, 0, "{changed}");
    stack.edit("COLOUR: blue", "COLOUR: green");
    stack.edit("  cache:\n    image: lockstep/redis:7.0", "  cache:\n    image: lockstep/redis:8.0");
    stack.lock();
    let changed = stack.run(&["apply", "live"]);
    assert_ne!(changed.code, 0, "{changed}");
    let after: Vec<_> = names.iter().map(|name| stack.docker.identity(name)).collect();
    assert_eq!(after, before, "{changed}");
    assert!(names.iter().all(|name| stack.docker.running(name)));
}

#[test]
fn a_network_of_others_with_our_name_is_neither_used_nor_doubled() {
    let stack = Scenario::with("foreign_network", redis_only);
    let name = stack.name("live", "private");
    stack.docker.post("/networks/create", &json!({ "Name": name, "Labels": { DECOY: stack.stack } }));
    let of_that_name = || -> usize {
        let networks = stack.docker.get("/networks");
        networks.as_array().into_iter().flatten().filter(|network| network["Name"] == json!(name)).count()
    };
    let refused = stack.run(&["apply", "live"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(of_that_name(), 1, "no second network of the same name, which would make both unusable by name");
    assert!(!stack.docker.exists("containers", &stack.name("live", "cache")), "nothing runs on it");
}

/// Stack `a-b` with environment `c`, and stack `a` with environment `b-c`, would call everything the same.
#[test]
fn two_stacks_whose_names_run_together_do_not_touch_each_other() {
    let first = Scenario::with("runs_together", redis_only);
    first.environment("eu-live", "");
    first.apply("eu-live");
    first.redis("eu-live").fill(40);
    let cache = first.name("eu-live", "cache");
    let state = |scenario: &Scenario| {
        let network = scenario.docker.get("/networks");
        let network: Vec<Value> = network
            .as_array()
            .into_iter()
            .flatten()
            .filter(|network| network["Name"] == json!(first.name("eu-live", "private")))
            .map(|network| network["Id"].clone())
            .collect();
        (scenario.docker.identity(&cache), network, scenario.files("eu-live"))
    };
    let before = state(&first);

    let second = Scenario::new("runs_together");
    let stack = format!("{}-eu", first.stack);
    second.write_spec(&redis_only(&stack));
    second.environment("live", "");
    second.lock();
    let refused = second.run(&["apply", "live"]);
    let touched = second.docker.labelled(docker::STACK, &stack);
    let after = state(&first);
    second.docker.remove_labelled(docker::STACK, &stack);
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(before, after, "the first stack is as it was");
    assert_eq!(touched, BTreeSet::new(), "nothing was made under a name that is taken");
    first.is_right("eu-live");
    first.redis("eu-live").holds(40);
    second.run(&["down", "live"]);
    first.is_right("eu-live");
}

/// A container that carries the labels under a name of its own, while another of the expected name carries none.
#[test]
fn what_claims_to_be_ours_is_removed_by_what_it_is_and_not_by_a_name() {
    let stack = Scenario::with("foreign_claim", redis_only);
    stack.apply("live");
    let mut labels = stack.docker.inspect(&stack.name("live", "cache"))["Config"]["Labels"].clone();
    labels[RESOURCE] = json!("container/ghost");
    let image = "lockstep/redis:7.0";
    let claiming = format!("{}-elsewhere", stack.stack);
    stack.docker.create_container(&claiming, &json!({ "Image": image, "Labels": labels }));
    let innocent = stack.name("live", "ghost");
    stack.docker.create_container(&innocent, &json!({ "Image": image, "Labels": { DECOY: stack.stack } }));
    let volume_labels = json!({
        docker::STACK: stack.stack, docker::ENVIRONMENT: "live", RESOURCE: "volume/ghost.etc.redis",
        "dev.lockstep.role": "files",
    });
    let volume = format!("{}-elsewhere", stack.stack);
    stack.docker.post("/volumes/create", &json!({ "Name": volume, "Labels": volume_labels }));
    let innocent_volume = stack.name("live", "ghost.etc.redis");
    stack.docker.post("/volumes/create", &json!({ "Name": innocent_volume, "Labels": { DECOY: stack.stack } }));

    assert_eq!(stack.findings("live"), ["container/ghost", "volume/ghost.etc.redis"]);
    let apply = stack.run(&["apply", "live"]);
    assert!(stack.docker.exists("containers", &innocent), "a container without labels was removed: {apply}");
    assert!(stack.docker.exists("volumes", &innocent_volume), "a volume without labels was removed: {apply}");
    assert_eq!(apply.code, 0, "{apply}");
    stack.is_right("live");
}

/// A copy of our container with all its labels, as `docker run` from an inspection would make.
#[test]
fn a_second_container_with_the_same_labels_does_not_hide_the_first() {
    let stack = Scenario::with("foreign_double", redis_only);
    stack.apply("live");
    stack.redis("live").fill(25);
    let cache = stack.name("live", "cache");
    let before = stack.docker.identity(&cache);
    let labels = stack.docker.inspect(&cache)["Config"]["Labels"].clone();
    let double = format!("{}-double", stack.stack);
    stack.docker.create_container(&double, &json!({ "Image": "lockstep/redis:7.0", "Labels": labels }));

    let found = stack.run(&["verify", "live", "--json"]).exits(3);
    let apply = stack.run(&["apply", "live"]);
    assert_eq!(before, stack.docker.identity(&cache), "the one that serves is left alone: {apply}");
    let findings = found.json()["findings"].as_array().cloned().unwrap_or_default();
    assert_eq!(findings.len(), 1, "one container too many, and nothing wrong with the first: {found}");
    stack.redis("live").holds(25);
}

/// What the labels say it is, it stays under another name: its successor must not run beside it.
#[test]
fn a_renamed_container_is_not_left_running_beside_its_successor() {
    let stack = Scenario::with("foreign_renamed", project::small);
    stack.apply("live");
    let name = stack.name("live", "web");
    stack.docker.rename(&name, &format!("{name}-old"));
    stack.edit("COLOUR: green", "COLOUR: red");
    let apply = stack.run(&["apply", "live"]);
    let here: Vec<String> = stack.docker.labelled(RESOURCE, "container/web").into_iter().collect();
    let of_ours: Vec<&String> = here.iter().filter(|object| object.contains(&stack.stack)).collect();
    assert_eq!(of_ours.len(), 1, "one container is the application: {of_ours:?}, {apply}");
    if apply.code == 0 {
        stack.is_right("live");
    }
}

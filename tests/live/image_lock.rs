//! What runs is what the lock pins, whatever a tag says by now.

use crate::support::{Scenario, project};
use serde_json::json;

/// A project whose image has a tag of this test's own.
fn locked(test: &'static str) -> (Scenario, String) {
    let stack = Scenario::new(test);
    let tag = stack.tag("lockstep/redis:7.0", "redis", "7");
    stack.write_spec(&project::redis_only(&stack.stack, &tag));
    stack.environment("live", "");
    (stack, tag)
}

#[test]
fn a_moved_tag_changes_nothing_until_the_lock_is_written_anew() {
    let (stack, _) = locked("lock_moved");
    stack.lock();
    stack.run(&["lock", "--check"]).ok();
    let lock = stack.read("environments/stack.lock");
    stack.apply("live");
    let (old, new) = (stack.docker.image_id("lockstep/redis:7.0"), stack.docker.image_id("lockstep/redis:8.0"));
    let runs = || stack.docker.inspect(&stack.name("live", "cache"))["Image"].clone();
    assert_eq!(runs(), json!(old));

    stack.tag("lockstep/redis:8.0", "redis", "7");
    stack.run(&["plan", "live"]).ok();
    stack.run(&["lock", "--check"]).exits(3);
    assert_eq!(stack.read("environments/stack.lock"), lock, "--check writes nothing");
    stack.docker.remove_container(&stack.name("live", "cache"));
    stack.apply("live");
    assert_eq!(runs(), json!(old), "made anew from the pinned image");
    stack.is_right("live");

    stack.lock();
    stack.run(&["lock", "--check"]).ok();
    stack.run(&["plan", "live"]).exits(3);
    stack.apply("live");
    assert_eq!(runs(), json!(new));
    stack.is_right("live");
}

#[test]
fn without_a_lock_nothing_is_planned() {
    let (stack, tag) = locked("lock_missing");
    stack.run(&["check"]).ok().shows("lockstep lock");
    stack.run(&["plan", "live"]).exits(2).shows(&tag).shows("lockstep lock");
    stack.run(&["apply", "live"]).exits(2).says("lockstep lock");
    assert_eq!(stack.objects("live").len(), 0);
    stack.lock();
    stack.run(&["plan", "live"]).exits(3);
}

#[test]
fn a_pinned_image_that_is_gone_is_named_and_nothing_is_changed() {
    let (stack, tag) = locked("lock_absent");
    stack.lock();
    let id = stack.docker.image_id(&tag);
    let gone = format!("sha256:{}", "0".repeat(64));
    stack.edit_file("environments/stack.lock", &id, &gone);
    stack.run(&["plan", "live"]).exits(2).shows(&tag).shows("does not have it");
    let refused = stack.run(&["apply", "live"]).exits(2).says("nothing was changed");
    assert!(refused.stderr.contains(&tag), "{refused}");
    assert_eq!(stack.objects("live").len(), 0);

    // A running environment keeps running, and is left alone.
    stack.lock();
    stack.apply("live");
    let before = stack.docker.identity(&stack.name("live", "cache"));
    stack.edit_file("environments/stack.lock", &id, &gone);
    stack.run(&["apply", "live"]).exits(2);
    assert_eq!(stack.docker.identity(&stack.name("live", "cache")), before);
}

#[test]
fn an_image_that_nobody_has_cannot_be_locked() {
    let stack = Scenario::new("lock_unknown");
    stack.write_spec(&project::redis_only(&stack.stack, &format!("{}/nothing:1", stack.stack)));
    stack.environment("live", "");
    let refused = stack.run(&["lock"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("/nothing:1"), "{refused}");
    assert!(!stack.path("environments/stack.lock").exists(), "half a lock is none");
}

#[test]
fn a_lock_that_does_not_read_is_said_and_written_anew() {
    let (stack, _) = locked("lock_broken");
    for broken in ["images: {", "lockstep: 1\nimages: { \"a:1\": { id: sha256:12 } }\n", "lockstep: 2\nimages: {}\n"] {
        stack.write("environments/stack.lock", broken);
        stack.run(&["check"]).exits(2).shows("lockstep lock");
        stack.run(&["plan", "live"]).exits(2);
    }
    stack.lock();
    stack.run(&["check"]).ok();
}

#[test]
fn an_application_that_is_built_is_built_when_it_is_locked() {
    let stack = Scenario::new("lock_build");
    let image = format!("{}/built:1", stack.stack);
    let spec = project::small(&stack.stack).replacen(
        "apps:\n  web:\n    image: lockstep/redis:7.0\n",
        &format!("apps:\n  web:\n    image: {image}\n    build: {{ context: ../image }}\n"),
        1,
    );
    assert!(spec.contains(&image));
    stack.write_spec(&spec);
    stack.environment("live", "");
    std::fs::create_dir(stack.path("image")).expect("a folder");
    stack.write("image/Dockerfile", "FROM lockstep/redis:7.0\nCOPY note /etc/note\nUSER 65532:65532\n");
    stack.write("image/note", &stack.stack);
    stack.remove_at_the_end(&image);
    stack.lock();
    let id = stack.docker.image_id(&image);
    assert!(stack.read("environments/stack.lock").contains(&id));
    stack.apply("live");
    assert_eq!(stack.docker.inspect(&stack.name("live", "web"))["Image"], json!(id));
    let note = stack.docker.file_inside(&stack.name("live", "web"), "/etc/note");
    assert_eq!(note, stack.stack.as_bytes());
    stack.is_right("live");
    stack.lock();
    assert_eq!(stack.docker.image_id(&image), id, "the same files are the same image");
    stack.run(&["plan", "live"]).ok();
}

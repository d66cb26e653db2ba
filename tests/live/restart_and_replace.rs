//! What cannot be changed at once costs what it must and no more, and never a key.

use crate::support::{Scenario, docker, project};
use serde_json::{Value, json};

/// The containers of cache and web, each with the start of its process.
fn identities(stack: &Scenario) -> [(String, String); 2] {
    ["cache", "web"].map(|service| stack.docker.identity(&stack.name("live", service)))
}

fn what_changed(before: &[(String, String); 2], after: &[(String, String); 2]) -> [&'static str; 2] {
    [0, 1].map(|index| match (before.get(index), after.get(index)) {
        (Some(before), Some(after)) if before == after => "untouched",
        (Some(before), Some(after)) if before.0 == after.0 => "restarted",
        _ => "replaced",
    })
}

/// Applies a change and says what became of cache and web.
#[track_caller]
fn apply(stack: &Scenario) -> [&'static str; 2] {
    let before = identities(stack);
    let effects = |plan: &Value| -> Vec<String> {
        let steps = plan["steps"].as_array().into_iter().flatten();
        steps.map(|step| format!("{} {}", docker::text(step, "/resource"), docker::text(step, "/effect"))).collect()
    };
    let plan = stack.run(&["plan", "live", "--json"]).exits(3).json();
    stack.apply("live");
    let became = what_changed(&before, &identities(stack));
    for (service, became) in ["cache", "web"].iter().zip(became) {
        let announced = |effect: &str| effects(&plan).contains(&format!("container/{service} {effect}"));
        let expected = match (announced("replace"), announced("restart")) {
            (true, _) => "replaced",
            (false, true) => "restarted",
            (false, false) => "untouched",
        };
        assert_eq!(became, expected, "what the plan announced for {service}: {plan}");
    }
    stack.is_right("live");
    became
}

#[test]
fn settings_that_need_a_restart_get_one_and_the_data_is_reloaded() {
    let stack = Scenario::with("restart", project::small);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(300);
    redis.fill_kinds();
    let contents = redis.contents();
    drop(redis);

    stack.edit("appendonly: yes\n", "appendonly: yes\n      databases: 4\n");
    assert_eq!(apply(&stack), ["restarted", "untouched"]);
    assert_eq!(stack.redis("live").config("databases"), "4");
    stack.redis("live").still_has(&contents, "after a restart");

    // Off, while something else restarts the server: the data must be in the snapshot that it then reads.
    stack.edit("appendonly: yes", "appendonly: no");
    stack.edit("databases: 4", "databases: 5");
    assert_eq!(apply(&stack), ["restarted", "untouched"]);
    assert_eq!(stack.redis("live").config("appendonly"), "no");
    stack.redis("live").still_has(&contents, "without the append-only file");

    // And on: an append-only file that is not whole yet is all that the next start would read.
    stack.redis("live").ask::<()>(&["SET", "page:late", "written since"]);
    let contents = stack.redis("live").contents();
    stack.edit("appendonly: no", "appendonly: yes");
    stack.edit("databases: 5", "databases: 6");
    assert_eq!(apply(&stack), ["restarted", "untouched"]);
    assert_eq!(stack.redis("live").config("appendonly"), "yes");
    stack.redis("live").still_has(&contents, "with the append-only file again");

    // Live, both ways, and then a restart by hand: what is on disk is what was in memory.
    for (from, to) in [("yes", "no"), ("no", "yes")] {
        stack.edit(&format!("appendonly: {from}"), &format!("appendonly: {to}"));
        assert_eq!(apply(&stack), ["untouched", "untouched"]);
        stack.docker.restart(&stack.name("live", "cache"));
        stack.redis_again("live").still_has(&contents, &format!("appendonly {to}, restarted by hand"));
    }
    assert_eq!(stack.backups("live").len(), 5, "one before each change");
}

#[test]
fn a_cache_that_is_kept_nowhere_is_announced_as_lost_before_it_is() {
    let stack = Scenario::with("cold_cache", project::small);
    stack.edit("appendonly: yes", "appendonly: no\n      save: \"\"");
    stack.edit("limits: { memory: 64mb }", "limits: { memory: 64mb }\n    stop_grace: 2s");
    stack.apply("live");
    stack.redis("live").fill(20);

    stack.edit("save: \"\"", "save: \"\"\n      databases: 4");
    let plan = stack.run(&["plan", "live", "--json"]).exits(3).json();
    let steps = plan["steps"].as_array().cloned().unwrap_or_default();
    let risks: Vec<&Value> = steps.iter().map(|step| &step["risk"]).filter(|risk| **risk != json!("none")).collect();
    assert!(matches!(risks.as_slice(), [risk] if risk["cold-cache"]["keys"] == json!(20)), "{risks:?}");
    stack.apply("live");
    assert_eq!(stack.redis("live").ask::<usize>(&["DBSIZE"]), 0);
    let backups = stack.backups("live");
    assert_eq!(backups.first().map(|backup| &backup["keys"]), Some(&json!(20)), "the backup has what is gone");

    // With snapshots it is kept. A server that cannot write its last one does not end, and is killed.
    stack.edit("save: \"\"", "save: \"3600 1\"");
    stack.apply("live");
    stack.redis("live").fill(20);
    read_only(&stack);
    stack.edit("databases: 4", "databases: 5");
    let ran = stack.run(&["apply", "live"]).exits(5).says("was ended before it had saved");
    let help = ran.stderr.lines().find(|line| line.contains("what it held is in backup"));
    let help = help.unwrap_or_else(|| panic!("what holds its keys is said: {ran}"));
    let backups = stack.backups("live");
    let mut held = backups.iter().filter(|backup| backup["keys"] == json!(20));
    assert!(held.any(|backup| help.contains(&docker::text(backup, "/id"))), "{help}");
    assert_eq!(stack.redis("live").config("databases"), "4");
}

/// Takes the folder of its data away from the Redis, until lockstep gives it back before the next start.
fn read_only(stack: &Scenario) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o555);
    header.set_uid(0);
    header.set_gid(0);
    let mut folder = tar::Builder::new(Vec::new());
    folder.append_data(&mut header, "d/cache.data/", std::io::empty()).expect("a tar in memory");
    let folder = folder.into_inner().expect("a tar in memory");
    let path = format!("/containers/{}/archive?path=/", stack.name("live", "files"));
    let reply = stack.docker.try_ask("PUT", &path, "application/x-tar", &folder).expect("the engine");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn a_newer_image_replaces_the_container_and_the_data_stays() {
    let stack = Scenario::with("replace_image", project::small);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(100);
    redis.fill_kinds();
    let keys = redis.ask::<usize>(&["DBSIZE"]);
    drop(redis);

    let (cache, app) = stack
        .read("environments/stack.yaml")
        .split_once("apps:")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("apps");
    stack.write_spec(&format!("{}apps:{app}", cache.replace("lockstep/redis:7.0", "lockstep/redis:8.0")));
    stack.run(&["plan", "live"]).exits(2).shows("lockstep lock");
    stack.lock();
    assert_eq!(apply(&stack), ["replaced", "untouched"]);
    let mut redis = stack.redis("live");
    let info: String = redis.ask(&["INFO", "server"]);
    assert!(info.contains("redis_version:8.0"), "{info}");
    assert_eq!(redis.ask::<usize>(&["DBSIZE"]), keys);
    assert_eq!(redis.ask::<String>(&["HGET", "page:hash", "field"]), "value");
    assert_eq!(redis.ask::<String>(&["GET", "page:77"]), "<p>page 77</p>");
    let backups = stack.backups("live");
    assert_eq!(backups.len(), 1);
    assert_eq!(backups.first().map(|backup| docker::text(backup, "/server")).as_deref(), Some("redis 7.0.15"));
}

#[test]
fn a_change_of_the_application_leaves_redis_alone() {
    let stack = Scenario::with("replace_app", project::site);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.fill(10);

    stack.edit("WORKERS: \"1\"", "WORKERS: \"2\"");
    assert_eq!(apply(&stack), ["untouched", "replaced"]);

    stack.edit_file("templates/site.toml.tera", "page_ttl_seconds = 600", "page_ttl_seconds = 601");
    assert_eq!(apply(&stack), ["untouched", "restarted"]);
    let file = stack.docker.file_inside(&stack.name("live", "web"), "/etc/site/site.toml");
    assert!(String::from_utf8_lossy(&file).contains("= 601"), "the running container sees the new file");

    stack.edit("limits: { memory: 64mb, pids: 32 }", "limits: { memory: 72mb, pids: 40 }");
    assert_eq!(apply(&stack), ["untouched", "untouched"], "limits are changed in place");
    redis.holds(10);
    assert_eq!(stack.backups("live").len(), 0, "no plan touched Redis");
}

#[test]
fn a_rotated_secret_reaches_redis_and_the_application_and_the_old_one_is_refused() {
    let stack = Scenario::with("rotate_secret", project::site);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.fill(10);
    let (old, new) = (stack.password("live", "app"), format!("{}rotated", stack.sentinel));

    stack.secrets("live", &new, &stack.password("live", "hand"));
    let plan = stack.run(&["plan", "live", "--json"]).exits(3);
    assert!(!plan.stdout.contains(&new) && !plan.stdout.contains(&old), "a plan shows no secret");
    assert_eq!(apply(&stack), ["untouched", "restarted"]);

    let address = stack.redis_address("live");
    let with_old =
        crate::support::Redis::connect(&address, "app", &old).and_then(|mut redis| redis.try_ask::<String>(&["PING"]));
    assert!(with_old.is_err(), "the old password is refused");
    stack.redis_as("live", "app", &new).ask::<Option<String>>(&["GET", "page:1"]);
    let file = stack.docker.file_inside(&stack.name("live", "web"), "/run/secrets/app_password");
    assert_eq!(file, new.as_bytes());
    stack.redis("live").holds(10);
}

#[test]
fn a_service_that_leaves_the_spec_goes_and_its_data_stays() {
    let stack = Scenario::with("service_leaves", project::small);
    stack.apply("live");
    let complete = stack.objects("live");
    stack.redis("live").fill(60);
    let spec = stack.read("environments/stack.yaml");
    // Another Redis comes, and this one goes.
    let moved = spec.replace("  cache:\n", "  store:\n").replace("needs: [cache]", "needs: [store]");
    stack.write("environments/stack.yaml", &moved);
    stack.apply("live");
    assert!(!stack.docker.exists("containers", &stack.name("live", "cache")));
    assert!(stack.docker.exists("volumes", &stack.name("live", "cache.data")), "data stays");
    assert!(!stack.docker.exists("volumes", &stack.name("live", "cache.etc.redis")), "files go");
    assert_eq!(stack.backups("live").first().map(|backup| backup["keys"].clone()), Some(json!(60)));
    stack.is_right("live");
    stack.run(&["plan", "live"]).ok();

    stack.write("environments/stack.yaml", &spec);
    stack.apply("live");
    stack.redis("live").holds(60);
    stack.is_right("live");
    stack.run(&["down", "live", "--delete-data", "store.data", "--yes"]).ok();
    stack.apply("live");
    assert_eq!(stack.objects("live"), complete);
    stack.redis("live").holds(60);
}

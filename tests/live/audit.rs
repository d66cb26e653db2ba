//! The audit of what really runs: nothing is found on a stack that lockstep made, and what is spoilt by hand is found
//! under its id.

use crate::support::docker::{ENVIRONMENT, RESOURCE, STACK};
use crate::support::{Scenario, project};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// The site, without the user who may do everything, and with what is asked of it.
fn guarded(stack: &str) -> String {
    let spec = project::site(stack);
    let hand = spec.lines().find(|line| line.trim_start().starts_with("hand:")).expect("a user `hand`").to_owned();
    let spec = spec.replace(r#""-@dangerous", "ping""#, r#""-@dangerous", "-@scripting", "ping""#);
    let asked = "\nsecurity:\n  headers: { content-security-policy: required, x-frame-options: DENY }\n  upload_limit: \
                 100000b\n  upload_path: /uploads\n";
    format!("{}{asked}", spec.replace(&format!("{hand}\n"), ""))
}

/// What does not pass, as `PERM-01 web`.
fn with(report: &Value, verdict: &str) -> BTreeSet<String> {
    let checks = report["checks"].as_array().expect("checks").iter();
    let found = checks.filter(|check| check["verdict"] == verdict);
    found.map(|check| format!("{} {}", check["id"], check["subject"]).replace('"', "")).collect()
}

fn evidence(report: &Value, id: &str, subject: &str) -> String {
    let mut checks = report["checks"].as_array().expect("checks").iter();
    let found = checks.find(|check| check["id"] == id && check["subject"] == subject);
    found.map_or_else(|| panic!("{id} says nothing of {subject}"), |check| check["evidence"].to_string())
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What this machine, and a project that was just made, cannot have: no backup was taken, and none is encrypted.
const MADE_SO: [&str; 4] = ["SEC-08 backups", "BKP-01 cache", "BKP-02 cache", "BKP-03 backups"];

#[test]
fn what_lockstep_made_passes_and_what_is_spoilt_by_hand_is_found_under_its_id() {
    let stack = Scenario::with("audit", guarded);
    stack.apply("live");
    let ran = stack.run(&["audit", "live", "--json"]).exits(3);
    let sound = ran.json();
    let mut failed = with(&sound, "fail");
    failed.remove("RDS-04 host");
    assert!(failed.is_subset(&set(&MADE_SO)), "on what lockstep made: {failed:?}\n{ran}");
    assert_eq!(with(&sound, "unknown"), set(&[]), "everything could be read: {ran}");
    for read in
        ["PERM-04 cache", "PERM-04 web", "PERM-10 cache", "SEC-03 web", "HDR-03 web", "UPL-01 web", "LOG-04 ledger"]
    {
        assert!(with(&sound, "pass").contains(read), "{read}: {ran}");
    }
    // What a backup with a drill proves is seen, and what is accepted fails no longer.
    stack.run(&["backup", "create", "live"]).ok();
    stack.run(&["backup", "drill", "live"]).ok();
    stack.edit(
        "security:\n",
        "security:\n  accept:\n    SEC-08: { why: a test, until: 2999-01-31 }\n    BKP-03: { why: a test, until: 2999-01-31 }\n    PERM-02: { why: a test, until: 2999-01-31 }\n    RDS-04: { why: a test, until: 2999-01-31 }\n",
    );
    let text = stack.run(&["audit", "live"]).exits(3);
    assert!(text.stdout.contains("until 2999-01-31: a test"), "{text}");
    let report = stack.run(&["audit", "live", "--json"]).exits(3).json();
    let mut failed = with(&report, "fail");
    // On a machine that is set for a Redis, and with backups elsewhere, these are not needed.
    failed.retain(|found| !["ACC-02 RDS-04", "ACC-02 BKP-03"].contains(&found.as_str()));
    assert_eq!(failed, set(&["ACC-02 PERM-02"]), "an acceptance that nothing needs is found itself");
    stack.edit("    PERM-02: { why: a test, until: 2999-01-31 }\n", "");

    // Everything at once, on what runs.
    let secret = stack.password("live", "app");
    let mut redis = stack.redis_as_lockstep("live");
    redis.ask::<()>(&["ACL", "SETUSER", "app", "nopass", "+flushall"]);
    redis.ask::<()>(&["CONFIG", "SET", "acllog-max-len", "1"]);
    redis.ask::<()>(&["CONFIG", "SET", "appendonly", "no"]);
    redis.ask::<()>(&["CONFIG", "SET", "save", ""]);
    let files = stack.name("live", "files");
    stack.docker.put_file(&files, "/v/web.run.secrets/current", "app_password", secret.as_bytes(), 65532, 0o444);
    ghost(&stack, &secret);
    fs::set_permissions(stack.backup_folder("live"), fs::Permissions::from_mode(0o755)).expect("permissions");
    let ran = stack.run(&["audit", "live", "--json"]).exits(3);
    let spoilt = ran.json();
    let failed = with(&spoilt, "fail");
    let ghost = stack.name("live", "ghost");
    let of_ghost =
        ["PERM-01", "PERM-03", "PERM-04", "PERM-06", "PERM-12", "PERM-13", "SEC-01", "SEC-02", "SEC-03", "LOG-01"];
    let mut expected: Vec<String> = of_ghost.iter().map(|id| format!("{id} {ghost}")).collect();
    expected.extend(
        [
            "PERM-10 cache",
            "LOG-03 cache",
            "RDS-01 cache",
            "SEC-05 web",
            "PERM-09 the folder of the environment's backups",
        ]
        .map(str::to_owned),
    );
    let master = stack.name("live", "master");
    expected.extend(["PERM-02", "PERM-03", "PERM-05"].map(|id| format!("{id} {master}")));
    // What it was told, it wrote down before it ended.
    expected.extend(["LOG-02", "LOG-07"].map(|id| format!("{id} {}", stack.name("live", "babbler"))));
    for finding in &expected {
        assert!(failed.contains(finding), "{finding} is not among {failed:?}\n{ran}");
    }
    assert!(evidence(&spoilt, "PERM-10", "cache").contains("needs no password"), "{ran}");
    assert!(evidence(&spoilt, "PERM-04", &ghost).contains("runs as root"), "{ran}");
    assert!(!stack.said().contains(&stack.sentinel), "no secret is shown");

    // Secrets that cannot be read leave the rest of the checks as they are.
    let file = stack.path("environments/secrets/live.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("permissions");
    let report = stack.run(&["audit", "live", "--json"]).exits(3).json();
    assert!(with(&report, "fail").contains("PERM-09 environments/secrets/live.yaml"));
    assert!(with(&report, "unknown").contains("SEC-07 secrets"));
}

/// A container with the environment's labels that somebody made, with everything that one should not have.
fn ghost(stack: &Scenario, secret: &str) {
    let labels =
        json!({ STACK: stack.stack, ENVIRONMENT: "live", RESOURCE: "container/ghost", "dev.lockstep.role": "redis" });
    let body = json!({
        "Image": "lockstep/redis:7.0",
        "User": "0:0",
        "Cmd": ["redis-server", "--port", "7000", "--requirepass", secret, "--save", "", "--set-proc-title", "no"],
        "Env": [format!("APP_PASSWORD={secret}")],
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": stack.name("live", "private"),
            "LogConfig": { "Type": "none" },
            "Binds": ["/var/run/docker.sock:/run/docker.sock", "/etc:/host-etc"],
            "PortBindings": { "7000/tcp": [{ "HostIp": "", "HostPort": "" }] },
        },
    });
    let name = stack.name("live", "ghost");
    stack.docker.create_container(&name, &body);
    stack.docker.start(&name);
    // Not every engine can start one like this, and it is judged all the same.
    let host = json!({ "Privileged": true, "CapAdd": ["SYS_ADMIN"], "PidMode": "host" });
    let mut master = body.clone();
    master["Labels"][RESOURCE] = json!("container/master");
    master["HostConfig"] = host;
    stack.docker.create_container(&stack.name("live", "master"), &master);
    // A setting that no server knows is quoted in its log.
    let mut body = body;
    body["Cmd"] = json!(["redis-server", "--no-such-setting", secret]);
    body["Labels"][RESOURCE] = json!("container/babbler");
    body["HostConfig"] = json!({});
    let name = stack.name("live", "babbler");
    stack.docker.create_container(&name, &body);
    stack.docker.start(&name);
    stack.docker.wait(&name);
}

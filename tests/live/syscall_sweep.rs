//! SIGKILL at the system calls of a capture, a prune and a warm restore, one run for each: what was listed before is still
//! whole, what is listed after is whole, and what was begun can be gone on with or taken back.

use crate::support::docker::text;
use crate::support::{Scenario, project};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs that are enough to meet every phase; with `SWEEP=whole` every call is met.
const USUAL: usize = 24;

fn redis_7(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

#[track_caller]
fn backed_up(stack: &Scenario) -> String {
    text(&stack.run(&["backup", "create", "live", "--json"]).ok().json(), "/0/id")
}

fn listed(stack: &Scenario) -> BTreeSet<String> {
    stack.backups("live").iter().map(|manifest| text(manifest, "/id")).collect()
}

/// The calls at which the command is killed: all, or so many that lie evenly. The last is one that it never reaches.
fn moments(calls: usize) -> Vec<usize> {
    let step = if std::env::var_os("SWEEP").is_some() { 1 } else { calls.div_ceil(USUAL) };
    (1..=calls).step_by(step).chain([calls * 2]).collect()
}

/// A run that was killed at a system call of this number, or came to its end: the calls that it made, and whether it was killed.
#[track_caller]
fn killed_at(stack: &Scenario, number: usize, arguments: &[&str]) -> (usize, bool) {
    let lockstep = stack.command(arguments, None);
    // Built with everything else: `tests/trace`.
    let trace = Path::new(env!("CARGO_BIN_EXE_lockstep")).with_file_name("trace");
    let mut command = Command::new(&trace);
    command.arg(number.to_string()).arg(lockstep.get_program()).args(lockstep.get_args());
    command.env_clear().current_dir(stack.path("")).stdin(Stdio::null());
    let ran = command.output().unwrap_or_else(|error| panic!("{}: {error}; `make build` builds it", trace.display()));
    let (said, heard) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    match said.split_whitespace().collect::<Vec<_>>()[..] {
        [calls, "killed"] => (calls.parse().expect("a number"), true),
        [calls, "exit", "0"] => (calls.parse().expect("a number"), false),
        _ => panic!("{arguments:?}, to be killed at call {number}: {said}{heard}"),
    }
}

/// Runs the command whole, and then once for each of the moments at which it is killed.
#[track_caller]
fn sweep(stack: &Scenario, arguments: &[&str], mut before: impl FnMut(), mut after: impl FnMut(usize, bool)) {
    before();
    let (calls, killed) = killed_at(stack, 0, arguments);
    assert!(calls > 20 && !killed, "{arguments:?} makes {calls} calls that change something");
    after(0, false);
    for moment in moments(calls) {
        before();
        let (_, killed) = killed_at(stack, moment, arguments);
        after(moment, killed);
    }
}

#[test]
fn a_capture_that_is_killed_at_any_call_leaves_every_backup_whole() {
    let stack = Scenario::with("syscalls_capture", redis_7);
    stack.edit("redis:\n  cache:", "backup: { to: ../backups, keep: { last: 1000 } }\n\nredis:\n  cache:");
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(200);
    redis.fill_kinds();
    let first = backed_up(&stack);
    let mut before = BTreeSet::from([first]);
    sweep(
        &stack,
        &["backup", "create", "live"],
        || (),
        |moment, killed| {
            let now = listed(&stack);
            assert!(now.is_superset(&before), "killed at call {moment}: {before:?} were listed, {now:?} are");
            assert!(killed || now.len() == before.len() + 1, "at {moment}, not killed: {now:?}");
            // Each that is new; the others are looked at again at the end.
            for id in now.difference(&before) {
                stack.run(&["backup", "verify", "live", id]).ok();
            }
            before = now;
        },
    );
    stack.run(&["backup", "verify", "live", "--all"]).ok();
    stack.run(&["backup", "prune", "live"]).ok();
    let folder = stack.backup_folder("live");
    let folders = std::fs::read_dir(&folder).expect("the backups").flatten().filter(|entry| entry.path().is_dir());
    let folders: BTreeSet<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let kept: BTreeSet<String> = folders.into_iter().filter(|name| name.starts_with("cache-")).collect();
    assert_eq!(kept, listed(&stack), "what broke off is given back");
}

#[test]
fn a_prune_that_is_killed_at_any_call_leaves_every_backup_whole() {
    let stack = Scenario::with("syscalls_prune", redis_7);
    let spec = stack.read("environments/stack.yaml");
    stack.apply("live");
    stack.redis("live").fill(50);
    let keep =
        |keep: &str| stack.write("environments/stack.yaml", &format!("{spec}\nbackup: {{ to: ../backups{keep} }}\n"));
    sweep(
        &stack,
        &["backup", "prune", "live"],
        || {
            // Nothing is removed at the end of these.
            keep("");
            while listed(&stack).len() < 5 {
                backed_up(&stack);
            }
            keep(", keep: { last: 2 }");
        },
        |moment, killed| {
            let left = listed(&stack);
            assert!(left.len() >= 2, "killed at call {moment}: {left:?}");
            assert!(killed || left.len() == 2, "at {moment}, not killed: {left:?}");
            stack.run(&["backup", "verify", "live", "--all"]).ok();
            stack.run(&["backup", "prune", "live"]).ok();
            assert_eq!(listed(&stack).len(), 2, "the next one goes on");
        },
    );
}

#[test]
fn a_warm_restore_that_is_killed_at_any_call_can_be_taken_back() {
    let stack = Scenario::with("syscalls_warm", redis_7);
    stack.apply("live");
    let mut redis = stack.redis("live");
    redis.fill(300);
    redis.fill_kinds();
    let id = backed_up(&stack);
    redis.ask::<()>(&["DEL", "page:string", "page:list", "page:7"]);
    redis.ask::<()>(&["SET", "page:11", "written since", "EX", "86400"]);
    redis.ask::<()>(&["SET", "own", "stays"]);
    let contents = redis.contents();
    let journals = stack.path("backups/.restores");
    sweep(
        &stack,
        &["restore", "live", &id, "--warm", "--yes"],
        || {
            let _ = std::fs::remove_dir_all(&journals);
        },
        |moment, _| {
            let mut undone = false;
            for entry in std::fs::read_dir(&journals).into_iter().flatten().flatten() {
                let journal = entry.path();
                let ran = stack.run(&["restore", "live", "--undo", journal.to_str().expect("text"), "--anywhere"]);
                // One that broke off in its first line says that nothing was sent yet.
                assert!(ran.code == 0 || ran.code == 2, "killed at call {moment}: {ran}");
                undone |= ran.code == 0;
            }
            let when = format!("killed at call {moment}, taken back: {undone}");
            redis.still_has(&contents, &when);
        },
    );
    stack.run(&["backup", "verify", "live", "--all"]).ok();
    stack.apply("live");
    stack.is_right("live");
}

//! A copy of the stack for one command: the command gets it, and nothing of it is left, however either ends.

use crate::support::{At, Fault, Proxy, Redis, Running, Scenario, docker, project, until};
use lockstep::engine::{Engine, Names};
use lockstep::value::Name;
use lockstep::world::hold::living;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// How often something is killed, unless `LOCKSTEP_TEST_KILLS` says otherwise.
const KILLS: usize = 12;
/// Of which so many at the same time.
const AT_ONCE: usize = 4;

fn redis_only(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

/// Everything of a stack, whichever environment it belongs to.
pub(crate) fn all(stack: &Scenario) -> BTreeSet<String> {
    stack.docker.labelled(docker::STACK, &stack.stack)
}

/// A run now leaves nothing but what was planted. What a run that was killed had asked of a busy engine may come later,
/// and is for one more; what was there when a run began must be gone when it ends.
#[track_caller]
fn the_next_run_leaves_nothing(stack: &Scenario, planted: &BTreeSet<String>, when: &str) {
    let sweep = || {
        let before = all(stack);
        let ran = stack.run(&["run", "live", "--", "/bin/sh", "-c", "exit 0"]).ok();
        let now = all(stack);
        let left: Vec<&String> = now.intersection(&before).filter(|object| !planted.contains(*object)).collect();
        assert!(left.is_empty(), "{when}, {left:?} were left: {ran}");
        assert!(planted.is_subset(&now), "{when}, something of others is gone: {ran}");
    };
    sweep();
    let mut clean: Option<Instant> = None;
    until(&format!("nothing to be left, {when}"), || {
        if all(stack) != *planted {
            clean = None;
            sweep();
            return None;
        }
        let since = clean.get_or_insert_with(Instant::now);
        (since.elapsed() > Duration::from_secs(2)).then_some(())
    });
}

/// What the command of a run wrote into a file, once it is there whole.
#[track_caller]
pub(crate) fn told(stack: &Scenario, running: &Running<'_>, file: &str) -> Vec<String> {
    running.until("the command to begin", || {
        let text = fs::read_to_string(stack.path(file)).ok().filter(|text| text.ends_with('\n'))?;
        Some(text.split_whitespace().map(str::to_owned).collect())
    })
}

/// A command that says what it got and waits to be told to end.
pub(crate) fn waiting(file: &str) -> String {
    format!(
        "echo $$ $LOCKSTEP_ENVIRONMENT $LOCKSTEP_WEB_HOST:$LOCKSTEP_WEB_PORT $LOCKSTEP_CACHE_HOST:$LOCKSTEP_CACHE_PORT \
         > {file}.part; mv {file}.part {file}; while [ ! -e {file}.end ]; do sleep 0.05; done"
    )
}

fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// Objects that look like those of a copy and are somebody else's: each lacks one of the things that have to agree.
fn plant(stack: &Scenario) -> Vec<(&'static str, String)> {
    let name = |rest: &str| format!("{}-{rest}", stack.stack);
    let labels = |environment: &str, base: Option<&str>, resource: &str| {
        let mut labels = json!({
            docker::STACK: stack.stack, docker::ENVIRONMENT: environment, docker::RESOURCE: resource,
            "dev.lockstep.role": "data", docker::DECOY: stack.stack,
        });
        if let Some(base) = base {
            labels["dev.lockstep.ephemeral"] = json!(base);
            labels["dev.lockstep.until"] = json!("holder");
        }
        labels
    };
    let all = [
        // The name alone.
        ("containers", name("live-0a1b2c-cache"), json!({ docker::DECOY: stack.stack })),
        ("volumes", name("live-0a1b2c-cache.data"), json!({ docker::DECOY: stack.stack })),
        ("networks", name("live-0a1b2c-private"), json!({ docker::DECOY: stack.stack })),
        // Every label but the mark.
        ("volumes", name("live-1a1b2c-cache.data"), labels("live-1a1b2c", None, "volume/cache.data")),
        // The mark, under another name than its own.
        ("volumes", name("elsewhere"), labels("live-2a1b2c", Some("live"), "volume/cache.data")),
        // The mark on an environment that lasts.
        ("volumes", name("live-other.data"), labels("live", Some("live"), "volume/other.data")),
        ("networks", name("production-private"), labels("production", Some("production"), "network/private")),
        // A seed's name alone, and its marks under another name.
        ("volumes", name("seed-0123456789abcdef-0a1b2c"), json!({ docker::DECOY: stack.stack })),
        ("volumes", name("seeds"), labels("seed-0123456789abcdef", Some("seed"), "volume/0a1b2c")),
        // The mark of another base, and a time that nobody can read.
        ("volumes", name("live-3a1b2c-cache.data"), labels("live-3a1b2c", Some("ci"), "volume/cache.data")),
        ("volumes", name("live-4a1b2c-cache.data"), {
            let mut labels = labels("live-4a1b2c", Some("live"), "volume/cache.data");
            labels["dev.lockstep.until"] = json!("soon");
            labels
        }),
    ];
    for (kind, name, labels) in &all {
        match *kind {
            "containers" => {
                _ = stack.docker.create_container(name, &json!({ "Image": "lockstep/redis:7.0", "Labels": labels }))
            }
            kind => _ = stack.docker.post(&format!("/{kind}/create"), &json!({ "Name": name, "Labels": labels })),
        }
    }
    all.into_iter().map(|(kind, name, _)| (kind, name)).collect()
}

#[test]
fn a_command_gets_the_stack_and_its_code_and_output_are_those_of_the_run() {
    let stack = Scenario::with("run", project::site);
    let decoys = plant(&stack);
    let planted = all(&stack);
    stack.write(
        "environments/stack.yaml",
        &format!(
            "{}\nrun:\n  env:\n    REDIS_URL: \"redis://app:{{{{ secret.app_password | urlencode }}}}@{{{{ cache.host }}}}:{{{{ cache.port }}}}\"\n    SITE: \"{{{{ web.url }}}}/articles\"\n",
            stack.read("environments/stack.yaml")
        ),
    );
    let artifacts = stack.path("kept");
    let script =
        format!("{}; echo \"only this\"; echo \"$REDIS_URL\" > url; echo \"$SITE\" > site; exit 7", waiting("a"));
    let arguments = ["run", "live", "--artifacts", artifacts.to_str().expect("text"), "--", "/bin/sh", "-c", &script];
    let running = stack.start(&arguments, None);
    let told = told(&stack, &running, "a");
    let [_, name, web, cache] = &told[..] else { panic!("{told:?}") };
    assert!(name.starts_with("live-") && name.len() == 11, "{name}");
    assert!(page(web, "/healthz").starts_with("HTTP/1.1 200"), "the site answers at {web}");
    let host = cache.strip_suffix(":6379").expect("the port of Redis");
    let mut redis = Redis::connect(host, "app", &stack.password("live", "app")).expect("the Redis answers");
    assert_eq!(redis.ask::<String>(&["SET", "page:1", "x"]), "OK");
    let listed = stack.run(&["list", "--json"]).ok().json();
    assert_eq!(docker::text(&listed, "/environments/0/environment"), *name);
    assert_eq!(docker::text(&listed, "/environments/0/state"), "held");
    stack.run(&["down", name]).exits(4).says("is in use by");
    stack.run(&["verify", name]).ok();
    stack.run(&["apply", name]).exits(2).says("is called like a copy");
    stack.write("a.end", "");
    let ran = running.finish().exits(7);
    assert_eq!(ran.stdout, "only this\n", "standard output is the command's: {ran}");
    assert!(ran.stderr.contains("GET /healthz 200"), "the last lines of the site: {ran}");
    assert!(!ran.stderr.contains("was left by"), "its own copy is nothing that somebody left: {ran}");
    assert!(ran.stderr.contains("Ready to accept connections"), "the last lines of the Redis: {ran}");
    let url = stack.read("url");
    assert!(url.starts_with("redis://app:s3ntinel%2F") && url.trim_end().ends_with(cache.as_str()), "{url}");
    assert_eq!(stack.read("site").trim_end(), format!("http://{web}/articles"));
    let junit = fs::read_to_string(artifacts.join("junit.xml")).expect("a JUnit file");
    assert!(junit.contains("`/bin/sh` ended with exit status: 7"), "{junit}");
    let verified: Value =
        serde_json::from_slice(&fs::read(artifacts.join("verify.json")).expect("a report")).expect("JSON");
    assert_eq!(docker::text(&verified, "/environments/0"), *name);
    for log in ["cache.log", "web.log"] {
        let text = fs::read_to_string(artifacts.join(log)).expect("a log");
        assert!(text.lines().count() > 2 && !text.contains(&stack.sentinel), "{log}: {text}");
    }
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(&stack.sentinel), "a secret was shown");
    assert_eq!(all(&stack), planted, "nothing is left, and nothing of others was touched");
    for (kind, name) in decoys {
        let there = if kind == "volumes" || kind == "networks" {
            stack.docker.exists(kind, &name)
        } else {
            stack.docker.exists("containers", &name)
        };
        assert!(there, "{kind} {name} of others is gone");
    }
}

/// Two checkouts of one project, and one of them dies in every part.
#[test]
fn copies_of_two_checkouts_run_side_by_side_and_what_a_killed_run_leaves_goes_with_the_next() {
    let one = Scenario::with("run_beside", project::site);
    let other = Scenario::new("run_beside");
    other.write_spec(&one.read("environments/stack.yaml"));
    other.environment("live", "port: 8080");
    other.lock();
    let (script_one, script_other) = (waiting("one"), waiting("other"));
    let killed = one.start(&["run", "live", "--", "/bin/sh", "-c", &script_one], None);
    let lives = other.start(&["run", "live", "--", "/bin/sh", "-c", &script_other], None);
    let (of_one, of_other) = (told(&one, &killed, "one"), told(&other, &lives, "other"));
    assert_ne!(of_one[1], of_other[1], "names");
    assert_ne!(of_one[2], of_other[2], "ports");
    for address in [&of_one[2], &of_other[2]] {
        assert!(page(address, "/healthz").starts_with("HTTP/1.1 200"));
    }
    killed.signal(Signal::KILL);
    // The command of a run that is gone goes on until it ends by itself.
    one.write("one.end", "");
    let ran = killed.finish();
    assert_eq!(ran.signal, Some(9), "{ran}");
    // While the other copy lives, nobody takes it for one that was left.
    let swept = one.run(&["run", "live", "--", "/bin/sh", "-c", "exit 0"]).ok();
    assert!(swept.stderr.contains(&format!("{} was left by a run that is gone", of_one[1])), "{swept}");
    assert!(page(&of_other[2], "/healthz").starts_with("HTTP/1.1 200"), "the other one was disturbed");
    other.write("other.end", "");
    lives.finish().ok();
    the_next_run_leaves_nothing(&one, &BTreeSet::new(), "after the run that was killed");
}

#[test]
fn a_signal_goes_on_to_the_command_and_a_command_that_a_signal_ends_says_so() {
    let stack = Scenario::with("run_signal", redis_only);
    let script = format!("trap 'echo stopped; exit 0' TERM; {}", waiting("a"));
    let running = stack.start(&["run", "live", "--", "/bin/sh", "-c", &script], None);
    told(&stack, &running, "a");
    running.signal(Signal::TERM);
    let ran = running.finish().exits(143);
    assert_eq!(ran.stdout, "stopped\n", "the command heard it: {ran}");
    stack.run(&["run", "live", "--", "/bin/sh", "-c", "kill -9 $$"]).exits(137);
    stack.run(&["run", "live", "--", "/no/such/command"]).exits(2).says("could not run `/no/such/command`");
    assert_eq!(all(&stack), BTreeSet::new());
}

/// An engine that makes a container lists it before it knows it by its id; and somebody may tidy up what does not run.
#[test]
fn a_copy_whose_lock_is_not_known_yet_or_was_tidied_away_is_left_alone() {
    let stack = Scenario::with("run_listed", redis_only);
    let arguments = ["run", "live", "--", "/bin/sh", "-c", &waiting("a")];
    // Its lock is made again after 10 s.
    let running = stack.start_with(&arguments, None, &[("LOCKSTEP_LOCK_LEASE", "200s")]);
    let copy = told(&stack, &running, "a")[1].clone();
    let there = all(&stack);
    let lock = stack.name(&copy, "lock");
    let id = docker::text(&stack.docker.inspect(&lock), "/Id");
    let proxy = Proxy::start();
    proxy.arm(At::Matching("GET", format!("/containers/{id}/json")), Fault::Deny);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let holder = runtime.block_on(async {
        let engine = Engine::connect(&proxy.address()).await.expect("the engine");
        let name = |text: &str| Name::parse(text).expect("a name");
        living(&engine, &Names::lasting(name(&stack.stack), name(&copy))).await.expect("an answer")
    });
    let asked = proxy.calls().into_iter().filter(|call| call.path.contains(&id)).count();
    assert!(asked > 1 && holder.is_some(), "asked {asked} times: {holder:?}");
    stack.docker.remove_container(&lock);
    stack.run(&["down", &copy]).exits(4).says("is in use by");
    stack.run(&["run", "live", "--", "/bin/sh", "-c", "exit 0"]).ok();
    until("the lock to be made again", || stack.docker.exists("containers", &lock).then_some(()));
    assert_eq!(all(&stack), there);
    stack.write("a.end", "");
    running.finish().ok();
    assert_eq!(all(&stack), BTreeSet::new());
}

#[test]
fn a_copy_for_several_steps_stays_until_its_time_is_over_or_somebody_takes_it_down() {
    let stack = Scenario::with("run_up", redis_only);
    stack.environment("production", "");
    stack.edit_file("environments/production.yaml", "values", "protected: true\nvalues");
    stack.run(&["up", "production", "--ephemeral"]).exits(4).says("is protected");
    stack.run(&["apply", "production", "--yes", "--reason", "test"]).ok();
    let up = stack.run(&["up", "live", "--ephemeral", "--ttl", "1h", "--output", "json"]).ok().json();
    let (name, url) = (docker::text(&up, "/environment"), docker::text(&up, "/services/cache/url"));
    assert_eq!(url, format!("redis://{}:6379", docker::text(&up, "/services/cache/host")), "two users: nobody's");
    let hand = docker::text(&up, "/env/LOCKSTEP_CACHE_HAND_URL");
    assert!(hand.starts_with("redis://hand:s3ntinel%2F"), "{hand}");
    let compared = stack.run(&["verify", "production", &name, "--json"]).ok().json();
    assert_eq!(compared["findings"], json!([]), "what CI tests is what production runs");
    stack.run(&["status", &name]).ok().shows("up, as the spec says");

    let briefly = stack.run(&["up", "live", "--ephemeral", "--ttl", "1s", "--output", "env"]).ok();
    let line = briefly.stdout.lines().find_map(|line| line.strip_prefix("export LOCKSTEP_ENVIRONMENT="));
    let brief = line.expect("its name").to_owned();
    until("its time to be over", || {
        let listed = stack.run(&["list", "--json"]).ok().json();
        let states = listed["environments"].as_array().cloned().unwrap_or_default();
        let state = |name: &str| states.iter().find(|one| one["environment"] == name).map(|one| one["state"].clone());
        assert_eq!(state(&name), Some(json!("waiting")));
        (state(&brief) == Some(json!("over"))).then_some(())
    });
    let next = stack.run(&["run", "live", "--", "/bin/sh", "-c", "exit 0"]).ok();
    assert!(next.stderr.contains(&brief) && !next.stderr.contains(&name), "{next}");
    assert_eq!(stack.objects(&brief), BTreeSet::new());
    stack.run(&["down", &name]).ok().shows("is removed");
    stack.run(&["down", &name]).ok().shows("is not there");
    assert_eq!(stack.objects(&name), BTreeSet::new());
    stack.is_right("production");

    let github = stack.path("github");
    let variables = [("GITHUB_ENV", github.to_str().expect("text"))];
    let up = stack.start_with(&["up", "live", "--ephemeral", "--output", "github"], None, &variables).finish().ok();
    let told = fs::read_to_string(&github).expect("what the job is told");
    assert!(told.contains("LOCKSTEP_CACHE_APP_URL<<end-"), "{told}");
    assert!(up.stdout.lines().all(|line| line.starts_with("::add-mask::")), "{up}");
    assert!(up.stdout.contains(&stack.password("live", "app")), "{up}");
    let kept =
        stack.run(&["run", "live", "--keep", "--ttl", "1h", "--", "/bin/sh", "-c", "echo $LOCKSTEP_ENVIRONMENT"]).ok();
    let kept = kept.says("stays up until").stdout.trim().to_owned();
    stack.is_right(&kept);
    stack.run(&["down", &kept]).ok().shows("is removed");
}

/// From lines of JSON, from a snapshot of another server's, and from a backup; each is read by whoever gets the copy.
#[test]
fn a_redis_begins_with_its_seed() {
    let stack = Scenario::with("run_seed", redis_only);
    let lines = "{\"key\":\"page:1\",\"type\":\"string\",\"value\":\"one\"}\n{\"key\":\"top\",\"type\":\"zset\",\"value\":[[\"a\",1.5]]}\n";
    stack.write("pages.jsonl", lines);
    stack.write("wrong.jsonl", "{\"key\":\"a\"}\n");
    let newer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rdb/redis-8.6-lists.rdb");
    stack.write(
        "environments/stack.yaml",
        &format!("{}\nrun: {{ seed: {{ cache: ../pages.jsonl }} }}\n", stack.read("environments/stack.yaml")),
    );
    let script = waiting("lines");
    let of_lines = stack.start(&["run", "live", "--", "/bin/sh", "-c", &script], None);
    let snapshot = format!("cache={newer}");
    let other = waiting("snapshot");
    let of_snapshot = stack.start(&["run", "live", "--seed", &snapshot, "--", "/bin/sh", "-c", &other], None);
    let mut redis = redis_of(&stack, &told(&stack, &of_lines, "lines")[3]);
    assert_eq!(redis.ask::<String>(&["GET", "page:1"]), "one");
    assert_eq!(redis.ask::<String>(&["ZSCORE", "top", "a"]), "1.5");
    let mut redis = redis_of(&stack, &told(&stack, &of_snapshot, "snapshot")[3]);
    assert!(redis.ask::<u64>(&["DBSIZE"]) > 1, "the keys of the snapshot");
    assert_eq!(redis.ask::<u64>(&["EXISTS", "page:1"]), 0, "and not those of the spec's seed");
    for file in ["lines.end", "snapshot.end"] {
        stack.write(file, "");
    }
    of_lines.finish().ok();
    of_snapshot.finish().ok();
    let wrong = ["run", "live", "--seed", "cache=wrong.jsonl", "--", "/bin/sh", "-c", "exit 0"];
    stack.run(&wrong).exits(2).says("line 1: `type` is missing");

    stack.apply("live");
    stack.redis("live").fill(30);
    stack.run(&["backup", "create", "live"]).ok();
    let id = docker::text(&stack.backups("live")[0], "/id");
    let seed = format!("cache=backup:{id}");
    let script = waiting("backup");
    let of_backup = stack.start(&["run", "live", "--seed", &seed, "--", "/bin/sh", "-c", &script], None);
    redis_of(&stack, &told(&stack, &of_backup, "backup")[3]).holds(30);
    stack.write("backup.end", "");
    of_backup.finish().ok();
    stack.edit_file("environments/live.yaml", "values", "protected: true\nvalues");
    stack.environment("ci", "");
    let refused = ["run", "--seed", &seed, "--", "/bin/sh", "-c", "exit 0"];
    stack.run(&refused).exits(4).says("which is protected");
    stack.is_right("live");
}

/// A connection as somebody who may do everything, to where the command was told that the Redis is.
pub(crate) fn redis_of(stack: &Scenario, address: &str) -> Redis {
    let host = address.strip_suffix(":6379").unwrap_or_else(|| panic!("{address} is where a Redis is"));
    Redis::connect(host, "hand", &stack.password("live", "hand")).expect("the Redis answers")
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What is killed, with what, and after how long.
fn kill(stack: &Scenario, running: &Running<'_>, file: &str, dice: &mut Dice) {
    let after = Duration::from_millis(dice.below(2500));
    let signal =
        [Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT][usize::try_from(dice.below(4)).expect("small")];
    if dice.below(4) == 0 {
        let process = told(stack, running, file)[0].parse().ok().and_then(Pid::from_raw).expect("a process");
        let _ = kill_process(process, signal);
    } else {
        thread::sleep(after);
        let process = Pid::from_raw(running.id().cast_signed()).expect("a process");
        let _ = kill_process(process, signal);
    }
}

#[test]
fn whatever_is_killed_and_when_the_next_run_leaves_nothing() {
    let stack = Scenario::with("run_kills", redis_only);
    let decoys = plant(&stack);
    let planted = all(&stack);
    let kills = std::env::var("LOCKSTEP_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..kills.div_ceil(AT_ONCE) {
        let scripts: Vec<(String, String)> =
            (0..AT_ONCE).map(|at| format!("k{round}x{at}")).map(|file| (waiting(&file), file)).collect();
        let runs: Vec<Running<'_>> = scripts
            .iter()
            .map(|(script, _)| stack.start(&["run", "live", "--", "/bin/sh", "-c", script], None))
            .collect();
        for (running, (_, file)) in runs.iter().zip(&scripts) {
            kill(&stack, running, file, &mut dice);
        }
        for (running, (_, file)) in runs.into_iter().zip(&scripts) {
            // One that was asked kindly before its command began goes on without it; a command whose run is gone has to end.
            stack.write(&format!("{file}.end"), "");
            running.finish();
        }
        the_next_run_leaves_nothing(&stack, &planted, &format!("after round {round}"));
    }
    for (kind, name) in decoys {
        assert!(stack.docker.exists(kind, &name), "{kind} {name} of others is gone");
    }
}

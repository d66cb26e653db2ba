//! A large seed: the engine has it once for all copies that begin with it, and it goes with the last of them.

use crate::run::{all, redis_of, told, waiting};
use crate::support::{At, Fault, Proxy, Redis, Running, Scenario, docker, project, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const KEYS: u64 = 40;

fn redis_only(stack: &str) -> String {
    let text = project::redis_only(stack, "lockstep/redis:7.0");
    text.replace("maxmemory: 16mb", "maxmemory: 200mb").replace("memory: 64mb", "memory: 400mb")
}

/// 40 MB in a snapshot as a server writes it without a checksum, `first` being what its first key is called.
fn snapshot(stack: &Scenario, file: &str, first: &str) -> String {
    let value = vec![b'x'; 1 << 20];
    let mut bytes = b"REDIS0009\xfe\0".to_vec();
    for number in 1..=KEYS {
        let key = if number == 1 { first.to_owned() } else { format!("page:{number}") };
        // A string, and both with their length in 32 bits.
        bytes.push(0);
        for text in [key.as_bytes(), &value] {
            bytes.push(0x80);
            bytes.extend_from_slice(&u32::try_from(text.len()).expect("small").to_be_bytes());
            bytes.extend_from_slice(text);
        }
    }
    bytes.extend_from_slice(b"\xff\0\0\0\0\0\0\0\0");
    // What stands behind its end is no part of it.
    bytes.extend_from_slice(b"behind");
    fs::write(stack.path(file), bytes).expect("the snapshot");
    format!("cache={}", stack.path(file).display())
}

/// Of a stack, what the engine has of seeds.
fn seeds(stack: &Scenario) -> Vec<String> {
    let prefix = format!("{}-seed-", stack.stack);
    all(stack).into_iter().filter(|object| object.contains(&prefix)).collect()
}

struct Copy<'a> {
    running: Running<'a>,
    stack: &'a Scenario,
    file: String,
    name: String,
    redis: Redis,
}

impl<'a> Copy<'a> {
    fn start(stack: &'a Scenario, seed: &str, file: &str) -> Running<'a> {
        stack.start(&["run", "live", "--seed", seed, "--", "/bin/sh", "-c", &waiting(file)], None)
    }

    fn of(stack: &'a Scenario, running: Running<'a>, file: &str) -> Copy<'a> {
        let told = told(stack, &running, file);
        let redis = redis_of(stack, &told[3]);
        Copy { running, stack, file: file.to_owned(), name: told[1].clone(), redis }
    }

    fn end(self) {
        self.stack.write(&format!("{}.end", self.file), "");
        self.running.finish().ok();
    }

    fn server(&self) -> Value {
        self.stack.docker.inspect(&self.stack.name(&self.name, "cache"))
    }

    /// A file of the server's, as it sees it.
    fn inside(&self, path: &str) -> PathBuf {
        let process = self.server().pointer("/State/Pid").and_then(Value::as_u64).expect("a process");
        PathBuf::from(format!("/proc/{process}/root{path}"))
    }

    fn mount(&self) -> Option<Value> {
        let mounts = self.server()["Mounts"].as_array().cloned().unwrap_or_default();
        mounts.into_iter().find(|mount| mount["Destination"] == "/lockstep-seed")
    }
}

#[test]
fn copies_share_a_large_seed_and_it_goes_with_the_last_of_them() {
    let stack = Scenario::with("seed_shared", redis_only);
    let seed = snapshot(&stack, "large.rdb", "page:1");
    let running = ["a", "b", "c"].map(|file| (Copy::start(&stack, &seed, file), file));
    let [mut one, other, mut third] = running.map(|(running, file)| Copy::of(&stack, running, file));
    let found = seeds(&stack);
    assert_eq!(found.len(), 2, "a volume and its container: {found:?}");
    let volumes: BTreeSet<String> = [&one, &other, &third]
        .map(|copy| {
            let mount = copy.mount().expect("the seed");
            assert_eq!(mount["RW"], json!(false), "{mount}");
            docker::text(&mount, "/Name")
        })
        .into();
    assert_eq!(volumes.len(), 1, "{volumes:?}");

    // Each has all of it and is what the spec says, for whoever looks.
    let base = "/data/appendonlydir/appendonly.aof.1.base.rdb";
    assert!(fs::symlink_metadata(one.inside(base)).expect("a file").is_symlink());
    for copy in [&mut one, &mut third] {
        assert_eq!(copy.redis.ask::<u64>(&["DBSIZE"]), KEYS);
        assert_eq!(copy.redis.ask::<u64>(&["STRLEN", "page:7"]), 1 << 20);
        stack.is_right(&copy.name);
    }
    // What one writes is its own, also when it has written all of it out anew.
    assert_eq!(one.redis.ask::<String>(&["SET", "page:1", "mine"]), "OK");
    one.redis.ask::<String>(&["BGREWRITEAOF"]);
    until("the file to be written anew", || {
        let info = one.redis.ask::<String>(&["INFO", "persistence"]);
        (info.contains("aof_rewrite_in_progress:0") && !one.inside(base).exists()).then_some(())
    });
    assert_eq!(third.redis.ask::<u64>(&["STRLEN", "page:1"]), 1 << 20);

    // It stays for as long as one copy has it, whatever becomes of who made it; another snapshot is another seed.
    one.running.signal(Signal::KILL);
    stack.write("a.end", "");
    drop(one);
    other.end();
    let next = snapshot(&stack, "other.rdb", "page:other");
    let mut fourth = Copy::of(&stack, Copy::start(&stack, &next, "d"), "d");
    assert_eq!(seeds(&stack).len(), 4, "{:?}", seeds(&stack));
    assert_eq!((fourth.redis.ask::<u64>(&["EXISTS", "page:other"]), fourth.redis.ask::<u64>(&["DBSIZE"])), (1, KEYS));
    assert_eq!(third.redis.ask::<u64>(&["STRLEN", "page:1"]), 1 << 20);
    fourth.end();
    assert_eq!(seeds(&stack), found);

    // One that is tidied away is made anew, and the volume that a server has stays.
    let container = found.iter().find_map(|object| object.strip_prefix("container ")).expect("a container");
    stack.docker.remove_container(container);
    let fifth = Copy::of(&stack, Copy::start(&stack, &seed, "e"), "e");
    assert!(!volumes.contains(&docker::text(&fifth.mount().expect("the seed"), "/Name")));
    assert_eq!(third.redis.ask::<u64>(&["DBSIZE"]), KEYS);
    let (last, time) = (&["up", "live", "--ephemeral", "--seed", &seed, "--json"], "/environment");
    let stays = docker::text(&stack.run(last).ok().json(), time);
    fifth.end();
    third.end();
    let left = seeds(&stack);
    assert_eq!(left.len(), 2, "the one that a copy still has: {left:?}");
    stack.run(&["down", &stays]).ok();
    assert_eq!(all(&stack), BTreeSet::new());
}

/// Whoever dies while a seed is made leaves nothing that the next run does not take away, and nobody begins with half of one.
#[test]
fn a_seed_is_whole_or_not_there() {
    let stack = Scenario::with("seed_broken", redis_only);
    let seed = snapshot(&stack, "large.rdb", "page:1");
    let whole = |file: &str| {
        let mut copy = Copy::of(&stack, Copy::start(&stack, &seed, file), file);
        assert_eq!(copy.redis.ask::<u64>(&["DBSIZE"]), KEYS, "{file}");
        copy.end();
        until("nothing to be left", || {
            let left = all(&stack);
            if !left.is_empty() {
                stack.run(&["run", "live", "--", "/bin/sh", "-c", "exit 0"]).ok();
            }
            left.is_empty().then_some(())
        });
    };
    let prefix = format!("name={}-seed-", stack.stack);
    let made = format!("/containers/{}-seed-", stack.stack);
    let moments = [
        ("POST", prefix.clone(), Fault::KillBefore),
        ("POST", prefix, Fault::KillAfter),
        ("PUT", made.clone(), Fault::KillBefore),
        ("PUT", made.clone(), Fault::KillAfter),
        ("POST", format!("{made}*rename"), Fault::KillAfter),
        ("POST", format!("{made}*rename"), Fault::LoseReply),
    ];
    for (number, (method, piece, fault)) in moments.into_iter().enumerate() {
        let proxy = Proxy::start();
        let piece = piece.rsplit_once('*').map_or(piece.clone(), |(_, end)| format!("/{end}?"));
        proxy.arm(At::Matching(method, piece.clone()), fault);
        let command = ["run", "live", "--seed", &seed, "--", "/bin/sh", "-c", "exit 0"];
        let ran = stack.start_through(&proxy, &command).finish();
        let hit = proxy.hit().unwrap_or_else(|| panic!("{method} {piece} was never asked: {ran}"));
        match fault {
            // It was done all the same, and is found.
            Fault::LoseReply => _ = ran.ok(),
            _ => assert_eq!(ran.signal, Some(9), "{hit}: {ran}"),
        }
        proxy.settle();
        whole(&format!("after{number}"));
    }
    // Where somebody else is just removing it, that is no failure of the run; and what stays goes with the next.
    let proxy = Proxy::start();
    proxy.arm(At::Matching("DELETE", format!("/volumes/{}-seed-", stack.stack)), Fault::Conflict);
    stack.run_through(&proxy, &["run", "live", "--seed", &seed, "--", "/bin/sh", "-c", "exit 0"]).ok();
    assert!(proxy.hit().is_some(), "the seed was not removed");
    assert_eq!(seeds(&stack).len(), 1, "the volume: {:?}", seeds(&stack));
    stack.run(&["run", "live", "--", "/bin/sh", "-c", "exit 0"]).ok();
    assert_eq!(seeds(&stack), Vec::<String>::new());
    // One that goes away just before a server takes it is made once more; the engine made an empty volume for its name.
    let proxy = Proxy::start();
    proxy.arm(At::Matching("POST", "-cache&".to_owned()), Fault::Hold);
    let running =
        stack.start_through(&proxy, &["run", "live", "--seed", &seed, "--", "/bin/sh", "-c", &waiting("held")]);
    let running = {
        proxy.wait_for_hit();
        for object in seeds(&stack) {
            if let Some(name) = object.strip_prefix("container ") {
                stack.docker.remove_container(name);
            }
        }
        for object in seeds(&stack) {
            stack.docker.remove_volume(object.strip_prefix("volume ").expect("a volume"));
        }
        proxy.release();
        running
    };
    let mut copy = Copy::of(&stack, running, "held");
    let created = proxy.calls().into_iter().filter(|call| call.matches("POST", "-cache&")).count();
    assert_eq!(created, 2, "the server was taken back and made once more");
    assert_eq!(copy.redis.ask::<u64>(&["DBSIZE"]), KEYS);
    copy.end();
    until("nothing to be left", || all(&stack).is_empty().then_some(()));
    assert!(
        stack.docker.get("/volumes")["Volumes"].as_array().is_none_or(|volumes| {
            volumes.iter().all(|volume| !docker::text(volume, "/Name").starts_with(&format!("{}-", stack.stack)))
        }),
        "a volume without labels was left"
    );
}

//! What people do by hand to one of two environments, some hundred things of every kind: each of them is named at its
//! path, nothing else is, and when it is undone nothing is left to find.

use crate::support::docker::{RESOURCE, text};
use crate::support::{Redis, Scenario, project, until};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TWO: &str = "two";
/// A deviation of a container that is made anew: what it is, what changes, and the fields that are found.
type Remade<'c> = (&'c str, Vec<(&'c str, Value)>, &'c [&'c str]);
/// What is said of the site when it cannot use its cache.
const HEALTH: &str = "container/web server.health";
/// For a site that misses its cache to find it again.
const RECOVERY: Duration = Duration::from_secs(60);

struct Pair {
    stack: Scenario,
    /// How many were tried so far.
    tried: Cell<usize>,
    /// All that was not found, or found and not expected.
    wrong: RefCell<Vec<String>>,
    /// Whether what the keys are like is looked at as well.
    shape: Cell<bool>,
}

impl Pair {
    fn new() -> Pair {
        let stack = Scenario::new("deviations");
        // Beside the site a service that starts at once and that nobody waits for, to be made anew over and over.
        let tool = r#"
  tool:
    image: lockstep/redis:7.0
    command: [redis-server, --port, "7000", --save, "", --protected-mode, "no"]
    env: { COLOUR: green, SHAPE: round }
    secrets: [app_password]
    limits: { memory: 64mb, pids: 32 }

differences:"#;
        // And a user that nobody is signed in as.
        let users = "    users:\n      batch: { password: hand_password, keys: [\"job:*\"], allow: [\"@read\"] }\n";
        let spec = project::site(&stack.stack).replace("\ndifferences:", tool).replace("    users:\n", users);
        let probes = "\nprobes: { health page: { on: web, get: /healthz } }\n";
        let rules = "\nkeys:\n  \"page:*\": { on: cache, type: string, ttl: ..1h }\n";
        stack.write_spec(&format!("{spec}{rules}{probes}"));
        for environment in ["one", TWO] {
            stack.environment(environment, &format!("port: {}", crate::support::free_port()));
        }
        stack.lock();
        let both = ["one", TWO].map(|environment| stack.start(&["apply", environment], None));
        both.into_iter().for_each(|apply| _ = apply.finish().ok());
        Pair { stack, tried: Cell::new(0), wrong: RefCell::default(), shape: Cell::new(false) }
    }

    fn name(&self, resource: &str) -> String {
        self.stack.name(TWO, resource)
    }

    fn redis(&self) -> Redis {
        self.stack.redis_again(TWO)
    }

    /// The subjects of all findings, every one of which has to be laid at the door of the second environment.
    #[track_caller]
    fn findings(&self, when: &str) -> BTreeSet<String> {
        let mut words = vec!["verify", "one", TWO, "--json", "--strict"];
        words.extend(self.shape.get().then_some("--shape"));
        let began = Instant::now();
        let (ran, found) = loop {
            let late = began.elapsed() > RECOVERY;
            let ran = self.stack.run(&words);
            let found = ran.json()["findings"].as_array().cloned().unwrap_or_default();
            // On a slow machine a site loses its cache for a moment by itself; no deviation here is about that.
            if late || !found.iter().any(|finding| text(finding, "/subject") == HEALTH) {
                break (ran, found);
            }
            self.settles();
        };
        for finding in &found {
            assert_eq!(text(finding, "/seen/environment"), TWO, "after: {when}: {finding}");
        }
        let subjects: BTreeSet<String> = found.iter().map(|finding| text(finding, "/subject")).collect();
        assert_eq!(subjects.len(), found.len(), "each is told once, after: {when}: {ran}");
        assert_eq!(ran.code, if found.is_empty() { 0 } else { 3 }, "{ran}");
        subjects
    }

    /// One deviation more. What is wrong is told with all the rest, so that one look shows everything that is missing.
    fn finds(&self, what: &str, expected: &[&str]) {
        self.tried.set(self.tried.get() + 1);
        self.compare(what, expected);
    }

    fn finds_nothing(&self, when: &str) {
        self.compare(when, &[]);
    }

    fn compare(&self, when: &str, expected: &[&str]) {
        self.settles();
        let found = self.findings(when);
        let expected: BTreeSet<String> = expected.iter().map(|subject| (*subject).to_owned()).collect();
        if found != expected {
            let missed: Vec<_> = expected.difference(&found).collect();
            let more: Vec<_> = found.difference(&expected).collect();
            self.wrong.borrow_mut().push(format!("{when}: missed {missed:?}, found besides {more:?}"));
        }
    }

    /// Waits for both sites, which lose their connections to Redis whenever users are loaded.
    fn settles(&self) {
        let healthy = |environment: &str| {
            let stack = &self.stack;
            let address = stack.docker.address(&stack.name(environment, "web"), &stack.name(environment, "private"));
            let mut stream = TcpStream::connect((address.as_str(), 8080)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        };
        for environment in ["one", TWO] {
            until("the site to be well", || healthy(environment));
        }
    }
}

/// What `CONFIG SET` changes, and what else changes with it.
fn settings(pair: &Pair) {
    let mut redis = pair.redis();
    for (setting, value, also) in [
        ("maxmemory", "20mb", &[][..]),
        ("maxmemory-policy", "noeviction", &[]),
        ("maxmemory-samples", "7", &[]),
        ("timeout", "30", &[]),
        ("hz", "50", &[]),
        ("save", "60 1", &[]),
        ("appendfsync", "always", &[]),
        ("appendonly", "no", &[]),
        ("auto-aof-rewrite-percentage", "50", &[]),
        ("tcp-keepalive", "60", &[]),
        ("slowlog-log-slower-than", "1", &[]),
        ("latency-monitor-threshold", "5", &[]),
        ("lazyfree-lazy-eviction", "yes", &[]),
        ("notify-keyspace-events", "Ex", &[]),
        ("maxclients", "500", &[]),
        ("client-output-buffer-limit", "normal 1mb 1mb 10", &[]),
        ("repl-backlog-size", "2mb", &[]),
        ("stop-writes-on-bgsave-error", "no", &[]),
        ("rdbcompression", "no", &[]),
        ("loglevel", "debug", &[]),
        ("list-max-listpack-size", "-1", &[]),
        ("min-replicas-max-lag", "3", &[]),
        ("bind", "0.0.0.0", &[]),
        ("masterauth", "hunter2", &[]),
        ("requirepass", "hunter2", &["container/cache users.default.passwords"]),
    ] {
        let before = redis.config(setting);
        redis.ask::<()>(&["CONFIG", "SET", setting, value]);
        let subject = format!("container/cache settings.{setting}");
        let subjects: Vec<&str> = std::iter::once(subject.as_str()).chain(also.iter().copied()).collect();
        pair.finds(&format!("CONFIG SET {setting} {value}"), &subjects);
        redis.ask::<()>(&["CONFIG", "SET", setting, &before]);
        if setting == "requirepass" {
            redis.ask::<()>(&["ACL", "LOAD"]);
            redis = pair.redis();
        }
    }
    pair.finds_nothing("after the settings");
}

/// Users and what they may do, functions, and whom a server follows.
fn users(pair: &Pair) {
    let aspects = |user: &str| {
        ["channels", "commands", "enabled", "keys", "passwords", "selectors", "without-password"]
            .map(|aspect| format!("{user}.{aspect}"))
    };
    let of = |aspects: &[&str]| aspects.iter().map(|aspect| (*aspect).to_owned()).collect::<Vec<_>>();
    for (what, rules, expected) in [
        ("more commands", &["batch", "+set"][..], of(&["batch.commands"])),
        ("fewer commands", &["batch", "-get"], of(&["batch.commands"])),
        ("more keys", &["batch", "~session:*"], of(&["batch.keys"])),
        ("more channels", &["batch", "&news"], of(&["batch.channels"])),
        ("switched off", &["batch", "off"], of(&["batch.enabled"])),
        ("one more password", &["batch", ">let-me-in"], of(&["batch.passwords"])),
        ("another password", &["batch", "resetpass", ">let-me-in"], of(&["batch.passwords"])),
        ("no password", &["batch", "nopass"], of(&["batch.passwords", "batch.without-password"])),
        ("payloads unchecked", &["batch", "skip-sanitize-payload"], of(&["batch.payloads"])),
        ("a selector", &["batch", "(+get ~session:*)"], of(&["batch.selectors"])),
        ("the default user", &["default", "on"], of(&["default.enabled"])),
        ("a new user", &["intruder", "on", ">x", "~*", "+@all"], aspects("intruder").to_vec()),
    ] {
        let mut words = vec!["ACL", "SETUSER"];
        words.extend(rules);
        pair.redis().ask::<()>(&words);
        let expected: Vec<String> = expected.iter().map(|aspect| format!("container/cache users.{aspect}")).collect();
        pair.finds(what, &expected.iter().map(String::as_str).collect::<Vec<_>>());
        pair.redis().ask::<()>(&["ACL", "LOAD"]);
    }
    pair.redis().ask::<()>(&["ACL", "DELUSER", "batch"]);
    let expected = aspects("batch").map(|aspect| format!("container/cache users.{aspect}"));
    pair.finds("a user less", &expected.each_ref().map(String::as_str));
    let mut redis = pair.redis();
    redis.ask::<()>(&["ACL", "LOAD"]);
    let mut redis = pair.redis();
    pair.finds_nothing("after the users");

    let code = "#!lua name=greet\nredis.register_function('greet', function() return 'hello' end)";
    redis.ask::<String>(&["FUNCTION", "LOAD", code]);
    pair.finds("FUNCTION LOAD", &["container/cache server.functions"]);
    redis.ask::<()>(&["FUNCTION", "DELETE", "greet"]);
    redis.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    pair.finds("REPLICAOF", &["container/cache server.role", "container/cache settings.replicaof"]);
    redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    pair.finds_nothing("after functions and replication");
}

/// What the applications write, and for how long: the same keys on both sides, and then another habit.
fn keys(pair: &Pair) {
    const KEYS: usize = 400;
    pair.shape.set(true);
    let write = |environment: &str, value: &str, lasts: Option<&str>| {
        let mut redis = pair.stack.redis_again(environment);
        for number in 0..KEYS {
            let key = format!("page:{number}");
            let mut words = vec!["SET", &key, value];
            words.extend(lasts.into_iter().flat_map(|seconds| ["EX", seconds]));
            redis.ask::<()>(&words);
        }
    };
    let usual = "x".repeat(100);
    // The keys of the other are as young each time: however long it takes, their ages do not tell the two apart.
    let as_usual = |environment: &str| write(environment, &usual, Some("600"));
    as_usual("one");
    as_usual(TWO);
    pair.finds_nothing("of two with keys alike");
    write(TWO, &usual, Some("7200"));
    as_usual("one");
    pair.finds("keys that live for longer", &["container/cache keys.page:*.ttl"]);
    write(TWO, &usual, None);
    as_usual("one");
    pair.finds("keys that live for ever", &["container/cache keys.page:*.expiry"]);
    write(TWO, &"x".repeat(2000), Some("600"));
    as_usual("one");
    pair.finds("keys with larger values", &["container/cache keys.page:*.size"]);
    as_usual(TWO);
    let mut redis = pair.redis();
    for number in 0..KEYS {
        redis.ask::<()>(&["SET", &format!("stray:{number}"), &usual]);
    }
    as_usual("one");
    pair.finds(
        "keys that no rule knows",
        &["container/cache keys.(no rule).share", "container/cache keys.page:*.share"],
    );
    let strays: Vec<String> = (0..KEYS).map(|number| format!("stray:{number}")).collect();
    let words: Vec<&str> = std::iter::once("UNLINK").chain(strays.iter().map(String::as_str)).collect();
    redis.ask::<()>(&words);
    for number in 0..KEYS {
        let key = format!("page:{number}");
        redis.ask::<()>(&["DEL", &key]);
        redis.ask::<()>(&["HSET", &key, "body", &usual]);
        redis.ask::<()>(&["EXPIRE", &key, "600"]);
    }
    as_usual("one");
    pair.finds("keys of another type", &["container/cache keys.page:*.type"]);
    redis.ask::<()>(&["FLUSHALL"]);
    as_usual("one");
    as_usual(TWO);
    pair.finds_nothing("after the keys");
    let report = pair.stack.run(&["verify", "one", TWO, "--json", "--shape"]).ok().json();
    for shape in report["shapes"].as_array().expect("shapes") {
        assert_eq!(shape["shape"]["keys"], json!(KEYS), "{shape}");
        assert_eq!(shape["shape"]["groups"]["page:*"]["with_expiry"], json!(KEYS), "{shape}");
        assert!(shape["shape"]["cost"]["fork_microseconds"].as_u64().is_some_and(|fork| fork > 0), "{shape}");
    }
    pair.stack.run(&["verify", "one", TWO, "--shape"]).ok().shows("400 of 400 keys read, all of them");
    pair.shape.set(false);
}

/// What a stranger would see of the two, and what tells of the past of a deviation.
fn answers(pair: &Pair) {
    let asked = ["verify", "one", TWO, "--probes", "--json"];
    pair.settles();
    let report = pair.stack.run(&asked).ok().json();
    // On a busy machine one may take its time; nothing else may differ.
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    assert!(findings.iter().all(|finding| finding["rule"] == "latency"), "{findings:?}");
    let latencies = report["latencies"].as_array().expect("latencies");
    assert_eq!(latencies.len(), 2, "{latencies:?}");
    assert!(latencies.iter().all(|of| of["p50"]["value"].as_f64().is_some_and(|p50| p50 > 0.0)), "{latencies:?}");

    let mut redis = pair.redis();
    redis.ask::<()>(&["CONFIG", "SET", "hz", "50"]);
    redis.ask::<()>(&["ACL", "SETUSER", "app", "off"]);
    redis.ask::<::redis::Value>(&["CLIENT", "KILL", "USER", "app"]);
    let carrier = pair.name("files");
    let at = "/v/web.etc.site/current";
    let before = pair.stack.docker.file(&carrier, &format!("{at}/site.toml"));
    pair.stack.docker.put_file(&carrier, at, "site.toml", b"title = 1\n", 65532, 0o440);
    let found = until("the site to miss its cache", || {
        let found = pair.stack.run(&asked).json()["findings"].as_array().cloned().unwrap_or_default();
        found.iter().any(|finding| text(finding, "/subject") == HEALTH).then_some(found)
    });
    let of = |subject: &str| found.iter().find(|finding| text(finding, "/subject") == subject);
    let page = of("container/web pages.GET /healthz.status").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((text(page, "/expected"), text(page, "/observed")), ("200".to_owned(), "503".to_owned()));
    let since = |subject: &str| of(subject).map(|finding| text(finding, "/seen/since")).unwrap_or_default();
    assert!(since("container/cache settings.hz").contains("has taken `CONFIG SET`"), "{found:?}");
    assert!(since("container/cache users.app.enabled").contains("`ACL SETUSER`"), "{found:?}");
    assert_eq!(since("volume/web.etc.site files.site.toml"), "somebody else wrote it at 2023-11-14T22:13:20Z");

    pair.stack.docker.put_file(&carrier, at, "site.toml", &before, 65532, 0o440);
    redis.ask::<()>(&["CONFIG", "SET", "hz", "10"]);
    redis.ask::<()>(&["ACL", "LOAD"]);
    pair.finds_nothing("after what was asked of the applications");
}

/// Files in the volumes, written through the engine.
fn files(pair: &Pair) {
    let docker = &pair.stack.docker;
    let carrier = pair.name("files");
    let at = |volume: &str| format!("/v/{volume}/current");
    for (what, volume, name, added, owner, mode, expected) in [
        ("redis.conf edited", "cache.etc.redis", "redis.conf", "hz 20\n", 999, 0o440, "files.redis.conf"),
        ("redis.conf for all", "cache.etc.redis", "redis.conf", "", 999, 0o444, "modes.redis.conf"),
        ("redis.conf of root", "cache.etc.redis", "redis.conf", "", 0, 0o440, "modes.redis.conf"),
        ("users.acl edited", "cache.etc.redis", "users.acl", "user x on nopass\n", 999, 0o440, "files.users.acl"),
        ("site.toml edited", "web.etc.site", "site.toml", "# mine\n", 65532, 0o440, "files.site.toml"),
        ("a secret edited", "web.run.secrets", "app_password", "x", 65532, 0o400, "files.app_password"),
        ("a secret for all", "web.run.secrets", "app_password", "", 65532, 0o444, "modes.app_password"),
    ] {
        let folder = at(volume);
        let before = docker.file(&carrier, &format!("{folder}/{name}"));
        let right = if name == "app_password" { 0o400 } else { 0o440 };
        let whose = if volume.starts_with("cache") { 999 } else { 65532 };
        let edited = [before.as_slice(), added.as_bytes()].concat();
        docker.put_file(&carrier, &folder, name, &edited, owner, mode);
        pair.finds(what, &[&format!("volume/{volume} {expected}")]);
        docker.put_file(&carrier, &folder, name, &before, whose, right);
    }
    pair.finds_nothing("after the files");

    // Beside the folder in force, where the service finds it all the same.
    docker.put_file(&carrier, "/v/web.etc.site", "extra.toml", b"title = 1\n", 65532, 0o440);
    pair.finds("a file more", &["volume/web.etc.site files.extra.toml", "volume/web.etc.site modes.extra.toml"]);
    docker.put_file(&carrier, "/v/web.etc.site", "extra.toml", b"", 65532, 0o440);
    docker.put_link(&carrier, "/v/web.etc.site", "site.toml", "/tmp/mine.toml");
    pair.finds("a link that leads elsewhere", &["volume/web.etc.site files.site.toml"]);
    docker.put_link(&carrier, "/v/web.etc.site", "site.toml", "current/site.toml");
    pair.finds_nothing("after what lies beside the files");

    // No setting tells of it: it shows in the table of commands alone, and in the file while that is there.
    let before = docker.file(&carrier, "/v/cache.etc.redis/current/redis.conf");
    let write = |conf: &[u8]| {
        docker.put_file(&carrier, "/v/cache.etc.redis/current", "redis.conf", conf, 999, 0o440);
        docker.restart(&pair.name("cache"));
        pair.redis();
    };
    write(&[before.as_slice(), b"rename-command LOLWUT \"\"\n"].concat());
    pair.finds("a command taken away", &["container/cache server.commands", "volume/cache.etc.redis files.redis.conf"]);
    write(&before);
    pair.finds_nothing("after the commands");
}

/// What `docker update` changes on a running container.
fn updates(pair: &Pair) {
    let docker = &pair.stack.docker;
    let update = |body: Value| _ = docker.post(&format!("/containers/{}/update", pair.name("tool")), &body);
    let memory = 64 << 20;
    for (what, body, undo, expected) in [
        (
            "more memory",
            json!({ "Memory": 96 << 20, "MemorySwap": 96 << 20 }),
            json!({ "Memory": memory, "MemorySwap": memory }),
            "limits.memory",
        ),
        ("swap", json!({ "MemorySwap": 2 * memory }), json!({ "MemorySwap": memory }), "engine.memory-swap"),
        ("more processors", json!({ "NanoCpus": 1_500_000_000 }), json!({ "NanoCpus": 1_000_000_000 }), "limits.cpus"),
        ("more processes", json!({ "PidsLimit": 99 }), json!({ "PidsLimit": 32 }), "limits.pids"),
        (
            "restarted always",
            json!({ "RestartPolicy": { "Name": "always" } }),
            json!({ "RestartPolicy": { "Name": "unless-stopped" } }),
            "restart",
        ),
    ] {
        update(body);
        pair.finds(what, &[&format!("container/tool {expected}")]);
        update(undo);
    }
    pair.finds_nothing("after the updates");
}

/// Who is on which network, and under which name.
fn networks(pair: &Pair) {
    let docker = &pair.stack.docker;
    let tool = pair.name("tool");
    let connect = |network: &str, body: Value| _ = docker.post(&format!("/networks/{network}/connect"), &body);
    let disconnect = |network: &str| {
        let body = json!({ "Container": tool, "Force": true });
        docker.post(&format!("/networks/{network}/disconnect"), &body);
    };
    let private = pair.name("private");
    let back = || connect(&private, json!({ "Container": tool, "EndpointConfig": { "Aliases": ["tool"] } }));
    let other = format!("{}-other", pair.stack.stack);
    let decoy = json!({ crate::support::docker::DECOY: pair.stack.stack });
    docker.post("/networks/create", &json!({ "Name": other, "Labels": decoy }));
    connect(&other, json!({ "Container": tool }));
    pair.finds("on a network of somebody else", &[&format!("container/tool networks.{other}")]);
    disconnect(&other);
    docker.remove_network(&other);
    connect(&pair.name("edge"), json!({ "Container": tool, "EndpointConfig": { "Aliases": ["tool"] } }));
    pair.finds("on the network to the outside", &["container/tool networks.edge"]);
    disconnect(&pair.name("edge"));
    disconnect(&private);
    pair.finds("off its network", &["container/tool networks.private"]);
    connect(&private, json!({ "Container": tool }));
    pair.finds("without its name", &["container/tool engine.aliases.private"]);
    disconnect(&private);
    connect(&private, json!({ "Container": tool, "EndpointConfig": { "Aliases": ["tool", "cache"] } }));
    pair.finds("under the name of another", &["container/tool engine.aliases.private"]);
    disconnect(&private);
    back();
    let guest = format!("{}-guest", pair.stack.stack);
    let labels = json!({ crate::support::docker::DECOY: pair.stack.stack });
    let sleeper = json!({
        "Image": "lockstep/redis:7.0", "Cmd": ["redis-server", "--port", "7000"], "Labels": labels,
        "HostConfig": { "NetworkMode": private },
    });
    docker.create_container(&guest, &sleeper);
    docker.start(&guest);
    pair.finds("a stranger on its network", &[&format!("network/private guests.{guest}")]);
    docker.remove_container(&guest);
    pair.finds_nothing("after the networks");
}

/// Things that are there, or are not.
fn existence(pair: &Pair) {
    let docker = &pair.stack.docker;
    let tool = pair.name("tool");
    docker.pause(&tool);
    pair.finds("a service paused", &["container/tool running"]);
    docker.unpause(&tool);
    docker.stop(&tool);
    pair.finds("a service stopped", &["container/tool running"]);
    docker.start(&tool);
    let mut labels = docker.inspect(&tool)["Config"]["Labels"].clone();
    labels[RESOURCE] = json!("container/ghost");
    let ghost = json!({ "Image": "lockstep/redis:7.0", "Labels": labels });
    docker.create_container(&pair.name("ghost"), &ghost);
    pair.finds("a container more", &["container/ghost"]);
    docker.remove_container(&pair.name("ghost"));
    labels[RESOURCE] = json!("network/more");
    docker.post("/networks/create", &json!({ "Name": pair.name("more"), "Labels": labels }));
    pair.finds("a network more", &["network/more"]);
    docker.remove_network(&pair.name("more"));
    pair.finds_nothing("after what is there or not");
}

/// A container made anew by hand, as the tools do it: everything as it was but for one thing.
fn made_anew(pair: &Pair) {
    let docker = &pair.stack.docker;
    let tool = pair.name("tool");
    let report = docker.inspect(&tool);
    let mut right = report["Config"].clone();
    // The engine names it after its id, and its image brings the rest.
    right["Hostname"] = json!("");
    right["Env"] = json!(["COLOUR=green", "SHAPE=round"]);
    right["Labels"].as_object_mut().expect("labels").retain(|label, _| !label.starts_with("org."));
    right["HostConfig"] = report["HostConfig"].clone();
    right["NetworkingConfig"] = json!({ "EndpointsConfig": { pair.name("private"): { "Aliases": ["tool"] } } });
    let make = |what: &str, body: &Value| {
        docker.remove_container(&tool);
        docker.create_container(&tool, body);
        let started = docker.ask("POST", &format!("/containers/{tool}/start"), None);
        assert_eq!(started.status, 204, "{what}: {}", started.text());
    };
    let labels = right["Labels"].clone();
    let volume = pair.name("tool.run.secrets");
    let edge = pair.name("edge");
    let set = |pointer: &'static str, value: Value| vec![(pointer, value)];
    let mut hidden = report["HostConfig"]["MaskedPaths"].clone();
    hidden.as_array_mut().expect("paths").retain(|path| path != "/proc/kcore");
    let mut ulimits = report["HostConfig"]["Ulimits"].clone();
    ulimits.as_array_mut().expect("limits").push(json!({ "Name": "nproc", "Soft": 99, "Hard": 99 }));
    let mut mounts = report["HostConfig"]["Mounts"].clone();
    mounts[0]["ReadOnly"] = json!(false);
    let mut more_mounts = report["HostConfig"]["Mounts"].clone();
    more_mounts.as_array_mut().expect("mounts").push(json!({ "Type": "volume", "Source": volume, "Target": "/more" }));
    let mut bound = report["HostConfig"]["Mounts"].clone();
    bound.as_array_mut().expect("mounts").push(json!({ "Type": "bind", "Source": "/usr", "Target": "/more" }));
    let mut more_labels = labels.clone();
    more_labels["traefik.enable"] = json!("true");
    let cases: Vec<Remade<'_>> = vec![
        ("another image", set("/Image", json!("lockstep/redis:6.2")), &["image"]),
        ("another variable", set("/Env", json!(["COLOUR=blue", "SHAPE=round"])), &["env.COLOUR"]),
        ("a variable less", set("/Env", json!(["COLOUR=green"])), &["env.SHAPE"]),
        ("a variable more", set("/Env", json!(["COLOUR=green", "SHAPE=round", "DEBUG=1"])), &["env.DEBUG"]),
        ("another command", set("/Cmd", json!(["redis-server", "--port", "7001"])), &["command"]),
        (
            "another entry point",
            vec![("/Entrypoint", json!(["redis-server"])), ("/Cmd", json!(["--port", "7000"]))],
            &["command", "entrypoint"],
        ),
        ("another user", set("/User", json!("12345:12345")), &["user"]),
        ("another folder", set("/WorkingDir", json!("/tmp")), &["engine.working-dir"]),
        ("another host name", set("/Hostname", json!("pet")), &["engine.hostname"]),
        ("another signal", set("/StopSignal", json!("SIGKILL")), &["engine.stop-signal"]),
        ("less patience", set("/StopTimeout", json!(1)), &["stop-seconds"]),
        ("a terminal", set("/Tty", json!(true)), &["engine.tty"]),
        ("a health check", set("/Healthcheck", json!({ "Test": ["CMD", "true"] })), &["engine.health-check"]),
        ("a label", set("/Labels", more_labels), &["engine.labels.traefik.enable"]),
        (
            "no log",
            set("/HostConfig/LogConfig", json!({ "Type": "none" })),
            &["log.driver", "log.options.max-file", "log.options.max-size"],
        ),
        (
            "a log of any length",
            set(
                "/HostConfig/LogConfig",
                json!({ "Type": "json-file", "Config": { "max-file": "3", "max-size": "1g" } }),
            ),
            &["log.options.max-size"],
        ),
        ("a capability", set("/HostConfig/CapAdd", json!(["NET_RAW"])), &["capabilities.added"]),
        ("all capabilities", set("/HostConfig/CapDrop", json!([])), &["capabilities.dropped"]),
        ("new privileges", set("/HostConfig/SecurityOpt", json!([])), &["security-options"]),
        ("a root to write to", set("/HostConfig/ReadonlyRootfs", json!(false)), &["read-only-root"]),
        ("an init", set("/HostConfig/Init", json!(true)), &["init"]),
        ("the host's processes", set("/HostConfig/PidMode", json!("host")), &["isolation.pid"]),
        ("shared memory of others", set("/HostConfig/IpcMode", json!("shareable")), &["isolation.ipc"]),
        ("the host's cgroups", set("/HostConfig/CgroupnsMode", json!("host")), &["engine.cgroup-namespace"]),
        (
            "a device",
            set(
                "/HostConfig/Devices",
                json!([{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/nil", "CgroupPermissions": "r" }]),
            ),
            &["devices"],
        ),
        ("a kernel file", set("/HostConfig/MaskedPaths", hidden), &["engine.unmasked-paths"]),
        (
            "a kernel setting",
            set("/HostConfig/Sysctls", json!({ "net.core.somaxconn": "99" })),
            &["engine.sysctls.net.core.somaxconn"],
        ),
        (
            "a larger /tmp",
            set("/HostConfig/Tmpfs", json!({ "/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=33554432" })),
            &["tmpfs./tmp"],
        ),
        (
            "a /tmp to run from",
            set("/HostConfig/Tmpfs", json!({ "/tmp": "rw,exec,nosuid,nodev,mode=1777,size=16777216" })),
            &["engine.tmpfs./tmp"],
        ),
        ("more shared memory", set("/HostConfig/ShmSize", json!(1 << 20)), &["engine.shm-size"]),
        ("a limit of processes", set("/HostConfig/Ulimits", ulimits), &["engine.ulimits.nproc"]),
        (
            "more open files",
            set(
                "/HostConfig/Ulimits",
                json!([{ "Name": "nofile", "Soft": 4242, "Hard": 4242 }, { "Name": "core", "Soft": 0, "Hard": 0 }]),
            ),
            &["limits.open-files"],
        ),
        ("dumps of memory", set("/HostConfig/Ulimits", json!([report["HostConfig"]["Ulimits"][0]])), &["limits.core"]),
        ("killed later than others", set("/HostConfig/OomScoreAdj", json!(500)), &["engine.oom-score-adj"]),
        ("fewer shares", set("/HostConfig/CpuShares", json!(512)), &["engine.cpu-shares"]),
        ("one processor", set("/HostConfig/CpusetCpus", json!("0")), &["engine.cpuset-cpus"]),
        ("memory promised", set("/HostConfig/MemoryReservation", json!(32 << 20)), &["engine.memory-reservation"]),
        ("another resolver", set("/HostConfig/Dns", json!(["192.0.2.1"])), &["engine.dns"]),
        (
            "another address for a name",
            set("/HostConfig/ExtraHosts", json!(["cache:192.0.2.1"])),
            &["engine.extra-hosts"],
        ),
        ("another group", set("/HostConfig/GroupAdd", json!(["1234"])), &["engine.group-add"]),
        (
            "a port",
            vec![
                ("/ExposedPorts", json!({ "7000/tcp": {} })),
                ("/HostConfig/PortBindings", json!({ "7000/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "0" }] })),
            ],
            &["ports.7000/tcp"],
        ),
        ("secrets to write to", set("/HostConfig/Mounts", mounts), &["mounts./run/secrets"]),
        ("a volume more", set("/HostConfig/Mounts", more_mounts), &["mounts./more"]),
        ("a folder of the host", set("/HostConfig/Mounts", bound), &["mounts./more"]),
        (
            "another network",
            vec![
                ("/HostConfig/NetworkMode", json!(edge)),
                ("/NetworkingConfig", json!({ "EndpointsConfig": { edge.clone(): { "Aliases": ["tool"] } } })),
            ],
            &["networks.edge", "networks.private"],
        ),
        ("privileged", set("/HostConfig/Privileged", json!(true)), &["privileged"]),
    ];
    for (what, changes, expected) in cases {
        let mut body = right.clone();
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            body.pointer_mut(parent).expect("a part of the body")[key] = value;
        }
        make(what, &body);
        let expected: Vec<String> = expected.iter().map(|field| format!("container/tool {field}")).collect();
        pair.finds(what, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
    make("as it was", &right);
    pair.finds_nothing("after the container was made anew as it was");
}

#[test]
fn every_deviation_is_named_at_its_path_and_nothing_else_is() {
    let pair = Pair::new();
    for run in 1..=10 {
        pair.finds_nothing(&format!("of a pair that nobody touched, run {run}"));
    }
    let began = Instant::now();
    for (kind, group) in [
        ("settings", settings as fn(&Pair)),
        ("users", users),
        ("keys", keys),
        ("answers", answers),
        ("files", files),
        ("updates", updates),
        ("networks", networks),
        ("existence", existence),
        ("made anew", made_anew),
    ] {
        let (before, at) = (pair.tried.get(), Instant::now());
        group(&pair);
        eprintln!("{kind}: {} deviations, {:.1} s", pair.tried.get() - before, at.elapsed().as_secs_f64());
    }
    eprintln!("{} deviations in {:.1} s", pair.tried.get(), began.elapsed().as_secs_f64());
    let wrong = pair.wrong.take();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(pair.tried.get() >= 60, "{} deviations", pair.tried.get());
    pair.stack.is_right("one");
    pair.stack.is_right(TWO);
}

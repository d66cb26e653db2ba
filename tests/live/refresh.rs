//! `refresh` from outside: production's data in staging, masked; refused, killed on its way, and across versions.

use crate::support::docker::text;
use crate::support::{At, Disk, Fault, Proxy, Ran, Redis, Scenario, project};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Every address of a person ends with this, and nothing else does.
const PRIVATE: &str = "@shop.test";
const USERS: usize = 60;

fn spec(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
        + r#"
refresh: { from: production, secret: mask_key, canaries: ["sentinel of the tests"] }

keys:
  "user:*": { on: cache, type: hash, refresh: { mask: { email: email, name: name, phone: digits, "profile$..email": email } } }
  "mail:*": { on: cache, type: string, refresh: { mask: email, ttl: shift } }
  "members": { on: cache, type: set, refresh: { mask: email } }
  "scores": { on: cache, type: zset, refresh: { mask: token } }
  "recent": { on: cache, type: list, refresh: { mask: email } }
  "events": { on: cache, type: stream, refresh: { mask: { email: email } } }
  "cart:*": { on: cache, type: string, refresh: { keep: 50% }, entity: "{1}" }
  "wish:*": { on: cache, type: string, refresh: { keep: 50% }, entity: "{1}" }
  "session:*": { on: cache, refresh: drop }
  "page:*": { on: cache, refresh: keep }
"#
}

fn secrets(stack: &Scenario, environment: &str, mask_key: &str) {
    let file = format!("environments/secrets/{environment}.yaml");
    let (app, hand) = (stack.password(environment, "app"), stack.password(environment, "hand"));
    stack.write(&file, &format!("app_password: '{app}'\nhand_password: '{hand}'\n{mask_key}"));
    fs::set_permissions(stack.path(&file), fs::Permissions::from_mode(0o600)).expect("permissions");
}

const MASK_KEY: &str = "mask_key: 'a secret that nobody guesses'\n";

/// Production with people in it, backed up; staging with a few keys of its own.
fn launched(test: &'static str) -> Scenario {
    let stack = beside_production(test, &["staging"]);
    stack.apply("staging");
    own(&mut stack.redis("staging"));
    stack
}

/// Production with people in it, backed up; these others are written down, and not launched.
pub fn beside_production(test: &'static str, others: &[&str]) -> Scenario {
    let stack = Scenario::new(test);
    stack.write_spec(&spec(&stack.stack));
    for environment in others.iter().chain(&["production"]) {
        stack.environment(environment, "");
        secrets(&stack, environment, MASK_KEY);
    }
    stack.lock();
    stack.apply("production");
    people(&mut stack.redis("production"));
    stack.run(&["backup", "create", "production"]).ok();
    stack
}

/// What was in staging before.
pub fn own(redis: &mut Redis) {
    redis.ask::<()>(&["SET", "page:own", "of staging"]);
}

fn people(redis: &mut Redis) {
    redis.fill(200);
    redis.fill_kinds();
    for number in 0..USERS {
        let email = format!("person{number}{PRIVATE}");
        let profile = json!({ "theme": "dark", "contacts": [{ "email": email }] }).to_string();
        let user = format!("user:{number}");
        redis.ask::<()>(&[
            "HSET",
            &user,
            "email",
            &email,
            "name",
            &format!("Person {number} of Shop"),
            "phone",
            &format!("+49 170 {:07}", number * 7919),
            "profile",
            &profile,
            "level",
            "gold",
        ]);
        redis.ask::<()>(&["SET", &format!("mail:{number}"), &email, "EX", "86400"]);
        redis.ask::<()>(&["SADD", "members", &email]);
        redis.ask::<()>(&["ZADD", "scores", &number.to_string(), &email]);
        redis.ask::<()>(&["RPUSH", "recent", &email]);
        redis.ask::<()>(&["XADD", "events", &format!("{}-1", number + 1), "kind", "login", "email", &email]);
        redis.ask::<()>(&["SET", &format!("cart:{number}"), "3 things"]);
        redis.ask::<()>(&["SET", &format!("wish:{number}"), "1 thing"]);
        redis.ask::<()>(&["SET", &format!("session:{number}"), &email]);
    }
    redis.ask::<()>(&["XGROUP", "CREATE", "events", "mailer", "0"]);
    redis.ask::<::redis::Value>(&["XREADGROUP", "GROUP", "mailer", "one", "COUNT", "3", "STREAMS", "events", ">"]);
    redis.ask::<()>(&["XDEL", "events", "2-1"]);
    redis.ask::<()>(&["RPUSH", "bull:mail:wait", "job"]);
    redis.ask::<()>(&["SET", "lock:mail", "held"]);
}

/// Whether any file in any data volume of an environment has these bytes.
pub fn rests(stack: &Scenario, environment: &str, needle: &str) -> Vec<String> {
    let keeper = format!("{}-{environment}-keeper", stack.stack);
    let prefix = stack.name(environment, "");
    let mut found = Vec::new();
    for object in stack.objects(environment) {
        let Some(volume) = object.strip_prefix("volume ").filter(|volume| volume.starts_with("cache.data")) else {
            continue;
        };
        let body = json!({
            "Image": "lockstep/redis:7.0",
            "Labels": { crate::support::docker::DECOY: stack.stack },
            "HostConfig": { "Mounts": [
                { "Type": "volume", "Source": format!("{prefix}{volume}"), "Target": "/kept", "ReadOnly": true },
            ] },
        });
        stack.docker.create_container(&keeper, &body);
        for (path, bytes) in stack.docker.tree(&keeper, "/kept") {
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(format!("{volume}{path}"));
            }
        }
        stack.docker.ask("DELETE", &format!("/containers/{keeper}?force=true"), None);
    }
    found
}

/// What a refresh makes of [`people`], whichever servers it goes from and to.
#[track_caller]
pub fn is_refreshed(production: &mut Redis, staging: &mut Redis) {
    let (source, result) = (production.contents(), staging.contents());
    let whole = format!("{result:?}");
    assert!(!whole.contains("shop.test") && !whole.contains("of Shop"), "{whole}");
    for (key, value) in source.iter().filter(|(key, _)| key.starts_with("page:")) {
        assert_eq!(result.get(key), Some(value), "{key}");
    }
    for gone in ["session:1", "bull:mail:wait", "lock:mail", "page:own"] {
        assert!(!result.contains_key(gone), "{gone}");
    }
    let email: String = staging.ask(&["HGET", "user:7", "email"]);
    assert!(email.ends_with("@example.com"), "{email}");
    let profile: String = staging.ask(&["HGET", "user:7", "profile"]);
    assert_eq!(profile, json!({ "theme": "dark", "contacts": [{ "email": email }] }).to_string());
    assert_eq!(staging.ask::<String>(&["HGET", "user:7", "level"]), "gold");
    assert_eq!(staging.ask::<String>(&["GET", "mail:7"]), email);
    assert_eq!(staging.ask::<String>(&["LINDEX", "recent", "7"]), email);
    assert_eq!(staging.ask::<u32>(&["SISMEMBER", "members", &email]), 1);
    let ttl: i64 = staging.ask(&["TTL", "mail:7"]);
    assert!((80_000..=86_500).contains(&ttl), "{ttl}");
    let counts = |redis: &mut Redis| {
        ["members", "scores", "recent", "events"].map(|key| {
            let command = ["SCARD", "ZCARD", "LLEN", "XLEN"];
            let kind: String = redis.ask(&["TYPE", key]);
            let at = ["set", "zset", "list", "stream"].iter().position(|known| *known == kind).expect("a type");
            redis.ask::<u64>(&[command[at], key])
        })
    };
    assert_eq!(counts(staging), counts(production));
    let pending = |redis: &mut Redis| format!("{:?}", redis.ask::<::redis::Value>(&["XPENDING", "events", "mailer"]));
    assert_eq!(pending(staging), pending(production));
    let entry: Vec<(String, Vec<String>)> = staging.ask(&["XRANGE", "events", "8-1", "8-1"]);
    assert_eq!(entry, [("8-1".to_owned(), ["kind", "login", "email", &email].map(str::to_owned).to_vec())]);
    // A stream that was packed anew takes more.
    staging.ask::<String>(&["XADD", "events", "*", "email", "x"]);
    staging.ask::<()>(&["XTRIM", "events", "MAXLEN", "3"]);
    let of = |prefix: &str| -> BTreeSet<String> {
        result.keys().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let carts = of("cart:");
    assert!((10..50).contains(&carts.len()), "{carts:?}");
    assert_eq!(carts, of("wish:"), "what belongs to one user stays together");
}

#[test]
fn staging_gets_productions_data_masked_and_gives_it_back() {
    let stack = launched("refresh");
    let production = stack.redis("production").contents();
    let before = stack.redis("staging").contents();
    let objects = stack.objects("staging");

    let proxy = Proxy::start();
    let ran = stack.run_through(&proxy, &["refresh", "staging", "--from", "production", "--dry-run", "--json"]).ok();
    assert_eq!(proxy.mutations().len(), 0, "a dry run changes nothing: {:?}", proxy.mutations());
    let dry = ran.json();
    let report = &dry["services"][0]["report"];
    assert_eq!(dry["dry_run"], json!(true));
    let rule = |report: &Value, pattern: &str| -> Value {
        let rules = report["rules"].as_array().expect("rules").clone();
        rules.into_iter().find(|rule| rule["pattern"] == json!(pattern)).expect("a rule")
    };
    assert_eq!(rule(report, "user:*")["masked"], json!(USERS));
    assert_eq!(rule(report, "session:*")["dropped"]["by rule"], json!(USERS));
    assert_eq!(report["others"]["queues and locks"], json!(2));
    assert!(report["algebra"].as_array().expect("equations").iter().all(|one| one["holds"] == json!(true)), "{ran}");
    assert!(report["canaries"].as_u64().is_some_and(|looked_for| looked_for > 50), "{ran}");
    assert!(!ran.stdout.contains("shop.test") && !ran.stderr.contains("shop.test"), "{ran}");

    let ran = stack.run_through(&proxy, &["refresh", "staging", "--yes", "--reason", "fresh people"]).ok();
    let touched: Vec<String> = proxy.mutations().iter().map(|call| call.path.clone()).collect();
    assert!(!touched.iter().any(|path| path.contains("-production-")), "the source is only read: {touched:#?}");
    ran.says("proven").shows("none of");
    is_refreshed(&mut stack.redis("production"), &mut stack.redis("staging"));
    assert_eq!(stack.redis("production").contents(), production, "production is what it was");
    assert_eq!(rests(&stack, "staging", "shop.test"), Vec::<String>::new());
    stack.is_right("staging");
    let left: Vec<String> = stack.objects("staging").difference(&objects).cloned().collect();
    assert_eq!(left, ["volume cache.data-2"], "nothing else is new");
    let note = stack.run(&["history", "show", "staging"]).ok();
    let note = note.shows("## The data").shows("`user:*` (keep, mask): 60 keys, 60 masked");
    assert!(!note.stdout.contains("shop.test"), "{note}");

    let email: String = stack.redis("staging").ask(&["HGET", "user:7", "email"]);
    stack.run(&["rollback", "staging", "--data", "--yes"]).ok();
    stack.redis("staging").still_has(&before, "taken back");
    // The same secret makes the same of it.
    stack.run(&["refresh", "staging", "--yes", "--fresh"]).ok();
    assert_eq!(stack.redis("staging").ask::<String>(&["HGET", "user:7", "email"]), email);
}

#[derive(Debug, PartialEq)]
struct Before {
    contents: BTreeMap<String, String>,
    objects: BTreeSet<String>,
}

#[track_caller]
fn state(stack: &Scenario) -> Before {
    Before { contents: stack.redis("staging").contents(), objects: stack.objects("staging") }
}

/// An environment that is created with another one's data, or not at all.
#[test]
fn an_environment_with_a_seed_is_created_by_a_refresh() {
    let stack = Scenario::new("seeded");
    stack.write_spec(&spec(&stack.stack));
    for environment in ["production", "staging"] {
        stack.environment(environment, "");
        secrets(&stack, environment, MASK_KEY);
    }
    let file = stack.read("environments/staging.yaml");
    stack.write("environments/staging.yaml", &format!("seed: production\n{file}"));
    stack.lock();
    stack.apply("production");
    people(&mut stack.redis("production"));
    stack.run(&["apply", "staging"]).exits(4).says("no proven backup of cache of production");
    assert!(stack.objects("staging").is_empty(), "{:?}", stack.objects("staging"));
    stack.run(&["backup", "create", "production"]).ok();
    // A plan holds no data.
    let file = stack.path("staging.plan.json");
    let file = file.to_str().expect("a path of text");
    stack.run(&["plan", "staging", "--out", file]).exits(3);
    stack.run(&["apply", file]).exits(4).says("begins with the data of production");
    assert!(stack.objects("staging").is_empty(), "{:?}", stack.objects("staging"));

    // What it follows has to run the spec first, with data or without.
    let mut production = stack.redis("production");
    let policy = production.config("maxmemory-policy");
    let seeded = stack.read("environments/staging.yaml");
    stack.write("environments/staging.yaml", &format!("follows: production\n{seeded}"));
    production.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    stack.run(&["apply", "staging"]).exits(4).says("staging follows production");
    assert!(stack.objects("staging").is_empty(), "{:?}", stack.objects("staging"));
    production.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", &policy]);

    // Killed while data are loaded that nobody has looked through: nothing is ever served from them.
    let proxy = Proxy::start();
    for (method, path) in
        [("PUT", "restore.carrier/archive"), ("POST", "cache.restore/start"), ("POST", "cache.restore/stop")]
    {
        proxy.arm(At::Matching(method, path.to_owned()), Fault::KillAfter);
        let killed = stack.run_through(&proxy, &["apply", "staging"]);
        assert_eq!(killed.signal, Some(9), "{path}: {killed}");
        proxy.settle();
    }
    // A volume of which nothing tells any more.
    let left = ["cache.restore", "cache.restore.carrier"].map(|name| stack.name("staging", name));
    left.iter().for_each(|name| stack.docker.remove_container(name));
    stack.run(&["apply", "staging"]).exits(4).says("of which no change tells").says("nothing was changed");
    let objects = stack.objects("staging");
    let volume = objects.iter().find_map(|object| object.strip_prefix("volume ").filter(|name| name.contains(".data")));
    stack.run(&["down", "staging", "--delete-data", volume.expect("a volume with data"), "--yes"]).ok();
    assert!(stack.objects("staging").is_empty(), "{:?}", stack.objects("staging"));
    proxy.arm(At::Matching("POST", "cache.restore/start".to_owned()), Fault::KillAfter);
    stack.run_through(&proxy, &["apply", "staging"]);
    proxy.settle();
    let ran = stack.run(&["apply", "staging", "--json"]).ok();
    assert!(ran.stderr.contains("that is begun anew"), "{ran}");
    let report = ran.json();
    assert_eq!(report["environment"], "staging", "{report}");
    is_refreshed(&mut stack.redis("production"), &mut stack.redis("staging"));
    stack.run(&["verify", "staging"]).ok();
    // Once it is there its data is its own.
    own(&mut stack.redis("staging"));
    stack.run(&["apply", "staging"]).ok().shows("nothing to do");
    assert_eq!(stack.redis("staging").ask::<String>(&["GET", "page:own"]), "of staging");
}

/// CI begins with production's data as well, and never with a private text, though production is protected.
#[test]
fn a_copy_begins_with_what_a_refresh_makes_of_a_backup() {
    let stack = beside_production("refresh_seed", &["ci"]);
    stack.edit_file("environments/production.yaml", "values:", "protected: true\nvalues:");
    let spec = stack.read("environments/stack.yaml");
    stack.write_spec(&format!("{spec}\nrun: {{ seed: {{ cache: refresh }} }}\n"));
    let plainly = ["up", "ci", "--ephemeral", "--output", "json"];
    let up = |seed: &str| stack.run(&[&plainly[..], &["--seed", seed]].concat());
    let first = text(&stack.backups("production")[0], "/id");
    up(&format!("cache=backup:{first}")).exits(4).says("which is protected");
    let copy = text(&stack.run(&plainly).ok().json(), "/environment");
    let redis = |copy: &str| {
        let address = stack.redis_address(copy);
        Redis::connect(&address, "hand", &stack.password("ci", "hand")).expect("the Redis of the copy answers")
    };
    is_refreshed(&mut stack.redis("production"), &mut redis(&copy));
    assert_eq!(rests(&stack, &copy, "shop.test"), Vec::<String>::new());
    stack.run(&["down", &copy]).ok();

    stack.redis("production").ask::<()>(&["SET", "page:late", "written after the first"]);
    stack.run(&["backup", "create", "production"]).ok();
    for (seed, is_there) in [(format!("cache=refresh:{first}"), 0), ("cache=refresh".to_owned(), 1)] {
        let copy = text(&up(&seed).ok().json(), "/environment");
        assert_eq!(redis(&copy).ask::<u32>(&["EXISTS", "page:late"]), is_there, "{seed}");
        stack.run(&["down", &copy]).ok();
    }

    // Where nothing depends on the moment it is made once, for whoever wants it, and made again when it is damaged.
    stack.edit("mask: email, ttl: shift", "mask: email");
    let cache = stack.path("cache");
    let cached = [("XDG_CACHE_HOME", cache.to_str().expect("text"))];
    let seeded = || -> Vec<Ran> {
        let command = ["run", "ci", "--seed", "cache=refresh", "--", "/bin/sh", "-c", "exit 0"];
        let runs: Vec<_> = (0..3).map(|_| stack.start_with(&command, None, &cached)).collect();
        runs.into_iter().map(|running| running.finish().ok()).collect()
    };
    let made = |runs: Vec<Ran>| runs.iter().filter(|ran| ran.stderr.contains("count what becomes of it")).count();
    let shelf = cache.join("lockstep/seeds");
    let files = || -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(&shelf).expect("the seeds");
        entries.map(|entry| entry.expect("a seed").path()).collect()
    };
    assert_eq!(made(seeded()), 1, "of three at once one makes it");
    let [seed] = &files()[..] else { panic!("{:?}", files()) };
    assert_eq!(fs::metadata(seed).expect("a file").permissions().mode() & 0o777, 0o600);
    let mut bytes = fs::read(seed).expect("a seed");
    assert!(!bytes.windows(9).any(|window| window == b"shop.test"));
    assert_eq!(made(seeded()), 0);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(seed, &bytes).expect("a damaged seed");
    assert_eq!(made(seeded()), 1);
    let other = "mask_key: 'a secret that somebody else guesses'\n";
    secrets(&stack, "ci", other);
    assert_eq!(made(seeded()), 1, "with another secret it is another one");
    assert_eq!(files().len(), 2);
    secrets(&stack, "ci", MASK_KEY);
    // Where nothing is masked there is no secret, and it is the same for all as well.
    let masked = stack.read("environments/stack.yaml");
    let plain = project::redis_only(&stack.stack, "lockstep/redis:7.0");
    let rules = "refresh: { from: production, unmatched: drop }\nkeys: { \"page:*\": { on: cache, refresh: keep } }\n";
    stack.write_spec(&format!("{plain}\n{rules}"));
    assert_eq!((made(seeded()), made(seeded())), (1, 0));
    assert_eq!(files().len(), 3);
    stack.write_spec(&masked);

    // What refuses a refresh refuses the copy, and nothing of it is there.
    let right = stack.read("environments/stack.yaml");
    for (from, to, said) in [
        (
            "\"session:*\": { on: cache, refresh: drop }",
            "\"session:*\": { on: cache, refresh: keep }",
            "stands unmasked",
        ),
        ("\"scores\": {", "\"scores:none\": {", "matches no key"),
        ("refresh: { from: production", "#", "does not say where a refresh takes its data from"),
    ] {
        stack.edit(from, to);
        let ran = up("cache=refresh");
        assert!([2, 4].contains(&ran.code), "{ran}");
        ran.says(said).says("nothing was launched");
        stack.write_spec(&right);
    }
    let listed = stack.run(&["list", "--json"]).ok().json();
    assert_eq!(listed["environments"], json!([]));
    let left = stack.docker.labelled(crate::support::docker::STACK, &stack.stack);
    assert!(left.iter().all(|object| object.contains("-production-")), "{left:?}");
    stack.is_right("production");
}

#[test]
fn whatever_is_not_decided_refuses_the_refresh_and_leaves_staging_as_it_was() {
    let stack = launched("refresh_refused");
    let before = state(&stack);
    let refused = |ran: Ran| {
        assert_eq!(state(&stack), before, "after: {ran}");
        assert!(!ran.stdout.contains("shop.test") && !ran.stderr.contains("shop.test"), "{ran}");
        ran
    };
    let refresh = ["refresh", "staging", "--yes", "--lock-wait", "60s"];
    let right = stack.read("environments/stack.yaml");
    let wrong = |from: &str, to: &str, code: i32, said: &str| {
        stack.edit(from, to);
        refused(stack.run(&refresh).exits(code)).says(said);
        stack.write_spec(&right);
    };
    refused(stack.run(&["refresh", "staging"]).exits(4)).says("--yes");
    refused(stack.run(&["refresh", "production", "--yes"]).exits(4)).says("never refreshed itself");
    wrong(
        "\"session:*\": { on: cache, refresh: drop }",
        "\"sess:*\": { on: cache, refresh: drop }",
        4,
        "`session:*` 60",
    );
    wrong(
        "\"mail:*\": { on: cache, type: string",
        "\"mail:*\": { on: cache, type: hash",
        4,
        "which the rule `mail:*` is not for",
    );
    wrong("phone: digits", "fone: digits", 4, "masks `fone`, which none of 60 keys has");
    wrong("\"scores\": {", "\"scores:none\": {", 4, "matches no key");
    wrong("\"profile$..email\"", "\"level$..email\"", 4, "is not JSON");
    // Masked at one place, and copied at another: found in what was loaded, before anything runs on it.
    wrong(
        "\"session:*\": { on: cache, refresh: drop }",
        "\"session:*\": { on: cache, refresh: keep }",
        4,
        "stands unmasked in the value of",
    );
    wrong("sentinel of the tests", "<p>page 17</p>", 4, "a text of `refresh.canaries` stands");
    secrets(&stack, "staging", "");
    refused(stack.run(&refresh).exits(2)).says("mask_key");
    secrets(&stack, "staging", "mask_key: short\n");
    refused(stack.run(&refresh).exits(2)).says("could be guessed");
    secrets(&stack, "staging", MASK_KEY);
    stack.edit_file("environments/staging.yaml", "values:", "protected: true\nvalues:");
    refused(stack.run(&refresh).exits(4)).says("protected");
    stack.edit_file("environments/staging.yaml", "protected: true\n", "");

    // Damaged since it was proven.
    let id = text(&stack.backups("production")[0], "/id");
    let folder = stack.backup_folder("production").join(&id);
    let piece = fs::read_dir(&folder).expect("a backup").map(|entry| entry.expect("an entry").path());
    let piece = piece.filter(|path| path.extension().is_none_or(|of| of != "json")).min().expect("a piece");
    let whole = fs::read(&piece).expect("a piece");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    fs::write(&piece, &damaged).expect("a damaged piece");
    let ran = refused(stack.run(&refresh));
    assert!(ran.code == 3 || ran.code == 4, "{ran}");
    fs::write(&piece, &whole).expect("the piece");
    assert_eq!(rests(&stack, "staging", "shop.test"), Vec::<String>::new());

    // Damaged between being read and being loaded.
    let proxy = Proxy::start();
    proxy.arm(At::Matching("DELETE", "cache.restore".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &refresh);
    proxy.wait_for_hit();
    fs::write(&piece, &damaged).expect("a damaged piece");
    proxy.release();
    refused(running.finish().exits(1)).says("is not what was written");
    fs::write(&piece, &whole).expect("the piece");

    // It would not fit, and what would is said.
    stack.edit("maxmemory: 16mb", "maxmemory: 1mb");
    // Data alone are moved: what else the spec means waits for `apply`. What it would come to is said all the same.
    refused(stack.run(&refresh).exits(4)).says("there is also to set maxmemory");
    let foreseen = refused(stack.run(&["refresh", "staging", "--dry-run"]).exits(4));
    foreseen.says("of these keys it would fit").says("there is also to set maxmemory");
    stack.write_spec(&right);

    // No room for the backup of what is there, and none for what is loaded.
    {
        fs::create_dir_all(stack.backup_folder("staging")).expect("a folder");
        let disk = Disk::mount(stack.backup_folder("staging"), "size=1m");
        disk.fill();
        refused(stack.run(&refresh).exits(9)).says("No space left");
    }
    proxy.arm(At::Matching("PUT", "/archive".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &refresh);
    proxy.wait_for_hit();
    let volume = stack
        .objects_now("staging")
        .difference(&before.objects)
        .find_map(|new| new.strip_prefix("volume ").map(str::to_owned));
    let volume = stack.docker.get(&format!("/volumes/{}", stack.name("staging", &volume.expect("a new volume"))));
    {
        let _disk = Disk::mount(text(&volume, "/Mountpoint").into(), "size=4k,nr_inodes=3");
        proxy.release();
        let ran = running.finish().exits(1).says("no space left").says("nothing was changed");
        assert_eq!(stack.redis("staging").contents(), before.contents, "after: {ran}");
    }
    // It could not be removed while something was mounted on it.
    stack.docker.remove_volume(&text(&volume, "/Name"));

    stack.run(&refresh).ok();
    is_refreshed(&mut stack.redis("production"), &mut stack.redis("staging"));
    stack.is_right("staging");
}

/// Which backup is taken is what was asked for, and what is written meanwhile is in it or not, and never in part.
#[test]
fn a_refresh_takes_the_backup_that_is_named_or_one_of_this_moment() {
    let stack = launched("refresh_from");
    let first = text(&stack.backups("production")[0], "/id");
    stack.redis("production").ask::<()>(&["SET", "page:late", "written after the first"]);
    stack.run(&["backup", "create", "production"]).ok();
    stack.run(&["refresh", "staging", "--from", &first, "--yes"]).ok().says(&first);
    assert!(!stack.redis("staging").contents().contains_key("page:late"));
    stack.run(&["refresh", "staging", "--yes"]).ok();
    is_refreshed(&mut stack.redis("production"), &mut stack.redis("staging"));
    assert!(stack.redis("staging").contents().contains_key("page:late"));
    stack.run(&["refresh", "staging", "--from", "20200101T000000Z-none", "--yes"]).exits(2);

    // Each mail gets a member with it, in one transaction, as long as the capture goes on.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut production = stack.redis("production");
            let mut written = 0_u32;
            while !stop.load(Ordering::Relaxed) || written == 0 {
                written += 1;
                let email = format!("late{written}{PRIVATE}");
                let script = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SADD', 'members', ARGV[1]) return 1";
                production.ask::<u32>(&["EVAL", script, "2", &format!("mail:late{written}"), "members", &email]);
            }
            written
        });
        stack.run(&["refresh", "staging", "--fresh", "--yes"]).ok().says("proven");
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("the writer") > 0);
    });
    let mut staging = stack.redis("staging");
    let late: Vec<String> = staging.ask(&["KEYS", "mail:late*"]);
    let members: BTreeSet<String> = staging.ask(&["SMEMBERS", "members"]);
    assert_eq!(members.len(), USERS + late.len(), "what was written together is there together");
    for key in late {
        assert!(members.contains(&staging.ask::<String>(&["GET", &key])), "{key}");
    }
    assert_eq!(rests(&stack, "staging", "shop.test"), Vec::<String>::new());
}

/// Staging and all of its data.
fn remove(stack: &Scenario) {
    let volumes =
        stack.objects("staging").into_iter().filter_map(|object| object.strip_prefix("volume ").map(str::to_owned));
    let volumes: Vec<String> = volumes.filter(|volume| volume.starts_with("cache.data")).collect();
    let named = volumes.iter().flat_map(|volume| ["--delete-data", volume.as_str()]);
    let arguments: Vec<&str> = ["down", "staging", "--yes"].into_iter().chain(named).collect();
    stack.run(&arguments).ok();
    assert_eq!(stack.objects("staging"), BTreeSet::new());
}

#[test]
fn a_refresh_goes_to_other_versions_and_to_the_other_family() {
    let stack = launched("refresh_across");
    let mut image = "lockstep/redis:7.0";
    for other in ["lockstep/redis:8.0", "lockstep/valkey:8.1"] {
        remove(&stack);
        stack.edit(image, other);
        image = other;
        stack.lock();
        // There is no staging: it is made with its data.
        stack.run(&["refresh", "staging", "--yes"]).ok();
        // Production still runs what it ran.
        is_refreshed(&mut stack.redis("production"), &mut stack.redis("staging"));
        stack.is_right("staging");
    }
    // And back: what a newer server wrote, into an older one.
    stack.edit(image, "lockstep/redis:8.0");
    stack.lock();
    stack.apply("production");
    stack.run(&["backup", "create", "production"]).ok();
    stack.edit("lockstep/redis:8.0", "lockstep/redis:7.0");
    stack.lock();
    remove(&stack);
    stack.apply("staging");
    stack.run(&["refresh", "staging", "--yes"]).ok();
    is_refreshed(&mut stack.redis("production"), &mut stack.redis("staging"));
}

//! A refresh of 1,000,000 keys of every type, from a local backup to a server that serves them and is verified.

use crate::Options;
use crate::data::Server;
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::snapshot::{PASSWORD, address, environment, fill, mix, pull, put, redis_cli, spec};
use crate::stack::{self, REDIS};
use crate::watched::watched;
use crate::workshop::{self, Workshop, timed};
use anyhow::ensure;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

const GROUP: &str = "refresh";
const KEYS: u64 = 1_000_000;
const MEMORY: f64 = 64e6;
const RATIO: f64 = 1.6;
/// What staging runs in place of [`REDIS`], to see that it goes there.
const OTHERS: [(&str, &str); 2] = [("lockstep/redis:8.0", "Redis 8.0"), ("lockstep/valkey:8.1", "Valkey 8.1")];

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    redis_cli()?;
    let room = workshop.room(GROUP)?;
    let project = room.join("project");
    let name = workshop.name("people");
    let written = |image: &str| {
        workshop::write(&project.join("environments/stack.yaml"), &(spec(&name, &[("cache", image)]) + RULES), 0o644)
    };
    written(REDIS)?;
    for name in ["production", "staging"] {
        environment(&project, name, PASSWORD, "mask_key: bench-not-a-secret-either\n")?;
    }
    timed(&mut workshop.lockstep(&project, &["lock"]))?;
    timed(&mut workshop.lockstep(&project, &["apply", "production"]))?;
    let address = address(&name, "production", "cache")?;
    eprintln!("  filling production");
    fill(address, PASSWORD, KEYS, 2_000, people)?;
    timed(&mut workshop.lockstep(&project, &["backup", "create", "production"]))?;
    let dump = room.join("bare").join("dump.rdb");
    fs::create_dir_all(room.join("bare"))?;
    watched(&mut pull(address, PASSWORD, &dump))?;
    stack::down_of(workshop, &project, "production", &["cache".to_owned()])?;

    let mut peak = Series::default();
    let [refreshed, bare] = rounds(
        options.rounds(5, 1),
        [
            ("lockstep refresh", &mut || refresh(workshop, &project, &mut peak)),
            ("bare load, and the file read", &mut || {
                let began = Instant::now();
                let server = Server::start(workshop, REDIS, Some(&dump))?;
                io::copy(&mut fs::File::open(&dump)?, &mut io::sink())?;
                let seconds = began.elapsed().as_secs_f64();
                server.remove()?;
                Ok(seconds)
            }),
        ],
    )?;
    let row = |what: String, lockstep, target| Row {
        group: GROUP,
        what,
        unit: Unit::Seconds,
        lockstep,
        rival: beside("bare start and load of the whole file, and reading it", &bare),
        floor: None,
        target,
    };
    let mut rows = vec![
        row(format!("refresh of {KEYS} keys of all types, staging made anew"), refreshed, Some(Target::Ratio(RATIO))),
        Row {
            group: GROUP,
            what: format!("peak of refresh, {KEYS} keys"),
            unit: Unit::Bytes,
            lockstep: peak,
            rival: None,
            floor: None,
            target: Some(Target::Below(MEMORY)),
        },
    ];
    for (image, what) in OTHERS {
        written(image)?;
        timed(&mut workshop.lockstep(&project, &["lock"]))?;
        let seconds = refresh(workshop, &project, &mut Series::default())?;
        rows.push(row(format!("the same into {what}"), Series(vec![seconds]), None));
    }
    Ok(rows)
}

/// Makes staging with production's data, verifies it and takes it away; seconds of the first two.
fn refresh(workshop: &Workshop, project: &Path, peak: &mut Series) -> anyhow::Result<f64> {
    let ran = watched(&mut workshop.lockstep(project, &["refresh", "staging", "--yes"]))?;
    peak.0.push(ran.peak_bytes);
    let verified = timed(&mut workshop.lockstep(project, &["verify", "staging"]))?;
    let note = timed(&mut workshop.lockstep(project, &["history", "show", "staging"]))?.stdout;
    let (kept, dropped, masked) = (KEYS / 10 * 4, KEYS / 10, KEYS / 10 * 5);
    ensure!(
        note.contains(&format!("source {KEYS} = kept {kept} + dropped {dropped} + masked {masked}: proven")),
        "the note tells of another refresh: {note}"
    );
    // The first is what it would have been without a refresh.
    timed(&mut workshop.lockstep(project, &["down", "staging", "--yes", "--delete-data", "cache.data-2"]))?;
    Ok(ran.seconds + verified.seconds)
}

const RULES: &str = r#"refresh: { from: production, secret: mask_key }
keys:
  "page:*": { on: cache, type: string, refresh: keep }
  "user:*": { on: cache, type: hash, refresh: { mask: { mail: email, name: name } } }
  "mail:*": { on: cache, type: string, refresh: { mask: email } }
  "members:*": { on: cache, type: set, refresh: { mask: email } }
  "recent:*": { on: cache, type: list, refresh: { mask: token } }
  "popular:*": { on: cache, type: zset, refresh: keep }
  "events:*": { on: cache, type: stream, refresh: { mask: { mail: email } } }
  "session:*": { on: cache, refresh: drop }
"#;

/// Every type; of ten keys four are kept, five masked, and one is dropped.
fn people(number: u64, batch: &mut Vec<u8>) {
    let key = |kind: &str| format!("{kind}:{number:07}").into_bytes();
    let mail = |salt: u64| format!("person{}@shop.test", mix(number << 3 | salt)).into_bytes();
    let text = format!("<p>{:016x} is a page of the shop</p>", mix(number)).into_bytes();
    match number % 10 {
        0..=2 => put(batch, &[b"SET", &key("page"), &text, b"EX", b"864000"]),
        3 => put(batch, &[b"ZADD", &key("popular"), b"1", b"article:1", b"2.5", b"article:2"]),
        4 => put(batch, &[b"HSET", &key("user"), b"mail", &mail(1), b"name", b"Ada of the Shop", b"visits", b"17"]),
        5 => put(batch, &[b"SET", &key("mail"), &mail(1)]),
        6 => put(batch, &[b"SADD", &key("members"), &mail(1), &mail(2), &mail(3)]),
        7 => put(batch, &[b"RPUSH", &key("recent"), &mail(1), &mail(2)]),
        8 => {
            let script = b"redis.call('XADD', KEYS[1], '1-1', 'kind', 'login', 'mail', ARGV[1]) return 1";
            put(batch, &[b"EVAL", script, b"1", &key("events"), &mail(1)]);
        }
        _ => put(batch, &[b"SET", &key("session"), &mail(1)]),
    }
}

//! A snapshot over the replication stream, beside the tool that comes with Redis.
//!
//! Both pull from the same server, turn about, so both meet the same settings: diskless, without delay.

use crate::engine::Connection;
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::ready::{Awaited, Kind};
use crate::stack::{ENVIRONMENT, REDIS};
use crate::watched::watched;
use crate::workshop::{self, Workshop, timed};
use crate::{Options, ready};
use anyhow::{Context as _, bail};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const GROUP: &str = "snapshot";
pub const PASSWORD: &str = "bench-not-a-secret";
const SMALL_KEYS: u64 = 1_000_000;
const LARGE_KEYS: u64 = 4_000;
const LARGE_VALUE: usize = 50_000;
const MEMORY_LIMIT: f64 = 64e6;
const RATIO_LIMIT: f64 = 1.3;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    redis_cli()?;
    let room = workshop.room(GROUP)?;
    let project = room.join("project");
    let name = workshop.name("data");
    let spec = spec(&name, &[("small", REDIS), ("large", REDIS)]);
    workshop::write(&project.join("environments/stack.yaml"), &spec, 0o644)?;
    environment(&project, ENVIRONMENT, PASSWORD, "")?;
    timed(&mut workshop.lockstep(&project, &["lock"]))?;
    timed(&mut workshop.lockstep(&project, &["apply", ENVIRONMENT]))?;

    let mut rows = Vec::new();
    let what = [("small", "1,000,000 keys", SMALL_KEYS), ("large", "200 MB in 4,000 values", LARGE_KEYS)];
    for (service, what, keys) in what {
        let address = address(&name, ENVIRONMENT, service)?;
        workshop::go_on()?;
        eprintln!("  filling: {what}");
        match service {
            "small" => fill(address, PASSWORD, keys, 2_000, small)?,
            _ => fill(address, PASSWORD, keys, 20, large)?,
        }
        let measured = measure(workshop, &room, &project, service, address, keys, options.rounds(7, 1))?;
        rows.push(Row {
            group: GROUP,
            what: format!("snapshot of {what}"),
            unit: Unit::Seconds,
            lockstep: measured.lockstep,
            rival: beside("redis-cli --rdb", &measured.redis_cli),
            floor: beside("cat of the file", &measured.cat),
            target: Some(Target::Ratio(RATIO_LIMIT)),
        });
        rows.push(Row {
            group: GROUP,
            what: format!("peak memory, {what}"),
            unit: Unit::Bytes,
            lockstep: measured.peak,
            rival: beside("redis-cli --rdb", &measured.redis_cli_peak),
            floor: None,
            target: Some(Target::Below(MEMORY_LIMIT)),
        });
    }
    let services = ["small", "large"].map(str::to_owned);
    crate::stack::down(workshop, &project, &services)?;
    Ok(rows)
}

/// Redis services, each with its image. Nothing writes by itself while it is measured: no append-only file and no save points.
pub fn spec(name: &str, services: &[(&str, &str)]) -> String {
    let service = |(service, image): &(&str, &str)| {
        format!(
            "  {service}:
    image: {image}
    settings: {{ maxmemory: 900mb, maxmemory-policy: noeviction, appendonly: no, save: \"\" }}
    users:
      reader: {{ password: reader_password, keys: [\"*\"], allow: [\"@all\"] }}
    limits: {{ memory: 2gb, cpus: 2 }}
"
        )
    };
    let services: String = services.iter().map(service).collect();
    format!("lockstep: 1\nstack: {name}\nowner: web@alphanode.example\nredis:\n{services}")
}

/// An environment in which `reader` signs in with this password; `more` are lines of further secrets.
pub fn environment(project: &Path, name: &str, password: &str, more: &str) -> anyhow::Result<()> {
    let text = format!("secrets: {{ file: secrets/{name}.yaml }}\n");
    workshop::write(&project.join(format!("environments/{name}.yaml")), &text, 0o644)?;
    let secret = format!("reader_password: {password}\n{more}");
    workshop::write(&project.join(format!("environments/secrets/{name}.yaml")), &secret, 0o600)
}

/// Where a Redis of an environment answers, once it does.
pub fn address(stack: &str, environment: &str, service: &str) -> anyhow::Result<SocketAddr> {
    let named = |rest: &str| format!("{stack}-{environment}-{rest}");
    let awaited = Awaited { container: named(service), network: named("private"), kind: Kind::Redis };
    ready::wait_for_all(std::slice::from_ref(&awaited))?;
    awaited.address(&mut Connection::open()?)?.context("the server has no address")
}

struct Measured {
    lockstep: Series,
    redis_cli: Series,
    cat: Series,
    peak: Series,
    redis_cli_peak: Series,
}

fn measure(
    workshop: &Workshop,
    room: &Path,
    project: &Path,
    service: &str,
    address: SocketAddr,
    keys: u64,
    count: usize,
) -> anyhow::Result<Measured> {
    let (pulled, copy) = (room.join(format!("{service}.rdb")), room.join(format!("{service}.copy")));
    let backups = project.join("backups");
    watched(&mut pull(address, PASSWORD, &pulled))?;
    let (mut peak, mut redis_cli_peak) = (Series::default(), Series::default());
    let [lockstep, redis_cli, cat] = rounds(
        count,
        [
            ("lockstep backup create", &mut || {
                let ran = watched(&mut workshop.lockstep(project, &["backup", "create", ENVIRONMENT, service]))?;
                peak.0.push(ran.peak_bytes);
                expect_keys(&backups, keys)?;
                fs::remove_dir_all(&backups)?;
                Ok(ran.seconds)
            }),
            ("redis-cli --rdb", &mut || {
                fs::remove_file(&pulled)?;
                let ran = watched(&mut pull(address, PASSWORD, &pulled))?;
                redis_cli_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("cat", &mut || {
                let began = Instant::now();
                let out = fs::File::create(&copy)?;
                let status = Command::new("cat").arg(&pulled).stdout(out).status()?;
                let seconds = began.elapsed().as_secs_f64();
                if !status.success() {
                    bail!("cat ended with {status}");
                }
                fs::remove_file(&copy)?;
                Ok(seconds)
            }),
        ],
    )?;
    Ok(Measured { lockstep, redis_cli, cat, peak, redis_cli_peak })
}

/// `redis-cli --rdb` into a file.
pub fn pull(address: SocketAddr, password: &str, into: &Path) -> Command {
    let mut command = Command::new("redis-cli");
    command.env("REDISCLI_AUTH", password).args(["-h", &address.ip().to_string(), "--user", "reader", "--rdb"]);
    command.arg(into);
    command
}

/// The backup just taken says how many keys it holds; anything else was no measurement.
fn expect_keys(backups: &Path, keys: u64) -> anyhow::Result<()> {
    let mut folders = vec![backups.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path: PathBuf = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "manifest.json") {
                let manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
                let held = manifest.get("keys").and_then(serde_json::Value::as_u64);
                if held != Some(keys) {
                    bail!("the backup holds {held:?} keys, and the server has {keys}");
                }
                return Ok(());
            }
        }
    }
    bail!("there is no manifest in {}", backups.display())
}

/// Fills a server through one connection, so many commands at a time: few enough that nobody waits for their replies to be
/// read.
pub fn fill(
    address: SocketAddr,
    password: &str,
    keys: u64,
    at_once: u64,
    command: fn(u64, &mut Vec<u8>),
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut reply = String::new();
    let mut send = |batch: &[u8], count: u64| -> anyhow::Result<()> {
        stream.write_all(batch)?;
        for _ in 0..count {
            reply.clear();
            replies.read_line(&mut reply)?;
            if !reply.starts_with(['+', ':']) {
                bail!("the server says: {}", reply.trim());
            }
        }
        Ok(())
    };
    let mut batch = Vec::new();
    put(&mut batch, &[b"AUTH", b"reader", password.as_bytes()]);
    send(&batch, 1)?;
    let mut from = 0;
    while from < keys {
        let until = keys.min(from + at_once);
        batch.clear();
        (from..until).for_each(|key| command(key, &mut batch));
        send(&batch, until - from)?;
        from = until;
    }
    batch.clear();
    put(&mut batch, &[b"DBSIZE"]);
    stream.write_all(&batch)?;
    reply.clear();
    replies.read_line(&mut reply)?;
    if reply.trim() != format!(":{keys}") {
        bail!("the server was to hold {keys} keys, and says {}", reply.trim());
    }
    Ok(())
}

pub fn put(batch: &mut Vec<u8>, words: &[&[u8]]) {
    batch.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        batch.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        batch.extend_from_slice(word);
        batch.extend_from_slice(b"\r\n");
    }
}

/// What a cache of pages is made of: mostly strings that expire, some hashes, sorted sets and lists.
pub fn small(number: u64, batch: &mut Vec<u8>) {
    let key = |kind: &str| format!("{kind}:{number:07}").into_bytes();
    let word = |salt: u64| format!("{:016x}", mix(number.wrapping_mul(31).wrapping_add(salt))).into_bytes();
    let long: Vec<u8> = (0..4).flat_map(word).collect();
    match number % 10 {
        0..=4 => put(batch, &[b"SET", &key("page"), &long, b"EX", b"86400"]),
        5 | 6 => put(batch, &[b"SET", &key("fragment"), &long]),
        7 => put(batch, &[b"HSET", &key("user"), b"name", &word(1), b"mail", &word(2), b"visits", b"17"]),
        8 => put(batch, &[b"ZADD", &key("popular"), b"1", &word(1), b"2.5", &word(2), b"3", &word(3)]),
        _ => put(batch, &[b"RPUSH", &key("recent"), &word(1), &word(2), &word(3), b"12"]),
    }
}

/// Values that do not compress.
fn large(number: u64, batch: &mut Vec<u8>) {
    let key = format!("upload:{number:05}").into_bytes();
    let words = (0..LARGE_VALUE as u64 / 8).flat_map(|at| mix(number << 32 | at).to_le_bytes());
    put(batch, &[b"SET", &key, &words.collect::<Vec<u8>>()]);
}

/// Bits that look random and are the same in every run (splitmix64).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// From the Debian package redis-tools.
pub fn redis_cli() -> anyhow::Result<()> {
    if Command::new("redis-cli").arg("--version").stdout(Stdio::null()).status().is_ok() {
        return Ok(());
    }
    eprintln!("  installing redis-tools");
    for arguments in [&["update", "-q"][..], &["install", "-qy", "--no-install-recommends", "redis-tools"]] {
        timed(Command::new("apt-get").args(arguments)).context("redis-tools has to be installed, which takes root")?;
    }
    Ok(())
}

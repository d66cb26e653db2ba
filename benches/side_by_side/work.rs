//! One piece of lockstep's work in a process of its own, so that its time and memory compare with those of a program.

use crate::data::PASSWORD;
use crate::engine::{self, Connection};
use crate::snapshot::put;
use anyhow::{Context as _, bail};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use lockstep::digest::{self, Hasher, Key};
use lockstep::engine::{Engine, Names};
use lockstep::event::{Event, Listener};
use lockstep::mask::{Rules, pass, survey};
use lockstep::model::behaviour::KeyRule;
use lockstep::model::refresh::{self, Deed, Masker, Part, RefreshPlan, RefreshRule, Share, Ttl, Unmatched};
use lockstep::rdb::{self, Element, Entry, Form, Frames, Record, Room, Target};
use lockstep::redis::pull::Source;
use lockstep::redis::restore::{self, Session};
use lockstep::restore::Choice;
use lockstep::restore::journal::Journal;
use lockstep::store;
use lockstep::store::repository::Repository;
use lockstep::store::repository::local::Local;
use lockstep::value::Glob;
use lockstep::value::{Digest, Family, Name, Place, Recipient, Secret, ServerVersion};
use lockstep::world::capture::{BackupRequest, take_backup};
use lockstep::world::drill::drill;
use lockstep::world::throwaway::Wanted;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BUFFER: usize = 1 << 20;

pub fn run(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match work(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &[&str]) -> anyhow::Result<()> {
    match arguments {
        ["read", file] => {
            let hasher = Hasher::new(&Key::new(store::random()?), None);
            match digest::read(File::open(file)?, &hasher, |_| Ok(())) {
                Ok(told) => verified(&told.summary),
                Err(error) => bail!("{error:?}"),
            }
        }
        ["walk", file] => verified(&rdb::walk(File::open(file)?)?),
        [verb @ ("keep" | "mask"), file] => {
            let (rules, way) = masking(*verb == "mask")?;
            pass::run(&rules, way, File::open(file)?, BufWriter::with_capacity(BUFFER, io::sink()), None)
        }
        ["survey", file] => {
            let (rules, way) = masking(true)?;
            let surveyed = survey::survey(&rules, way, File::open(file)?, &Key::new(store::random()?))?;
            match surveyed.algebra().iter().all(|equation| equation.holds) {
                true => Ok(()),
                false => bail!("it does not add up"),
            }
        }
        ["crc", file] => crc(file),
        ["sink", address] => sink(address.parse()?),
        ["capture", address, keys, folder, recipient] => capture(address.parse()?, keys.parse()?, folder, recipient),
        ["commands", dump, out, pattern] => convert(dump, out, pattern, commands),
        ["payloads", dump, out, pattern] => convert(dump, out, pattern, payload),
        ["send", address, file] => send(address.parse()?, file),
        ["warm", address, dump, journal, pattern] => warm(address.parse()?, dump, journal, pattern),
        ["drill", dump, image, stack, used, out] => drilled(dump, image, stack, used.parse()?, out),
        other => bail!("no such work: {other:?}"),
    }
}

/// What `mask` makes of its snapshot: pages kept, addresses masked or kept, sessions dropped.
fn masking(masks: bool) -> anyhow::Result<(Rules, pass::Way)> {
    let place = Place::file("bench");
    let on = name("cache")?;
    let copy = |part: Option<(&str, refresh::Target)>| {
        let (masker, place) = (Masker::Email, place.clone());
        let part = part.map(|(text, target)| Part { place, text: text.to_owned(), target, masker });
        let parts = part.filter(|_| masks).into_iter().collect();
        Deed::Copy(refresh::Copy { share: Share::ALL, entity: Vec::new(), ttl: Ttl::Keep, parts, optional: true })
    };
    let rule = |pattern: &str, deed: Deed| KeyRule {
        pattern: pattern.to_owned(),
        glob: Glob::new(pattern.as_bytes()),
        place: place.clone(),
        on: on.clone(),
        kind: None,
        lifetime: None,
        refresh: Some(RefreshRule { place: place.clone(), deed }),
    };
    let rules = [
        rule("page:*", copy(None)),
        rule("mail:*", copy(Some(("*", refresh::Target::Rest)))),
        rule("user:*", copy(Some(("email", refresh::Target::Field(Glob::new(b"email")))))),
        rule("session:*", Deed::Drop),
    ];
    let (unmatched, canaries) = (Unmatched::Refuse, Vec::new());
    let plan = RefreshPlan { place: place.clone(), from: on.clone(), secret: None, unmatched, stable: true, canaries };
    let target = Target { family: Family::Redis, version: 11 };
    let way = pass::Way { target, form: Form::AsWritten, now_ms: 0, created_ms: None };
    Ok((Rules::of(&plan, &rules, &on, b"a secret of the benchmark", b""), way))
}

fn verified(summary: &rdb::Summary) -> anyhow::Result<()> {
    match summary.checksum {
        rdb::Checksum::Verified(_) if summary.keys() > 0 => Ok(()),
        _ => bail!("that was no snapshot to measure with"),
    }
}

fn crc(file: &str) -> anyhow::Result<()> {
    let (mut file, mut buffer, mut crc) = (File::open(file)?, vec![0; BUFFER], Crc::new(CrcAlgorithm::Crc64Redis));
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        crc.update(buffer.get(..read).unwrap_or_default());
    }
    std::hint::black_box(crc.finalize());
    Ok(())
}

/// As little as can be done with a snapshot: until its end marker, nothing looked at and nothing kept.
fn sink(address: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address)?;
    let mut replies = BufReader::with_capacity(BUFFER, stream.try_clone()?);
    let mut line = String::new();
    for words in
        [&[&b"REPLCONF"[..], b"capa", b"eof"], &[&b"REPLCONF"[..], b"rdb-only", b"1"], &[&b"PSYNC"[..], b"?", b"-1"]]
    {
        let mut command = Vec::new();
        put(&mut command, words);
        (&stream).write_all(&command)?;
        line.clear();
        replies.read_line(&mut line)?;
    }
    let marker = loop {
        line.clear();
        if replies.read_line(&mut line)? == 0 {
            bail!("the server sends no snapshot");
        }
        if let Some(marker) = line.trim().strip_prefix("$EOF:") {
            break marker.as_bytes().to_vec();
        }
    };
    let mut tail: Vec<u8> = Vec::new();
    while tail != marker {
        let piece = replies.fill_buf()?;
        if piece.is_empty() {
            bail!("the snapshot broke off");
        }
        let length = piece.len();
        tail.extend_from_slice(piece.get(length.saturating_sub(marker.len())..).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(marker.len()));
        replies.consume(length);
    }
    Ok(())
}

/// Hears everything and says nothing.
struct Silent;

impl Listener for Silent {
    fn hear(&self, _event: Event) {}
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn name(text: &str) -> anyhow::Result<Name> {
    Name::parse(text).with_context(|| format!("`{text}` is no name"))
}

fn capture(address: SocketAddr, keys: u64, folder: &str, recipient: &str) -> anyhow::Result<()> {
    let names = Names::lasting(name("bench")?, name("measured")?);
    let recipients = match recipient {
        "-" => Vec::new(),
        text => vec![Recipient::parse(text).context("no recipient")?],
    };
    let repository = Repository::new(Arc::new(Local::new(folder)), "bench", "measured").encrypted_to(recipients);
    let request = BackupRequest {
        address,
        password: Secret::new(PASSWORD),
        container: "cache".to_owned(),
        image: "bench".to_owned(),
        server: "redis 7.0.15".to_owned(),
        expected_keys: keys,
        repository,
        reason: "to measure".to_owned(),
        change: false,
        revision: Digest::of(b"bench"),
        memory_limit: 0,
    };
    let manifest =
        runtime()?.block_on(take_backup(&names, request, 1, &Silent)).map_err(|why| anyhow::anyhow!("{why}"))?;
    let held: u64 = manifest.counts.databases.values().sum();
    if held != keys {
        bail!("the backup holds {held} keys, and the server has {keys}");
    }
    Ok(())
}

type Convert = fn(&Entry<'_>, &[u8], &mut Room, &mut Vec<u8>) -> anyhow::Result<()>;

/// Writes what a client would send to make the keys that match.
fn convert(dump: &str, out: &str, pattern: &str, one: Convert) -> anyhow::Result<()> {
    let pattern = Glob::new(pattern.as_bytes());
    let mut out = BufWriter::with_capacity(BUFFER, File::create(out)?);
    let (mut frames, mut room, mut bytes) = (Frames::new(File::open(dump)?), Room::default(), Vec::new());
    while let Some(batch) = frames.next_batch()? {
        for record in batch.records() {
            let Record::Key(entry) = record? else { continue };
            let mut name = Vec::new();
            let key = entry.key(&mut name)?;
            if pattern.matches(key) {
                bytes.clear();
                one(&entry, key, &mut room, &mut bytes)?;
                out.write_all(&bytes)?;
            }
        }
        frames.recycle(batch);
    }
    out.flush()?;
    Ok(())
}

/// What somebody who writes a script would send.
fn commands(entry: &Entry<'_>, key: &[u8], room: &mut Room, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let verb: &[u8] = match entry.kind {
        rdb::Type::String => b"SET",
        rdb::Type::List => b"RPUSH",
        rdb::Type::Set => b"SADD",
        rdb::Type::Zset => b"ZADD",
        rdb::Type::Hash => b"HSET",
        _ => bail!("no command for such a key"),
    };
    let mut words: Vec<Vec<u8>> = vec![verb.to_vec(), key.to_vec()];
    entry.read(room, |element| match element {
        Element::Text(text) | Element::Item(text) | Element::Member(text) => words.push(text.to_vec()),
        Element::Scored(member, score) => words.extend([score.to_string().into_bytes(), member.to_vec()]),
        Element::Field { name, value, .. } => words.extend([name.to_vec(), value.to_vec()]),
        _ => {}
    })?;
    let at = entry.expires_at_ms.map(|at| at.to_string().into_bytes());
    if let (Some(at), rdb::Type::String) = (&at, entry.kind) {
        words.extend([b"PXAT".to_vec(), at.clone()]);
    }
    put(out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    if let Some(at) = at.filter(|_| entry.kind != rdb::Type::String) {
        put(out, &[b"PEXPIREAT", key, &at]);
    }
    Ok(())
}

/// The form that takes the server the least: strings as they are, everything else as it lies in memory.
fn payload(entry: &Entry<'_>, key: &[u8], room: &mut Room, out: &mut Vec<u8>) -> anyhow::Result<()> {
    if entry.kind == rdb::Type::String {
        return commands(entry, key, room, out);
    }
    let mut payload = Vec::new();
    let target = Target { family: Family::Redis, version: 10 };
    rdb::dump(entry, target, Form::AsWritten, room, &mut payload)?;
    let at = entry.expires_at_ms.unwrap_or(0).to_string();
    put(out, &[b"RESTORE", key, at.as_bytes(), &payload, b"ABSTTL"]);
    Ok(())
}

/// Sends a file of commands while another thread throws the answers away, up to that of a last PING.
fn send(address: SocketAddr, file: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address)?;
    let mut replies = stream.try_clone()?;
    let reading = std::thread::spawn(move || -> anyhow::Result<()> {
        let (mut buffer, mut tail) = (vec![0; BUFFER], Vec::new());
        while tail != b"+PONG\r\n" {
            let read = replies.read(&mut buffer)?;
            if read == 0 {
                bail!("the server closed");
            }
            tail.extend_from_slice(buffer.get(..read).unwrap_or_default());
            tail.drain(..tail.len().saturating_sub(7));
        }
        Ok(())
    });
    let (mut file, mut to) = (File::open(file)?, &stream);
    io::copy(&mut file, &mut to)?;
    to.write_all(b"PING\r\n")?;
    reading.join().unwrap_or_else(|_| bail!("reading broke off"))
}

fn warm(address: SocketAddr, dump: &str, journal: &str, pattern: &str) -> anyhow::Result<()> {
    let source = Source {
        address,
        user: String::new(),
        password: String::new(),
        timeout: Duration::from_secs(60),
        announce_version: None,
    };
    let keys = match pattern {
        "*" => Vec::new(),
        text => vec![Glob::new(text.as_bytes())],
    };
    let options = restore::Options { choice: Choice { keys, ..Choice::default() }, ..restore::Options::default() };
    let session = Session::open(&source)?;
    let header = session.header(b"bench");
    let mut journal = Journal::begin(File::create(journal)?, |file| file.sync_data(), &header)?;
    let done = session.warm(File::open(dump)?, &options, &mut journal, &header, None, &mut |_| ());
    done.map_err(|broken| anyhow::anyhow!("{broken}"))?;
    journal.finish()?.sync_all()?;
    Ok(())
}

fn drilled(dump: &str, image: &str, stack: &str, used_memory: u64, out: &str) -> anyhow::Result<()> {
    let snapshot = File::open(dump)?;
    let wanted = Wanted {
        stack: name(stack)?,
        service: name("cache")?,
        image: image.to_owned(),
        server: ServerVersion::parse("redis 7.0.15").context("no version")?,
        user: (999, 999),
        size: snapshot.metadata()?.len(),
        used_memory,
        databases: 16,
    };
    let runtime = runtime()?;
    let engine = runtime.block_on(Engine::connect(&format!("unix://{}", engine::SOCKET)))?;
    let ended = AtomicBool::new(false);
    let began = Instant::now();
    let (drilled, started) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| started(stack, began, &ended));
        let drilled = runtime.block_on(drill(&engine, &wanted, snapshot, 1, &Silent));
        ended.store(true, Ordering::Relaxed);
        (drilled, looking.join().unwrap_or_else(|_| bail!("looking broke off")))
    });
    let drilled = drilled.map_err(|why| anyhow::anyhow!("{why}"))?;
    let (recovery, elapsed) = (drilled.recovery_ms as f64 / 1e3, drilled.elapsed_ms as f64 / 1e3);
    let started = started?;
    let told = json!({
        "recovery": recovery, "prepare and upload": started, "start and load": recovery - started,
        "read back, compare, clear away": elapsed - recovery,
    });
    store::files::write_atomically(Path::new(out), told.to_string().as_bytes(), 0o600)
}

/// When a container of the drill was first seen running.
fn started(stack: &str, began: Instant, ended: &AtomicBool) -> anyhow::Result<f64> {
    let mut engine = Connection::open()?;
    let path = format!("/containers/json?{}", engine::filter("name", &[format!("^/?{stack}-drill-")]));
    while !ended.load(Ordering::Relaxed) {
        let seconds = began.elapsed().as_secs_f64();
        if engine.get(&path)?.as_array().is_some_and(|found| found.iter().any(running)) {
            return Ok(seconds);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("nobody saw the drill's server run")
}

fn running(container: &Value) -> bool {
    container.get("State").and_then(Value::as_str) == Some("running")
}

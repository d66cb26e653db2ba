//! What is read of one server's snapshot, written again, loaded by another, pulled from it: the same data.

use crate::support::docker::STACK;
use crate::support::snapshot::{self, PASSWORD};
use crate::support::{Plain, Scenario, dataset};
use lockstep::digest::{Hasher, Key, Lane, read};
use lockstep::event::{Event, Listener};
use lockstep::failure::Kind;
use lockstep::rdb::{Family, Form, Frames, Record, Room, Target, WriteError, Writer};
use lockstep::redis::pull;
use lockstep::value::{Name, ServerVersion};
use lockstep::world::drill::drill;
use lockstep::world::throwaway::Wanted;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A server's tag, and what it reads.
const TARGETS: [(&str, Target); 5] = [
    ("redis:6.0", Target { family: Family::Redis, version: 9 }),
    ("redis:7.0", Target { family: Family::Redis, version: 10 }),
    ("redis:8.0", Target { family: Family::Redis, version: 12 }),
    ("valkey:8.1", Target { family: Family::Redis, version: 11 }),
    ("valkey:9.0", Target { family: Family::Valkey, version: 80 }),
];

fn hasher() -> Hasher {
    Hasher::new(&Key::new([42; 32]), None)
}

fn filled(stack: &Scenario, server: &str) -> Vec<u8> {
    let arguments: &[&str] = if server.starts_with("redis:6") { &[] } else { &["--enable-debug-command", "yes"] };
    let mut plain = Plain::start(stack, &format!("lockstep/{server}"), None, arguments);
    dataset::fill(&mut plain.redis, server);
    plain.save()
}

/// Everything of the dump in plain form, but what the target has no form for.
fn rewritten(dump: &[u8], target: Target) -> (Vec<u8>, Vec<String>) {
    let (mut frames, mut room, mut lost) = (Frames::new(dump), Room::default(), Vec::new());
    let mut writer = Writer::begin(Vec::new(), target).expect("memory");
    while let Some(batch) = frames.next_batch().expect("an RDB") {
        for record in batch.records() {
            match record.expect("a record") {
                Record::Key(entry) => match writer.key(&entry, entry.expires_at_ms, Form::Plain, &mut room) {
                    Ok(written) => assert!(written),
                    Err(WriteError::Loses { key, what }) => {
                        assert_eq!(what, "expiry for the fields of a hash");
                        lost.push(String::from_utf8_lossy(&key).into_owned());
                    }
                    Err(error) => panic!("{error}"),
                },
                Record::Announced { database, keys, expires } => {
                    writer.announce(database, keys, expires).expect("memory");
                }
                Record::Function(written) if target.version >= 10 => writer.function(written).expect("memory"),
                _ => {}
            }
        }
    }
    (writer.finish().expect("memory"), lost)
}

/// What a server of the image sends when it has loaded the snapshot.
///
/// One that says nothing to anybody is started once more, and what it wrote is shown: a server was seen to stop so once,
/// among those that Valkey 9.0.0's snapshot is given to, and nobody knows why. One that answers others and not this is a fault of ours.
fn loaded_and_pulled(stack: &Scenario, image: &str, plain: &[u8], arguments: &[&str]) -> pull::Pulled {
    let once = || {
        let loaded = Plain::start(stack, image, Some(plain), arguments);
        let address = stack.docker.address(&loaded.name, "bridge");
        let source = pull::Source {
            address: format!("{address}:6379").parse().expect("an address"),
            user: "default".to_owned(),
            password: PASSWORD.to_owned(),
            timeout: Duration::from_secs(120),
            announce_version: None,
        };
        pull::pull(&source, &hasher(), &mut io::sink(), &mut |_, _| ()).map_err(|error| {
            let state = stack.docker.inspect(&loaded.name)["State"].to_string();
            let said =
                format!("{image}: {error}\nits container: {state}\nits log:\n{}", stack.docker.logs(&loaded.name));
            (said, answers(&source))
        })
    };
    let (said, is_there) = match once() {
        Ok(pulled) => return pulled,
        Err(failed) => failed,
    };
    assert!(!is_there, "a snapshot of a server that answers: {said}");
    eprintln!("a server that does not answer anybody is started once more: {said}");
    once().unwrap_or_else(|(said, _)| panic!("a snapshot: {said}"))
}

/// Whether the server says anything to somebody else.
fn answers(source: &pull::Source) -> bool {
    let ask = || -> io::Result<usize> {
        let mut stream = TcpStream::connect_timeout(&source.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"PING\r\n")?;
        stream.read(&mut [0; 16])
    };
    ask().is_ok_and(|read| read > 0)
}

fn crosses(test: &'static str, server: &str) {
    let stack = Scenario::new(test);
    let dump = filled(&stack, server);
    for (other, target) in TARGETS {
        let image = format!("lockstep/{other}");
        let (plain, lost) = rewritten(&dump, target);
        let has_field_expiry = target.version >= 12;
        assert!(lost.is_empty() || !has_field_expiry, "{server} to {other}: {lost:?}");
        let expected = read(plain.as_slice(), &hasher(), |_| Ok(())).expect("what was just written");
        if lost.is_empty() && target.version >= 10 {
            let whole = read(dump.as_slice(), &hasher(), |_| Ok(())).expect("the dump");
            assert_eq!(expected.keyspace.differs(&whole.keyspace), [], "{server} to {other}: written");
        }
        let (fine, said) = snapshot::check_rdb(&stack, &image, &plain);
        assert!(fine, "{server} to {other}: {said}");
        let arguments: &[&str] = if other.starts_with("redis:6") { &["--repl-diskless-sync", "yes"] } else { &[] };
        let pulled = loaded_and_pulled(&stack, &image, &plain, arguments);
        let mut differs = pulled.keyspace.differs(&expected.keyspace);
        // Before 7.0 no stream has them, and a newer server makes them up.
        if target.version < 10 || server.starts_with("redis:6") {
            differs.retain(|lane| *lane != Lane::StreamCounters);
        }
        assert_eq!(differs, [], "{server} to {other}: loaded and pulled");
    }
}

#[test]
fn redis_6_0_crosses_to_every_other() {
    crosses("across60", "redis:6.0");
}

#[test]
fn redis_7_0_crosses_to_every_other() {
    crosses("across70", "redis:7.0");
}

#[test]
fn redis_8_0_crosses_to_every_other() {
    crosses("across80", "redis:8.0");
}

#[test]
fn valkey_9_0_crosses_to_every_other() {
    crosses("acrossv90", "valkey:9.0");
}

struct Silent;

impl Listener for Silent {
    fn hear(&self, _event: Event) {}
}

/// The drill of a dump in the image that wrote it, on the engine's own terms.
fn drilled(stack: &Scenario, server: &str, dump: Vec<u8>) -> Result<lockstep::world::drill::Drilled, String> {
    let size = dump.len() as u64;
    drilled_from(stack, server, size, io::Cursor::new(dump))
}

fn drilled_from(
    stack: &Scenario,
    server: &str,
    size: u64,
    source: impl io::Read + Send + 'static,
) -> Result<lockstep::world::drill::Drilled, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (family, version) = server.split_once(':').expect("a tag");
    let wanted = Wanted {
        stack: Name::parse(&stack.stack).expect("a name"),
        service: Name::parse("cache").expect("a name"),
        image: stack.docker.image_id(&format!("lockstep/{server}")),
        server: ServerVersion::parse(&format!("{family} {version}.0")).expect("a version"),
        user: (999, 999),
        size,
        used_memory: 64 << 20,
        databases: 16,
    };
    let result = runtime.block_on(async {
        let engine = lockstep::engine::Engine::connect("unix:///var/run/docker.sock").await.expect("an engine");
        drill(&engine, &wanted, source, 1, &Silent).await
    });
    result.map_err(|failure| format!("{:?}: {failure}", failure.kind))
}

fn drills(test: &'static str, server: &str) {
    let stack = Scenario::new(test);
    let dump = filled(&stack, server);
    let keys = lockstep::rdb::walk(dump.as_slice()).expect("an RDB").keys();
    let shown = drilled(&stack, server, dump.clone()).expect("a drill");
    assert_eq!((shown.keys, shown.bytes), (keys, dump.len() as u64));
    assert!(shown.recovery_ms > 0 && shown.recovery_ms <= shown.elapsed_ms);
    assert!(shown.server.replace(' ', ":").starts_with(server), "{}", shown.server);

    let mut broken = dump;
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let why = drilled(&stack, server, broken).expect_err("a damaged snapshot");
    assert!(why.starts_with(&format!("{:?}", Kind::Differences)) && why.contains("is damaged"), "{why}");
    assert!(stack.docker.labelled(STACK, &stack.stack).is_empty(), "something is left of a drill");
}

#[test]
fn a_drill_proves_what_redis_6_0_wrote() {
    drills("drill60", "redis:6.0");
}

/// Streams of 6.0 lack what streams count since 7.0, and still do in a file of the newer version.
#[test]
fn a_drill_proves_what_was_written_anew_for_a_newer_server() {
    let stack = Scenario::new("drillanew");
    let dump = filled(&stack, "redis:6.0");
    let (anew, lost) = rewritten(&dump, Target { family: Family::Redis, version: 10 });
    assert!(lost.is_empty(), "{lost:?}");
    let summary = lockstep::rdb::walk(anew.as_slice()).expect("an RDB");
    assert_eq!(summary.version, 10);
    assert_eq!(drilled(&stack, "redis:7.0", anew).expect("a drill").keys, summary.keys());
}

#[test]
fn a_drill_proves_what_redis_8_0_wrote() {
    drills("drill80", "redis:8.0");
}

#[test]
fn a_drill_proves_what_valkey_9_0_wrote() {
    drills("drillv90", "valkey:9.0");
}

/// What cannot be had says nothing about what was stored.
#[test]
fn a_store_that_breaks_off_is_no_damage() {
    struct Reset;
    impl io::Read for Reset {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "the store has gone away"))
        }
    }
    let stack = Scenario::new("drillreset");
    let mut plain = Plain::start(&stack, "lockstep/redis:7.0", None, &[]);
    plain.redis.fill(1000);
    let dump = plain.save();
    let (size, half) = (dump.len() as u64, dump[..dump.len() / 2].to_vec());
    let why = drilled_from(&stack, "redis:7.0", size, io::Read::chain(io::Cursor::new(half), Reset));
    let why = why.expect_err("half a snapshot");
    assert!(why.starts_with(&format!("{:?}", Kind::Error)) && why.contains("the store has gone away"), "{why}");
    assert!(stack.docker.labelled(STACK, &stack.stack).is_empty(), "something is left of a drill");
}

/// A primary drops what has expired while it loads; a drill compares all the same.
#[test]
fn a_drill_compares_keys_whose_time_has_passed() {
    let stack = Scenario::new("drillpast");
    let mut plain = Plain::start(&stack, "lockstep/redis:7.0", None, &["--enable-debug-command", "yes"]);
    plain.redis.ask::<()>(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    for number in 0..200 {
        plain.redis.ask::<()>(&["SET", &format!("gone:{number}"), "value", "PX", "1"]);
        plain.redis.ask::<()>(&["SET", &format!("here:{number}"), "value"]);
    }
    let dump = plain.save();
    assert_eq!(lockstep::rdb::walk(dump.as_slice()).expect("an RDB").keys(), 400, "the snapshot has them");
    assert_eq!(drilled(&stack, "redis:7.0", dump).expect("a drill").keys, 400);
}

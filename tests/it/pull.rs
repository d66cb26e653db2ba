//! What `lockstep::redis::pull` does with everything a server may answer, from a server that follows a script.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crc::{CRC_64_REDIS, Crc};
use lockstep::digest::{Hasher, Key};
use lockstep::rdb::RdbErrorKind;
use lockstep::redis::pull::{Doing, PullError, Pulled, Source, pull};

const ID: &str = "36bfc14b452b48df500430d43e3e7052f8fa9df5";
const MARKER: &[u8; 40] = b"0123456789abcdef0123456789abcdef01234567";

/// An RDB of `keys` keys.
fn rdb(keys: u32) -> Vec<u8> {
    let mut bytes = b"REDIS0010".to_vec();
    for key in 0..keys {
        bytes.extend([&[0, 4][..], &key.to_be_bytes(), &[0x41, 0x2c], &[b'v'; 300]].concat());
    }
    bytes.push(255);
    let checksum = Crc::<u64>::new(&CRC_64_REDIS).checksum(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn diskless(rdb: &[u8]) -> Vec<u8> {
    [b"\n\n$EOF:", &MARKER[..], b"\r\n", rdb, &MARKER[..]].concat()
}

fn from_disk(rdb: &[u8], announced: usize) -> Vec<u8> {
    [format!("\n${announced}\r\n").as_bytes(), rdb].concat()
}

/// What to answer, by the command's first words in lower case. The answer to PSYNC comes in pieces, each after a pause.
#[derive(Clone)]
struct Script {
    answers: Vec<(&'static str, String)>,
    stream: Vec<Vec<u8>>,
    pause: Duration,
    /// Keeps the connection open after the last piece instead of closing it.
    hold: bool,
}

impl Script {
    fn new(stream: impl Into<Vec<u8>>) -> Self {
        let stream = vec![format!("\n\n+FULLRESYNC {ID} 4711\r\n").into_bytes(), stream.into()];
        Self { answers: Vec::new(), stream, pause: Duration::ZERO, hold: false }
    }

    fn answering(mut self, command: &'static str, answer: &str) -> Self {
        self.answers.push((command, answer.to_owned()));
        self
    }

    fn refusing_psync(answer: &str) -> Self {
        Self { stream: vec![answer.as_bytes().to_vec()], ..Self::new([]) }
    }

    /// Serves one connection and hands back the commands that came.
    fn serve(self) -> (SocketAddr, Receiver<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut input = BufReader::new(stream.try_clone().expect("a second handle"));
            let mut commands = Vec::new();
            while let Some(command) = command(&mut input) {
                commands.push(command.clone());
                if command.starts_with("psync") {
                    for piece in &self.stream {
                        let _ = stream.write_all(piece);
                        thread::sleep(self.pause);
                    }
                    if self.hold {
                        let _ = input.read(&mut [0]);
                    }
                    break;
                }
                let answer = self.answers.iter().find(|(start, _)| command.starts_with(start));
                let usual = if command == "hello" { "-ERR unknown command `HELLO`\r\n" } else { "+OK\r\n" };
                let _ = stream.write_all(answer.map_or(usual, |(_, answer)| answer).as_bytes());
            }
            let _ = sender.send(commands);
        });
        (address, receiver)
    }
}

fn command(input: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let words: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let words = (0..words).map(|_| {
        line.clear();
        input.read_line(&mut line).ok()?;
        let mut word = vec![0; line.trim_end().strip_prefix('$')?.parse::<usize>().ok()? + 2];
        input.read_exact(&mut word).ok()?;
        String::from_utf8(word).ok().map(|word| word.trim_end().to_lowercase())
    });
    words.collect::<Option<Vec<_>>>().map(|words| words.join(" "))
}

fn hasher() -> Hasher {
    Hasher::new(&Key::new([7; 32]), None)
}

fn source(address: SocketAddr) -> Source {
    Source {
        address,
        user: "backup".to_owned(),
        password: "s3cret-of-backup".to_owned(),
        timeout: Duration::from_millis(500),
        announce_version: None,
    }
}

fn run(script: Script) -> (Result<Pulled, PullError>, Vec<u8>, Vec<String>) {
    let (address, commands) = script.serve();
    let mut into = Vec::new();
    let result = pull(&source(address), &hasher(), &mut into, &mut |_, _| ());
    (result, into, commands.recv().unwrap_or_default())
}

fn refused(script: Script) -> PullError {
    let error = run(script).0.expect_err("something to refuse");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    error
}

#[test]
fn a_snapshot_arrives_as_it_is_either_way() {
    let whole = rdb(5000);
    for stream in
        [diskless(&whole), from_disk(&whole, whole.len()), [&diskless(&whole)[..], b"\n*1\r\n$4\r\nPING\r\n"].concat()]
    {
        for hold in [false, true] {
            let (result, into, _) = run(Script { hold, ..Script::new(stream.clone()) });
            let pulled = result.expect("a snapshot");
            assert!(into == whole);
            assert_eq!((pulled.replication_id.as_str(), pulled.replication_offset), (ID, 4711));
            assert_eq!((pulled.summary.keys(), pulled.summary.bytes), (5000, whole.len() as u64));
            assert!(pulled.wait <= pulled.elapsed);
        }
    }
}

#[test]
fn a_snapshot_arrives_in_pieces_of_any_size() {
    let whole = rdb(3);
    for size in [1, 2, 3, 5, 8, 13, 100] {
        for stream in [diskless(&whole), from_disk(&whole, whole.len())] {
            let mut script = Script::new([]);
            script.stream = [script.stream.concat(), stream].concat().chunks(size).map(<[u8]>::to_vec).collect();
            let (result, into, _) = run(script);
            result.expect("a snapshot");
            assert_eq!(into, whole);
        }
    }
}

#[test]
fn progress_tells_the_bytes_and_the_total_where_there_is_one() {
    let whole = rdb(5000);
    for (stream, total) in [(diskless(&whole), None), (from_disk(&whole, whole.len()), Some(whole.len() as u64))] {
        let (address, _commands) = Script::new(stream).serve();
        let mut seen = Vec::new();
        pull(&source(address), &hasher(), &mut io::sink(), &mut |bytes, of| seen.push((bytes, of)))
            .expect("a snapshot");
        assert!(seen.is_sorted() && seen.iter().all(|(_, of)| *of == total));
        assert_eq!(seen.last().map(|(bytes, _)| *bytes), Some(whole.len() as u64));
    }
}

#[test]
fn newlines_hold_the_timeout_off() {
    let mut script = Script::new(diskless(&rdb(1)));
    script.stream.splice(1..1, vec![b"\n".to_vec(); 6]);
    script.pause = Duration::from_millis(150);
    run(script).0.expect("a snapshot, after more than the timeout");
}

#[test]
fn a_silent_server_is_an_error_and_not_a_hang() {
    let whole = rdb(5000);
    let head = format!("+FULLRESYNC {ID} 4711\r\n").into_bytes();
    let cut = |stream: &[u8]| stream[..stream.len() / 2].to_vec();
    for (stream, doing) in [
        (vec![], Doing::Asking),
        (vec![head.clone()], Doing::Waiting),
        (vec![head.clone(), b"\n\n".to_vec()], Doing::Waiting),
        (vec![head.clone(), b"$1000\r\n".to_vec()], Doing::Waiting),
        (vec![head.clone(), cut(&diskless(&whole))], Doing::Reading),
        (vec![head.clone(), cut(&from_disk(&whole, whole.len()))], Doing::Reading),
    ] {
        let error = refused(Script { stream, hold: true, ..Script::new([]) });
        assert!(matches!(error, PullError::Silent { doing: at, .. } if at == doing), "{error}");
    }
}

#[test]
fn a_cut_stream_is_refused_wherever_it_is_cut() {
    let whole = rdb(2);
    for stream in [diskless(&whole), from_disk(&whole, whole.len())] {
        for end in 0..stream.len() {
            let error = refused(Script::new(&stream[..end]));
            assert!(matches!(error, PullError::Closed { .. }), "cut at {end}: {error}");
        }
    }
    let error = refused(Script::new(&diskless(&whole)[..100]));
    assert!(
        error.to_string().starts_with("the server closed the connection after 51 bytes of the snapshot; "),
        "{error}"
    );
}

#[test]
fn an_rdb_has_to_end_where_it_should() {
    let whole = rdb(10);
    let length = whole.len();
    let longer = [&whole[..], b"more"].concat();
    let error = refused(Script::new(from_disk(&longer, longer.len())));
    assert!(
        matches!(error, PullError::Leftover { ended, announced } if (ended, announced) == (length as u64, length as u64 + 4))
    );
    let error = refused(Script::new(from_disk(&whole, length - 1)));
    assert!(matches!(error, PullError::Overrun { announced } if announced == length as u64 - 1));
    let mut wrong = diskless(&whole);
    *wrong.last_mut().expect("a marker") ^= 1;
    assert!(matches!(refused(Script::new(wrong)), PullError::Marker { at } if at == length as u64));
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let mut damaged = rdb(10);
    damaged[100] ^= 1;
    for stream in [diskless(&damaged), from_disk(&damaged, damaged.len())] {
        let error = refused(Script::new(stream));
        assert!(
            matches!(&error, PullError::Snapshot(cause) if matches!(cause.kind, RdbErrorKind::Checksum { .. })),
            "{error}"
        );
    }
}

#[test]
fn every_refusal_says_what_to_do() {
    for (script, message) in [
        (
            Script::new([]).answering("auth", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
            "the server does not accept the password of user `backup`; compare user and password with the server's ACL; it may also be switched off",
        ),
        (
            Script::new([]).answering(
                "auth",
                "-ERR unknown command 'AUTH', with args beginning with: 'backup' 's3cret-of-backup' \r\n",
            ),
            "the server refused `AUTH`: `ERR unknown command`; compare user and password with the server's configuration",
        ),
        (
            Script::new([]).answering("replconf capa", "-NOAUTH Authentication required.\r\n"),
            "the server asks for a user and a password; give a user that may run `+psync +replconf +ping +client|setname`",
        ),
        (
            Script::new([])
                .answering("replconf", "-NOPERM this user has no permissions to run the 'replconf' command\r\n"),
            "the user may not run `REPLCONF`; give the user `+psync +replconf +ping +client|setname` with `ACL SETUSER`",
        ),
        (
            Script::refusing_psync("-NOPERM this user has no permissions to run the 'psync' command\r\n"),
            "the user may not run `PSYNC`; give the user `+psync +replconf +ping +client|setname` with `ACL SETUSER`",
        ),
        (
            Script::refusing_psync("-LOADING Redis is loading the dataset in memory\r\n"),
            "the server is still loading its dataset; wait until `INFO persistence` shows `loading:0`, then run this again",
        ),
        (
            Script::refusing_psync(
                "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
            ),
            "the server is a replica without a link to its primary; take the snapshot from the primary, or wait until the replica is in step again",
        ),
        (
            Script::refusing_psync("-NOMASTERLINK Can't SYNC while not connected with my master\r\n"),
            "the server is a replica without a link to its primary; take the snapshot from the primary, or wait until the replica is in step again",
        ),
        (
            Script::refusing_psync("-ERR unknown command 'PSYNC'\r\n"),
            r"the server refused `PSYNC`: `ERR unknown command 'PSYNC'`; check that the server allows replication and has not renamed its commands",
        ),
        (
            Script::new("-BGSAVE failed, replication can't continue\r\n"),
            r"the server could not make a snapshot: `BGSAVE failed, replication can't continue`; the server needs memory for a fork: see its log, its memory limit and `vm.overcommit_memory`",
        ),
        (
            Script::refusing_psync("+CONTINUE\r\n"),
            "unexpected answer while asking for a snapshot: `+CONTINUE`; check that this is the port of a Redis or Valkey",
        ),
        (
            Script::new([]).answering("auth", "HTTP/1.1 400 Bad Request\r\n"),
            "unexpected answer while signing in: `HTTP/1.1 400 Bad Request`; check that this is the port of a Redis or Valkey",
        ),
    ] {
        assert_eq!(refused(script).to_string(), message);
    }
}

#[test]
fn what_an_old_or_a_strict_server_lacks_is_done_without() {
    let script = Script::new(diskless(&rdb(1)))
        .answering("client", "-NOPERM this user has no permissions to run the 'client|setname' command\r\n")
        .answering("replconf rdb-only", "-ERR Unrecognized REPLCONF option: rdb-only\r\n")
        .answering("replconf version", "-ERR Unrecognized REPLCONF option: version\r\n");
    let (result, _, commands) = run(script);
    result.expect("a snapshot");
    let sent = [
        "auth backup s3cret-of-backup",
        "client setname lockstep-backup",
        "hello",
        "replconf capa eof",
        "replconf rdb-only 1",
        "psync ? -1",
    ];
    assert_eq!(commands, sent);
}

#[test]
fn a_valkey_is_told_its_own_version_and_a_redis_none() {
    let hello = |server: &str| {
        let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let fields = [text("server"), text(server), text("version"), text("9.1.2"), text("proto"), ":2\r\n".to_owned()];
        let modules =
            [text("modules"), "*1\r\n*4\r\n".to_owned(), text("name"), text("bf"), text("version"), text("1")];
        format!("*8\r\n{}{}", fields.concat(), modules.concat())
    };
    let (result, _, commands) = run(Script::new(diskless(&rdb(1))).answering("hello", &hello("valkey")));
    result.expect("a snapshot");
    assert!(commands.contains(&"replconf version 9.1.2".to_owned()), "{commands:?}");
    let (result, _, commands) = run(Script::new(diskless(&rdb(1))).answering("hello", &hello("redis")));
    result.expect("a snapshot");
    assert!(commands.iter().all(|command| !command.contains("version")), "{commands:?}");

    let (address, commands) = Script::new(diskless(&rdb(1))).serve();
    let source = Source {
        announce_version: Some("9.0.0".to_owned()),
        user: String::new(),
        password: String::new(),
        ..source(address)
    };
    pull(&source, &hasher(), &mut io::sink(), &mut |_, _| ()).expect("a snapshot");
    let sent = [
        "client setname lockstep-backup",
        "replconf capa eof",
        "replconf rdb-only 1",
        "replconf version 9.0.0",
        "psync ? -1",
    ];
    assert_eq!(commands.recv().expect("the commands"), sent);
}

#[test]
fn answers_without_end_are_refused() {
    for answer in ["+".repeat(100_000), "*99999999\r\n".repeat(10_000), "*2\r\n$9999999999\r\n".to_owned()] {
        let error = refused(Script::new(diskless(&rdb(1))).answering("hello", &answer));
        assert!(matches!(error, PullError::Unexpected { .. } | PullError::Silent { .. }), "{error}");
    }
}

#[test]
fn a_target_that_fails_is_told_from_the_snapshot() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for room in [0, 400_000, 1_500_000] {
        let (address, _commands) = Script::new(diskless(&rdb(5000))).serve();
        let error = pull(&source(address), &hasher(), &mut Full(room), &mut |_, _| ()).expect_err("no room");
        assert!(matches!(&error, PullError::Write(cause) if cause.kind() == io::ErrorKind::StorageFull), "{error}");
    }
}

#[test]
fn nobody_at_the_address_is_told_with_the_address() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let error = pull(&source(address), &hasher(), &mut io::sink(), &mut |_, _| ()).expect_err("nobody there");
    assert!(error.to_string().starts_with(&format!("could not connect to {address}: ")), "{error}");
    assert!(format!("{:?}", source(address)).contains("(secret)"));
}

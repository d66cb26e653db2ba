//! What `lockstep::restore` promises, and what a restore does with everything a server may answer.

use crate::rdb::{snapshot_of, text};
use lockstep::engine::docker::Image;
use lockstep::finding::Severity;
use lockstep::redis::pull::Source;
use lockstep::redis::restore::{Broken, Options, Report, RestoreError, Session, user};
use lockstep::restore::journal::{Before, Frame, Header, Journal, JournalError, Reader};
use lockstep::restore::{Choice, Existing, Facts, Forecast, Ttl, forecast};
use lockstep::value::Glob;
use lockstep::value::ServerVersion;
use lockstep::world::throwaway::server_in;
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

// ---------------------------------------------------------------------------------------------------------------------
// Patterns
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn patterns_mean_what_they_mean_to_a_server() {
    for (pattern, yes, no) in [
        ("*", &["", "a", "a:b"][..], &[][..]),
        ("", &[""], &["a"]),
        ("h?llo", &["hello", "h\u{1}llo"], &["hllo", "heello"]),
        ("h*llo", &["hllo", "heeeello"], &["hell"]),
        ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
        ("h[^e]llo", &["hallo", "hbllo"], &["hello", "hllo"]),
        ("h[a-c]llo", &["hallo", "hbllo", "hcllo"], &["hdllo"]),
        ("h[c-a]llo", &["hbllo"], &["hdllo"]),
        ("page:\\*", &["page:*"], &["page:1"]),
        ("[\\]]", &["]"], &["\\"]),
        ("[]", &[], &["", "]"]),
        ("[^]", &["a", "]"], &[""]),
        ("[a-", &["a", "-"], &["b"]),
        ("[ab", &["a", "b"], &["c", "["]),
        ("a\\", &["a\\"], &["a"]),
        ("**a**", &["a", "bab"], &["b"]),
        ("*a*b", &["ab", "aab", "xaxb"], &["ba", "abx"]),
        ("session:[0-9]*", &["session:1", "session:1a"], &["session:a"]),
    ] {
        let compiled = Glob::new(pattern.as_bytes());
        for (keys, wanted) in [(yes, true), (no, false)] {
            for key in keys {
                assert_eq!(compiled.matches(key.as_bytes()), wanted, "`{pattern}` of `{key}`");
            }
        }
    }
}

#[test]
fn no_pattern_takes_more_than_a_moment() {
    let key = vec![b'a'; 20_000];
    for pattern in ["a*a*a*a*a*a*a*a*a*a*a*a*b", "*a*a*a*a*a*a*a*a*b", "*[ab]*[ab]*[^a]*c"] {
        assert!(!Glob::new(pattern.as_bytes()).matches(&key));
    }
    assert!(!Glob::new(&[&b"*a".repeat(5000)[..], b"b"].concat()).matches(&key));
}

/// The meaning in a few lines, for patterns of stars, question marks and letters.
fn plainly(pattern: &[u8], key: &[u8]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=key.len()).any(|at| plainly(rest, &key[at..])),
        (Some((b'?', rest)), Some((_, key))) => plainly(rest, key),
        (Some((wanted, rest)), Some((byte, key))) => wanted == byte && plainly(rest, key),
        _ => false,
    }
}

proptest! {
    #[test]
    fn stars_match_as_they_should(pattern in "[ab?*]{0,8}", key in "[ab]{0,10}") {
        let matches = Glob::new(pattern.as_bytes()).matches(key.as_bytes());
        prop_assert_eq!(matches, plainly(pattern.as_bytes(), key.as_bytes()));
    }

    #[test]
    fn any_bytes_are_a_pattern(pattern in vec(any::<u8>(), 0..40), key in vec(any::<u8>(), 0..40)) {
        let _ = Glob::new(&pattern).matches(&key);
        let escaped: Vec<u8> = key.iter().flat_map(|byte| [b'\\', *byte]).collect();
        prop_assert!(Glob::new(&escaped).matches(&key));
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Expiries
    // -----------------------------------------------------------------------------------------------------------------

    #[test]
    fn a_shifted_key_has_the_time_left_that_it_had(
        expiry in 0i64..4_000_000_000_000, created in 0i64..2_000_000_000_000, age in 0i64..2_000_000_000_000,
    ) {
        let now = created + age;
        let shifted = Ttl::Shift.apply(Some(expiry), created, now).expect("an expiry");
        prop_assert_eq!(shifted - now, expiry - created);
        prop_assert_eq!(Ttl::Keep.apply(Some(expiry), created, now), Some(expiry));
        prop_assert_eq!(Ttl::Drop.apply(Some(expiry), created, now), None);
    }

    #[test]
    fn no_policy_gives_or_shortens_an_expiry(expiry in any::<i64>(), created in any::<i64>(), now in any::<i64>()) {
        for ttl in [Ttl::Keep, Ttl::Shift, Ttl::Drop] {
            prop_assert_eq!(ttl.apply(None, created, now), None);
            prop_assert!(ttl.apply(Some(expiry), created, now).is_none_or(|moved| moved >= expiry));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Journal
// ---------------------------------------------------------------------------------------------------------------------

fn header() -> Header {
    let (run_id, replication_id) = ("r".repeat(40), "m".repeat(40));
    Header { run_id, replication_id, source: b"backup".to_vec(), now_ms: 1_700_000_000_000 }
}

fn key_frame(ordinal: u64, before: Before) -> Frame {
    Frame::Key { database: 3, ordinal, key: format!("key\0{ordinal}").into_bytes(), before, supersedes: ordinal == 4 }
}

/// Two batches, the first of them done; and where each frame ends.
fn journal() -> (Vec<u8>, Vec<Frame>) {
    let value = Before::Value { payload: vec![9; 300], expires_at_ms: Some(5) };
    let for_good = Before::Value { payload: Vec::new(), expires_at_ms: None };
    let function = Frame::Function { name: "site".to_owned(), before: Some(b"#!lua name=site".to_vec()) };
    let frames = vec![key_frame(0, Before::Absent), key_frame(2, value), key_frame(4, for_good), function];
    let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &header()).expect("a journal");
    journal.put(&frames[0]).expect("room");
    journal.put(&frames[1]).expect("room");
    let first = journal.batch(0, 2).expect("room");
    journal.put(&frames[2]).expect("room");
    journal.put(&frames[3]).expect("room");
    journal.batch(3, 4).expect("room");
    journal.done(first).expect("room");
    (journal.finish().expect("room"), frames)
}

/// The frames of each batch.
fn batches(bytes: &[u8]) -> Result<Option<Vec<Vec<Frame>>>, JournalError> {
    let Some((mut reader, contents)) = Reader::open(Cursor::new(bytes))? else { return Ok(None) };
    assert_eq!(contents.header, header());
    let mut batches = Vec::new();
    for batch in contents.batches {
        let mut frames = Vec::new();
        reader.batch::<JournalError>(batch, |frame| {
            frames.push(frame);
            Ok(())
        })?;
        batches.push(frames);
    }
    Ok(Some(batches))
}

#[test]
fn a_journal_says_what_was_written_to_it() {
    let (bytes, frames) = journal();
    let whole = batches(&bytes).expect("a journal").expect("a header");
    assert_eq!(whole, [frames[..2].to_vec(), frames[2..].to_vec()]);
    let (_, contents) = Reader::open(Cursor::new(&bytes)).expect("a journal").expect("a header");
    assert_eq!(contents.whole, bytes.len() as u64);
    assert_eq!(contents.done(), [(0, 2)]);
    assert!(contents.is_done(1) && !contents.is_done(3) && contents.is_begun(3) && !contents.is_begun(5));
}

#[test]
fn a_journal_cut_anywhere_holds_whole_batches_and_can_be_gone_on_with() {
    let (bytes, frames) = journal();
    let (all, first) = (vec![frames[..2].to_vec(), frames[2..].to_vec()], vec![frames[..2].to_vec()]);
    let mut seen = [0; 4];
    for end in 0..bytes.len() {
        let cut = &bytes[..end];
        let Some(found) = batches(cut).expect("a torn end is fine") else {
            seen[3] += 1;
            continue;
        };
        assert!(found.is_empty() || found == first || found == all, "cut at {end}");
        seen[found.len()] += 1;
        let (_, contents) = Reader::open(Cursor::new(cut)).expect("a journal").expect("a header");
        let whole = usize::try_from(contents.whole).expect("a place");
        let mut more = Journal::resume(cut[..whole].to_vec(), |_| Ok(()), &contents);
        more.put(&frames[0]).expect("room");
        more.batch(5, 6).expect("room");
        let found_then = batches(&more.finish().expect("room")).expect("a journal").expect("a header");
        assert_eq!(found_then.len(), found.len() + 1, "cut at {end}");
        assert_eq!(found_then.last(), Some(&frames[..1].to_vec()));
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_damaged_journal_never_says_anything_else() {
    let (bytes, frames) = journal();
    let all = vec![frames[..2].to_vec(), frames[2..].to_vec()];
    let mut refused = 0;
    // Behind the last frame nothing tells a wrong length from a torn end.
    let last = bytes.len() - 25;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        match batches(&damaged) {
            Err(_) => refused += 1,
            Ok(found) => assert!(at >= last && found.as_ref() == Some(&all), "flip at {at}"),
        }
    }
    assert_eq!(refused, last);
    for at in 8..last {
        let mut damaged = bytes.clone();
        damaged.remove(at);
        assert!(batches(&damaged).is_err(), "without byte {at}");
    }
    assert!(matches!(Reader::open(Cursor::new(b"REDIS0011")), Err(JournalError::NotAJournal)));
    assert!(matches!(Reader::open(Cursor::new(b"")), Ok(None)));
}

#[test]
fn nothing_is_written_behind_a_write_that_failed() {
    /// Takes half of one write and fails, and takes everything again after that.
    struct Hiccup {
        bytes: Vec<u8>,
        left: Option<usize>,
    }
    impl Write for Hiccup {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.left {
                Some(0) => {
                    self.left = None;
                    self.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
                    return Err(std::io::Error::other("disk full"));
                }
                left => self.left = left.map(|left| left - 1),
            }
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let frames = [0, 1, 2].map(|ordinal| key_frame(ordinal, Before::Absent));
    let mut hiccup = Hiccup { bytes: Vec::new(), left: Some(2) };
    let mut journal = Journal::begin(&mut hiccup, |_| Ok(()), &header()).expect("a journal");
    journal.put(&frames[0]).expect("room");
    journal.batch(0, 0).expect("room");
    journal.put(&frames[1]).expect("nothing is written yet");
    journal.batch(1, 1).expect_err("no room");
    for refused in [journal.put(&frames[2]), journal.batch(2, 2).map(|_| ()), journal.done(0), journal.settle()] {
        let why = refused.expect_err("what was torn stays the last").to_string();
        assert!(why.contains("disk full"), "{why}");
    }
    assert!(journal.finish().is_err());
    assert_eq!(batches(&hiccup.bytes).expect("a journal").expect("a header"), [frames[..1].to_vec()]);
}

#[test]
fn a_journal_says_which_keys_are_left_to_others() {
    let others = |ordinal: u64| Frame::NotOurs { ordinal, key: format!("key\0{ordinal}").into_bytes() };
    let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &header()).expect("a journal");
    for ordinal in 0..3 {
        journal.put(&key_frame(ordinal, Before::Absent)).expect("room");
    }
    journal.batch(0, 2).expect("room");
    for ordinal in [1, 2] {
        journal.put(&others(ordinal)).expect("room");
    }
    journal.batch(u64::MAX, u64::MAX).expect("room");
    // One of them is replaced after all; what no batch closes means nothing.
    journal.put(&key_frame(2, Before::Absent)).expect("room");
    journal.batch(2, 2).expect("room");
    journal.put(&others(0)).expect("room");
    let bytes = journal.finish().expect("room");
    assert_eq!(batches(&bytes).expect("a journal").expect("a header")[1], [others(1), others(2)]);
    let (_, contents) = Reader::open(Cursor::new(&bytes)).expect("a journal").expect("a header");
    assert_eq!([0, 1, 2].map(|ordinal| contents.is_begun(ordinal)), [true, false, true]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Forecast
// ---------------------------------------------------------------------------------------------------------------------

fn facts() -> Facts {
    Facts {
        server: ServerVersion::parse("redis 7.0.15").expect("a version"),
        maxmemory: 0,
        maxmemory_policy: "noeviction".to_owned(),
        used_memory: 1_000_000,
        databases: 16,
        modules: Vec::new(),
        memory_limit: None,
        now_ms: 1_700_000_000_000,
        is_replica: false,
        is_cluster: false,
    }
}

#[track_caller]
fn told(rdb: &[u8], facts: &Facts, choice: &Choice) -> Forecast {
    forecast(rdb, facts, choice).expect("a forecast")
}

fn rules(forecast: &Forecast) -> Vec<(Severity, &'static str)> {
    forecast.findings.iter().map(|finding| (finding.severity, finding.rule)).collect()
}

/// An RDB of these records behind the header.
fn rdb(version: u32, records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("REDIS{version:04}").into_bytes();
    bytes.extend(records.concat());
    bytes.push(255);
    let checksum = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[test]
fn a_forecast_counts_what_is_chosen() {
    let backup = snapshot_of(100, 10);
    let whole = told(&backup, &facts(), &Choice::default());
    assert_eq!((whole.chosen.keys, whole.left_out, whole.plain), (100, 0, false));
    assert_eq!(whole.prefixes.get("key:").map(|part| part.keys), Some(100));
    assert_eq!(rules(&whole), []);
    let keys = vec![Glob::new(b"key:1?"), Glob::new(b"key:7")];
    let part = told(&backup, &facts(), &Choice { keys, ..Choice::default() });
    assert_eq!((part.chosen.keys, part.left_out), (11, 89));
    assert!(part.memory < whole.memory);
    assert!(serde_json::to_string(&part).expect("JSON").contains("\"left_out\":89"));
}

#[test]
fn a_forecast_tells_what_will_have_expired() {
    let expiring = |name: u8, at: i64| [&[252][..], &at.to_le_bytes(), &[0, 3, b'p', b':', name, 1, b'v']].concat();
    let aux = [&[250, 5][..], b"ctime", &[10], b"1699999990"].concat();
    let now = facts().now_ms;
    let backup = rdb(10, &[&aux, &expiring(b'a', now), &expiring(b'b', now + 1), &expiring(b'c', now - 20_000)]);
    for (ttl, expired) in [(Ttl::Keep, 2), (Ttl::Shift, 1), (Ttl::Drop, 0)] {
        let told = told(&backup, &facts(), &Choice { ttl, ..Choice::default() });
        assert_eq!((told.chosen.expired, told.prefixes["p:"].expired), (expired, expired), "{ttl:?}");
        assert_eq!(rules(&told).contains(&(Severity::Warning, "expired")), expired > 0);
    }
    let without = rdb(10, &[&expiring(b'a', now)]);
    let told = told(&without, &facts(), &Choice { ttl: Ttl::Shift, ..Choice::default() });
    assert!(rules(&told).contains(&(Severity::Error, "no-creation-time")));
}

#[test]
fn a_forecast_refuses_what_the_server_cannot_take() {
    let backup = snapshot_of(1000, 10);
    let check = |change: &dyn Fn(&mut Facts), wanted: &[(Severity, &'static str)]| {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(rules(&told(&backup, &facts, &Choice::default())), wanted);
    };
    check(&|facts| facts.maxmemory = 1_050_000, &[(Severity::Error, "maxmemory")]);
    check(&|facts| facts.maxmemory = 2_000_000, &[]);
    check(&|facts| facts.memory_limit = Some(1_200_000), &[(Severity::Error, "container-memory")]);
    check(&|facts| facts.is_replica = true, &[(Severity::Error, "restore-into-replica")]);
    check(&|facts| facts.is_cluster = true, &[(Severity::Error, "restore-into-cluster")]);
    check(
        &|facts| (facts.maxmemory, facts.maxmemory_policy) = (1_050_000, "allkeys-lru".to_owned()),
        &[(Severity::Warning, "maxmemory")],
    );
    let elsewhere = rdb(10, &[&[254, 20, 0, 1, b'k', 1, b'v']]);
    assert_eq!(rules(&told(&elsewhere, &facts(), &Choice::default())), [(Severity::Error, "databases")]);
    let fits = Facts { databases: 21, ..facts() };
    assert_eq!(rules(&told(&elsewhere, &fits, &Choice::default())), []);
}

#[test]
fn a_forecast_says_what_the_plain_form_loses() {
    let expiry = 1_900_000_000_000i64.to_le_bytes();
    let fields = [&[24, 1, b'h'][..], &expiry, &[1, 1, 1, b'f', 1, b'v']].concat();
    let backup = rdb(12, &[&fields]);
    let seven = told(&backup, &facts(), &Choice::default());
    assert!(seven.plain && rules(&seven) == [(Severity::Error, "field-expiry")], "{seven:?}");
    let choice = Choice { lose_field_expiries: true, ..Choice::default() };
    assert_eq!(rules(&told(&backup, &facts(), &choice)), [(Severity::Warning, "field-expiry")]);
    assert_eq!(rules(&told(&backup, &facts(), &Choice { ttl: Ttl::Drop, ..Choice::default() })), []);
    for server in ["redis 7.4.0", "valkey 9.0.0"] {
        let facts = Facts { server: ServerVersion::parse(server).expect("a version"), ..facts() };
        assert_eq!(rules(&told(&backup, &facts, &Choice::default())), [], "{server}");
    }
}

#[test]
fn a_forecast_names_the_module_that_is_missing() {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = |byte: &u8| letters.iter().position(|letter| letter == byte).expect("a letter") as u64;
    let id = b"MBbloom--".iter().fold(0, |id, byte| id << 6 | place(byte)) << 10 | 4;
    let value = [&[7, 1, b'm', 0x81][..], &id.to_be_bytes(), &[0]].concat();
    let backup = rdb(10, &[&value]);
    let missing = told(&backup, &facts(), &Choice::default());
    assert_eq!(rules(&missing), [(Severity::Error, "module")]);
    assert!(missing.findings[0].message.contains("`MBbloom--`"), "{:?}", missing.findings);
    let loaded = Facts { modules: vec!["bf".to_owned()], ..facts() };
    assert_eq!(rules(&told(&backup, &loaded, &Choice::default())), []);
}

#[test]
fn a_damaged_backup_has_no_forecast() {
    let backup = snapshot_of(100, 10);
    for end in (0..backup.len()).step_by(17) {
        assert!(forecast(&backup[..end], &facts(), &Choice::default()).is_err());
    }
}

#[test]
fn an_image_says_which_server_is_in_it() {
    let holds = |env: &[&str]| {
        let env = env.iter().map(|entry| (*entry).to_owned()).collect();
        server_in(&Image { env, ..Image::default() }).map(|server| server.to_string())
    };
    assert_eq!(holds(&["PATH=/bin", "REDIS_VERSION=7.0.15"]).as_deref(), Some("redis 7.0.15"));
    assert_eq!(holds(&["VALKEY_VERSION=8.1.1"]).as_deref(), Some("valkey 8.1.1"));
    assert_eq!(holds(&["PATH=/bin", "REDIS_VERSION="]), None);
}

// ---------------------------------------------------------------------------------------------------------------------
// A server that follows a script
// ---------------------------------------------------------------------------------------------------------------------

/// What to answer in place of the usual. `None` closes the connection; an empty text says nothing any more.
type Script = dyn Fn(&[Vec<u8>], u64) -> Option<Option<String>> + Send + Sync;

struct Fake {
    address: SocketAddr,
    commands: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// The second argument of the script counts the commands of that name, from 0 on.
    fn serve(script: impl Fn(&[Vec<u8>], u64) -> Option<Option<String>> + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let commands = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script) as Arc<Script>, Arc::clone(&commands));
        let writes = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (script, log, writes) = (Arc::clone(&script), Arc::clone(&log), Arc::clone(&writes));
                thread::spawn(move || talk(stream, &*script, &log, &writes));
            }
        });
        Fake { address, commands }
    }

    fn source(&self) -> Source {
        Source {
            address: self.address,
            user: String::new(),
            password: String::new(),
            timeout: Duration::from_millis(400),
            announce_version: None,
        }
    }

    fn restore(&self, backup: &[u8], options: &Options) -> (Result<Report, Box<Broken>>, Vec<u8>) {
        let session = Session::open(&self.source()).expect("a session");
        let header = session.header(b"test");
        let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &header).expect("a journal");
        let result = session.warm(backup, options, &mut journal, &header, None, &mut |_| ());
        (result, journal.finish().expect("room"))
    }

    fn sent(&self, word: &str) -> usize {
        self.commands.lock().expect("a log").iter().filter(|command| command.starts_with(word)).count()
    }
}

fn talk(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<String>>, writes: &AtomicU64) {
    let mut input = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Some(words) = words(&mut input) {
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        log.lock().expect("a log").push(name.clone());
        let writes = match name.as_str() {
            "RESTORE" | "SET" | "MSETNX" => writes.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
        let answer = match script(&words, writes) {
            None => return,
            Some(Some(answer)) if answer.is_empty() => {
                thread::sleep(Duration::from_secs(1));
                return;
            }
            Some(Some(answer)) => answer,
            Some(None) => usual(&name),
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn usual(name: &str) -> String {
    let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    match name {
        "INFO" => {
            let ids = format!("run_id:{}\r\nmaster_replid:{}\r\n", "r".repeat(40), "m".repeat(40));
            text(&format!("redis_version:7.0.15\r\nrole:master\r\n{ids}"))
        }
        "TIME" => format!("*2\r\n{}{}", text("1700000000"), text("500")),
        "CONFIG" => format!("*2\r\n{}{}", text("name"), text("1000000")),
        "EXISTS" => ":0\r\n".to_owned(),
        "MSETNX" => ":1\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

fn words(input: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let count: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let word = |_| {
        line.clear();
        input.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        input.read_exact(&mut word).ok()?;
        word.truncate(length);
        Some(word)
    };
    (0..count).map(word).collect()
}

/// Lists, which go by RESTORE.
fn lists(count: u8) -> Vec<u8> {
    let records: Vec<Vec<u8>> = (0..count).map(|number| vec![1, 2, b'k', number + 48, 1, 1, b'v']).collect();
    rdb(10, &records.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn small() -> Options {
    Options { batch_keys: 5, connections: 1, ..Options::default() }
}

#[test]
fn every_key_is_sent_once_and_counted() {
    let fake = Fake::serve(|_, _| Some(None));
    let (result, journal) = fake.restore(&lists(40), &small());
    let report = result.expect("a restore");
    assert_eq!((report.restored, report.replaced), (40, 0), "{report}");
    assert_eq!(fake.sent("RESTORE"), 40);
    let (_, contents) = Reader::open(Cursor::new(journal)).expect("a journal").expect("a header");
    assert_eq!((contents.batches.len(), contents.done()), (8, vec![(0, 39)]));

    let fake = Fake::serve(|_, _| Some(None));
    let report = fake.restore(&snapshot_of(1000, 10), &Options::default()).0.expect("a restore");
    assert_eq!((report.restored, fake.sent("MSETNX")), (1000, 16), "strings go together");
}

#[test]
fn an_error_in_the_middle_is_told_with_its_key_and_what_was_done() {
    for (answer, help) in [
        ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", "raise `maxmemory`"),
        ("-ERR DUMP payload version or checksum are wrong\r\n", "does not take values of this version"),
        ("-ERR Bad data format\r\n", "a module may be missing"),
        ("-READONLY You can't write against a read only replica.\r\n", "primary"),
        ("-NOPERM this user has no permissions to run the 'restore' command\r\n", "`ACL SETUSER`"),
        ("-MISCONF Redis is configured to save RDB snapshots\r\n", "cannot save"),
        ("-MOVED 3999 127.0.0.1:6381\r\n", "not part of a cluster"),
    ] {
        let fake = Fake::serve(move |words, nth| {
            let third = words[0] == b"RESTORE" && nth == 7;
            Some(third.then(|| answer.to_owned()))
        });
        let (result, journal) = fake.restore(&lists(40), &small());
        let broken = result.expect_err("an error");
        let code = answer[1..].split(' ').next().expect("a word");
        assert!(
            matches!(&broken.error, RestoreError::Refused { key: Some(key), answer, .. } if key == b"k7" && answer.starts_with(code)),
            "{broken}"
        );
        assert!(broken.to_string().contains(help), "{broken}");
        // The batch of the error was answered to its end, and nothing came behind it.
        assert_eq!((broken.report.restored, fake.sent("RESTORE")), (9, 10), "{broken}");
        let (_, contents) = Reader::open(Cursor::new(journal)).expect("a journal").expect("a header");
        assert_eq!((contents.batches.len(), contents.done()), (2, vec![(0, 4)]));
    }
}

#[test]
fn a_connection_that_ends_or_falls_silent_is_an_error_and_not_a_hang() {
    for closes in [true, false] {
        let fake = Fake::serve(move |words, nth| match words[0] == b"RESTORE" && nth == 12 {
            true if closes => None,
            true => Some(Some(String::new())),
            false => Some(None),
        });
        let (result, journal) = fake.restore(&lists(40), &small());
        let broken = result.expect_err("an error");
        let message = broken.to_string();
        assert!(message.contains(if closes { "closed the connection" } else { "sent nothing for 400ms" }), "{message}");
        assert!(message.contains("go on with the same journal"), "{message}");
        assert_eq!(broken.report.restored, 12);
        let (_, contents) = Reader::open(Cursor::new(journal)).expect("a journal").expect("a header");
        assert_eq!(contents.done(), [(0, 9)]);
        assert!(contents.is_begun(12));
    }
}

#[test]
fn a_key_that_comes_in_between_is_looked_at_again() {
    let fake = Fake::serve(|words, nth| {
        let busy = words[0] == b"RESTORE" && nth == 2;
        Some(busy.then(|| "-BUSYKEY Target key name already exists.\r\n".to_owned()))
    });
    let (result, journal) = fake.restore(&lists(5), &small());
    assert_eq!(result.expect("a restore").restored, 5);
    assert_eq!(fake.sent("RESTORE"), 6);
    let mut superseding = Vec::new();
    let (mut reader, contents) = Reader::open(Cursor::new(journal)).expect("a journal").expect("a header");
    for batch in contents.batches {
        let show = |frame| {
            if let Frame::Key { ordinal, supersedes: true, .. } = frame {
                superseding.push(ordinal);
            }
            Ok::<(), JournalError>(())
        };
        reader.batch(batch, show).expect("frames");
    }
    assert_eq!(superseding, [2]);

    let fake = Fake::serve(|words, _| {
        let busy = words[0] == b"RESTORE";
        Some(busy.then(|| "-BUSYKEY Target key name already exists.\r\n".to_owned()))
    });
    let broken = fake.restore(&lists(5), &small()).0.expect_err("no end");
    assert!(matches!(broken.error, RestoreError::Exists { .. }), "{broken}");
}

#[test]
fn what_exists_is_skipped_or_refused_by_choice_and_never_sent() {
    for existing in [Existing::Skip, Existing::Refuse] {
        let fake = Fake::serve(|words, _| {
            Some(match words[0].as_slice() {
                b"EXISTS" => Some(":1\r\n".to_owned()),
                b"MEMORY" => Some(if words[2] == b"k3" { ":80\r\n" } else { "$-1\r\n" }.to_owned()),
                b"PEXPIRETIME" => Some(if words[1] == b"k3" { ":-1\r\n" } else { ":-2\r\n" }.to_owned()),
                _ => None,
            })
        });
        let options = Options { choice: Choice { existing, ..Choice::default() }, ..small() };
        let (result, _) = fake.restore(&lists(5), &options);
        match existing {
            Existing::Skip => {
                let report = result.expect("a restore");
                assert_eq!((report.restored, report.skipped, fake.sent("RESTORE")), (4, 1, 4));
            }
            _ => {
                let broken = result.expect_err("it is there");
                assert!(matches!(&broken.error, RestoreError::Exists { key, .. } if key == b"k3"), "{broken}");
                assert_eq!(fake.sent("RESTORE"), 0);
            }
        }
    }
}

/// A server on which somebody makes a key just before it is sent: from then on it is there.
fn overtaken(nth: u64, then: impl Fn(&[Vec<u8>], u64) -> Option<String> + Send + Sync + 'static) -> Fake {
    let made = AtomicBool::new(false);
    Fake::serve(move |words, write| {
        Some(match words[0].as_slice() {
            b"RESTORE" if write == nth => {
                made.store(true, Ordering::SeqCst);
                Some("-BUSYKEY Target key name already exists.\r\n".to_owned())
            }
            b"RENAMENX" => {
                made.store(true, Ordering::SeqCst);
                Some(":0\r\n".to_owned())
            }
            b"EXISTS" if made.load(Ordering::SeqCst) => Some(":1\r\n".to_owned()),
            b"MEMORY" => Some(":80\r\n".to_owned()),
            b"PEXPIRETIME" => Some(":-1\r\n".to_owned()),
            _ => then(words, write),
        })
    })
}

/// Keys that undoing takes away.
#[track_caller]
fn undone(fake: &Fake, journal: Vec<u8>) -> u64 {
    let mut session = Session::open(&fake.source()).expect("a session");
    let before = fake.sent("UNLINK");
    let undone = session.undo(Cursor::new(journal), false).expect("an undo");
    assert_eq!((undone.put_back, undone.removed), (0, (fake.sent("UNLINK") - before) as u64));
    undone.removed
}

#[test]
fn a_key_that_was_left_to_somebody_else_is_left_alone_by_the_undo() {
    let by = |existing| Options { choice: Choice { existing, ..Choice::default() }, ..small() };
    let fake = overtaken(2, |_, _| None);
    let (result, journal) = fake.restore(&lists(5), &by(Existing::Skip));
    let report = result.expect("a restore");
    assert_eq!((report.restored, report.skipped, undone(&fake, journal)), (4, 1, 4));

    let fake = overtaken(2, |_, _| None);
    let (result, journal) = fake.restore(&lists(5), &by(Existing::Refuse));
    let broken = result.expect_err("it is there");
    assert!(matches!(&broken.error, RestoreError::Exists { key, .. } if key == b"k2"), "{broken}");
    assert_eq!(undone(&fake, journal), 4);

    // Also where an error ends it before anybody looks again, and where there is no end of it.
    let fake = overtaken(1, |words, write| {
        (words[0] == b"RESTORE" && write == 3).then(|| "-OOM command not allowed\r\n".to_owned())
    });
    let (result, journal) = fake.restore(&lists(5), &small());
    assert!(matches!(result.expect_err("no room").error, RestoreError::Refused { .. }));
    assert_eq!(undone(&fake, journal), 4);
    let fake = Fake::serve(|words, _| Some((words[0] == b"RESTORE").then(|| "-BUSYKEY it is there\r\n".to_owned())));
    let (result, journal) = fake.restore(&lists(5), &small());
    assert!(matches!(result.expect_err("no end").error, RestoreError::Exists { .. }));
    assert_eq!(undone(&fake, journal), 0);

    // What a large value is built up in is removed, and the key stays.
    for existing in [Existing::Skip, Existing::Refuse] {
        let fake = overtaken(u64::MAX, |_, _| None);
        let (result, journal) = fake.restore(&lists(1), &Options { large: 0, ..by(existing) });
        assert_eq!(result.is_ok(), existing == Existing::Skip);
        assert_eq!((fake.sent("RENAMENX"), undone(&fake, journal)), (1, 1), "{existing:?}");
    }
}

#[test]
fn function_libraries_go_with_everything_and_with_nothing_less() {
    let library = [&[245][..], &text("#!lua name=site\nreturn 1")].concat();
    let backup = rdb(10, &[&library, &[1, 2, b'k', b'0', 1, 1, b'v']]);
    let some = Choice { keys: vec![Glob::new(b"k*")], ..Choice::default() };
    assert_eq!(told(&backup, &facts(), &Choice::default()).libraries, ["site"]);
    assert!(told(&backup, &facts(), &some).libraries.is_empty());
    let old = Facts { server: ServerVersion::parse("redis 6.2.0").expect("a version"), ..facts() };
    let whole = told(&backup, &old, &Choice::default());
    assert!(whole.libraries.is_empty() && rules(&whole).contains(&(Severity::Warning, "functions")), "{whole:?}");
    for (choice, asked, loaded) in [(Choice::default(), 2, 1), (some, 0, 0)] {
        let fake = Fake::serve(|_, _| Some(None));
        let options = Options { choice, functions: true, ..small() };
        let report = fake.restore(&backup, &options).0.expect("a restore");
        assert_eq!((fake.sent("FUNCTION"), report.functions, report.restored), (asked, loaded, 1), "{report}");
    }
}

#[test]
fn a_look_around_asks_what_it_may_and_says_what_is_unknown() {
    let fake = Fake::serve(|words, _| {
        let denied = matches!(words[0].as_slice(), b"TIME" | b"CONFIG" | b"MODULE");
        Some(denied.then(|| "-NOPERM this user has no permissions to run it\r\n".to_owned()))
    });
    assert!(Session::open(&fake.source()).is_err(), "whoever restores has to know the server's time");
    let mut session = Session::look(&fake.source(), 5).expect("a session");
    let facts = session.facts(None).expect("facts");
    assert!(facts.now_ms >= 5 && (facts.maxmemory, facts.databases) == (0, 16), "{facts:?}");
    let unknown = ["the server's clock", "maxmemory", "databases", "maxmemory-policy", "modules"];
    assert_eq!(session.unknown(), unknown);
    assert_eq!(fake.sent("ACL"), 0);

    let fake = Fake::serve(|words, _| {
        let info = "redis_version:7.0.15\r\nserver_time_usec:1700000000123456\r\n";
        Some((words[0] == b"INFO").then(|| format!("${}\r\n{info}\r\n", info.len())))
    });
    let mut session = Session::look(&fake.source(), 5).expect("a session");
    assert!(session.facts(None).expect("facts").now_ms >= 1_700_000_000_123);
    assert_eq!((session.unknown().len(), fake.sent("TIME")), (0, 0));
}

#[test]
fn each_restore_has_a_user_of_its_own_that_is_known_for_one() {
    let (one, other) = (user::name([0; 6]), user::name([255; 6]));
    assert_ne!(one, other);
    assert_eq!(other, "lockstep-restore-ffffffffffff");
    for name in [one.as_str(), other.as_str(), "lockstep-restore"] {
        assert!(user::is_restorer(name), "{name}");
    }
    for name in
        ["lockstep", "lockstep-restorer", "lockstep-restore-", "lockstep-restore-web", "lockstep-restore-fffffffffffF"]
    {
        assert!(!user::is_restorer(name), "{name}");
    }
}

#[test]
fn nothing_is_sent_when_the_journal_cannot_be_written() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("disk full"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let fake = Fake::serve(|_, _| Some(None));
    let session = Session::open(&fake.source()).expect("a session");
    let header = session.header(b"test");
    let mut journal = Journal::begin(Full(300), |_| Ok(()), &header).expect("a journal");
    let result = session.warm(lists(40).as_slice(), &small(), &mut journal, &header, None, &mut |_| ());
    let broken = result.expect_err("no room");
    assert!(matches!(broken.error, RestoreError::Journal(_)), "{broken}");
    assert_eq!(fake.sent("RESTORE"), 0);
}

#[test]
fn a_journal_of_another_server_is_refused_on_every_way() {
    let fake = Fake::serve(|_, _| Some(None));
    let mut session = Session::open(&fake.source()).expect("a session");
    let other = Header { run_id: "other".to_owned(), replication_id: "other".to_owned(), ..header() };
    let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &other).expect("a journal");
    let result = session.warm(lists(4).as_slice(), &small(), &mut journal, &other, None, &mut |_| ());
    assert!(matches!(result.expect_err("another").error, RestoreError::OtherJournal));
    journal.put(&key_frame(0, Before::Absent)).expect("room");
    journal.batch(0, 0).expect("room");
    let bytes = journal.finish().expect("room");
    let error = session.undo(Cursor::new(&bytes), false).expect_err("another");
    assert!(error.to_string().contains("run id other"), "{error}");
    assert_eq!(fake.sent("UNLINK"), 0);
    assert_eq!(session.undo(Cursor::new(&bytes), true).expect("an undo").removed, 1);
    assert_eq!(fake.sent("UNLINK"), 1);
}

//! Keys of a backup go into a running server and out of it again, across versions and families.

use crate::support::bare::key;
use crate::support::{Bare, Redis, Scenario, noise, until};
use lockstep::redis::restore::{Options, Report, RestoreError, Session};
use lockstep::restore::journal::{Contents, Journal, Reader};
use lockstep::restore::{Choice, Existing, Ttl, forecast};
use lockstep::value::Glob;
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Every kind in several encodings, in three databases, some with an expiry far away.
fn fill(redis: &mut Redis, server_7: bool) {
    for database in ["0", "3", "15"] {
        redis.ask::<()>(&["SELECT", database]);
        redis.fill(300);
        redis.fill_kinds();
        redis.put("page:empty", b"");
        redis.put("page:noise", &noise(3_000_000));
        redis.put("page:repeats", "again ".repeat(100_000).as_bytes());
        for number in 0..700 {
            let (name, score) = (format!("member:{number}"), format!("{}.5", number * 7));
            redis.ask::<()>(&["RPUSH", "page:long-list", &name]);
            redis.ask::<()>(&["SADD", "page:long-set", &name]);
            redis.ask::<()>(&["HSET", "page:long-hash", &name, &score]);
            redis.ask::<()>(&["ZADD", "page:long-zset", &score, &name]);
            redis.ask::<()>(&["XADD", "page:long-stream", &format!("{}-7", number + 1), "field", &name, "n", &score]);
            redis.ask::<()>(&["SET", &format!("session:{number}"), &name, "EX", "86400"]);
        }
        redis.ask::<()>(&["ZADD", "page:long-zset", "inf", "most", "-inf", "least", "0.1", "tenth", "1e300", "large"]);
        redis.ask::<()>(&["XGROUP", "CREATE", "page:long-stream", "readers", "0"]);
        redis.ask::<()>(&["XGROUP", "CREATE", "page:long-stream", "late", "$"]);
        for consumer in ["one", "two"] {
            let words = ["XREADGROUP", "GROUP", "readers", consumer, "COUNT", "20", "STREAMS", "page:long-stream", ">"];
            redis.ask::<::redis::Value>(&words);
        }
        redis.ask::<()>(&["XACK", "page:long-stream", "readers", "3-7"]);
        redis.ask::<()>(&["XDEL", "page:long-stream", "600-7", "700-7"]);
        redis.ask::<()>(&["PEXPIREAT", "page:long-set", "4102444800123"]);
    }
    redis.ask::<()>(&["SELECT", "0"]);
    if server_7 {
        let code = "#!lua name=site\nredis.register_function('hello', function() return 'hello' end)";
        redis.ask::<()>(&["FUNCTION", "LOAD", code]);
    }
}

/// What others keep on the server: some of it under names that the backup has too.
fn occupy(redis: &mut Redis) {
    for database in ["0", "3"] {
        redis.ask::<()>(&["SELECT", database]);
        redis.ask::<()>(&["SET", "own", "stays", "PX", "864000000"]);
        redis.ask::<()>(&["RPUSH", "page:string", "was", "a", "list"]);
        redis.ask::<()>(&["PEXPIRE", "page:string", "86400123"]);
        redis.ask::<()>(&["SET", "page:long-hash", "was a string"]);
        redis.ask::<()>(&["HSET", "page:7", "was", "a hash"]);
        redis.ask::<()>(&["SET", "session:5", "other", "PX", "5555555"]);
    }
    redis.ask::<()>(&["SELECT", "0"]);
}

fn sync(file: &mut File) -> io::Result<()> {
    file.sync_data()
}

struct Restored {
    report: Report,
    journal: Vec<u8>,
    began_ms: i64,
    session: Session,
}

#[track_caller]
fn warm(into: &Bare<'_>, backup: &[u8], options: &Options) -> Restored {
    let session = Session::open(&into.source()).expect("a session");
    let header = session.header(b"test");
    let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &header).expect("a journal");
    let report = session.warm(backup, options, &mut journal, &header, None, &mut |_| ()).expect("a restore");
    Restored { report, journal: journal.finish().expect("room"), began_ms: header.now_ms, session }
}

#[track_caller]
fn proves(restored: &Restored, backup: &[u8], choice: &Choice) {
    let Restored { report, began_ms, session, .. } = restored;
    let allowance = Duration::from_secs(60);
    let proof = session.prove(backup, choice, *began_ms, &report.skipped_keys, allowance, &key()).expect("a proof");
    assert!(proof.holds(), "{proof}");
    assert_eq!(proof.keys + proof.too_soon, report.restored, "{proof}; {report}");
}

/// Restores everything from one server into another that is in use, proves it, and takes it back.
fn goes(from: &str, to: &str, plain: bool, change: impl Fn(&mut Options)) {
    let stack = Scenario::new("warm_restore");
    let (from, to) = (Bare::start(&stack, "from", from, &[]), Bare::start(&stack, "to", to, &[]));
    let server_7 = |bare: &Bare<'_>| Session::open(&bare.source()).expect("a session").server.speaks(7, 0);
    fill(&mut from.redis(), server_7(&from));
    let (backup, pulled) = from.pull();
    occupy(&mut to.redis());
    let before = to.digest();

    let mut options = Options { functions: true, ..Options::default() };
    change(&mut options);
    let mut session = Session::open(&to.source()).expect("a session");
    let facts = session.facts(None).expect("facts");
    let told = forecast(backup.as_slice(), &facts, &options.choice).expect("a forecast");
    assert!(!lockstep::finding::has_errors(&told.findings), "{:?}", told.findings);
    assert_eq!((told.plain, told.chosen.keys), (plain, pulled.summary.keys()));

    let restored = warm(&to, &backup, &options);
    let report = &restored.report;
    assert_eq!((report.restored, report.replaced, report.plain), (pulled.summary.keys(), 8, plain), "{report}");
    assert_eq!(report.functions, u64::from(server_7(&from) && server_7(&to)), "{report}");
    proves(&restored, &backup, &options.choice);
    assert_eq!(to.redis().ask::<String>(&["GET", "own"]), "stays");

    let undone = session.undo(Cursor::new(&restored.journal), false).expect("an undo");
    assert_eq!(undone.put_back, 8, "{undone}");
    assert_eq!(to.digest(), before, "undone: {undone}");
    session.undo(Cursor::new(&restored.journal), false).expect("a second undo");
    assert_eq!(to.digest(), before, "undone twice");
}

#[test]
fn all_kinds_go_from_7_0_to_7_0_as_they_are() {
    goes("lockstep/redis:7.0", "lockstep/redis:7.0", false, |_| ());
}

/// Its streams lack what they count since 7.0, and the server makes that up.
#[test]
fn all_kinds_go_from_6_0_to_7_0_as_they_are() {
    goes("lockstep/redis:6.0", "lockstep/redis:7.0", false, |_| ());
}

#[test]
fn all_kinds_go_from_7_0_to_6_0_in_plain_form() {
    goes("lockstep/redis:7.0", "lockstep/redis:6.0", true, |_| ());
}

#[test]
fn all_kinds_go_from_8_0_to_valkey_in_plain_form() {
    goes("lockstep/redis:8.0", "lockstep/valkey:8.1", true, |_| ());
}

#[test]
fn all_kinds_go_from_valkey_to_8_0() {
    goes("lockstep/valkey:8.1", "lockstep/redis:8.0", false, |_| ());
}

#[test]
fn all_kinds_go_from_valkey_to_7_0_in_plain_form() {
    goes("lockstep/valkey:8.1", "lockstep/redis:7.0", true, |_| ());
}

#[test]
fn large_values_are_built_by_commands() {
    goes("lockstep/redis:7.0", "lockstep/redis:7.0", false, |options| options.large = 2000);
}

#[test]
fn any_value_can_be_built_by_commands() {
    let stack = Scenario::new("warm_restore_commands");
    let from = Bare::start(&stack, "from", "lockstep/redis:8.0", &[]);
    let to = Bare::start(&stack, "to", "lockstep/redis:8.0", &[]);
    let mut redis = from.redis();
    redis.fill(20);
    redis.fill_kinds();
    for number in 0..600 {
        redis.ask::<()>(&["HSET", "fields", &format!("field:{number}"), "value"]);
    }
    redis.ask::<::redis::Value>(&["HPEXPIRE", "fields", "86400000", "FIELDS", "2", "field:1", "field:2"]);
    redis.ask::<()>(&["HSET", "few", "a", "1", "b", "2"]);
    redis.ask::<::redis::Value>(&["HPEXPIRE", "few", "86400000", "FIELDS", "1", "a"]);
    redis.ask::<()>(&["XGROUP", "CREATE", "no-entries", "group", "$", "MKSTREAM"]);
    redis.ask::<()>(&["XGROUP", "CREATECONSUMER", "no-entries", "group", "idle"]);
    let (backup, _) = from.pull();
    let restored = warm(&to, &backup, &Options { large: 0, ..Options::default() });
    assert_eq!((restored.report.large, restored.report.restored), (31, 31), "{}", restored.report);
    proves(&restored, &backup, &Choice::default());
    assert_eq!(to.redis().ask::<usize>(&["DBSIZE"]), 31, "nothing is left of what was built");

    // Fields move with their keys, in plain form.
    for ttl in [Ttl::Shift, Ttl::Drop] {
        let created_ms = Some(restored.began_ms - 3_600_000);
        let choice = Choice { ttl, created_ms, ..Choice::default() };
        let again = warm(&to, &backup, &Options { choice: choice.clone(), ..Options::default() });
        proves(&again, &backup, &choice);
        let left: Vec<i64> = to.redis().ask(&["HPTTL", "few", "FIELDS", "2", "a", "b"]);
        match ttl {
            Ttl::Drop => assert_eq!(left, [-1, -1]),
            _ => assert!((87_000_000..91_000_000).contains(&left[0]) && left[1] == -1, "{left:?}"),
        }
    }
}

#[test]
fn only_what_the_patterns_choose_is_restored() {
    let stack = Scenario::new("warm_restore_pattern");
    let from = Bare::start(&stack, "from", "lockstep/redis:7.0", &[]);
    let to = Bare::start(&stack, "to", "lockstep/redis:7.0", &[]);
    fill(&mut from.redis(), false);
    let (backup, _) = from.pull();
    let mut redis = from.redis();
    for text in
        ["session:1?", "session:[^1-8]*", "page:long-*", "*:*:*", "page:\\[", "*[tg]", "[", "page:[1-", "a*b*c*"]
    {
        let choice = Choice { keys: vec![Glob::new(text.as_bytes())], ..Choice::default() };
        let restored = warm(&to, &backup, &Options { choice: choice.clone(), ..Options::default() });
        let keys: Vec<String> = redis.ask(&["KEYS", text]);
        assert_eq!(restored.report.restored, keys.len() as u64 * 3, "as the server reads `{text}`");
        proves(&restored, &backup, &choice);
        let mut session = restored.session;
        session.undo(Cursor::new(restored.journal), false).expect("an undo");
        assert_eq!(to.redis().ask::<usize>(&["DBSIZE"]), 0);
    }
}

#[test]
fn what_is_there_stays_or_ends_the_restore_by_choice() {
    let stack = Scenario::new("warm_restore_existing");
    let from = Bare::start(&stack, "from", "lockstep/redis:7.0", &[]);
    let to = Bare::start(&stack, "to", "lockstep/redis:7.0", &[]);
    fill(&mut from.redis(), false);
    let (backup, pulled) = from.pull();
    occupy(&mut to.redis());
    let before = to.digest();

    let choice = Choice { existing: Existing::Skip, ..Choice::default() };
    let restored = warm(&to, &backup, &Options { choice: choice.clone(), ..Options::default() });
    let Report { restored: count, replaced, skipped, .. } = restored.report.clone();
    assert_eq!((count, replaced, skipped), (pulled.summary.keys() - 8, 0, 8));
    assert_eq!(to.redis().ask::<String>(&["GET", "page:long-hash"]), "was a string");
    proves(&restored, &backup, &choice);
    let mut session = restored.session;
    session.undo(Cursor::new(restored.journal), false).expect("an undo");
    assert_eq!(to.digest(), before);

    let choice = Choice { existing: Existing::Refuse, ..Choice::default() };
    let options = Options { choice, ..Options::default() };
    let header = session.header(b"test");
    let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &header).expect("a journal");
    let broken = session.warm(backup.as_slice(), &options, &mut journal, &header, None, &mut |_| ());
    let broken = broken.expect_err("keys are there");
    assert!(matches!(broken.error, RestoreError::Exists { .. }), "{broken}");
    session.undo(Cursor::new(journal.finish().expect("room")), false).expect("an undo");
    assert_eq!(to.digest(), before);
}

#[test]
fn expiries_are_kept_shifted_or_dropped() {
    let stack = Scenario::new("warm_restore_ttl");
    let from = Bare::start(&stack, "from", "lockstep/redis:7.0", &[]);
    let lives = [900, 15_000, 120_000];
    assert!(lives.into_iter().any(|life_ms| expiries_of(&stack, &from, life_ms)), "two minutes were too short a life");
}

/// With short ones that live for so long; false where taking or sending them took longer than that.
fn expiries_of(stack: &Scenario, from: &Bare<'_>, life_ms: u64) -> bool {
    const HOUR: i64 = 3_600_000;
    // Of clocks that count in milliseconds, each for itself.
    const NEAR: i64 = 100;
    let ms = |time: Duration| i64::try_from(time.as_millis()).expect("a short test");
    let (life, px) = (Duration::from_millis(life_ms), life_ms.to_string());
    let mut redis = from.redis();
    redis.ask::<()>(&["FLUSHALL"]);
    let set = Instant::now();
    redis.ask::<()>(&["SET", "short", "value", "PX", &px]);
    redis.ask::<()>(&["RPUSH", "short-list", "value"]);
    redis.ask::<()>(&["PEXPIRE", "short-list", &px]);
    redis.ask::<()>(&["SET", "long", "value", "PX", "3600000"]);
    let all_set = Instant::now();
    redis.ask::<()>(&["SET", "for-good", "value"]);
    let (backup, pulled) = from.pull();
    let taking = set.elapsed();
    if taking >= life {
        return false;
    }
    assert_eq!(pulled.summary.keys(), 4);
    until("the short ones are gone", || (redis.ask::<u64>(&["DBSIZE"]) == 2).then_some(()));
    for image in ["lockstep/redis:7.0", "lockstep/redis:6.0"] {
        for (ttl, restored, expired) in [(Ttl::Keep, 2, 2), (Ttl::Shift, 4, 0), (Ttl::Drop, 4, 0)] {
            let version = image.rsplit(':').next().expect("a tag");
            let to = Bare::start(stack, &format!("{version}-{restored}-{ttl:?}-{life_ms}"), image, &[]);
            // What expires is not sent, so it takes nothing away.
            to.redis().put("short", b"own");
            let choice = Choice { ttl, ..Choice::default() };
            let mut session = Session::open(&to.source()).expect("a session");
            let facts = session.facts(None).expect("facts");
            let told = forecast(backup.as_slice(), &facts, &choice).expect("a forecast");
            assert_eq!(told.chosen.expired, expired, "{told:?}");
            let began = Instant::now();
            let done = warm(&to, &backup, &Options { choice, ..Options::default() });
            // What is shifted lives on from when the restore began.
            if ttl == Ttl::Shift && taking + began.elapsed() >= life {
                return false;
            }
            assert_eq!((done.report.restored, done.report.expired), (restored, expired), "{ttl:?}");
            let mut redis = to.redis();
            let since = ms(all_set.elapsed());
            let left: i64 = redis.ask(&["PTTL", "long"]);
            let (kept, shifted) = (ms(set.elapsed()), ms(taking + began.elapsed()));
            let short: Option<String> = redis.ask(&["GET", "short"]);
            match ttl {
                Ttl::Keep => {
                    assert!((HOUR - kept - NEAR..=HOUR - since + NEAR).contains(&left), "{left}, set {kept} ago");
                    assert_eq!(short.as_deref(), Some("own"));
                }
                // A snapshot says to the second when it was taken.
                Ttl::Shift => {
                    assert!((HOUR - shifted - NEAR..=HOUR + 1000 + NEAR).contains(&left), "{left}, used {shifted}");
                }
                Ttl::Drop => assert!(left == -1 && short.as_deref() == Some("value")),
            }
        }
    }
    true
}

#[test]
fn a_server_with_an_append_only_file_has_it_after_a_restart() {
    let stack = Scenario::new("warm_restore_aof");
    let from = Bare::start(&stack, "from", "lockstep/redis:7.0", &[]);
    let mut to = Bare::start(&stack, "to", "lockstep/redis:7.0", &["--appendonly", "yes", "--dir", "/tmp"]);
    fill(&mut from.redis(), true);
    let (backup, _) = from.pull();
    occupy(&mut to.redis());
    let before = to.digest();
    let options = Options { functions: true, large: 2000, ..Options::default() };
    let restored = warm(&to, &backup, &options);
    let after = to.digest();
    to.restart();
    assert_eq!(to.digest(), after, "after a restart");
    // A restart gives the server another identity, so somebody has to say that it is the same.
    let mut session = Session::open(&to.source()).expect("a session");
    session.undo(Cursor::new(&restored.journal), true).expect("an undo");
    assert_eq!(to.digest(), before);
}

#[test]
fn a_server_that_is_full_says_so_and_the_rest_is_taken_back() {
    let stack = Scenario::new("warm_restore_full");
    let from = Bare::start(&stack, "from", "lockstep/redis:7.0", &[]);
    let to = Bare::start(&stack, "to", "lockstep/redis:7.0", &["--maxmemory", "8mb"]);
    fill(&mut from.redis(), false);
    let (backup, _) = from.pull();
    occupy(&mut to.redis());
    let before = to.digest();
    let mut session = Session::open(&to.source()).expect("a session");
    let facts = session.facts(None).expect("facts");
    let told = forecast(backup.as_slice(), &facts, &Choice::default()).expect("a forecast");
    assert!(told.findings.iter().any(|finding| finding.rule == "maxmemory"), "{:?}", told.findings);
    let header = session.header(b"test");
    let mut journal = Journal::begin(Vec::new(), |_| Ok(()), &header).expect("a journal");
    let options = Options { batch_keys: 50, ..Options::default() };
    let broken = session.warm(backup.as_slice(), &options, &mut journal, &header, None, &mut |_| ());
    let broken = broken.expect_err("8 MB are not enough");
    assert!(matches!(&broken.error, RestoreError::Refused { answer, .. } if answer.starts_with("OOM")), "{broken}");
    // Taking back begins with what came last, which makes room for what was there.
    session.undo(Cursor::new(journal.finish().expect("room")), false).expect("an undo");
    assert_eq!(to.digest(), before);
}

// ---------------------------------------------------------------------------------------------------------------------
// SIGKILL
// ---------------------------------------------------------------------------------------------------------------------

const TOLD: &str = "LOCKSTEP_TEST_WARM_RESTORE";

/// A file that kills its process within the write of this number.
struct Deadly {
    file: File,
    left: Option<u64>,
}

impl Write for Deadly {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.left {
            Some(0) => {
                let _ = self.file.write(&bytes[..bytes.len() / 2]);
                let _ = kill_process(getpid(), Signal::KILL);
                Ok(bytes.len())
            }
            Some(left) => {
                *left -= 1;
                self.file.write(bytes)
            }
            None => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn contents(path: &Path) -> Option<Contents> {
    Reader::open(File::open(path).ok()?).expect("a journal that can be read").map(|(_, contents)| contents)
}

fn options_of_the_child() -> Options {
    Options { batch_keys: 60, large: 100_000, functions: true, ..Options::default() }
}

/// The process that is killed is this very test, told so by its environment; otherwise there is nothing to do.
#[test]
fn the_child_restores_what_it_is_told() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let mut words = told.split(' ');
    let mut word = || words.next().expect("a word");
    let (address, backup, journal, left) = (word(), word(), word(), word());
    let source = lockstep::redis::pull::Source {
        address: format!("{address}:6379").parse().expect("an address"),
        user: String::new(),
        password: String::new(),
        timeout: Duration::from_secs(120),
        announce_version: None,
    };
    let session = Session::open(&source).expect("a session");
    let before = contents(Path::new(journal));
    let file = OpenOptions::new().create(true).append(true).open(journal).expect("a file");
    file.set_len(before.as_ref().map_or(0, |before| before.whole)).expect("a shorter file");
    let deadly = Deadly { file, left: left.parse().ok() };
    let settle = |deadly: &mut Deadly| sync(&mut deadly.file);
    let (mut journal, header) = match &before {
        Some(before) => (Journal::resume(deadly, settle, before), before.header.clone()),
        None => {
            let header = session.header(b"test");
            (Journal::begin(deadly, settle, &header).expect("a journal"), header)
        }
    };
    let backup = File::open(backup).expect("a backup");
    let options = options_of_the_child();
    session.warm(backup, &options, &mut journal, &header, before.as_ref(), &mut |_| ()).expect("a restore");
}

fn child(address: &str, backup: &Path, journal: &Path, left: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let told = format!("{address} {} {} {left}", backup.display(), journal.display());
    command.args(["--exact", "warm_restore::the_child_restores_what_it_is_told"]).env(TOLD, told);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

#[test]
fn a_restore_that_was_killed_anywhere_is_undone_or_gone_on_with() {
    let stack = Scenario::new("warm_restore_kill");
    let from = Bare::start(&stack, "from", "lockstep/redis:7.0", &[]);
    let to = Bare::start(&stack, "to", "lockstep/redis:7.0", &[]);
    fill(&mut from.redis(), true);
    let (backup, pulled) = from.pull();
    let (path, journal) = (stack.path("backup.rdb"), stack.path("journal"));
    std::fs::write(&path, &backup).expect("a backup");
    occupy(&mut to.redis());
    let before = to.digest();

    // The first write is the header's; then comes one for each batch.
    let mut killed = 0;
    for left in [0, 1, 2, 3, 5, 9, 14, 21, 33, 45, 55] {
        let _ = std::fs::remove_file(&journal);
        let status = child(&to.address, &path, &journal, &left.to_string()).status().expect("a child");
        assert!(status.signal() == Some(9) || status.success(), "{status}");
        killed += u32::from(status.signal() == Some(9));
        let mut session = Session::open(&to.source()).expect("a session");
        if left % 2 == 1 {
            // Killed again while it goes on, then to the end.
            child(&to.address, &path, &journal, "7").status().expect("a child");
            let status = child(&to.address, &path, &journal, "never").status().expect("a child");
            assert!(status.success(), "goes on after {left}: {status}");
            let began_ms = contents(&journal).expect("a journal").header.now_ms;
            let allowance = Duration::from_secs(60);
            let choice = Choice::default();
            let proof = session.prove(backup.as_slice(), &choice, began_ms, &Default::default(), allowance, &key());
            let proof = proof.expect("a proof");
            assert!(proof.holds() && proof.keys == pulled.summary.keys(), "after {left}: {proof}");
            let size: usize = to.redis().ask(&["DBSIZE"]);
            assert_eq!(size as u64, pulled.summary.databases[&0].keys + 1, "nothing is left of what was built");
        }
        let undone = session.undo(File::open(&journal).expect("a journal"), false).expect("an undo");
        assert_eq!(to.digest(), before, "killed after {left} writes, then undone: {undone}");
        // Undoing is as safe to break off and to begin again.
        session.undo(File::open(&journal).expect("a journal"), false).expect("an undo");
        assert_eq!(to.digest(), before);
    }
    assert!(killed >= 9, "{killed} were killed");

    for wait in [15, 30, 45, 60, 80, 100] {
        let _ = std::fs::remove_file(&journal);
        let mut running = child(&to.address, &path, &journal, "never").spawn().expect("a child");
        std::thread::sleep(Duration::from_millis(wait));
        let _ = kill_process(Pid::from_raw(running.id().cast_signed()).expect("an id"), Signal::KILL);
        running.wait().expect("its end");
        let mut session = Session::open(&to.source()).expect("a session");
        if let Ok(file) = File::open(&journal) {
            session.undo(file, false).expect("an undo");
        }
        assert_eq!(to.digest(), before, "killed after {wait} ms, then undone");
    }
}

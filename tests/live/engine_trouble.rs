//! An engine that is away, hangs or is not one: exit 7, in time, with nothing changed.

use crate::support::docker::Docker;
use crate::support::{At, Fault, Proxy, Scenario, project, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How long an engine that does not answer may hold a command up.
const PATIENCE: Duration = Duration::from_secs(75);

#[test]
fn an_engine_that_is_not_there_is_said_at_once() {
    let stack = Scenario::with("engine_absent", project::small);
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("engine.sock");
    for arguments in
        [&["plan", "live"][..], &["apply", "live"], &["verify", "live"], &["status"], &["down", "live"], &["lock"]]
    {
        let ran = stack.start(arguments, Some(&format!("unix://{}", nowhere.display()))).finish().exits(7);
        assert!(ran.stderr.contains("engine.sock"), "it names the socket: {ran}");
        assert!(ran.elapsed < Duration::from_secs(5), "{ran}");
    }
    // A socket that nobody serves any more.
    drop(UnixListener::bind(&nowhere).expect("a socket"));
    stack.start(&["plan", "live"], Some(&format!("unix://{}", nowhere.display()))).finish().exits(7);
    stack.start(&["plan", "live"], Some("tcp://127.0.0.1:1")).finish().exits(2);
    stack.run(&["check"]).ok();
}

#[test]
fn something_that_is_no_engine_is_said() {
    use std::io::{Read as _, Write as _};
    let stack = Scenario::with("engine_nonsense", project::small);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\": [",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(answer.as_bytes());
            }
        });
        let ran = stack.start(&["plan", "live"], Some(&format!("unix://{}", path.display()))).finish().exits(7);
        assert!(ran.elapsed < Duration::from_secs(5), "{ran}");
    }
}

/// Slow on purpose: what is tested is a deadline. The three wait at the same time.
#[test]
fn an_engine_that_hangs_is_given_up_in_time() {
    let stack = Scenario::with("engine_hangs", project::small);
    let folder = tempfile::tempdir().expect("a folder");
    let silent = folder.path().join("engine.sock");
    let _listener = UnixListener::bind(&silent).expect("a socket");
    let proxy = Proxy::start();
    let list = Proxy::start();
    list.arm(At::Matching("GET", "/containers/json".to_owned()), Fault::Hold);
    proxy.arm(At::Matching("POST", "/networks/create".to_owned()), Fault::Hold);
    let stack = &stack;
    thread::scope(|scope| {
        scope.spawn(|| {
            let ran = stack.start(&["plan", "live"], Some(&format!("unix://{}", silent.display()))).finish().exits(7);
            assert!(ran.elapsed < PATIENCE, "{ran}");
            eprintln!("an engine that never answers: given up after {:.0?}", ran.elapsed);
        });
        scope.spawn(|| {
            let ran = stack.start(&["status", "live"], Some(&list.address())).finish().exits(7);
            assert!(ran.elapsed < PATIENCE, "{ran}");
        });
        scope.spawn(|| {
            let ran = stack.start(&["apply", "live"], Some(&proxy.address())).finish();
            assert_ne!(ran.code, 0, "{ran}");
            assert!(ran.elapsed < PATIENCE, "{ran}");
            assert!(ran.stderr.contains("again"), "it says how to go on: {ran}");
        });
    });
    proxy.release();
    list.release();
    proxy.settle();
    stack.apply("live");
    stack.is_right("live");
    let networks = stack.docker.get("/networks");
    let name = stack.name("live", "private");
    let found =
        networks.as_array().into_iter().flatten().filter(|network| network["Name"] == serde_json::json!(name)).count();
    assert_eq!(found, 1, "the late network is the only one");
}

/// An engine of this test's own.
struct Engine {
    child: Child,
    folder: tempfile::TempDir,
}

impl Engine {
    fn start() -> Engine {
        let folder = tempfile::tempdir().expect("a folder");
        let below = |name: &str| folder.path().join(name).display().to_string();
        // Not the machine's own settings, which may contradict what is asked here.
        fs::write(folder.path().join("config.json"), "{}").expect("a file");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        // In a network of its own: an engine without a bridge takes away `docker0`, whoever's it is.
        let child = Command::new("unshare")
            .args(["--net", "dockerd"])
            .args(["--config-file", &below("config.json"), "--data-root", &below("data")])
            .args(["--exec-root", &below("exec"), "--pidfile", &below("pid")])
            .args(["--host", &format!("unix://{}", below("engine.sock"))])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false", "--storage-driver", "vfs"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("unshare and dockerd are installed, and this test runs as root");
        let mut engine = Engine { child, folder };
        let socket = engine.socket();
        until("an engine of our own to answer", Duration::from_secs(60), || {
            if let Ok(Some(status)) = engine.child.try_wait() {
                let log = fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default();
                panic!("an engine of our own does not start: {status}\n{log}");
            }
            Docker::at(&socket).answers().then_some(())
        });
        engine
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("engine.sock")
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(process, signal).expect("our engine runs");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::CONT);
            self.signal(Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Slow on purpose, as above.
#[test]
fn an_engine_that_is_frozen_is_given_up_and_found_again() {
    let stack = Scenario::with("engine_frozen", project::small);
    let engine = Engine::start();
    let host = format!("unix://{}", engine.socket().display());
    let plan = || stack.start(&["plan", "live"], Some(&host)).finish();
    // It has none of the images, which is an answer.
    plan().exits(2);
    engine.signal(Signal::STOP);
    let frozen = plan().exits(7);
    engine.signal(Signal::CONT);
    assert!(frozen.elapsed < PATIENCE, "{frozen}");
    plan().exits(2);
}

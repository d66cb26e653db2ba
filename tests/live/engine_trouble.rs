//! An engine that is away, hangs or is not one: exit 7, in time, with nothing changed.

use crate::support::docker::Docker;
use crate::support::{At, Fault, Proxy, Scenario, project, until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
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
            assert!(ran.elapsed < PATIENCE, "{ran}");
            assert!(ran.stderr.contains("again"), "it looks again, or says how to go on: {ran}");
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
        // Not the machine's own settings, which may contradict what is asked here.
        fs::write(folder.path().join("config.json"), "{}").expect("a file");
        let child = Engine::launch(folder.path());
        let mut engine = Engine { child, folder };
        engine.wait();
        engine
    }

    fn launch(folder: &Path) -> Child {
        let below = |name: &str| folder.join(name).display().to_string();
        let log = fs::File::create(folder.join("log")).expect("a log");
        // In a network of its own: an engine without a bridge takes away `docker0`, whoever's it is.
        Command::new("unshare")
            .args(["--net", "dockerd"])
            .args(["--config-file", &below("config.json"), "--data-root", &below("data")])
            .args(["--exec-root", &below("exec"), "--pidfile", &below("pid")])
            .args(["--host", &format!("unix://{}", below("engine.sock"))])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false", "--storage-driver", "vfs"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("unshare and dockerd are installed, and this test runs as root")
    }

    fn wait(&mut self) {
        let socket = self.socket();
        until("an engine of our own to answer", Duration::from_secs(60), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("an engine of our own does not start: {status}\n{log}");
            }
            Docker::at(&socket).answers().then_some(())
        });
    }

    /// Ends it in order, with everything that it runs, and starts it again.
    fn restart(&mut self) {
        self.signal(Signal::TERM);
        self.child.wait().expect("our engine ends");
        self.child = Engine::launch(self.folder.path());
        self.wait();
    }

    /// Ends it with nothing put in order, and starts it again.
    fn kill(&mut self) {
        let file = self.folder.path().join("exec/containerd/containerd.pid");
        let containerd = fs::read_to_string(&file).expect("the process that it runs containers with");
        self.signal(Signal::KILL);
        self.child.wait().expect("our engine ends");
        // It dies with the engine, and until somebody has waited for it a new engine takes it for one that lives.
        until("its containerd to end", Duration::from_secs(30), || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", containerd.trim())).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
        fs::remove_file(&file).expect("its file");
        self.child = Engine::launch(self.folder.path());
        self.wait();
    }

    /// Runs `work` where its containers can be reached.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.child.id())).expect("its network");
        let worked = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(network.as_fd(), kind).expect("this test runs as root");
                work()
            });
            inside.join()
        });
        worked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
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
        // One that was killed leaves its folder mounted on itself, and nobody can remove it.
        let data = self.folder.path().join("data");
        let unmount = || Command::new("umount").arg(&data).stderr(Stdio::null()).status();
        while unmount().is_ok_and(|status| status.success()) {}
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

/// One Redis on this engine.
fn redis_on(engine: &Engine, test: &'static str) -> Scenario {
    let mut stack = Scenario::with(test, |stack| project::redis_only(stack, "lockstep/redis:7.0"));
    let image = stack.docker.try_ask("GET", "/images/lockstep%2Fredis:7.0/get", "", &[]).expect("the image").body;
    stack.docker = Docker::at(engine.socket());
    let loaded = stack.docker.try_ask("POST", "/images/load", "application/x-tar", &image).expect("an answer");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    stack
}

fn lives_at(stack: &Scenario, address: &str) {
    let file = stack.read("environments/live.yaml");
    let rest: Vec<&str> = file.lines().filter(|line| !line.starts_with("engine:")).collect();
    stack.write("environments/live.yaml", &format!("engine: {address}\n{}\n", rest.join("\n")));
}

/// Everything ends with the engine and comes back with it, and so does half a change.
#[test]
fn a_change_in_which_the_engine_is_restarted_is_finished_by_the_next_run() {
    // First, so that it goes last.
    let mut engine = Engine::start();
    let stack = redis_on(&engine, "engine_restart");
    stack.edit("redis:\n  cache:", "rehearse: never\n\nredis:\n  cache:");
    let own = format!("unix://{}", engine.socket().display());
    lives_at(&stack, &own);
    engine.inside(|| {
        stack.apply("live");
        stack.redis("live").fill(1000);
    });
    let spec = stack.read("environments/stack.yaml");
    let another = |files: u32| spec.replace("memory: 64mb }", &format!("memory: 64mb, files: {files} }}"));
    let other_volume = At::MatchingNth("POST", "private/disconnect".to_owned(), 2);
    for (at, fault, changed) in [
        (other_volume, Fault::Hold, another(15_000)),
        (At::Matching("POST", "/rename".to_owned()), Fault::HoldReply, another(16_000)),
    ] {
        let proxy = Proxy::before(engine.socket());
        proxy.arm(at.clone(), fault);
        lives_at(&stack, &proxy.address());
        stack.write_spec(&changed);
        let running = engine.inside(|| {
            let running = stack.start(&["apply", "live"], None);
            proxy.wait_for_hit();
            running
        });
        engine.restart();
        proxy.release();
        let ran = running.finish();
        assert_ne!(ran.code, 0, "its lock went with the engine: {ran}");
        lives_at(&stack, &own);
        engine.inside(|| {
            let again = stack.run(&["apply", "live"]);
            assert_eq!(again.code, 0, "after a restart at {at:?}: {ran}\n{again}");
            stack.is_right("live");
            stack.redis("live").holds(1000);
            stack.run(&["history", "verify", "live"]).ok();
        });
    }
}

/// A copy is launched, used or taken away when its engine dies: the run fails or ends, and the next one leaves nothing.
#[test]
fn a_copy_whose_engine_is_killed_is_taken_away_by_the_next_run() {
    let mut engine = Engine::start();
    let stack = redis_on(&engine, "engine_killed");
    let own = format!("unix://{}", engine.socket().display());
    let script = "echo running; sleep 1";
    for (at, fault) in [
        (At::Matching("POST", "/containers/create".to_owned()), Fault::HoldReply),
        (At::MatchingNth("POST", "/start".to_owned(), 2), Fault::Hold),
        (At::MatchingNth("POST", "/start".to_owned(), 2), Fault::HoldReply),
        (At::Matching("DELETE", "/containers/".to_owned()), Fault::Hold),
        (At::MatchingNth("DELETE", "/".to_owned(), 3), Fault::HoldReply),
    ] {
        let proxy = Proxy::before(engine.socket());
        proxy.arm(at.clone(), fault);
        lives_at(&stack, &proxy.address());
        let running = engine.inside(|| {
            let running = stack.start(&["run", "live", "--", "/bin/sh", "-c", script], None);
            proxy.wait_for_hit();
            running
        });
        engine.kill();
        proxy.release();
        let broken = running.finish();
        lives_at(&stack, &own);
        engine.inside(|| {
            let next = stack.run(&["run", "live", "--", "/bin/sh", "-c", script]);
            assert_eq!(next.code, 0, "after {at:?}: {broken}\n{next}");
            assert_eq!(next.stdout, "running\n");
        });
        let left = stack.docker.labelled(crate::support::docker::STACK, &stack.stack);
        assert!(left.is_empty(), "after {at:?}: {left:?}\n{broken}");
    }
}

//! An engine of a test's own, which it may restart, freeze and kill.

use super::docker::Docker;
use super::{Scenario, project, until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

const SOCKET: &str = "engine.sock";

/// An engine of this test's own.
pub struct Engine {
    child: Child,
    folder: tempfile::TempDir,
    /// What it listens on, where that was made for it.
    handed: Option<UnixListener>,
}

impl Engine {
    pub fn start() -> Engine {
        Engine::begin(false)
    }

    /// One that did not make its socket itself, as under an init system that starts it when it is needed.
    pub fn start_handed() -> Engine {
        Engine::begin(true)
    }

    fn begin(hand: bool) -> Engine {
        let folder = tempfile::tempdir().expect("a folder");
        // Not the machine's own settings, which may contradict what is asked here.
        fs::write(folder.path().join("config.json"), "{}").expect("a file");
        let handed = hand.then(|| UnixListener::bind(folder.path().join(SOCKET)).expect("a socket"));
        let child = Engine::launch(folder.path(), handed.as_ref());
        let mut engine = Engine { child, folder, handed };
        engine.wait();
        engine
    }

    /// One Redis on this engine.
    pub fn redis(&self, test: &'static str) -> Scenario {
        let mut stack = Scenario::with(test, |stack| project::redis_only(stack, "lockstep/redis:7.0"));
        let image = stack.docker.try_ask("GET", "/images/lockstep%2Fredis:7.0/get", "", &[]).expect("the image").body;
        stack.docker = Docker::at(self.socket());
        let loaded = stack.docker.try_ask("POST", "/images/load", "application/x-tar", &image).expect("an answer");
        assert_eq!(loaded.status, 200, "{}", loaded.text());
        stack
    }

    fn launch(folder: &Path, handed: Option<&UnixListener>) -> Child {
        let below = |name: &str| folder.join(name).display().to_string();
        let log = fs::File::create(folder.join("log")).expect("a log");
        let (host, input) = match handed {
            Some(listener) => ("fd://".to_owned(), Stdio::from(OwnedFd::from(listener.try_clone().expect("a socket")))),
            None => (format!("unix://{}", below(SOCKET)), Stdio::null()),
        };
        // The first file after the three that everybody has, as systemd hands it over. In a network of its own: an engine
        // without a bridge takes away `docker0`, whoever's it is.
        let handing = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec unshare --net dockerd "$@""#;
        Command::new("sh")
            .args(["-c", handing, "engine"])
            .args(["--config-file", &below("config.json"), "--data-root", &below("data")])
            .args(["--exec-root", &below("exec"), "--pidfile", &below("pid")])
            .args(["--host", &host])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false", "--storage-driver", "vfs"])
            .stdin(input)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a shell, and unshare and dockerd are installed, and this test runs as root")
    }

    fn wait(&mut self) {
        let socket = self.socket();
        until("an engine of our own to answer", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("an engine of our own does not start: {status}\n{log}");
            }
            Docker::at(&socket).answers().then_some(())
        });
    }

    /// Ends it in order, with everything that it runs, and starts it again.
    pub fn restart(&mut self) {
        self.signal(Signal::TERM);
        self.child.wait().expect("our engine ends");
        self.child = Engine::launch(self.folder.path(), self.handed.as_ref());
        self.wait();
    }

    /// Ends it with nothing put in order, and starts it again.
    pub fn kill(&mut self) {
        let file = self.folder.path().join("exec/containerd/containerd.pid");
        let containerd = fs::read_to_string(&file).expect("the process that it runs containers with");
        self.signal(Signal::KILL);
        self.child.wait().expect("our engine ends");
        // It dies with the engine, and until somebody has waited for it a new engine takes it for one that lives.
        until("its containerd to end", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", containerd.trim())).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
        fs::remove_file(&file).expect("its file");
        self.child = Engine::launch(self.folder.path(), self.handed.as_ref());
        self.wait();
    }

    /// Runs `work` where its containers can be reached.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
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

    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join(SOCKET)
    }

    pub fn signal(&self, signal: Signal) {
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

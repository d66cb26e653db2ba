//! One test's project, its runs of lockstep, and what they made on the engine, which goes when the test ends.

use super::docker::{self, Docker};
use super::{Proxy, Redis, project, until};
use lockstep::value::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// No run in here has reason to take longer, on whatever machine, but one that waits for what hangs.
const PATIENCE: Duration = Duration::from_secs(900);
/// For a site that misses its cache to find it again.
const RECOVERY: Duration = Duration::from_secs(60);
/// Lines of what lockstep wrote that a failed test shows.
const LAST_WORDS: usize = 60;

pub struct Scenario {
    pub stack: String,
    pub docker: Docker,
    /// Tells the secrets of this test from every other text there is.
    pub sentinel: String,
    test: &'static str,
    folder: tempfile::TempDir,
    log: Mutex<String>,
    /// Image tags to take away again.
    tags: Mutex<BTreeSet<String>>,
}

impl Scenario {
    /// An empty project. `test` names the folder that keeps what a failure leaves.
    pub fn new(test: &'static str) -> Scenario {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        static SWEPT: Once = Once::new();
        let docker = Docker::default();
        assert!(docker.answers(), "no Docker engine answers at {}; these tests need one", docker::SOCKET);
        for image in ["lockstep/redis:7.0", "alphanode/site:1.0"] {
            docker.image_id(image);
        }
        // Again after a sweep that failed: one engine that was slow once must not fail every test after it.
        SWEPT.call_once_force(|_| sweep(&docker));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stack = format!("{}p{}x{number}", checkout(), std::process::id());
        let folder = tempfile::tempdir().expect("a folder for the project");
        for below in ["environments/secrets", "templates"] {
            fs::create_dir_all(folder.path().join(below)).expect("the project's folders");
        }
        let sentinel = format!("s3ntinel/{}+{stack}=", random_hex());
        Scenario { stack, docker, sentinel, test, folder, log: Mutex::default(), tags: Mutex::default() }
    }

    /// A project with this spec and one environment, its images locked.
    pub fn with(test: &'static str, spec: fn(&str) -> String) -> Scenario {
        let scenario = Scenario::new(test);
        scenario.write_spec(&spec(&scenario.stack));
        let values = if spec(&scenario.stack).contains("differences:") {
            format!("port: {}", super::free_port())
        } else {
            String::new()
        };
        scenario.environment("live", &values);
        scenario.lock();
        scenario
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn write(&self, below: &str, text: &str) {
        fs::write(self.path(below), text).expect("a file of the project");
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_else(|error| panic!("{below}: {error}"))
    }

    pub fn write_spec(&self, spec: &str) {
        self.write("environments/stack.yaml", spec);
        self.write("templates/site.toml.tera", project::SITE_TOML);
    }

    /// Changes one place of the spec.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        self.edit_file("environments/stack.yaml", from, to);
    }

    #[track_caller]
    pub fn edit_file(&self, below: &str, from: &str, to: &str) {
        let text = self.read(below);
        assert_eq!(text.matches(from).count(), 1, "`{from}` stands in {below} once");
        self.write(below, &text.replace(from, to));
    }

    /// Adds an environment with secrets of its own.
    pub fn environment(&self, name: &str, values: &str) {
        self.write(
            &format!("environments/{name}.yaml"),
            &format!("values: {{ {values} }}\nsecrets: {{ file: secrets/{name}.yaml }}\n"),
        );
        self.secrets(name, &self.password(name, "app"), &self.password(name, "hand"));
    }

    pub fn secrets(&self, environment: &str, app: &str, hand: &str) {
        let file = format!("environments/secrets/{environment}.yaml");
        self.write(&file, &format!("app_password: '{app}'\nhand_password: '{hand}'\n"));
        fs::set_permissions(self.path(&file), fs::Permissions::from_mode(0o600)).expect("permissions");
    }

    /// The password that [`Scenario::environment`] gives a user.
    pub fn password(&self, environment: &str, user: &str) -> String {
        format!("{}{environment}&{user}", self.sentinel)
    }

    /// What the engine calls a resource of an environment.
    pub fn name(&self, environment: &str, resource: &str) -> String {
        format!("{}-{environment}-{resource}", self.stack)
    }

    #[track_caller]
    pub fn lock(&self) {
        self.run(&["lock"]).ok();
    }

    pub fn command(&self, arguments: &[&str], host: Option<&str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        command.args(arguments).env_clear().current_dir(self.folder.path());
        command.envs(host.map(|host| ("DOCKER_HOST", host)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments, None).finish()
    }

    /// Through a proxy, which may kill it.
    #[track_caller]
    pub fn run_through(&self, proxy: &Proxy, arguments: &[&str]) -> Ran {
        self.start_through(proxy, arguments).finish()
    }

    #[track_caller]
    pub fn start_through(&self, proxy: &Proxy, arguments: &[&str]) -> Running<'_> {
        let running = self.start(arguments, Some(&proxy.address()));
        proxy.victim(running.id());
        running
    }

    #[track_caller]
    pub fn start(&self, arguments: &[&str], host: Option<&str>) -> Running<'_> {
        self.start_with(arguments, host, &[])
    }

    /// With more environment variables than that.
    #[track_caller]
    pub fn start_with(&self, arguments: &[&str], host: Option<&str>, variables: &[(&str, &str)]) -> Running<'_> {
        let child = self.command(arguments, host).envs(variables.iter().copied()).spawn().expect("lockstep starts");
        Running::new(self, child, arguments.join(" "))
    }

    /// Applies, and expects the environment to be as the spec says.
    #[track_caller]
    pub fn apply(&self, environment: &str) -> Ran {
        self.run(&["apply", environment]).ok()
    }

    /// The subjects of what `verify` finds, sorted; empty when all is well. A site that is not well, and nothing else, is
    /// looked at again: on a slow machine it loses its cache for a moment by itself.
    #[track_caller]
    pub fn findings(&self, environment: &str) -> Vec<String> {
        let began = Instant::now();
        loop {
            let late = began.elapsed() > RECOVERY;
            let subjects = self.findings_at_once(environment);
            let unwell = !subjects.is_empty() && subjects.iter().all(|subject| subject.ends_with(" server.health"));
            if late || !unwell {
                return subjects;
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// The same of one look, for whoever expects a site that is not well.
    #[track_caller]
    pub fn findings_at_once(&self, environment: &str) -> Vec<String> {
        let ran = self.run(&["verify", environment, "--json"]);
        let report = ran.json();
        let findings = report.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut subjects: Vec<String> = findings.iter().map(|finding| docker::text(finding, "/subject")).collect();
        subjects.sort();
        assert_eq!(ran.code, if subjects.is_empty() { 0 } else { 3 }, "exit code of verify: {ran}");
        subjects
    }

    /// Panics unless the environment is as the spec says.
    #[track_caller]
    pub fn is_right(&self, environment: &str) {
        assert_eq!(self.findings(environment), Vec::<String>::new(), "findings of {environment}");
    }

    /// A connection to the Redis of an environment as one of its users.
    #[track_caller]
    pub fn redis_as(&self, environment: &str, user: &str, password: &str) -> Redis {
        Redis::connect(&self.redis_address(environment), user, password)
            .unwrap_or_else(|error| panic!("no connection to the Redis of {environment} as {user}: {error}"))
    }

    #[track_caller]
    pub fn redis_address(&self, environment: &str) -> String {
        self.docker.address(&self.name(environment, "cache"), &self.name(environment, "private"))
    }

    /// As somebody who may do everything, and is no part of lockstep.
    #[track_caller]
    pub fn redis(&self, environment: &str) -> Redis {
        self.redis_as(environment, "hand", &self.password(environment, "hand"))
    }

    /// As lockstep's own user, with the password that lies in the volume.
    #[track_caller]
    pub fn redis_as_lockstep(&self, environment: &str) -> Redis {
        self.redis_as(environment, "lockstep", &self.lockstep_password(environment))
    }

    #[track_caller]
    pub fn lockstep_password(&self, environment: &str) -> String {
        let path = "/v/cache.etc.redis/current/lockstep.password";
        String::from_utf8(self.docker.file(&self.name(environment, "files"), path)).expect("a password is text")
    }

    /// Waits for a Redis that was stopped or restarted by hand.
    #[track_caller]
    pub fn redis_again(&self, environment: &str) -> Redis {
        until("Redis to answer again", || {
            let address = self.redis_address(environment);
            let mut redis = Redis::connect(&address, "hand", &self.password(environment, "hand")).ok()?;
            redis.try_ask::<String>(&["PING"]).ok().map(|_| redis)
        })
    }

    /// Everything that carries an environment's labels, names without the environment's own. The lock of a run that was
    /// killed goes by itself, and a next run that has nothing to do does not wait for that; so it is waited for here.
    /// That a run which ends takes its lock along is the matter of tests/live/lock.rs.
    pub fn objects(&self, environment: &str) -> BTreeSet<String> {
        until(&format!("the lock of {environment} to go, which stays"), || {
            Some(self.objects_now(environment)).filter(|objects| !objects.contains("container lock"))
        })
    }

    /// The same while a run is at it.
    pub fn objects_now(&self, environment: &str) -> BTreeSet<String> {
        let prefix = self.name(environment, "");
        let all = self.docker.labelled(docker::STACK, &self.stack);
        let here = self.docker.labelled(docker::ENVIRONMENT, environment);
        all.intersection(&here).map(|name| name.replace(&prefix, "")).collect()
    }

    /// Removes an environment with its data.
    #[track_caller]
    pub fn wipe(&self, environment: &str) {
        let down = self.run(&["down", environment, "--delete-data", "cache.data", "--yes"]);
        if down.code == 2 {
            self.run(&["down", environment]).ok();
        } else {
            down.ok();
        }
        until("everything to be gone after down", || self.objects(environment).is_empty().then_some(()));
    }

    /// The manifests that `backup list` shows.
    #[track_caller]
    pub fn backups(&self, environment: &str) -> Vec<Value> {
        let listed = self.run(&["backup", "list", environment, "--json"]).ok().json();
        let listed = listed.get("backups").and_then(Value::as_array).cloned().unwrap_or_default();
        listed.iter().filter_map(|backup| backup.get("manifest").cloned()).collect()
    }

    /// A backup as the file that a Redis would load.
    #[track_caller]
    pub fn exported(&self, id: &str) -> Vec<u8> {
        let path = self.path(&format!("exported-{id}.rdb"));
        self.run(&["backup", "export", id, "--out", path.to_str().expect("a path of text")]).ok();
        fs::read(path).expect("the snapshot")
    }

    /// The folder of an environment's backups.
    pub fn backup_folder(&self, environment: &str) -> PathBuf {
        self.path("backups").join(&self.stack).join(environment)
    }

    /// Every file in the volumes, those of earlier revisions included, with a hash of its content.
    #[track_caller]
    pub fn files(&self, environment: &str) -> BTreeMap<String, String> {
        hashed(self.docker.tree(&self.name(environment, "files"), "/v"))
    }

    /// A tag for an image that goes when the test ends.
    #[track_caller]
    pub fn tag(&self, image: &str, repository: &str, tag: &str) -> String {
        let name = format!("{}/{repository}:{tag}", self.stack);
        self.docker.tag(image, &format!("{}/{repository}", self.stack), tag);
        self.remove_at_the_end(&name);
        name
    }

    pub fn remove_at_the_end(&self, image: &str) {
        lock(&self.tags).insert(image.to_owned());
    }

    /// All that lockstep wrote so far.
    pub fn said(&self) -> String {
        lock(&self.log).clone()
    }

    fn keep_traces(&self) {
        // target/quick/lockstep -> target/live
        let target = Path::new(env!("CARGO_BIN_EXE_lockstep")).ancestors().nth(2).unwrap_or(Path::new("target"));
        let folder = target.join("live").join(format!("{}-{}", self.test, self.stack));
        let _ = fs::create_dir_all(&folder);
        let _ = fs::write(folder.join("runs.txt"), self.said());
        for file in ["stack.yaml", "stack.lock"] {
            let _ = fs::copy(self.path("environments").join(file), folder.join(file));
        }
        for object in self.docker.labelled(docker::STACK, &self.stack) {
            let Some((kind, name)) = object.split_once(' ') else { continue };
            let path = match kind {
                "container" => format!("/containers/{name}/json"),
                kind => format!("/{kind}s/{name}"),
            };
            let report = self.docker.ask("GET", &path, None).text();
            let _ = fs::write(folder.join(format!("{kind}-{name}.json")), report);
            if kind == "container" {
                let _ = fs::write(folder.join(format!("{name}.log")), self.docker.logs(name));
            }
        }
        // Where the folder is out of reach, the last words have to do.
        let said = self.said();
        let last: Vec<&str> = said.lines().rev().take(LAST_WORDS).collect();
        eprintln!("--- last words\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        eprintln!("--- commands, inspections and logs are kept in {}", folder.display());
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if thread::panicking() {
            // What cannot be kept must not keep the rest from being removed.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.keep_traces()));
        }
        self.docker.remove_labelled(docker::STACK, &self.stack);
        self.docker.remove_labelled(docker::DECOY, &self.stack);
        for tag in lock(&self.tags).iter() {
            self.docker.untag(tag);
        }
    }
}

/// Contents by their hash, which is what a person can read when two differ.
pub fn hashed(files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    files.into_iter().map(|(name, content)| (name, Digest::of(&content).short().to_owned())).collect()
}

/// Removes what runs of this checkout left that were killed.
fn sweep(docker: &Docker) {
    // An engine that has just loaded many images may sit on its first listings for a while.
    until("an engine that lists what it has", || docker.lists().then_some(()));
    let prefix = format!("{}p", checkout());
    for label in [docker::STACK, docker::DECOY] {
        for stack in docker.values_of(label) {
            let process = stack.strip_prefix(&prefix).and_then(|rest| rest.split_once('x')).map(|(process, _)| process);
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                docker.remove_labelled(label, &stack);
            }
        }
    }
}

/// A few letters that two checkouts on one machine do not share.
fn checkout() -> String {
    let digest = Digest::of(env!("CARGO_MANIFEST_DIR").as_bytes()).to_string();
    format!("t{}", digest.get(..4).unwrap_or_default())
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A failed test must not keep others from cleaning up.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A run that has not ended yet.
pub struct Running<'s> {
    scenario: &'s Scenario,
    child: Child,
    arguments: String,
    began: Instant,
    stdout: Output,
    stderr: Output,
}

/// One of its outputs, read while it runs.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: mpsc::Receiver<()>,
    reader: thread::JoinHandle<()>,
}

impl Output {
    fn of(mut stream: impl Read + Send + 'static) -> Output {
        let (sender, end) = mpsc::channel();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                lock(&collected).extend_from_slice(&buffer[..read]);
            }
            let _ = sender.send(());
        });
        Output { bytes, end, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
    }
}

impl Running<'_> {
    fn new(scenario: &Scenario, mut child: Child, arguments: String) -> Running<'_> {
        let stdout = Output::of(child.stdout.take().expect("standard output is piped"));
        let stderr = Output::of(child.stderr.take().expect("standard error is piped"));
        Running { scenario, child, arguments, began: Instant::now(), stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(process, signal).expect("lockstep still runs");
    }

    /// Waits for something that cannot come once this run has ended.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let found = until(what, || {
            // Before the look, which then sees what it did and said last.
            let ended = self.stdout.reader.is_finished() && self.stderr.reader.is_finished();
            look().map(Some).or_else(|| ended.then_some(None))
        });
        found.unwrap_or_else(|| panic!("the run has ended before {what}: {}", self.so_far()))
    }

    /// Waits until standard error says this.
    #[track_caller]
    pub fn says(&self, text: &str) {
        self.until(&format!("standard error to say `{text}`"), || self.stderr.so_far().contains(text).then_some(()));
    }

    fn so_far(&self) -> String {
        let (arguments, seconds) = (&self.arguments, self.began.elapsed().as_secs_f64());
        let (stdout, stderr) = (self.stdout.so_far(), self.stderr.so_far());
        format!("$ lockstep {arguments}  (so far, {seconds:.2} s)\n{stdout}--- stderr\n{stderr}")
    }

    /// Waits for its end; whoever takes far too long is killed, and the test fails.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        let left = || PATIENCE.saturating_sub(self.began.elapsed());
        let late = [&self.stdout, &self.stderr].iter().any(|output| output.end.recv_timeout(left()).is_err());
        if late {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("a child of ours");
        let ran = Ran {
            arguments: std::mem::take(&mut self.arguments),
            code: status.code().unwrap_or(-1),
            signal: status.signal(),
            stdout: self.stdout.so_far(),
            stderr: self.stderr.so_far(),
            elapsed: self.began.elapsed(),
        };
        lock(&self.scenario.log).push_str(&format!("{ran}\n"));
        assert!(!late, "no end after {PATIENCE:?}: {ran}");
        ran
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.arguments.is_empty() {
            lock(&self.scenario.log).push_str(&format!("{}\n", self.so_far()));
        }
        // Of a test that has failed nothing may go on making things.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run of lockstep that has ended.
#[derive(Debug)]
pub struct Ran {
    pub arguments: String,
    /// -1 when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ran { arguments, code, signal, stdout, stderr, elapsed } = self;
        let end = signal.map_or_else(|| format!("exit {code}"), |signal| format!("signal {signal}"));
        write!(f, "$ lockstep {arguments}  ({end}, {:.2} s)\n{stdout}--- stderr\n{stderr}", elapsed.as_secs_f64())
    }
}

impl Ran {
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "exit code of: {self}");
        self
    }

    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    /// Panics unless standard error says this.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "standard error says `{text}`: {self}");
        self
    }

    /// Panics unless standard output shows this.
    #[track_caller]
    pub fn shows(self, text: &str) -> Ran {
        assert!(self.stdout.contains(text), "standard output shows `{text}`: {self}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("standard output is JSON and nothing else ({error}): {self}"))
    }

    /// The steps of a plan as `create container/cache`, in order.
    #[track_caller]
    pub fn steps(&self) -> Vec<String> {
        let report = self.json();
        let plan = report.get("plan").unwrap_or(&report);
        let steps = plan.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
        steps
            .iter()
            .map(|step| {
                let action = step.get("action").cloned().unwrap_or_default();
                let action = match &action {
                    Value::String(action) => action.clone(),
                    Value::Object(parts) => parts.keys().next().cloned().unwrap_or_default(),
                    _ => String::new(),
                };
                format!("{action} {}", docker::text(step, "/resource"))
            })
            .collect()
    }
}

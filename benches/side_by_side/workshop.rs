//! Where the measuring takes place: a folder, a prefix for every name, and what takes all of it away again.

use crate::engine::{self, Connection};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a reader of the figures has to know of the machine.
#[derive(Clone, Debug)]
pub struct Facts {
    pub cores: usize,
    pub engine: String,
    pub load: String,
}

pub struct Workshop {
    /// Every name on the engine begins with it.
    pub prefix: String,
    pub folder: PathBuf,
    /// Cargo's folder for what it makes.
    pub target: PathBuf,
    pub facts: Facts,
}

impl Workshop {
    pub fn open() -> anyhow::Result<Workshop> {
        let version = Connection::open()?.get("/version")?;
        let engine = version.get("Version").and_then(|version| version.as_str()).unwrap_or("unknown").to_owned();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let binary = Path::new(env!("CARGO_BIN_EXE_lockstep"));
        let target = binary.ancestors().nth(2).context("the binary lies nowhere")?.to_owned();
        let prefix = format!("bench-{}-", std::process::id());
        let folder = target.join("bench-work").join(std::process::id().to_string());
        fs::create_dir_all(&folder)?;
        // What is measured stays the same when somebody builds meanwhile.
        fs::copy(binary, folder.join("lockstep"))?;
        fs::copy(std::env::current_exe()?, folder.join("side_by_side"))?;
        let workshop = Workshop { prefix, folder, target, facts: Facts { cores, engine, load: load() } };
        hear_signals();
        Ok(workshop)
    }

    /// The folder with Compose, fetched on first use.
    pub fn tools(&self) -> anyhow::Result<PathBuf> {
        self.fetched("compose.sh", &[])
    }

    /// What a script in `benches` puts into the folder of tools, and prints the path of; what it is told comes first.
    pub fn fetched(&self, script: &str, told: &[&str]) -> anyhow::Result<PathBuf> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(script);
        let mut command = Command::new("bash");
        command.arg(path).args(told).arg(self.target.join("bench-tools")).stderr(Stdio::inherit());
        let output = command.output().context("could not run bash")?;
        if !output.status.success() {
            bail!("benches/{script} could not get what is needed");
        }
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Lockstep on a project.
    pub fn lockstep(&self, project: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join("lockstep"));
        command.arg("--project").arg(project).args(arguments);
        command
    }

    /// A fresh folder for one group.
    pub fn room(&self, name: &str) -> anyhow::Result<PathBuf> {
        let room = self.folder.join(name);
        fs::create_dir_all(&room)?;
        Ok(room)
    }
}

/// Of the last minute, five and fifteen.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Set by the first signal; nothing new begins after it.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Fails when a signal has asked for the end, so that everything is left in order.
pub fn go_on() -> anyhow::Result<()> {
    if STOPPED.load(Ordering::Relaxed) {
        bail!("stopped by a signal");
    }
    Ok(())
}

fn hear_signals() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                eprintln!("stopping; what was made is removed first");
                STOPPED.store(true, Ordering::Relaxed);
            }
        });
    });
}

impl Drop for Workshop {
    fn drop(&mut self) {
        sweep(&self.prefix, &self.folder);
    }
}

/// Removes everything that carries the prefix; says what it could not remove.
fn sweep(prefix: &str, folder: &Path) {
    let mut outcome = sweep_engine(prefix);
    for _ in 0..10 {
        if outcome.is_ok() {
            break;
        }
        // The engine may still be busy with what was broken off.
        std::thread::sleep(Duration::from_millis(500));
        outcome = sweep_engine(prefix);
    }
    if let Err(error) = outcome {
        eprintln!("could not remove everything that begins with {prefix}: {error:#}");
    }
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("could not remove {}: {error}", folder.display());
    }
}

fn sweep_engine(prefix: &str) -> anyhow::Result<()> {
    let mut engine = Connection::open()?;
    let field = |found: &Value, key: &str| found.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let by_name = engine::filter("name", &[format!("^/?{prefix}")]);
    for found in engine.get(&format!("/containers/json?all=1&{by_name}"))?.as_array().into_iter().flatten() {
        engine.delete(&format!("/containers/{}?force=1&v=1", field(found, "Id")))?;
    }
    let networks = engine.get("/networks")?;
    for found in networks.as_array().into_iter().flatten().filter(|found| field(found, "Name").starts_with(prefix)) {
        engine.delete(&format!("/networks/{}", field(found, "Id")))?;
    }
    let volumes = engine.get("/volumes")?;
    let volumes = volumes.get("Volumes").and_then(Value::as_array).into_iter().flatten();
    for found in volumes.filter(|found| field(found, "Name").starts_with(prefix)) {
        engine.delete(&format!("/volumes/{}", field(found, "Name")))?;
    }
    let tagged = engine::filter("reference", &[format!("{prefix}*")]);
    for found in engine.get(&format!("/images/json?{tagged}"))?.as_array().into_iter().flatten() {
        engine.delete(&format!("/images/{}?force=1", field(found, "Id")))?;
    }
    Ok(())
}

/// What came of a program that was run to its end.
pub struct Ran {
    pub seconds: f64,
    pub stdout: String,
}

/// Runs a program to its end; any exit code but 0 is an error, told with the last lines it wrote.
pub fn timed(command: &mut Command) -> anyhow::Result<Ran> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let seconds = began.elapsed().as_secs_f64();
    let output = output.with_context(|| format!("could not run {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{command:?} ended with {}:\n{}", output.status, last.join("\n"));
    }
    Ok(Ran { seconds, stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
}

/// Processor seconds of all programs that have been run to their end so far.
pub fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before the parenthesis may hold anything; counted from after it, 13 and 14 are the children's.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// A port of the loopback address that nobody uses.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

pub fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    lockstep::store::files::write_atomically(path, text.as_bytes(), mode)
}

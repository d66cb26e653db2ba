//! A program run to its end, with the wall time and the most memory it ever held.

use crate::workshop::Workshop;
use anyhow::bail;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub struct Watched {
    pub seconds: f64,
    pub peak_bytes: f64,
}

pub fn watched(command: &mut Command) -> anyhow::Result<Watched> {
    watch(command.stdin(Stdio::null()))
}

pub fn watched_on(command: &mut Command, stdin: File) -> anyhow::Result<Watched> {
    watch(command.stdin(stdin))
}

/// This program as a process of its own for one piece of lockstep's work: its start counts, as it does for others, and
/// its memory is its own.
pub fn worker(workshop: &Workshop, arguments: &[&str]) -> Command {
    let mut command = Command::new(workshop.folder.join("side_by_side"));
    command.arg("work").args(arguments);
    command
}

/// Reads the highest resident memory that the kernel has noted for the process.
///
/// The mark itself never goes down, so what a look every millisecond can miss is growth in the last one. It is read
/// here and not from `wait4`, whose figure begins with the memory of the process that forked.
fn watch(command: &mut Command) -> anyhow::Result<Watched> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let ended = AtomicBool::new(false);
    let (output, seconds, peak_bytes) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut peak = 0.0f64;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(high_water(&status_file));
                std::thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            // Until the program closes it, which is when it ends.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.push_str(&line);
                said.push('\n');
            }
        }
        let status = child.wait();
        let seconds = began.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (status.map(|status| (status, said)), seconds, looking.join().unwrap_or(0.0))
    });
    let (status, said) = output?;
    if !status.success() {
        bail!("{command:?} ended with {status}:\n{said}");
    }
    Ok(Watched { seconds, peak_bytes })
}

fn high_water(status_file: &str) -> f64 {
    let text = fs::read_to_string(status_file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}

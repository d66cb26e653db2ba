//! What git says of the project's folder, where there is git and a repository. It never fails; it knows or does not.
//!
//! The program is run without a shell, without the settings that make it run others, for a few seconds at most, and no
//! more than a megabyte of its answer is read.

use crate::ledger::{Git, MAX_TOUCHED, Touched};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const MAX_ANSWER: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);
/// What lockstep itself writes into a project is no cause of a change.
const OURS: [&str; 2] = [":(exclude)changes", ":(exclude)backups"];

/// The project's commit and branch, and the files that differ from the commit `since`; `None` without git or a repository.
pub fn read(root: &Path, since: Option<&str>) -> Option<Git> {
    let prefix = line(root, &["rev-parse", "--show-prefix"])?;
    let commit = line(root, &["rev-parse", "--verify", "--quiet", "HEAD"]).filter(|commit| is_commit(commit));
    let branch = line(root, &["symbolic-ref", "--short", "--quiet", "HEAD"]).filter(|branch| !branch.is_empty());
    let mut touched: BTreeMap<String, Touched> = BTreeMap::new();
    let mut known = None;
    if let Some(since) = since.filter(|since| is_commit(since) && commit.is_some()) {
        let range = format!("{since}..HEAD");
        let arguments = ["diff", "--name-status", "-z", "--no-renames", "--no-ext-diff", "--relative", &range];
        if let Some(answer) = below(root, &arguments) {
            known = Some(since.to_owned());
            let mut words = answer.split('\0');
            while let (Some(status), Some(path)) = (words.next(), words.next()) {
                let file = Touched { path: path.to_owned(), how: how(status).to_owned(), committed: true };
                touched.insert(path.to_owned(), file);
            }
        }
    }
    let status = below(root, &["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"])?;
    let mut dirty = false;
    for entry in status.split_terminator('\0') {
        let (Some(status), Some(path)) = (entry.get(..2), entry.get(3..)) else { continue };
        let Some(path) = path.strip_prefix(prefix.as_str()) else { continue };
        dirty = true;
        let how = match touched.get(path) {
            // Made since and changed again, it is still new.
            Some(before) if before.how == "added" && how(status) == "changed" => "added",
            _ => how(status),
        };
        touched.insert(path.to_owned(), Touched { path: path.to_owned(), how: how.to_owned(), committed: false });
    }
    let more = u64::try_from(touched.len().saturating_sub(MAX_TOUCHED)).unwrap_or(0);
    let touched = touched.into_values().take(MAX_TOUCHED).collect();
    Some(Git { commit, branch, dirty, since: known, touched, more })
}

/// Which of these files git tracks; paths are relative to the project. `None` without git or a repository.
pub fn tracked(root: &Path, paths: &[String]) -> Option<Vec<String>> {
    line(root, &["rev-parse", "--show-prefix"])?;
    if paths.is_empty() {
        return Some(Vec::new());
    }
    let arguments = ["ls-files", "-z", "--"].into_iter().chain(paths.iter().map(String::as_str));
    let answer = ask(root, &arguments.collect::<Vec<_>>())?;
    Some(answer.split_terminator('\0').map(str::to_owned).collect())
}

fn how(status: &str) -> &'static str {
    match status.trim() {
        "A" | "AM" | "??" => "added",
        status if status.contains('D') => "removed",
        _ => "changed",
    }
}

/// A whole hash, and nothing that git would take for an option or a range.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// About files of the project's folder alone.
fn below(root: &Path, arguments: &[&str]) -> Option<String> {
    let paths = ["--", "."].into_iter().chain(OURS);
    ask(root, &arguments.iter().copied().chain(paths).collect::<Vec<_>>())
}

fn line(root: &Path, arguments: &[&str]) -> Option<String> {
    ask(root, arguments).map(|answer| answer.trim_end_matches('\n').to_owned())
}

/// What it answers when it ends well in time.
fn ask(root: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]);
    command.args(arguments);
    // A variable may name another repository than the one that the project lies in.
    command.env_clear().env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0");
    for name in ["PATH", "HOME"] {
        command.envs(super::variable(name).map(|value| (name, value)));
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut bytes);
        // Whoever waited too long is not there any more.
        let _ = sender.send(read.map(|_| bytes));
    });
    let bytes = receiver.recv_timeout(PATIENCE).ok().and_then(Result::ok);
    let bytes = bytes.filter(|bytes| u64::try_from(bytes.len()).is_ok_and(|size| size <= MAX_ANSWER));
    if bytes.is_none() {
        let _ = child.kill();
    }
    let ended = child.wait().ok()?;
    // A name that is no text is shown as far as it is.
    bytes.filter(|_| ended.success()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

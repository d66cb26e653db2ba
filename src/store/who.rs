//! Who runs this process, where, and with which arguments.

use crate::hold::Holder;
use crate::ledger::Who;
use crate::value::Span;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::time::Duration;

/// As the machine knows it; behind `sudo` also who called for it.
pub fn who() -> Who {
    let user = match (name(rustix::process::getuid().as_raw()), super::variable("SUDO_USER")) {
        (user, Some(caller)) if user == "root" && caller != "root" => format!("{caller} (as root)"),
        (user, _) => user,
    };
    Who { user: cut(&user), host: cut(&host()), process: std::process::id() }
}

/// The arguments of this process, the program's name first and without its folder.
pub fn command() -> Vec<String> {
    let mut arguments: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    if let Some(program) = arguments.first_mut() {
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        *program = name;
    }
    arguments
}

/// What tells this process from every other one of this machine: the machine's start, the process ids that it is counted in,
/// and when it began; empty where that is not known. With its id, that is.
pub fn origin() -> String {
    let began = Stat::of(std::process::id()).map(|stat| stat.began);
    space().zip(began).map_or_else(String::new, |(space, began)| format!("{space} {began}"))
}

/// Whether a holder was a process of this machine that is there no more. Never of one that is counted elsewhere.
pub fn has_died(holder: &Holder) -> bool {
    let Some((of, began)) = holder.origin.rsplit_once(' ') else { return false };
    if space().is_none_or(|space| space != of) {
        return false;
    }
    let process = i32::try_from(holder.process).ok().and_then(Pid::from_raw);
    match process.map(test_kill_process) {
        None => false,
        Some(Err(Errno::SRCH)) => true,
        // One that nobody has waited for is dead as well, and another one may have its id. What is hidden is there.
        Some(_) => Stat::of(holder.process).is_some_and(|stat| stat.ended || stat.began != began),
    }
}

/// The start of this machine and what its processes are counted in.
fn space() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let counted = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), counted.to_str()?))
}

/// What the kernel says of a process (proc(5), `/proc/PID/stat`).
struct Stat {
    ended: bool,
    /// In ticks since the machine started.
    began: String,
}

impl Stat {
    fn of(process: u32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name is in parentheses and may hold anything; the state is the third field, the start the 22nd.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        Some(Stat { ended: matches!(fields.next()?, "Z" | "X"), began: fields.nth(18)?.to_owned() })
    }
}

fn name(user: u32) -> String {
    // Without a name service: a user that no file knows is known by the number.
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(user)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("user {user}"))
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_absent| fs::read_to_string("/etc/hostname"));
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A shorter lease than usual, which the tests set: what takes a minute has to be seen in seconds.
pub fn lease() -> Option<Span> {
    super::variable("LOCKSTEP_LOCK_LEASE")
        .and_then(|text| Span::parse(&text))
        .filter(|lease| lease.milliseconds >= 1_000)
}

/// Time since this machine was started; goes on while it, or this process, is suspended.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

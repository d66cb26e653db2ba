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

/// What tells this process from every other one of this machine: the machine's start, what its processes are counted in, and
/// when it began; empty where that is not known. With its id, that is.
pub fn origin() -> String {
    let began = Stat::of(std::process::id()).map(|stat| stat.began);
    space().zip(began).map_or_else(String::new, |(space, began)| format!("{space} {began}"))
}

/// This process by its id and its origin, in one text; empty where the origin is not known.
pub fn maker() -> String {
    let origin = origin();
    if origin.is_empty() { origin } else { format!("{} {origin}", std::process::id()) }
}

/// The process that called itself so, as a holder of whom no more is known, where it is seen to live on this machine.
pub fn living_maker(maker: &str) -> Option<Holder> {
    made_by(maker).filter(|holder| fate(holder, false) == Fate::Lives)
}

/// What became of the process that called itself so.
pub fn fate_of_maker(maker: &str) -> Fate {
    made_by(maker).map_or(Fate::Unknown, |holder| fate(&holder, false))
}

fn made_by(maker: &str) -> Option<Holder> {
    let (process, origin) = maker.split_once(' ')?;
    Some(Holder { process: process.parse().ok()?, origin: origin.to_owned(), ..Holder::of(|_| None) })
}

/// What became of a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Lives,
    /// Its process is there no more, or nobody has waited for it yet.
    Dead,
    /// It is counted elsewhere; or it lives, and is stopped.
    Unknown,
}

/// What became of a holder that is a process of the machine that this one runs on; `here` says of one that is counted elsewhere
/// that it was of this machine too.
pub fn fate(holder: &Holder, here: bool) -> Fate {
    let (Some((of, began)), Some(space)) = (holder.origin.rsplit_once(' '), space()) else { return Fate::Unknown };
    if space != of {
        // The start of the machine comes first: no process outlives it.
        let earlier = here && space.split(' ').next() != of.split(' ').next();
        return if earlier { Fate::Dead } else { Fate::Unknown };
    }
    let process = i32::try_from(holder.process).ok().and_then(Pid::from_raw);
    match process.map(test_kill_process) {
        None => Fate::Unknown,
        Some(Err(Errno::SRCH)) => Fate::Dead,
        Some(_) => match Stat::of(holder.process) {
            // Another one has its id.
            Some(stat) if stat.ended || stat.began != began => Fate::Dead,
            Some(stat) if !stat.stopped => Fate::Lives,
            // What is hidden is there.
            _ => Fate::Unknown,
        },
    }
}

/// The start of this machine and what its processes are counted and timed in; none where `/proc` is not about them.
fn space() -> Option<String> {
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let counted = fs::read_link("/proc/self/ns/pid").ok()?;
    // Since Linux 5.6.
    let timed = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    Some(format!("{} {} {}", boot.trim(), counted.to_str()?, timed.to_str()?))
}

/// What the kernel says of a process (proc(5), `/proc/PID/stat`).
struct Stat {
    ended: bool,
    stopped: bool,
    /// In ticks since the machine started.
    began: String,
}

impl Stat {
    fn of(process: u32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name is in parentheses and may hold anything; the state is the third field, the start the 22nd.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let (ended, stopped) = (matches!(state, "Z" | "X"), matches!(state, "T" | "t"));
        Some(Stat { ended, stopped, began: fields.nth(18)?.to_owned() })
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

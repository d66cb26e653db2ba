//! Who runs this process, where, and with which arguments.

use crate::hold::Holder;
use crate::ledger::Who;
use crate::value::Span;
use std::fs;
use std::io;
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

/// Whether a holder was a process of this machine that is there no more. Never of one on another machine.
pub fn has_died(holder: &Holder) -> bool {
    if holder.process == 0 || holder.host != cut(&host()) {
        return false;
    }
    match fs::read_to_string(format!("/proc/{}/stat", holder.process)) {
        // The state follows the name, which is in parentheses: one that nobody has waited for is dead as well (proc(5)).
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
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

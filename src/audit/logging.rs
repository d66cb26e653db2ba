//! Logging: what is written down, for how long, and what must not be.

use super::facts::{Container, Facts, Inspect, Ledger};
use super::secrets::{has_password_in_address, held};
use super::{Chapter, Check, Seen, Severity, each, each_read, some};
use crate::state::Role;

const HERE: Chapter = Chapter::Logging;

pub(super) const CHECKS: &[Check] = &[
    HERE.check(
        "LOG-01",
        Severity::Medium,
        "what a container writes is kept, and ends before the disk does",
        |facts| each(facts, kept),
        "`lockstep apply` makes it anew with json-file, max-size and max-file",
        &["CIS Docker Benchmark 1.6.0: 2.13"],
    ),
    HERE.check(
        "LOG-02",
        Severity::High,
        "no container writes a secret to its log",
        |facts| {
            each_read(
                facts,
                |container| Some(&container.log),
                "nothing runs",
                |name, _, lines| said(name, lines, facts),
            )
        },
        "let the application leave it out, rotate it, and make the container anew: its log keeps it",
        &["ASVS 5.0: 16.2.5"],
    ),
    HERE.check(
        "LOG-03",
        Severity::Medium,
        "a Redis remembers who was refused",
        refused,
        "set acllog-max-len to 128 or more",
        &["ASVS 5.0: 16.3.1", "ASVS 5.0: 16.3.2"],
    ),
    HERE.check(
        "LOG-04",
        Severity::Medium,
        "every change is in the ledger with who, when and why, and nobody touched it since",
        |facts| vec![ledger(facts)],
        "`lockstep history verify` shows each place; `lockstep apply` ends a change that is not finished",
        &["ASVS 5.0: 16.2.1", "ASVS 5.0: 16.2.2", "ASVS 5.0: 16.4.2"],
    ),
    HERE.check(
        "LOG-07",
        Severity::Medium,
        "everything runs and did not have to be started again",
        |facts| each(facts, lived),
        "its log says why it ended; one that ran out of memory needs a larger limit",
        &["CIS Docker Benchmark 1.6.0: 5.27"],
    ),
    HERE.check(
        "LOG-08",
        Severity::Low,
        "the log files of the engine are not for everybody",
        log_files,
        "take the rights away: `chmod o-rwx` the file",
        &["ASVS 5.0: 16.4.3"],
    ),
];

fn kept(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    let driver = inspect.log_driver.as_str();
    match driver {
        "none" => wrong.push("nothing that it writes is kept".to_owned()),
        "json-file" | "local" => {
            for option in ["max-size", "max-file"] {
                if !inspect.log_options.contains_key(option) {
                    wrong.push(format!("{driver} has no {option}"));
                }
            }
        }
        "" => return Seen::unknown(name, "the engine does not say how it is kept"),
        // What another machine keeps is bounded there.
        _ => {}
    }
    let options: Vec<String> = inspect.log_options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Seen::judged(name, wrong, format!("inspect: {driver} {}", options.join(" ")))
}

/// Whether a line holds a header with credentials in it (RFC 9110, 11.6.2).
fn has_authorization(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.split("authorization").skip(1).any(|rest| {
        let rest = rest.trim_start_matches(['"', '\'', ':', '=', ' ']);
        ["bearer ", "basic "].iter().any(|scheme| rest.strip_prefix(scheme).is_some_and(|rest| rest.trim().len() >= 6))
    })
}

fn said(name: &str, lines: &[String], facts: &Facts) -> Seen {
    let mut wrong = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let at = at + 1;
        if let Ok(secrets) = &facts.secrets {
            wrong.extend(held(secrets, line).iter().map(|secret| format!("line {at} has the value of `{secret}`")));
        }
        if has_authorization(line) {
            wrong.push(format!("line {at} has credentials of HTTP"));
        }
        if has_password_in_address(line) {
            wrong.push(format!("line {at} has an address with a password in it"));
        }
    }
    match &facts.secrets {
        Err(why) if wrong.is_empty() => Seen::unknown(name, why),
        _ => Seen::judged(name, wrong, format!("its last {} lines", lines.len())),
    }
}

fn refused(facts: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (name, container) in facts.containers.iter().filter(|(_, container)| container.role == Role::Redis) {
        seen.push(match &container.server {
            Err(why) => Seen::unknown(name, why),
            Ok(server) => match server.setting("acllog-max-len").map(str::parse::<u64>) {
                Some(Ok(most)) if most >= 128 => Seen::pass(name, format!("CONFIG GET: acllog-max-len {most}")),
                Some(Ok(most)) => Seen::fail(name, format!("CONFIG GET: acllog-max-len {most}")),
                _ => Seen::unknown(name, "the server does not report acllog-max-len"),
            },
        });
    }
    if seen.is_empty() { vec![Seen::idle("services", "the stack has no Redis")] } else { seen }
}

fn ledger(facts: &Facts) -> Seen {
    let Ledger { changes, broken, unfinished, unexplained, .. } = match &facts.ledger {
        Ok(ledger) => ledger,
        Err(why) => return Seen::unknown("ledger", why),
    };
    let mut wrong = broken.clone();
    wrong.extend(unfinished.iter().map(|number| format!("change {number} is not finished")));
    wrong.extend(unexplained.iter().map(|number| format!("change {number} does not say who made it")));
    if *changes == 0 && wrong.is_empty() {
        return Seen::unknown("ledger", "no change of the environment is recorded");
    }
    Seen::judged("ledger", wrong, format!("{changes} changes, their chain and the notes agree"))
}

fn lived(name: &str, _: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    if inspect.out_of_memory {
        wrong.push("it ran out of memory".to_owned());
    }
    if inspect.restarts > 0 {
        wrong.push(format!("the engine had to start it {} times again", inspect.restarts));
    }
    if inspect.restarting {
        wrong.push("it ends and is started again, over and over".to_owned());
    } else if !inspect.running {
        wrong.push("it does not run".to_owned());
    }
    Seen::judged(name, wrong, "inspect: it runs, RestartCount 0, OOMKilled false")
}

fn log_files(facts: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (name, read) in &facts.host.logs {
        seen.push(match read {
            Err(why) => Seen::unknown(name, why),
            Ok(mode) if mode.bits & 0o007 != 0 => Seen::fail(name, format!("{}: everybody reads it", mode.shown())),
            Ok(mode) => Seen::pass(name, mode.shown()),
        });
    }
    if seen.is_empty() {
        vec![Seen::idle("services", some(&["the engine keeps no log file".to_owned()]))]
    } else {
        seen
    }
}

//! Secrets: where their values must not stand, and who can read where they do.
//!
//! Values are compared and never shown: evidence names the place and the secret's name.

use super::facts::{Backups, Container, Facts, Image, Inspect, Process, SecretFile};
use super::{Chapter, Check, Seen, Severity, each, each_read, some};
use crate::value::Secret;
use crate::value::secret::HIDDEN;
use std::collections::BTreeMap;

const HERE: Chapter = Chapter::Secrets;

pub(super) const CHECKS: &[Check] = &[
    HERE.check(
        "SEC-01",
        Severity::High,
        "no variable of a container looks like a credential",
        |facts| each(facts, |name, _, inspect| variables(name, &inspect.env)),
        "put it under `secrets:` of the application, and tell it the path of the file in `..._FILE`",
        &["CIS Docker Benchmark 1.6.0: 4.10", "ASVS 5.0: 13.3.1"],
    ),
    HERE.check(
        "SEC-02",
        Severity::High,
        "no value of a secret stands in what the engine tells whoever asks",
        described,
        "put it under `secrets:`, and rotate it: whoever could ask the engine has it",
        &["ASVS 5.0: 13.3.1"],
    ),
    HERE.check(
        "SEC-03",
        Severity::High,
        "no process was given a secret on its command line",
        processes,
        "let the program read a file or standard input, and rotate the secret",
        &["ASVS 5.0: 13.3.1"],
    ),
    HERE.check(
        "SEC-04",
        Severity::High,
        "no image was made with a secret in it",
        |facts| {
            each_read(
                facts,
                |container| Some(&container.image),
                "nothing runs",
                |name, _, image| history(name, image, facts),
            )
        },
        "build it anew with the secret mounted for that one step, and rotate the secret",
        &["CIS Docker Benchmark 1.6.0: 4.10", "ASVS 5.0: 13.4.1"],
    ),
    HERE.check(
        "SEC-05",
        Severity::High,
        "delivered secrets can be read by their service alone, and written by nobody",
        delivered,
        "`lockstep apply` writes them anew as they are meant to be",
        &["ASVS 5.0: 13.3.2"],
    ),
    HERE.check(
        "SEC-06",
        Severity::Medium,
        "no file of secrets is in git, and no key lies beside what it opens",
        |facts| vec![repository(facts)],
        "`git rm --cached` the file, ignore it, and rotate what it holds: its history keeps it",
        &["ASVS 5.0: 13.3.1"],
    ),
    HERE.check(
        "SEC-07",
        Severity::Medium,
        "every password is long, and none is used twice",
        |facts| vec![strength(facts)],
        "draw a new one: `head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \\n'`",
        &["ASVS 5.0: 13.2.3"],
    ),
    HERE.check(
        "SEC-08",
        Severity::High,
        "backups are encrypted, and more than one person can open them",
        |facts| vec![encrypted(facts)],
        "name two age recipients in `backup.encrypt_to`",
        &["ASVS 5.0: 13.3.2"],
    ),
    HERE.check(
        "SEC-09",
        Severity::High,
        "no record and no note of lockstep's own holds a secret",
        |facts| vec![records(facts)],
        "rotate the secret, and report it as a bug of lockstep",
        &["ASVS 5.0: 16.2.5"],
    ),
    HERE.check(
        "SEC-10",
        Severity::Medium,
        "the engine does not write requests with their bodies to its log",
        |facts| vec![debugging(facts)],
        "take `debug` out of the engine's daemon.json",
        &["CIS Docker Benchmark 1.6.0: 2.3"],
    ),
];

/// Shorter values stand in any text.
const SHORTEST: usize = 6;

/// Names of the secrets whose value stands in a text.
pub(super) fn held<'f>(secrets: &'f BTreeMap<String, Secret>, text: &str) -> Vec<&'f str> {
    let stands = |secret: &Secret| secret.forms(SHORTEST).iter().any(|form| text.contains(form));
    secrets.iter().filter(|(_, secret)| stands(secret)).map(|(name, _)| name.as_str()).collect()
}

/// A text without the values of secrets that stand in it.
pub(super) fn concealed(facts: &Facts, text: &str) -> String {
    let mut shown = text.to_owned();
    for secret in facts.secrets.iter().flat_map(BTreeMap::values) {
        for form in secret.forms(SHORTEST) {
            shown = shown.replace(&form, HIDDEN);
        }
    }
    shown
}

/// Whether a variable of this name holds a credential, as most programs call them.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let points_at_a_file = ["_FILE", "_PATH", "_DIR"].iter().any(|end| name.ends_with(end));
    let words = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "APIKEY", "API_KEY", "ACCESS_KEY"];
    let more = ["PRIVATE_KEY", "CREDENTIAL", "AUTH_KEY", "ENCRYPTION_KEY", "SIGNING_KEY"];
    !points_at_a_file && name.len() <= 256 && words.iter().chain(&more).any(|word| name.contains(word))
}

/// Whether a value is an address with a password in it, `redis://:word@cache`.
pub(super) fn has_password_in_address(text: &str) -> bool {
    text.match_indices("://").take(64).any(|(at, found)| {
        let rest = text.get(at + found.len()..).unwrap_or_default();
        let end = rest.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        login.and_then(|login| login.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
    })
}

fn leaks(env: &[String]) -> Vec<String> {
    let pairs = env.iter().filter_map(|entry| entry.split_once('='));
    let named = pairs.filter_map(|(name, value)| match value {
        "" => None,
        _ if is_credential(name) => Some(format!("{name} looks like a credential")),
        value if has_password_in_address(value) => Some(format!("{name} is an address with a password in it")),
        _ => None,
    });
    named.collect()
}

fn variables(name: &str, env: &[String]) -> Seen {
    Seen::judged(name, leaks(env), format!("inspect: {} variables, by name and by form", env.len()))
}

fn described(facts: &Facts) -> Vec<Seen> {
    let secrets = match &facts.secrets {
        Ok(secrets) => secrets,
        Err(why) => return vec![Seen::unknown("secrets", why)],
    };
    each(facts, |name, _, inspect| found(name, inspect, secrets))
}

fn found(name: &str, inspect: &Inspect, secrets: &BTreeMap<String, Secret>) -> Seen {
    let mut wrong = Vec::new();
    for (path, text) in &inspect.texts {
        let names = held(secrets, text);
        wrong.extend(names.iter().map(|secret| format!("inspect: the value of `{secret}` stands in {path}")));
    }
    let (secrets, texts) = (secrets.len(), inspect.texts.len());
    Seen::judged(name, wrong, format!("inspect: {secrets} values looked for in {texts} texts"))
}

/// Options after which programs take a password.
const OPTIONS: [&str; 8] =
    ["--requirepass", "--masterauth", "--password", "--pass", "--passwd", "--token", "--secret", "--api-key"];

fn processes(facts: &Facts) -> Vec<Seen> {
    each_read(
        facts,
        |container| Some(&container.processes),
        "nothing runs",
        |name, _, processes| {
            let mut wrong: Vec<String> = processes.iter().filter_map(option).collect();
            let looked = match &facts.secrets {
                Ok(secrets) => {
                    for process in processes {
                        let command = process.command.join(" ");
                        let named = held(secrets, &command).into_iter();
                        wrong.extend(named.map(|secret| format!("process {} was given `{secret}`", process.pid)));
                    }
                    Ok(secrets.len())
                }
                Err(why) => Err(why),
            };
            match looked {
                Err(why) if wrong.is_empty() => Seen::unknown(name, why),
                _ => Seen::judged(name, wrong, format!("/proc/<pid>/cmdline of {} processes", processes.len())),
            }
        },
    )
}

fn option(process: &Process) -> Option<String> {
    let client = process.command.first().is_some_and(|program| program.ends_with("redis-cli"));
    let takes = |word: &str| OPTIONS.contains(&word) || client && word == "-a";
    let mut words = process.command.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let follows = words.peek().is_some_and(|next| !next.is_empty() && !next.starts_with("--"));
        if takes(name) && (!value.is_empty() || follows) {
            return Some(format!("process {} has `{name}` with a value", process.pid));
        }
    }
    None
}

fn history(name: &str, image: &Image, facts: &Facts) -> Seen {
    let mut wrong: Vec<String> = leaks(&image.env).into_iter().map(|what| format!("in the image, {what}")).collect();
    for (at, made) in image.history.iter().enumerate() {
        let arguments = made.split_whitespace().take(4096).filter_map(|word| word.split_once('='));
        for (variable, value) in arguments {
            let variable =
                variable.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
            if is_credential(variable) && !value.is_empty() && !value.starts_with('$') {
                wrong.push(format!("layer {at} was made with {variable}"));
            }
        }
        if let Ok(secrets) = &facts.secrets {
            wrong.extend(held(secrets, made).iter().map(|secret| format!("layer {at} was made with `{secret}`")));
        }
    }
    let read = format!("image history: {} layers, {} variables", image.history.len(), image.env.len());
    match &facts.secrets {
        Err(why) if wrong.is_empty() => Seen::unknown(name, why),
        _ => Seen::judged(name, wrong, read),
    }
}

fn delivered(facts: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (name, container) in &facts.containers {
        match &container.inspect {
            Err(why) => seen.push(Seen::unknown(name, why)),
            Ok(_) if container.secret_files.is_empty() => {
                seen.push(Seen::idle(name, "no secret is delivered to it"));
            }
            Ok(inspect) => seen.push(files(name, container, inspect)),
        }
    }
    seen
}

fn files(name: &str, container: &Container, inspect: &Inspect) -> Seen {
    let mut wrong = Vec::new();
    for file in &container.secret_files {
        let SecretFile { path, volume, mode, owner: (user, group) } = file;
        if mode & 0o037 != 0 {
            wrong.push(format!("{volume}/{path} is {mode:04o}, {user}:{group}"));
        }
        let mounts = inspect.mounts.iter().filter(|mount| mount.kind == "volume" && mount.volume.ends_with(volume));
        wrong.extend(
            mounts.filter(|mount| !mount.read_only).map(|mount| format!("{} can be written by it", mount.target)),
        );
    }
    wrong.dedup();
    Seen::judged(name, wrong, format!("files in its volumes: {} secrets, read-only", container.secret_files.len()))
}

fn repository(facts: &Facts) -> Seen {
    let mut wrong = Vec::new();
    let read = match &facts.project.tracked {
        Ok(Some(tracked)) => {
            wrong.extend(tracked.iter().map(|path| format!("git tracks {path}")));
            "git ls-files: none of them is tracked"
        }
        Ok(None) => "the project is in no git repository",
        Err(why) => return Seen::unknown("project", why),
    };
    if let Some(path) = &facts.project.identity_beside {
        wrong.push(format!("{path} lies among the backups that it opens"));
    }
    Seen::judged("project", wrong, read)
}

/// 16 random bytes as hexadecimal text have as many characters.
const LONG: usize = 20;

fn strength(facts: &Facts) -> Seen {
    let secrets = match &facts.secrets {
        Ok(secrets) if secrets.is_empty() => return Seen::idle("secrets", "the environment has none"),
        Ok(secrets) => secrets,
        Err(why) => return Seen::unknown("secrets", why),
    };
    let mut wrong = Vec::new();
    let mut by_value: BTreeMap<&Secret, &str> = BTreeMap::new();
    for (name, secret) in secrets {
        if secret.reveal().len() < LONG {
            wrong.push(format!("`{name}` has fewer than {LONG} characters"));
        }
        if let Some(other) = by_value.insert(secret, name) {
            wrong.push(format!("`{other}` and `{name}` are the same"));
        }
    }
    Seen::judged(
        "secrets",
        wrong,
        format!("{} values, no two the same, each of {LONG} characters or more", secrets.len()),
    )
}

fn encrypted(facts: &Facts) -> Seen {
    let backups = match &facts.backups {
        Ok(backups) => backups,
        Err(why) => return Seen::unknown("backups", why),
    };
    let Backups { plain, recipients, count, .. } = backups;
    if backups.services.is_empty() && *count == 0 {
        return Seen::idle("backups", "the stack has no Redis, and nothing was ever backed up");
    }
    let mut wrong = Vec::new();
    match recipients {
        0 => wrong.push("new backups are not encrypted: `backup.encrypt_to` names nobody".to_owned()),
        1 => wrong.push("one key opens them: without it they are lost".to_owned()),
        _ => {}
    }
    if !plain.is_empty() {
        wrong.push(format!("{} of {count} backups can be read by anybody: {}", plain.len(), some(plain)));
    }
    Seen::judged("backups", wrong, format!("{count} backups in {}, encrypted to {recipients}", backups.place))
}

fn records(facts: &Facts) -> Seen {
    let (secrets, ledger) = match (&facts.secrets, &facts.ledger) {
        (Ok(secrets), Ok(ledger)) => (secrets, ledger),
        (Err(why), _) | (_, Err(why)) => return Seen::unknown("records", why),
    };
    if ledger.texts.is_empty() {
        return Seen::idle("records", "there are none yet");
    }
    let mut wrong = Vec::new();
    for (place, text) in &ledger.texts {
        wrong.extend(held(secrets, text).iter().map(|secret| format!("the value of `{secret}` stands in {place}")));
    }
    Seen::judged("records", wrong, format!("{} values in {} records and notes", secrets.len(), ledger.texts.len()))
}

fn debugging(facts: &Facts) -> Seen {
    match &facts.engine {
        Ok(engine) if engine.debug => Seen::fail("engine", "info: Debug is true"),
        Ok(_) => Seen::pass("engine", "info: Debug is false"),
        Err(why) => Seen::unknown("engine", why),
    }
}

//! Values of secrets, from where the environment says they are. They go nowhere but into [`Secret`].

use crate::spec::environment::SecretSource;
use crate::value::Secret;
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// No password is longer, and a wrong path may be anything.
const MAX_SECRET: u64 = 64 << 10;
/// A vault may ask a person to confirm.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the named secrets; an error names every one that is missing.
pub fn read(root: &Path, source: &SecretSource, names: &BTreeSet<String>) -> anyhow::Result<BTreeMap<String, Secret>> {
    let mut values = BTreeMap::new();
    let mut missing = Vec::new();
    let file = match source {
        SecretSource::File(path) => {
            let path = root.join("environments").join(path);
            if path.is_dir() { None } else { Some(parse(&path)?) }
        }
        _ => None,
    };
    for name in names {
        let value = match source {
            SecretSource::Env(prefix) => {
                let variable = format!("{prefix}{}", name.to_ascii_uppercase().replace('-', "_"));
                super::variable(&variable).ok_or(format!("environment variable {variable} is not set"))
            }
            SecretSource::File(path) => match &file {
                Some(values) => values.get(name).cloned().ok_or(format!("`{path}` does not have `{name}`")),
                None => Ok(one_per_file(&root.join("environments").join(path).join(name))?),
            },
            SecretSource::Command(words) => Ok(command(words, name)?),
        };
        match value {
            Ok(value) if value.is_empty() => missing.push(format!("`{name}` is empty")),
            Ok(value) if value.contains('\0') => missing.push(format!("`{name}` holds a NUL byte")),
            Ok(value) => _ = values.insert(name.clone(), Secret::new(value)),
            Err(why) => missing.push(why),
        }
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("; "));
    }
    Ok(values)
}

/// A file that others can read is not secret.
pub(super) fn private_text(path: &Path) -> anyhow::Result<String> {
    let doing = || format!("could not read secrets from `{}`", path.display());
    let metadata = fs::metadata(path).with_context(doing)?;
    if !metadata.is_file() {
        bail!("`{}` is not a regular file", path.display());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!("`{}` can be read by others; run `chmod 600 {}`", path.display(), path.display());
    }
    if metadata.len() > MAX_SECRET {
        bail!("`{}` is larger than {} KB", path.display(), MAX_SECRET >> 10);
    }
    fs::read_to_string(path).with_context(doing)
}

fn one_per_file(path: &Path) -> anyhow::Result<String> {
    Ok(without_newline(&private_text(path)?))
}

/// One trailing line break is how editors end a file, not part of the secret.
fn without_newline(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text).to_owned()
}

fn parse(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = private_text(path)?;
    // The parser's own message may quote the line that it does not understand.
    serde_yaml::from_str(&text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        anyhow::anyhow!("`{}` does not read as `name: value` lines (line {line})", path.display())
    })
}

fn command(words: &[String], name: &str) -> anyhow::Result<String> {
    let words: Vec<String> = words.iter().map(|word| word.replace("{name}", name)).collect();
    let Some((program, arguments)) = words.split_first() else { bail!("the secrets command is empty") };
    let doing = || format!("could not run `{program}` for the secret `{name}`");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(doing)?;
    let stdout = child.stdout.take().with_context(doing)?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MAX_SECRET + 1).read_to_end(&mut bytes);
        // Whoever waited too long is not there any more.
        let _ = sender.send(read.map(|_| bytes));
    });
    let read = receiver.recv_timeout(PATIENCE);
    let bytes = match read {
        Ok(bytes) => bytes.with_context(doing)?,
        Err(_elapsed) => {
            let _ = child.kill();
            let _ = child.wait();
            bail!("`{program}` did not answer within {} s for the secret `{name}`", PATIENCE.as_secs());
        }
    };
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_SECRET {
        let _ = child.kill();
        let _ = child.wait();
        bail!("`{program}` wrote more than {} KB for the secret `{name}`", MAX_SECRET >> 10);
    }
    let status = child.wait().with_context(doing)?;
    if !status.success() {
        bail!("`{program}` ended with {status} for the secret `{name}`");
    }
    let text = String::from_utf8(bytes)
        .map_err(|_not_shown| anyhow::anyhow!("the secret `{name}` from `{program}` is not text"))?;
    Ok(without_newline(&text))
}

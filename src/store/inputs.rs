//! Reads the project: specs, templates and the lock, each bounded before it is read.

use crate::finding::Finding;
use crate::ledger::Texts;
use crate::value::{Name, Place, Sources};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A spec beyond this was not written by a person.
const MAX_SPEC: u64 = 1 << 20;
const MAX_TEMPLATE: u64 = 1 << 20;
const MAX_TEMPLATES: usize = 1_000;
const MAX_TEMPLATES_TEXT: usize = 8 << 20;

/// The text of a project's files.
#[derive(Debug, Default)]
pub struct Inputs {
    pub root: PathBuf,
    pub stack: Option<String>,
    /// By environment.
    pub environments: BTreeMap<Name, String>,
    pub templates: BTreeMap<String, String>,
    pub lock: Option<String>,
    pub sources: Sources,
}

pub const STACK: &str = "environments/stack.yaml";
pub const LOCK: &str = "environments/stack.lock";
pub const TEMPLATES: &str = "templates";

/// The file of an environment, as it is called in findings.
pub fn environment_file(name: &Name) -> String {
    format!("environments/{name}.yaml")
}

/// Reads everything below `environments/` and `templates/` of the project at `root`.
pub fn read(root: &Path, findings: &mut Vec<Finding>) -> anyhow::Result<Inputs> {
    let mut inputs = Inputs { root: root.to_owned(), ..Inputs::default() };
    inputs.stack = text(root, STACK, MAX_SPEC, &mut inputs.sources, findings);
    let folder = root.join("environments");
    let mut names: Vec<String> = entries(&folder)?;
    names.sort();
    for file in names {
        if let Some(stem) = file.strip_suffix(".yml").filter(|stem| *stem == "stack" || Name::parse(stem).is_some()) {
            let message = format!("environments/{file} is not read: the files of a project end in `.yaml`");
            let help = format!("rename it to {stem}.yaml, or move it elsewhere");
            findings.push(Finding::warning("not-read", message).help(help));
        }
        let Some(stem) = file.strip_suffix(".yaml").filter(|stem| *stem != "stack") else { continue };
        let shown = format!("environments/{file}");
        let Some(name) = Name::parse(stem) else {
            // Secrets and notes may lie beside the environments under other names; a spec may not.
            let message = format!("`{stem}` is not the name of an environment");
            findings.push(Finding::error("name", message).at(&Place::file(&shown)).help(crate::value::name::NAME_HELP));
            continue;
        };
        if let Some(text) = text(root, &shown, MAX_SPEC, &mut inputs.sources, findings) {
            inputs.environments.insert(name, text);
        }
    }
    if folder.join("stack.lock").exists() {
        inputs.lock = text(root, LOCK, MAX_SPEC, &mut inputs.sources, findings);
    }
    templates(root, "", &mut inputs, findings)?;
    for (name, built_in) in crate::desired::BUILT_IN {
        inputs.templates.entry(name.to_owned()).or_insert_with(|| built_in.to_owned());
    }
    Ok(inputs)
}

/// The same of texts that were recorded, as if they lay in the project at `root`.
pub fn of_texts(root: &Path, texts: &Texts, findings: &mut Vec<Finding>) -> Inputs {
    let mut inputs = Inputs { root: root.to_owned(), ..Inputs::default() };
    // They were bounded when they were read; a record is no reason to trust them now.
    let mut bounded = |shown: &str, text: &str, limit: u64| {
        inputs.sources.0.insert(shown.to_owned(), text.to_owned());
        let fits = u64::try_from(text.len()).is_ok_and(|size| size <= limit);
        if !fits {
            let message = format!("it is larger than {} KB", limit >> 10);
            findings.push(Finding::error("unreadable", message).at(&Place::file(shown)));
        }
        fits.then(|| text.to_owned())
    };
    inputs.stack = bounded(STACK, &texts.stack, MAX_SPEC);
    for (name, text) in &texts.environments {
        // One of another name was never written.
        if let Some(name) = Name::parse(name)
            && let Some(text) = bounded(&environment_file(&name), text, MAX_SPEC)
        {
            inputs.environments.insert(name, text);
        }
    }
    inputs.lock = texts.lock.as_ref().and_then(|lock| bounded(LOCK, lock, MAX_SPEC));
    for (name, text) in texts.templates.iter().take(MAX_TEMPLATES) {
        if let Some(text) = bounded(&format!("{TEMPLATES}/{name}"), text, MAX_TEMPLATE) {
            inputs.templates.insert(name.clone(), text);
        }
    }
    inputs
}

impl Inputs {
    /// What a change records of the project.
    pub fn texts(&self) -> Texts {
        Texts {
            stack: self.stack.clone().unwrap_or_default(),
            environments: self.environments.iter().map(|(name, text)| (name.to_string(), text.clone())).collect(),
            templates: self.templates.clone(),
            lock: self.lock.clone(),
        }
    }
}

fn entries(folder: &Path) -> anyhow::Result<Vec<String>> {
    let doing = || format!("could not read the folder `{}`", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(doing)? {
        names.extend(entry.with_context(doing)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Templates below `templates/`; links are not followed, so none leads out of it.
fn templates(root: &Path, below: &str, inputs: &mut Inputs, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let folder = root.join(TEMPLATES).join(below);
    if !folder.is_dir() {
        return Ok(());
    }
    for name in entries(&folder)? {
        let relative = if below.is_empty() { name } else { format!("{below}/{name}") };
        let path = root.join(TEMPLATES).join(&relative);
        let kind = fs::symlink_metadata(&path).with_context(|| format!("could not look at `{}`", path.display()))?;
        if kind.is_dir() && relative.matches('/').count() < 8 {
            templates(root, &relative, inputs, findings)?;
        } else if relative.ends_with(".tera") {
            let held: usize = inputs.templates.values().map(String::len).sum();
            if inputs.templates.len() >= MAX_TEMPLATES || held > MAX_TEMPLATES_TEXT {
                let message = match held > MAX_TEMPLATES_TEXT {
                    true => format!("the templates hold more than {} MB", MAX_TEMPLATES_TEXT >> 20),
                    false => format!("there are more than {MAX_TEMPLATES} templates"),
                };
                findings.push(Finding::error("too-large", message).at(&Place::file(TEMPLATES)));
                return Ok(());
            }
            let shown = format!("{TEMPLATES}/{relative}");
            if let Some(text) = text(root, &shown, MAX_TEMPLATE, &mut inputs.sources, findings) {
                inputs.templates.insert(relative, text);
            }
        }
    }
    Ok(())
}

/// One regular file, whole, if it is text and no larger than it may be.
fn text(root: &Path, shown: &str, limit: u64, sources: &mut Sources, findings: &mut Vec<Finding>) -> Option<String> {
    match bounded(&root.join(shown), limit) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => {
                sources.0.insert(shown.to_owned(), text.clone());
                Some(text)
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let valid = String::from_utf8_lossy(error.as_bytes().get(..at).unwrap_or_default()).into_owned();
                let place = Place::of_range(shown, &valid, at, at);
                let message = format!("byte {at} is not UTF-8 text");
                sources.0.insert(shown.to_owned(), valid);
                findings.push(Finding::error("not-text", message).at(&place));
                None
            }
        },
        Err(why) => {
            findings.push(Finding::error("unreadable", why).at(&Place::file(shown)));
            None
        }
    }
}

/// The bytes of a regular file that is no larger than it may be; otherwise why there are none.
pub fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    // A FIFO must not hang the open, and a link must not lead to somebody's credentials.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            "it is a link, and links are not followed".to_owned()
        }
        _ => format!("it cannot be opened: {error}"),
    })?;
    let metadata = file.metadata().map_err(|error| format!("it cannot be looked at: {error}"))?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > limit {
        return Err(format!("it is larger than {} KB", limit >> 10));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(format!("it is larger than {} KB", limit >> 10));
    }
    Ok(bytes)
}

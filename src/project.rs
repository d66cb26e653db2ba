//! A project: the spec, its environments, templates and lock, read and checked as a whole.

use crate::audit;
use crate::desired::{self, Desired, Generations, Secrets};
use crate::failure::{Failure, Kind};
use crate::finding::{self, Finding};
use crate::ledger::Texts;
use crate::model::{Environment, behaviour, ephemeral, resolve, rules};
use crate::render::Templates;
use crate::spec::environment::EnvironmentSpec;
use crate::spec::lock::{self, Lock};
use crate::spec::{Spec, Text, ValueKind, environment, parse};
use crate::store::guard::{self, Exceeded};
use crate::store::inputs::{self, Inputs};
use crate::value::{Digest, Located, Name, Place, Secret, Sources};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;

/// Where an engine listens that nobody says otherwise of.
pub const LOCAL: &str = "unix:///var/run/docker.sock";

#[derive(Debug)]
pub struct Project {
    pub root: PathBuf,
    pub spec: Spec,
    pub environments: BTreeMap<Name, EnvironmentSpec>,
    pub templates: Templates,
    pub lock: Lock,
    /// Each environment, resolved.
    pub resolved: BTreeMap<Name, Environment>,
    /// What a change records of it.
    pub texts: Texts,
}

/// Which environments' files are rendered while reading; all of them are read and resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    All,
    Only(Vec<String>),
}

impl Scope {
    fn holds(&self, name: &Name) -> bool {
        match self {
            Scope::All => true,
            Scope::Only(names) => names.iter().any(|wanted| wanted == name.as_str()),
        }
    }
}

/// A project as far as it could be read, and everything that is wrong with it.
#[derive(Debug)]
pub struct Loaded {
    pub project: Option<Project>,
    pub findings: Vec<Finding>,
    pub sources: Sources,
}

/// Reads and checks the project at `root`. Hostile text ends in a finding, within bounded time and memory.
pub fn load(root: &Path, scope: Scope) -> Result<Loaded, Failure> {
    let mut findings = Vec::new();
    let inputs = inputs::read(root, &mut findings).map_err(|error| {
        Failure::new(Kind::Usage, error)
            .help("a project has a folder `environments` with stack.yaml; name the project with `--project DIR`")
    })?;
    Ok(load_inputs(inputs, scope, findings))
}

/// The project as it was when a change recorded these texts. Secrets, build contexts and backups are where they are
/// now: below `root`.
pub fn load_texts(root: &Path, texts: &Texts, scope: Scope) -> Loaded {
    let mut findings = Vec::new();
    let inputs = inputs::of_texts(root, texts, &mut findings);
    load_inputs(inputs, scope, findings)
}

fn load_inputs(inputs: Inputs, scope: Scope, mut findings: Vec<Finding>) -> Loaded {
    let sources = inputs.sources.clone();
    let read = findings.clone();
    let mut loaded = match guard::run(move || check(inputs, &scope, read)) {
        Ok((project, findings)) => Loaded { project, findings, sources },
        Err(exceeded) => {
            let (what, help) = match exceeded {
                Exceeded::Time => ("time", "look for a template that loops"),
                Exceeded::Memory => ("memory", "look for a template that grows its own text"),
            };
            let message = format!("reading the spec and its templates takes more {what} than any spec needs");
            findings.push(Finding::error("limit", message).at(&Place::file(inputs::STACK)).help(help));
            Loaded { project: None, findings, sources }
        }
    };
    finding::sort(&mut loaded.findings);
    loaded.findings.dedup();
    loaded
}

fn check(inputs: Inputs, scope: &Scope, mut findings: Vec<Finding>) -> (Option<Project>, Vec<Finding>) {
    let project = build(inputs, scope, &mut findings);
    (project, findings)
}

fn build(inputs: Inputs, scope_of: &Scope, findings: &mut Vec<Finding>) -> Option<Project> {
    let texts = inputs.texts();
    let templates = Templates::compile(inputs::TEMPLATES, inputs.templates, findings);
    let spec = inputs.stack.as_ref().and_then(|text| parse::parse(inputs::STACK, text, findings));
    let mut environments = BTreeMap::new();
    for (name, text) in &inputs.environments {
        let parsed = environment::parse(name, &inputs::environment_file(name), text, findings);
        environments.extend(parsed.map(|environment| (name.clone(), environment)));
    }
    let lock = match inputs.lock.as_deref().map(lock::parse) {
        None => Lock::default(),
        Some(Ok(lock)) => lock,
        Some(Err(error)) => {
            let help = "`lockstep lock` writes it anew";
            findings.push(Finding::error("lock", format!("{error:#}")).at(&Place::file(inputs::LOCK)).help(help));
            Lock::default()
        }
    };
    let spec = spec?;
    if finding::has_errors(findings) && environments.is_empty() {
        return None;
    }
    if environments.is_empty() {
        let help = "write environments/staging.yaml with `values:` and `secrets:`";
        findings.push(Finding::error("no-environment", "the stack has no environment").at(&spec.place).help(help));
    }
    let wrong_already = finding::has_errors(findings);
    let mut resolved = BTreeMap::new();
    // Environments do not look at each other's results, so they are worked out at the same time.
    thread::scope(|scope| {
        let (spec, all, templates, lock) = (&spec, &environments, &templates, &lock);
        let work: Vec<_> = environments
            .iter()
            .map(|(name, environment)| {
                scope.spawn(move || {
                    let mut found = Vec::new();
                    let inputs = resolve::Inputs { spec, environment, all, templates, lock };
                    let environment = resolve::resolve(&inputs, &mut found);
                    if scope_of.holds(name) && !wrong_already && !finding::has_errors(&found) {
                        desired::build(&environment, templates, &placeholders(), &Generations::new(), &mut found);
                    }
                    (name.clone(), environment, found)
                })
            })
            .collect();
        for (name, environment, found) in work.into_iter().filter_map(|work| work.join().ok()) {
            resolved.insert(name, environment);
            findings.extend(found);
        }
    });
    audit::unknown_ids(&spec, findings);
    port_clashes(&resolved, findings);
    dormant(&spec, findings);
    unlocked(&spec, &lock, findings);
    findings.extend(behaviour::switched_off(&spec));
    Some(Project { root: inputs.root, spec, environments, templates, lock, resolved, texts })
}

/// Text is wanted, not values.
fn placeholders() -> Secrets {
    Secrets::default()
}

fn port_clashes(resolved: &BTreeMap<Name, Environment>, findings: &mut Vec<Finding>) {
    let mut by_engine: BTreeMap<&str, Vec<&Environment>> = BTreeMap::new();
    for environment in resolved.values() {
        by_engine.entry(environment.engine.as_deref().unwrap_or(LOCAL)).or_default().push(environment);
    }
    for environments in by_engine.into_values().filter(|environments| environments.len() > 1) {
        rules::port_clashes(environments, findings);
    }
}

/// Says in one line what is written and does nothing yet.
fn dormant(spec: &Spec, findings: &mut Vec<Finding>) {
    let names: Vec<&str> = spec.dormant.iter().map(|section| section.value).collect();
    if let Some(first) = spec.dormant.first() {
        let message =
            format!("read and checked, without effect while the stack has no `refresh:`: {}", names.join(", "));
        let help = "write `refresh: { from: production, secret: mask_key }` in stack.yaml";
        findings.push(Finding::note("no-effect-yet", message).at(&first.place).help(help));
    }
}

fn unlocked(spec: &Spec, lock: &Lock, findings: &mut Vec<Finding>) {
    let redis = spec.redis.values().map(|redis| &redis.service);
    let services = redis.chain(spec.apps.values().map(|app| &app.service)).filter(|service| service.enabled);
    let missing: Vec<&Text> =
        services.map(|service| &service.image).filter(|image| !lock.images.contains_key(&image.value)).collect();
    if let Some(first) = missing.first() {
        let mut names: Vec<String> = missing.iter().map(|image| format!("`{}`", image.value)).collect();
        names.sort();
        names.dedup();
        let message = format!("not in stack.lock: {}", names.join(", "));
        findings.push(Finding::warning("not-locked", message).at(&first.place).help("run `lockstep lock`"));
    }
}

impl Project {
    pub fn environment(&self, name: &str) -> Result<&Environment, Failure> {
        let found = Name::parse(name).and_then(|name| self.resolved.get(&name));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.resolved.keys().map(Name::as_str).collect();
            let copied = ephemeral::base(name).filter(|base| self.resolved.contains_key(base));
            let help = match finding::nearest(name, known.iter().copied()) {
                _ if copied.is_some() => {
                    format!("`{name}` is called like a copy; `verify`, `status`, `probe`, `audit` and `down` take one")
                }
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("environments: {}", known.join(", ")),
            };
            Failure::message(Kind::Usage, format!("there is no environment `{name}`")).help(help)
        })
    }

    /// From here on knows a copy that exists for a while alone, where it is called like one of an environment.
    pub fn take_in_copy(&mut self, name: Name) {
        let base = ephemeral::base(name.as_str()).and_then(|base| self.resolved.get(&base));
        if let Some(base) = base.filter(|_| !self.resolved.contains_key(&name)) {
            let copy = ephemeral::of(base, name.clone(), None);
            self.resolved.insert(name, copy);
        }
    }

    /// What the spec means for an environment, with these secrets.
    pub fn desired(
        &self,
        environment: &Environment,
        secrets: &Secrets,
        generations: &Generations,
    ) -> Result<Desired, Failure> {
        let mut findings = Vec::new();
        let desired = desired::build(environment, &self.templates, secrets, generations, &mut findings);
        // Checked when the project was loaded; only the values of secrets are new.
        match findings.first() {
            None => Ok(desired),
            Some(finding) => Err(Failure::message(Kind::Usage, finding.message.clone())),
        }
    }

    /// The revision of an environment whose differences all have the same neutral values: equal for all environments.
    pub fn fingerprint(&self) -> Digest {
        let place = Place::file("fingerprint");
        let neutral = |kind: ValueKind| match kind {
            ValueKind::Size => "64mb",
            ValueKind::Integer | ValueKind::Port => "1",
            ValueKind::Text => "",
            ValueKind::Duration => "1s",
            ValueKind::Boolean => "false",
        };
        let values = self.spec.differences.iter().map(|(name, difference)| {
            (name.clone(), (place.clone(), Located::new(neutral(difference.kind).to_owned(), place.clone())))
        });
        let Some(any) = self.environments.values().next() else { return Digest::of(b"") };
        let blank = EnvironmentSpec { values: values.collect(), place, ..any.clone() };
        // What does not make sense with neutral values is no mistake of anybody's.
        let mut ignored = Vec::new();
        let inputs = resolve::Inputs {
            spec: &self.spec,
            environment: &blank,
            all: &self.environments,
            templates: &self.templates,
            lock: &self.lock,
        };
        let environment = resolve::resolve(&inputs, &mut ignored);
        desired::build(&environment, &self.templates, &placeholders(), &Generations::new(), &mut ignored).state.digest()
    }

    /// One secret of an environment that no service of it has.
    pub fn secret(&self, environment: &Environment, name: &str) -> Result<Secret, Failure> {
        let doing = format!("could not read the secret `{name}` of {}", environment.name);
        let help = format!("see `secrets:` in {}", inputs::environment_file(&environment.name));
        let missing = |why: &str| Failure::message(Kind::Usage, format!("{doing}: {why}")).help(help.clone());
        let source = environment.secret_source.as_ref().ok_or_else(|| missing("the environment has no `secrets:`"))?;
        let names = BTreeSet::from([name.to_owned()]);
        let read = crate::store::secrets::read(&self.root, source, &names);
        let mut read = read.map_err(|error| missing(&format!("{error:#}")))?;
        read.remove(name).ok_or_else(|| missing("it is not there"))
    }

    /// The secrets that an environment declares, from where it says they are.
    pub fn secrets(&self, environment: &Environment) -> Result<BTreeMap<String, Secret>, Failure> {
        let names = environment.secrets();
        let Some(source) = environment.secret_source.as_ref().filter(|_| !names.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        crate::store::secrets::read(&self.root, source, &names).map_err(|error| {
            Failure::new(Kind::Usage, error.context(format!("could not read the secrets of {}", environment.name)))
                .help(format!("see `secrets:` in {}", environment.place.file))
        })
    }
}

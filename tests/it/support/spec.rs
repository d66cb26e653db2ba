//! The texts of a project, and what they mean for one environment; no disk.

use std::collections::BTreeMap;
use std::fs;

use lockstep::desired::{self, BUILT_IN, Desired, Generations, Secrets};
use lockstep::finding::{Finding, has_errors};
use lockstep::model::{Environment, Kind, resolve};
use lockstep::render::Templates;
use lockstep::spec::environment::{self, EnvironmentSpec};
use lockstep::spec::lock::{self, Lock};
use lockstep::spec::{Spec, parse};
use lockstep::value::{Name, Secret, Sources};

use super::project::entries;
use super::repository;

/// In every secret of every test, so that one search finds a secret where none may be.
pub const SENTINEL: &str = "sentinel";

/// Files of a project by their path.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub BTreeMap<String, String>);

impl Texts {
    /// The project that plans and comparisons start from.
    pub fn base() -> Texts {
        let root = repository().join("tests/cases/base");
        let files = ["environments", "templates"].iter().flat_map(|folder| entries(&root.join(folder)));
        let name = |path: &std::path::Path| path.strip_prefix(&root).expect("below").to_str().expect("text").to_owned();
        Texts(files.map(|path| (name(&path), fs::read_to_string(&path).expect("a file of the base"))).collect())
    }

    /// Replaces what stands once in the file of this name.
    pub fn replace(&mut self, file: &str, old: &str, new: &str) {
        let (path, text) = self
            .0
            .iter_mut()
            .find(|(path, _)| path.ends_with(&format!("/{file}")))
            .unwrap_or_else(|| panic!("there is no file `{file}`"));
        assert_eq!(text.matches(old).count(), 1, "`{old}` stands once in {path}");
        *text = text.replace(old, new);
    }

    pub fn sources(&self) -> Sources {
        Sources(self.0.clone())
    }

    fn text(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    pub fn lock(&self) -> Lock {
        lock::parse(self.text("environments/stack.lock")).expect("the lock reads")
    }

    /// One environment as the texts mean it; panics when they are wrong, since a test's own texts may not be.
    pub fn resolved(&self, environment: &str) -> (Environment, Templates) {
        let mut findings = Vec::new();
        let (spec, environments) = self.parsed(&mut findings);
        let templates = self.templates(&mut findings);
        let lock = self.lock();
        let name = Name::parse(environment).expect("a name");
        let inputs = resolve::Inputs {
            spec: &spec,
            environment: environments.get(&name).unwrap_or_else(|| panic!("there is no `{environment}`")),
            all: &environments,
            templates: &templates,
            lock: &lock,
        };
        let resolved = resolve::resolve(&inputs, &mut findings);
        self.refuse(&findings);
        (resolved, templates)
    }

    fn parsed(&self, findings: &mut Vec<Finding>) -> (Spec, BTreeMap<Name, EnvironmentSpec>) {
        let spec = parse::parse("environments/stack.yaml", self.text("environments/stack.yaml"), findings);
        let mut environments = BTreeMap::new();
        for (path, text) in &self.0 {
            let stem = path.strip_prefix("environments/").and_then(|file| file.strip_suffix(".yaml"));
            let Some(name) = stem.filter(|stem| *stem != "stack").and_then(Name::parse) else { continue };
            environments.extend(environment::parse(&name, path, text, findings).map(|read| (name, read)));
        }
        self.refuse(findings);
        (spec.expect("a spec without findings"), environments)
    }

    fn templates(&self, findings: &mut Vec<Finding>) -> Templates {
        let own = self.0.iter().filter_map(|(path, text)| Some((path.strip_prefix("templates/")?, text.as_str())));
        let all = BUILT_IN.into_iter().chain(own);
        Templates::compile("templates", all.map(|(name, text)| (name.to_owned(), text.to_owned())).collect(), findings)
    }

    fn refuse(&self, findings: &[Finding]) {
        let shown = || super::plain(&lockstep::ui::text::findings(findings, &self.sources()));
        assert!(!has_errors(findings), "the test's own spec is wrong:\n{}", shown());
    }

    /// What is meant, with secrets that tell whose they are; `changed` replaces some of them.
    pub fn meant(&self, environment: &str, changed: &BTreeMap<String, String>) -> Desired {
        let (resolved, templates) = self.resolved(environment);
        let mut findings = Vec::new();
        let desired =
            desired::build(&resolved, &templates, &secrets(&resolved, changed), &Generations::new(), &mut findings);
        self.refuse(&findings);
        desired
    }
}

/// A value for every secret of an environment, and for lockstep's own user of every Redis.
pub fn secrets(environment: &Environment, changed: &BTreeMap<String, String>) -> Secrets {
    let own = |name: &str| Secret::new(format!("{SENTINEL}-{}-{name}", environment.name));
    let value = |name: &String| changed.get(name).map_or_else(|| own(name), |value| Secret::new(value.clone()));
    let services = environment.services.values();
    let servers = services.filter(|service| matches!(service.kind, Kind::Redis(_)));
    Secrets {
        values: environment.secrets().iter().map(|name| (name.clone(), value(name))).collect(),
        operators: servers.map(|server| (server.name.to_string(), own(&format!("operator-{}", server.name)))).collect(),
    }
}

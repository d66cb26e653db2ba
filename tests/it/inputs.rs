//! What is read of a project's folder, and how a project as a whole is told from another.

use lockstep::project::{self, Scope};
use lockstep::store::inputs;
use lockstep::value::Name;

use crate::support::project::Project;
use crate::support::repository;

fn read(project: &Project) -> (inputs::Inputs, Vec<String>) {
    let mut findings = Vec::new();
    let inputs = inputs::read(project.path(), &mut findings).expect("the folder is there");
    (inputs, findings.into_iter().map(|finding| format!("{}: {}", finding.rule, finding.message)).collect())
}

#[test]
fn specs_templates_and_the_lock_are_read_and_nothing_else() {
    let project = Project::small()
        .with("environments/stack.lock", "lockstep: 1\nimages: {}\n")
        .with("environments/notes.txt", "not read")
        .with("environments/staging.yml", "not read")
        .with("environments/secrets/staging.yaml", "not read")
        .with("templates/a.tera", "a")
        .with("templates/deep/er/b.tera", "b")
        .with("templates/README.md", "not read");
    let (inputs, findings) = read(&project);
    // What was meant to be read is named.
    assert_eq!(findings, ["not-read: environments/staging.yml is not read: the files of a project end in `.yaml`"]);
    assert_eq!(inputs.environments.keys().map(Name::as_str).collect::<Vec<_>>(), ["staging"]);
    let own: Vec<&str> = inputs
        .templates
        .keys()
        .map(String::as_str)
        .filter(|name| !name.contains("redis.conf") && !name.contains("users.acl"))
        .collect();
    assert_eq!(own, ["a.tera", "deep/er/b.tera"]);
    assert!(inputs.lock.is_some());
    let shown: Vec<&str> = inputs.sources.0.keys().map(String::as_str).collect();
    assert_eq!(
        shown,
        [
            "environments/stack.lock",
            "environments/stack.yaml",
            "environments/staging.yaml",
            "templates/a.tera",
            "templates/deep/er/b.tera"
        ]
    );
}

#[test]
fn a_project_without_templates_or_a_lock_uses_the_built_in_ones() {
    let (inputs, findings) = read(&Project::small());
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(inputs.templates.keys().map(String::as_str).collect::<Vec<_>>(), ["redis.conf.tera", "users.acl.tera"]);
    assert_eq!(inputs.lock, None);
}

#[test]
fn a_template_of_the_same_name_replaces_a_built_in_one() {
    let (inputs, _) = read(&Project::small().with("templates/redis.conf.tera", "# ours\n"));
    assert_eq!(inputs.templates["redis.conf.tera"], "# ours\n");
}

#[test]
fn templates_are_counted() {
    let project = Project::small();
    for number in 0..1_001 {
        project.write(&format!("templates/{number}.tera"), "");
    }
    let (inputs, findings) = read(&project);
    assert_eq!(findings, ["too-large: there are more than 1000 templates"]);
    assert!(inputs.templates.len() <= 1_002);
}

#[test]
fn folders_of_templates_have_an_end() {
    let deep = format!("templates/{}a.tera", "d/".repeat(12));
    let (inputs, _) = read(&Project::small().with(&deep, "a"));
    assert!(!inputs.templates.keys().any(|name| name.ends_with("a.tera")));
}

#[test]
fn one_spec_has_one_fingerprint_whatever_the_values_of_its_differences() {
    let print = |project: &Project| {
        let loaded = project::load(project.path(), Scope::All).expect("a project");
        let loaded = loaded.project.unwrap_or_else(|| panic!("{:?}", loaded.findings));
        loaded.fingerprint().to_string()
    };
    let base = Project::copy_of(&repository().join("tests/cases/base"));
    let first = print(&base);
    base.write(
        "environments/staging.yaml",
        "values: { cache_memory: 96mb, http_port: 9000, workers: 3 }\nsecrets: { env: OTHER_ }\n",
    );
    assert_eq!(print(&base), first, "values are no part of it");
    base.write(
        "environments/stack.yaml",
        std::fs::read_to_string(base.path().join("environments/stack.yaml"))
            .expect("the spec")
            .replace("allkeys-lru", "allkeys-lfu"),
    );
    assert_ne!(print(&base), first, "settings are");
}

#[test]
fn a_project_is_loaded_from_the_texts_that_a_change_recorded_as_it_was_from_its_folder() {
    let project = Project::copy_of(&repository().join("tests/cases/base"));
    let before = project::load(project.path(), Scope::All).expect("a project");
    let recorded = serde_json::to_string(&recorded_of(&before)).expect("JSON");
    assert!(!recorded.contains("sentinel"), "no value of a secret is among them");
    // The project went on meanwhile.
    project.write("environments/stack.yaml", "lockstep: 1\nstack: shop\n");
    std::fs::remove_dir_all(project.path().join("templates")).expect("removed");
    let texts: lockstep::ledger::Texts = serde_json::from_str(&recorded).expect("texts");
    let again = project::load_texts(project.path(), &texts, Scope::All);
    assert_eq!(again.findings, before.findings);
    assert_eq!(
        (&recorded_of(&again), &again.sources.0["environments/stack.yaml"]),
        (&recorded_of(&before), &texts.stack)
    );
    let (before, again) = (before.project.expect("a project"), again.project.expect("a project"));
    assert_eq!(again.fingerprint(), before.fingerprint());
    assert_eq!(again.root, project.path(), "secrets, build contexts and backups are where they are now");
    assert_eq!(again.lock, before.lock);
    assert_eq!(again.resolved.len(), before.resolved.len());
}

#[test]
fn recorded_texts_are_bounded_again_and_one_that_is_wrong_is_a_finding() {
    let project = Project::small();
    let mut texts = project::load(project.path(), Scope::All).expect("a project").project.expect("it reads").texts;
    texts.environments.insert("../../etc/passwd".to_owned(), "values: {}".to_owned());
    texts.environments.insert("production".to_owned(), " ".repeat(2 << 20));
    let loaded = project::load_texts(project.path(), &texts, Scope::All);
    let said: Vec<&str> = loaded.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert!(said.contains(&"it is larger than 1024 KB"), "{said:?}");
    assert!(!loaded.sources.0.keys().any(|name| name.contains("..")));
    texts.stack = "lockstep: [".to_owned();
    assert!(project::load_texts(project.path(), &texts, Scope::All).project.is_none());
}

fn recorded_of(loaded: &project::Loaded) -> lockstep::ledger::Texts {
    loaded.project.as_ref().expect("it reads").texts.clone()
}

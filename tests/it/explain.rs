//! `explain`: each folder of `tests/cases/explain` is laid over a copy of `tests/cases/base`, and staging is explained.

use std::fs;

use crate::support::project::{Project, entries};
use crate::support::{golden, repository};

#[test]
fn explain_says_in_plain_english_what_runs_and_why() {
    let folders = entries(&repository().join("tests/cases/explain"));
    let wrong: Vec<String> = folders
        .iter()
        .filter_map(|folder| {
            let project = Project::copy_of(&repository().join("tests/cases/base"));
            for name in [
                "environments/stack.yaml",
                "environments/staging.yaml",
                "environments/production.yaml",
                "templates/redis.conf.tera",
            ] {
                if let Ok(text) = fs::read(folder.join(name)) {
                    project.write(name, text);
                }
            }
            let ran = project.lockstep(&["explain", "staging"]);
            assert_eq!(ran.code, 0, "{}: {}", folder.display(), ran.stderr);
            let why = golden::compare(&folder.join("expected.txt"), &ran.stdout).err()?;
            Some(format!("{}\n{why}", folder.display()))
        })
        .collect();
    assert!(!folders.is_empty() && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn explain_says_the_same_as_json_and_needs_neither_engine_nor_secrets() {
    let project = Project::copy_of(&repository().join("tests/cases/base"));
    let ran = project.lockstep_with(&["explain", "production", "--json"], &[("DOCKER_HOST", "unix:///nowhere")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let said: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&said["format"], &said["environment"]), (&1.into(), &"production".into()));
    assert_eq!(said["sections"][0]["title"], "production of shop");
    assert_eq!(project.lockstep(&["explain", "nowhere"]).code, 2);
}

#[test]
fn the_example_of_this_repository_is_explained_on_a_page() {
    let project = Project::empty();
    for folder in ["environments", "templates"] {
        for path in entries(&repository().join(folder)).into_iter().filter(|path| path.is_file()) {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            project.write(&format!("{folder}/{name}"), fs::read(&path).expect("a file of the example"));
        }
    }
    let ran = project.lockstep(&["explain", "production"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.lines().count() <= 60, "a page:\n{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
}

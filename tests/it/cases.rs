//! Every folder of `tests/cases`: what goes in and the text that must come out, side by side.
//!
//! `check/` and `render/` hold projects and run the binary; where one has no `stack.lock`, it gets that of `base/`.
//! `plan/`, `verify/` and `report/` hold a `case.txt`, described in `support/script.rs`. `GOLDEN=1` writes what comes out.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep::report::{Form, Report};
use lockstep::ui::text;

use crate::note::entry;
use crate::support::project::{Project, entries};
use crate::support::script::{play, verified};
use crate::support::{golden, plain, repository};

/// Runs all folders of an area and shows every one that does not say what it should.
fn area(name: &str, run: impl Fn(&Path) -> String) {
    let folders: Vec<PathBuf> = entries(&repository().join("tests/cases").join(name));
    assert!(!folders.is_empty(), "tests/cases/{name} holds cases");
    let wrong: Vec<String> = folders
        .iter()
        .filter_map(|folder| {
            let found = run(folder);
            let why = golden::compare(&folder.join("expected.txt"), &found).err()?;
            Some(format!("{}\n{why}", folder.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n\n{}", wrong.len(), folders.len(), wrong.join("\n"));
}

fn project(folder: &Path) -> Project {
    let project = Project::copy_of(folder);
    if !project.path().join("environments/stack.lock").exists() {
        let lock = repository().join("tests/cases/base/environments/stack.lock");
        project.write("environments/stack.lock", fs::read(lock).expect("the lock of the base"));
    }
    project
}

#[test]
fn check_says_what_is_wrong_where_and_what_to_do() {
    area("check", |folder| {
        let ran = project(folder).lockstep(&["check"]);
        assert_eq!(ran.stderr, "", "{}: findings are the result, and go to standard output", folder.display());
        format!("{}exit code {}\n", ran.stdout, ran.code)
    });
}

#[test]
fn render_shows_the_bytes_that_reach_the_containers() {
    area("render", |folder| {
        let ran = project(folder).lockstep(&["render", "staging"]);
        assert_eq!(ran.code, 0, "{}: {}", folder.display(), ran.stderr);
        ran.stdout
    });
}

#[test]
fn a_plan_says_what_is_done_why_at_what_cost_and_what_it_means_for_data() {
    area("plan", |folder| {
        let script = fs::read_to_string(folder.join("case.txt")).expect("a case.txt");
        plain(&text::plan(&play(&script, "staging").plan()))
    });
}

#[test]
fn verify_says_how_far_it_looked_and_what_it_found() {
    area("verify", |folder| {
        let script = fs::read_to_string(folder.join("case.txt")).expect("a case.txt");
        let (verification, texts) = verified(&script);
        plain(&text::verification(&verification, &texts.sources()))
    });
}

#[test]
fn a_report_has_every_form_that_somebody_reads() {
    area("report", |folder| {
        if folder.join("entry.json").is_file() {
            return Report::of_change(&entry(folder)).render(Form::Html);
        }
        let script = fs::read_to_string(folder.join("case.txt")).expect("a case.txt");
        let form = match script.lines().find_map(|line| line.strip_prefix("form ")) {
            Some("junit") => Form::Junit,
            Some("sarif") => Form::Sarif,
            Some("markdown") => Form::Markdown,
            Some("html") => Form::Html,
            other => panic!("form junit|sarif|markdown|html, not {other:?}"),
        };
        let (verification, _) = verified(&script);
        Report::of_verification(&verification, "shop", false, "2026-11-26T02:03:05Z").render(form)
    });
}

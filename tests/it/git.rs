//! What git says of a project, asked of a real repository; and nothing, where there is none.

use std::path::Path;
use std::process::Command;

use lockstep::ledger::Git;
use lockstep::store::git;

use crate::support::project::Project;

fn run(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=Anna", "-c", "user.email=anna@shop.example"]).args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.output().expect("git is there");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn commit(folder: &Path) -> String {
    run(folder, &["add", "--all"]);
    run(folder, &["commit", "--quiet", "--message", "x"]);
    run(folder, &["rev-parse", "HEAD"])
}

fn files(git: &Git) -> Vec<String> {
    let open = |committed| if committed { "" } else { ", not committed" };
    git.touched.iter().map(|file| format!("{} {}{}", file.path, file.how, open(file.committed))).collect()
}

/// A project in a folder of a repository, as it was at its first commit.
fn repository() -> (Project, std::path::PathBuf, String) {
    let project = Project::empty()
        .with("README.md", "of the repository")
        .with("stack/environments/stack.yaml", "lockstep: 1\n")
        .with("stack/environments/staging.yaml", "values: {}\n")
        .with("stack/templates/a b.tera", "a");
    run(project.path(), &["init", "--quiet", "--initial-branch", "main"]);
    let first = commit(project.path());
    let root = project.path().join("stack");
    (project, root, first)
}

#[test]
fn without_a_repository_nothing_is_known_and_nothing_fails() {
    let project = Project::small();
    assert_eq!(git::read(project.path(), None), None);
    assert_eq!(git::read(&project.path().join("nowhere"), None), None);
}

#[test]
fn a_clean_project_has_a_commit_a_branch_and_no_touched_file() {
    let (_project, root, first) = repository();
    let git = git::read(&root, Some(&first)).expect("a repository");
    assert_eq!((git.commit.as_ref(), git.branch.as_deref(), git.dirty), (Some(&first), Some("main"), false));
    assert_eq!((git.since.as_ref(), git.touched.as_slice()), (Some(&first), &[][..]));
}

#[test]
fn files_changed_since_a_commit_and_those_not_committed_are_named_within_the_project_alone() {
    let (project, root, first) = repository();
    project.write("stack/environments/production.yaml", "values: {}\n");
    project.write("stack/environments/staging.yaml", "values: { a: 1 }\n");
    project.write("README.md", "changed, and none of ours");
    let second = commit(project.path());
    project.write("stack/environments/production.yaml", "values: { a: 2 }\n");
    project.write("stack/environments/ci.yaml", "values: {}\n");
    project.write("stack/changes/2026-11-23-x.md", "written by lockstep");
    project.write("stack/backups/shop/x", "written by lockstep");
    project.write("other.txt", "none of ours");
    std::fs::remove_file(root.join("templates/a b.tera")).expect("removed");
    let git = git::read(&root, Some(&first)).expect("a repository");
    assert_eq!((git.commit.as_ref(), git.dirty, git.more), (Some(&second), true, 0));
    let expected = [
        "environments/ci.yaml added, not committed",
        "environments/production.yaml added, not committed",
        "environments/staging.yaml changed",
        "templates/a b.tera removed, not committed",
    ];
    assert_eq!(files(&git), expected);
    let git = git::read(&root, None).expect("a repository");
    assert_eq!((git.since, git.touched.len()), (None, 3), "what was committed before cannot be told");
}

#[test]
fn a_commit_that_git_does_not_know_is_not_asked_about() {
    let (_project, root, first) = repository();
    for since in ["0123456789012345678901234567890123456789", "--output=stolen", "HEAD~1", ""] {
        let git = git::read(&root, Some(since)).expect("a repository");
        assert_eq!((git.commit.as_ref(), git.since), (Some(&first), None), "{since}");
    }
    assert!(!root.join("stolen").exists());
}

#[test]
fn a_repository_without_a_commit_and_a_head_without_a_branch_are_read_too() {
    let project = Project::small();
    run(project.path(), &["init", "--quiet", "--initial-branch", "trunk"]);
    let git = git::read(project.path(), None).expect("a repository");
    assert_eq!((git.commit, git.branch.as_deref(), git.dirty), (None, Some("trunk"), true));
    assert_eq!(git.touched.len(), 2);
    let commit = commit(project.path());
    run(project.path(), &["checkout", "--quiet", "--detach"]);
    let git = git::read(project.path(), None).expect("a repository");
    assert_eq!((git.commit, git.branch, git.dirty), (Some(commit), None, false));
}

#[test]
fn more_files_than_anybody_reads_are_counted() {
    let (project, root, _) = repository();
    for number in 0..250 {
        project.write(&format!("stack/templates/{number:03}.tera"), "x");
    }
    let git = git::read(&root, None).expect("a repository");
    assert_eq!((git.touched.len(), git.more), (200, 50));
}

#[test]
fn a_repositorys_own_settings_start_no_program() {
    let (project, root, _) = repository();
    let trap = project.path().join("trap.sh");
    project.write("trap.sh", "#!/bin/sh\ntouch sprung\n");
    project.permit(&trap, 0o755);
    run(project.path(), &["config", "core.fsmonitor", trap.to_str().expect("text")]);
    run(project.path(), &["config", "diff.external", trap.to_str().expect("text")]);
    project.write("stack/environments/staging.yaml", "values: { b: 1 }\n");
    git::read(&root, None).expect("a repository");
    assert!(!project.path().join("sprung").exists() && !root.join("sprung").exists());
}

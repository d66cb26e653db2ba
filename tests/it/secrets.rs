//! Values of secrets from each place that they may come from, and what is refused there.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;

use lockstep::spec::environment::SecretSource;
use lockstep::store::secrets;

use crate::support::project::Project;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The values as text, or the error as text.
fn read(project: &Project, source: &SecretSource, wanted: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let read = secrets::read(project.path(), source, &names(wanted));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    read.map(|values| values.into_iter().map(|(name, value)| (name, text(value.reveal()))).collect())
        .map_err(|error| format!("{error:#}"))
}

fn file(path: &str) -> SecretSource {
    SecretSource::File(path.to_owned())
}

fn command(words: &[&str]) -> SecretSource {
    SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
}

fn one(value: &str) -> Result<BTreeMap<String, String>, String> {
    Ok(BTreeMap::from([("one".to_owned(), value.to_owned())]))
}

#[test]
fn a_file_holds_names_and_values_beside_the_environments() {
    let project = Project::small()
        .with("environments/secrets/staging.yaml", "one: first\ntwo: 'second: \"quoted\"'\nthree: |\n  long\n  text\n");
    assert_eq!(read(&project, &file("secrets/staging.yaml"), &["one"]), one("first"));
    let all = read(&project, &file("secrets/staging.yaml"), &["one", "two", "three"]).expect("all of them");
    assert_eq!(all["two"], "second: \"quoted\"");
    assert_eq!(all["three"], "long\ntext\n");
}

#[test]
fn a_folder_holds_one_file_per_secret() {
    let project =
        Project::small().with("environments/secrets/one", "first\n").with("environments/secrets/two", "a\nb\r\n");
    let all = read(&project, &file("secrets"), &["one", "two"]).expect("both");
    assert_eq!(
        (all["one"].as_str(), all["two"].as_str()),
        ("first", "a\nb"),
        "the last line break belongs to the editor"
    );
}

#[test]
fn only_the_last_line_break_is_left_out() {
    let project = Project::small().with("environments/secrets/one", " first \n\n");
    assert_eq!(read(&project, &file("secrets"), &["one"]), one(" first \n"));
}

#[test]
fn a_program_writes_the_value_of_the_secret_that_it_is_asked_for() {
    let project = Project::small();
    assert_eq!(read(&project, &command(&["/bin/echo", "value of {name}"]), &["one"]), one("value of one"));
    assert_eq!(read(&project, &command(&["/bin/sh", "-c", "printf %s \"$0\"", "{name}"]), &["one"]), one("one"));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    for path in ["environments/secrets.yaml", "environments/folder/one"] {
        let source = file(if path.ends_with("yaml") { "secrets.yaml" } else { "folder" });
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let project = Project::small().with(path, "one: first\n");
            project.permit(path.as_ref(), mode);
            let why = read(&project, &source, &["one"]).expect_err("it is refused");
            assert!(why.contains("can be read by others") && why.contains("chmod 600"), "{mode:o}: {why}");
            assert!(!why.contains("first"), "{why}");
        }
    }
}

#[test]
fn every_secret_that_is_missing_is_named_at_once() {
    let project = Project::small().with("environments/secrets.yaml", "one: first\n");
    let why = read(&project, &file("secrets.yaml"), &["one", "two", "three"]).expect_err("two are missing");
    assert_eq!(why, "`secrets.yaml` does not have `three`; `secrets.yaml` does not have `two`");
    let why =
        read(&project, &SecretSource::Env("LOCKSTEP_TEST_".to_owned()), &["a-b", "c"]).expect_err("neither is set");
    assert_eq!(
        why,
        "environment variable LOCKSTEP_TEST_A_B is not set; environment variable LOCKSTEP_TEST_C is not set"
    );
}

#[test]
fn an_empty_secret_is_none() {
    let project = Project::small().with("environments/secrets.yaml", "one: ''\n").with("environments/folder/one", "\n");
    assert_eq!(read(&project, &file("secrets.yaml"), &["one"]), Err("`one` is empty".to_owned()));
    assert_eq!(read(&project, &file("folder"), &["one"]), Err("`one` is empty".to_owned()));
    assert_eq!(read(&project, &command(&["/bin/true"]), &["one"]), Err("`one` is empty".to_owned()));
}

#[test]
fn a_secret_with_a_nul_byte_reaches_no_server() {
    let project = Project::small().with("environments/folder/one", "a\0b");
    assert_eq!(read(&project, &file("folder"), &["one"]), Err("`one` holds a NUL byte".to_owned()));
}

#[test]
fn a_file_that_does_not_read_shows_nothing_of_itself() {
    for text in [
        "one: [sentinel]\n",
        "sentinel\n",
        "one: sentinel: x\n",
        "one: \"sentinel\n",
        "one: &a sentinel\none: *a\n",
        "- sentinel\n",
    ] {
        let project = Project::small().with("environments/secrets.yaml", text);
        let why = read(&project, &file("secrets.yaml"), &["one"]).expect_err(text);
        assert!(why.contains("does not read as `name: value` lines"), "{why}");
        assert!(!why.contains("sentinel"), "{why}");
    }
}

#[test]
fn what_is_no_secret_by_its_size_or_kind_is_not_read() {
    let big = "a".repeat(70 << 10);
    let project = Project::small().with("environments/secrets.yaml", format!("one: {big}\n"));
    assert!(read(&project, &file("secrets.yaml"), &["one"]).expect_err("too large").contains("larger than 64 KB"));
    let why = read(&project, &command(&["/bin/sh", "-c", "head -c 70000 /dev/zero | tr '\\0' a"]), &["one"]);
    assert!(why.expect_err("too large").contains("more than 64 KB"));
    symlink("/dev/zero", project.path().join("environments/device")).expect("a link");
    assert!(read(&project, &file("device"), &["one"]).expect_err("no file").contains("is not a regular file"));
    assert!(read(&project, &file("nowhere"), &["one"]).expect_err("not there").contains("could not read secrets"));
}

#[test]
fn a_program_that_fails_or_is_not_there_is_named() {
    let project = Project::small();
    let why = read(&project, &command(&["/bin/false"]), &["one"]).expect_err("it fails");
    assert!(why.contains("`/bin/false` ended with exit status: 1 for the secret `one`"), "{why}");
    let why = read(&project, &command(&["/nowhere/pass"]), &["one"]).expect_err("it is not there");
    assert!(why.contains("could not run `/nowhere/pass` for the secret `one`"), "{why}");
    let why = read(&project, &command(&["/bin/sh", "-c", "printf '\\377'"]), &["one"]).expect_err("it is no text");
    assert!(why.contains("is not text"), "{why}");
}

#[test]
fn nobody_is_asked_for_secrets_that_nobody_needs() {
    let project = Project::small();
    assert_eq!(read(&project, &command(&["/bin/false"]), &[]), Ok(BTreeMap::new()));
}

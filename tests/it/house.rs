//! The house rules of `docs/architecture.md`, read off the source: who may use whom, and what stays where.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::project::entries;
use crate::support::repository;

/// The modules in the order of dependency: each uses those before it, and never one that comes after.
const ORDER: [&str; 40] = [
    // Words.
    "value",
    "finding",
    "acceptance",
    "failure",
    "measure",
    // What is known of Redis.
    "directive",
    // What we want.
    "spec",
    "render",
    "model",
    "state",
    "acl",
    "desired",
    "explain",
    // What differs.
    "diff",
    "plan",
    "parity",
    "event",
    // Data.
    "rdb",
    "digest",
    "mask",
    "restore",
    "keydiff",
    "export",
    "import",
    "probe",
    "backup",
    "ledger",
    "report",
    // Whose turn it is.
    "hold",
    // How safe it is.
    "audit",
    // The world.
    "engine",
    "redis",
    "http",
    "store",
    "ui",
    "world",
    "apply",
    // The commands.
    "cli",
    "project",
    "commands",
];

/// Rooms on the same floor, which do not use each other.
const APART: [&str; 5] = ["engine", "redis", "http", "store", "ui"];

/// Where the rule above has an exception, and why.
const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("ui", "store", "it names what dead writers left, and asks whether the variable CI is set")];

/// A file of `src/`, and the module that it belongs to.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = repository().join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(&root).expect("below src").to_str().expect("text");
            let module = relative.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source file");
            sources.push(Source { path, module, text });
        }
    }
    sources
}

impl Source {
    /// Its lines of code, without comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn is_below(&self, path: &str) -> bool {
        self.path.strip_prefix(repository()).is_ok_and(|relative| relative.starts_with(path))
    }

    /// `src/plan/build.rs:12`, for messages.
    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.strip_prefix(repository()).unwrap_or(&self.path).display())
    }
}

fn rank(module: &str) -> usize {
    let rank = ORDER.iter().position(|known| *known == module);
    rank.unwrap_or_else(|| panic!("`{module}` has no place in the order of tests/it/house.rs"))
}

/// The modules that a line names, as `crate::module` or in braces after `crate::`.
fn named(line: &str) -> Vec<&str> {
    let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    line.match_indices("crate::").map(|(at, path)| &line[at + path.len()..]).map(|rest| &rest[..word(rest)]).collect()
}

/// Every line of code that breaks a rule, or nothing.
fn offences(broken: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.code().filter(|(_, line)| broken(&source, line)) {
            offences.push(format!("{}: {}", source.at(number), line.trim()));
        }
    }
    offences
}

fn none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn a_module_uses_only_modules_that_come_before_it() {
    none(&offences(|source, line| {
        named(line).into_iter().any(|used| {
            let missing = used.is_empty();
            missing || source.module != "main" && source.module != used && rank(used) > rank(&source.module)
        })
    }));
}

#[test]
fn engine_redis_http_store_and_ui_do_not_use_each_other() {
    none(&offences(|source, line| {
        let excepted = |used: &str| EXCEPTIONS.iter().any(|(user, other, _)| *user == source.module && *other == used);
        APART.contains(&source.module.as_str())
            && named(line).into_iter().any(|used| used != source.module && APART.contains(&used) && !excepted(used))
    }));
}

#[test]
fn every_exception_is_needed() {
    for (user, used, why) in EXCEPTIONS {
        let found = offences(|source, line| source.module == user && named(line).contains(&used));
        assert!(!found.is_empty(), "{user} no longer uses {used}: {why}");
    }
}

#[test]
fn every_module_has_its_place_in_the_order() {
    let found: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let known = ORDER.iter().chain(&["lib", "main"]).map(|name| (*name).to_owned()).collect();
    assert_eq!(found, known);
}

#[test]
fn what_comes_before_the_engine_touches_no_world() {
    let world = [
        "std::fs",
        "std::env",
        "std::net",
        "std::process",
        // Threads that end with their scope only share out work; a clock and a life of their own are the world.
        "thread::sleep",
        "thread::spawn",
        "tokio",
        "bollard",
        "hyper",
        "jiff",
        "SystemTime",
        "Instant",
        "println!",
        "print!",
        "redis::",
    ];
    none(&offences(|source, line| {
        let pure = ORDER.contains(&source.module.as_str()) && rank(&source.module) < rank("engine");
        // Reading an address out of a text asks nobody.
        let line = match source.module.as_str() {
            "model" => line.replace("std::net::IpAddr", ""),
            // A calendar is arithmetic; that nobody reads the clock is another rule.
            "backup" => line.replace("jiff::", ""),
            _ => line.to_owned(),
        };
        pure && world.iter().any(|word| line.contains(word))
    }));
}

#[test]
fn foreign_crates_stop_at_their_folder() {
    let homes: [(&str, &[&str]); 13] = [
        ("bollard::", &["src/engine"]),
        ("::redis::", &["src/redis"]),
        ("tera::", &["src/render.rs"]),
        ("serde_yaml::", &["src/spec", "src/store/secrets.rs"]),
        ("clap::", &["src/cli.rs", "src/main.rs"]),
        ("annotate_snippets::", &["src/ui"]),
        ("indicatif::", &["src/ui"]),
        ("anstream::", &["src/ui"]),
        ("rustix::", &["src/store"]),
        ("age::", &["src/value/recipient.rs", "src/store/repository"]),
        ("zstd::", &["src/store/repository"]),
        ("object_store::", &["src/store/repository/remote.rs"]),
        ("rustls::", &["src/store/repository/remote.rs"]),
    ];
    for (foreign, folders) in homes {
        none(&offences(|source, line| {
            let path =
                line.find(foreign).filter(|at| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            path.is_some() && !folders.iter().any(|folder| source.is_below(folder))
        }));
    }
}

#[test]
fn the_clock_and_the_variables_are_read_in_one_place() {
    let read = ["Timestamp::now", "SystemTime", "std::env", "env::var"];
    none(&offences(|source, line| !source.is_below("src/store") && read.iter().any(|word| line.contains(word))));
}

#[test]
fn only_the_ui_prints() {
    let prints = ["println!", "print!", "eprintln!", "eprint!", "io::stdout", "io::stderr", "dbg!"];
    none(&offences(|source, line| source.module != "ui" && prints.iter().any(|word| line.contains(word))));
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["todo!", "unimplemented!", "#[ignore", "FIXME", "XXX"];
    let mut found = offences(|_, line| marks.iter().any(|mark| line.contains(mark)));
    for path in entries(&repository().join("tests/it")).into_iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(&path).expect("a test file");
        let ignored = text.lines().filter(|line| line.trim_start().starts_with("#[ignore"));
        found.extend(ignored.map(|line| format!("{}: {line}", path.display())));
    }
    none(&found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.at(1));
    none(&silent.collect::<Vec<_>>());
}

/// Files that git tracks or would track.
fn tracked() -> Vec<PathBuf> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").arg("-C").arg(repository()).args(arguments).output().expect("git is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("names are text");
    names.split_terminator('\0').map(PathBuf::from).collect()
}

#[test]
fn no_tracked_file_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file does not name them either.
    let places: Vec<String> =
        [["/ro", "ot/"], ["/wo", "rk/"], ["/ho", "me/"], ["/Use", "rs/"], [".cargo/reg", "istry"]]
            .map(|parts| parts.concat())
            .into();
    let hosts: Vec<String> = [
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["registry-1.docker", ".io"],
        ["registry.npmjs", ".org"],
        ["pypi", ".org"],
        ["deb.debian", ".org"],
    ]
    .map(|parts| parts.concat())
    .into();
    let mut found = Vec::new();
    for path in tracked() {
        let Ok(text) = fs::read_to_string(repository().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            let place = places.iter().any(|place| {
                // A path in the middle of a longer one is somebody's example.
                line.match_indices(place.as_str()).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric()))
            });
            if place || hosts.iter().any(|host| line.contains(host.as_str())) {
                found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    none(&found);
}

#[test]
fn every_case_has_what_is_expected_of_it() {
    for area in entries(&repository().join("tests/cases")).into_iter().filter(|area| !area.ends_with("base")) {
        for case in entries(&area) {
            assert!(case.join("expected.txt").is_file(), "{} lacks its expected.txt", case.display());
            let name = case.file_name().and_then(|name| name.to_str()).expect("a name");
            let words = name.split('-').count();
            assert!(words > 2, "{name} does not say what must hold");
        }
    }
}

#[test]
fn the_reader_of_paths_finds_what_is_named() {
    assert_eq!(named("use crate::value::{Bytes, Span};"), ["value"]);
    assert_eq!(named("    crate::spec::Build, crate::ui"), ["spec", "ui"]);
    assert_eq!(named("use crate::{value, ui};"), [""]);
    assert!(Path::new(&sources()[0].at(1)).starts_with("src"));
}

//! The binary from outside: help, exit codes, what goes to which stream, and what it does without an engine.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::project::{Project, Ran, entries, lockstep};
use crate::support::repository;

const VERBS: [&str; 20] = [
    "check", "render", "lock", "plan", "apply", "refresh", "mask", "rollback", "down", "status", "verify", "audit",
    "probe", "backup", "history", "explain", "restore", "run", "up", "list",
];

fn run(arguments: &[&str]) -> Ran {
    Ran::from(lockstep().args(arguments).output().expect("the binary starts"))
}

/// A project with a Redis, an application, secrets and two environments.
fn shop() -> Project {
    let project = Project::copy_of(&repository().join("tests/cases/base"));
    project.write(
        "environments/production.yaml",
        "values: { cache_memory: 128mb, http_port: 8080, workers: 4 }\nsecrets: { env: STAGING_ }\n",
    );
    project
}

const SECRET: [(&str, &str); 1] = [("STAGING_CACHE_PASSWORD", "sentinel")];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn help_lists_every_verb_and_every_verb_has_help() {
    let all = run(&["--help"]);
    assert_eq!((all.code, all.stderr.as_str()), (0, ""));
    for verb in VERBS {
        let line = all.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{verb} ")));
        assert!(line.is_some_and(|line| line.trim().len() > verb.len() + 10), "{verb} is explained:\n{}", all.stdout);
        let own = run(&[verb, "--help"]);
        assert_eq!((own.code, own.stderr.as_str()), (0, ""), "{verb}");
        assert!(own.stdout.contains(&format!("Usage: lockstep {verb}")), "{}", own.stdout);
        assert_eq!(run(&["help", verb]).stdout, own.stdout);
    }
    let listed: Vec<&str> = all.stdout.lines().skip_while(|line| *line != "Commands:").skip(1).collect();
    let listed = listed
        .iter()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    assert_eq!(listed.count(), VERBS.len() + 1, "no verb but these, and help:\n{}", all.stdout);
    assert!(all.stdout.lines().all(|line| line.chars().count() <= 100), "help fits a hundred columns");
}

#[test]
fn help_names_every_exit_code() {
    let help = run(&["--help"]).stdout;
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "7 ", "9 ", "128+n"] {
        assert!(help.contains(code), "{code}: {help}");
    }
}

#[test]
fn a_version_is_a_name_and_a_number() {
    let ran = run(&["--version"]);
    assert_eq!((ran.code, ran.stdout.trim()), (0, concat!("lockstep ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_command_line_that_is_wrong_is_told_apart_by_its_exit_code() {
    for arguments in
        [&[][..], &["chekc"], &["plan"], &["plan", "a", "b"], &["check", "--fast"], &["check", "--format", "xml"]]
    {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!ran.stderr.is_empty());
    }
    assert!(run(&["chekc"]).stderr.contains("'check'"));
    assert_eq!(run(&["render", "staging", "--with-secrets"]).code, 2, "secrets go to files, not to a terminal");
}

#[test]
fn check_tells_right_from_wrong_by_its_exit_code() {
    let right = Project::small().lockstep(&["check"]);
    assert_eq!((right.code, right.stderr.as_str()), (0, ""));
    let wrong = Project::small().with("environments/staging.yaml", "values: { a: 1 }\n").lockstep(&["check"]);
    assert_eq!((wrong.code, wrong.stderr.as_str()), (2, ""));
    assert!(wrong.stdout.contains("undeclared-difference"));
}

#[test]
fn check_says_as_json_what_it_says_as_text() {
    let project = Project::small().with("environments/staging.yaml", "values: { a: 1 }\n");
    let ran = project.lockstep(&["check", "--json"]);
    assert_eq!(ran, project.lockstep(&["--format", "json", "check"]), "one is short for the other");
    let said = json(&ran.stdout);
    assert_eq!((ran.code, &said["format"], &said["ok"]), (2, &Value::from(1), &Value::from(false)));
    let finding = &said["findings"][0];
    assert_eq!(finding["rule"], "undeclared-difference");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["place"], serde_json::json!({ "file": "environments/staging.yaml", "line": 1, "column": 11 }));
    let right = json(&Project::small().lockstep(&["check", "--json"]).stdout);
    assert_eq!((&right["ok"], &right["findings"]), (&Value::from(true), &Value::Array(Vec::new())));
}

#[test]
fn this_repositorys_own_example_is_right() {
    let project = Project::empty();
    for folder in ["environments", "templates"] {
        for path in entries(&repository().join(folder)).into_iter().filter(|path| path.is_file()) {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            project.write(&format!("{folder}/{name}"), std::fs::read(&path).expect("a file of the example"));
        }
    }
    let ran = project.lockstep(&["check", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
}

#[test]
fn a_folder_that_is_no_project_is_named() {
    let ran = Project::empty().lockstep(&["check"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("environments") && ran.stderr.contains("--project"), "{}", ran.stderr);
}

#[test]
fn a_project_may_be_named_by_a_variable() {
    let project = Project::small();
    let output = lockstep().env("LOCKSTEP_PROJECT", project.path()).arg("check").output().expect("the binary starts");
    assert_eq!(Ran::from(output).code, 0);
}

#[test]
fn an_environment_that_is_not_there_gets_the_nearest_one() {
    for arguments in [
        &["plan", "stagng"][..],
        &["apply", "stagng"],
        &["down", "stagng"],
        &["render", "stagng"],
        &["status", "stagng"],
        &["verify", "stagng"],
        &["verify", "staging", "prodction"],
        &["lock", "--environment", "stagng"],
        &["backup", "create", "stagng"],
        &["backup", "list", "stagng"],
    ] {
        let ran = shop().lockstep_with(arguments, &SECRET);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("did you mean `"), "{arguments:?}: {}", ran.stderr);
    }
    let far = shop().lockstep(&["render", "elsewhere"]);
    assert!(far.stderr.contains("production, staging"), "{}", far.stderr);
}

#[test]
fn a_spec_that_is_wrong_leaves_standard_output_empty() {
    for arguments in [
        &["plan", "staging"][..],
        &["apply", "staging"],
        &["render", "staging"],
        &["status"],
        &["verify", "staging"],
        &["lock"],
    ] {
        let project = Project::small().with("environments/staging.yaml", "values: { a: 1 }\n");
        for form in ["text", "json"] {
            let ran = project.lockstep(&[arguments, &["--format", form]].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
            assert!(ran.stderr.contains("undeclared-difference"), "{arguments:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("the spec is wrong: 1 error"), "{arguments:?}: {}", ran.stderr);
        }
    }
}

#[test]
fn an_engine_that_is_not_there_is_told_by_its_exit_code() {
    for verb in [
        &["plan", "staging"][..],
        &["apply", "staging"],
        &["status"],
        &["verify", "staging"],
        &["verify", "staging", "production"],
        &["verify", "staging", "production", "--strict"],
        &["verify", "staging", "--format", "html"],
        &["lock"],
        &["down", "staging"],
    ] {
        let variables = [SECRET[0], ("DOCKER_HOST", "unix:///nonexistent/docker.sock")];
        let ran = shop().lockstep_with(verb, &variables);
        assert_eq!((ran.code, ran.stdout.as_str()), (7, ""), "{verb:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("/nonexistent/docker.sock"), "{verb:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("help: "), "{verb:?}: {}", ran.stderr);
    }
}

#[test]
fn a_report_is_of_what_has_one() {
    for (arguments, help) in [
        (&["check", "--format", "html"][..], "`verify` has all forms"),
        (&["plan", "staging", "--format", "sarif"], "`verify` has all forms"),
        (&["history", "show", "staging", "--format", "junit"], "`json`, `markdown` and `html`"),
    ] {
        let ran = shop().lockstep_with(arguments, &SECRET);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(help), "{arguments:?}: {}", ran.stderr);
    }
    let ran = shop().lockstep_with(&["verify", "staging", "production", "staging"], &SECRET);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("`staging` is compared with itself"), "{}", ran.stderr);
}

#[test]
fn an_engine_elsewhere_is_refused_before_anything_is_asked() {
    for address in ["tcp://192.0.2.1:2375", "ssh://deploy@shop.example", "npipe://./pipe/docker", "docker.sock"] {
        for verb in ["plan", "apply", "verify"] {
            let began = Instant::now();
            let ran = shop().lockstep_with(&[verb, "staging"], &[SECRET[0], ("DOCKER_HOST", address)]);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{verb} {address}: {}", ran.stderr);
            assert!(ran.stderr.contains(address), "{}", ran.stderr);
            assert!(began.elapsed() < Duration::from_secs(5), "nothing was waited for");
        }
    }
}

#[test]
fn an_engine_that_hangs_up_is_told_by_its_exit_code() {
    let project = shop();
    let socket = project.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let address = format!("unix://{}", socket.display());
    let rude = std::thread::spawn(move || drop(listener.accept().expect("somebody asks")));
    let ran = project.lockstep_with(&["plan", "staging"], &[SECRET[0], ("DOCKER_HOST", &address)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (7, ""), "{}", ran.stderr);
    rude.join().expect("it hung up");
}

#[test]
fn an_engine_that_talks_nonsense_is_told_by_its_exit_code() {
    let project = shop();
    let socket = project.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let address = format!("unix://{}", socket.display());
    let odd = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked);
        stream.write_all(b"\x1b[31mHello\x07\r\n\r\n").expect("it is said");
    });
    let ran = project.lockstep_with(&["plan", "staging"], &[SECRET[0], ("DOCKER_HOST", &address)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (7, ""), "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{7}'), "{:?}", ran.stderr);
    odd.join().expect("it said so");
}

#[test]
fn a_docker_context_names_the_engine_when_nothing_else_does() {
    let project = shop();
    let meta =
        r#"{"Name":"elsewhere","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///nonexistent/context.sock"}}}"#;
    project.write("home/.docker/config.json", r#"{"currentContext":"elsewhere"}"#);
    project.write("home/.docker/contexts/meta/0123/meta.json", meta);
    let home = project.path().join("home").display().to_string();
    let ran = project.lockstep_with(&["status"], &[SECRET[0], ("HOME", &home)]);
    assert_eq!(ran.code, 7);
    assert!(ran.stderr.contains("/nonexistent/context.sock"), "{}", ran.stderr);
    let ran = project.lockstep_with(&["plan", "staging"], &[SECRET[0], ("HOME", &home), ("DOCKER_CONTEXT", "gone")]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("there is no Docker context `gone`"), "{}", ran.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_no_panic() {
    let project = Project::small();
    let many: String = (0..60).map(|number| format!("key{number}: 1\n")).collect();
    project.write("environments/stack.yaml", format!("lockstep: 1\nstack: shop\n{many}"));
    for arguments in [&["check"][..], &["check", "--json"], &["--help"]] {
        let mut command = project.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut line = String::new();
        let mut reader = BufReader::with_capacity(16, child.stdout.take().expect("a pipe"));
        reader.read_line(&mut line).expect("a first line");
        drop(reader);
        let mut complained = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut complained).expect("text");
        let status = child.wait().expect("it ends");
        assert!(!line.is_empty() && complained.is_empty(), "{arguments:?}: {complained}");
        assert_eq!(status.code(), Some(if arguments == ["--help"] { 0 } else { 2 }));
    }
}

#[test]
fn a_standard_output_that_is_closed_is_no_panic() {
    let project = Project::small();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let output = project.command(&["check"]).stdout(full()).output().expect("the binary starts");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    let output = Command::new("/bin/sh")
        .env_clear()
        .args(["-c", "exec \"$0\" --project \"$1\" check >&- 2>&-", env!("CARGO_BIN_EXE_lockstep")])
        .arg(project.path())
        .output()
        .expect("a shell starts");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn without_a_terminal_there_are_no_escape_codes() {
    let wrong = Project::small().with("environments/staging.yaml", "values: { a: 1 }\n");
    for variables in [&[][..], &[("NO_COLOR", "1")], &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]] {
        for arguments in [&["check"][..], &["plan", "staging"], &["plan", "nowhere"], &["--help"], &["chekc"]] {
            let ran = wrong.lockstep_with(arguments, variables);
            assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{arguments:?} {variables:?}");
        }
    }
    let forced = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    assert!(!wrong.lockstep_with(&["check"], &forced).stdout.contains('\u{1b}'), "NO_COLOR has the last word");
    assert!(wrong.lockstep_with(&["check"], &forced[..1]).stdout.contains('\u{1b}'), "colour can be asked for");
}

#[test]
fn secrets_are_rendered_only_when_asked_for_and_only_into_files() {
    let project = shop();
    let shown = project.lockstep_with(&["render", "staging"], &SECRET);
    assert_eq!(shown.code, 0);
    assert!(shown.stdout.contains("(secret cache_password)") && !shown.stdout.contains("sentinel"));
    assert!(shown.stderr.contains("hold secrets"), "{}", shown.stderr);
    let json = json(&project.lockstep_with(&["render", "staging", "--json"], &SECRET).stdout);
    assert_eq!((&json["format"], &json["environment"]), (&Value::from(1), &Value::from("staging")));

    let out = project.path().join("out");
    let folder = out.display().to_string();
    let written = project.lockstep_with(&["render", "staging", "--out", &folder, "--with-secrets"], &SECRET);
    assert_eq!(written.code, 0, "{}", written.stderr);
    assert!(!written.stdout.contains("sentinel") && !written.stderr.contains("sentinel"));
    let secret = out.join("web.run.secrets/cache_password");
    assert_eq!(std::fs::read_to_string(&secret).expect("the secret"), "sentinel");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&secret), mode(&out)), (0o600, 0o700));
}

#[test]
fn a_secret_that_is_missing_is_named_and_no_other_is_shown() {
    let ran = shop()
        .lockstep_with(&["render", "staging", "--out", "unused", "--with-secrets"], &[("STAGING_OTHER", "sentinel")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("STAGING_CACHE_PASSWORD is not set"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("sentinel"));
}

#[test]
fn a_list_of_no_backups_is_no_error() {
    let ran = shop().lockstep(&["backup", "list"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("staging") && ran.stdout.contains("no backups"), "{}", ran.stdout);
    let said = json(&shop().lockstep(&["backup", "list", "--json"]).stdout);
    assert_eq!(said, serde_json::json!({ "format": 1, "backups": [], "failed": [] }));
}

#[test]
fn a_manifest_that_somebody_wrote_cannot_move_the_cursor() {
    let project = shop();
    let manifest = r#"{"format":2,"id":"cache-1","stack":"shop","environment":"staging","service":"cache",
        "taken_at":"2026-11-23T04:00:00Z","reason":"\u001b[31mred\nline","state":"verified","server":"redis 7.0.15",
        "parts":[{"name":"dump.rdb","plain_bytes":3,"chunks":[{"name":"dump.rdb.000001","bytes":3,"sha256":"s"}]}]}"#;
    project.write("environments/../backups/shop/staging/cache-1/manifest.json", manifest);
    project.write("environments/../backups/shop/staging/cache-1/dump.rdb.000001", "abcd");
    let ran = project.lockstep(&["backup", "list", "staging"]);
    assert!(!ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
    assert_eq!(ran.code, 3, "a backup of another size than its manifest says is damaged: {}", ran.stdout);
    assert!(ran.stdout.contains("damaged"), "{}", ran.stdout);
}

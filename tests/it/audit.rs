//! The audit on facts: nothing is found where nothing is wrong, and each thing that is wrong under its own id.

use std::collections::BTreeSet;

use lockstep::acl;
use lockstep::audit::facts::{Answer, Facts, Inspect, Mount, Process, Published, Server, Site};
use lockstep::audit::{self, Audit, Chapter, Outcome, Severity, Verdict};
use lockstep::finding;
use lockstep::model::security::Acceptance;
use lockstep::ui::checklist;
use lockstep::value::{Name, Place, Secret};

use crate::support::facts::{VALUE, answer, day, kept, mode, sound};
use crate::support::project::Project;
use crate::support::repository;
use crate::support::spec::Texts;

fn inspect(facts: &mut Facts, name: &str, spoil: impl FnOnce(&mut Inspect)) {
    spoil(facts.containers.get_mut(name).expect("a container").inspect.as_mut().expect("inspected"));
}

fn process(facts: &mut Facts, name: &str, spoil: impl FnOnce(&mut Process)) {
    let processes = facts.containers.get_mut(name).expect("a container").processes.as_mut().expect("processes");
    spoil(&mut processes[0]);
}

fn server(facts: &mut Facts, spoil: impl FnOnce(&mut Server)) {
    spoil(facts.containers.get_mut("cache").expect("a Redis").server.as_mut().expect("a server"));
}

fn set(facts: &mut Facts, name: &str, value: &str) {
    server(facts, |server| _ = server.settings.insert(name.to_owned(), value.to_owned()));
}

fn site(facts: &mut Facts, spoil: impl FnOnce(&mut Site)) {
    let site = facts.containers.get_mut("web").expect("a site").site.as_mut().expect("a site");
    spoil(site.as_mut().expect("answers"));
}

/// Takes a header from every answer, or gives it another value.
fn header(facts: &mut Facts, name: &str, value: Option<&str>) {
    site(facts, |site| {
        for answer in site.pages.iter_mut().chain(&mut site.missing).chain(&mut site.foreign) {
            answer.headers.retain(|(known, _)| known != name);
            answer.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        }
    });
}

type Spoil = fn(&mut Facts);

/// What is wrong, the check that has to say so, about what, and words of its evidence.
const SPOILT: &[(&str, &str, &str, Spoil)] = &[
    ("PERM-01", "web", "/var/run/docker.sock", |facts| {
        inspect(facts, "web", |inspect| inspect.mounts.push(bind("/var/run/docker.sock", "/s", true)));
    }),
    ("PERM-01", "web", "/run/ of the host", |facts| {
        inspect(facts, "web", |inspect| inspect.mounts.push(bind("/run/", "/host", true)));
    }),
    ("PERM-02", "cache", "Privileged is true", |facts| inspect(facts, "cache", |inspect| inspect.privileged = true)),
    ("PERM-03", "web", "CAP_SYS_ADMIN", |facts| {
        inspect(facts, "web", |inspect| inspect.cap_add.push("CAP_SYS_ADMIN".to_owned()));
    }),
    ("PERM-03", "web", "device /dev/sda", |facts| {
        inspect(facts, "web", |inspect| inspect.devices.push("/dev/sda".to_owned()));
    }),
    ("PERM-03", "web", "/etc of the host can be written", |facts| {
        inspect(facts, "web", |inspect| inspect.mounts.push(bind("/etc", "/host-etc", false)));
    }),
    ("PERM-04", "web", "runs as root", |facts| process(facts, "web", |process| process.uids = vec![0; 4])),
    ("PERM-04", "web", "could gain capabilities 0x2000", |facts| {
        process(facts, "web", |process| process.bounding = 0x2000);
    }),
    ("PERM-04", "cache", "may gain privileges", |facts| {
        process(facts, "cache", |process| process.no_new_privileges = false);
    }),
    ("PERM-04", "cache", "no filter of system calls", |facts| process(facts, "cache", |process| process.seccomp = 0)),
    ("PERM-05", "web", "host's pid namespace", |facts| {
        inspect(facts, "web", |inspect| _ = inspect.namespaces.insert("pid".to_owned(), "host".to_owned()));
    }),
    ("PERM-06", "web", "root can be written", |facts| inspect(facts, "web", |inspect| inspect.read_only_root = false)),
    ("PERM-06", "cache", "lacks noexec", |facts| {
        inspect(facts, "cache", |inspect| _ = inspect.tmpfs.insert("/t".to_owned(), "nosuid,nodev,size=1".to_owned()));
    }),
    ("PERM-06", "cache", "rshared", |facts| {
        inspect(facts, "cache", |inspect| inspect.mounts[0].propagation = "rshared".to_owned());
    }),
    ("PERM-08", "engine", "everybody reaches it", |facts| facts.host.socket = Ok(mode("/s", 0o666))),
    ("PERM-09", "secrets.yaml", "everybody gets at it", |facts| {
        facts.project.private = vec![Ok(mode("secrets.yaml", 0o644))];
    }),
    ("PERM-09", "secrets.yaml", "somebody else", |facts| {
        let mode = mode("secrets.yaml", 0o600);
        facts.project.private = vec![Ok(audit::facts::Mode { trusted: false, ..mode })];
    }),
    ("PERM-10", "cache", "`default` is on", |facts| user(facts, "default", "on #11 -@all")),
    ("PERM-10", "cache", "`app` needs no password", |facts| user(facts, "app", "on nopass -@all")),
    ("PERM-10", "cache", "flushall", |facts| reach(facts, "app", "flushall")),
    ("PERM-11", "cache", "`app` may run CONFIG", |facts| reach(facts, "app", "config|set")),
    ("PERM-11", "cache", "enable-debug-command is local", |facts| set(facts, "enable-debug-command", "local")),
    ("PERM-12", "web", "no limit of memory", |facts| inspect(facts, "web", |inspect| inspect.memory = 0)),
    ("PERM-12", "web", "no limit of processes", |facts| inspect(facts, "web", |inspect| inspect.pids = 0)),
    ("PERM-12", "web", "no limit of open files", |facts| {
        inspect(facts, "web", |inspect| _ = inspect.ulimits.remove("nofile"));
    }),
    ("PERM-12", "web", "ulimit core", |facts| {
        inspect(facts, "web", |inspect| _ = inspect.ulimits.insert("core".to_owned(), -1));
    }),
    ("PERM-13", "cache", "a Redis is published", |facts| publish(facts, "cache", "127.0.0.1")),
    ("PERM-13", "web", "8080/tcp answers on every address", |facts| publish(facts, "web", "")),
    ("PERM-14", "cache", "edge, which leads out", |facts| {
        inspect(facts, "cache", |inspect| inspect.networks.push("edge".to_owned()));
    }),
    ("PERM-14", "web", "on bridge, which is not", |facts| {
        inspect(facts, "web", |inspect| inspect.networks.push("bridge".to_owned()));
    }),
    ("PERM-14", "network private", "`stranger` is on it", |facts| {
        let network = facts.networks.as_mut().expect("networks").get_mut("private").expect("a network");
        network.foreign.push("stranger".to_owned());
    }),
    ("PERM-14", "network private", "leads out", |facts| {
        facts.networks.as_mut().expect("networks").get_mut("private").expect("a network").internal = false;
    }),
    ("PERM-15", "web", "not in stack.lock", |facts| {
        facts.containers.get_mut("web").expect("a site").locked = Ok(false)
    }),
    ("SEC-01", "web", "DB_PASSWORD looks like", |facts| env(facts, "DB_PASSWORD=hunter2")),
    ("SEC-01", "web", "CACHE_URL is an address with a password", |facts| env(facts, "CACHE_URL=redis://:word@cache/0")),
    ("SEC-02", "web", "`cache_password` stands in Config.Labels.owner", |facts| {
        let text = ("Config.Labels.owner".to_owned(), format!("x{VALUE}-one"));
        inspect(facts, "web", |inspect| inspect.texts.push(text));
    }),
    ("SEC-03", "cache", "was given `cache_password`", |facts| {
        process(facts, "cache", |process| process.command.push(format!("{VALUE}-one")));
    }),
    ("SEC-03", "cache", "`--requirepass` with a value", |facts| {
        process(facts, "cache", |process| process.command.extend(["--requirepass".to_owned(), "x".to_owned()]));
    }),
    ("SEC-03", "cache", "`-a` with a value", |facts| {
        process(facts, "cache", |process| process.command = ["redis-cli", "-a", "x"].map(str::to_owned).to_vec());
    }),
    ("SEC-04", "web", "layer 1 was made with `cache_password`", |facts| {
        layer(facts, &format!("RUN login {VALUE}-one"))
    }),
    ("SEC-04", "web", "layer 1 was made with NPM_TOKEN", |facts| layer(facts, "RUN |1 NPM_TOKEN=abc npm ci")),
    ("SEC-05", "web", "web.run.secrets/cache_password is 0644", |facts| {
        facts.containers.get_mut("web").expect("a site").secret_files[0].mode = 0o644;
    }),
    ("SEC-05", "web", "/run/secrets can be written", |facts| {
        inspect(facts, "web", |inspect| inspect.mounts[0].read_only = false);
    }),
    ("SEC-06", "project", "git tracks secrets.yaml", |facts| {
        facts.project.tracked = Ok(Some(vec!["secrets.yaml".to_owned()]));
    }),
    ("SEC-06", "project", "key.txt lies among the backups", |facts| {
        facts.project.identity_beside = Some("key.txt".to_owned());
    }),
    ("SEC-07", "secrets", "`short` has fewer", |facts| secret(facts, "short", "abcdef")),
    ("SEC-07", "secrets", "`again` and `cache_password` are the same", |facts| {
        secret(facts, "again", &format!("{VALUE}-one"));
    }),
    ("SEC-08", "backups", "not encrypted", |facts| facts.backups.as_mut().expect("backups").recipients = 0),
    ("SEC-08", "backups", "one key opens them", |facts| facts.backups.as_mut().expect("backups").recipients = 1),
    ("SEC-08", "backups", "1 of 3 backups can be read by anybody: one", |facts| {
        facts.backups.as_mut().expect("backups").plain = vec!["one".to_owned()];
    }),
    ("SEC-09", "records", "`cache_password` stands in changes/one.md", |facts| {
        facts.ledger.as_mut().expect("a ledger").texts[0].1 = format!("password {VALUE}-one");
    }),
    ("SEC-10", "engine", "Debug is true", |facts| facts.engine.as_mut().expect("an engine").debug = true),
    ("HDR-02", "web", "GET / has no nosniff", |facts| header(facts, "x-content-type-options", None)),
    ("HDR-02", "web", "without a charset", |facts| header(facts, "content-type", Some("text/html"))),
    ("HDR-02", "web", "has no Content-Type", |facts| header(facts, "content-type", None)),
    ("HDR-03", "web", "has no Content-Security-Policy", |facts| header(facts, "content-security-policy", None)),
    ("HDR-03", "web", "lets scripts from 'unsafe-inline'", |facts| {
        policy(facts, "default-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'");
    }),
    ("HDR-03", "web", "lets scripts from *", |facts| policy(facts, "script-src *; object-src 'none'; base-uri 'none'")),
    ("HDR-03", "web", "object-src is not 'none'", |facts| policy(facts, "default-src 'self'; base-uri 'none'")),
    ("HDR-03", "web", "no base-uri", |facts| policy(facts, "default-src 'none'")),
    ("HDR-03", "web", "no frame-ancestors", |facts| {
        header(facts, "x-frame-options", None);
        policy(facts, "default-src 'none'; base-uri 'none'");
    }),
    ("HDR-04", "web", "has no referrer-policy", |facts| header(facts, "referrer-policy", None)),
    ("HDR-05", "web", "allows whoever asks", |facts| {
        header(facts, "access-control-allow-origin", Some("https://stranger.example"));
    }),
    ("HDR-05", "web", "everybody, with credentials", |facts| {
        header(facts, "access-control-allow-origin", Some("*"));
        header(facts, "access-control-allow-credentials", Some("true"));
    }),
    ("HDR-06", "web", "cookie id without secure, samesite", |facts| {
        header(facts, "set-cookie", Some("id=1; HttpOnly"))
    }),
    ("HDR-07", "web", "names a version in server: nginx/1.25", |facts| header(facts, "server", Some("nginx/1.25"))),
    ("HDR-07", "web", "panicked at", |facts| {
        site(facts, |site| site.missing.as_mut().expect("a page").body = "thread 'main' panicked at x".to_owned());
    }),
    ("HDR-07", "web", "TRACE is answered with 200", |facts| {
        site(facts, |site| site.trace = Some(Ok(answer("TRACE /", 200))));
    }),
    ("HDR-10", "web", "has no content-security-policy", |facts| header(facts, "content-security-policy", Some(" "))),
    ("HDR-10", "web", "x-frame-options: SAMEORIGIN", |facts| header(facts, "x-frame-options", Some("SAMEORIGIN"))),
    ("UPL-01", "web", "waits for the body", |facts| site(facts, |site| site.upload = Some(Ok(None)))),
    ("UPL-01", "web", "answers 201", |facts| {
        site(facts, |site| site.upload = Some(Ok(Some(answer("POST /uploads", 201)))));
    }),
    ("UPL-02", "web", "answers 200", |facts| site(facts, |site| site.oversized = Some(Ok(Some(answer("GET /", 200)))))),
    ("UPL-05", "web", "tmpfs /up has no size", |facts| {
        inspect(facts, "web", |inspect| _ = inspect.tmpfs.insert("/up".to_owned(), "noexec,nosuid,nodev".to_owned()));
    }),
    ("UPL-05", "web", "grows without an end", |facts| {
        inspect(facts, "web", |inspect| inspect.mounts[0].read_only = false);
    }),
    ("UPL-06", "cache", "maxmemory is 0", |facts| set(facts, "maxmemory", "0")),
    ("UPL-06", "cache", "the container has 128 MB", |facts| set(facts, "maxmemory", "134217728")),
    ("UPL-06", "cache", "one client may send 1.0 GB", |facts| set(facts, "client-query-buffer-limit", "1gb")),
    ("UPL-06", "cache", "it may open 10064 files", |facts| set(facts, "maxclients", "20000")),
    ("LOG-01", "web", "nothing that it writes is kept", |facts| {
        inspect(facts, "web", |inspect| inspect.log_driver = "none".to_owned());
    }),
    ("LOG-01", "web", "has no max-size", |facts| inspect(facts, "web", |inspect| inspect.log_options.clear())),
    ("LOG-02", "web", "line 3 has the value of `cache_password`", |facts| {
        log(facts, &format!("signed in by {VALUE}-one"))
    }),
    ("LOG-02", "web", "line 3 has credentials of HTTP", |facts| log(facts, "authorization: Bearer abcdefgh")),
    ("LOG-02", "web", "an address with a password", |facts| log(facts, "connecting to redis://app:word@cache:6379/0")),
    ("LOG-03", "cache", "acllog-max-len 0", |facts| set(facts, "acllog-max-len", "0")),
    ("LOG-04", "ledger", "was edited", |facts| {
        facts.ledger.as_mut().expect("a ledger").broken.push("00000001-end.json was edited".to_owned());
    }),
    ("LOG-04", "ledger", "change 2 is not finished", |facts| {
        facts.ledger.as_mut().expect("a ledger").unfinished.push(2);
    }),
    ("LOG-07", "cache", "3 times again", |facts| inspect(facts, "cache", |inspect| inspect.restarts = 3)),
    ("LOG-07", "cache", "out of memory", |facts| inspect(facts, "cache", |inspect| inspect.out_of_memory = true)),
    ("LOG-07", "web", "does not run", |facts| inspect(facts, "web", |inspect| inspect.running = false)),
    ("LOG-08", "web", "everybody reads it", |facts| {
        _ = facts.host.logs.insert("web".to_owned(), Ok(mode("its log file", 0o644)));
    }),
    ("BKP-01", "cache", "is 40 h old, and 1d is allowed", |facts| backups(facts, 40, 10)),
    ("BKP-01", "cache", "none of the 3", |facts| {
        let services = &mut facts.backups.as_mut().expect("backups").services;
        services.insert("cache".to_owned(), audit::facts::Kept { proven: None, ..kept(1, 1) });
    }),
    ("BKP-02", "cache", "drilled 31 days ago", |facts| backups(facts, 1, 31)),
    ("BKP-02", "cache", "ever restored", |facts| {
        let services = &mut facts.backups.as_mut().expect("backups").services;
        services.insert("cache".to_owned(), audit::facts::Kept { drilled: None, ..kept(1, 1) });
    }),
    ("BKP-03", "backups", "file system of the engine", |facts| {
        facts.backups.as_mut().expect("backups").same_disk = Some(Ok(true));
    }),
    ("BKP-04", "backups", "1.0 MB free", |facts| {
        facts.backups.as_mut().expect("backups").free = Some(Ok(Some(1 << 20)));
    }),
    ("RDS-01", "cache", "no point in time", |facts| set(facts, "appendonly", "no")),
    ("RDS-02", "cache", "rdb_last_bgsave_status is err", |facts| {
        server(facts, |server| server.last_save = Some("err".to_owned()));
    }),
    ("RDS-04", "host", "overcommit_memory is 0", |facts| facts.host.overcommit = Ok("0".to_owned())),
    ("RDS-04", "host", "always on", |facts| facts.host.huge_pages = Ok("always".to_owned())),
];

fn bind(source: &str, target: &str, read_only: bool) -> Mount {
    let (kind, source, target) = ("bind".to_owned(), source.to_owned(), target.to_owned());
    Mount { kind, source, target, read_only, ..Mount::default() }
}

fn user(facts: &mut Facts, name: &str, rules: &str) {
    server(facts, |server| _ = server.users.insert(name.to_owned(), acl::user(rules)));
}

fn reach(facts: &mut Facts, name: &str, command: &str) {
    server(facts, |server| _ = server.reach.insert(name.to_owned(), BTreeSet::from([command.to_owned()])));
}

fn publish(facts: &mut Facts, name: &str, address: &str) {
    let port = if name == "cache" { "6379/tcp" } else { "8080/tcp" };
    let port = Published { port: port.to_owned(), address: address.to_owned(), host_port: "1".to_owned() };
    inspect(facts, name, |inspect| inspect.ports.push(port));
}

fn env(facts: &mut Facts, entry: &str) {
    inspect(facts, "web", |inspect| inspect.env.push(entry.to_owned()));
}

fn layer(facts: &mut Facts, made: &str) {
    let image = facts.containers.get_mut("web").expect("a site").image.as_mut().expect("an image");
    image.history.push(made.to_owned());
}

fn secret(facts: &mut Facts, name: &str, value: &str) {
    facts.secrets.as_mut().expect("secrets").insert(name.to_owned(), Secret::new(value));
}

fn policy(facts: &mut Facts, policy: &str) {
    header(facts, "content-security-policy", Some(policy));
}

fn log(facts: &mut Facts, line: &str) {
    facts.containers.get_mut("web").expect("a site").log.as_mut().expect("a log").push(line.to_owned());
}

fn backups(facts: &mut Facts, hours: u64, days: u64) {
    let services = &mut facts.backups.as_mut().expect("backups").services;
    services.insert("cache".to_owned(), kept(hours, days));
}

fn of<'a>(audit: &'a Audit, id: &str, subject: &str) -> &'a Outcome {
    let found = audit.outcomes.iter().find(|outcome| outcome.id == id && outcome.subject == subject);
    found.unwrap_or_else(|| panic!("nothing is said of {subject} by {id}"))
}

/// What does not pass, as `PERM-01 web`.
fn with(audit: &Audit, verdict: Verdict) -> Vec<String> {
    let found = audit.outcomes.iter().filter(|outcome| outcome.verdict == verdict);
    found.map(|outcome| format!("{} {}", outcome.id, outcome.subject)).collect()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let audit = audit::audit(&sound());
    assert_eq!(with(&audit, Verdict::Fail), [""; 0], "{:#?}", audit.findings());
    assert_eq!(with(&audit, Verdict::Unknown), [""; 0]);
    assert!(audit.is_fine(true) && audit.findings().is_empty());
    assert!(audit.counts().pass > 60, "{:?}", audit.counts());
    for outcome in &audit.outcomes {
        assert!(!outcome.evidence.is_empty(), "{} says on what it rests", outcome.id);
    }
}

#[test]
fn each_thing_that_is_wrong_is_found_under_its_id_with_evidence_and_without_the_secret() {
    for (id, subject, words, spoil) in SPOILT {
        let mut facts = sound();
        assert_eq!(of(&audit::audit(&facts), id, &as_sound(subject)).verdict, Verdict::Pass, "{id} on sound facts");
        spoil(&mut facts);
        let audit = audit::audit(&facts);
        let outcome = of(&audit, id, subject);
        assert_eq!(outcome.verdict, Verdict::Fail, "{id} {subject}: {}", outcome.evidence);
        assert!(outcome.evidence.contains(words), "{id}: `{words}` is not in `{}`", outcome.evidence);
        assert!(!audit.is_fine(false));
        let findings = audit.findings();
        let mut found = findings.iter().filter(|finding| finding.subject.as_deref() == Some(*subject));
        let finding = found.find(|finding| finding.rule == *id).expect("a finding");
        let worst = matches!(outcome.severity, Severity::Critical | Severity::High);
        assert_eq!(finding.severity == finding::Severity::Error, worst);
        assert_eq!(finding.help.as_deref(), Some(outcome.remedy));
        let said = format!("{findings:?} {:?}", audit.outcomes);
        assert!(!said.contains(VALUE), "{id} shows a secret: {}", outcome.evidence);
    }
}

/// Sound facts name the project's one secret file by its own path.
fn as_sound(subject: &str) -> String {
    if subject == "secrets.yaml" { "environments/secrets/staging.yaml".to_owned() } else { subject.to_owned() }
}

#[test]
fn every_check_has_something_that_it_finds() {
    let tried: BTreeSet<&str> = SPOILT.iter().map(|(id, ..)| *id).collect();
    let checks = audit::checks().filter(|check| check.chapter != Chapter::Acceptances);
    let untried: Vec<&str> = checks.map(|check| check.id).filter(|id| !tried.contains(id)).collect();
    // Over plain HTTP it has nothing to say, and lockstep asks over nothing else.
    assert_eq!(untried, ["HDR-01"]);
    assert_eq!(of(&audit::audit(&sound()), "HDR-01", "web").verdict, Verdict::NotApplicable);
}

#[test]
fn ids_are_unique_and_every_check_says_what_to_do() {
    let mut ids = BTreeSet::new();
    for check in audit::checks() {
        assert!(ids.insert(check.id), "{} stands for one thing", check.id);
        assert!(!check.title.is_empty() && !check.remedy.is_empty(), "{}", check.id);
        assert!(
            check.references.iter().all(|reference| reference.starts_with("CIS Docker Benchmark 1.6.0: ")
                || reference.starts_with("ASVS 5.0: "))
        );
    }
}

#[test]
fn the_page_about_the_audit_names_every_check() {
    let page = std::fs::read_to_string(repository().join("docs/audit.md")).expect("docs/audit.md");
    for check in audit::checks() {
        let row = page.lines().find(|line| line.starts_with(&format!("| {} |", check.id)));
        let row = row.unwrap_or_else(|| panic!("docs/audit.md has no row for {}", check.id));
        assert!(row.contains(check.severity.as_str()) && row.contains(check.title), "{row}");
    }
}

#[test]
fn what_could_not_be_read_is_unknown_with_the_reason_and_never_passes() {
    let mut facts = sound();
    let why = || "the engine did not answer".to_owned();
    for container in facts.containers.values_mut() {
        container.inspect = Err(why());
        container.processes = Err(why());
        container.image = Err(why());
        container.log = Err(why());
        container.server = Err(why());
        container.site = container.site.as_ref().map(|_| Err(why()));
        container.locked = Err(why());
    }
    facts.secrets = Err(why());
    facts.networks = Err(why());
    facts.engine = Err(why());
    facts.host.socket = Err(why());
    facts.host.overcommit = Err(why());
    facts.host.logs.insert("web".to_owned(), Err(why()));
    facts.project.private = vec![Err(why())];
    facts.project.tracked = Err(why());
    facts.backups = Err(why());
    facts.ledger = Err(why());
    let audit = audit::audit(&facts);
    assert_eq!(with(&audit, Verdict::Pass), [""; 0]);
    assert_eq!(with(&audit, Verdict::Fail), [""; 0]);
    assert!(audit.outcomes.iter().all(|outcome| outcome.verdict != Verdict::Unknown || outcome.evidence == why()));
    assert!(audit.is_fine(false) && !audit.is_fine(true), "`--strict` wants it known");
}

#[test]
fn without_the_secrets_what_can_be_told_by_form_still_is() {
    let mut facts = sound();
    facts.secrets = Err("locked away".to_owned());
    log(&mut facts, "authorization: Bearer abcdefgh");
    let audit = audit::audit(&facts);
    assert_eq!(of(&audit, "LOG-02", "web").verdict, Verdict::Fail);
    assert_eq!(of(&audit, "LOG-02", "cache").verdict, Verdict::Unknown);
    assert_eq!(of(&audit, "SEC-07", "secrets").verdict, Verdict::Unknown);
}

#[test]
fn a_stack_without_a_redis_or_a_site_has_nothing_to_look_at_there() {
    let mut facts = sound();
    facts.containers.remove("cache");
    facts.backups.as_mut().expect("backups").services.clear();
    facts.containers.get_mut("web").expect("a site").site = None;
    facts.security.headers.clear();
    facts.security.upload_limit = None;
    let audit = audit::audit(&facts);
    assert_eq!(with(&audit, Verdict::Fail), [""; 0]);
    for (id, subject) in
        [("PERM-10", "services"), ("RDS-01", "services"), ("HDR-02", "services"), ("BKP-01", "backups")]
    {
        assert_eq!(of(&audit, id, subject).verdict, Verdict::NotApplicable, "{id}");
    }
    for id in ["HDR-10", "UPL-01"] {
        assert_eq!(of(&audit, id, "services").verdict, Verdict::NotApplicable, "{id}");
    }
}

#[test]
fn an_upload_that_nobody_takes_there_says_nothing_of_the_limit() {
    for status in [401, 404, 405] {
        let mut facts = sound();
        site(&mut facts, |site| site.upload = Some(Ok(Some(Answer { status, ..answer("POST /", status) }))));
        assert_eq!(of(&audit::audit(&facts), "UPL-01", "web").verdict, Verdict::Unknown, "{status}");
    }
}

#[test]
fn a_container_that_the_spec_does_not_have_is_judged_too() {
    let mut facts = sound();
    let mut ghost = facts.containers["web"].clone();
    ghost.declared = false;
    ghost.locked = Err("the spec has no such service".to_owned());
    ghost.site = None;
    ghost.inspect.as_mut().expect("inspected").privileged = true;
    facts.containers.insert("shop-staging-ghost".to_owned(), ghost);
    let audit = audit::audit(&facts);
    assert_eq!(with(&audit, Verdict::Fail), ["PERM-02 shop-staging-ghost"]);
}

fn accept(id: &str, service: Option<&str>, until: &str) -> Acceptance {
    Acceptance {
        id: id.to_owned(),
        place: Place { line: 7, ..Place::file("environments/stack.yaml") },
        service: service.map(|name| Name::parse(name).expect("a name")),
        why: "the old one goes in spring".to_owned(),
        until: day(until),
    }
}

/// Both services are privileged, and this much is accepted.
fn accepting(acceptances: Vec<Acceptance>) -> Audit {
    let mut facts = sound();
    inspect(&mut facts, "cache", |inspect| inspect.privileged = true);
    inspect(&mut facts, "web", |inspect| inspect.privileged = true);
    facts.security.accept = acceptances;
    audit::audit(&facts)
}

#[test]
fn what_the_spec_accepts_does_not_fail_and_says_why_and_until_when() {
    // The last day still counts.
    for until in ["2026-11-26", "2027-01-31"] {
        let audit = accepting(vec![accept("PERM-02", None, until)]);
        assert_eq!(with(&audit, Verdict::Accepted), ["PERM-02 cache", "PERM-02 web"]);
        let accepted = of(&audit, "PERM-02", "web").accepted.as_ref().expect("why");
        assert_eq!((accepted.why.as_str(), accepted.until), ("the old one goes in spring", day(until)));
        assert!(audit.is_fine(true) && audit.findings().is_empty());
    }
}

#[test]
fn an_acceptance_of_one_service_leaves_the_others() {
    let audit = accepting(vec![accept("PERM-02", Some("web"), "2027-01-31")]);
    assert_eq!(with(&audit, Verdict::Accepted), ["PERM-02 web"]);
    assert_eq!(with(&audit, Verdict::Fail), ["PERM-02 cache"]);
}

#[test]
fn an_acceptance_whose_day_has_passed_accepts_nothing_and_is_found_itself() {
    let audit = accepting(vec![accept("PERM-02", None, "2026-11-25")]);
    assert_eq!(with(&audit, Verdict::Fail), ["PERM-02 cache", "PERM-02 web", "ACC-01 PERM-02"]);
    let findings = audit.findings();
    let finding = findings.iter().find(|finding| finding.rule == "ACC-01").expect("a finding");
    assert_eq!(finding.place.as_ref().map(|place| place.line), Some(7), "where it is written");
}

#[test]
fn an_acceptance_that_nothing_needs_is_found_itself() {
    let audit = accepting(vec![
        accept("PERM-02", None, "2027-01-31"),
        accept("PERM-03", None, "2027-01-31"),
        accept("PERM-12", Some("web"), "2026-01-01"),
    ]);
    assert_eq!(with(&audit, Verdict::Fail), ["ACC-02 PERM-03", "ACC-02 PERM-12 of web"]);
}

/// The whole text of an audit with one of everything.
#[test]
fn an_audit_reads_chapter_by_chapter() {
    let mut facts = sound();
    inspect(&mut facts, "web", |inspect| inspect.privileged = true);
    facts.host.overcommit = Ok("0".to_owned());
    facts.security.accept = vec![accept("RDS-04", None, "2027-01-31")];
    facts.ledger = Err("the store did not answer".to_owned());
    let (environment, _) = Texts::base().resolved("staging");
    let audit = audit::audit(&facts);
    let text = checklist::text(&environment, &audit);
    let counts = audit.counts();
    let first = format!(
        "audit of staging of shop: {} passed, 1 failed, 2 unknown, {} not applicable, 1 accepted",
        counts.pass, counts.not_applicable
    );
    assert_eq!(text.lines().next(), Some(first.as_str()));
    let chapters: Vec<&str> = text.lines().skip(1).filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    let titles = [
        "permissions (1 check failed)",
        "secrets",
        "headers",
        "upload limits",
        "logging",
        "data safety",
        "acceptances",
    ];
    assert_eq!(chapters, titles);
    for line in [
        "  FAIL      PERM-02  critical  web: inspect: HostConfig.Privileged is true",
        "            help: make the container anew without it; `lockstep apply` does",
        "  ?         LOG-04  medium    ledger: the store did not answer",
        "            until 2027-01-31: the old one goes in spring",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
    }
    let json = serde_json::to_value(checklist::json("staging", &audit, false)).expect("JSON");
    assert_eq!((&json["format"], &json["ok"], &json["counts"]["fail"]), (&1.into(), &false.into(), &1.into()));
    let checks = json["checks"].as_array().expect("checks");
    let failed = checks.iter().find(|check| check["verdict"] == "fail").expect("one that failed");
    assert_eq!(
        (&failed["id"], &failed["severity"], &failed["chapter"]),
        (&"PERM-02".into(), &"critical".into(), &"permissions".into())
    );
    assert_eq!(json["findings"][0]["rule"], "PERM-02");
}

#[test]
fn days_are_read_exactly() {
    use lockstep::value::Date;
    for text in ["2027-01-31", "2028-02-29", "2000-02-29", "9999-12-31"] {
        assert_eq!(Date::parse(text).map(|date| date.to_string()).as_deref(), Some(text));
    }
    for text in [
        "",
        "2027-1-31",
        "2027-02-29",
        "2100-02-29",
        "2027-13-01",
        "2027-00-10",
        "2027-04-31",
        "31.1.2027",
        "2027-01-31T00",
        "2027-01-31-",
    ] {
        assert_eq!(Date::parse(text), None, "{text}");
    }
    assert!(day("2026-12-31") < day("2027-01-01") && day("2027-01-31") < day("2027-02-01"));
}

#[test]
fn a_redis_of_before_7_has_no_settings_that_protect_it() {
    let mut facts = sound();
    server(&mut facts, |server| {
        server.protects_configs = false;
        server.settings.retain(|name, _| !name.starts_with("enable-"));
    });
    assert_eq!(of(&audit::audit(&facts), "PERM-11", "cache").verdict, Verdict::Pass);
    reach(&mut facts, "app", "config");
    assert_eq!(of(&audit::audit(&facts), "PERM-11", "cache").verdict, Verdict::Fail);
}

#[test]
fn an_audit_that_is_switched_off_is_refused_and_says_where() {
    let project = Project::copy_of(&repository().join("tests/cases/base"));
    let spec = std::fs::read_to_string(repository().join("tests/cases/base/environments/stack.yaml")).expect("a spec");
    project.write("environments/stack.yaml", format!("{spec}security: {{ enabled: false }}\n"));
    let ran = project.lockstep_with(&["audit", "staging"], &[("DOCKER_HOST", "unix:///nowhere")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{}", ran.stderr);
    let line = spec.lines().count() + 1;
    assert!(ran.stderr.contains(&format!("switched off at environments/stack.yaml:{line}:")), "{}", ran.stderr);
}

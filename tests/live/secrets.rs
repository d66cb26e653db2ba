//! A secret is in its file and in Redis' user table, and nowhere else: searched for in all the places that leak.

use crate::support::docker;
use crate::support::{At, Fault, Proxy, Scenario, project};
use lockstep::value::Digest;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The forms in which a secret may turn up.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let url: String = bytes
        .iter()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let json = serde_json::to_string(secret).expect("text").trim_matches('"').to_owned();
    let reversed: String = secret.chars().rev().collect();
    let mut forms = vec![
        ("as it is".to_owned(), secret.to_owned()),
        ("in hexadecimal".to_owned(), hex.clone()),
        ("in upper-case hexadecimal".to_owned(), hex.to_uppercase()),
        ("URL-encoded".to_owned(), url.clone()),
        ("URL-encoded in lower case".to_owned(), url.to_lowercase()),
        ("in JSON".to_owned(), json),
        ("backwards".to_owned(), reversed),
        ("as its SHA-256".to_owned(), Digest::of(bytes).to_string()),
        ("as its SHA-256, shortened".to_owned(), Digest::of(bytes).short().to_owned()),
    ];
    // Where in a longer text it begins decides its letters in base64; the first and last depend on the neighbours.
    for skip in 0..3usize {
        let shifted = [&vec![b'x'; skip][..], bytes].concat();
        let encoded = base64(&shifted);
        let inner = encoded.get(4..encoded.len().saturating_sub(4)).unwrap_or_default().to_owned();
        forms.push((format!("in base64, shifted by {skip}"), inner.clone()));
        forms.push((format!("in base64 for URLs, shifted by {skip}"), inner.replace('+', "-").replace('/', "_")));
    }
    forms.into_iter().map(|(form, text)| (form, text.into_bytes())).collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().chain([0, 0].iter()).take(3).fold(0usize, |word, byte| (word << 8) | usize::from(*byte));
        for place in 0..=chunk.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * place)) & 63]));
        }
    }
    text
}

/// What was found, and where.
struct Search {
    /// What is looked for, and what to call it.
    needles: Vec<(String, Vec<u8>)>,
    places: usize,
    found: Vec<String>,
}

impl Search {
    fn new(secrets: &[(&str, &str)]) -> Search {
        let named = |name: &str, (form, needle): (String, Vec<u8>)| (format!("{name} {form}"), needle);
        let needles = secrets.iter().flat_map(|(name, secret)| forms(secret).into_iter().map(|form| named(name, form)));
        Search { needles: needles.collect(), places: 0, found: Vec::new() }
    }

    fn look(&mut self, place: &str, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        self.places += 1;
        for (name, needle) in &self.needles {
            if content.windows(needle.len()).any(|window| window == needle) {
                self.found.push(format!("{name} in {place}"));
            }
        }
    }
}

#[test]
fn a_secret_is_found_nowhere_but_in_its_own_file() {
    let began = now();
    let stack = Scenario::with("secrets", project::site);
    let proxy = Proxy::start();

    // Caught in the act: its arguments and its environment while a request is under way.
    proxy.arm(At::Matching("POST", "/containers/create".to_owned()), Fault::Hold);
    let running = stack.start_through(&proxy, &["apply", "live", "--reason", "look at me"]);
    proxy.wait_for_hit();
    let own = format!("/proc/{}", running.id());
    let (arguments, environment) = (fs::read(format!("{own}/cmdline")), fs::read(format!("{own}/environ")));
    proxy.release();
    running.finish().ok();
    let created = proxy.mutations();

    let mut redis = stack.redis("live");
    redis.fill(5);
    stack.edit("allkeys-lru", "allkeys-lfu");
    let app = stack.password("live", "app");
    let rotated = format!("{}-rotated", stack.password("live", "app"));
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["render", "live"],
        &["render", "live", "--json"],
        &["render", "live", "--out", "rendered"],
        &["status"],
        &["status", "--json"],
        &["backup", "create", "live"],
        &["backup", "create", "live", "--json"],
        &["backup", "list"],
        &["backup", "list", "--json"],
        &["lock", "--json"],
    ] {
        stack.run(arguments).ok();
    }
    for arguments in
        [&["plan", "live"][..], &["plan", "live", "--json"], &["verify", "live"], &["verify", "live", "--json"]]
    {
        stack.run(arguments).exits(3);
    }
    stack.run(&["apply", "live", "--json"]).ok();
    // A secret that is not what it is meant to be is where a tool likes to show both.
    stack.docker.put_file(
        &stack.name("live", "files"),
        "/v/web.run.secrets/current",
        "app_password",
        b"x",
        65532,
        0o400,
    );
    stack.redis("live").ask::<()>(&["ACL", "SETUSER", "app", ">another"]);
    for arguments in
        [&["plan", "live"][..], &["plan", "live", "--json"], &["verify", "live"], &["verify", "live", "--json"]]
    {
        stack.run(arguments).exits(3);
    }
    stack.run(&["apply", "live", "--json"]).ok();
    stack.secrets("live", &rotated, &stack.password("live", "hand"));
    stack.run(&["plan", "live", "--json"]).exits(3);
    stack.apply("live");
    // A failed start, which shows the last lines of a log.
    stack.edit("WORKERS: \"1\"", "WORKERS: \"none\"");
    stack.run(&["apply", "live"]).exits(5);
    stack.edit("WORKERS: \"none\"", "WORKERS: \"1\"");
    stack.apply("live");

    let own_password = stack.lockstep_password("live");
    let hand = stack.password("live", "hand");
    let mut search = Search::new(&[
        ("the application's password", &app),
        ("its rotated password", &rotated),
        ("the other user's password", &hand),
        ("lockstep's own password", &own_password),
    ]);
    search.look("the arguments of lockstep", arguments.expect("arguments"));
    search.look("the environment of lockstep", environment.expect("an environment"));
    search.look("what lockstep wrote", stack.said());
    for call in created.iter().filter(|call| !call.path.contains("/archive")) {
        search.look(&format!("{} {}", call.method, call.path), &call.body);
    }
    for object in stack.docker.labelled(docker::STACK, &stack.stack) {
        let (kind, name) = object.split_once(' ').expect("a kind and a name");
        let path = match kind {
            "container" => format!("/containers/{name}/json"),
            kind => format!("/{kind}s/{name}"),
        };
        search.look(&format!("the inspection of {object}"), stack.docker.ask("GET", &path, None).body);
        if kind == "container" {
            search.look(&format!("the log of {name}"), stack.docker.logs(name));
            if stack.docker.running(name) {
                let processes = stack.docker.processes(name);
                for file in ["cmdline", "environ"] {
                    let mut read = 0;
                    for process in &processes {
                        let own = Path::new("/proc").join(process.to_string());
                        match fs::read(own.join(file)) {
                            Ok(content) => search.look(&format!("{file} of a process of {name}"), content),
                            // It has ended since.
                            Err(_) if !own.exists() => continue,
                            Err(error) => panic!("{file} of process {process}: {error}"),
                        }
                        read += 1;
                    }
                    assert!(read > 0, "{file} of no process of {name} was read");
                }
            }
        }
    }
    for image in ["lockstep/redis:7.0", "alphanode/site:1.0"] {
        search.look(
            &format!("the history of {image}"),
            stack.docker.ask("GET", &format!("/images/{image}/history"), None).body,
        );
    }
    search.look("the events of the engine", stack.docker.events(&began.to_string(), &(now() + 1).to_string()));
    look_below(&mut search, &stack.path("backups"));
    look_below(&mut search, &stack.path("rendered"));
    search.look("stack.lock", stack.read("environments/stack.lock"));
    for (path, content) in stack.docker.tree(&stack.name("live", "files"), "/v") {
        // Its own file, the table of users (which holds hashes), and the password of lockstep's own user.
        let known =
            path.ends_with("/app_password") || path.ends_with("/users.acl") || path.ends_with("/lockstep.password");
        if !known {
            search.look(&path, content);
        }
    }
    assert!(search.places > 40, "only {} places were looked at", search.places);
    assert_eq!(search.found, Vec::<String>::new());
    the_search_itself_finds(&app);
    assert!(stack.said().contains("look at me"), "what lockstep wrote was kept");
}

/// A search that finds nothing proves something only if it finds what is there.
fn the_search_itself_finds(secret: &str) {
    for hidden in [
        format!("password={secret};"),
        format!("hash {}", Digest::of(secret.as_bytes())),
        base64(format!("user:{secret}").as_bytes()),
        base64(format!("ab{secret}").as_bytes()),
    ] {
        let mut search = Search::new(&[("it", secret)]);
        search.look("a place", &hidden);
        assert!(!search.found.is_empty(), "not found in {hidden}");
    }
}

/// Files by name and content; snapshots hold data, and no user's password is data.
fn look_below(search: &mut Search, folder: &Path) {
    let entries: Vec<_> =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).collect();
    assert!(!entries.is_empty(), "{} is empty", folder.display());
    for entry in entries.into_iter().flatten() {
        let path = entry.path();
        search.look("a file name", path.display().to_string());
        if path.is_dir() {
            look_below(search, &path);
        } else {
            search.look(&path.display().to_string(), fs::read(&path).expect("a file of ours"));
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[test]
fn with_secrets_are_written_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let stack = Scenario::with("secrets_render", project::small);
    stack.run(&["render", "live", "--out", "rendered", "--with-secrets"]).ok();
    let file = stack.path("rendered/web.run.secrets/app_password");
    assert_eq!(fs::read(&file).expect("the secret"), stack.password("live", "app").as_bytes());
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&stack.path("rendered"))), (0o600, 0o700));
    // A file that others may read is refused, and its content is not shown with the reason.
    fs::set_permissions(stack.path("environments/secrets/live.yaml"), fs::Permissions::from_mode(0o644))
        .expect("permissions");
    let refused = stack.run(&["plan", "live"]).exits(2).says("chmod 600");
    assert!(!refused.stderr.contains(&stack.sentinel), "{refused}");
    assert_eq!(stack.objects("live").len(), 0);
}

#[test]
fn secrets_come_from_variables_and_programs_too() {
    let stack = Scenario::with("secrets_sources", project::small);
    let rendered = |folder: &str| {
        stack.run(&["render", "live", "--out", folder, "--with-secrets"]).ok();
        fs::read_to_string(stack.path(folder).join("web.run.secrets/app_password")).expect("the secret")
    };
    let from_file = rendered("file");
    fs::write(stack.path("app_password"), format!("{from_file}\n")).expect("a file");
    fs::write(stack.path("hand_password"), "another\n").expect("a file");
    stack.write("environments/live.yaml", "secrets: { command: [cat, \"{name}\"] }\n");
    assert_eq!(rendered("command"), from_file, "without the line break at its end");
    stack.write("environments/live.yaml", "secrets: { command: [cat, \"{name}.not-there\"] }\n");
    stack.run(&["render", "live", "--out", "none", "--with-secrets"]).exits(2).says("app_password");
    stack.write("environments/live.yaml", "secrets: { env: SITE_ }\n");
    stack.run(&["render", "live", "--out", "none", "--with-secrets"]).exits(2).says("SITE_APP_PASSWORD");
    stack.run(&["render", "live"]).ok();
}

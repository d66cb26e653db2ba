//! Facts of a stack on which the audit finds nothing, to be spoilt one by one.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::acl;
use lockstep::audit::facts::{
    Answer, Backups, Container, Engine, Facts, Host, Image, Inspect, Kept, Ledger, Mode, Mount, Network, Process,
    Project, Published, SecretFile, Server, Site,
};
use lockstep::model::Written;
use lockstep::model::security::{Security, WantedHeader};
use lockstep::state::Role;
use lockstep::value::{Bytes, Date, Place, Secret, Span};

/// The value of every secret begins with it.
pub const VALUE: &str = "sentinel-0123456789abcdef";

pub const TODAY: &str = "2026-11-26";

pub fn day(text: &str) -> Date {
    Date::parse(text).expect("a day")
}

fn map<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// A Redis `cache` and a site `web`, with all that lockstep gives them.
pub fn sound() -> Facts {
    let secrets = [("cache_password", "-one"), ("lockstep in cache", "-two")];
    let secrets = secrets.map(|(name, end)| (name.to_owned(), Secret::new(format!("{VALUE}{end}"))));
    let network = |internal| Network { internal, driver: "bridge".to_owned(), foreign: Vec::new() };
    Facts {
        today: day(TODAY),
        secrets: Ok(secrets.into()),
        containers: [("cache".to_owned(), cache()), ("web".to_owned(), web())].into(),
        networks: Ok([("private".to_owned(), network(true)), ("edge".to_owned(), network(false))].into()),
        engine: Ok(Engine {
            address: "unix:///var/run/docker.sock".to_owned(),
            debug: false,
            root_folder: "/d".to_owned(),
        }),
        host: Host {
            socket: Ok(mode("/var/run/docker.sock", 0o660)),
            overcommit: Ok("1".to_owned()),
            huge_pages: Ok("madvise".to_owned()),
            logs: [("web".to_owned(), Ok(mode("its log file", 0o640)))].into(),
        },
        project: Project {
            private: vec![Ok(mode("environments/secrets/staging.yaml", 0o600))],
            tracked: Ok(Some(Vec::new())),
            identity_beside: None,
        },
        backups: Ok(Backups {
            place: "backups/shop/staging".to_owned(),
            services: [("cache".to_owned(), kept(1, 10))].into(),
            count: 3,
            plain: Vec::new(),
            recipients: 2,
            max_age: Some(Span::seconds(24 * 3600)),
            far: false,
            same_disk: Some(Ok(false)),
            free: Some(Ok(Some(1 << 30))),
        }),
        ledger: Ok(Ledger {
            changes: 2,
            texts: vec![("changes/one.md".to_owned(), "a note".to_owned())],
            ..Ledger::default()
        }),
        security: security(),
    }
}

fn security() -> Security {
    let place = Place::file("environments/stack.yaml");
    let wanted = |value: Option<&str>| WantedHeader { place: place.clone(), value: value.map(str::to_owned) };
    Security {
        headers: [
            ("content-security-policy".to_owned(), wanted(None)),
            ("x-frame-options".to_owned(), wanted(Some("DENY"))),
        ]
        .into(),
        upload_limit: Some(Written { value: Bytes(1 << 20), place: place.clone(), uses: Vec::new() }),
        upload_path: Some("/uploads".to_owned()),
        ..Security::default()
    }
}

pub fn mode(path: &str, bits: u32) -> Mode {
    let root = |name: &str| name.to_owned();
    Mode { path: path.to_owned(), bits, owner: root("0 root"), group: root("999 docker"), trusted: true, folder: false }
}

/// Backups so many hours and drills so many days old.
pub fn kept(hours: u64, days: u64) -> Kept {
    let at = |seconds| Some(("20261126-one".to_owned(), Span::seconds(seconds)));
    Kept { proven: at(hours * 3600), drilled: at(days * 24 * 3600) }
}

fn inspect(role: Role) -> Inspect {
    let redis = role == Role::Redis;
    let mount = |volume: &str, target: &str, read_only| Mount {
        kind: "volume".to_owned(),
        source: format!("/d/volumes/{volume}/_data"),
        volume: volume.to_owned(),
        target: target.to_owned(),
        read_only,
        propagation: String::new(),
    };
    let port = Published { port: "8080/tcp".to_owned(), address: "127.0.0.1".to_owned(), host_port: "8081".to_owned() };
    let data = mount("shop-staging-cache.data", "/data", false);
    let secrets = mount("shop-staging-web.run.secrets", "/run/secrets", true);
    Inspect {
        id: "c0ffee".to_owned(),
        running: true,
        read_only_root: true,
        cap_drop: words(["ALL"]),
        mounts: vec![if redis { data } else { secrets }],
        tmpfs: map([("/tmp", "rw,noexec,nosuid,nodev,size=16777216")]),
        namespaces: map([("ipc", "private"), ("network", "shop-staging-private")]),
        security_options: words(["no-new-privileges=true"]),
        memory: 128 << 20,
        nano_cpus: 1_000_000_000,
        pids: 64,
        ulimits: [("nofile".to_owned(), 10_064), ("core".to_owned(), 0)].into(),
        ports: if redis { Vec::new() } else { vec![port] },
        networks: if redis { words(["private"]) } else { words(["edge", "private"]) },
        image_id: "sha256:abc".to_owned(),
        log_driver: "json-file".to_owned(),
        log_options: map([("max-size", "10m"), ("max-file", "3")]),
        env: words(["WORKERS=1", "CACHE_PASSWORD_FILE=/run/secrets/cache_password"]),
        texts: vec![("Config.Env".to_owned(), "WORKERS=1".to_owned())],
        ..Inspect::default()
    }
}

fn container(role: Role) -> Container {
    let process = Process {
        pid: 4711,
        uids: vec![999; 4],
        bounding: 0,
        effective: 0,
        no_new_privileges: true,
        seccomp: 2,
        command: words(["/usr/bin/server", "--listen", "8080"]),
    };
    Container {
        role,
        declared: true,
        inspect: Ok(inspect(role)),
        processes: Ok(vec![process]),
        image: Ok(Image { env: words(["PATH=/usr/bin"]), history: words(["COPY server /usr/bin/server"]) }),
        log: Ok(words(["ready", "GET / 200 0.4"])),
        server: Err("it is no Redis".to_owned()),
        site: None,
        secret_files: vec![SecretFile {
            path: "cache_password".to_owned(),
            volume: "web.run.secrets".to_owned(),
            mode: 0o400,
            owner: (999, 999),
        }],
        locked: Ok(true),
    }
}

fn cache() -> Container {
    let users = [
        ("app", "on #11 ~page:* resetchannels -@all +@read"),
        ("default", "off nopass ~* &* +@all"),
        ("lockstep", "on #22 -@all +config|set"),
    ];
    let nothing = BTreeSet::new();
    let server = Server {
        settings: map([
            ("maxmemory", "67108864"),
            ("maxmemory-policy", "allkeys-lru"),
            ("maxclients", "10000"),
            ("client-query-buffer-limit", "67108864"),
            ("appendonly", "yes"),
            ("save", ""),
            ("acllog-max-len", "128"),
            ("enable-protected-configs", "no"),
            ("enable-debug-command", "no"),
            ("enable-module-command", "no"),
        ]),
        users: users.map(|(name, rules)| (name.to_owned(), acl::user(rules))).into(),
        reach: [("app".to_owned(), nothing), ("lockstep".to_owned(), BTreeSet::from(["config|set".to_owned()]))].into(),
        protects_configs: true,
        last_save: Some("ok".to_owned()),
        last_append: Some("ok".to_owned()),
        used_memory: 1 << 20,
    };
    Container { server: Ok(server), ..container(Role::Redis) }
}

/// An answer with every header that is wanted.
pub fn answer(request: &str, status: u16) -> Answer {
    let headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("permissions-policy", "camera=()"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("set-cookie", "session=1; Secure; HttpOnly; SameSite=Lax"),
    ];
    Answer {
        request: request.to_owned(),
        status,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: "<p>nothing to see</p>".to_owned(),
    }
}

fn web() -> Container {
    let site = Site {
        pages: vec![answer("GET /", 200), answer("HEAD /", 200)],
        missing: Some(answer("GET /nothing", 404)),
        trace: Some(Ok(answer("TRACE /", 405))),
        foreign: Some(answer("GET /", 200)),
        origin: "https://stranger.example".to_owned(),
        oversized: Some(Ok(Some(answer("GET /", 431)))),
        upload: Some(Ok(Some(answer("POST /uploads", 413)))),
    };
    Container { site: Some(Ok(site)), ..container(Role::App) }
}

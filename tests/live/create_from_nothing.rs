//! From nothing to a running site and back to nothing, data kept on the way until it is named.

use crate::support::docker::{self, DECOY, Docker};
use crate::support::{Proxy, Scenario, project};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn an_environment_is_made_left_alone_removed_and_made_again_with_its_data() {
    let site = Scenario::with("create_from_nothing", project::site);
    let decoys = decoys(&site);

    site.run(&["plan", "live"]).exits(3);
    site.run(&["verify", "live"]).exits(3);
    assert_ne!(site.run(&["backup", "create", "live"]).code, 0, "there is nothing to back up");
    assert_eq!(site.run(&["status", "--json"]).ok().json()["environments"][0]["state"], json!("down"));
    let first = site.run(&["apply", "live", "--reason", "first launch", "--json"]).ok();
    assert_eq!(first.json().pointer("/verification/findings"), Some(&json!([])), "{first}");
    let made = site.objects("live");
    assert_eq!(made, everything(), "what there is after the first apply");
    site.is_right("live");
    container_is_closed(&site, "cache", "999:999", 64 << 20);
    container_is_closed(&site, "web", "65532:65532", 64 << 20);
    redis_is_private(&site);
    site_is_published_here_alone(&site);
    users_may_do_what_they_need(&site);

    a_second_apply_only_reads(&site);
    status_says_that_it_is_up(&site);

    let mut redis = site.redis("live");
    redis.ask::<()>(&["FLUSHALL"]);
    redis.fill(50);
    let before = site.docker.identity(&site.name("live", "cache"));
    site.run(&["down", "live"]).ok();
    assert_eq!(site.objects("live"), BTreeSet::from(["volume cache.data".to_owned()]), "what down leaves");
    site.run(&["down", "live"]).ok();
    assert_eq!(decoys, all_decoys(&site), "down touches nothing that is not its own");

    site.apply("live");
    assert_ne!(before.0, site.docker.identity(&site.name("live", "cache")).0, "a new container");
    site.redis("live").holds(50);
    assert_eq!(site.objects("live"), made);

    site.run(&["down", "live", "--delete-data", "cache.date", "--yes"]).exits(2).says("cache.data");
    site.run(&["down", "live", "--delete-data", "cache.data"]).exits(4);
    site.redis("live").holds(50);
    site.run(&["down", "live", "--delete-data", "cache.data", "--yes"]).ok();
    assert_eq!(site.objects("live"), BTreeSet::new());
    assert_eq!(site.docker.labelled(docker::STACK, &site.stack), decoys_of_the_stack(&site), "nothing else is left");
    assert_eq!(decoys, all_decoys(&site), "nothing that is not its own was touched");
}

fn everything() -> BTreeSet<String> {
    [
        "container cache",
        "container files",
        "container web",
        "network edge",
        "network private",
        "volume cache.data",
        "volume cache.etc.redis",
        "volume web.etc.site",
        "volume web.run.secrets",
    ]
    .map(str::to_owned)
    .into()
}

/// Things of others whose names or labels come close; what the engine says of each.
fn decoys(site: &Scenario) -> Vec<Value> {
    let (docker, stack) = (&site.docker, site.stack.as_str());
    let labels = |environment: &str, stack: &str, resource: &str| {
        json!({
            DECOY: site.stack,
            docker::STACK: stack,
            docker::ENVIRONMENT: environment,
            docker::RESOURCE: resource,
        })
    };
    let foreign = format!("{stack}other");
    let container = |name: String, labels: Value| {
        let body = json!({ "Image": "lockstep/redis:7.0", "Cmd": ["redis-server"], "Labels": labels });
        docker.create_container(&name, &body);
        docker.start(&name);
    };
    container(format!("{stack}-live2-cache"), labels("live2", stack, "container/cache"));
    container(format!("{stack}-live-cache-2"), json!({ DECOY: stack }));
    container(format!("{stack}-live-old"), labels("live", &foreign, "container/old"));
    for (name, labels) in [
        (format!("{stack}-live2-cache.data"), labels("live2", stack, "volume/cache.data")),
        (format!("{stack}-live-cache.dat"), json!({ DECOY: stack })),
        (format!("{foreign}-live-cache.data"), labels("live", &foreign, "volume/cache.data")),
    ] {
        docker.post("/volumes/create", &json!({ "Name": name, "Labels": labels }));
    }
    for (name, labels) in [
        (format!("{stack}-live2-private"), labels("live2", stack, "network/private")),
        (format!("{stack}-live-privat"), json!({ DECOY: stack })),
    ] {
        docker.post("/networks/create", &json!({ "Name": name, "Labels": labels }));
    }
    all_decoys(site)
}

fn all_decoys(site: &Scenario) -> Vec<Value> {
    site.docker.labelled(DECOY, &site.stack).iter().map(|object| identity(&site.docker, object)).collect()
}

fn decoys_of_the_stack(site: &Scenario) -> BTreeSet<String> {
    let of_the_stack = site.docker.labelled(docker::ENVIRONMENT, "live2");
    of_the_stack.into_iter().filter(|object| object.contains(&site.stack)).collect()
}

/// What would be different if somebody had touched it.
fn identity(docker: &Docker, object: &str) -> Value {
    let (kind, name) = object.split_once(' ').expect("a kind and a name");
    match kind {
        "container" => {
            let report = docker.inspect(name);
            json!([object, report["Id"], report["State"], report["HostConfig"], report["NetworkSettings"]])
        }
        "volume" => docker.get(&format!("/volumes/{name}")),
        _ => docker.get(&format!("/networks/{name}")),
    }
}

fn container_is_closed(site: &Scenario, service: &str, user: &str, memory: u64) {
    let report = site.docker.inspect(&site.name("live", service));
    let host = &report["HostConfig"];
    assert_eq!(report["Config"]["User"], json!(user));
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert!(host["CapAdd"].as_array().is_none_or(Vec::is_empty), "{}", host["CapAdd"]);
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges=true"]));
    assert_eq!(host["Privileged"], json!(false));
    assert_eq!(host["ReadonlyRootfs"], json!(true));
    assert!(host["Devices"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(host["Memory"], json!(memory));
    assert_eq!(host["MemorySwap"], json!(memory), "no swap");
    assert_eq!(host["NanoCpus"], json!(1_000_000_000));
    let pids = host["PidsLimit"].as_u64().unwrap_or(0);
    assert!((1..=512).contains(&pids), "{pids}");
    let ulimits = host["Ulimits"].as_array().cloned().unwrap_or_default();
    let ulimit = |name: &str| ulimits.iter().find(|limit| limit["Name"] == json!(name)).cloned().unwrap_or_default();
    assert_eq!((&ulimit("core")["Hard"], &ulimit("core")["Soft"]), (&json!(0), &json!(0)));
    assert!(ulimit("nofile")["Hard"].as_u64().is_some_and(|files| files >= 1024), "{ulimits:?}");
    assert_eq!(host["RestartPolicy"]["Name"], json!("unless-stopped"));
    let logs = json!({ "Type": "json-file", "Config": { "max-file": "3", "max-size": "10m" } });
    assert_eq!(host["LogConfig"], logs);
    assert_eq!(host["IpcMode"], json!("private"));
    assert_eq!(host["PidMode"], json!(""));
    assert!(host["Binds"].as_array().is_none_or(Vec::is_empty), "{}", host["Binds"]);
    for mount in report["Mounts"].as_array().into_iter().flatten() {
        assert_eq!(mount["Type"], json!("volume"), "{mount}");
        assert_eq!(mount["RW"], json!(mount["Destination"] == json!("/data")), "{mount}");
    }
    for (path, options) in host["Tmpfs"].as_object().into_iter().flatten() {
        let options = options.as_str().unwrap_or_default();
        for option in ["noexec", "nosuid", "nodev", "size="] {
            assert!(options.contains(option), "{path}: {options}");
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", report["State"]["Pid"])).expect("the process");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(field(set), "0000000000000000", "{set} of {service}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert!(!field("Uid:").split_whitespace().any(|id| id == "0"), "{}", field("Uid:"));
}

fn redis_is_private(site: &Scenario) {
    let report = site.docker.inspect(&site.name("live", "cache"));
    assert!(report["HostConfig"]["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty));
    let networks: Vec<&String> =
        report["NetworkSettings"]["Networks"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(networks, [&site.name("live", "private")], "networks of Redis");
    let network = site.docker.get(&format!("/networks/{}", site.name("live", "private")));
    assert_eq!(network["Internal"], json!(true));
}

fn site_is_published_here_alone(site: &Scenario) {
    let report = site.docker.inspect(&site.name("live", "web"));
    let port = port(site);
    let published = json!({ "8080/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port }] });
    assert_eq!(report["HostConfig"]["PortBindings"], published);
    let pages = page(&format!("127.0.0.1:{port}"), "/articles/redis-caching");
    assert!(pages.starts_with("HTTP/1.1 200"), "{pages}");
    let again = page(&format!("127.0.0.1:{port}"), "/articles/redis-caching");
    assert!(again.contains("x-cache: HIT"), "the second view comes from Redis: {again}");
}

fn port(site: &Scenario) -> String {
    let text = site.read("environments/live.yaml");
    text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect()
}

/// Head and body of one page.
fn page(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).expect("the site listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn users_may_do_what_they_need(site: &Scenario) {
    let address = site.redis_address("live");
    let nobody = crate::support::Redis::connect(&address, "default", "")
        .and_then(|mut redis| redis.try_ask::<String>(&["PING"]));
    assert!(nobody.is_err(), "the default user is off");
    let mut app = site.redis_as("live", "app", &site.password("live", "app"));
    app.ask::<()>(&["SET", "page:one", "1"]);
    app.ask::<()>(&["DEL", "page:one"]);
    for words in [&["FLUSHALL"][..], &["CONFIG", "GET", "*"], &["SET", "other", "1"], &["ACL", "LIST"], &["SHUTDOWN"]] {
        let refusal = app.refusal(words);
        assert_eq!(refusal.code(), Some("NOPERM"), "{words:?}: {refusal}");
    }
    let mut own = site.redis_as_lockstep("live");
    for words in [&["GET", "page:one"][..], &["SET", "page:one", "1"], &["FLUSHALL"], &["KEYS", "*"]] {
        let refusal = own.refusal(words);
        assert_eq!(refusal.code(), Some("NOPERM"), "lockstep's own user reads no key: {refusal}");
    }
    let mut hand = site.redis("live");
    assert_eq!(hand.config("protected-mode"), "yes");
    assert_eq!(hand.config("maxmemory"), (16 << 20).to_string());
    assert!(hand.refusal(&["CONFIG", "SET", "dir", "/tmp"]).to_string().contains("protected"), "dir stays where it is");
}

fn a_second_apply_only_reads(site: &Scenario) {
    let proxy = Proxy::start();
    let again = site.run_through(&proxy, &["apply", "live"]).ok();
    let sent: Vec<String> = proxy.mutations().iter().map(|call| format!("{} {}", call.method, call.path)).collect();
    assert_eq!(sent, Vec::<String>::new(), "requests that change something: {again}");
    assert!(!proxy.calls().is_empty());
    site.run(&["plan", "live"]).ok();
    assert_eq!(site.run(&["plan", "live", "--json"]).ok().steps(), Vec::<String>::new());
}

fn status_says_that_it_is_up(site: &Scenario) {
    let status = site.run(&["status", "--json"]).ok().json();
    let live = &status["environments"][0];
    assert_eq!((&live["environment"], &live["state"], &live["findings"]), (&json!("live"), &json!("up"), &json!(0)));
    let services = live["services"].as_array().cloned().unwrap_or_default();
    assert_eq!(services.len(), 2, "{status}");
    for service in services {
        assert_eq!(service["running"], json!(true), "{service}");
    }
    let addresses = live.pointer("/services/1/addresses/0").and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(addresses, format!("http://127.0.0.1:{}", port(site)));
}

#[test]
fn a_protected_environment_wants_to_be_confirmed() {
    let stack = Scenario::with("protected", project::small);
    let environment = stack.read("environments/live.yaml");
    stack.write("environments/live.yaml", &format!("protected: true\n{environment}"));
    stack.run(&["apply", "live"]).exits(4).says("--yes");
    assert_eq!(stack.objects("live"), BTreeSet::new());
    stack.run(&["apply", "live", "--yes"]).exits(4).says("--reason");
    assert_eq!(stack.objects("live"), BTreeSet::new());
    stack.run(&["apply", "live", "--yes", "--reason", "the first launch"]).ok();
    stack.run(&["apply", "live"]).ok();
    stack.run(&["down", "live"]).exits(4);
    stack.is_right("live");
    stack.run(&["down", "live", "--yes"]).ok();
}

//! One stack in three languages: lockstep's spec, a Compose file, and bodies for the engine.
//!
//! They mean the same containers: image, user, limits, hardening, networks, volumes, files and variables. Where one
//! of them has to do less than lockstep (no access rules in Redis, files from the host instead of volumes), it is the
//! rival that is spared the work.

use crate::ready::{Awaited, Kind};
use crate::workshop::{self, Workshop, timed};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

pub const ENVIRONMENT: &str = "side";
pub const REDIS: &str = "lockstep/redis:7.0";
pub const SITE: &str = "alphanode/site:1.0";
const PASSWORD: &str = "bench-not-a-secret";

const SITE_TOML: &str = "\
# {{ service }}
title = \"Alphanode\"
listen = \"0.0.0.0:8080\"
articles_dir = \"/srv/articles\"
page_ttl_seconds = 600
fragment_ttl_seconds = 60
upload_limit_bytes = 2097152
";

#[derive(Clone, Debug)]
pub struct Site {
    pub name: String,
    pub cache: String,
    /// Added to the environment's base.
    pub port: Option<u16>,
    pub needs_cache: bool,
}

#[derive(Clone, Debug)]
pub struct Stack {
    pub name: String,
    pub site_image: String,
    pub caches: Vec<String>,
    pub sites: Vec<Site>,
}

/// How much a Compose file says of readiness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Readiness {
    /// Order of starting only.
    Order,
    /// A health check on Redis, awaited before what needs it starts.
    RedisHealthy,
    /// Health checks on everything, every second, for `up --wait`.
    AllHealthy,
}

impl Stack {
    /// Writes a project with these environments, each with the base of its ports.
    pub fn write_project(
        &self,
        workshop: &Workshop,
        folder: &Path,
        environments: &[(&str, u16)],
    ) -> anyhow::Result<()> {
        workshop::write(&folder.join("environments/stack.yaml"), &self.spec(), 0o644)?;
        for (name, base) in environments {
            let text = format!(
                "values: {{ cache_memory: 64mb, workers: 1, port_base: {base} }}\nsecrets: {{ file: secrets/{name}.yaml }}\n"
            );
            workshop::write(&folder.join(format!("environments/{name}.yaml")), &text, 0o644)?;
            let secret = format!("cache_password: {PASSWORD}\n");
            workshop::write(&folder.join(format!("environments/secrets/{name}.yaml")), &secret, 0o600)?;
        }
        workshop::write(&folder.join("templates/site.toml.tera"), SITE_TOML, 0o644)?;
        timed(&mut workshop.lockstep(folder, &["lock"]))?;
        Ok(())
    }

    fn spec(&self) -> String {
        let mut text = format!(
            "lockstep: 1
stack: {}
owner: web@alphanode.example

differences:
  cache_memory: {{ type: size, why: staging runs on a smaller host }}
  workers: {{ type: integer, why: production serves real traffic, between: [1, 16] }}
  port_base: {{ type: integer, why: both environments can share one host }}

redis:
",
            self.name
        );
        for cache in &self.caches {
            let _ = write!(
                text,
                "  {cache}:
    image: {REDIS}
    settings:
      maxmemory: \"{{{{ cache_memory }}}}\"
      maxmemory-policy: allkeys-lru
      appendonly: yes
    users:
      app:
        password: cache_password
        keys: [\"page:*\", \"fragment:*\", \"popular\"]
        allow: [\"@read\", \"@write\", \"-@dangerous\", \"ping\"]
    limits: {{ memory: 192mb, cpus: 1 }}
"
            );
        }
        text.push_str("\napps:\n");
        for site in &self.sites {
            let (name, cache) = (&site.name, &site.cache);
            let _ = write!(
                text,
                "  {name}:
    image: {}
    env:
      WORKERS: \"{{{{ workers }}}}\"
      SITE_CONFIG: /etc/site/site.toml
      CACHE_ADDR: {cache}:6379
      CACHE_USER: app
      CACHE_PASSWORD_FILE: /run/secrets/cache_password
      UPLOAD_DIR: /uploads
    files: {{ /etc/site/site.toml: site.toml.tera }}
    secrets: [cache_password]
    tmpfs: {{ /uploads: 80mb }}
    health: {{ http: /healthz, port: 8080, within: 30s }}
    limits: {{ memory: 128mb, cpus: 1, pids: 64 }}
",
                self.site_image
            );
            if let Some(port) = site.port {
                let _ = writeln!(text, "    ports: [\"{{{{ port_base + {port} }}}}:8080\"]");
            }
            if site.needs_cache {
                let _ = writeln!(text, "    needs: [{cache}]");
            }
        }
        text
    }

    /// Writes the files that the rivals mount, with the Redis configuration that lockstep renders.
    pub fn write_given(&self, workshop: &Workshop, project: &Path, given: &Path) -> anyhow::Result<()> {
        let rendered = project.join("rendered");
        let out = rendered.display().to_string();
        timed(&mut workshop.lockstep(project, &["render", ENVIRONMENT, "--out", &out]))?;
        let cache = self.caches.first().map(String::as_str).unwrap_or_default();
        let conf = fs::read_to_string(rendered.join(format!("{cache}.etc.redis/redis.conf")))?;
        let mut open: String = conf
            .lines()
            .filter(|line| !line.starts_with("aclfile") && !line.starts_with("protected-mode"))
            .flat_map(|line| [line, "\n"])
            .collect();
        open.push_str("protected-mode no\nuser default on nopass ~* &* +@all\n");
        let _ = writeln!(open, "user app on >{PASSWORD} ~page:* ~fragment:* ~popular -@all +@read +@write +ping");
        workshop::write(&given.join("redis.conf"), &open, 0o644)?;
        workshop::write(&given.join("site.toml"), &SITE_TOML.replace("{{ service }}", "site"), 0o644)?;
        workshop::write(&given.join("cache_password"), PASSWORD, 0o644)
    }

    /// The same stack for Compose, with files from `given` and ports from `base`.
    pub fn compose(&self, given: &Path, base: u16, readiness: Readiness) -> String {
        let given = given.display();
        let mut text = String::from(
            "x-common: &common
  restart: unless-stopped
  read_only: true
  cap_drop: [ALL]
  security_opt: [\"no-new-privileges:true\"]
  ipc: private
  logging: { driver: json-file, options: { max-file: \"3\", max-size: 10m } }

services:
",
        );
        for cache in &self.caches {
            let _ = write!(
                text,
                "  {cache}:
    <<: *common
    image: {REDIS}
    user: \"999:999\"
    entrypoint: [redis-server]
    command: [/etc/redis/redis.conf]
    mem_limit: 192m
    memswap_limit: 192m
    cpus: 1
    pids_limit: 128
    ulimits: {{ nofile: 10096, core: 0 }}
    tmpfs: [\"/tmp:rw,noexec,nosuid,nodev,mode=1777,size=16m\"]
    volumes: [\"{cache}-data:/data\", \"{given}/redis.conf:/etc/redis/redis.conf:ro\"]
    networks: [private]
    stop_grace_period: 120s
"
            );
            let every = match readiness {
                Readiness::Order => continue,
                // Rare enough not to disturb what is measured.
                Readiness::RedisHealthy => "30s",
                Readiness::AllHealthy => "1s",
            };
            let _ = writeln!(
                text,
                "    healthcheck: {{ test: [CMD, redis-cli, ping], interval: {every}, timeout: 2s, retries: 60 }}"
            );
        }
        for site in &self.sites {
            let (name, cache) = (&site.name, &site.cache);
            let _ = write!(
                text,
                "  {name}:
    <<: *common
    image: {}
    user: \"65532:65532\"
    environment:
      WORKERS: \"1\"
      SITE_CONFIG: /etc/site/site.toml
      CACHE_ADDR: {cache}:6379
      CACHE_USER: app
      CACHE_PASSWORD_FILE: /run/secrets/cache_password
      UPLOAD_DIR: /uploads
    mem_limit: 128m
    memswap_limit: 128m
    cpus: 1
    pids_limit: 64
    ulimits: {{ nofile: 4096, core: 0 }}
    tmpfs: [\"/tmp:rw,noexec,nosuid,nodev,mode=1777,size=16m\", \"/uploads:rw,noexec,nosuid,nodev,mode=1777,size=80m\"]
    volumes: [\"{given}/site.toml:/etc/site/site.toml:ro\", \"{given}/cache_password:/run/secrets/cache_password:ro\"]
    stop_grace_period: 10s
",
                self.site_image
            );
            match site.port {
                Some(port) => {
                    let _ = writeln!(
                        text,
                        "    networks: [edge, private]\n    ports: [\"127.0.0.1:{}:8080\"]",
                        base + port
                    );
                }
                None => text.push_str("    networks: [private]\n"),
            }
            if site.needs_cache {
                let _ = match readiness {
                    Readiness::Order => writeln!(text, "    depends_on: [{cache}]"),
                    _ => writeln!(text, "    depends_on: {{ {cache}: {{ condition: service_healthy }} }}"),
                };
            }
            if readiness == Readiness::AllHealthy {
                text.push_str(
                    "    healthcheck: { test: [CMD, /probe, probe, \"127.0.0.1:8080\"], interval: 1s, timeout: 2s, retries: 60 }\n",
                );
            }
        }
        text.push_str("\nnetworks:\n  private: { internal: true }\n  edge: {}\n\nvolumes:\n");
        for cache in &self.caches {
            let _ = writeln!(text, "  {cache}-data: {{}}");
        }
        text
    }

    /// What the engine is asked to create for each service: its name, the body, and the second network if any.
    pub fn bodies(&self, prefix: &str, given: &Path, base: u16) -> Vec<Body> {
        let given = given.display();
        let network = |name: &str| format!("{prefix}-{name}");
        let ends =
            |name: &str, networks: &str| json!({ "EndpointsConfig": { network(networks): { "Aliases": [name] } } });
        let mut bodies = Vec::new();
        for cache in &self.caches {
            let limits = Limits { megabytes: 192, pids: 128, files: 10096 };
            let tmpfs = json!({ "/tmp": format!("{TMPFS}16777216") });
            let binds =
                json!([format!("{prefix}-{cache}-data:/data"), format!("{given}/redis.conf:/etc/redis/redis.conf:ro")]);
            bodies.push(Body {
                service: cache.clone(),
                kind: Kind::Redis,
                second_network: None,
                json: json!({
                    "Image": REDIS, "User": "999:999", "Entrypoint": ["redis-server"], "Cmd": ["/etc/redis/redis.conf"],
                    "NetworkingConfig": ends(cache, "private"),
                    "HostConfig": host_config(&network("private"), limits, &tmpfs, &binds, &json!({})),
                }),
            });
        }
        for site in &self.sites {
            let first = if site.port.is_some() { "edge" } else { "private" };
            let limits = Limits { megabytes: 128, pids: 64, files: 4096 };
            let tmpfs = json!({ "/tmp": format!("{TMPFS}16777216"), "/uploads": format!("{TMPFS}83886080") });
            let binds = json!([
                format!("{given}/site.toml:/etc/site/site.toml:ro"),
                format!("{given}/cache_password:/run/secrets/cache_password:ro"),
            ]);
            let ports = site.port.map_or_else(
                || json!({}),
                |port| json!({ "8080/tcp": [{ "HostIp": "127.0.0.1", "HostPort": (base + port).to_string() }] }),
            );
            bodies.push(Body {
                service: site.name.clone(),
                kind: Kind::Site,
                second_network: site.port.map(|_| network("private")),
                json: json!({
                    "Image": self.site_image, "User": "65532:65532", "ExposedPorts": { "8080/tcp": {} },
                    "Env": [
                        "WORKERS=1", "SITE_CONFIG=/etc/site/site.toml", format!("CACHE_ADDR={}:6379", site.cache),
                        "CACHE_USER=app", "CACHE_PASSWORD_FILE=/run/secrets/cache_password", "UPLOAD_DIR=/uploads",
                    ],
                    "NetworkingConfig": ends(&site.name, first),
                    "HostConfig": host_config(&network(first), limits, &tmpfs, &binds, &ports),
                }),
            });
        }
        bodies
    }

    /// Every service as a container to wait for; `name` says what its container is called.
    pub fn awaited(&self, network: &str, name: impl Fn(&str) -> String) -> Vec<Awaited> {
        let one = |service: &str, kind| Awaited { container: name(service), network: network.to_owned(), kind };
        let caches = self.caches.iter().map(|cache| one(cache, Kind::Redis));
        caches.chain(self.sites.iter().map(|site| one(&site.name, Kind::Site))).collect()
    }

    /// As lockstep calls them.
    pub fn awaited_lockstep(&self) -> Vec<Awaited> {
        let project = format!("{}-{ENVIRONMENT}", self.name);
        self.awaited(&format!("{project}-private"), |service| format!("{project}-{service}"))
    }

    /// As Compose calls them.
    pub fn awaited_compose(&self, project: &str) -> Vec<Awaited> {
        self.awaited(&format!("{project}_private"), |service| format!("{project}-{service}-1"))
    }
}

const TMPFS: &str = "rw,noexec,nosuid,nodev,mode=1777,size=";

struct Limits {
    megabytes: u64,
    pids: u64,
    files: u64,
}

/// What lockstep asks of the engine for every container, with what differs from one to the next.
fn host_config(network: &str, limits: Limits, tmpfs: &Value, binds: &Value, ports: &Value) -> Value {
    let Limits { megabytes, pids, files } = limits;
    json!({
        "NetworkMode": network, "Memory": megabytes << 20, "MemorySwap": megabytes << 20,
        "NanoCpus": 1_000_000_000u64, "PidsLimit": pids, "ReadonlyRootfs": true, "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges=true"], "IpcMode": "private", "RestartPolicy": { "Name": "unless-stopped" },
        "Ulimits": [{ "Name": "nofile", "Soft": files, "Hard": files }, { "Name": "core", "Soft": 0, "Hard": 0 }],
        "LogConfig": { "Type": "json-file", "Config": { "max-file": "3", "max-size": "10m" } },
        "Tmpfs": tmpfs, "Binds": binds, "PortBindings": ports,
    })
}

/// One container to create.
#[derive(Debug)]
pub struct Body {
    pub service: String,
    pub kind: Kind,
    pub second_network: Option<String>,
    pub json: Value,
}

/// Takes an environment away with its data, as a person would.
pub fn down(workshop: &Workshop, project: &Path, caches: &[String]) -> anyhow::Result<()> {
    down_of(workshop, project, ENVIRONMENT, caches)
}

pub fn down_of(workshop: &Workshop, project: &Path, environment: &str, caches: &[String]) -> anyhow::Result<()> {
    let data: Vec<String> = caches.iter().map(|cache| format!("{cache}.data")).collect();
    let mut arguments = vec!["down", environment, "--yes"];
    for volume in &data {
        arguments.extend(["--delete-data", volume.as_str()]);
    }
    timed(&mut workshop.lockstep(project, &arguments)).map(|_| ())
}

/// The image of the sites of the cold start: the site, and this program beside it as a health check.
pub fn build_site_with_probe(workshop: &Workshop) -> anyhow::Result<String> {
    let tag = workshop.name("site:1");
    let mut context = tar::Builder::new(Vec::new());
    let mut put = |name: &str, mode: u32, content: &[u8]| -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        context.append_data(&mut header, name, content)
    };
    put("Dockerfile", 0o644, format!("FROM {SITE}\nCOPY probe /probe\n").as_bytes())?;
    put("probe", 0o755, &fs::read(std::env::current_exe()?)?)?;
    let packed = context.into_inner()?;
    crate::engine::Connection::open()?.build(&tag, &packed)?;
    Ok(tag)
}

//! The specs that the journeys start from.

/// One Redis, and an application that costs next to nothing: a second Redis without data, whose port nobody asks.
pub fn small(stack: &str) -> String {
    format!(
        r#"lockstep: 1
stack: {stack}

redis:
  cache:
    image: lockstep/redis:7.0
    settings:
      maxmemory: 16mb
      maxmemory-policy: allkeys-lru
      appendonly: yes
    users:
      app: {{ password: app_password, keys: ["page:*"], allow: ["@read", "@write", "-@dangerous", "ping"] }}
      hand: {{ password: hand_password, keys: ["*"], channels: ["*"], allow: ["@all"] }}
    limits: {{ memory: 64mb }}

apps:
  web:
    image: lockstep/redis:7.0
    command: [redis-server, --port, "7000", --save, "", --protected-mode, "no"]
    env: {{ COLOUR: green }}
    secrets: [app_password]
    limits: {{ memory: 64mb, pids: 32 }}
    needs: [cache]
"#
    )
}

/// One Redis alone.
pub fn redis_only(stack: &str, image: &str) -> String {
    let text = small(stack).replace("lockstep/redis:7.0", image);
    text.split("apps:").next().unwrap_or_default().to_owned()
}

/// One Redis and the demo site, which answers over HTTP and keeps its pages in it. `port` is a difference.
pub fn site(stack: &str) -> String {
    let redis = redis_only(stack, "lockstep/redis:7.0")
        .replace(r#"keys: ["page:*"]"#, r#"keys: ["page:*", "fragment:*", "popular"]"#);
    format!(
        r#"{redis}
apps:
  web:
    image: alphanode/site:1.0
    env:
      WORKERS: "1"
      SITE_CONFIG: /etc/site/site.toml
      CACHE_ADDR: cache:6379
      CACHE_USER: app
      CACHE_PASSWORD_FILE: /run/secrets/app_password
      UPLOAD_DIR: /uploads
    files: {{ /etc/site/site.toml: site.toml.tera }}
    secrets: [app_password]
    ports: ["{{{{ port }}}}:8080"]
    tmpfs: {{ /uploads: 4mb }}
    health: {{ http: /healthz, within: 30s }}
    limits: {{ memory: 64mb, pids: 32 }}
    needs: [cache]

differences:
  port: {{ type: port, why: environments share one host }}
"#
    )
}

pub const SITE_TOML: &str = r#"title = "Site"
listen = "0.0.0.0:8080"
articles_dir = "/srv/articles"
page_ttl_seconds = 600
fragment_ttl_seconds = 3600
upload_limit_bytes = 100000
"#;

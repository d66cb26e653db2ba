//! Servers that lockstep has nothing to do with: started on a snapshot, asked for one, and the checker that comes
//! with them.

use super::docker::{DECOY, Docker, text};
use super::{Redis, Scenario, until};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

pub const PASSWORD: &str = "plain";

/// A container of an image as it is, with a volume of its own for `/data`. It goes when it is dropped.
pub struct Plain {
    pub name: String,
    pub redis: Redis,
    docker: Docker,
}

impl Plain {
    /// A running server: with a snapshot to load, or empty; with arguments of `redis-server` beside those that keep it
    /// from saving by itself. Panics with its log when it does not come up.
    #[track_caller]
    pub fn start(stack: &Scenario, image: &str, dump: Option<&[u8]>, arguments: &[&str]) -> Plain {
        Plain::try_start(stack, image, dump, arguments).unwrap_or_else(|log| panic!("{image} does not come up:\n{log}"))
    }

    /// As [`Plain::start`]. The error is the log of a server that ended instead of serving.
    #[track_caller]
    pub fn try_start(stack: &Scenario, image: &str, dump: Option<&[u8]>, arguments: &[&str]) -> Result<Plain, String> {
        let mut command = vec!["redis-server", "--requirepass", PASSWORD, "--save", "", "--appendonly", "no"];
        command.extend(arguments);
        let container = Container::create(stack, image, "bridge", &command);
        if let Some(dump) = dump {
            container.docker.put_file(&container.name, "/data", "dump.rdb", dump, 999, 0o600);
        }
        container.docker.start(&container.name);
        let connect = || {
            // Of one moment: one that ends between two questions runs, and has no address.
            let report = container.docker.inspect(&container.name);
            if report.pointer("/State/Running") != Some(&Value::Bool(true)) {
                return Some(Err(container.docker.logs(&container.name)));
            }
            let address = text(&report, "/NetworkSettings/Networks/bridge/IPAddress");
            if address.is_empty() {
                return None;
            }
            let mut redis = Redis::connect(&address, "default", PASSWORD).ok()?;
            // While it loads it answers with an error.
            redis.try_ask::<String>(&["PING"]).ok()?;
            // One that has ended since may have left its address to somebody else's server, which answers as well.
            container.docker.running(&container.name).then_some(Ok(redis))
        };
        let redis = until(&format!("{image} to serve"), connect)?;
        let (name, docker) = container.keep();
        Ok(Plain { name, redis, docker })
    }

    /// The snapshot that the server writes when told to.
    #[track_caller]
    pub fn save(&mut self) -> Vec<u8> {
        self.redis.ask::<()>(&["SAVE"]);
        self.docker.file(&self.name, "/data/dump.rdb")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        remove(&self.docker, &self.name);
    }
}

/// What `redis-check-rdb` of an image makes of these bytes: whether it is content, and what it says.
#[track_caller]
pub fn check_rdb(stack: &Scenario, image: &str, dump: &[u8]) -> (bool, String) {
    let container = Container::create(stack, image, "none", &["redis-check-rdb", "/data/dump.rdb"]);
    container.docker.put_file(&container.name, "/data", "dump.rdb", dump, 999, 0o600);
    container.docker.start(&container.name);
    let code = container.docker.wait(&container.name);
    (code == 0, container.docker.logs(&container.name))
}

/// A container that goes when nobody keeps it.
struct Container {
    name: String,
    docker: Docker,
    kept: bool,
}

impl Container {
    #[track_caller]
    fn create(stack: &Scenario, image: &str, network: &str, command: &[&str]) -> Container {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("{}-plain-{}", stack.stack, NUMBER.fetch_add(1, Ordering::Relaxed));
        let labels = json!({ DECOY: stack.stack });
        let body = json!({
            "Image": image,
            "Cmd": command,
            "Labels": labels,
            "HostConfig": {
                "NetworkMode": network,
                "Mounts": [{ "Type": "volume", "Target": "/data", "VolumeOptions": { "Labels": labels } }],
            },
        });
        stack.docker.create_container(&name, &body);
        Container { name, docker: stack.docker.clone(), kept: false }
    }

    fn keep(mut self) -> (String, Docker) {
        self.kept = true;
        (std::mem::take(&mut self.name), self.docker.clone())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.docker, &self.name);
        }
    }
}

/// With its volume. Whatever fails here is removed with the stack.
fn remove(docker: &Docker, container: &str) {
    let _ = docker.try_ask("DELETE", &format!("/containers/{container}?force=true&v=true"), "", &[]);
}

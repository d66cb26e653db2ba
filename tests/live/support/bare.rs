//! A server of its own in a container, with nothing of lockstep around it.

use super::docker::DECOY;
use super::{Redis, Scenario, until};
use lockstep::digest::{Hasher, Key, Keyspace};
use lockstep::redis::pull::{Pulled, Source, pull};
use serde_json::json;
use std::time::Duration;

pub struct Bare<'s> {
    stack: &'s Scenario,
    pub container: String,
    pub address: String,
}

/// All digests here are made with one key, so that they compare.
pub fn key() -> Key {
    Key::new([7; 32])
}

impl<'s> Bare<'s> {
    /// Removed with the scenario's other things.
    #[track_caller]
    pub fn start(stack: &'s Scenario, name: &str, image: &str, arguments: &[&str]) -> Bare<'s> {
        stack.docker.image_id(image);
        let server = if image.contains("valkey") { "valkey-server" } else { "redis-server" };
        let command: Vec<&str> =
            [&[server, "--save", "", "--protected-mode", "no", "--repl-diskless-sync", "yes"][..], arguments].concat();
        let command: Vec<&str> = [&command[..], &["--repl-diskless-sync-delay", "0"]].concat();
        let container = format!("{}-{name}", stack.stack);
        let body = json!({
            "Image": image,
            "Cmd": command,
            "Labels": { DECOY: stack.stack },
        });
        stack.docker.create_container(&container, &body);
        stack.docker.start(&container);
        let mut bare = Bare { stack, address: String::new(), container };
        bare.find();
        bare
    }

    fn find(&mut self) {
        self.address = self.stack.docker.address(&self.container, "bridge");
        until("a server that answers", || {
            Redis::connect(&self.address, "default", "").ok()?.try_ask::<String>(&["PING"]).ok()
        });
    }

    pub fn restart(&mut self) {
        self.stack.docker.restart(&self.container);
        self.find();
    }

    #[track_caller]
    pub fn redis(&self) -> Redis {
        Redis::connect(&self.address, "default", "").expect("a server that was just there")
    }

    pub fn source(&self) -> Source {
        Source {
            address: format!("{}:6379", self.address).parse().expect("an address"),
            user: String::new(),
            password: String::new(),
            timeout: Duration::from_secs(120),
            announce_version: None,
        }
    }

    /// A snapshot, and the digest of all that is in it.
    #[track_caller]
    pub fn pull(&self) -> (Vec<u8>, Pulled) {
        let mut snapshot = Vec::new();
        let hasher = Hasher::new(&key(), None);
        let pulled = pull(&self.source(), &hasher, &mut snapshot, &mut |_, _| ()).expect("a snapshot");
        (snapshot, pulled)
    }

    #[track_caller]
    pub fn digest(&self) -> Keyspace {
        self.pull().1.keyspace
    }
}

//! All that can be said of an environment by somebody who is not lockstep, so that before and after can be compared.

use super::{Scenario, docker};
use serde_json::Value;
use std::collections::BTreeMap;

/// What stands where, by a name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, String>);

/// What an inspection says that a change may change.
const OF_CONTAINER: [&str; 16] = [
    "/Image",
    "/Config/Env",
    "/Config/Cmd",
    "/Config/User",
    "/Config/Labels",
    "/State/Running",
    "/HostConfig/Memory",
    "/HostConfig/NanoCpus",
    "/HostConfig/PidsLimit",
    "/HostConfig/Ulimits",
    "/HostConfig/RestartPolicy",
    "/HostConfig/PortBindings",
    "/HostConfig/ReadonlyRootfs",
    "/HostConfig/CapDrop",
    "/HostConfig/SecurityOpt",
    "/HostConfig/LogConfig",
];

impl Facts {
    /// Containers, volumes with their files, networks, settings and users of the Redis, and its keys.
    #[track_caller]
    pub fn of(stack: &Scenario, environment: &str) -> Facts {
        let mut facts = BTreeMap::new();
        for object in stack.objects(environment) {
            facts.insert(object.clone(), "there".to_owned());
            let Some(name) = object.strip_prefix("container ") else { continue };
            let report = stack.docker.inspect(&stack.name(environment, name));
            for pointer in OF_CONTAINER {
                let value = report.pointer(pointer).cloned().unwrap_or_default();
                facts.insert(format!("{object} {pointer}"), value.to_string());
            }
            for mount in report["Mounts"].as_array().into_iter().flatten() {
                let (at, volume) = (docker::text(mount, "/Destination"), docker::text(mount, "/Name"));
                facts.insert(format!("{object} mount {at}"), format!("{volume} {}", mount["RW"]));
            }
            let networks = report.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
            let networks: Vec<&String> = networks.into_iter().flatten().map(|(network, _)| network).collect();
            // What never starts is on no network that anybody could see.
            facts.insert(format!("{object} networks"), format!("{networks:?}"));
        }
        let files = stack.name(environment, "files");
        if stack.docker.exists("containers", &files) {
            let volumes = stack.objects(environment).into_iter();
            let volumes = volumes.filter_map(|object| object.strip_prefix("volume ").map(str::to_owned));
            for volume in volumes.filter(|volume| !volume.contains(".data")) {
                let tree = stack.docker.tree(&files, &format!("/v/{volume}/current/."));
                for (path, hash) in super::hashed(tree) {
                    facts.insert(format!("file {volume} {path}"), hash);
                }
            }
        }
        let cache = stack.name(environment, "cache");
        if stack.docker.runs(&cache) {
            let mut redis = stack.redis(environment);
            for (setting, value) in redis.ask::<Vec<(String, String)>>(&["CONFIG", "GET", "*"]) {
                facts.insert(format!("setting {setting}"), value);
            }
            for user in redis.ask::<Vec<String>>(&["ACL", "LIST"]) {
                let name = user.split(' ').nth(1).unwrap_or_default().to_owned();
                // A server that loaded its users names the same rights in another order.
                // And what is so by default it says in some orders and leaves out in others.
                let mut rules: Vec<&str> = user.split(' ').filter(|rule| *rule != "sanitize-payload").collect();
                rules.sort_unstable();
                facts.insert(format!("user {name}"), rules.join(" "));
            }
            for (key, value) in redis.contents() {
                facts.insert(format!("key {key}"), value);
            }
        }
        Facts(facts)
    }

    /// Panics with what differs.
    #[track_caller]
    pub fn equal(&self, now: &Facts, when: &str) {
        let mut differing = Vec::new();
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        for name in names {
            let (before, after) = (self.0.get(name), now.0.get(name));
            if before != after {
                differing.push(format!("{name}: {before:?}, now {after:?}"));
            }
        }
        assert!(differing.is_empty(), "{when}, of {} facts differ:\n{}", self.0.len(), differing.join("\n"));
    }
}

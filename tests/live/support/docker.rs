//! The engine as a person with `curl` would ask it: plain HTTP over its socket, nothing shared with lockstep.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

pub const SOCKET: &str = "/var/run/docker.sock";
pub const STACK: &str = "dev.lockstep.stack";
pub const ENVIRONMENT: &str = "dev.lockstep.environment";
pub const RESOURCE: &str = "dev.lockstep.resource";
/// On what a test makes beside its stack, with the stack's name, so that it is removed with it.
pub const DECOY: &str = "lockstep.test.decoy-of";

#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    #[track_caller]
    fn fine(self, doing: &str) -> Reply {
        assert!((200..400).contains(&self.status), "the engine answers {} to {doing}: {}", self.status, self.text());
        self
    }
}

impl Default for Docker {
    fn default() -> Docker {
        Docker::at(SOCKET)
    }
}

impl Docker {
    pub fn at(socket: impl Into<PathBuf>) -> Docker {
        Docker { socket: socket.into() }
    }

    pub fn answers(&self) -> bool {
        self.try_ask("GET", "/_ping", "", &[]).is_ok_and(|reply| reply.status == 200)
    }

    /// Whether it says what it has of each kind. A ping is answered by an engine that hangs in everything else.
    pub fn lists(&self) -> bool {
        ["/containers/json?all=1", "/volumes", "/networks"].iter().all(|path| {
            let reply = self.try_ask("GET", path, "", &[]);
            reply.inspect_err(|error| eprintln!("the engine does not answer GET {path}: {error}")).is_ok()
        })
    }

    /// One request on a connection of its own.
    pub fn try_ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> std::io::Result<Reply> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        write!(stream, "{method} /v1.41{path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n")?;
        if !kind.is_empty() {
            write!(stream, "Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len())?;
        }
        stream.write_all(b"\r\n")?;
        stream.write_all(body)?;
        let mut reader = BufReader::new(stream);
        let head = super::proxy::read_head(&mut reader)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let mut body = Vec::new();
        if head.chunked {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
                reader.by_ref().take(size).read_to_end(&mut body)?;
                reader.read_line(&mut String::new())?;
                if size == 0 {
                    break;
                }
            }
        } else {
            reader.take(head.length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
        }
        Ok(Reply { status: head.status, body })
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let kind = if method == "POST" { "application/json" } else { "" };
        let text = body.map_or_else(String::new, Value::to_string);
        let reply = self.try_ask(method, path, kind, text.as_bytes());
        reply.unwrap_or_else(|error| panic!("the engine does not answer {method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).fine(path).json()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, Some(body)).fine(path).json()
    }

    /// A POST that says all in its path. A body that the engine does not read would make it reset the connection.
    #[track_caller]
    fn order(&self, path: &str) {
        self.ask("POST", path, None).fine(path);
    }

    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.get(&format!("/containers/{container}/json"))
    }

    pub fn exists(&self, kind: &str, name: &str) -> bool {
        let path = match kind {
            "containers" => format!("/containers/{name}/json"),
            kind => format!("/{kind}/{name}"),
        };
        self.ask("GET", &path, None).status == 200
    }

    /// `Id` and start of a container: both stay when nothing was restarted.
    #[track_caller]
    pub fn identity(&self, container: &str) -> (String, String) {
        let report = self.inspect(container);
        (text(&report, "/Id"), text(&report, "/State/StartedAt"))
    }

    #[track_caller]
    pub fn running(&self, container: &str) -> bool {
        self.inspect(container).pointer("/State/Running") == Some(&Value::Bool(true))
    }

    /// The same of one that may not be there.
    pub fn runs(&self, container: &str) -> bool {
        self.exists("containers", container) && self.running(container)
    }

    /// Its address on one network.
    #[track_caller]
    pub fn address(&self, container: &str, network: &str) -> String {
        let report = self.inspect(container);
        let networks = report.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        let end = networks.and_then(|networks| networks.get(network));
        let address = end.and_then(|end| end.get("IPAddress")).and_then(Value::as_str).unwrap_or_default();
        assert!(!address.is_empty(), "{container} has no address on {network}");
        address.to_owned()
    }

    /// Creates a container that is not started; returns its id.
    #[track_caller]
    pub fn create_container(&self, name: &str, body: &Value) -> String {
        text(&self.post(&format!("/containers/create?name={name}"), body), "/Id")
    }

    #[track_caller]
    pub fn start(&self, container: &str) {
        self.order(&format!("/containers/{container}/start"));
    }

    /// Waits for the end of a container's process; its exit code.
    #[track_caller]
    pub fn wait(&self, container: &str) -> i64 {
        let report = self.ask("POST", &format!("/containers/{container}/wait"), None).fine("wait").json();
        report.get("StatusCode").and_then(Value::as_i64).expect("an exit code")
    }

    #[track_caller]
    pub fn stop(&self, container: &str) {
        self.order(&format!("/containers/{container}/stop?t=20"));
    }

    #[track_caller]
    pub fn restart(&self, container: &str) {
        self.order(&format!("/containers/{container}/restart?t=20"));
    }

    #[track_caller]
    pub fn pause(&self, container: &str) {
        self.order(&format!("/containers/{container}/pause"));
    }

    #[track_caller]
    pub fn unpause(&self, container: &str) {
        self.order(&format!("/containers/{container}/unpause"));
    }

    #[track_caller]
    pub fn rename(&self, container: &str, name: &str) {
        self.order(&format!("/containers/{container}/rename?name={name}"));
    }

    #[track_caller]
    pub fn remove_container(&self, container: &str) {
        self.ask("DELETE", &format!("/containers/{container}?force=true&v=true"), None).fine("remove a container");
    }

    #[track_caller]
    pub fn remove_volume(&self, volume: &str) {
        self.ask("DELETE", &format!("/volumes/{volume}"), None).fine("remove a volume");
    }

    #[track_caller]
    pub fn remove_network(&self, network: &str) {
        self.ask("DELETE", &format!("/networks/{network}"), None).fine("remove a network");
    }

    #[track_caller]
    pub fn tag(&self, image: &str, repository: &str, tag: &str) {
        self.order(&format!("/images/{image}/tag?repo={repository}&tag={tag}"));
    }

    pub fn untag(&self, image: &str) {
        self.ask("DELETE", &format!("/images/{image}"), None);
    }

    #[track_caller]
    pub fn image_id(&self, image: &str) -> String {
        let reply = self.ask("GET", &format!("/images/{image}/json"), None);
        assert_eq!(reply.status, 200, "the engine does not have the image {image}; `make images` builds it");
        text(&reply.json(), "/Id")
    }

    /// Standard output and error of a container, as one text.
    pub fn logs(&self, container: &str) -> String {
        let reply = self.ask("GET", &format!("/containers/{container}/logs?stdout=1&stderr=1&timestamps=1"), None);
        reply.text().chars().filter(|c| !c.is_control() || *c == '\n').collect()
    }

    /// What the engine told its listeners in a span of time, in seconds with or without a fraction; one JSON object per line.
    pub fn events(&self, since: &str, until: &str) -> String {
        self.ask("GET", &format!("/events?since={since}&until={until}"), None).text()
    }

    /// Command lines and ids on the host of a container's processes.
    pub fn processes(&self, container: &str) -> Vec<u32> {
        let report = self.get(&format!("/containers/{container}/top?ps_args=-eo%20pid"));
        let rows = report.get("Processes").and_then(Value::as_array).cloned().unwrap_or_default();
        rows.iter().filter_map(|row| row.get(0)?.as_str()?.trim().parse().ok()).collect()
    }

    /// A file as the first process of a running container sees it.
    #[track_caller]
    pub fn file_inside(&self, container: &str, path: &str) -> Vec<u8> {
        let process = self.inspect(container).pointer("/State/Pid").and_then(Value::as_u64).unwrap_or_default();
        let path = format!("/proc/{process}/root{path}");
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// One file out of a container, which need not run.
    #[track_caller]
    pub fn file(&self, container: &str, path: &str) -> Vec<u8> {
        let files = self.tree(container, path);
        let (_, content) = files.into_iter().next().unwrap_or_else(|| panic!("{container} has no file at {path}"));
        content
    }

    /// All regular files below a path of a container.
    #[track_caller]
    pub fn tree(&self, container: &str, path: &str) -> BTreeMap<String, Vec<u8>> {
        let reply = self.ask("GET", &format!("/containers/{container}/archive?path={path}"), None).fine(path);
        let mut archive = tar::Archive::new(reply.body.as_slice());
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry of a tar");
            if entry.header().entry_type() == tar::EntryType::Regular {
                let name = entry.path().expect("a path").to_string_lossy().into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("the content of an entry");
                files.insert(name, content);
            }
        }
        files
    }

    /// Puts one file into a container's volume, as somebody with access to the engine could.
    #[track_caller]
    pub fn put_file(&self, container: &str, folder: &str, name: &str, content: &[u8], owner: u64, mode: u32) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        // Which editors leave, and lockstep does not.
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, name, content).expect("a tar in memory");
        let tar = tar.into_inner().expect("a tar in memory");
        let path = format!("/containers/{container}/archive?path={folder}");
        self.try_ask("PUT", &path, "application/x-tar", &tar).expect("the engine").fine("write a file");
    }

    /// Puts a symbolic link there.
    #[track_caller]
    pub fn put_link(&self, container: &str, folder: &str, name: &str, target: &str) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, name, target).expect("a tar in memory");
        let tar = tar.into_inner().expect("a tar in memory");
        let path = format!("/containers/{container}/archive?path={folder}");
        self.try_ask("PUT", &path, "application/x-tar", &tar).expect("the engine").fine("write a link");
    }

    /// Everything with a label: `container NAME`, `volume NAME`, `network NAME`.
    pub fn labelled(&self, label: &str, value: &str) -> BTreeSet<String> {
        let filters = json!({ "label": [format!("{label}={value}")] }).to_string();
        let filters = escape(&filters);
        let mut found = BTreeSet::new();
        for container in self.get(&format!("/containers/json?all=1&filters={filters}")).as_array().into_iter().flatten()
        {
            found.insert(format!("container {}", text(container, "/Names/0").trim_start_matches('/')));
        }
        let volumes = self.get(&format!("/volumes?filters={filters}"));
        for volume in volumes.get("Volumes").and_then(Value::as_array).into_iter().flatten() {
            found.insert(format!("volume {}", text(volume, "/Name")));
        }
        for network in self.get(&format!("/networks?filters={filters}")).as_array().into_iter().flatten() {
            found.insert(format!("network {}", text(network, "/Name")));
        }
        found
    }

    /// The values that a label has on anything.
    pub fn values_of(&self, label: &str) -> BTreeSet<String> {
        let filters = escape(&json!({ "label": [label] }).to_string());
        let containers = self.get(&format!("/containers/json?all=1&filters={filters}"));
        let volumes = self.get(&format!("/volumes?filters={filters}"));
        let networks = self.get(&format!("/networks?filters={filters}"));
        let lists = [Some(&containers), volumes.get("Volumes"), Some(&networks)];
        let objects = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
        objects.filter_map(|object| Some(object.get("Labels")?.get(label)?.as_str()?.to_owned())).collect()
    }

    /// Removes everything with a label, by id where ids exist: two networks may have one name.
    pub fn remove_labelled(&self, label: &str, value: &str) {
        let filters = escape(&json!({ "label": [format!("{label}={value}")] }).to_string());
        let list = |path: &str| self.try_ask("GET", path, "", &[]).map(|reply| reply.json()).unwrap_or_default();
        let remove = |path: String| _ = self.try_ask("DELETE", &path, "", &[]);
        for container in list(&format!("/containers/json?all=1&filters={filters}")).as_array().into_iter().flatten() {
            remove(format!("/containers/{}?force=true&v=true", text(container, "/Id")));
        }
        let volumes = list(&format!("/volumes?filters={filters}"));
        for volume in volumes.get("Volumes").and_then(Value::as_array).into_iter().flatten() {
            remove(format!("/volumes/{}?force=true", text(volume, "/Name")));
        }
        for network in list(&format!("/networks?filters={filters}")).as_array().into_iter().flatten() {
            remove(format!("/networks/{}", text(network, "/Id")));
        }
    }
}

/// The text at a place of a JSON value; empty where there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn escape(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

//! Servers full of data, their snapshots, and the programs that come with them.

use crate::engine::Connection;
use crate::ready::{Awaited, Kind};
use crate::snapshot::{mix, put};
use crate::watched::watched;
use crate::workshop::{self, Workshop};
use crate::{Options, ready};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const REDIS_6: &str = "lockstep/redis:6.0";
pub const REDIS_7: &str = "lockstep/redis:7.0";
/// What the operator of an environment signs in with.
pub const PASSWORD: &str = "bench-not-a-secret";

/// Made in the server, so that making it costs little: what a cache of pages holds, in every plain kind.
const MIXED: &str = r#"
math.randomseed(ARGV[1])
local words = { "page", "cache", "alpha", "node", "request", "title", "server", "green", "lantern", "window", "harbour",
    "copper", "meadow", "signal", "paper", "engine" }
local function prose(count)
    local chosen = {}
    for n = 1, count do chosen[n] = words[math.random(#words)] end
    return table.concat(chosen, " ")
end
local month = 30 * 86400
for id = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
    local turn = id % 20
    if turn < 7 then
        redis.call("SET", "page:" .. id, prose(math.random(3, 40)), "EX", month + id % 86400)
    elseif turn < 10 then
        redis.call("SET", "count:" .. id, math.random(1, 1000000))
    elseif turn < 12 then
        redis.call("SET", "session:" .. id, redis.sha1hex(id) .. redis.sha1hex(id + 1), "EX", month)
    elseif turn < 15 then
        redis.call("HSET", "user:" .. id, "name", prose(2), "mail", "user" .. id .. "@alphanode.example",
            "visits", id, "seen", 1700000000 + id)
    elseif turn < 16 then
        local items = {}
        for n = 1, 20 do items[n] = prose(3) end
        redis.call("RPUSH", "recent:" .. id, unpack(items))
    elseif turn < 17 then
        local members = {}
        for n = 1, 20 do members[n] = math.random(1, 100000) end
        redis.call("SADD", "ids:" .. id, unpack(members))
    elseif turn < 19 then
        local scored = {}
        for n = 1, 10 do
            scored[2 * n - 1] = math.random(1, 1000000) / 64
            scored[2 * n] = "article:" .. math.random(1, 100000)
        end
        redis.call("ZADD", "popular:" .. id, unpack(scored))
    else
        redis.call("SADD", "tags:" .. id, prose(1), prose(2), prose(1))
    end
end
return "OK"
"#;
/// Keys made by one run of the script; nothing else is served meanwhile.
const SLICE: u64 = 20_000;

pub fn mixed_keys(options: &Options) -> u64 {
    if options.full { 3_000_000 } else { 300_000 }
}

/// Bytes of the largest value that [`large`] makes.
pub const LARGEST: u64 = 100 << 20;
const LARGE_KEYS: u64 = 3_404;

/// A snapshot of the mixed keys as this image writes it. Made once for all groups.
pub fn mixed(workshop: &Workshop, options: &Options, image: &str) -> anyhow::Result<PathBuf> {
    snapshot(workshop, image, "mixed", |server| {
        let keys = mixed_keys(options);
        let mut client = Client::open(server.address)?;
        for from in (0..keys).step_by(SLICE as usize) {
            workshop::go_on()?;
            let (from, until) = (from.to_string(), keys.min(from + SLICE).to_string());
            client.ask(&[b"EVAL", MIXED.as_bytes(), b"0", from.as_bytes(), until.as_bytes()])?;
        }
        client.holds(keys)
    })
}

/// 2 GB that do not compress: 3,400 strings of half a megabyte, two of 80 and 100 MB, a list of 75 MB and a hash of 40 MB.
pub fn large(workshop: &Workshop) -> anyhow::Result<PathBuf> {
    snapshot(workshop, REDIS_7, "large", |server| {
        let mut client = Client::open(server.address)?;
        for number in 0..3_400u64 {
            client.ask(&[b"SET", format!("upload:{number}").as_bytes(), &noise(number, 512 << 10)])?;
        }
        for (key, bytes) in [("film", LARGEST), ("archive", 80 << 20)] {
            for at in 0..bytes >> 20 {
                client.ask(&[b"APPEND", key.as_bytes(), &noise(at + bytes, 1 << 20)])?;
            }
        }
        for block in 0..75u64 {
            let items: Vec<Vec<u8>> = (0..1024).map(|at| noise(block << 20 | at, 1 << 10)).collect();
            let words = [&b"RPUSH"[..], b"log"].into_iter().chain(items.iter().map(Vec::as_slice));
            client.ask(&words.collect::<Vec<_>>())?;
            let fields: Vec<Vec<u8>> = (0..20_480).map(|at| noise(block << 30 | at, 26)).collect();
            let words = [&b"HSET"[..], b"index"].into_iter().chain(fields.iter().map(Vec::as_slice));
            client.ask(&words.collect::<Vec<_>>())?;
        }
        client.holds(LARGE_KEYS)
    })
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8) as u64).flat_map(|at| mix(seed << 24 ^ at).to_le_bytes()).collect();
    noise.truncate(bytes);
    noise
}

fn snapshot(
    workshop: &Workshop,
    image: &str,
    name: &str,
    fill: impl FnOnce(&Server) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let path = workshop.room("data")?.join(format!("{name}-{}", image.replace(['/', ':'], "-"))).join("dump.rdb");
    if path.exists() {
        return Ok(path);
    }
    eprintln!("  filling a {image}: {name}");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let server = Server::start(workshop, image, None)?;
    fill(&server)?;
    watched(&mut pull(&Programs::of(workshop, image)?, server.address, &path))?;
    server.remove()?;
    Ok(path)
}

/// What one does without lockstep.
pub fn pull(programs: &Programs, address: SocketAddr, into: &Path) -> Command {
    let mut command = programs.command("redis-cli");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "--rdb"]).arg(into);
    command
}

/// A server of its own that keeps nothing and sends snapshots straight from memory, without delay.
pub struct Server {
    pub container: String,
    pub address: SocketAddr,
}

impl Server {
    /// Empty, or with what a snapshot holds.
    pub fn start(workshop: &Workshop, image: &str, snapshot: Option<&Path>) -> anyhow::Result<Server> {
        let container = workshop.name(&format!("server-{}", lockstep::store::random_hex::<3>()?));
        let binds = match snapshot.and_then(Path::parent) {
            Some(folder) => json!([format!("{}:/given:ro", folder.display())]),
            None => Value::Null,
        };
        let directory = if snapshot.is_some() { "/given" } else { "/data" };
        let command = format!(
            "redis-server --protected-mode no --appendonly no --repl-diskless-sync yes --repl-diskless-sync-delay 0 \
             --dir {directory} --save"
        );
        let command: Vec<&str> = command.split_whitespace().chain([""]).collect();
        let body = json!({ "Image": image, "Cmd": command, "HostConfig": { "Binds": binds } });
        let mut engine = Connection::open()?;
        engine.post(&format!("/containers/create?name={container}"), &body)?;
        engine.post(&format!("/containers/{container}/start"), &Value::Null)?;
        let awaited = Awaited { container: container.clone(), network: "bridge".to_owned(), kind: Kind::Redis };
        ready::wait_for_all(std::slice::from_ref(&awaited))?;
        let address = awaited.address(&mut engine)?.context("the server has no address")?;
        Ok(Server { container, address })
    }

    pub fn remove(self) -> anyhow::Result<()> {
        Connection::open()?.delete(&format!("/containers/{}?force=1&v=1", self.container))
    }
}

/// A connection that asks one thing after the other.
pub struct Client {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Client {
    pub fn open(address: SocketAddr) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { replies: BufReader::new(stream.try_clone()?), stream })
    }

    /// The answer without its line ends; that of a text is the text, and that of a list its parts, a line each.
    pub fn ask(&mut self, words: &[&[u8]]) -> anyhow::Result<String> {
        let mut command = Vec::new();
        put(&mut command, words);
        self.stream.write_all(&command)?;
        self.reply()
    }

    fn reply(&mut self) -> anyhow::Result<String> {
        let mut reply = String::new();
        self.replies.read_line(&mut reply)?;
        let rest = reply.trim().get(1..).unwrap_or_default();
        match reply.chars().next() {
            Some('+' | ':') => Ok(rest.to_owned()),
            Some('$') => {
                let mut text = vec![0; rest.parse::<usize>()? + 2];
                self.replies.read_exact(&mut text)?;
                Ok(String::from_utf8_lossy(&text).trim().to_owned())
            }
            Some('*') => {
                let parts = (0..rest.parse::<usize>()?).map(|_| self.reply()).collect::<anyhow::Result<Vec<String>>>();
                Ok(parts?.join("\n"))
            }
            _ => bail!("the server says: {}", reply.trim()),
        }
    }

    pub fn holds(&mut self, keys: u64) -> anyhow::Result<()> {
        let held = self.ask(&[b"DBSIZE"])?;
        if held != keys.to_string() {
            bail!("the server was to hold {keys} keys, and says {held}");
        }
        Ok(())
    }

    pub fn used_memory(&mut self) -> anyhow::Result<String> {
        let info = self.ask(&[b"INFO", b"memory"])?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.context("the server does not say how much memory it uses")?.trim().to_owned())
    }
}

/// The programs of an image, taken out of it, so that they run here like anything else: no container, same disk.
pub struct Programs {
    root: PathBuf,
}

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

impl Programs {
    pub fn of(workshop: &Workshop, image: &str) -> anyhow::Result<Programs> {
        let root = workshop.room("programs")?.join(image.replace(['/', ':'], "-"));
        if root.exists() {
            return Ok(Programs { root });
        }
        let container = workshop.name("programs");
        let mut engine = Connection::open()?;
        engine.post(&format!("/containers/create?name={container}"), &json!({ "Image": image, "Cmd": ["none"] }))?;
        let packed = engine.read(&format!("/containers/{container}/export"))?;
        engine.delete(&format!("/containers/{container}?force=1&v=1"))?;
        fs::create_dir_all(&root)?;
        tar::Archive::new(packed.as_slice()).unpack(&root).context("could not unpack an image")?;
        Ok(Programs { root })
    }

    /// Through the image's own loader, with its own libraries.
    pub fn command(&self, name: &str) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(self.root.join("usr/bin").join(name));
        command
    }
}

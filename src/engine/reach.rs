//! Which API an engine speaks, and whether its files lie on this machine, so that its volumes can be read where they are.

use crate::engine::EngineError;
use bollard::ClientVersion;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// What the file of Docker's daemon is called, also after a newer package has taken its place.
const DAEMON: &str = "dockerd";

/// What is known of an engine before anything is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Greeting {
    pub api: ClientVersion,
    /// Whether it runs beside us and sees the same files, so that a path that it names is that path here.
    pub here: bool,
}

/// Asks an engine at a Unix socket for the newest API that it speaks, which it says in a header of its answer to a ping (Docker
/// Engine API, `/_ping`). `GET /version` would say so as well, and takes five times as long: it asks containerd and runc.
pub async fn greet(socket: &Path) -> Result<Greeting, EngineError> {
    let unreachable = |error: &dyn std::error::Error| EngineError::Unreachable(super::sources(error));
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(&error))?;
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let request = Request::get("/_ping").header(hyper::header::HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| unreachable(&error))?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer,
        ended = connection => Err(ended.err().ok_or_else(|| EngineError::Unknown("it closed the connection".to_owned()))?),
    };
    let answer = answer.map_err(|error| EngineError::Unknown(super::sources(&error)))?;
    let api = answer.headers().get("api-version").and_then(|version| version.to_str().ok()).and_then(version);
    let api = api.ok_or_else(|| EngineError::Unreachable("what answers is not a Docker engine".to_owned()))?;
    Ok(Greeting { api, here: peer.is_some_and(|peer| is_here(peer, socket)) })
}

fn version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// Whether who listens is Docker's daemon with the same root and mounts as ours.
///
/// The kernel names the process that began to listen (`SO_PEERCRED`, unix(7)). That is the daemon, unless it was handed the
/// socket by an init system: then it is among those that have it open. A forwarder, which may lead to another machine, is
/// neither. Anything that cannot be seen, as by a user who is not root, counts as no.
fn is_here(peer: i32, socket: &Path) -> bool {
    let daemon = if is_daemon(peer) { Some(peer) } else { daemon_with(socket) };
    daemon.is_some_and(|daemon| same_files(daemon).unwrap_or(false))
}

fn is_daemon(process: i32) -> bool {
    let program = fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(" (deleted)") == DAEMON
}

fn same_files(process: i32) -> io::Result<bool> {
    let mounts = fs::read_link(format!("/proc/{process}/ns/mnt"))? == fs::read_link("/proc/self/ns/mnt")?;
    Ok(mounts && is_same(&fs::metadata(format!("/proc/{process}/root"))?, &fs::metadata("/")?))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The daemon that has a listening socket open which somebody else bound to a path.
fn daemon_with(socket: &Path) -> Option<i32> {
    let path = fs::canonicalize(socket).ok()?;
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    // `Num RefCount Protocol Flags Type St Inode Path` (proc(5)); the flag says that it listens.
    let listening = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, "00010000", _, _, inode, bound] = fields.as_slice() else { return None };
        fs::canonicalize(bound).is_ok_and(|bound| bound == path).then(|| format!("socket:[{inode}]"))
    });
    let sockets: Vec<PathBuf> = listening.map(PathBuf::from).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.find(|process| {
        let open = || fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        is_daemon(*process) && open().any(|file| fs::read_link(file.path()).is_ok_and(|file| sockets.contains(&file)))
    })
}

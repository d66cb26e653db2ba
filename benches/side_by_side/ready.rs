//! Asks services whether they answer, from the host at the container's address, and inside it as a health check.

use crate::engine::Connection;
use anyhow::bail;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Redis,
    Site,
}

/// Whether the service gives the answer of one that works.
pub fn answers(address: SocketAddr, kind: Kind) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let request = match kind {
            Kind::Redis => "PING\r\n".to_owned(),
            Kind::Site => format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
        };
        stream.write_all(request.as_bytes())?;
        let mut answer = [0u8; 256];
        let length = stream.read(&mut answer)?;
        let answer = answer.get(..length).unwrap_or_default();
        Ok(match kind {
            // Refusing a stranger takes a server that is past loading.
            Kind::Redis => answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH"),
            Kind::Site => answer.starts_with(b"HTTP/1.1 200"),
        })
    };
    ask().unwrap_or(false)
}

/// A container to wait for, and the network that it is reached on.
#[derive(Clone, Debug)]
pub struct Awaited {
    pub container: String,
    pub network: String,
    pub kind: Kind,
}

impl Awaited {
    pub fn port(&self) -> u16 {
        match self.kind {
            Kind::Redis => 6379,
            Kind::Site => 8080,
        }
    }

    pub fn address(&self, engine: &mut Connection) -> anyhow::Result<Option<SocketAddr>> {
        let report = engine.get(&format!("/containers/{}/json", self.container))?;
        let end = report.get("NetworkSettings").and_then(|settings| settings.get("Networks")?.get(&self.network));
        let address = end.and_then(|end| end.get("IPAddress")?.as_str()?.parse::<IpAddr>().ok());
        Ok(address.map(|ip| SocketAddr::new(ip, self.port())))
    }

    pub fn wait(&self, engine: &mut Connection) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut address = None;
        while began.elapsed() < PATIENCE {
            if address.is_none() {
                address = self.address(engine)?;
            }
            if address.is_some_and(|address| answers(address, self.kind)) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{} does not answer", self.container)
    }
}

/// Waits for all of them at once.
pub fn wait_for_all(awaited: &[Awaited]) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let waits: Vec<_> = awaited.iter().map(|one| scope.spawn(move || one.wait(&mut Connection::open()?))).collect();
        waits.into_iter().try_for_each(|wait| wait.join().unwrap_or_else(|_| bail!("a wait broke off")))
    })
}

/// `probe ADDRESS`: the site's health check, from inside its container, which has no shell.
pub fn probe(arguments: &[String]) -> ExitCode {
    let address = arguments.get(1).and_then(|address| address.parse().ok());
    if address.is_some_and(|address| answers(address, Kind::Site)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

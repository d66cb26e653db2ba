//! GET to a service's own address: does it answer, and with what?

pub mod raw;

use crate::value::Digest;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The most of an answer that is read.
const MAX_BODY: u64 = 8 << 20;
/// Of a header, so many bytes are shown.
const MAX_HEADER: usize = 200;

/// The status of GET `path`. The error says in a few words why there is none.
pub async fn get(address: SocketAddr, path: &str, within: Duration) -> Result<u16, String> {
    let asked = async {
        let mut visitor = Visitor::connect(address).await?;
        // Read to the end, so that a service that breaks off half-way does not count as answering.
        visitor.get(path, &[]).await.map(|page| page.status)
    };
    tokio::time::timeout(within, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: u16,
    /// Those that were asked for; an empty text where one is absent.
    pub headers: BTreeMap<String, String>,
    pub body: Digest,
    pub body_bytes: u64,
    /// Until the whole body was there.
    pub elapsed: Duration,
}

/// Somebody who keeps the connection open between pages, as browsers do.
#[derive(Debug)]
pub struct Visitor {
    address: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Visitor {
    pub async fn connect(address: SocketAddr) -> Result<Visitor, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(async move {
            // Whoever asks hears what went wrong.
            let _ = connection.await;
        });
        Ok(Visitor { address, sender, connection })
    }

    /// Whether the service has closed the connection since the last page.
    pub async fn is_gone(&mut self) -> bool {
        self.sender.ready().await.is_err()
    }

    /// Asks for a page; the names of headers are in lower case.
    pub async fn get(&mut self, path: &str, headers: &[&str]) -> Result<Page, String> {
        let request = Request::get(path)
            .header(hyper::header::HOST, self.address.to_string())
            .header(hyper::header::USER_AGENT, "lockstep")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let began = Instant::now();
        let response = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let shown = |name: &str| {
            let values = response.headers().get_all(name).iter();
            let values: Vec<String> =
                values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
            let text = values.join(", ");
            text.get(..text.floor_char_boundary(MAX_HEADER)).unwrap_or_default().to_owned()
        };
        let headers = headers.iter().map(|name| ((*name).to_owned(), shown(name))).collect();
        let mut body = response.into_body();
        let (mut hash, mut body_bytes) = (sha2::Sha256::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            let Some(data) = frame.data_ref() else { continue };
            body_bytes += data.len() as u64;
            if body_bytes > MAX_BODY {
                return Err(format!("the answer is longer than {MAX_BODY} bytes"));
            }
            hash.update(data);
        }
        let elapsed = began.elapsed();
        Ok(Page { status, headers, body: Digest::from_hash(&hash.finalize()), body_bytes, elapsed })
    }
}

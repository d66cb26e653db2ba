//! One request byte for byte as it is written here, and the beginning of the answer as it came.
//!
//! For what a proper client would not send: a body that is announced and withheld, too many headers, TRACE.

use crate::audit::facts::Answer;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Of an answer, so much is read.
const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 64 << 10;
/// How long a service may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Silence {
    /// Nobody listens, or the answer is none of HTTP.
    Broken(String),
    /// It closed the connection without a word.
    Closed,
    /// It listens and does not answer in time.
    Waits,
}

impl Silence {
    pub fn why(&self) -> String {
        match self {
            Silence::Broken(why) => why.clone(),
            Silence::Closed => "it closes the connection without an answer".to_owned(),
            Silence::Waits => format!("no answer within {} s", PATIENCE.as_secs()),
        }
    }
}

/// Sends a request without a body and reads the answer; `headers` are whole lines without their ends.
///
/// # Errors
/// No answer that begins as one of HTTP/1 does.
pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[String]) -> Result<Answer, Silence> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| Silence::Broken(error.to_string()))?;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: lockstep\r\n");
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        // Who refuses after the first lines may close before it has read the last: what it said is still there.
        let written = stream.write_all(text.as_bytes()).await;
        let bytes = read(&mut stream, method == "HEAD").await;
        match parse(&bytes) {
            Some(answer) => Ok(Answer { request: format!("{method} {path}"), ..answer }),
            None if bytes.is_empty() || written.is_err() => Err(Silence::Closed),
            None => Err(Silence::Broken("its answer is none of HTTP".to_owned())),
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Silence::Waits))
}

/// The head and the beginning of the body, as far as they come; a connection that breaks off ends both.
async fn read(stream: &mut TcpStream, headless: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8 << 10];
    while let Ok(count) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let head = end_of_head(&bytes);
        let whole = head.is_some_and(|head| headless || bytes.len() - head >= wanted(&bytes, head));
        if count == 0 || whole || head.is_none() && bytes.len() > MAX_HEAD {
            break;
        }
    }
    bytes
}

/// How much of the body is waited for.
fn wanted(bytes: &[u8], head: usize) -> usize {
    let answer = parse(bytes.get(..head).unwrap_or_default()).unwrap_or_default();
    let length = answer.header("content-length").and_then(|text| text.trim().parse::<usize>().ok());
    let none = matches!(answer.status, 204 | 304);
    if none { 0 } else { length.unwrap_or(MAX_BODY).min(MAX_BODY) }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Status line, headers and what there is of the body (RFC 9112).
fn parse(bytes: &[u8]) -> Option<Answer> {
    let head = end_of_head(bytes)?;
    let text = String::from_utf8_lossy(bytes.get(..head)?).into_owned();
    let mut lines = text.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split_whitespace().nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
    let body = String::from_utf8_lossy(bytes.get(head..)?).into_owned();
    Some(Answer { request: String::new(), status, headers, body })
}

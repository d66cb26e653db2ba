//! The engine's socket with nothing in between: plain HTTP/1.1, written and read by hand, kept alive.
//!
//! This is the floor that lockstep is measured against, so it does as little as can be done.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub const SOCKET: &str = "/var/run/docker.sock";
/// Docker 20.10.
const API: &str = "/v1.41";

pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub fn open() -> anyhow::Result<Connection> {
        let stream = UnixStream::connect(SOCKET).with_context(|| format!("could not reach the engine at {SOCKET}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Connection { stream: BufReader::with_capacity(64 << 10, stream) })
    }

    /// Sends one request and reads its whole answer.
    pub fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut request = format!("{method} {API}{path} HTTP/1.1\r\nHost: engine\r\n");
        if !body.is_empty() {
            request.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        if method != "GET" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.with_context(|| format!("the engine's answer does not read: {line:?}"))?;
        let (mut length, mut chunked) = (0usize, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => chunked = value.trim() == "chunked",
                _ => {}
            }
        }
        let mut body = Vec::new();
        if !chunked {
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
            return Ok((status, body));
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).context("a chunk without a size")?;
            let at = body.len();
            body.resize(at + size, 0);
            self.stream.read_exact(body.get_mut(at..).unwrap_or_default())?;
            line.clear();
            self.stream.read_line(&mut line)?;
            if size == 0 {
                return Ok((status, body));
            }
        }
    }

    /// GET without looking into the answer.
    pub fn read(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (status, body) = self.send("GET", path, "", &[])?;
        if status != 200 {
            bail!("GET {path}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    pub fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.read(path)?)?)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let (status, answer) = self.send("POST", path, "application/json", &bytes)?;
        if !(200..300).contains(&status) {
            bail!("POST {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer)?) }
    }

    /// Gone already is gone.
    pub fn delete(&mut self, path: &str) -> anyhow::Result<()> {
        let (status, answer) = self.send("DELETE", path, "", &[])?;
        if !(200..300).contains(&status) && status != 404 {
            bail!("DELETE {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    /// Builds an image from a packed context.
    pub fn build(&mut self, tag: &str, context: &[u8]) -> anyhow::Result<()> {
        let path = format!("/build?t={tag}&rm=1&forcerm=1&nocache=1");
        let (status, answer) = self.send("POST", &path, "application/x-tar", context)?;
        let said = String::from_utf8_lossy(&answer);
        if status != 200 || said.contains("\"errorDetail\"") {
            bail!("could not build {tag}: {status} {said}");
        }
        Ok(())
    }
}

/// A filter as the engine wants it in a query.
pub fn filter(key: &str, values: &[String]) -> String {
    let json = serde_json::json!({ key: values }).to_string();
    let mut text = String::from("filters=");
    for byte in json.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

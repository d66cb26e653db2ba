//! As much of an S3 server as a client of ours can tell from a real one, with faults on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Few enough that a list takes several answers.
const PAGE: usize = 3;

#[derive(Debug, Default)]
pub struct State {
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Requests that are still answered with 503 SlowDown.
    pub throttled: usize,
    /// PUTs that are acknowledged and forgotten.
    pub dropped: usize,
    /// PUTs that are carried out and answered with 500.
    pub answer_lost: usize,
    /// Answers to GET of an object end after this many bytes of it, once each.
    pub cut: Vec<usize>,
    /// Everything is refused.
    pub forbidden: bool,
    pub requests: Vec<String>,
    pub unsigned: usize,
}

pub struct S3 {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl S3 {
    pub fn start() -> S3 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // Ends with the process, as its connections do.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &state));
            }
        });
        S3 { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("the state"))
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut writer = stream;
    while let Some(request) = request(&mut reader) {
        let (status, headers, body, cut) = answer(&request, &mut state.lock().expect("the state"));
        let head = request.method == "HEAD";
        let mut text = format!("HTTP/1.1 {status} .\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let shown = if head { &[][..] } else { &body[..cut.unwrap_or(body.len()).min(body.len())] };
        if writer.write_all(text.as_bytes()).and_then(|()| writer.write_all(shown)).is_err() || cut.is_some() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().expect("a length"))];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    Some(Request { method, path: decoded(path), query, headers, body })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(&tail[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(hex, 16).expect("two digits"));
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).expect("text")
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>, Option<usize>);

fn error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>");
    (status, Vec::new(), body.into_bytes(), None)
}

fn answer(request: &Request, state: &mut State) -> Answer {
    state.requests.push(format!("{} {}", request.method, request.path));
    state.unsigned += usize::from(!request.headers.contains_key("authorization"));
    if state.throttled > 0 {
        state.throttled -= 1;
        return error(503, "SlowDown");
    }
    if state.forbidden {
        return error(403, "AccessDenied");
    }
    let Some(path) = request.path.strip_prefix("/bucket") else { return error(404, "NoSuchBucket") };
    let key = path.trim_start_matches('/').to_owned();
    let described = |bytes: &[u8]| {
        let tag = format!("\"{}\"", lockstep::value::Digest::of(bytes).short());
        vec![("etag", tag), ("last-modified", "Mon, 23 Nov 2026 05:12:00 GMT".to_owned())]
    };
    match request.method.as_str() {
        "GET" if request.query.contains_key("list-type") => list(request, state),
        "PUT" => {
            if request.headers.get("if-none-match").is_some_and(|tag| tag == "*") && state.objects.contains_key(&key) {
                return error(412, "PreconditionFailed");
            }
            let headers = described(&request.body);
            if state.dropped > 0 {
                state.dropped -= 1;
                return (200, headers, Vec::new(), None);
            }
            state.objects.insert(key, request.body.clone());
            if state.answer_lost > 0 {
                state.answer_lost -= 1;
                return error(500, "InternalError");
            }
            (200, headers, Vec::new(), None)
        }
        "GET" | "HEAD" => match state.objects.get(&key) {
            Some(bytes) => (200, described(bytes), bytes.clone(), state.cut.pop()),
            None => error(404, "NoSuchKey"),
        },
        "DELETE" => {
            state.objects.remove(&key);
            (204, Vec::new(), Vec::new(), None)
        }
        _ => error(405, "MethodNotAllowed"),
    }
}

fn list(request: &Request, state: &State) -> Answer {
    let prefix = request.query.get("prefix").map_or("", String::as_str);
    let after = request.query.get("continuation-token").map_or("", String::as_str);
    let mut rows = state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
    let page: Vec<(&String, &Vec<u8>)> = rows.by_ref().take(PAGE).collect();
    let more = rows.next().is_some();
    let mut xml = format!("<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{more}</IsTruncated>");
    for (key, bytes) in &page {
        xml.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-23T05:12:00.000Z</LastModified><Size>{}</Size></Contents>",
            bytes.len()
        ));
    }
    if let Some((last, _)) = page.last().filter(|_| more) {
        xml.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    xml.push_str("</ListBucketResult>");
    (200, vec![("content-type", "application/xml".to_owned())], xml.into_bytes(), None)
}

//! A proxy between lockstep and the engine that counts requests and can make one of them go wrong.
//!
//! Requests and answers are read whole before they are passed on, so a fault falls exactly before the engine acts
//! or after it did. What the engine was already asked is always finished: a killed client does not cancel it.

use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Answered by the proxy itself.
const SETTLE: &str = "/settle";

/// Which request it hits; numbers start at 1.
#[derive(Clone, Debug)]
pub enum At {
    /// Of all requests, this one.
    Request(usize),
    /// Of those that change something, this one.
    Mutation(usize),
    /// The first with this method and this piece of its path.
    Matching(&'static str, String),
    /// Of those with this method and this piece of their path, the one of this number.
    MatchingNth(&'static str, String, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to lockstep; the engine never hears of the request.
    KillBefore,
    /// SIGKILL to lockstep when the engine has done it, before the answer.
    KillAfter,
    /// The engine does it, and the connection breaks instead of an answer.
    LoseReply,
    /// Held until [`Proxy::release`] or [`Proxy::abandon`].
    Hold,
    /// The engine does it, and its answer is held in the same way.
    HoldReply,
    /// The engine never hears of it, and lockstep is told that it failed.
    Refuse,
    /// The engine never hears of it, and lockstep is told that there is no such thing, however often it asks.
    Deny,
    /// The engine never hears of it, and lockstep is told that somebody else is at it.
    Conflict,
    /// The engine never hears of it, and lockstep hears nothing for as long as it waits.
    Hang,
    /// SIGTERM to lockstep while it asks; the engine does it and answers.
    Terminate,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    /// Without the API version.
    pub path: String,
    pub body: Vec<u8>,
    /// What the engine answered; `None` until it did, or when it was never asked.
    pub status: Option<u16>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Call {
    pub fn matches(&self, method: &str, piece: &str) -> bool {
        self.method == method && self.path.contains(piece)
    }

    pub fn changes_something(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    fault: Option<(At, Fault)>,
    hit: Option<usize>,
    released: bool,
    abandoned: bool,
    victim: Option<u32>,
    /// Whether the engine hears late that lockstep is gone.
    late: bool,
    /// Connections that are open or still hold something that the engine was asked.
    connections: usize,
}

struct Shared {
    engine: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

pub struct Proxy {
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
}

impl Proxy {
    pub fn start() -> Proxy {
        Proxy::before(super::docker::SOCKET)
    }

    /// In front of the engine at this socket.
    pub fn before(engine: impl Into<PathBuf>) -> Proxy {
        let folder = tempfile::tempdir().expect("a folder for the proxy's socket");
        let listener = UnixListener::bind(folder.path().join("engine.sock")).expect("the proxy's socket");
        let shared = Arc::new(Shared { engine: engine.into(), state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        // Ends with the process; a connection that comes after the folder is gone has nobody to come from.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                shared.state().connections += 1;
                thread::spawn(move || {
                    let _ = shared.serve(client);
                    shared.state().connections -= 1;
                });
            }
        });
        Proxy { shared, folder }
    }

    /// For `DOCKER_HOST` or `engine:`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("engine.sock").display())
    }

    /// Forgets what was counted and waits for the next run.
    pub fn reset(&self) {
        self.settle();
        let mut state = self.shared.state();
        *state = State { connections: state.connections, ..State::default() };
    }

    pub fn arm(&self, at: At, fault: Fault) {
        self.reset();
        self.shared.state().fault = Some((at, fault));
    }

    /// Whom to kill; requests with a fatal fault wait until it is known.
    pub fn victim(&self, process: u32) {
        self.shared.state().victim = Some(process);
        self.shared.changed.notify_all();
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    pub fn mutations(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::changes_something).collect()
    }

    /// The request that the fault hit.
    pub fn hit(&self) -> Option<Call> {
        let state = self.shared.state();
        state.hit.and_then(|index| state.calls.get(index).cloned())
    }

    /// Waits until a request is held, or otherwise hit.
    pub fn wait_for_hit(&self) -> Call {
        super::until("the request that was to be hit", || self.hit())
    }

    /// Passes on what is held.
    pub fn release(&self) {
        self.shared.state().released = true;
        self.shared.changed.notify_all();
    }

    /// Forgets what is held; the engine never hears of it.
    pub fn abandon(&self) {
        self.shared.state().abandoned = true;
        self.shared.changed.notify_all();
    }

    /// Keeps the engine's side of what has become a line open until [`Proxy::release`], as a busy engine does that has not
    /// yet noticed that the other side is gone.
    pub fn notices_late(&self) {
        self.shared.state().late = true;
    }

    /// Once lockstep has ended: waits until the engine has finished all that it was asked.
    pub fn settle(&self) {
        // Connections are accepted in order, so when this one is answered no earlier one is still unseen.
        let mut last = UnixStream::connect(self.folder.path().join("engine.sock")).expect("the proxy's socket");
        write!(last, "GET {SETTLE} HTTP/1.1\r\n\r\n")
            .and_then(|()| last.read_to_end(&mut Vec::new()))
            .expect("the proxy");
        super::until("the engine to finish all that it was asked", || {
            (self.shared.state().connections == 0).then_some(())
        });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn serve(&self, mut client: UnixStream) -> io::Result<()> {
        let mut engine = UnixStream::connect(&self.engine)?;
        let mut requests = BufReader::new(client.try_clone()?);
        let mut answers = BufReader::new(engine.try_clone()?);
        while let Some(request) = read_head(&mut requests)? {
            let body = read_body(&mut requests, &request, false)?;
            if request.path == SETTLE {
                return Ok(());
            }
            let (index, fault) = self.count(&request, &body);
            match fault {
                Some(Fault::KillBefore) => {
                    self.signal(Signal::KILL);
                    return Ok(());
                }
                Some(refused @ (Fault::Refuse | Fault::Deny | Fault::Conflict)) => {
                    let text = r#"{"message":"refused by the test"}"#;
                    let status = match refused {
                        Fault::Deny => "404 Not Found",
                        Fault::Conflict => "409 Conflict",
                        _ => "500 Internal Server Error",
                    };
                    write!(
                        client,
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
                         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
                        text.len()
                    )?;
                    return Ok(());
                }
                Some(Fault::Hold) if self.is_abandoned() => return Ok(()),
                Some(Fault::Hang) => {
                    // Whoever gives up closes the connection, and nothing else comes over it until then.
                    let _ = requests.read(&mut [0])?;
                    return Ok(());
                }
                Some(Fault::Terminate) => self.signal(Signal::TERM),
                _ => {}
            }
            engine.write_all(&request.raw)?;
            engine.write_all(&body)?;
            let answer = read_head(&mut answers)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let content = read_body(&mut answers, &answer, request.method == "HEAD")?;
            if let Some(call) = self.state().calls.get_mut(index) {
                call.status = Some(answer.status);
            }
            match fault {
                Some(Fault::KillAfter) => {
                    self.signal(Signal::KILL);
                    return Ok(());
                }
                Some(Fault::HoldReply) if self.is_abandoned() => return Ok(()),
                Some(Fault::LoseReply) => {
                    client.shutdown(Shutdown::Both)?;
                    return Ok(());
                }
                _ => {}
            }
            client.write_all(&answer.raw)?;
            if answer.status == 101 {
                return self.tunnel(client, requests, engine, answers);
            }
            client.write_all(&content)?;
            if answer.until_close() {
                client.shutdown(Shutdown::Both)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Passes on what both sides say from here on, until one of them has nothing more to say.
    fn tunnel(
        &self,
        client: UnixStream,
        mut requests: BufReader<UnixStream>,
        engine: UnixStream,
        mut answers: BufReader<UnixStream>,
    ) -> io::Result<()> {
        let (mut to_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
        let back = thread::spawn(move || {
            let _ = io::copy(&mut answers, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let _ = io::copy(&mut requests, &mut to_engine);
        // The process at the other end is gone, or has been told that this is all.
        if self.state().late {
            let _ = self.is_abandoned();
        }
        engine.shutdown(Shutdown::Both)?;
        let _ = back.join();
        Ok(())
    }

    /// Waits until what is held is to go on, or is to be forgotten.
    fn is_abandoned(&self) -> bool {
        let state = self.changed.wait_while(self.state(), |state| !state.released && !state.abandoned);
        state.is_ok_and(|state| state.abandoned)
    }

    fn count(&self, request: &Head, body: &[u8]) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let path = match request.path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
            Some((_, rest)) => format!("/{rest}"),
            None => request.path.clone(),
        };
        let call = Call { method: request.method.clone(), path, body: body.to_vec(), status: None };
        state.calls.push(call.clone());
        let index = state.calls.len() - 1;
        let mutations = state.calls.iter().filter(|call| call.changes_something()).count();
        let again = matches!(state.fault, Some((_, Fault::Deny)));
        let hit = (again || state.hit.is_none())
            && match &state.fault {
                Some((At::Request(number), _)) => state.calls.len() == *number,
                Some((At::Mutation(number), _)) => call.changes_something() && mutations == *number,
                Some((At::Matching(method, piece), _)) => call.matches(method, piece),
                Some((At::MatchingNth(method, piece, number), _)) => {
                    let so_far = state.calls.iter().filter(|call| call.matches(method, piece)).count();
                    call.matches(method, piece) && so_far == *number
                }
                None => false,
            };
        let fault = state.fault.as_ref().map(|(_, fault)| *fault).filter(|_| hit);
        if hit {
            state.hit = Some(index);
        }
        (index, fault)
    }

    fn signal(&self, signal: Signal) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, Duration::from_secs(60), |state| state.victim.is_none());
        let victim = waited.ok().and_then(|(state, _)| state.victim).and_then(|id| Pid::from_raw(id.cast_signed()));
        // Whoever started it has not waited for it yet, so the id is still its own.
        let _ = kill_process(victim.expect("the proxy knows whom to signal"), signal);
    }
}

/// The first lines of a request or an answer.
pub struct Head {
    pub raw: Vec<u8>,
    pub method: String,
    pub path: String,
    /// 0 for a request.
    pub status: u16,
    pub length: Option<u64>,
    pub chunked: bool,
}

impl Head {
    fn without_body(&self) -> bool {
        matches!(self.status, 101 | 204 | 304)
    }

    /// Whether only the end of the connection ends the body.
    fn until_close(&self) -> bool {
        self.status != 0 && self.length.is_none() && !self.chunked && !self.without_body()
    }
}

/// `None` when the other side has nothing more to say.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head =
        Head { raw: Vec::new(), method: String::new(), path: String::new(), status: 0, length: None, chunked: false };
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return if head.raw.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let first = head.raw.is_empty();
        head.raw.extend_from_slice(&line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(head));
        }
        if first {
            let mut words = line.split(' ');
            let (one, two) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if one.starts_with("HTTP/") {
                head.status = two.parse().unwrap_or(0);
            } else {
                (head.method, head.path) = (one.to_owned(), two.to_owned());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().ok(),
                "transfer-encoding" => head.chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
    }
}

/// The body as it was sent, chunk sizes included.
fn read_body(reader: &mut impl BufRead, head: &Head, of_head: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if of_head || head.without_body() {
        return Ok(body);
    }
    if head.chunked {
        loop {
            let start = body.len();
            reader.read_until(b'\n', &mut body)?;
            let line = String::from_utf8_lossy(body.get(start..).unwrap_or_default()).into_owned();
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            reader.by_ref().take(size + 2).read_to_end(&mut body)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if head.until_close() {
        reader.read_to_end(&mut body)?;
    } else {
        reader.take(head.length.unwrap_or(0)).read_to_end(&mut body)?;
    }
    Ok(body)
}

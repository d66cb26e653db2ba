//! Taking an environment in hand, keeping it, and giving it back.
//!
//! A thread of its own does all of it, so that nothing else that this process is busy with makes the holder look dead. It
//! gives a sign every few seconds and then asks the engine whether the hold still stands. What it was told last is what
//! [`Fence`] goes by: while that is recent nobody can have taken the environment over, for others wait for the whole lease.

use crate::engine::hold::Line;
use crate::engine::{Engine, EngineError, Fence, Names};
use crate::failure::{Failure, Kind};
use crate::hold::{self, Found, Holder, Judgement, Sign, judge, whole};
use crate::store::now;
use crate::store::who::{Fate, fate, since_boot};
use crate::value::Span;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// Signs that a holder gives in the time of a lease, and the part of it for which the last answer is good.
const SIGNS: u32 = 20;
const GOOD_FOR: u32 = 4;
/// How long somebody who may not wait still looks whether the holder has just died.
const LINGER: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(60);
/// How long the engine may take to notice that a holder on this machine has died: a container with a process ends with it,
/// and an engine that is busy says so late.
const FAREWELL: Span = Span { milliseconds: 30_000 };
/// How long an engine may take to say whether a hold still stands.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long taking one may take beyond the waiting, while holds of others come and go.
const LONGEST: Duration = Duration::from_secs(120);
/// How long it may take to remove what ended.
const REMOVAL: Duration = Duration::from_secs(30);

/// A process that can stand for a hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand {
    pub image: String,
    pub words: Vec<String>,
    pub sign: Sign,
}

/// Who wants an environment.
#[derive(Clone, Debug)]
pub struct Request {
    pub names: Names,
    /// `unix:///path`
    pub engine: String,
    pub holder: Holder,
    /// What can stand for it; the first that the engine can start is taken.
    pub stands: Vec<Stand>,
    /// How long to wait for another holder.
    pub wait: Span,
}

/// An environment in hand. It is given back when this is dropped, and by the engine when the process ends.
#[derive(Debug)]
pub struct Hold {
    fence: Arc<Turn>,
    /// Whose place was taken, and why that was possible.
    pub instead_of: Vec<String>,
    thread: Option<JoinHandle<()>>,
}

impl Hold {
    /// What every engine that changes the environment has to be fenced with.
    pub fn fence(&self) -> Arc<dyn Fence> {
        self.fence.clone()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.fence.closing.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread knows.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Since the start of the machine: the hold stood at this moment, or later.
    stood: Duration,
    lost: Option<String>,
    closed: bool,
}

/// The fence of one hold.
#[derive(Debug)]
struct Turn {
    known: watch::Receiver<Known>,
    closing: watch::Sender<bool>,
    ask: mpsc::UnboundedSender<()>,
    good_for: Duration,
}

impl Fence for Turn {
    fn permit(&self) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let mut known = self.known.clone();
            let began = Instant::now();
            loop {
                {
                    let known = known.borrow_and_update();
                    if let Some(why) = &known.lost {
                        return Err(why.clone());
                    }
                    if known.closed {
                        return Err("the lock was given back, and a change was still to come".to_owned());
                    }
                    if since_boot().saturating_sub(known.stood) < self.good_for {
                        return Ok(());
                    }
                }
                // Nobody to hear it is seen below.
                let _ = self.ask.send(());
                let left = PATIENCE.saturating_sub(began.elapsed());
                if left.is_zero() || !matches!(timeout(left, known.changed()).await, Ok(Ok(()))) {
                    let why = "the engine does not say whether the environment is still locked for this run";
                    return Err(known.borrow().lost.clone().unwrap_or_else(|| why.to_owned()));
                }
            }
        }
        .boxed()
    }

    fn lost(&self) -> Option<String> {
        self.known.borrow().lost.clone()
    }
}

/// Takes the environment in hand. Whoever has it already is named in the failure; `waiting` hears whom it is waited for.
pub async fn take(request: Request, waiting: impl Fn(&str)) -> Result<Hold, Failure> {
    let lease = request.holder.lease.duration();
    let (orders, heard) = mpsc::unbounded_channel();
    let (told, known) = watch::channel(Known::default());
    let (closing, closed) = watch::channel(false);
    let (said, mut says) = mpsc::unbounded_channel();
    let (ready, taken) = oneshot::channel();
    let thread = thread::Builder::new().name("hold".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(stay(request, ready, heard, closed, told, said)),
            Err(error) => _ = ready.send(Err(Failure::new(Kind::Error, error))),
        }
    });
    let thread = thread.map_err(|error| Failure::new(Kind::Error, error))?;
    while let Some(line) = says.recv().await {
        waiting(&line);
    }
    let ended = |_gone| Failure::message(Kind::Error, "could not lock the environment: its thread ended");
    let instead_of = taken.await.map_err(ended)??;
    let fence = Arc::new(Turn { known, closing, ask: orders, good_for: lease / GOOD_FOR });
    Ok(Hold { fence, instead_of, thread: Some(thread) })
}

/// The life of a hold.
async fn stay(
    request: Request,
    ready: oneshot::Sender<Result<Vec<String>, Failure>>,
    heard: mpsc::UnboundedReceiver<()>,
    closed: watch::Receiver<bool>,
    told: watch::Sender<Known>,
    said: mpsc::UnboundedSender<String>,
) {
    let engine = match Engine::connect(&request.engine).await {
        Ok(engine) => engine,
        Err(error) => {
            let _ = ready.send(Err(failed(&request, error)));
            return;
        }
    };
    let mut instead_of = Vec::new();
    let taken = acquire(&engine, &request, &mut instead_of, &said).await;
    drop(said);
    let held = match taken {
        Ok(held) => held,
        Err(failure) => {
            let _ = ready.send(Err(failure));
            return;
        }
    };
    told.send_modify(|known| known.stood = held.since);
    if ready.send(Ok(instead_of)).is_err() {
        // Nobody wants it any more.
        let _ = timeout(REMOVAL, engine.kill_container(&held.id)).await;
        return;
    }
    keep(&engine, &request, held, heard, closed, told).await;
}

/// A hold of ours that stands.
struct Held {
    id: String,
    line: Option<Line>,
    sign: Sign,
    /// Since the start of the machine; it stood then, or later.
    since: Duration,
}

async fn acquire(
    engine: &Engine,
    request: &Request,
    instead_of: &mut Vec<String>,
    said: &mpsc::UnboundedSender<String>,
) -> Result<Held, Failure> {
    let began = Instant::now();
    let patience = request.wait.duration().max(LINGER);
    let mut stands = request.stands.iter();
    let mut stand = stands.next();
    let mut told = false;
    let mut unremoved = None;
    let mut watch = Watch::new(engine);
    loop {
        if began.elapsed() > patience + LONGEST {
            let why = unremoved.unwrap_or_else(|| EngineError::Unknown("its lock comes and goes".to_owned()));
            return Err(failed(request, why));
        }
        let Some(choice) = stand else {
            let message = format!("could not lock {}: none of its images can stand for it", request.names.environment);
            let help = "the engine needs the image of one service of the stack: `lockstep lock` names them";
            return Err(Failure::message(Kind::Error, message).help(help));
        };
        match begin(engine, request, choice).await {
            Ok(held) => return Ok(held),
            Err(Begun::Taken) => {}
            Err(Begun::Unfit) => {
                stand = stands.next();
                continue;
            }
            Err(Begun::Failed(error)) => return Err(failed(request, error)),
        }
        let found = engine.find_hold(&request.names).await.map_err(|error| failed(request, error))?;
        let Some(found) = found else {
            // Gone between the two questions.
            sleep(PAUSE).await;
            continue;
        };
        match watch.judge(&found) {
            Judgement::Foreign => return Err(foreign(request)),
            Judgement::Stale(why) => {
                let note = format!("{}: {why}", found.holder);
                // By its id: under its name there may be another by now.
                match timeout(REMOVAL, engine.kill_container(&found.id)).await {
                    // Somebody else is at it, or the engine is not done with it yet; for ever is ended above.
                    Ok(Err(error @ (EngineError::Conflict(_) | EngineError::Refused { status: 500, .. }))) => {
                        unremoved = Some(error);
                        sleep(PAUSE).await;
                    }
                    Ok(Err(error)) => return Err(failed(request, error)),
                    Ok(Ok(())) => {
                        if !instead_of.contains(&note) {
                            instead_of.push(note);
                        }
                        // What the engine is still making for somebody dead is not known to it yet.
                        if found.busy {
                            sleep(PAUSE).await;
                        }
                    }
                    Err(_elapsed) => return Err(failed(request, EngineError::Unknown("no answer in time".to_owned()))),
                }
            }
            Judgement::Undecided => sleep(PAUSE).await,
            Judgement::Held if began.elapsed() >= patience => return Err(refused(request, &found)),
            Judgement::Held => {
                if !told && request.wait > Span::default() && began.elapsed() > LINGER {
                    told = true;
                    let _ = said.send(format!("waiting for {}", held_by(request, &found)));
                }
                sleep(if began.elapsed() > LINGER { PAUSE * 5 } else { PAUSE }).await;
            }
        }
    }
}

/// Removes what a dead holder left; for those that need no hold of their own. Nobody who lives is disturbed.
pub async fn sweep(engine: &Engine, names: &Names) -> Result<(), EngineError> {
    let mut watch = Watch::new(engine);
    while let Some(found) = engine.find_hold(names).await? {
        match watch.judge(&found) {
            Judgement::Undecided => sleep(PAUSE).await,
            Judgement::Stale(_) => return engine.kill_container(&found.id).await,
            Judgement::Held | Judgement::Foreign => break,
        }
    }
    Ok(())
}

/// Who lives and holds an environment, if anybody does; waits for as long as it takes to tell a beginning from a remainder, and
/// where nothing but a pulse tells a holder who lives from a dead one, for that.
pub async fn living(engine: &Engine, names: &Names) -> Result<Option<Holder>, EngineError> {
    let mut watch = Watch::new(engine);
    let mut first = None;
    while let Some(found) = engine.find_hold(names).await? {
        let beats = *first.get_or_insert((found.id.clone(), found.pulse)) != (found.id.clone(), found.pulse);
        match watch.judge(&found) {
            Judgement::Undecided => sleep(PAUSE).await,
            Judgement::Held if found.holder.sign == Sign::PulseAlone && !beats => sleep(PAUSE * 5).await,
            Judgement::Held => return Ok(Some(found.holder)),
            Judgement::Stale(_) | Judgement::Foreign => break,
        }
    }
    Ok(None)
}

/// For how long a container has been found as it is.
struct Watch {
    /// Whether the engine runs on this machine.
    here: bool,
    of: Option<(String, hold::Stage, i64, Instant)>,
}

impl Watch {
    fn new(engine: &Engine) -> Watch {
        Watch { here: engine.is_here(), of: None }
    }

    /// What to make of it, now that it has been found as it is for so long.
    fn judge(&mut self, found: &Found) -> Judgement {
        let mut found = found.clone();
        // An engine that was too busy to say has not said that anything changed; but it may be busy with starting it.
        if let (true, Some((id, stage, pulse, _))) = (found.busy, &self.of)
            && *id == found.id
            && (*stage != hold::Stage::Made || !found.holder.sign.has_process())
        {
            (found.stage, found.pulse) = (*stage, *pulse);
        }
        let watched = self.unchanged(&found);
        let of_clock = found.holder.sign == Sign::Clock;
        match (judge(&found, watched), fate(&found.holder, self.here && of_clock)) {
            // A container with a process ends by itself, and one that still speaks has a holder, wherever that is.
            (Judgement::Held, Fate::Dead) if found.holder.sign.has_process() => {
                match (watched < FAREWELL, found.silent.is_some_and(|silent| silent < FAREWELL)) {
                    (true, _) => Judgement::Undecided,
                    (false, true) => Judgement::Held,
                    (false, false) => Judgement::Stale("its process has ended".to_owned()),
                }
            }
            (Judgement::Held, Fate::Dead) => Judgement::Stale("its process has ended".to_owned()),
            // Whatever kept its pulse from the engine.
            (Judgement::Stale(_), Fate::Lives) if of_clock && found.stage != hold::Stage::Ended => Judgement::Held,
            (judgement, _) => judgement,
        }
    }

    fn unchanged(&mut self, found: &Found) -> Span {
        let same = |(id, stage, pulse, _): &(String, hold::Stage, i64, Instant)| {
            *id == found.id && *stage == found.stage && *pulse == found.pulse
        };
        let seen = self.of.take().filter(same);
        let seen = seen.unwrap_or_else(|| (found.id.clone(), found.stage, found.pulse, Instant::now()));
        let milliseconds = u64::try_from(seen.3.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.of = Some(seen);
        Span { milliseconds }
    }
}

/// Why an attempt came to nothing.
enum Begun {
    /// Somebody has the name.
    Taken,
    /// What was to stand for it cannot be started.
    Unfit,
    Failed(EngineError),
}

async fn begin(engine: &Engine, request: &Request, stand: &Stand) -> Result<Held, Begun> {
    let holder = Holder { sign: stand.sign, ..request.holder.clone() };
    let pulse = (stand.sign == Sign::Clock).then(|| hold::pulse_at(now().as_second()));
    let id = match engine.make_hold(&request.names, &stand.image, &stand.words, &holder, pulse).await {
        Ok(id) => id,
        Err(EngineError::Conflict(_)) => return Err(Begun::Taken),
        // The image has gone since it was looked for.
        Err(EngineError::NotFound(_)) => return Err(Begun::Unfit),
        // It may have been made all the same: then it is never started, and taken for what it is.
        Err(error) => return Err(Begun::Failed(error)),
    };
    let since = since_boot();
    if let Some(pulse) = pulse {
        // An engine without a processor controller takes the number and forgets it.
        let kept = engine.pulse_of(&id).await.map(|kept| kept == pulse);
        if !matches!(kept, Ok(true)) {
            let _ = timeout(REMOVAL, engine.kill_container(&id)).await;
            return Err(kept.map_or_else(Begun::Failed, |_forgotten| Begun::Unfit));
        }
    }
    if !stand.sign.has_process() {
        return Ok(Held { id, line: None, sign: stand.sign, since });
    }
    let started = async {
        let mut line = engine.attach_hold(&id).await?;
        engine.start(&id).await?;
        if stand.sign == Sign::Lines {
            line.tell().await;
        }
        let since = since_boot();
        match engine.hold_stands(&id, stand.sign).await? {
            true => Ok((line, since)),
            false => Err(EngineError::NotFound("it ended".to_owned())),
        }
    };
    match started.await {
        Ok((line, since)) => Ok(Held { id, line: Some(line), sign: stand.sign, since }),
        Err(error) => {
            // By its id it is ours, or gone.
            let _ = timeout(REMOVAL, engine.kill_container(&id)).await;
            Err(match error {
                EngineError::NotFound(_) | EngineError::Conflict(_) => Begun::Taken,
                // What it is to run is not in the image.
                EngineError::Refused { status: 400, .. } => Begun::Unfit,
                error => Begun::Failed(error),
            })
        }
    }
}

async fn keep(
    engine: &Engine,
    request: &Request,
    mut held: Held,
    mut heard: mpsc::UnboundedReceiver<()>,
    mut closed: watch::Receiver<bool>,
    told: watch::Sender<Known>,
) {
    let every = request.holder.lease.duration() / SIGNS;
    let mut count: i64 = 0;
    loop {
        let mut ended = false;
        {
            let end = async {
                match &mut held.line {
                    Some(line) => line.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = closed.changed() => {
                    told.send_modify(|known| known.closed = true);
                    let _ = timeout(REMOVAL, engine.kill_container(&held.id)).await;
                    return;
                }
                () = end => ended = true,
                _ = heard.recv() => {}
                () = sleep(every) => {}
            }
        }
        if ended {
            held.line = None;
        }
        // Of several questions one answer is enough.
        while heard.try_recv().is_ok() {}
        count += 1;
        let moment = since_boot();
        let signed = async {
            match (&mut held.line, held.sign) {
                (Some(line), Sign::Lines) => line.tell().await,
                (_, Sign::Pulse | Sign::PulseAlone) => engine.pulse(&held.id, hold::pulse_at(count)).await?,
                // Where it is chosen, the engine goes by the same clock.
                (_, Sign::Clock) => engine.pulse(&held.id, hold::pulse_at(now().as_second())).await?,
                _ => {}
            }
            engine.hold_stands(&held.id, held.sign).await
        };
        let stands = match timeout(PATIENCE, signed).await {
            Ok(Ok(stands)) => stands && !ended,
            Ok(Err(error)) if error.is_not_found() => false,
            // Nobody knows; the fence closes by itself when it stays so.
            Ok(Err(_)) | Err(_) if !ended => continue,
            _ => false,
        };
        if stands {
            told.send_modify(|known| known.stood = moment);
        } else if let Some(again) = anew(engine, request, held.sign).await {
            held = again;
            told.send_modify(|known| known.stood = moment);
        } else {
            let why = lost(engine, request, &held.id).await;
            told.send_modify(|known| known.lost = Some(why));
            return;
        }
    }
}

/// Makes a copy's lock once more: one without a process goes with everything that does not run when somebody tidies up
/// (`docker container prune`), and nobody else wants its name.
async fn anew(engine: &Engine, request: &Request, sign: Sign) -> Option<Held> {
    let stand = request.stands.iter().find(|stand| stand.sign == Sign::Clock).filter(|_| sign == Sign::Clock)?;
    timeout(PATIENCE, begin(engine, request, stand)).await.ok()?.ok()
}

/// What happened to a hold that does not stand any more.
async fn lost(engine: &Engine, request: &Request, id: &str) -> String {
    let environment = &request.names.environment;
    let found = timeout(PATIENCE, engine.find_hold(&request.names)).await;
    let to = match found {
        Ok(Ok(Some(found))) if found.id == id => {
            // It is there still, without the connection that keeps it.
            let _ = timeout(REMOVAL, engine.kill_container(id)).await;
            ": its container ended, or the connection to it".to_owned()
        }
        Ok(Ok(Some(found))) => format!(" to {}, since {}", found.holder, moment(found.made)),
        Ok(Ok(_)) => ": its container was ended from outside".to_owned(),
        Ok(Err(error)) => format!(": {error}"),
        Err(_elapsed) => ": the engine does not answer".to_owned(),
    };
    format!("the lock of {environment} was lost{to}; no further change was made")
}

fn failed(request: &Request, error: EngineError) -> Failure {
    Failure::message(error.kind(), format!("could not lock {}: {error}", request.names.environment))
        .so_far("nothing was changed")
}

fn foreign(request: &Request) -> Failure {
    let name = request.names.container(hold::CONTAINER);
    let message = format!("could not lock {}: {name} is somebody else's container", request.names.environment);
    let help = "it has not this environment's labels, and was not touched; rename or remove it";
    Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed")
}

fn refused(request: &Request, found: &Found) -> Failure {
    let help =
        "wait for it with `--lock-wait 10m`; if its process is dead or stopped, the environment is free by itself";
    Failure::message(Kind::Refused, held_by(request, found)).help(help).so_far("nothing was changed")
}

fn held_by(request: &Request, found: &Found) -> String {
    let silent = found.silent.filter(|silent| silent.milliseconds * 4 > found.holder.lease.milliseconds);
    let silent = silent.map_or_else(String::new, |silent| format!(", silent for {}", whole(silent)));
    format!("{} is locked by {}, since {}{silent}", request.names.environment, found.holder, moment(found.made))
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}

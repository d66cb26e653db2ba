//! A restore into a running server, key by key, with a journal that takes it back.

use super::Task;
use crate::cli::RestoreArguments;
use crate::commands::backup::create::take;
use crate::commands::record::{About, Record, Recorder, Records, said};
use crate::commands::{Session, Signals, Verdict, open};
use crate::desired::OPERATOR;
use crate::digest::Key;
use crate::event::{Event, Listener as _};
use crate::failure::{Failure, Kind};
use crate::ledger::{End, Outcome, UNDO, WARM};
use crate::model::Environment;
use crate::plan::Plan;
use crate::project::Project;
use crate::redis::pull::Source;
use crate::redis::restore::{self, Options, Proof, Report, RestoreError, user};
use crate::redis::{self, Permit, Server};
use crate::restore::journal::{Journal, Reader};
use crate::store::{self, journals};
use crate::ui::Ui;
use crate::ui::progress::Progress;
use crate::value::{Name, ResourceId, Secret, ServerVersion};
use crate::world::ready;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the server may take to begin the snapshot that proves the restore.
const ALLOWANCE: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);

pub async fn run(task: Task<'_>, dry_run: bool) -> Result<Verdict, Failure> {
    let container = task.session.observed.state.container(task.service.as_str());
    let limit = container.map(|container| container.memory_bytes).filter(|limit| *limit > 0);
    if dry_run {
        return look(&task, limit).await;
    }
    let user = User::make(task.session, &task.service).await?;
    let done = recorded(&task, &user.source, limit).await;
    let gone = user.remove().await;
    let (report, proof, journal) = done?;
    gone?;
    let back = format!("lockstep restore {} --undo {}", task.environment.name, journal.display());
    if task.ui.is_json() {
        task.ui.json(&serde_json::json!({
            "format": 1, "environment": task.environment.name, "service": task.service,
            "backup": task.origin.manifest.id, "report": report, "proof": proof, "journal": journal,
        }));
    } else {
        task.ui.result(&format!("{report}\n{proof}\nto take it back: {back}\n"));
    }
    if proof.holds() {
        return Ok(None);
    }
    let message = format!("{} does not hold what was restored, or has been written to since", task.service);
    Err(Failure::message(Kind::Differences, message).help(format!("to take it back: {back}")))
}

type Done = (Report, Proof, PathBuf);

/// Says what it would come to. Nobody holds the environment for this and others may be restoring, so no user is made: it is
/// asked as lockstep's own.
async fn look(task: &Task<'_>, limit: Option<u64>) -> Result<Verdict, Failure> {
    let (address, password) = operator(task.session, &task.service).await?;
    let source = Source::new(address, OPERATOR, &password, SILENCE);
    let here_ms = store::now().as_millisecond();
    let (facts, unknown) = asked(task, move || {
        let mut session = restore::Session::look(&source, here_ms)?;
        let facts = session.facts(limit)?;
        Ok((facts, session.unknown().join(", ")))
    })
    .await?;
    if !unknown.is_empty() {
        task.ui.status(&format!("unknown, since lockstep's own user may not ask: {unknown}"));
    }
    let forecast = task.foresee(facts).await?;
    task.changed_nothing(&forecast);
    Ok(None)
}

/// Restores, with a record of it beside the backups from before the first key to after the last.
async fn recorded(task: &Task<'_>, source: &Source, limit: Option<u64>) -> Result<Done, Failure> {
    foreseen(task, source, limit).await?;
    let about = About { verb: WARM, ..task.about };
    let container = ResourceId::container(task.service.as_str());
    let made = journals::create(&task.project.root, task.environment.name.as_str(), task.service.as_str());
    let journal = made.map_err(|error| Failure::new(Kind::Error, error))?;
    let path = journal.1.display().to_string();
    let record = begin(task.project, task.environment, task.session, about, Some(container)).await?;
    let recorder = Recorder::new();
    let done = restore(task, source, &recorder, journal).await;
    let holds = matches!(&done, Ok((_, proof, _)) if proof.holds());
    let mut end = recorder.end(if holds { Outcome::Done } else { Outcome::Failed });
    end.journal = Some(path);
    match &done {
        Ok((_, proof, _)) if holds => end.verification = Some(proof.to_string()),
        Ok((_, proof, _)) => end.problem = Some(proof.to_string()),
        Err(failure) => end.problem = Some(failure.to_string()),
    }
    end.generations.clone_from(&task.session.generations);
    match (record.end(end).await, done) {
        (Ok(note), done) => {
            said(task.ui, note);
            done
        }
        (Err(unrecorded), Ok(done)) => {
            task.ui.status(&unrecorded.to_string());
            Ok(done)
        }
        (Err(_), Err(failure)) => Err(failure),
    }
}

/// Writes down that data is about to change. One of these that was killed has its journal, and is closed.
async fn begin(
    project: &Project,
    environment: &Environment,
    session: &Session,
    about: About<'_>,
    backed_up: Option<ResourceId>,
) -> Result<Record, Failure> {
    let records = Records::of(project, environment)?;
    if let Some(open) = records.unfinished().await?
        && open.begin.as_ref().is_some_and(|begin| begin.is_data_alone())
    {
        let said = "its process ended in the middle; its journal says what it did until then";
        records.close(open, Outcome::Interrupted, said).await?;
    }
    let plan = Plan::of_backup(&session.desired, backed_up);
    records.begin(project, environment, session, &plan, about).await
}

/// Says what it will come to, and asks whether it goes on.
async fn foreseen(task: &Task<'_>, source: &Source, limit: Option<u64>) -> Result<(), Failure> {
    let source = source.clone();
    let facts = asked(task, move || restore::Session::open(&source)?.facts(limit)).await?;
    task.foresee(facts).await?;
    task.confirm()
}

/// What a server says, which is waited for on a thread of its own.
async fn asked<T: Send + 'static>(
    task: &Task<'_>,
    ask: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, Failure> {
    let failed = |why: String| Failure::message(Kind::Error, format!("could not restore into {}: {why}", task.service));
    let asked = tokio::task::spawn_blocking(ask).await;
    asked.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

async fn restore(
    task: &Task<'_>,
    source: &Source,
    recorder: &Recorder,
    (file, path): (File, PathBuf),
) -> Result<Done, Failure> {
    let failed = |why: String| Failure::message(Kind::Error, format!("could not restore into {}: {why}", task.service));
    // What the journal does not hold, such as how often a key was used, is in here.
    let drawn = Progress::new(2);
    let progress = recorder.beside(&drawn);
    let repository = task.origin.repository.clone();
    let kept = take(task.session, task.service.as_str(), repository, task.about.reason, true, 1, &progress).await?;
    progress.hear(kept.kept(false));

    let signals = Signals::listen();
    let stop = Arc::new(AtomicBool::new(false));
    let summary = format!("restore {} into {}", task.origin.manifest.id, task.service);
    progress.hear(Event::StepStarted { number: 2, summary: summary.clone() });
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel::<u64>();
    let work = {
        let (origin, choice, source, stop) =
            (task.origin.clone(), task.choice.clone(), source.clone(), Arc::clone(&stop));
        let permit = permit(task.session);
        tokio::task::spawn_blocking(move || -> anyhow::Result<Done> {
            let session = restore::Session::open(&source)?.fenced(permit);
            let header = session.header(origin.manifest.id.as_bytes());
            let mut journal = Journal::begin(file, |file: &mut File| file.sync_data(), &header)?;
            let options = Options { choice: choice.clone(), functions: true, stop: Some(stop), ..Options::default() };
            let said = &mut |progress: restore::Progress| {
                // Nobody listening is no reason to stop.
                let _ = sender.send(progress.bytes_read);
            };
            let done = session.warm(origin.open()?, &options, &mut journal, &header, None, said);
            let closed = journal.finish();
            let report = done.map_err(|broken| {
                anyhow::anyhow!(
                    "{}; {} keys were restored; to take them back: --undo {}",
                    broken.error,
                    broken.report.restored,
                    path.display()
                )
            })?;
            closed?;
            let key = Key::new(store::random()?);
            // Asked anew: the server's clock has gone on.
            let session = restore::Session::open(&source)?;
            let proof = session.prove(origin.open()?, &choice, header.now_ms, &report.skipped_keys, ALLOWANCE, &key)?;
            Ok((report, proof, path))
        })
    };
    while let Some(done) = heard.recv().await {
        if signals.heard().is_some() {
            stop.store(true, Ordering::SeqCst);
        }
        progress.hear(Event::Bytes { number: 2, done });
    }
    let done = work.await.map_err(|error| failed(error.to_string()))?;
    let done = done.map_err(|error| failed(format!("{error:#}")))?;
    let elapsed_ms = u64::try_from(done.0.elapsed.as_millis()).unwrap_or(u64::MAX);
    progress.hear(Event::StepDone { number: 2, summary, elapsed_ms, outcome: done.0.to_string() });
    Ok(done)
}

/// What is asked before every pipeline of commands goes out.
fn permit(session: &Session) -> Permit {
    let (fence, runtime) = (session.engine.fence(), tokio::runtime::Handle::current());
    Permit::new(move || fence.as_ref().map_or(Ok(()), |fence| runtime.block_on(fence.permit())))
}

/// Takes a restore back.
pub async fn undo(
    ui: &Ui,
    project: &Project,
    environment: &Environment,
    arguments: &RestoreArguments,
    journal: &Path,
) -> Result<Verdict, Failure> {
    let file = journals::open(journal).map_err(|error| Failure::new(Kind::Usage, error))?;
    let session = open(project, environment).await?;
    let services = session.redis_services();
    let service = match (&arguments.service, services.as_slice()) {
        (Some(wanted), _) => super::service(&session, wanted)?,
        (None, [only]) => super::service(&session, only)?,
        (None, _) => {
            let message = format!("{} has several Redis; which one was restored into?", environment.name);
            return Err(Failure::message(Kind::Usage, message).help(format!("--service {}", services.join(" or "))));
        }
    };
    let whose = Reader::open(journals::open(journal).map_err(|error| Failure::new(Kind::Usage, error))?);
    let whose = whose.map_err(|error| Failure::new(Kind::Usage, anyhow::Error::new(error)))?;
    if whose.is_none() {
        match ui.is_json() {
            true => ui.json(&serde_json::json!({ "format": 1, "environment": environment.name, "undone": null })),
            false => ui.result("the journal is empty: nothing was restored\n"),
        }
        return Ok(None);
    }
    let session = session.take(ui, project, environment, super::why(arguments)).await?;
    let about = About { verb: UNDO, reason: &arguments.reason, rolls_back: None, data: &[] };
    let user = User::make(&session, &service).await?;
    let record = match begin(project, environment, &session, about, None).await {
        Ok(record) => record,
        Err(failure) => {
            user.remove().await?;
            return Err(failure);
        }
    };
    let permit = permit(&session);
    let source = user.source.clone();
    let anywhere = arguments.anywhere;
    let undone = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let mut session = restore::Session::open(&source)?.fenced(permit);
        Ok(session.undo(file, anywhere)?)
    })
    .await;
    let gone = user.remove().await;
    let undone = undone.map_err(|error| Failure::new(Kind::Error, error))?;
    let undone =
        undone.map_err(|error| Failure::new(Kind::Error, error).help("`--anywhere` says that it is this server"));
    let end = match &undone {
        Ok(undone) => End { outcome: Outcome::Done, verification: Some(undone.to_string()), ..End::default() },
        Err(failure) => End { outcome: Outcome::Failed, problem: Some(failure.to_string()), ..End::default() },
    };
    match record.end(end).await {
        Ok(note) => said(ui, note),
        Err(unrecorded) => ui.status(&unrecorded.to_string()),
    }
    let undone = undone?;
    gone?;
    if ui.is_json() {
        ui.json(
            &serde_json::json!({ "format": 1, "environment": environment.name, "service": service, "undone": undone }),
        );
    } else {
        ui.result(&format!("{service} of {}: {undone}\n", environment.name));
    }
    Ok(None)
}

/// A user of the server that may write keys, for as long as this takes. Lockstep's own never may.
struct User {
    operator: Server,
    service: Name,
    name: String,
    source: Source,
}

impl User {
    async fn make(session: &Session, service: &Name) -> Result<User, Failure> {
        let failed = |why: String| no_entry(service, &why);
        let (address, password) = operator(session, service).await?;
        let operator = redis::connect(address, OPERATOR, &password).await;
        let operator = operator.map_err(|error| failed(error.to_string()))?;
        session.engine.permit().await.map_err(|error| failed(error.to_string()))?;
        let version = operator.version().await.map_err(|error| failed(error.to_string()))?;
        let declared =
            session.desired.state.container(service.as_str()).and_then(|container| container.server.as_ref());
        let is_declared = |user: &str| declared.is_some_and(|server| server.users.contains_key(user));
        operator.remove_restorers(is_declared).await.map_err(|error| failed(error.to_string()))?;
        let name = user::name(store::random().map_err(|error| failed(error.to_string()))?);
        let secret = store::random_hex::<24>().map_err(|error| failed(error.to_string()))?;
        let mut rules = vec!["on".to_owned(), format!(">{secret}"), "~*".to_owned()];
        rules.extend(restore::COMMANDS.iter().filter(|rule| knows(version, rule)).map(|rule| (*rule).to_owned()));
        operator.set_user(&name, &rules).await.map_err(|error| failed(error.to_string()))?;
        let source = Source::new(address, &name, &Secret::new(secret), SILENCE);
        Ok(User { operator, service: service.clone(), name, source })
    }

    async fn remove(self) -> Result<(), Failure> {
        let User { operator, service, name, .. } = self;
        operator.remove_user(&name).await.map_err(|error| {
            let message = format!("could not remove user `{name}` from {service}: {error}");
            Failure::message(Kind::Error, message).help("`lockstep apply` removes it")
        })
    }
}

/// Where the server is, and lockstep's own password for it.
async fn operator(session: &Session, service: &Name) -> Result<(SocketAddr, Secret), Failure> {
    let password = session.secrets.operators.get(service.as_str()).cloned();
    let password = password.ok_or_else(|| no_entry(service, "lockstep's password for it is not known"))?;
    let address = ready::redis_address(&session.engine, &session.names, service.as_str()).await?;
    Ok((address, password))
}

fn no_entry(service: &Name, why: &str) -> Failure {
    Failure::message(Kind::Error, format!("could not enter {service}: {why}"))
}

/// Whether a server has this command: a rule about another one is refused.
fn knows(server: ServerVersion, rule: &str) -> bool {
    match rule {
        "+pexpiretime" | "+function" => server.speaks(7, 0),
        "+hpexpireat" => server.expires_fields(),
        _ => true,
    }
}

//! A change in the ledger: written down before it begins and when it has ended, with its note in the project.

use crate::commands::Session;
use crate::event::{Event, Listener};
use crate::failure::{Failure, Kind};
use crate::ledger::{Begin, End, Entry, Kept, Outcome, Performed};
use crate::model::Environment;
use crate::plan::Plan;
use crate::project::Project;
use crate::store::repository::Repository;
use crate::store::repository::ledger::{Ledger, LedgerError, Open};
use crate::store::{git, notes, who};
use crate::ui::Ui;
use crate::ui::progress::Progress;
use crate::value::Digest;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

/// How many of the newest changes are looked through for the last one that was carried out.
const LOOKED_THROUGH: usize = 50;

/// What a change says of itself in the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub verb: &'a str,
    pub reason: &'a str,
    /// The change that it takes back.
    pub rolls_back: Option<&'a str>,
    /// What the data that comes with it went through, a line each.
    pub data: &'a [String],
}

/// The changes of an environment, asked from a thread of their own.
#[derive(Clone, Debug)]
pub(super) struct Records {
    ledger: Ledger,
    root: PathBuf,
}

/// A change that is recorded as begun.
#[derive(Debug)]
pub(super) struct Record {
    records: Records,
    open: Open,
}

impl Records {
    pub fn of(project: &Project, environment: &Environment) -> Result<Records, Failure> {
        let repository = Repository::open(&project.root, environment).map_err(refused)?;
        Ok(Records { ledger: repository.ledger(), root: project.root.clone() })
    }

    async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Records) -> T + Send + 'static) -> Result<T, Failure> {
        let own = self.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&own)).await;
        asked.map_err(|error| Failure::new(Kind::Error, error))
    }

    /// The change that was begun and has no end.
    pub async fn unfinished(&self) -> Result<Option<Open>, Failure> {
        self.ask(|records| records.ledger.unfinished()).await?.map_err(refused)
    }

    /// All changes, oldest first.
    pub async fn entries(&self) -> Result<Vec<Entry>, Failure> {
        self.ask(|records| records.ledger.entries(usize::MAX)).await?.map_err(refused)
    }

    /// The newest change that did what it was meant to.
    pub async fn last_done(&self) -> Result<Option<Begin>, Failure> {
        let entries = self.ask(|records| records.ledger.entries(LOOKED_THROUGH)).await?.map_err(refused)?;
        let done = |end: &End| end.outcome == Outcome::Done;
        let done = entries.into_iter().rev().filter(|entry| entry.end.as_ref().is_some_and(done));
        let mut begun = done.filter_map(|entry| entry.begin).filter(|begin| !begin.is_data_alone());
        Ok(begun.next().filter(|begin| begin.verb != "down"))
    }

    /// Writes down that somebody else's change has no end of its own.
    pub async fn close(&self, open: Open, outcome: Outcome, problem: &str) -> Result<(), Failure> {
        let end = End { outcome, problem: Some(problem.to_owned()), ..End::default() };
        Record { records: self.clone(), open }.end(end).await.map(drop)
    }

    /// Writes down what is about to be done. Nothing is done without it.
    pub async fn begin(
        self,
        project: &Project,
        environment: &Environment,
        session: &Session,
        plan: &Plan,
        about: About<'_>,
    ) -> Result<Record, Failure> {
        let last = self.last_done().await?;
        let since = last.as_ref().and_then(|begin| begin.git.as_ref()?.commit.clone());
        let written = serde_json::to_vec(plan).map_err(|error| Failure::new(Kind::Error, error))?;
        let made = plan.steps.iter().filter(|step| step.action == crate::plan::Action::Create);
        let mut begin = Begin {
            verb: about.verb.to_owned(),
            reason: session.secrets.conceal(about.reason),
            owner: environment.owner.clone(),
            engine: session.engine.address.clone(),
            revision_before: last.map(|begin| begin.revision),
            revision: session.desired.state.digest().to_string(),
            fingerprint: project.fingerprint().to_string(),
            plan: Digest::of(&written).to_string(),
            steps: plan.steps.iter().map(crate::plan::Step::summary).collect(),
            makes: made.map(|step| step.resource.to_string()).collect(),
            command: who::command().iter().map(|word| session.secrets.conceal(word)).collect(),
            generations: session.generations.clone(),
            rolls_back: about.rolls_back.map(str::to_owned),
            texts: project.texts.clone(),
            ..Begin::default()
        };
        let (records, root) = (self.clone(), self.root.clone());
        let opened = self.ask(move |records| {
            begin.git = git::read(&root, since.as_deref());
            records.ledger.begin(&mut begin)
        });
        let open = opened.await?.map_err(|error| {
            let kind = if matches!(error, LedgerError::Unfinished(_)) { Kind::Refused } else { Kind::Backup };
            Failure::message(kind, error.to_string()).so_far("nothing was changed")
        })?;
        let record = Record { records, open };
        record.draft().await;
        Ok(record)
    }
}

fn refused(error: anyhow::Error) -> Failure {
    Failure::new(Kind::Backup, error.context("a change is recorded beside its backups, and that cannot be done now"))
        .so_far("nothing was changed")
}

impl Record {
    /// Best effort: the ledger has it, too.
    async fn draft(&self) {
        let (entry, root) = (self.open.entry(), self.records.root.clone());
        let _ = self.records.ask(move |_| notes::write(&root, &entry)).await;
    }

    /// Writes down how it ended, and the note. Says where the note is.
    pub async fn end(self, mut end: End) -> Result<Option<PathBuf>, Failure> {
        let open = self.open;
        let ended = self.records.ask(move |records| {
            let entry = records.ledger.end(&open, &mut end).map_err(|error| error.to_string())?;
            Ok::<_, String>(notes::write(&records.root, &entry).ok())
        });
        ended.await?.map_err(|why| {
            Failure::message(Kind::Error, format!("how the change ended could not be recorded: {why}"))
                .help("the next command that changes this environment records it as interrupted")
        })
    }
}

/// Hears a change and remembers what it did.
#[derive(Debug)]
pub(super) struct Recorder {
    began: Instant,
    performed: RefCell<Vec<Performed>>,
    kept: RefCell<Vec<Kept>>,
    unsaved: RefCell<BTreeSet<String>>,
    paused_ms: RefCell<Option<u64>>,
    away_ms: RefCell<Option<u64>>,
    /// Whether it is the way back that is heard.
    back: RefCell<bool>,
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder {
            began: Instant::now(),
            performed: RefCell::default(),
            kept: RefCell::default(),
            unsaved: RefCell::default(),
            paused_ms: RefCell::default(),
            away_ms: RefCell::default(),
            back: RefCell::new(false),
        }
    }

    /// From here on it is the way back.
    pub fn turn_back(&self) {
        *self.back.borrow_mut() = true;
    }

    /// A listener that remembers, and draws as the other does.
    pub fn beside<'r>(&'r self, progress: &'r Progress) -> Beside<'r> {
        Beside { recorder: self, progress }
    }

    /// The backups that were taken and proven so far.
    pub fn kept(&self) -> Vec<Kept> {
        self.kept.borrow().clone()
    }

    /// Servers that were ended before they had saved what they held.
    pub fn unsaved(&self) -> BTreeSet<String> {
        self.unsaved.borrow().clone()
    }

    /// What a record of the end says of the way.
    pub fn end(&self, outcome: Outcome) -> End {
        End {
            outcome,
            backups: self.kept(),
            actions: self.performed.borrow().clone(),
            writes_paused_ms: *self.paused_ms.borrow(),
            downtime_ms: *self.away_ms.borrow(),
            elapsed_ms: u64::try_from(self.began.elapsed().as_millis()).ok(),
            ..End::default()
        }
    }

    fn hear(&self, event: &Event) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match event {
            Event::StepDone { number, summary, elapsed_ms, outcome } => {
                let started_ms = now.saturating_sub(*elapsed_ms);
                self.performed.borrow_mut().push(Performed {
                    number: *number,
                    summary: summary.clone(),
                    outcome: outcome.clone(),
                    started_ms,
                    elapsed_ms: *elapsed_ms,
                    failed: false,
                });
            }
            Event::Unsaved { service } => _ = self.unsaved.borrow_mut().insert(service.clone()),
            Event::Kept { service, id, keys, bytes, proven } => self.kept.borrow_mut().push(Kept {
                id: id.clone(),
                service: service.clone(),
                proven: (*proven).to_owned(),
                keys: *keys,
                bytes: Some(*bytes),
                what: self.back.borrow().then(|| "writes made since the change began".to_owned()),
            }),
            Event::StepFailed { number, summary } => self.performed.borrow_mut().push(Performed {
                number: *number,
                summary: summary.clone(),
                outcome: "failed".to_owned(),
                started_ms: now,
                elapsed_ms: 0,
                failed: true,
            }),
            Event::WritesPaused { ms } => *self.paused_ms.borrow_mut() = Some(*ms),
            Event::Away { ms } => {
                let mut away = self.away_ms.borrow_mut();
                *away = Some(away.unwrap_or(0).max(*ms));
            }
            _ => {}
        }
    }
}

/// A recorder and a progress that hear the same.
#[derive(Debug)]
pub(super) struct Beside<'r> {
    recorder: &'r Recorder,
    progress: &'r Progress,
}

impl Listener for Beside<'_> {
    fn hear(&self, event: Event) {
        self.recorder.hear(&event);
        self.progress.hear(event);
    }
}

/// Says where a note lies.
pub(super) fn said(ui: &Ui, note: Option<PathBuf>) {
    if let Some(path) = note {
        ui.status(&format!("note: {}", path.display()));
    }
}

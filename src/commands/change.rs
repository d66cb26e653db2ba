//! A change as a transaction: carried out and proven, or taken back.

use crate::commands::record::{About, Recorder, Records, said};
use crate::commands::walk::{Walked, Way};
use crate::commands::{Session, Signals};
use crate::desired::{self, Desired, Generations};
use crate::engine::EngineError;
use crate::failure::{Failure, Kind};
use crate::finding::{has_errors, sort};
use crate::ledger::Outcome;
use crate::measure::{Expectation, Measure};
use crate::model::Environment;
use crate::parity::{self, Side, Verification};
use crate::plan::build::{self, Care};
use crate::plan::{Action, Plan, Step};
use crate::probe::expectation::{self, Expected};
use crate::probe::{Capture, Counted, Watched};
use crate::project::{self, Project, Scope};
use crate::state::{Observed, Resource, Volume};
use crate::store::repository::Repository;
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::value::{ResourceId, ResourceKind, Sources};
use crate::world::probe::{self, Keys, Subject};
use crate::world::rehearsal;
use crate::world::watch;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often one goes on after an answer that was lost, before it counts as a failure.
const LOST_ANSWERS: u32 = 3;
/// How often the way back is tried anew.
const WAYS_BACK: u32 = 4;
/// For how long what was started may not be as it should be yet, on the way there and back, and how often that is looked at.
const ANSWERS_AGAIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// What is asked for, and by what name it is remembered.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub ui: &'a Ui,
    pub project: &'a Project,
    pub sources: &'a Sources,
    pub environment: &'a Environment,
    pub about: About<'a>,
    /// What it is to bring about.
    pub expected: &'a [Expected],
    /// Data volumes that are meant, whichever are in use.
    pub chosen: &'a Generations,
    /// Whether a failure is taken back.
    pub undo: bool,
}

/// What came of a change that was carried out.
#[derive(Debug)]
pub(super) struct Changed {
    pub done: BTreeSet<u32>,
    pub verification: Verification,
    pub judged: Judged,
}

/// What was measured before, and what after.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub measures: Vec<Measure>,
    pub expectations: Vec<Expectation>,
    pub watched: Option<Watched>,
}

impl Change<'_> {
    /// Carries the plan out and looks whether everything is as it is meant. What fails is taken back, and the failure says so.
    /// Recorded before it begins and when it has ended.
    pub async fn carry_out(&self, session: &mut Session, plan: &Plan) -> Result<Changed, Failure> {
        let signals = Signals::listen();
        let records = Records::of(self.project, self.environment)?;
        let before = self.before(session, &records).await?;
        let there = data_volumes(&session.observed);
        let record = records.begin(self.project, self.environment, session, plan, self.about).await?;
        let recorder = Recorder::new();
        let mut judged = Judged::default();
        let result = self.attempt(session, plan, &signals, &recorder, &mut judged).await;
        let (outcome, result) = match result {
            Ok(done) => match self.commit(session, plan).await {
                Ok(()) => (Outcome::Done, Ok(done)),
                Err(failure) => (Outcome::Failed, Err(failure)),
            },
            // Somebody else changes it now; whoever does says what it is going to be.
            Err(failure) if failure.kind == Kind::Refused => return Err(failure),
            // Found out before anything was touched.
            Err(failure) if failure.kind == Kind::Undone => (Outcome::Undone, Err(failure)),
            Err(failure) if !self.undo => {
                let name = &self.environment.name;
                let again = format!("run the same command again to go on; `lockstep plan {name}` shows what is left");
                (Outcome::Failed, Err(failure.so_far(again)))
            }
            Err(failure) => {
                recorder.turn_back();
                let failure = self.back(session, &before, (&recorder, there), failure).await;
                let outcome = match failure.kind {
                    Kind::UndoIncomplete => Outcome::UndoIncomplete,
                    // The engine is gone, or somebody else's turn has come: the next run finds that this one did not end.
                    Kind::Engine | Kind::Refused => return Err(failure),
                    _ => Outcome::Undone,
                };
                (outcome, Err(failure))
            }
        };
        let mut end = recorder.end(outcome);
        end.data = self.about.data.to_vec();
        end.measures.clone_from(&judged.measures);
        end.expectations.clone_from(&judged.expectations);
        end.watched = judged.watched.as_ref().map(|watched| text::watched(watched).trim_end().to_owned());
        match &result {
            Ok((_, verification)) => {
                end.verification = Some(verified(verification));
                end.revision = Some(session.desired.state.digest().to_string());
                end.generations.clone_from(&session.desired.generations);
            }
            Err(failure) => {
                end.problem = Some(failure.to_string());
                end.generations.clone_from(&session.generations);
                if outcome == Outcome::UndoIncomplete {
                    end.hand_steps = failure.help.iter().flat_map(|help| help.lines().map(str::to_owned)).collect();
                }
            }
        }
        let recorded = record.end(end).await;
        match result {
            Ok((done, verification)) => {
                said(self.ui, recorded?);
                Ok(Changed { done, verification, judged })
            }
            Err(failure) => {
                match recorded {
                    Ok(note) => said(self.ui, note),
                    Err(unrecorded) => self.ui.status(&unrecorded.to_string()),
                }
                Err(failure)
            }
        }
    }

    /// What a failure goes back to: what is there now, or what was there before a change that nobody finished.
    async fn before(&self, session: &Session, records: &Records) -> Result<Desired, Failure> {
        let as_it_is = desired::as_it_was(&session.observed, &session.desired, &session.generations);
        let Some(open) = records.unfinished().await? else { return Ok(as_it_is) };
        let data_alone = open.begin.as_ref().is_some_and(|begin| begin.is_data_alone());
        let last = records.last_done().await?.filter(|_| !data_alone);
        records
            .close(open, Outcome::Interrupted, "its process ended in the middle; the next change went on from there")
            .await?;
        let Some(last) = last else { return Ok(as_it_is) };
        let name = self.environment.name.as_str();
        let loaded = project::load_texts(&self.project.root, &last.texts, Scope::Only(vec![name.to_owned()]));
        let was = loaded.project.and_then(|project| {
            let environment = project.environment(name).ok()?;
            project.desired(environment, &session.secrets, &session.generations).ok()
        });
        // A spec of then that does not read today says nothing better than what is there.
        Ok(was.unwrap_or(as_it_is))
    }

    /// The old servers go: the change stands.
    async fn commit(&self, session: &Session, plan: &Plan) -> Result<(), Failure> {
        for service in handed_over(plan) {
            session.remains(&service, None).commit().await?;
        }
        Ok(())
    }

    /// Carries it out, and compares what the environment does with what it did.
    async fn attempt(
        &self,
        session: &mut Session,
        plan: &Plan,
        signals: &Signals,
        recorder: &Recorder,
        judged: &mut Judged,
    ) -> Result<(BTreeSet<u32>, Verification), Failure> {
        let baseline = self.capture(session, Keys::Known(BTreeMap::new())).await?;
        let since = watch::now();
        let changed = self.forward(session, plan, signals, recorder).await?;
        self.judge(session, baseline, since, (signals, recorder), judged).await?;
        Ok(changed)
    }

    fn subject<'s>(&'s self, session: &'s Session) -> Subject<'s> {
        Subject {
            engine: &session.engine,
            names: &session.names,
            environment: self.environment,
            secrets: &session.secrets,
            observed: Some(&session.observed),
        }
    }

    async fn capture(&self, session: &Session, keys: Keys) -> Result<Capture, Failure> {
        probe::capture(self.subject(session), keys, &Progress::new(0)).await
    }

    /// Whether what the environment does is what it did and what was expected, for as long as the spec says.
    async fn judge(
        &self,
        session: &Session,
        mut before: Capture,
        since: i64,
        (signals, recorder): (&Signals, &Recorder),
        judged: &mut Judged,
    ) -> Result<(), Failure> {
        let environment = self.environment;
        let keys = match environment.keys.is_empty() {
            true => Keys::Known(BTreeMap::new()),
            false => {
                before.keys = self.keys_before(recorder).await?;
                Keys::Pull
            }
        };
        let after = self.capture(session, keys).await?;
        judged.measures = crate::probe::compare(&before, &after);
        let measures = &judged.measures;
        judged.expectations = self.expected.iter().map(|expected| expectation::evaluate(expected, measures)).collect();
        let mut findings = crate::probe::blamed(&before, &after, environment);
        let missed: Vec<&str> = judged.expectations.iter().filter(|of| !of.met).map(|of| of.text.as_str()).collect();
        if !missed.is_empty() {
            self.ui.status(text::measures(&judged.measures).trim_end());
            self.ui.status(text::expectations(&judged.expectations).trim_end());
            let message = format!("{} does not do what was expected: {}", environment.name, missed.join(", "));
            return Err(Failure::message(Kind::Error, message));
        }
        if let Some(rules) = environment.watch.as_ref().filter(|_| !has_errors(&findings)) {
            let stop = || signals.heard().is_some();
            let progress = Progress::new(0);
            let watched = watch::watch(self.subject(session), rules, Some(&before), since, &progress, &stop).await?;
            findings.extend(watched.findings.iter().cloned());
            judged.watched = Some(watched);
        }
        if let Some(number) = signals.heard() {
            return Err(Failure::message(Kind::Signal(number), "stopped by a signal while it was watched"));
        }
        sort(&mut findings);
        self.ui.findings(&findings, self.sources);
        match has_errors(&findings) {
            false => Ok(()),
            true => {
                let message = format!("{} does not do what it should: {}", environment.name, text::count(&findings));
                Err(Failure::message(Kind::Error, message))
            }
        }
    }

    /// What the keys were before the change, from the backups that it took.
    async fn keys_before(&self, recorder: &Recorder) -> Result<BTreeMap<String, Counted>, Failure> {
        let repository = Repository::open(&self.project.root, self.environment)?;
        let (kept, environment) = (recorder.kept(), self.environment.clone());
        let ruled = move |service: &str| environment.keys.iter().any(|rule| rule.on.as_str() == service);
        let environment = self.environment.clone();
        let counted = tokio::task::spawn_blocking(move || {
            let mut counts = BTreeMap::new();
            for kept in kept.into_iter().filter(|kept| ruled(&kept.service)) {
                let Some(manifest) = repository.get(&kept.id)?.and_then(|listed| listed.manifest) else { continue };
                if manifest.part(crate::backup::SNAPSHOT).is_some() {
                    // Where nothing on this machine opens it, nobody knows; that is no reason to take a change back.
                    let counted = probe::keys_of_backup(&repository, &manifest, &environment)
                        .unwrap_or_else(|failure| Counted { problem: Some(failure.to_string()), ..Counted::default() });
                    counts.insert(kept.service, counted);
                }
            }
            Ok::<_, Failure>(counts)
        });
        counted.await.map_err(|error| Failure::new(Kind::Error, error))?
    }

    async fn forward(
        &self,
        session: &mut Session,
        plan: &Plan,
        signals: &Signals,
        recorder: &Recorder,
    ) -> Result<(BTreeSet<u32>, Verification), Failure> {
        let mut plan = plan.clone();
        let (mut lost, mut makes) = (0, Vec::new());
        let walked = loop {
            let (desired, observed) = (&session.desired, &session.observed);
            let walked =
                self.way(session, recorder).walk((desired, observed), &plan, &|| signals.heard().is_some()).await?;
            if let Some(number) =
                signals.heard().filter(|_| walked.failure.is_none() && walked.done.len() < plan.steps.len())
            {
                let message = format!("stopped by a signal after {} of {} steps", walked.done.len(), plan.steps.len());
                return Err(Failure::message(Kind::Signal(number), message));
            }
            match walked.failure {
                None => break walked,
                Some(failure) if failure.kind == Kind::Engine && !walked.network && lost < LOST_ANSWERS => {
                    // It may have been done or not; only a new look tells.
                    lost += 1;
                    let creates = plan.steps.iter().filter(|step| step.action == Action::Create);
                    makes.extend(creates.map(|step| step.resource.to_string()));
                    self.ui.status(&format!("{failure}; looking again"));
                    let again = async {
                        session.renew(self.project, self.environment, self.chosen).await?;
                        if !session.observed.is_whole() {
                            session.settle().await?;
                            session.renew(self.project, self.environment, self.chosen).await?;
                        }
                        // A data volume for a server that did not come is not the one that is made now.
                        if session.clear(&makes).await? {
                            session.renew(self.project, self.environment, self.chosen).await?;
                        }
                        session.plan(self.project, self.environment)
                    };
                    plan = again.await.map_err(|_unread: Failure| failure)?;
                    if !plan.refusals.is_empty() {
                        self.ui.findings(&plan.refusals, self.sources);
                        let message = format!("the plan for {} is refused now", self.environment.name);
                        // Whatever refuses it, steps were done before.
                        return Err(Failure::message(Kind::Error, message));
                    }
                }
                // What a rehearsal or a backup says after an answer was lost says nothing of what was done before it.
                Some(failure) if matches!(failure.kind, Kind::Undone | Kind::Backup) && lost > 0 => {
                    return Err(Failure { kind: Kind::Error, so_far: None, ..failure });
                }
                Some(failure) => return Err(failure),
            }
        };
        let observed = session.observe_again(self.environment).await?;
        // An application that answered a moment ago and now asks for a moment more is no reason to go back.
        let may_pass = |found: &Verification| found.is_of_health_alone() && signals.heard().is_none();
        let verification = self.looked_at(session, &session.desired, observed, may_pass).await;
        if verification.findings.is_empty() {
            return Ok((walked.done, verification));
        }
        self.ui.status(text::verification(&verification, self.sources).trim_end());
        let message = format!("{} is not as it should be after the change", self.environment.name);
        Err(Failure::message(Kind::Error, message))
    }

    /// What was observed beside what it should be; looked at again for as long as what is found may pass by itself.
    async fn looked_at(
        &self,
        session: &Session,
        want: &Desired,
        observed: Observed,
        may_pass: impl Fn(&Verification) -> bool,
    ) -> Verification {
        let began = Instant::now();
        let mut verification = parity::drift(Side { want, have: &observed });
        while may_pass(&verification) && began.elapsed() < ANSWERS_AGAIN {
            tokio::time::sleep(PAUSE).await;
            if let Ok(observed) = session.observe_as(self.environment, want).await {
                verification = parity::drift(Side { want, have: &observed });
            }
        }
        verification
    }

    fn way<'w>(&'w self, session: &'w Session, recorder: &'w Recorder) -> Way<'w> {
        let Change { ui, project, environment, about, .. } = *self;
        Way { ui, project, environment, session, reason: about.reason, recorder }
    }

    /// Brings the environment back to what it was; the failure that comes back says how far that went.
    async fn back(
        &self,
        session: &Session,
        before: &Desired,
        (recorder, mut keep): (&Recorder, BTreeSet<String>),
        failure: Failure,
    ) -> Failure {
        let name = &self.environment.name;
        self.ui.status(&format!("{failure}"));
        self.ui.status(&format!("the change failed; {name} goes back to what it was"));
        let mut care = Care::Back;
        let mut last: Option<Failure> = None;
        for _ in 0..WAYS_BACK {
            match self.return_servers(session, before, recorder, &mut keep).await {
                Ok(()) => {}
                Err(failed) if failed.kind == Kind::Refused => return failed,
                Err(failed) => {
                    last = Some(failed);
                    continue;
                }
            }
            let observed = match session.observe_as(self.environment, before).await {
                Ok(observed) => observed,
                Err(unreachable) => {
                    last = Some(unreachable);
                    continue;
                }
            };
            let plan = build::back(&observed, before, care, &keep);
            if !plan.refusals.is_empty() {
                self.ui.findings(&plan.refusals, self.sources);
                last = Some(Failure::message(
                    Kind::Error,
                    format!("the way back is refused: {}", text::count(&plan.refusals)),
                ));
                break;
            }
            if plan.steps.is_empty() {
                // What has just been started again takes a moment to answer.
                let may_pass = |found: &Verification| !found.findings.is_empty();
                let verification = self.looked_at(session, before, observed, may_pass).await;
                if verification.findings.is_empty() {
                    return undone(failure, &recorder.unsaved());
                }
                self.ui.status(text::verification(&verification, self.sources).trim_end());
                last = Some(Failure::message(Kind::Error, "it differs from what it was in what is listed above"));
                break;
            }
            // What is spared now stays spared: the next look no longer sees the server that it was spared for.
            let going: BTreeSet<&str> = plan.steps.iter().map(|step| step.resource.name.as_str()).collect();
            let stays = |volume: &String| !going.contains(volume.as_str()) && before.state.volume(volume).is_none();
            keep.extend(data_volumes(&observed).into_iter().filter(stays));
            self.ui.status(text::plan(&plan).trim_end());
            match self.way(session, recorder).walk((before, &observed), &plan, &|| false).await {
                Ok(Walked { failure: None, .. }) => {}
                Ok(Walked { failure: Some(failed), .. }) | Err(failed) => {
                    if failed.kind == Kind::Refused {
                        return failed;
                    }
                    if failed.kind == Kind::Backup {
                        self.ui.status(&format!("{failed}; what it holds stays in its volume"));
                        care = Care::BackAsItIs;
                    } else {
                        self.ui.status(&failed.to_string());
                    }
                    last = Some(failed);
                }
            }
        }
        self.incomplete(session, before, (care, &keep), failure, last).await
    }

    /// Servers that were handed over come back, what the new ones hold kept as a backup first. Volumes of which that could not
    /// be done are added to those that stay.
    async fn return_servers(
        &self,
        session: &Session,
        before: &Desired,
        recorder: &Recorder,
        keep: &mut BTreeSet<String>,
    ) -> Result<(), Failure> {
        let observed = session.observe_again(self.environment).await?;
        for service in &observed.beside {
            let remains = session.remains(service, Some(before));
            remains.settle().await?;
            if !remains.has_old().await? {
                continue;
            }
            let volume = remains.volume().await?;
            // From now on it has its name, so that it can be found.
            let observed = session.observe_again(self.environment).await?;
            let id = ResourceId::container(service);
            let held = match remains.hold().await {
                Ok(()) => self.keep_what_came(session, &observed, recorder, &id).await,
                Err(failure) => Err(failure),
            };
            let kept = held.is_ok();
            match held {
                Err(failure) if failure.kind == Kind::Refused => return Err(failure),
                Err(failure) => {
                    keep.extend(volume);
                    self.ui.status(&format!("what the new {service} holds could not be backed up: {failure}"));
                }
                Ok(()) => {}
            }
            let left = remains.return_to_old().await?;
            if !kept {
                self.ui.status(&format!("of the new {service}: {}", left.say()));
            }
            self.ui.status(&format!("{service}: the server that ran before serves again"));
        }
        if observed.rehearsed {
            let failed =
                |error: EngineError| Failure::message(error.kind(), format!("a rehearsal is still there: {error}"));
            rehearsal::clear(&session.engine, &session.names).await.map_err(failed)?;
        }
        Ok(())
    }

    /// A backup of what was written since a server was handed over.
    async fn keep_what_came(
        &self,
        session: &Session,
        observed: &Observed,
        recorder: &Recorder,
        id: &ResourceId,
    ) -> Result<(), Failure> {
        let plan = Plan::of_backup(&session.desired, Some(id.clone()));
        let walked = self.way(session, recorder).walk((&session.desired, observed), &plan, &|| false).await?;
        walked.failure.map_or(Ok(()), Err)
    }

    async fn incomplete(
        &self,
        session: &Session,
        before: &Desired,
        (care, keep): (Care, &BTreeSet<String>),
        failure: Failure,
        last: Option<Failure>,
    ) -> Failure {
        let name = &self.environment.name;
        let why = last.as_ref().map_or_else(|| "it was tried several times".to_owned(), ToString::to_string);
        let Ok(observed) = session.observe_as(self.environment, before).await else {
            let message = format!("{failure}; and the engine cannot be asked any more: {why}");
            return Failure::message(Kind::Engine, message).help(format!(
                "when the engine answers again, run the same command: it finishes what was begun in {name}"
            ));
        };
        let plan = build::back(&observed, before, care, keep);
        let mut help = format!("what is left to do by hand for {name} to be as it was:");
        for step in &plan.steps {
            help.push_str(&format!("\n  {}", by_hand(session, step)));
        }
        help.push_str(&format!("\nor mend what is in the way and run `lockstep apply {name}` again"));
        Failure::message(Kind::UndoIncomplete, format!("{failure}; and it could not be taken back: {why}")).help(help)
    }
}

/// The volumes that hold data, whoever made them.
fn data_volumes(observed: &Observed) -> BTreeSet<String> {
    let volumes = observed.state.resources.iter().filter_map(|(id, resource)| match resource {
        Resource::Volume(Volume::Data { .. }) => Some(id.name.clone()),
        _ => None,
    });
    volumes.collect()
}

/// A verification in a line.
fn verified(verification: &Verification) -> String {
    let facts: u64 = verification.levels.iter().map(|level| level.compared).sum();
    format!("{facts} facts compared with what is meant, {} differ", verification.findings.len())
}

/// Services that a plan hands over.
fn handed_over(plan: &Plan) -> BTreeSet<String> {
    let steps = plan.steps.iter().filter(|step| matches!(step.action, Action::HandOver { .. }));
    steps.map(|step| step.resource.name.clone()).collect()
}

fn undone(failure: Failure, unsaved: &BTreeSet<String>) -> Failure {
    let kind = match failure.kind {
        kind @ (Kind::Backup | Kind::Signal(_) | Kind::Usage) => kind,
        _ => Kind::Undone,
    };
    let so_far = match kind {
        // A backup that fails is the first thing to fail.
        Kind::Backup => "nothing was changed",
        _ => "everything is as it was before",
    };
    let so_far = match unsaved.is_empty() {
        true => so_far.to_owned(),
        false => {
            let names = unsaved.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "{names} was ended before it had saved, and has what was in its volume; everything else is as it was before"
            )
        }
    };
    Failure { kind, ..failure }.so_far(so_far)
}

/// A step in the words of the engine's own command line, where it has some.
fn by_hand(session: &Session, step: &Step) -> String {
    let name = session.names.of(&step.resource);
    let noun = match step.resource.kind {
        ResourceKind::Container => "container",
        ResourceKind::Network => "network",
        ResourceKind::Volume => "volume",
    };
    match &step.action {
        Action::Remove => format!("docker {noun} rm {name}"),
        Action::Start => format!("docker start {name}"),
        Action::Stop => format!("docker stop {name}"),
        _ => step.summary(),
    }
}

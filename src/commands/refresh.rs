//! `lockstep refresh`: another environment's data, masked and chosen by rule, into new data volumes of this one.
//!
//! The other environment is only read, and most often not even that: its proven backup is. What is made of it is surveyed
//! first, so that whatever refuses it does so before anything is loaded; then it is loaded beside what runs, read back and
//! looked through, and the servers move to it as a change like any other.

use crate::cli::{Cli, RefreshArguments};
use crate::commands::backup::{create, readable};
use crate::commands::hold::Why;
use crate::commands::record::About;
use crate::commands::restore::{Task, cold, find};
use crate::commands::{Session, Signals, Verdict, load, open};
use crate::digest;
use crate::event::{Event, Listener as _};
use crate::failure::{Failure, Kind};
use crate::finding::{self, Finding};
use crate::mask::canary::{Canaries, Scanned};
use crate::mask::report::{self, Report};
use crate::mask::{Rules, survey};
use crate::model::Environment;
use crate::model::refresh::RefreshPlan;
use crate::project::Project;
use crate::restore::{Choice, Facts};
use crate::store;
use crate::store::repository::Repository;
use crate::store::seeds::Shelf;
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::value::{Name, Secret, Sources, Span};
use crate::world::fixture::Fixture;
use crate::world::restore::{Origin, Refreshed, Rewrite, way};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A shorter secret can be guessed from what it has masked.
const SHORTEST_SECRET: usize = 16;

pub async fn run(cli: &Cli, ui: &Ui, arguments: &RefreshArguments) -> Result<Verdict, Failure> {
    let (project, sources) = load(cli, ui, &[])?;
    refresh(ui, &project, &sources, arguments, false).await
}

/// Creates an environment with the data that `seed:` names, by a refresh of every Redis that some rule speaks of. What it
/// comes to is for whoever creates it to tell.
///
/// # Errors
/// Whatever refuses a refresh, with nothing made.
pub(super) async fn seed(
    ui: &Ui,
    project: &Project,
    sources: &Sources,
    environment: &Environment,
    (from, why): (&Name, Why<'_>),
) -> Result<(), Failure> {
    ui.status(&format!("{} is not there yet, and begins with the data of {from}", environment.name));
    let arguments = RefreshArguments {
        reason: if why.reason.is_empty() { "seed".to_owned() } else { why.reason.to_owned() },
        lock_wait: why.wait,
        ..unasked(environment, from.as_str())
    };
    refresh(ui, project, sources, &arguments, true).await.map(|_| ())
}

async fn refresh(
    ui: &Ui,
    project: &Project,
    sources: &Sources,
    arguments: &RefreshArguments,
    is_seed: bool,
) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let environment = project.environment(&arguments.environment)?;
    let plan = plan(environment)?;
    let from = from(project, environment, plan, arguments)?;
    let secret = secret(project, environment, plan)?;
    let mut session = open(project, environment).await?;
    session.decided()?;
    let services = services(&session, environment, plan, arguments.service.as_deref(), is_seed)?;
    let named: Vec<&Name> = services.iter().collect();
    // Before anything is asked of the source, and again once nobody else changes it; who waits for somebody else's change
    // cannot know before that.
    if arguments.dry_run || arguments.lock_wait == Span::default() {
        cold::moves_alone((ui, arguments.dry_run), project, environment, &session, &named).await?;
    }
    let mut origins = Vec::new();
    for service in &services {
        origins.push(origin(ui, project, &from, service, arguments).await?);
    }
    if !arguments.dry_run {
        let why = Why { verb: "refresh", reason: &arguments.reason, wait: arguments.lock_wait };
        session = session.take(ui, project, environment, why).await?;
        session.conclude(ui, project, environment).await?;
        session.decided()?;
        cold::moves_alone((ui, arguments.dry_run), project, environment, &session, &named).await?;
    }
    let draw = draw()?;
    let asked = Asked { environment, session: &session, plan, secret: &secret, salt: salt(plan, &draw) };
    let mut prepared = Vec::new();
    for (service, origin) in services.iter().zip(origins) {
        prepared.push(asked.prepare(service, origin).await?);
    }
    refused(ui, sources, &prepared, true)?;
    if arguments.dry_run {
        for prepared in &prepared {
            prepared.look(ui, sources).await?;
        }
        tell(ui, environment, &from, &prepared, None, began);
        return Ok(None);
    }
    let data: Vec<String> = prepared.iter().flat_map(Prepared::lines).collect();
    let about = About { verb: "refresh", reason: &arguments.reason, rolls_back: None, data: &data };
    let yes = arguments.yes;
    let task = |prepared: &Prepared| Task {
        ui,
        project,
        sources,
        environment,
        session: &session,
        service: prepared.service.clone(),
        origin: prepared.origin.clone(),
        choice: Choice::default(),
        yes,
        about,
    };
    let tasks: Vec<Task<'_>> = prepared.iter().map(task).collect();
    for task in &tasks {
        task.confirm()?;
    }
    let session = &session;
    let moving = cold::Moving { ui, project, sources, environment, session, about, expected: &[], undo: true };
    let mut loaded = Vec::new();
    for (task, prepared) in tasks.iter().zip(&prepared) {
        let (_, server) = cold::meant(task.session, &task.service)?;
        let rewrite = Rewrite::Refreshed(Arc::clone(&prepared.refreshed));
        match cold::load_as(task, server, Some(rewrite)).await {
            Ok(one) => loaded.push(one),
            Err(failure) => {
                moving.clear(&loaded).await;
                let so_far = failure.so_far.clone();
                return Err(failure.so_far(so_far.unwrap_or_else(|| "nothing was changed".to_owned())));
            }
        }
    }
    moving.run(&loaded).await?;
    let mut proven = Vec::new();
    for (task, loaded) in tasks.iter().zip(&loaded) {
        let compared = cold::prove(task, loaded).await?;
        if !ui.is_json() {
            ui.result(&cold::told(task, loaded, &compared, began.elapsed()));
        }
        proven.push(cold::json(task, loaded, &compared, began.elapsed()));
    }
    if !is_seed || !ui.is_json() {
        tell(ui, environment, &from, &prepared, Some(proven), began);
    }
    Ok(None)
}

/// What the spec says of refreshes; none of an environment that must not be written to.
fn plan(environment: &Environment) -> Result<&RefreshPlan, Failure> {
    let name = &environment.name;
    let Some(plan) = &environment.refresh else {
        let message = "the spec does not say where a refresh takes its data from";
        let help = "write `refresh: { from: production, secret: mask_key }`, and `refresh:` in each rule of `keys:`";
        return Err(Failure::message(Kind::Usage, message).help(help));
    };
    let refused = |message: String| Err(Failure::message(Kind::Refused, message).so_far("nothing was changed"));
    if *name == plan.from {
        return refused(format!("{name} is what refreshes are made from, and never refreshed itself"));
    }
    if environment.protected {
        return refused(format!("{name} is protected: nobody else's data is put in place of its own"));
    }
    Ok(plan)
}

/// The environment that the data comes from.
fn from(
    project: &Project,
    environment: &Environment,
    plan: &RefreshPlan,
    arguments: &RefreshArguments,
) -> Result<Environment, Failure> {
    let named = arguments.from.as_deref().filter(|from| project.environment(from).is_ok());
    let from = project.environment(named.unwrap_or(plan.from.as_str()))?;
    if from.name == environment.name {
        let message = format!("{} cannot be refreshed from itself", from.name);
        return Err(Failure::message(Kind::Usage, message).help("name another environment, or a backup of one"));
    }
    Ok(from.clone())
}

/// What masks are made with. Where nothing is made with it, any will do.
pub fn secret(project: &Project, environment: &Environment, plan: &RefreshPlan) -> Result<Secret, Failure> {
    let Some(name) = &plan.secret else {
        let drawn = store::random_hex::<32>().map_err(|error| Failure::new(Kind::Error, error))?;
        return Ok(Secret::new(drawn));
    };
    let secret = project.secret(environment, name)?;
    if secret.reveal().len() < SHORTEST_SECRET {
        let message = format!("the secret `{name}` has fewer than {SHORTEST_SECRET} bytes, and could be guessed");
        return Err(Failure::message(Kind::Usage, message).help("draw one: `openssl rand -hex 32`"));
    }
    Ok(secret)
}

/// The Redis services that are refreshed: those of whose keys some rule says what becomes of them.
fn services(
    session: &Session,
    environment: &Environment,
    plan: &RefreshPlan,
    wanted: Option<&str>,
    only_ruled: bool,
) -> Result<Vec<Name>, Failure> {
    let names = session.redis_services();
    let facts = names.iter().filter_map(|name| session.desired.service(name));
    let all: Vec<Name> = facts.map(|facts| facts.name.clone()).collect();
    let chosen: Vec<Name> =
        all.into_iter().filter(|name| wanted.is_none_or(|wanted| name.as_str() == wanted)).collect();
    if chosen.is_empty() {
        let message = format!("`{}` is not a Redis of {}", wanted.unwrap_or("(none)"), environment.name);
        return Err(Failure::message(Kind::Usage, message).help(format!("Redis services: {}", names.join(", "))));
    }
    let ruled = |name: &Name| Rules::of(plan, &environment.keys, name, b"", b"").say_anything();
    let some = chosen.iter().any(&ruled);
    if only_ruled && some {
        return Ok(chosen.into_iter().filter(ruled).collect());
    }
    match chosen.iter().find(|name| !ruled(name)) {
        None => Ok(chosen),
        Some(name) => {
            let message = format!("no rule under `keys:` says what becomes of the keys of {name} at a refresh");
            let help = "write `refresh:` in the rules of its keys, or choose another with `--service`";
            Err(Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed"))
        }
    }
}

/// The proven backup that is wanted: a new one, the one that is named, or the newest.
async fn origin(
    ui: &Ui,
    project: &Project,
    from: &Environment,
    service: &Name,
    arguments: &RefreshArguments,
) -> Result<Origin, Failure> {
    let id = match arguments.from.as_deref().filter(|named| project.environment(named).is_err()) {
        Some(id) => id.to_owned(),
        None if arguments.fresh => fresh(ui, project, from, service, arguments).await?,
        None => newest(project, from, service).await?,
    };
    let origin = find(project, from, &id).await?;
    if origin.manifest.service != service.as_str() && arguments.service.is_none() {
        let message = format!("`{id}` is a backup of {}, and {service} is to be refreshed", origin.manifest.service);
        let help = format!("say which one with `--service {}`", origin.manifest.service);
        return Err(Failure::message(Kind::Usage, message).help(help));
    }
    if !origin.can_be_opened() {
        let message = format!("`{id}` is encrypted, and no key is here that opens it");
        return Err(Failure::message(Kind::Refused, message).help("name one with `backup.identity`"));
    }
    Ok(origin)
}

async fn newest(project: &Project, from: &Environment, service: &Name) -> Result<String, Failure> {
    let (root, of, wanted) = (project.root.clone(), from.clone(), service.clone());
    let found = tokio::task::spawn_blocking(move || -> Result<Option<String>, Failure> {
        let listed = Repository::open(&root, &of)?.list()?;
        let fits = |backup: &&crate::backup::Listed| {
            // What came as a file is as old as it may be: it has to be named.
            let is_of =
                readable(backup).is_ok_and(|manifest| manifest.service == wanted.as_str() && !manifest.imported);
            is_of && backup.state.is_proven()
        };
        Ok(listed.iter().rev().find(fits).map(|backup| backup.id.clone()))
    });
    found.await.map_err(|error| Failure::new(Kind::Error, error))??.ok_or_else(|| {
        let message = format!("there is no proven backup of {service} of {}", from.name);
        let help = format!(
            "`lockstep backup create {} {service}` takes one, and so does `--fresh` of `lockstep refresh`",
            from.name
        );
        Failure::message(Kind::Refused, message).help(help).so_far("nothing was changed")
    })
}

/// A backup of this moment.
async fn fresh(
    ui: &Ui,
    project: &Project,
    from: &Environment,
    service: &Name,
    arguments: &RefreshArguments,
) -> Result<String, Failure> {
    let session = open(project, from).await?;
    let repository = Repository::open(&project.root, from).map_err(|error| Failure::new(Kind::Backup, error))?;
    let progress = Progress::new(1);
    let reason = format!("refresh {}", arguments.environment);
    let taken = create::take(&session, service.as_str(), repository, &reason, false, 1, &progress).await?;
    ui.status(&format!("{} was taken of {service} of {}", taken.id, from.name));
    Ok(taken.id)
}

/// What one Redis of a copy begins with: a backup of the environment that refreshes come from, as a refresh makes it, and
/// looked through before anything of it is written anywhere.
///
/// # Errors
/// Whatever refuses a refresh.
pub(super) async fn fixture(
    (ui, signals): (&Ui, &Signals),
    project: &Project,
    sources: &Sources,
    (environment, session): (&Environment, &Session),
    (service, backup): (&Name, Option<&str>),
    draw: &Draw,
) -> Result<Fixture, Failure> {
    let plan = plan(environment)?;
    let arguments = RefreshArguments {
        service: Some(service.to_string()),
        ..unasked(environment, backup.unwrap_or(plan.from.as_str()))
    };
    let from = from(project, environment, plan, &arguments)?;
    let secret = secret(project, environment, plan)?;
    services(session, environment, plan, Some(service.as_str()), false)?;
    let origin = origin(ui, project, &from, service, &arguments).await?;
    let asked = Asked { environment, session, plan, secret: &secret, salt: salt(plan, draw) };
    let place = asked.place(service, &origin)?;
    // Whoever makes the same is waited for.
    let _turn = match &place {
        Some((_, name)) => signals.turn(&format!("seed {name}"), 1).await?,
        None => None,
    };
    // One that is damaged is made again in its place.
    if let Some(path) = place.as_ref().and_then(|(shelf, name)| shelf.find(name))
        && let Ok(fixture) = Fixture::snapshot(&path).await
    {
        return Ok(fixture);
    }
    let prepared = asked.prepare(service, origin).await?;
    refused(ui, sources, std::slice::from_ref(&prepared), false)?;
    prepared.look(ui, sources).await?;
    let Prepared { origin, refreshed, .. } = prepared;
    if let Some((shelf, name)) = place {
        let (of, rewrite) = (origin.clone(), Rewrite::Refreshed(Arc::clone(&refreshed)));
        let kept = tokio::task::spawn_blocking(move || {
            shelf.put(&name, |file| {
                let written = rewrite.run(of.open()?, io::BufWriter::with_capacity(1 << 20, file));
                written.map_err(|error| io::Error::other(format!("{error:#}")))
            })
        });
        // Where it cannot be kept it is made once more, straight into the copy.
        if let Ok(Ok(path)) = kept.await
            && let Ok(fixture) = Fixture::snapshot(&path).await
        {
            return Ok(fixture);
        }
    }
    Ok(Fixture::refreshed(origin, refreshed))
}

/// A refresh that nobody asked for by that name, of an environment that has nothing yet which could be lost.
fn unasked(environment: &Environment, from: &str) -> RefreshArguments {
    RefreshArguments {
        environment: environment.name.to_string(),
        from: Some(from.to_owned()),
        fresh: false,
        service: None,
        dry_run: false,
        reason: String::new(),
        lock_wait: Span::default(),
        yes: true,
    }
}

/// What makes masks differ from one refresh to the next, where that is wanted. All servers of one refresh share it, so that
/// what one refers to is still found in another.
pub(super) type Draw = [u8; 16];

pub(super) fn draw() -> Result<Draw, Failure> {
    store::random().map_err(|error| Failure::new(Kind::Error, error))
}

fn salt<'d>(plan: &RefreshPlan, draw: &'d Draw) -> &'d [u8] {
    if plan.stable { &[] } else { draw }
}

/// What all services are prepared with.
struct Asked<'a> {
    environment: &'a Environment,
    session: &'a Session,
    plan: &'a RefreshPlan,
    secret: &'a Secret,
    salt: &'a [u8],
}

/// One Redis, surveyed.
struct Prepared {
    service: Name,
    origin: Origin,
    refreshed: Arc<Refreshed>,
    report: Report,
    findings: Vec<Finding>,
}

impl Asked<'_> {
    /// Where what is made of this is kept, and under which name; `None` for what another moment makes something else of.
    fn place(&self, service: &Name, origin: &Origin) -> Result<Option<(Shelf, String)>, Failure> {
        let (wanted, server) = cold::meant(self.session, service)?;
        // What fits one server is not said to fit another.
        let server = format!("{:?}", cold::facts(wanted, server, 0));
        // One that was drawn for this run alone makes nothing, and would be another name each time.
        let secret = if self.plan.secret.is_some() { self.secret.reveal() } else { &[] };
        let rules = Rules::of(self.plan, &self.environment.keys, service, secret, self.salt);
        let source = serde_json::to_string(&*origin.manifest).map_err(|error| Failure::new(Kind::Error, error))?;
        let name = rules.name(&source, &server).filter(|_| self.plan.stable);
        Ok(name.and_then(|name| Some((Shelf::of_user()?, name))))
    }

    async fn prepare(&self, service: &Name, origin: Origin) -> Result<Prepared, Failure> {
        let (wanted, server) = cold::meant(self.session, service)?;
        let facts = cold::facts(wanted, server, store::now().as_millisecond());
        let counts = &origin.manifest.counts;
        let unknown = || Failure::message(Kind::Differences, format!("the format `{}` is not known", counts.rdb));
        let (family, format) = counts.format().ok_or_else(unknown)?;
        let way = way(family, format, server, facts.now_ms);
        let rules = Rules::of(self.plan, &self.environment.keys, service, self.secret.reveal(), self.salt);
        let progress = Progress::new(1);
        let summary = format!("read {} and count what becomes of it", origin.manifest.id);
        progress.hear(Event::StepStarted { number: 1, summary: summary.clone() });
        let began = Instant::now();
        let key = digest::Key::new(store::random().map_err(|error| Failure::new(Kind::Error, error))?);
        let of = origin.clone();
        let read = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let mut surveyed = survey::survey(&rules, way, of.open()?, &key)?;
            let sample = std::mem::take(&mut surveyed.survey.sample);
            let canaries = Canaries::new(sample, &rules.canaries);
            Ok(Refreshed { rules, way, surveyed, canaries, key })
        });
        let read = read.await.map_err(|error| Failure::new(Kind::Error, error))?;
        let refreshed = read.map_err(|error| {
            let damaged = error.downcast_ref::<crate::rdb::RdbError>().is_some_and(crate::rdb::RdbError::is_damage);
            let kind = if damaged { Kind::Differences } else { Kind::Error };
            Failure::new(kind, error.context(format!("could not read the backup `{}`", origin.manifest.id)))
        })?;
        let report = Report::of(&refreshed.rules, &refreshed.surveyed, refreshed.canaries.len());
        if report.source.keys != counts.keys {
            let message =
                format!("`{}` holds {} keys, and not {}", origin.manifest.id, report.source.keys, counts.keys);
            return Err(Failure::message(Kind::Differences, message).help("it is not what was captured; use another"));
        }
        let outcome = format!("{} of {} keys", report.result.keys, report.source.keys);
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress.hear(Event::StepDone { number: 1, summary, elapsed_ms, outcome });
        let mut findings = report::findings(&refreshed.rules, &refreshed.surveyed);
        findings.extend(suits(&refreshed, &facts, &report));
        Ok(Prepared { service: service.clone(), origin, refreshed: Arc::new(refreshed), report, findings })
    }
}

/// Whether the server is one that the result can be loaded into.
fn suits(refreshed: &Refreshed, facts: &Facts, report: &Report) -> Vec<Finding> {
    let mut findings = report::room(report, facts.maxmemory, facts.memory_limit);
    if facts.is_cluster {
        let what = "the server is one of a cluster, and its keys belong to the slots that it serves";
        findings.push(Finding::error("refresh-cluster", what));
    }
    let highest = refreshed.surveyed.result.databases.keys().next_back().copied().unwrap_or(0);
    if highest >= facts.databases {
        let what = format!("database {highest} does not exist on the server, which has {}", facts.databases);
        let help = format!("set `databases {}` or more", highest + 1);
        findings.push(Finding::error("databases", what).help(help));
    }
    findings
}

/// Ends here where something is wrong with what one of them would get.
fn refused(ui: &Ui, sources: &Sources, prepared: &[Prepared], in_full: bool) -> Result<(), Failure> {
    let mut all = Vec::new();
    for prepared in prepared {
        if in_full && !ui.is_json() {
            ui.status(&text::printable(&prepared.lines().join("\n")));
        }
        ui.findings(&prepared.findings, sources);
        all.extend(prepared.findings.iter().cloned());
    }
    if finding::has_errors(&all) {
        let message = format!("the refresh is refused: {}", text::count(&all));
        return Err(Failure::message(Kind::Refused, message).so_far("nothing was loaded"));
    }
    Ok(())
}

impl Prepared {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{}: from {}, {} of {} keys, {} bytes",
            self.service,
            self.origin.manifest.id,
            self.report.result.keys,
            self.report.source.keys,
            self.report.result.bytes
        )];
        lines.extend(self.report.lines());
        lines.push(format!("{} texts of the source are looked for in what is loaded", self.report.canaries));
        lines
    }

    /// Makes it once more and looks through it for what may not be there, without loading it anywhere.
    async fn look(&self, ui: &Ui, sources: &Sources) -> Result<(), Failure> {
        let (origin, refreshed) = (self.origin.clone(), Arc::clone(&self.refreshed));
        let looked = tokio::task::spawn_blocking(move || -> anyhow::Result<Scanned> {
            survey::look(&refreshed.rules, refreshed.way, origin.open()?, &refreshed.canaries)
        });
        let looked = looked.await.map_err(|error| Failure::new(Kind::Error, error))?;
        let scanned = looked.map_err(|error| Failure::new(Kind::Error, error))?;
        let leaks = report::leaks(&self.refreshed.rules, &self.refreshed.surveyed, &scanned);
        ui.findings(&leaks, sources);
        if finding::has_errors(&leaks) {
            let message = format!("the refresh would be refused: {}", text::count(&leaks));
            return Err(Failure::message(Kind::Refused, message).so_far("nothing was loaded"));
        }
        Ok(())
    }
}

fn tell(
    ui: &Ui,
    environment: &Environment,
    from: &Environment,
    prepared: &[Prepared],
    loaded: Option<Vec<serde_json::Value>>,
    began: Instant,
) {
    let dry = loaded.is_none();
    if ui.is_json() {
        let services: Vec<serde_json::Value> = prepared
            .iter()
            .enumerate()
            .map(|(place, prepared)| {
                serde_json::json!({
                    "service": prepared.service, "backup": prepared.origin.manifest.id, "report": prepared.report,
                    "findings": prepared.findings,
                    "loaded": loaded.as_ref().and_then(|loaded| loaded.get(place)),
                })
            })
            .collect();
        ui.json(&serde_json::json!({
            "format": 1, "environment": environment.name, "from": from.name, "dry_run": dry, "services": services,
            "elapsed_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
        return;
    }
    let canaries: usize = prepared.iter().map(|prepared| prepared.report.canaries).sum();
    ui.result(&match dry {
        true => format!("none of {canaries} texts of the source is in what would be loaded; nothing was loaded\n"),
        false => format!("none of {canaries} texts of the source is in what was loaded; every digest adds up\n"),
    });
}

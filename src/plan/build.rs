//! Turns two states into the ordered steps that make the first equal the second.
//!
//! Nothing here talks to the engine or asks anybody: a step that would lose data is marked, and
//! `commands` do the asking.

use crate::desired::{Desired, FILES, ServiceFacts};
use crate::diff::{self, Change};
use crate::directive;
use crate::finding::Finding;
use crate::plan::effect::{self, Means};
use crate::plan::{Action, Cause, Effect, Plan, Risk, Step};
use crate::spec::Rehearse;
use crate::state::{Container, Observed, Resource, Role, State, Value, Volume};
use crate::value::{Bytes, Name, ResourceId, ResourceKind, ServerVersion};
use std::collections::{BTreeMap, BTreeSet};

/// How the image ends of a service that the lock has none for.
const NOT_LOCKED: &str = "(not locked)";

/// How careful a plan is with data that nobody has a copy of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// A backup before anything that touches a Redis, or else a refusal.
    Full,
    /// On the way back from a change that failed: a backup only before something stops, and where there can be none, what it
    /// holds stays where it is.
    Back,
    /// The same without any backup: one of them failed.
    BackAsItIs,
}

/// Steps from what is there to what is meant; `delete_data` names data volumes that may go.
pub fn build(have: &Observed, want: &Desired, delete_data: &BTreeSet<String>) -> Plan {
    steps(have, want, delete_data, Care::Full)
}

/// Steps back to what was there before a change. Data volumes that the change made go with it, once what they hold is backed
/// up; those of which that cannot be said stay, and so do those in `keep`.
pub fn back(have: &Observed, before: &Desired, care: Care, keep: &BTreeSet<String>) -> Plan {
    let mut made = BTreeSet::new();
    for id in ids(&have.state, ResourceKind::Volume) {
        let is_data = matches!(have.state.volume(&id.name), Some(Volume::Data { .. }));
        if is_data && !before.state.resources.contains_key(&id) && (care == Care::Back || !is_used(have, &id.name)) {
            made.insert(id.name);
        }
    }
    made.retain(|volume| !keep.contains(volume) && !has_silent_server(have, volume));
    steps(have, before, &made, care)
}

/// Whether a server has ever run on this data volume.
fn is_used(have: &Observed, volume: &str) -> bool {
    servers_on(have, volume).any(|(_, container)| container.started || container.running)
}

/// Whether the server on this data volume runs and cannot be read.
fn has_silent_server(have: &Observed, volume: &str) -> bool {
    servers_on(have, volume).any(|(name, _)| have.vitals.get(name).is_some_and(|vitals| vitals.unreadable.is_some()))
}

fn servers_on<'o>(have: &'o Observed, volume: &'o str) -> impl Iterator<Item = (&'o str, &'o Container)> {
    have.state.resources.iter().filter_map(move |(id, resource)| match resource {
        Resource::Container(container) if container.role == Role::Redis => {
            let on = container.mounts.values().any(|mount| mount.volume == volume);
            on.then_some((id.name.as_str(), container.as_ref()))
        }
        _ => None,
    })
}

/// Redis services that are to be replaced while they run, and can be: the new one reads what the old one sends, or what is
/// written for it anew.
pub fn replaceable(have: &Observed, want: &Desired) -> BTreeSet<Name> {
    let plan = steps(have, want, &BTreeSet::new(), Care::Full);
    let replaced = plan.steps.iter().filter(|step| step.action == Action::Create && step.effect == Effect::Replace);
    let names = replaced.filter_map(|step| {
        let facts = want.service(&step.resource.name).filter(|facts| facts.role == Role::Redis)?;
        let name = facts.name.as_str();
        let (had, wanted) = (have.state.container(name)?, want.state.container(name)?);
        let on_it = had.mounts.values().any(|mount| mount.volume == want.data_volume(&facts.name));
        let readable = have.vitals.get(name).is_some_and(|vitals| vitals.unreadable.is_none());
        let understood = reads(had, wanted).is_some();
        (had.running && on_it && readable && understood).then(|| facts.name.clone())
    });
    names.collect()
}

/// Whether one server reads what the other sends; `None` where nobody knows.
fn reads(had: &Container, wanted: &Container) -> Option<bool> {
    match (version_of(had), version_of(wanted)) {
        (Some(from), Some(to)) => Some(to.reads_data_of(from)),
        _ => (had.image == wanted.image).then_some(true),
    }
}

fn version_of(container: &Container) -> Option<ServerVersion> {
    ServerVersion::parse(container.server.as_ref()?.version()?)
}

fn steps(have: &Observed, want: &Desired, delete_data: &BTreeSet<String>, care: Care) -> Plan {
    let mut builder = Builder {
        have,
        want,
        care,
        changes: BTreeMap::new(),
        steps: Vec::new(),
        refusals: Vec::new(),
        notes: Vec::new(),
        done: BTreeMap::new(),
        backups: Vec::new(),
        rehearsed: None,
    };
    for change in diff::declared(&have.state, &want.state) {
        builder.changes.entry(change.resource.clone()).or_default().push(change);
    }
    builder.dropped_settings();
    builder.backups(delete_data);
    builder.downgrades();
    builder.unversioned();
    builder.taken();
    builder.images();
    builder.rehearsal();
    builder.networks();
    builder.volumes();
    builder.files(delete_data);
    builder.services();
    builder.rests();
    builder.removals(delete_data);
    Plan {
        format: 1,
        stack: want.stack.clone(),
        environment: want.environment.clone(),
        steps: builder.steps,
        refusals: builder.refusals,
        notes: builder.notes,
    }
}

struct Builder<'a> {
    have: &'a Observed,
    want: &'a Desired,
    care: Care,
    changes: BTreeMap<ResourceId, Vec<Change>>,
    steps: Vec<Step>,
    refusals: Vec<Finding>,
    notes: Vec<Finding>,
    /// The last step that concerns a thing, for those that come after it.
    done: BTreeMap<Milestone, u32>,
    backups: Vec<u32>,
    /// The step that finds out, before anything is touched, whether it will start.
    rehearsed: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Milestone {
    Image(String),
    Exists(ResourceId),
    FilesWritten,
    Stopped(String),
    Ready(String),
    Removed(ResourceId),
}

impl Builder<'_> {
    fn step(
        &mut self,
        action: Action,
        resource: &ResourceId,
        after: impl IntoIterator<Item = Option<u32>>,
        because: Vec<Cause>,
        effect: Effect,
        risk: Risk,
    ) -> u32 {
        let number = u32::try_from(self.steps.len() + 1).unwrap_or(u32::MAX);
        let mut after: BTreeSet<u32> = after.into_iter().flatten().collect();
        if action != Action::Backup {
            // A backup that fails must find everything as it was.
            after.extend(&self.backups);
            after.extend(self.rehearsed);
        }
        let after = after.into_iter().collect();
        self.steps.push(Step { number, action, resource: resource.clone(), after, because, effect, risk });
        number
    }

    fn reached(&self, milestone: Milestone) -> Option<u32> {
        self.done.get(&milestone).copied()
    }

    fn cause(&self, change: &Change) -> Cause {
        Cause { change: change.clone(), origin: self.want.origin(&change.resource, &change.field).cloned() }
    }

    fn causes<'c>(&self, changes: impl IntoIterator<Item = &'c Change>) -> Vec<Cause> {
        changes.into_iter().map(|change| self.cause(change)).collect()
    }

    fn changes_of(&self, id: &ResourceId) -> Vec<Change> {
        self.changes.get(id).cloned().unwrap_or_default()
    }

    /// Settings that the file in force carries and the new one does not: their default comes back with a restart.
    fn dropped_settings(&mut self) {
        for facts in self.want.services.values().filter(|facts| facts.role == Role::Redis) {
            let name = facts.name.as_str();
            let starts = self.want.state.container(name).is_some_and(|wanted| wanted.running);
            if !starts || !self.have.state.container(name).is_some_and(|had| had.running) {
                continue;
            }
            let (before, after) = (conf(&self.have.state, name), conf(&self.want.state, name));
            let id = ResourceId::container(name);
            for (setting, (value, _)) in before.iter().filter(|(setting, _)| !after.contains_key(*setting)) {
                let field = format!("settings.{setting}");
                let change = Change { resource: id.clone(), field, before: Some(Value::text(value)), after: None };
                self.changes.entry(id.clone()).or_default().push(change);
            }
        }
    }

    fn is_missing(&self, id: &ResourceId) -> bool {
        !self.have.state.resources.contains_key(id)
    }

    /// A name that something has which is not this environment's: it is neither used nor doubled.
    fn taken(&mut self) {
        for id in self.want.state.resources.keys().filter(|id| self.have.taken.contains(*id)) {
            let (stack, environment) = (&self.want.stack, &self.want.environment);
            let message =
                format!("{id} would be called {stack}-{environment}-{}, and something else has that name", id.name);
            let help = "remove or rename what has it, or give this stack or environment another name";
            self.refusals.push(Finding::error("name-taken", message).about(id.to_string()).help(help));
        }
        for (id, resource) in &self.want.state.resources {
            let (Resource::Container(wanted), Some(had)) = (resource, self.have.state.container(&id.name)) else {
                continue;
            };
            let data = self.want.service(&id.name).map(|facts| self.want.data_volume(&facts.name));
            let volume = data.and_then(|data| self.have.state.volume(&data));
            if wanted.role == Role::Redis && had.user != wanted.user && volume.is_some() {
                let message = format!(
                    "the user of {id} cannot change from {} to {}: its data belongs to the first",
                    had.user, wanted.user
                );
                let help = "leave `user:` as it is, or start a new service";
                let mut finding = Finding::error("user", message).about(format!("{id} user")).help(help);
                finding.place = self.want.origin(id, "user").and_then(|origin| origin.place.clone());
                self.refusals.push(finding);
            }
        }
    }

    /// A server cannot read what a newer one wrote; found out at its start, the old one would be gone already.
    fn downgrades(&mut self) {
        for (id, changes) in &self.changes {
            let version = |value: &Option<Value>| match value {
                Some(Value::Text(text)) => ServerVersion::parse(text),
                _ => None,
            };
            let change = changes.iter().find(|change| change.field == "server.version");
            let Some((from, to)) = change.and_then(|change| Some((version(&change.before)?, version(&change.after)?)))
            else {
                continue;
            };
            let service = self.want.service(&id.name);
            let stays = service.map(|facts| self.want.data_volume(&facts.name)).is_none_or(|data| {
                let had = self.have.state.container(&id.name);
                had.is_none_or(|had| had.mounts.values().any(|mount| mount.volume == data))
            });
            if stays && !to.reads_data_of(from) && self.have.vitals.get(&id.name).is_some_and(|vitals| vitals.keys > 0)
            {
                let message = format!("{to} cannot load the data that {from} holds in {id}");
                let help = "start it as it is, so that what it holds can be written anew for the other version";
                let mut finding = Finding::error("downgrade", message).about(id.to_string()).help(help);
                finding.place = self.want.origin(id, "image").and_then(|origin| origin.place.clone());
                self.refusals.push(finding);
            }
        }
    }

    /// A server of which nobody knows what it reads would start on the only copy of what another one wrote, and nothing shows
    /// beforehand whether it loads that.
    fn unversioned(&mut self) {
        for facts in self.want.services.values().filter(|facts| facts.role == Role::Redis) {
            let name = facts.name.as_str();
            let (Some(had), Some(wanted)) = (self.have.state.container(name), self.want.state.container(name)) else {
                continue;
            };
            let data = self.want.data_volume(&facts.name);
            let stays = had.mounts.values().any(|mount| mount.volume == data);
            // What is in no lock is refused for that.
            let locked = !wanted.image.ends_with(NOT_LOCKED);
            let unknown = locked && had.image != wanted.image && version_of(wanted).is_none();
            let holds = match self.have.vitals.get(name) {
                Some(vitals) => vitals.keys > 0 || vitals.unreadable.is_some(),
                // On the way back it is the new one that stopped, maybe since it could not read what is there.
                None => had.started && self.care == Care::Full,
            };
            // A rehearsal loads what a running one held.
            let shown = self.care == Care::Full && self.want.rehearse == Rehearse::Always && had.running;
            if !(wanted.running && stays && unknown && holds) || shown {
                continue;
            }
            let id = ResourceId::container(name);
            let before = version_of(had).map_or_else(|| "the one before it".to_owned(), |before| before.to_string());
            let message = format!(
                "image `{}` does not say which server it is, and so not whether it loads what {before} holds in {id}",
                facts.image
            );
            let help = "write its `server:` into stack.lock, or leave out `rehearse: never` and let it run when it is replaced";
            let mut finding = Finding::error("server-version", message).about(id.to_string()).help(help);
            finding.place = self.want.origin(&id, "image").and_then(|origin| origin.place.clone());
            self.refusals.push(finding);
        }
    }

    /// Images that will be needed and that the engine does not have.
    fn images(&mut self) {
        for facts in self.want.services.values() {
            let Some(container) = self.want.state.container(facts.name.as_str()) else { continue };
            let id = ResourceId::container(facts.name.as_str());
            let needed = self.is_missing(&id) || !self.changes_of(&id).is_empty();
            let image = container.image.clone();
            if !needed || self.have.images.contains(&image) || self.reached(Milestone::Image(image.clone())).is_some() {
                continue;
            }
            let missing = Change {
                resource: id.clone(),
                field: "image".to_owned(),
                before: None,
                after: Some(Value::text(&image)),
            };
            let cause = vec![self.cause(&missing)];
            let action = if facts.build.is_some() {
                Action::Build { service: facts.name.clone() }
            } else if image.contains('@') {
                Action::Pull { image: image.clone() }
            } else {
                self.refuse_image(facts, &image);
                continue;
            };
            let number = self.step(action, &id, [], cause, Effect::Create, Risk::None);
            self.done.insert(Milestone::Image(image), number);
        }
    }

    /// What stops for something else is started beside it first: what would not start is found with nothing touched.
    fn rehearsal(&mut self) {
        if self.care != Care::Full {
            return;
        }
        let ordered = by_need(&self.want.services);
        let touched: Vec<&ServiceFacts> = ordered.iter().copied().filter(|facts| self.starts_anew(facts)).collect();
        let Some(first) = touched.first() else { return };
        let named =
            |services: &[&ServiceFacts]| -> Vec<Name> { services.iter().map(|facts| facts.name.clone()).collect() };
        let id = ResourceId::container(first.name.as_str());
        if self.want.rehearse == Rehearse::Never {
            let names: Vec<String> = named(&touched).iter().map(ToString::to_string).collect();
            let message = format!("not rehearsed: {}, since the spec says `rehearse: never`", names.join(", "));
            let help = "what does not start is found only when what runs now has stopped";
            self.notes.push(Finding::note("rehearsal", message).help(help));
            return;
        }
        let is_new = |facts: &ServiceFacts| self.is_missing(&ResourceId::container(facts.name.as_str()));
        let mut launched: BTreeSet<&Name> = BTreeSet::new();
        // Backwards, so that what a service needs is met after it.
        for facts in ordered.iter().rev().filter(|facts| self.want.state.container(facts.name.as_str()).is_some()) {
            if launched.contains(&facts.name) || is_new(facts) || touched.iter().any(|of| of.name == facts.name) {
                launched.insert(&facts.name);
                launched.extend(&facts.needs);
            }
        }
        let launched: Vec<&ServiceFacts> =
            ordered.iter().copied().filter(|facts| launched.contains(&facts.name)).collect();
        let memory = |facts: &&ServiceFacts| self.want.state.container(facts.name.as_str()).map(|of| of.memory_bytes);
        let memory_bytes = launched.iter().filter_map(memory).sum();
        let action = Action::Rehearse { services: named(&launched), memory_bytes };
        let causes: Vec<Change> = touched.iter().flat_map(|facts| self.anew(facts)).collect();
        let causes = self.causes(&causes);
        let before: Vec<Option<u32>> = self.steps.iter().map(|step| Some(step.number)).collect();
        self.rehearsed = Some(self.step(action, &id, before, causes, Effect::Live, Risk::None));
    }

    /// Whether a service that is there ends for another one, or for other files or settings.
    fn starts_anew(&self, facts: &ServiceFacts) -> bool {
        let name = facts.name.as_str();
        let (Some(had), Some(_)) = (self.have.state.container(name), self.want.state.container(name)) else {
            return false;
        };
        let data = self.want.data_volume(&facts.name);
        let moves = facts.role == Role::Redis
            && !self.is_missing(&ResourceId::volume(&data))
            && !had.mounts.values().any(|mount| mount.volume == data);
        // What it moves to was loaded and read back by a server of its image when it was put there.
        !moves && !self.anew(facts).is_empty()
    }

    /// The changes for which a service has to end.
    fn anew(&self, facts: &ServiceFacts) -> Vec<Change> {
        let id = ResourceId::container(facts.name.as_str());
        let mut changes = self.changes_of(&id);
        if !self.have.state.container(facts.name.as_str()).is_some_and(|had| had.running) {
            changes.retain(|change| !is_of_process(change));
        }
        changes.extend(self.file_changes(facts));
        changes.retain(|change| means(facts.role, change) >= Means::Restart);
        changes
    }

    fn refuse_image(&mut self, facts: &ServiceFacts, image: &str) {
        let (message, help) = if image.ends_with(NOT_LOCKED) {
            (
                format!("image `{}` is not in stack.lock", facts.image),
                "run `lockstep lock`, and commit the file it writes",
            )
        } else {
            (
                format!("image `{}` is locked to {image}, and the engine does not have it", facts.image),
                "bring that image to the engine, or run `lockstep lock` to pin the one that is there",
            )
        };
        self.refusals.push(Finding::error("image-lock", message).at(&facts.place).help(help));
    }

    fn networks(&mut self) {
        for id in ids(&self.want.state, ResourceKind::Network) {
            if self.is_missing(&id) {
                let causes = self.causes(&self.changes_of(&id));
                let number = self.step(Action::Create, &id, [], causes, Effect::Create, Risk::None);
                self.done.insert(Milestone::Exists(id), number);
            } else if let Some(change) = self.changes_of(&id).first() {
                let message = format!(
                    "{id} {} is {}, and cannot be changed while it is in use",
                    change.field,
                    shown(&change.before)
                );
                let help = "run `lockstep down` and `lockstep apply`; data volumes are kept";
                self.refusals.push(Finding::error("network", message).help(help));
            }
        }
    }

    /// A snapshot of every Redis that holds keys and that the plan will touch, before anything else happens to it.
    fn backups(&mut self, delete_data: &BTreeSet<String>) {
        let observed: Vec<(String, Container)> = self
            .have
            .state
            .resources
            .iter()
            .filter_map(|(id, resource)| match resource {
                Resource::Container(container) if container.role == Role::Redis => {
                    Some((id.name.clone(), container.as_ref().clone()))
                }
                _ => None,
            })
            .collect();
        for (name, container) in observed {
            let id = ResourceId::container(&name);
            let mut causes = self.changes_of(&id);
            if !container.running {
                causes.retain(|change| !is_of_process(change));
            }
            let volumes: BTreeSet<&str> = container.mounts.values().map(|mount| mount.volume.as_str()).collect();
            for volume in &volumes {
                causes.extend(self.changes_of(&ResourceId::volume(*volume)));
            }
            if causes.is_empty() && !volumes.iter().any(|volume| delete_data.contains(*volume)) {
                continue;
            }
            if self.care == Care::BackAsItIs || (self.care == Care::Back && self.stays_up(&name)) {
                continue;
            }
            let Some(vitals) = self.have.vitals.get(&name) else {
                if !container.started || causes.iter().all(|change| change.field == "running") {
                    continue;
                }
                // Nothing can be pulled from a server that does not run; what it left on disk can be copied.
                let causes = self.causes(&causes);
                let number = self.step(Action::Backup, &id, [], causes, Effect::Live, Risk::None);
                self.backups.push(number);
                continue;
            };
            if let Some(why) = &vitals.unreadable {
                if self.care != Care::Full {
                    let message = format!("what `{name}` holds stays in its volume: it cannot be read: {why}");
                    self.notes.push(Finding::note("backup", message).about(id.to_string()));
                    continue;
                }
                let message = format!("`{name}` has to be backed up first, and cannot be read: {why}");
                let (stack, environment) = (&self.want.stack, &self.want.environment);
                let container = format!("{stack}-{environment}-{name}");
                let help = if container_is_off(&causes) {
                    let network = format!("{stack}-{environment}-{}", crate::desired::PRIVATE);
                    format!("put it back on its network: `docker network connect {network} {container}`")
                } else {
                    format!("`docker restart {container}` makes it read its users and settings from the files again")
                };
                self.refusals.push(Finding::error("backup", message).about(id.to_string()).help(help));
            } else {
                // Also of one without keys: some may have come since it was read.
                let causes = self.causes(&causes);
                let number = self.step(Action::Backup, &id, [], causes, Effect::Live, Risk::None);
                self.backups.push(number);
            }
        }
    }

    /// Whether nothing that is planned for a server makes its process end.
    fn stays_up(&self, name: &str) -> bool {
        let changes = self.changes_of(&ResourceId::container(name));
        let facts = self.want.service(name).filter(|_| self.want.state.container(name).is_some());
        facts.is_some_and(|facts| self.worst(facts, &changes) < Means::Start)
    }

    fn volumes(&mut self) {
        for id in ids(&self.want.state, ResourceKind::Volume) {
            if self.is_missing(&id) {
                let causes = self.causes(&self.changes_of(&id));
                let number = self.step(Action::Create, &id, [], causes, Effect::Create, Risk::None);
                self.done.insert(Milestone::Exists(id), number);
            }
        }
        // A server that is there without its data volume has lost it; an empty one would hide that.
        for facts in self.want.services.values().filter(|facts| facts.role == Role::Redis) {
            let (container, volume) =
                (ResourceId::container(facts.name.as_str()), ResourceId::volume(self.want.data_volume(&facts.name)));
            let had = self.have.state.container(facts.name.as_str());
            let mounted = had.is_some_and(|had| had.mounts.values().any(|mount| mount.volume == volume.name));
            let moves = had.is_some_and(|had| had.running && !mounted);
            if !self.is_missing(&container) && self.is_missing(&volume) && !moves {
                let message = format!("the data volume of `{}` is gone", facts.name);
                let help = "see `lockstep backup list`; to start empty, remove the container first";
                self.refusals.push(Finding::error("data-volume", message).about(volume.to_string()).help(help));
            }
        }
    }

    /// Data of a server that is not there: copied through the container that mounts all volumes, before a server starts on it.
    fn orphans(&mut self, delete_data: &BTreeSet<String>) {
        if self.care != Care::Full {
            // What was there before was copied then; what was made since has no server that ran on it, or its copy was the
            // first thing on the way back.
            return;
        }
        let carrier = ResourceId::container(FILES);
        let orphans: Vec<ResourceId> = ids(&self.have.state, ResourceKind::Volume)
            .into_iter()
            .filter(|id| matches!(self.have.state.volume(&id.name), Some(Volume::Data { .. })))
            .filter(|id| {
                let service = id.name.split('.').next().unwrap_or_default();
                let idle = self.have.state.container(service).is_none_or(|had| !had.started);
                // One that is to go is copied by its own server, or else here, whatever else its service runs on.
                let alone = servers_on(self.have, &id.name).all(|(_, had)| !had.started);
                (self.want.state.resources.contains_key(id) && idle) || (delete_data.contains(&id.name) && alone)
            })
            .collect();
        for id in orphans {
            let causes = self.causes(&self.changes_of(&id));
            let after = [self.reached(Milestone::Exists(carrier.clone()))];
            let number = self.step(Action::Backup, &id, after, causes, Effect::Live, Risk::None);
            self.backups.push(number);
        }
    }

    /// Files of all volumes in one request, through the container that mounts them all.
    fn files(&mut self, delete_data: &BTreeSet<String>) {
        let id = ResourceId::container(FILES);
        let wanted = self.want.state.container(FILES).is_some();
        if wanted {
            let changes = self.changes_of(&id);
            let mut gone = None;
            if !self.is_missing(&id) && !changes.is_empty() {
                let causes = self.causes(&changes);
                let number = self.step(Action::Remove, &id, [], causes, Effect::Live, Risk::None);
                self.done.insert(Milestone::Removed(id.clone()), number);
                gone = Some(number);
            }
            if self.is_missing(&id) || gone.is_some() {
                let volumes = ids(&self.want.state, ResourceKind::Volume);
                let mut after: Vec<Option<u32>> =
                    volumes.into_iter().map(|volume| self.reached(Milestone::Exists(volume))).collect();
                after.push(gone);
                let container = self.want.state.container(FILES);
                after.push(container.and_then(|container| self.reached(Milestone::Image(container.image.clone()))));
                let causes = self.causes(&changes);
                let number = self.step(Action::Create, &id, after, causes, Effect::Create, Risk::None);
                self.done.insert(Milestone::Exists(id.clone()), number);
            }
        }
        self.orphans(delete_data);
        self.settings();
        if !wanted {
            return;
        }
        self.stops();
        let mut volumes = Vec::new();
        let mut causes = Vec::new();
        let mut after = vec![self.reached(Milestone::Exists(id))];
        for volume in ids(&self.want.state, ResourceKind::Volume) {
            let changes = self.changes_of(&volume);
            if changes.is_empty() && !self.starts_on(&volume) {
                continue;
            }
            after.push(self.reached(Milestone::Exists(volume.clone())));
            causes.extend(self.causes(&changes));
            volumes.push(volume.name);
        }
        if !volumes.is_empty() {
            // A setting that the server refused must not reach the file that it starts from.
            let before = |step: &&Step| matches!(step.action, Action::Set { .. } | Action::Stop);
            after.extend(self.steps.iter().filter(before).map(|step| Some(step.number)));
            let target = ResourceId::container(FILES);
            let effect =
                if causes.iter().all(|cause| cause.change.field.is_empty()) { Effect::Create } else { Effect::Live };
            let number = self.step(Action::WriteFiles { volumes }, &target, after, causes, effect, Risk::None);
            self.done.insert(Milestone::FilesWritten, number);
        }
    }

    /// Stops what has to start anew for its files. Before they are written: a run that is cut off in between leaves
    /// something that is not running, and that the next one sees; a process that runs on old files looks like any other.
    fn stops(&mut self) {
        for facts in by_need(&self.want.services).into_iter().rev() {
            let name = facts.name.as_str();
            let id = ResourceId::container(name);
            let Some(had) = self.have.state.container(name).filter(|had| had.running || had.restarting) else {
                continue;
            };
            if self.is_to_rest(name) {
                continue;
            }
            let mut changes = self.changes_of(&id);
            if !had.running {
                changes.retain(|change| !is_of_process(change));
            }
            if self.worst(facts, &changes) != Means::Restart {
                continue;
            }
            let causes: Vec<Change> = changes
                .iter()
                .chain(&self.file_changes(facts))
                .filter(|change| means(facts.role, change) == Means::Restart)
                .cloned()
                .collect();
            let causes = self.causes(&causes);
            let risk = self.restart_risk(name, had);
            let after: Vec<Option<u32>> =
                self.steps.iter().filter(|step| step.resource == id).map(|step| Some(step.number)).collect();
            let number = self.step(Action::Stop, &id, after, causes, Effect::Restart, risk);
            self.done.insert(Milestone::Stopped(name.to_owned()), number);
        }
    }

    /// Whether a server that does not run yet will start on this data volume.
    ///
    /// Who owns a volume's folder cannot be read back, so it is set before every start: a run that was
    /// cut off between making the volume and giving it away would otherwise never be mended.
    fn starts_on(&self, volume: &ResourceId) -> bool {
        self.want.services.values().any(|facts| {
            facts.role == Role::Redis
                && self.want.data_volume(&facts.name) == volume.name
                && !self.is_to_rest(facts.name.as_str())
                && !self.have.state.container(facts.name.as_str()).is_some_and(|had| had.running)
        })
    }

    /// Settings that a running server takes at once, before its file says the same.
    fn settings(&mut self) {
        for facts in self.want.services.values().filter(|facts| facts.role == Role::Redis) {
            let name = facts.name.as_str();
            let id = ResourceId::container(name);
            let Some(had) = self.have.state.container(name).filter(|had| had.running && had.server.is_some()) else {
                continue;
            };
            if self.is_to_rest(name) {
                continue;
            }
            let changes = self.changes_of(&id);
            let worst = self.worst(facts, &changes);
            // A limit that grows has to be there before the server may use it.
            let grows = changes.iter().any(|change| change.field == "limits.memory" && grows(change));
            let mut previous = None;
            if worst < Means::Replace && grows {
                previous = Some(self.update(&id, &changes, []));
            }
            let mut last = previous;
            for change in &changes {
                let Some(setting) = change.field.strip_prefix("settings.") else { continue };
                let Some(Value::Text(value)) = &change.after else { continue };
                if change.before.is_none() {
                    // Whether another image knows it, the rehearsal tells.
                    if self.rehearsed.is_some() && changes.iter().any(|change| change.field == "image") {
                        continue;
                    }
                    self.refuse_directive(facts, had, setting, change);
                    continue;
                }
                // Before a restart too: a value that the server refuses must not be what it starts from. Another image may
                // know other values, but whether data outlives the stop is decided by the server that stops.
                let persistence = matches!(setting, "appendonly" | "save");
                if effect::of(change) != Means::Setting || (worst >= Means::Replace && !persistence) {
                    continue;
                }
                let risk = self.setting_risk(name, had, setting, value);
                let action = Action::Set { setting: setting.to_owned(), value: value.clone() };
                let causes = self.causes([change]);
                last = Some(self.step(action, &id, [previous], causes, Effect::Live, risk));
                previous = last;
            }
            if worst < Means::Replace && !grows && changes.iter().any(|c| effect::of(c) == Means::Update) {
                self.update(&id, &changes, [last]);
            }
        }
    }

    fn update(&mut self, id: &ResourceId, changes: &[Change], after: impl IntoIterator<Item = Option<u32>>) -> u32 {
        let updates: Vec<&Change> = changes.iter().filter(|change| effect::of(change) == Means::Update).collect();
        let causes = self.causes(updates);
        self.step(Action::Update, id, after, causes, Effect::Live, Risk::None)
    }

    fn refuse_directive(&mut self, facts: &ServiceFacts, had: &Container, setting: &str, change: &Change) {
        let version = had.server.as_ref().and_then(|server| server.facts.get("version"));
        let version = version.map_or_else(|| "the server".to_owned(), ToString::to_string);
        let message = format!("{version} of `{}` does not know the setting `{setting}`", facts.name);
        let mut finding = Finding::error("unknown-setting", message).about(format!("settings.{setting}"));
        finding.place = self.cause(change).origin.and_then(|origin| origin.place);
        self.refusals.push(finding);
    }

    fn setting_risk(&self, name: &str, had: &Container, setting: &str, value: &str) -> Risk {
        let used = self.have.vitals.get(name).map_or(0, |vitals| vitals.used_memory_bytes);
        let limit = Bytes::parse(value).map_or(0, |bytes| bytes.0);
        if setting != "maxmemory" || limit == 0 || used <= limit {
            return Risk::None;
        }
        let bytes = used - limit;
        match setting_of(had, "maxmemory-policy") {
            Some("noeviction") => Risk::RefusesWrites { bytes },
            _ => Risk::Evicts { bytes },
        }
    }

    /// The most disruptive thing that a service's changes ask for, those of its files included.
    fn worst(&self, facts: &ServiceFacts, changes: &[Change]) -> Means {
        let own = changes.iter().map(effect::of).max().unwrap_or(Means::None);
        self.file_changes(facts)
            .iter()
            .filter_map(|change| change.field.split_once('.').map(|(_, path)| effect::of_file(facts.role, path)))
            .max()
            .map_or(own, |files| files.max(own))
    }

    /// Changes in volumes that existed before; those of a new volume come with its container.
    fn file_changes(&self, facts: &ServiceFacts) -> Vec<Change> {
        let Some(container) = self.want.state.container(facts.name.as_str()) else { return Vec::new() };
        let volumes = container.mounts.values().filter(|mount| mount.read_only);
        volumes
            .flat_map(|mount| self.changes_of(&ResourceId::volume(&mount.volume)))
            .filter(|change| change.field.starts_with("files."))
            .collect()
    }

    fn services(&mut self) {
        for facts in by_need(&self.want.services) {
            self.service(facts);
            self.wait_for_needs(facts);
        }
    }

    /// A service that keeps running while one that it needs starts anew has to come back to it.
    fn wait_for_needs(&mut self, facts: &ServiceFacts) {
        if !self.want.state.container(facts.name.as_str()).is_some_and(|wanted| wanted.running) {
            return;
        }
        let own = Milestone::Ready(facts.name.to_string());
        let needs: Vec<Option<u32>> =
            facts.needs.iter().map(|need| self.reached(Milestone::Ready(need.to_string()))).collect();
        // A run that was cut off while it waited left something that runs and does not answer yet. What was silent before a
        // change is as it was when it is silent after it.
        let silent = self.care == Care::Full
            && self.have.state.container(facts.name.as_str()).is_some_and(|had| had.running && is_silent(had));
        if self.reached(own.clone()).is_some() || (needs.iter().all(Option::is_none) && !silent) {
            return;
        }
        let id = ResourceId::container(facts.name.as_str());
        let number = self.step(Action::Ready, &id, needs, Vec::new(), Effect::Live, Risk::None);
        self.done.insert(own, number);
    }

    fn service(&mut self, facts: &ServiceFacts) {
        let name = facts.name.as_str();
        let id = ResourceId::container(name);
        let Some(container) = self.want.state.container(name).cloned() else { return };
        let mut changes = self.changes_of(&id);
        let files = self.file_changes(facts);
        let had = self.have.state.container(name);
        let written = self.reached(Milestone::FilesWritten);
        let mut before_start: Vec<Option<u32>> =
            facts.needs.iter().map(|need| self.reached(Milestone::Ready(need.to_string()))).collect();
        before_start.push(written);
        before_start.extend(self.steps.iter().filter(|step| step.resource == id).map(|step| Some(step.number)));

        let Some(had) = had else {
            let causes = self.causes(&changes);
            let created = self.create(&id, &container, [], causes.clone(), Effect::Create);
            before_start.push(Some(created));
            if container.running {
                self.start(facts, &id, before_start, causes, Effect::Create, Risk::None);
            } else if container.restarting {
                self.step(Action::Start, &id, before_start, causes, Effect::Create, Risk::None);
            }
            return;
        };
        if !container.running {
            return;
        }
        if !had.running {
            // A process that does not run has no settings to differ; it will read its files.
            changes.retain(|change| !is_of_process(change));
        }
        let worst = self.worst(facts, &changes);
        let updates = changes.iter().any(|change| effect::of(change) == Means::Update);
        if !had.running && updates && worst < Means::Replace {
            before_start.push(Some(self.update(&id, &changes, [])));
        }
        let all: Vec<Change> = changes.iter().chain(&files).cloned().collect();
        let relevant = |means: Means| -> Vec<Change> {
            all.iter().filter(|change| self::means(facts.role, change) == means).cloned().collect()
        };
        match worst {
            Means::None | Means::Setting => {}
            Means::Users if had.running => {
                let causes = self.causes(&relevant(Means::Users));
                let loaded = self.step(Action::LoadUsers, &id, [written], causes, Effect::Live, Risk::None);
                // Those that need it must not start with a password that it does not know yet.
                self.done.insert(Milestone::Ready(facts.name.to_string()), loaded);
            }
            Means::Update if facts.role == Role::App => {
                self.update(&id, &changes, []);
            }
            Means::Update => {
                if !relevant(Means::Users).is_empty() {
                    let causes = self.causes(&relevant(Means::Users));
                    let loaded = self.step(Action::LoadUsers, &id, [written], causes, Effect::Live, Risk::None);
                    self.done.insert(Milestone::Ready(facts.name.to_string()), loaded);
                }
            }
            Means::Users | Means::Start => {
                if !had.running {
                    let causes = self.causes(&relevant(Means::Start));
                    if had.restarting {
                        // To the engine it is started already; only a stop ends the circle.
                        let stopped = self.step(Action::Stop, &id, [], causes.clone(), Effect::Restart, Risk::None);
                        before_start.push(Some(stopped));
                    }
                    self.start(facts, &id, before_start, causes, Effect::Restart, Risk::None);
                }
            }
            Means::Restart => {
                let causes = self.causes(&relevant(Means::Restart));
                before_start.push(self.reached(Milestone::Stopped(name.to_owned())));
                if facts.role == Role::App && updates && had.running {
                    before_start.push(Some(self.update(&id, &changes, [])));
                }
                self.start(facts, &id, before_start, causes, Effect::Restart, Risk::None);
            }
            Means::Replace => {
                let causes = self.causes(&relevant(Means::Replace));
                let risk = self.restart_risk(name, had);
                let image = self.reached(Milestone::Image(container.image.clone()));
                let mut after = before_start.clone();
                after.push(image);
                if let Some(volume) = self.handed_over_to(facts, had) {
                    let networks = container.networks.iter().map(|name| Milestone::Exists(ResourceId::network(name)));
                    after.extend(networks.map(|network| self.reached(network)));
                    after.push(self.reached(Milestone::Exists(ResourceId::volume(&volume))));
                    let limit = setting_of(&container, "maxmemory").unwrap_or_default();
                    let risk = self.setting_risk(name, &container, "maxmemory", limit);
                    let action = Action::HandOver { volume, refilled: reads(had, &container) == Some(false) };
                    let handed = self.step(action, &id, after, causes, Effect::Replace, risk);
                    let ready = self.step(Action::Ready, &id, [Some(handed)], Vec::new(), Effect::Replace, Risk::None);
                    self.done.insert(Milestone::Ready(facts.name.to_string()), ready);
                    return;
                }
                if facts.role == Role::App && had.running {
                    let networks = container.networks.iter().map(|name| Milestone::Exists(ResourceId::network(name)));
                    let mounts = container.mounts.values();
                    let volumes = mounts.map(|mount| Milestone::Exists(ResourceId::volume(&mount.volume)));
                    after.extend(networks.chain(volumes).map(|needed| self.reached(needed)));
                    let action = Action::TakeOver { beside: can_run_beside(had, &container) };
                    let taken = self.step(action, &id, after, causes, Effect::Replace, Risk::None);
                    self.done.insert(Milestone::Ready(facts.name.to_string()), taken);
                    return;
                }
                let mut previous = None;
                if had.running || had.restarting {
                    previous = Some(self.step(Action::Stop, &id, after.clone(), causes.clone(), Effect::Replace, risk));
                }
                after.push(previous);
                let removed = self.step(Action::Remove, &id, after, causes.clone(), Effect::Replace, Risk::None);
                let created = self.create(&id, &container, [Some(removed)], causes.clone(), Effect::Replace);
                before_start.push(Some(created));
                self.start(facts, &id, before_start, causes, Effect::Replace, Risk::None);
            }
        }
    }

    /// Whether a service is meant to be there and not to run, which only the way back means: of one that did not run before.
    fn is_to_rest(&self, name: &str) -> bool {
        self.want.state.container(name).is_some_and(|wanted| !wanted.running)
    }

    /// Ends what is not meant to run, and makes it what it was. What needs a server ends before it, or answers before it goes.
    fn rests(&mut self) {
        for facts in by_need(&self.want.services).into_iter().rev() {
            let name = facts.name.as_str();
            let (Some(had), Some(wanted)) = (self.have.state.container(name), self.want.state.container(name)) else {
                continue;
            };
            if wanted.running {
                continue;
            }
            let id = ResourceId::container(name);
            let mut changes = self.changes_of(&id);
            changes.retain(|change| !is_of_process(change));
            let replaced = changes.iter().any(|change| effect::of(change) == Means::Replace);
            if replaced && facts.role == Role::Redis && had.started && had.image != wanted.image {
                self.left_behind(&id, had, wanted);
            }
            let (means, cost) = if replaced { (Means::Replace, Effect::Replace) } else { (Means::Start, Effect::Stop) };
            let causes = self.causes(changes.iter().filter(|change| effect::of(change) == means));
            let needing = self.want.services.values().filter(|other| other.needs.contains(&facts.name));
            let needing = needing.map(|other| other.name.to_string());
            let needing = needing.flat_map(|other| [Milestone::Stopped(other.clone()), Milestone::Ready(other)]);
            let own = self.steps.iter().filter(|step| step.resource == id).map(|step| Some(step.number));
            let mut after: Vec<Option<u32>> = own.chain(needing.map(|milestone| self.reached(milestone))).collect();
            // One that crashed over and over before may do so again, and one of those that runs now is left to run.
            if (had.running || had.restarting) && (replaced || !wanted.restarting) {
                let risk = self.restart_risk(name, had);
                let stopped = self.step(Action::Stop, &id, after.clone(), causes.clone(), cost, risk);
                self.done.insert(Milestone::Stopped(name.to_owned()), stopped);
                after.push(Some(stopped));
            }
            if replaced {
                let removed = self.step(Action::Remove, &id, after, causes.clone(), cost, Risk::None);
                let created = self.create(&id, wanted, [Some(removed)], causes.clone(), cost);
                if wanted.restarting {
                    let after = [Some(created), self.reached(Milestone::FilesWritten)];
                    self.step(Action::Start, &id, after, causes, cost, Risk::None);
                }
            } else if wanted.restarting && !had.running && !had.restarting {
                after.push(self.reached(Milestone::FilesWritten));
                self.step(Action::Start, &id, after, causes, Effect::Restart, Risk::None);
            } else if changes.iter().any(|change| effect::of(change) == Means::Update) {
                self.update(&id, &changes, after);
            }
        }
    }

    /// A server that is put back without being started shows nobody whether it reads what another one wrote since.
    fn left_behind(&mut self, id: &ResourceId, had: &Container, wanted: &Container) {
        let stays =
            had.mounts.get("/data").map(|mount| &mount.volume) == wanted.mounts.get("/data").map(|mount| &mount.volume);
        if stays && reads(had, wanted) != Some(true) {
            let message = format!(
                "another image ran on the data of {id} since, and it is not known whether the one before reads them"
            );
            let help = "before it is started, restore the backup that the change took";
            self.notes.push(Finding::warning("downgrade", message).about(id.to_string()).help(help));
        }
    }

    /// The volume that a running Redis is handed over to: one that is only made now.
    fn handed_over_to(&self, facts: &ServiceFacts, had: &Container) -> Option<String> {
        let volume = self.want.data_volume(&facts.name);
        let new = facts.role == Role::Redis && had.running && self.care == Care::Full;
        (new && self.is_missing(&ResourceId::volume(&volume))).then_some(volume)
    }

    fn create(
        &mut self,
        id: &ResourceId,
        container: &Container,
        after: impl IntoIterator<Item = Option<u32>>,
        causes: Vec<Cause>,
        effect: Effect,
    ) -> u32 {
        let networks = container.networks.iter().map(|name| Milestone::Exists(ResourceId::network(name)));
        let volumes = container.mounts.values().map(|mount| Milestone::Exists(ResourceId::volume(&mount.volume)));
        let image = [Milestone::Image(container.image.clone())];
        let needs: Vec<Option<u32>> =
            networks.chain(volumes).chain(image).map(|milestone| self.reached(milestone)).collect();
        self.step(Action::Create, id, after.into_iter().chain(needs), causes, effect, Risk::None)
    }

    fn start(
        &mut self,
        facts: &ServiceFacts,
        id: &ResourceId,
        after: Vec<Option<u32>>,
        causes: Vec<Cause>,
        effect: Effect,
        risk: Risk,
    ) {
        let started = self.step(Action::Start, id, after, causes, effect, risk);
        let ready = self.step(Action::Ready, id, [Some(started)], Vec::new(), effect, Risk::None);
        self.done.insert(Milestone::Ready(facts.name.to_string()), ready);
    }

    /// What a stop costs a Redis: nothing when it reloads from disk, everything when it keeps nothing there.
    fn restart_risk(&self, name: &str, had: &Container) -> Risk {
        let Some(vitals) = self.have.vitals.get(name).filter(|vitals| vitals.keys > 0) else { return Risk::None };
        let want = self.want.state.container(name);
        // Persistence is set on the running server first, so the wanted value is in force at the stop.
        let dropped = |setting: &str| {
            let changes = self.changes.get(&ResourceId::container(name)).into_iter().flatten();
            changes
                .into_iter()
                .any(|change| change.field.strip_prefix("settings.") == Some(setting) && change.after.is_none())
        };
        let setting = |setting: &str| match want.and_then(|want| setting_of(want, setting)) {
            Some(value) => value,
            // Its default comes back: no append-only file.
            None if dropped(setting) => "",
            None => setting_of(had, setting).unwrap_or_default(),
        };
        let durable = setting("appendonly") == "yes" || !setting("save").is_empty();
        if !durable {
            return Risk::ColdCache { keys: vitals.keys, bytes: vitals.used_memory_bytes };
        }
        // What it loads again has to fit what it is then allowed.
        let again = want.filter(|want| want.running);
        again.map_or(Risk::None, |want| self.setting_risk(name, want, "maxmemory", setting("maxmemory")))
    }

    /// What is there and not meant: containers first, then networks and volumes. Data stays unless it is named.
    fn removals(&mut self, delete_data: &BTreeSet<String>) {
        let surplus = |kind: ResourceKind, builder: &Self| -> Vec<ResourceId> {
            let have = ids(&builder.have.state, kind);
            have.into_iter().filter(|id| !builder.want.state.resources.contains_key(id)).collect()
        };
        let mut removed: Vec<Option<u32>> = Vec::new();
        for id in surplus(ResourceKind::Container, self) {
            let Some(had) = self.have.state.container(&id.name) else { continue };
            let causes = self.causes(&self.changes_of(&id));
            let mut stopped = None;
            if had.running || had.restarting {
                let risk = self.restart_risk(&id.name, had);
                stopped = Some(self.step(Action::Stop, &id, [], causes.clone(), Effect::Remove, risk));
            }
            removed.push(Some(self.step(Action::Remove, &id, [stopped], causes, Effect::Remove, Risk::None)));
        }
        // A volume is free once no container mounts it, the one that mounts them all included.
        removed.push(self.reached(Milestone::Removed(ResourceId::container(FILES))));
        removed.extend(
            self.steps
                .iter()
                .filter(|step| matches!(step.action, Action::Remove | Action::TakeOver { .. }))
                .map(|step| Some(step.number))
                .collect::<Vec<_>>(),
        );
        for id in surplus(ResourceKind::Network, self) {
            let causes = self.causes(&self.changes_of(&id));
            self.step(Action::Remove, &id, removed.clone(), causes, Effect::Remove, Risk::None);
        }
        for id in surplus(ResourceKind::Volume, self) {
            let data = matches!(self.have.state.volume(&id.name), Some(Volume::Data { .. }));
            let causes = self.causes(&self.changes_of(&id));
            if !data {
                self.step(Action::Remove, &id, removed.clone(), causes, Effect::Remove, Risk::None);
            } else if delete_data.contains(&id.name) {
                self.step(Action::Remove, &id, removed.clone(), causes, Effect::Remove, Risk::RemovesData);
            } else {
                let message = format!("{id} is kept: data is removed only when its volume is named");
                let help = format!("`lockstep down {} --delete-data {}`", self.want.environment, id.name);
                self.notes.push(Finding::note("data-kept", message).about(id.to_string()).help(help));
            }
        }
    }
}

/// What the configuration file of a Redis amounts to, as it lies in its volume.
fn conf(state: &State, service: &str) -> BTreeMap<String, (String, usize)> {
    let file = match state.volume(&format!("{service}.etc.redis")) {
        Some(Volume::Files { files }) => files.get("redis.conf"),
        _ => None,
    };
    let text = file.map_or_else(String::new, |file| String::from_utf8_lossy(&file.content).into_owned());
    // A file that does not read was not ours to begin with, and is about to be written anew.
    directive::parse(&text).map(|parsed| directive::effective(&parsed)).unwrap_or_default()
}

fn ids(state: &State, kind: ResourceKind) -> Vec<ResourceId> {
    state.resources.keys().filter(|id| id.kind == kind).cloned().collect()
}

fn means(role: Role, change: &Change) -> Means {
    match change.field.strip_prefix("files.") {
        Some(path) => effect::of_file(role, path),
        None => effect::of(change),
    }
}

/// Whether two applications can run at the same time: on ports of their own, and with nothing that both write to.
fn can_run_beside(had: &Container, wanted: &Container) -> bool {
    let ports = |of: &Container| -> BTreeSet<String> {
        let ports = of.ports.values().flat_map(|addresses| addresses.split(' '));
        ports.map(|address| address.rsplit(':').next().unwrap_or_default().to_owned()).collect()
    };
    let reads_only = |of: &Container| of.mounts.values().all(|mount| mount.read_only);
    ports(had).is_disjoint(&ports(wanted)) && reads_only(had) && reads_only(wanted)
}

/// Whether a container lost the network on which it is asked.
fn container_is_off(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.field == "networks.private" && change.before.is_none())
}

/// Whether an application was asked for its health and did not answer well.
fn is_silent(container: &Container) -> bool {
    let health = container.server.as_ref().and_then(|server| server.facts.get("health"));
    match health {
        Some(Value::Text(status)) => !status.starts_with("status 2") && !status.starts_with("status 3"),
        Some(_) => true,
        None => false,
    }
}

/// Whether only a running process can tell.
fn is_of_process(change: &Change) -> bool {
    ["settings.", "users.", "server."].iter().any(|family| change.field.starts_with(family))
}

fn shown(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string)
}

fn setting_of<'c>(container: &'c Container, setting: &str) -> Option<&'c str> {
    match container.server.as_ref()?.settings.get(setting)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn grows(change: &Change) -> bool {
    let number = |value: &Option<Value>| match value {
        Some(Value::Text(text)) => text.parse::<u64>().ok(),
        _ => None,
    };
    number(&change.after) > number(&change.before)
}

/// Services in an order in which each comes after those it needs.
fn by_need(services: &BTreeMap<Name, ServiceFacts>) -> Vec<&ServiceFacts> {
    let mut ordered: Vec<&ServiceFacts> = Vec::new();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    // A circle is refused long before; here it would only end the loop early.
    while ordered.len() < services.len() {
        let before = ordered.len();
        for facts in services.values() {
            let ready = facts.needs.iter().all(|need| placed.contains(need.as_str()) || !services.contains_key(need));
            if ready && !placed.contains(facts.name.as_str()) {
                placed.insert(facts.name.as_str());
                ordered.push(facts);
            }
        }
        if ordered.len() == before {
            break;
        }
    }
    ordered
}

//! Turns two states into the ordered steps that make the first equal the second.
//!
//! Nothing here talks to the engine or asks anybody: a step that would lose data is marked, and
//! `commands` do the asking.

use crate::desired::{Desired, FILES, ServiceFacts, data_volume};
use crate::diff::{self, Change};
use crate::directive;
use crate::finding::Finding;
use crate::plan::effect::{self, Means};
use crate::plan::{Action, Cause, Effect, Plan, Risk, Step};
use crate::state::{Container, Observed, Resource, Role, State, Value, Volume};
use crate::value::{Bytes, ResourceId, ResourceKind, ServerVersion};
use std::collections::{BTreeMap, BTreeSet};

/// Steps from what is there to what is meant; `delete_data` names data volumes that may go.
pub fn build(have: &Observed, want: &Desired, delete_data: &BTreeSet<String>) -> Plan {
    let mut builder = Builder {
        have,
        want,
        changes: BTreeMap::new(),
        steps: Vec::new(),
        refusals: Vec::new(),
        notes: Vec::new(),
        done: BTreeMap::new(),
        backups: Vec::new(),
    };
    for change in diff::declared(&have.state, &want.state) {
        builder.changes.entry(change.resource.clone()).or_default().push(change);
    }
    builder.dropped_settings();
    builder.backups(delete_data);
    builder.downgrades();
    builder.taken();
    builder.images();
    builder.networks();
    builder.volumes();
    builder.files(delete_data);
    builder.services();
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
    changes: BTreeMap<ResourceId, Vec<Change>>,
    steps: Vec<Step>,
    refusals: Vec<Finding>,
    notes: Vec<Finding>,
    /// The last step that concerns a thing, for those that come after it.
    done: BTreeMap<Milestone, u32>,
    backups: Vec<u32>,
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
            let stays = self.want.state.container(name).is_some();
            if !stays || !self.have.state.container(name).is_some_and(|had| had.running) {
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
            let volume = self.have.state.volume(&format!("{}.data", id.name));
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
            if !to.reads_data_of(from) && self.have.vitals.get(&id.name).is_some_and(|vitals| vitals.keys > 0) {
                let message = format!("{to} cannot load the data that {from} holds in {id}");
                let help = "keep the version, or start the other one as a new service and fill it from the application";
                let mut finding = Finding::error("downgrade", message).about(id.to_string()).help(help);
                finding.place = self.want.origin(id, "image").and_then(|origin| origin.place.clone());
                self.refusals.push(finding);
            }
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

    fn refuse_image(&mut self, facts: &ServiceFacts, image: &str) {
        let (message, help) = if image.ends_with("(not locked)") {
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
                (ResourceId::container(facts.name.as_str()), ResourceId::volume(data_volume(&facts.name)));
            if !self.is_missing(&container) && self.is_missing(&volume) {
                let message = format!("the data volume of `{}` is gone", facts.name);
                let help = "see `lockstep backup list`; to start empty, remove the container first";
                self.refusals.push(Finding::error("data-volume", message).about(volume.to_string()).help(help));
            }
        }
    }

    /// Data of a server that is not there: copied through the container that mounts all volumes, before a server starts on it.
    fn orphans(&mut self, delete_data: &BTreeSet<String>) {
        let carrier = ResourceId::container(FILES);
        let orphans: Vec<ResourceId> = ids(&self.have.state, ResourceKind::Volume)
            .into_iter()
            .filter(|id| matches!(self.have.state.volume(&id.name), Some(Volume::Data { .. })))
            .filter(|id| {
                let service = id.name.split('.').next().unwrap_or_default();
                let used = self.want.state.resources.contains_key(id) || delete_data.contains(&id.name);
                used && self.have.state.container(service).is_none_or(|had| !had.started)
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
                && data_volume(&facts.name) == volume.name
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
        let own = Milestone::Ready(facts.name.to_string());
        let needs: Vec<Option<u32>> =
            facts.needs.iter().map(|need| self.reached(Milestone::Ready(need.to_string()))).collect();
        // A run that was cut off while it waited left something that runs and does not answer yet.
        let silent = self.have.state.container(facts.name.as_str()).is_some_and(|had| had.running && is_silent(had));
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
            self.start(facts, &id, before_start, causes, Effect::Create, Risk::None);
            return;
        };
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
        want.map_or(Risk::None, |want| self.setting_risk(name, want, "maxmemory", setting("maxmemory")))
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
                .filter(|step| matches!(step.action, Action::Remove))
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
fn by_need(services: &BTreeMap<crate::value::Name, ServiceFacts>) -> Vec<&ServiceFacts> {
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

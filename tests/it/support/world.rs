//! A world in memory: the engine and its servers as far as a plan can tell.
//!
//! It is as strict as the real one: what is mounted has to exist, what runs cannot be removed with its volume, a
//! server starts from the files that lie in its volume. And it is stricter: touching a Redis that holds keys before
//! it was backed up ends the test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use lockstep::acl;
use lockstep::desired::{Desired, FILES, Readiness, data_volume};
use lockstep::directive;
use lockstep::event::{Event, Listener};
use lockstep::failure::{Failure, Kind};
use lockstep::plan::{Action, Effect, Plan, Risk, Step};
use lockstep::spec::Rehearse;
use lockstep::state::{Container, Observed, Resource, Role, Server, State, Value, Vitals, Volume};
use lockstep::value::{Name, ResourceId, ResourceKind};
use lockstep::world::World;

/// What a server reports of settings that its file leaves out; a few of the two hundred.
const DEFAULTS: [(&str, &str); 10] = [
    ("appendonly", "no"),
    ("databases", "16"),
    ("hz", "10"),
    ("io-threads", "1"),
    ("lazyfree-lazy-eviction", "no"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("notify-keyspace-events", ""),
    ("slowlog-log-slower-than", "10000"),
];

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    pub state: State,
    pub images: BTreeSet<String>,
    /// Keys and bytes by data volume.
    pub data: BTreeMap<String, (u64, u64)>,
    /// Data volumes whose folder belongs to their server.
    pub owned: BTreeSet<String>,
    /// Redis services that run and cannot be read, and why.
    pub unreadable: BTreeMap<String, String>,
    /// The files that each process read when it started, by container and volume.
    pub read: BTreeMap<String, BTreeMap<String, Volume>>,
    /// Resources whose name something has that is not this environment's.
    pub taken: BTreeSet<ResourceId>,
    /// What the servers in the images say they are.
    pub versions: BTreeMap<String, Value>,
}

impl Stage {
    /// Nothing but the images of these environments.
    pub fn with_images<'d>(wanted: impl IntoIterator<Item = &'d Desired>) -> Stage {
        let mut stage = Stage::default();
        for resource in wanted.into_iter().flat_map(|desired| desired.state.resources.values()) {
            let Resource::Container(container) = resource else { continue };
            stage.images.insert(container.image.clone());
            let version = container.server.as_ref().and_then(|server| server.facts.get("version"));
            stage.versions.extend(version.map(|version| (container.image.clone(), version.clone())));
        }
        stage
    }

    /// What a look at it tells.
    pub fn observed(&self) -> Observed {
        let mut vitals = BTreeMap::new();
        let mut state = self.state.clone();
        for (id, resource) in &mut state.resources {
            let Resource::Container(container) = resource else { continue };
            if container.role != Role::Redis || !container.running {
                continue;
            }
            let why = self.unreadable.get(&id.name);
            if let (Some(why), Some(server)) = (why, &mut container.server) {
                server.settings.values_mut().for_each(|value| *value = Value::Unknown(why.clone()));
                server.users.clear();
                server.facts = BTreeMap::from([("version".to_owned(), Value::Unknown(why.clone()))]);
            }
            let (keys, used_memory_bytes) = self.data.get(&own_data(&id.name)).copied().unwrap_or_default();
            let read = match why {
                Some(why) => Vitals { unreadable: Some(why.clone()), ..Vitals::default() },
                None => Vitals { keys, used_memory_bytes, ..Vitals::default() },
            };
            vitals.insert(id.name.clone(), read);
        }
        let (images, taken) = (self.images.clone(), self.taken.clone());
        Observed { state, vitals, images, taken, ..Observed::default() }
    }

    pub fn container(&mut self, name: &str) -> &mut Container {
        match self.state.resources.get_mut(&ResourceId::container(name)) {
            Some(Resource::Container(container)) => container,
            _ => panic!("there is no container `{name}`"),
        }
    }

    pub fn server(&mut self, name: &str) -> &mut Server {
        self.container(name).server.as_mut().unwrap_or_else(|| panic!("`{name}` runs no server"))
    }

    /// Processes that run on other files than those that lie in their volumes now, live changes apart.
    pub fn behind(&self) -> Vec<String> {
        let mut behind = Vec::new();
        for (id, resource) in &self.state.resources {
            let Resource::Container(container) = resource else { continue };
            if !container.running {
                continue;
            }
            let settings = |server: &Server| server.settings.clone();
            let current = match container.role {
                Role::Redis => container.server.as_ref().map(settings) == Some(settings(&started(self, &id.name))),
                _ => self.read.get(&id.name) == Some(&self.files(container)),
            };
            if !current {
                behind.push(id.to_string());
            }
        }
        behind
    }

    fn files(&self, container: &Container) -> BTreeMap<String, Volume> {
        let volumes = container.mounts.values().filter(|mount| mount.read_only);
        volumes.filter_map(|mount| Some((mount.volume.clone(), self.state.volume(&mount.volume)?.clone()))).collect()
    }

    /// Ends the process of a container.
    pub fn stop(&mut self, name: &str) {
        let container = self.container(name);
        container.running = false;
        container.server = None;
    }
}

fn own_data(service: &str) -> String {
    data_volume(&Name::parse(service).expect("a service's name"), 1)
}

/// When the world stops doing what it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Steps that still succeed.
    pub after: u32,
    /// Whether the step that fails was done all the same, and only its answer got lost.
    pub reply_lost: bool,
}

/// A stage on which the steps of one plan are performed.
pub struct Fake<'a> {
    stage: RefCell<Stage>,
    want: &'a Desired,
    delete_data: &'a BTreeSet<String>,
    cut: Option<Cut>,
    /// On the way back a server that stays up is not backed up once more.
    back: bool,
    /// Shuffles which of the steps in hand ends first.
    seed: u32,
    performed: RefCell<u32>,
    backed_up: RefCell<BTreeSet<String>>,
    /// What there was, and what was rehearsed before anything changed.
    before: State,
    rehearsed: RefCell<Option<Vec<Name>>>,
    /// Whether the steps in hand are live, by resource.
    in_hand: RefCell<BTreeMap<ResourceId, bool>>,
}

impl<'a> Fake<'a> {
    pub fn new(stage: Stage, want: &'a Desired, delete_data: &'a BTreeSet<String>) -> Fake<'a> {
        Fake {
            before: stage.state.clone(),
            rehearsed: RefCell::default(),
            stage: RefCell::new(stage),
            want,
            delete_data,
            cut: None,
            back: false,
            seed: 0,
            performed: RefCell::default(),
            backed_up: RefCell::default(),
            in_hand: RefCell::default(),
        }
    }

    #[must_use]
    pub fn cut(self, cut: Option<Cut>) -> Fake<'a> {
        Fake { cut, ..self }
    }

    #[must_use]
    pub fn shuffled(self, seed: u32) -> Fake<'a> {
        Fake { seed, ..self }
    }

    #[must_use]
    pub fn going_back(self) -> Fake<'a> {
        Fake { back: true, ..self }
    }

    pub fn into_stage(self) -> Stage {
        self.stage.into_inner()
    }

    /// Promise 1: nothing that can lose data before a backup of this run. Of an empty server too: keys may come any time.
    fn guard(&self, stage: &Stage, step: &Step, service: &str) {
        let started = stage.state.container(service).is_some_and(|container| container.started);
        let live = self.back && step.effect == Effect::Live;
        let safe = !started || live || self.backed_up.borrow().contains(service);
        assert!(safe, "`{}` comes before the backup of {service}", step.summary());
    }

    fn perform_on(&self, stage: &mut Stage, step: &Step) {
        let id = &step.resource;
        let name = id.name.as_str();
        if matches!(step.effect, Effect::Restart | Effect::Replace) && running_before(&self.before, name) && !self.back
        {
            let rehearsed = self.rehearsed.borrow();
            let is_rehearsed =
                rehearsed.as_ref().is_some_and(|services| services.iter().any(|service| service.as_str() == name));
            let never = self.want.rehearse == Rehearse::Never;
            assert!(never || is_rehearsed, "`{}` was not rehearsed", step.summary());
        }
        let is_redis = |stage: &Stage| stage.state.container(name).is_some_and(|had| had.role == Role::Redis);
        let harmless = matches!(step.action, Action::Backup | Action::Rehearse { .. } | Action::Start | Action::Ready);
        if id.kind == ResourceKind::Container && !harmless && is_redis(stage) {
            self.guard(stage, step, name);
        }
        match &step.action {
            Action::Build { service } => {
                let wanted = self.want.state.container(service.as_str()).expect("a service has a container");
                stage.images.insert(wanted.image.clone());
            }
            Action::Pull { image } => _ = stage.images.insert(image.clone()),
            Action::Create => self.create(stage, id),
            Action::Remove => self.remove(stage, step),
            Action::WriteFiles { volumes } => self.write_files(stage, step, volumes),
            Action::Backup => {
                let service = name.split('.').next().unwrap_or_default();
                let reached = match id.kind {
                    ResourceKind::Volume => mounts(stage, FILES, name),
                    _ => stage.container(service).started,
                };
                assert!(reached, "`{}`: its data can be reached", step.summary());
                self.backed_up.borrow_mut().insert(service.to_owned());
            }
            Action::Set { setting, value } => {
                running(stage, name);
                let value = Value::Text(directive::canonical(setting, std::slice::from_ref(value)));
                let known = stage.server(name).settings.insert(setting.clone(), value);
                assert!(known.is_some(), "the server knows `{setting}`");
                assert!(directive::is_live(setting), "`{setting}` can be set on a running server");
            }
            Action::LoadUsers => {
                running(stage, name);
                let users = started(stage, name).users;
                stage.server(name).users = users;
            }
            Action::Update => {
                let wanted = self.want.state.container(name).expect("what is updated is wanted").clone();
                let container = stage.container(name);
                container.memory_bytes = wanted.memory_bytes;
                container.nano_cpus = wanted.nano_cpus;
                container.pids = wanted.pids;
                container.restart = wanted.restart;
            }
            Action::Start => self.start(stage, name),
            Action::Stop => stop(stage, step),
            Action::Rehearse { services, .. } => {
                let had = self.rehearsed.borrow_mut().replace(services.clone());
                assert!(had.is_none(), "one rehearsal is enough");
                assert_eq!(stage.state, self.before, "`{}` comes before anything is touched", step.summary());
                for service in services {
                    let wanted = self.want.state.container(service.as_str()).expect("what is rehearsed is wanted");
                    assert!(stage.images.contains(&wanted.image), "{service} is rehearsed from an image that is there");
                }
            }
            Action::HandOver { .. } => panic!("`{}` is played on real servers", step.summary()),
            Action::TakeOver { .. } => {
                assert!(running(stage, name).role == Role::App, "`{}` is for applications", step.summary());
                stage.stop(name);
                stage.state.resources.remove(id);
                self.create(stage, id);
                self.start(stage, name);
            }
            Action::Ready => _ = running(stage, name),
        }
    }

    fn create(&self, stage: &mut Stage, id: &ResourceId) {
        assert!(!stage.state.resources.contains_key(id), "{id} is already there");
        let mut resource = self.want.state.resources.get(id).expect("what is created is wanted").clone();
        match &mut resource {
            Resource::Network(_) => {}
            Resource::Volume(Volume::Data { .. }) => _ = stage.data.entry(id.name.clone()).or_default(),
            Resource::Volume(Volume::Files { files }) => files.clear(),
            Resource::Container(container) => {
                assert!(stage.images.contains(&container.image), "{id} is made from an image that is there");
                for network in &container.networks {
                    let network = ResourceId::network(network);
                    assert!(stage.state.resources.contains_key(&network), "{id} is attached to {network}");
                }
                for mount in container.mounts.values() {
                    let volume = ResourceId::volume(&mount.volume);
                    assert!(stage.state.resources.contains_key(&volume), "{id} mounts {volume}");
                }
                container.running = false;
                container.started = false;
                container.server = None;
            }
        }
        stage.state.resources.insert(id.clone(), resource);
    }

    fn remove(&self, stage: &mut Stage, step: &Step) {
        let id = &step.resource;
        let gone = stage.state.resources.remove(id).expect("what is removed is there");
        let containers = stage.state.resources.iter().filter_map(|(other, resource)| match resource {
            Resource::Container(container) => Some((other, container)),
            _ => None,
        });
        for (other, container) in containers {
            let mounted = container.mounts.values().any(|mount| mount.volume == id.name);
            assert!(id.kind != ResourceKind::Volume || !mounted, "{id} is removed, and {other} mounts it");
            let attached = container.networks.contains(&id.name);
            assert!(id.kind != ResourceKind::Network || !attached, "{id} is removed, and {other} is attached to it");
        }
        match gone {
            Resource::Volume(Volume::Data { .. }) => {
                assert!(self.delete_data.contains(&id.name), "{id} holds data, and nobody named it");
                assert_eq!(step.risk, Risk::RemovesData, "the plan says that {id} holds data");
                let keys = stage.data.remove(&id.name).map_or(0, |data| data.0);
                let service = id.name.split('.').next().unwrap_or_default();
                assert!(keys == 0 || self.backed_up.borrow().contains(service), "{id} is removed without a backup");
            }
            Resource::Container(container) => {
                assert!(!container.running, "{id} is stopped before it is removed");
            }
            _ => {}
        }
    }

    fn write_files(&self, stage: &mut Stage, step: &Step, volumes: &[String]) {
        for name in volumes {
            assert!(mounts(stage, FILES, name), "`{name}` is mounted by the container that files go through");
            let service = name.split('.').next().unwrap_or_default();
            let volume = self.want.state.volume(name).expect("what is written is wanted").clone();
            if let Volume::Data { .. } = volume {
                // The folder is given to its server; nothing in it is touched.
                stage.owned.insert(name.clone());
                continue;
            }
            if stage.state.container(service).is_some_and(|container| container.role == Role::Redis) {
                self.guard(stage, step, service);
            }
            stage.state.resources.insert(ResourceId::volume(name), Resource::Volume(volume));
        }
    }

    fn start(&self, stage: &mut Stage, name: &str) {
        let container = stage.state.container(name).expect("what is started is there").clone();
        assert!(!container.running && !container.restarting, "`{name}` does not run yet");
        let facts = self.want.services.values().find(|facts| facts.name.as_str() == name).expect("a service");
        let server = match (container.role, &facts.ready) {
            (Role::Redis, _) => {
                let data = own_data(name);
                assert!(stage.owned.contains(&data), "the data volume of `{name}` belongs to it before it starts");
                let keys = stage.data.get(&data).map_or(0, |data| data.0);
                let safe = container.started || keys == 0 || self.back || self.backed_up.borrow().contains(name);
                assert!(safe, "a new `{name}` starts on {keys} keys that were not copied");
                Some(started(stage, name))
            }
            (Role::App, Readiness::Http { .. }) => {
                let health = ("health".to_owned(), Value::text("status 200"));
                Some(Server { facts: BTreeMap::from([health]), ..Server::default() })
            }
            _ => None,
        };
        // One that did not run before a change is not meant to on the way back, whoever needs it.
        let meant = |need: &&Name| self.want.state.container(need.as_str()).is_none_or(|meant| meant.running);
        for need in facts.needs.iter().filter(meant) {
            assert!(running(stage, need.as_str()).running, "`{name}` needs {need}, which runs before it");
        }
        let read = stage.files(&container);
        stage.read.insert(name.to_owned(), read);
        let container = stage.container(name);
        container.running = true;
        container.started = true;
        container.server = server;
    }
}

fn running_before(before: &State, name: &str) -> bool {
    before.container(name).is_some_and(|container| container.running)
}

fn mounts(stage: &Stage, container: &str, volume: &str) -> bool {
    let container = stage.state.container(container);
    container.is_some_and(|container| container.mounts.values().any(|mount| mount.volume == volume))
}

fn running<'s>(stage: &'s Stage, name: &str) -> &'s Container {
    let container = stage.state.container(name).unwrap_or_else(|| panic!("container/{name} is there"));
    assert!(container.running, "container/{name} runs");
    container
}

/// What a server makes of the files in its volume.
fn started(stage: &Stage, name: &str) -> Server {
    let container = stage.state.container(name).expect("a container");
    let mount = container.mounts.get("/etc/redis").expect("a Redis mounts its files");
    let Some(Volume::Files { files }) = stage.state.volume(&mount.volume) else { panic!("a volume of files") };
    let text = |file: &str| {
        let file = files.get(file).unwrap_or_else(|| panic!("{file} is written before `{name}` starts"));
        String::from_utf8(file.content.clone()).expect("text")
    };
    let mut settings: BTreeMap<String, Value> =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), Value::text(*value))).collect();
    let written = directive::parse(&text("redis.conf")).expect("a redis.conf that reads");
    for (name, (value, _)) in directive::effective(&written) {
        settings.insert(name, Value::Text(value));
    }
    let acl = text("users.acl");
    let lines = acl.lines().filter_map(|line| line.strip_prefix("user ")?.split_once(' '));
    let users = lines.map(|(name, rules)| (name.to_owned(), acl::user(rules))).collect();
    let said = [
        ("functions", "none"),
        ("last-append", "ok"),
        ("last-save", "ok"),
        ("mode", "standalone"),
        ("modules", "none"),
        ("role", "master"),
    ];
    let mut facts = BTreeMap::from(said.map(|(name, value)| (name.to_owned(), Value::text(value))));
    let version = stage.versions.get(&container.image).cloned().unwrap_or_else(|| Value::text("redis 6.0.0"));
    facts.insert("version".to_owned(), version);
    Server { settings, users, facts }
}

/// A stop loses what a server keeps in memory only, and the plan has to have said so.
fn stop(stage: &mut Stage, step: &Step) {
    let name = step.resource.name.as_str();
    let container = stage.container(name);
    container.restarting = false;
    if container.role == Role::Redis
        && let Some(server) = &container.server
    {
        let kept = |setting: &str, nothing: &str| {
            server.settings.get(setting).is_some_and(|value| *value != Value::text(nothing))
        };
        let durable = kept("appendonly", "no") || kept("save", "");
        let data = stage.data.entry(own_data(name)).or_default();
        if !durable && data.0 > 0 {
            assert!(matches!(step.risk, Risk::ColdCache { .. }), "the plan says that `{name}` loses its keys");
            *data = (0, 0);
        }
    }
    stage.stop(name);
}

impl World for Fake<'_> {
    async fn perform(&self, step: &Step, _: &impl Listener) -> Result<String, Failure> {
        // A running server takes several live changes at once, and nothing else beside them.
        let (live, limits) = (step.effect == Effect::Live, step.action == Action::Update);
        if !limits {
            let alone = self.in_hand.borrow().get(&step.resource).is_none_or(|others| live && *others);
            assert!(alone, "`{}` while another step on {} is in hand", step.summary(), step.resource);
            self.in_hand.borrow_mut().insert(step.resource.clone(), live);
        }
        // Steps that do not wait for each other end in any order.
        let pauses = self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(step.number.wrapping_mul(0x85eb_ca6b)) >> 29;
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        let performed = *self.performed.borrow();
        *self.performed.borrow_mut() += 1;
        let fails = self.cut.filter(|cut| performed >= cut.after);
        if fails.is_none_or(|cut| cut.reply_lost && performed == cut.after) {
            self.perform_on(&mut self.stage.borrow_mut(), step);
        }
        self.in_hand.borrow_mut().remove(&step.resource);
        match fails {
            Some(_) => Err(Failure::message(Kind::Error, "the world ends here")),
            None => Ok("done".to_owned()),
        }
    }
}

/// Hears nothing.
pub struct Deaf;

impl Listener for Deaf {
    fn hear(&self, _: Event) {}
}

/// Carries the plan out on the world, and says whether all of it was done.
pub fn carry_out(plan: &Plan, world: &Fake<'_>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let outcome = runtime.block_on(lockstep::apply::run(plan, world, &Deaf, &|| false));
    outcome.is_complete(plan)
}

//! One environment and its templates to the state that the spec means, and where each field was written.
//!
//! Pure: the values of secrets come in from outside, and are placeholders where only text is wanted.

use crate::acl;
use crate::directive::{self, Class};
use crate::finding::Finding;
use crate::model::{App, Environment, Kind, RedisServer, Service, resolve, rules};
use crate::render::Templates;
use crate::spec::Rehearse;
use crate::state::{
    Container, File, Hardening, Mount, Network, Observed, Resource, Role, Server, State, User, Value, Volume,
};
use crate::value::{Family, Name, Place, ResourceId, Secret, ServerVersion, Span, secret};
use serde::Serialize;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};

/// The network that every service is on; nothing on it reaches the outside.
pub const PRIVATE: &str = "private";
/// The network of applications that publish a port.
pub const EDGE: &str = "edge";
/// The container that mounts all volumes of files.
pub const FILES: &str = rules::FILES_CONTAINER;
/// Lockstep's own user in every Redis, and the file that holds its password, readable by root alone.
pub const OPERATOR: &str = "lockstep";
pub const OPERATOR_PASSWORD: &str = "lockstep.password";

const REDIS_CONF: &str = "redis.conf.tera";
const USERS_ACL: &str = "users.acl.tera";

/// The templates that are used where a project brings none of its own.
pub const BUILT_IN: [(&str, &str); 2] = [
    (REDIS_CONF, include_str!("../templates/redis.conf.tera")),
    (USERS_ACL, include_str!("../templates/users.acl.tera")),
];

/// Bytes of a secret that are hidden wherever they stand; fewer may stand anywhere by chance.
const SHORTEST: usize = 4;

/// The values that templates must not see.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Declared secrets by name; placeholders stand in for those that are missing.
    pub values: BTreeMap<String, Secret>,
    /// The password of lockstep's own user, by Redis service.
    pub operators: BTreeMap<String, Secret>,
}

impl Secrets {
    /// A text that somebody else wrote, without the values of secrets that may stand in it.
    pub fn conceal(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for secret in self.values.values().chain(self.operators.values()) {
            for form in secret.forms(SHORTEST) {
                shown = shown.replace(&form, secret::HIDDEN);
            }
        }
        shown
    }

    /// The same of a line of a log, without what a terminal would take for an order.
    pub fn conceal_line(&self, line: &str) -> String {
        let printable: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.conceal(&printable)
    }
}

/// Where a field was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Origin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The differences that the value was computed from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<String>,
}

/// What has to answer before a service counts as ready.
#[derive(Clone, Debug, PartialEq)]
pub enum Readiness {
    /// `PING` answered, past `LOADING`.
    Redis,
    /// A 2xx or 3xx answer to GET.
    Http { path: String, port: u16 },
    /// Nothing to ask: still running after a moment.
    Running,
}

impl Readiness {
    /// What a service that is ready does, `answers /healthz`.
    pub fn met(&self) -> String {
        match self {
            Readiness::Redis => "answers PING".to_owned(),
            Readiness::Http { path, .. } => format!("answers {path}"),
            Readiness::Running => "runs".to_owned(),
        }
    }
}

/// What a plan needs to know of a service beyond its state.
#[derive(Clone, Debug)]
pub struct ServiceFacts {
    pub name: Name,
    pub role: Role,
    pub needs: BTreeSet<Name>,
    pub ready: Readiness,
    pub ready_within: Span,
    pub stop_grace: Span,
    /// The tag in the spec.
    pub image: String,
    pub build: Option<crate::model::Build>,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct Desired {
    pub stack: Name,
    pub environment: Name,
    pub state: State,
    pub origins: BTreeMap<(ResourceId, String), Origin>,
    pub services: BTreeMap<Name, ServiceFacts>,
    pub generations: Generations,
    /// Whether a change is rehearsed before it begins.
    pub rehearse: Rehearse,
}

/// What would bring an environment back to what was seen of it; `meant` knows of its services what cannot be seen.
pub fn as_it_was(seen: &Observed, meant: &Desired, generations: &Generations) -> Desired {
    let mut state = seen.state.clone();
    // A second object of one identity was surplus before, too.
    state.resources.retain(|id, _| !id.name.contains(' '));
    let mut services = BTreeMap::new();
    for (id, resource) in &mut state.resources {
        let Resource::Container(container) = resource else { continue };
        if let Some(server) = &mut container.server {
            let known = meant.state.container(&id.name).and_then(|meant| meant.server.as_ref());
            server.settings.retain(|_, value| !matches!(value, Value::Unknown(_)));
            server.facts.retain(|name, value| {
                // Where a page is that nobody means any more, nobody knows. Of a server that is gone back to it has to be known
                // whether it reads what came since, also where its image does not say which one it is.
                let known = known.map_or(name != "health", |known| known.facts.contains_key(name));
                (known || name == "version") && !matches!(value, Value::Unknown(_))
            });
        }
        let Some(name) = Name::parse(&id.name).filter(|_| container.role != Role::Files) else { continue };
        let mut facts =
            meant.service(&id.name).cloned().unwrap_or_else(|| service_as_seen(&name, container, &seen.state));
        facts.needs.retain(|need| seen.state.container(need.as_str()).is_some());
        services.insert(name, facts);
    }
    // Whose a volume is cannot be read from it, and is written again before a server starts on it.
    let owners: Vec<(String, (u32, u32))> = state.resources.values().filter_map(data_and_owner).collect();
    for (volume, of) in owners {
        if let Some(Resource::Volume(Volume::Data { owner })) = state.resources.get_mut(&ResourceId::volume(volume)) {
            *owner = of;
        }
    }
    Desired {
        stack: meant.stack.clone(),
        environment: meant.environment.clone(),
        state,
        origins: BTreeMap::new(),
        services,
        generations: generations.clone(),
        rehearse: Rehearse::Never,
    }
}

/// The data volume of a Redis, and the user and group as whom it runs.
fn data_and_owner(resource: &Resource) -> Option<(String, (u32, u32))> {
    let Resource::Container(container) = resource else { return None };
    let data = container.mounts.get("/data").filter(|_| container.role == Role::Redis)?;
    Some((data.volume.clone(), container.owner()?))
}

/// As much as a container tells of a service that the spec does not have.
fn service_as_seen(name: &Name, container: &Container, state: &State) -> ServiceFacts {
    let is_redis = container.role == Role::Redis;
    let needs = state.resources.iter().filter_map(|(id, resource)| match resource {
        Resource::Container(other) if !is_redis && other.role == Role::Redis => Name::parse(&id.name),
        _ => None,
    });
    ServiceFacts {
        name: name.clone(),
        role: container.role,
        needs: needs.collect(),
        ready: if is_redis { Readiness::Redis } else { Readiness::Running },
        ready_within: Span::seconds(60),
        stop_grace: Span::seconds(container.stop_seconds),
        image: container.image.clone(),
        build: None,
        place: Place::file("as it was"),
    }
}

/// Which of a service's data volumes is in use, by service; the first where nothing is said.
pub type Generations = BTreeMap<String, u32>;

impl Desired {
    /// The volume with the data of a Redis.
    pub fn data_volume(&self, service: &Name) -> String {
        data_volume(service, self.generations.get(service.as_str()).copied().unwrap_or(1))
    }

    pub fn service(&self, name: &str) -> Option<&ServiceFacts> {
        self.services.values().find(|facts| facts.name.as_str() == name)
    }

    /// Where a field was written, or else where its resource was.
    pub fn origin(&self, resource: &ResourceId, field: &str) -> Option<&Origin> {
        let exact = self.origins.get(&(resource.clone(), field.to_owned()));
        exact.or_else(|| self.origins.get(&(resource.clone(), String::new())))
    }
}

/// Builds the desired state; findings are about templates that do not render to something usable.
pub fn build(
    environment: &Environment,
    templates: &Templates,
    secrets: &Secrets,
    generations: &Generations,
    findings: &mut Vec<Finding>,
) -> Desired {
    let mut builder = Builder {
        environment,
        templates,
        secrets,
        generations,
        findings,
        state: State::default(),
        origins: BTreeMap::new(),
        services: BTreeMap::new(),
    };
    builder.network(PRIVATE, true);
    for service in environment.services.values() {
        match &service.kind {
            Kind::Redis(redis) => builder.redis(service, redis),
            Kind::App(app) => builder.app(service, app),
        }
    }
    builder.files_container();
    Desired {
        stack: environment.stack.clone(),
        environment: environment.name.clone(),
        state: builder.state,
        origins: builder.origins,
        services: builder.services,
        generations: generations.clone(),
        rehearse: environment.rehearse,
    }
}

struct Builder<'a, 'f> {
    environment: &'a Environment,
    templates: &'a Templates,
    secrets: &'a Secrets,
    generations: &'a Generations,
    findings: &'f mut Vec<Finding>,
    state: State,
    origins: BTreeMap<(ResourceId, String), Origin>,
    services: BTreeMap<Name, ServiceFacts>,
}

impl Builder<'_, '_> {
    fn network(&mut self, name: &str, internal: bool) {
        self.state.resources.insert(ResourceId::network(name), Resource::Network(Network { internal }));
    }

    fn origin(&mut self, resource: &ResourceId, field: &str, place: &Place, uses: &[String]) {
        let origin = Origin { place: Some(place.clone()), uses: uses.to_vec() };
        self.origins.insert((resource.clone(), field.to_owned()), origin);
    }

    fn redis(&mut self, service: &Service, redis: &RedisServer) {
        let name = service.name.as_str();
        let id = ResourceId::container(name);
        let conf = self.redis_conf(service, redis);
        let users = self.users(service, redis);
        let acl = self.users_acl(service, redis, &users);
        let mut files = BTreeMap::new();
        let owner = service.user;
        let file = |content: Vec<u8>, secret: bool, mode: u32, owner| File { content, secret, mode, owner };
        let operator = self.secrets.operators.get(name).cloned().unwrap_or_else(|| placeholder(OPERATOR));
        files.insert("redis.conf".to_owned(), file(conf.clone().into_bytes(), false, 0o440, owner));
        files.insert("users.acl".to_owned(), file(acl.into_bytes(), true, 0o440, owner));
        files.insert(OPERATOR_PASSWORD.to_owned(), file(operator.reveal().to_vec(), true, 0o400, (0, 0)));

        let mut settings = BTreeMap::new();
        match directive::parse(&conf) {
            Ok(directives) => {
                self.refuse_fixed(service, redis, &directives);
                for (directive, (value, _)) in directive::effective(&directives) {
                    if directive::is_reported(&directive) {
                        settings.insert(directive, Value::Text(value));
                    }
                }
            }
            Err((line, why)) => {
                let message = format!("line {line} of the rendered redis.conf of `{name}` does not read: {why}");
                self.findings.push(Finding::error("redis-conf", message).at(&service.place));
            }
        }
        let mut all_uses = BTreeSet::new();
        for (directive, written) in &redis.settings {
            self.origin(&id, &format!("settings.{directive}"), &written.place, &written.uses);
            all_uses.extend(written.uses.iter().cloned());
        }
        for (user, declared) in &redis.users {
            for aspect in ["enabled", "without-password", "passwords", "keys", "channels", "commands", "selectors"] {
                self.origin(&id, &format!("users.{user}.{aspect}"), &declared.place, &[]);
            }
        }
        let conf_volume = ResourceId::volume(volume_name(service, "/etc/redis"));
        let all_uses: Vec<String> = all_uses.into_iter().collect();
        self.origin(&conf_volume, "files.redis.conf", &service.place, &all_uses);
        self.volume(service, "/etc/redis", files);
        let data = data_volume(&service.name, self.generations.get(name).copied().unwrap_or(1));
        let data_id = ResourceId::volume(&data);
        self.state.resources.insert(data_id.clone(), Resource::Volume(Volume::Data { owner }));
        self.origin(&data_id, "", &service.place, &[]);

        let mut container = self.container(service, Role::Redis);
        let binary = match redis.server.family {
            Family::Redis => "redis-server",
            Family::Valkey => "valkey-server",
        };
        container.entrypoint = Some(vec![binary.to_owned()]);
        container.command = Some(vec!["/etc/redis/redis.conf".to_owned()]);
        container.mounts.insert("/data".to_owned(), Mount { volume: data, read_only: false });
        container.mounts.insert("/etc/redis".to_owned(), Mount { volume: conf_volume.name, read_only: true });
        // Known before it runs if the image says so; otherwise what runs is taken as it is.
        let version = (redis.server != ServerVersion::OLDEST).then(|| Value::text(redis.server.to_string()));
        let mut facts: BTreeMap<String, Value> =
            version.map(|version| ("version".to_owned(), version)).into_iter().collect();
        facts.insert("role".to_owned(), Value::text("master"));
        container.server = Some(Server { settings, users, facts });
        self.finish(service, container, Readiness::Redis);
    }

    /// The rendered `redis.conf`: the template's text, then every setting of the spec that the text does not carry.
    fn redis_conf(&mut self, service: &Service, redis: &RedisServer) -> String {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, values) in directive::baseline(redis.server) {
            settings.insert(name.to_owned(), values.into_iter().map(str::to_owned).collect());
        }
        for (name, written) in &redis.settings {
            settings.insert(name.clone(), written.value.clone());
        }
        for (name, value) in directive::own(redis.server) {
            settings.insert(name.to_owned(), vec![value.to_owned()]);
        }
        let lines: Vec<Setting> = settings
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
            .filter_map(|(name, value)| {
                let line = directive::line(&directive::spelled(name, redis.server), value)?;
                Some(Setting { name: name.clone(), value: value.clone(), line })
            })
            .collect();
        let mut values = resolve::names(self.environment);
        values.insert("service", service.name.as_str());
        values.insert("settings", &lines);
        let template = redis.template.as_ref().map_or(REDIS_CONF, |written| written.value.as_str());
        let mut text = self.render(template, &values);
        let carried = directive::parse(&text).map(|parsed| directive::effective(&parsed)).unwrap_or_default();
        for (name, values) in &settings {
            let wanted = directive::canonical(name, values);
            let explicit = redis.settings.contains_key(name) || directive::OWN.iter().any(|(own, _)| own == name);
            match carried.get(name) {
                Some((value, _)) if *value == wanted => continue,
                // A template's own choice beats the baseline; the spec and lockstep's own beat the template.
                Some(_) if !explicit => continue,
                Some(_) if name == "save" => text.push_str("save \"\"\n"),
                _ => {}
            }
            for line in
                values.iter().filter_map(|value| directive::line(&directive::spelled(name, redis.server), value))
            {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    }

    fn refuse_fixed(&mut self, service: &Service, redis: &RedisServer, directives: &[directive::Directive]) {
        let template = redis.template.as_ref().map_or(REDIS_CONF, |written| written.value.as_str());
        let (file, text) = self.templates.source(template);
        for directive in directives {
            let Some((name, why)) = directive::FIXED.iter().find(|(fixed, _)| *fixed == directive.name) else {
                continue;
            };
            let own = directive::own(redis.server).find(|(own, _)| own == name);
            if own.is_some_and(|(_, value)| directive.arguments.join(" ") == value) {
                continue;
            }
            let at = text.lines().position(|line| line.trim_start().to_ascii_lowercase().starts_with(name));
            let place = at.map_or(service.place.clone(), |line| Place::of_line(&file, text, line + 1));
            let message = format!("`{name}` cannot be set: {why}");
            self.findings.push(Finding::error("fixed-setting", message).at(&place));
        }
    }

    /// The users of a Redis, lockstep's own and the switched-off default included.
    fn users(&self, service: &Service, redis: &RedisServer) -> BTreeMap<String, User> {
        let mut users = BTreeMap::new();
        let off = User { commands: "-@all".to_owned(), ..acl::user("off -@all") };
        users.insert("default".to_owned(), off);
        let operator = self.secrets.operators.get(service.name.as_str());
        let mut lockstep = acl::user(&operator_rules(redis.server));
        lockstep.passwords.insert(password_hash(operator, OPERATOR));
        users.insert(OPERATOR.to_owned(), lockstep);
        for (name, declared) in &redis.users {
            let mut rules = vec!["on"];
            rules.extend(declared.keys.iter().map(String::as_str));
            if redis.server.speaks(6, 2) {
                rules.extend(declared.channels.iter().map(String::as_str));
            }
            rules.push("-@all");
            rules.extend(declared.commands.iter().map(String::as_str));
            let mut user = acl::user(&rules.join(" "));
            let secret = declared.password.value.as_str();
            user.passwords.insert(password_hash(self.secrets.values.get(secret), secret));
            users.insert(name.clone(), user);
        }
        if !redis.server.speaks(6, 2) {
            // Before 6.2 there are no rules for channels, and the server reports none.
            users.values_mut().for_each(|user| user.channels.clear());
        }
        users
    }

    fn users_acl(&mut self, service: &Service, redis: &RedisServer, users: &BTreeMap<String, User>) -> String {
        let channels = if redis.server.speaks(6, 2) { "resetchannels " } else { "" };
        let lines: Vec<UserLine> = users
            .iter()
            .map(|(name, user)| {
                // What a version would give a user unasked is taken first.
                let rules = format!("resetpass resetkeys {channels}{}", acl::rules(user).join(" "));
                UserLine { name: name.clone(), rules }
            })
            .collect();
        let mut values = resolve::names(self.environment);
        values.insert("service", service.name.as_str());
        values.insert("users", &lines);
        let template = redis.acl_template.as_ref().map_or(USERS_ACL, |written| written.value.as_str());
        self.render(template, &values)
    }

    fn render(&mut self, template: &str, values: &crate::render::Values) -> String {
        match self.templates.render(template, values) {
            Ok(text) => text,
            Err(findings) => {
                self.findings.extend(findings);
                String::new()
            }
        }
    }

    fn app(&mut self, service: &Service, app: &App) {
        let id = ResourceId::container(service.name.as_str());
        if !app.secrets.is_empty() {
            let files = app.secrets.iter().map(|name| {
                let secret = self.secrets.values.get(&name.value).cloned();
                let secret = secret.unwrap_or_else(|| placeholder(&name.value));
                let content = secret.reveal().to_vec();
                (name.value.clone(), File { content, secret: true, mode: 0o400, owner: service.user })
            });
            let files = files.collect();
            self.volume(service, "/run/secrets", files);
        }
        let mut container = self.container(service, Role::App);
        if !app.secrets.is_empty() {
            let volume = volume_name(service, "/run/secrets");
            container.mounts.insert("/run/secrets".to_owned(), Mount { volume, read_only: true });
        }
        container.command.clone_from(&app.command);
        for (key, written) in &app.env {
            self.origin(&id, &format!("env.{key}"), &written.place, &written.uses);
            container.env.insert(key.clone(), written.value.clone());
        }
        for port in &app.ports {
            let key = format!("{}/tcp", port.value.container);
            self.origin(&id, &format!("ports.{key}"), &port.place, &port.uses);
            container.ports.insert(key, format!("{}:{}", port.value.host_ip, port.value.host));
        }
        for (path, written) in &app.tmpfs {
            self.origin(&id, &format!("tmpfs.{path}"), &written.place, &written.uses);
            container.tmpfs.insert(path.clone(), written.value.0);
        }
        if !app.ports.is_empty() {
            self.network(EDGE, false);
            container.networks.insert(EDGE.to_owned());
        }
        let ready = match &app.health {
            Some(health) => Readiness::Http { path: health.path.clone(), port: health.port },
            None => Readiness::Running,
        };
        self.finish(service, container, ready);
    }

    /// What every service's container has; declared files are put into their volumes on the way.
    fn container(&mut self, service: &Service, role: Role) -> Container {
        let id = ResourceId::container(service.name.as_str());
        let mut mounts = BTreeMap::new();
        for (folder, files) in self.declared_files(service) {
            let volume = volume_name(service, &folder);
            self.volume(service, &folder, files);
            mounts.insert(folder, Mount { volume, read_only: true });
        }
        self.origin(&id, "", &service.place, &[]);
        self.origin(&id, "image", &service.image.place, &service.image.uses);
        let limits = &service.limits;
        self.origin(&id, "limits.memory", &limits.memory.place, &limits.memory.uses);
        self.origin(&id, "limits.cpus", &limits.nano_cpus.place, &limits.nano_cpus.uses);
        self.origin(&id, "limits.pids", &limits.pids.place, &limits.pids.uses);
        self.origin(&id, "limits.open-files", &limits.files.place, &limits.files.uses);
        Container {
            role,
            image: service.locked.clone().unwrap_or_else(|| format!("{} (not locked)", service.image.value)),
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            user: format!("{}:{}", service.user.0, service.user.1),
            mounts,
            seed: None,
            ports: BTreeMap::new(),
            networks: BTreeSet::from([PRIVATE.to_owned()]),
            memory_bytes: limits.memory.value.0,
            nano_cpus: limits.nano_cpus.value,
            pids: limits.pids.value,
            open_files: limits.files.value,
            tmpfs: BTreeMap::from([("/tmp".to_owned(), 16 << 20)]),
            restart: "unless-stopped".to_owned(),
            stop_seconds: service.stop_grace.milliseconds.div_ceil(1000),
            hardening: Hardening::standard(),
            running: true,
            restarting: false,
            started: false,
            server: None,
        }
    }

    /// The service's declared files, rendered, by the folder whose volume delivers them.
    fn declared_files(&mut self, service: &Service) -> BTreeMap<String, BTreeMap<String, File>> {
        let folder_of = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let folders: BTreeSet<String> = service.files.keys().map(|path| folder_of(path)).collect();
        let mut delivered: BTreeMap<String, BTreeMap<String, File>> = BTreeMap::new();
        for (path, template) in &service.files {
            // A folder inside another one's volume is part of it; the set is sorted, so the outermost comes first.
            let own = folder_of(path);
            let folder = folders.iter().find(|outer| own == **outer || own.starts_with(&format!("{outer}/")));
            let folder = folder.unwrap_or(&own).clone();
            let mut values = resolve::names(self.environment);
            values.insert("service", service.name.as_str());
            let text = self.render(&template.value, &values);
            let relative = path.get(folder.len() + 1..).unwrap_or(path).to_owned();
            let volume = ResourceId::volume(volume_name(service, &folder));
            let uses = self.templates.uses(&template.value);
            self.origin(&volume, &format!("files.{relative}"), &template.place, &uses);
            let file = File { content: text.into_bytes(), secret: false, mode: 0o440, owner: service.user };
            delivered.entry(folder).or_default().insert(relative, file);
        }
        delivered
    }

    fn volume(&mut self, service: &Service, folder: &str, files: BTreeMap<String, File>) {
        let id = ResourceId::volume(volume_name(service, folder));
        self.origin(&id, "", &service.place, &[]);
        self.state.resources.insert(id, Resource::Volume(Volume::Files { files }));
    }

    fn finish(&mut self, service: &Service, container: Container, ready: Readiness) {
        let id = ResourceId::container(service.name.as_str());
        let facts = ServiceFacts {
            name: service.name.clone(),
            role: container.role,
            needs: service.needs.clone(),
            ready,
            ready_within: service.ready_within,
            stop_grace: service.stop_grace,
            image: service.image.value.clone(),
            build: service.build.clone(),
            place: service.place.clone(),
        };
        self.services.insert(service.name.clone(), facts);
        self.state.resources.insert(id, Resource::Container(Box::new(container)));
    }

    /// Mounts every volume, so that one request reads all files and one writes them.
    fn files_container(&mut self) {
        let mut mounts = BTreeMap::new();
        for (id, resource) in &self.state.resources {
            let Resource::Volume(volume) = resource else { continue };
            let folder = match volume {
                Volume::Files { .. } => "/v",
                Volume::Data { .. } => "/d",
            };
            mounts.insert(format!("{folder}/{}", id.name), Mount { volume: id.name.clone(), read_only: false });
        }
        let image = self.environment.services.values().find_map(|service| service.locked.clone());
        if mounts.is_empty() {
            return;
        }
        let container = Container::carrier(image.unwrap_or_default(), "65534:65534".to_owned(), mounts);
        self.origin(&ResourceId::container(FILES), "", &self.environment.place.clone(), &[]);
        self.state.resources.insert(ResourceId::container(FILES), Resource::Container(Box::new(container)));
    }
}

#[derive(Serialize)]
struct Setting {
    name: String,
    value: String,
    line: String,
}

#[derive(Serialize)]
struct UserLine {
    name: String,
    rules: String,
}

/// What lockstep may do in a Redis: read its state, change settings and users, copy its data; no key is open to it.
fn operator_rules(server: ServerVersion) -> String {
    let mut rules = String::from(
        "on -@all +ping +info +dbsize +config|get +config|set +acl|list +acl|cat +acl|setuser +acl|deluser \
         +module|list +psync +replconf +client|setname +slowlog|get +slowlog|len",
    );
    if server.speaks(7, 0) {
        rules.push_str(" +command|list +function|list +latency|histogram");
    } else {
        rules.push_str(" +command");
    }
    rules
}

fn placeholder(name: &str) -> Secret {
    Secret::new(format!("(secret {name})"))
}

/// SHA-256 as Redis keeps it, or a placeholder that no server would accept.
fn password_hash(secret: Option<&Secret>, name: &str) -> String {
    match secret {
        Some(secret) => sha2::Sha256::digest(secret.reveal()).iter().map(|byte| format!("{byte:02x}")).collect(),
        None => format!("(secret:{name})"),
    }
}

/// The volume of a service's data, `cache.data`; one that was restored into has its number behind it, `cache.data-2`.
pub fn data_volume(service: &Name, generation: u32) -> String {
    if generation > 1 { format!("{service}.data-{generation}") } else { format!("{service}.data") }
}

/// The service whose data a volume is for, and which one it is.
pub fn generation(volume: &str) -> Option<(&str, u32)> {
    let (service, kind) = volume.split_once('.')?;
    let number = match kind.strip_prefix("data")? {
        "" => 1,
        rest => rest.strip_prefix('-')?.parse().ok().filter(|number| *number > 1)?,
    };
    Some((service, number))
}

/// `web.etc.site` for the folder `/etc/site` of `web`.
fn volume_name(service: &Service, folder: &str) -> String {
    let slug: String = folder
        .trim_start_matches('/')
        .chars()
        .map(|c| match c {
            '/' => '.',
            c if c.is_ascii_alphanumeric() || c == '-' => c,
            _ => '_',
        })
        .collect();
    format!("{}.{slug}", service.name)
}

/// How parity treats a field, as far as the field alone tells.
pub fn class(field: &str) -> Class {
    if let Some(directive) = field.strip_prefix("settings.") {
        return directive::class(directive);
    }
    if field.ends_with(".passwords") && field.starts_with("users.") {
        return Class::MustDiffer;
    }
    match field {
        "limits.memory" | "limits.cpus" | "limits.pids" | "limits.open-files" => Class::Scaled,
        _ => Class::MustMatch,
    }
}

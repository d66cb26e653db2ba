//! `case.txt`: how an environment comes to be what it is, in one short line each.
//!
//! Every case starts from the project in `tests/cases/base`, carried out in full. Lines change the texts before or
//! after that, and then what is there. A line for one of two environments begins with its name: `production: stop web`.
//!
//! ```text
//! before|after|both FILE OLD => NEW    replaces a piece of text, `\n` is a line break
//! empty                                nothing has been carried out yet
//! down                                 nothing is meant to be there
//! delete-data VOLUME                   a data volume that may go
//! secret NAME VALUE                    another value for a secret, in what is meant
//! had-secret NAME VALUE                another value for a secret, in what was carried out
//! apply                                what is meant is carried out as well
//! back                                 the plan is the way back to what there was before `apply`
//! keys SERVICE COUNT SIZE              what a Redis holds
//! stop|crash SERVICE                   its process ended, or ends over and over
//! unreadable SERVICE WHY               it runs and does not answer
//! unwell SERVICE STATUS                its health page answers with this status
//! gone RESOURCE                        such as volume/cache.data
//! taken RESOURCE                       something else has its name
//! no-image REFERENCE                   the engine does not have it
//! setting SERVICE NAME [VALUE]         somebody ran CONFIG SET
//! user SERVICE NAME RULES              somebody ran ACL SETUSER
//! fact SERVICE NAME VALUE              what a server says of itself
//! unknown SERVICE settings.NAME WHY    could not be read; also facts.NAME
//! memory SERVICE SIZE                  somebody ran docker update
//! env SERVICE NAME VALUE               the container was made with it
//! mount SERVICE PATH VOLUME            likewise
//! image SERVICE REFERENCE              likewise
//! privileged SERVICE                   likewise
//! outside NETWORK                      it has a way out
//! content VOLUME FILE TEXT             somebody wrote into a delivered file
//! container NAME                       a second `web` under another name
//! compare ENVIRONMENT...               what is verified: one, or several against the first one
//! unread ENVIRONMENT WHY               another one of them, which cannot be read
//! accept WHAT | WHY | UNTIL            a finding that is accepted; the day is 2026-11-26
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lockstep::acceptance::Acceptance;
use lockstep::acl;
use lockstep::desired::{self, Desired};
use lockstep::parity::{self, Side, Verification};
use lockstep::plan::build::Care;
use lockstep::plan::{Plan, build};
use lockstep::state::{File, Mount, Resource, State, Value, Volume};
use lockstep::value::{Bytes, Date, Located, Place, ResourceId, ResourceKind};

use super::spec::Texts;
use super::world::{Fake, Stage, carry_out};

/// One environment of a case: what is meant, and what is there.
pub struct Staged {
    pub want: Desired,
    pub stage: Stage,
    pub delete_data: BTreeSet<String>,
    /// The texts that `want` comes from.
    pub texts: Texts,
    /// What there was before it was carried out, where that is gone back to.
    pub before: Option<Desired>,
}

impl Staged {
    pub fn plan(&self) -> Plan {
        match &self.before {
            Some(before) => build::back(&self.stage.observed(), before, Care::Back, &BTreeSet::new()),
            None => build::build(&self.stage.observed(), &self.want, &self.delete_data),
        }
    }
}

/// Plays the lines of a case for one environment.
pub fn play(script: &str, environment: &str) -> Staged {
    let (mut before, mut after) = (Texts::base(), Texts::base());
    let (mut had_secrets, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    let mut staged_lines = Vec::new();
    let (mut empty, mut down, mut back) = (false, false, false);
    let mut delete_data = BTreeSet::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let line = match line.split_once(": ") {
            Some((name, line)) if name == environment => line,
            Some((name, _)) if ["staging", "production"].contains(&name) => continue,
            _ => line,
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "before" => replace(&mut before, rest),
            "after" => replace(&mut after, rest),
            "both" => {
                replace(&mut before, rest);
                replace(&mut after, rest);
            }
            "empty" => empty = true,
            "down" => down = true,
            "back" => back = true,
            "delete-data" => _ = delete_data.insert(rest.to_owned()),
            "secret" | "had-secret" => {
                let [name, value] = words(rest);
                let secrets = if verb == "secret" { &mut secrets } else { &mut had_secrets };
                secrets.insert(name.to_owned(), value.to_owned());
            }
            "compare" | "unread" | "accept" | "form" => {}
            _ => staged_lines.push((verb, rest)),
        }
    }
    let had = before.meant(environment, &had_secrets);
    let mut want = after.meant(environment, &secrets);
    let mut stage = Stage::with_images([&had, &want]);
    if !empty {
        stage = carried_out(stage, &had);
    }
    let mut was = None;
    for (verb, rest) in staged_lines {
        match verb {
            "apply" => {
                was = Some(desired::as_it_was(&stage.observed(), &want, &want.generations));
                stage = carried_out(stage, &want);
            }
            _ => touch(&mut stage, verb, rest),
        }
    }
    if down {
        want = Desired { state: State::default(), origins: BTreeMap::new(), ..want };
    }
    let before = back.then(|| was.expect("`apply` comes before `back`"));
    Staged { want, stage, delete_data, texts: after, before }
}

/// What verifying comes to, and the texts that it is about.
pub fn verified(script: &str) -> (Verification, Texts) {
    let compared = script.lines().find_map(|line| line.strip_prefix("compare ")).expect("compare ENVIRONMENT...");
    let sides: Vec<_> = compared.split(' ').map(|environment| play(script, environment)).collect();
    let observed: Vec<_> = sides.iter().map(|side| side.stage.observed()).collect();
    let all: Vec<Side<'_>> = sides.iter().zip(&observed).map(|(side, have)| Side { want: &side.want, have }).collect();
    let mut verification = match all.split_first().expect("one at least") {
        (one, []) => parity::drift(*one),
        (reference, others) => parity::matrix(*reference, others),
    };
    for environment in compared.split(' ') {
        verification.read_at(environment, "2026-11-26T02:03:04Z");
    }
    for line in script.lines().filter_map(|line| line.strip_prefix("unread ")) {
        let [environment, why] = words(line);
        verification.unread(usize::MAX, environment, why);
    }
    let accepted = script.lines().filter_map(|line| line.strip_prefix("accept "));
    let acceptances: Vec<Acceptance> = accepted.map(acceptance).collect();
    verification.accept(&acceptances, Date::parse("2026-11-26").expect("a day"));
    let texts = sides.into_iter().next().expect("one at least").texts;
    (verification, texts)
}

fn acceptance(line: &str) -> Acceptance {
    let parts: Vec<&str> = line.split(" | ").collect();
    let [what, why, until] = parts[..] else { panic!("accept WHAT | WHY | UNTIL, not `{line}`") };
    let what = Located::new(what.to_owned(), Place::file("environments/stack.yaml"));
    Acceptance { what, why: why.to_owned(), until: Date::parse(until).expect("a day") }
}

/// The stage once everything is as it is meant.
pub fn carried_out(stage: Stage, want: &Desired) -> Stage {
    let nothing = BTreeSet::new();
    let plan = build::build(&stage.observed(), want, &nothing);
    assert!(plan.refusals.is_empty(), "the start of a case is refused: {:?}", plan.refusals);
    let world = Fake::new(stage, want, &nothing);
    assert!(carry_out(&plan, &world), "the start of a case is carried out");
    world.into_stage()
}

fn replace(texts: &mut Texts, rest: &str) {
    let (file, change) = rest.split_once(' ').expect("before|after|both FILE OLD => NEW");
    let (old, new) = change.split_once(" =>").expect("before|after|both FILE OLD => NEW");
    let text = |text: &str| text.trim_start_matches(' ').replace("\\n", "\n");
    texts.replace(file, &text(old), &text(new));
}

/// The first words, and the rest of the line as the last one.
fn words<const N: usize>(rest: &str) -> [&str; N] {
    let mut words: Vec<&str> = rest.splitn(N, ' ').collect();
    words.resize(N, "");
    words.try_into().expect("as many as asked for")
}

/// Does to what is there what a line says.
pub fn touch(stage: &mut Stage, verb: &str, rest: &str) {
    match verb {
        "keys" => {
            let [service, keys, size] = words(rest);
            let data = (keys.parse().expect("a number"), Bytes::parse(size).expect("a size").0);
            stage.data.insert(format!("{service}.data"), data);
        }
        "stop" => stage.stop(rest),
        "crash" => {
            stage.stop(rest);
            stage.container(rest).restarting = true;
        }
        "unreadable" => {
            let [service, why] = words(rest);
            stage.unreadable.insert(service.to_owned(), why.to_owned());
        }
        "unwell" => {
            let [service, status] = words(rest);
            let health = Value::text(format!("status {status}"));
            stage.server(service).facts.insert("health".to_owned(), health);
        }
        "gone" => {
            let gone = stage.state.resources.remove(&resource(rest));
            assert!(gone.is_some(), "{rest} was there");
        }
        "taken" => _ = stage.taken.insert(resource(rest)),
        "no-image" => assert!(stage.images.remove(rest), "{rest} was there"),
        "setting" => {
            let [service, name, value] = words(rest);
            stage.server(service).settings.insert(name.to_owned(), Value::text(value));
        }
        "user" => {
            let [service, name, rules] = words(rest);
            stage.server(service).users.insert(name.to_owned(), acl::user(rules));
        }
        "fact" => {
            let [service, name, value] = words(rest);
            stage.server(service).facts.insert(name.to_owned(), Value::text(value));
        }
        "unknown" => {
            let [service, field, why] = words(rest);
            let (family, name) = field.split_once('.').expect("settings.NAME or facts.NAME");
            let server = stage.server(service);
            let fields = if family == "settings" { &mut server.settings } else { &mut server.facts };
            fields.insert(name.to_owned(), Value::Unknown(why.to_owned()));
        }
        "memory" => {
            let [service, size] = words(rest);
            stage.container(service).memory_bytes = Bytes::parse(size).expect("a size").0;
        }
        "env" => {
            let [service, name, value] = words(rest);
            stage.container(service).env.insert(name.to_owned(), value.to_owned());
        }
        "mount" => {
            let [service, path, volume] = words(rest);
            let mount = Mount { volume: volume.to_owned(), read_only: false };
            stage.container(service).mounts.insert(path.to_owned(), mount);
        }
        "image" => {
            let [service, image] = words(rest);
            stage.container(service).image = image.to_owned();
        }
        "privileged" => stage.container(rest).hardening.privileged = true,
        "outside" => match stage.state.resources.get_mut(&ResourceId::network(rest)) {
            Some(Resource::Network(network)) => network.internal = false,
            _ => panic!("there is no network `{rest}`"),
        },
        "content" => {
            let [volume, file, text] = words(rest);
            let Some(Resource::Volume(Volume::Files { files })) =
                stage.state.resources.get_mut(&ResourceId::volume(volume))
            else {
                panic!("there is no volume of files `{volume}`");
            };
            let old = files.get(file).cloned().unwrap_or(File {
                content: Vec::new(),
                secret: false,
                mode: 0o440,
                owner: (0, 0),
            });
            files.insert(file.to_owned(), File { content: text.as_bytes().to_vec(), ..old });
        }
        "container" => {
            let second = stage.container("web").clone();
            stage.state.resources.insert(ResourceId::container(rest), Resource::Container(Box::new(second)));
        }
        other => panic!("`{other}` is not a line of a case"),
    }
}

fn resource(text: &str) -> ResourceId {
    let (kind, name) = text.split_once('/').expect("kind/name");
    let kinds = [ResourceKind::Network, ResourceKind::Volume, ResourceKind::Container];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind).expect("network, volume or container");
    ResourceId { kind, name: name.to_owned() }
}

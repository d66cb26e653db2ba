//! What holds for every input, shown on many: the properties that plans, states and texts are built on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use lockstep::desired::{self, Desired, FILES};
use lockstep::diff;
use lockstep::directive;
use lockstep::parity::{self, Level, Side};
use lockstep::plan::build::Care;
use lockstep::plan::{Action, Effect, Plan, Risk, Step, build};
use lockstep::render::{Templates, Values};
use lockstep::spec::yaml::{self, Node, Tree};
use lockstep::spec::{environment, lock, parse};
use lockstep::ui::text;
use lockstep::value::{Bytes, Digest, Name, Secret, ServerVersion, Sources, Span};

use crate::support::plain;
use crate::support::script::{carried_out, play, touch};
use crate::support::spec::{SENTINEL, Texts};
use crate::support::world::{Cut, Fake, Stage, carry_out};

/// The same examples on every run; what a run finds, the next one finds too.
fn examples(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Values and texts
// ---------------------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(examples(512))]

    #[test]
    fn a_size_that_is_printed_reads_as_itself(size in prop_oneof![any::<u64>(), (0u64..4096).prop_map(|n| n << 20)]) {
        prop_assert_eq!(Bytes::parse(&Bytes(size).to_string()), Some(Bytes(size)));
    }

    #[test]
    fn a_duration_that_is_printed_reads_as_itself(milliseconds in prop_oneof![any::<u64>(), 0u64..100_000_000]) {
        let span = Span { milliseconds };
        prop_assert_eq!(Span::parse(&span.to_string()), Some(span));
    }

    #[test]
    fn text_that_is_no_size_or_duration_is_refused_and_never_panics(text in "\\PC{0,24}") {
        if let Some(size) = Bytes::parse(&text) {
            prop_assert_eq!(Bytes::parse(&size.to_string()), Some(size));
        }
        if let Some(span) = Span::parse(&text) {
            prop_assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
        let _ = ServerVersion::parse(&text);
        prop_assert!(Name::parse(&text).is_none_or(|name| name.as_str() == text));
    }

    #[test]
    fn the_normal_form_of_a_setting_is_its_own_normal_form((name, values) in setting()) {
        let once = directive::canonical(&name, &values);
        prop_assert_eq!(directive::canonical(&name, std::slice::from_ref(&once)), once);
        let primary = directive::primary(&name);
        prop_assert_eq!(directive::primary(&primary), primary);
    }

    #[test]
    fn a_setting_that_is_written_reads_as_itself(name in setting_name(), words in vec("[a-zA-Z0-9_*:./%@-]{1,12}", 0..4)) {
        let line = directive::line(&name, &words.join(" ")).expect("words fit on a line");
        let read = directive::parse(&line).expect("a written line reads");
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(&read[0].name, &name);
        let arguments = if words.is_empty() { vec![String::new()] } else { words };
        prop_assert_eq!(&read[0].arguments, &arguments);
    }

    #[test]
    fn a_setting_stays_on_its_line(value in "[ a-z\"'\\\\\n\r\t\u{0}\u{b}\u{85}]{0,12}") {
        if let Some(line) = directive::line("loglevel", &value) {
            prop_assert_eq!(line.lines().count(), 1);
            prop_assert!(directive::parse(&line).is_ok_and(|read| read.len() == 1) || directive::parse(&line).is_err());
        }
    }

    #[test]
    fn a_configuration_file_never_panics_the_reader(text in "[a-z0-9 \"'\\\\\nx#-]{0,80}") {
        if let Ok(directives) = directive::parse(&text) {
            let _ = directive::effective(&directives);
        }
    }

    #[test]
    fn access_rules_never_panic_the_reader_and_read_back_alike(rules in "[a-z@+~&%#()*| >-]{0,60}") {
        let user = lockstep::acl::user(&rules);
        prop_assert!(user.commands.split(' ').next().is_some_and(|first| first.ends_with("@all")));
        let again = lockstep::acl::user(&user.commands);
        prop_assert_eq!(again.commands, user.commands);
    }
}

fn setting_name() -> impl Strategy<Value = String> {
    let known = [
        "maxmemory",
        "save",
        "client-output-buffer-limit",
        "notify-keyspace-events",
        "appendonly",
        "maxmemory-clients",
        "hash-max-ziplist-entries",
        "slave-priority",
        "slaveof",
        "lua-time-limit",
    ];
    prop_oneof![select(known.to_vec()).prop_map(str::to_owned), "[a-z][a-z-]{0,20}[a-z]"]
}

/// A directive, and values of the kind that it takes.
fn setting() -> impl Strategy<Value = (String, Vec<String>)> {
    let of = |name: &'static str, value: &'static str| (Just(name.to_owned()), vec(value, 0..4));
    prop_oneof![
        of("maxmemory", "[0-9]{1,6}(kb|mb|gb|k|m|g|b)?"),
        of("maxmemory-clients", "[0-9]{1,2}%"),
        of("save", "[0-9]{1,4} [0-9]{1,4}"),
        of("client-output-buffer-limit", "(normal|replica|slave|pubsub) [0-9]{1,3}mb [0-9]{1,3}kb [0-9]{1,3}"),
        (Just("notify-keyspace-events".to_owned()), vec("[AKEg$lshzxetdmn]{0,8}", 0..2)),
        (setting_name(), vec("(yes|no|YES|true|False)", 0..2)),
        ("[a-z][a-z_]{0,20}[a-z]", vec("\\PC{0,12}", 0..4)),
    ]
}

// ---------------------------------------------------------------------------------------------------------------------
// Hostile text
// ---------------------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(examples(512))]

    #[test]
    fn any_text_at_all_makes_the_reader_of_specs_return_within_its_limits(text in hostile_text()) {
        let mut findings = Vec::new();
        let read = yaml::parse("stack.yaml", &text, &mut findings);
        prop_assert!(read.is_some() || !findings.is_empty(), "what cannot be read is explained");
        if let Some(node) = read {
            prop_assert!(size(&node) <= 100_000);
        }
        parse::parse("stack.yaml", &text, &mut findings);
        environment::parse(&Name::parse("staging").expect("a name"), "staging.yaml", &text, &mut findings);
        let _ = lock::parse(&text);
        let sources = Sources([("stack.yaml", &text), ("staging.yaml", &text)].map(|(n, t)| (n.to_owned(), t.clone())).into());
        let _ = text::findings(&findings, &sources);
    }

    #[test]
    fn any_text_at_all_makes_a_template_render_or_be_refused(text in hostile_template()) {
        let mut findings = Vec::new();
        let templates = Templates::compile("templates", [("a.tera".to_owned(), text.clone())].into(), &mut findings);
        let mut values = Values::default();
        values.insert("a", &7u64);
        values.insert("b", "text");
        let rendered = templates.render("a.tera", &values);
        prop_assert!(findings.is_empty() || rendered.is_err(), "a template that does not compile does not render");
        findings.extend(rendered.err().unwrap_or_default());
        let _ = text::findings(&findings, &Sources([("templates/a.tera".to_owned(), text)].into()));
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Tree::Null | Tree::Scalar(..) => 0,
        Tree::List(items) => items.iter().map(size).sum(),
        Tree::Map(entries) => entries.iter().map(|(_, value)| 1 + size(value)).sum(),
    }
}

fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = select(vec![
        "lockstep: 1\n",
        "stack: s\n",
        "redis:\n",
        "  cache:\n",
        "    image: redis:7.0\n",
        "apps: {",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "? ",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        ">-\n",
        "\"",
        "'",
        "#",
        "\n",
        "  ",
        "\t",
        "---\n",
        "...\n",
        "<<: ",
        "~",
        "differences:\n  d: { type: size, why: w }\n",
        "{{ d }}",
        "%YAML 1.2\n",
        "\u{feff}",
        "\u{202e}",
        "\u{0}",
        "é",
        "𝄞",
    ]);
    prop_oneof![
        3 => vec(pieces, 0..40).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
        1 => vec(any::<u8>(), 0..200).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

fn hostile_template() -> impl Strategy<Value = String> {
    let pieces = select(vec![
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{#",
        "#}",
        "a",
        "b",
        "a.b",
        "a[0]",
        " | ",
        "times(by=2)",
        "size",
        "upper",
        "if ",
        "else",
        "elif a",
        "endif",
        "for x in ",
        "range(end=3)",
        "endfor",
        "set x = ",
        "block x",
        "endblock",
        "include \"a.tera\"",
        "extends \"a.tera\"",
        "macro m()",
        "endmacro",
        "raw",
        "endraw",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "~",
        "+",
        "-",
        "*",
        "/",
        "%",
        "not ",
        " and ",
        " == ",
        " is defined",
        "1",
        "-1",
        "9999999999999999999",
        "1.5",
        "\n",
        "é",
        "-",
        "_",
    ]);
    vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

// ---------------------------------------------------------------------------------------------------------------------
// Plans
// ---------------------------------------------------------------------------------------------------------------------

/// A stack that some spec describes.
#[derive(Clone, Debug)]
struct Stack {
    cache: Option<Redis>,
    sessions: Option<Redis>,
    web: Option<App>,
    worker: Option<App>,
}

#[derive(Clone, Debug)]
struct Redis {
    image: &'static str,
    maxmemory: u32,
    /// What the container may use, in halves of `maxmemory`.
    memory: u32,
    cpus: u32,
    settings: BTreeMap<&'static str, &'static str>,
    users: BTreeSet<&'static str>,
}

#[derive(Clone, Debug)]
struct App {
    image: &'static str,
    memory: u32,
    env: Option<&'static str>,
    file: Option<&'static str>,
    secret: bool,
    port: bool,
    healthy: bool,
    needs_cache: bool,
}

fn redis() -> impl Strategy<Value = Redis> {
    let settings = btree_set(
        select(vec![
            ("appendonly", "yes"),
            ("save", "\"\""),
            ("maxmemory-policy", "allkeys-lru"),
            ("databases", "32"),
            ("hz", "20"),
            ("timeout", "30"),
            ("loglevel", "verbose"),
        ]),
        0..5,
    );
    let users =
        btree_set(select(vec!["app: { password: one", "reader: { password: two", "app: { password: two"]), 0..2);
    let image = select(vec!["redis:7.0", "redis:7.0", "redis:7.0", "redis:7.2"]);
    (image, 1u32..4, 3u32..6, 1u32..3, settings, users).prop_map(|(image, maxmemory, memory, cpus, settings, users)| {
        Redis { image, maxmemory: 16 << maxmemory, memory, cpus, settings: settings.into_iter().collect(), users }
    })
}

fn app() -> impl Strategy<Value = App> {
    let image = select(vec!["web:1.0", "web:1.0", "web:1.1"]);
    let env = option::of(select(vec!["A: one", "A: two", "B: one"]));
    let file = option::of(select(vec!["a.tera", "b.tera"]));
    let [secret, port, healthy, needs_cache] = [any::<bool>(); 4];
    (image, 1u32..3, env, file, secret, port, healthy, needs_cache).prop_map(
        |(image, memory, env, file, secret, port, healthy, needs_cache)| App {
            image,
            memory: 64 * memory,
            env,
            file,
            secret,
            port,
            healthy,
            needs_cache,
        },
    )
}

fn stack() -> impl Strategy<Value = Stack> {
    (option::weighted(0.9, redis()), option::of(redis()), option::weighted(0.9, app()), option::of(app()))
        .prop_map(|(cache, sessions, web, worker)| Stack { cache, sessions, web, worker })
}

impl Stack {
    fn desired(&self) -> Desired {
        let mut texts = Texts::base();
        texts.0.insert("environments/stack.yaml".to_owned(), self.yaml());
        texts.0.insert("environments/staging.yaml".to_owned(), "secrets: { env: STAGING_ }\n".to_owned());
        texts.0.remove("environments/production.yaml");
        texts.0.remove("templates/web.toml.tera");
        texts.0.insert("templates/a.tera".to_owned(), "a of {{ service }}\n".to_owned());
        texts.0.insert("templates/b.tera".to_owned(), "b of {{ service }}\n".to_owned());
        texts.meant("staging", &BTreeMap::new())
    }

    fn yaml(&self) -> String {
        let mut text = "lockstep: 1\nstack: shop\nredis:\n".to_owned();
        for (name, redis) in [("cache", &self.cache), ("sessions", &self.sessions)] {
            let Some(redis) = redis else { continue };
            let memory = redis.maxmemory * redis.memory / 2;
            let _ = writeln!(text, "  {name}:\n    image: {}", redis.image);
            let _ = writeln!(text, "    limits: {{ memory: {memory}mb, cpus: {} }}", redis.cpus);
            let _ = writeln!(text, "    settings:\n      maxmemory: {}mb", redis.maxmemory);
            for (setting, value) in &redis.settings {
                let _ = writeln!(text, "      {setting}: {value}");
            }
            let _ = writeln!(text, "    users:");
            for user in &redis.users {
                let _ = writeln!(text, "      {user}, keys: [\"page:*\"], allow: [\"@read\"] }}");
            }
        }
        text.push_str("apps:\n");
        for (name, port, app) in [("web", 8080, &self.web), ("worker", 8090, &self.worker)] {
            let Some(app) = app else { continue };
            let _ = writeln!(text, "  {name}:\n    image: {}\n    limits: {{ memory: {}mb }}", app.image, app.memory);
            let _ = writeln!(text, "    env: {{ {} }}", app.env.unwrap_or_default());
            if let Some(file) = app.file {
                let _ = writeln!(text, "    files: {{ /etc/{name}/{name}.conf: {file} }}");
            }
            if app.secret {
                text.push_str("    secrets: [one]\n");
            }
            if app.port {
                let _ = writeln!(text, "    ports: [\"{port}:80\"]");
            }
            if app.healthy {
                text.push_str("    health: { http: /healthz }\n");
            }
            if app.needs_cache && self.cache.is_some() {
                text.push_str("    needs: [cache]\n");
            }
        }
        text
    }
}

/// Keys in every Redis that is there, or in none.
fn fill(stage: &mut Stage, keys: u64) {
    stage.data.values_mut().for_each(|data| *data = (keys, keys * 1024));
}

fn planned(stage: &Stage, want: &Desired) -> Plan {
    build::build(&stage.observed(), want, &BTreeSet::new())
}

/// Both stacks, and the first of them carried out.
fn journey(before: &Stack, after: &Stack, keys: u64) -> (Stage, Desired) {
    let (had, want) = (before.desired(), after.desired());
    let mut stage = carried_out(Stage::with_images([&had, &want]), &had);
    fill(&mut stage, keys);
    (stage, want)
}

/// What somebody may have done to an environment, as lines of a case.
fn troubles() -> impl Strategy<Value = Vec<&'static str>> {
    vec(
        select(vec![
            "stop cache",
            "stop web",
            "crash cache",
            "crash web",
            "gone container/cache",
            "gone container/web",
            "gone container/files",
            "setting cache hz 99",
            "setting cache save ",
            "user cache guest on nopass ~* +@all",
            "memory cache 1gb",
            "memory web 1gb",
            "env web LEFT 1",
            "privileged cache",
            "privileged web",
            "content cache.etc.redis redis.conf # empty",
            "content web.etc.web web.conf changed",
            "content web.etc.web left.conf left",
            "mount files /v/left left",
            "container debug",
        ]),
        0..4,
    )
}

/// Does what a line says if what it names is there.
fn meddle(stage: &mut Stage, line: &str) {
    let (verb, rest) = line.split_once(' ').expect("a line of a case");
    let name = rest.split(' ').next().expect("what it names");
    let name = if verb == "container" { "web" } else { name.trim_start_matches("container/") };
    let there = match verb {
        "content" => stage.state.volume(name).is_some(),
        "setting" | "user" => stage.state.container(name).is_some_and(|container| container.server.is_some()),
        _ => stage.state.container(name).is_some(),
    };
    if there {
        touch(stage, verb, rest);
    }
}

/// Of two steps on one container, one waits for the other, if only by way of a third. A running server takes several
/// live changes at once, and the engine changes limits at any time.
fn assert_apart(plan: &Plan) {
    let mut before: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for step in &plan.steps {
        let mut all: BTreeSet<u32> = step.after.iter().copied().collect();
        all.extend(step.after.iter().flat_map(|number| before.get(number).into_iter().flatten().copied()));
        let earlier = plan.steps.iter().filter(|other| other.number < step.number && other.resource == step.resource);
        let live = |step: &Step| step.effect == Effect::Live;
        let limits = |step: &Step| step.action == Action::Update;
        let together = |other: &Step| limits(step) || limits(other) || (live(step) && live(other));
        for other in earlier.filter(|other| !together(other)) {
            assert!(
                all.contains(&other.number),
                "`{}` does not wait for `{}` in\n{}",
                step.summary(),
                other.summary(),
                text::plan(plan)
            );
        }
        before.insert(step.number, all);
    }
}

/// A newer server's data is all that may keep a generated plan from being carried out.
fn refused(plan: &Plan) -> bool {
    let unexpected: Vec<_> = plan.refusals.iter().filter(|finding| finding.rule != "downgrade").collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    !plan.refusals.is_empty()
}

/// Every step comes after those that it waits for, and what can lose data waits for every backup.
fn assert_ordered(plan: &Plan) {
    assert_apart(plan);
    for step in &plan.steps {
        assert!(step.after.iter().all(|number| *number < step.number), "step {} waits for a later one", step.number);
    }
    let backups: Vec<u32> =
        plan.steps.iter().filter(|step| step.action == Action::Backup).map(|step| step.number).collect();
    // What is only made, or fetched, and the container that is never started: nothing is lost with those.
    let harmless = |step: &&Step| {
        let made = matches!(step.action, Action::Create | Action::Pull { .. } | Action::Build { .. });
        let looks = matches!(step.action, Action::Backup | Action::Rehearse { .. });
        looks || made || step.resource.name == FILES && step.action == Action::Remove
    };
    for step in plan.steps.iter().filter(|step| !harmless(step)) {
        assert!(backups.iter().all(|backup| step.after.contains(backup)), "`{}` waits for no backup", step.summary());
    }
}

/// The stage after a plan that was carried out whole and left nothing to do; `None` where the plan was refused.
fn settled(stage: Stage, want: &Desired, seed: u32) -> Result<Option<Stage>, TestCaseError> {
    let plan = planned(&stage, want);
    assert_ordered(&plan);
    if refused(&plan) {
        return Ok(None);
    }
    let nothing = BTreeSet::new();
    let world = Fake::new(stage, want, &nothing).shuffled(seed);
    prop_assert!(carry_out(&plan, &world));
    let stage = world.into_stage();
    let again = planned(&stage, want);
    prop_assert!(again.is_empty(), "{}", text::plan(&again));
    Ok(Some(stage))
}

proptest! {
    #![proptest_config(examples(96))]

    #[test]
    fn a_state_does_not_differ_from_itself(stack in stack()) {
        let want = stack.desired();
        prop_assert_eq!(diff::all(&want.state, &want.state), vec![]);
        prop_assert_eq!(diff::declared(&want.state, &want.state), vec![]);
    }

    #[test]
    fn after_a_plan_there_is_nothing_left_to_do(before in stack(), after in stack(), keys in 0u64..3, seed: u32) {
        let (stage, want) = journey(&before, &after, keys);
        let Some(stage) = settled(stage, &want, seed)? else { return Ok(()) };
        let drift = parity::drift(Side { want: &want, have: &stage.observed() });
        prop_assert!(drift.findings.is_empty(), "{:?}", drift.findings);
        prop_assert_eq!(stage.behind(), Vec::<String>::new(), "what runs read other files than those that lie there");
    }

    #[test]
    fn whatever_somebody_did_to_it_one_plan_puts_it_right(
        before in stack(),
        after in stack(),
        keys in 0u64..3,
        troubles in troubles(),
        seed: u32,
    ) {
        let (mut stage, want) = journey(&before, &after, keys);
        troubles.iter().for_each(|line| meddle(&mut stage, line));
        settled(stage, &want, seed)?;
    }

    #[test]
    fn the_same_states_give_the_same_plan(before in stack(), after in stack(), keys in 0u64..3) {
        let (stage, want) = journey(&before, &after, keys);
        let (one, other) = (planned(&stage, &want), planned(&stage, &after.desired()));
        prop_assert_eq!(text::plan(&one), text::plan(&other));
        let json = |plan: &Plan| serde_json::to_string(plan).expect("a plan is JSON");
        prop_assert_eq!(json(&one), json(&other));
    }

    #[test]
    fn no_plan_and_no_report_holds_a_secret_or_its_hash(before in stack(), after in stack(), keys in 0u64..3) {
        let (stage, want) = journey(&before, &after, keys);
        let observed = stage.observed();
        let plan = planned(&stage, &want);
        let drift = parity::drift(Side { want: &want, have: &observed });
        let mut said = text::plan(&plan) + &text::verification(&drift, &Sources::default());
        said += &serde_json::to_string(&plan).expect("a plan is JSON");
        said += &serde_json::to_string(&drift).expect("a report is JSON");
        prop_assert!(!said.contains(SENTINEL));
        for name in ["one", "two", "operator-cache", "operator-sessions"] {
            let hash = Digest::of(format!("{SENTINEL}-staging-{name}").as_bytes());
            prop_assert!(!said.contains(hash.short()), "the hash of {}", name);
        }
    }
}

/// Cuts the plan off after each of its steps, and takes back what was done by then.
fn taken_back(start: &Stage, want: &Desired, seed: u32, reply_lost: bool) -> Result<(), TestCaseError> {
    let plan = planned(start, want);
    if refused(&plan) {
        return Ok(());
    }
    if !build::replaceable(&start.observed(), want).is_empty() {
        // Such a server is handed over, which takes two real ones: tests/live/kill_sweep.rs.
        return Ok(());
    }
    let nothing = BTreeSet::new();
    let as_it_was = desired::as_it_was(&start.observed(), want, &want.generations);
    for cut in 0..=plan.steps.len() {
        let cut = Cut { after: u32::try_from(cut).expect("few steps"), reply_lost };
        let world = Fake::new(start.clone(), want, &nothing).shuffled(seed).cut(Some(cut));
        carry_out(&plan, &world);
        let mut stage = world.into_stage();
        let back = build::back(&stage.observed(), &as_it_was, Care::Back, &nothing);
        assert_ordered(&back);
        prop_assert!(back.refusals.is_empty(), "cut after {}: {:?}", cut.after, back.refusals);
        let gone = back.steps.iter().filter(|step| step.risk == Risk::RemovesData);
        let gone: BTreeSet<String> = gone.map(|step| step.resource.name.clone()).collect();
        prop_assert!(gone.iter().all(|volume| start.state.volume(volume).is_none()), "{gone:?} was there before");
        let world = Fake::new(stage, &as_it_was, &gone).shuffled(seed).going_back();
        prop_assert!(carry_out(&back, &world), "cut after {}:\n{}", cut.after, text::plan(&back));
        stage = world.into_stage();
        let drift = parity::drift(Side { want: &as_it_was, have: &stage.observed() });
        prop_assert!(drift.findings.is_empty(), "cut after {}: {:?}", cut.after, drift.findings);
        let left = build::back(&stage.observed(), &as_it_was, Care::Back, &nothing);
        prop_assert!(left.is_empty(), "cut after {}: {}", cut.after, text::plan(&left));
        prop_assert_eq!(stage.behind(), Vec::<String>::new(), "cut after {}: what runs read other files", cut.after);
    }
    Ok(())
}

proptest! {
    #![proptest_config(examples(24))]

    #[test]
    fn a_run_that_is_cut_off_anywhere_is_finished_by_the_next(
        before in stack(),
        after in stack(),
        keys in 0u64..3,
        seed: u32,
        reply_lost: bool,
    ) {
        let (start, want) = journey(&before, &after, keys);
        let plan = planned(&start, &want);
        if refused(&plan) {
            return Ok(());
        }
        let nothing = BTreeSet::new();
        for cut in 0..plan.steps.len() {
            let cut = Cut { after: u32::try_from(cut).expect("few steps"), reply_lost };
            let world = Fake::new(start.clone(), &want, &nothing).shuffled(seed).cut(Some(cut));
            prop_assert!(!carry_out(&plan, &world));
            let mut stage = world.into_stage();
            for run in 1.. {
                let rest = planned(&stage, &want);
                if rest.is_empty() {
                    break;
                }
                assert_ordered(&rest);
                prop_assert!(rest.refusals.is_empty(), "cut after {}: {:?}", cut.after, rest.refusals);
                prop_assert!(run == 1, "cut after {}: a second run leaves\n{}", cut.after, text::plan(&rest));
                let world = Fake::new(stage, &want, &nothing).shuffled(seed);
                prop_assert!(carry_out(&rest, &world));
                stage = world.into_stage();
            }
            prop_assert_eq!(stage.behind(), Vec::<String>::new(), "cut after {}: what runs read other files", cut.after);
        }
    }

    #[test]
    fn a_change_that_fails_anywhere_is_taken_back(
        before in stack(),
        after in stack(),
        keys in 0u64..3,
        seed: u32,
        reply_lost: bool,
    ) {
        let (start, want) = journey(&before, &after, keys);
        taken_back(&start, &want, seed, reply_lost)?;
    }

    #[test]
    fn a_change_that_fails_anywhere_leaves_stopped_what_had_been_stopped_before(
        before in stack(),
        after in stack(),
        keys in 0u64..3,
        stopped in btree_set(select(vec!["stop cache", "stop sessions", "stop web", "stop worker"]), 1..4),
        seed: u32,
        reply_lost: bool,
    ) {
        let (mut start, want) = journey(&before, &after, keys);
        stopped.iter().for_each(|line| meddle(&mut start, line));
        taken_back(&start, &want, seed, reply_lost)?;
    }

    #[test]
    fn down_leaves_the_data_and_nothing_else(before in stack(), keys in 0u64..3, seed: u32) {
        let (stage, want) = journey(&before, &before, keys);
        let nothing_meant = Desired { state: Default::default(), origins: BTreeMap::new(), ..want };
        let plan = planned(&stage, &nothing_meant);
        prop_assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
        let none = BTreeSet::new();
        let world = Fake::new(stage, &nothing_meant, &none).shuffled(seed);
        prop_assert!(carry_out(&plan, &world));
        let left: BTreeSet<String> = world.into_stage().state.resources.keys().map(ToString::to_string).collect();
        let servers = [("cache", &before.cache), ("sessions", &before.sessions)];
        let data = servers.iter().filter(|(_, redis)| redis.is_some()).map(|(name, _)| format!("volume/{name}.data"));
        prop_assert_eq!(left, data.collect());
    }
}

#[test]
fn a_volume_of_data_goes_only_by_its_name_and_after_a_backup() {
    let mut staged = play("keys cache 1200 40mb\ndown", "staging");
    assert!(staged.plan().steps.iter().all(|step| step.resource.name != "cache.data"));
    staged.delete_data.insert("cache.data".to_owned());
    let plan = staged.plan();
    assert_ordered(&plan);
    assert_eq!(plan.steps.first().map(|step| &step.action), Some(&Action::Backup));
    let world = Fake::new(staged.stage, &staged.want, &staged.delete_data);
    assert!(carry_out(&plan, &world));
    assert_eq!(world.into_stage().state.resources.len(), 0);
}

#[test]
fn what_had_been_stopped_is_stopped_again_and_a_server_after_what_needs_it() {
    let plan = play("keys cache 1200 40mb\nstop web\nstop cache\napply\nback", "staging").plan();
    assert_ordered(&plan);
    assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
    let steps: Vec<(&Action, &str, Effect)> =
        plan.steps.iter().map(|step| (&step.action, step.resource.name.as_str(), step.effect)).collect();
    let (web, cache) = ((&Action::Stop, "web", Effect::Stop), (&Action::Stop, "cache", Effect::Stop));
    assert_eq!(steps, [(&Action::Backup, "cache", Effect::Live), web, cache]);
    assert_eq!(plan.steps[2].after, [1, 2], "the server goes last");
}

/// What is meant holds a server of which neither the lock nor its image says which one it is.
const UNKNOWN: &str = "after stack.lock \\n    server: redis 7.2.5 =>
after stack.yaml redis:7.0\\n    settings:\\n => redis:7.2\\n    settings:\\n
";
const UNREHEARSED: &str = "after stack.yaml lockstep: 1 => lockstep: 1\\nrehearse: never\n";

#[test]
fn a_server_that_nobody_knows_is_not_put_on_the_only_copy_of_data() {
    let refusals = |script: &str| -> Vec<&'static str> {
        play(script, "staging").plan().refusals.iter().map(|finding| finding.rule).collect()
    };
    let with = |lines: &str| refusals(&format!("{UNKNOWN}{lines}"));
    assert!(with("keys cache 1200 40mb").is_empty(), "a rehearsal shows whether it loads them");
    assert_eq!(with(&format!("{UNREHEARSED}keys cache 1200 40mb")), ["server-version"]);
    assert_eq!(with("keys cache 1200 40mb\nstop cache"), ["server-version"], "nobody knows what lies in its volume");
    assert!(with("").is_empty(), "it holds nothing");
    let same = "both stack.lock \\n    server: redis 7.0.15 =>\nkeys cache 1200 40mb\nprivileged cache";
    assert!(refusals(same).is_empty(), "it is the image that wrote them");
}

#[test]
fn a_server_that_is_gone_back_to_has_to_read_what_came_since_whatever_its_image_says() {
    let mut staged = play("both stack.lock \\n    server: redis 7.0.15 =>\nkeys cache 1200 40mb", "staging");
    let before = desired::as_it_was(&staged.stage.observed(), &staged.want, &staged.want.generations);
    touch(&mut staged.stage, "image", "cache redis:newer");
    touch(&mut staged.stage, "fact", "cache version redis 7.2.5");
    let back = build::back(&staged.stage.observed(), &before, Care::Back, &BTreeSet::new());
    let rules: Vec<&str> = back.refusals.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["downgrade"], "{}", text::plan(&back));
}

#[test]
fn a_server_that_cannot_be_read_is_never_right() {
    let unreadable = "production: unreadable cache the server does not answer";
    let (left, right) = (play("", "staging"), play(unreadable, "production"));
    let (staging, production) = (left.stage.observed(), right.stage.observed());
    let one = Side { want: &left.want, have: &staging };
    let other = Side { want: &right.want, have: &production };
    for verification in [parity::drift(other), parity::parity(one, other)] {
        assert!(verification.findings.iter().any(|finding| finding.rule == "unknown"));
        let process = verification.levels.iter().find(|proof| proof.level == Level::Process);
        assert!(process.is_some_and(|proof| proof.unknown > 0));
    }
    let plan = right.plan();
    assert!(plan.refusals.iter().any(|finding| finding.rule == "backup"), "{}", plain(&text::plan(&plan)));
}

#[test]
fn a_secret_is_not_shown_by_any_formatting() {
    let secret = Secret::new(SENTINEL);
    assert_eq!(format!("{secret:?} {secret:#?}"), "(secret) (secret)");
}

//! Redis' own texts, with the answers that a server gives: access rules, configuration lines, normal forms.

use std::collections::BTreeSet;

use lockstep::acl;
use lockstep::directive::{self, Class, canonical, class, effective, is_live, line, parse, primary};
use lockstep::state::User;
use lockstep::value::{Bytes, ServerVersion};

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn form(name: &str, value: &str) -> String {
    canonical(name, &[value.to_owned()])
}

#[test]
fn the_rules_of_a_user_read_as_acl_list_writes_them() {
    let written =
        acl::user("on sanitize-payload #5e88 ~page:* ~fragment:* resetchannels &news -@all +@read +get|x -flushall");
    assert_eq!(
        written,
        User {
            enabled: true,
            without_password: false,
            unchecked_payloads: false,
            passwords: set(&["5e88"]),
            keys: set(&["~fragment:*", "~page:*"]),
            channels: set(&["&news"]),
            commands: "-@all +@read +get|x -flushall".to_owned(),
            selectors: BTreeSet::new(),
        }
    );
}

#[test]
fn a_later_rule_undoes_an_earlier_one() {
    let user = acl::user("on nopass #aa resetpass #bb off ~a resetkeys ~b &c resetchannels");
    assert!(!user.enabled && !user.without_password);
    assert_eq!((user.passwords, user.keys, user.channels), (set(&["bb"]), set(&["~b"]), set(&[])));
}

#[test]
fn nothing_is_allowed_until_something_is() {
    assert_eq!(acl::user("").commands, "-@all");
    assert_eq!(acl::user("+get").commands, "-@all +get");
    assert_eq!(acl::user("+@all -flushall").commands, "+@all -flushall");
    assert_eq!(acl::user("+get nocommands +set").commands, "-@all +set");
    assert_eq!(acl::user("-@all allcommands").commands, "+@all");
}

#[test]
fn names_for_everything_are_the_patterns_that_they_stand_for() {
    let user = acl::user("allkeys allchannels");
    assert_eq!((user.keys, user.channels), (set(&["~*"]), set(&["&*"])));
}

#[test]
fn rules_amount_to_commands() {
    let known = acl::Categories::from([
        ("read".to_owned(), vec!["get".to_owned(), "config|get".to_owned()]),
        ("dangerous".to_owned(), vec!["keys".to_owned(), "config|get".to_owned(), "config|set".to_owned()]),
    ]);
    let commands = |rules: &str| acl::commands(rules, &known);
    assert_eq!(commands("-@all +@read"), set(&["get", "config|get"]));
    assert_eq!(commands("-@all +@READ -config"), set(&["get"]), "what a command is taken from, its parts are");
    assert_eq!(commands("+@all -@dangerous"), set(&["@all", "!keys", "!config|get", "!config|set"]));
    assert_eq!(commands("+@all -@dangerous +keys"), set(&["@all", "!config|get", "!config|set"]));
    assert_eq!(commands("-@all +@read -@dangerous"), commands("+get"), "what was not given is not taken");
    assert_eq!(commands("+@all +get"), commands("+@all"), "nothing comes to everything");
    assert_eq!(commands("+get -@all"), set(&[]));
    // Exceptions either way round, and whole commands that end them; `ACL CAT dangerous` of 7.0 names parts alone.
    assert_eq!(commands("+config -config|set"), set(&["config", "!config|set"]));
    assert_eq!(commands("+@all -config +config|get"), set(&["@all", "!config", "config|get"]));
    assert_eq!(commands("+@all -@dangerous +config"), set(&["@all", "!keys"]));
    assert_eq!(commands("+config|get +config"), commands("+config"));
    assert_eq!(commands("+@all -config|set -config"), commands("+@all -config"));
    for (rules, command, allowed) in [
        ("+config -config|set", "config|set", false),
        ("+config -config|set", "config|get", true),
        ("+@all -config +config|get", "config|get", true),
        ("+@all -config +config|get", "config|set", false),
        ("+@all -config +config|get", "config", true),
        ("+@all -@dangerous +config", "config|set", true),
        ("+@all -@dangerous", "config|set", false),
        ("+@all -config", "config|set", false),
        ("-@all +config|get", "config", true),
        ("-@all +get", "config|get", false),
        ("+@all", "flushall", true),
    ] {
        assert_eq!(acl::allows(&commands(rules), command), allowed, "{rules}: {command}");
    }
    let named: BTreeSet<String> = acl::categories("-@all +@read -@Dangerous +@read +get").collect();
    assert_eq!(named, set(&["read", "dangerous"]));
}

#[test]
fn a_selector_in_parentheses_is_one_rule() {
    let user = acl::user("on (+get ~a b) +set (~c +del)");
    assert_eq!(user.selectors, set(&["(+get ~a b)", "(~c +del)"]));
    assert_eq!(user.commands, "-@all +set");
}

#[test]
fn a_setting_has_one_form_however_it_is_written() {
    assert_eq!(form("maxmemory", "64mb"), "67108864");
    assert_eq!(form("maxmemory", "67108864"), "67108864");
    assert_eq!(form("maxmemory", "1gb"), form("maxmemory", "1024MB"));
    assert_ne!(form("maxmemory", "1g"), form("maxmemory", "1gb"), "powers of 1000 and of 1024");
    assert_eq!(form("maxmemory-clients", "10%"), "10%");
    assert_eq!(form("appendonly", "Yes"), "yes");
    assert_eq!(form("appendonly", "true"), "yes");
    assert_eq!(form("save", "3600 1 300 100"), canonical("save", &["300 100".to_owned(), "3600 1".to_owned()]));
    assert_eq!(form("save", ""), "");
    assert_eq!(form("notify-keyspace-events", "KEA"), form("notify-keyspace-events", "AKE"));
    assert_eq!(form("notify-keyspace-events", "EA"), form("notify-keyspace-events", "Eg$lshzxetd"));
}

#[test]
fn output_buffer_limits_are_completed_as_the_server_completes_them() {
    let all = "normal 0 0 0 pubsub 33554432 8388608 60 replica 536870912 268435456 60";
    assert_eq!(form("client-output-buffer-limit", "replica 512mb 256mb 60"), all);
    assert_eq!(form("client-output-buffer-limit", "slave 536870912 268435456 60"), all);
    // As CONFIG GET words it before 7.0.
    assert_eq!(
        form("client-output-buffer-limit", "normal 0 0 0 slave 536870912 268435456 60 pubsub 33554432 8388608 60"),
        all
    );
}

#[test]
fn a_directive_has_one_name() {
    for (old, new) in [
        ("slaveof", "replicaof"),
        ("slave-read-only", "replica-read-only"),
        ("hash-max-ziplist-entries", "hash-max-listpack-entries"),
        ("lua-time-limit", "busy-reply-threshold"),
        ("MaxMemory", "maxmemory"),
    ] {
        assert_eq!(primary(old), new);
    }
}

#[test]
fn a_configuration_file_reads_as_the_server_reads_it() {
    let text = "# comment\n\nMaxMemory 64mb\nsave 900 1\nsave 300 10\n  timeout 0  \nlogfile \"\"\nproc-title-template \"{title} \\\"x\\\" \\x41\"\nmaxmemory 32mb\n";
    let effective = effective(&parse(text).expect("it reads"));
    let value = |name: &str| effective.get(name).map(|(value, line)| (value.as_str(), *line));
    assert_eq!(value("maxmemory"), Some(("33554432", 9)), "the last one wins");
    assert_eq!(value("save"), Some(("300 10 900 1", 5)), "these add up");
    assert_eq!(value("timeout"), Some(("0", 6)));
    assert_eq!(value("logfile"), Some(("", 7)));
    assert_eq!(value("proc-title-template"), Some(("{title} \"x\" A", 8)));
}

#[test]
fn an_empty_save_starts_over() {
    let read = |text: &str| effective(&parse(text).expect("it reads"))["save"].0.clone();
    assert_eq!(read("save 900 1\nsave \"\"\nsave 60 1\n"), "60 1");
    assert_eq!(read("save 900 1\nsave \"\"\n"), "");
}

#[test]
fn quotes_that_are_not_closed_are_found_with_their_line() {
    assert_eq!(parse("a 1\nb \"x").expect_err("open").0, 2);
    assert_eq!(parse("a 'x'y").expect_err("no space").0, 1);
    assert_eq!(parse("a \"x\\").expect_err("open").0, 1);
    assert!(parse("a x'y").is_ok(), "a quote inside a word is a letter");
}

#[test]
fn a_line_holds_no_control_character() {
    assert_eq!(line("logfile", "").as_deref(), Some("logfile \"\""));
    assert_eq!(line("save", "900 1").as_deref(), Some("save 900 1"));
    for value in ["a\nb", "a\rb", "a\0", "a\u{1b}[31m", "\u{85}"] {
        assert_eq!(line("loglevel", value), None);
    }
}

#[test]
fn what_lockstep_sets_itself_nobody_else_can() {
    for (own, _) in directive::OWN {
        assert!(directive::FIXED.iter().any(|(fixed, _)| *fixed == own), "{own}");
    }
    for (fixed, why) in directive::FIXED {
        assert!(
            !why.is_empty() && directive::baseline(ServerVersion::OLDEST).iter().all(|(name, _)| *name != fixed),
            "{fixed}"
        );
    }
}

#[test]
fn the_baseline_of_an_older_server_has_only_what_it_knows() {
    let names = |text: &str| -> BTreeSet<&str> {
        let server = ServerVersion::parse(text).expect("a version");
        directive::baseline(server).into_iter().map(|(name, _)| name).collect()
    };
    assert!(!names("redis 6.0.16").contains("acl-pubsub-default"));
    assert!(
        names("redis 6.2.0").contains("acl-pubsub-default") && !names("redis 6.2.0").contains("enable-debug-command")
    );
    assert!(names("redis 7.0.0").contains("enable-debug-command"));
    assert_eq!(names("valkey 8.1.1"), names("redis 7.2.0"));
}

#[test]
fn what_a_running_server_refuses_to_change_needs_a_restart() {
    for fixed in ["databases", "io-threads", "aclfile", "enable-debug-command", "cluster-enabled"] {
        assert!(!is_live(fixed), "{fixed}");
    }
    for live in ["maxmemory", "save", "appendonly", "maxclients", "hz"] {
        assert!(is_live(live), "{live}");
    }
}

#[test]
fn parity_treats_each_directive_as_what_it_is() {
    assert_eq!(class("requirepass"), Class::MustDiffer);
    assert_eq!(class("bind"), Class::Host);
    assert_eq!(class("syslog-ident"), Class::Host);
    assert_eq!(class("maxmemory"), Class::Scaled);
    assert_eq!(class("maxmemory-policy"), Class::MustMatch);
    assert_eq!(class("something-new"), Class::MustMatch, "what is not known has to match");
}

#[test]
fn a_version_says_which_data_a_server_can_load() {
    let version = |text: &str| ServerVersion::parse(text).expect("a version");
    let loads = |server: &str, data: &str| version(server).reads_data_of(version(data));
    assert!(loads("redis 7.2.5", "redis 7.0.15") && !loads("redis 7.0.15", "redis 7.2.5"));
    assert!(loads("valkey 8.1.1", "redis 7.2.5") && !loads("valkey 8.1.1", "redis 7.4.0"));
    assert!(loads("redis 7.2.5", "valkey 8.1.1") && !loads("redis 8.0.0", "valkey 9.0.0"));
    assert!(loads("redis 7.0.15", "redis 7.0.15"));
    assert!(version("valkey 8.1.1").speaks(7, 2) && !version("valkey 8.1.1").speaks(7, 4));
    assert_eq!(version("redis 7.0.15").to_string(), "redis 7.0.15");
    assert_eq!(version("redis 8.0-rc1").to_string(), "redis 8.0.0");
    for odd in ["", "redis", "redis x", "memcached 1.6", "redis 99999999999"] {
        assert_eq!(ServerVersion::parse(odd), None, "{odd}");
    }
}

#[test]
fn a_size_is_what_redis_takes_it_for() {
    for (text, bytes) in
        [("1k", 1_000), ("1kb", 1_024), ("1M", 1_000_000), ("1Mb", 1 << 20), ("2gB", 2 << 30), ("7", 7), ("7b", 7)]
    {
        assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
    }
    for text in ["", "mb", "1.5gb", "-1", "1 mb", "1tb", "18446744073709551616", "99999999999gb", "٣mb"] {
        assert_eq!(Bytes::parse(text), None, "{text}");
    }
}

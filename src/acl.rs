//! Redis access rules as text, and as the user they amount to.
//!
//! The same rules are written in a file by us and reported by the server, which words them its own
//! way; both sides become a [`User`]. Which commands a category holds only the server knows:
//! `redis::observe` asks it, and compares what the rules amount to.

use crate::state::User;
use std::collections::{BTreeMap, BTreeSet};

/// The commands of a server's categories, in lower case and without the `@`; what `ACL CAT <category>` answers.
pub type Categories = BTreeMap<String, Vec<String>>;

/// Reads the rules that follow a user's name, as in `ACL LIST` or an ACL file.
pub fn user(rules: &str) -> User {
    let mut user = User {
        enabled: false,
        without_password: false,
        unchecked_payloads: false,
        passwords: BTreeSet::new(),
        keys: BTreeSet::new(),
        channels: BTreeSet::new(),
        commands: String::new(),
        selectors: BTreeSet::new(),
    };
    let mut commands: Vec<&str> = Vec::new();
    for rule in split(rules) {
        match rule {
            "on" => user.enabled = true,
            "off" => user.enabled = false,
            "nopass" => user.without_password = true,
            "resetpass" => {
                user.without_password = false;
                user.passwords.clear();
            }
            "resetkeys" => user.keys.clear(),
            "resetchannels" => user.channels.clear(),
            "allkeys" => _ = user.keys.insert("~*".to_owned()),
            "allchannels" => _ = user.channels.insert("&*".to_owned()),
            "sanitize-payload" => user.unchecked_payloads = false,
            "skip-sanitize-payload" => user.unchecked_payloads = true,
            "allcommands" => commands = vec!["+@all"],
            "nocommands" => commands = vec!["-@all"],
            rule => match rule.as_bytes().first() {
                Some(b'#') => _ = user.passwords.insert(rule.trim_start_matches('#').to_owned()),
                Some(b'~' | b'%') => _ = user.keys.insert(rule.to_owned()),
                Some(b'&') => _ = user.channels.insert(rule.to_owned()),
                Some(b'(') => _ = user.selectors.insert(rule.to_owned()),
                Some(b'+' | b'-') => commands.push(rule),
                _ => {}
            },
        }
    }
    // Nothing is allowed until something is; the server says so, a person need not.
    if commands.first().is_none_or(|first| !first.ends_with("@all")) {
        commands.insert(0, "-@all");
    }
    user.commands = commands.join(" ");
    user
}

/// The rules that make a user who has none into this one.
pub fn rules(user: &User) -> Vec<String> {
    let mut rules = vec![if user.enabled { "on" } else { "off" }.to_owned()];
    rules.extend(user.passwords.iter().map(|hash| format!("#{hash}")));
    if user.without_password {
        rules.push("nopass".to_owned());
    }
    if user.unchecked_payloads {
        rules.push("skip-sanitize-payload".to_owned());
    }
    rules.extend(user.keys.iter().cloned());
    rules.extend(user.channels.iter().cloned());
    rules.extend(user.commands.split_whitespace().map(str::to_owned));
    rules.extend(user.selectors.iter().cloned());
    rules
}

/// Words, save that a selector in parentheses is one.
fn split(rules: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = rules.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with('(') {
            rest.find(')').map_or(rest.len(), |at| at + 1)
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(end);
        words.push(word);
        rest = tail.trim_start();
    }
    words
}

/// The categories that rules name, other than all commands.
pub fn categories(rules: &str) -> impl Iterator<Item = String> {
    permissions(rules).filter_map(|(_, what)| what.strip_prefix('@').filter(|name| *name != "all").map(str::to_owned))
}

/// The commands that rules amount to on a server with these categories; a rule for one argument stays a word of its own.
/// With `@all` among them, what is taken from everything has a `!` before it.
pub fn commands(rules: &str, known: &Categories) -> BTreeSet<String> {
    let mut allowed: BTreeSet<String> = BTreeSet::new();
    for (add, what) in permissions(rules) {
        if what == "@all" {
            allowed.clear();
            if add {
                allowed.insert("@all".to_owned());
            }
            continue;
        }
        let one = std::slice::from_ref(&what);
        let commands = match what.strip_prefix('@') {
            Some(category) => known.get(category).map_or(&[][..], Vec::as_slice),
            None => one,
        };
        for command in commands {
            let no = format!("!{command}");
            let _ = (allowed.remove(command), allowed.remove(&no));
            // What is said of a whole command is said of its parts.
            let (parts, not_parts) = (format!("{command}|"), format!("!{command}|"));
            allowed.retain(|rule| !rule.starts_with(&parts) && !rule.starts_with(&not_parts));
            allowed.insert(if add { command.clone() } else { no });
        }
    }
    // What says the same as the rest of it, or as nothing, is left out: a part of what is given whole, what comes to everything,
    // what is taken that was never given.
    let all = allowed.contains("@all");
    let says_more = |rule: &String| {
        let (given, name) = rule.strip_prefix('!').map_or((true, rule.as_str()), |name| (false, name));
        let whole = name.split_once('|').map(|(command, _)| command);
        let without = match whole {
            Some(command) if allowed.contains(command) => true,
            Some(command) if allowed.contains(&format!("!{command}")) => false,
            _ => all,
        };
        rule == "@all" || given != without
    };
    allowed.iter().filter(|rule| says_more(rule)).cloned().collect()
}

/// Whether rules that amount to these commands allow one, or a part of it; `config|get` is part of `config`.
pub fn allows(allowed: &BTreeSet<String>, command: &str) -> bool {
    let said = |command: &str| match (allowed.contains(command), allowed.contains(&format!("!{command}"))) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    let whole = command.split_once('|').and_then(|(whole, _)| said(whole));
    let itself = said(command).or(whole).unwrap_or_else(|| allowed.contains("@all"));
    itself || allowed.iter().any(|rule| rule.strip_prefix(command).is_some_and(|rest| rest.starts_with('|')))
}

/// What each rule gives or takes, in lower case.
fn permissions(rules: &str) -> impl Iterator<Item = (bool, String)> {
    rules.split_whitespace().filter_map(|rule| match rule.split_at_checked(1)? {
        ("+", what) => Some((true, what.to_ascii_lowercase())),
        ("-", what) => Some((false, what.to_ascii_lowercase())),
        _ => None,
    })
}

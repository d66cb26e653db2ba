//! Helpers that read typed fields out of a YAML tree and collect every mistake on the way.

use crate::finding::{Finding, nearest};
use crate::spec::Text;
use crate::spec::yaml::{Node, Tree};
use crate::value::{Located, Name, Place, name};
use std::collections::BTreeMap;

/// One mapping of the spec: its fields by name, each to be asked for once.
#[derive(Debug)]
pub struct Fields<'n> {
    /// Dotted path of the mapping, empty at the top.
    pub path: String,
    pub place: &'n Place,
    entries: BTreeMap<&'n str, (&'n Place, &'n Node)>,
}

/// Collects findings while a tree is read.
#[derive(Debug, Default)]
pub struct Decoder {
    pub findings: Vec<Finding>,
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Decoder {
    /// A mapping with these keys and no others; an absent value is an empty mapping.
    pub fn fields<'n>(&mut self, node: &'n Node, path: &str, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.entries(node, path)?;
        let mut fields = Fields { path: path.to_owned(), place: &node.place, entries: BTreeMap::new() };
        for (key, value) in entries {
            if known.contains(&key.value.as_str()) {
                fields.entries.insert(&key.value, (&key.place, value));
            } else {
                let within = if path.is_empty() { "here".to_owned() } else { format!("in `{path}`") };
                let help = match nearest(&key.value, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.findings.push(
                    Finding::error("unknown-key", format!("`{}` is not a key that belongs {within}", key.value))
                        .at(&key.place)
                        .help(help),
                );
            }
        }
        Some(fields)
    }

    /// A mapping with keys of the user's choice.
    pub fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [(Located<String>, Node)]> {
        match &node.value {
            Tree::Map(entries) => Some(entries),
            Tree::Null => Some(&[]),
            other => {
                self.wrong(node, path, "a mapping", other.kind());
                None
            }
        }
    }

    pub fn wrong(&mut self, node: &Node, path: &str, wanted: &str, found: &str) {
        let message = format!("`{path}` must be {wanted}, and this is {found}");
        self.findings.push(Finding::error("wrong-type", message).at(&node.place));
    }

    pub fn node<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<(&'n Place, &'n Node)> {
        fields.entries.get(key).copied()
    }

    /// A field that must be there.
    pub fn required(&mut self, fields: &Fields<'_>, key: &str) -> Option<Text> {
        if fields.entries.contains_key(key) {
            return self.text(fields, key);
        }
        let path = join(&fields.path, key);
        self.findings.push(Finding::error("missing-key", format!("`{path}` is missing")).at(fields.place));
        None
    }

    pub fn text(&mut self, fields: &Fields<'_>, key: &str) -> Option<Text> {
        let (_, node) = self.node(fields, key)?;
        self.scalar(node, &join(&fields.path, key))
    }

    pub fn scalar(&mut self, node: &Node, path: &str) -> Option<Text> {
        match &node.value {
            Tree::Scalar(text, _) => Some(Located::new(text.clone(), node.place.clone())),
            other => {
                self.wrong(node, path, "a single value", other.kind());
                None
            }
        }
    }

    /// A list of single values; a single value alone is a list of one.
    pub fn texts(&mut self, fields: &Fields<'_>, key: &str) -> Vec<Text> {
        match self.node(fields, key) {
            Some((_, node)) => self.scalars(node, &join(&fields.path, key)),
            None => Vec::new(),
        }
    }

    pub fn scalars(&mut self, node: &Node, path: &str) -> Vec<Text> {
        match &node.value {
            Tree::List(items) => items.iter().filter_map(|item| self.scalar(item, path)).collect(),
            Tree::Null => Vec::new(),
            _ => self.scalar(node, path).into_iter().collect(),
        }
    }

    /// A mapping from names of the user's choice to single values.
    pub fn text_map(&mut self, fields: &Fields<'_>, key: &str) -> BTreeMap<String, (Place, Text)> {
        let Some((_, node)) = self.node(fields, key) else { return BTreeMap::new() };
        let path = join(&fields.path, key);
        let entries = self.entries(node, &path).unwrap_or_default();
        entries
            .iter()
            .filter_map(|(key, value)| {
                let text = self.scalar(value, &join(&path, &key.value))?;
                Some((key.value.clone(), (key.place.clone(), text)))
            })
            .collect()
    }

    pub fn boolean(&mut self, fields: &Fields<'_>, key: &str, default: bool) -> bool {
        let Some((_, node)) = self.node(fields, key) else { return default };
        match &node.value {
            Tree::Scalar(text, true) if text == "true" || text == "yes" => true,
            Tree::Scalar(text, true) if text == "false" || text == "no" => false,
            _ => {
                self.wrong(node, &join(&fields.path, key), "`true` or `false`", "something else");
                default
            }
        }
    }

    pub fn name(&mut self, text: &Text) -> Option<Located<Name>> {
        let parsed = Name::parse(&text.value);
        if parsed.is_none() {
            let message = format!("`{}` is not a name", text.value);
            self.findings.push(Finding::error("name", message).at(&text.place).help(name::NAME_HELP));
        }
        parsed.map(|name| Located::new(name, text.place.clone()))
    }
}

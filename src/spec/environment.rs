//! `environments/<name>.yaml`: the values of declared differences, and where the environment lives.
//!
//! It can hold nothing else; that is what keeps two environments the same.

use crate::finding::Finding;
use crate::spec::decode::Decoder;
use crate::spec::{Text, yaml};
use crate::value::{Located, Name, Place};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct EnvironmentSpec {
    pub name: Name,
    pub place: Place,
    pub engine: Option<Text>,
    pub protected: bool,
    pub follows: Option<Located<Name>>,
    pub seed: Option<Located<Name>>,
    pub values: BTreeMap<String, (Place, Text)>,
    pub secrets: Option<Located<SecretSource>>,
}

/// Where the values of secrets come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// Environment variables with this prefix.
    Env(String),
    /// A YAML file `name: value`, or a folder with one file per secret; relative to the environment's file.
    File(String),
    /// A program run once per secret, `{name}` replaced; its standard output is the value.
    Command(Vec<String>),
}

const KNOWN: [&str; 6] = ["engine", "protected", "follows", "seed", "values", "secrets"];

/// Reads one environment's file; its name is the file's.
pub fn parse(name: &Name, file: &str, text: &str, findings: &mut Vec<Finding>) -> Option<EnvironmentSpec> {
    let root = yaml::parse(file, text, findings)?;
    let mut d = Decoder::default();
    let environment = d.fields(&root, "", &KNOWN).map(|fields| {
        let (follows, seed) = (d.text(&fields, "follows"), d.text(&fields, "seed"));
        EnvironmentSpec {
            name: name.clone(),
            place: root.place.clone(),
            engine: d.text(&fields, "engine"),
            protected: d.boolean(&fields, "protected", false),
            follows: follows.and_then(|text| d.name(&text)),
            seed: seed.and_then(|text| d.name(&text)),
            values: d.text_map(&fields, "values"),
            secrets: d.node(&fields, "secrets").and_then(|(place, node)| {
                let fields = d.fields(node, "secrets", &["env", "file", "command", "age"])?;
                secrets(&mut d, &fields).map(|source| Located::new(source, place.clone()))
            }),
        }
    });
    for finding in d.findings.iter_mut().filter(|finding| finding.rule == "unknown-key") {
        if finding.subject.is_none() && finding.message.ends_with("belongs here") {
            finding.help = Some(
                "an environment sets values of declared differences and where it runs; \
                 everything else is in stack.yaml, the same for all"
                    .to_owned(),
            );
        }
    }
    findings.append(&mut d.findings);
    environment
}

fn secrets(d: &mut Decoder, fields: &crate::spec::decode::Fields<'_>) -> Option<SecretSource> {
    if let Some((place, _)) = d.node(fields, "age") {
        let message = "secrets encrypted with age are not read yet";
        d.findings.push(Finding::error("secret-source", message).at(place).help("use env:, file: or command:"));
        return None;
    }
    let env = d.text(fields, "env").map(|text| SecretSource::Env(text.value));
    let file = d.text(fields, "file").map(|text| SecretSource::File(text.value));
    let command: Vec<String> = d.texts(fields, "command").into_iter().map(|text| text.value).collect();
    let command = (!command.is_empty()).then_some(SecretSource::Command(command));
    let mut sources: Vec<SecretSource> = [env, file, command].into_iter().flatten().collect();
    if sources.len() != 1 {
        let message = format!("`secrets` names {} sources, and it takes one", sources.len());
        d.findings.push(Finding::error("secret-source", message).at(fields.place).help("one of env:, file:, command:"));
    }
    sources.pop()
}

//! Template texts and values to rendered text; the only user of tera.
//!
//! Strict: a name that is not given is an error wherever it stands, also inside a condition that is
//! never taken. Templates reach no file, no environment variable and no clock, and their output is
//! bounded. How long a template may run is for the caller to watch: tera has no step limit.

use crate::finding::{Finding, nearest};
use crate::spec::Text;
use crate::value::{Bytes, Place, urlencoded};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use tera::{Context, ErrorKind, Kwargs, State, Tera};

/// Longest text that one template may produce.
const MAX_OUTPUT: usize = 1 << 20;
/// Name under which a single expression is compiled.
const EXPRESSION: &str = "expression";

/// The values a template may use, by name.
#[derive(Clone, Debug, Default)]
pub struct Values {
    context: Context,
    names: BTreeSet<String>,
    /// Declared, and without a value for a mistake that is told where it was made.
    wrong: BTreeSet<String>,
}

impl Values {
    pub fn insert<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.context.insert(name.to_owned(), value);
        self.names.insert(name.to_owned());
    }

    /// A name that has no value, which whoever calls has told.
    pub fn is_wrong(&mut self, name: &str) {
        self.wrong.insert(name.to_owned());
    }
}

/// The templates of a project, compiled, by file name below `templates/`.
#[derive(Debug)]
pub struct Templates {
    tera: Tera,
    texts: BTreeMap<String, String>,
    folder: String,
}

impl Templates {
    /// Compiles all templates; `folder` is how the folder is called in findings.
    pub fn compile(folder: &str, texts: BTreeMap<String, String>, findings: &mut Vec<Finding>) -> Templates {
        let mut tera = engine();
        if let Err(error) = tera.add_raw_templates(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))) {
            // All or nothing: try them one at a time, to name each that is wrong.
            let mut explained = false;
            for (name, text) in &texts {
                if let Err(error) = engine().add_raw_template(name, text)
                    && matches!(error.kind(), ErrorKind::SyntaxError(_))
                {
                    findings.push(explain(&error, folder, name, text));
                    explained = true;
                }
            }
            if !explained {
                findings.push(explain(&error, folder, "", ""));
            }
        }
        Templates { tera, texts, folder: folder.to_owned() }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.texts.contains_key(name)
    }

    /// How a template is called in findings, and its text.
    pub fn source(&self, name: &str) -> (String, &str) {
        (path(&self.folder, name), self.texts.get(name).map_or("", String::as_str))
    }

    /// The names that a template, or what it includes, uses.
    pub fn uses(&self, name: &str) -> Vec<String> {
        let used = self.tera.get_template_variables(name).unwrap_or_default();
        let mut used: Vec<String> = used.into_iter().map(str::to_owned).collect();
        used.sort();
        used
    }

    pub fn render(&self, name: &str, values: &Values) -> Result<String, Vec<Finding>> {
        let text = self.texts.get(name).map_or("", String::as_str);
        render(&self.tera, name, values).map_err(|error| match error {
            Fault::Undefined(names) => names
                .iter()
                .map(|missing| {
                    // A name may first stand in an include; then the including file is the place.
                    let (from, to) = used_at(text, missing).unwrap_or((0, 0));
                    let place = Place::of_range(&path(&self.folder, name), text, from, to);
                    undefined(missing, &place, values)
                })
                .collect(),
            Fault::Template(error) => vec![explain(&error, &self.folder, name, text)],
        })
    }
}

/// Renders the expressions in one text of the spec; text without any is returned as it is.
#[derive(Debug)]
pub struct Expressions {
    tera: Tera,
}

impl Default for Expressions {
    fn default() -> Expressions {
        Expressions { tera: engine() }
    }
}

impl Expressions {
    /// The rendered text and the names it used.
    pub fn render(&mut self, text: &Text, values: &Values) -> Result<(String, Vec<String>), Vec<Finding>> {
        if !["{{", "{%", "{#"].iter().any(|opening| text.value.contains(opening)) {
            return Ok((text.value.clone(), Vec::new()));
        }
        let compiled = self.tera.add_raw_template(EXPRESSION, &text.value).map_err(Fault::Template);
        let rendered = compiled.and_then(|()| render(&self.tera, EXPRESSION, values));
        match rendered {
            Ok(rendered) => {
                let used = self.tera.get_template_variables(EXPRESSION).unwrap_or_default();
                let mut used: Vec<String> = used.into_iter().map(str::to_owned).collect();
                used.sort();
                Ok((rendered, used))
            }
            Err(Fault::Undefined(names)) => {
                let untold = names.iter().filter(|name| !values.wrong.contains(*name));
                Err(untold.map(|name| undefined(name, &text.place, values)).collect())
            }
            Err(Fault::Template(error)) => Err(vec![
                Finding::error("template", message(&error))
                    .at(&text.place)
                    .help("expressions look like `{{ name }}` or `{{ name | times(by=1.6) }}`"),
            ]),
        }
    }
}

enum Fault {
    Undefined(Vec<String>),
    Template(tera::Error),
}

fn render(tera: &Tera, name: &str, values: &Values) -> Result<String, Fault> {
    let used = tera.get_template_variables(name).map_err(Fault::Template)?;
    let mut missing: Vec<String> =
        used.into_iter().filter(|used| !values.names.contains(*used)).map(str::to_owned).collect();
    if !missing.is_empty() {
        missing.sort();
        return Err(Fault::Undefined(missing));
    }
    let mut output = Bounded(Vec::new());
    tera.render_to(name, &values.context, &mut output).map_err(Fault::Template)?;
    String::from_utf8(output.0).map_err(|error| Fault::Template(tera::Error::message(error)))
}

fn undefined(name: &str, place: &Place, values: &Values) -> Finding {
    let help = match nearest(name, values.names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "names that can be used here: {}",
            values.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
    };
    Finding::error("undefined-name", format!("`{name}` is not defined")).at(place).help(help)
}

fn engine() -> Tera {
    let mut tera = Tera::default();
    // Configuration files are not HTML.
    tera.autoescape_on(Vec::<&'static str>::new());
    tera.register_filter("times", times);
    tera.register_filter("urlencode", |text: &str, _: Kwargs, _: &State<'_>| urlencoded(text));
    tera.register_filter("size", |bytes: u64, _: Kwargs, _: &State<'_>| Bytes(bytes).to_string());
    tera
}

/// Where a template first uses a name: as a whole word, within `{{ }}` or `{% %}`.
fn used_at(text: &str, name: &str) -> Option<(usize, usize)> {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(open) = text.get(from..)?.find("{").map(|at| from + at) {
        let end = match bytes.get(open + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            // Neither is there in a comment.
            Some(b'#') => {
                from = open + text.get(open..)?.find("#}")?;
                continue;
            }
            _ => {
                from = open + 1;
                continue;
            }
        };
        let close = open + text.get(open..)?.find(end)?;
        for (at, _) in text.get(open..close)?.match_indices(name) {
            let (at, behind) = (open + at, open + at + name.len());
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            // `.max` is a field of something, and not the name.
            if !is_word(before) && before != Some(&b'.') && !is_word(bytes.get(behind)) {
                return Some((at, behind));
            }
        }
        from = close;
    }
    None
}

/// `{{ cache_memory | times(by=1.6) }}`: a whole number, rounded down.
fn times(value: f64, arguments: Kwargs, _: &State<'_>) -> tera::TeraResult<u64> {
    let by = arguments.must_get::<f64>("by")?;
    let product = value * by;
    if !(0.0..9.0e15).contains(&product) {
        return Err(tera::Error::message(format!("{value} times {by} is out of range")));
    }
    // In range by the line above, so nothing is cut but the fraction.
    Ok(product as u64)
}

fn path(folder: &str, name: &str) -> String {
    format!("{folder}/{name}")
}

fn message(error: &tera::Error) -> String {
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => report.message().to_owned(),
        other => other.to_string(),
    }
}

fn explain(error: &tera::Error, folder: &str, name: &str, text: &str) -> Finding {
    let mut finding = Finding::error("template", message(error).lines().next().unwrap_or("").to_owned());
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            let file = if report.filename().is_empty() { name } else { report.filename() };
            let range = &report.span().range;
            let place = if file == name {
                Place::of_range(&path(folder, file), text, range.start, range.end)
            } else {
                Place {
                    line: u32::try_from(report.span().start_line).unwrap_or(1),
                    column: u32::try_from(report.span().start_col + 1).unwrap_or(1),
                    start: range.start,
                    end: range.end,
                    ..Place::file(&path(folder, file))
                }
            };
            finding = finding.at(&place);
        }
        ErrorKind::CircularInclude { tpl, include_chain } => {
            finding.message = format!("template `{tpl}` includes itself: {}", include_chain.join(" -> "));
            finding.rule = "template-cycle";
            finding = finding.at(&Place::file(&path(folder, tpl)));
        }
        ErrorKind::CircularExtend { tpl, inheritance_chain } => {
            finding.message = format!("template `{tpl}` extends itself: {}", inheritance_chain.join(" -> "));
            finding.rule = "template-cycle";
            finding = finding.at(&Place::file(&path(folder, tpl)));
        }
        _ if name.is_empty() => finding = finding.at(&Place::file(folder)),
        _ => finding = finding.at(&Place::file(&path(folder, name))),
    }
    finding
}

/// Output that refuses to grow beyond what a configuration file can be.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the rendered text is larger than 1 MB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

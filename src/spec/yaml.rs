//! Text to a tree in which every key and every value knows its place; the only user of the YAML crate's parser.
//!
//! Built on parser events rather than on serde, because serde stops at the first mistake and a
//! person wants to see all of them. Scalars stay text: `yes`, `0755` and `1.10` mean what the field
//! that reads them says they mean. Everything is bounded before it is built.

use crate::finding::Finding;
use crate::value::{Located, Place};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::sync::Arc;

/// Nodes of one document, aliases expanded.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 64;
/// Text of one document, aliases expanded.
const MAX_TEXT: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub place: Place,
    pub value: Tree,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// An absent value: `key:` or `key: ~`.
    Null,
    /// The text, and whether it was written without quotes.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<(Located<String>, Node)>),
}

impl Tree {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "nothing",
            Tree::Scalar(..) => "a single value",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a mapping",
        }
    }
}

/// Reads one document. The tree is what could be read; findings say what could not.
pub fn parse(name: &str, text: &str, findings: &mut Vec<Finding>) -> Option<Node> {
    if let Some(finding) = forbidden_character(name, text) {
        findings.push(finding);
        return None;
    }
    let mut builder = Builder {
        name,
        file: name.into(),
        text,
        lines: line_starts(text),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
        findings,
    };
    builder.document()
}

/// Control and direction-changing characters have no honest use in a spec and can hide what a reviewer reads.
fn forbidden_character(file: &str, text: &str) -> Option<Finding> {
    let (at, found) = text.char_indices().find(|(_, c)| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || (*c == '\u{feff}')
    })?;
    let place = Place::of_range(file, text, at, at + found.len_utf8());
    Some(
        Finding::error("forbidden-character", format!("character U+{:04X} is not allowed in a spec", found as u32))
            .at(&place)
            .help("remove it; it is invisible in most editors"),
    )
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

struct Builder<'t, 'f> {
    name: &'t str,
    file: Arc<str>,
    text: &'t str,
    lines: Vec<usize>,
    parser: Parser<'t, serde_yaml::granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    bytes: usize,
    findings: &'f mut Vec<Finding>,
}

type Stop = Option<()>;

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return root.or_else(|| self.empty()),
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    self.refuse("several-documents", "a spec is one document; a second one starts here", span);
                    return None;
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn empty(&mut self) -> Option<Node> {
        self.findings.push(Finding::error("empty-file", "the file holds nothing").at(&Place::file(self.name)));
        None
    }

    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        match self.parser.next_event()? {
            Ok((event, span)) => Some((event, span)),
            Err(error) => {
                let at = self.offset(error.marker().line(), error.marker().col());
                let length = self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
                let place = Place::of_range(self.name, self.text, at, at + length);
                self.findings.push(Finding::error("yaml-syntax", error.info()).at(&place));
                None
            }
        }
    }

    /// Byte offset of a line (from 1) and a column (from 0, in characters).
    fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or("");
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }

    fn place(&self, span: Span) -> Place {
        let start = span.start.byte_offset().unwrap_or_else(|| self.offset(span.start.line(), span.start.col()));
        let end = span.end.byte_offset().unwrap_or_else(|| self.offset(span.end.line(), span.end.col())).max(start);
        // Only the first line is ever underlined.
        let first_line = self.text.get(start..end).unwrap_or("").lines().next().unwrap_or("").trim_end().len();
        Place {
            file: self.file.clone(),
            line: u32::try_from(span.start.line()).unwrap_or(u32::MAX),
            column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX),
            start,
            end: start + first_line,
        }
    }

    fn refuse(&mut self, rule: &'static str, message: impl Into<String>, span: Span) {
        let place = self.place(span);
        self.findings.push(Finding::error(rule, message).at(&place));
    }

    fn spend(&mut self, nodes: usize, bytes: usize, span: Span) -> Stop {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > MAX_NODES || self.bytes > MAX_TEXT {
            let message = format!("the document grows beyond {MAX_NODES} values or {} MB here", MAX_TEXT >> 20);
            self.refuse("too-large", message, span);
            return None;
        }
        Some(())
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            self.refuse("too-deep", format!("values are nested deeper than {MAX_DEPTH} levels here"), span);
            return None;
        }
        let (nodes_before, bytes_before) = (self.nodes, self.bytes);
        self.spend(1, 0, span)?;
        let place = self.place(span);
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    self.refuse("yaml-tag", "tags have no meaning in a spec", span);
                }
                self.spend(0, text.len(), span)?;
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null");
                (anchor, if null { Tree::Null } else { Tree::Scalar(text.into_owned(), plain) })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(id) => {
                let Some((node, nodes, bytes)) = self.anchors.get(&id) else {
                    self.refuse("yaml-alias", "an alias inside the value that it names has no end", span);
                    return None;
                };
                let (value, nodes, bytes) = (node.value.clone(), *nodes, *bytes);
                self.spend(nodes, bytes, span)?;
                (0, value)
            }
            _ => {
                self.refuse("yaml-syntax", "a value was expected here", span);
                return None;
            }
        };
        let node = Node { place, value };
        if anchor > 0 {
            let cost = (self.nodes - nodes_before, self.bytes - bytes_before);
            // A copy is kept for every anchor, so it is paid for like an alias.
            self.spend(cost.0, cost.1, span)?;
            self.anchors.insert(anchor, (node.clone(), cost.0, cost.1));
        }
        Some(node)
    }

    fn list(&mut self, depth: usize) -> Option<Tree> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(Tree::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Tree> {
        let mut entries: Vec<(Located<String>, Node)> = Vec::new();
        let mut first: HashMap<String, u32> = HashMap::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Some(Tree::Map(entries)),
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Tree::Scalar(name, _) = key.value else {
                let message = format!("a key must be a name, not {}", key.value.kind());
                let finding = Finding::error("key-type", message).at(&key.place);
                let help = "braces begin a mapping: write \"{{ ... }}\" in quotes";
                self.findings.push(if matches!(key.value, Tree::Map(_)) { finding.help(help) } else { finding });
                continue;
            };
            if let Some(line) = first.insert(name.clone(), key.place.line) {
                let message = format!("`{name}` is written twice; the first one is on line {line}");
                self.findings.push(Finding::error("duplicate-key", message).at(&key.place).help("keep one of the two"));
                continue;
            }
            entries.push((Located::new(name, key.place), value));
        }
    }
}

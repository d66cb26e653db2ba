//! Where a value was written: file, line, column, and the bytes to underline.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place in a file that a person wrote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Place {
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Byte range in the file's text.
    #[serde(skip)]
    pub start: usize,
    #[serde(skip)]
    pub end: usize,
}

impl Place {
    /// The whole of a file, for findings that have no better place.
    pub fn file(file: &str) -> Place {
        Place { file: file.into(), line: 1, column: 1, start: 0, end: 0 }
    }

    /// The place of the bytes `start..end` of `text`.
    pub fn of_range(file: &str, text: &str, start: usize, end: usize) -> Place {
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        Place {
            file: file.into(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            start,
            end,
        }
    }

    /// The place of one whole line, counted from 1, without its indentation.
    pub fn of_line(file: &str, text: &str, line: usize) -> Place {
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let content = text.get(start..).unwrap_or("").lines().next().unwrap_or("");
        let indent = content.len() - content.trim_start().len();
        Place::of_range(file, text, start + indent, start + content.trim_end().len())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

impl<T> Located<T> {
    pub fn new(value: T, place: Place) -> Located<T> {
        Located { value, place }
    }
}

/// The texts that findings point into, by file name.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub BTreeMap<String, String>);

impl Sources {
    pub fn text(&self, file: &str) -> &str {
        self.0.get(file).map_or("", String::as_str)
    }
}

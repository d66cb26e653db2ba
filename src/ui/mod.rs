//! Everything a person or a script reads; the only folder that prints.
//!
//! Standard output is what was asked for and nothing else; standard error is status, progress and
//! questions. Colour adds and never carries, and goes away with `NO_COLOR` or without a terminal.

pub mod checklist;
pub mod json;
pub mod progress;
pub mod text;

use crate::failure::Failure;
use crate::finding::Finding;
use crate::value::Sources;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug)]
pub struct Ui {
    pub format: Format,
}

impl Ui {
    /// The result of a command, for people. A closed pipe is the reader's choice, not an error.
    pub fn result(&self, text: &str) {
        let mut out = anstream::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// The result of a command, for scripts.
    pub fn json<T: Serialize>(&self, value: &T) {
        self.result(&json::text(value));
    }

    /// The result of a command that is no text. Here a reader that went away has not got it, which is an error.
    pub fn stream(&self, from: &mut impl io::Read) -> io::Result<()> {
        let mut out = io::stdout().lock();
        io::copy(from, &mut out)?;
        out.flush()
    }

    /// A result that is made while it is read, piece by piece.
    pub fn write<T>(&self, write: impl FnOnce(&mut dyn io::Write) -> T) -> T {
        write(&mut io::BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    pub fn result_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line of status.
    pub fn status(&self, line: &str) {
        let mut err = anstream::stderr();
        let _ = writeln!(err, "{line}");
    }

    /// Findings on the way to something else.
    pub fn findings(&self, findings: &[Finding], sources: &Sources) {
        let mut err = anstream::stderr();
        let _ = err.write_all(text::findings(findings, sources).as_bytes());
    }

    pub fn failure(&self, failure: &Failure) {
        let mut err = anstream::stderr();
        let _ = err.write_all(text::failure(failure).as_bytes());
    }

    /// Whether somebody is there to answer.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks for a word to be typed; true when it was.
    pub fn typed(&self, question: &str, word: &str) -> bool {
        let mut err = anstream::stderr();
        let _ = write!(err, "{question}\ntype `{word}` to go on: ").and_then(|()| err.flush());
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).is_ok() && answer.trim() == word
    }
}

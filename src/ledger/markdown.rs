//! What a person wrote, as Markdown that shows it and does nothing else.

use std::fmt::Write as _;

/// A line of running text: every sign that Markdown or HTML would act on is escaped, and line breaks are spaces.
pub fn text(text: &str) -> String {
    let mut escaped = String::new();
    let shown: Vec<char> = one_line(text).chars().collect();
    for (index, c) in shown.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| shown.get(index));
        let after = shown.get(index + 1);
        let within = |side: Option<&char>| side.is_some_and(|c| c.is_alphanumeric());
        let acts = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$' => true,
            // Within a word it means nothing, and names are full of it.
            '_' => !(within(before) && within(after)),
            // Only where a line begins: a heading, a list, a rule, a quotation.
            '#' | '+' | '-' | '=' | ':' => before.is_none(),
            '.' | ')' => after.is_none_or(|c| *c == ' ') && is_number(shown.get(..index).unwrap_or_default()),
            '!' => after == Some(&'['),
            _ => false,
        };
        if acts {
            escaped.push('\\');
        }
        escaped.push(*c);
    }
    escaped
}

fn is_number(text: &[char]) -> bool {
    !text.is_empty() && text.iter().all(char::is_ascii_digit)
}

/// The same for several lines, each a paragraph's line of its own.
pub fn paragraph(written: &str) -> String {
    let lines = written.lines().map(text).filter(|line| !line.is_empty());
    // Two spaces at the end of a line break it.
    lines.collect::<Vec<_>>().join("  \n")
}

/// Text as code within a line, whatever backticks it holds.
pub fn code(text: &str) -> String {
    let shown = one_line(text);
    let fence = "`".repeat(longest_run(&shown) + 1);
    let pad = if shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    match shown.is_empty() {
        true => String::new(),
        false => format!("{fence}{pad}{shown}{pad}{fence}"),
    }
}

/// A block of code with its language.
pub fn block(language: &str, text: &str) -> String {
    let shown: String = text.chars().map(|c| if c == '\n' { c } else { visible(c) }).collect();
    let fence = "`".repeat((longest_run(&shown) + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}\n", shown.trim_end())
}

/// A table with a head; cells are Markdown already.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.iter().map(|written| cell(written)).collect::<Vec<_>>().join(" | "));
    }
    text
}

/// A bar ends a cell, even within code, unless there is an odd number of backslashes before it.
fn cell(written: &str) -> String {
    let mut text = String::new();
    let mut escaped = false;
    for c in written.chars() {
        if c == '|' && !escaped {
            text.push('\\');
        }
        escaped = c == '\\' && !escaped;
        text.push(c);
    }
    text
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { visible(c) }).collect();
    spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Signs that move a cursor, or turn the direction of what follows, are shown as what they are: not text.
fn visible(c: char) -> char {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}');
    if c.is_control() || turns { '\u{fffd}' } else { c }
}

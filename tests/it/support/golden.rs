//! Expected texts: compared, or written anew when `GOLDEN=1`; a person reads the difference.

use std::fmt::Write as _;
use std::path::Path;

use super::project::put;

/// `Err` shows how the text differs from the expected one.
pub fn compare(expected: &Path, found: &str) -> Result<(), String> {
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "1") {
        put(expected, found.as_bytes());
        return Ok(());
    }
    match std::fs::read_to_string(expected) {
        Ok(text) if text == found => Ok(()),
        Ok(text) => Err(difference(&text, found)),
        Err(_) => Err(format!("there is no {}; `GOLDEN=1` writes it:\n{found}", expected.display())),
    }
}

/// The lines of both texts, `-` what was expected and `+` what was found.
fn difference(expected: &str, found: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) = (expected.split('\n').collect(), found.split('\n').collect());
    // Length of the longest common run of lines from each pair of positions on.
    let mut common = vec![vec![0usize; right.len() + 1]; left.len() + 1];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            common[i][j] =
                if left[i] == right[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < left.len() || j < right.len() {
        let (sign, line) = if i < left.len() && j < right.len() && left[i] == right[j] {
            (i, j) = (i + 1, j + 1);
            (' ', left[i - 1])
        } else if j == right.len() || (i < left.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', left[i - 1])
        } else {
            j += 1;
            ('+', right[j - 1])
        };
        let _ = writeln!(text, "{sign} {line}");
    }
    text
}

#[test]
fn a_difference_names_what_was_expected_and_what_was_found() {
    assert_eq!(difference("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c\n");
    assert_eq!(difference("a", "a\nb"), "  a\n+ b\n");
    assert_eq!(difference("a\nb", "b"), "- a\n  b\n");
}

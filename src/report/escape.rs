//! Text from outside, so that a form shows it and nothing acts on it.

/// The text with signs that move a cursor, turn the direction of what follows, or may not stand in XML shown as what
/// they are: no text. Line breaks stay.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { visible(c) }).collect()
}

fn visible(c: char) -> char {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}');
    let no_character = matches!(c, '\u{fffe}' | '\u{ffff}');
    if c.is_control() || turns || no_character { '\u{fffd}' } else { c }
}

/// For the text and the quoted attributes of HTML and XML. A line break in an attribute would be read as a space.
pub fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push_str("&#10;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A path as the path of a URI: every byte but the plainest is encoded.
pub fn uri(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The text with every SHA-256 in it cut to what tells it from others.
pub fn brief(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (digest, rest) = part.split_at(digits);
        match digest.get(..12).filter(|_| digits == 64) {
            Some(short) => said.push_str(&format!("sha256:{short}…{rest}")),
            None => said.push_str(&format!("sha256:{part}")),
        }
    }
    said
}

/// At most so many characters.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

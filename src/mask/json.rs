//! Masks leaves of a JSON text, and copies every other byte of it as it is.
//!
//! The text is read once and never built up: numbers keep their digits, objects the order of their names, and a name that
//! stands twice is masked twice. What is not JSON is an error, since nobody could say where its leaves are.

use crate::mask::keyed::{Keyed, REDACTED};
use crate::model::refresh::{Masker, Path, Step};

const MOST_DEPTH: usize = 128;

/// Why a text was not masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    NotJson,
    TooDeep,
    /// An object or an array where a mask of a text was meant.
    Container,
}

impl Wrong {
    pub fn as_str(self) -> &'static str {
        match self {
            Wrong::NotJson => "is not JSON",
            Wrong::TooDeep => "is nested too deeply",
            Wrong::Container => "has an object or an array where a text is masked",
        }
    }
}

/// A leaf that was masked: which of the paths it was, the text that it held, what it holds now, and whether that differs.
pub type Leaf<'l> = (usize, &'l [u8], &'l [u8], bool);

/// Writes the text with its leaves masked behind what is in `into`. Of several paths to a leaf, the first counts.
///
/// # Errors
/// What keeps it from being masked; what `into` holds then is of no use.
pub fn mask(
    text: &[u8],
    paths: &[(usize, &Path, &Masker)],
    keyed: &Keyed,
    into: &mut Vec<u8>,
    leaf: &mut dyn FnMut(Leaf<'_>),
) -> Result<(), Wrong> {
    let mut walk = Walk { text, at: 0, keyed, into, leaf, room: Vec::new(), depth: 0 };
    let mut ways = Ways::new();
    for (number, path, masker) in paths {
        ways.push(Way { number: *number, steps: &path.steps, masker, leaves: false });
        // Of a text that is nothing but a leaf, that is the leaf.
        if path.steps == [Step::Deep, Step::Any] {
            ways.push(Way { number: *number, steps: &[], masker, leaves: true });
        }
    }
    walk.space();
    walk.value(&ways)?;
    walk.space();
    if walk.at == text.len() { Ok(()) } else { Err(Wrong::NotJson) }
}

/// What is left of a path at some place of the text.
#[derive(Clone)]
struct Way<'p> {
    number: usize,
    steps: &'p [Step],
    masker: &'p Masker,
    /// Whether `..*` led here, which means every leaf, and not what holds them.
    leaves: bool,
}

type Ways<'p> = Vec<Way<'p>>;

struct Walk<'t, 'i> {
    text: &'t [u8],
    at: usize,
    keyed: &'t Keyed,
    into: &'i mut Vec<u8>,
    leaf: &'i mut dyn FnMut(Leaf<'_>),
    room: Vec<u8>,
    depth: usize,
}

impl<'t> Walk<'t, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            self.into.push(byte);
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.peek() != Some(byte) {
            return Err(Wrong::NotJson);
        }
        self.into.push(byte);
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, ways: &Ways<'_>) -> Result<(), Wrong> {
        let arrived = ways.iter().filter(|way| way.steps.is_empty()).min_by_key(|way| way.number);
        let is_container = matches!(self.peek(), Some(b'{' | b'['));
        if let Some(way) = arrived.filter(|way| *way.masker != Masker::Keep && !(way.leaves && is_container)) {
            return self.masked(way);
        }
        match self.peek() {
            Some(b'{') => self.object(ways),
            Some(b'[') => self.array(ways),
            Some(b'"') => self.string().map(|token| self.into.extend_from_slice(token)),
            _ => self.bare().map(|token| self.into.extend_from_slice(token)),
        }
    }

    fn deeper(&mut self) -> Result<(), Wrong> {
        self.depth += 1;
        if self.depth > MOST_DEPTH { Err(Wrong::TooDeep) } else { Ok(()) }
    }

    fn object(&mut self, ways: &Ways<'_>) -> Result<(), Wrong> {
        self.deeper()?;
        self.take(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.depth -= 1;
            return self.take(b'}');
        }
        loop {
            let token = self.string()?;
            self.into.extend_from_slice(token);
            let next = match ways.is_empty() {
                true => Ways::new(),
                false => {
                    let name: String = serde_json::from_slice(token).map_err(|_not_shown| Wrong::NotJson)?;
                    next(ways, Some(&name))
                }
            };
            self.space();
            self.take(b':')?;
            self.space();
            self.value(&next)?;
            if !self.goes_on()? {
                break;
            }
        }
        self.depth -= 1;
        self.take(b'}')
    }

    fn array(&mut self, ways: &Ways<'_>) -> Result<(), Wrong> {
        self.deeper()?;
        self.take(b'[')?;
        self.space();
        if self.peek() == Some(b']') {
            self.depth -= 1;
            return self.take(b']');
        }
        let next = next(ways, None);
        loop {
            self.value(&next)?;
            if !self.goes_on()? {
                break;
            }
        }
        self.depth -= 1;
        self.take(b']')
    }

    /// Takes the comma ahead of another entry, where there is one.
    fn goes_on(&mut self) -> Result<bool, Wrong> {
        self.space();
        let more = self.peek() == Some(b',');
        if more {
            self.take(b',')?;
            self.space();
        }
        Ok(more)
    }

    /// A string with its quotes, as it is written; not copied.
    fn string(&mut self) -> Result<&'t [u8], Wrong> {
        let from = self.at;
        if self.peek() != Some(b'"') {
            return Err(Wrong::NotJson);
        }
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(0x20..) => self.at += 1,
                _ => return Err(Wrong::NotJson),
            }
        }
        self.at += 1;
        self.text.get(from..self.at).ok_or(Wrong::NotJson)
    }

    /// A number, `true`, `false` or `null`; not copied.
    fn bare(&mut self) -> Result<&'t [u8], Wrong> {
        let from = self.at;
        while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') = self.peek() {
            self.at += 1;
        }
        let token = self.text.get(from..self.at).unwrap_or_default();
        match serde_json::from_slice::<serde::de::IgnoredAny>(token) {
            Ok(_) => Ok(token),
            Err(_) => Err(Wrong::NotJson),
        }
    }

    fn masked(&mut self, way: &Way<'_>) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'{' | b'[') => {
                if !matches!(way.masker, Masker::Null | Masker::Redact | Masker::Constant(_)) {
                    return Err(Wrong::Container);
                }
                let (kept, from) = (self.into.len(), self.at);
                self.value(&Ways::new())?;
                self.into.truncate(kept);
                let whole = self.text.get(from..self.at).unwrap_or_default();
                self.put(way, whole, false)
            }
            Some(b'"') => {
                let token = self.string()?;
                let text: String = serde_json::from_slice(token).map_err(|_not_shown| Wrong::NotJson)?;
                self.put(way, text.as_bytes(), false)
            }
            _ => {
                let token = self.bare()?;
                match token {
                    // Nothing is nothing private.
                    b"null" => {
                        self.into.extend_from_slice(token);
                        Ok(())
                    }
                    token => self.put(way, token, !matches!(token, b"true" | b"false")),
                }
            }
        }
    }

    /// Puts what a leaf becomes; a number stays one where it can.
    fn put(&mut self, way: &Way<'_>, text: &[u8], is_number: bool) -> Result<(), Wrong> {
        match way.masker {
            Masker::Null => {
                (self.leaf)((way.number, text, b"null", true));
                self.into.extend_from_slice(b"null");
                return Ok(());
            }
            Masker::Redact => {
                (self.leaf)((way.number, text, REDACTED.as_bytes(), text != REDACTED.as_bytes()));
                return self.quoted(REDACTED.as_bytes());
            }
            _ => {}
        }
        let mut room = std::mem::take(&mut self.room);
        room.clear();
        // An exponent is no digit to change: it makes a number of another size, or none.
        let plain = is_number && way.masker == &Masker::Digits && !text.iter().any(u8::is_ascii_alphabetic);
        let changed = self.keyed.mask(way.masker, text, &mut room);
        (self.leaf)((way.number, text, &room, changed));
        let put = match plain && serde_json::from_slice::<serde::de::IgnoredAny>(&room).is_ok() {
            true => {
                self.into.extend_from_slice(&room);
                Ok(())
            }
            false => self.quoted(&room),
        };
        self.room = room;
        put
    }

    fn quoted(&mut self, text: &[u8]) -> Result<(), Wrong> {
        let text = std::str::from_utf8(text).map_err(|_not_shown| Wrong::NotJson)?;
        serde_json::to_writer(&mut *self.into, text).map_err(|_not_shown| Wrong::NotJson)
    }
}

/// What is left of the paths one step on: in a field of this name, or in an array.
fn next<'p>(ways: &Ways<'p>, name: Option<&str>) -> Ways<'p> {
    let mut next = Ways::new();
    for way in ways {
        let deep = way.steps.first() == Some(&Step::Deep);
        if deep {
            next.push(way.clone());
        }
        let steps = if deep { way.steps.get(1..).unwrap_or_default() } else { way.steps };
        let Some((first, rest)) = steps.split_first() else { continue };
        let fits = match (first, name) {
            (Step::Any, _) => true,
            (Step::Name(wanted), Some(name)) => wanted == name,
            (Step::Name(_) | Step::Deep, _) => false,
        };
        if fits {
            let leaves = deep && *first == Step::Any && rest.is_empty();
            next.push(Way { steps: rest, leaves, ..way.clone() });
        }
    }
    next
}

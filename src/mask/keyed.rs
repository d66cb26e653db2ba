//! Masks one text: the same text always the same way, whoever holds it, and nobody without the secret can tell which.
//!
//! What is made is drawn from HMAC-SHA256 of the text. A token, an e-mail and a name carry a second draw, made from the
//! first: by it they are known again as masked, and stay as they are. Nothing else is ever taken for masked: the chance
//! that a text which nobody masked carries the right draw is 2^-60 for a token, 2^-40 for an e-mail, and 2^-24 for a
//! name, which has to be two words of made-up syllables besides. Digits keep their form, which leaves no room for a
//! second draw: they are masked again.

use crate::model::refresh::{Masker, Share};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// What a text becomes that is not to be seen at all.
pub const REDACTED: &str = "redacted";
const TOKEN: &[u8] = b"tok_";
const AT: &[u8] = b"@example.com";
/// No letter that reads as another, and none that a name could be made of by accident.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const CONSONANTS: &[u8; 16] = b"bdfgjklmnprstvwz";
const VOWELS: &[u8; 4] = b"aeio";
/// How often a draw is made anew that gives back what went in.
const DRAWS: u8 = 8;

/// Keeps apart what is drawn for different ends.
#[derive(Clone, Copy)]
enum Draw {
    Token = 1,
    TokenCheck,
    Email,
    EmailCheck,
    Name,
    NameCheck,
    Digits,
    Entity,
    Canary,
    Salt,
    Rules,
}

/// Draws from the secret.
#[derive(Clone)]
pub struct Keyed(Hmac<Sha256>);

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(secret)")
    }
}

impl Keyed {
    /// With a salt of its own, another refresh makes something else of the same.
    pub fn new(secret: &[u8], salt: &[u8]) -> Keyed {
        let key = mac(secret).chain_update([Draw::Salt as u8]).chain_update(salt).finalize().into_bytes();
        Keyed(mac(&key))
    }

    fn draw(&self, what: Draw, part: u32, text: &[u8]) -> [u8; 32] {
        let mac = self.0.clone().chain_update([what as u8]).chain_update(part.to_le_bytes()).chain_update(text);
        mac.finalize().into_bytes().into()
    }

    fn number(&self, what: Draw, text: &[u8]) -> u128 {
        let drawn = self.draw(what, 0, text);
        drawn.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    /// Whether what belongs to this is among such a share of all. Who is in a share is in every larger one.
    pub fn chooses(&self, share: Share, entity: &[u8]) -> bool {
        let place = self.number(Draw::Entity, entity) >> 64;
        share >= Share::ALL || place < (u128::from(share.0) << 64) / u128::from(Share::ALL.0)
    }

    /// A place among all texts that says nothing of the text.
    pub fn place(&self, text: &[u8]) -> u64 {
        (self.number(Draw::Canary, text) >> 64) as u64
    }

    /// A name for what these masks make by rules that are told so; it tells nothing of the secret.
    pub fn label(&self, rules: &str) -> String {
        format!("{:032x}", self.number(Draw::Rules, rules.as_bytes()))
    }

    /// Writes what the text becomes behind what is in `into`. `false` where it is masked already, and stays.
    pub fn mask(&self, masker: &Masker, text: &[u8], into: &mut Vec<u8>) -> bool {
        // Nothing is nothing private.
        if text.is_empty() && !matches!(masker, Masker::Constant(_)) {
            return false;
        }
        let at = into.len();
        match masker {
            Masker::Keep => into.extend_from_slice(text),
            Masker::Null => {}
            Masker::Redact => into.extend_from_slice(REDACTED.as_bytes()),
            Masker::Constant(constant) => into.extend_from_slice(constant.as_bytes()),
            Masker::Token if self.is_token(text) => into.extend_from_slice(text),
            Masker::Email if self.is_email(text) => into.extend_from_slice(text),
            Masker::Name if self.is_name(text) => into.extend_from_slice(text),
            Masker::Token => self.token(text, into),
            Masker::Email => self.email(text, into),
            Masker::Name => self.name(text, into),
            Masker::Digits => self.digits(text, into),
        }
        into.get(at..) != Some(text)
    }

    fn token(&self, text: &[u8], into: &mut Vec<u8>) {
        into.extend_from_slice(TOKEN);
        let at = into.len();
        letters(self.number(Draw::Token, text), 16, into);
        let check = self.number(Draw::TokenCheck, into.get(at..).unwrap_or_default());
        letters(check, 12, into);
    }

    fn is_token(&self, text: &[u8]) -> bool {
        let Some(drawn) = text.strip_prefix(TOKEN).filter(|drawn| drawn.len() == 28) else { return false };
        let Some((body, check)) = drawn.split_at_checked(16) else { return false };
        let mut right = Vec::new();
        letters(self.number(Draw::TokenCheck, body), 12, &mut right);
        drawn.iter().all(|byte| LETTERS.contains(byte)) && right == check
    }

    fn email(&self, text: &[u8], into: &mut Vec<u8>) {
        let at = into.len();
        into.push(b'u');
        letters(self.number(Draw::Email, text), 12, into);
        let check = self.number(Draw::EmailCheck, into.get(at..).unwrap_or_default());
        letters(check, 8, into);
        into.extend_from_slice(AT);
    }

    fn is_email(&self, text: &[u8]) -> bool {
        let Some(local) = text.strip_suffix(AT).filter(|local| local.len() == 21) else { return false };
        let Some((body, check)) = local.split_at_checked(13) else { return false };
        let mut right = Vec::new();
        letters(self.number(Draw::EmailCheck, body), 8, &mut right);
        local.starts_with(b"u") && body.iter().all(|byte| LETTERS.contains(byte)) && right == check
    }

    fn name(&self, text: &[u8], into: &mut Vec<u8>) {
        let at = into.len();
        word(self.number(Draw::Name, text), into);
        let check = self.number(Draw::NameCheck, into.get(at..).unwrap_or_default());
        into.push(b' ');
        word(check, into);
    }

    fn is_name(&self, text: &[u8]) -> bool {
        let (Some(first), Some((b' ', last))) =
            (text.get(..8), text.get(8..).and_then(|rest| rest.split_first()).map(|(space, last)| (*space, last)))
        else {
            return false;
        };
        let mut right = Vec::new();
        word(self.number(Draw::NameCheck, first), &mut right);
        is_word(first) && right == last
    }

    /// Digits become digits, letters become letters of the same case; where there are neither, it is no format to keep.
    fn digits(&self, text: &[u8], into: &mut Vec<u8>) {
        if !text.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()) {
            return self.token(text, into);
        }
        let at = into.len();
        // Of a long text every part is drawn from a hash of all of it.
        let seed = self.draw(Draw::Digits, 0, text);
        for attempt in 0..DRAWS {
            into.truncate(at);
            let mut drawn = seed;
            let (mut part, mut used) = (u32::from(attempt) << 24, if attempt == 0 { 0 } else { drawn.len() });
            let mut next = |range: u8| loop {
                if used == drawn.len() {
                    part += 1;
                    (drawn, used) = (self.draw(Draw::Digits, part, &seed), 0);
                }
                let byte = drawn.get(used).copied().unwrap_or_default();
                used += 1;
                // Every value as likely as every other.
                if byte < u8::MAX / range * range {
                    break byte % range;
                }
            };
            for (place, byte) in text.iter().enumerate() {
                into.push(match byte {
                    // What begins with another digit than 0 is a number, and stays one.
                    b'1'..=b'9' if place == 0 => b'1' + next(9),
                    b'0'..=b'9' => b'0' + next(10),
                    b'a'..=b'z' => b'a' + next(26),
                    b'A'..=b'Z' => b'A' + next(26),
                    // The first byte of a letter that is not of ASCII; the others of it are left out.
                    0xc0..=0xff => b'a' + next(26),
                    0x80..=0xbf => continue,
                    other => *other,
                });
            }
            if into.get(at..) != Some(text) {
                return;
            }
        }
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // Any length of key will do for HMAC, so the other arm is never taken; it would mask with another key, not with none.
    Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&hmac::digest::generic_array::GenericArray::default()))
}

fn letters(mut number: u128, count: usize, into: &mut Vec<u8>) {
    for _ in 0..count {
        into.extend(LETTERS.get((number & 31) as usize));
        number >>= 5;
    }
}

/// Four syllables, the first letter a capital.
fn word(mut number: u128, into: &mut Vec<u8>) {
    for place in 0..4 {
        let consonant = CONSONANTS.get((number & 15) as usize).copied().unwrap_or(b'b');
        into.push(if place == 0 { consonant.to_ascii_uppercase() } else { consonant });
        into.extend(VOWELS.get(((number >> 4) & 3) as usize));
        number >>= 6;
    }
}

fn is_word(text: &[u8]) -> bool {
    text.len() == 8
        && text.iter().enumerate().all(|(place, byte)| match place {
            0 => byte.is_ascii_uppercase() && CONSONANTS.contains(&byte.to_ascii_lowercase()),
            place if place % 2 == 0 => CONSONANTS.contains(byte),
            _ => VOWELS.contains(byte),
        })
}

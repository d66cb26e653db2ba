//! The secret halves of age keys, from a file that only its owner can read.

use crate::store::secrets;
use crate::value::Recipient;
use anyhow::bail;
use std::fmt;
use std::path::Path;

/// Overrides `backup.identity`, for the machine that reads backups and the person who keeps the key elsewhere.
pub const VARIABLE: &str = "LOCKSTEP_AGE_IDENTITY_FILE";

/// What opens encrypted backups; may be none.
#[derive(Clone, Default)]
pub struct Identities {
    keys: Vec<age::x25519::Identity>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.keys.len())
    }
}

impl Identities {
    /// Reads a file as `age-keygen` writes it.
    pub fn read(path: &Path) -> anyhow::Result<Identities> {
        let text = secrets::private_text(path)?;
        let mut identities = Identities::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line itself is a secret, or meant to be one.
            match line.parse() {
                Ok(key) => identities.keys.push(key),
                Err(_why) => bail!("line {} of `{}` is not an age identity", index + 1, path.display()),
            }
        }
        if identities.is_empty() {
            bail!("`{}` has no age identity", path.display());
        }
        Ok(identities)
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whom one may encrypt to so that these open it.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.keys.iter().filter_map(|key| Recipient::parse(&key.to_public().to_string())).collect()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| key as &dyn age::Identity)
    }
}

impl From<Vec<age::x25519::Identity>> for Identities {
    fn from(keys: Vec<age::x25519::Identity>) -> Identities {
        Identities { keys }
    }
}

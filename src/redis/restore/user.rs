//! The user that a restore works as: it exists for as long as that takes, and each restore has its own.
//!
//! Under one name for all, whoever comes second would end the connections of the first.

use crate::redis::{Server, ServerError};

/// What all these names begin with; alone it is what they all were once.
const RESTORER: &str = "lockstep-restore";
/// Hexadecimal digits that tell one restore from another.
const DIGITS: usize = 12;

/// The name for one restore, from random bytes.
pub fn name(random: [u8; DIGITS / 2]) -> String {
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{RESTORER}-{digits}")
}

/// Whether this is how a restore names its user.
pub fn is_restorer(name: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match name.strip_prefix(RESTORER) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(|end| end.len() == DIGITS && end.bytes().all(is_digit)),
        None => false,
    }
}

impl Server {
    /// Removes the users of restores that were killed, but none that the spec declares. For whoever holds the environment:
    /// nobody else restores then.
    pub async fn remove_restorers(&self, is_declared: impl Fn(&str) -> bool) -> Result<(), ServerError> {
        let lines: Vec<String> = self.ask(::redis::cmd("ACL").arg("LIST")).await?;
        let named = lines.iter().filter_map(|line| line.strip_prefix("user ")?.split(' ').next());
        for name in named.filter(|name| is_restorer(name) && !is_declared(name)) {
            self.remove_user(name).await?;
        }
        Ok(())
    }
}

//! What a container wrote last, fit to be shown.

use crate::desired::Secrets;
use crate::engine::Engine;

/// So many lines tell what happened.
const LINES: u32 = 12;

/// The last lines that a container wrote, without secrets.
pub async fn last_lines(engine: &Engine, container: &str, secrets: &Secrets) -> String {
    let lines = match engine.last_lines(container, LINES).await {
        Ok(lines) if lines.is_empty() => return "it wrote nothing to its log".to_owned(),
        Ok(lines) => lines,
        Err(error) => return format!("its log could not be read: {error}"),
    };
    let mut text = format!("its last {} lines:", lines.len());
    for line in lines {
        text.push_str("\n  | ");
        text.push_str(&secrets.conceal_line(&line));
    }
    text
}

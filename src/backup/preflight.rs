//! Whether a server can afford a snapshot now. Read off what it says of itself; nothing is asked here.

use std::collections::BTreeMap;

/// What a snapshot would meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// Why it must not be taken now, and what to do about it.
    pub refusal: Option<(String, &'static str)>,
    /// It would pass through a file beside the data of a server that keeps nothing on disk, and be loaded by its next
    /// start. While the snapshot is taken the server has to send it straight from memory.
    pub leaves_a_file: bool,
}

/// Memory that the parent may write to while the child reads, as a share of what it uses: a tenth.
const WRITTEN_MEANWHILE: u64 = 10;
/// What a fork takes at least: page tables and buffers.
const FORK: u64 = 4 << 20;

/// Judges by `INFO` and `CONFIG GET`; `limit` is what the container may use, 0 for no limit.
pub fn preflight(info: &BTreeMap<String, String>, config: &BTreeMap<String, String>, limit: u64) -> Preflight {
    let text = |name: &str| info.get(name).map_or("", String::as_str);
    let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
    let setting = |name: &str| config.get(name).map_or("", String::as_str);
    let refusal = if text("loading") == "1" {
        Some(("the server is still loading its data".to_owned(), "wait until it has, then run this again"))
    } else if text("role") == "slave" && text("master_link_status") != "up" {
        Some(("the server is a replica without a link to its primary".to_owned(), "back up the primary"))
    } else {
        let used = number("used_memory_rss").max(number("used_memory"));
        let needed = used.saturating_add(number("used_memory") / WRITTEN_MEANWHILE).saturating_add(FORK);
        (limit > 0 && needed > limit).then(|| {
            let megabytes = |bytes: u64| bytes >> 20;
            let message = format!(
                "it uses {} MB of the {} MB that its container may use, and a snapshot would take it beyond: the \
                 kernel would end it",
                megabytes(used),
                megabytes(limit)
            );
            (message, "raise `limits.memory`, or lower `maxmemory`: a snapshot needs room for what changes meanwhile")
        })
    };
    let keeps_nothing = setting("save").trim_matches('"').is_empty() && setting("appendonly") != "yes";
    let known = config.contains_key("save") && config.contains_key("repl-diskless-sync");
    let leaves_a_file = known && keeps_nothing && setting("repl-diskless-sync") != "yes";
    Preflight { refusal, leaves_a_file }
}

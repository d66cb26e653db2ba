//! What a restore will come to, said beforehand: one pass over the backup, and what a server says of itself.

use super::{Choice, Ttl, Way};
use crate::finding::Finding;
use crate::rdb::{self, Checksum, Element, Entry, Form, Frames, RdbError, Record, Room, Summary, Tally, Type};
use crate::value::ServerVersion;
use crate::value::bytes::about;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Prefixes that are told apart; what comes later is counted as one.
const PREFIXES: usize = 1000;
/// What a key costs a server besides its value: its name's and value's headers and its place in two tables.
const PER_KEY: u64 = 96;

/// What is known of the server that is restored into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub server: ServerVersion,
    /// 0 is no limit.
    pub maxmemory: u64,
    pub maxmemory_policy: String,
    pub used_memory: u64,
    pub databases: u64,
    /// By the names that `MODULE LIST` gives them.
    pub modules: Vec<String>,
    /// What its container may use, where that is known.
    pub memory_limit: Option<u64>,
    /// The server's clock, in milliseconds since 1970.
    pub now_ms: i64,
    pub is_replica: bool,
    pub is_cluster: bool,
}

/// Keys of a database or with a common prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    pub keys: u64,
    /// Of the values as they are written in the backup.
    pub bytes: u64,
    /// Keys whose time will have passed when they are restored.
    pub expired: u64,
}

impl Part {
    fn add(&mut self, bytes: u64, expired: bool) {
        self.keys += 1;
        self.bytes += bytes;
        self.expired += u64::from(expired);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// What is chosen.
    pub databases: BTreeMap<u64, Part>,
    /// By what a key begins with, up to its first `:`; all without one under the empty text, and under `*` what comes
    /// behind the first thousand prefixes.
    pub prefixes: BTreeMap<String, Part>,
    /// All of it.
    pub chosen: Part,
    /// Keys that the choice leaves out.
    pub left_out: u64,
    pub functions: u64,
    /// The names of the function libraries that are chosen, and that the server can load.
    pub libraries: Vec<String>,
    /// Bytes of memory that the server will use more. What the server that made the backup used for the same share of
    /// bytes, or, where it does not say, twice the bytes as written and 96 a key.
    pub memory: u64,
    /// Whether every value is written anew in plain form.
    pub plain: bool,
    /// Errors are reasons why the restore is refused.
    pub findings: Vec<Finding>,
}

/// Reads a backup to its end and tells what restoring it into that server will come to.
///
/// # Errors
/// What keeps the backup from being read whole.
pub fn forecast(source: impl Read, facts: &Facts, choice: &Choice) -> Result<Forecast, RdbError> {
    let mut seen = Seen::default();
    let mut frames = Frames::new(source);
    let (mut room, mut tally) = (Room::default(), Tally::default());
    while let Some(batch) = frames.next_batch()? {
        let created_ms = choice.created_ms.or(frames.summary().created_unix.map(|at| at.saturating_mul(1000)));
        for record in batch.records() {
            match record? {
                Record::ModuleAux(_) => seen.module_aux += 1,
                Record::Function(written) if choice.is_everything() && facts.server.speaks(7, 0) => {
                    seen.libraries.push(library(written));
                }
                _ => {}
            }
        }
        tally.add(&batch, |entry| seen.take(entry, facts, choice, created_ms, &mut room))?;
        frames.recycle(batch);
    }
    Ok(seen.conclude(&tally.into_summary(frames.summary()), facts, choice))
}

/// A function library's name, by its bytes as they are written.
fn library(written: &[u8]) -> String {
    let mut room = Vec::new();
    let name = rdb::text(written, &mut room).and_then(rdb::library_name).unwrap_or_default();
    name.escape_ascii().to_string()
}

#[derive(Default)]
struct Seen {
    databases: BTreeMap<u64, Part>,
    prefixes: BTreeMap<Vec<u8>, Part>,
    others: Part,
    chosen: Part,
    all_bytes: u64,
    left_out: u64,
    modules: BTreeSet<u64>,
    streams_with_counters: u64,
    hashes_with_expiry: u64,
    with_meta: u64,
    module_aux: u64,
    libraries: Vec<String>,
}

impl Seen {
    fn take(
        &mut self,
        entry: &Entry<'_>,
        facts: &Facts,
        choice: &Choice,
        created_ms: Option<i64>,
        room: &mut Room,
    ) -> Result<u64, RdbError> {
        let (mut fields_expire, mut counters, mut module) = (false, false, None);
        let elements = entry.read(room, |element| match element {
            Element::Field { expires_at_ms: Some(_), .. } => fields_expire = true,
            Element::Stream(stream) => counters = stream.counters.is_some(),
            Element::Module { id, .. } => module = Some(id),
            _ => {}
        })?;
        if elements == 0 {
            return Ok(0);
        }
        let mut name = Vec::new();
        let key = entry.key(&mut name)?;
        let bytes = (key.len() + entry.size()) as u64;
        self.all_bytes += bytes + PER_KEY;
        if !choice.has(key) {
            self.left_out += 1;
            return Ok(elements);
        }
        let expiry = choice.ttl.apply(entry.expires_at_ms, created_ms.unwrap_or(facts.now_ms), facts.now_ms);
        let expired = expiry.is_some_and(|expiry| expiry <= facts.now_ms);
        self.chosen.add(bytes, expired);
        self.databases.entry(entry.database).or_default().add(bytes, expired);
        let prefix = key.iter().position(|byte| *byte == b':').and_then(|colon| key.get(..=colon)).unwrap_or_default();
        // No owned key for a prefix that is known already, which is nearly every time.
        let many = self.prefixes.len() >= PREFIXES;
        match self.prefixes.get_mut(prefix) {
            Some(part) => part.add(bytes, expired),
            None if many => self.others.add(bytes, expired),
            None => self.prefixes.entry(prefix.to_vec()).or_default().add(bytes, expired),
        }
        if !expired {
            self.streams_with_counters += u64::from(counters);
            self.hashes_with_expiry += u64::from(fields_expire);
            self.with_meta += u64::from(entry.has_meta);
            if entry.kind == Type::Module {
                self.modules.extend(module);
            }
        }
        Ok(elements)
    }

    fn conclude(mut self, summary: &Summary, facts: &Facts, choice: &Choice) -> Forecast {
        let way = Way::choose(summary.family, summary.version, facts.server);
        let memory = self.memory(summary);
        let mut findings = self.findings(summary, facts, choice, way);
        findings.extend(room_for(memory, facts));
        if self.others.keys > 0 {
            self.prefixes.insert(b"*".to_vec(), self.others);
        }
        Forecast {
            databases: self.databases,
            prefixes: self.prefixes.into_iter().map(|(name, part)| (name.escape_ascii().to_string(), part)).collect(),
            chosen: self.chosen,
            left_out: self.left_out,
            functions: summary.functions,
            libraries: self.libraries,
            memory,
            plain: way.form == Form::Plain,
            findings,
        }
    }

    fn memory(&self, summary: &Summary) -> u64 {
        let chosen = self.chosen.bytes + self.chosen.keys * PER_KEY;
        match summary.used_memory {
            Some(used) if self.all_bytes > 0 => {
                let share = u128::from(used) * u128::from(chosen) / u128::from(self.all_bytes);
                u64::try_from(share).unwrap_or(u64::MAX)
            }
            _ => self.chosen.bytes.saturating_mul(2).saturating_add(self.chosen.keys * PER_KEY),
        }
    }

    fn findings(&self, summary: &Summary, facts: &Facts, choice: &Choice, way: Way) -> Vec<Finding> {
        let mut findings = Vec::new();
        let server = facts.server;
        if facts.is_replica {
            let help = "restore into its primary";
            findings.push(Finding::error("restore-into-replica", "the server is a replica").help(help));
        }
        if facts.is_cluster {
            let help = "restore into a server that is not part of a cluster";
            let what = "the server is one of a cluster, and its keys belong to the slots that it serves";
            findings.push(Finding::error("restore-into-cluster", what).help(help));
        }
        if summary.checksum == Checksum::Absent {
            let what = "the snapshot carries no checksum, so nothing vouches for its bytes";
            findings.push(Finding::warning("no-checksum", what).help("set `rdbchecksum yes` where it is made"));
        }
        if let Some((database, part)) = self.databases.iter().next_back().filter(|(last, _)| **last >= facts.databases)
        {
            let what = format!("database {database} with {} keys does not exist on the server", part.keys);
            let help = format!("set `databases {}` or more in its configuration", database + 1);
            let wanted = (database + 1).to_string();
            findings.push(Finding::error("databases", what).sides(wanted, facts.databases.to_string()).help(help));
        }
        for id in &self.modules {
            findings.extend(module_missing(*id, &facts.modules));
        }
        if self.module_aux > 0 {
            let what = format!("{} records that modules keep outside of keys are not restored", self.module_aux);
            findings.push(Finding::warning("module-records", what).help("restore cold to keep them"));
        }
        if self.with_meta > 0 {
            let what = format!("what modules attached to {} keys is not restored", self.with_meta);
            findings.push(Finding::warning("key-metadata", what).help("restore cold to keep it"));
        }
        let fields_lost = choice.ttl != Ttl::Drop && way.loses_field_expiries();
        if self.hashes_with_expiry > 0 && fields_lost {
            let what =
                format!("{} hashes have fields that expire, which {server} does not know", self.hashes_with_expiry);
            let help = "restore into Redis 7.4 or Valkey 9 and newer, or allow those expiries to be lost";
            findings.push(match choice.lose_field_expiries {
                true => Finding::warning("field-expiry", what).help("these fields will stay for good"),
                false => Finding::error("field-expiry", what).help(help),
            });
        }
        if self.streams_with_counters > 0 && way.loses_stream_counters() {
            let what = format!(
                "{} streams lose their counters (entries added, entries read), which {server} does not know",
                self.streams_with_counters
            );
            findings.push(Finding::warning("stream-counters", what).help("entries and groups are kept"));
        }
        if summary.functions > 0 && choice.is_everything() && !server.speaks(7, 0) {
            let what = format!("{} function libraries are not restored: {server} has no functions", summary.functions);
            findings.push(Finding::warning("functions", what).help("restore into 7.0 or newer to keep them"));
        }
        if self.chosen.expired > 0 {
            let gone: Vec<String> = self
                .prefixes
                .iter()
                .filter(|(_, part)| part.expired > 0)
                .take(5)
                .map(|(prefix, part)| format!("{} of `{}*`", part.expired, prefix.escape_ascii()))
                .collect();
            let what = format!(
                "{} of {} keys will have expired and are not restored: {}",
                self.chosen.expired,
                self.chosen.keys,
                gone.join(", ")
            );
            findings.push(Finding::warning("expired", what).help("`--ttl shift` gives every key the time it had left"));
        }
        if choice.ttl == Ttl::Shift && choice.created_ms.is_none() && summary.created_unix.is_none() {
            let what = "the snapshot does not say when it was made, so expiries cannot be shifted";
            findings.push(Finding::error("no-creation-time", what).help("say when it was made, or use `--ttl keep`"));
        }
        findings
    }
}

/// Whether the memory that is needed is there.
fn room_for(memory: u64, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let after = facts.used_memory.saturating_add(memory);
    let (shown, limit) = (about(after), about(facts.maxmemory));
    if facts.maxmemory > 0 && after > facts.maxmemory {
        let what = format!("about {shown} will be used, and `maxmemory` is {limit}");
        findings.push(match facts.maxmemory_policy.as_str() {
            "noeviction" => Finding::error("maxmemory", format!("{what}: the server will refuse to go on"))
                .help("raise `maxmemory`, or choose fewer keys"),
            policy if policy.starts_with("volatile") => {
                Finding::warning("maxmemory", format!("{what}: `{policy}` evicts keys with an expiry, then refuses"))
                    .help("raise `maxmemory`, or choose fewer keys")
            }
            policy => Finding::warning("maxmemory", format!("{what}: `{policy}` will evict other keys"))
                .help("raise `maxmemory`, or choose fewer keys"),
        });
    }
    // Buffers, fragmentation and a fork's copies need a tenth at the very least.
    if let Some(limit) = facts.memory_limit.filter(|limit| after.saturating_add(after / 10) > *limit) {
        let limit = about(limit);
        let what =
            format!("about {shown} will be used, and the container may use {limit}: the kernel would end the server");
        findings
            .push(Finding::error("container-memory", what).help("raise the container's limit, or choose fewer keys"));
    }
    findings
}

/// The name that a module's type carries in its id: nine characters of six bits each, above ten bits of version.
#[must_use]
pub fn module_type(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |place: u32| {
        let index = (id >> (10 + 6 * place)) & 63;
        usize::try_from(index).ok().and_then(|index| LETTERS.get(index)).map_or('?', |letter| char::from(*letter))
    };
    (0..9).rev().map(letter).collect()
}

/// Types that are known to belong to a module of another name.
const MODULES: [(&str, &[&str]); 8] = [
    ("MBbloom--", &["bf"]),
    ("MBbloomCF", &["bf"]),
    ("CMSk-TYPE", &["bf"]),
    ("TopK-TYPE", &["bf"]),
    ("TDIS-TYPE", &["bf"]),
    ("ReJSON-RL", &["ReJSON", "json"]),
    ("TSDB-TYPE", &["timeseries"]),
    ("bloomfltr", &["bf"]),
];

fn module_missing(id: u64, loaded: &[String]) -> Option<Finding> {
    let kind = module_type(id);
    let known = MODULES.iter().find(|(name, _)| *name == kind).map(|(_, modules)| *modules);
    let has = |names: &[&str]| loaded.iter().any(|module| names.contains(&module.as_str()));
    let help = "load the module that defines it, or leave these keys out";
    match known {
        Some(names) if has(names) => None,
        Some(_) => {
            Some(Finding::error("module", format!("no module for values of type `{kind}` is loaded")).help(help))
        }
        None if loaded.is_empty() => Some(
            Finding::error("module", format!("no module at all is loaded, and there are values of type `{kind}`"))
                .help(help),
        ),
        None => {
            Some(Finding::warning("module", format!("values of type `{kind}` need a module that may not be loaded")))
        }
    }
}

//! `backup inspect`: RDB files from anywhere, read to their end as a backup would be. Needs no project.

use crate::backup::{Counts, Inspected, Standing};
use crate::commands::Verdict;
use crate::digest::{self, Hasher, Key, ReadError};
use crate::failure::{Failure, Kind};
use crate::rdb::Checksum;
use crate::store;
use crate::ui::{Ui, text};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub fn run(ui: &Ui, files: &[PathBuf]) -> Result<Verdict, Failure> {
    let random = store::random().map_err(|error| Failure::new(Kind::Error, error))?;
    let hasher = Hasher::new(&Key::new(random), None);
    let mut all = Vec::new();
    for path in files {
        let inspected = inspect(path, &hasher);
        if !ui.is_json() {
            ui.result(&text::inspected(&inspected));
        }
        all.push(inspected);
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "files": all }));
    }
    let any = |standing: Standing| all.iter().any(|inspected| inspected.state == standing);
    match (any(Standing::Unread), any(Standing::Damaged)) {
        (true, _) => Ok(Some(Kind::Error)),
        (false, true) => Ok(Some(Kind::Differences)),
        (false, false) => Ok(None),
    }
}

fn inspect(path: &Path, hasher: &Hasher) -> Inspected {
    let file = path.display().to_string();
    let not = |state: Standing, problem: String| Inspected {
        file: file.clone(),
        state,
        problem: Some(problem),
        server: None,
        counts: None,
        bytes: 0,
        bytes_behind: 0,
    };
    let source = match source(path) {
        Ok(source) => source,
        Err(error) => return not(Standing::Unread, error.to_string()),
    };
    let mut told = match digest::read(source, hasher, |_| Ok(())) {
        Ok(told) => told,
        Err(ReadError::Rdb(error)) => {
            let state = if error.is_damage() { Standing::Damaged } else { Standing::Unread };
            return not(state, format!("{:#}", anyhow::Error::new(error)));
        }
        Err(ReadError::Tap(error)) => return not(Standing::Unread, error.to_string()),
    };
    let behind = match io::copy(&mut told.source, &mut io::sink()) {
        Ok(more) => more.saturating_add(u64::try_from(told.rest.len()).unwrap_or(u64::MAX)),
        Err(error) => return not(Standing::Unread, error.to_string()),
    };
    let state = match told.summary.checksum {
        Checksum::Verified(_) => Standing::Verified,
        Checksum::Absent => Standing::Unverified,
    };
    Inspected {
        file,
        state,
        problem: None,
        server: told.summary.server(),
        counts: Some(Counts::from(&told.summary)),
        bytes: told.summary.bytes,
        bytes_behind: behind,
    }
}

/// A file, or standard input for `-`.
pub(super) fn source(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    match file.metadata()?.is_dir() {
        true => Err(io::Error::other("it is a folder")),
        false => Ok(Box::new(file)),
    }
}

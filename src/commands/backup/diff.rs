//! `backup diff`: which prefixes and keys differ between two backups.

use crate::cli::Cli;
use crate::commands::Verdict;
use crate::commands::backup::{find, snapshot};
use crate::digest::{Hasher, Key};
use crate::failure::{Failure, Kind};
use crate::keydiff::{self, Asked, Side};
use crate::store;
use crate::store::repository::PartReader;
use crate::store::spill::TemporaryFile;
use crate::ui::{Ui, json, text};
use std::thread;

pub fn run(cli: &Cli, ui: &Ui, ids: [&str; 2], depth: u16, limit: usize) -> Result<Verdict, Failure> {
    // Exit code 3 says that they differ, and nothing else.
    let unlike = |failure: Failure| match failure.kind {
        Kind::Differences => Failure { kind: Kind::Error, ..failure },
        _ => failure,
    };
    let [wanted_a, wanted_b] = ids;
    let (a, mut left) = opened(cli, ui, wanted_a).map_err(unlike)?;
    let (b, mut right) = opened(cli, ui, wanted_b).map_err(unlike)?;
    let key = Key::new(store::random().map_err(|error| Failure::new(Kind::Error, error))?);
    let hasher = Hasher::new(&key, None);
    // Each side waits for its own store, and takes a core of its own.
    let (left, right) = thread::scope(|scope| {
        let own = hasher.fresh();
        let right = scope.spawn(move || side(&mut right, own));
        (side(&mut left, hasher), right.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let unread = |id: &str, error: anyhow::Error| {
        let failure = Failure::new(Kind::Error, error.context(format!("could not read the backup `{id}`")));
        failure.help("nothing was compared; `lockstep backup verify` proves what a backup holds")
    };
    let left = left.map_err(|error| unread(&a, error))?;
    let right = right.map_err(|error| unread(&b, error))?;
    let asked = Asked { depth: usize::from(depth), limit, held: keydiff::HELD };
    let report = keydiff::compare(left, right, asked).map_err(|error| Failure::new(Kind::Error, error))?;
    if ui.is_json() {
        ui.json(&json::differences([&a, &b], &report));
    } else {
        ui.result(&text::differences([&a, &b], &report));
    }
    Ok((!report.is_equal()).then_some(Kind::Differences))
}

fn opened(cli: &Cli, ui: &Ui, wanted: &str) -> Result<(String, PartReader), Failure> {
    let (repository, backup) = find(cli, ui, wanted)?;
    let reader = snapshot(&repository, &backup)?;
    Ok((backup.id, reader))
}

fn side(reader: &mut PartReader, hasher: Hasher) -> anyhow::Result<Side<TemporaryFile>> {
    let side = Side::read(&mut *reader, hasher, TemporaryFile::default(), keydiff::WAITING)?;
    reader.finish()?;
    Ok(side)
}

//! `backup export --json-lines`: the keys of a backup, for scripts that know nothing of RDB.

use crate::backup::Listed;
use crate::cli::Cli;
use crate::commands::Verdict;
use crate::commands::backup::{find, readable, snapshot};
use crate::export::{self, ExportError, Header, Written};
use crate::failure::{Failure, Kind};
use crate::store::repository::{self, PartReader};
use crate::ui::Ui;
use crate::value::Glob;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

pub fn run(cli: &Cli, ui: &Ui, id: &str, out: Option<&Path>, pattern: Option<&str>) -> Result<Verdict, Failure> {
    let (repository, backup) = find(cli, ui, id)?;
    let manifest = readable(&backup)?;
    let header = Header {
        format: export::FORMAT,
        backup: &manifest.id,
        stack: &manifest.stack,
        environment: &manifest.environment,
        service: &manifest.service,
        taken_at: &manifest.taken_at,
        server: &manifest.server,
        pattern,
    };
    let glob = pattern.map(|pattern| Glob::new(pattern.as_bytes()));
    let mut reader = snapshot(&repository, &backup)?;
    let written = match out {
        None => ui.write(|out| export::json_lines(&mut reader, &header, glob.as_ref(), out)),
        Some(path) => into_file(&mut reader, path, &header, glob.as_ref())?,
    };
    let written = match written {
        Ok(written) => written,
        // A reader that has what it wanted, such as `head`, has done nothing wrong.
        Err(ExportError::Write(error)) if out.is_none() && error.kind() == ErrorKind::BrokenPipe => return Ok(None),
        Err(error) => return Err(not_whole(&backup, &reader, error, out)),
    };
    if let Some(path) = out {
        let Written { keys, functions } = written;
        ui.status(&format!("{keys} keys and {functions} functions of {} written to {}", backup.id, path.display()));
    }
    Ok(None)
}

/// An error of the file itself is the outer one; the file is there only when all is well.
fn into_file(
    reader: &mut PartReader,
    path: &Path,
    header: &Header<'_>,
    glob: Option<&Glob>,
) -> Result<Result<Written, ExportError>, Failure> {
    let mut outcome = None;
    let written = repository::export_with(path, |file| {
        let mut out = BufWriter::with_capacity(64 << 10, file);
        match export::json_lines(reader, header, glob, &mut out) {
            Ok(written) => {
                outcome = Some(Ok(written));
                out.flush()
            }
            Err(ExportError::Write(error)) => Err(error),
            Err(error) => {
                outcome = Some(Err(error));
                Err(io::Error::other("the backup could not be read"))
            }
        }
    });
    match (written, outcome) {
        (_, Some(Err(error))) => Ok(Err(error)),
        (Ok(()), Some(outcome)) => Ok(outcome),
        (Err(error), _) => Err(Failure::new(Kind::Error, error)),
        (Ok(()), None) => Ok(Ok(Written::default())),
    }
}

fn not_whole(backup: &Listed, reader: &PartReader, error: ExportError, out: Option<&Path>) -> Failure {
    // A parser that stopped at what a store did not give says nothing about the bytes.
    let damaged = match (&error, reader.failed()) {
        (ExportError::Write(_), _) => false,
        (ExportError::Rdb(error), None) => !error.is_unknown(),
        (_, None | Some(ErrorKind::InvalidData)) => true,
        (_, Some(_)) => false,
    };
    let (kind, what) = match damaged {
        true => (Kind::Differences, format!("`{}` is damaged", backup.id)),
        false => (Kind::Error, format!("could not export `{}`", backup.id)),
    };
    let failure = Failure::new(kind, anyhow::Error::new(error).context(what));
    match out {
        None => failure.help("the output is not whole: its last line is not the one with `end`"),
        Some(path) => failure.help(format!("`{}` was not written", path.display())),
    }
}

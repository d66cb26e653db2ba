//! A file for what does not fit into memory: it has no name, is open to nobody else, and is gone with its last handle.

use crate::keydiff::Spill;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Made in `TMPDIR` with the first byte that is set aside; what stays small never touches a disk.
#[derive(Debug, Default)]
pub struct TemporaryFile {
    file: Option<File>,
    end: u64,
}

impl Spill for TemporaryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let said = |error: io::Error| {
            io::Error::new(error.kind(), format!("could not set the names of keys aside in TMPDIR: {error}"))
        };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile().map_err(said)?),
        };
        file.write_all_at(bytes, self.end).map_err(said)?;
        let at = self.end;
        self.end = at.saturating_add(bytes.len() as u64);
        Ok(at)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(buffer, offset),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

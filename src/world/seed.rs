//! Puts what a backup or a fixture holds where a server will look for it at its start, in the form that it loads.

use crate::engine::{Engine, EngineError, archive};
use crate::failure::{Failure, Kind};
use crate::rdb::{Target, Writer};
use crate::restore::Choice;
use crate::state::{Container, Value};
use crate::store;
use crate::value::{Family, ServerVersion};
use crate::world::restore::{Origin, Refreshed, Restored, Rewrite, Rewritten, rewritten_size};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

const PIECE: usize = 1 << 20;

/// What goes where.
#[derive(Debug)]
pub(super) struct Seed<'a> {
    pub engine: &'a Engine,
    /// What the engine calls the container that mounts every volume below `/d`.
    pub carrier: String,
    pub service: &'a str,
    /// The server as it is meant.
    pub container: &'a Container,
    /// The volume, as the environment calls it.
    pub data: String,
    pub source: Source,
}

/// Where the snapshot comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Backup(Origin),
    /// What is made of a backup.
    Refreshed(Origin, Arc<Refreshed>),
    /// A file, walked to its end: its length, and who wrote it in which version of the format.
    File {
        path: PathBuf,
        size: u64,
        format: (Family, u32),
    },
    /// One that was made a moment ago, in a form that every server loads.
    Made(Bytes),
}

impl Source {
    /// How it is written for this server.
    pub fn rewrite(&self, server: ServerVersion, now_ms: i64) -> Option<Rewrite> {
        let (family, format) = match self {
            Source::Backup(origin) => origin.manifest.counts.format()?,
            Source::Refreshed(_, refreshed) => return Some(Rewrite::Refreshed(Arc::clone(refreshed))),
            Source::File { format, .. } => *format,
            Source::Made(_) => return None,
        };
        Restored::needed(family, format, server, &Choice::default(), now_ms)
    }

    /// The server that it comes from, where anything says so.
    fn server(&self) -> Option<ServerVersion> {
        match self {
            Source::Backup(origin) | Source::Refreshed(origin, _) => ServerVersion::parse(&origin.manifest.server),
            Source::File { .. } | Source::Made(_) => None,
        }
    }

    /// Bytes of it, as it is or written anew.
    pub async fn size(&self, rewrite: Option<&Rewrite>) -> Result<u64, Failure> {
        match (self, rewrite) {
            (Source::Backup(origin) | Source::Refreshed(origin, _), rewrite) => origin.size(rewrite).await,
            (Source::File { size, .. }, None) => Ok(*size),
            (Source::File { path, .. }, Some(rewrite)) => {
                let path = path.clone();
                rewritten_size(rewrite.clone(), move || Ok(File::open(path)?)).await
            }
            (Source::Made(bytes), _) => Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }

    fn open_for(&self, rewrite: Option<&Rewrite>) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Source::Backup(origin) | Source::Refreshed(origin, _) => origin.open_for(rewrite),
            // A server ignores what is behind the end; an archive cannot.
            Source::File { path, size, .. } => Rewritten::of(File::open(path)?.take(*size), rewrite),
            Source::Made(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
        }
    }

    /// The snapshot as it is written for a server: how many bytes it has, and they.
    ///
    /// # Errors
    /// [`Kind::Error`] where it cannot be read or written for that server.
    pub async fn written(&self, service: &str, rewrite: Option<&Rewrite>) -> Result<(u64, Pieces), Failure> {
        let size = self.size(rewrite).await?;
        let unread = |error: io::Error| unread(service, &error);
        let (source, rewrite) = (self.clone(), rewrite.cloned());
        let source = tokio::task::spawn_blocking(move || source.open_for(rewrite.as_ref()));
        let source = source.await.map_err(|error| unread(io::Error::other(error)))?.map_err(unread)?;
        Ok((size, Box::pin(pieces(source))))
    }
}

pub(super) fn unread(service: &str, error: &io::Error) -> Failure {
    Failure::message(Kind::Error, format!("what {service} is filled with cannot be read: {error}"))
}

/// A snapshot, piece by piece.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Sends an archive whose large file is read meanwhile: what comes ahead of it and what comes behind it.
pub(super) async fn pour(
    engine: &Engine,
    carrier: &str,
    (ahead, behind): (Vec<u8>, Vec<u8>),
    snapshot: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<(), EngineError> {
    let whole = |bytes: Vec<u8>| stream::iter([Ok(Bytes::from(bytes))]);
    engine.upload(carrier, "/", whole(ahead).chain(snapshot).chain(whole(behind))).await
}

impl Seed<'_> {
    /// Writes the snapshot into the volume.
    ///
    /// # Errors
    /// [`Kind::Error`] where the backup cannot be read or written for this server; otherwise what the engine said.
    pub async fn put(&self) -> Result<(), Failure> {
        let files = self.layout()?;
        let rewrite = self.source.rewrite(files.server, store::now().as_millisecond());
        let (size, snapshot) = self.source.written(self.service, rewrite.as_ref()).await?;
        self.write(&files, size, snapshot).await
    }

    /// Writes a link to the snapshot in its place.
    pub async fn link(&self, target: &str) -> Result<(), Failure> {
        let files = self.layout()?;
        let archive = archive::linked(&files.folder, &files.beside(), (&files.name, target), files.user);
        let archive = archive.map_err(|error| self.failed(Kind::Error, &error))?;
        let sent = self.engine.upload(&self.carrier, "/", stream::iter([Ok(Bytes::from(archive))]));
        sent.await.map_err(|error| self.failed(error.kind(), &error))
    }

    /// Writes an empty snapshot in its place: a server that keeps nothing on disk is meant to start empty.
    pub async fn empty(&self) -> Result<(), Failure> {
        let failed = |error: anyhow::Error| Failure::new(Kind::Error, error);
        let mut bytes = Vec::new();
        let target = Target { family: Family::Redis, version: 9 };
        let writer = Writer::begin(&mut bytes, target).map_err(|error| failed(error.into()))?;
        writer.finish().map_err(|error| failed(error.into()))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.write(&self.layout()?, size, stream::iter([Ok(Bytes::from(bytes))])).await
    }

    pub fn layout(&self) -> Result<Layout, Failure> {
        Layout::of(self.container, self.source.server(), &self.data)
            .ok_or_else(|| Failure::message(Kind::Error, format!("it is not known which server {} is", self.service)))
    }

    async fn write(
        &self,
        files: &Layout,
        size: u64,
        snapshot: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Failure> {
        let around = archive::around(&files.folder, &files.beside(), (&files.name, size), files.user);
        let around = around.map_err(|error| self.failed(Kind::Error, &error))?;
        pour(self.engine, &self.carrier, around, snapshot).await.map_err(|error| self.failed(error.kind(), &error))
    }

    fn failed(&self, kind: Kind, error: &dyn std::fmt::Display) -> Failure {
        Failure::message(kind, format!("the data of {} could not be put into its volume: {error}", self.service))
    }
}

/// Where a server looks for its data.
pub(super) struct Layout {
    pub server: ServerVersion,
    pub user: (u32, u32),
    /// In the carrier.
    folder: String,
    name: String,
    /// What lists the file, where the server wants a list.
    list: Option<String>,
    /// Whether the server goes on writing to the very file that it begins with.
    pub goes_on: bool,
}

impl Layout {
    fn of(container: &Container, written_by: Option<ServerVersion>, volume: &str) -> Option<Layout> {
        let meant = container.server.as_ref()?;
        let server = match meant.version() {
            Some(version) => ServerVersion::parse(version)?,
            None => written_by?,
        };
        let setting = |name: &str, otherwise: &str| match meant.settings.get(name) {
            Some(Value::Text(text)) if !text.is_empty() => text.clone(),
            _ => otherwise.to_owned(),
        };
        let user = container.owner()?;
        let folder = format!("d/{volume}");
        if setting("appendonly", "no") != "yes" {
            let name = setting("dbfilename", "dump.rdb");
            return Some(Layout { server, user, folder, name, list: None, goes_on: false });
        }
        // An append-only file may begin with a snapshot; since 7.0 the two are files of their own.
        let name = setting("appendfilename", "appendonly.aof");
        if server.family == Family::Valkey || server.speaks(7, 0) {
            let folder = format!("{folder}/{}", setting("appenddirname", "appendonlydir"));
            let list = Some(format!("{name}.manifest"));
            let name = format!("{name}.1.base.rdb");
            return Some(Layout { server, user, folder, name, list, goes_on: false });
        }
        Some(Layout { server, user, folder, name, list: None, goes_on: true })
    }

    fn beside(&self) -> Vec<(&str, Vec<u8>)> {
        let list = self.list.as_deref().map(|list| (list, format!("file {} seq 1 type b\n", self.name).into_bytes()));
        list.into_iter().collect()
    }
}

/// What a thread of its own reads, piece by piece.
pub(super) fn pieces(mut source: impl Read + Send + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let read = source.read(&mut piece);
            let ended = matches!(read, Ok(0) | Err(_));
            let piece = read.map(|count| {
                piece.truncate(count);
                Bytes::from(piece)
            });
            let is_last = matches!(&piece, Ok(piece) if piece.is_empty());
            if is_last || sender.blocking_send(piece).is_err() || ended {
                break;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|piece| (piece, receiver)) })
}

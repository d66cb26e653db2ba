//! Uploads: the body of a request becomes a file under a random name, and no more than 32 of them
//! are kept. Neither a name nor a type from the client is used: what comes in goes out as bytes to
//! be saved.
//! Deliberately absent: multipart forms, looking into what was sent, and clearing up after a kill
//! (the folder is meant to be a tmpfs; it needs room for 36 uploads of the largest size: 32 kept
//! and 4 on their way).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

const KEPT: usize = 32;
const AT_ONCE: usize = 4;
const BODY_TIME: Duration = Duration::from_secs(20);

pub struct Uploads {
    dir: PathBuf,
    limit: u64,
    slots: Semaphore,
}

impl Uploads {
    pub fn open(dir: &Path, limit: u64) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("cannot create UPLOAD_DIR {}: {error}", dir.display()))?;
        Ok(Self { dir: dir.to_path_buf(), limit, slots: Semaphore::new(AT_ONCE) })
    }

    /// Gives back the new name and the number of bytes. `declared` is what the client says it will
    /// send; a refusal is the status to answer with.
    pub async fn store<B>(&self, declared: Option<u64>, body: B) -> Result<(String, u64), StatusCode>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if declared.is_some_and(|declared| declared > self.limit) {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let _slot = self.slots.try_acquire().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let name = random_name().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let part = Part(self.dir.join(format!("{name}.part")));
        let count = tokio::time::timeout(BODY_TIME, self.receive(&part.0, body))
            .await
            .map_err(|_| StatusCode::REQUEST_TIMEOUT)??;
        tokio::fs::rename(&part.0, self.dir.join(&name)).await.map_err(refusal)?;
        self.drop_oldest();
        Ok((name, count))
    }

    /// The stored file and its size, for a name that this store could have given.
    pub async fn fetch(&self, name: &str) -> Option<(File, u64)> {
        if !is_name(name) {
            return None;
        }
        let file = File::open(self.dir.join(name)).await.ok()?;
        let size = file.metadata().await.ok()?.len();
        Some((file, size))
    }

    async fn receive<B>(&self, path: &Path, mut body: B) -> Result<u64, StatusCode>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut file = File::create_new(path).await.map_err(refusal)?;
        let mut count: u64 = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else {
                continue;
            };
            count = count.saturating_add(data.len() as u64);
            if count > self.limit {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            file.write_all(&data).await.map_err(refusal)?;
        }
        // The last write may still be under way, and its failure would otherwise be lost.
        file.flush().await.map_err(refusal)?;
        if count == 0 { Err(StatusCode::BAD_REQUEST) } else { Ok(count) }
    }

    fn drop_oldest(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let mut kept: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_name))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        kept.sort();
        for (_, path) in kept.iter().rev().skip(KEPT) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file that is still being written. It goes when its request does, unless it was renamed before.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn refusal(error: io::Error) -> StatusCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn random_name() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_name(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[tokio::test]
    async fn what_is_stored_comes_back_and_too_much_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(&dir.path().join("new"), 10).unwrap();
        let dir = dir.path().join("new");
        let (name, count) = uploads.store(None, Full::from("0123456789")).await.unwrap();
        assert_eq!((name.len(), count), (32, 10));
        assert_eq!(uploads.fetch(&name).await.unwrap().1, 10);
        assert_eq!(uploads.store(None, Full::from("0123456789x")).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(uploads.store(Some(11), Full::from("a")).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(uploads.store(None, Full::from("")).await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(files(&dir), 1);
        for wrong in ["../../etc/passwd", "", "x", &name.to_uppercase(), &format!("{name}.part")] {
            assert!(uploads.fetch(wrong).await.is_none(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn only_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(dir.path(), 10).unwrap();
        let (first, _) = uploads.store(None, Full::from("first")).await.unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        std::fs::File::options().write(true).open(dir.path().join(&first)).unwrap().set_modified(long_ago).unwrap();
        for _ in 0..KEPT {
            uploads.store(None, Full::from("later")).await.unwrap();
        }
        assert_eq!(files(dir.path()), KEPT);
        assert!(uploads.fetch(&first).await.is_none());
    }

    #[tokio::test]
    async fn an_abandoned_upload_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(dir.path(), 10).unwrap();
        let (_sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
        let waiting = tokio::time::timeout(Duration::from_millis(50), uploads.store(None, Box::pin(body))).await;
        assert!(waiting.is_err());
        assert_eq!((files(dir.path()), uploads.slots.available_permits()), (0, AT_ONCE));
    }
}

//! An S3-compatible store.
//!
//! The client is asynchronous and the rest of the repository is not, so a store has a runtime of its own. It is driven
//! by whichever thread waits for an answer, and must therefore never be asked from within a task.

use crate::model::Bucket;
use crate::store::repository::store::{Claim, Object, Store, too_large};
use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Where the credentials come from: the environment, as every tool for such stores reads it, and nowhere else.
pub const VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// A claim to a bucket.
#[derive(Clone)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    pub fn from_environment() -> anyhow::Result<Credentials> {
        let [id, secret, token] = VARIABLES;
        let needed = |name: &str| {
            crate::store::variable(name)
                .with_context(|| format!("the backup store needs the environment variables {id} and {secret}"))
        };
        Ok(Credentials {
            access_key_id: needed(id)?,
            secret_access_key: needed(secret)?,
            session_token: crate::store::variable(token),
        })
    }
}

/// How long a store may keep refusing, or saying nothing, before that is an error.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub retries: usize,
    pub first_wait: Duration,
    pub longest_wait: Duration,
    pub request: Duration,
    pub altogether: Duration,
}

impl Default for Patience {
    /// Eight megabytes over a slow line take a minute; a store that throttles is given two.
    fn default() -> Patience {
        Patience {
            retries: 8,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(15),
            request: Duration::from_secs(120),
            altogether: Duration::from_secs(120),
        }
    }
}

pub struct Remote {
    store: AmazonS3,
    bucket: Bucket,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Remote {
    // The client knows the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Waiting for it would be an error where this happens to be dropped within a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    pub fn open(bucket: &Bucket, credentials: Credentials, patience: Patience) -> anyhow::Result<Remote> {
        let doing = || format!("could not set up the backup store s3://{}", bucket.name);
        // Of two providers in one process the first wins, and both are this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = bucket.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let options = ClientOptions::new()
            .with_timeout(patience.request)
            .with_connect_timeout(Duration::from_secs(10).min(patience.request))
            .with_allow_http(plain);
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: patience.first_wait, max_backoff: patience.longest_wait, base: 2.0 },
            max_retries: patience.retries,
            retry_timeout: patience.altogether,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_access_key_id(credentials.access_key_id)
            .with_secret_access_key(credentials.secret_access_key)
            .with_client_options(options)
            // Not every store that speaks S3 can delete many at once.
            .with_disable_bulk_delete(true)
            .with_retry(retry);
        if let Some(token) = credentials.session_token {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = &bucket.endpoint {
            // With the bucket in the path: what stands in for S3 seldom has a name per bucket.
            builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
        }
        let store = builder.build().with_context(doing)?;
        let runtime = Builder::new_current_thread().enable_all().build().with_context(doing)?;
        if bucket.name.is_empty() {
            bail!("the backup store has no bucket");
        }
        Ok(Remote { store, bucket: bucket.clone(), runtime: Some(runtime) })
    }

    fn key(&self, key: &str) -> Path {
        match self.bucket.prefix.as_str() {
            "" => Path::from(key),
            prefix => Path::from(format!("{prefix}/{key}")),
        }
    }

    fn wait<T>(&self, doing: &str, work: impl Future<Output = Result<T, Error>>) -> io::Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("the store is closed"))?;
        runtime.block_on(work).map_err(|error| said(doing, &error))
    }
}

/// What the store said, in one line and of a kind.
fn said(doing: &str, error: &Error) -> io::Error {
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    };
    let mut why: &dyn std::error::Error = error;
    // The innermost causes are the ones that a person can act on; the outer ones repeat them.
    while let Some(source) = why.source() {
        why = source;
    }
    let (outer, inner) = (error.to_string(), why.to_string());
    let text = if outer.contains(&inner) { outer } else { format!("{outer}: {inner}") };
    // An answer may be a page of XML.
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect();
    io::Error::new(kind, format!("could not {doing}: {line}"))
}

impl Store for Remote {
    fn place(&self, key: &str) -> String {
        let endpoint = self.bucket.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("s3://{}/{}{endpoint}", self.bucket.name, self.key(key))
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let payload = PutPayload::from(bytes.to_vec());
        self.wait(&format!("store {}", self.place(key)), self.store.put(&self.key(key), payload)).map(|_| ())
    }

    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        let doing = format!("store {}", self.place(key));
        let mut tries = 0;
        loop {
            tries += 1;
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let payload = PutPayload::from(bytes.to_vec());
            match self.wait(&doing, self.store.put_opts(&self.key(key), payload, options)) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    // A first try whose answer was lost, somebody else's object, or two that came at the same moment:
                    // then there may be none at all.
                    match self.get(key, u64::try_from(bytes.len()).unwrap_or(u64::MAX)) {
                        Ok(there) if there == bytes => return Ok(true),
                        Err(absent) if absent.kind() == ErrorKind::NotFound && tries < 3 => {}
                        Err(absent) if absent.kind() == ErrorKind::NotFound => return Err(error),
                        Ok(_) => return Ok(false),
                        Err(other) if other.kind() == ErrorKind::InvalidData => return Ok(false),
                        Err(other) => return Err(other),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn get(&self, key: &str, limit: u64) -> io::Result<Vec<u8>> {
        let doing = format!("read {}", self.place(key));
        let path = self.key(key);
        self.wait(&doing, async {
            let result = self.store.get(&path).await?;
            let announced = result.meta.size;
            if announced > limit {
                return Ok(Err(too_large(announced, limit)));
            }
            // What was announced is not trusted either: it is counted while it comes.
            let mut bytes = Vec::new();
            let mut stream = result.into_stream();
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece?);
                let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if read > limit {
                    return Ok(Err(too_large(read, limit)));
                }
            }
            Ok(Ok(bytes))
        })?
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        let doing = format!("list {}", self.place(prefix));
        let path = self.key(prefix);
        let metas: Vec<object_store::ObjectMeta> = self.wait(&doing, self.store.list(Some(&path)).try_collect())?;
        let own = match self.bucket.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let mut found: Vec<Object> = metas
            .into_iter()
            .filter_map(|meta| {
                let key = meta.location.as_ref().strip_prefix(&own)?.to_owned();
                let modified = Timestamp::from_second(meta.last_modified.timestamp()).ok()?;
                Some(Object { key, bytes: meta.size, modified })
            })
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        match self.wait(&format!("delete {}", self.place(key)), self.store.delete(&self.key(key))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn free(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn is_far(&self) -> bool {
        true
    }

    fn claim(&self, folder: &str) -> io::Result<Claim> {
        // Nothing here ends with a process; the name is nobody else's, and time tells what was left.
        match self.list(folder)?.first() {
            Some(_) => Err(io::Error::new(ErrorKind::AlreadyExists, "a backup of this name is there")),
            None => Ok(Claim::default()),
        }
    }

    fn is_held(&self, _folder: &str) -> io::Result<Option<bool>> {
        Ok(None)
    }
}

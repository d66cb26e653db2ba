//! The way to Redis: pages and fragments with a time to live, and the counts of views. Nothing here
//! may hold up a page: each command has a quarter of a second, and once one ran out of it the rest
//! of the site stops asking until the watcher, which asks every second, gets an answer again.
//! Deliberately absent: commands outside of @read, @write and PING (the site's user has no more), a
//! lock against several renderings of one page at once (rendering is cheap here) and any deletion:
//! what is old runs out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, cmd};

use crate::config::CacheAccess;

const PATIENCE: Duration = Duration::from_millis(250);
const WATCH_EVERY: Duration = Duration::from_secs(1);
const VIEWS: &str = "popular";

pub struct Cache {
    access: CacheAccess,
    connection: RwLock<ConnectionManager>,
    up: AtomicBool,
}

#[derive(Debug, PartialEq)]
pub enum Lookup {
    Hit(Bytes),
    Miss,
    Unreachable,
}

impl Cache {
    /// Connects to nothing yet, so that the site may start before Redis does.
    pub fn open(access: CacheAccess) -> Result<Self, String> {
        let connection = RwLock::new(connection(&access)?);
        Ok(Self { access, connection, up: AtomicBool::new(true) })
    }

    pub async fn get(&self, key: &str) -> Lookup {
        match self.ask::<Option<Vec<u8>>>(cmd("GET").arg(key)).await {
            Some(Some(value)) => Lookup::Hit(value.into()),
            Some(None) => Lookup::Miss,
            None => Lookup::Unreachable,
        }
    }

    pub async fn put(&self, key: &str, value: &str, seconds: u32) {
        self.ask::<()>(cmd("SET").arg(key).arg(value).arg("EX").arg(seconds)).await;
    }

    pub async fn count_view(&self, slug: &str) {
        self.ask::<()>(cmd("ZINCRBY").arg(VIEWS).arg(1).arg(slug)).await;
    }

    /// The most viewed slugs and their views, or `None` when Redis does not say.
    pub async fn most_viewed(&self, count: usize) -> Option<Vec<(String, f64)>> {
        self.ask(cmd("ZREVRANGE").arg(VIEWS).arg(0).arg(count.saturating_sub(1)).arg("WITHSCORES")).await
    }

    /// Asks Redis even when it is taken to be down, and takes the answer as the new state.
    pub async fn ping(&self) -> bool {
        let up = self.run::<String>(&cmd("PING")).await.is_ok_and(|answer| answer == "PONG");
        self.up.store(up, Ordering::Relaxed);
        up
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        if !self.up.load(Ordering::Relaxed) {
            return None;
        }
        match self.run(command).await {
            Ok(value) => Some(value),
            Err(refused) => {
                // A command that Redis itself refused (no permission, no memory) says that Redis is
                // there.
                if !refused {
                    self.up.store(false, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// The error says whether Redis answered, and refused.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, bool> {
        let mut connection = self.connection.read().unwrap_or_else(PoisonError::into_inner).clone();
        match tokio::time::timeout(PATIENCE, command.query_async(&mut connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(matches!(error.kind(), ErrorKind::Server(_))),
            Err(_) => Err(false),
        }
    }

    /// The connection manager heals a broken connection by itself, but never one whose password was
    /// refused, and it waits on one that went silent. A new one heals all of these, and reads the
    /// password again.
    fn start_over(&self) {
        if let Ok(new) = connection(&self.access) {
            *self.connection.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }
}

pub async fn watch(cache: Arc<Cache>) {
    loop {
        if !cache.ping().await {
            cache.start_over();
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn connection(access: &CacheAccess) -> Result<ConnectionManager, String> {
    // CLIENT SETINFO is left out: the site's user may not say it, and each refusal would fill
    // Redis' ACL log.
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = access.password()? {
        login = login.set_username(&access.user).set_password(password);
    }
    let settings = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    ConnectionAddr::Tcp(access.host.clone(), access.port)
        .into_connection_info()
        .and_then(|info| Client::open(info.set_redis_settings(login)))
        .and_then(|client| ConnectionManager::new_lazy_with_config(client, settings))
        .map_err(|error| format!("cannot set up the cache: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn cache_at(port: u16) -> Cache {
        let access = CacheAccess { host: "127.0.0.1".to_string(), port, user: "app".to_string(), password_file: None };
        Cache::open(access).unwrap()
    }

    #[tokio::test]
    async fn a_silent_redis_costs_one_wait_and_then_none() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cache = cache_at(silent.local_addr().unwrap().port());
        let started = Instant::now();
        assert_eq!(cache.get("page:/").await, Lookup::Unreachable);
        let first = started.elapsed();
        assert!(first >= PATIENCE && first < PATIENCE * 3, "{first:?}");
        for _ in 0..50 {
            assert_eq!(cache.get("page:/").await, Lookup::Unreachable);
        }
        assert!(started.elapsed() - first < PATIENCE);
        assert!(!cache.ping().await);
    }

    #[tokio::test]
    async fn a_refusal_is_not_an_outage() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cache = cache_at(server.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                stream.write_all(b"-NOPERM this user has no permissions\r\n").await.unwrap();
            }
        });
        assert_eq!(cache.get("page:/").await, Lookup::Unreachable);
        assert!(cache.up.load(Ordering::Relaxed));
    }
}

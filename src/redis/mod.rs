//! A running Redis or Valkey; the only folder that uses the redis crate.
//!
//! Connects as lockstep's own user, which can read no key. Nothing in here waits longer than its deadline.

pub mod audit;
mod link;
pub mod observe;
pub mod probe;
pub mod pull;
pub mod restore;

pub use link::Permit;

use crate::value::{Secret, ServerVersion};
use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, ServerErrorKind,
};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a single command may take; a snapshot has its own rules.
const ANSWER: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);

/// What a caller can do about a server that does not do what it was asked.
#[derive(Debug)]
pub enum ServerError {
    /// Not there, or not answering.
    Unreachable(String),
    /// Still reading its data.
    Loading,
    /// The user or its password is wrong, or the user may not do this.
    Denied(String),
    Refused(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Unreachable(why) => write!(f, "the server does not answer: {why}"),
            ServerError::Loading => f.write_str("the server is still loading its data"),
            ServerError::Denied(why) => write!(f, "the server denies it to user `lockstep`: {why}"),
            ServerError::Refused(why) => write!(f, "the server refused: {why}"),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<RedisError> for ServerError {
    fn from(error: RedisError) -> ServerError {
        let said = || error.detail().map_or_else(|| error.to_string(), str::to_owned);
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::BusyLoading) => ServerError::Loading,
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => ServerError::Denied(said()),
            _ if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
                ServerError::Unreachable(error.to_string())
            }
            _ if matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM")) => ServerError::Denied(said()),
            _ => ServerError::Refused(said()),
        }
    }
}

pub struct Server {
    connection: MultiplexedConnection,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

/// Connects and authenticates.
pub async fn connect(address: SocketAddr, user: &str, password: &Secret) -> Result<Server, ServerError> {
    let password = String::from_utf8_lossy(password.reveal());
    // A server's own reports, not a library's name, tell it who is connected.
    let settings = RedisConnectionInfo::default().set_username(user).set_password(&password).set_skip_set_lib_name();
    let target = ConnectionAddr::Tcp(address.ip().to_string(), address.port());
    let info = target.into_connection_info()?.set_redis_settings(settings);
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
    let connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(Server { connection })
}

impl Server {
    async fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> Result<T, ServerError> {
        // Clones of a multiplexed connection share it.
        Ok(command.query_async(&mut self.connection.clone()).await?)
    }

    /// `PING`, which a server that is loading does not answer with `PONG`.
    pub async fn ping(&self) -> Result<(), ServerError> {
        self.ask(&mut ::redis::cmd("PING")).await
    }

    /// `CONFIG SET`, then read back: the value in force afterwards, as the server words it.
    pub async fn set(&self, setting: &str, value: &str) -> Result<String, ServerError> {
        self.ask::<()>(::redis::cmd("CONFIG").arg("SET").arg(setting).arg(value)).await?;
        let pairs: Vec<(String, String)> = self.ask(::redis::cmd("CONFIG").arg("GET").arg(setting)).await?;
        let wanted = crate::directive::primary(setting);
        let found = pairs.into_iter().find(|(name, _)| crate::directive::primary(name) == wanted);
        found.map(|(_, value)| value).ok_or_else(|| ServerError::Refused(format!("it does not know `{setting}`")))
    }

    pub async fn version(&self) -> Result<ServerVersion, ServerError> {
        let version = observe::version(&self.info().await?);
        Ok(ServerVersion::parse(&version).unwrap_or(ServerVersion::OLDEST))
    }

    /// A command whose answer does not matter as long as it is not a refusal.
    pub async fn run(&self, words: &[&str]) -> Result<(), ServerError> {
        let mut command = Cmd::new();
        command.arg(words);
        self.ask::<::redis::Value>(&mut command).await.map(drop)
    }

    /// Makes a user exactly what the rules say, in one command: it is the old one or the new one.
    pub async fn set_user(&self, name: &str, rules: &[String]) -> Result<(), ServerError> {
        self.ask(::redis::cmd("ACL").arg("SETUSER").arg(name).arg("reset").arg(rules)).await
    }

    /// Switches every user off but one, and ends their connections: who is shut out can neither read nor write.
    pub async fn shut_out(&self, but: &str) -> Result<(), ServerError> {
        let lines: Vec<String> = self.ask(::redis::cmd("ACL").arg("LIST")).await?;
        let named = lines.iter().filter_map(|line| line.strip_prefix("user ")?.split(' ').next());
        for name in named.filter(|name| *name != but) {
            self.ask::<()>(::redis::cmd("ACL").arg("SETUSER").arg(name).arg("off")).await?;
            // Who is switched off keeps the connections that were made before.
            match self.run(&["CLIENT", "KILL", "USER", name]).await {
                Ok(()) => {}
                Err(ServerError::Denied(_)) => {
                    self.ask::<()>(::redis::cmd("ACL").arg("SETUSER").arg(but).arg("+client|kill")).await?;
                    self.run(&["CLIENT", "KILL", "USER", name]).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes a user, and ends its connections.
    pub async fn remove_user(&self, name: &str) -> Result<(), ServerError> {
        self.ask(::redis::cmd("ACL").arg("DELUSER").arg(name)).await
    }

    /// The fields of `INFO` with the values that it gives them.
    pub async fn info(&self) -> Result<std::collections::BTreeMap<String, String>, ServerError> {
        let text: String = self.ask(::redis::cmd("INFO").arg("everything")).await?;
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

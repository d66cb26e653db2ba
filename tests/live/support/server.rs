//! A Redis of an environment, asked by somebody who is not lockstep.

use ::redis::{Client, Cmd, Connection, ConnectionAddr, FromRedisValue, IntoConnectionInfo as _, RedisConnectionInfo};
use ::redis::{RedisError, RedisResult};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub struct Redis {
    connection: Connection,
}

impl Redis {
    pub fn connect(address: &str, user: &str, password: &str) -> RedisResult<Redis> {
        let settings = RedisConnectionInfo::default().set_username(user).set_password(password).set_skip_set_lib_name();
        let target = ConnectionAddr::Tcp(address.to_owned(), 6379);
        let client = Client::open(target.into_connection_info()?.set_redis_settings(settings))?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(30))?;
        connection.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Redis { connection })
    }

    pub fn try_ask<T: FromRedisValue>(&mut self, words: &[&str]) -> RedisResult<T> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.connection)
    }

    #[track_caller]
    pub fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
    }

    /// Words of any bytes, and the reply as it came.
    #[track_caller]
    pub fn send(&mut self, words: &[&[u8]]) -> ::redis::Value {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.connection).unwrap_or_else(|error| {
            let shown: Vec<String> =
                words.iter().take(8).map(|word| word[..word.len().min(80)].escape_ascii().to_string()).collect();
            panic!("{}: {error}", shown.join(" "))
        })
    }

    /// What keeps this user from doing it.
    #[track_caller]
    pub fn refusal(&mut self, words: &[&str]) -> RedisError {
        match self.try_ask::<::redis::Value>(words) {
            Ok(answer) => panic!("{} was not refused: {answer:?}", words.join(" ")),
            Err(error) => error,
        }
    }

    #[track_caller]
    pub fn config(&mut self, setting: &str) -> String {
        let pairs: Vec<(String, String)> = self.ask(&["CONFIG", "GET", setting]);
        pairs.into_iter().next().unwrap_or_else(|| panic!("the server does not know {setting}")).1
    }

    #[track_caller]
    pub fn put(&mut self, key: &str, value: &[u8]) {
        ::redis::cmd("SET").arg(key).arg(value).query::<()>(&mut self.connection).expect("a key is written");
    }

    #[track_caller]
    pub fn append(&mut self, key: &str, value: &[u8]) {
        ::redis::cmd("APPEND").arg(key).arg(value).query::<()>(&mut self.connection).expect("a key is written");
    }

    /// String keys `page:0` and on, each with a value of its own.
    #[track_caller]
    pub fn fill(&mut self, keys: usize) {
        let mut pipeline = ::redis::pipe();
        for number in 0..keys {
            pipeline.cmd("SET").arg(format!("page:{number}")).arg(value_of(number)).ignore();
        }
        pipeline.query::<()>(&mut self.connection).expect("keys are written");
    }

    /// Panics unless the keys of [`Redis::fill`] are there with their values, and nothing else is.
    #[track_caller]
    pub fn holds(&mut self, keys: usize) {
        assert_eq!(self.ask::<usize>(&["DBSIZE"]), keys, "number of keys");
        let mut pipeline = ::redis::pipe();
        for number in 0..keys {
            pipeline.cmd("GET").arg(format!("page:{number}"));
        }
        let values: Vec<Option<String>> = pipeline.query(&mut self.connection).expect("keys are read");
        for (number, value) in values.iter().enumerate() {
            assert_eq!(value.as_deref(), Some(value_of(number).as_str()), "value of page:{number}");
        }
    }

    /// One key of each kind that all tested servers know, some with an expiry.
    #[track_caller]
    pub fn fill_kinds(&mut self) {
        for words in [
            &["SET", "page:string", "text"][..],
            &["SET", "page:number", "42", "EX", "86400"],
            &["RPUSH", "page:list", "a", "b", "c"],
            &["SADD", "page:set", "x", "y"],
            &["SADD", "page:intset", "1", "2", "3"],
            &["HSET", "page:hash", "field", "value", "other", "value"],
            &["ZADD", "page:zset", "1", "one", "2.5", "two"],
            &["XADD", "page:stream", "1-1", "field", "value"],
            &["XGROUP", "CREATE", "page:stream", "group", "0"],
            &["EXPIRE", "page:hash", "86400"],
        ] {
            self.ask::<::redis::Value>(words);
        }
    }

    /// What [`Redis::fill_kinds`] wrote, by kind, as a manifest counts it.
    pub fn kinds() -> BTreeMap<String, u64> {
        [("string", 2), ("list", 1), ("set", 2), ("hash", 1), ("zset", 1), ("stream", 1)]
            .map(|(kind, keys)| (kind.to_owned(), keys))
            .into()
    }

    /// Everything that is there, by key: kind, whether it expires, and the value in an order of its own.
    #[track_caller]
    pub fn contents(&mut self) -> BTreeMap<String, String> {
        let keys: Vec<String> = self.ask(&["KEYS", "*"]);
        let mut contents = BTreeMap::new();
        for key in keys {
            let kind: String = self.ask(&["TYPE", &key]);
            let expires = self.ask::<i64>(&["TTL", &key]) >= 0;
            let value = match kind.as_str() {
                "string" => format!("{:?}", self.ask::<Vec<u8>>(&["GET", &key])),
                "list" => format!("{:?}", self.ask::<Vec<String>>(&["LRANGE", &key, "0", "-1"])),
                "set" => format!("{:?}", self.ask::<BTreeSet<String>>(&["SMEMBERS", &key])),
                "hash" => format!("{:?}", self.ask::<BTreeMap<String, String>>(&["HGETALL", &key])),
                "zset" => format!("{:?}", self.ask::<Vec<String>>(&["ZRANGE", &key, "0", "-1", "WITHSCORES"])),
                _ => {
                    let entries: ::redis::Value = self.ask(&["XRANGE", &key, "-", "+"]);
                    format!("{entries:?}, {:?}", self.ask::<::redis::Value>(&["XINFO", "GROUPS", &key]))
                }
            };
            contents.insert(key, format!("{kind}, expires {expires}: {value}"));
        }
        contents
    }

    /// Panics with the keys that differ, unless what is there is what was there.
    #[track_caller]
    pub fn still_has(&mut self, contents: &BTreeMap<String, String>, when: &str) {
        let now = self.contents();
        let keys: BTreeSet<&String> = now.keys().chain(contents.keys()).collect();
        let differing: Vec<_> =
            keys.into_iter().filter(|key| now.get(*key) != contents.get(*key)).map(|key| (key, now.get(key))).collect();
        assert!(differing.is_empty(), "{when}, of {} keys: {differing:?}", contents.len());
    }
}

fn value_of(number: usize) -> String {
    format!("<p>page {number}</p>")
}

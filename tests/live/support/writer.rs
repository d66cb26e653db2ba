//! Somebody who writes all the time, and remembers every write that was acknowledged.

use super::{Redis, Scenario, docker};
use ::redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connections that write at the same time, each what nobody else writes.
const CONNECTIONS: usize = 4;

pub struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Written>>,
}

/// What one connection after the other wrote under one number.
pub struct Written {
    /// `seq:<lane>:<n>` that were acknowledged.
    pub acknowledged: Vec<u64>,
    /// Acknowledged `INCR count:<lane>`.
    pub counted: u64,
    /// The longest time without an acknowledgement.
    pub gap: Duration,
    pub connections: u32,
}

/// Where the container is that has the name now.
struct Target {
    docker: docker::Docker,
    container: String,
    network: String,
    user: &'static str,
    password: String,
}

impl Target {
    fn connect(&self) -> Option<Connection> {
        let reply = self.docker.try_ask("GET", &format!("/containers/{}/json", self.container), "", &[]).ok()?;
        let report: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
        let address = report["NetworkSettings"]["Networks"][&self.network]["IPAddress"].as_str()?.to_owned();
        let settings =
            RedisConnectionInfo::default().set_username(self.user).set_password(&self.password).set_skip_set_lib_name();
        let target = ConnectionAddr::Tcp(address, 6379).into_connection_info().ok()?.set_redis_settings(settings);
        let client = Client::open(target).ok()?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(5)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(connection)
    }
}

impl Writer {
    /// As the user who may do everything, to whatever is found under the service's name.
    pub fn start(stack: &Scenario, environment: &str) -> Writer {
        Writer::paced(stack, environment, Duration::ZERO)
    }

    /// One that pauses after each write: however long it goes on, what it writes has room.
    pub fn paced(stack: &Scenario, environment: &str, pause: Duration) -> Writer {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..CONNECTIONS).map(|lane| {
            let target = Target {
                docker: stack.docker.clone(),
                container: stack.name(environment, "cache"),
                network: stack.name(environment, "private"),
                user: "hand",
                password: stack.password(environment, "hand"),
            };
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            thread::spawn(move || write(lane, &target, pause, &stop, &written))
        });
        let threads = threads.collect();
        let writer = Writer { stop, written, threads };
        super::until("a first write", || (writer.so_far() > 100).then_some(()));
        writer
    }

    pub fn so_far(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub fn end(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a writer ends")).collect()
    }
}

fn write(lane: usize, target: &Target, pause: Duration, stop: &AtomicBool, total: &AtomicU64) -> Written {
    let mut written = Written { acknowledged: Vec::new(), counted: 0, gap: Duration::ZERO, connections: 0 };
    let (mut number, mut last) = (0_u64, Instant::now());
    let mut connection: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = connection.as_mut() else {
            connection = target.connect();
            match connection {
                Some(_) => written.connections += 1,
                None => thread::sleep(Duration::from_millis(5)),
            }
            continue;
        };
        number += 1;
        let set = ::redis::cmd("SET").arg(format!("seq:{lane}:{number}")).arg(number).query::<()>(open);
        let counted = set.and_then(|()| {
            written.acknowledged.push(number);
            ::redis::cmd("INCR").arg(format!("count:{lane}")).query::<u64>(open)
        });
        match counted {
            Ok(_) => {
                written.counted += 1;
                written.gap = written.gap.max(last.elapsed());
                last = Instant::now();
                total.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pause);
            }
            Err(_) => connection = None,
        }
    }
    written
}

/// Panics unless every write that was acknowledged is in this server.
#[track_caller]
pub fn all_there(redis: &mut Redis, written: &[Written]) {
    for (lane, of) in written.iter().enumerate() {
        let mut missing = Vec::new();
        for numbers in of.acknowledged.chunks(2000) {
            let keys: Vec<String> = numbers.iter().map(|number| format!("seq:{lane}:{number}")).collect();
            let words: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
            let values: Vec<Option<u64>> = redis.ask(&words);
            let wrong = numbers.iter().zip(values).filter(|(number, value)| value.as_ref() != Some(number));
            missing.extend(wrong.map(|(number, _)| *number));
        }
        let newest = of.acknowledged.last();
        assert!(missing.is_empty(), "{} acknowledged writes of {newest:?} are lost: {missing:?}", missing.len());
        let counted: u64 = redis.ask(&["GET", &format!("count:{lane}")]);
        assert!(counted >= of.counted, "counted to {counted}, and {} were acknowledged", of.counted);
    }
}

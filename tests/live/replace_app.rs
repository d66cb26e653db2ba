//! An application is replaced by one that answers already; where the two cannot run together, the gap is told.

use crate::support::{At, Fault, Proxy, Scenario, docker, project, until};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const COMMAND: &str = r#"command: [redis-server, --port, "7000", --save, "", --protected-mode, "no"]"#;

/// Who is slow is not away: what is refused, or not known by name, is told at once.
const SLOW: Duration = Duration::from_secs(60);

/// What somebody saw who asked all the time.
#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    failures: Vec<String>,
    longest_silence: Duration,
}

/// Asks again and again until told to stop, and then until there is an answer once more.
fn keep_asking(stop: &AtomicBool, ask: impl Fn() -> Result<(), String>) -> Seen {
    let mut seen = Seen::default();
    let mut last = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            told.get_or_insert_with(Instant::now);
        }
        let late = told.is_some_and(|told| told.elapsed() > Duration::from_secs(30));
        match ask() {
            Ok(()) => {
                seen.answers += 1;
                seen.longest_silence = seen.longest_silence.max(last.elapsed());
                last = Instant::now();
                if told.is_some() {
                    return seen;
                }
            }
            Err(why) if late => panic!("no answer any more: {why}"),
            Err(why) => seen.failures.push(format!("{why} ({:?} after the last answer)", last.elapsed())),
        }
    }
}

/// The addresses that the engine has for a name, for whoever is on its network.
fn resolve(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(SLOW))?;
    let mut query = vec![0x4c, 0x53, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&query, "127.0.0.11:53")?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // Each record: the name again, type, class, time to live and length (ten bytes), and four bytes of address.
    let named = query.len() - 12 - 4;
    let records = answer.get(query.len()..length).unwrap_or_default();
    let addresses = records.chunks_exact(named + 14).filter_map(|record| record.get(named + 10..));
    Ok(addresses.filter_map(|address| <[u8; 4]>::try_from(address).ok()).map(Ipv4Addr::from).collect())
}

/// One question, to the first address that somebody listens at.
fn ask_by_name(name: &str, port: u16) -> Result<(), String> {
    let addresses = resolve(name).map_err(|error| format!("resolving: {error}"))?;
    let mut why = format!("nobody is called {name}");
    for address in addresses {
        match ask_at(SocketAddr::from((address, port))) {
            Ok(()) => return Ok(()),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

fn ask_at(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, SLOW)?;
    stream.set_read_timeout(Some(SLOW))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err(io::Error::other("another answer")) }
}

fn page(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SLOW))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// A container on the private network, in whose place this test asks.
fn neighbour(stack: &Scenario) -> File {
    let name = format!("{}-neighbour", stack.stack);
    let body = json!({
        "Image": "lockstep/redis:7.0",
        "Entrypoint": ["redis-server", "--port", "7999"],
        "Labels": { docker::DECOY: stack.stack },
        "HostConfig": { "NetworkMode": stack.name("live", "private") },
    });
    stack.docker.create_container(&name, &body);
    stack.docker.start(&name);
    let process = stack.docker.inspect(&name).pointer("/State/Pid").and_then(serde_json::Value::as_u64);
    File::open(format!("/proc/{}/ns/net", process.expect("it runs"))).expect("its network")
}

#[test]
fn an_application_is_replaced_while_another_asks_it_all_the_time() {
    is_replaced_unnoticed(&Scenario::with("app_beside", project::small));
}

/// It has no connections of its own that would not outlive its move, and is started once.
#[test]
fn an_application_that_needs_nothing_is_replaced_while_another_asks_it_all_the_time() {
    let stack = Scenario::with("app_beside_alone", project::small);
    stack.edit("    needs: [cache]\n", "");
    is_replaced_unnoticed(&stack);
}

fn is_replaced_unnoticed(stack: &Scenario) {
    stack.apply("live");
    let before = stack.docker.identity(&stack.name("live", "web"));
    let cache = stack.docker.identity(&stack.name("live", "cache"));
    let objects = stack.objects("live");
    let (place, stop) = (neighbour(stack), AtomicBool::new(false));
    let seen = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // This thread alone goes there.
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
            keep_asking(&stop, || ask_by_name("web", 7000))
        });
        stack.edit("COLOUR: green", "COLOUR: blue");
        stack.run(&["plan", "live"]).exits(3).shows("start a new container/web beside the old one");
        let applied = stack.apply("live");
        assert!(applied.stderr.contains("was not away"), "{applied}");
        stop.store(true, Ordering::Relaxed);
        asking.join().expect("the asking thread")
    });
    eprintln!("{} answers, longest silence {:?}", seen.answers, seen.longest_silence);
    assert!(
        seen.failures.is_empty(),
        "{} failures, the first ones {:?}",
        seen.failures.len(),
        seen.failures.iter().take(9).collect::<Vec<_>>()
    );
    assert!(seen.answers > 20, "it was asked throughout: {seen:?}");
    assert_ne!(stack.docker.identity(&stack.name("live", "web")).0, before.0, "it is another one");
    assert_eq!(stack.docker.identity(&stack.name("live", "cache")), cache);
    let env = stack.docker.inspect(&stack.name("live", "web"));
    assert!(env.to_string().contains("COLOUR=blue"), "{env}");
    assert_eq!(stack.objects("live"), objects);
    // Whoever asks from the environment's own network is a stranger on it, which is told for as long as he is there.
    let neighbour = format!("{}-neighbour", stack.stack);
    assert_eq!(stack.findings("live"), [format!("network/private guests.{neighbour}")]);
    stack.docker.remove_container(&neighbour);
    stack.is_right("live");
}

#[test]
fn an_application_that_publishes_a_port_says_how_long_it_was_away() {
    let stack = Scenario::with("app_in_turn", project::site);
    stack.apply("live");
    let before = stack.docker.identity(&stack.name("live", "web"));
    let report = stack.docker.inspect(&stack.name("live", "web"));
    let port = docker::text(&report, "/HostConfig/PortBindings/8080~1tcp/0/HostPort");
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
    let stop = AtomicBool::new(false);
    let (applied, seen) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            keep_asking(&stop, || {
                let page = || -> io::Result<bool> {
                    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
                    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: site\r\n\r\n")?;
                    let mut answer = [0; 15];
                    stream.read_exact(&mut answer)?;
                    Ok(answer.ends_with(b"200 OK"))
                };
                page().map_err(|error| error.to_string())?.then_some(()).ok_or_else(|| "another answer".to_owned())
            })
        });
        stack.edit("WORKERS: \"1\"", "WORKERS: \"2\"");
        stack.run(&["plan", "live"]).exits(3).shows("stop container/web and start a new one in its place");
        let applied = stack.apply("live");
        stop.store(true, Ordering::Relaxed);
        (applied, asking.join().expect("the asking thread"))
    });
    let told = applied.stderr.split("was away for ").nth(1).and_then(|rest| rest.split(' ').next());
    let told = told.and_then(|text| text.parse::<u64>().ok()).map(Duration::from_millis);
    let told = told.unwrap_or_else(|| panic!("it says for how long: {applied}"));
    eprintln!("told {told:?}, seen {:?} with {} failures", seen.longest_silence, seen.failures.len());
    eprintln!("the last failure: {:?}", seen.failures.last());
    // The one who asks finds out later that it is gone, and that it is back: by one question that nobody answers, and by as
    // much as a machine may stand still.
    let near = Duration::from_secs(15 + 30);
    assert!(seen.longest_silence < told + near && told <= applied.elapsed, "told {told:?}, seen {seen:?}");
    assert_ne!(stack.docker.identity(&stack.name("live", "web")).0, before.0, "it is another one");
    stack.is_right("live");
}

#[test]
fn an_application_that_moves_to_another_port_is_replaced_without_a_gap() {
    let stack = Scenario::with("app_moves", project::site);
    stack.apply("live");
    let port = crate::support::free_port();
    stack.environment("live", &format!("port: {port}"));
    let applied = stack.apply("live");
    assert!(applied.stderr.contains("was not away"), "{applied}");
    // With a connection to its cache that works.
    until("the page at its new port, twice", || {
        let pages = [page(port, "/articles/redis-caching"), page(port, "/articles/redis-caching")];
        pages.iter().all(|page| page.as_ref().is_ok_and(|page| page.starts_with("HTTP/1.1 200"))).then_some(())
    });
    assert!(stack.redis("live").ask::<usize>(&["DBSIZE"]) > 0, "it keeps its pages in the cache");
    stack.is_right("live");
}

/// Not rehearsed, so that it is found out only now.
#[test]
fn a_new_application_that_does_not_answer_leaves_the_old_one() {
    let stack = Scenario::with("app_fails", project::small);
    stack.edit("apps:", "rehearse: never\n\napps:");
    stack.apply("live");
    let before = ["cache", "web"].map(|service| stack.docker.identity(&stack.name("live", service)));
    let objects = stack.objects("live");
    stack.edit(COMMAND, r#"command: [redis-cli, --intrinsic-latency, "1"]"#);
    stack.run(&["apply", "live"]).exits(5).says("did not stay up");
    assert_eq!(before, ["cache", "web"].map(|service| stack.docker.identity(&stack.name("live", service))));
    assert_eq!(stack.objects("live"), objects);

    let stack = Scenario::with("app_fails", project::site);
    stack.edit("apps:", "rehearse: never\n\napps:");
    stack.apply("live");
    let before = stack.docker.identity(&stack.name("live", "web"));
    stack.edit("SITE_CONFIG: /etc/site/site.toml", "SITE_CONFIG: /etc/site/nowhere.toml");
    stack.run(&["apply", "live"]).exits(5).says("did not stay up").says("its last");
    assert_eq!(stack.docker.identity(&stack.name("live", "web")).0, before.0, "the same container serves again");
    stack.edit("SITE_CONFIG: /etc/site/nowhere.toml", "SITE_CONFIG: /etc/site/site.toml");
    stack.run(&["plan", "live"]).ok();
    stack.is_right("live");
}

/// Killed after each request in turn, or left without its answer: one of the two serves, and the next run ends it.
fn cut_off_anywhere(test: &'static str, spec: fn(&str) -> String, from: &str, to: &str, fault: Fault) {
    let stack = Scenario::with(test, spec);
    stack.edit("apps:", "rehearse: never\n\napps:");
    stack.apply("live");
    let objects = stack.objects("live");
    stack.edit(from, to);
    let proxy = Proxy::start();
    stack.run_through(&proxy, &["apply", "live"]).ok();
    let web = stack.name("live", "web");
    let of_web = |path: &str| path.contains(&web);
    let mutations: Vec<usize> = proxy
        .mutations()
        .iter()
        .enumerate()
        .filter(|(_, call)| of_web(&call.path) || call.path.contains("/networks/"))
        .map(|(index, _)| index + 1)
        .collect();
    assert!(mutations.len() >= 4, "create, start, stop, remove, rename: {mutations:?}");
    let (mut now, mut next) = (to, from);
    for number in mutations {
        stack.edit(now, next);
        (now, next) = (next, now);
        let proxy = Proxy::start();
        proxy.arm(At::Mutation(number), fault);
        let cut = stack.run_through(&proxy, &["apply", "live"]);
        proxy.settle();
        if fault == Fault::KillAfter {
            assert_eq!(cut.signal, Some(Signal::KILL.as_raw()), "{cut}");
        } else {
            assert_eq!(cut.code, 0, "after {:?}: {cut}", proxy.hit());
        }
        stack.apply("live");
        assert_eq!(stack.objects("live"), objects, "after {fault:?} at {:?}", proxy.hit());
        stack.is_right("live");
        stack.run(&["plan", "live"]).ok();
    }
}

#[test]
fn a_replacement_beside_the_old_one_that_is_killed_anywhere_is_finished_by_the_next_run() {
    cut_off_anywhere("app_beside_killed", project::small, "COLOUR: green", "COLOUR: blue", Fault::KillAfter);
}

#[test]
fn a_replacement_beside_the_old_one_whose_replies_are_lost_is_finished() {
    cut_off_anywhere("app_beside_lost", project::small, "COLOUR: green", "COLOUR: blue", Fault::LoseReply);
}

#[test]
fn a_replacement_after_the_old_one_that_is_killed_anywhere_is_finished_by_the_next_run() {
    cut_off_anywhere("app_in_turn_killed", project::site, "WORKERS: \"1\"", "WORKERS: \"2\"", Fault::KillAfter);
}

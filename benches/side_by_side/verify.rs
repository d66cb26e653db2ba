//! Comparing two running environments: ten services each, and a Redis of 1,000,000 keys each.

use crate::data::Client;
use crate::engine::Connection;
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::ready::{Awaited, Kind};
use crate::snapshot::{PASSWORD, address, environment, fill, pull, put, redis_cli, small, spec};
use crate::stack::{self, REDIS, SITE, Site, Stack};
use crate::workshop::{self, Workshop, timed};
use crate::{Options, ready};
use anyhow::{Context as _, bail};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

const GROUP: &str = "verify";
const BOTH: [&str; 2] = ["one", "two"];
const KEYS: u64 = 1_000_000;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rows = services(workshop, options)?;
    rows.extend(data(workshop, options)?);
    Ok(rows)
}

/// Two environments of ten services that match.
fn services(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let project = workshop.room(GROUP)?.join("services");
    let caches: Vec<String> = (1..=3).map(|number| format!("cache{number}")).collect();
    let sites = (0..7).map(|number| Site {
        name: format!("web{number}"),
        cache: format!("cache{}", number % 3 + 1),
        port: None,
        needs_cache: false,
    });
    let sites = sites.collect();
    let stack = Stack { name: workshop.name("match"), site_image: SITE.to_owned(), caches, sites };
    stack.write_project(workshop, &project, &BOTH.map(|name| (name, 20_000)))?;
    // What the bare calls sign in as.
    let path = project.join("environments/stack.yaml");
    let spec = fs::read_to_string(&path)?.replace("\"ping\"]", "\"ping\", \"config|get\"]");
    workshop::write(&path, &spec, 0o644)?;
    for environment in BOTH {
        // Two that have one secret in common do not match.
        let secret = format!("cache_password: {PASSWORD}-{environment}\n");
        workshop::write(&project.join(format!("environments/secrets/{environment}.yaml")), &secret, 0o600)?;
        timed(&mut workshop.lockstep(&project, &["apply", environment]))?;
    }
    let named = |environment: &str, service: &str| format!("{}-{environment}-{service}", stack.name);
    let all = |kind: Kind| -> Vec<Awaited> {
        let each = BOTH.iter().flat_map(|environment| {
            stack.awaited(&named(environment, "private"), |service| named(environment, service))
        });
        each.filter(|awaited| awaited.kind == kind).collect()
    };
    let (servers, sites) = (all(Kind::Redis), all(Kind::Site));
    ready::wait_for_all(&servers)?;
    ready::wait_for_all(&sites)?;
    let mut engine = Connection::open()?;
    let mut addresses = Vec::new();
    for server in &servers {
        addresses.push(server.address(&mut engine)?.context("a server has no address")?);
    }
    let paths: Vec<String> =
        servers.iter().chain(&sites).map(|one| format!("/containers/{}/json", one.container)).collect();
    let [verify, bare] = rounds(
        options.rounds(15, 2),
        [
            ("lockstep verify", &mut || matches(workshop, &project, &[])),
            ("inspect and CONFIG GET", &mut || {
                let began = Instant::now();
                paths.iter().try_for_each(|path| engine.read(path).map(|_| ()))?;
                let of = |number: usize| BOTH.get(number / 3).copied().unwrap_or_default();
                addresses.iter().enumerate().try_for_each(|(at, address)| settings(*address, of(at)))?;
                Ok(began.elapsed().as_secs_f64())
            }),
        ],
    )?;
    for environment in BOTH {
        stack::down_of(workshop, &project, environment, &stack.caches)?;
    }
    Ok(vec![Row {
        group: GROUP,
        what: "parity of 2 environments of 10 services".to_owned(),
        unit: Unit::Seconds,
        lockstep: verify,
        rival: beside("20 inspect calls and 6 CONFIG GET *, one by one", &bare),
        floor: None,
        target: Some(Target::Ratio(3.0)),
    }])
}

/// Two servers that hold the same million keys.
fn data(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    redis_cli()?;
    let room = workshop.room(GROUP)?;
    let project = room.join("data");
    let name = workshop.name("alike");
    let rules =
        ["page", "fragment", "user", "popular", "recent"].map(|kind| format!("  \"{kind}:*\": {{ on: cache }}\n"));
    let spec = format!("{}keys:\n{}", spec(&name, &[("cache", REDIS)]), rules.concat());
    workshop::write(&project.join("environments/stack.yaml"), &spec, 0o644)?;
    for name in BOTH {
        environment(&project, name, &format!("{PASSWORD}-{name}"), "")?;
    }
    timed(&mut workshop.lockstep(&project, &["lock"]))?;
    let mut addresses = Vec::new();
    for environment in BOTH {
        timed(&mut workshop.lockstep(&project, &["apply", environment]))?;
        let address = address(&name, environment, "cache")?;
        eprintln!("  filling {environment}");
        fill(address, &format!("{PASSWORD}-{environment}"), KEYS, 2_000, alike)?;
        addresses.push((environment, address));
    }
    let pulled = |environment: &str| room.join(format!("{environment}.rdb"));
    let [plain, shape, exact, both] = rounds(
        options.rounds(7, 1),
        [
            ("lockstep verify", &mut || matches(workshop, &project, &[])),
            ("lockstep verify --shape", &mut || matches(workshop, &project, &["--shape"])),
            ("lockstep verify --data", &mut || matches(workshop, &project, &["--data"])),
            ("redis-cli --rdb, both at once", &mut || {
                let began = Instant::now();
                let mut children = Vec::new();
                for (environment, address) in &addresses {
                    let mut command = pull(*address, &format!("{PASSWORD}-{environment}"), &pulled(environment));
                    children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
                }
                for mut child in children {
                    let status = child.wait()?;
                    if !status.success() {
                        bail!("redis-cli ended with {status}");
                    }
                }
                let seconds = began.elapsed().as_secs_f64();
                BOTH.iter().try_for_each(|environment| fs::remove_file(pulled(environment)))?;
                Ok(seconds)
            }),
        ],
    )?;
    for environment in BOTH {
        stack::down_of(workshop, &project, environment, &["cache".to_owned()])?;
    }
    let beyond = |more: &Series| Series(more.0.iter().zip(&plain.0).map(|(more, plain)| more - plain).collect());
    Ok(vec![
        Row {
            group: GROUP,
            what: "shape of 2 x 1,000,000 keys, beyond the comparison without it".to_owned(),
            unit: Unit::Seconds,
            lockstep: beyond(&shape),
            rival: None,
            floor: beside("redis-cli --rdb of both at once", &both),
            target: Some(Target::Below(2.0)),
        },
        Row {
            group: GROUP,
            what: "exact comparison of 2 x 1,000,000 keys".to_owned(),
            unit: Unit::Seconds,
            lockstep: exact,
            rival: beside("redis-cli --rdb of both at once", &both),
            floor: None,
            target: Some(Target::Ratio(1.5)),
        },
    ])
}

/// The same keys in both, which do not expire at two moments.
fn alike(number: u64, batch: &mut Vec<u8>) {
    match number % 10 {
        0..=4 => put(
            batch,
            &[b"SET", format!("page:{number:07}").as_bytes(), b"a page of a few words", b"EXAT", b"4102444800"],
        ),
        _ => small(number, batch),
    }
}

/// Seconds of a verification, which has to find nothing.
fn matches(workshop: &Workshop, project: &Path, more: &[&str]) -> anyhow::Result<f64> {
    let arguments = [&["verify"], &BOTH[..], more].concat();
    Ok(timed(&mut workshop.lockstep(project, &arguments))?.seconds)
}

/// `CONFIG GET *` on a connection of its own.
fn settings(address: SocketAddr, environment: &str) -> anyhow::Result<()> {
    let mut client = Client::open(address)?;
    client.ask(&[b"AUTH", b"app", format!("{PASSWORD}-{environment}").as_bytes()])?;
    client.ask(&[b"CONFIG", b"GET", b"*"]).map(|_| ())
}

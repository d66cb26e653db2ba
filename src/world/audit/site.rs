//! Asks an application a handful of questions that a stranger could ask, and one that announces too much.

use crate::audit::facts::{Read, Site};
use crate::http::raw::{Silence, ask};
use crate::model::behaviour::{Ask, default_port};
use crate::model::{Environment, Kind, Service};
use crate::store;
use crate::world::audit::Subject;
use std::net::{IpAddr, SocketAddr};

/// So many pages that the spec names are asked for.
const PAGES: usize = 8;
/// More headers than any browser sends.
const OVERSIZED: usize = 72 << 10;

/// How an application answers; nothing where no port of it is known.
pub(super) async fn site(
    subject: Subject<'_>,
    service: &Service,
    running: bool,
    address: Option<IpAddr>,
) -> Option<Read<Site>> {
    let port = default_port(service)?;
    let Some(address) = address.filter(|_| running) else {
        return Some(Err("it does not run, or has no address on its network".to_owned()));
    };
    Some(asked(subject, service, SocketAddr::new(address, port)).await)
}

async fn asked(subject: Subject<'_>, service: &Service, address: SocketAddr) -> Read<Site> {
    let drawn = store::random_hex::<8>().map_err(|error| error.to_string())?;
    let mut site = Site { origin: format!("https://{drawn}.example"), ..Site::default() };
    let first = ask(address, "HEAD", "/", &[]).await.map_err(|silence| silence.why())?;
    for path in paths(subject.environment, service) {
        site.pages.push(ask(address, "GET", &path, &[]).await.map_err(|silence| silence.why())?);
    }
    site.pages.push(first);
    site.missing = ask(address, "GET", &format!("/{drawn}-is-not-there"), &[]).await.ok();
    site.trace = Some(ask(address, "TRACE", "/", &[]).await.map_err(|silence| silence.why()));
    site.foreign = ask(address, "GET", "/", &[format!("Origin: {}", site.origin)]).await.ok();
    let padding = format!("X-Padding: {}", "a".repeat(OVERSIZED));
    site.oversized = Some(match ask(address, "GET", "/", &[padding]).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Silence::Closed) => Ok(None),
        Err(silence) => Err(silence.why()),
    });
    let security = &subject.environment.security;
    if let Some(limit) = &security.upload_limit {
        let path = security.upload_path.as_deref().unwrap_or("/");
        let headers = [
            format!("Content-Length: {}", limit.value.0.saturating_add(1)),
            "Content-Type: application/octet-stream".to_owned(),
        ];
        site.upload = Some(match ask(address, "POST", path, &headers).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Silence::Waits) => Ok(None),
            Err(silence) => Err(silence.why()),
        });
    }
    Ok(site)
}

/// `/`, the health page, and what the spec's probes ask the service for.
pub(crate) fn paths(environment: &Environment, service: &Service) -> Vec<String> {
    let mut paths = vec!["/".to_owned()];
    if let Kind::App(app) = &service.kind {
        paths.extend(app.health.as_ref().map(|health| health.path.clone()));
    }
    for probe in environment.probes.values().filter(|probe| probe.on == service.name) {
        if let Ask::Http { path, .. } = &probe.ask {
            paths.push(path.clone());
        }
    }
    let mut known = std::collections::BTreeSet::new();
    paths.retain(|path| known.insert(path.clone()));
    paths.truncate(PAGES);
    paths
}

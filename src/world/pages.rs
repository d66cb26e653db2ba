//! What the applications of an environment answer, each page asked for twice: what changes in between is of the moment.

use crate::http::raw::ask;
use crate::model::behaviour::default_port;
use crate::model::{Environment, Kind};
use crate::parity::pages::{Answered, Page, Pages};
use crate::world::audit::site::paths;
use crate::world::probe::{Subject, lives};
use futures_util::future;
use std::net::{IpAddr, SocketAddr};

/// Asks every application for `/`, its health page and what the probes name.
///
/// # Errors
/// An engine that does not answer.
pub async fn pages(subject: Subject<'_>) -> Result<Pages, crate::failure::Failure> {
    let lives = lives(subject).await?;
    let applications = subject.environment.services.values().filter(|service| matches!(service.kind, Kind::App(_)));
    let asked = applications.filter_map(|service| Some((service, default_port(service)?))).map(|(service, port)| {
        let address = lives.get(service.name.as_str()).and_then(|(life, address)| address.filter(|_| life.running));
        async move {
            let found = match address {
                Some(address) => of_one(subject.environment, service.name.as_str(), address, port).await,
                None => Err("it does not run".to_owned()),
            };
            (service.name.to_string(), found)
        }
    });
    Ok(future::join_all(asked).await.into_iter().collect())
}

async fn of_one(environment: &Environment, service: &str, address: IpAddr, port: u16) -> Result<Vec<Page>, String> {
    let Some(service) = environment.services.values().find(|of| of.name.as_str() == service) else {
        return Ok(Vec::new());
    };
    let address = SocketAddr::new(address, port);
    let mut pages = Vec::new();
    for path in paths(environment, service) {
        let first = ask(address, "GET", &path, &[]).await.map_err(|silence| silence.why())?;
        let second = ask(address, "GET", &path, &[]).await.map_err(|silence| silence.why())?;
        let [first, second] = [&first, &second].map(|answer| Answered {
            status: answer.status,
            headers: &answer.headers,
            body: &answer.body,
        });
        pages.push(Page::of(&format!("GET {path}"), first, second, &address.to_string()));
    }
    Ok(pages)
}

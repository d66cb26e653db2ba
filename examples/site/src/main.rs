//! A small site of articles. Pages and fragments are kept in Redis, and so is the count of views;
//! without Redis every page is still served, only slower and uncounted.
//! Deliberately absent: TLS (a proxy's work), accounts, sessions and scripts in the browser.

mod articles;
mod cache;
mod config;
mod pages;
mod reply;
mod routes;
mod server;
mod uploads;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::articles::Library;
use crate::cache::Cache;
use crate::config::Config;
use crate::routes::App;
use crate::uploads::Uploads;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(io::stderr(), "site: {line}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let config = Config::load(|name| std::env::var(name).ok())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = config.workers {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build().map_err(|error| format!("cannot start the worker threads: {error}"))?;
    let outcome = runtime.block_on(run(config));
    // A name look-up that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn run(config: Config) -> Result<(), String> {
    // As process 1 of a container the site gets no default action for SIGTERM: without a handler it
    // would be ignored.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("cannot handle SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("cannot handle SIGINT: {error}"))?;

    let library = Library::load(&config.site.articles_dir)?;
    let uploads = Uploads::open(&config.upload_dir, config.site.upload_limit_bytes)?;
    let cache = Arc::new(Cache::open(config.cache)?);
    let listen = config.site.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let _ = writeln!(io::stderr(), "site: {} articles, listening on {listen}", library.newest_first().len());

    tokio::spawn(cache::watch(cache.clone()));
    let app = Arc::new(App { site: config.site, library, cache, uploads });
    server::serve(listener, app, async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    Ok(())
}

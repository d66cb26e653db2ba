//! Connections: how many at once, how long each may take, and how they end when the site is told to
//! stop. Every limit here is against a client that holds on to something without using it.
//! Deliberately absent: HTTP/2 and TLS (a proxy's work), and limits per client (all may come from
//! one proxy).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::routes::{self, App};

const CONNECTIONS: u32 = 512;
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// For the head of a request, and so also for the wait between two requests on one connection.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// After this a connection may finish what it is at. It bounds a client that reads its answer drop
/// by drop.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop`, then takes no more connections and gives the open ones a moment to finish.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (stopping, stopped) = watch::channel(false);
    let accept = async {
        loop {
            // Room first: who finds none waits in the kernel's queue.
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, app.clone(), stopped.clone(), permit))),
                // Out of file descriptors, most likely. Some will be free in a moment.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    let _ = stopping.send(true);
    let _ = timeout(GRACE, room.acquire_many(CONNECTIONS)).await;
}

async fn connection(stream: TcpStream, app: Arc<App>, mut stopped: watch::Receiver<bool>, _room: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| async { Ok::<_, Infallible>(routes::handle(&app, request).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(HEADERS)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = sleep(CONNECTION_TIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

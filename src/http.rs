//! One GET to a service's own address: does it answer?

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// The most of an answer that is read.
const MAX_BODY: usize = 1 << 20;

/// The status of GET `path`. The error says in a few words why there is none.
pub async fn get(address: SocketAddr, path: &str, within: Duration) -> Result<u16, String> {
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let request = Request::get(path)
            .header(hyper::header::HOST, address.to_string())
            .header(hyper::header::USER_AGENT, "lockstep")
            .header(hyper::header::CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        // Read to the end, so that a service that breaks off half-way does not count as answering.
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        connection.abort();
        body.map_err(|error| error.to_string())?;
        Ok(status)
    };
    tokio::time::timeout(within, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

//! Answers: their bodies, and the headers that each of them carries, errors included. A body is
//! either whole in memory or a file read piece by piece, so that slow readers do not fill the
//! memory.
//! Deliberately absent: compression and ranges (a proxy's work), Strict-Transport-Security (the
//! site speaks no TLS).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

pub const HTML: &str = "text/html; charset=utf-8";
pub const CSS: &str = "text/css; charset=utf-8";
pub const JSON: &str = "application/json; charset=utf-8";
pub const BYTES: &str = "application/octet-stream";
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

const PIECE: u64 = 16 * 1024;
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
    frame-ancestors 'none'; form-action 'self'";
const ON_EVERY_ANSWER: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

pub enum Body {
    Whole(Bytes),
    File { file: File, left: u64 },
}

pub fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body.into()));
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, kind)
}

pub fn with(mut response: Response<Body>, name: HeaderName, value: &'static str) -> Response<Body> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// The last hand on every answer.
pub fn finish(response: &mut Response<Body>) {
    // A refused body may still be on its way, and must not be taken for the next request.
    let close = matches!(response.status().as_u16(), 400 | 405 | 408 | 413 | 503 | 507);
    let headers = response.headers_mut();
    for (name, value) in ON_EVERY_ANSWER {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match self.get_mut() {
            Body::Whole(bytes) => std::mem::take(bytes),
            Body::File { left: 0, .. } => Bytes::new(),
            Body::File { file, left } => {
                let mut piece = vec![0; PIECE.min(*left) as usize];
                let mut buffer = ReadBuf::new(&mut piece);
                ready!(Pin::new(file).poll_read(context, &mut buffer))?;
                let count = buffer.filled().len();
                if count == 0 {
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                piece.truncate(count);
                *left = left.saturating_sub(count as u64);
                piece.into()
            }
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Body::Whole(bytes) => bytes.len() as u64,
            Body::File { left, .. } => *left,
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_file_arrives_whole_and_a_short_one_is_an_error() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, vec![7; 40_000]).unwrap();
        let body = Body::File { file: File::open(&path).await.unwrap(), left: 40_000 };
        assert_eq!(body.collect().await.unwrap().to_bytes(), vec![7; 40_000]);
        let body = Body::File { file: File::open(&path).await.unwrap(), left: 40_001 };
        assert!(body.collect().await.is_err());
    }

    #[test]
    fn errors_carry_the_headers_too() {
        let mut response = reply(StatusCode::PAYLOAD_TOO_LARGE, HTML, "");
        finish(&mut response);
        for (name, value) in ON_EVERY_ANSWER {
            assert_eq!(response.headers()[name], value);
        }
        assert_eq!(response.headers()[CONNECTION], "close");
    }
}

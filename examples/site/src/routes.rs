//! Which path gets which answer, what of it is cached, and the access log: one line per request,
//! written when the answer starts. It reads `method path status milliseconds cache`; the query is
//! left out, as it may hold secrets.
//! Deliberately absent: percent-decoding (no path of the site needs it), caching of anything but
//! known pages (a stranger could otherwise fill Redis with keys) and OPTIONS (nothing here is for
//! other origins).

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};

use crate::articles::{Article, Library};
use crate::cache::{Cache, Lookup};
use crate::config::SiteFile;
use crate::pages;
use crate::reply::{BYTES, Body, CSS, HTML, JSON, X_CACHE, finish, reply, with};
use crate::uploads::Uploads;

const TOP: usize = 10;
const TOP_SHORT: usize = 5;
/// More than are shown, as some may be views of articles that are gone.
const VIEWS_ASKED: usize = 50;
const LOGGED_CHARACTERS: usize = 300;

pub struct App {
    pub site: SiteFile,
    pub library: Library,
    pub cache: Arc<Cache>,
    pub uploads: Uploads,
}

pub async fn handle(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let mut response = route(app, &head.method, path, &head.headers, body).await;
    finish(&mut response);
    let cache = response.headers().get(X_CACHE).and_then(|value| value.to_str().ok());
    let (method, path) = (printable(head.method.as_str()), printable(path));
    let (status, time) = (response.status().as_u16(), started.elapsed().as_secs_f64() * 1000.0);
    let line = format!("{method} {path} {status} {time:.1} {}\n", cache.unwrap_or("-"));
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
    response
}

async fn route(app: &Arc<App>, method: &Method, path: &str, headers: &HeaderMap, body: Incoming) -> Response<Body> {
    match (method.as_str(), path) {
        ("POST", "/uploads") => upload(app, headers, body).await,
        (_, "/uploads") => not_allowed(app, "POST"),
        ("GET" | "HEAD", "/") => cached(app, path, index(app)).await,
        ("GET" | "HEAD", "/popular") => popular(app).await,
        ("GET" | "HEAD", "/healthz") => health(app).await,
        ("GET" | "HEAD", "/style.css") => {
            with(reply(StatusCode::OK, CSS, pages::STYLE), CACHE_CONTROL, "public, max-age=300")
        }
        ("GET" | "HEAD", _) => {
            if let Some(name) = path.strip_prefix("/uploads/") {
                return download(app, name).await;
            }
            let slug = path.strip_prefix("/articles/");
            let Some(article) = slug.and_then(|slug| app.library.find(slug)) else {
                return error(app, StatusCode::NOT_FOUND);
            };
            if method == Method::GET {
                count_view(app, &article.slug);
            }
            cached(app, path, self::article(app, article)).await
        }
        _ => not_allowed(app, "GET, HEAD"),
    }
}

fn error(app: &App, status: StatusCode) -> Response<Body> {
    reply(status, HTML, pages::error(&app.site.title, &status.to_string()))
}

fn not_allowed(app: &App, allow: &'static str) -> Response<Body> {
    with(error(app, StatusCode::METHOD_NOT_ALLOWED), ALLOW, allow)
}

fn page(html: impl Into<Bytes>, cache: &'static str) -> Response<Body> {
    with(reply(StatusCode::OK, HTML, html), X_CACHE, cache)
}

/// `build` runs only when the cache does not have the page.
async fn cached(app: &App, path: &str, build: impl Future<Output = String>) -> Response<Body> {
    let key = format!("page:{path}");
    match app.cache.get(&key).await {
        Lookup::Hit(html) => page(html, "HIT"),
        Lookup::Miss => {
            let html = build.await;
            app.cache.put(&key, &html, app.site.page_ttl_seconds).await;
            page(html, "MISS")
        }
        Lookup::Unreachable => page(build.await, "BYPASS"),
    }
}

async fn fragment(app: &App, name: &str, build: impl Future<Output = String>) -> String {
    let key = format!("fragment:{name}");
    let found = app.cache.get(&key).await;
    if let Lookup::Hit(html) = &found {
        return String::from_utf8_lossy(html).into_owned();
    }
    let html = build.await;
    if found == Lookup::Miss {
        app.cache.put(&key, &html, app.site.fragment_ttl_seconds).await;
    }
    html
}

async fn index(app: &App) -> String {
    pages::index(&app.site.title, &app.library, &popular_fragment(app).await)
}

async fn article(app: &App, article: &Article) -> String {
    let build = async { pages::sidebar(&app.library, &popular_fragment(app).await) };
    pages::article(&app.site.title, article, &fragment(app, "sidebar", build).await)
}

async fn popular_fragment(app: &App) -> String {
    let build = async {
        let views = app.cache.most_viewed(VIEWS_ASKED).await;
        pages::popular_list(&app.library, views.as_deref(), TOP_SHORT, false)
    };
    fragment(app, "popular", build).await
}

/// Never stored, as its numbers are what it is for. It is a MISS, or a BYPASS when there are no
/// numbers.
async fn popular(app: &App) -> Response<Body> {
    let views = app.cache.most_viewed(VIEWS_ASKED).await;
    let list = pages::popular_list(&app.library, views.as_deref(), TOP, true);
    page(pages::popular(&app.site.title, &list), if views.is_some() { "MISS" } else { "BYPASS" })
}

/// Counted beside the answer, not before it.
fn count_view(app: &Arc<App>, slug: &str) {
    let (app, slug) = (app.clone(), slug.to_string());
    tokio::spawn(async move { app.cache.count_view(&slug).await });
}

async fn health(app: &App) -> Response<Body> {
    let (status, body) = if app.cache.ping().await {
        (StatusCode::OK, "{\"status\":\"ok\",\"cache\":\"up\"}\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"degraded\",\"cache\":\"down\"}\n")
    };
    with(reply(status, JSON, body), CACHE_CONTROL, "no-store")
}

async fn upload(app: &App, headers: &HeaderMap, body: Incoming) -> Response<Body> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match app.uploads.store(declared, body).await {
        Ok((name, bytes)) => {
            let answer = format!("{{\"name\":\"{name}\",\"bytes\":{bytes}}}\n");
            reply(StatusCode::CREATED, JSON, answer)
        }
        Err(status) => error(app, status),
    }
}

async fn download(app: &App, name: &str) -> Response<Body> {
    let Some((file, left)) = app.uploads.fetch(name).await else {
        return error(app, StatusCode::NOT_FOUND);
    };
    let response = reply(StatusCode::OK, BYTES, "").map(|_| Body::File { file, left });
    with(response, CONTENT_DISPOSITION, "attachment")
}

/// Text from a request for the log: on one line, without spaces, neither empty nor endless.
fn printable(text: &str) -> String {
    if text.is_empty() {
        return "-".to_string();
    }
    let mut out = String::new();
    for character in text.chars().take(LOGGED_CHARACTERS) {
        match character {
            '!'..='[' | ']'..='~' => out.push(character),
            other => out.extend(other.escape_unicode()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_stays_one_line() {
        let escaped = "/a\\u{20}b\\u{a}\\u{1b}[0m\\u{5c}\\u{e9}";
        assert_eq!(printable("/a b\n\u{1b}[0m\\é"), escaped);
        assert_eq!(printable(&"x".repeat(1000)).len(), LOGGED_CHARACTERS);
    }
}

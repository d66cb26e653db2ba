//! Where backups go, who can open them, and which ones stay.

use crate::spec::{Drill, Keep};
use crate::value::{Recipient, Span};
use std::net::IpAddr;

/// What `backup:` means for one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupPlan {
    pub to: Destination,
    pub keep: Keep,
    /// Empty: backups are not encrypted.
    pub encrypt_to: Vec<Recipient>,
    /// File of age identities, relative to the project or absolute.
    pub identity: Option<String>,
    pub max_age: Option<Span>,
    pub drill: Drill,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// Relative to the project.
    Folder(String),
    Bucket(Bucket),
}

/// A place in an S3-compatible store.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    pub name: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
    /// `https://host[:port]`; Amazon's own when absent.
    pub endpoint: Option<String>,
    pub region: String,
}

/// Where most stores say that they are when nobody cares.
pub const REGION: &str = "us-east-1";

/// Bucket and prefix of `s3://bucket/prefix`, or what is wrong with it.
pub fn bucket(address: &str) -> Result<(String, String), &'static str> {
    let rest = address.strip_prefix("s3://").ok_or("is not an address of a store")?;
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    if !(3..=63).contains(&name.len()) || !name.bytes().all(known) || name.starts_with(['.', '-']) {
        return Err("does not name a bucket");
    }
    let prefix = prefix.trim_end_matches('/');
    let plain = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
    };
    if !prefix.is_empty() && !prefix.split('/').all(plain) {
        return Err("has a prefix with more than letters, digits, `.`, `-` and `_` between its slashes");
    }
    Ok((name.to_owned(), prefix.to_owned()))
}

/// Scheme and host of an endpoint, or what is wrong with it.
pub fn endpoint(address: &str) -> Result<Endpoint, &'static str> {
    let (scheme, rest) = address.split_once("://").ok_or("has no scheme")?;
    let encrypted = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err("is not of HTTP"),
    };
    let rest = rest.trim_end_matches('/');
    // Between brackets: an address of IPv6, with colons of its own.
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    if host.is_empty() || !host.bytes().all(known) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("is not a host with an optional port");
    }
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    Ok(Endpoint { encrypted, local })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub encrypted: bool,
    /// This machine itself.
    pub local: bool,
}

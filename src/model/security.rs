//! What the audit asks of an environment beyond its own checks, and what is accepted as it is, complete.

use crate::finding::{Finding, nearest};
use crate::model::resolve::Resolver;
use crate::model::{Service, Written};
use crate::spec::Text;
use crate::spec::security::{AcceptSpec, SecuritySpec};
use crate::value::{Bytes, Date, Name, Place};
use std::collections::BTreeMap;

/// `security:`; without the section, nothing beyond the audit's own checks is asked and nothing accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    /// Where `enabled: false` stands for all of it.
    pub off: Option<Place>,
    /// By name in lower case.
    pub headers: BTreeMap<String, WantedHeader>,
    /// The largest body of a request that an application takes.
    pub upload_limit: Option<Written<Bytes>>,
    /// Where uploads go; absent where nothing says so.
    pub upload_path: Option<String>,
    pub accept: Vec<Acceptance>,
}

/// A header that every answer has to have.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedHeader {
    pub place: Place,
    /// Absent for `required`: any value will do.
    pub value: Option<String>,
}

/// A check that may fail, why, and until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Acceptance {
    /// The id of a check, such as `PERM-15`.
    pub id: String,
    pub place: Place,
    /// Everything that the check looks at when absent.
    pub service: Option<Name>,
    pub why: String,
    /// The last day (UTC) on which it counts.
    pub until: Date,
}

/// Headers that a name may have been meant to be.
const KNOWN: [&str; 14] = [
    "cache-control",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "vary",
    "x-content-type-options",
    "x-frame-options",
    "x-robots-tag",
];

impl Resolver<'_, '_> {
    pub(super) fn security(&mut self, spec: &SecuritySpec, services: &BTreeMap<Name, Service>) -> Security {
        let size = spec.upload_limit.as_ref().and_then(|text| {
            self.reading(text, "size", "a size above zero", "write 8mb", |text| {
                Bytes::parse(text).filter(|size| size.0 > 0)
            })
        });
        let path = spec.upload_path.as_ref().and_then(|text| {
            self.reading(text, "path", "a path to ask over HTTP", "write /uploads", |text| {
                let fits = text.starts_with('/') && text.len() <= 4096;
                (fits && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')).then(|| text.to_owned())
            })
        });
        if let Some(text) = spec.upload_path.as_ref().filter(|_| spec.upload_limit.is_none()) {
            let message = "`upload_path` says where a limit is tried, and there is no `upload_limit`";
            self.findings.push(Finding::error("upload", message).at(&text.place).help("write `upload_limit: 8mb`"));
        }
        Security {
            off: (!spec.enabled).then(|| spec.place.clone()),
            headers: self.wanted_headers(&spec.headers),
            upload_limit: size,
            upload_path: path.map(|path| path.value),
            accept: spec.accept.iter().filter_map(|accept| self.acceptance(accept, services)).collect(),
        }
    }

    fn wanted_headers(&mut self, headers: &BTreeMap<String, (Place, Text)>) -> BTreeMap<String, WantedHeader> {
        let mut wanted = BTreeMap::new();
        for (name, (place, text)) in headers {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                let message = format!("`{name}` is not the name of a header");
                let help = "write content-security-policy";
                self.findings.push(Finding::error("header", message).at(place).help(help));
                continue;
            }
            let name = name.to_ascii_lowercase();
            if let Some(near) = nearest(&name, KNOWN).filter(|near| *near != name) {
                let message = format!("`{name}` is no header that browsers know");
                let help = format!("did you mean `{near}`?");
                self.findings.push(Finding::warning("header", message).at(place).help(help));
            }
            let Some(written) = self.text(text) else { continue };
            let value = written.value.trim().to_owned();
            if value.is_empty() || value.contains(char::is_control) {
                let message = format!("what `{name}` has to be is not the value of a header");
                let help = "write `required`, or the value on one line";
                self.findings.push(Finding::error("header", message).at(&written.place).help(help));
                continue;
            }
            let value = Some(value).filter(|value| value != "required");
            wanted.insert(name, WantedHeader { place: place.clone(), value });
        }
        wanted
    }

    fn acceptance(&mut self, spec: &AcceptSpec, services: &BTreeMap<Name, Service>) -> Option<Acceptance> {
        let until = self.reading(&spec.until, "date", "a day", "write 2027-01-31", Date::parse);
        let service = match &spec.service {
            // One that is switched off has nothing to accept.
            Some(text) => Some(self.service_named(text, services, "a service", |_| true)?.name.clone()),
            None => None,
        };
        let why = self.text(&spec.why)?.value;
        let id = spec.id.value.clone();
        Some(Acceptance { id, place: spec.id.place.clone(), service, why, until: until?.value })
    }
}

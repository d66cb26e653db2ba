//! Headers: what the answers of applications tell a browser to allow, and what they tell a stranger.

use super::facts::{Answer, Facts, Site};
use super::secrets::held;
use super::{Chapter, Check, Seen, Severity, each_read};
use crate::model::security::WantedHeader;

const HERE: Chapter = Chapter::Headers;

pub(super) const CHECKS: &[Check] = &[
    HERE.check(
        "HDR-01",
        Severity::Medium,
        "browsers are told to come back over TLS alone",
        |facts| each_site(facts, transport),
        "let whatever ends TLS send Strict-Transport-Security: max-age=31536000",
        &["ASVS 5.0: 3.4.1"],
    ),
    HERE.check(
        "HDR-02",
        Severity::Medium,
        "browsers are told what an answer is, and not to guess",
        |facts| each_site(facts, kind),
        "send X-Content-Type-Options: nosniff with every answer, errors too, and Content-Type with its charset",
        &["ASVS 5.0: 3.4.4"],
    ),
    HERE.check(
        "HDR-03",
        Severity::Medium,
        "pages say which scripts may run, and who may frame them",
        |facts| each_site(facts, policy),
        "send Content-Security-Policy with object-src, base-uri and frame-ancestors, and scripts from named places",
        &["ASVS 5.0: 3.4.3", "ASVS 5.0: 3.4.6"],
    ),
    HERE.check(
        "HDR-04",
        Severity::Low,
        "pages say what they tell others, and which of the browser's powers they want",
        |facts| each_site(facts, powers),
        "send Referrer-Policy, Permissions-Policy and Cross-Origin-Opener-Policy",
        &["ASVS 5.0: 3.4.5", "ASVS 5.0: 3.4.8"],
    ),
    HERE.check(
        "HDR-05",
        Severity::Medium,
        "no page of a stranger may read an answer",
        |facts| each_site(facts, strangers),
        "name the origins that may, and send Access-Control-Allow-Origin to those alone",
        &["ASVS 5.0: 3.4.2"],
    ),
    HERE.check(
        "HDR-06",
        Severity::Medium,
        "cookies stay on TLS, out of scripts and with the site that set them",
        |facts| each_site(facts, cookies),
        "set each cookie with Secure, HttpOnly and SameSite",
        &["ASVS 5.0: 3.3.1", "ASVS 5.0: 3.3.2", "ASVS 5.0: 3.3.4"],
    ),
    HERE.check(
        "HDR-07",
        Severity::Low,
        "answers name no version, errors show no inside, and TRACE is refused",
        |facts| each_site(facts, talk),
        "take the version out of Server and X-Powered-By, answer errors with a page of your own, and refuse TRACE",
        &["ASVS 5.0: 13.4.4", "ASVS 5.0: 13.4.6", "ASVS 5.0: 16.5.1"],
    ),
    HERE.check(
        "HDR-10",
        Severity::Medium,
        "every answer has the headers that the spec wants",
        wanted,
        "let the application send what `security.headers` says, with errors too, or change the spec",
        &[],
    ),
];

pub(super) fn each_site(facts: &Facts, look: fn(&str, &Site, &Facts) -> Seen) -> Vec<Seen> {
    let none = "no application says on which port it answers over HTTP";
    each_read(
        facts,
        |container| container.site.as_ref(),
        none,
        |name, _, site| match site.pages.is_empty() {
            true => Seen::unknown(name, "it answered nothing"),
            false => look(name, site, facts),
        },
    )
}

/// How many answers were read, for evidence.
fn read(site: &Site) -> String {
    let requests: Vec<&str> = site.answers().map(|answer| answer.request.as_str()).collect();
    format!("answers to {}", requests.join(", "))
}

fn transport(name: &str, site: &Site, _: &Facts) -> Seen {
    let promised = site.answers().find_map(|answer| answer.header("strict-transport-security"));
    match promised {
        Some(value) => Seen::idle(name, format!("asked over plain HTTP, where browsers ignore it; it sends {value}")),
        None => {
            Seen::idle(name, "it answers plain HTTP inside the host: whatever ends TLS in front of it has to say it")
        }
    }
}

fn kind(name: &str, site: &Site, _: &Facts) -> Seen {
    let mut wrong = Vec::new();
    for answer in site.answers() {
        let nosniff =
            answer.header("x-content-type-options").is_some_and(|value| value.trim().eq_ignore_ascii_case("nosniff"));
        if !nosniff {
            wrong.push(format!("{} has no nosniff", answer.request));
        }
        match answer.header("content-type") {
            None if answer.status != 204 && answer.status != 304 => {
                wrong.push(format!("{} has no Content-Type", answer.request));
            }
            Some(kind) if kind.starts_with("text/") && !kind.to_ascii_lowercase().contains("charset=") => {
                wrong.push(format!("{} is {kind} without a charset", answer.request));
            }
            _ => {}
        }
    }
    Seen::judged(name, wrong, read(site))
}

/// The pages among the answers, each judged; the check is idle where there is none.
fn pages(name: &str, site: &Site, look: impl Fn(&Answer) -> Vec<String>) -> Seen {
    let pages: Vec<&Answer> = site.answers().filter(|answer| answer.is_html()).collect();
    if pages.is_empty() {
        return Seen::idle(name, format!("none of the {} is HTML", read(site)));
    }
    let wrong = pages.iter().flat_map(|page| look(page).into_iter().map(|what| format!("{} {what}", page.request)));
    Seen::judged(name, wrong.collect(), read(site))
}

fn policy(name: &str, site: &Site, _: &Facts) -> Seen {
    pages(name, site, |page| {
        let Some(policy) = page.header("content-security-policy") else {
            return vec!["has no Content-Security-Policy".to_owned()];
        };
        weak(policy, page.header("x-frame-options"))
    })
}

/// What a policy leaves open (Content Security Policy Level 3).
fn weak(policy: &str, framing: Option<&str>) -> Vec<String> {
    let policy = policy.to_ascii_lowercase();
    let directives: Vec<Vec<&str>> = policy.split(';').map(|part| part.split_whitespace().collect()).collect();
    let sources = |name: &str| {
        let found = directives.iter().find(|words| words.first() == Some(&name));
        found.map(|words| words.get(1..).unwrap_or_default())
    };
    let fallback = |name: &str| sources(name).or_else(|| sources("default-src"));
    let mut wrong = Vec::new();
    match fallback("script-src") {
        None => wrong.push("lets any script run: no script-src and no default-src".to_owned()),
        Some(sources) => {
            // A nonce or a hash makes browsers ignore 'unsafe-inline'.
            let strict = sources.iter().any(|source| source.starts_with("'nonce-") || source.starts_with("'sha"));
            for source in sources {
                let inline = *source == "'unsafe-inline'" && !strict;
                if inline || ["'unsafe-eval'", "*", "http:", "https:", "data:"].contains(source) {
                    wrong.push(format!("lets scripts from {source} run"));
                }
            }
        }
    }
    if fallback("object-src").is_none_or(|sources| sources != ["'none'"]) {
        wrong.push("lets plug-ins run: object-src is not 'none'".to_owned());
    }
    if sources("base-uri").is_none() {
        wrong.push("lets a page move its own links: no base-uri".to_owned());
    }
    let framed =
        framing.is_some_and(|value| ["deny", "sameorigin"].contains(&value.trim().to_ascii_lowercase().as_str()));
    if sources("frame-ancestors").is_none_or(|sources| sources.contains(&"*")) && !framed {
        wrong.push("can be framed by anybody: no frame-ancestors".to_owned());
    }
    wrong
}

fn powers(name: &str, site: &Site, _: &Facts) -> Seen {
    pages(name, site, |page| {
        let wanted = ["referrer-policy", "permissions-policy", "cross-origin-opener-policy"];
        let absent =
            wanted.into_iter().filter(|header| page.header(header).is_none_or(|value| value.trim().is_empty()));
        absent.map(|header| format!("has no {header}")).collect()
    })
}

fn strangers(name: &str, site: &Site, _: &Facts) -> Seen {
    let Some(answer) = &site.foreign else { return Seen::unknown(name, "it was not asked on behalf of a stranger") };
    let allowed = answer.header("access-control-allow-origin").map(str::trim);
    let credentials = answer
        .header("access-control-allow-credentials")
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    let asked = format!("{} with Origin: {}", answer.request, site.origin);
    match allowed {
        Some(origin) if origin == site.origin => Seen::fail(name, format!("{asked}: it allows whoever asks")),
        Some("*") if credentials => Seen::fail(name, format!("{asked}: it allows everybody, with credentials")),
        Some("null") => Seen::fail(name, format!("{asked}: it allows the origin `null`, which anybody can have")),
        Some(origin) => Seen::pass(name, format!("{asked}: it allows {origin}")),
        None => Seen::pass(name, format!("{asked}: it allows nobody")),
    }
}

fn cookies(name: &str, site: &Site, _: &Facts) -> Seen {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for answer in site.answers() {
        for cookie in answer.all("set-cookie") {
            count += 1;
            let attributes: Vec<String> =
                cookie.split(';').skip(1).map(|part| part.trim().to_ascii_lowercase()).collect();
            let called = cookie.split('=').next().unwrap_or_default().trim();
            let lacks = |what: &str| !attributes.iter().any(|attribute| attribute.split('=').next() == Some(what));
            let missing: Vec<&str> =
                ["secure", "httponly", "samesite"].into_iter().filter(|what| lacks(what)).collect();
            if !missing.is_empty() {
                wrong.push(format!("{} sets cookie {called} without {}", answer.request, missing.join(", ")));
            }
        }
    }
    match count {
        0 => Seen::idle(name, format!("no cookie in the {}", read(site))),
        _ => Seen::judged(name, wrong, format!("{count} cookies in the {}", read(site))),
    }
}

/// What programs write that show an error as it came.
const INSIDE: [&str; 8] = [
    "Traceback (most recent call last)",
    "panicked at",
    "stack backtrace",
    "at java.",
    "goroutine 1 [",
    "Fatal error: ",
    "node_modules/",
    "SQLSTATE[",
];

fn talk(name: &str, site: &Site, facts: &Facts) -> Seen {
    let mut wrong = Vec::new();
    for answer in site.answers() {
        for header in ["server", "x-powered-by", "x-aspnet-version"] {
            let value = answer.header(header).filter(|value| value.bytes().any(|byte| byte.is_ascii_digit()));
            wrong.extend(value.map(|value| format!("{} names a version in {header}: {value}", answer.request)));
        }
        if answer.status < 400 {
            continue;
        }
        if let Some(inside) = INSIDE.iter().find(|inside| answer.body.contains(**inside)) {
            wrong.push(format!("{} shows where it failed: `{inside}`", answer.request));
        }
        if let Ok(secrets) = &facts.secrets {
            let held = held(secrets, &answer.body);
            wrong.extend(held.iter().map(|secret| format!("{} shows the value of `{secret}`", answer.request)));
        }
    }
    let trace = match &site.trace {
        Some(Ok(answer)) if (200..300).contains(&answer.status) => {
            wrong.push(format!("TRACE is answered with {}", answer.status));
            String::new()
        }
        Some(Ok(answer)) => format!("; TRACE is answered with {}", answer.status),
        Some(Err(why)) => format!("; TRACE is not answered ({why})"),
        None if wrong.is_empty() => return Seen::unknown(name, "TRACE was not asked"),
        None => String::new(),
    };
    wrong.dedup();
    match &facts.secrets {
        Err(why) if wrong.is_empty() => Seen::unknown(name, why),
        _ => Seen::judged(name, wrong, format!("{}{trace}", read(site))),
    }
}

fn wanted(facts: &Facts) -> Vec<Seen> {
    let wanted = &facts.security.headers;
    if wanted.is_empty() {
        return vec![Seen::idle("services", "`security.headers` wants none")];
    }
    each_site(facts, |name, site, facts| {
        let wanted = &facts.security.headers;
        let mut wrong = Vec::new();
        for answer in site.answers() {
            wrong.extend(wanted.iter().filter_map(|(header, wish)| missed(answer, header, wish)));
        }
        let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
        Seen::judged(name, wrong, format!("{} in {}", names.join(", "), read(site)))
    })
}

fn missed(answer: &Answer, header: &str, wish: &WantedHeader) -> Option<String> {
    let sent = answer.header(header).map(str::trim).filter(|value| !value.is_empty());
    match (sent, &wish.value) {
        (None, _) => Some(format!("{} has no {header} ({})", answer.request, wish.place)),
        (Some(sent), Some(value)) if !sent.eq_ignore_ascii_case(value) => {
            let sent: String = sent.chars().take(100).collect();
            Some(format!("{} has {header}: {sent}, and {} wants {value}", answer.request, wish.place))
        }
        _ => None,
    }
}

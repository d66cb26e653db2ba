//! What the site is told from outside: one TOML file and a few environment variables. The file says
//! what the site is, and is the same everywhere; the variables say where it runs.
//! Deliberately absent: defaults for the file's keys (a missing key is more often a mistake than a
//! wish) and reloading while running (a new configuration is a new container).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const WORKERS_AT_MOST: usize = 64;
const UPLOAD_AT_MOST: u64 = 64 * 1024 * 1024;

/// The keys of the file, all of them required.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteFile {
    pub title: String,
    pub listen: SocketAddr,
    pub articles_dir: PathBuf,
    pub page_ttl_seconds: u32,
    pub fragment_ttl_seconds: u32,
    pub upload_limit_bytes: u64,
}

#[derive(Debug)]
pub struct Config {
    pub site: SiteFile,
    pub cache: CacheAccess,
    pub upload_dir: PathBuf,
    /// `None` leaves the number to the runtime, which looks at the CPU quota.
    pub workers: Option<usize>,
}

/// Where Redis is and as whom to speak to it. The password stays in its file until it is needed.
#[derive(Debug)]
pub struct CacheAccess {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password_file: Option<PathBuf>,
}

impl Config {
    pub fn load(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let or = |name: &str, default: &str| variable(name).unwrap_or_else(|| default.to_string());
        let path = or("SITE_CONFIG", "/etc/site/site.toml");
        let text = read(Path::new(&path))?;
        let site = SiteFile::parse(&text).map_err(|error| format!("{path}: {error}"))?;

        let address = or("CACHE_ADDR", "");
        let wrong = || format!("CACHE_ADDR must be host:port, and is \"{address}\"");
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_matches(['[', ']']).to_string();
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() {
            return Err(wrong());
        }
        let password_file = variable("CACHE_PASSWORD_FILE").map(PathBuf::from);
        let cache = CacheAccess { host, port, user: or("CACHE_USER", "app"), password_file };

        let workers = match variable("WORKERS").map(|text| text.parse()) {
            None => None,
            Some(Ok(number)) if (1..=WORKERS_AT_MOST).contains(&number) => Some(number),
            Some(_) => return Err(format!("WORKERS must be from 1 to {WORKERS_AT_MOST}")),
        };
        Ok(Self { site, cache, upload_dir: or("UPLOAD_DIR", "/tmp/uploads").into(), workers })
    }
}

impl SiteFile {
    fn parse(text: &str) -> Result<Self, String> {
        let site: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {}", error.message())
        })?;
        if site.title.trim().is_empty() {
            return Err("title is empty".to_string());
        }
        if site.page_ttl_seconds == 0 || site.fragment_ttl_seconds == 0 {
            return Err("page_ttl_seconds and fragment_ttl_seconds must not be 0".to_string());
        }
        if !(1..=UPLOAD_AT_MOST).contains(&site.upload_limit_bytes) {
            return Err(format!("upload_limit_bytes must be from 1 to {UPLOAD_AT_MOST}"));
        }
        Ok(site)
    }
}

impl CacheAccess {
    /// Reads the file anew every time, so that a replaced password is found by the next connection.
    pub fn password(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let text = read(path).map_err(|error| format!("CACHE_PASSWORD_FILE: {error}"))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("CACHE_PASSWORD_FILE {} is empty", path.display())),
            password => Ok(Some(password.to_string())),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "title = \"Notes\"\nlisten = \"0.0.0.0:8080\"\n\
        articles_dir = \"/srv/articles\"\npage_ttl_seconds = 60\n\
        fragment_ttl_seconds = 10\nupload_limit_bytes = 1000\n";

    fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.toml");
        std::fs::write(&path, file).unwrap();
        Config::load(|name| match name {
            "SITE_CONFIG" => Some(path.display().to_string()),
            _ => variables.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_string()),
        })
    }

    #[test]
    fn a_whole_configuration_is_read() {
        let config = load(FILE, &[("CACHE_ADDR", "cache:6379"), ("WORKERS", "2")]).unwrap();
        assert_eq!((&*config.cache.host, config.cache.port), ("cache", 6379));
        assert_eq!((&*config.cache.user, config.workers), ("app", Some(2)));
        assert_eq!(config.upload_dir, Path::new("/tmp/uploads"));
        assert_eq!(config.site.page_ttl_seconds, 60);
        assert_eq!(load(FILE, &[("CACHE_ADDR", "[::1]:6379")]).unwrap().cache.host, "::1");
    }

    #[test]
    fn mistakes_are_named() {
        let at = ("CACHE_ADDR", "cache:6379");
        for (file, variables, part) in [
            (format!("{FILE}colour = 1\n"), &[at][..], "line 7: unknown field `colour`"),
            (FILE.replace("title = \"Notes\"\n", ""), &[at], "missing field `title`"),
            (FILE.replace("= 1000", "= 0"), &[at], "upload_limit_bytes"),
            (FILE.replace("= 60", "= 0"), &[at], "page_ttl_seconds"),
            (FILE.to_string(), &[], "CACHE_ADDR"),
            (FILE.to_string(), &[("CACHE_ADDR", "cache")], "CACHE_ADDR"),
            (FILE.to_string(), &[("CACHE_ADDR", ":6379")], "CACHE_ADDR"),
            (FILE.to_string(), &[at, ("WORKERS", "0")], "WORKERS"),
        ] {
            let error = load(&file, variables).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_password_loses_its_newline_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = load(FILE, &[("CACHE_ADDR", "cache:6379")]).unwrap();
        config.cache.password_file = Some(file.path().to_path_buf());
        std::fs::write(file.path(), " se cret\n").unwrap();
        assert_eq!(config.cache.password().unwrap().unwrap(), " se cret");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(config.cache.password().is_err());
    }
}

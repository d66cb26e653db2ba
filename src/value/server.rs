//! Which server an image holds: `redis 7.0.15`, `valkey 8.1.1`.

use std::fmt;

/// The two lines of servers. In a snapshot, Valkey up to 8 signs as Redis.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    Redis,
    Valkey,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Redis => "redis",
            Family::Valkey => "valkey",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServerVersion {
    pub family: Family,
    pub version: (u16, u16, u16),
}

impl ServerVersion {
    /// The oldest server that lockstep works with; what is assumed of an image that does not say.
    pub const OLDEST: ServerVersion = ServerVersion { family: Family::Redis, version: (6, 0, 0) };

    pub fn parse(text: &str) -> Option<ServerVersion> {
        let (family, version) = text.trim().split_once(' ')?;
        let family = match family {
            "redis" => Family::Redis,
            "valkey" => Family::Valkey,
            _ => return None,
        };
        let mut parts = version.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..digits)?.parse::<u16>().ok()
        });
        let major = parts.next()??;
        let minor = parts.next().flatten().unwrap_or(0);
        Some(ServerVersion { family, version: (major, minor, parts.next().flatten().unwrap_or(0)) })
    }

    /// The version of the snapshots it writes (`RDB_VERSION` in `rdb.h` of each release).
    pub fn rdb_version(self) -> u32 {
        match (self.family, self.version) {
            (Family::Redis, (..=6, _, _)) => 9,
            (Family::Redis, (7, 0..=1, _)) => 10,
            (Family::Redis, (7, 2..=3, _)) | (Family::Valkey, (..=8, _, _)) => 11,
            (Family::Redis, (7, _, _) | (8, 0..=5, _)) => 12,
            (Family::Redis, (8, 6..=7, _)) => 13,
            (Family::Redis, (8, 8..=9, _)) => 14,
            (Family::Redis, _) => 15,
            (Family::Valkey, _) => 80,
        }
    }

    /// Whether it can load the data that `other` wrote.
    pub fn reads_data_of(self, other: ServerVersion) -> bool {
        self.reads_snapshot(other.family, other.rdb_version())
    }

    /// Whether it can load a snapshot of this version. Above 11 the two families went apart.
    pub fn reads_snapshot(self, family: Family, version: u32) -> bool {
        self.rdb_version() >= version && (self.family == family || version <= 11)
    }

    /// Whether the fields of its hashes can have an expiry of their own.
    pub fn expires_fields(self) -> bool {
        match self.family {
            Family::Redis => self.version >= (7, 4, 0),
            Family::Valkey => self.version >= (9, 0, 0),
        }
    }

    /// Whether it understands what Redis understood from `major.minor` on.
    ///
    /// Valkey is counted as Redis 7.2, from which it was forked, whatever its own number.
    pub fn speaks(self, major: u16, minor: u16) -> bool {
        let (own_major, own_minor) = match self.family {
            Family::Redis => (self.version.0, self.version.1),
            Family::Valkey => (7, 2),
        };
        (own_major, own_minor) >= (major, minor)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{} {major}.{minor}.{patch}", self.family)
    }
}

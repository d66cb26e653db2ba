//! Data of every type in every encoding that a server has.
//!
//! The thresholds between encodings are set while filling, so that small values reach all of them.

use super::{Redis, noise};
use ::redis::Value as Reply;
use std::collections::{BTreeMap, BTreeSet};

/// What the keys of one fixture have in common.
pub const FAMILIES: [&str; 10] =
    ["strings", "lists", "sets", "zsets", "hashes", "streams", "functions", "expiries", "names", "databases"];

/// Two instants that no test lives to see, in milliseconds since 1970: in 2100 and in 9999.
const FAR: i64 = 4_102_444_800_123;
const FARTHER: i64 = 253_402_300_799_999;
/// The last one that Redis allows for a field of a hash.
const FARTHEST_FIELD: i64 = (1 << 46) - 1;

const NUMBERS: [i64; 18] = [
    0,
    -1,
    12,
    13,
    127,
    -128,
    128,
    4095,
    -4097,
    32_767,
    -32_768,
    32_768,
    8_388_607,
    -8_388_609,
    2_147_483_647,
    -2_147_483_649,
    i64::MAX,
    i64::MIN,
];

/// The encodings that a server's version makes possible.
#[derive(Clone, Copy)]
struct Knows {
    /// `ziplist` before 7.0.
    packed: &'static str,
    functions: bool,
    /// Lists and sets that are one listpack.
    packed_lists: bool,
    field_expiry: bool,
    /// Redis keeps a small hash whose fields expire in a listpack of its own.
    packed_field_expiry: bool,
    create_consumer: bool,
    set_stream_counts: bool,
    /// Entries that a producer may send again.
    idempotent_entries: bool,
}

impl Knows {
    /// Of `redis:6.2` or `valkey:9.0`.
    fn of(server: &str) -> Knows {
        let (family, version) = server.rsplit('/').next().unwrap_or_default().split_once(':').expect("a server");
        let (major, minor) = version.split_once('.').expect("a version");
        let version: (u32, u32) = (major.parse().expect("a number"), minor.parse().expect("a number"));
        let valkey = family == "valkey";
        Knows {
            packed: if valkey || version >= (7, 0) { "listpack" } else { "ziplist" },
            functions: valkey || version >= (7, 0),
            packed_lists: valkey || version >= (7, 2),
            field_expiry: version >= if valkey { (9, 0) } else { (7, 4) },
            packed_field_expiry: !valkey && version >= (7, 4),
            create_consumer: valkey || version >= (6, 2),
            set_stream_counts: valkey || version >= (7, 0),
            idempotent_entries: !valkey && version >= (8, 6),
        }
    }

    /// What `OBJECT ENCODING` has to say of some key each, as `type encoding`.
    fn encodings(self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = ["string int", "string embstr", "string raw"]
            .into_iter()
            .chain([
                "list quicklist",
                "set intset",
                "set hashtable",
                "zset skiplist",
                "hash hashtable",
                "stream stream",
            ])
            .map(str::to_owned)
            .collect();
        all.insert(format!("zset {}", self.packed));
        all.insert(format!("hash {}", self.packed));
        if self.packed_lists {
            all.extend(["list listpack".to_owned(), "set listpack".to_owned()]);
        }
        if self.packed_field_expiry {
            all.insert("hash listpackex".to_owned());
        }
        all
    }
}

/// Everything, large values included, in the databases 0, 1, 9 and 15 of an empty server. `server` is a tag as
/// `redis:6.2`. Panics unless every encoding that this server has is there.
#[track_caller]
pub fn fill(redis: &mut Redis, server: &str) {
    let mut writer = Writer { redis, knows: Knows::of(server) };
    for family in FAMILIES {
        writer.family(family);
    }
    writer.large();
    let mut found = writer.encodings();
    writer.say("SELECT 15");
    writer.streams();
    found.extend(writer.encodings());
    writer.say("SELECT 0");
    assert_eq!(found, writer.knows.encodings(), "encodings on {server}");
}

/// One family of small values in database 0; what [`FAMILIES`] names. False where the server has nothing of it.
#[track_caller]
pub fn fill_family(redis: &mut Redis, server: &str, family: &str) -> bool {
    Writer { redis, knows: Knows::of(server) }.family(family)
}

/// Two keys that were not used for long, or very much. Needs a policy that looks at it.
#[track_caller]
pub fn fill_usage(redis: &mut Redis) {
    redis.send(&[b"SET", b"used:now", b"text"]);
    let Reply::BulkString(dump) = redis.send(&[b"DUMP", b"used:now"]) else { panic!("a key to dump") };
    let used: [(&[u8], [&[u8]; 2]); 2] = if redis.config("maxmemory-policy").ends_with("lfu") {
        [(b"used:little", [b"FREQ", b"0"]), (b"used:much", [b"FREQ", b"255"])]
    } else {
        [(b"used:a day ago", [b"IDLETIME", b"86400"]), (b"used:an hour ago", [b"IDLETIME", b"3600"])]
    };
    for (key, [attribute, value]) in used {
        redis.send(&[b"RESTORE", key, b"0", &dump, attribute, value]);
    }
}

struct Writer<'r> {
    redis: &'r mut Redis,
    knows: Knows,
}

impl Writer<'_> {
    #[track_caller]
    fn family(&mut self, family: &str) -> bool {
        match family {
            "strings" => self.strings(),
            "lists" => self.lists(),
            "sets" => self.sets(),
            "zsets" => self.zsets(),
            "hashes" => self.hashes(),
            "streams" => self.streams(),
            "functions" if !self.knows.functions => return false,
            "functions" => self.functions(),
            "expiries" => self.expiries(),
            "names" => self.names(),
            "databases" => self.databases(),
            family => panic!("no family of keys: {family}"),
        }
        true
    }

    #[track_caller]
    fn send(&mut self, words: &[&[u8]]) -> Reply {
        self.redis.send(words)
    }

    /// A command whose words hold no spaces.
    #[track_caller]
    fn say(&mut self, command: &str) -> Reply {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.redis.send(&words)
    }

    /// A command on a key with many arguments, in portions that a server takes well.
    #[track_caller]
    fn many(&mut self, command: &str, key: &str, arguments: &[Vec<u8>]) {
        for arguments in arguments.chunks(1000) {
            let mut words: Vec<&[u8]> = vec![command.as_bytes(), key.as_bytes()];
            words.extend(arguments.iter().map(Vec::as_slice));
            self.redis.send(&words);
        }
    }

    /// Sets a threshold under the name that the server has for it, and returns what it was.
    #[track_caller]
    fn set(&mut self, setting: &str, value: &str) -> String {
        let setting = if setting.starts_with("list-") {
            setting.replace("listpack", if self.knows.packed == "ziplist" { "ziplist" } else { "listpack" })
        } else {
            setting.replace("listpack", self.knows.packed)
        };
        let before = self.redis.config(&setting);
        self.say(&format!("CONFIG SET {setting} {value}"));
        before
    }

    /// As [`Writer::set`], for as long as `write` takes.
    #[track_caller]
    fn with(&mut self, setting: &str, value: &str, write: impl FnOnce(&mut Self)) {
        let before = self.set(setting, value);
        write(self);
        self.set(setting, &before);
    }

    /// `type encoding` of every key of the selected database.
    fn encodings(&mut self) -> BTreeSet<String> {
        let Reply::Array(keys) = self.say("KEYS *") else { panic!("KEYS answers with keys") };
        let mut found = BTreeSet::new();
        for key in keys {
            let Reply::BulkString(key) = key else { panic!("a key is a string") };
            let kind = self.send(&[b"TYPE", &key]);
            let encoding = self.send(&[b"OBJECT", b"ENCODING", &key]);
            let (Reply::SimpleString(kind), Reply::BulkString(encoding)) = (kind, encoding) else {
                panic!("two words on {}", key.escape_ascii());
            };
            found.insert(format!("{kind} {}", encoding.escape_ascii()));
        }
        found
    }

    fn strings(&mut self) {
        for number in NUMBERS {
            self.say(&format!("SET string:{number} {number}"));
        }
        // Close to numbers, and none that may be stored as one.
        for text in ["00123", "+5", "-0", "1.0", "18446744073709551615", "9223372036854775808", "-", "0x10"] {
            self.say(&format!("SET string:text:{text} {text}"));
        }
        // A number that came about as text.
        self.say("SET string:joined 12");
        self.say("APPEND string:joined 34");
        self.send(&[b"SET", b"string:empty", b""]);
        self.send(&[b"SET", b"string:space", b" 1"]);
        let every: Vec<u8> = (0..=255).collect();
        self.send(&[b"SET", b"string:every byte", &every]);
        self.send(&[b"SET", b"string:zero bytes", &[0; 40]]);
        self.send(&[b"SET", b"string:high bytes", &[0xff; 3]]);
        // Around the ends of the forms that a length has, and of what is worth compressing.
        for length in [1, 19, 20, 21, 44, 45, 63, 64, 300] {
            self.send(&[b"SET", format!("string:noise:{length}").as_bytes(), &noise(length)]);
            self.send(&[b"SET", format!("string:same:{length}").as_bytes(), &vec![b's'; length]]);
        }
        self.send(&[b"SET", b"string:repeated", "one two three ".repeat(40).as_bytes()]);
        self.send(&[b"SET", b"string:long run", &vec![b'x'; 20_000]]);
        self.say("SETBIT bits:sparse 10000 1");
        self.say("SETBIT bits:short 7 1");
        self.say("BITFIELD bits:field SET u8 0 200 SET i16 #3 -300");
        self.say("PFADD hll:sparse a b c d e f");
        self.with("hll-sparse-max-bytes", "0", |writer| {
            writer.say("PFADD hll:dense a b c d e f g");
        });
        self.say("PFADD hll:empty");
    }

    fn mixed(&self) -> Vec<Vec<u8>> {
        let mut elements: Vec<Vec<u8>> = NUMBERS.iter().map(|number| number.to_string().into_bytes()).collect();
        elements.extend([&b""[..], b"text", b"00", b"\0\xff\r\n", b"caf\xc3\xa9"].map(<[u8]>::to_vec));
        // Around the ends of the forms that an element has. One that is long makes the next one's way back long.
        elements.extend([63, 64, 253, 254, 255].map(noise));
        elements.push(b"after a long one".to_vec());
        elements
    }

    fn lists(&mut self) {
        self.say("RPUSH list:one a");
        let mixed = self.mixed();
        self.with("list-max-listpack-size", "-2", |writer| writer.many("RPUSH", "list:packed", &mixed));
        self.with("list-max-listpack-size", "4", |writer| {
            writer.many("RPUSH", "list:nodes", &mixed);
            let numbered: Vec<Vec<u8>> = (0..40).map(|n| format!("element {n} of many").into_bytes()).collect();
            writer.many("RPUSH", "list:changed", &numbered);
            writer.say("LPOP list:changed");
            writer.say("RPOP list:changed");
            for element in ["3", "17", "18"] {
                writer.send(&[b"LREM", b"list:changed", b"0", format!("element {element} of many").as_bytes()]);
            }
            writer.send(&[b"LINSERT", b"list:changed", b"BEFORE", b"element 20 of many", b"between"]);
            writer.send(&[b"LSET", b"list:changed", b"5", b"other"]);
        });
        self.with("list-max-listpack-size", "10", |writer| {
            writer.with("list-compress-depth", "1", |writer| {
                let lines: Vec<Vec<u8>> =
                    (0..24).map(|n| format!("{n} {}", "again, ".repeat(9)).into_bytes()).collect();
                writer.many("RPUSH", "list:compressed", &lines);
            });
        });
        // Between small elements one that no node shares with others.
        self.plain_nodes(|writer| {
            for element in [&b"before"[..], &[b'h'; 12_000], b"after", &[b'H'; 12_000]] {
                writer.send(&[b"RPUSH", b"list:plain", element]);
            }
            writer.send(&[b"RPUSH", b"list:only plain", &[b'p'; 12_000]]);
        });
        if self.knows.functions {
            // Of the form of a list with one node that is one element there is no other sign.
            let Reply::BulkString(dump) = self.send(&[b"DUMP", b"list:only plain"]) else { panic!("a key to dump") };
            assert_eq!(dump[..3], [18, 1, 1], "a list in a plain node");
        }
    }

    /// 7.0 makes such nodes for elements of a gigabyte only, unless told otherwise.
    fn plain_nodes(&mut self, write: impl FnOnce(&mut Self)) {
        let lowered = self.knows.functions && !self.knows.packed_lists;
        if lowered {
            self.say("DEBUG QUICKLIST-PACKED-THRESHOLD 10000");
        }
        write(self);
        if lowered {
            self.say("DEBUG QUICKLIST-PACKED-THRESHOLD 0");
        }
    }

    fn sets(&mut self) {
        self.say("SADD set:ints:16 1 -2 300 -32768 32767");
        self.say("SADD set:ints:32 1 -2 32768 -2147483648 2147483647");
        self.say("SADD set:ints:64 1 -2 2147483648 -9223372036854775808 9223372036854775807");
        let mixed = self.mixed();
        let short: Vec<Vec<u8>> = mixed.iter().filter(|member| member.len() <= 64).cloned().collect();
        self.many("SADD", "set:short", &short);
        self.many("SADD", "set:mixed", &mixed);
        self.with("set-max-intset-entries", "4", |writer| {
            writer.say("SADD set:numbers 1 2 3 4 5 600000 -7");
            let numbers: Vec<Vec<u8>> = (0..200).map(|n| (n * 3).to_string().into_bytes()).collect();
            writer.many("SADD", "set:many numbers", &numbers);
        });
        self.say("SADD set:one member");
    }

    fn zsets(&mut self) {
        let scores = [
            "0",
            "-0",
            "1",
            "-1",
            "7",
            "300",
            "70000",
            "-5000000000",
            "0.1",
            "-0.1",
            "2.5",
            "1e300",
            "-1e300",
            "5e-324",
            "inf",
            "-inf",
            "3.141592653589793",
            "9007199254740993",
            "9223372036854775807",
            "1e17",
            "123456789.125",
        ];
        let scored: Vec<Vec<u8>> =
            scores.iter().flat_map(|score| [score, score]).map(|s| s.as_bytes().to_vec()).collect();
        self.many("ZADD", "zset:packed", &scored);
        self.with("zset-max-listpack-entries", "2", |writer| writer.many("ZADD", "zset:skiplist", &scored));
        self.say("ZADD zset:ties 1 c 1 a 1 b 1 10 1 9 2 a-");
        self.send(&[b"ZADD", b"zset:odd", b"1", b"", b"2", b"\0\xff", b"3", b"12", b"4", b"-7"]);
        self.send(&[b"ZADD", b"zset:long member", b"1.5", &noise(300), b"2", b"short"]);
        self.say("GEOADD geo:places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania -0.1276 51.5072 London");
    }

    fn hashes(&mut self) {
        self.say("HSET hash:packed a 1 b 2 c -300 d text e 0.5 12 number 70000 -70000");
        self.send(&[b"HSET", b"hash:odd", b"", b"empty name", b"empty value", b"", b"\0\xff", b"\xff\0"]);
        self.send(&[b"HSET", b"hash:long", b"noise", &noise(300), b"run", &[b'r'; 1000], b"n", b"9"]);
        let pairs: Vec<Vec<u8>> =
            (0..30).flat_map(|n| [format!("field {n}"), format!("value {n}")]).map(String::into_bytes).collect();
        self.many("HSET", "hash:full", &pairs);
        self.with("hash-max-listpack-entries", "8", |writer| writer.many("HSET", "hash:table", &pairs));
        if !self.knows.field_expiry {
            return;
        }
        self.say("HSET hash:expiring a 1 b 2 c 3 d 4 12 5");
        self.say(&format!("HPEXPIREAT hash:expiring {FAR} FIELDS 2 b 12"));
        self.say(&format!("HPEXPIREAT hash:expiring {FARTHEST_FIELD} FIELDS 1 c"));
        self.say("HSET hash:all a 1");
        self.say(&format!("HPEXPIREAT hash:all {FAR} FIELDS 1 a"));
        // Its fields expired once, and do not any more.
        self.say("HSET hash:kept a 1 b 2");
        self.say(&format!("HPEXPIREAT hash:kept {FAR} FIELDS 1 a"));
        self.say("HPERSIST hash:kept FIELDS 1 a");
        self.with("hash-max-listpack-entries", "8", |writer| {
            writer.many("HSET", "hash:expiring table", &pairs);
            for (number, at) in [(3, FAR), (4, FAR + 1), (29, FAR + 70_000_000)] {
                let (at, field) = (at.to_string(), format!("field {number}"));
                let words = ["HPEXPIREAT", "hash:expiring table", &at, "FIELDS", "1", &field].map(str::as_bytes);
                writer.send(&words);
            }
        });
    }

    fn streams(&mut self) {
        self.say("XGROUP CREATE stream:empty waiting $ MKSTREAM");
        self.say("XADD stream:emptied 5-1 a 1");
        self.say("XDEL stream:emptied 5-1");
        self.say("XADD stream:one 1-1 field value");
        self.with("stream-node-max-entries", "7", |writer| {
            for n in 1..=40 {
                // Most entries repeat the fields of the first one of their node, some do not.
                let fields = match n % 5 {
                    0 => format!("temperature {n} humidity {} remark none", n * 2),
                    4 => format!("humidity {n} temperature {n}"),
                    _ => format!("temperature {n} humidity -{}", n * 1000),
                };
                writer.say(&format!("XADD stream:nodes {}-{} {fields}", 1000 + n / 3 * 70_000, n % 3));
            }
            for n in [1, 2, 17, 40] {
                writer.say(&format!("XDEL stream:nodes {}-{}", 1000 + n / 3 * 70_000, n % 3));
            }
        });
        self.send(&[
            b"XADD",
            b"stream:odd",
            b"18446744073709551615-1",
            b"",
            b"",
            b"\0\xff",
            &[b'v'; 300],
            b"12",
            b"-7",
        ]);
        self.say("XADD stream:high 7-18446744073709551614 a 1");
        self.say("XADD stream:high 7-18446744073709551615 a 2");

        for n in 1..=20 {
            self.say(&format!("XADD stream:groups {n}-0 job {n}"));
        }
        self.say("XGROUP CREATE stream:groups workers 0");
        self.say("XGROUP CREATE stream:groups late 7-0");
        self.say("XGROUP CREATE stream:groups idle $");
        self.send(&[b"XGROUP", b"CREATE", b"stream:groups", b"odd \0\xff", b"3-0"]);
        self.say("XREADGROUP GROUP workers alice COUNT 6 STREAMS stream:groups >");
        self.say("XREADGROUP GROUP workers bob COUNT 4 STREAMS stream:groups >");
        self.send(&[
            b"XREADGROUP",
            b"GROUP",
            b"workers",
            b"\xffcarol",
            b"COUNT",
            b"1",
            b"STREAMS",
            b"stream:groups",
            b">",
        ]);
        self.say("XREADGROUP GROUP workers dave COUNT 2 NOACK STREAMS stream:groups >");
        self.say("XREADGROUP GROUP late erin COUNT 1 STREAMS stream:groups >");
        self.say("XACK stream:groups workers 2-0 3-0 8-0");
        // Delivered again, by hand: with a count and a time of its own.
        self.say("XCLAIM stream:groups workers bob 0 4-0 TIME 1600000000123 RETRYCOUNT 9");
        self.say("XREADGROUP GROUP workers alice STREAMS stream:groups 0");
        // Gone from the stream, and still pending.
        self.say("XDEL stream:groups 5-0");
        if self.knows.create_consumer {
            self.say("XGROUP CREATECONSUMER stream:groups workers frank");
            self.say("XGROUP CREATECONSUMER stream:groups idle grace");
        } else {
            self.say("XREADGROUP GROUP idle grace STREAMS stream:groups >");
        }
        self.say("XADD stream:trimmed 1-0 a 1");
        self.say("XADD stream:trimmed 2-0 a 2");
        self.say("XADD stream:trimmed MAXLEN 1 3-0 a 3");
        self.say("XADD stream:moved 1-0 a 1");
        self.say("XSETID stream:moved 90-3");
        if self.knows.set_stream_counts {
            self.say("XADD stream:counted 1-0 a 1");
            self.say("XSETID stream:counted 90-3 ENTRIESADDED 1000 MAXDELETEDID 80-2");
            self.say("XGROUP CREATE stream:counted told 1-0 ENTRIESREAD 999");
            self.say("XGROUP CREATE stream:counted untold 1-0");
        }
        if self.knows.idempotent_entries {
            self.say("XADD stream:idempotent 1-1 a 0");
            // What is known of producers is forgotten when this changes.
            self.say("XCFGSET stream:idempotent IDMP-DURATION 3600 IDMP-MAXSIZE 10");
            self.say("XADD stream:idempotent IDMP producer first * a 1");
            self.say("XADD stream:idempotent IDMP producer first * a 1");
            self.say("XADD stream:idempotent IDMP producer second * a 2");
            self.say("XADD stream:idempotent IDMPAUTO other * a 3");
        }
    }

    fn functions(&mut self) {
        let counter = "#!lua name=counter\nredis.register_function('count', function(keys) return redis.call('INCR', keys[1]) end)\n";
        self.send(&[b"FUNCTION", b"LOAD", counter.as_bytes()]);
        let many: String = (0..20)
            .map(|n| {
                format!("redis.register_function{{function_name='f{n}', callback=function() return {n} end, flags={{'no-writes'}}}}\n")
            })
            .collect();
        self.send(&[b"FUNCTION", b"LOAD", format!("#!lua name=many\n-- caf\u{e9}\n{many}").as_bytes()]);
        self.say("FCALL count 1 counted");
    }

    fn expiries(&mut self) {
        for (key, make) in [
            ("expiring:string", "SET expiring:string text"),
            ("expiring:number", "SET expiring:number 12"),
            ("expiring:list", "RPUSH expiring:list a b"),
            ("expiring:set", "SADD expiring:set a b"),
            ("expiring:ints", "SADD expiring:ints 1 2"),
            ("expiring:zset", "ZADD expiring:zset 1 a 2 b"),
            ("expiring:hash", "HSET expiring:hash a 1 b 2"),
            ("expiring:stream", "XADD expiring:stream 1-1 a 1"),
        ] {
            self.say(make);
            self.say(&format!("PEXPIREAT {key} {FAR}"));
        }
        self.say("SET expiring:later text");
        self.say(&format!("PEXPIREAT expiring:later {FARTHER}"));
        self.say("SET expiring:second text");
        self.say(&format!("EXPIREAT expiring:second {}", FAR / 1000));
        self.say("SET expiring:never text");
    }

    fn names(&mut self) {
        self.send(&[b"SET", b"", b"no name"]);
        for name in [
            &b"\0"[..],
            b"\xff\xfe",
            b"with space",
            b"line\r\nline",
            b"12",
            b"-7",
            b"99999",
            b"4000000000",
            b"caf\xc3\xa9",
        ] {
            self.send(&[b"SET", name, b"1"]);
        }
        let every: Vec<u8> = (0..=255).collect();
        self.send(&[b"HSET", &every, b"a", b"1"]);
        self.send(&[b"RPUSH", "long:".repeat(100).as_bytes(), b"a"]);
        self.send(&[b"SADD", &noise(70), b"a"]);
    }

    fn databases(&mut self) {
        for database in ["1", "9", "15"] {
            self.say(&format!("SELECT {database}"));
            self.expiries();
            // The same names as in database 0, with other values.
            self.say(&format!("SET string:0 {database}"));
            self.say("RPUSH list:one elsewhere");
        }
        self.say("SELECT 0");
    }

    /// What is too large for a fixture.
    fn large(&mut self) {
        for (key, length) in [("16383", 16_383), ("16384", 16_384), ("70 KB", 70_000), ("1 MB", 1 << 20)] {
            self.send(&[b"SET", format!("large:noise:{key}").as_bytes(), &noise(length)]);
            let text = format!("<p>paragraph of {key}</p>\n").repeat(length / 20);
            self.send(&[b"SET", format!("large:text:{key}").as_bytes(), text.as_bytes()]);
        }
        self.send(&[b"SET", &noise(70_000), b"noise as a name"]);
        self.send(&[b"SET", "long name ".repeat(7_000).as_bytes(), b"text as a name"]);
        self.send(&[b"RPUSH", b"large:list:elements", b"small", &noise(70_000), b"small", &vec![b'l'; 1 << 20]]);
        self.send(&[b"HSET", b"large:hash:value", b"small", b"1", b"noise", &noise(70_000), &noise(20_000), b"name"]);
        self.send(&[b"XADD", b"large:stream:entry", b"1-1", b"noise", &noise(20_000)]);

        let words: Vec<Vec<u8>> = (0..20_000).map(|n| format!("{n} of many").into_bytes()).collect();
        self.many("RPUSH", "large:list", &words);
        self.many("SADD", "large:set", &words[..5_000]);
        let pairs: Vec<Vec<u8>> = words[..5_000]
            .iter()
            .enumerate()
            .flat_map(|(n, word)| [format!("{n}.25").into_bytes(), word.clone()])
            .collect();
        self.many("ZADD", "large:zset", &pairs);
        self.many("HSET", "large:hash", &pairs);
        let numbers: Vec<Vec<u8>> = (0..500_i64).map(|n| (n * n * n).to_string().into_bytes()).collect();
        self.many("SADD", "large:intset", &numbers);
        for n in 1..=1_000 {
            self.say(&format!("XADD large:stream {n}-0 number {n} square {}", n * n));
        }
        // One node with more elements than its own count can tell.
        self.with("stream-node-max-bytes", "0", |writer| {
            writer.with("stream-node-max-entries", "0", |writer| {
                for n in 1..=12_000 {
                    writer.say(&format!("XADD large:stream:node {n}-0 a {n} b {n} c {n}"));
                }
            });
        });
        self.say("XGROUP CREATE large:stream all 0");
        self.say("XREADGROUP GROUP all one COUNT 700 STREAMS large:stream >");
        self.say("XREADGROUP GROUP all two COUNT 200 STREAMS large:stream >");
        for n in 0..500 {
            self.say(&format!("SET many:{n} {n}"));
        }
    }
}

/// Keys by database and type, as a walk counts them.
pub fn counts(contents: &super::typed::Contents) -> BTreeMap<u64, BTreeMap<&'static str, u64>> {
    let mut counts: BTreeMap<u64, BTreeMap<&'static str, u64>> = BTreeMap::new();
    for ((database, _), typed) in contents {
        *counts.entry(u64::from(*database)).or_default().entry(typed.value.kind()).or_default() += 1;
    }
    counts
}

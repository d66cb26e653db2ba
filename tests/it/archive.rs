//! Files on their way into volumes and back.

use std::collections::BTreeMap;
use std::io::Read as _;

use lockstep::engine::archive::{self, Lying, Write, pack};
use lockstep::state::File;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

type Files = BTreeMap<String, File>;
/// Path, owner, mode, and where a link leads.
type Entry = (String, (u64, u64), u32, Option<String>);

fn write<'a>(volume: &'a str, files: &'a Files) -> Write<'a> {
    Write::Files { volume, files, stale: &[] }
}

fn lying(tar: &[u8]) -> std::io::Result<BTreeMap<String, Lying>> {
    archive::unpack(tar, "v", None)
}

/// The files in force, by volume.
fn unpack(tar: &[u8]) -> std::io::Result<BTreeMap<String, Files>> {
    Ok(lying(tar)?.into_iter().map(|(volume, lying)| (volume, lying.files)).collect())
}

fn file(content: &str) -> File {
    File { content: content.as_bytes().to_vec(), secret: false, mode: 0o440, owner: (999, 999) }
}

/// What an archive of the folder of all volumes says.
fn read(tar: &[u8]) -> BTreeMap<String, Lying> {
    lying(tar).expect("it unpacks")
}

/// What is read back, as if all of it may be shown.
fn round(volumes: &BTreeMap<&str, Files>, revision: &str) -> BTreeMap<String, Files> {
    let writes: Vec<Write<'_>> = volumes.iter().map(|(volume, files)| write(volume, files)).collect();
    let back = read(&pack(&writes, revision).expect("files pack"));
    let shown = |(volume, lying): (String, Lying)| {
        assert_eq!(lying.stale, Vec::<String>::new());
        let files = lying.files.into_iter().map(|(path, file)| {
            assert!(file.secret, "nothing that was read back may be shown before the spec says so");
            (path, File { secret: false, ..file })
        });
        (volume, files.collect())
    };
    back.into_iter().map(shown).collect()
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let link = entry.link_name().expect("a name").map(|link| link.to_string_lossy().into_owned());
            let header = entry.header();
            let owner = (header.uid().expect("a user"), header.gid().expect("a group"));
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            (path, owner, header.mode().expect("a mode"), link)
        })
        .collect()
}

#[test]
fn the_link_that_puts_files_in_force_is_written_last() {
    let files = Files::from([("redis.conf".to_owned(), file("a")), ("users.acl".to_owned(), file("b"))]);
    let tar = pack(&[write("cache.etc.redis", &files)], "r1").expect("files pack");
    let entries = entries(&tar);
    let (path, _, _, link) = entries.last().expect("an entry");
    assert_eq!((path.as_str(), link.as_deref()), ("v/cache.etc.redis/current", Some("r/r1")));
    let links: Vec<_> =
        entries.iter().filter_map(|(path, _, _, link)| Some((path.as_str(), link.as_deref()?))).collect();
    assert!(links.contains(&("v/cache.etc.redis/redis.conf", "current/redis.conf")));
}

#[test]
fn files_belong_to_their_service_and_folders_to_root() {
    let own = File { mode: 0o400, owner: (0, 0), ..file("password") };
    let files = Files::from([("lockstep.password".to_owned(), own), ("redis.conf".to_owned(), file("a"))]);
    let tar = pack(&[write("cache.etc.redis", &files)], "r1").expect("files pack");
    for (path, owner, mode, _) in entries(&tar) {
        let expected = match path.rsplit('/').next() {
            Some("lockstep.password") if path.contains("/r/") => ((0, 0), 0o400),
            Some("redis.conf") if path.contains("/r/") => ((999, 999), 0o440),
            // The service reaches its files through its group, and can change none of them.
            Some("") => ((0, 999), 0o750),
            _ => ((0, 0), 0o777),
        };
        assert_eq!((owner, mode), expected, "{path}");
    }
}

#[test]
fn a_data_volume_is_given_to_its_server_and_holds_nothing() {
    let tar = pack(&[Write::Data { volume: "cache.data", owner: (999, 999) }], "r1").expect("a folder packs");
    assert_eq!(entries(&tar), [("d/cache.data/".to_owned(), (999, 999), 0o700, None)]);
}

#[test]
fn only_the_revision_in_force_is_read_back() {
    let (old, new) = (Files::from([("a".to_owned(), file("old"))]), Files::from([("a".to_owned(), file("new"))]));
    let packed = |files, revision| pack(&[write("web.etc.web", files)], revision).expect("files pack");
    let both = over(&[packed(&old, "r1"), packed(&new, "r2")]);
    let back = unpack(&both).expect("it unpacks");
    assert_eq!(back["web.etc.web"]["a"].content, b"new");
    assert_eq!(back["web.etc.web"].len(), 1);
}

/// Archives one over the other, as they come to lie in a volume.
fn over(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut both = tar::Builder::new(Vec::new());
    for part in parts {
        let mut archive = tar::Archive::new(part.as_slice());
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            let mut header = entry.header().clone();
            match entry.link_name().expect("a name") {
                Some(link) => both.append_link(&mut header, entry.path().expect("a path"), link).expect("a link"),
                None => {
                    both.append_data(&mut header, entry.path().expect("a path"), content.as_slice()).expect("a file")
                }
            }
        }
    }
    both.into_inner().expect("an archive")
}

#[test]
fn what_an_older_revision_holds_is_known_and_emptied_by_the_next_write() {
    let (old, new) = (Files::from([("a".to_owned(), file("old"))]), Files::from([("a".to_owned(), file("new"))]));
    let packed = |files, revision| pack(&[write("web.run.secrets", files)], revision).expect("files pack");
    let both = over(&[packed(&old, "r1"), packed(&new, "r2")]);
    let stale = lying(&both).expect("it unpacks")["web.run.secrets"].stale.clone();
    assert_eq!(stale, ["r/r1/a"]);
    let next =
        pack(&[Write::Files { volume: "web.run.secrets", files: &new, stale: &stale }], "r3").expect("files pack");
    let mut emptied = 0;
    for entry in tar::Archive::new(next.as_slice()).entries().expect("an archive") {
        let entry = entry.expect("an entry");
        if entry.path().expect("a path").ends_with("r/r1/a") {
            assert_eq!(entry.size(), 0);
            emptied += 1;
        }
    }
    assert_eq!(emptied, 1);
}

#[test]
fn a_file_in_the_place_of_a_link_is_what_counts() {
    let files = Files::from([("redis.conf".to_owned(), file("ours"))]);
    let ours = pack(&[write("cache.etc.redis", &files)], "r1").expect("files pack");
    let mut theirs = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o644);
    theirs.append_data(&mut header, "v/cache.etc.redis/redis.conf", b"theirs".as_slice()).expect("a file");
    let back = unpack(&over(&[ours, theirs.into_inner().expect("an archive")])).expect("it unpacks");
    assert_eq!(back["cache.etc.redis"]["redis.conf"].content, b"theirs");
}

/// A file or a link of somebody else's, over what is ours.
fn planted(path: &str, content: &str, link: bool) -> Vec<u8> {
    let files = Files::from([("site.toml".to_owned(), file("ours"))]);
    let ours = pack(&[write("web.etc.site", &files)], "r1").expect("files pack");
    let mut theirs = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o644);
    if link {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        theirs.append_link(&mut header, format!("v/web.etc.site/{path}"), content).expect("a link");
    } else {
        header.set_size(content.len() as u64);
        theirs.append_data(&mut header, format!("v/web.etc.site/{path}"), content.as_bytes()).expect("a file");
    }
    over(&[ours, theirs.into_inner().expect("an archive")])
}

#[test]
fn a_link_that_leads_elsewhere_is_another_file() {
    let back = unpack(&planted("site.toml", "/tmp/mine", true)).expect("it unpacks");
    assert_eq!(back["web.etc.site"]["site.toml"].content, b"a link to /tmp/mine");
    let back = unpack(&planted("site.toml", "current/site.toml", true)).expect("it unpacks");
    assert_eq!(back["web.etc.site"]["site.toml"].content, b"ours");
}

#[test]
fn a_file_beside_the_revision_is_there_for_the_service_until_it_is_emptied() {
    let back = lying(&planted("extra.toml", "theirs", false)).expect("it unpacks");
    assert_eq!(back["web.etc.site"].files["extra.toml"].content, b"theirs");
    assert_eq!(back["web.etc.site"].stale, ["extra.toml"], "the next write empties it");
    let back = lying(&planted("extra.toml", "", false)).expect("it unpacks");
    assert_eq!(back["web.etc.site"].files.keys().collect::<Vec<_>>(), ["site.toml"]);
}

#[test]
fn one_volume_is_read_where_it_is_mounted() {
    let files = Files::from([("a".to_owned(), file("x"))]);
    let tar = pack(&[write("web.etc.web", &files)], "r1").expect("files pack");
    let back = archive::unpack(&tar, "v/web.etc.web", Some("web.etc.web")).expect("it unpacks");
    assert_eq!(back["web.etc.web"].files["a"].content, b"x");
}

#[test]
fn a_volume_that_was_never_written_has_no_files_in_force() {
    assert_eq!(read(&[]), BTreeMap::new());
    assert_eq!(read(&[0; 1024]), BTreeMap::new());
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let files = Files::from([("a/b".to_owned(), file("x")), ("a/c".to_owned(), file("y"))]);
    let packed = || pack(&[write("web.etc.web", &files)], "r1").expect("files pack");
    assert_eq!(packed(), packed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_unpacks_as_itself(volumes in btree_map("[a-z]{1,8}\\.[a-z_.]{1,12}", files(), 0..4)) {
        let named: BTreeMap<&str, Files> = volumes.iter().map(|(name, files)| (name.as_str(), files.clone())).collect();
        prop_assert_eq!(round(&named, "20261123-00ff"), volumes);
    }

    #[test]
    fn any_bytes_at_all_unpack_or_are_refused(bytes in vec(any::<u8>(), 0..2048), at in 0usize..1024, flip: u8) {
        let _ = lying(&bytes);
        let files = Files::from([("a".to_owned(), file("content"))]);
        let mut tar = pack(&[write("v", &files)], "r").expect("files pack");
        let at = at % tar.len();
        tar[at] ^= flip;
        let _ = lying(&tar);
        let _ = lying(&tar[..at]);
    }
}

/// Files with paths of which none is a folder of another.
fn files() -> impl Strategy<Value = Files> {
    let file = (vec(any::<u8>(), 0..600), 0u32..0o1000, (1u32..70_000, 1u32..70_000))
        .prop_map(|(content, mode, owner)| File { content, secret: false, mode, owner });
    btree_map("([a-z0-9]{1,40}/){0,3}", file, 1..4).prop_map(|files| {
        files
            .into_iter()
            .enumerate()
            .map(|(number, (folder, file))| (format!("{folder}file-{number}.conf"), file))
            .collect()
    })
}

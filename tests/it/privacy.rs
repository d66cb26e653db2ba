//! What is read of the machine itself, and requests that no proper client sends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use lockstep::http::raw::{Silence, ask};
use lockstep::store::{git, privacy};

#[test]
fn rights_and_owners_of_files_are_read_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::File::create_new(&file).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("permissions");
    let mode = privacy::mode(&file, "secret").expect("it is there").expect("it can be looked at");
    assert_eq!((mode.path.as_str(), mode.bits, mode.trusted, mode.folder), ("secret", 0o640, true, false));
    assert!(mode.shown().starts_with("secret is 0640, "), "{}", mode.shown());
    assert_eq!(privacy::mode(&folder.path().join("absent"), "absent"), None);
    assert_eq!(privacy::files_in(folder.path(), "f"), ["f/secret"]);
    assert_eq!(privacy::files_in(&file, "f"), [""; 0], "a file is no folder");
    assert_eq!(privacy::same_disk(&file, &folder.path().join("not/made/yet")), Ok(true));
    assert_eq!(privacy::same_disk(&file, std::path::Path::new("/proc")), Ok(false));
}

#[test]
fn a_process_counts_only_where_the_kernel_says_whose_it_is() {
    let own = std::process::id();
    let why = privacy::process(own, "c0ffee-of-no-container").expect_err("it is in no such container");
    assert!(why.contains("does not name the container"), "{why}");
    assert!(privacy::process(own, "").is_err(), "without an id every process would do");
    assert_eq!(privacy::process(u32::MAX, "c0ffee"), Ok(None), "one that ended is none");
    assert!(privacy::kernel("/proc/sys/vm/no-such-setting").is_err());
    assert!(privacy::kernel("/proc/sys/kernel/ostype").is_ok_and(|text| text == "Linux"));
}

#[test]
fn git_says_what_it_tracks_where_there_is_a_repository() {
    let root = crate::support::repository();
    let asked = ["Cargo.toml", "no/such/file"].map(str::to_owned);
    assert_eq!(git::tracked(root, &asked), Some(vec!["Cargo.toml".to_owned()]));
    assert_eq!(git::tracked(root, &[]), Some(Vec::new()), "no file is not every file");
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(git::tracked(folder.path(), &asked), None);
}

/// Answers one request with these bytes, or closes; what was asked comes back.
fn once(answer: &'static [u8]) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a visitor");
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).expect("a request");
        stream.write_all(answer).expect("an answer");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    });
    (address, asked)
}

#[tokio::test]
async fn an_answer_is_read_as_it_came() {
    let (address, asked) = once(b"HTTP/1.1 413 Too Large\r\nX-A: one\r\nx-a:two\r\nContent-Length: 2\r\n\r\nno");
    let answer = ask(address, "POST", "/up", &["Content-Length: 99".to_owned()]).await.expect("an answer");
    assert_eq!((answer.status, answer.request.as_str(), answer.body.as_str()), (413, "POST /up", "no"));
    assert_eq!((answer.header("x-a"), answer.all("x-a").count()), (Some("one"), 2));
    let asked = asked.join().expect("the server");
    assert!(asked.starts_with("POST /up HTTP/1.1\r\n") && asked.contains("\r\nContent-Length: 99\r\n"), "{asked}");
}

#[tokio::test]
async fn silence_is_told_apart_from_nonsense() {
    let (address, asked) = once(b"");
    assert_eq!(ask(address, "GET", "/", &[]).await, Err(Silence::Closed));
    asked.join().expect("the server");
    let (address, asked) = once(b"SSH-2.0-nothing of HTTP\r\n\r\n");
    assert!(matches!(ask(address, "GET", "/", &[]).await, Err(Silence::Broken(_))));
    asked.join().expect("the server");
}

//! What the tests share: a project on disk, the binary, expected texts, and a world in memory.

pub mod facts;
pub mod golden;
pub mod project;
pub mod s3;
pub mod script;
pub mod spec;
pub mod stores;
pub mod world;

/// The text without the escape codes that colour it.
pub fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The folder of the repository.
pub fn repository() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

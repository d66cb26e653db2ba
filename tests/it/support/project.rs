//! A project in a folder of its own, and the binary run on it from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A project that is gone when the test is.
pub struct Project {
    folder: TempDir,
}

impl Project {
    /// A folder with nothing in it.
    pub fn empty() -> Project {
        Project { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A copy of `folder`, such as the input of a case.
    pub fn copy_of(folder: &Path) -> Project {
        let project = Project::empty();
        copy(folder, project.path());
        project
    }

    /// The smallest project that is right: a stack, and `staging` with no values.
    pub fn small() -> Project {
        Project::empty()
            .with("environments/stack.yaml", "lockstep: 1\nstack: shop\n")
            .with("environments/staging.yaml", "values: {}\n")
    }

    #[must_use]
    pub fn with(self, path: &str, content: impl AsRef<[u8]>) -> Project {
        self.write(path, content);
        self
    }

    /// Writes a file that its owner alone can read, the folders above it included.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a path below the project")).expect("the folder is made");
        put(&path, content.as_ref());
        self.permit(&path, 0o600);
    }

    pub fn permit(&self, path: &Path, mode: u32) {
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(mode)).expect("the mode is set");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The binary, about to be run on this project, with an environment that holds nothing.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = lockstep();
        command.arg("--project").arg(self.path()).args(arguments);
        command
    }

    pub fn lockstep(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().expect("the binary starts"))
    }

    /// The same with these environment variables.
    pub fn lockstep_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let output = self.command(arguments).envs(variables.iter().copied()).output();
        Ran::from(output.expect("the binary starts"))
    }
}

/// The binary with an environment that holds nothing.
pub fn lockstep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What a run left behind.
#[derive(Debug, PartialEq)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            stdout: String::from_utf8(output.stdout).expect("standard output is text"),
            stderr: String::from_utf8(output.stderr).expect("standard error is text"),
            code: output.status.code().expect("the binary ends by itself, not by a signal"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of a test need not survive a crash")]
pub fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("the file is written");
}

fn copy(from: &Path, to: &Path) {
    for path in entries(from) {
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            fs::create_dir_all(&target).expect("the folder is made");
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("the file is copied");
        }
    }
}

/// What lies in a folder, in order.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

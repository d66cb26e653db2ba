//! Docker Compose, as people call it and by itself.

use crate::workshop::{Workshop, timed};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const VERSION: &str = "v2.40.3";

/// Through the Docker command, which is what people type, or the same binary started directly, which is faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Plugin,
    Alone,
}

#[derive(Clone, Debug)]
pub struct Compose {
    tools: PathBuf,
    pub file: PathBuf,
    pub project: String,
}

impl Compose {
    pub fn new(workshop: &Workshop, file: &Path, project: &str) -> anyhow::Result<Compose> {
        Ok(Compose { tools: workshop.tools()?, file: file.to_owned(), project: project.to_owned() })
    }

    fn command(&self, how: How, arguments: &[&str]) -> Command {
        let mut command = match how {
            How::Alone => Command::new(self.tools.join("docker-compose")),
            How::Plugin => {
                let mut docker = Command::new("docker");
                docker.arg("--config").arg(self.tools.join("docker")).arg("compose");
                docker
            }
        };
        command.arg("--file").arg(&self.file).args(["--project-name", &self.project]).args(arguments);
        command
    }

    /// Seconds from start to end.
    pub fn run(&self, how: How, arguments: &[&str]) -> anyhow::Result<f64> {
        Ok(timed(&mut self.command(how, arguments))?.seconds)
    }

    pub fn down(&self) -> anyhow::Result<()> {
        self.run(How::Alone, &["down", "--volumes", "--timeout", "1"]).map(|_| ())
    }
}

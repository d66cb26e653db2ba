//! `lockstep render`: exactly the bytes that would reach the containers.

use crate::cli::Cli;
use crate::commands::{Verdict, load_to_show};
use crate::desired::{Generations, Secrets};
use crate::failure::{Failure, Kind};
use crate::state::{File, Resource, Volume};
use crate::store::files;
use crate::ui::Ui;
use std::path::Path;

pub fn run(cli: &Cli, ui: &Ui, environment: &str, out: Option<&Path>, with_secrets: bool) -> Result<Verdict, Failure> {
    let (project, _) = load_to_show(cli, ui, environment)?;
    let environment = project.environment(environment)?;
    let mut secrets = Secrets::default();
    if with_secrets {
        secrets.values = project.secrets(environment)?;
    }
    let desired = project.desired(environment, &secrets, &Generations::new())?;
    let mut written = Vec::new();
    let mut hidden = 0usize;
    for (id, resource) in &desired.state.resources {
        let Resource::Volume(Volume::Files { files: found }) = resource else { continue };
        for (path, file) in found {
            let shown = format!("{}/{path}", id.name);
            hidden += usize::from(file.secret && !with_secrets);
            match out {
                Some(folder) => write(folder, &shown, file)?,
                None if !ui.is_json() => {
                    ui.result(&format!("==> {shown}\n{}\n", String::from_utf8_lossy(&file.content)));
                }
                None => {}
            }
            written.push(serde_json::json!({
                "file": shown,
                "secret": file.secret,
                "mode": format!("{:04o}", file.mode),
                "owner": format!("{}:{}", file.owner.0, file.owner.1),
                "content": (out.is_none()).then(|| String::from_utf8_lossy(&file.content).into_owned()),
            }));
        }
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "environment": environment.name, "files": written }));
    } else if let Some(folder) = out {
        ui.result(&format!("{} files in {}\n", written.len(), folder.display()));
    }
    if with_secrets {
        ui.status("the password of lockstep's own user is drawn at the first launch, and stays a placeholder");
    }
    if hidden > 0 {
        ui.status(&format!(
            "{hidden} files hold secrets, and show placeholders; `--out DIR --with-secrets` writes them"
        ));
    }
    Ok(None)
}

fn write(folder: &Path, shown: &str, file: &File) -> Result<(), Failure> {
    let path = folder.join(shown);
    if let Some(parent) = path.parent() {
        files::create_private_folder(parent).map_err(|error| {
            Failure::message(Kind::Error, format!("could not make the folder `{}`: {error}", parent.display()))
        })?;
    }
    let mode = if file.secret { 0o600 } else { 0o644 };
    Ok(files::write_copy(&path, &file.content, mode)?)
}

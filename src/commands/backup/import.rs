//! `backup import`: a plain RDB file becomes a backup like any other, proven on the way.

use crate::cli::Cli;
use crate::commands::backup::inspect::source;
use crate::commands::{Verdict, load};
use crate::failure::{Failure, Kind};
use crate::model;
use crate::store::repository::Repository;
use crate::ui::Ui;
use crate::value::bytes;
use crate::world::capture;
use std::path::Path;

pub fn run(
    cli: &Cli,
    ui: &Ui,
    environment: &str,
    (file, service): (&Path, Option<&str>),
    reason: &str,
) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[environment])?;
    let environment = project.environment(environment)?;
    let servers = environment.services.values().filter(|of| matches!(of.kind, model::Kind::Redis(_)));
    let servers: Vec<&model::Service> = servers.collect();
    let chosen = match (service, servers.as_slice()) {
        (None, [only]) => Some(*only),
        (wanted, _) => servers.iter().copied().find(|of| Some(of.name.as_str()) == wanted),
    };
    let Some(of) = chosen else {
        let message = match service {
            Some(service) => format!("`{service}` is not a Redis of {}", environment.name),
            None => format!("{} has {} Redis services", environment.name, servers.len()),
        };
        let names: Vec<&str> = servers.iter().map(|of| of.name.as_str()).collect();
        let help = format!("say whose data it is with `--service`; there are: {}", names.join(", "));
        return Err(Failure::message(Kind::Usage, message).help(help));
    };
    let unread = |error: std::io::Error| {
        let error = anyhow::Error::new(error).context(format!("could not read `{}`", file.display()));
        Failure::new(Kind::Usage, error)
    };
    let source = source(file).map_err(unread)?;
    let repository = Repository::open(&project.root, environment).map_err(|error| Failure::new(Kind::Backup, error))?;
    let image = of.locked.clone().unwrap_or_else(|| of.image.value.clone());
    let manifest = capture::import(&repository, environment, (of.name.as_str(), &image), reason, source)?;
    if ui.is_json() {
        ui.json(&manifest);
        return Ok(None);
    }
    let size = bytes::about(manifest.plain_bytes());
    ui.status(&format!("{}: {} keys, {size}, of {}", manifest.state, manifest.counts.keys, manifest.server));
    ui.result(&format!("{} {}/{}\n", manifest.id, repository.place(), manifest.id));
    Ok(None)
}

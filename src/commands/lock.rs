//! `lockstep lock`: pin every image to the bytes that the engine has for it now.

use crate::cli::Cli;
use crate::commands::{Verdict, connect, engine_failure};
use crate::engine::docker::Image;
use crate::failure::{Failure, Kind};
use crate::finding;
use crate::project::{self, Scope};
use crate::spec::lock::{self, Lock, LockedImage};
use crate::store::{files, inputs};
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::world::live;
use std::collections::BTreeMap;

pub async fn run(cli: &Cli, ui: &Ui, environment: Option<&str>, check: bool) -> Result<Verdict, Failure> {
    let loaded = project::load(&cli.project, Scope::All)?;
    // A broken lock file is what this command mends.
    let wrong: Vec<_> = loaded.findings.iter().filter(|finding| finding.rule != "lock").cloned().collect();
    let Some(project) = loaded.project.filter(|_| !finding::has_errors(&wrong)) else {
        ui.findings(&wrong, &loaded.sources);
        return Err(Failure::message(Kind::Usage, format!("the spec is wrong: {}", text::count(&wrong))));
    };
    let environment = match environment {
        Some(name) => project.environment(name)?,
        None => project
            .resolved
            .values()
            .next()
            .ok_or_else(|| Failure::message(Kind::Usage, "the project has no environment"))?,
    };
    let engine = connect(environment).await?;
    let progress = Progress::new(environment.services.len());
    let mut images: BTreeMap<String, LockedImage> = BTreeMap::new();
    for service in environment.services.values() {
        let tag = &service.image.value;
        if images.contains_key(tag) {
            continue;
        }
        if let Some(build) = service.build.as_ref().filter(|_| !check) {
            ui.status(&format!("building {tag} from {}", build.context));
            live::build_image(&engine, &project.root, tag, build, &progress).await?;
        }
        let found = engine.image(tag).await.map_err(|error| engine_failure(&engine.address, &error))?;
        let found = match found {
            Some(image) => image,
            None => {
                ui.status(&format!("fetching {tag}"));
                fetch(&engine, tag).await?
            }
        };
        let mut pinned = pin(tag, &found);
        // What somebody wrote down of an image that says nothing itself holds for as long as it is that image.
        let known = project.lock.images.get(tag).filter(|known| known.reference() == pinned.reference());
        pinned.server = pinned.server.or_else(|| known.and_then(|known| known.server.clone()));
        images.insert(tag.clone(), pinned);
    }
    let locked = Lock { lockstep: 1, images };
    let text = lock::print(&locked)?;
    let path = project.root.join(inputs::LOCK);
    let changed = locked != project.lock;
    if changed && !check {
        files::write_atomically(&path, text.as_bytes(), 0o644)?;
    }
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "changed": changed, "images": locked.images }));
    } else {
        let rows: Vec<Vec<String>> = locked
            .images
            .iter()
            .map(|(tag, image)| {
                let reference = image.reference().unwrap_or_default();
                vec![tag.clone(), reference.to_owned(), image.server.clone().unwrap_or_default()]
            })
            .collect();
        ui.result(&text::table(&rows));
        ui.status(match (changed, check) {
            (false, _) => "stack.lock is up to date",
            (true, true) => "stack.lock would change",
            (true, false) => "stack.lock is written; commit it",
        });
    }
    Ok((changed && check).then_some(Kind::Differences))
}

async fn fetch(engine: &crate::engine::Engine, tag: &str) -> Result<Image, Failure> {
    let failed = |why: String| {
        Failure::message(Kind::Error, format!("the engine does not have `{tag}`, and could not fetch it: {why}"))
            .help("build or load the image first, or correct its name in stack.yaml")
    };
    engine.pull(tag).await.map_err(|error| failed(error.to_string()))?;
    let image = engine.image(tag).await.map_err(|error| failed(error.to_string()))?;
    image.ok_or_else(|| failed("it is still not there".to_owned()))
}

/// By digest where a registry vouches for it, by id otherwise; and which server it says it holds.
fn pin(tag: &str, image: &Image) -> LockedImage {
    let repository = tag.rsplit_once(':').map_or(tag, |(repository, _)| repository);
    let digest = image.digests.iter().find(|digest| digest.split('@').next() == Some(repository)).cloned();
    let server = image.server();
    let id = digest.is_none().then(|| image.id.clone());
    LockedImage { digest, id, server }
}

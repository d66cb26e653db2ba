//! `lockstep list`: the copies of this stack that exist for a while alone.

use crate::cli::Cli;
use crate::commands::{Verdict, connect, engine_failure, load};
use crate::engine::names::until_text;
use crate::failure::Failure;
use crate::model::ephemeral::Until;
use crate::ui::{Ui, text};
use crate::world::ephemeral::{self, Present};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
struct Listed {
    environment: String,
    base: String,
    /// RFC 3339, or `holder`.
    until: String,
    /// `held`, `waiting` for its time to be over, or `over`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
}

pub(super) async fn run(cli: &Cli, ui: &Ui) -> Result<Verdict, Failure> {
    let (project, _) = load(cli, ui, &[])?;
    let stack = &project.spec.stack.value;
    let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
    // Several environments may live on one engine, and their copies beside them.
    for environment in project.resolved.values() {
        let engine = connect(environment).await?;
        let failed = |error| engine_failure(&engine.address, &error);
        let present = ephemeral::list(&engine, stack).await.map_err(failed)?;
        let timed = present.iter().any(|present| present.until != Until::Holder);
        let now = if timed { engine.clock().await.map_err(failed)? } else { 0 };
        for present in present {
            let one = one(present, now);
            listed.insert(one.environment.clone(), one);
        }
    }
    let listed: Vec<Listed> = listed.into_values().collect();
    if ui.is_json() {
        ui.json(&serde_json::json!({ "format": 1, "stack": stack, "environments": listed }));
    } else if listed.is_empty() {
        ui.status(&format!("there is no copy of {stack}"));
    } else {
        let rows: Vec<Vec<String>> = listed
            .into_iter()
            .map(|one| {
                let until = if one.until == "holder" { String::new() } else { format!("until {}", one.until) };
                vec![one.environment, one.state.to_owned(), until, one.holder.unwrap_or_default()]
            })
            .collect();
        ui.result(&text::table(&rows));
    }
    Ok(None)
}

fn one(present: Present, now: i64) -> Listed {
    let state = match &present.holder {
        Some(_) => "held",
        None if present.until.is_over(now) => "over",
        None => "waiting",
    };
    Listed {
        environment: present.names.environment.to_string(),
        base: present.names.mark.map_or_else(String::new, |mark| mark.base.to_string()),
        until: until_text(present.until),
        state,
        holder: present.holder.map(|holder| text::printable(&holder.to_string()).to_string()),
    }
}

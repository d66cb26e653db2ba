//! A plan: ordered steps from observed to desired; data, complete, printable.
//!
//! A plan leaves nothing to decide. Each step says which field caused it, where that was written,
//! what it costs and what it means for data.

pub mod build;
pub mod effect;

use crate::desired::{Desired, Origin};
use crate::diff::Change;
use crate::finding::Finding;
use crate::value::{Name, ResourceId, bytes};
use serde::Serialize;
use std::fmt;

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Version of this form.
    pub format: u32,
    pub stack: Name,
    pub environment: Name,
    pub steps: Vec<Step>,
    /// What keeps the plan from being carried out; empty when nothing does.
    pub refusals: Vec<Finding>,
    /// What a person should know and lockstep does not act on.
    pub notes: Vec<Finding>,
}

impl Plan {
    /// Nothing but a backup of this container, or nothing at all.
    pub fn of_backup(desired: &Desired, of: Option<ResourceId>) -> Plan {
        let step = |resource| Step {
            number: 1,
            action: Action::Backup,
            resource,
            after: Vec::new(),
            because: Vec::new(),
            effect: Effect::Live,
            risk: Risk::None,
        };
        let (stack, environment) = (desired.stack.clone(), desired.environment.clone());
        let steps = of.into_iter().map(step).collect();
        Plan { format: 1, stack, environment, steps, refusals: Vec::new(), notes: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refusals.is_empty()
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub number: u32,
    pub action: Action,
    pub resource: ResourceId,
    /// Numbers of the steps that have to be done before.
    pub after: Vec<u32>,
    pub because: Vec<Cause>,
    pub effect: Effect,
    pub risk: Risk,
}

/// A change, and where its wanted value was written.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    #[serde(flatten)]
    pub change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Build the image of this service.
    Build {
        service: Name,
    },
    /// Fetch an image by its digest.
    Pull {
        image: String,
    },
    Create,
    Remove,
    /// Put files into these volumes, all in one request.
    WriteFiles {
        volumes: Vec<String>,
    },
    /// Pull a snapshot, check it, keep it.
    Backup,
    /// Start these services beside those that run, out of everybody's reach, with what the backups of this plan hold.
    Rehearse {
        services: Vec<Name>,
        /// What they may use together, beside what runs.
        memory_bytes: u64,
    },
    /// `CONFIG SET`, read back.
    Set {
        setting: String,
        value: String,
    },
    /// `ACL LOAD`.
    LoadUsers,
    /// Change limits of a container in place.
    Update,
    Start,
    Stop,
    /// A new Redis on this volume follows the one that runs, and takes its place; or, where it cannot read what that one
    /// sends, is `refilled` from a backup of it while nobody is served.
    HandOver {
        volume: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        refilled: bool,
    },
    /// A new application takes the place of one that runs: `beside` it until it answers, or else after it.
    TakeOver {
        beside: bool,
    },
    /// Ask the service itself until it answers.
    Ready,
}

/// What a step costs the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing notices.
    Live,
    /// The process stops and stays so.
    Stop,
    /// The process stops and starts.
    Restart,
    /// The container is taken away and made anew.
    Replace,
    /// Something new.
    Create,
    /// Something goes.
    Remove,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Live => "live",
            Effect::Stop => "stop",
            Effect::Restart => "restart",
            Effect::Replace => "replace",
            Effect::Create => "create",
            Effect::Remove => "remove",
        })
    }
}

/// What a step may do to data.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    None,
    /// The keys live in memory only and are gone after the step.
    ColdCache {
        keys: u64,
        bytes: u64,
    },
    /// The server drops keys until it fits.
    Evicts {
        bytes: u64,
    },
    /// The server refuses writes until it fits.
    RefusesWrites {
        bytes: u64,
    },
    /// The volume and what it holds are gone.
    RemovesData,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Risk::None => f.write_str("none"),
            Risk::ColdCache { keys, bytes } => {
                write!(f, "a cold cache: {keys} keys, {} in memory only", bytes::about(*bytes))
            }
            Risk::Evicts { bytes } => write!(f, "about {} evicted", bytes::about(*bytes)),
            Risk::RefusesWrites { bytes } => write!(f, "writes refused until {} are freed", bytes::about(*bytes)),
            Risk::RemovesData => f.write_str("data removed"),
        }
    }
}

impl Step {
    /// One line that says what is done, without its cause.
    pub fn summary(&self) -> String {
        let resource = &self.resource;
        match &self.action {
            Action::Build { service } => format!("build the image of {service}"),
            Action::Pull { image } => format!("fetch {image}"),
            Action::Create => format!("create {resource}"),
            Action::Remove => format!("remove {resource}"),
            Action::WriteFiles { volumes } => format!("write files into {}", volumes.join(", ")),
            Action::Backup => format!("back up {resource}"),
            Action::Rehearse { services, memory_bytes } => {
                let names: Vec<&str> = services.iter().map(Name::as_str).collect();
                format!(
                    "rehearse {}: up to {} of memory beside what runs",
                    names.join(", "),
                    bytes::about(*memory_bytes)
                )
            }
            Action::Set { setting, value } => format!("set {setting} = {value} on {resource}"),
            Action::LoadUsers => format!("load users on {resource}"),
            Action::Update => format!("update limits of {resource}"),
            Action::Start => format!("start {resource}"),
            Action::Stop => format!("stop {resource}"),
            Action::HandOver { volume, refilled: false } => format!("hand {resource} over to a new one on {volume}"),
            Action::HandOver { volume, refilled: true } => {
                format!("put {resource} aside for a new one on {volume} with its data; nobody is served meanwhile")
            }
            Action::TakeOver { beside: true } => format!("start a new {resource} beside the old one, which then goes"),
            Action::TakeOver { beside: false } => format!("stop {resource} and start a new one in its place"),
            Action::Ready => format!("wait until {resource} answers"),
        }
    }

    /// One sign for what happens: `+` new, `-` gone, `~` changed, `.` looked at.
    pub fn sign(&self) -> char {
        match self.action {
            Action::Create | Action::Build { .. } | Action::Pull { .. } => '+',
            Action::Remove => '-',
            Action::Ready | Action::Backup | Action::Rehearse { .. } => '.',
            _ => '~',
        }
    }
}

//! The container that stands for a hold. Its name is what only one can have; its process, which reads the holder's end of
//! a connection, is what ends with the holder.

use crate::engine::{Engine, EngineError, Names, create, names};
use crate::hold::{self, Found, Holder, Sign, Stage};
use crate::value::Span;
use bollard::container::AttachContainerResults;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, ContainerUpdateBody};
use bollard::query_parameters as query;
use futures_util::{StreamExt as _, future};
use jiff::Timestamp;
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// The engine answers questions about a container that it is starting only when that is done.
const BUSY: Duration = Duration::from_millis(400);
/// A line that the container does not take in this time is not waited for.
const SLOW: Duration = Duration::from_secs(5);

/// The holder's end: as long as it is open, the container's process lives.
pub struct Line {
    streams: AttachContainerResults,
    told: u64,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Line {
    /// Says a line that the process answers with one of its log: a client without a server is told where it is, and
    /// says that nobody is there.
    pub async fn tell(&mut self) {
        self.told += 1;
        let line = format!("connect 127.0.0.1 {}\n", 1 + self.told % 60_000);
        let input = &mut self.streams.input;
        let told = async {
            input.write_all(line.as_bytes()).await?;
            input.flush().await
        };
        // What became of it, the engine says when it is asked for the container.
        let _ = tokio::time::timeout(SLOW, told).await;
    }

    /// Comes back when the process is gone, or the connection to it.
    pub async fn ended(&mut self) {
        while let Some(Ok(_)) = self.streams.output.next().await {}
    }
}

impl Engine {
    /// Makes the container of a hold, not started, with its first pulse if it has one; [`EngineError::Conflict`] when there is one.
    /// Its id.
    pub async fn make_hold(
        &self,
        names: &Names,
        image: &str,
        words: &[String],
        holder: &Holder,
        pulse: Option<i64>,
    ) -> Result<String, EngineError> {
        self.permit().await?;
        let name = names.container(hold::CONTAINER);
        let options = query::CreateContainerOptionsBuilder::default().name(&name).build();
        Ok(self.docker().create_container(Some(options), create::hold(names, image, words, holder, pulse)).await?.id)
    }

    /// Connects to the process of a hold, also before it is started.
    pub async fn attach_hold(&self, id: &str) -> Result<Line, EngineError> {
        let options = query::AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true);
        let options = options.stderr(true).build();
        let attached = self.docker().attach_container(id, Some(options));
        let streams = tokio::time::timeout(Duration::from_secs(60), attached).await;
        let streams = streams.map_err(|_elapsed| EngineError::Unknown("no answer in time".to_owned()))??;
        Ok(Line { streams, told: 0 })
    }

    /// Whether the container of a hold is still there, and its process, if it has one.
    pub async fn hold_stands(&self, id: &str, sign: Sign) -> Result<bool, EngineError> {
        match self.container(id).await {
            Ok(report) => Ok(!sign.has_process() || report.state.and_then(|state| state.running).unwrap_or(false)),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes the number by which others see that the holder lives ([`hold::pulse_at`]).
    pub async fn pulse(&self, id: &str, pulse: i64) -> Result<(), EngineError> {
        self.permit().await?;
        let body = ContainerUpdateBody { cpu_shares: Some(pulse), ..ContainerUpdateBody::default() };
        Ok(self.docker().update_container(id, body).await?)
    }

    /// The number that was changed last.
    pub async fn pulse_of(&self, id: &str) -> Result<i64, EngineError> {
        Ok(self.container(id).await?.host_config.and_then(|host| host.cpu_shares).unwrap_or_default())
    }

    /// What has the name of the environment's hold; `None` when nothing has.
    pub async fn find_hold(&self, names: &Names) -> Result<Option<Found>, EngineError> {
        let mut unknown = None;
        loop {
            let Some(mut found) = self.listed_hold(names).await? else { return Ok(None) };
            if found.stage != Stage::Ended && found.ours {
                match tokio::time::timeout(BUSY, self.look_closer(&mut found)).await {
                    // What is gone is not listed again. What is being made is listed before it is known by its id: the
                    // daemon shows a container once its settings are kept, and registers it later (Docker 20.10).
                    Ok(Err(error)) if error.is_not_found() => {
                        if unknown.as_ref() != Some(&found.id) {
                            unknown = Some(found.id);
                            continue;
                        }
                        found.busy = true;
                    }
                    // Between being listed and being asked for its log it has begun to go.
                    Ok(Err(EngineError::Conflict(_))) => found.stage = Stage::Ended,
                    Ok(looked) => looked?,
                    // It is being started, or removed; either way it is somebody's for now.
                    Err(_elapsed) => found.busy = true,
                }
            }
            return Ok(Some(found));
        }
    }

    /// The same as far as the list tells, which is answered at once, whatever the engine is doing with the container.
    async fn listed_hold(&self, names: &Names) -> Result<Option<Found>, EngineError> {
        let name = names.container(hold::CONTAINER);
        let filters = HashMap::from([("name".to_owned(), vec![format!("^/?{name}$")])]);
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker().list_containers(Some(options)).await?;
        let of_name = |summary: &ContainerSummary| {
            summary.names.iter().flatten().any(|known| known.trim_start_matches('/') == name)
        };
        let Some(summary) = listed.into_iter().find(of_name) else { return Ok(None) };
        let labels = summary.labels.unwrap_or_default();
        let id = summary.id.unwrap_or_default();
        let mut found = Found {
            ours: labels.get(names::ROLE).is_some_and(|role| role == hold::ROLE)
                && names.claimed(&labels).is_some_and(|claim| claim.name == hold::CONTAINER),
            holder: Holder::of(|label| labels.get(label).map(String::as_str)),
            stage: Stage::Runs,
            busy: false,
            made: summary.created.unwrap_or_default(),
            silent: None,
            pulse: 0,
            id,
        };
        use ContainerSummaryStateEnum as State;
        if matches!(summary.state, Some(State::EXITED | State::REMOVING | State::DEAD)) {
            found.stage = Stage::Ended;
        }
        Ok(Some(found))
    }

    /// What the list does not tell: whether it was started, and when its holder was heard last.
    async fn look_closer(&self, found: &mut Found) -> Result<(), EngineError> {
        let report = self.container(&found.id).await?;
        let state = report.state.unwrap_or_default();
        found.pulse = report.host_config.and_then(|host| host.cpu_shares).unwrap_or_default();
        let started = state.started_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        found.stage = match (state.running.unwrap_or_default(), state.finished_at.as_deref().map(is_a_time)) {
            (true, _) => Stage::Runs,
            (false, Some(true)) => Stage::Ended,
            (false, _) => Stage::Made,
        };
        if found.holder.sign == Sign::Clock {
            let now = self.clock().await?;
            let made = u64::try_from(now - found.made).ok().map(Span::seconds);
            // By a clock that was set back nobody knows how long it has been there.
            found.silent = hold::since_pulse(found.pulse, now).into_iter().chain(made).min();
        }
        if found.stage != Stage::Runs || found.holder.sign != Sign::Lines {
            return Ok(());
        }
        let (now, last) = future::join(self.docker().info(), self.last_heard(&found.id)).await;
        let now = now?.system_time.and_then(|text| text.parse::<Timestamp>().ok());
        let last = last?.into_iter().chain(started).max();
        if let (Some(now), Some(last)) = (now, last) {
            let passed = now.duration_since(last).as_millis();
            found.silent = Some(Span { milliseconds: u64::try_from(passed).unwrap_or(0) });
        }
        Ok(())
    }

    /// When a container wrote its last line, by the engine's clock.
    async fn last_heard(&self, id: &str) -> Result<Option<Timestamp>, EngineError> {
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).tail("1").build();
        let mut lines = std::pin::pin!(self.docker().logs(id, Some(options)));
        let mut last = None;
        while let Some(line) = lines.next().await {
            let line = line?.into_bytes();
            let text = String::from_utf8_lossy(&line);
            last = text.split(' ').next().and_then(|time| time.parse::<Timestamp>().ok()).or(last);
        }
        Ok(last)
    }
}

/// The engine words a moment that has not come as one in the year 1.
fn is_a_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok_and(|time| time.as_second() > 0)
}
